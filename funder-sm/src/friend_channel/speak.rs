//! What leaves at the end of a round: where we stand, what must be said again, and at most one new batch, or more only as
//! long as each before it was full.
//!
//! A batch takes from the queue in its order (answers, forwarded, own), applies each operation to our ledgers, and is signed
//! over the totals that this leaves. The window holds back batches with content, never an acknowledgement.

use offset_protocol::codec::{self, Blob, List};
use offset_protocol::friend::{
    Batch, Body, CurrencyOperations, FriendMessage, Header, Operation, Resume, batch_hash, body_hash, next_head,
    totals_hash,
};
use offset_protocol::identity::Signer;
use offset_protocol::lean::LeanMap;
use offset_protocol::limits::{ACK_DELAY, MAX_BATCH_BYTES, MAX_BATCH_OPS, MAX_CURRENCIES, WINDOW};
use offset_protocol::machine::{Alarm, Instant};
use offset_protocol::money::Currency;
use offset_protocol::{buggify, mutant, sometimes};

use super::queue::{Waiting, request_id};
use super::records::Key;
use super::{ACK_AT_ONCE, Channel, Content, CurrencyState, Link, Listing, MAX_UNACKED, Mark, Said, State, Unacked};
use crate::ledger::Delta;

/// Bytes of a body that are left for the two lists and the groups' frames: 16 relays of at most 304 bytes, 32 currencies of
/// at most 17, and 32 groups of at most 32.
const RESERVED_BYTES: usize = 8 * 1024;
/// Bytes of any encoded operation, but for the hops of a request.
const OPERATION_BYTES: usize = 224;
/// Bytes of an encoded hop.
const HOP_BYTES: usize = 34;

/// The operations of a batch that is being made.
#[derive(Default)]
struct Draft {
    groups: LeanMap<Currency, Vec<Operation>>,
    deltas: LeanMap<Currency, Delta>,
    /// It would have held more.
    is_full: bool,
}

/// Why a batch is made.
#[derive(Clone, Copy)]
struct Need {
    operations: bool,
    relays: bool,
    currencies: bool,
    acknowledgement: bool,
}

impl Need {
    fn is_any(self) -> bool {
        self.operations || self.relays || self.currencies || self.acknowledgement
    }
}

/// Speaking.
impl Channel {
    /// Appends everything that is to be said now. Call it at the end of a round, then [`Channel::take_changes`]; send the
    /// messages when those are durable and the link is still the same.
    pub fn make_messages(&mut self, now: Instant, signer: &dyn Signer, out: &mut Vec<FriendMessage>) {
        self.settle_strains(now);
        self.say_limits(out);
        self.say_where_we_stand(out);
        let Some(link) = self.link.as_mut().filter(|link| link.is_resumed) else {
            return;
        };
        if let Some(after) = link.resend_after.take() {
            let again = self.unacked.iter().filter(|unacked| unacked.mark.seq > after);
            sometimes!("channel: a resume resends", again.clone().next().is_some());
            out.extend(again.map(|unacked| FriendMessage::Batch(self.again(unacked, signer))));
        }
        loop {
            let need = self.need(now);
            if !need.is_any() {
                return;
            }
            let (batch, is_full) = self.make_batch(now, need, signer);
            out.push(FriendMessage::Batch(batch));
            if !is_full {
                return;
            }
        }
    }

    /// When the friend must have an acknowledgement, or hear that we pass on more or less. A due alarm is served by
    /// [`Channel::make_messages`].
    pub fn poll_timeout(&self) -> Option<Alarm> {
        let allowance = self.next_allowance().map(|at| Alarm { at, why: "friend channel: allowance" });
        Alarm::earliest(self.acknowledge_at(), allowance)
    }

    fn acknowledge_at(&self) -> Option<Alarm> {
        let link = self.link.as_ref().filter(|link| link.is_resumed)?;
        let is_owed = self.core.owes_ack && self.unacked.len() < MAX_UNACKED && !mutant!(AckNever);
        link.ack_at.filter(|_| is_owed || mutant!(LeakAlarm)).map(|at| Alarm { at, why: "friend channel: acknowledge" })
    }

    fn say_where_we_stand(&mut self, out: &mut Vec<FriendMessage>) {
        let resume = self.resume();
        let Some(link) = &mut self.link else {
            return;
        };
        match &self.state {
            State::Inconsistent(dispute) => {
                if !std::mem::replace(&mut link.said_terms, true) {
                    out.push(FriendMessage::Inconsistent(dispute.ours.clone()));
                }
                return;
            }
            State::Unconfirmed(unconfirmed) => {
                if !std::mem::replace(&mut link.said_reset, true) {
                    out.push(FriendMessage::Reset(unconfirmed.reset.clone()));
                }
            }
            State::Consistent => {}
        }
        if !std::mem::replace(&mut link.said_resume, true) {
            out.push(FriendMessage::Resume(resume));
        }
    }

