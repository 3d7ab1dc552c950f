//! What both searches from two ends stand on: the edges that a half may go over, what they cost, and whether they have room.
//!
//! | half | an edge is open if it has room for |
//! |---|---|
//! | back, from the destination | amount, and exactly the fees ahead |
//! | ahead, from the source | amount, and the *least* fees ahead that are possible as far as is known |
//!
//! An arc says what may be passed on over its edge. Edges to the destination are asked for what may end there, in the lines of
//! the destination: only the half that begins there goes over them, once.
//!
//! Not checked here: whether a label is worth anything, and where routes end.

use std::cmp::Ordering;

use crate::arc::Arc;
use crate::cost::Cost;
use crate::search::{Budget, Query, Room};
use crate::view::View;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Ahead,
    Back,
}

impl Side {
    pub(crate) fn other(self) -> Side {
        match self {
            Side::Ahead => Side::Back,
            Side::Back => Side::Ahead,
        }
    }
}

/// An arc that a half goes over, and what its label at the other end costs.
#[derive(Clone, Copy)]
pub(crate) struct Step<'a, C> {
    pub(crate) side: Side,
    /// The end that the half comes from.
    pub(crate) node: u32,
    pub(crate) arc: &'a Arc,
    /// With the edge's fee and hop.
    pub(crate) cost: C,
    edges: Edges,
    /// What the edge adds to the fees.
    fee: C,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Edges {
    /// As the graph says.
    Plain,
    /// As the graph says, and they lead to the destination: more may end there than their arcs say.
    Last,
    /// Some may be shut, or partly used.
    Special,
}

/// The graph as a query sees it.
pub(crate) struct Ground<'a, C> {
    pub(crate) graph: &'a View,
    pub(crate) query: &'a Query<'a>,
    amount: C,
    /// Edges that no route can use, though it looks so from the source; ascending.
    shut: Vec<(u32, u32)>,
    /// Nodes whose edges are not all what the graph says: from them, and to them; ascending.
    special: [Vec<u32>; 2],
}

impl<'a, C: Cost> Ground<'a, C> {
    pub(crate) fn new(graph: &'a View, query: &'a Query<'a>, shut: &[(u32, u32)]) -> Self {
        let edges = || query.residual.edges().chain(shut.iter().copied());
        let sorted = |mut nodes: Vec<u32>| {
            nodes.sort_unstable();
            nodes
        };
        let special = [sorted(edges().map(|(from, _)| from).collect()), sorted(edges().map(|(_, to)| to).collect())];
        let mut shut = shut.to_vec();
        shut.sort_unstable();
        Ground { graph, query, amount: C::amount(query.amount), shut, special }
    }

    /// Hands `offer` each step from a label of `cost` at `node` that comes to less than the bound, which `offer` may lower: it
    /// is told the bound and returns it. Says how many lines were looked at.
    pub(crate) fn expand(
        &self,
        side: Side,
        node: u32,
        cost: C,
        mut bound: C,
        budget: &mut Budget,
        mut offer: impl FnMut(&Step<'_, C>, C) -> C,
    ) -> usize {
        let all = match side {
            Side::Ahead => self.graph.ahead(node),
            Side::Back => self.graph.back(node),
        };
        let arcs = budget.afford(all);
        let special =
            !self.special[side as usize].is_empty() && self.special[side as usize].binary_search(&node).is_ok();
        // The destination charges nothing; whoever comes from the source leaves edges to it to the other half.
        let free = side == Side::Back && node == self.query.destination;
        let edges = match (special, free) {
            (true, _) => Edges::Special,
            (false, true) => Edges::Last,
            (false, false) => Edges::Plain,
        };
        let (mut looked, mut ended) = (0, false);
        for arc in arcs {
            looked += 1;
            let share = if free { C::default() } else { self.amount.share(arc.rate.mul) };
            if cost + share.cost() + C::HOP >= bound {
                ended = true;
                break;
            }
            let fee = if free { share } else { share + C::from_add(arc.rate.add) };
            let step = Step { side, node, arc, edges, fee, cost: cost + fee.cost() + C::HOP };
            let left_to_other = side == Side::Ahead && arc.node == self.query.destination;
            if step.cost < bound && !left_to_other && self.has_room(&step, C::default()) {
                bound = offer(&step, bound);
            }
        }
        budget.spend(looked + 1);
        if !ended && arcs.len() < all.len() {
            budget.exhausted = true;
        }
        looked + 1
    }

    /// Whether the step's edge has room for the amount, the fees that are known to be ahead of it, and `more`.
    pub(crate) fn has_room(&self, step: &Step<'_, C>, more: C) -> bool {
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
            Edges::Last => need.rounded() < arc.capacity || need.wide() <= self.capacity(edge),
            Edges::Special => {
                let left = self.query.residual.left(edge, self.capacity(edge));
                need.wide() <= left && self.shut.binary_search(&edge).is_err()
            }
        }
    }

    fn capacity(&self, edge: (u32, u32)) -> u128 {
        self.graph.capacity(edge, self.query.destination)
    }
}
