//! Two parties, a link that can break, disks that lose what was not flushed: for tests and fuzz targets.
// A step of a test that fails is a test that fails.
#![allow(clippy::unwrap_used)]
// Tests use all of it, targets do not.
#![cfg_attr(not(test), allow(dead_code))]

use std::collections::{BTreeMap, VecDeque};

use offset_protocol::bytes::{InvoiceId, Nonce, PlainLock};
use offset_protocol::friend::{CurrencyBalance, FriendMessage};
use offset_protocol::fuzz::Cheap;
use offset_protocol::identity::{Signer, Verified};
use offset_protocol::limits::MAX_AMOUNT;
use offset_protocol::machine::{Duration, Seed};
use offset_protocol::payment::{
    Cancel, CancelReason, Collect, CommitRequest, Request, Response, ResponseTerms, Withdraw,
};
use offset_protocol::persist::Change;

use super::*;

pub(super) const KEYS: [PublicKey; 2] = [PublicKey([1; 32]), PublicKey([2; 32])];
pub(super) const SELLER: PublicKey = PublicKey([7; 32]);
pub(super) const PREFIX: &[u8] = b"friend";

pub(super) fn usd() -> Currency {
    "USD".parse().unwrap()
}

pub(super) fn id(number: u64) -> RequestId {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    RequestId(bytes)
}

pub(super) fn lock(id: &RequestId, whose: u8) -> PlainLock {
    let mut bytes = [whose; 32];
    bytes[..16].copy_from_slice(&id.0);
    PlainLock(bytes)
}

pub(super) fn request(number: u64, amount: u128) -> Request {
    Request {
        request_id: id(number),
        src_hashed_lock: lock(&id(number), 1).hashed(),
        route: List::new(),
        dest_payment: amount,
        total_dest_payment: amount,
        invoice_id: InvoiceId([5; 16]),
        left_fees: 0,
    }
}

/// `seller`'s answer to `request`.
pub(super) fn response(request: &Request, seller: PublicKey, currency: Currency) -> Response {
    let mut response = Response {
        request_id: request.request_id,
        dest_hashed_lock: lock(&request.request_id, 2).hashed(),
        is_complete: true,
        nonce: Nonce([6; 16]),
        signature: Signature([0; 64]),
    };
    response.signature = Cheap(seller).sign(&ResponseTerms::new(request, &response, currency).hash());
    response
}

pub(super) fn collect(id: RequestId) -> Operation {
    Operation::Collect(Collect { request_id: id, src_plain_lock: lock(&id, 1), dest_plain_lock: lock(&id, 2) })
}

pub(super) fn cancel(id: RequestId) -> Operation {
    Operation::Cancel(Cancel { request_id: id, reason: CancelReason::Seller, hops: 0 })
}

pub(super) fn commit(id: RequestId) -> Operation {
    Operation::Commit(CommitRequest { request_id: id, src_plain_lock: lock(&id, 1) })
}

pub(super) fn withdraw(id: RequestId) -> Operation {
    Operation::Withdraw(Withdraw { request_id: id })
}

/// The whole remembered state of two channels is equal; the link is not remembered.
pub(super) fn assert_same(a: &Channel, b: &Channel) {
    assert_eq!(a.core, b.core);
    assert_eq!(a.state, b.state);
    assert_eq!(a.relays, b.relays);
    assert_eq!(a.currencies, b.currencies);
    assert_eq!(a.unacked, b.unacked);
    assert_eq!(a.window_used, b.window_used);
    assert_eq!(a.crossing, b.crossing);
    assert_eq!(a.old_evidence, b.old_evidence);
    a.queue.assert_same(&b.queue);
}

pub(super) fn totals(channel: &Channel, currency: &Currency) -> Totals {
    channel.currencies.get(currency).map(|state| *state.ledger.totals()).unwrap_or_default()
}

/// How a round ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Speaks,
    CrashesBeforePersist,
    CrashesAfterPersist,
}

/// What a node would remember of the requests of one friendship.
#[derive(Clone, Debug, Default)]
pub(super) struct App {
    /// Our requests: how they ended, if they did.
    pub(super) ours: BTreeMap<RequestId, Option<&'static str>>,
    /// What we collected less what was collected of us, per currency, and what was agreed when an epoch began.
    pub(super) earned: BTreeMap<Currency, i128>,
    pub(super) events: Vec<ChannelEvent>,
}

impl App {
    fn end(&mut self, id: RequestId, how: &'static str) {
        let before = self.ours.insert(id, Some(how));
        assert_eq!(before, Some(None), "request {id:?} ended twice, or was never ours");
    }

