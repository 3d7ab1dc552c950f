//! What a route charges and what it needs, edge by edge.
//!
//! A payment of `x` along `v0 … vk` pays each mediator `v1 … v(k-1)` the fee of the rate that it set for the friend *from*
//! whom the payment comes. Hop `i → i+1` carries `x` and the fees that are still to be paid from there on.

use std::collections::{BTreeMap, BTreeSet};

use offset_protocol::limits::{MAX_AMOUNT, MAX_ROUTE_LEN};

use crate::search::{Query, Room};
use crate::view::View;

/// What other parts of the same payment use, and what must not be used.
#[derive(Clone, Debug, Default)]
pub(crate) struct Residual {
    used: BTreeMap<(u32, u32), u128>,
    banned: BTreeSet<(u32, u32)>,
}

/// A way from the first number to the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    pub(crate) nodes: Vec<u32>,
}

/// One request of a payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) path: Path,
    pub(crate) amount: u128,
    pub(crate) fees: u128,
}

impl Residual {
    pub(crate) fn new(banned: BTreeSet<(u32, u32)>) -> Self {
        Residual { used: BTreeMap::new(), banned }
    }

    pub(crate) fn ban(&mut self, edge: (u32, u32)) {
        self.banned.insert(edge);
    }

    /// The edges of which not all is left; some twice.
    pub(crate) fn edges(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.used.keys().chain(&self.banned).copied()
    }

    /// What is left of the edge's capacity.
    pub(crate) fn left(&self, edge: (u32, u32), capacity: u128) -> u128 {
        if !self.banned.is_empty() && self.banned.contains(&edge) {
            return 0;
        }
        if self.used.is_empty() {
            return capacity;
        }
        capacity.saturating_sub(self.used.get(&edge).copied().unwrap_or(0))
    }

    /// Takes what `part` needs.
    pub(crate) fn take(&mut self, graph: &View, part: &Part) {
        for (edge, need) in part.path.edges().zip(part.path.needs(graph, part.amount).into_iter().flatten()) {
            *self.used.entry(edge).or_default() += need;
        }
    }
}

impl Path {
    pub(crate) fn edges(&self) -> impl DoubleEndedIterator<Item = (u32, u32)> + ExactSizeIterator + '_ {
        self.nodes.windows(2).map(|pair| (pair[0], pair[1]))
    }

    /// The edges, with what they can take of a payment along the path.
    fn capacities(&self, graph: &View) -> impl Iterator<Item = ((u32, u32), u128)> {
        let destination = self.nodes.last().copied().unwrap_or_default();
        self.edges().map(move |edge| (edge, graph.capacity(edge, destination)))
    }

    pub(crate) fn hops(&self) -> usize {
        self.nodes.len().saturating_sub(1)
    }

    /// Whether it is not longer than a route may be, repeats no node but that its ends may be one, and uses no edge that is
    /// banned.
    pub(crate) fn is_legal(&self, residual: &Residual) -> bool {
        let differ = |nodes: &[u32]| nodes.iter().enumerate().all(|(at, node)| !nodes[..at].contains(node));
        let [_, rest @ ..] = &self.nodes[..] else { return false };
        let [first @ .., _] = &self.nodes[..] else { return false };
        self.nodes.len() <= MAX_ROUTE_LEN
            && (residual.banned.is_empty() || !self.edges().any(|edge| residual.banned.contains(&edge)))
            && differ(first)
            && differ(rest)
    }

    /// The edges without room for what `query` demands of them, though they may look so from the source.
    pub(crate) fn blocked(&self, graph: &View, query: &Query<'_>) -> Vec<(u32, u32)> {
        if query.room != Room::Whole {
            return Vec::new();
        }
        let Some(needs) = self.needs(graph, query.amount) else { return self.edges().collect() };
        let lacks = |(edge, capacity): &((u32, u32), u128), need: u128| need > query.residual.left(*edge, *capacity);
        let edges = self.capacities(graph).zip(needs);
        edges.filter(|(edge, need)| lacks(edge, *need)).map(|((edge, _), _)| edge).collect()
    }

    /// What each edge carries for `amount` to arrive, the first edge first; `None` if an edge is missing or a sum is no amount.
    pub(crate) fn needs(&self, graph: &View, amount: u128) -> Option<Vec<u128>> {
        let mut need = amount;
        let mut needs = Vec::with_capacity(self.hops());
        for (i, (from, to)) in self.edges().rev().enumerate() {
            let line = graph.edge(from, to)?;
            if i > 0 {
                need = need.checked_add(line.rate.fee(amount).ok()?).filter(|need| *need <= MAX_AMOUNT)?;
            }
            needs.push(need);
        }
        needs.reverse();
        Some(needs)
    }

    /// What the mediators charge for `amount`.
    pub(crate) fn fees(&self, graph: &View, amount: u128) -> Option<u128> {
        Some(self.needs(graph, amount)?.first()? - amount)
    }

    /// Whether every edge has room for `amount` and its fees.
    pub(crate) fn carries(&self, graph: &View, residual: &Residual, amount: u128) -> bool {
        let Some(needs) = self.needs(graph, amount) else { return false };
        self.capacities(graph).zip(needs).all(|((edge, capacity), need)| need <= residual.left(edge, capacity))
    }

    /// The most that the path carries, at most `limit`. What it needs grows with the amount, so halving finds it.
    pub(crate) fn most(&self, graph: &View, residual: &Residual, limit: u128) -> u128 {
        largest(limit, |amount| self.carries(graph, residual, amount))
    }

    /// The edge with the least room in proportion to its capacity; the first of several.
    pub(crate) fn most_loaded(&self, graph: &View, amount: u128) -> Option<(u32, u32)> {
        let needs = self.needs(graph, amount)?;
        let mut worst: Option<(u128, (u32, u32))> = None;
        for ((edge, capacity), need) in self.capacities(graph).zip(needs) {
            // need <= capacity <= 2^100: the shift stays inside 128 bits.
            let load = (need << 20) / capacity.max(1);
            if worst.is_none_or(|(most, _)| load > most) {
                worst = Some((load, edge));
            }
        }
        worst.map(|(_, edge)| edge)
    }
}

/// The largest number in `0..=limit` that is 0 or `good`, if all numbers below a good one are good.
pub(crate) fn largest(limit: u128, good: impl Fn(u128) -> bool) -> u128 {
    if good(limit) {
        return limit;
    }
    let (mut low, mut high) = (0, limit);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if good(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    low
}
