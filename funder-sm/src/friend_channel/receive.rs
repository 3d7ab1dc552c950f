//! A batch of the friend: applied whole, or the channel becomes inconsistent and nothing of it is kept.
//!
//! 1. The header must continue both logs; a batch that we applied before is ignored.
//! 2. `seen` moves on by what our own batches up to `ack` changed.
//! 3. Each operation is applied to the ledger, and to `seen`; every step is remembered until the batch stands.
//! 4. `seen`, mirrored, must hash to what the friend signed.
//!
//! Only then does anything else change: logs, evidence, queue, lists, events. Until then the steps can be undone, so a
//! batch costs what is in it and not what is open.

use std::collections::VecDeque;

#[cfg(any(test, feature = "fuzz"))]
use offset_protocol::bytes::Hash;
use offset_protocol::bytes::RequestId;
use offset_protocol::codec::List;
use offset_protocol::friend::{Batch, Body, CurrencyOperations, Header, Operation, body_hash, next_head, totals_hash};
use offset_protocol::identity::Verified;
use offset_protocol::limits::{MAX_BATCH_OPS, MAX_CURRENCIES};
use offset_protocol::money::Currency;
use offset_protocol::{mutant, sometimes};

use super::enqueue::refusal;
use super::queue::request_id;
use super::records::Key;
use super::{
    Channel, ChannelEvent, Content, Env, LinkMisbehaviour, Listing, MAX_UNLISTED, Mark, Misbehaviour, Refused, Said,
    SignedHeader, State,
};
use crate::ledger::{BrokenRule, Delta, Incoming, Step, Totals};
use offset_protocol::lean::LeanMap;

/// What was applied so far of a batch that may still fail.
#[derive(Default)]
struct Trial {
    steps: Vec<(Currency, Step)>,
    /// `seen` as it was.
    seen: LeanMap<Currency, Totals>,
    /// Currencies that we had not heard of.
    created: Vec<Currency>,
    /// Requests of the friend that are open in currencies that we do not list.
    unlisted: usize,
}

impl Trial {
    /// What `seen` was, the first time that it changes.
    fn remember(&mut self, currency: Currency, seen: Totals) {
        if !self.seen.contains_key(&currency) {
            self.seen.insert(currency, seen);
        }
    }
}

/// Receiving.
impl Channel {
    /// News of the friend.
    pub fn on_batch(&mut self, env: &mut Env<'_>, batch: Verified<Batch>, events: &mut Vec<ChannelEvent>) {
        if batch.by() != self.friend {
            return self.on_forged(env, events);
        }
        match (&self.state, &self.link) {
            (State::Inconsistent(_), _) | (_, None) => return,
            (State::Consistent | State::Unconfirmed(_), Some(link)) if !link.is_resumed => {
                return events.push(ChannelEvent::DropLink(LinkMisbehaviour::BatchBeforeResume));
            }
            (State::Consistent | State::Unconfirmed(_), Some(_)) => {}
        }
        let batch = batch.into_inner();
        if let Err(why) = self.try_batch(env, batch, events) {
            let epoch = self.core.epoch;
            self.become_inconsistent(env, why, epoch, events);
        }
    }

    /// A batch or reset that the friend did not sign, or bytes that are no message.
    pub fn on_forged(&mut self, env: &mut Env<'_>, events: &mut Vec<ChannelEvent>) {
        if !matches!(self.state, State::Inconsistent(_)) {
            let epoch = self.core.epoch;
            self.become_inconsistent(env, Misbehaviour::BadSignature, epoch, events);
        }
    }

    pub(super) fn try_batch(
        &mut self,
        env: &mut Env<'_>,
        batch: Batch,
        events: &mut Vec<ChannelEvent>,
    ) -> Result<(), Misbehaviour> {
        let header = batch.decode_header().map_err(|_| Misbehaviour::MalformedHeader)?;
        if self.is_duplicate(&header)? && !mutant!(AcceptOldBatch) {
            sometimes!("channel: a batch that was applied before is ignored", true);
            return Ok(());
        }
        sometimes!("channel: a batch crosses an unacknowledged one", header.ack < self.core.made.seq);
        self.check_header(&header, &batch.body)?;
        let body = batch.decode_body().map_err(|_| Misbehaviour::MalformedBody)?;
        check_body(&body)?;
        let content = Content::of(&body);
        let Body { operations, relays, currencies } = body;
        self.settle_strains(env.now);
        let mut trial = Trial::default();
        let result = self.try_content(env, &header, operations, currencies.as_ref(), &mut trial);
        if let Err(why) = result {
            self.undo(trial);
            return Err(why);
        }
        // The friend's list first: a currency that our acknowledged removal would let us forget may stand on it.
        if let Some(currencies) = currencies {
            self.commit_currencies(&currencies, events);
        }
        self.commit_acknowledged(header.ack, events);
        self.core.applied = Mark { seq: header.seq, head: header.head };
        // A copy has exactly its size: a header that was just encoded has room to spare, and this one stays.
        self.core.evidence = Some(SignedHeader { header: batch.header.clone(), signature: batch.signature });
        self.dirty.say(Key::Core);
        let changed = trial.seen.keys().chain(&trial.created);
        changed.for_each(|currency| self.dirty.say(Key::Currency(*currency)));
        if content.is_any() {
            self.heard_content(env.now);
        }
        if let Some(relays) = relays.filter(|relays| *relays != self.relays.friends) {
            self.relays.friends = relays.clone();
            self.dirty.say(Key::Relays);
            events.push(ChannelEvent::FriendRelays(relays));
        }
        for (currency, step) in trial.steps {
            self.commit_step(currency, step, events);
        }
        Ok(())
    }

