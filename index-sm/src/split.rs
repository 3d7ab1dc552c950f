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
//! What is claimed: every part is exact and all fit together, always. Without fees, and if fewer than [`MAX_AUGMENTATIONS`]
//! augmenting paths make the maximum flow and it comes apart into no more than [`MAX_SPLIT`] paths of legal length, a split is
//! found whenever one exists. What is not claimed: that the split is the cheapest one; that with fees every feasible
//! split is found (fees are rounded and have fixed parts, so that the question is no flow problem). Cycles use the first
//! way only.

use std::collections::BTreeMap;

use offset_protocol::limits::{MAX_ROUTE_LEN, MAX_SPLIT};

use crate::graph::CurrencyGraph;
use crate::path::{Part, Path, Residual, largest};
use crate::search::{Budget, Query, Workspace, cheapest};

/// Augmenting paths of one split. Chosen freely: four for each part.
pub(crate) const MAX_AUGMENTATIONS: usize = 4 * MAX_SPLIT;
/// Rounds in which a flow grows by what fees took away. Chosen freely: the shortfall shrinks by the rates' factor each time.
const FEE_ROUNDS: usize = 4;

/// A split being made.
struct Split<'a> {
    graph: &'a CurrencyGraph,
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
    graph: &CurrencyGraph,
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
    graph: &CurrencyGraph,
    query: &Query<'_>,
    workspace: &mut Workspace,
    budget: &mut Budget,
) -> Option<Vec<Part>> {
    let mut split = Split::new(graph, query, workspace, budget);
    split.fill_with_cheapest();
    (split.left == 0).then_some(split.parts)
}

/// Whether the edges together have room for the amount.
fn suffice(graph: &CurrencyGraph, query: &Query<'_>, edges: impl Iterator<Item = (u32, u32)>) -> bool {
    let mut missing = query.amount;
    for (from, to) in edges {
        let capacity = graph.edge(from, to).map_or(0, |line| line.capacity);
        missing = missing.saturating_sub(query.residual.left((from, to), capacity));
        if missing == 0 {
            return true;
        }
    }
    false
}

impl<'a> Split<'a> {
    fn new(
        graph: &'a CurrencyGraph,
        query: &'a Query<'a>,
        workspace: &'a mut Workspace,
        budget: &'a mut Budget,
    ) -> Self {
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

fn by_flow(
    graph: &CurrencyGraph,
    query: &Query<'_>,
    workspace: &mut Workspace,
    budget: &mut Budget,
) -> Option<Vec<Part>> {
    let mut flow = Flow::default();
    let mut target = query.amount;
    for _ in 0..FEE_ROUNDS {
        let grown = flow.grow(graph, query, target, workspace, budget);
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
        target = flow.value.saturating_add(shortfall.saturating_mul(2));
    }
    None
}

/// A flow from source to destination: of two opposite edges at most one carries something.
#[derive(Default)]
struct Flow {
    on: BTreeMap<(u32, u32), u128>,
    value: u128,
    augmentations: usize,
}

impl Flow {
    /// Augments until the value is `target`; false if it cannot.
    fn grow(
        &mut self,
        graph: &CurrencyGraph,
        query: &Query<'_>,
        target: u128,
        workspace: &mut Workspace,
        budget: &mut Budget,
    ) -> bool {
        // Wide paths first, so that there are few; at last any path.
        for halvings in [0, 1, 2, 3, 4, 6, 8] {
            self.augment(graph, query, target, (target >> halvings).max(1), workspace, budget);
        }
        self.augment(graph, query, target, 1, workspace, budget);
        self.value >= target
    }

    /// Augments by paths that carry at least `width`, or all that is missing.
    fn augment(
        &mut self,
        graph: &CurrencyGraph,
        query: &Query<'_>,
        target: u128,
        width: u128,
        workspace: &mut Workspace,
        budget: &mut Budget,
    ) {
        while self.value < target && self.augmentations < MAX_AUGMENTATIONS {
            let missing = target - self.value;
            let Some(path) = self.shortest(graph, query, width.min(missing), workspace, budget) else { return };
            let room =
                |edge: (u32, u32)| graph.edge(edge.0, edge.1).map_or(0, |line| self.room(query, edge, line.capacity));
            let amount = path.edges().map(room).min().unwrap_or(0).min(missing);
            for edge in path.edges() {
                self.push(edge, amount);
            }
            self.value += amount;
            self.augmentations += 1;
        }
    }

    fn room(&self, query: &Query<'_>, edge: (u32, u32), capacity: u128) -> u128 {
        let on = |edge| self.on.get(&edge).copied().unwrap_or(0);
        query.residual.left(edge, capacity).saturating_sub(on(edge)).saturating_add(on((edge.1, edge.0)))
    }

    /// A path of fewest hops on which every arc has `width` of room, opposite flow included.
    fn shortest(
        &self,
        graph: &CurrencyGraph,
        query: &Query<'_>,
        width: u128,
        workspace: &mut Workspace,
        budget: &mut Budget,
    ) -> Option<Path> {
        workspace.backward.flood(graph.size());
        workspace.backward.mark(query.destination);
        let mut queue = vec![(query.destination, 0)];
        let mut at = 0;
        while at < queue.len() {
            let (node, _) = queue[at];
            if node == query.source {
                return Some(trace(&queue, at));
            }
            let lines = graph.lines(node);
            if !budget.take(lines.len() + 1) {
                return None;
            }
            for line in lines.iter().filter(|line| line.mutual) {
                if self.room(query, (line.friend, node), line.capacity) >= width && workspace.backward.mark(line.friend)
                {
                    queue.push((line.friend, at));
                }
            }
            at += 1;
        }
        None
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
    fn take_apart(&self, query: &Query<'_>) -> Vec<(Path, u128)> {
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
