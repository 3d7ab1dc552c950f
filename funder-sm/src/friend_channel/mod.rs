//! The channel between two friends: two signed logs, one written by each side, and the ledgers that follow from both.
//!
//! | message | handler | effect |
//! |---|---|---|
//! | `Resume` | [`Channel::on_resume`] | each resends what the other has not applied |
//! | `Batch` | [`Channel::on_batch`] | applied whole, or the channel becomes inconsistent |
//! | `Inconsistent` | [`Channel::on_inconsistent`] | the friend's terms; the channel becomes inconsistent |
//! | `Reset` | [`Channel::on_reset`] | a new epoch on our terms |
//!
//! Methods, in groups: birth and storage ([`Channel::new`], [`Channel::restore`], [`Channel::take_changes`],
//! [`Channel::erase`]); the link ([`Channel::link_up`], [`Channel::link_down`], the handlers above); speaking
//! ([`Channel::enqueue`], [`Channel::make_messages`], [`Channel::poll_timeout`]); configuration (`set_*`, `*_currency`);
//! resets ([`Channel::accept_terms`]); getters. One rule of order: what [`Channel::make_messages`] gives may be sent only
//! after the changes of a later [`Channel::take_changes`] are durable, and only on the link that was up when it was made.
//!
//! Invariants:
//! 1. No two different batches of ours have one epoch and number; a batch is sent again byte for byte until it is signed for.
//! 2. Nothing is kept of a batch that fails.
//! 3. `seen` is what the friend knew when it made its last batch; its signed totals are `seen` mirrored.
//! 4. The totals less `seen` are the deltas of our unacknowledged batches.
//! 5. A queued operation can be signed when its turn comes: what makes it impossible takes it out of the queue.
//! 6. Every operation, received or sent, costs a few map look-ups and one record, however much is open.
//!
//! 7. Of what the friend may push, requests that go on from here hold no more than [`crate::ledger::guard`] leaves them; and
//!    of what we may push no more is passed on for others than it lets them.
//!
//! It does not check the friend's limit for our own requests, nor for what ends at the friend; nor fees, or whether the node
//! can forward; and it believes the caller that messages come from the friend of the link that is up, in order.

mod answers;
mod audit;
mod config;
mod enqueue;
mod event;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
mod guard;
mod inspect;
#[cfg(any(test, feature = "fuzz"))]
mod pair;
mod queue;
mod receive;
mod records;
mod reset;
mod resume;
#[cfg(any(test, feature = "fuzz"))]
mod schedule;
mod speak;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use offset_protocol::app::CurrencyReport;
use offset_protocol::bytes::{Hash, PublicKey, RequestId, ResetToken, Signature};
use offset_protocol::codec::{Blob, List};
use offset_protocol::friend::{
    self, Batch, CurrencyLimit, CurrencyTotals, Evidence, MAX_HEADER_BYTES, Operation, Reset, ResetTerms,
};
use offset_protocol::identity::Verifier;
use offset_protocol::limits::{MAX_BATCH_OPS, MAX_RELAYS, WINDOW};
use offset_protocol::machine::{Instant, Rng};
use offset_protocol::money::{Currency, Rate};
use offset_protocol::relay::RelayAddress;
use offset_protocol::{wire_enum, wire_struct};

pub use answers::SignedAnswer;
pub use audit::{LogMarks, Size};
pub use event::{
    ChannelEvent, ConfigError, Enqueued, LinkMisbehaviour, Misbehaviour, NoSuchTerms, Origin, Refused, Standing,
    TermsOf,
};
pub use queue::MAX_QUEUED_REQUESTS;
pub use records::BadRecord;

use crate::ledger::{Delta, Grant, Ledger, OpenRequest, Totals};
use guard::Strains;
use offset_protocol::lean::LeanMap;
use queue::{Queue, RequestKey};
use records::{Dirty, Key};

/// Unacknowledged batches of any kind past which we make no more mere acknowledgements. A friend that acknowledges what it
/// receives leaves at most `WINDOW` batches with content and as many acknowledgements; one that does not waits.
pub const MAX_UNACKED: usize = 3 * WINDOW;
/// Requests of the friend, all of them refused, that may be open in currencies that we do not list, added up: a whole window
/// of a friend that has not heard our list. An honest one cannot have more there.
pub const MAX_UNLISTED: usize = WINDOW * MAX_BATCH_OPS;
/// How often a friend may say on one link where it stands (`Resume`, `Inconsistent`, `Reset`): each time may cost a write.
/// Chosen freely; an honest one says so when the link comes up, when its epoch is raised, and after a reset.
pub const MAX_STANDS: usize = 32;
/// Batches with content that are acknowledged at once: half the friend's window.
const ACK_AT_ONCE: usize = WINDOW / 2;

