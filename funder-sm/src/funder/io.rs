//! What goes into the funder and what comes out of it.

use offset_protocol::app::{Command, Event, IndexAddress, Name, Outcome, ReportChange};
use offset_protocol::bytes::{CommandId, PublicKey};
use offset_protocol::codec::List;
use offset_protocol::friend::{Batch, CurrencyLimit, FriendMessage, Reset, ResetTerms, Resume};
use offset_protocol::identity::Verified;
use offset_protocol::index::{Edge, Entry, MultiRoute};
use offset_protocol::limits::{MAX_CURRENCIES, MAX_EXCLUDED_EDGES, MAX_RELAYS};
use offset_protocol::machine::WallTime;
use offset_protocol::money::Currency;
use offset_protocol::payment::CancelReason;
use offset_protocol::persist::{Change, Revision};
use offset_protocol::relay::RelayAddress;

/// Names a question to the index servers; chosen by the funder, counted from the start of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct QueryId(pub u64);

/// Names a session of an app; chosen by the parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionId(pub u64);

/// A message of a friend whose signature, if it has one, was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckedMessage {
    /// Where the friend stands.
    Resume(Resume),
    /// News.
    Batch(Verified<Batch>),
    /// The friend's terms for a new beginning.
    Inconsistent(ResetTerms),
    /// What we may owe the friend.
    Limits(List<CurrencyLimit, MAX_CURRENCIES>),
    /// The friend accepts our terms.
    Reset(Verified<Reset>),
    /// A batch or reset that the friend did not sign: the channel becomes inconsistent.
    Forged,
    /// Bytes that are no message: the link is dropped, the channel is as it was.
    Unreadable,
}

/// What can happen to the funder.
#[derive(Clone, Debug)]
pub enum FunderInput {
    /// The link to a friend is up: a new one, on which nothing has been said.
    LinkUp {
        /// The friend.
        friend: PublicKey,
    },
    /// The link to a friend is down.
    LinkDown {
        /// The friend.
        friend: PublicKey,
    },
    /// A friend said something on the link that is up.
    Friend {
        /// The friend.
        friend: PublicKey,
        /// The message.
        message: CheckedMessage,
    },
    /// An app asks for something that its permissions allow.
    Command {
        /// The app.
        app: PublicKey,
        /// Chosen by the app.
        id: CommandId,
        /// What it wants.
        command: Command,
    },
    /// An app has taken note of a kept event.
    Acknowledge {
        /// The app.
        app: PublicKey,
        /// The command that the event belongs to.
        id: CommandId,
        /// The event.
        number: u64,
    },
    /// A session of an app begins: it wants the full report and the app's kept events.
    Snapshot {
        /// Who asks.
        session: SessionId,
        /// The app.
        app: PublicKey,
    },
    /// The index servers' answer.
    Routes {
        /// The question.
        query: QueryId,
        /// The answer.
        result: Result<FoundRoutes, RouteFailure>,
    },
    /// Whether the node listens on a relay now.
    RelayStatus {
        /// The relay.
        relay: PublicKey,
        /// Now.
        connected: bool,
    },
    /// Whether an index server is the one in use.
    IndexStatus {
        /// The server.
        server: PublicKey,
        /// Now.
        connected: bool,
    },
    /// Write a record of the parent's with the next revision. Its key begins with `x`; the parent reads it itself at start.
    SideRecord(Change),
    /// The revision is on disk.
    Durable(Revision),
    /// What a clock on the wall shows; for expiry of invoices and for what humans read.
    Wall(WallTime),
    /// The alarm is due.
    Tick,
}

/// Routes as the index server offered them; nothing of it is trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundRoutes {
    /// Cheapest first.
    pub options: Vec<MultiRoute>,
    /// Whether the search stopped early.
    pub capped: bool,
}

/// Why there is no answer to a route request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteFailure {
    /// No server is configured.
    NoServer,
    /// No server could be reached, or none answered in time.
    Unreachable,
    /// The server is busy.
    Busy,
}

/// A question to the index servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteQuery {
    /// The currency.
    pub currency: Currency,
    /// What arrives.
    pub amount: u128,
    /// From whom.
    pub source: PublicKey,
    /// To whom.
    pub destination: PublicKey,
    /// Not over these edges.
    pub exclude: List<Edge, MAX_EXCLUDED_EDGES>,
    /// Not for more than this.
    pub max_fee: Option<u128>,
}

