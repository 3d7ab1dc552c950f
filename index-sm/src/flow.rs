//! A flow through what is left of capacities: found by augmenting paths with residual arcs, wide ones first, and taken apart
//! into paths.
//!
//! An augmenting path is one of fewest hops, searched from both ends at once: where an end is cut off, and that is where it
//! usually is cut off, a search that finds nothing is over soon.
//!
//! Not checked here: fees. The flow is in gross amounts.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use offset_protocol::limits::{MAX_ROUTE_LEN, MAX_SPLIT};

use crate::arc::{Arc, Rounded};
use crate::ground::Side;
use crate::marks::{Mark, Marks, State};
use crate::path::Path;
use crate::search::{Budget, Query};
use crate::view::View;

/// Augmenting paths of one split. Chosen freely: four for each part.
pub(crate) const MAX_AUGMENTATIONS: usize = 4 * MAX_SPLIT;

/// Memory of the search for augmenting paths; the costs of its marks are hops.
#[derive(Clone, Debug, Default)]
pub(crate) struct Levels {
    marks: Marks<u32>,
    queues: [VecDeque<u32>; 2],
}

/// A flow from source to destination: of two opposite edges at most one carries something.
#[derive(Default)]
pub(crate) struct Flow {
    on: BTreeMap<(u32, u32), u128>,
    value: u128,
    augmentations: usize,
}

impl Flow {
    pub(crate) fn value(&self) -> u128 {
        self.value
    }

    /// Augments until the value is `target`; false if it cannot.
    pub(crate) fn grow(
        &mut self,
        graph: &View,
        query: &Query<'_>,
        target: u128,
        levels: &mut Levels,
        budget: &mut Budget,
    ) -> bool {
        // Wide paths first, so that there are few; at last any path.
        for width in [0, 1, 2, 3, 4, 6, 8].map(|halvings| (target >> halvings).max(1)).into_iter().chain([1]) {
            self.augment(graph, query, target, width, levels, budget);
        }
        self.value >= target
    }

    /// Augments by paths that carry at least `width`, or all that is missing.
    fn augment(
        &mut self,
        graph: &View,
        query: &Query<'_>,
        target: u128,
        width: u128,
        levels: &mut Levels,
        budget: &mut Budget,
    ) {
        while self.value < target && self.augmentations < MAX_AUGMENTATIONS {
            let missing = target - self.value;
            let residual = Arcs { graph, query, flow: self, special: self.special(query), width: width.min(missing) };
            let Some(path) = residual.shortest(levels, budget) else { return };
            let amount = path.edges().map(|edge| residual.room(edge)).min().unwrap_or(0).min(missing);
            for edge in path.edges() {
                self.push(edge, amount);
            }
            self.value += amount;
            self.augmentations += 1;
        }
    }

    /// Nodes with edges that have other room than the graph says.
    fn special(&self, query: &Query<'_>) -> BTreeSet<u32> {
        let edges = self.on.keys().copied().chain(query.residual.edges());
        edges.flat_map(|(from, to)| [from, to]).collect()
    }

    fn push(&mut self, edge: (u32, u32), amount: u128) {
        let back = (edge.1, edge.0);
        let opposite = self.on.get(&back).copied().unwrap_or(0);
        let cancelled = opposite.min(amount);
        self.set(back, opposite - cancelled);
        let forward = self.on.get(&edge).copied().unwrap_or(0);
        self.set(edge, forward + (amount - cancelled));
    }

    fn set(&mut self, edge: (u32, u32), amount: u128) {
        if amount == 0 {
            self.on.remove(&edge);
        } else {
            self.on.insert(edge, amount);
        }
    }

    /// Paths and their shares, the largest [`MAX_SPLIT`] of them, in the order in which they were found. Flow that goes in
    /// a circle is left out.
    pub(crate) fn take_apart(&self, query: &Query<'_>) -> Vec<(Path, u128)> {
        let mut on = self.on.clone();
        let mut shares = Vec::new();
        while let Some(path) = shortest_on(&on, query) {
            let share = path.edges().filter_map(|edge| on.get(&edge).copied()).min().unwrap_or(0);
            for edge in path.edges() {
                if let Some(amount) = on.get_mut(&edge) {
                    *amount -= share;
                    if *amount == 0 {
                        on.remove(&edge);
                    }
                }
            }
            if path.nodes.len() <= MAX_ROUTE_LEN {
                shares.push((path, share));
            }
        }
        let mut by_size: Vec<usize> = (0..shares.len()).collect();
        by_size.sort_by_key(|index| std::cmp::Reverse(shares[*index].1));
        by_size.truncate(MAX_SPLIT);
        by_size.sort_unstable();
        by_size.into_iter().map(|index| shares[index].clone()).collect()
    }
}

/// The arcs that a path which augments a flow by `width` can use.
struct Arcs<'a> {
    graph: &'a View,
    query: &'a Query<'a>,
    flow: &'a Flow,
    special: BTreeSet<u32>,
    width: u128,
}

