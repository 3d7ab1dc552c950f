//! An ordered set of deadlines, at most one for each key: set, clear, next and due cost a look-up each.

use crate::lean::{LeanMap, LeanSet};
use crate::machine::Instant;

/// Deadlines by key.
#[derive(Debug)]
pub struct Deadlines<K> {
    queue: LeanSet<(Instant, K)>,
    at: LeanMap<K, Instant>,
}

impl<K> Deadlines<K> {
    /// No deadlines.
    pub const fn new() -> Self {
        Deadlines { queue: LeanSet::new(), at: LeanMap::new() }
    }
}

impl<K> Default for Deadlines<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Ord + Copy> Deadlines<K> {
    /// Sets `key`'s deadline; an older one of the same key is gone.
    pub fn set(&mut self, key: K, at: Instant) {
        self.clear(key);
        self.queue.insert((at, key));
        self.at.insert(key, at);
    }

    /// Takes `key`'s deadline away, if it has one.
    pub fn clear(&mut self, key: K) {
        if let Some(at) = self.at.remove(&key) {
            self.queue.remove(&(at, key));
        }
    }

    /// Whether `key` has one.
    pub fn has(&self, key: K) -> bool {
        self.at.contains_key(&key)
    }

    /// The earliest deadline.
    pub fn next(&self) -> Option<Instant> {
        self.queue.first().map(|&(at, _)| at)
    }

    /// Takes the earliest key whose deadline is not after `now`.
    pub fn pop_due(&mut self, now: Instant) -> Option<K> {
        let &(at, key) = self.queue.first()?;
        if at > now {
            return None;
        }
        self.clear(key);
        Some(key)
    }

    /// How many keys have one.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether no key has one.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_deadline_and_is_due_once() {
        let at = Instant::from_micros;
        let mut deadlines = Deadlines::new();
        deadlines.set('a', at(5));
        deadlines.set('b', at(3));
        deadlines.set('a', at(1));
        assert_eq!(deadlines.next(), Some(at(1)));
        assert_eq!(deadlines.pop_due(at(0)), None);
        assert_eq!(deadlines.pop_due(at(3)), Some('a'));
        assert!(!deadlines.has('a') && deadlines.has('b'));
        assert_eq!(deadlines.pop_due(at(3)), Some('b'));
        assert_eq!(deadlines.pop_due(at(9)), None);
        assert!(deadlines.is_empty());
        deadlines.set('c', at(1));
        assert_eq!(deadlines.len(), 1);
    }

    #[test]
    fn a_cleared_key_is_never_due() {
        let mut deadlines = Deadlines::new();
        deadlines.set('a', Instant::from_micros(1));
        deadlines.clear('a');
        assert_eq!(deadlines.pop_due(Instant::from_micros(9)), None);
    }
}
