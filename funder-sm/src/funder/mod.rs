//! The funder: everything of a node that is about money. Friends and their channels, forwarding, payments, invoices.
//!
//! | input | effect |
//! |---|---|
//! | [`FunderInput::Friend`] | the friend's channel applies it; what it brings is forwarded, answered or ends here |
//! | [`FunderInput::Command`] | done or refused, with exactly one reply |
//! | [`FunderInput::Durable`] | what was said for that revision leaves |
//!
//! It works in rounds: all inputs that wait are taken in, then every friend that has something to hear gets at most one
//! batch, then the round's changes are persisted as one revision, and only when that is durable do its messages, replies and
//! reports leave. While a revision is in flight, inputs are taken in but nothing is signed; what happens then joins the next.
//!
//! Invariants:
//! 1. No message leaves before the state that it speaks for is durable.
//! 2. `restore(all changes so far)` is the state as of the last revision; what a crash loses was never said to anyone.
//! 3. Every operation costs the same whatever the number of friends, open requests, payments and invoices.
//! 4. Every command gets exactly one reply.
//!
//! It does not check permissions (the sessions of apps do) nor signatures of batches (see [`CheckedMessage`]).

mod attempt;
pub mod audit;
mod buyer;
mod commands;
mod config;
mod events;
mod forward;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
mod inspect;
mod invoice;
mod io;
#[cfg(any(test, feature = "fuzz"))]
mod net;
mod relays;
mod report;
mod restore;
mod rounds;
mod routes;
mod seller;
#[cfg(test)]
mod tests;

pub mod records;

use std::collections::{BTreeSet, VecDeque};

use offset_protocol::app::FriendReport;
use offset_protocol::bytes::{InvoiceId, PaymentId, PublicKey, RequestId};
use offset_protocol::deadlines::Deadlines;
use offset_protocol::identity::SharedSigner;
use offset_protocol::index::EntryValue;
use offset_protocol::machine::{Alarm, Instant, Machine, Rng, Seed, WallTime};
use offset_protocol::money::Currency;
use offset_protocol::persist::Revision;

pub use attempt::MAX_ATTEMPTS;
pub use audit::{Counts, Remembers};
pub use buyer::{MAX_OPEN_PAYMENTS, MAX_PAYMENTS};
pub use events::MAX_KEPT_EVENTS;
pub use invoice::{MAX_ENDED, MAX_OFFERED, MAX_OFFERS};
pub use io::{
    CheckedMessage, Disagreement, FoundRoutes, FunderInput, FunderOutput, KeptEvent, QueryId, RouteFailure, RouteQuery,
    SessionId,
};
pub use records::RestoreError;
pub use routes::MAX_QUERIES;
pub use seller::MAX_INVOICES;

use crate::friend_channel::Channel;
use offset_protocol::lean::{LeanMap, LeanSet};
use records::{Changes, FriendRecord, IndexRecord, Transit};
use relays::Relay;
use rounds::{Held, Todo};

/// What a funder is born with.
pub struct FunderConfig {
    /// Signs as this node.
    pub signer: SharedSigner,
    /// Locks, nonces and ids come from it; never used twice.
    pub seed: Seed,
}

/// A friend and the channel to it.
struct Friend {
    record: FriendRecord,
    channel: Channel,
    online: bool,
    /// Counts links: what was said for an old one never goes over a new one.
    link: u64,
    /// Collects that wait to stand in our log, oldest first.
    collecting: VecDeque<(Currency, RequestId)>,
    /// As apps know it.
    reported: Option<Box<FriendReport>>,
    /// As the index servers know it.
    published: LeanMap<Currency, EntryValue>,
}

impl Friend {
    fn new(record: FriendRecord, channel: Channel) -> Self {
        Friend {
            record,
            channel,
            online: false,
            link: 0,
            collecting: VecDeque::new(),
            reported: None,
            published: LeanMap::new(),
        }
    }

    /// Whether a request in this currency could leave over this friend now, as far as we know.
    fn can_send(&self, currency: &Currency) -> bool {
        self.online && self.channel.is_resumed() && self.channel.can_push(currency).is_ok()
    }
}

struct IndexServer {
    record: IndexRecord,
    connected: bool,
}

/// The money of one node. A [`Machine`]: see [`FunderInput`] and [`FunderOutput`].
///
/// Made by [`Funder::restore`]; an empty list of records is a new node.
pub struct Funder {
    us: PublicKey,
    signer: SharedSigner,
    rng: Rng,
    now: Instant,
    wall: WallTime,
    /// Open invoices that expire; some that are not open any more.
    #[allow(clippy::box_collection)] // most of a million nodes have none: 8 bytes for 24
    expiring: Option<Box<BTreeSet<(WallTime, InvoiceId)>>>,

    friends: LeanMap<PublicKey, Box<Friend>>,
    /// The friends by name: their keys, in the order of the names that their records have.
    by_name: Vec<PublicKey>,
    relays: LeanMap<PublicKey, Relay>,
    index_servers: LeanMap<PublicKey, IndexServer>,

    transits: LeanMap<RequestId, Transit>,
    payments: LeanMap<PaymentId, buyer::Payment>,
    open_payments: usize,
    invoices: LeanMap<InvoiceId, invoice::InvoiceRecord>,
    queries: routes::Queries,
    events: events::Events,

    /// What is still to be done for the input at hand.
    todo: VecDeque<Todo>,
    /// Friends whose channel may have something to say, or whose report may differ.
    touched: LeanSet<PublicKey>,
    /// When a friend's channel next has something to say by itself.
    alarms: Deadlines<PublicKey>,
    snapshots: Vec<(SessionId, PublicKey)>,
    side_keys: Vec<Vec<u8>>,
    changes: Changes,
    /// Said in this round: leaves when the round's changes are durable.
    held: Vec<Held>,
    /// Said in the round whose revision is in flight.
    in_flight: Option<Vec<Held>>,
    /// What may leave.
    ready: VecDeque<Held>,
    revision: Revision,
    round_due: bool,
    /// Whether friends are reported to apps.
    reports: Reports,
}

/// Whether anybody reads what apps are told of friends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reports {
    Told,
    /// See [`Funder::tell_no_reports`].
    #[cfg_attr(not(feature = "meddle"), allow(dead_code))] // nobody can ask for it there
    NotTold,
}

impl Machine for Funder {
    type Input = FunderInput;
    type Output = FunderOutput;

    fn handle(&mut self, now: Instant, input: FunderInput) {
        self.now = self.now.max(now);
        self.on_input(input);
        self.settle();
    }

    fn poll_output(&mut self) -> Option<FunderOutput> {
        loop {
            if let Some(output) = self.next_ready() {
                return Some(output);
            }
            if !self.round_due {
                return None;
            }
            self.round();
        }
    }

    fn poll_timeout(&self) -> Option<Alarm> {
        self.alarms.next().map(|at| Alarm { at, why: "friend channel" })
    }
}

impl Funder {
    /// This node.
    pub fn public_key(&self) -> PublicKey {
        self.us
    }
}

/// For simulations of more nodes than have disks and apps: what nobody wants is not made. Nothing else changes.
#[cfg(feature = "meddle")]
impl Funder {
    /// Nobody keeps the records of this node: a revision is told as before, and what has changed is left out.
    pub fn keep_no_records(&mut self) {
        self.changes.keep_none();
    }

    /// No app reads what this node reports of friends as they change. What a session begins with is whole all the same.
    pub fn tell_no_reports(&mut self) {
        self.reports = Reports::NotTold;
    }
}