    fn note(&mut self, event: ChannelEvent) {
        match &event {
            ChannelEvent::Cancelled { request, .. } => self.end(request.request_id, "cancelled"),
            ChannelEvent::Dropped { request, .. } => self.end(request.request_id, "dropped"),
            ChannelEvent::Collected { currency, request, .. } => {
                self.end(request.request_id, "collected");
                *self.earned.entry(*currency).or_default() -= (request.dest_payment + request.left_fees) as i128;
            }
            ChannelEvent::BecameInconsistent { outgoing_lost, .. } => {
                outgoing_lost.iter().for_each(|(_, id)| self.end(*id, "lost"));
            }
            _ => {}
        }
        self.events.push(event);
    }
}

pub(super) struct Party {
    pub(super) channel: Channel,
    pub(super) disk: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(super) app: App,
    pub(super) durable_app: App,
    pub(super) rng: Rng,
    /// Our terms and the friend's, as they stood before the last thing that happened.
    terms: [Option<ResetTerms>; 2],
    /// Header bytes of every batch that was ever sent.
    said: BTreeMap<(u64, u64), Batch>,
}

/// What a user copied from a node's disk.
pub(super) struct Backup {
    disk: BTreeMap<Vec<u8>, Vec<u8>>,
    app: App,
    made: (u64, u64),
}

pub(super) struct Pair {
    pub(super) now: Instant,
    pub(super) parties: [Party; 2],
    /// Messages on their way to each.
    pub(super) wire: [VecDeque<FriendMessage>; 2],
    pub(super) is_linked: bool,
    /// A channel has asked to end the link since somebody looked.
    pub(super) wants_no_link: bool,
}

impl Party {
    pub(super) fn new(us: PublicKey, friend: PublicKey) -> Party {
        let mut party = Party {
            channel: Channel::new(us, friend, List::new()),
            disk: BTreeMap::new(),
            app: App::default(),
            durable_app: App::default(),
            rng: Seed::from_number(u64::from(us.0[0])).rng(),
            terms: [None, None],
            said: BTreeMap::new(),
        };
        party.persist();
        party
    }

    pub(super) fn persist(&mut self) {
        let mut changes = Vec::new();
        self.channel.take_changes(PREFIX, &mut changes);
        for Change { key, value } in changes {
            match value {
                Some(value) => self.disk.insert(key, value),
                None => self.disk.remove(&key),
            };
        }
        self.durable_app = self.app.clone();
    }

    pub(super) fn restored(&self) -> Channel {
        let records = self.disk.iter().map(|(key, value)| (key[PREFIX.len()..].to_vec(), value.clone()));
        Channel::restore(self.channel.us(), self.channel.friend(), records).unwrap()
    }

    pub(super) fn backup(&self) -> Backup {
        let core = self.restored().core;
        Backup { disk: self.disk.clone(), app: self.durable_app.clone(), made: (core.epoch, core.made.seq) }
    }

    /// An old database takes the place of the present one. What it forgot that it said, it may say otherwise.
    pub(super) fn restore_backup(&mut self, backup: &Backup) {
        self.disk = backup.disk.clone();
        self.durable_app = backup.app.clone();
        self.said.retain(|number, _| *number <= backup.made);
    }

    pub(super) fn note(&mut self, events: Vec<ChannelEvent>) {
        for event in events {
            if let ChannelEvent::ResetDone { terms, .. } = &event {
                let (sign, agreed) = match terms {
                    TermsOf::Us => (1, &self.terms[0]),
                    TermsOf::Friend => (-1, &self.terms[1]),
                };
                let agreed = agreed.iter().flat_map(|terms| &terms.balances[..]);
                let balance = |stated: &CurrencyBalance| (stated.currency, sign * stated.balance);
                self.app.earned = agreed.map(balance).collect();
            }
            self.app.note(event);
        }
    }

    /// Remembers what both state before something happens that may settle a dispute.
    pub(super) fn read_terms(&mut self) {
        self.terms = match &self.channel.state {
            State::Consistent => [None, None],
            State::Unconfirmed(unconfirmed) => [Some(unconfirmed.ours.clone()), Some(unconfirmed.theirs.clone())],
            State::Inconsistent(dispute) => [Some(dispute.ours.clone()), dispute.theirs.clone()],
        };
    }
}

impl Pair {
    /// Two friends who have not met.
    pub(super) fn new() -> Pair {
        Pair {
            now: Instant::from_micros(1),
            parties: [Party::new(KEYS[0], KEYS[1]), Party::new(KEYS[1], KEYS[0])],
            wire: Default::default(),
            is_linked: false,
            wants_no_link: false,
        }
    }