    /// Whether we applied it before; it is ignored then.
    fn is_duplicate(&self, header: &Header) -> Result<bool, Misbehaviour> {
        let core = &self.core;
        if header.epoch != core.epoch {
            return Err(Misbehaviour::OtherEpoch { ours: core.epoch, theirs: header.epoch });
        }
        if header.seq == core.applied.seq && header.head != core.applied.head {
            return Err(Misbehaviour::TwoBatches { seq: header.seq });
        }
        Ok(header.seq <= core.applied.seq)
    }

    fn check_header(&self, header: &Header, body: &[u8]) -> Result<(), Misbehaviour> {
        let core = &self.core;
        if mutant!(AcceptOldBatch) && header.seq <= core.applied.seq {
            return Ok(());
        }
        let expected = core.applied.seq.saturating_add(1);
        if header.seq != expected {
            return Err(Misbehaviour::Gap { expected, got: header.seq });
        }
        if header.ack < core.signed_for.seq {
            return Err(Misbehaviour::AckBackwards { ack: header.ack, before: core.signed_for.seq });
        }
        let ours = self.our_mark(header.ack);
        let ours = ours.ok_or(Misbehaviour::AckBeyond { ack: header.ack, last: core.made.seq })?;
        if ours.head != header.friend_head {
            return Err(Misbehaviour::OtherFriendHead);
        }
        if body_hash(body) != header.body_hash {
            return Err(Misbehaviour::OtherBody);
        }
        if next_head(&core.applied.head, &header.body_hash) != header.head {
            return Err(Misbehaviour::OtherHead);
        }
        Ok(())
    }

    fn try_content(
        &mut self,
        env: &Env<'_>,
        header: &Header,
        groups: List<CurrencyOperations, MAX_CURRENCIES>,
        list: Option<&List<Currency, MAX_CURRENCIES>>,
        trial: &mut Trial,
    ) -> Result<(), Misbehaviour> {
        self.try_acknowledged(header.ack, trial)?;
        for currency in list.into_iter().flatten() {
            if !self.currencies.contains_key(currency) {
                self.currencies.get_or_default(*currency);
                trial.created.push(*currency);
            }
        }
        trial.unlisted = self.unlisted_open();
        for CurrencyOperations { currency, operations } in groups {
            for operation in operations {
                let request_id = request_id(&operation);
                self.try_operation(env, header.ack, currency, operation, list, trial)
                    .map_err(|rule| Misbehaviour::Operation { currency, request_id, rule })?;
            }
        }
        if let Some(list) = list {
            self.check_removals(list)?;
        }
        let totals: Vec<_> = self.friends_totals().collect();
        if totals_hash(&totals) == header.totals_hash { Ok(()) } else { Err(Misbehaviour::OtherTotals) }
    }

    /// What a friend that lies would have to state after this batch, if everything else in it were right. Whoever asks has a
    /// copy: nothing is undone.
    #[cfg(any(test, feature = "fuzz"))]
    pub(super) fn totals_behind(&mut self, env: &Env<'_>, batch: &Batch) -> Option<Hash> {
        let (header, body) = (batch.decode_header().ok()?, batch.decode_body().ok()?);
        let content = self.try_content(env, &header, body.operations, body.currencies.as_ref(), &mut Trial::default());
        let totals: Vec<_> = self.friends_totals().collect();
        matches!(content, Ok(()) | Err(Misbehaviour::OtherTotals)).then(|| totals_hash(&totals))
    }

