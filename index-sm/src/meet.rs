//! The search from both ends: the cheapest route between two different nodes, exact on (fees, hops).
//!
//! A mediator's fee is the same wherever it stands in a route, so fees can be summed from either end. What couples the two
//! ends is the room on an edge: amount and fees *ahead* of it.
//!
//! | half | a label says | an edge is open if it has room for |
//! |---|---|---|
//! | back, from the destination | from here the payment needs this fee and these hops | amount, and exactly the fees ahead |
//! | ahead, from the source | to here they were these | amount, and the *least* fees ahead that are possible as far as is known |
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
//!   cheaper than the answer, the answer may not be the cheapest legal one: [`Met::TooLong`], and another search is needed.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use crate::arc::Arc;
use crate::cost::Cost;
use crate::graph::CurrencyGraph;
use crate::path::Path;
use crate::search::{Budget, MAX_HOPS, Query, Room};

/// Joins that are looked at for an alternative, the cheapest ones. Chosen freely: all nodes of the cheapest way make a join
/// that leads to it again, at most 31; the rest is for those that share its loaded edge.
const TRIED_JOINS: usize = 128;

/// What the search found.
pub(crate) enum Met {
    Way(Path),
    Nothing,
    /// The length of routes matters: not decided here.
    TooLong,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Ahead,
    Back,
}

