//! An ordered set of deadlines, at most one for each key: set, clear, next and due cost a look-up each.

use std::collections::{BTreeMap, BTreeSet};

use offset_protocol::machine::Instant;

/// Deadlines by key.
#[derive(Debug)]
pub(super) struct Deadlines<K> {
    queue: BTreeSet<(Instant, K)>,
    at: BTreeMap<K, Instant>,
}

impl<K: Ord + Copy> Deadlines<K> {
    pub(super) const fn new() -> Self {
        Deadlines { queue: BTreeSet::new(), at: BTreeMap::new() }
    }

    /// Sets `key`'s deadline; an older one of the same key is gone.
    pub(super) fn set(&mut self, key: K, at: Instant) {
        self.clear(key);
        self.queue.insert((at, key));
        self.at.insert(key, at);
    }

    pub(super) fn clear(&mut self, key: K) {
        if let Some(at) = self.at.remove(&key) {
            self.queue.remove(&(at, key));
        }
    }

    /// The earliest deadline.
    pub(super) fn next(&self) -> Option<Instant> {
        self.queue.first().map(|&(at, _)| at)
    }

    /// Takes the earliest key whose deadline is not after `now`.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<K> {
        let &(at, key) = self.queue.first()?;
        if at > now {
            return None;
        }
        self.clear(key);
        Some(key)
    }
}
