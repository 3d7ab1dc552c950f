//! Requests for routes that wait for an answer. Each ends: with routes or with a failure, by its deadline at the latest.

use std::collections::{BTreeMap, BTreeSet};

use offset_protocol::codec::List;
use offset_protocol::index::{Edge, MultiRoute, RequestRoutes, Routes};
use offset_protocol::limits::{MAX_EXCLUDED_EDGES, MAX_ROUTE_OPTIONS};
use offset_protocol::machine::{Duration, Instant};
use offset_protocol::money::Currency;

use offset_protocol::bytes::PublicKey;

/// A request without an answer fails after this time. Chosen freely: a person waits no longer.
pub const REQUEST_DEADLINE: Duration = Duration::from_secs(10);
/// Requests that wait at once. Chosen freely: above a server's burst.
pub const MAX_OPEN_REQUESTS: usize = 256;

/// What a node wants to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteQuery {
    /// In which currency.
    pub currency: Currency,
    /// What arrives at the destination: 1 to [`MAX_AMOUNT`](offset_protocol::limits::MAX_AMOUNT).
    pub amount: u128,
    /// Who pays.
    pub source: PublicKey,
    /// Who is paid; the source itself asks for a cycle.
    pub destination: PublicKey,
    /// Not over these edges.
    pub exclude: List<Edge, MAX_EXCLUDED_EDGES>,
    /// Not for more than this in all.
    pub max_fee: Option<u128>,
}

/// What an index server knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundRoutes {
    /// Cheapest first; none if the server knows no way.
    pub options: List<MultiRoute, MAX_ROUTE_OPTIONS>,
    /// The server stopped at its limit of work: there may be more, or cheaper ones.
    pub capped: bool,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteFailure {
    /// The node has no index server.
    #[error("no index server is configured")]
    NoServer,
    /// No session with any index server could be had in time.
    #[error("no index server could be reached in time")]
    Unreachable,
    /// The index server was asked and did not answer in time.
    #[error("the index server did not answer in time")]
    Timeout,
    /// The index server has too many requests of this node.
    #[error("the index server is busy")]
    Busy,
    /// Too many requests wait already.
    #[error("too many requests for routes at once")]
    TooMany,
    /// Nothing, or more than the largest amount.
    #[error("not an amount that can be paid")]
    Amount,
}

#[derive(Default)]
pub(crate) struct Requests {
    next_id: u64,
    /// By id, which is by deadline.
    open: BTreeMap<u64, Open>,
}

pub(crate) struct Open {
    pub(crate) local: u64,
    query: RouteQuery,
    /// Edges that failed lately, left out besides those of the query.
    failed: Vec<Edge>,
    deadline: Instant,
    sent: bool,
}

impl Requests {
    pub(crate) fn is_full(&self) -> bool {
        self.open.len() >= MAX_OPEN_REQUESTS
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// `failed`: edges to be left out besides those of the query, as many as there is room for.
    pub(crate) fn add(&mut self, now: Instant, local: u64, query: RouteQuery, failed: &[Edge]) {
        self.next_id += 1;
        let room = MAX_EXCLUDED_EDGES.saturating_sub(query.exclude.len());
        let failed = failed.iter().filter(|edge| !query.exclude.contains(edge)).take(room).copied().collect();
        self.open.insert(self.next_id, Open { local, query, failed, deadline: now + REQUEST_DEADLINE, sent: false });
    }

    /// Nothing was found: if edges that failed lately were left out, the request is to be asked again with them, under the
    /// same number and deadline. Says whether.
    pub(crate) fn retry_with_all(&mut self, id: u64) -> bool {
        let open = self.open.get_mut(&id).filter(|open| !open.failed.is_empty());
        open.is_some_and(|open| {
            (open.failed, open.sent) = (Vec::new(), false);
            true
        })
    }

    /// Those that the session has not been asked yet; they count as asked.
    pub(crate) fn unsent(&mut self) -> Vec<RequestRoutes> {
        let unsent = self.open.iter_mut().filter(|(_, open)| !open.sent);
        unsent
            .map(|(id, open)| {
                open.sent = true;
                open.message(*id)
            })
            .collect()
    }

    /// The session is gone: its successor is asked again.
    pub(crate) fn unsend(&mut self) {
        self.open.values_mut().for_each(|open| open.sent = false);
    }

    /// Whether `routes` could be the answer to a request: of its ends and its amount, each route simple.
    pub(crate) fn is_plausible(&self, routes: &Routes) -> bool {
        let Some(open) = self.open.get(&routes.id) else { return true };
        routes.options.iter().all(|option| open.query.fits(option))
    }

    pub(crate) fn take(&mut self, id: u64) -> Option<Open> {
        self.open.remove(&id)
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.open.first_key_value().map(|(_, open)| open.deadline)
    }

    /// Takes a request whose time is over, if there is one.
    pub(crate) fn overdue(&mut self, now: Instant) -> Option<(u64, RouteFailure)> {
        let due = self.open.first_entry().filter(|entry| entry.get().deadline <= now)?;
        let open = due.remove();
        Some((open.local, if open.sent { RouteFailure::Timeout } else { RouteFailure::Unreachable }))
    }

    /// Takes all.
    pub(crate) fn drain(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.open).into_values().map(|open| open.local).collect()
    }
}

impl Open {
    fn message(&self, id: u64) -> RequestRoutes {
        let RouteQuery { currency, amount, source, destination, exclude, max_fee } = self.query.clone();
        let exclude = List::truncated(exclude.into_iter().chain(self.failed.iter().copied()));
        RequestRoutes { id, currency, amount, source, destination, exclude, max_fee }
    }
}

impl RouteQuery {
    fn fits(&self, option: &MultiRoute) -> bool {
        let amounts = option.parts.iter().try_fold(0_u128, |sum, part| sum.checked_add(part.amount));
        let fees = option.parts.iter().try_fold(0_u128, |sum, part| sum.checked_add(part.fees));
        let affordable = fees.is_some_and(|fees| self.max_fee.is_none_or(|max_fee| fees <= max_fee));
        let routes = option.parts.iter().all(|part| self.fits_route(&part.route) && part.amount > 0);
        amounts == Some(self.amount) && affordable && routes
    }

    fn fits_route(&self, route: &[PublicKey]) -> bool {
        let [first, .., last] = route else { return false };
        let inner: BTreeSet<&PublicKey> = route[..route.len() - 1].iter().collect();
        let simple = inner.len() == route.len() - 1 && (self.source == self.destination || !inner.contains(last));
        *first == self.source && *last == self.destination && simple
    }
}
