//! The search from one end, for what the search from both ends ([`meet`](crate::meet)) leaves to it: cycles, and routes
//! whose length is at the limit. Tests judge the other search by it.
//!
//! It runs backwards from the destination, where the amount is known. A label at `u` says: from here the payment
//! needs `fee` for the mediators ahead and `hops` edges. The edge `u → v` is open to it if its capacity has room for the
//! amount and the label's fees, the fee of `v` included. A cheaper label at a node never needs more capacity upstream than
//! a dearer one, so settling labels in the order (fee, hops) is exact, as in Dijkstra's algorithm. (Which capacity of an
//! edge counts is the same for all its labels: it depends on whether `v` is the destination.)
//!
//! Two things would spoil that, and each has its answer:
//! * *The bound on a route's length.* A cheap tail may be too long where a dearer, shorter one would do. The first pass
//!   ignores that; if it ever had to drop a label for its length, a second pass keeps, for each node, every label that
//!   has fewer hops than all cheaper ones (the Pareto front).
//! * *Cycles* (source = destination) must not leave and come back through the same friend. Each label of a cycle knows by
//!   which friend it comes back (its root); a node keeps the best labels of two roots, so that whichever friend the cycle
//!   leaves by, a label with another root is there.
//!
//! A path never repeats a node: the label nearer to the destination would have been better, and stops the farther one.
//!
//! Work is counted in lines looked at; at the cap the search ends and says so.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use offset_protocol::limits::MAX_ROUTE_LEN;

use crate::fronts::LABELS_A_LINE;
use crate::path::Path;
use crate::search::{Budget, Query, Room};
use crate::view::{Line, View};

/// Memory of this search.
#[derive(Clone, Debug, Default)]
pub(crate) struct Backward {
    labels: Vec<Label>,
    heap: BinaryHeap<Reverse<Candidate>>,
    nodes: Vec<Seen>,
    round: u64,
    /// Labels that were compared with others.
    looks: u64,
}

const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Label {
    node: u32,
    hops: u8,
    root: u32,
    /// The label one hop nearer to the destination.
    next: u32,
    /// The label settled before at the same node.
    older: u32,
}

/// A label that is not settled yet, in the order in which labels settle; what follows `hops` only breaks ties.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    fee: u128,
    hops: u8,
    node: u32,
    next: u32,
    root: u32,
}

/// What a search knows of a node; worth nothing if it is of an earlier round.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    round: u64,
    best: Option<(u128, u8)>,
    newest: Option<u32>,
}

/// What a search needs for each node of the graph, whatever becomes of it.
#[cfg(test)]
pub(crate) const BYTES_A_NODE: usize = size_of::<Seen>();

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pass {
    /// One label a node and root.
    Cheapest,
    /// The Pareto front of each node and root.
    Front,
}

/// The cheapest route, of those the one with the fewest hops; of those the first in the order of numbers, seen from the
/// destination. `None` if there is none, or if the budget ended first. [`Pass::Cheapest`] goes on to the other pass if the
/// length of routes matters.
pub(crate) fn cheapest(
    graph: &View,
    query: &Query<'_>,
    workspace: &mut Backward,
    budget: &mut Budget,
    pass: Pass,
) -> Option<Path> {
    let mut search = Search { graph, query, workspace, cut: false };
    let found = search.run(pass, budget);
    if pass == Pass::Front || !search.cut || budget.exhausted {
        return found;
    }
    search.run(Pass::Front, budget).or(found)
}

struct Search<'a> {
    graph: &'a View,
    query: &'a Query<'a>,
    workspace: &'a mut Backward,
    /// Whether a label was dropped for its length.
    cut: bool,
}

