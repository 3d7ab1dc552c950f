//! The search from both ends where one label a node is not enough: for routes whose length is at the limit, and for
//! cycles.
//!
//! | needed for | because | so a node keeps |
//! |---|---|---|
//! | length | a cheap way to a node may be too long to go on, a dearer, shorter one not | each label with fewer hops than all cheaper ones (the Pareto front) |
//! | cycles | a cycle must not leave by the friend that it comes back through (its root) | labels of two roots, so that whatever the other half brings, one has another root |
//!
//! A node keeps none but labels that no others make useless: two of each number of hops at most. Those that they are compared
//! with are counted ([`LABELS_A_LINE`]), so a search looks at no more of them than its budget pays for.
//!
//! All else is as in [`meet`](crate::meet). Only edges cannot be shut: what follows an edge in the best way need not be the
//! cheapest that can follow it in ways of other lengths or roots. If the best way has no room for its fees, the answer
//! is [`Answer::Unclear`].

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::cost::Cost;
use crate::ground::{Ground, Side, Step};
use crate::path::Path;
use crate::search::{Budget, MAX_HOPS, Query};
use crate::view::View;

const NONE: u32 = u32::MAX;

/// Labels that may be looked at for the price of a line. Chosen freely: a line in a cycle meets fewer, as a rule, and a label
/// is looked at in a tenth of the time of a line.
pub(crate) const LABELS_A_LINE: u64 = 8;

/// What the search found.
pub(crate) enum Answer {
    /// The cheapest, unless the budget was exhausted.
    Way(Path),
    Nothing,
    /// Not decided here.
    Unclear,
}

/// Memory of the search; marks of earlier rounds are worth nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fronts<C> {
    labels: Vec<Label<C>>,
    /// The newest label of each node and half.
    newest: Vec<[Newest; 2]>,
    heaps: [BinaryHeap<Reverse<Candidate<C>>>; 2],
    round: u64,
    /// Labels that were looked at in this round.
    looks: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Newest {
    label: u32,
    round: u64,
}

/// What a search needs for each node of the graph, whatever becomes of it.
#[cfg(test)]
pub(crate) const BYTES_A_NODE: usize = 2 * size_of::<Newest>();

#[derive(Clone, Copy, Debug)]
struct Label<C> {
    cost: C,
    node: u32,
    /// The label one hop nearer to this half's end.
    via: u32,
    /// The friend of the end that the way goes over, in a cycle.
    root: u32,
    /// The label before it at the same node; of those that are kept.
    older: u32,
    /// Others made it useless since.
    useless: bool,
}

/// A label in the order in which labels are settled; what follows `node` only breaks ties.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate<C> {
    cost: C,
    node: u32,
    label: u32,
}

/// The cheapest route for `query` below what `known` costs, else `known`; without the edges that no route can use.
pub(crate) fn cheapest<C: Cost>(
    graph: &View,
    query: &Query<'_>,
    fronts: &mut Fronts<C>,
    budget: &mut Budget,
    shut: &[(u32, u32)],
    known: Option<Path>,
) -> Answer {
    let known = known.and_then(|path| Some((cost(graph, query, &path)?, path)));
    let most = C::amount(query.max_fee.saturating_add(1)).cost();
    let bound = known.as_ref().map_or(most, |(cost, _)| *cost);
    let ground = Ground::new(graph, query, shut);
    let mut search =
        Search { ground: &ground, fronts, bound, best: None, floors: [C::default(); 2], looked: [0; 2], most_looks: 0 };
    search.run(budget);
    let Some((ahead, back)) = search.best else {
        return known.map_or(Answer::Nothing, |(_, path)| Answer::Way(path));
    };
    let path = fronts.path(ahead, back);
    if path.is_legal(query.residual) && path.blocked(graph, query).is_empty() {
        return Answer::Way(path);
    }
    match known {
        Some((_, path)) if budget.exhausted => Answer::Way(path),
        Some(_) | None => Answer::Unclear,
    }
}

fn cost<C: Cost>(graph: &View, query: &Query<'_>, path: &Path) -> Option<C> {
    let fees = C::amount(path.fees(graph, query.amount)?).cost();
    Some((0..path.hops()).fold(fees, |cost, _| cost + C::HOP))
}

