//! What a search from both ends knows of the nodes that it touched, in memory that grows with those, not with the graph.
//!
//! A search touches thousands of nodes of a million, all over memory: a table with a place for each node would miss the
//! processor's caches at nearly every touch (measured: four fifths of the time of a search). So touched nodes stand one
//! after the other in the order of their touch, and a small hash table finds them.
//!
//! Invariants:
//! 1. A slot of an earlier round is free. Rounds end the table's content without clearing it.
//! 2. At least half of the slots are free.

use crate::ground::Side;
use crate::path::Path;

/// The least number of bits of a slot's number. Chosen freely: 8 KiB.
const LEAST_BITS: u32 = 10;

/// Touched nodes by number.
#[derive(Clone, Debug, Default)]
pub(crate) struct Marks<C> {
    touched: Vec<Touched<C>>,
    slots: Vec<Slot>,
    /// The slots' numbers have so many bits in this round.
    bits: u32,
    round: u32,
}

#[derive(Clone, Copy, Debug)]
struct Touched<C> {
    node: u32,
    halves: [Mark<C>; 2],
}

/// What one half knows of a node.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mark<C> {
    pub(crate) cost: C,
    /// The place of the next node towards this half's end; the end's own place at the end.
    pub(crate) via: u32,
    pub(crate) state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum State {
    #[default]
    Unknown,
    Labelled,
    Settled,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    round: u32,
    place: u32,
}

impl<C: Copy + Default> Marks<C> {
    /// Forgets all.
    pub(crate) fn begin(&mut self) {
        // As large as the last search needed it, or near.
        self.bits = (2 * self.touched.len() + 1).ilog2().max(LEAST_BITS);
        self.touched.clear();
        self.next_round();
    }

    /// The place of a node, if it was touched.
    pub(crate) fn find(&self, node: u32) -> Option<u32> {
        let mut slot = self.first_slot(node);
        loop {
            let Slot { round, place } = self.slots[slot];
            if round != self.round {
                return None;
            }
            if self.touched[place as usize].node == node {
                return Some(place);
            }
            slot = (slot + 1) & ((1 << self.bits) - 1);
        }
    }

    /// Adds a node that was not touched before.
    pub(crate) fn add(&mut self, node: u32) -> u32 {
        // Touched nodes cost budget, and a budget is far below 2^32.
        let place = self.touched.len() as u32;
        self.touched.push(Touched { node, halves: Default::default() });
        if self.touched.len() > 1 << (self.bits - 1) {
            self.grow();
        } else {
            self.fill_slot(place);
        }
        place
    }

    pub(crate) fn node(&self, place: u32) -> u32 {
        self.touched[place as usize].node
    }

    pub(crate) fn mark(&self, side: Side, place: u32) -> &Mark<C> {
        &self.touched[place as usize].halves[side as usize]
    }

    pub(crate) fn mark_mut(&mut self, side: Side, place: u32) -> &mut Mark<C> {
        &mut self.touched[place as usize].halves[side as usize]
    }

    /// The way over a node that both halves know.
    pub(crate) fn path(&self, place: u32) -> Path {
        let chain = |side| {
            let via = move |at: &u32| Some(self.mark(side, *at).via).filter(|via| via != at);
            std::iter::successors(Some(place), via).map(|at| self.node(at))
        };
        let mut nodes: Vec<u32> = chain(Side::Ahead).collect();
        nodes.reverse();
        nodes.extend(chain(Side::Back).skip(1));
        Path { nodes }
    }

    fn grow(&mut self) {
        self.bits += 2;
        self.next_round();
        for place in 0..self.touched.len() {
            self.fill_slot(place as u32);
        }
    }

    fn fill_slot(&mut self, place: u32) {
        let mut slot = self.first_slot(self.touched[place as usize].node);
        while self.slots[slot].round == self.round {
            slot = (slot + 1) & ((1 << self.bits) - 1);
        }
        self.slots[slot] = Slot { round: self.round, place };
    }

    fn first_slot(&self, node: u32) -> usize {
        // 2^32 over the golden ratio: numbers that follow one another lie far apart.
        (node.wrapping_mul(0x9e37_79b9) >> (u32::BITS - self.bits)) as usize
    }

    fn next_round(&mut self) {
        let slots = 1 << self.bits;
        if self.slots.len() < slots {
            self.slots.resize(slots, Slot::default());
        }
        self.round = self.round.checked_add(1).unwrap_or_else(|| {
            self.slots.fill(Slot::default());
            1
        });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_node_is_found_exactly_if_it_was_touched_in_this_round(
            rounds in prop::collection::vec(prop::collection::vec(0..20_000_u32, 0..3_000), 1..5),
            last_round in any::<bool>(),
        ) {
            let round = if last_round { u32::MAX - 2 } else { 0 };
            let mut marks = Marks::<u64> { round, ..Marks::default() };
            for nodes in rounds {
                marks.begin();
                let mut places = BTreeMap::new();
                for node in nodes {
                    prop_assert_eq!(marks.find(node), places.get(&node).copied());
                    let place = *places.entry(node).or_insert_with(|| marks.add(node));
                    prop_assert_eq!(marks.node(place), node);
                }
                for (node, place) in places {
                    prop_assert_eq!(marks.find(node), Some(place));
                }
            }
        }
    }
}