impl Search<'_> {
    fn run(&mut self, pass: Pass, budget: &mut Budget) -> Option<Path> {
        self.workspace.begin(self.graph.size());
        let start = Candidate { fee: 0, hops: 0, node: self.query.destination, next: NONE, root: NONE };
        self.workspace.heap.push(Reverse(start));
        while let Some(Reverse(candidate)) = self.workspace.heap.pop() {
            if candidate.node == self.query.source && candidate.next != NONE {
                return Some(self.path(&candidate));
            }
            let before = self.workspace.looks;
            let dominated = self.is_dominated(&candidate, pass);
            budget.charge(self.workspace.looks / LABELS_A_LINE - before / LABELS_A_LINE);
            if budget.exhausted {
                return None;
            }
            if dominated {
                continue;
            }
            let graph = self.graph;
            let lines = graph.lines(candidate.node);
            if !budget.take(lines.len() + 1) {
                return None;
            }
            let label = self.settle(&candidate);
            for line in lines {
                self.extend(&candidate, label, line, pass);
            }
        }
        None
    }

    fn is_cycle(&self) -> bool {
        self.query.source == self.query.destination
    }

    /// Whether labels settled at the node before make this one useless: one of its own root, or two of other roots.
    fn is_dominated(&mut self, candidate: &Candidate, pass: Pass) -> bool {
        let mut other = None;
        let mut at = self.workspace.seen(candidate.node).newest;
        while let Some(index) = at {
            self.workspace.looks += 1;
            let label = &self.workspace.labels[index as usize];
            at = (label.older != NONE).then_some(label.older);
            if pass == Pass::Front && label.hops > candidate.hops {
                continue;
            }
            if label.root == candidate.root || other.is_some_and(|root| root != label.root) {
                return true;
            }
            other = Some(label.root);
        }
        false
    }

    fn settle(&mut self, candidate: &Candidate) -> u32 {
        let Candidate { hops, node, next, root, fee: _ } = *candidate;
        // Labels cost budget, and a budget is far below 2^32.
        let index = self.workspace.labels.len() as u32;
        let seen = self.workspace.seen_mut(node);
        let older = seen.newest.replace(index).unwrap_or(NONE);
        self.workspace.labels.push(Label { node, hops, root, next, older });
        index
    }

    /// Offers the label `to`, one edge farther from the destination, if the edge is open to it.
    fn extend(&mut self, to: &Candidate, label: u32, line: &Line, pass: Pass) {
        let (from, query) = (line.friend, self.query);
        let back_to_the_end = from == query.destination && !self.is_cycle();
        let same_friend = self.is_cycle() && from == query.source && to.root == to.node;
        if !line.is_mutual() || back_to_the_end || same_friend {
            return;
        }
        let Some(fee) = self.fee_with(to, line) else { return };
        let need = match query.room {
            Room::Whole => query.amount + fee,
            Room::AtLeast(least) => least,
        };
        let capacity = line.capacity(to.node, query.destination);
        if need > query.residual.left((from, to.node), capacity) {
            return;
        }
        let hops = to.hops + 1;
        if usize::from(hops) >= MAX_ROUTE_LEN {
            self.cut = true;
            return;
        }
        let root = if self.is_cycle() && to.next == NONE { from } else { to.root };
        let candidate = Candidate { fee, hops, node: from, next: label, root };
        if pass == Pass::Front || self.is_cycle() || self.workspace.improves(&candidate) {
            self.workspace.heap.push(Reverse(candidate));
        }
    }

    /// The label's fees with the fee of its node, which is none at the destination; `None` above the query's maximum.
    fn fee_with(&self, to: &Candidate, line: &Line) -> Option<u128> {
        if to.next == NONE {
            return Some(0);
        }
        let fee = to.fee + line.rate.fee(self.query.amount).ok()?;
        (fee <= self.query.max_fee).then_some(fee)
    }

    fn path(&self, source: &Candidate) -> Path {
        let mut nodes = vec![source.node];
        let mut at = source.next;
        while at != NONE {
            let label = &self.workspace.labels[at as usize];
            nodes.push(label.node);
            at = label.next;
        }
        Path { nodes }
    }
}

impl Backward {
    fn begin(&mut self, size: usize) {
        self.labels.clear();
        self.heap.clear();
        self.round += 1;
        self.looks = 0;
        if self.nodes.len() < size {
            self.nodes.resize(size, Seen::default());
        }
    }

    #[cfg(test)]
    pub(crate) fn looks(&self) -> u64 {
        self.looks
    }

    fn seen(&self, node: u32) -> Seen {
        let seen = self.nodes[node as usize];
        if seen.round == self.round { seen } else { Seen::default() }
    }

    fn seen_mut(&mut self, node: u32) -> &mut Seen {
        let seen = &mut self.nodes[node as usize];
        if seen.round != self.round {
            *seen = Seen { round: self.round, best: None, newest: None };
        }
        seen
    }

    /// Whether the candidate is better than all that its node was offered in this round; remembers it if so.
    fn improves(&mut self, candidate: &Candidate) -> bool {
        let offer = (candidate.fee, candidate.hops);
        let seen = self.seen_mut(candidate.node);
        if seen.best.is_some_and(|best| best <= offer) {
            return false;
        }
        seen.best = Some(offer);
        true
    }
}
