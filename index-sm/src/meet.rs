//! The search from both ends: the cheapest route between two different nodes, exact on (fees, hops).
//!
//! A mediator's fee is the same wherever it stands in a route, so fees can be summed from either end. What couples the two
//! ends is the room on an edge: amount and fees *ahead* of it.
//!
//! A label of the half that goes back from the destination says: from here the payment needs this fee and these hops. One
//! of the half that goes ahead from the source says that to here it needed these. Which edges are open to them says
//! [`ground`](crate::ground).
//!
//! The halves take turns; a node that both have labelled joins them. When the cheapest labels that are left could not make
//! a cheaper way, even with one edge between them, the cheapest join is the answer, if it has room for its fees.
//! If an edge of it lacks room, no route at all can use that edge: what follows it is the cheapest that can follow, as
//! otherwise a cheaper join had been made. So the edge is shut, and the search begins again; each time it knows one more edge.
//!
//! Why nothing is missed, and what is not looked at:
//! * A label that comes to a bound (the best join, or what the query may pay) ends there: it could make no better way. Lists
//!   of edges are in the order of their proportional fee, so the whole rest of a list ends with it.
//! * A node that the other half has settled is not gone on from: its own cheapest rest is known.
//! * The way never repeats a node: joining at the repeated one would have been cheaper.
//! * *Length.* Labels of more hops than a route may have are dropped. If such a label, or a join that is too long, is
//!   cheaper than the answer, the answer may not be the cheapest legal one: [`Met::TooLong`], and
//!   [`fronts`](crate::fronts) has to decide.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::cost::Cost;
use crate::graph::CurrencyGraph;
use crate::ground::{Ground, Side, Step};
use crate::path::Path;
use crate::search::{Budget, MAX_HOPS, Query};

/// Joins that are looked at for an alternative, the cheapest ones. Chosen freely: all nodes of the cheapest way make a join
/// that leads to it again, at most 31; the rest is for those that share its loaded edge.
const TRIED_JOINS: usize = 128;

/// What the search found.
pub(crate) enum Met {
    Way(Path),
    Nothing,
    /// The length of routes matters: not decided here. Some edges are known to be shut for all routes.
    TooLong {
        shut: Vec<(u32, u32)>,
    },
}

/// Memory of the search. Nothing is cleared between searches but what they touched: marks of earlier rounds are worth
/// nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Halves<C> {
    /// Ahead and back of each node, beside each other, because they are looked at together.
    marks: Vec<[Mark<C>; 2]>,
    heaps: [BinaryHeap<Reverse<(C, u32)>>; 2],
    /// Marks of this round are labelled; settled, if they have the next number.
    round: u32,
    /// Nodes that both halves labelled, with the cost at that time.
    joins: Vec<(C, u32)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Mark<C> {
    cost: C,
    /// The next node towards this half's end.
    via: u32,
    round: u32,
}

/// What one half knows of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known<C> {
    Nothing,
    Labelled(C),
    Settled(C),
}

/// The cheapest route for `query`, whose ends are two.
pub(crate) fn cheapest<C: Cost>(
    graph: &CurrencyGraph,
    query: &Query<'_>,
    halves: &mut Halves<C>,
    budget: &mut Budget,
) -> Met {
    let mut shut = Vec::new();
    let mut best: Option<Path> = None;
    let mut bound = C::amount(query.max_fee.saturating_add(1)).cost();
    loop {
        let ground = Ground::new(graph, query, &shut);
        let mut meeting = Meeting::new(&ground, halves, bound);
        meeting.run(budget);
        let (end, dropped) = (meeting.bound, meeting.dropped);
        let Some(node) = meeting.best else {
            return if dropped.is_some_and(|cost| cost < end) { Met::TooLong { shut } } else { Met::from(best) };
        };
        let path = halves.path(query, node);
        if budget.exhausted {
            return Met::from(another(graph, query, halves).or(best));
        }
        if end.hops() > MAX_HOPS || dropped.is_some_and(|cost| cost < end) {
            return Met::TooLong { shut };
        }
        let blocked = path.blocked(graph, query);
        if blocked.is_empty() {
            return Met::Way(path);
        }
        shut.extend(blocked);
        // What was met besides is a bound for the next time.
        if let Some((cost, path)) = halves.joined(graph, query).filter(|(cost, _)| *cost < bound) {
            (bound, best) = (cost, Some(path));
        }
    }
}