impl Side {
    fn other(self) -> Side {
        match self {
            Side::Ahead => Side::Back,
            Side::Back => Side::Ahead,
        }
    }
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

/// An arc that a half goes over, and the label at its other end.
#[derive(Clone, Copy)]
struct Step<'a, C> {
    side: Side,
    /// The settled end.
    node: u32,
    arc: &'a Arc,
    edges: Edges,
    /// What the edge adds to the fees.
    fee: C,
    cost: C,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Edges {
    /// As the graph says.
    Plain,
    /// Some may be shut, or partly used.
    Special,
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
        let mut meeting = Meeting::new(graph, query, halves, &shut, bound);
        meeting.run(budget);
        let (end, dropped) = (meeting.bound, meeting.dropped);
        let Some(node) = meeting.best else {
            return if dropped.is_some_and(|cost| cost < end) { Met::TooLong } else { Met::from(best) };
        };
        let path = halves.path(query, node);
        if budget.exhausted {
            return Met::from(another(graph, query, halves).or(best));
        }
        if end.hops() > MAX_HOPS || dropped.is_some_and(|cost| cost < end) {
            return Met::TooLong;
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
    graph: &'a CurrencyGraph,
    query: &'a Query<'a>,
    halves: &'a mut Halves<C>,
    amount: C,
    /// Edges that no route can use, though it looked so from the source.
    shut: &'a [(u32, u32)],
    /// Nodes whose edges are not all what the graph says: from them, and to them; ascending.
    special: [Vec<u32>; 2],
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
    fn new(
        graph: &'a CurrencyGraph,
        query: &'a Query<'a>,
        halves: &'a mut Halves<C>,
        shut: &'a [(u32, u32)],
        bound: C,
    ) -> Self {
        let edges = || query.residual.edges().chain(shut.iter().copied());
        let sorted = |mut nodes: Vec<u32>| {
            nodes.sort_unstable();
            nodes
        };
        let special = [sorted(edges().map(|(from, _)| from).collect()), sorted(edges().map(|(_, to)| to).collect())];
        Meeting {
            graph,
            query,
            halves,
            amount: C::amount(query.amount),
            shut,
            special,
            bound,
            best: None,
            dropped: None,
            floors: [C::default(); 2],
            looked: [0; 2],
        }
    }

    fn run(&mut self, budget: &mut Budget) {
        self.halves.begin(self.graph.size());
        for (side, node) in [(Side::Ahead, self.query.source), (Side::Back, self.query.destination)] {
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
        let all = match side {
            Side::Ahead => self.graph.ahead(node),
            Side::Back => self.graph.back(node),
        };
        let arcs = budget.afford(all);
        let special = self.special[side as usize].binary_search(&node).is_ok();
        let free = side == Side::Back && node == self.query.destination;
        let edges = if special { Edges::Special } else { Edges::Plain };
        let (mut looked, mut ended) = (0, false);
        for arc in arcs {
            looked += 1;
            let share = if free { C::default() } else { self.amount.share(arc.rate.mul) };
            if cost + share.cost() + C::HOP >= self.bound {
                ended = true;
                break;
            }
            let fee = if free { share } else { share + C::from_add(arc.rate.add) };
            let step = Step { side, node, arc, edges, fee, cost: cost + fee.cost() + C::HOP };
            if step.cost < self.bound {
                self.offer(&step);
            }
        }
        self.looked[side as usize] += looked + 1;
        budget.spend(looked + 1);
        if !ended && arcs.len() < all.len() {
            budget.exhausted = true;
        }
    }

    /// Offers a label to the node at the other end of an arc.
    fn offer(&mut self, step: &Step<'_, C>) {
        let Step { side, node, arc, cost, .. } = *step;
        let to_the_end = match side {
            // The destination's half has labelled all that leads there.
            Side::Ahead => arc.node == self.query.destination,
            Side::Back => false,
        };
        if to_the_end || !self.has_room(step, C::default()) {
            return;
        }
        match self.halves.known(side, arc.node) {
            Known::Labelled(old) | Known::Settled(old) if old <= cost => return,
            Known::Labelled(_) | Known::Settled(_) | Known::Nothing => {}
        }
        let other = self.halves.known(side.other(), arc.node);
        // The least that the rest of the way costs, if it goes over this node.
        let rest = match other {
            Known::Settled(rest) => rest,
            Known::Labelled(_) => self.floors[side.other() as usize],
            Known::Nothing => self.floors[side.other() as usize] + C::HOP,
        };
        if side == Side::Ahead && rest.fee() > C::default() && !self.has_room(step, rest.fee()) {
            return;
        }
        if cost.hops() > MAX_HOPS {
            self.dropped = Some(self.dropped.map_or(cost, |least| least.min(cost)));
            return;
        }
        self.halves.mark(side, arc.node, cost, node);
        if let Known::Labelled(rest) | Known::Settled(rest) = other {
            self.join(cost + rest, arc.node);
        }
        if !matches!(other, Known::Settled(_)) && cost + rest < self.bound {
            self.halves.push(side, cost, arc.node);
        }
    }

    fn join(&mut self, cost: C, node: u32) {
        self.halves.joins.push((cost, node));
        if cost < self.bound {
            (self.bound, self.best) = (cost, Some(node));
        }
    }

    /// Whether the step's edge has room for the amount, the fee of the step, those that its label counts if they are ahead,
    /// and `more`.
    fn has_room(&self, step: &Step<'_, C>, more: C) -> bool {
        let Step { side, node, arc, .. } = *step;
        let need = match (self.query.room, side) {
            (Room::AtLeast(least), _) => C::amount(least),
            (Room::Whole, Side::Ahead) => self.amount + step.fee + more,
            (Room::Whole, Side::Back) => self.amount + step.cost.fee(),
        };
        let edge = match side {
            Side::Ahead => (node, arc.node),
            Side::Back => (arc.node, node),
        };
        match step.edges {
            Edges::Plain => match need.rounded().cmp(&arc.capacity) {
                Ordering::Less => true,
                Ordering::Greater => false,
                Ordering::Equal => arc.capacity.is_exact() || need.wide() <= self.capacity(edge),
            },
            Edges::Special => {
                let left = self.query.residual.left(edge, self.capacity(edge));
                need.wide() <= left && !self.shut.contains(&edge)
            }
        }
    }

    fn capacity(&self, edge: (u32, u32)) -> u128 {
        self.graph.edge(edge.0, edge.1).map_or(0, |line| line.capacity)
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
