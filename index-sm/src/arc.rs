//! Edges as a search sees them: small, without what is not usable, the cheap ones first.
//!
//! | type | is |
//! |---|---|
//! | [`Arc`] | one edge from the side of one of its ends, in 16 bytes |
//! | [`Arcs`] | all of a node's arcs in one direction, in the order of their rates |
//! | [`Rounded`] | a capacity in 32 bits; comparing it decides nearly always, the exact one the rest |
//!
//! A search that looks for labels below a bound may stop at the first arc whose proportional fee alone goes beyond it:
//! `mul` never falls along the list.
//!
//! Not checked here: that arcs agree with the lines that they are made from ([`graph`](crate::graph) sees to it).

use offset_protocol::limits::FORWARD_BITS;
use offset_protocol::money::Rate;

use crate::cow::{self, Shared};

/// An edge, seen from one end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arc {
    /// The other end.
    pub(crate) node: u32,
    /// What the end that the edge leads to charges.
    pub(crate) rate: Rate,
    /// What may be passed on over the edge; how much may end there, its line knows.
    pub(crate) capacity: Rounded,
}

impl Arc {
    /// The place in the order of a list.
    fn place(&self) -> (u32, u32, u32) {
        (self.rate.mul, self.rate.add, self.node)
    }
}

/// Arcs in the order of (`mul`, `add`, number), one a number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Arcs(Shared<Arc>);

impl Arcs {
    pub(crate) fn as_slice(&self) -> &[Arc] {
        &self.0
    }

    /// Arcs in any order, one a number.
    pub(crate) fn from_unsorted(mut arcs: Vec<Arc>) -> Self {
        arcs.sort_unstable_by_key(Arc::place);
        Arcs(arcs.into())
    }

    /// Adds an arc to a node that there was none to.
    pub(crate) fn insert(&mut self, arc: Arc) {
        let at = self.0.partition_point(|other| other.place() < arc.place());
        cow::insert(&mut self.0, at, arc);
    }

    /// Removes the arc to `node`, whose rate was `rate`.
    pub(crate) fn remove(&mut self, node: u32, rate: Rate) {
        if let Some(at) = self.find(node, rate) {
            cow::remove(&mut self.0, at);
        }
    }

    /// Puts `arc` in the place of the arc to the same node, whose rate was `rate`. The list is copied at most once, and not at
    /// all while nobody else holds it; what lies between the old place and the new one moves.
    pub(crate) fn set(&mut self, rate: Rate, arc: Arc) {
        let Some(from) = self.find(arc.node, rate) else { return };
        let arcs = std::sync::Arc::make_mut(&mut self.0);
        arcs[from] = arc;
        // Places of different nodes are never the same, so those before the new place are those that are smaller.
        let before = |other: &Arc| other.place() < arc.place();
        let to = arcs[..from].partition_point(before) + arcs[from + 1..].partition_point(before);
        if to < from {
            arcs[to..=from].rotate_right(1);
        } else {
            arcs[from..=to].rotate_left(1);
        }
    }

    /// The same arcs to nodes with other numbers, in the same order.
    pub(crate) fn renumbered(&self, number: impl Fn(u32) -> u32) -> Self {
        Arcs(self.0.iter().map(|arc| Arc { node: number(arc.node), ..*arc }).collect())
    }

    fn find(&self, node: u32, rate: Rate) -> Option<usize> {
        self.0.binary_search_by_key(&(rate.mul, rate.add, node), Arc::place).ok()
    }
}

/// Bits that a rounded number keeps: as many as an entry may have, unless it passes on all.
const KEPT: u32 = FORWARD_BITS;

/// A number of units rounded down to 24 leading bits, in the order of the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rounded(u32);

impl Rounded {
    pub(crate) fn of(number: u128) -> Self {
        match u64::try_from(number) {
            Ok(small) => Rounded::of_small(small),
            Err(_) => {
                let shift = u128::BITS - number.leading_zeros() - KEPT;
                Rounded((shift << KEPT) + (number >> shift) as u32)
            }
        }
    }

    pub(crate) fn of_small(number: u64) -> Self {
        let shift = (u64::BITS - number.leading_zeros()).saturating_sub(KEPT);
        Rounded((shift << KEPT) + (number >> shift) as u32)
    }

    /// The number that [`bits`](Self::bits) are of.
    pub(crate) fn from_bits(bits: u32) -> Self {
        Rounded(bits)
    }

    /// The highest bit is never used, nor are all others at once.
    pub(crate) fn bits(self) -> u32 {
        self.0
    }

    /// The smallest number that is rounded to this.
    pub(crate) fn number(self) -> u128 {
        u128::from(self.0 & ((1 << KEPT) - 1)) << (self.0 >> KEPT)
    }

    /// Whether no other number is rounded to this.
    pub(crate) fn is_exact(self) -> bool {
        self.0 >> KEPT == 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rounding_keeps_the_order_and_little_is_lost(a in any::<u128>(), b in any::<u128>(), less in 0..128_u32) {
            let (a, b) = (a >> less, b >> less);
            let (low, high) = (a.min(b), a.max(b));
            prop_assert!(Rounded::of(low) <= Rounded::of(high));
            prop_assert!(high - low <= high >> 22 || Rounded::of(low) < Rounded::of(high));
            prop_assert_eq!(Rounded::of(low).is_exact(), low < 1 << KEPT);
            let back = Rounded::of(low).number();
            prop_assert!(back <= low && Rounded::of(back) == Rounded::of(low) && back.count_ones() <= KEPT);
            prop_assert!(Rounded::of(high).bits() < u32::MAX >> 1);
        }

        #[test]
        fn lists_stay_in_order(steps in prop::collection::vec((0..9_u32, 0..3_u32, 0..3_u32), 0..60)) {
            let mut arcs = Arcs::default();
            let mut rates = std::collections::BTreeMap::new();
            for (node, mul, add) in steps {
                let rate = Rate { mul, add };
                let new = Arc { node, rate, capacity: Rounded::of(node.into()) };
                match rates.get(&node).copied() {
                    Some(old) if old == rate => {
                        arcs.remove(node, old);
                        rates.remove(&node);
                    }
                    Some(old) => {
                        arcs.set(old, new);
                        rates.insert(node, rate);
                    }
                    None => {
                        arcs.insert(Arc { capacity: Rounded::of(1), ..new });
                        arcs.set(rate, new);
                        rates.insert(node, rate);
                    }
                }
                let arc = |(node, rate): (&u32, &Rate)| {
                    Arc { node: *node, rate: *rate, capacity: Rounded::of((*node).into()) }
                };
                prop_assert_eq!(&arcs, &Arcs::from_unsorted(rates.iter().map(arc).collect()));
            }
        }
    }
}
