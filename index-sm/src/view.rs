//! The graph of one currency as searches see it: nodes by their numbers, with their lines and usable edges.
//!
//! A view never changes under a search: the graph that it was taken from goes on, and copies what changes first
//! ([`cow`](crate::cow)). Who looks at it brings its own [`Workspace`](crate::search::Workspace), so any number of threads
//! may look at one.
//!
//! Not checked here: what [`graph`](crate::graph) states of lines and edges.

use offset_protocol::bytes::PublicKey;
use offset_protocol::money::Rate;

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

/// What its owner published about one friend: the edge from the friend to the owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// The friend's number.
    pub(crate) friend: u32,
    /// Whether the friend lists the owner, too.
    pub(crate) mutual: bool,
    /// What the friend can push to the owner.
    pub(crate) capacity: u128,
    /// What the owner charges for forwarding it.
    pub(crate) rate: Rate,
}

impl Line {
    /// The edge that the line is about, from the side whose other end is `node`.
    pub(crate) fn arc(&self, node: u32) -> Arc {
        Arc { node, rate: self.rate, capacity: Rounded::of(self.capacity) }
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
        self.line(to, from).filter(|line| line.mutual)
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
