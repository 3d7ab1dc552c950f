//! What waits to be signed: three queues in one map, in the order in which batches take from it.
//!
//! Answers cannot be refused for lack of room: there are at most two for each open incoming request. Commits and
//! withdrawals cannot either: at most one of each for each open outgoing request. Requests have a bound per origin.

use std::collections::BTreeSet;

use offset_protocol::bytes::RequestId;
use offset_protocol::friend::Operation;
use offset_protocol::money::Currency;
use offset_protocol::payment::Request;
use offset_protocol::{buggify, mutant, sometimes, wire_struct};

use super::event::Origin;
use crate::ledger::Sums;
use offset_protocol::lean::LeanMap;

/// Requests of one origin that may wait for one friend. Chosen freely: two full batches.
pub const MAX_QUEUED_REQUESTS: usize = 1_024;

/// A request of one currency.
pub(super) type RequestKey = (Currency, RequestId);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    Answer,
    Forwarded,
    Own,
}

/// The place of an entry: class by class, oldest first. Numbers are never used again while an entry lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct QueueKey {
    pub(super) class: Class,
    pub(super) number: u64,
}

wire_struct! {
    /// An operation that waits.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub(super) struct Waiting {
        pub(super) currency: Currency,
        pub(super) operation: Operation,
    }
}

/// What waits for one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pending {
    pub(super) request: Option<QueueKey>,
    pub(super) response: Option<QueueKey>,
    pub(super) end: Option<QueueKey>,
    pub(super) commit: Option<QueueKey>,
    pub(super) withdraw: Option<QueueKey>,
}

/// The requests of one currency that wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct WaitingRequests {
    pub(super) count: usize,
    pub(super) frozen: u128,
    /// Those that go on from the friend.
    pub(super) onward: Sums,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Queue {
    /// `None`: nothing waits, as in most friendships at any time.
    waits: Option<Box<Waits>>,
    next: u64,
    /// Entries from this number on were never written to storage.
    unstored: u64,
    /// What was put in or taken out since storage was told; may stand here twice.
    dirty: Vec<QueueKey>,
}

/// Everything that waits.
#[derive(Clone, Debug, Default)]
struct Waits {
    entries: LeanMap<QueueKey, Waiting>,
    /// Answers, by the incoming request that they are about.
    incoming: LeanMap<RequestKey, Pending>,
    /// Requests, commits, withdrawals, by the outgoing request.
    outgoing: LeanMap<RequestKey, Pending>,
    requests: LeanMap<Currency, WaitingRequests>,
    forwarded: usize,
    own: usize,
}

impl Class {
    pub(super) fn of(origin: Origin, operation: &Operation) -> Class {
        match (operation, origin) {
            (Operation::Response(_) | Operation::Cancel(_) | Operation::Collect(_), _) => Class::Answer,
            (Operation::Request(_) | Operation::Commit(_) | Operation::Withdraw(_), Origin::Forwarded) => {
                Class::Forwarded
            }
            (Operation::Request(_) | Operation::Commit(_) | Operation::Withdraw(_), Origin::Own) => Class::Own,
        }
    }

    pub(super) fn origin(self) -> Origin {
        match self {
            Class::Answer | Class::Forwarded => Origin::Forwarded,
            Class::Own => Origin::Own,
        }
    }

    pub(super) fn tag(self) -> u8 {
        match self {
            Class::Answer => 1,
            Class::Forwarded => 2,
            Class::Own => 3,
        }
    }

    pub(super) fn from_tag(tag: u8) -> Option<Class> {
        [Class::Answer, Class::Forwarded, Class::Own].into_iter().find(|class| class.tag() == tag)
    }
}

pub(super) fn request_id(operation: &Operation) -> RequestId {
    match operation {
        Operation::Request(request) => request.request_id,
        Operation::Response(response) => response.request_id,
        Operation::Cancel(cancel) => cancel.request_id,
        Operation::Commit(commit) => commit.request_id,
        Operation::Withdraw(withdraw) => withdraw.request_id,
        Operation::Collect(collect) => collect.request_id,
    }
}