/// What handlers need of the world.
pub struct Env<'a> {
    /// The time.
    pub now: Instant,
    /// For the signatures of sellers.
    pub verifier: &'a dyn Verifier,
    /// For reset tokens.
    pub rng: &'a mut Rng,
}

wire_struct! {
    /// A place in a log.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Mark {
        seq: u64,
        head: Hash,
    }

    /// The signed part of a batch of the friend.
    #[derive(Clone, Debug, PartialEq, Eq)]
    struct SignedHeader {
        header: Blob<MAX_HEADER_BYTES>,
        signature: Signature,
    }

    /// Where both logs stand. One record.
    #[derive(Clone, Debug, PartialEq, Eq)]
    struct Core {
        epoch: u64,
        /// Of the terms that this epoch began on; zeros if no reset began it.
        reset_token: ResetToken,
        /// Our last batch.
        made: Mark,
        /// Our last batch that the friend has signed for.
        signed_for: Mark,
        /// The friend's last batch that we applied.
        applied: Mark,
        /// The friend said something that we have not signed for.
        owes_ack: bool,
        /// The friend's last signature of this epoch.
        evidence: Option<SignedHeader>,
        /// Our list of currencies must be said again.
        says_currencies: bool,
    }

    /// A currency without its open requests. One record each.
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    struct CurrencyConfig {
        max_debt: u128,
        rate: Rate,
        is_open: bool,
        listing: Listing,
        friend_lists: bool,
    }

    /// Relays that the two ends told each other. One record.
    #[derive(Clone, Debug, PartialEq, Eq)]
    struct Relays {
        ours: List<RelayAddress, MAX_RELAYS>,
        friends: List<RelayAddress, MAX_RELAYS>,
        said: Said,
    }

    /// Our acceptance of the friend's terms, until the friend speaks in the new epoch.
    #[derive(Clone, Debug, PartialEq, Eq)]
    struct Unconfirmed {
        /// What we would have begun on: they win if the friend accepts them now and our key is the lower one.
        ours: ResetTerms,
        theirs: ResetTerms,
        reset: Reset,
    }

    /// Why nothing moves, and how it could go on.
    #[derive(Clone, Debug, PartialEq, Eq)]
    struct Dispute {
        why: Misbehaviour,
        ours: ResetTerms,
        theirs: Option<ResetTerms>,
    }
}

wire_enum! {
    /// Whether our list of currencies names a currency.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    enum Listing {
        /// No.
        #[default]
        1 = Unlisted,
        /// Yes, or with the next batch.
        2 = Listed,
        /// Still, but no longer than something is open.
        3 = Leaving,
        /// No, since a batch that the friend has not signed for.
        4 = Left(u64),
    }

    /// Whether the friend knows our relays.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Said {
        /// They go with the next batch.
        1 = NotYet,
        /// In a batch that the friend has not signed for.
        2 = In(u64),
        /// It does.
        3 = Known,
    }

    /// Whether operations move. A record, unless consistent.
    #[derive(Clone, Debug, PartialEq, Eq)]
    enum State {
        /// They do.
        1 = Consistent,
        /// They will when the friend confirms our acceptance.
        2 = Unconfirmed(Box<Unconfirmed>),
        /// They do not.
        3 = Inconsistent(Box<Dispute>),
    }
}

/// One currency: the ledger as of everything that we know, and as of what the friend knew when it last spoke.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct CurrencyState {
    ledger: Ledger,
    seen: Totals,
    config: CurrencyConfig,
}

/// A batch of ours that the friend has not signed for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Unacked {
    mark: Mark,
    batch: Batch,
    deltas: Vec<(Currency, Delta)>,
    /// The friend's requests that it ended.
    ended: Vec<RequestKey>,
    content: Content,
}

/// What a batch brings besides its acknowledgement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Content {
    operations: bool,
    relays: bool,
    currencies: bool,
}

impl Content {
    fn of(body: &friend::Body) -> Content {
        Content {
            operations: !body.operations.is_empty(),
            relays: body.relays.is_some(),
            currencies: body.currencies.is_some(),
        }
    }

    fn is_any(self) -> bool {
        self.operations || self.relays || self.currencies
    }
}

