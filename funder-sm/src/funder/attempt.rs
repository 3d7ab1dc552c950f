//! Finding routes for a payment and sending its parts: the half of a payment that may be tried again.
//!
//! A part that comes back is replaced: its amount is searched again without the edge that failed, under the same lock, so
//! that the seller can complete the payment; if no other part is left, under a new one, so that whatever the seller still holds
//! of the old does not stand in the way. After [`MAX_ATTEMPTS`] searches, or a reason that another route cannot mend,
//! the payment gives up.

use offset_protocol::app::{Event, FailedPart, PaymentFailure};
use offset_protocol::bytes::{PaymentId, PlainLock, RequestId};
use offset_protocol::codec::List;
use offset_protocol::index::{Edge, MultiRoute, RoutePart};
use offset_protocol::limits::{MAX_EXCLUDED_EDGES, MAX_SPLIT};
use offset_protocol::payment::{CancelReason, Invoice, Request, Route};
use offset_protocol::{buggify, mutant, sometimes};

use super::Funder;
use super::buyer::{Part, Payment, Phase};
use super::io::{FoundRoutes, FunderOutput, RouteFailure, RouteQuery};
use super::records::{Source, Target, Transit};
use super::routes::Asker;
use crate::friend_channel::Standing;

/// Searches that a payment makes before it gives up. Chosen freely: each one excludes at least one more edge.
pub const MAX_ATTEMPTS: u32 = 12;

impl Funder {
    /// Asks the index servers how the amount that is not on its way yet could travel.
    pub(super) fn search_routes(&mut self, payment_id: PaymentId) {
        let us = self.us;
        let Some(payment) = self.payments.get_mut(&payment_id) else { return };
        payment.phase = Phase::Searching;
        let request = RouteQuery {
            currency: payment.invoice.currency,
            amount: payment.invoice.amount.saturating_sub(payment.amount_sent()),
            source: us,
            destination: payment.invoice.seller,
            exclude: payment.excluded.clone(),
            max_fee: Some(payment.max_fee.saturating_sub(payment.fees())).filter(|_| !mutant!(MaxFeeIgnored)),
        };
        self.ask(Asker::Payment(payment_id), request);
    }

    /// The index servers' answer for a payment.
    pub(super) fn on_payment_routes(&mut self, payment_id: PaymentId, result: Result<FoundRoutes, RouteFailure>) {
        let Some(payment) = self.payments.get(&payment_id) else { return };
        if payment.phase != Phase::Searching {
            sometimes!("buyer: routes come when nobody wants them any more", true);
            return;
        }
        match result {
            Ok(_) if buggify!("buyer: search again all the same", 100) => {
                self.exclude_and_search(payment_id, Vec::new())
            }
            Ok(found) => match self.choose(payment, &found.options) {
                Choice::Send(option) => self.send_parts(payment_id, option),
                Choice::Exclude(edges) => {
                    sometimes!("buyer: every route begins at a friend that is offline", true);
                    self.exclude_and_search(payment_id, edges);
                }
                Choice::Nothing => self.give_up(payment_id, PaymentFailure::NoRoute),
            },
            Err(RouteFailure::NoServer) => self.give_up(payment_id, PaymentFailure::NoIndexServer),
            Err(RouteFailure::Unreachable | RouteFailure::Busy) => {
                self.give_up(payment_id, PaymentFailure::IndexUnreachable);
            }
        }
        self.save_payment(&payment_id);
    }

    /// The first option that is sound, affordable and can leave this node now.
    fn choose(&self, payment: &Payment, options: &[MultiRoute]) -> Choice {
        let missing = payment.invoice.amount.saturating_sub(payment.amount_sent());
        let budget = payment.max_fee.saturating_sub(payment.fees());
        let places = MAX_SPLIT.saturating_sub(payment.parts.len());
        let mut blocked = Vec::new();
        for option in options {
            if !self.check_option(&payment.invoice, missing, budget, places, option) {
                continue;
            }
            let closed = option.parts.iter().filter_map(|part| self.closed_first_edge(&payment.invoice, part));
            let before = blocked.len();
            blocked.extend(closed);
            if blocked.len() == before {
                return Choice::Send(option.clone());
            }
        }
        if blocked.is_empty() { Choice::Nothing } else { Choice::Exclude(blocked) }
    }

    /// The first edge of a part, if nothing can be sent over it now.
    fn closed_first_edge(&self, invoice: &Invoice, part: &RoutePart) -> Option<Edge> {
        let first = *part.route.get(1)?;
        let can_send = self.friends.get(&first).is_some_and(|friend| friend.can_send(&invoice.currency));
        (!can_send).then_some(Edge { from: self.us, to: first })
    }

    /// Whether a part would leave over a channel that carries nothing until a user resets it.
    pub(super) fn leaves_over_inconsistent(&self, part: &RoutePart) -> bool {
        let first = part.route.get(1).and_then(|first| self.friends.get(first));
        first.is_some_and(|friend| matches!(friend.channel.standing(), Standing::Inconsistent { .. }))
    }

    /// Whether an option leads from this node to the seller, adds up to `amount` and costs no more than `budget`.
    pub(super) fn check_option(
        &self,
        invoice: &Invoice,
        amount: u128,
        budget: u128,
        places: usize,
        option: &MultiRoute,
    ) -> bool {
        let total =
            |of: fn(&RoutePart) -> u128| option.parts.iter().map(of).try_fold(0u128, |sum, part| sum.checked_add(part));
        let sound = option.parts.iter().all(|part| {
            let distinct = part.route.iter().collect::<std::collections::BTreeSet<_>>().len() == part.route.len();
            let ends = part.route.first() == Some(&self.us) && part.route.last() == Some(&invoice.seller);
            distinct && ends && part.amount > 0 && part.amount <= amount
        });
        !option.parts.is_empty()
            && option.parts.len() <= places
            && sound
            && total(|part| part.amount) == Some(amount)
            && total(|part| part.fees).is_some_and(|fees| fees <= budget || mutant!(MaxFeeIgnored))
    }