struct Search<'a, C> {
    ground: &'a Ground<'a, C>,
    fronts: &'a mut Fronts<C>,
    /// Only what is below is worth anything.
    bound: C,
    /// The labels of the best join.
    best: Option<(u32, u32)>,
    /// No label of this half that is not settled yet is below this.
    floors: [C; 2],
    looked: [usize; 2],
    /// Labels that the budget pays for in this round.
    most_looks: u64,
}

impl<C: Cost> Search<'_, C> {
    fn run(&mut self, budget: &mut Budget) {
        let query = self.ground.query;
        self.fronts.begin(self.ground.graph.size());
        for (side, node) in [(Side::Ahead, query.source), (Side::Back, query.destination)] {
            self.fronts
                .add(side, Label { cost: C::default(), node, via: NONE, root: NONE, older: NONE, useless: false });
        }
        // The destination first: edges to it are free, and only this half looks at them.
        self.expand(Side::Back, budget);
        self.expand(Side::Ahead, budget);
        while !budget.exhausted {
            let (Some(ahead), Some(back)) = (self.fronts.first(Side::Ahead), self.fronts.first(Side::Back)) else {
                return;
            };
            self.floors = [ahead.cost, back.cost];
            if ahead.cost + back.cost + C::HOP >= self.bound {
                return;
            }
            let side = if self.looked[0] <= self.looked[1] { Side::Ahead } else { Side::Back };
            self.expand(side, budget);
        }
    }

    /// Settles the cheapest label of a half and offers labels to its neighbours.
    fn expand(&mut self, side: Side, budget: &mut Budget) {
        let Some(candidate) = self.fronts.first(side) else { return };
        self.fronts.heaps[side as usize].pop();
        let ground = self.ground;
        let before = self.fronts.looks;
        self.most_looks = before.saturating_add(budget.left().saturating_mul(LABELS_A_LINE));
        let looked = ground.expand(side, candidate.node, candidate.cost, self.bound, budget, |step, _| {
            self.offer(step, candidate.label);
            self.bound
        });
        self.looked[side as usize] += looked;
        // Also counted where the budget ended meanwhile: what was left undone is known then.
        budget.charge(self.fronts.looks / LABELS_A_LINE - before / LABELS_A_LINE);
    }

    /// Offers a label to the node at the other end of a step.
    fn offer(&mut self, step: &Step<'_, C>, via: u32) {
        let Step { side, cost, .. } = *step;
        let node = step.arc.node;
        let query = self.ground.query;
        // The ends are not gone over. In a cycle halves meet between them; else the source is where the halves may meet.
        let is_end = match side {
            Side::Ahead => node == query.source,
            Side::Back => node == query.destination,
        };
        let unpaid = self.fronts.looks > self.most_looks;
        if is_end || cost.hops() > MAX_HOPS || unpaid {
            return;
        }
        let from = self.fronts.labels[via as usize];
        let root = if query.source == query.destination && from.via == NONE { node } else { from.root };
        let label = Label { cost, node, via, root, older: NONE, useless: false };
        if self.fronts.is_dominated(side, &label, NONE) {
            return;
        }
        let floor = self.floors[side.other() as usize];
        let met = self.fronts.cheapest_at(side.other(), node);
        let rest = met.map_or(floor + C::HOP, |met| met.min(floor));
        if side == Side::Ahead && rest.fee() > C::default() && !self.ground.has_room(step, rest.fee()) {
            return;
        }
        if cost + rest < self.bound {
            let added = self.fronts.add(side, label);
            self.join(side, added, &label);
        }
    }

    /// Joins a new label with those of the other half.
    fn join(&mut self, side: Side, added: u32, label: &Label<C>) {
        let mut looks = 0;
        for (index, other) in self.fronts.at(side.other(), label.node) {
            looks += 1;
            let cost = label.cost + other.cost;
            let two_roots = label.root == NONE || label.root != other.root;
            if two_roots && label.cost.hops() + other.cost.hops() <= MAX_HOPS && cost < self.bound {
                self.bound = cost;
                self.best = Some(match side {
                    Side::Ahead => (added, index),
                    Side::Back => (index, added),
                });
            }
        }
        self.fronts.looks += looks;
    }
}

