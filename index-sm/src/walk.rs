//! Walks an offered route over the graph as a payment would, and checks that what is offered is what is charged.
//!
//! Independent of the search: nothing is shared with it but the reports. Tests and simulators use it, and whoever does not
//! trust an offer.

use std::collections::{BTreeMap, BTreeSet};

use offset_protocol::bytes::PublicKey;
use offset_protocol::index::{Edge, Entry, EntryKey, MultiRoute, RequestRoutes, RoutePart};
use offset_protocol::limits::MAX_AMOUNT;

use crate::graph::Graph;

/// An offer that would not be charged, or could not be paid, as it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadOffer {
    /// Amounts do not add up to what was asked, or a part is empty, or states no amount.
    #[error("the parts' amounts do not add up to the amount asked")]
    Amount,
    /// Wrong ends, a repeated node, fewer than two keys, or a cycle that comes back through the friend it left by.
    #[error("a route does not lead from the source to the destination, or repeats a node")]
    Shape,
    /// An edge that the request excludes.
    #[error("a route uses an excluded edge")]
    Excluded,
    /// Ends of an edge that do not list each other.
    #[error("a route uses an edge that does not exist")]
    NoEdge,
    /// Mediators charge another sum than the offer says.
    #[error("mediators charge {charged}, the offer says {offered}")]
    Fees {
        /// By the mediators' rates.
        charged: u128,
        /// By the offer.
        offered: u128,
    },
    /// The sum of all fees is above the request's maximum.
    #[error("the fees are above the maximum of the request")]
    MaxFee,
    /// All parts together need more than an edge has.
    #[error("all parts together need {needed} of an edge with {capacity}")]
    Capacity {
        /// What the parts push over the edge, fees included.
        needed: u128,
        /// What may end there, if it leads to the destination, or what may be passed on.
        capacity: u128,
    },
}

/// What a node published about a friend, if it did.
type Reports<'a> = &'a dyn Fn(&PublicKey, &PublicKey) -> Option<Entry>;

/// Checks `offer` against `request` and the reports.
///
/// # Errors
/// The first [`BadOffer`] found.
pub fn walk(graph: &Graph, request: &RequestRoutes, offer: &MultiRoute) -> Result<(), BadOffer> {
    let currency = request.currency;
    walk_over(&|node, friend| graph.entry(node, &EntryKey { friend: *friend, currency }), request, offer)
}

/// The same, whoever has the reports.
pub(crate) fn walk_over(graph: Reports<'_>, request: &RequestRoutes, offer: &MultiRoute) -> Result<(), BadOffer> {
    let mut needed: BTreeMap<Edge, u128> = BTreeMap::new();
    let (mut amounts, mut fees) = (0_u128, 0_u128);
    for part in &offer.parts {
        check_shape(request, part)?;
        for (edge, need) in charge(graph, request, part)? {
            *needed.entry(edge).or_default() += need;
        }
        amounts = amounts.checked_add(part.amount).ok_or(BadOffer::Amount)?;
        fees = fees.checked_add(part.fees).ok_or(BadOffer::MaxFee)?;
    }
    if amounts != request.amount {
        return Err(BadOffer::Amount);
    }
    if request.max_fee.is_some_and(|max_fee| fees > max_fee) {
        return Err(BadOffer::MaxFee);
    }
    for (edge, needed) in needed {
        let Entry { recv_capacity, forward_capacity, .. } = line(graph, edge)?;
        let capacity = if edge.to == request.destination { recv_capacity } else { forward_capacity };
        if needed > capacity {
            return Err(BadOffer::Capacity { needed, capacity });
        }
    }
    Ok(())
}

fn check_shape(request: &RequestRoutes, part: &RoutePart) -> Result<(), BadOffer> {
    let route = &part.route[..];
    let (Some(first), Some(last)) = (route.first(), route.last()) else { return Err(BadOffer::Shape) };
    let ends = *first == request.source && *last == request.destination;
    let cycle = request.source == request.destination;
    let inner: BTreeSet<&PublicKey> = route[..route.len() - 1].iter().collect();
    let simple = inner.len() == route.len() - 1 && (cycle || !inner.contains(last));
    let long_enough = route.len() >= if cycle { 4 } else { 2 };
    if !(ends && simple && long_enough) {
        return Err(BadOffer::Shape);
    }
    if part.amount == 0 || part.amount > MAX_AMOUNT || part.fees > MAX_AMOUNT { Err(BadOffer::Amount) } else { Ok(()) }
}

/// What each edge of the part carries, if the mediators charge what the part says. The payment starts with the amount and
/// all fees; each mediator takes its own and passes on the rest.
fn charge(graph: Reports<'_>, request: &RequestRoutes, part: &RoutePart) -> Result<Vec<(Edge, u128)>, BadOffer> {
    let mut left_fees = part.fees;
    let mut charged = 0;
    let mut carried = Vec::new();
    for pair in part.route.windows(2) {
        let edge = Edge { from: pair[0], to: pair[1] };
        if request.exclude.contains(&edge) {
            return Err(BadOffer::Excluded);
        }
        carried.push((edge, part.amount + left_fees));
        let line = line(graph, edge)?;
        if carried.len() < part.route.len() - 1 {
            let fee = line.rate.fee(part.amount).map_err(|_| BadOffer::Amount)?;
            charged += fee;
            left_fees = left_fees.saturating_sub(fee);
        }
    }
    if charged == part.fees { Ok(carried) } else { Err(BadOffer::Fees { charged, offered: part.fees }) }
}

fn line(graph: Reports<'_>, edge: Edge) -> Result<Entry, BadOffer> {
    graph(&edge.from, &edge.to).ok_or(BadOffer::NoEdge)?;
    graph(&edge.to, &edge.from).ok_or(BadOffer::NoEdge)
}