    /// Begins a payment along routes that the app gave.
    pub(super) fn try_given_routes(&mut self, payment_id: PaymentId, routes: MultiRoute) {
        let Some(payment) = self.payments.get(&payment_id) else { return };
        let closed = routes.parts.iter().find_map(|part| self.closed_first_edge(&payment.invoice, part));
        match closed {
            None => self.send_parts(payment_id, routes),
            Some(edge) => {
                let request_id = RequestId([0; RequestId::SIZE]);
                let failed = FailedPart { request_id, reason: CancelReason::Offline, edge: Some(edge) };
                self.give_up(payment_id, PaymentFailure::Cancelled(failed));
            }
        }
    }

    /// Sends one request for every part of an option that was checked.
    fn send_parts(&mut self, payment_id: PaymentId, option: MultiRoute) {
        sometimes!("buyer: a payment is split", option.parts.len() > 1);
        for part in &option.parts {
            self.send_part(payment_id, part);
        }
        let Some(payment) = self.payments.get_mut(&payment_id) else { return };
        payment.phase = Phase::Requested;
        let (app, command) = (payment.app, payment.command);
        self.tell(app, command, Event::PartsSent { payment_id, routes: option });
    }

    fn send_part(&mut self, payment_id: PaymentId, part: &RoutePart) {
        let request_id = RequestId(self.rng.bytes());
        let Some(payment) = self.payments.get_mut(&payment_id) else { return };
        let Some(first) = part.route.get(1).copied() else { return };
        let currency = payment.invoice.currency;
        let request = Request {
            request_id,
            src_hashed_lock: payment.src_plain_lock.hashed(),
            route: Route::truncated(part.route.iter().skip(2).copied()),
            dest_payment: part.amount,
            total_dest_payment: payment.invoice.amount,
            invoice_id: payment.invoice.invoice_id,
            left_fees: part.fees,
        };
        let record =
            Part { request_id, route: part.route.clone(), amount: part.amount, fees: part.fees, response: None };
        // There is a place: the option was checked against the places left.
        let _ = payment.parts.push(record);
        let to = Target::Friend(first);
        let transit = Transit { currency, from: Source::Payment(payment_id), to, committed: false, withdrawn: false };
        self.put_transit(request_id, transit);
        self.request_own(first, currency, request);
    }

    /// A part came back before the commit: searches again for its amount, or gives up.
    pub(super) fn retry(&mut self, payment_id: PaymentId, part: &Part, failed: FailedPart) {
        let Some(payment) = self.payments.get(&payment_id) else { return };
        let (app, command, currency) = (payment.app, payment.command, payment.invoice.currency);
        // The seller counts a part that it has answered, and with a complete answer it has counted all: that offer is over.
        let was_counted = part.response.is_some() || payment.complete_part().is_some();
        let hopeless = payment.given_routes || was_counted || payment.attempts >= MAX_ATTEMPTS;
        let event = Event::PartFailed { payment_id, part: failed.clone() };
        self.tell(app, command, event);
        // Our own edges we know ourselves.
        if let Some(edge) = failed.edge.filter(|edge| edge.from != self.us) {
            self.hold(FunderOutput::EdgeFailed { edge, currency, reason: failed.reason });
        }
        if hopeless || !another_route_may_help(failed.reason) {
            self.give_up(payment_id, PaymentFailure::Cancelled(failed));
        } else {
            self.exclude_and_search(payment_id, failed.edge.into_iter().collect());
        }
    }

    fn exclude_and_search(&mut self, payment_id: PaymentId, edges: Vec<Edge>) {
        let Some(payment) = self.payments.get_mut(&payment_id) else { return };
        let mut excluded: Vec<Edge> = payment.excluded.to_vec();
        for edge in edges {
            if !excluded.contains(&edge) {
                excluded.push(edge);
            }
        }
        let too_many = excluded.len() > MAX_EXCLUDED_EDGES;
        payment.excluded = List::truncated(excluded);
        sometimes!("buyer: all attempts are used up", payment.attempts >= MAX_ATTEMPTS);
        if too_many || payment.attempts >= MAX_ATTEMPTS {
            self.give_up(payment_id, PaymentFailure::NoRoute);
        } else {
            payment.attempts += 1;
            sometimes!("buyer: a part is searched again under the old lock", !payment.parts.is_empty());
            if payment.parts.is_empty() {
                payment.src_plain_lock = PlainLock(self.rng.bytes());
            }
            self.search_routes(payment_id);
        }
    }
}

/// What to do with the options of an index server.
enum Choice {
    /// Send these parts.
    Send(MultiRoute),
    /// Ask again without these edges of ours.
    Exclude(Vec<Edge>),
    /// No option is of use.
    Nothing,
}

/// Whether a payment that came back for this reason may succeed along another route.
const fn another_route_may_help(reason: CancelReason) -> bool {
    match reason {
        CancelReason::NoRoute
        | CancelReason::Offline
        | CancelReason::Capacity
        | CancelReason::Fee
        | CancelReason::Closed
        | CancelReason::Busy
        | CancelReason::Removed => true,
        CancelReason::UnknownInvoice
        | CancelReason::Amount
        | CancelReason::Expired
        | CancelReason::Withdrawn
        | CancelReason::Seller => false,
    }
}