/// What was said on the link that is up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Link {
    /// And nothing of it has changed since.
    said_limits: bool,
    has_said_limits: bool,
    said_terms: bool,
    said_reset: bool,
    said_resume: bool,
    /// The friend said where it stands, in this epoch: batches flow.
    is_resumed: bool,
    /// The friend has accepted our terms on this link.
    was_reset: bool,
    /// How often the friend has said where it stands.
    stands_heard: usize,
    /// Our batches after this one must be said again.
    resend_after: Option<u64>,
    /// The friend's batches with content since our last batch.
    heard: usize,
    /// When the friend must have our acknowledgement at the latest.
    ack_at: Option<Instant>,
}

/// One friendship's two logs and ledgers. See the module's page for the groups of methods.
#[derive(Clone, Debug)]
pub struct Channel {
    us: PublicKey,
    friend: PublicKey,
    core: Core,
    state: State,
    relays: Relays,
    currencies: LeanMap<Currency, CurrencyState>,
    unacked: VecDeque<Unacked>,
    /// How many of `unacked` have content.
    window_used: usize,
    /// The friend's requests that we ended, by the batch of ours that did, until the friend has signed for it.
    crossing: LeanMap<RequestKey, u64>,
    queue: Queue,
    /// The friend's last signature of an earlier epoch, or of before the dispute.
    old_evidence: Option<Box<Evidence>>,
    link: Option<Link>,
    /// What we may owe the friend and what it passes on to us, as it says. Not stored: it says so on every link.
    friends_limits: Box<[CurrencyLimit]>,
    /// How long requests that go on have held how much. Not stored. `None`: they have held nothing lately, as in most
    /// friendships.
    strains: Option<Box<Strains>>,
    dirty: Dirty,
}

impl Core {
    fn new(us: &PublicKey, friend: &PublicKey, epoch: u64, reset_token: ResetToken) -> Core {
        let ours = Mark { seq: 0, head: friend::genesis_head(us, friend, epoch, &reset_token) };
        let friends = Mark { seq: 0, head: friend::genesis_head(friend, us, epoch, &reset_token) };
        Core {
            epoch,
            reset_token,
            made: ours,
            signed_for: ours,
            applied: friends,
            owes_ack: false,
            evidence: None,
            says_currencies: false,
        }
    }
}

/// Birth and getters.
impl Channel {
    /// The channel of a new friendship: nothing was ever said. `relays` are ours; they go with the first batch.
    pub fn new(us: PublicKey, friend: PublicKey, relays: List<RelayAddress, MAX_RELAYS>) -> Self {
        let relays = Relays { ours: relays, friends: List::new(), said: Said::NotYet };
        let core = Core::new(&us, &friend, 0, ResetToken([0; 32]));
        let mut channel = Channel::from_parts(us, friend, core, relays);
        channel.dirty.say(Key::Core);
        channel.dirty.say(Key::Relays);
        channel
    }

    fn from_parts(us: PublicKey, friend: PublicKey, core: Core, relays: Relays) -> Self {
        Channel {
            us,
            friend,
            core,
            state: State::Consistent,
            relays,
            currencies: LeanMap::new(),
            unacked: VecDeque::new(),
            window_used: 0,
            crossing: LeanMap::new(),
            queue: Queue::default(),
            old_evidence: None,
            link: None,
            friends_limits: Box::default(),
            strains: None,
            dirty: Dirty::default(),
        }
    }

    /// Who we are.
    pub fn us(&self) -> PublicKey {
        self.us
    }

    /// Who the friend is.
    pub fn friend(&self) -> PublicKey {
        self.friend
    }