    /// Two friends with an open currency, large limits and an idle link.
    pub(super) fn open() -> Pair {
        let mut pair = Pair::new();
        for party in &mut pair.parties {
            party.channel.open_currency(usd()).unwrap();
            party.channel.set_max_debt(usd(), MAX_AMOUNT / 4).unwrap();
        }
        pair.link();
        pair.settle();
        pair
    }

    pub(super) fn channel(&mut self, who: usize) -> &mut Channel {
        &mut self.parties[who].channel
    }

    pub(super) fn events(&mut self, who: usize) -> Vec<ChannelEvent> {
        std::mem::take(&mut self.parties[who].app.events)
    }

    pub(super) fn link(&mut self) {
        self.is_linked = true;
        self.parties.iter_mut().for_each(|party| party.channel.link_up());
    }

    pub(super) fn unlink(&mut self) {
        self.is_linked = false;
        self.wants_no_link = false;
        self.wire = Default::default();
        for party in &mut self.parties {
            let mut events = Vec::new();
            party.channel.link_down(&mut events);
            party.note(events);
        }
    }

    pub(super) fn enqueue(&mut self, who: usize, operation: Operation) -> Result<Enqueued, Refused> {
        self.enqueue_in(who, usd(), operation)
    }

    pub(super) fn enqueue_in(
        &mut self,
        who: usize,
        currency: Currency,
        operation: Operation,
    ) -> Result<Enqueued, Refused> {
        self.enqueue_from(who, currency, Origin::Own, operation)
    }

    pub(super) fn enqueue_from(
        &mut self,
        who: usize,
        currency: Currency,
        origin: Origin,
        operation: Operation,
    ) -> Result<Enqueued, Refused> {
        let party = &mut self.parties[who];
        let earns = match &operation {
            Operation::Collect(collect) => {
                party.channel.incoming(&currency, &collect.request_id).map(OpenRequest::frozen)
            }
            _ => None,
        };
        let asks = if let Operation::Request(request) = &operation { Some(request.request_id) } else { None };
        let result = party.channel.enqueue(currency, origin, operation);
        match &result {
            Ok(Enqueued::Queued) => {
                *party.app.earned.entry(currency).or_default() += earns.unwrap_or(0) as i128;
                if let Some(id) = asks {
                    party.app.ours.insert(id, None);
                }
            }
            Ok(Enqueued::Undone(request)) => party.app.end(request.request_id, "undone"),
            Err(_) => {}
        }
        result
    }

    /// One side's round: it speaks, flushes, and what it said is on its way; or it crashes.
    pub(super) fn round(&mut self, who: usize, end: End) {
        let (now, party) = (self.now, &mut self.parties[who]);
        let mut messages = Vec::new();
        party.channel.make_messages(now, &Cheap(KEYS[who]), &mut messages);
        if end != End::CrashesBeforePersist {
            party.persist();
            assert_same(&party.restored(), &party.channel);
            let mut found = crate::inspection::Inspection::default();
            party.channel.inspect(&Cheap(KEYS[who]), &mut found);
            assert!(found.is_sound(), "{:#?}", found.findings);
        }
        if end != End::Speaks {
            party.channel = party.restored();
            party.app = party.durable_app.clone();
            // What a node does when it starts again: nobody waits for these for ever.
            let mut events = Vec::new();
            party.channel.drop_unsent_requests(Refused::Offline, &mut events);
            party.note(events);
            if self.is_linked {
                self.unlink();
            }
            return;
        }
        for message in messages {
            if let FriendMessage::Batch(batch) = &message {
                let header = batch.decode_header().unwrap();
                let before = party.said.insert((header.epoch, header.seq), batch.clone());
                assert!(before.is_none_or(|before| before == *batch), "two batches of one number");
            }
            if self.is_linked {
                self.wire[1 - who].push_back(message);
            }
        }
    }

    /// One message arrives.
    pub(super) fn deliver(&mut self, to: usize) -> bool {
        let Some(message) = self.wire[to].pop_front() else {
            return false;
        };
        self.hand(to, message);
        true
    }

