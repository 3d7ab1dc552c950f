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
//! (What an edge can take depends on whether it leads to the destination, not on the way that uses it.)
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
use crate::ground::{Ground, Side, Step};
use crate::marks::{Mark, Marks, State};
use crate::path::Path;
use crate::search::{Budget, MAX_HOPS, Query};
use crate::view::View;

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

/// Memory of the search.
#[derive(Clone, Debug, Default)]
pub(crate) struct Halves<C> {
    marks: Marks<C>,
    heaps: [BinaryHeap<Reverse<Candidate<C>>>; 2],
    /// Places of nodes that both halves labelled, with the cost at that time.
    joins: Vec<(C, u32)>,
}

/// A label that is not settled, in the order in which labels are settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate<C> {
    cost: C,
    node: u32,
    place: u32,
}

/// The cheapest route for `query`, whose ends are two.
pub(crate) fn cheapest<C: Cost>(graph: &View, query: &Query<'_>, halves: &mut Halves<C>, budget: &mut Budget) -> Met {
    let mut shut = Vec::new();
    let mut best: Option<Path> = None;
    let mut bound = C::amount(query.max_fee.saturating_add(1)).cost();
    loop {
        let ground = Ground::new(graph, query, &shut);
        let mut meeting = Meeting::new(&ground, halves, bound);
        meeting.run(budget);
        let (end, dropped) = (meeting.bound, meeting.dropped);
        let Some(place) = meeting.best else {
            return if dropped.is_some_and(|cost| cost < end) { Met::TooLong { shut } } else { Met::from(best) };
        };
        let path = halves.marks.path(place);
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
pub(crate) fn another<C: Cost>(graph: &View, query: &Query<'_>, halves: &mut Halves<C>) -> Option<Path> {
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
        self.halves.begin();
        for (side, node) in [(Side::Ahead, query.source), (Side::Back, query.destination)] {
            let place = self.halves.marks.add(node);
            self.halves.label(side, place, C::default(), place);
            self.halves.push(side, place, C::default());
        }
        // The destination first: edges to it are free, and only this half looks at them.
        self.expand(Side::Back, budget);
        self.expand(Side::Ahead, budget);
        while !budget.exhausted {
            let (Some(ahead), Some(back)) = (self.halves.first(Side::Ahead), self.halves.first(Side::Back)) else {
                return;
            };
            self.floors = [ahead.cost, back.cost];
            if ahead.cost + back.cost + C::HOP >= self.bound {
                return;
            }
            // The half that has looked at less goes on: nodes with many friends make steps unequal.
            let side = if self.looked[0] <= self.looked[1] { Side::Ahead } else { Side::Back };
            self.expand(side, budget);
        }
    }

    /// Settles the cheapest label of a half and offers labels to its neighbours.
    fn expand(&mut self, side: Side, budget: &mut Budget) {
        let Some(Candidate { cost, node, place }) = self.halves.settle(side) else { return };
        if self.halves.marks.mark(side.other(), place).state == State::Settled {
            return;
        }
        let ground = self.ground;
        let looked = ground.expand(side, node, cost, self.bound, budget, |step, _| {
            self.offer(step, place);
            self.bound
        });
        self.looked[side as usize] += looked;
    }

    /// Offers a label to the node at the other end of a step.
    fn offer(&mut self, step: &Step<'_, C>, via: u32) {
        let Step { side, cost, .. } = *step;
        let found = self.halves.marks.find(step.arc.node);
        let mark = |side| found.map_or(Mark::default(), |place| *self.halves.marks.mark(side, place));
        let (own, other) = (mark(side), mark(side.other()));
        if own.state != State::Unknown && own.cost <= cost {
            return;
        }
        // The least that the rest of the way costs, if it goes over this node.
        let floor = self.floors[side.other() as usize];
        let rest = match other.state {
            State::Settled => other.cost,
            State::Labelled => floor,
            State::Unknown => floor + C::HOP,
        };
        if side == Side::Ahead && rest.fee() > C::default() && !self.ground.has_room(step, rest.fee()) {
            return;
        }
        if cost.hops() > MAX_HOPS {
            self.dropped = Some(self.dropped.map_or(cost, |least| least.min(cost)));
            return;
        }
        let goes_on = cost + rest < self.bound;
        if other.state == State::Unknown && !goes_on {
            return;
        }
        let place = found.unwrap_or_else(|| self.halves.marks.add(step.arc.node));
        self.halves.label(side, place, cost, via);
        if other.state != State::Unknown {
            self.join(cost + other.cost, place);
        }
        if other.state != State::Settled && goes_on {
            self.halves.push(side, place, cost);
        }
    }

    fn join(&mut self, cost: C, place: u32) {
        self.halves.joins.push((cost, place));
        if cost < self.bound {
            (self.bound, self.best) = (cost, Some(place));
        }
    }
}

impl<C: Cost> Halves<C> {
    fn begin(&mut self) {
        self.marks.begin();
        self.heaps.iter_mut().for_each(BinaryHeap::clear);
        self.joins.clear();
    }

    fn label(&mut self, side: Side, place: u32, cost: C, via: u32) {
        *self.marks.mark_mut(side, place) = Mark { cost, via, state: State::Labelled };
    }

    fn push(&mut self, side: Side, place: u32, cost: C) {
        let node = self.marks.node(place);
        self.heaps[side as usize].push(Reverse(Candidate { cost, node, place }));
    }

    /// The half's cheapest label that is not settled; those that were bettered since leave the heap.
    fn first(&mut self, side: Side) -> Option<Candidate<C>> {
        loop {
            let Reverse(candidate) = *self.heaps[side as usize].peek()?;
            let mark = self.marks.mark(side, candidate.place);
            if mark.state == State::Labelled && mark.cost == candidate.cost {
                return Some(candidate);
            }
            self.heaps[side as usize].pop();
        }
    }

    /// Settles the half's cheapest label.
    fn settle(&mut self, side: Side) -> Option<Candidate<C>> {
        let candidate = self.first(side)?;
        self.heaps[side as usize].pop();
        self.marks.mark_mut(side, candidate.place).state = State::Settled;
        Some(candidate)
    }

    /// The cheapest of the joins that makes a way which `query` allows.
    fn joined(&mut self, graph: &View, query: &Query<'_>) -> Option<(C, Path)> {
        if self.joins.len() > TRIED_JOINS {
            self.joins.select_nth_unstable(TRIED_JOINS);
        }
        let tried = self.joins.len().min(TRIED_JOINS);
        self.joins[..tried].sort_unstable();
        self.joins[..tried].iter().find_map(|(cost, place)| {
            // A join that was bettered later stands here twice, and makes the better way both times.
            let fits = cost.fee().wide() <= query.max_fee;
            let path = Some(self.marks.path(*place)).filter(|path| fits && path.is_legal(query.residual))?;
            path.blocked(graph, query).is_empty().then_some((*cost, path))
        })
    }
}
