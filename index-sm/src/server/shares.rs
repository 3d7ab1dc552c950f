//! How much of the server's room each address takes: sessions, and lines of the reports that came from it.
//!
//! Without shares one address could fill the server for as long as it likes, because keeping a report in the graph costs next
//! to nothing. A report's lines are held by the address that its node last told a change from, until the node is forgotten; a
//! node without entries counts as one line. What trusted servers hand on is counted for nobody.
//!
//! Addresses are told apart by 16 bits of a keyed hash, so that a record remembers its own in two bytes. Two that meet in one
//! slot share a share; whoever does not know the key cannot look for that.

use std::collections::BTreeMap;

use offset_protocol::machine::Seed;
use offset_protocol::net::Address;

/// What stands for an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Slot([u8; 2]);

/// What is held, by slot.
pub(super) struct Shares {
    key: Seed,
    sessions: BTreeMap<Slot, u32>,
    lines: BTreeMap<Slot, u64>,
}

impl Shares {
    pub(super) fn new(key: Seed) -> Self {
        Shares { key, sessions: BTreeMap::new(), lines: BTreeMap::new() }
    }

    pub(super) fn slot(&self, address: &Address) -> Slot {
        Slot(self.key.fork(address.as_str()).rng().bytes())
    }

    pub(super) fn sessions(&self, slot: Slot) -> usize {
        self.sessions.get(&slot).map_or(0, |sessions| *sessions as usize)
    }

    pub(super) fn lines(&self, slot: Slot) -> u64 {
        self.lines.get(&slot).copied().unwrap_or(0)
    }

    pub(super) fn session_begins(&mut self, slot: Slot) {
        *self.sessions.entry(slot).or_default() += 1;
    }

    pub(super) fn session_ends(&mut self, slot: Slot) {
        if let Some(sessions) = self.sessions.get_mut(&slot) {
            *sessions -= 1;
            if *sessions == 0 {
                self.sessions.remove(&slot);
            }
        }
    }

    /// Lines that were held are replaced by others.
    pub(super) fn hold(&mut self, before: Option<Held>, after: Option<Held>) {
        if before == after {
            return;
        }
        if let Some(Held { slot, lines }) = after {
            *self.lines.entry(slot).or_default() += u64::from(lines);
        }
        if let Some(Held { slot, lines }) = before
            && let Some(held) = self.lines.get_mut(&slot)
        {
            *held -= u64::from(lines);
            if *held == 0 {
                self.lines.remove(&slot);
            }
        }
    }

    /// What is held in all, by slot.
    #[cfg(any(test, feature = "probes"))]
    pub(super) fn all(&self) -> (&BTreeMap<Slot, u32>, &BTreeMap<Slot, u64>) {
        (&self.sessions, &self.lines)
    }
}

/// What a record holds of its address's share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) slot: Slot,
    pub(super) lines: u32,
}

impl Held {
    /// The share that so many entries of a node take.
    pub(super) fn new(slot: Slot, entries: usize) -> Self {
        // A report has 8,192 entries at most.
        Held { slot, lines: 1 + u32::try_from(entries).unwrap_or(u32::MAX - 1) }
    }
}
