//! Edges that payments came back from lately: the client asks for routes without them for a while.
//!
//! An index server hears of a change within seconds and of nobody's bad luck ever: a friend that is about to be found offline,
//! a capacity that others use up again and again. What one payment of a node has learnt, its next ones use.
//!
//! | reason | left out | in which currencies |
//! |---|---|---|
//! | no route, offline, removed | [`LONG_REST`] | all |
//! | closed | [`LONG_REST`] | that one |
//! | capacity, fee, busy | [`SHORT_REST`] | that one |
//!
//! A `Cancel` names its hop by a number that any mediator on the way back may change, so an edge may be blamed wrongly. That
//! costs little: it is left out at this node only, for a while, and a question that finds nothing without the remembered edges
//! is asked again with them ([`super::requests`]).

use std::collections::VecDeque;

use offset_protocol::index::Edge;
use offset_protocol::machine::{Duration, Instant};
use offset_protocol::money::Currency;
use offset_protocol::payment::CancelReason;

/// Edges that are remembered at once; the oldest gives way. Chosen freely: half of what a question may exclude, the other half
/// is the payment's own.
pub const MAX_REMEMBERED: usize = 64;
/// How long an edge is left out that does not work at all. Chosen freely: two heartbeats, so that the servers know by then.
pub const LONG_REST: Duration = Duration::from_secs(60);
/// How long an edge is left out that was too small, too dear or too busy.
pub const SHORT_REST: Duration = Duration::from_secs(20);

/// An edge that a request came back from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailedEdge {
    /// Which.
    pub edge: Edge,
    /// In which currency the request was.
    pub currency: Currency,
    /// Why it came back.
    pub reason: CancelReason,
}

#[derive(Clone, Copy, Debug)]
struct Remembered {
    edge: Edge,
    /// `None`: in all.
    currency: Option<Currency>,
    until: Instant,
}

/// What is remembered, oldest first.
#[derive(Debug, Default)]
pub(super) struct FailedEdges(VecDeque<Remembered>);

impl FailedEdges {
    /// Remembers an edge. A reason that says nothing about an edge is not remembered.
    pub(super) fn note(&mut self, now: Instant, failed: &FailedEdge) {
        let Some((rest, is_of_currency)) = rest(failed.reason) else { return };
        let currency = is_of_currency.then_some(failed.currency);
        self.0.retain(|known| known.until > now && (known.edge, known.currency) != (failed.edge, currency));
        if self.0.len() >= MAX_REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(Remembered { edge: failed.edge, currency, until: now + rest });
    }

    /// What a question in this currency leaves out now, the latest first.
    pub(super) fn of(&self, now: Instant, currency: &Currency) -> impl Iterator<Item = Edge> {
        let fits = move |known: &&Remembered| known.until > now && known.currency.is_none_or(|only| only == *currency);
        self.0.iter().rev().filter(fits).map(|known| known.edge)
    }
}

/// How long, and whether only in the currency of the request.
const fn rest(reason: CancelReason) -> Option<(Duration, bool)> {
    match reason {
        CancelReason::NoRoute | CancelReason::Offline | CancelReason::Removed => Some((LONG_REST, false)),
        CancelReason::Closed => Some((LONG_REST, true)),
        CancelReason::Capacity | CancelReason::Fee | CancelReason::Busy => Some((SHORT_REST, true)),
        CancelReason::UnknownInvoice
        | CancelReason::Amount
        | CancelReason::Expired
        | CancelReason::Withdrawn
        | CancelReason::Seller => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::key;

    fn edge(from: u8, to: u8) -> Edge {
        Edge { from: key(from), to: key(to) }
    }

    fn failed(from: u8, currency: &str, reason: CancelReason) -> FailedEdge {
        FailedEdge { edge: edge(from, 200), currency: currency.parse().unwrap(), reason }
    }

    fn left_out(edges: &FailedEdges, now: Instant, currency: &str) -> Vec<Edge> {
        edges.of(now, &currency.parse().unwrap()).collect()
    }

    #[test]
    fn an_edge_rests_as_long_as_its_reason_says_and_where_it_says() {
        let now = Instant::from_micros(1);
        let mut edges = FailedEdges::default();
        edges.note(now, &failed(1, "USD", CancelReason::Offline));
        edges.note(now, &failed(2, "USD", CancelReason::Capacity));
        edges.note(now, &failed(3, "USD", CancelReason::Seller));
        // A line that others use up in one currency is of use in the others.
        edges.note(now, &failed(4, "USD", CancelReason::Busy));
        assert_eq!(left_out(&edges, now, "USD"), [edge(4, 200), edge(2, 200), edge(1, 200)]);
        assert_eq!(left_out(&edges, now, "EUR"), [edge(1, 200)]);
        assert_eq!(left_out(&edges, now + SHORT_REST, "USD"), [edge(1, 200)]);
        assert_eq!(left_out(&edges, now + LONG_REST, "USD"), []);
    }

    #[test]
    fn an_edge_that_fails_again_rests_anew_and_the_oldest_gives_way() {
        let now = Instant::from_micros(1);
        let mut edges = FailedEdges::default();
        for n in 0..MAX_REMEMBERED as u8 + 1 {
            edges.note(now, &failed(n, "USD", CancelReason::Offline));
        }
        assert_eq!(edges.0.len(), MAX_REMEMBERED);
        assert!(!left_out(&edges, now, "USD").contains(&edge(0, 200)));
        let later = now + SHORT_REST;
        edges.note(later, &failed(5, "USD", CancelReason::Offline));
        assert_eq!(edges.0.len(), MAX_REMEMBERED);
        assert_eq!(left_out(&edges, now + LONG_REST, "USD"), [edge(5, 200)]);
        edges.note(now + LONG_REST, &failed(6, "USD", CancelReason::Offline));
        assert_eq!(edges.0.len(), 2, "what is over takes no place");
    }
}
