//! An ordered set of deadlines, at most one for each key: set, clear, next and due cost a look-up each.

use std::collections::{BTreeMap, BTreeSet};

use offset_protocol::machine::Instant;

/// Deadlines by key.
#[derive(Debug)]
pub(crate) struct Deadlines<K> {
    queue: BTreeSet<(Instant, K)>,
    at: BTreeMap<K, Instant>,
}

impl<K> Default for Deadlines<K> {
    fn default() -> Self {
        Deadlines { queue: BTreeSet::new(), at: BTreeMap::new() }
    }
}

impl<K: Ord + Copy> Deadlines<K> {
    /// Sets `key`'s deadline; an older one of the same key is gone.
    pub(crate) fn set(&mut self, key: K, at: Instant) {
        self.clear(key);
        self.queue.insert((at, key));
        self.at.insert(key, at);
    }

    pub(crate) fn clear(&mut self, key: K) {
        if let Some(at) = self.at.remove(&key) {
            self.queue.remove(&(at, key));
        }
    }

    /// Whether `key` has one.
    pub(crate) fn has(&self, key: K) -> bool {
        self.at.contains_key(&key)
    }

    /// The earliest deadline.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.queue.first().map(|&(at, _)| at)
    }

    /// Takes the earliest key whose deadline is not after `now`.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<K> {
        let &(at, key) = self.queue.first()?;
        if at > now {
            return None;
        }
        self.clear(key);
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_deadline_and_is_due_once() {
        let at = Instant::from_micros;
        let mut deadlines = Deadlines::default();
        deadlines.set('a', at(5));
        deadlines.set('b', at(3));
        deadlines.set('a', at(1));
        assert_eq!(deadlines.next(), Some(at(1)));
        assert_eq!(deadlines.pop_due(at(0)), None);
        assert_eq!(deadlines.pop_due(at(3)), Some('a'));
        assert!(!deadlines.has('a') && deadlines.has('b'));
        deadlines.clear('b');
        assert_eq!(deadlines.next(), None);
    }
}