impl Arcs<'_> {
    /// What can be added to the flow over an edge, opposite flow included.
    fn room(&self, edge: (u32, u32)) -> u128 {
        let on = |edge| self.flow.on.get(&edge).copied().unwrap_or(0);
        let capacity = self.graph.capacity(edge, self.query.destination);
        let left = self.query.residual.left(edge, capacity);
        left.saturating_sub(on(edge)).saturating_add(on((edge.1, edge.0)))
    }

    fn is_open(&self, side: Side, node: u32, arc: &Arc, is_special: bool) -> bool {
        let edge = match side {
            Side::Ahead => (node, arc.node),
            Side::Back => (arc.node, node),
        };
        let ends = edge.1 == self.query.destination;
        match Rounded::of(self.width).cmp(&arc.capacity) {
            Ordering::Less if !is_special => true,
            Ordering::Greater if !is_special && !ends => false,
            Ordering::Less | Ordering::Equal | Ordering::Greater => self.room(edge) >= self.width,
        }
    }

    /// A path of fewest hops.
    fn shortest(&self, levels: &mut Levels, budget: &mut Budget) -> Option<Path> {
        levels.begin(self.query);
        let mut best: Option<(u32, u32)> = None;
        loop {
            let next = |side: Side| levels.queues[side as usize].front().map(|at| levels.marks.mark(side, *at).cost);
            let ends = next(Side::Ahead).zip(next(Side::Back));
            let Some((ahead, back)) = ends.filter(|(ahead, back)| best.is_none_or(|(hops, _)| ahead + back + 1 < hops))
            else {
                return best.map(|(_, place)| levels.marks.path(place));
            };
            // The half with fewer hops goes on; of equal ones the one from which less is waiting.
            let waiting = |side: Side| levels.queues[side as usize].len();
            let side =
                if (ahead, waiting(Side::Ahead)) <= (back, waiting(Side::Back)) { Side::Ahead } else { Side::Back };
            if !self.expand(side, levels, &mut best, budget) {
                return None;
            }
        }
    }

    /// Marks the neighbours of the next node of a half; false at the end of the budget.
    fn expand(&self, side: Side, levels: &mut Levels, best: &mut Option<(u32, u32)>, budget: &mut Budget) -> bool {
        let Some(from) = levels.queues[side as usize].pop_front() else { return true };
        let (node, hops) = (levels.marks.node(from), levels.marks.mark(side, from).cost);
        let arcs = match side {
            Side::Ahead => self.graph.ahead(node),
            Side::Back => self.graph.back(node),
        };
        if !budget.take(arcs.len() + 1) {
            return false;
        }
        let is_special = self.special.contains(&node);
        for arc in arcs.iter().filter(|arc| self.is_open(side, node, arc, is_special)) {
            let place = levels.marks.find(arc.node).unwrap_or_else(|| levels.marks.add(arc.node));
            if levels.marks.mark(side, place).state != State::Unknown {
                continue;
            }
            *levels.marks.mark_mut(side, place) = Mark { cost: hops + 1, via: from, state: State::Labelled };
            levels.queues[side as usize].push_back(place);
            let other = levels.marks.mark(side.other(), place);
            let met = hops + 1 + other.cost;
            if other.state != State::Unknown && best.is_none_or(|(hops, _)| met < hops) {
                *best = Some((met, place));
            }
        }
        true
    }
}

impl Levels {
    fn begin(&mut self, query: &Query<'_>) {
        self.marks.begin();
        for (side, node) in [(Side::Ahead, query.source), (Side::Back, query.destination)] {
            let place = self.marks.add(node);
            *self.marks.mark_mut(side, place) = Mark { cost: 0, via: place, state: State::Labelled };
            self.queues[side as usize].clear();
            self.queues[side as usize].push_back(place);
        }
    }
}

/// A path of fewest hops over edges that carry flow.
fn shortest_on(on: &BTreeMap<(u32, u32), u128>, query: &Query<'_>) -> Option<Path> {
    let mut seen = std::collections::BTreeSet::from([query.source]);
    let mut queue = vec![(query.source, 0)];
    let mut at = 0;
    while at < queue.len() {
        let (node, _) = queue[at];
        if node == query.destination {
            let mut path = trace(&queue, at);
            path.nodes.reverse();
            return Some(path);
        }
        for (_, to) in on.range((node, 0)..=(node, u32::MAX)).map(|(edge, _)| *edge) {
            if seen.insert(to) {
                queue.push((to, at));
            }
        }
        at += 1;
    }
    None
}

/// From the queue's element `at` back to its first; each element names the one that it was reached from.
fn trace(queue: &[(u32, usize)], mut at: usize) -> Path {
    let mut nodes = vec![queue[at].0];
    while at != 0 {
        at = queue[at].1;
        nodes.push(queue[at].0);
    }
    Path { nodes }
}