    pub(super) fn hand(&mut self, to: usize, message: FriendMessage) {
        let party = &mut self.parties[to];
        party.read_terms();
        let verifier = Cheap(KEYS[to]);
        let mut env = Env { now: self.now, verifier: &verifier, rng: &mut party.rng };
        let mut events = Vec::new();
        let from = KEYS[1 - to];
        match message {
            FriendMessage::Resume(resume) => party.channel.on_resume(&mut env, &resume, &mut events),
            FriendMessage::Batch(batch) => {
                let batch = Verified::check(batch, from, &KEYS[to], &verifier).unwrap();
                party.channel.on_batch(&mut env, batch, &mut events);
            }
            FriendMessage::Inconsistent(terms) => party.channel.on_inconsistent(&mut env, terms, &mut events),
            FriendMessage::Limits(limits) => party.channel.on_limits(self.now, &limits),
            FriendMessage::Reset(reset) => {
                let reset = Verified::check(reset, from, &KEYS[to], &verifier).unwrap();
                party.channel.on_reset(&mut env, reset, &mut events);
            }
        }
        self.wants_no_link |= events.iter().any(|event| matches!(event, ChannelEvent::DropLink(_)));
        for event in &events {
            if let ChannelEvent::Request { currency, .. } = event {
                let state = &party.channel.currencies[currency];
                let exposure = state.ledger.totals().balance + state.ledger.accepted_frozen() as i128;
                assert!(exposure <= state.config.max_debt as i128, "accepted beyond the limit");
            }
        }
        if let Some(evidence) = party.channel.evidence() {
            evidence.verify(&verifier).unwrap();
        }
        party.note(events);
    }

    pub(super) fn forge(&mut self, who: usize) {
        let party = &mut self.parties[who];
        let verifier = Cheap(KEYS[who]);
        let mut events = Vec::new();
        party.channel.on_forged(&mut Env { now: self.now, verifier: &verifier, rng: &mut party.rng }, &mut events);
        party.note(events);
    }

    /// Rounds and deliveries until nobody has anything to say, alarms included, or a channel asks for the link to end.
    pub(super) fn settle(&mut self) {
        for _ in 0..2_000 {
            self.round(0, End::Speaks);
            self.round(1, End::Speaks);
            let mut is_quiet = self.wire.iter().all(VecDeque::is_empty);
            while !self.wants_no_link && (self.deliver(0) || self.deliver(1)) {}
            if self.wants_no_link {
                return;
            }
            if is_quiet {
                let alarms = self.parties.iter().filter_map(|party| party.channel.poll_timeout());
                if let Some(at) = alarms.map(|alarm| alarm.at).min() {
                    assert!(at > self.now, "a due alarm that a round did not serve");
                    self.now = at;
                    is_quiet = false;
                }
            }
            if is_quiet {
                return;
            }
        }
        panic!("the friends never come to rest");
    }

    pub(super) fn wait(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
    }

    /// Everything was said: each knows the other's lists.
    pub(super) fn assert_lists_known(&self) {
        let [a, b] = [&self.parties[0].channel, &self.parties[1].channel];
        for (x, y) in [(a, b), (b, a)] {
            let known: Vec<_> = x.currencies().filter(|report| report.friend_listed).map(|c| c.currency).collect();
            let listed: Vec<_> = y.currencies().filter(|report| report.listed).map(|c| c.currency).collect();
            assert_eq!(known, listed);
            assert_eq!(x.friend_relays(), y.our_relays());
        }
    }

    /// Both logs are delivered: what the two sides hold is each other's mirror.
    pub(super) fn assert_mirrored(&self) {
        let [a, b] = [&self.parties[0].channel, &self.parties[1].channel];
        assert_eq!((a.core.made, a.core.applied), (b.core.applied, b.core.made));
        let currencies = a.currencies.keys().chain(b.currencies.keys());
        for currency in currencies {
            let (ours, friends) = (totals(a, currency), totals(b, currency));
            assert_eq!(ours.mirrored(*currency), Some(friends.named(*currency)));
        }
        for (x, y) in [(a, b), (b, a)] {
            for (currency, open) in x.all_outgoing() {
                let other = y.incoming(&currency, &open.request.request_id).unwrap();
                assert_eq!((open.frozen(), &open.response), (other.frozen(), &other.response));
                assert_eq!((open.committed, open.withdrawn), (other.committed, other.withdrawn));
            }
            assert_eq!(x.all_outgoing().count(), y.all_incoming().count());
            if x.is_resumed() && y.is_resumed() {
                for (currency, state) in x.currencies.iter().filter(|(_, state)| state.is_listed()) {
                    assert_eq!(y.allowance(currency), x.allowance_ahead(currency), "in {currency}");
                    assert_eq!(y.friends_limit(currency), state.config.max_debt, "in {currency}");
                }
            }
            for (currency, state) in &x.currencies {
                let frozen: u128 = state.ledger.incoming().values().map(|open| open.frozen()).sum();
                assert_eq!(frozen, state.ledger.totals().in_frozen, "in {currency}");
            }
        }
    }
}
