//! What a channel tells the node, and what it refuses.

use offset_protocol::bytes::RequestId;
use offset_protocol::codec::List;
use offset_protocol::friend::ResetTerms;
use offset_protocol::limits::MAX_RELAYS;
use offset_protocol::money::Currency;
use offset_protocol::payment::{Cancel, CancelReason, Collect, CommitRequest, Request, Response, Withdraw};
use offset_protocol::relay::RelayAddress;
use offset_protocol::wire_enum;

use crate::ledger::{BadRequest, BrokenRule, Unsendable};

/// What happened to a channel.
///
/// Events are handed over with the call that caused them. The changes that they speak for leave with the next
/// [`take_changes`](super::Channel::take_changes), so what the node makes of an event and what the channel remembers of it
/// become durable together, or neither.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChannelEvent {
    /// The friend's request is accepted and frozen: forward it, answer it, or cancel it.
    Request {
        /// The currency.
        currency: Currency,
        /// As it came.
        request: Request,
    },
    /// A request that we sent is answered; the seller's signature was checked.
    Response {
        /// The currency.
        currency: Currency,
        /// As it came.
        response: Response,
    },
    /// A request that we sent has ended without being paid.
    Cancelled {
        /// The currency.
        currency: Currency,
        /// As it came.
        cancel: Cancel,
        /// As we sent it.
        request: Request,
    },
    /// A request that we sent is paid: both locks opened, and we owe the friend what was frozen.
    Collected {
        /// The currency.
        currency: Currency,
        /// As it came.
        collect: Collect,
        /// As we sent it.
        request: Request,
        /// The seller's answer to it.
        response: Response,
    },
    /// The buyer's secret for a request of the friend that we answered and have not ended; the lock was checked.
    Commit {
        /// The currency.
        currency: Currency,
        /// As it came.
        commit: CommitRequest,
    },
    /// The buyer asks to cancel a request of the friend that we have not ended.
    Withdraw {
        /// The currency.
        currency: Currency,
        /// As it came.
        withdraw: Withdraw,
    },
    /// A queued request will never be sent: nothing of it was ever signed.
    Dropped {
        /// The currency.
        currency: Currency,
        /// As it was queued.
        request: Request,
        /// Whose it was.
        origin: Origin,
        /// Why.
        why: Refused,
    },
    /// The friend listens elsewhere now.
    FriendRelays(List<RelayAddress, MAX_RELAYS>),
    /// The friend's list of currencies changed.
    CurrenciesChanged,
    /// The friend has signed for our last relays.
    RelaysAcknowledged,
    /// The friend has signed for our removal: the currency is gone on our side.
    CurrencyRemoved(Currency),
    /// Both ends know where they stand: batches flow.
    Resumed,
    /// The channel carries no operations any more.
    BecameInconsistent {
        /// What was noticed.
        why: Misbehaviour,
        /// The friend's open requests: no answer can travel.
        incoming_dropped: Vec<(Currency, RequestId)>,
        /// Our open requests, sent or queued: cancel them back to where they came from.
        outgoing_lost: Vec<(Currency, RequestId)>,
    },
    /// The friend stated terms, or ours changed: see [`standing`](super::Channel::standing).
    TermsChanged,
    /// A new epoch began.
    ResetDone {
        /// Its number.
        epoch: u64,
        /// Whose terms it began on.
        terms: TermsOf,
    },
    /// The friend broke the order of a link: drop it and dial anew. The channel is as it was.
    DropLink(LinkMisbehaviour),
}

/// Whose reset terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TermsOf {
    /// Ours: the friend accepted them.
    Us,
    /// The friend's: our user accepted them.
    Friend,
}

/// Where an operation that we send comes from. Answers go first whatever their origin, then what is forwarded, then our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Another friend.
    Forwarded,
    /// This node.
    Own,
}

/// What became of an operation that was accepted for sending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Enqueued {
    /// It leaves with one of the next batches.
    Queued,
    /// A withdrawal met its request in the queue: both are gone, and nothing was ever signed.
    Undone(Request),
}

/// Why an operation is not taken for sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The channel carries nothing.
    #[error("the channel is inconsistent")]
    Inconsistent,
    /// The link is down, or the friend has not confirmed a reset.
    #[error("the friend is offline")]
    Offline,
    /// The friendship does not have that currency.
    #[error("the friendship does not have the currency")]
    UnknownCurrency,
    /// We do not list the currency, or have closed it.
    #[error("the currency is closed")]
    Closed,
    /// The friend does not list the currency.
    #[error("the friend does not list the currency")]
    NotListed,
    /// The queue of this origin is full.
    #[error("too many requests wait for the friend")]
    Full,
    /// The ledger does not allow it.
    #[error("{0}")]
    Ledger(#[from] Unsendable),
}

impl Refused {
    /// What a mediator answers to a request that it cannot send on.
    pub fn cancel_reason(&self) -> CancelReason {
        match self {
            Refused::Inconsistent => CancelReason::Removed,
            Refused::Offline => CancelReason::Offline,
            Refused::UnknownCurrency | Refused::Closed | Refused::NotListed => CancelReason::Closed,
            Refused::Full | Refused::Ledger(Unsendable::Busy | Unsendable::Repeated) => CancelReason::Busy,
            Refused::Ledger(Unsendable::Request(BadRequest::Route)) => CancelReason::NoRoute,
            Refused::Ledger(
                Unsendable::Request(BadRequest::Amounts)
                | Unsendable::UnknownRequest
                | Unsendable::WrongStage
                | Unsendable::WrongLock,
            ) => CancelReason::Capacity,
        }
    }
}

