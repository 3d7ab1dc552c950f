//! The answer to a request for routes: which options are offered, and in which order.
//!
//! 1. The cheapest single route, exact on (fees, hops).
//! 2. Up to two alternatives: the cheapest route that avoids the most loaded edge of the option before it.
//! 3. A split, if no single route carries the amount, or if splitting is cheaper.
//!
//! Sorted by total fees, then by total hops. Nothing above the request's `max_fee` is offered; an amount of zero, or above
//! the largest amount, and unknown ends have no options. Same graph, same request, same answer.

use std::collections::BTreeSet;

use offset_protocol::codec::List;
use offset_protocol::index::{MultiRoute, RequestRoutes, RoutePart, Routes};
use offset_protocol::limits::{MAX_AMOUNT, MAX_ROUTE_OPTIONS};

use crate::graph::{CurrencyGraph, Graph};
use crate::path::{Part, Path, Residual};
use crate::search::{Budget, Query, Workspace, cheapest};
use crate::split::split;

/// Alternatives to the cheapest route.
const ALTERNATIVES: usize = 2;

/// Answers `request` from `graph`, looking at no more than `work` lines of reports.
pub fn answer(graph: &Graph, request: &RequestRoutes, workspace: &mut Workspace, work: u64) -> Routes {
    answer_counted(graph, request, workspace, work).0
}

/// Like [`answer`]; says as well how many lines of reports it looked at.
pub fn answer_counted(graph: &Graph, request: &RequestRoutes, workspace: &mut Workspace, work: u64) -> (Routes, u64) {
    let mut budget = Budget::new(work);
    let mut options = options(graph, request, workspace, &mut budget).unwrap_or_default();
    options.retain(|parts| request.max_fee.is_none_or(|max_fee| cost(parts).0 <= max_fee));
    options.sort_by_key(|parts| cost(parts));
    let options = match graph.currency(&request.currency) {
        Some(currency) => List::truncated(options.iter().map(|parts| offer(currency, parts))),
        None => List::new(),
    };
    debug_assert!(options.len() <= MAX_ROUTE_OPTIONS);
    (Routes { id: request.id, options, capped: budget.exhausted }, work - budget.left())
}

/// Total fees and total hops.
fn cost(parts: &[Part]) -> (u128, usize) {
    (parts.iter().map(|part| part.fees).sum(), parts.iter().map(|part| part.path.hops()).sum())
}

fn offer(graph: &CurrencyGraph, parts: &[Part]) -> MultiRoute {
    // Paths are never longer than a route, splits never of more parts than a payment: nothing is cut off.
    let route = |path: &Path| List::truncated(path.nodes.iter().map(|number| graph.key(*number)));
    let part = |part: &Part| RoutePart { route: route(&part.path), amount: part.amount, fees: part.fees };
    MultiRoute { parts: List::truncated(parts.iter().map(part)) }
}

fn options(
    graph: &Graph,
    request: &RequestRoutes,
    workspace: &mut Workspace,
    budget: &mut Budget,
) -> Option<Vec<Vec<Part>>> {
    if request.amount == 0 || request.amount > MAX_AMOUNT {
        return None;
    }
    let graph = graph.currency(&request.currency)?;
    let number = |key| graph.number(key);
    let (source, destination) = (number(&request.source)?, number(&request.destination)?);
    let edge = |(from, to)| Some((number(from)?, number(to)?));
    let banned: BTreeSet<_> = request.exclude.iter().filter_map(|banned| edge((&banned.from, &banned.to))).collect();
    let residual = Residual::new(banned);
    let max_fee = request.max_fee.unwrap_or(MAX_AMOUNT).min(MAX_AMOUNT);
    let query = Query { source, destination, amount: request.amount, max_fee, residual: &residual };
    let mut options = singles(graph, &query, workspace, budget);
    let best = options.first().map(|parts| cost(parts).0);
    if best.is_none_or(|fees| fees > 0) {
        let cheaper = |parts: &Vec<Part>| best.is_none_or(|fees| cost(parts).0 < fees);
        options.extend(split(graph, &query, workspace, budget).filter(cheaper));
    }
    Some(options)
}

/// The cheapest route and its alternatives.
fn singles(graph: &CurrencyGraph, query: &Query<'_>, workspace: &mut Workspace, budget: &mut Budget) -> Vec<Vec<Part>> {
    let mut options = Vec::new();
    let mut residual = query.residual.clone();
    while options.len() <= ALTERNATIVES {
        let query = Query { residual: &residual, ..*query };
        let Some(path) = cheapest(graph, &query, workspace, budget) else { break };
        let Some(fees) = path.fees(graph, query.amount) else { break };
        let Some(loaded) = path.most_loaded(graph, query.amount) else { break };
        options.push(vec![Part { path, amount: query.amount, fees }]);
        residual.ban(loaded);
    }
    options
}