    fn resume(&self) -> Resume {
        let Mark { seq, head } = self.core.applied;
        Resume { epoch: self.core.epoch, in_seq: seq, in_head: head, out_seq: self.core.made.seq }
    }

    fn need(&self, now: Instant) -> Need {
        let is_tiny = self.window_used > 0 && buggify!("channel: a window of one batch", 300);
        let has_room = self.window_used < WINDOW && !is_tiny;
        sometimes!("channel: the window is full", !has_room && !self.queue.is_empty());
        let heard = self.link.as_ref().map_or(0, |link| link.heard);
        let is_due = self.link.as_ref().and_then(|link| link.ack_at).is_some_and(|at| at <= now);
        let may_leave = self.unlisted_open() == 0;
        let leaves = |state: &CurrencyState| {
            may_leave && matches!(state.config.listing, Listing::Leaving) && state.ledger.totals().is_zero()
        };
        let is_due = is_due || buggify!("channel: acknowledge at once", 300);
        let may_ack = self.core.owes_ack && self.unacked.len() < MAX_UNACKED && !mutant!(AckNever);
        sometimes!("channel: half a window was heard without an answer", heard >= ACK_AT_ONCE);
        sometimes!("channel: too much is unacknowledged to acknowledge", self.unacked.len() >= MAX_UNACKED);
        Need {
            operations: has_room && !self.queue.is_empty(),
            relays: has_room && self.relays.said == Said::NotYet,
            currencies: has_room && (self.core.says_currencies || self.currencies.values().any(leaves)),
            acknowledgement: may_ack && (is_due || heard >= ACK_AT_ONCE),
        }
    }

    fn make_batch(&mut self, now: Instant, need: Need, signer: &dyn Signer) -> (Batch, bool) {
        let is_again = mutant!(SignTwice) && !self.unacked.is_empty();
        let seq = self.core.made.seq + u64::from(!is_again);
        let draft = if need.operations { self.take_operations(now, seq) } else { Draft::default() };
        let groups = draft
            .groups
            .into_iter()
            .map(|(currency, operations)| CurrencyOperations { currency, operations: List::truncated(operations) });
        let body = Body {
            operations: List::truncated(groups),
            relays: need.relays.then(|| self.announce_relays(seq)),
            // A currency may have become free of requests with this very batch.
            currencies: (need.currencies || need.operations).then(|| self.announce_currencies(seq)).flatten(),
        };
        let (content, ended) = (Content::of(&body), Unacked::ended_by(&body));
        sometimes!("channel: nothing but an acknowledgement is said", !content.is_any());
        sometimes!("channel: a batch is full", draft.is_full);
        let body = codec::encode(&body);
        let body_hash = body_hash(&body);
        let mark = Mark { seq, head: next_head(&self.core.made.head, &body_hash) };
        let batch = self.sign(mark, body_hash, body, signer);
        self.core.made = mark;
        self.core.owes_ack = false;
        self.dirty.say(Key::Core);
        self.dirty.say(Key::Batch(seq));
        let deltas = draft.deltas.into_iter().filter(|(_, delta)| *delta != Delta::ZERO).collect();
        self.hold(Unacked { mark, batch: batch.clone(), deltas, ended, content });
        if let Some(link) = &mut self.link {
            let ack_at = link.ack_at.filter(|_| mutant!(LeakAlarm));
            *link = Link { heard: 0, ack_at, ..link.clone() };
        }
        (batch, draft.is_full)
    }

    fn sign(&self, mark: Mark, body_hash: offset_protocol::bytes::Hash, body: Vec<u8>, signer: &dyn Signer) -> Batch {
        let totals: Vec<_> =
            self.currencies.iter().map(|(currency, state)| state.ledger.totals().named(*currency)).collect();
        let header = codec::encode(&Header {
            epoch: self.core.epoch,
            seq: mark.seq,
            ack: self.core.applied.seq,
            body_hash,
            head: mark.head,
            friend_head: self.core.applied.head,
            totals_hash: totals_hash(&totals),
        });
        let signature = signer.sign(&batch_hash(&self.us, &self.friend, &header));
        debug_assert!(body.len() <= MAX_BATCH_BYTES, "a batch is larger than its operations were measured");
        Batch {
            header: Blob::try_from(header).unwrap_or_default(),
            body: Blob::try_from(body).unwrap_or_default(),
            signature,
        }
    }

