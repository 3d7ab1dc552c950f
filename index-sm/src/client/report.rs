//! The node's report: what it is, what the server was last told, and whether the difference can wait.
//!
//! Versions outlive the process: a version must never be used twice for two different reports. They are reserved in blocks:
//! the node writes the end of a block to its database before a version of it leaves; after a crash it starts behind the block.

use std::collections::{BTreeMap, BTreeSet};

use offset_protocol::bytes::{Hash, PublicKey};
use offset_protocol::codec::List;
use offset_protocol::index::{Attestation, Delta, Entry, EntryKey, EntryValue, NodeToIndex, State, state_hash};
use offset_protocol::limits::{MAX_AMOUNT, MAX_DELTA_ENTRIES, MAX_INDEX_CURRENCIES, MAX_INDEX_ENTRIES};
use offset_protocol::money::Currency;
use offset_protocol::mutant;

use super::EntryRefusal;

/// Versions that the node reserves at once. Chosen freely: with one change a second, one disk write in a quarter of an hour.
pub const VERSION_BLOCK: u64 = 1_000;
/// A capacity that changed by less than this part of what was reported waits for the heartbeat: 1 %.
const SMALL_CHANGE: u128 = 100;

pub(crate) struct Reporter {
    node: PublicKey,
    entries: BTreeMap<EntryKey, EntryValue>,
    /// How many entries are in each currency.
    currencies: BTreeMap<Currency, usize>,
    /// What the last report of this process said.
    told: BTreeMap<EntryKey, EntryValue>,
    /// Where `entries` and `told` differ.
    changed: BTreeSet<EntryKey>,
    /// Those of `changed` that do not wait for the heartbeat.
    urgent: BTreeSet<EntryKey>,
    /// Of the last report; its hash.
    last: Option<(u64, Hash)>,
    next_version: u64,
    reserved_below: u64,
}

impl Reporter {
    pub(crate) fn new(node: PublicKey, reserved_below: u64) -> Self {
        Reporter {
            node,
            entries: BTreeMap::new(),
            currencies: BTreeMap::new(),
            told: BTreeMap::new(),
            changed: BTreeSet::new(),
            urgent: BTreeSet::new(),
            last: None,
            next_version: if mutant!(VersionsUsedTwice) { 0 } else { reserved_below },
            reserved_below,
        }
    }

    pub(crate) fn set(&mut self, entry: &Entry) -> Result<(), EntryRefusal> {
        let key = entry.key();
        if key.friend == self.node {
            return Err(EntryRefusal::Itself);
        }
        if !self.entries.contains_key(&key) {
            if self.entries.len() >= MAX_INDEX_ENTRIES {
                return Err(EntryRefusal::TooMany);
            }
            // A server would ignore the whole report.
            if self.currencies.len() >= MAX_INDEX_CURRENCIES && !self.currencies.contains_key(&key.currency) {
                return Err(EntryRefusal::TooManyCurrencies);
            }
            *self.currencies.entry(key.currency).or_default() += 1;
        }
        self.entries.insert(key, accepted(entry));
        self.compare(key);
        Ok(())
    }

    pub(crate) fn remove(&mut self, key: EntryKey) {
        if !mutant!(RemovalNotReported)
            && self.entries.remove(&key).is_some()
            && let Some(left) = self.currencies.get_mut(&key.currency)
        {
            *left -= 1;
            if *left == 0 {
                self.currencies.remove(&key.currency);
            }
        }
        self.compare(key);
    }

    /// Whether there is news that does not wait for the heartbeat.
    pub(crate) fn is_urgent(&self) -> bool {
        !self.urgent.is_empty()
    }

    /// Whether the next report may leave: it needs no new version, or there is one.
    pub(crate) fn has_version(&self) -> bool {
        (self.last.is_some() && self.changed.is_empty()) || self.next_version < self.reserved_below
    }

    /// The end of the block to reserve, when half of the last block is used up.
    pub(crate) fn block_to_reserve(&self) -> Option<u64> {
        let left = self.reserved_below.saturating_sub(self.next_version);
        let behind = self.reserved_below.max(self.next_version);
        (left <= VERSION_BLOCK / 2).then(|| behind.saturating_add(VERSION_BLOCK))
    }