impl<C: Cost> Fronts<C> {
    fn begin(&mut self, size: usize) {
        self.labels.clear();
        self.heaps.iter_mut().for_each(BinaryHeap::clear);
        self.round += 1;
        self.looks = 0;
        if self.newest.len() < size {
            self.newest.resize(size, Default::default());
        }
    }

    /// The labels of a node and half that are worth something, the newest first. Whoever takes them counts them.
    fn at(&self, side: Side, node: u32) -> impl Iterator<Item = (u32, &Label<C>)> {
        let newest = &self.newest[node as usize][side as usize];
        let mut next = if newest.round == self.round { newest.label } else { NONE };
        std::iter::from_fn(move || {
            let index = next;
            let label = self.labels.get(index as usize)?;
            next = label.older;
            Some((index, label))
        })
    }

    fn cheapest_at(&mut self, side: Side, node: u32) -> Option<C> {
        let mut looks = 0;
        let cheapest = self.at(side, node).inspect(|_| looks += 1).map(|(_, label)| label.cost).min();
        self.looks += looks;
        cheapest
    }

    /// Adds a label, settled later. Those that it makes useless leave their node: whatever they would make useless, or join
    /// with, those that made them useless do as well.
    fn add(&mut self, side: Side, label: Label<C>) -> u32 {
        // Labels cost budget, and a budget is far below 2^32.
        let index = self.labels.len() as u32;
        let newest = &mut self.newest[label.node as usize][side as usize];
        let older = if newest.round == self.round { newest.label } else { NONE };
        *newest = Newest { label: index, round: self.round };
        self.labels.push(Label { older, ..label });
        self.heaps[side as usize].push(Reverse(Candidate { cost: label.cost, node: label.node, label: index }));
        self.drop_useless(side, index);
        index
    }

    /// Takes the labels off the list of their node that the newest one there makes useless. One after another: of two that
    /// are as good as each other, each with the newest makes the other one useless.
    fn drop_useless(&mut self, side: Side, newest: u32) {
        let (cost, mut kept) = (self.labels[newest as usize].cost, newest);
        loop {
            let at = self.labels[kept as usize].older;
            let Some(label) = self.labels.get(at as usize).copied() else { return };
            self.looks += 1;
            let worse = cost <= label.cost && cost.hops() <= label.cost.hops();
            if worse && self.is_dominated(side, &label, at) {
                self.labels[kept as usize].older = label.older;
                self.labels[at as usize].useless = true;
            } else {
                kept = at;
            }
        }
    }

    /// Whether other labels of its node make this one useless: one of its own root, or two of other roots. `itself` does
    /// not count.
    fn is_dominated(&mut self, side: Side, label: &Label<C>, itself: u32) -> bool {
        let mut looks = 0;
        let dominated = self.looks_dominated(side, label, itself, &mut looks);
        self.looks += looks;
        dominated
    }

    fn looks_dominated(&self, side: Side, label: &Label<C>, itself: u32, looks: &mut u64) -> bool {
        let mut other_root = None;
        for (index, other) in self.at(side, label.node) {
            *looks += 1;
            let better = other.cost <= label.cost && other.cost.hops() <= label.cost.hops();
            if index == itself || !better {
                continue;
            }
            if other.root == label.root || other_root.is_some_and(|root| root != other.root) {
                return true;
            }
            other_root = Some(other.root);
        }
        false
    }

    /// The cheapest label of a half that is not settled; those that others made useless since leave the heap.
    fn first(&mut self, side: Side) -> Option<Candidate<C>> {
        loop {
            let Reverse(candidate) = *self.heaps[side as usize].peek()?;
            if !self.labels[candidate.label as usize].useless {
                return Some(candidate);
            }
            self.heaps[side as usize].pop();
        }
    }

    #[cfg(test)]
    pub(crate) fn looks(&self) -> u64 {
        self.looks
    }

    fn path(&self, ahead: u32, back: u32) -> Path {
        let chain = |label: u32| {
            let via = |label: &u32| Some(self.labels[*label as usize].via).filter(|via| *via != NONE);
            std::iter::successors(Some(label), via).map(|label| self.labels[label as usize].node)
        };
        let mut nodes: Vec<u32> = chain(ahead).collect();
        nodes.reverse();
        nodes.extend(chain(back).skip(1));
        Path { nodes }
    }
}