    /// Takes operations from the queue, as many as fit, and applies them.
    fn take_operations(&mut self, now: Instant, seq: u64) -> Draft {
        let mut draft = Draft::default();
        let (mut count, mut bytes) = (0, RESERVED_BYTES);
        while let Some((key, waiting)) = self.queue.first() {
            bytes += most_bytes(&waiting.operation);
            let is_cut = count > 0 && buggify!("channel: a batch of few operations", 500);
            if is_cut
                || count == MAX_BATCH_OPS
                || bytes > MAX_BATCH_BYTES
                || self.is_group_too_many(&draft, &waiting.currency)
            {
                draft.is_full = true;
                break;
            }
            let Some(Waiting { currency, operation }) = self.queue.remove(key) else {
                break;
            };
            let is_lost = mutant!(CommitLost) && matches!(operation, Operation::Commit(_));
            let is_applied = self.apply_ours(seq, currency, &operation, &mut draft);
            if matches!(operation, Operation::Request(_)) {
                self.watch_strain(now, currency);
            }
            if is_applied && !is_lost {
                draft.groups.get_or_default(currency).push(operation);
                count += 1;
            }
        }
        draft
    }

    fn is_group_too_many(&self, draft: &Draft, currency: &Currency) -> bool {
        draft.groups.len() >= MAX_CURRENCIES && !draft.groups.contains_key(currency)
    }

    /// Applies an operation that was checked when it was queued. Whether it belongs into the batch: it does, unless there is a
    /// bug in here, and then the friend must not see it.
    fn apply_ours(&mut self, seq: u64, currency: Currency, operation: &Operation, draft: &mut Draft) -> bool {
        let Some(state) = self.currencies.get_mut(&currency) else {
            return false;
        };
        let Ok(delta) = state.ledger.send(seq, operation) else {
            debug_assert!(false, "a queued operation cannot be signed: {operation:?}");
            return false;
        };
        let sum = draft.deltas.get_or_default(currency);
        *sum = sum.and(&delta);
        if delta != Delta::ZERO {
            self.dirty.say(Key::Currency(currency));
        }
        let key = (currency, request_id(operation));
        match operation {
            Operation::Request(_) | Operation::Commit(_) | Operation::Withdraw(_) => self.dirty.say(Key::Outgoing(key)),
            Operation::Response(_) | Operation::Cancel(_) | Operation::Collect(_) => self.dirty.say(Key::Incoming(key)),
        };
        true
    }

    /// A batch that is said again: the same bytes.
    fn again(&self, unacked: &Unacked, signer: &dyn Signer) -> Batch {
        if mutant!(ResendChanged) {
            let body = unacked.batch.body.to_vec();
            return self.sign(unacked.mark, body_hash(&body), body, signer);
        }
        unacked.batch.clone()
    }

    fn announce_relays(&mut self, seq: u64) -> List<offset_protocol::relay::RelayAddress, 16> {
        self.relays.said = Said::In(seq);
        self.dirty.say(Key::Relays);
        self.relays.ours.clone()
    }

    /// Our list of currencies, if it must be said: without those that leave and are free of balance and requests by now.
    fn announce_currencies(&mut self, seq: u64) -> Option<List<Currency, MAX_CURRENCIES>> {
        let mut changed = std::mem::take(&mut self.core.says_currencies);
        let mut list = Vec::new();
        // What keeps [`MAX_UNLISTED`] beyond the reach of an honest friend.
        let may_leave = self.unlisted_open() == 0;
        for (currency, state) in self.currencies.iter_mut() {
            match state.config.listing {
                Listing::Listed => list.push(*currency),
                Listing::Leaving if may_leave && state.ledger.totals().is_zero() => {
                    sometimes!("channel: a currency leaves our list", true);
                    state.config.listing = Listing::Left(seq);
                    self.dirty.say(Key::Currency(*currency));
                    changed = true;
                }
                Listing::Leaving => list.push(*currency),
                Listing::Unlisted | Listing::Left(_) => {}
            }
        }
        if changed {
            self.say_limits_again();
        }
        changed.then(|| List::truncated(list))
    }

    /// Notes that the friend said something that wants an acknowledgement.
    pub(super) fn heard_content(&mut self, now: Instant) {
        self.core.owes_ack = true;
        if let Some(link) = &mut self.link {
            link.heard += 1;
            link.ack_at = link.ack_at.or(Some(now + ACK_DELAY));
        }
    }
}

/// At least as many bytes as the operation takes when it is encoded.
pub(super) fn most_bytes(operation: &Operation) -> usize {
    match operation {
        Operation::Request(request) => OPERATION_BYTES + HOP_BYTES * request.route.len(),
        Operation::Response(_)
        | Operation::Cancel(_)
        | Operation::Commit(_)
        | Operation::Withdraw(_)
        | Operation::Collect(_) => OPERATION_BYTES,
    }
}