/// Why a currency's configuration is not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The friendship does not have it.
    #[error("the friendship does not have that currency")]
    UnknownCurrency,
    /// It has a balance, open requests, or requests that wait to be sent.
    #[error("the currency has a balance or open requests")]
    InUse,
    /// [`offset_protocol::limits::MAX_CURRENCIES`] are listed.
    #[error("the friendship has too many currencies")]
    TooMany,
    /// More than [`offset_protocol::limits::MAX_AMOUNT`].
    #[error("the limit is larger than 2^100")]
    TooLarge,
}

/// The friend has stated no such terms, or terms that are older than ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the friend has stated no such terms")]
pub struct NoSuchTerms;

/// The friend broke the order of one link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkMisbehaviour {
    /// A batch before the link's `Resume`.
    #[error("a batch came before the friend said where it stands")]
    BatchBeforeResume,
    /// A second `Resume` in one epoch.
    #[error("the friend said twice where it stands")]
    ResumedTwice,
    /// A second dispute that the friend wants to end on one link: each costs writes and a line in the log, so it needs a new
    /// link, and those are counted.
    #[error("the friend accepted terms twice on one link")]
    ResetTwice,
    /// More than [`super::MAX_STANDS`] times.
    #[error("the friend said again and again where it stands")]
    StandsTooOften,
}

/// How a channel stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing<'a> {
    /// The two logs agree, as far as we know.
    Consistent {
        /// Counts resets.
        epoch: u64,
    },
    /// They do not.
    Inconsistent {
        /// What was noticed.
        why: &'a Misbehaviour,
        /// Our terms for a new beginning.
        ours: &'a ResetTerms,
        /// The friend's, if it has stated them.
        theirs: Option<&'a ResetTerms>,
    },
}

wire_enum! {
    /// The rule that a friend broke, which made the channel inconsistent.
    #[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
    pub enum Misbehaviour {
        /// A batch or a reset that the friend did not sign.
        #[error("the friend's signature does not match")]
        1 = BadSignature,
        /// A header that cannot be read.
        #[error("the header of a batch is malformed")]
        2 = MalformedHeader,
        /// A body that cannot be read, or one with too much in it or out of order.
        #[error("the body of a batch is malformed")]
        3 = MalformedBody,
        /// A body that is not the header's.
        #[error("the body of a batch is not the one that was signed")]
        4 = OtherBody,
        /// A batch of another epoch.
        #[error("a batch of epoch {theirs} in epoch {ours}")]
        5 = OtherEpoch {
            /// Ours.
            ours: u64,
            /// The batch's.
            theirs: u64,
        },
        /// A batch is missing.
        #[error("batch {got} came where {expected} was due")]
        6 = Gap {
            /// The number that was due.
            expected: u64,
            /// The number that came.
            got: u64,
        },
        /// Two batches under one number.
        #[error("two different batches have the number {seq}")]
        7 = TwoBatches {
            /// The number.
            seq: u64,
        },
        /// It acknowledges what we never made.
        #[error("batch {ack} was acknowledged, our last is {last}")]
        8 = AckBeyond {
            /// What was acknowledged.
            ack: u64,
            /// Our last batch.
            last: u64,
        },
        /// It acknowledges less than before.
        #[error("batch {ack} was acknowledged after {before}")]
        9 = AckBackwards {
            /// What was acknowledged.
            ack: u64,
            /// What had been acknowledged.
            before: u64,
        },
        /// Its own log is another.
        #[error("a batch does not continue the friend's log")]
        10 = OtherHead,
        /// Our log, as it knows it, is another.
        #[error("a batch names another head of our log")]
        11 = OtherFriendHead,
        /// An operation broke a rule.
        #[error("in {currency}: {rule}")]
        12 = Operation {
            /// The currency.
            currency: Currency,
            /// The request that it was about.
            request_id: RequestId,
            /// The rule.
            rule: BrokenRule,
        },
        /// A currency left the friend's list with a balance or open requests.
        #[error("{0} was removed while it was in use")]
        13 = RemovedInUse(Currency),
        /// The signed totals are not what the two logs come to.
        #[error("the totals are not what the two logs come to")]
        14 = OtherTotals,
        /// At a new link the friend is in another epoch.
        #[error("the friend resumes in epoch {theirs}, we are in {ours}: one of the two databases is an old copy")]
        15 = ResumeEpoch {
            /// Ours.
            ours: u64,
            /// The friend's.
            theirs: u64,
        },
        /// At a new link the friend has applied what we never made.
        #[error("the friend applied batch {applied}, our last is {last}: our database is an old copy")]
        16 = ResumeBeyond {
            /// What it applied.
            applied: u64,
            /// Our last batch.
            last: u64,
        },
        /// At a new link the friend has forgotten what it signed for.
        #[error("the friend applied {applied} batches, but has signed for {signed}: its database is an old copy")]
        17 = ResumeForgot {
            /// What it says that it applied.
            applied: u64,
            /// What it signed for.
            signed: u64,
        },
        /// At a new link the friend has made less than we applied.
        #[error("the friend made {made} batches, but we applied {applied}: its database is an old copy")]
        18 = ResumeLost {
            /// What it says that it made.
            made: u64,
            /// What we applied.
            applied: u64,
        },
        /// At a new link the friend names another head of our log.
        #[error("the friend resumes from another head of our log")]
        19 = ResumeHead,
        /// A reset to terms that we never stated.
        #[error("the friend accepted terms that we never stated")]
        20 = UnknownReset,
        /// The friend noticed something.
        #[error("the friend declared the channel inconsistent; if our database is an old copy, that is why")]
        21 = Declared,
    }
}