    /// Whether the logs agree.
    pub fn standing(&self) -> Standing<'_> {
        match &self.state {
            State::Consistent | State::Unconfirmed(_) => Standing::Consistent { epoch: self.core.epoch },
            State::Inconsistent(dispute) => {
                Standing::Inconsistent { why: &dispute.why, ours: &dispute.ours, theirs: dispute.theirs.as_ref() }
            }
        }
    }

    /// Whether batches flow: the link is up, both ends said where they stand, and they agree.
    pub fn is_resumed(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.is_resumed)
    }

    /// All currencies that either side lists or that are in use, by name.
    pub fn currencies(&self) -> impl Iterator<Item = CurrencyReport> {
        self.currencies.iter().map(|(currency, state)| state.report(*currency))
    }

    /// One currency.
    pub fn currency(&self, currency: &Currency) -> Option<CurrencyReport> {
        self.currencies.get(currency).map(|state| state.report(*currency))
    }

    /// What the friend should be offered that ends here: what it can push to us now. 0 unless the currency is open, both list it
    /// and the channel is consistent.
    pub fn recv_capacity(&self, currency: &Currency) -> u128 {
        self.usable(currency).map_or(0, |state| state.ledger.offered_here(state.config.max_debt))
    }

    /// What the friend should be offered that goes on from here: never more than [`Channel::recv_capacity`], nor than what is
    /// accepted here; see [`crate::ledger::guard::offered`].
    pub fn forward_capacity(&self, currency: &Currency) -> u128 {
        let offered =
            |state: &CurrencyState| state.ledger.offered_onward(state.config.max_debt, self.allowance(currency));
        self.usable(currency).map_or(0, offered)
    }

    /// A currency in which the friend may push to us.
    fn usable(&self, currency: &Currency) -> Option<&CurrencyState> {
        let is_consistent = matches!(self.state, State::Consistent);
        self.currencies.get(currency).filter(|state| is_consistent && state.is_open() && state.config.friend_lists)
    }

    /// A request that we sent and that has not ended.
    pub fn outgoing(&self, currency: &Currency, id: &RequestId) -> Option<&OpenRequest> {
        self.currencies.get(currency)?.ledger.outgoing().get(id).map(|open| &**open)
    }

    /// A request of the friend that we have not ended.
    pub fn incoming(&self, currency: &Currency, id: &RequestId) -> Option<&OpenRequest> {
        self.currencies.get(currency)?.ledger.incoming().get(id).map(|open| &**open)
    }

    /// All requests that we sent and that have not ended.
    pub fn all_outgoing(&self) -> impl Iterator<Item = (Currency, &OpenRequest)> {
        self.currencies
            .iter()
            .flat_map(|(currency, state)| state.ledger.outgoing().values().map(move |open| (*currency, &**open)))
    }

    /// All requests of the friend that we have not ended.
    pub fn all_incoming(&self) -> impl Iterator<Item = (Currency, &OpenRequest)> {
        self.currencies
            .iter()
            .flat_map(|(currency, state)| state.ledger.incoming().values().map(move |open| (*currency, &**open)))
    }

    /// All operations that wait to be signed, in the order of batches.
    pub fn all_queued(&self) -> impl Iterator<Item = (Currency, &Operation)> {
        self.queue.iter().map(|(_, waiting)| (waiting.currency, &waiting.operation))
    }

    /// Whether the friend has signed for our last list of relays.
    pub fn relays_acknowledged(&self) -> bool {
        self.relays.said == Said::Known
    }

    /// Where the friend listens, as it told us.
    pub fn friend_relays(&self) -> &List<RelayAddress, MAX_RELAYS> {
        &self.relays.friends
    }

    /// Our relays, as the friend should know them.
    pub fn our_relays(&self) -> &List<RelayAddress, MAX_RELAYS> {
        &self.relays.ours
    }

    /// The friend's last signature with the totals that it states; `None` if it never signed anything that we applied.
    pub fn evidence(&self) -> Option<Evidence> {
        let Some(signed) = &self.core.evidence else {
            return self.old_evidence.as_deref().cloned();
        };
        Some(Evidence {
            sender: self.friend,
            receiver: self.us,
            header: signed.header.clone(),
            signature: signed.signature,
            totals: List::truncated(self.friends_totals()),
        })
    }

    /// What the friend's last signature states: `seen` from its side, without zeros, by currency.
    fn friends_totals(&self) -> impl Iterator<Item = CurrencyTotals> {
        let mirrored = self.currencies.iter().filter_map(|(currency, state)| state.seen.mirrored(*currency));
        mirrored.filter(|totals| !totals.is_zero())
    }
}

impl CurrencyState {
    fn is_open(&self) -> bool {
        self.config.is_open && matches!(self.config.listing, Listing::Listed)
    }

    fn grant(&self) -> Grant {
        Grant { is_open: self.is_open(), max_debt: self.config.max_debt }
    }

    /// Whether our list names it, as we said it last or are about to.
    fn is_listed(&self) -> bool {
        matches!(self.config.listing, Listing::Listed | Listing::Leaving)
    }

    /// Whether nothing would be lost with it.
    fn is_void(&self) -> bool {
        matches!(self.config.listing, Listing::Unlisted)
            && !self.config.friend_lists
            && self.seen.is_zero()
            && self.ledger.totals().is_zero()
            && self.ledger.outgoing().is_empty()
            && self.ledger.incoming().is_empty()
    }

    fn report(&self, currency: Currency) -> CurrencyReport {
        let totals = self.ledger.totals();
        CurrencyReport {
            currency,
            balance: totals.balance,
            out_frozen: totals.out_frozen,
            in_frozen: totals.in_frozen,
            max_debt: self.config.max_debt,
            rate: self.config.rate,
            is_open: self.config.is_open,
            listed: matches!(self.config.listing, Listing::Listed),
            friend_listed: self.config.friend_lists,
        }
    }
}
