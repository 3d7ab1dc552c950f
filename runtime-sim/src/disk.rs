//! A disk: what was flushed survives, what was not may be lost.
//!
//! 1. A write is kept whole or not at all, as one transaction of the store.
//! 2. Writes become durable in the order in which they were made.
//! 3. A crash keeps everything that was reported durable; of the rest it keeps a prefix: power may fail after the last
//!    sector was written and before anybody was told.

use std::collections::{BTreeMap, VecDeque};

use offset_protocol::mutant;
use offset_protocol::persist::{Change, Revision};

/// The records of one host, by key.
pub type Records = BTreeMap<Vec<u8>, Vec<u8>>;

/// One host's disk.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    durable: Records,
    waiting: VecDeque<(Revision, Vec<Change>)>,
    flushes: u64,
    bytes: u64,
}

impl Disk {
    /// A disk with nothing on it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Hands over changes; they are not durable yet.
    pub fn write(&mut self, revision: Revision, changes: Vec<Change>) {
        let kept = changes.len() - usize::from(mutant!(WriteLost) && changes.len() > 2);
        self.waiting.push_back((revision, changes.into_iter().take(kept).collect()));
    }

    /// Everything up to `revision` has reached the disk.
    pub fn flush(&mut self, revision: Revision) {
        while self.waiting.front().is_some_and(|(waiting, _)| *waiting <= revision) {
            self.flush_one();
        }
    }

    /// The host crashed when `kept` of the writes that were waiting had reached the disk; the others are lost.
    pub fn crash(&mut self, kept: usize) {
        for _ in 0..kept.min(self.waiting.len()) {
            self.flush_one();
        }
        self.waiting.clear();
    }

    /// Puts other records on the disk; nothing may be waiting.
    pub fn replace(&mut self, records: Records) {
        self.waiting.clear();
        self.durable = records;
    }

    fn flush_one(&mut self) {
        let Some((_, changes)) = self.waiting.pop_front() else { return };
        self.flushes += 1;
        for Change { key, value } in changes {
            self.bytes += (key.len() + value.as_ref().map_or(0, Vec::len)) as u64;
            match value {
                Some(value) => self.durable.insert(key, value),
                None => self.durable.remove(&key),
            };
        }
    }

    /// What a restart would find.
    pub const fn durable(&self) -> &Records {
        &self.durable
    }

    /// What a restart would find if everything that was written became durable.
    pub fn written(&self) -> Records {
        let mut disk = self.clone();
        disk.crash(disk.waiting.len());
        disk.durable
    }

    /// The last write that is not durable yet.
    pub fn last_write(&self) -> &[Change] {
        self.waiting.back().map_or(&[], |(_, changes)| changes)
    }

    /// Writes that are not durable yet.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// How many writes became durable.
    pub const fn flushes(&self) -> u64 {
        self.flushes
    }

    /// How many bytes of keys and values they had.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(key: u8, value: u8) -> Vec<Change> {
        vec![Change { key: vec![key], value: Some(vec![value]) }]
    }

    #[test]
    fn a_crash_keeps_what_was_flushed_and_a_prefix_of_the_rest() {
        for kept in 0..3 {
            let mut disk = Disk::new();
            disk.write(Revision(1), set(1, 1));
            disk.write(Revision(2), set(1, 2));
            disk.write(Revision(3), set(2, 3));
            disk.flush(Revision(1));
            disk.crash(kept);
            let found: Vec<_> = disk.durable().iter().map(|(key, value)| (key[0], value[0])).collect();
            assert_eq!(found, [vec![(1, 1)], vec![(1, 2)], vec![(1, 2), (2, 3)]][kept]);
            assert_eq!(disk.waiting(), 0);
        }
    }

    #[test]
    fn a_removed_record_is_gone() {
        let mut disk = Disk::new();
        disk.write(Revision(1), set(1, 1));
        disk.write(Revision(2), vec![Change { key: vec![1], value: None }]);
        disk.flush(Revision(2));
        assert!(disk.durable().is_empty());
        assert_eq!((disk.flushes(), disk.bytes()), (2, 3));
    }
}