/// The cheapest of the ways that the last search met and `query` allows.
pub(crate) fn another<C: Cost>(graph: &CurrencyGraph, query: &Query<'_>, halves: &mut Halves<C>) -> Option<Path> {
    halves.joined(graph, query).map(|(_, path)| path)
}

impl From<Option<Path>> for Met {
    fn from(path: Option<Path>) -> Met {
        path.map_or(Met::Nothing, Met::Way)
    }
}

/// One run of both halves.
struct Meeting<'a, C> {
    ground: &'a Ground<'a, C>,
    halves: &'a mut Halves<C>,
    /// Only what is below is worth anything: the best join, or what the query may cost.
    bound: C,
    best: Option<u32>,
    /// The cheapest label that was dropped for its length.
    dropped: Option<C>,
    /// No label of this half that is not settled yet is below this.
    floors: [C; 2],
    looked: [usize; 2],
}

impl<'a, C: Cost> Meeting<'a, C> {
    fn new(ground: &'a Ground<'a, C>, halves: &'a mut Halves<C>, bound: C) -> Self {
        let nothing = [C::default(); 2];
        Meeting { ground, halves, bound, best: None, dropped: None, floors: nothing, looked: [0; 2] }
    }

    fn run(&mut self, budget: &mut Budget) {
        let query = self.ground.query;
        self.halves.begin(self.ground.graph.size());
        for (side, node) in [(Side::Ahead, query.source), (Side::Back, query.destination)] {
            self.halves.mark(side, node, C::default(), node);
            self.halves.push(side, C::default(), node);
        }
        // The destination first: edges to it are free, and only this half looks at them.
        self.expand(Side::Back, budget);
        self.expand(Side::Ahead, budget);
        while !budget.exhausted {
            let (Some(ahead), Some(back)) = (self.halves.first(Side::Ahead), self.halves.first(Side::Back)) else {
                return;
            };
            self.floors = [ahead, back];
            if ahead + back + C::HOP >= self.bound {
                return;
            }
            // The half that has looked at less goes on: nodes with many friends make steps unequal.
            let side = if self.looked[0] <= self.looked[1] { Side::Ahead } else { Side::Back };
            self.expand(side, budget);
        }
    }

    /// Settles the cheapest label of a half and offers labels to its neighbours.
    fn expand(&mut self, side: Side, budget: &mut Budget) {
        let Some((node, cost)) = self.halves.settle(side) else { return };
        if matches!(self.halves.known(side.other(), node), Known::Settled(_)) {
            return;
        }
        let ground = self.ground;
        let looked = ground.expand(side, node, cost, self.bound, budget, |step, _| {
            self.offer(step);
            self.bound
        });
        self.looked[side as usize] += looked;
    }

    /// Offers a label to the node at the other end of a step.
    fn offer(&mut self, step: &Step<'_, C>) {
        let Step { side, node: via, cost, .. } = *step;
        let node = step.arc.node;
        match self.halves.known(side, node) {
            Known::Labelled(old) | Known::Settled(old) if old <= cost => return,
            Known::Labelled(_) | Known::Settled(_) | Known::Nothing => {}
        }
        let other = self.halves.known(side.other(), node);
        // The least that the rest of the way costs, if it goes over this node.
        let rest = match other {
            Known::Settled(rest) => rest,
            Known::Labelled(_) => self.floors[side.other() as usize],
            Known::Nothing => self.floors[side.other() as usize] + C::HOP,
        };
        if side == Side::Ahead && rest.fee() > C::default() && !self.ground.has_room(step, rest.fee()) {
            return;
        }
        if cost.hops() > MAX_HOPS {
            self.dropped = Some(self.dropped.map_or(cost, |least| least.min(cost)));
            return;
        }
        self.halves.mark(side, node, cost, via);
        if let Known::Labelled(rest) | Known::Settled(rest) = other {
            self.join(cost + rest, node);
        }
        if !matches!(other, Known::Settled(_)) && cost + rest < self.bound {
            self.halves.push(side, cost, node);
        }
    }

