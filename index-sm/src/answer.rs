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

#[cfg(any(test, feature = "probes"))]
use offset_protocol::bytes::PublicKey;
use offset_protocol::codec::List;
use offset_protocol::index::{Edge, MultiRoute, RequestRoutes, RoutePart, Routes};
use offset_protocol::limits::{MAX_AMOUNT, MAX_ROUTE_OPTIONS, MAX_SPLIT};

use crate::graph::{CurrencyGraph, Graph};
use crate::path::{Part, Path, Residual};
use crate::search::{Budget, Care, Query, Room, Workspace, another, cheapest};
use crate::split::{split, split_within};
use crate::view::View;

/// Alternatives to the cheapest route.
const ALTERNATIVES: usize = 2;

/// How many options are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Want {
    One,
    All,
}

/// What a request asks of a graph, in the graph's numbers.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    id: u64,
    source: u32,
    destination: u32,
    amount: u128,
    max_fee: Option<u128>,
    residual: Residual,
}

/// What a search found.
pub(crate) struct Answer {
    pub(crate) routes: Routes,
    /// Lines of reports that were looked at.
    pub(crate) lines: u64,
    /// The number of each key in the routes.
    #[cfg(any(test, feature = "probes"))]
    pub(crate) numbers: std::collections::BTreeMap<PublicKey, u32>,
}

/// Answers `request` from `graph`, looking at no more than `work` lines of reports.
pub fn answer(graph: &Graph, request: &RequestRoutes, workspace: &mut Workspace, work: u64) -> Routes {
    answer_counted(graph, request, workspace, work).0
}

/// Like [`answer`]; says as well how many lines of reports it looked at.
pub fn answer_counted(graph: &Graph, request: &RequestRoutes, workspace: &mut Workspace, work: u64) -> (Routes, u64) {
    ask(graph, request, workspace, work, Want::All)
}

/// Like [`answer`], but with one option at most: the cheapest single route, or a split where there is none. About half the
/// work.
pub fn best(graph: &Graph, request: &RequestRoutes, workspace: &mut Workspace, work: u64) -> Routes {
    ask(graph, request, workspace, work, Want::One).0
}

fn ask(graph: &Graph, request: &RequestRoutes, workspace: &mut Workspace, work: u64, want: Want) -> (Routes, u64) {
    let currency = graph.currency(&request.currency);
    let Some((question, graph)) = currency.and_then(|graph| Some((Question::new(graph, request)?, graph))) else {
        return (no_routes(request), 0);
    };
    let Answer { routes, lines, .. } = respond(graph.view(), &question, workspace, work, want);
    (routes, lines)
}

/// The answer to a request that nothing can be offered for.
pub(crate) fn no_routes(request: &RequestRoutes) -> Routes {
    Routes { id: request.id, options: List::new(), capped: false }
}

impl Question {
    /// `None` if nothing can be offered, whatever the graph is like between the ends.
    pub(crate) fn new(graph: &CurrencyGraph, request: &RequestRoutes) -> Option<Self> {
        if request.amount == 0 || request.amount > MAX_AMOUNT {
            return None;
        }
        // The ends first: to look up all excluded edges costs a hundred times as much.
        let (source, destination) = (graph.number(&request.source)?, graph.number(&request.destination)?);
        let edge = |banned: &Edge| Some((graph.number(&banned.from)?, graph.number(&banned.to)?));
        let banned: BTreeSet<_> = request.exclude.iter().filter_map(edge).collect();
        Some(Question {
            id: request.id,
            source,
            destination,
            amount: request.amount,
            max_fee: request.max_fee,
            residual: Residual::new(banned),
        })
    }

    /// Answers with all options, looking at no more than `work` lines of reports.
    pub(crate) fn answer(&self, view: &View, workspace: &mut Workspace, work: u64) -> Answer {
        respond(view, self, workspace, work, Want::All)
    }
}