    /// A version was used that this process does not know of: the next one is behind it, and the server gets everything.
    /// Says whether that is news.
    pub(crate) fn overtake(&mut self, used: u64) -> bool {
        if used < self.next_version {
            return false;
        }
        self.next_version = used.saturating_add(1);
        self.last = None;
        true
    }

    /// Versions below this are the node's for good.
    pub(crate) fn reserved(&mut self, below: u64) {
        self.reserved_below = self.reserved_below.max(below);
    }

    /// The whole report; `None` if it needs a version and there is none.
    pub(crate) fn state(&mut self, sign: impl Fn(u64, Hash) -> Attestation) -> Option<NodeToIndex> {
        let (_, version, hash) = self.advance()?;
        let entries = List::truncated(self.listed());
        Some(NodeToIndex::State(State { attestation: sign(version, hash), entries }))
    }

    /// What the server needs to be in step: a delta, or just the word that nothing changed, or everything if too much
    /// changed; `None` if it needs a version and there is none.
    pub(crate) fn update(&mut self, sign: impl Fn(u64, Hash) -> Attestation) -> Option<NodeToIndex> {
        if self.last.is_none() || self.changed.len() > MAX_DELTA_ENTRIES {
            return self.state(sign);
        }
        if self.changed.is_empty() {
            let (version, hash) = self.last?;
            return Some(NodeToIndex::Attestation(sign(version, hash)));
        }
        let entry = |key: &EntryKey| self.entries.get(key).map(|value| key.entry(*value));
        let set = List::truncated(self.changed.iter().filter_map(entry));
        let removed = List::truncated(self.changed.iter().filter(|key| !self.entries.contains_key(key)).copied());
        let (base, version, hash) = self.advance()?;
        Some(NodeToIndex::Delta(Delta { attestation: sign(version, hash), base, set, removed }))
    }

    /// The word that the last report stands.
    pub(crate) fn stand(&self, sign: impl Fn(u64, Hash) -> Attestation) -> Option<NodeToIndex> {
        self.last.map(|(version, hash)| NodeToIndex::Attestation(sign(version, hash)))
    }

    /// Takes the next version if anything changed, and counts all changes as told. Returns the version before, the version
    /// now, and the hash of the report.
    fn advance(&mut self) -> Option<(u64, u64, Hash)> {
        if let Some((version, hash)) = self.last
            && self.changed.is_empty()
        {
            return Some((version, version, hash));
        }
        if self.next_version >= self.reserved_below {
            return None;
        }
        let version = self.next_version;
        self.next_version += 1;
        for key in std::mem::take(&mut self.changed) {
            match self.entries.get(&key) {
                Some(value) => self.told.insert(key, *value),
                None => self.told.remove(&key),
            };
        }
        self.urgent.clear();
        let hash = state_hash(&self.listed().collect::<Vec<_>>());
        let before = self.last.replace((version, hash)).map_or(version, |(before, _)| before);
        Some((before, version, hash))
    }

    fn listed(&self) -> impl Iterator<Item = Entry> + '_ {
        self.entries.iter().map(|(key, value)| key.entry(*value))
    }

    fn compare(&mut self, key: EntryKey) {
        let (now, told) = (self.entries.get(&key), self.told.get(&key));
        if now == told {
            self.changed.remove(&key);
            self.urgent.remove(&key);
            return;
        }
        self.changed.insert(key);
        if is_small(told, now) {
            self.urgent.remove(&key);
        } else {
            self.urgent.insert(key);
        }
    }
}

/// What of the entry a server accepts.
fn accepted(entry: &Entry) -> EntryValue {
    Entry { recv_capacity: entry.recv_capacity.min(MAX_AMOUNT), ..*entry }.forwarding(entry.forward_capacity).value()
}

/// Whether only capacities changed, by less than 1 %, and the edge neither opened nor closed, neither to what ends at the node
/// nor to what goes on.
fn is_small(told: Option<&EntryValue>, now: Option<&EntryValue>) -> bool {
    let (Some(told), Some(now)) = (told, now) else { return false };
    let is_little = |before: u128, after: u128| {
        let change = before.abs_diff(after);
        change == 0 || before > 0 && after > 0 && change.saturating_mul(SMALL_CHANGE) < before
    };
    told.rate == now.rate
        && is_little(told.recv_capacity, now.recv_capacity)
        && is_little(told.forward_capacity, now.forward_capacity)
}