    /// What our batches up to `ack` changed, the friend knows now.
    fn try_acknowledged(&mut self, ack: u64, trial: &mut Trial) -> Result<(), Misbehaviour> {
        for unacked in self.unacked.iter().take_while(|unacked| unacked.mark.seq <= ack) {
            for (currency, delta) in &unacked.deltas {
                let state = self.currencies.get_or_default(*currency);
                trial.remember(*currency, state.seen);
                state.seen = state.seen.after(delta).ok_or(Misbehaviour::OtherTotals)?;
                if mutant!(HistoryCountedTwice) {
                    state.seen = state.seen.after(delta).unwrap_or(state.seen);
                }
            }
        }
        Ok(())
    }

    fn try_operation(
        &mut self,
        env: &Env<'_>,
        ack: u64,
        currency: Currency,
        operation: Operation,
        list: Option<&List<Currency, MAX_CURRENCIES>>,
        trial: &mut Trial,
    ) -> Result<(), BrokenRule> {
        let is_request = matches!(operation, Operation::Request(_));
        let unknown = if is_request { BrokenRule::NotListed } else { BrokenRule::UnknownRequest };
        let state = self.currencies.get_mut(&currency).ok_or(unknown)?;
        if is_request && !list.map_or(state.config.friend_lists, |list| list.binary_search(&currency).is_ok()) {
            return Err(BrokenRule::NotListed);
        }
        if is_request && !state.is_listed() {
            if trial.unlisted >= MAX_UNLISTED {
                return Err(BrokenRule::TooManyOpen);
            }
            trial.unlisted += 1;
        }
        let ended = self.crossing.get(&(currency, request_id(&operation)));
        let from = Incoming {
            currency,
            us: &self.us,
            friend: &self.friend,
            verifier: env.verifier,
            grant: state.grant(),
            ack,
            crossed: ended.is_some_and(|seq| *seq > ack),
        };
        let step = state.ledger.receive(&from, operation)?;
        let delta = state.ledger.delta_of(&step);
        trial.steps.push((currency, step));
        if delta != Delta::ZERO {
            trial.remember(currency, state.seen);
            state.seen = state.seen.after(&delta).ok_or(BrokenRule::Overflow)?;
        }
        Ok(())
    }

    /// Requests of the friend that are open in currencies that we do not list; each was refused, and its cancel waits.
    ///
    /// An honest friend makes none after it has heard our list, and hears it within one window of its batches. No currency
    /// leaves our list while one is open, so the windows of two lists do not add up.
    pub(super) fn unlisted_open(&self) -> usize {
        let unlisted = self.currencies.values().filter(|state| !state.is_listed());
        unlisted.map(|state| state.ledger.incoming().len()).sum()
    }

    /// What left the friend's list must have been free of balance and requests, as the friend knew it.
    fn check_removals(&self, list: &List<Currency, MAX_CURRENCIES>) -> Result<(), Misbehaviour> {
        let in_use = self.currencies.iter().find(|(currency, state)| {
            state.config.friend_lists && !state.seen.is_zero() && list.binary_search(currency).is_err()
        });
        in_use.map_or(Ok(()), |(currency, _)| Err(Misbehaviour::RemovedInUse(*currency)))
    }

    fn undo(&mut self, trial: Trial) {
        for (currency, step) in trial.steps.into_iter().rev() {
            if let Some(state) = self.currencies.get_mut(&currency) {
                state.ledger.undo(step);
            }
        }
        for (currency, seen) in trial.seen {
            if let Some(state) = self.currencies.get_mut(&currency) {
                state.seen = seen;
            }
        }
        for currency in trial.created {
            self.currencies.remove(&currency);
        }
    }

    /// The friend has signed for our batches up to `ack`.
    fn commit_acknowledged(&mut self, ack: u64, events: &mut Vec<ChannelEvent>) {
        let before = self.unacked.len();
        while self.unacked.front().is_some_and(|unacked| unacked.mark.seq <= ack) {
            let Some(unacked) = self.unacked.pop_front() else {
                return;
            };
            self.window_used -= usize::from(unacked.content.is_any() && !mutant!(WindowNeverFrees));
            self.core.signed_for = unacked.mark;
            self.dirty.say(Key::Batch(unacked.mark.seq));
            unacked.ended.iter().for_each(|key| {
                self.crossing.remove(key);
            });
            if unacked.content.relays && self.relays.said == Said::In(unacked.mark.seq) {
                self.relays.said = Said::Known;
                self.dirty.say(Key::Relays);
                events.push(ChannelEvent::RelaysAcknowledged);
            }
            if unacked.content.currencies {
                self.commit_our_removals(unacked.mark.seq, events);
            }
        }
        if before > 0 && self.unacked.is_empty() {
            // An idle friendship holds no room for batches.
            self.unacked = VecDeque::new();
        }
    }