fn frozen(request: &Request) -> u128 {
    request.dest_payment.saturating_add(request.left_fees)
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.waits.is_none()
    }

    pub(super) fn push(&mut self, class: Class, waiting: Waiting) {
        let key = QueueKey { class, number: self.next };
        self.insert(key, waiting);
        self.dirty.push(key);
    }

    /// Puts back an entry that storage kept.
    pub(super) fn restore(&mut self, key: QueueKey, waiting: Waiting) {
        self.insert(key, waiting);
        self.unstored = self.next;
    }

    fn insert(&mut self, key: QueueKey, waiting: Waiting) {
        self.next = self.next.max(key.number.saturating_add(1));
        self.waits.get_or_insert_default().insert(key, waiting);
    }

    /// The next entry in the order of a batch.
    pub(super) fn first(&self) -> Option<(QueueKey, &Waiting)> {
        self.waits.as_ref()?.entries.first_key_value().map(|(key, waiting)| (*key, waiting))
    }

    pub(super) fn get(&self, key: &QueueKey) -> Option<&Waiting> {
        self.waits.as_ref()?.entries.get(key)
    }

    pub(super) fn remove(&mut self, key: QueueKey) -> Option<Waiting> {
        let waits = self.waits.as_mut()?;
        let waiting = waits.remove(key)?;
        if waits.entries.is_empty() {
            self.waits = None;
        }
        self.dirty.push(key);
        Some(waiting)
    }

    /// An outgoing request has ended: what waits to be said about it is not said any more.
    pub(super) fn drop_outgoing(&mut self, key: &RequestKey) {
        let Pending { commit, withdraw, .. } = self.outgoing(key);
        for late in [commit, withdraw].into_iter().flatten() {
            sometimes!("channel: a commit or withdrawal comes too late to be signed", true);
            self.remove(late);
        }
    }

    /// What waits about an incoming request.
    pub(super) fn incoming(&self, key: &RequestKey) -> Pending {
        self.waits.as_ref().and_then(|waits| waits.incoming.get(key)).copied().unwrap_or_default()
    }

    /// What waits about an outgoing request.
    pub(super) fn outgoing(&self, key: &RequestKey) -> Pending {
        self.waits.as_ref().and_then(|waits| waits.outgoing.get(key)).copied().unwrap_or_default()
    }

    pub(super) fn is_full(&self, origin: Origin) -> bool {
        let waiting = self.requests_of(origin);
        sometimes!("channel: a queue of requests is full", waiting >= MAX_QUEUED_REQUESTS);
        let is_full = waiting >= MAX_QUEUED_REQUESTS || waiting > 0 && buggify!("channel: room for one request", 200);
        is_full && !mutant!(QueueLimitIgnored)
    }

    /// Requests of one origin that wait.
    pub(super) fn requests_of(&self, origin: Origin) -> usize {
        self.waits.as_ref().map_or(0, |waits| match origin {
            Origin::Forwarded => waits.forwarded,
            Origin::Own => waits.own,
        })
    }

    pub(super) fn requests(&self, currency: &Currency) -> WaitingRequests {
        self.waits.as_ref().and_then(|waits| waits.requests.get(currency)).copied().unwrap_or_default()
    }

    /// Requests of either origin that wait.
    pub(super) fn waiting_requests(&self) -> usize {
        self.waits.as_ref().map_or(0, |waits| waits.forwarded + waits.own)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&QueueKey, &Waiting)> {
        self.waits.iter().flat_map(|waits| waits.entries.iter())
    }

    /// The requests that wait, of either origin.
    pub(super) fn all_requests(&self) -> impl Iterator<Item = (Currency, &Request)> {
        self.iter().filter_map(|(_, waiting)| match &waiting.operation {
            Operation::Request(request) => Some((waiting.currency, request)),
            _ => None,
        })
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waits.as_ref().map_or(0, |waits| waits.entries.len())
    }

    /// Takes out all requests that `wanted` names. Looks at everything that waits: for events that are rare.
    pub(super) fn take_requests(&mut self, wanted: impl Fn(&Currency) -> bool) -> Vec<(QueueKey, Currency, Request)> {
        let is_wanted =
            |waiting: &Waiting| matches!(waiting.operation, Operation::Request(_)) && wanted(&waiting.currency);
        let keys: Vec<_> = self.iter().filter(|(_, waiting)| is_wanted(waiting)).map(|(key, _)| *key).collect();
        let mut taken = Vec::with_capacity(keys.len());
        for key in keys {
            if let Some(Waiting { currency, operation: Operation::Request(request) }) = self.remove(key) {
                taken.push((key, currency, request));
            }
        }
        taken
    }

    /// Forgets everything; gives the requests.
    pub(super) fn clear(&mut self) -> Vec<RequestKey> {
        let Some(waits) = self.waits.take() else { return Vec::new() };
        self.dirty.extend(waits.entries.keys());
        waits.outgoing.iter().filter(|(_, pending)| pending.request.is_some()).map(|(key, _)| *key).collect()
    }

    /// The entries that storage may hold.
    pub(super) fn stored_keys(&self) -> BTreeSet<QueueKey> {
        let keys = self.iter().map(|(key, _)| key).chain(&self.dirty).copied();
        keys.filter(|key| key.number < self.unstored).collect()
    }

    /// Nobody keeps records: there is nothing to write. Says whether there was.
    pub(super) fn forget_dirty(&mut self) -> bool {
        let unstored = std::mem::replace(&mut self.unstored, self.next);
        let dirty = std::mem::take(&mut self.dirty);
        dirty.iter().any(|key| self.get(key).is_some() || key.number < unstored)
    }

    /// The entries that storage must write (`Some`) or remove.
    pub(super) fn take_dirty(&mut self) -> Vec<(QueueKey, Option<&Waiting>)> {
        let mut dirty = std::mem::take(&mut self.dirty);
        dirty.sort_unstable();
        dirty.dedup();
        let unstored = std::mem::replace(&mut self.unstored, self.next);
        dirty
            .into_iter()
            .map(|key| (key, self.get(&key)))
            .filter(|(key, waiting)| waiting.is_some() || key.number < unstored)
            .collect()
    }
}

