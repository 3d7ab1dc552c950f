//! The tricks of cheaters, as a case names them: which, how often, from when.

use std::fmt;

use offset_protocol::machine::Instant;
use serde::{Deserialize, Serialize};

use crate::dice::Dice;
use crate::scenario::field::file_name;

/// One trick of one cheater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Play<T> {
    /// Which.
    pub trick: T,
    /// So many in a thousand opportunities.
    pub per_mille: u32,
    /// Not before this.
    pub from: Instant,
}

impl<T: Copy> Play<T> {
    /// The trick, if it is played now.
    pub(crate) fn is_on(&self, now: Instant, dice: &mut Dice) -> Option<T> {
        (self.from <= now && dice.chance(self.per_mille)).then_some(self.trick)
    }
}

/// An enum of tricks with a list of all of them.
macro_rules! tricks {
    ($(#[$meta:meta])* $vis:vis enum $name:ident, $all:ident: $($(#[$vmeta:meta])* $variant:ident),* $(,)?) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        $vis enum $name { $($(#[$vmeta])* $variant),* }

        /// All of them.
        pub const $all: &[$name] = &[$($name::$variant),*];
    };
}

tricks! {
    /// What a cheater does to a friend. Opportunities: each message that leaves, and twice a second while the link is up.
    pub enum FriendTrick, FRIEND_TRICKS:
    // -- to messages of its own node
    /// A batch never leaves.
    DropBatch,
    /// Everything waits some seconds, in order.
    Delay,
    /// A batch leaves twice.
    RepeatBatch,
    /// An old batch leaves again.
    ReplayBatch,
    /// What the friend says is not heard for a while: its window fills.
    Ignore,
    /// A signature is bent.
    BadSignature,
    /// Bytes that are no message.
    Garbage,
    /// Bytes in the tunnel that are no record of the channel.
    GarbageInTunnel,
    /// The link ends for no reason, again and again.
    HangUp,
    // -- at a new link
    /// It says that it applied more than was made.
    ResumeAhead,
    /// It says that it stands in an old epoch.
    ResumeOldEpoch,
    /// It says that it made less than it did.
    ResumeForgetful,
    /// It says twice where it stands.
    ResumeTwice,
    /// It sends a batch before it says where it stands.
    BatchBeforeResume,
    // -- batches whose frame is wrong
    /// Two batches under one number.
    TwoBatches,
    /// Totals that are not what the logs come to.
    WrongTotals,
    /// A head that does not continue the log.
    WrongHead,
    /// Another head of the friend's log.
    WrongFriendHead,
    /// It acknowledges what was never made.
    AckBeyond,
    /// It acknowledges less than before.
    AckBackwards,
    /// A body that is not the header's.
    OtherBody,
    /// A body that is no body.
    MalformedBody,
    /// A header that is no header.
    MalformedHeader,
    /// A batch of an epoch that is over.
    OldEpoch,
    // -- operations
    /// A request beyond the friend's limit.
    BeyondLimit,
    /// A route that meets a node twice.
    LoopingRoute,
    /// A route longer than a route may be.
    OverlongRoute,
    /// A route of the greatest length, through nodes that do not exist.
    InventedRoute,
    /// Two requests with one id.
    RepeatedId,
    /// A request for nothing.
    ZeroAmount,
    /// A request for more than there can be.
    HugeAmount,
    /// A request in a currency that is not listed.
    UnlistedCurrency,
    /// More requests than a friend may have open.
    FloodRequests,
    /// A response to nothing.
    ResponseToNothing,
    /// A second response to one request.
    ResponseTwice,
    /// A response to a request that it cancelled.
    ResponseAfterCancel,
    /// A response that the seller did not sign.
    ForgedResponse,
    /// A collect with secrets that open nothing.
    CollectWrongSecret,
    /// A collect of what was never answered.
    CollectUnanswered,
    /// A commit whose secret does not open the buyer's lock.
    CommitWrongLock,
    /// It cancels a request that was answered.
    CancelAnswered,
    /// It cancels everything that the friend asks for.
    CancelAll,
    /// A withdrawal of a request that is not its own.
    WithdrawOthers,
    /// A removal of a currency that is in use.
    RemoveInUse,
    // -- freezing
    /// A response never leaves, while everything is acknowledged.
    WithholdResponse,
    /// A collect never leaves, while everything is acknowledged.
    WithholdCollect,
    // -- resets
    /// It declares the channel inconsistent on terms of its liking.
    WrongTerms,
    /// It changes its terms again and again.
    EndlessTerms,
    /// It accepts terms that were never stated.
    UnknownReset,
    // -- floods
    /// Batches with nothing in them, many.
    FloodBatches,
    /// Another list of relays in every batch.
    FloodRelays,
    /// Another list of currencies in every batch.
    FloodCurrencies,
}

tricks! {
    /// What a cheating person does. Opportunities: each time it could.
    pub enum PersonTrick, PERSON_TRICKS:
    /// A buyer hands over its commit twice.
    CommitTwice,
    /// A buyer hands its commit to everybody who sells it anything.
    CommitToOthers,
    /// A buyer presents the commit of another invoice.
    CommitOfOther,
    /// A buyer never hands over its commit.
    NeverCommit,
    /// A buyer bends the commit.
    BentCommit,
    /// A seller never collects.
    NeverCollect,
    /// A seller never answers the buyer's wish to give up.
    NeverCancel,
    /// A seller offers an invoice of somebody else as its own.
    OthersInvoice,
}

tricks! {
    /// What a cheating node tells the index servers.
    pub enum ReportTrick, REPORT_TRICKS:
    /// Far more capacity than there is.
    InventedCapacity,
    /// No fees, where there are some.
    HiddenFees,
    /// An old report again.
    OldReport,
    /// A report in the name of a friend.
    ForOther,
    /// A report whose signature is bent.
    ForgedReport,
    /// Floods of questions.
    FloodQuestions,
}

tricks! {
    /// What a cheating relay does. Opportunities: each frame of a tunnel, and each request.
    pub enum RelayTrick, RELAY_TRICKS:
    /// A frame is lost.
    DropFrame,
    /// A frame waits some seconds, and so do those after it.
    DelayFrame,
    /// A frame is passed on twice.
    RepeatFrame,
    /// A frame goes into another tunnel.
    CrossFrame,
    /// A bit of a frame is turned.
    TamperFrame,
    /// Who asks for something is turned away.
    Refuse,
    /// Who asks for something is told that it has it, and nothing ever comes.
    Forget,
    /// A node is told of calls that nobody made.
    InventCalls,
}

tricks! {
    /// What a cheating index server does. Opportunities: each message that it sends.
    pub enum IndexTrick, INDEX_TRICKS:
    /// Routes through nodes that do not exist.
    InventRoutes,
    /// Fees that are not charged.
    WrongFees,
    /// Routes that meet a node twice, or parts that do not add up.
    BrokenRoutes,
    /// Nothing is ever answered.
    NeverAnswer,
    /// Reports of others with other capacities.
    ForgeReports,
    /// Old reports again.
    ReplayReports,
    /// Nothing new is passed on.
    Stale,
    /// Messages in great number.
    Flood,
    /// Bytes that are no message.
    Garbage,
}

tricks! {
    /// What a stranger does to whoever listens. Opportunities: four a second.
    pub enum StrangerTrick, STRANGER_TRICKS:
    /// Bytes that are no handshake.
    Garbage,
    /// A handshake that ends in the middle.
    HalfHandshake,
    /// A connection on which nothing is said.
    Silence,
    /// Connections in great number.
    Flood,
    /// A handshake for another purpose.
    OtherPurpose,
    /// A right handshake, then bytes that are no message.
    Nonsense,
    /// A right handshake, then right messages that make no sense.
    Impostor,
    /// A frame longer than a handshake may be.
    Oversize,
    /// A right handshake, then nothing is ever read.
    NeverRead,
    /// It reports to index servers as a node among invented friends with invented capacity.
    Sybil,
}

/// Any trick.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trick {
    /// Of a friend.
    Friend(FriendTrick),
    /// Of a person.
    Person(PersonTrick),
    /// Of a node towards index servers.
    Report(ReportTrick),
    /// Of a relay.
    Relay(RelayTrick),
    /// Of an index server.
    Index(IndexTrick),
    /// Of a stranger.
    Stranger(StrangerTrick),
}

impl fmt::Display for Trick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trick::Friend(trick) => write!(f, "friend: {}", file_name(trick)),
            Trick::Person(trick) => write!(f, "person: {}", file_name(trick)),
            Trick::Report(trick) => write!(f, "report: {}", file_name(trick)),
            Trick::Relay(trick) => write!(f, "relay: {}", file_name(trick)),
            Trick::Index(trick) => write!(f, "index server: {}", file_name(trick)),
            Trick::Stranger(trick) => write!(f, "stranger: {}", file_name(trick)),
        }
    }
}