    fn commit_our_removals(&mut self, seq: u64, events: &mut Vec<ChannelEvent>) {
        let left = |listing: &Listing| matches!(listing, Listing::Left(at) if *at == seq);
        let gone: Vec<_> = self
            .currencies
            .iter()
            .filter(|(_, state)| left(&state.config.listing))
            .map(|(currency, _)| *currency)
            .collect();
        for currency in gone {
            if let Some(state) = self.currencies.get_mut(&currency) {
                let friend_lists = state.config.friend_lists;
                state.config = super::CurrencyConfig { friend_lists, ..Default::default() };
                self.dirty.say(Key::Currency(currency));
            }
            self.forget_if_void(&currency);
            events.push(ChannelEvent::CurrencyRemoved(currency));
        }
    }

    fn commit_step(&mut self, currency: Currency, step: Step, events: &mut Vec<ChannelEvent>) {
        match step {
            Step::Requested(id) => {
                self.dirty.say(Key::Incoming((currency, id)));
                if let Some(open) = self.incoming(&currency, &id) {
                    events.push(ChannelEvent::Request { currency, request: open.request.clone() });
                }
            }
            Step::Refused(id, reason) => {
                self.dirty.say(Key::Incoming((currency, id)));
                self.cancel_refused(currency, refusal(id, reason));
            }
            Step::Answered(response) => {
                self.dirty.say(Key::Outgoing((currency, response.request_id)));
                events.push(ChannelEvent::Response { currency, response });
            }
            Step::Cancelled(cancel, open) => {
                self.dirty.say(Key::Outgoing((currency, cancel.request_id)));
                self.queue.drop_outgoing(&(currency, cancel.request_id));
                events.push(ChannelEvent::Cancelled { currency, cancel, request: open.request });
            }
            Step::Collected(collect, open) => {
                self.dirty.say(Key::Outgoing((currency, collect.request_id)));
                self.queue.drop_outgoing(&(currency, collect.request_id));
                if let Some(response) = open.response {
                    events.push(ChannelEvent::Collected { currency, collect, request: open.request, response });
                }
            }
            Step::Committed(commit) => {
                self.dirty.say(Key::Incoming((currency, commit.request_id)));
                let is_ending = self.is_ending(currency, commit.request_id);
                sometimes!("channel: a commit finds the end of its request queued", is_ending);
                if !is_ending {
                    events.push(ChannelEvent::Commit { currency, commit });
                }
            }
            Step::Withdrawn(withdraw) => {
                self.dirty.say(Key::Incoming((currency, withdraw.request_id)));
                let is_ending = self.is_ending(currency, withdraw.request_id);
                sometimes!("channel: a withdrawal finds the end of its request queued", is_ending);
                if !is_ending {
                    events.push(ChannelEvent::Withdraw { currency, withdraw });
                }
            }
            Step::Crossed => {}
        }
    }

    /// Whether the end of the friend's request waits in the queue.
    pub(crate) fn is_ending(&self, currency: Currency, id: RequestId) -> bool {
        self.queue.incoming(&(currency, id)).end.is_some()
    }

    fn commit_currencies(&mut self, list: &List<Currency, MAX_CURRENCIES>, events: &mut Vec<ChannelEvent>) {
        let mut gone = Vec::new();
        let mut is_changed = false;
        for (currency, state) in self.currencies.iter_mut() {
            let lists = list.binary_search(currency).is_ok();
            if lists != state.config.friend_lists {
                state.config.friend_lists = lists;
                self.dirty.say(Key::Currency(*currency));
                is_changed = true;
                if !lists {
                    gone.push(*currency);
                }
            }
        }
        if is_changed {
            events.push(ChannelEvent::CurrenciesChanged);
        }
        for currency in gone {
            self.drop_requests_where(|queued| *queued == currency, Refused::NotListed, events);
            self.forget_if_void(&currency);
        }
    }
}

/// The bounds and the order of a body: each currency once and sorted, no empty group, at most [`MAX_BATCH_OPS`] operations.
fn check_body(body: &Body) -> Result<(), Misbehaviour> {
    let groups = &body.operations;
    let is_sorted = groups.windows(2).all(|pair| pair[0].currency < pair[1].currency);
    let is_full = groups.iter().all(|group| !group.operations.is_empty());
    let count: usize = groups.iter().map(|group| group.operations.len()).sum();
    let list_is_sorted = body.currencies.iter().all(|list| list.windows(2).all(|pair| pair[0] < pair[1]));
    if is_sorted && is_full && count <= MAX_BATCH_OPS && list_is_sorted {
        Ok(())
    } else {
        Err(Misbehaviour::MalformedBody)
    }
}