impl Waits {
    fn insert(&mut self, key: QueueKey, waiting: Waiting) {
        *self.slot(waiting.currency, &waiting.operation) = Some(key);
        if let Operation::Request(request) = &waiting.operation {
            let sums = self.requests.get_or_default(waiting.currency);
            sums.count += 1;
            sums.frozen = sums.frozen.saturating_add(frozen(request));
            if !request.route.is_empty() {
                sums.onward.add(frozen(request));
            }
            *self.counter(key.class) += 1;
        }
        self.entries.insert(key, waiting);
    }

    fn remove(&mut self, key: QueueKey) -> Option<Waiting> {
        let waiting = self.entries.remove(&key)?;
        *self.slot(waiting.currency, &waiting.operation) = None;
        let request_key = (waiting.currency, request_id(&waiting.operation));
        for side in [&mut self.incoming, &mut self.outgoing] {
            if side.get(&request_key) == Some(&Pending::default()) {
                side.remove(&request_key);
            }
        }
        if let Operation::Request(request) = &waiting.operation {
            if let Some(sums) = self.requests.get_mut(&waiting.currency) {
                sums.count -= 1;
                sums.frozen = sums.frozen.saturating_sub(frozen(request));
                if !request.route.is_empty() {
                    sums.onward.take(frozen(request));
                }
                if sums.count == 0 {
                    self.requests.remove(&waiting.currency);
                }
            }
            *self.counter(key.class) -= 1;
        }
        Some(waiting)
    }

    fn counter(&mut self, class: Class) -> &mut usize {
        match class.origin() {
            Origin::Forwarded => &mut self.forwarded,
            Origin::Own => &mut self.own,
        }
    }

    fn slot(&mut self, currency: Currency, operation: &Operation) -> &mut Option<QueueKey> {
        let key = (currency, request_id(operation));
        match operation {
            Operation::Request(_) => &mut self.outgoing.get_or_default(key).request,
            Operation::Commit(_) => &mut self.outgoing.get_or_default(key).commit,
            Operation::Withdraw(_) => &mut self.outgoing.get_or_default(key).withdraw,
            Operation::Response(_) => &mut self.incoming.get_or_default(key).response,
            Operation::Cancel(_) | Operation::Collect(_) => &mut self.incoming.get_or_default(key).end,
        }
    }
}

#[cfg(any(test, feature = "fuzz"))]
impl Queue {
    /// The same entries and the same indices.
    pub(super) fn assert_same(&self, other: &Queue) {
        assert!(self.iter().eq(other.iter()));
        let (Some(one), Some(two)) = (&self.waits, &other.waits) else {
            return assert!(self.is_empty() && other.is_empty());
        };
        assert_eq!((&one.incoming, &one.outgoing), (&two.incoming, &two.outgoing));
        assert_eq!(one.requests, two.requests);
        assert_eq!((one.forwarded, one.own), (two.forwarded, two.own));
    }
}
