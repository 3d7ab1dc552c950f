//! One payment over several routes: parts whose amounts add up exactly, whose fees are exact as charged, and whose needs
//! fit together into the capacity of every edge that they share.
//!
//! Two ways, the second only where the first fails:
//! 1. *Successive cheapest paths.* With `k` parts left for an amount `x`, one of them must carry `x/k`; so the cheapest path
//!    for `x/k` takes as much as it can, and the rest goes on, on what is left of the capacities. If not even the first path
//!    is there, no split of so many parts exists at all.
//! 2. *Augmenting paths with residual arcs* (a maximum flow, wide paths first), taken apart into paths; a path's share is the
//!    gross amount of its part, fees included, so that shares always fit. What fees take away is looked for on what is left.
//!
//! What is claimed: every part is exact and all fit together, always. Without fees, and if fewer than [`MAX_AUGMENTATIONS`](crate::flow::MAX_AUGMENTATIONS)
//! augmenting paths make the maximum flow and it comes apart into no more than [`MAX_SPLIT`] paths of legal length, a split is
//! found whenever one exists. What is not claimed: that the split is the cheapest one; that with fees every feasible
//! split is found (fees are rounded and have fixed parts, so that the question is no flow problem). Cycles use the first
//! way only.

use offset_protocol::limits::MAX_SPLIT;

use crate::flow::Flow;
use crate::path::{Part, Path, Residual, largest};
use crate::search::{Budget, Care, Query, Workspace, cheapest};
use crate::view::View;

/// Rounds in which a flow grows by what fees took away. Chosen freely: the shortfall shrinks by the rates' factor each time.
const FEE_ROUNDS: usize = 4;

/// A split being made.
struct Split<'a> {
    graph: &'a View,
    query: &'a Query<'a>,
    workspace: &'a mut Workspace,
    budget: &'a mut Budget,
    residual: Residual,
    parts: Vec<Part>,
    left: u128,
    fees: u128,
}

/// Parts for `query.amount`, or `None` if none were found within `query.max_fee` and the budget.
pub(crate) fn split(
    graph: &View,
    query: &Query<'_>,
    workspace: &mut Workspace,
    budget: &mut Budget,
) -> Option<Vec<Part>> {
    let (source, destination) = (query.source, query.destination);
    let out = graph.ahead(source).iter().map(|arc| (source, arc.node));
    let into = graph.back(destination).iter().map(|arc| (arc.node, destination));
    if !suffice(graph, query, out) || !suffice(graph, query, into) {
        return None;
    }
    let mut first = Split::new(graph, query, workspace, budget);
    first.fill_with_cheapest();
    if first.left == 0 {
        return Some(first.parts);
    }
    if first.parts.is_empty() || query.source == query.destination {
        return None;
    }
    by_flow(graph, query, workspace, budget)
}

/// Parts for `query.amount` by the first way only: quick, where a split is not needed but may be better.
pub(crate) fn split_within(
    graph: &View,
    query: &Query<'_>,
    workspace: &mut Workspace,
    budget: &mut Budget,
) -> Option<Vec<Part>> {
    let mut split = Split::new(graph, query, workspace, budget);
    split.fill_with_cheapest();
    (split.left == 0).then_some(split.parts)
}

/// Whether the edges together have room for the amount.
fn suffice(graph: &View, query: &Query<'_>, edges: impl Iterator<Item = (u32, u32)>) -> bool {
    let mut missing = query.amount;
    for edge in edges {
        let capacity = graph.capacity(edge, query.destination);
        missing = missing.saturating_sub(query.residual.left(edge, capacity));
        if missing == 0 {
            return true;
        }
    }
    false
}

impl<'a> Split<'a> {
    fn new(graph: &'a View, query: &'a Query<'a>, workspace: &'a mut Workspace, budget: &'a mut Budget) -> Self {
        let residual = query.residual.clone();
        Split { graph, query, workspace, budget, residual, parts: Vec::new(), left: query.amount, fees: 0 }
    }

    /// Adds cheapest paths until nothing is left, or no path or no part.
    fn fill_with_cheapest(&mut self) {
        while self.left > 0 && self.parts.len() < MAX_SPLIT {
            let places = (MAX_SPLIT - self.parts.len()) as u128;
            let query = Query {
                amount: self.left.div_ceil(places),
                max_fee: self.query.max_fee.saturating_sub(self.fees),
                care: if self.query.care == Care::Exact { Care::Quick } else { self.query.care },
                residual: &self.residual,
                ..*self.query
            };
            let Some(path) = cheapest(self.graph, &query, self.workspace, self.budget) else { return };
            let amount = self.most(&path, self.left);
            if !self.add(path, amount) {
                return;
            }
        }
    }

    /// The most, up to `limit`, that the path carries within what is left of capacities and fees.
    fn most(&self, path: &Path, limit: u128) -> u128 {
        let fees_left = self.query.max_fee.saturating_sub(self.fees);
        let room = path.most(self.graph, &self.residual, limit);
        largest(room, |amount| path.fees(self.graph, amount).is_some_and(|fees| fees <= fees_left))
    }

    /// Adds a part, if it fits.
    fn add(&mut self, path: Path, amount: u128) -> bool {
        if amount == 0 || self.parts.len() >= MAX_SPLIT || !path.carries(self.graph, &self.residual, amount) {
            return false;
        }
        let Some(fees) = path.fees(self.graph, amount) else { return false };
        let part = Part { path, amount, fees };
        self.residual.take(self.graph, &part);
        self.left -= amount;
        self.fees += fees;
        self.parts.push(part);
        true
    }
}

fn by_flow(graph: &View, query: &Query<'_>, workspace: &mut Workspace, budget: &mut Budget) -> Option<Vec<Part>> {
    let mut flow = Flow::default();
    let mut target = query.amount;
    for _ in 0..FEE_ROUNDS {
        let grown = flow.grow(graph, query, target, &mut workspace.levels, budget);
        let mut split = Split::new(graph, query, workspace, budget);
        let mut shares = flow.take_apart(query);
        // What costs least for its share comes first; ties stay in the order in which they were taken apart.
        shares.sort_by_key(|(path, share)| path.fees(graph, *share).map(|fees| (fees << 20) / share));
        for (path, share) in &shares {
            let net = largest(split.left.min(*share), |amount| {
                path.needs(graph, amount).and_then(|needs| needs.first().copied()).is_some_and(|need| need <= *share)
            });
            let net = split.most(path, net);
            split.add(path.clone(), net);
        }
        let shortfall = split.left;
        split.fill_with_cheapest();
        if split.left == 0 {
            return Some(split.parts);
        }
        if !grown {
            return None;
        }
        target = flow.value().saturating_add(shortfall.saturating_mul(2));
    }
    None
}