    fn join(&mut self, cost: C, node: u32) {
        self.halves.joins.push((cost, node));
        if cost < self.bound {
            (self.bound, self.best) = (cost, Some(node));
        }
    }
}

impl<C: Cost> Halves<C> {
    fn begin(&mut self, size: usize) {
        self.heaps.iter_mut().for_each(BinaryHeap::clear);
        self.joins.clear();
        if self.marks.len() < size {
            self.marks.resize(size, Default::default());
        }
        // The last number of a round is the next one's: after 2^31 rounds all is cleared once.
        self.round = match self.round.checked_add(3) {
            Some(_) => self.round + 2,
            None => {
                self.marks.fill(Default::default());
                2
            }
        };
    }

    fn known(&self, side: Side, node: u32) -> Known<C> {
        let mark = &self.marks[node as usize][side as usize];
        if mark.round == self.round {
            Known::Labelled(mark.cost)
        } else if mark.round == self.round + 1 {
            Known::Settled(mark.cost)
        } else {
            Known::Nothing
        }
    }

    fn mark(&mut self, side: Side, node: u32, cost: C, via: u32) {
        self.marks[node as usize][side as usize] = Mark { cost, via, round: self.round };
    }

    fn push(&mut self, side: Side, cost: C, node: u32) {
        self.heaps[side as usize].push(Reverse((cost, node)));
    }

    /// The cost of the half's cheapest label that is not settled; labels that were bettered since leave the heap.
    fn first(&mut self, side: Side) -> Option<C> {
        loop {
            let Reverse((cost, node)) = *self.heaps[side as usize].peek()?;
            if self.known(side, node) == Known::Labelled(cost) {
                return Some(cost);
            }
            self.heaps[side as usize].pop();
        }
    }

    /// Settles the label that [`Halves::first`] is about.
    fn settle(&mut self, side: Side) -> Option<(u32, C)> {
        let cost = self.first(side)?;
        let Reverse((_, node)) = self.heaps[side as usize].pop()?;
        self.marks[node as usize][side as usize].round = self.round + 1;
        Some((node, cost))
    }

    /// The way over a node that both halves labelled.
    fn path(&self, query: &Query<'_>, node: u32) -> Path {
        let mut nodes: Vec<u32> = self.chain(Side::Ahead, node, query.source).collect();
        nodes.reverse();
        nodes.push(node);
        nodes.extend(self.chain(Side::Back, node, query.destination));
        Path { nodes }
    }

    /// The nodes that a half came from to `node`, without it; the half's end last.
    fn chain(&self, side: Side, node: u32, end: u32) -> impl Iterator<Item = u32> + '_ {
        let mut at = node;
        std::iter::from_fn(move || {
            (at != end).then(|| {
                at = self.marks[at as usize][side as usize].via;
                at
            })
        })
    }

    /// The cheapest of the joins that makes a way which `query` allows.
    fn joined(&mut self, graph: &CurrencyGraph, query: &Query<'_>) -> Option<(C, Path)> {
        if self.joins.len() > TRIED_JOINS {
            self.joins.select_nth_unstable(TRIED_JOINS);
        }
        let tried = self.joins.len().min(TRIED_JOINS);
        self.joins[..tried].sort_unstable();
        self.joins[..tried].iter().find_map(|(cost, node)| {
            // A join that was bettered later stands here twice, and makes the better way both times.
            let fits = cost.fee().wide() <= query.max_fee;
            let path = Some(self.path(query, *node)).filter(|path| fits && path.is_legal(query.residual))?;
            path.blocked(graph, query).is_empty().then_some((*cost, path))
        })
    }
}
