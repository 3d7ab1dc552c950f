//! The answer to a request for routes: which options are offered, and in which order.
//!
//! | option | found by | for |
//! |---|---|---|
//! | the cheapest single route, exact on (fees, hops) | a search | [`best`], [`answer`] |
//! | up to two alternatives, each avoiding the most loaded edge of the option before it | the cheapest of those that the search met; if it met none, a search that avoids these edges | [`answer`] |
//! | a split, if no single route carries the amount | the searches of `split` | [`best`], [`answer`] |
//! | a split that is cheaper than the cheapest route | the same, if one search says that there may be any | [`answer`] |
//!
//! A split of at most `k` parts has a part of at least `1/k` of the amount. So no split is cheaper than the cheapest way whose edges
//! have room for that much, fees reckoned for the whole amount, but for what rounding gives back; a unit for each mediator
//! and part is not worth a search.
//!
//! Sorted by total fees, then by total hops. Nothing above the request's `max_fee` is offered; an amount of zero, or above
//! the largest amount, and unknown ends have no options. Same graph, same request, same answer.

use std::collections::BTreeSet;

use offset_protocol::codec::List;
use offset_protocol::index::{MultiRoute, RequestRoutes, RoutePart, Routes};
use offset_protocol::limits::{MAX_AMOUNT, MAX_ROUTE_OPTIONS, MAX_SPLIT};

use crate::graph::{CurrencyGraph, Graph};
use crate::path::{Part, Path, Residual};
use crate::search::{Budget, Care, Query, Room, Workspace, another, cheapest};
use crate::split::{split, split_within};

/// Alternatives to the cheapest route.
const ALTERNATIVES: usize = 2;

/// How many options are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Want {
    One,
    All,
}

/// Answers `request` from `graph`, looking at no more than `work` lines of reports.
pub fn answer(graph: &Graph, request: &RequestRoutes, workspace: &mut Workspace, work: u64) -> Routes {
    answer_counted(graph, request, workspace, work).0
}

/// Like [`answer`]; says as well how many lines of reports it looked at.
pub fn answer_counted(graph: &Graph, request: &RequestRoutes, workspace: &mut Workspace, work: u64) -> (Routes, u64) {
    respond(graph, request, workspace, work, Want::All)
}

/// Like [`answer`], but with one option at most: the cheapest single route, or a split where there is none. About half the
/// work.
pub fn best(graph: &Graph, request: &RequestRoutes, workspace: &mut Workspace, work: u64) -> Routes {
    respond(graph, request, workspace, work, Want::One).0
}

fn respond(graph: &Graph, request: &RequestRoutes, workspace: &mut Workspace, work: u64, want: Want) -> (Routes, u64) {
    let mut budget = Budget::new(work);
    let mut options = options(graph, request, workspace, &mut budget, want).unwrap_or_default();
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
    want: Want,
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
    // Amount and fees together are an amount.
    let most = MAX_AMOUNT - request.amount;
    let max_fee = request.max_fee.unwrap_or(most).min(most);
    let query = Query {
        source,
        destination,
        amount: request.amount,
        max_fee,
        room: Room::Whole,
        care: Care::Exact,
        residual: &residual,
    };
    let mut options = singles(graph, &query, workspace, budget, want);
    match (options.first().map(|parts| cost(parts).0), want) {
        (None, _) => options.extend(split(graph, &query, workspace, budget)),
        (Some(fees), Want::All) if fees > 0 => options.extend(cheaper_split(graph, &query, fees, workspace, budget)),
        (Some(_), Want::All | Want::One) => {}
    }
    Some(options)
}

/// The cheapest route and, if wanted, its alternatives.
fn singles(
    graph: &CurrencyGraph,
    query: &Query<'_>,
    workspace: &mut Workspace,
    budget: &mut Budget,
    want: Want,
) -> Vec<Vec<Part>> {
    let mut options = Vec::new();
    let mut residual = query.residual.clone();
    let mut path = cheapest(graph, query, workspace, budget);
    while let Some(found) = path.take() {
        let Some(fees) = found.fees(graph, query.amount) else { break };
        let loaded = found.most_loaded(graph, query.amount);
        options.push(vec![Part { path: found, amount: query.amount, fees }]);
        let Some(loaded) = loaded.filter(|_| want == Want::All && options.len() <= ALTERNATIVES) else { break };
        residual.ban(loaded);
        let query = Query { residual: &residual, care: Care::Quick, ..*query };
        path = another(graph, &query, workspace).or_else(|| cheapest(graph, &query, workspace, budget));
    }
    options
}

/// A split that costs less than `fees`, if it seems that there may be one.
fn cheaper_split(
    graph: &CurrencyGraph,
    query: &Query<'_>,
    fees: u128,
    workspace: &mut Workspace,
    budget: &mut Budget,
) -> Option<Vec<Part>> {
    let within = Query { max_fee: fees - 1, care: Care::None, ..*query };
    let smallest = query.amount.div_ceil(MAX_SPLIT as u128);
    let relaxed = Query { room: Room::AtLeast(smallest), ..within };
    cheapest(graph, &relaxed, workspace, budget)?;
    split_within(graph, &within, workspace, budget)
}
