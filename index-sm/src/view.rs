//! The graph of one currency as searches see it: nodes by their numbers, with their lines and usable edges.
//!
//! A view never changes under a search: the graph that it was taken from goes on, and copies what changes first
//! ([`cow`](crate::cow)). Who looks at it brings its own [`Workspace`](crate::search::Workspace), so any number of threads
//! may look at one.
//!
//! What an edge can take depends on where a payment ends: more may end at the edge's head than its owner would pass on.
//! [`Line::capacity`] alone decides which of the two counts. So in one query each edge has one capacity, and a search may
//! reason about them as if the graph held no others.
//!
//! Not checked here: what [`graph`](crate::graph) states of lines and edges.

use offset_protocol::bytes::PublicKey;
use offset_protocol::index::Entry;
use offset_protocol::money::{Currency, Rate};
use offset_protocol::mutant;

use crate::arc::{Arc, Arcs, Rounded};
use crate::cow::{CowList, Shared};

/// The nodes of one currency, as they were at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    pub(crate) nodes: CowList<Node>,
}

#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) key: PublicKey,
    /// What the node published, by friend's number.
    pub(crate) lines: Shared<Line>,
    /// Usable edges that lead here.
    pub(crate) back: Arcs,
    /// Usable edges that lead away from here.
    pub(crate) ahead: Arcs,
    /// Lines of others about this node.
    pub(crate) mentions: u32,
}

/// What its owner published about one friend: the edge from the friend to the owner. 32 bytes: there may be millions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// The friend's number.
    pub(crate) friend: u32,
    /// [`MUTUAL`], and what the owner would pass on: [`ALL`], or the bits of the [`Rounded`] that it is.
    word: u32,
    /// What the friend can push to the owner, if it ends there.
    recv_capacity: u128,
    /// What the owner charges for forwarding it.
    pub(crate) rate: Rate,
}

/// The friend lists the owner, too.
const MUTUAL: u32 = 1 << 31;
/// All that the friend can push would be passed on. No [`Rounded`] has these bits.
const ALL: u32 = MUTUAL - 1;

impl Line {
    /// The line that an entry about the friend of this number makes; not mutual.
    pub(crate) fn new(friend: u32, entry: &Entry) -> Line {
        let Entry { recv_capacity, forward_capacity, rate, .. } = *entry;
        let word = if forward_capacity < recv_capacity { Rounded::of(forward_capacity).bits() } else { ALL };
        Line { friend, word, recv_capacity, rate }
    }

    /// The entry that the line was made of.
    pub(crate) fn entry(&self, friend: PublicKey, currency: Currency) -> Entry {
        let Line { recv_capacity, rate, .. } = *self;
        Entry { friend, currency, recv_capacity, forward_capacity: self.forward_capacity(), rate }
    }

    /// Whether the friend lists the owner, too.
    pub(crate) fn is_mutual(&self) -> bool {
        self.word & MUTUAL != 0
    }

    /// The same line, mutual or not.
    #[must_use]
    pub(crate) fn mutual(self, mutual: bool) -> Line {
        Line { word: self.word & ALL | if mutual { MUTUAL } else { 0 }, ..self }
    }

    /// What the edge to the owner of the line can take of a payment to `destination`. The one place that decides: what
    /// leads to the destination ends there, all else is passed on.
    pub(crate) fn capacity(&self, owner: u32, destination: u32) -> u128 {
        if owner == destination { self.recv_capacity } else { self.passes_on() }
    }

    /// The edge that the line is about, from the side whose other end is `node`.
    pub(crate) fn arc(&self, node: u32) -> Arc {
        Arc { node, rate: self.rate, capacity: Rounded::of(self.passes_on()) }
    }

    fn passes_on(&self) -> u128 {
        if mutant!(EndingPassedOn) { self.recv_capacity } else { self.forward_capacity() }
    }

    fn forward_capacity(&self) -> u128 {
        match self.word & ALL {
            ALL => self.recv_capacity,
            bits => Rounded::from_bits(bits).number(),
        }
    }
}

impl Node {
    pub(crate) fn new(key: PublicKey) -> Self {
        Node { key, lines: Shared::default(), back: Arcs::default(), ahead: Arcs::default(), mentions: 0 }
    }

    /// The node with other numbers for its friends, in the same order.
    pub(crate) fn renumbered(&self, number: impl Fn(u32) -> u32) -> Node {
        let line = |line: &Line| Line { friend: number(line.friend), ..*line };
        Node {
            key: self.key,
            lines: self.lines.iter().map(line).collect(),
            back: self.back.renumbered(&number),
            ahead: self.ahead.renumbered(&number),
            mentions: self.mentions,
        }
    }
}

impl View {
    /// Numbers are below this.
    pub(crate) fn size(&self) -> usize {
        self.nodes.len()
    }

    /// The key of a number in use.
    pub(crate) fn key(&self, number: u32) -> PublicKey {
        self.node(number).key
    }

    /// What `number` published, by friend's number.
    pub(crate) fn lines(&self, number: u32) -> &[Line] {
        &self.node(number).lines
    }

    /// Usable edges to `number`, cheap ones first.
    pub(crate) fn back(&self, number: u32) -> &[Arc] {
        self.node(number).back.as_slice()
    }

    /// Usable edges from `number`, cheap ones first.
    pub(crate) fn ahead(&self, number: u32) -> &[Arc] {
        self.node(number).ahead.as_slice()
    }

    /// The edge `from → to`, if both list each other.
    pub(crate) fn edge(&self, from: u32, to: u32) -> Option<&Line> {
        self.line(to, from).filter(|line| line.is_mutual())
    }

    /// What the edge can take of a payment to `destination`; 0 if there is none.
    pub(crate) fn capacity(&self, (from, to): (u32, u32), destination: u32) -> u128 {
        self.edge(from, to).map_or(0, |line| line.capacity(to, destination))
    }

    /// What `owner` published about `friend`.
    pub(crate) fn line(&self, owner: u32, friend: u32) -> Option<&Line> {
        self.position(owner, friend).ok().map(|at| &self.lines(owner)[at])
    }

    pub(crate) fn position(&self, owner: u32, friend: u32) -> Result<usize, usize> {
        self.lines(owner).binary_search_by_key(&friend, |line| line.friend)
    }

    pub(crate) fn node(&self, number: u32) -> &Node {
        self.nodes.get(number as usize)
    }

    pub(crate) fn node_mut(&mut self, number: u32) -> &mut Node {
        self.nodes.get_mut(number as usize)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_is_no_larger_for_what_it_tells_of_two_capacities() {
        assert_eq!((size_of::<Line>(), size_of::<Arc>()), (32, 16));
    }

    proptest! {
        #[test]
        fn an_entry_comes_back_from_its_line_and_says_what_counts(
            recv in any::<u128>(), most in any::<u128>(), less in 0..128_u32, even_less in 0..128_u32, mutual: bool,
        ) {
            let (friend, currency) = (PublicKey([3; 32]), "USD".parse().unwrap());
            let entry = Entry { friend, currency, recv_capacity: recv >> less, forward_capacity: 0, rate: Rate::ZERO };
            let entry = entry.forwarding(most >> even_less);
            let line = Line::new(7, &entry).mutual(!mutual).mutual(mutual);
            prop_assert_eq!((line.is_mutual(), line.entry(friend, currency)), (mutual, entry));
            prop_assert_eq!(line.capacity(4, 4), entry.recv_capacity);
            prop_assert_eq!(line.capacity(4, 5), entry.forward_capacity);
            prop_assert_eq!(line.arc(1).capacity, Rounded::of(entry.forward_capacity));
        }
    }
}