/// What the funder wants done.
///
/// All outputs of a round wait until the round's changes are durable. A crash before that loses them with the changes; the
/// line at each variant says what a crash after that does.
#[derive(Clone, Debug)]
pub enum FunderOutput {
    /// Write these records, then answer [`FunderInput::Durable`]. At most one revision is in flight. A crash: written whole
    /// or not at all.
    Persist {
        /// Counts up from 1.
        revision: Revision,
        /// The records.
        changes: Vec<Change>,
    },
    /// Say this to a friend. A crash: repeated after the next resume.
    Friend {
        /// The friend.
        friend: PublicKey,
        /// The message.
        message: FriendMessage,
    },
    /// Drop the link to a friend, which misbehaves, and dial anew later. A crash: drops it anyway.
    DropLink {
        /// The friend.
        friend: PublicKey,
    },
    /// Answer a command. A crash: lost; the app repeats its command.
    Reply {
        /// The app.
        app: PublicKey,
        /// The command.
        id: CommandId,
        /// What it came to.
        outcome: Outcome,
    },
    /// Tell an app what became of its command. A crash: repeated if it has a number, else lost.
    Event {
        /// The app.
        app: PublicKey,
        /// The command.
        id: CommandId,
        /// For its acknowledgement.
        number: Option<u64>,
        /// What happened.
        event: Event,
    },
    /// Tell every app. A crash: lost; apps start from a full report.
    Report(ReportChange),
    /// The full report and the kept events of a session that began. A crash: lost with the session.
    Snapshot {
        /// The session.
        session: SessionId,
        /// The whole report, as changes from nothing.
        report: Vec<ReportChange>,
        /// Kept events, oldest first.
        events: Vec<KeptEvent>,
    },
    /// A side record of the parent is durable. A crash: lost, the record is not.
    SideRecordDurable {
        /// The record's key.
        key: Vec<u8>,
    },
    /// Ask the index servers; the answer is always one [`FunderInput::Routes`]. A crash: lost; payments ask again.
    FindRoutes {
        /// The question's name.
        query: QueryId,
        /// The question.
        request: RouteQuery,
    },
    /// A request of ours came back from an edge: let the next questions leave it out. A crash: lost, no harm.
    EdgeFailed {
        /// From whom to whom.
        edge: Edge,
        /// In which currency.
        currency: Currency,
        /// Why.
        reason: CancelReason,
    },
    /// What a friend can push to us in a currency, what of it we would pass on and what we charge for that, for the index
    /// servers. Repeated whole after a restart.
    SetEntry(Entry),
    /// A friend's currency is not to be reported any more. Repeated whole after a restart.
    RemoveEntry {
        /// The friend.
        friend: PublicKey,
        /// The currency.
        currency: Currency,
    },
    /// Listen on a relay. Repeated whole after a restart.
    Listen {
        /// The relay.
        relay: RelayAddress,
    },
    /// Stop listening on a relay. A crash: not listened to again.
    StopListening {
        /// The relay.
        relay: PublicKey,
    },
    /// Keep a link to this friend; also when its relays changed. Repeated whole after a restart.
    KeepLink {
        /// The friend.
        friend: PublicKey,
        /// Where it listens.
        relays: List<RelayAddress, MAX_RELAYS>,
    },
    /// Keep no link to this friend. A crash: none is made again.
    StopLink {
        /// The friend.
        friend: PublicKey,
    },
    /// Use this index server. Repeated whole after a restart.
    UseIndex {
        /// The server.
        server: IndexAddress,
    },
    /// Use it no more. A crash: not used again.
    StopIndex {
        /// The server.
        server: PublicKey,
    },
    /// Tell whoever watches the node that nothing moves with this friend any more. Repeated after a restart, as long as it is
    /// so.
    Disagrees(Disagreement),
}

/// Two friends whose logs do not fit: a person has to decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disagreement {
    /// The friend.
    pub friend: PublicKey,
    /// The user's name for it.
    pub name: Name,
    /// What does not fit.
    pub why: String,
}

/// An event that is told until the app acknowledges it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptEvent {
    /// The command that it belongs to.
    pub id: CommandId,
    /// For its acknowledgement.
    pub number: u64,
    /// What happened.
    pub event: Event,
}