fn respond(view: &View, question: &Question, workspace: &mut Workspace, work: u64, want: Want) -> Answer {
    let mut budget = Budget::new(work);
    let mut options = options(view, question, workspace, &mut budget, want);
    options.retain(|parts| question.max_fee.is_none_or(|max_fee| cost(parts).0 <= max_fee));
    options.sort_by_key(|parts| cost(parts));
    debug_assert!(options.len() <= MAX_ROUTE_OPTIONS);
    let offers = List::truncated(options.iter().map(|parts| offer(view, parts)));
    Answer {
        routes: Routes { id: question.id, options: offers, capped: budget.exhausted },
        lines: work - budget.left(),
        #[cfg(any(test, feature = "probes"))]
        numbers: {
            let nodes = options.iter().flatten().flat_map(|part| &part.path.nodes);
            nodes.map(|number| (view.key(*number), *number)).collect()
        },
    }
}

/// Total fees and total hops.
fn cost(parts: &[Part]) -> (u128, usize) {
    (parts.iter().map(|part| part.fees).sum(), parts.iter().map(|part| part.path.hops()).sum())
}

fn offer(view: &View, parts: &[Part]) -> MultiRoute {
    // Paths are never longer than a route, splits never of more parts than a payment: nothing is cut off.
    let route = |path: &Path| List::truncated(path.nodes.iter().map(|number| view.key(*number)));
    let part = |part: &Part| RoutePart { route: route(&part.path), amount: part.amount, fees: part.fees };
    MultiRoute { parts: List::truncated(parts.iter().map(part)) }
}

fn options(
    view: &View,
    question: &Question,
    workspace: &mut Workspace,
    budget: &mut Budget,
    want: Want,
) -> Vec<Vec<Part>> {
    // Amount and fees together are an amount.
    let most = MAX_AMOUNT - question.amount;
    let query = Query {
        source: question.source,
        destination: question.destination,
        amount: question.amount,
        max_fee: question.max_fee.unwrap_or(most).min(most),
        room: Room::Whole,
        care: Care::Exact,
        residual: &question.residual,
    };
    let mut options = singles(view, &query, workspace, budget, want);
    match (options.first().map(|parts| cost(parts).0), want) {
        (None, _) => options.extend(split(view, &query, workspace, budget)),
        (Some(fees), Want::All) if fees > 0 => options.extend(cheaper_split(view, &query, fees, workspace, budget)),
        (Some(_), Want::All | Want::One) => {}
    }
    options
}

/// The cheapest route and, if wanted, its alternatives.
fn singles(
    view: &View,
    query: &Query<'_>,
    workspace: &mut Workspace,
    budget: &mut Budget,
    want: Want,
) -> Vec<Vec<Part>> {
    let mut options = Vec::new();
    let mut residual = query.residual.clone();
    let mut path = cheapest(view, query, workspace, budget);
    while let Some(found) = path.take() {
        let Some(fees) = found.fees(view, query.amount) else { break };
        let loaded = found.most_loaded(view, query.amount);
        options.push(vec![Part { path: found, amount: query.amount, fees }]);
        let Some(loaded) = loaded.filter(|_| want == Want::All && options.len() <= ALTERNATIVES) else { break };
        residual.ban(loaded);
        let query = Query { residual: &residual, care: Care::Quick, ..*query };
        path = another(view, &query, workspace).or_else(|| cheapest(view, &query, workspace, budget));
    }
    options
}

/// A split that costs less than `fees`, if it seems that there may be one.
fn cheaper_split(
    view: &View,
    query: &Query<'_>,
    fees: u128,
    workspace: &mut Workspace,
    budget: &mut Budget,
) -> Option<Vec<Part>> {
    let within = Query { max_fee: fees - 1, care: Care::None, ..*query };
    let smallest = query.amount.div_ceil(MAX_SPLIT as u128);
    let relaxed = Query { room: Room::AtLeast(smallest), ..within };
    cheapest(view, &relaxed, workspace, budget)?;
    split_within(view, &within, workspace, budget)
}
