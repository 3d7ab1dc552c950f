//! Paying: a payment finds routes, sends its parts, collects the seller's answers, commits, and ends once.
//!
//! ```text
//! Searching ──routes──> Requested ──all answered──> Ready (by hand) ──commit released──> Committed ──collected──> Paid
//!     ^  part came back  │                            (in band: straight to Committed)        │
//!     └──────────────────┘     given up or withdrawn: Ending ──every part cancelled──> Failed <┘ (cancelled, lost)
//! ```
//!
//! Invariants:
//! 1. The plain lock leaves this node only in `Committed`, which is durable before; a withdrawal is sent only before.
//! 2. A payment commits only when every part is answered, the parts add up, and exactly one answer is complete.
//! 3. The fees of all open parts together never exceed `max_fee`.
//! 4. A payment ends once, with one kept event.
//!
//! The part before the commit is in this file's neighbour [`super::attempt`].

use offset_protocol::app::{
    Answer, CommitMode, Event, FailedPart, MAX_LISTED, Outcome, PaymentFailure, PaymentReport, PaymentState, Refusal,
};
use offset_protocol::bytes::{CommandId, PaymentId, PlainLock, PublicKey, RequestId};
use offset_protocol::codec::List;
use offset_protocol::friend::Operation;
use offset_protocol::index::{Edge, MultiRoute};
use offset_protocol::limits::{MAX_AMOUNT, MAX_EXCLUDED_EDGES, MAX_SPLIT};
use offset_protocol::payment::{
    CancelReason, Collect, Commit, CommitRequest, Invoice, Receipt, Response, Route, Withdraw, response_hash,
};
use offset_protocol::{mutant, sometimes, wire_enum, wire_struct};

use super::Funder;
use super::records::{self, kind};
use crate::friend_channel::Origin;

/// Payments that have not ended. Bounds memory and the work that one app can start.
pub const MAX_OPEN_PAYMENTS: usize = 8_192;
/// Payments that a node remembers, ended ones included. Chosen freely; about 600 bytes each.
pub const MAX_PAYMENTS: usize = 200_000;

wire_struct! {
    /// A payment of this node.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Payment {
        /// What is paid.
        pub invoice: Invoice,
        /// The most that mediators may get.
        pub max_fee: u128,
        /// How it is committed.
        pub mode: CommitMode,
        /// The app that asked.
        pub app: PublicKey,
        /// The command that asked.
        pub command: CommandId,
        /// Whether the app gave the routes: then no others are tried.
        pub given_routes: bool,
        /// Opens our lock. Zeros once the payment has ended.
        pub src_plain_lock: PlainLock,
        /// How far it is.
        pub phase: Phase,
        /// The requests that have not ended by a cancel.
        pub parts: List<Part, MAX_SPLIT>,
        /// Edges that failed.
        pub excluded: List<Edge, MAX_EXCLUDED_EDGES>,
        /// Route requests made so far.
        pub attempts: u32,
        /// What mediators get of parts that were collected.
        pub fees_paid: u128,
        /// The receipt, once the complete part is collected.
        pub receipt: Option<Receipt>,
        /// Whether a part was lost or cancelled after the commit.
        pub part_lost: bool,
    }

    /// One request of a payment.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Part {
        /// The request.
        pub request_id: RequestId,
        /// This node first, the seller last.
        pub route: Route,
        /// What the seller gets.
        pub amount: u128,
        /// What the mediators get.
        pub fees: u128,
        /// The seller's answer.
        pub response: Option<Response>,
    }
}

wire_enum! {
    /// How far a payment is.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub enum Phase {
        /// Waiting for routes.
        1 = Searching,
        /// Waiting for answers.
        2 = Requested,
        /// Everything is answered; the app may fetch the commit.
        3 = Ready,
        /// The commit has left.
        4 = Committed,
        /// Given up; waiting until every part is cancelled.
        5 = Ending(PaymentFailure),
        /// Paid.
        6 = Paid {
            /// The proof.
            receipt: Receipt,
        },
        /// Failed.
        7 = Failed(PaymentFailure),
    }
}

impl Part {
    /// The friend that the request was sent to.
    pub(super) fn first_hop(&self) -> Option<PublicKey> {
        self.route.get(1).copied()
    }
}

impl Payment {
    /// Fees of all open parts and of those that were collected.
    pub(super) fn fees(&self) -> u128 {
        self.parts.iter().map(|part| part.fees).fold(self.fees_paid, u128::saturating_add)
    }

    /// What the open parts bring to the seller.
    pub(super) fn amount_sent(&self) -> u128 {
        self.parts.iter().map(|part| part.amount).fold(0, u128::saturating_add)
    }

    /// Whether nothing more will happen.
    pub(super) const fn has_ended(&self) -> bool {
        match self.phase {
            Phase::Paid { .. } | Phase::Failed(_) => true,
            Phase::Searching | Phase::Requested | Phase::Ready | Phase::Committed | Phase::Ending(_) => false,
        }
    }

    pub(super) fn complete_part(&self) -> Option<(&Part, &Response)> {
        let mut complete = self.parts.iter().filter_map(|part| {
            let response = part.response.as_ref()?;
            response.is_complete.then_some((part, response))
        });
        let first = complete.next()?;
        complete.next().is_none().then_some(first)
    }

    /// The commit, if every part is answered, they add up, and exactly one answer is complete.
    pub(super) fn commit(&self) -> Option<Commit> {
        let all_answered = self.parts.iter().all(|part| part.response.is_some());
        if !all_answered || self.amount_sent() != self.invoice.amount {
            return None;
        }
        let (part, response) = self.complete_part()?;
        Some(Commit {
            response_hash: response_hash(&part.request_id, &response.nonce),
            src_plain_lock: self.src_plain_lock.clone(),
            dest_hashed_lock: response.dest_hashed_lock,
            dest_payment: part.amount,
            total_dest_payment: self.invoice.amount,
            invoice_id: self.invoice.invoice_id,
            currency: self.invoice.currency,
            signature: response.signature,
        })
    }

    /// What the report says.
    pub(super) fn report(&self, payment_id: PaymentId) -> PaymentReport {
        let fees = self.fees();
        let state = match &self.phase {
            Phase::Searching => PaymentState::Searching,
            Phase::Requested => PaymentState::Requested,
            Phase::Ready => PaymentState::Ready { fees },
            Phase::Committed => PaymentState::Committed { fees },
            Phase::Ending(failure) => PaymentState::Ending(failure.clone()),
            Phase::Paid { receipt } => PaymentState::Paid { receipt: receipt.clone(), fees },
            Phase::Failed(failure) => PaymentState::Failed(failure.clone()),
        };
        PaymentReport { payment_id, invoice: self.invoice.clone(), state }
    }
}

/// What a `Pay` command says.
#[derive(Clone, Debug)]
pub(super) struct PayOrder {
    pub(super) payment_id: PaymentId,
    pub(super) invoice: Invoice,
    pub(super) max_fee: u128,
    pub(super) mode: CommitMode,
    pub(super) routes: Option<MultiRoute>,
}

impl Funder {
    /// `Pay`.
    pub(super) fn pay(&mut self, (app, command): (PublicKey, CommandId), order: PayOrder) -> Outcome {
        if let Some(known) = self.payments.get(&order.payment_id) {
            sometimes!("buyer: the same payment is ordered again", true);
            // The same payment again, after a lost reply: the reply of the first.
            let same = known.invoice == order.invoice;
            return if same { Outcome::Done(Answer::Done) } else { Outcome::Refused(Refusal::PaymentIdTaken) };
        }
        if let Err(refusal) = self.check_order(&order) {
            return Outcome::Refused(refusal);
        }
        let payment = Payment {
            invoice: order.invoice,
            max_fee: order.max_fee.min(MAX_AMOUNT),
            mode: order.mode,
            app,
            command,
            given_routes: order.routes.is_some(),
            src_plain_lock: PlainLock(self.rng.bytes()),
            phase: Phase::Searching,
            parts: List::new(),
            excluded: List::new(),
            attempts: 1,
            fees_paid: 0,
            receipt: None,
            part_lost: false,
        };
        self.payments.insert(order.payment_id, payment);
        self.open_payments += 1;
        match order.routes {
            Some(routes) => self.try_given_routes(order.payment_id, routes),
            None => self.search_routes(order.payment_id),
        }
        self.save_payment(&order.payment_id);
        Outcome::Done(Answer::Done)
    }

    fn check_order(&self, order: &PayOrder) -> Result<(), Refusal> {
        let invoice = &order.invoice;
        if invoice.amount == 0 || invoice.amount > MAX_AMOUNT {
            return Err(Refusal::BadAmount);
        }
        if invoice.seller == self.us {
            return Err(Refusal::OwnInvoice);
        }
        if self.open_payments >= MAX_OPEN_PAYMENTS {
            return Err(Refusal::Busy);
        }
        if self.payments.len() >= MAX_PAYMENTS {
            return Err(Refusal::LimitReached(MAX_PAYMENTS as u32));
        }
        match &order.routes {
            None if self.index_servers.is_empty() => Err(Refusal::NoIndexServer),
            None => Ok(()),
            Some(routes) if routes.parts.iter().any(|part| self.leaves_over_inconsistent(part)) => {
                Err(Refusal::Inconsistent)
            }
            Some(routes) => {
                let fits = self.check_option(invoice, invoice.amount, order.max_fee, MAX_SPLIT, routes);
                fits.then_some(()).ok_or(Refusal::BadRoutes)
            }
        }
    }

    /// The seller answered one of our requests; the channel has checked its signature.
    pub(super) fn on_own_response(&mut self, payment_id: PaymentId, response: Response) {
        let Some(payment) = self.payments.get_mut(&payment_id) else { return };
        let request_id = response.request_id;
        let Some(part) = payment.parts.iter_mut().find(|part| part.request_id == request_id) else { return };
        part.response = Some(response);
        sometimes!(
            "buyer: a part is answered after the payment was given up",
            matches!(payment.phase, Phase::Ending(_))
        );
        let all_answered = payment.parts.iter().all(|part| part.response.is_some());
        sometimes!("buyer: one part is answered and another is not", !all_answered);
        if payment.phase == Phase::Requested && all_answered {
            self.on_all_answered(payment_id);
        }
        self.save_payment(&payment_id);
    }

    fn on_all_answered(&mut self, payment_id: PaymentId) {
        let Some(payment) = self.payments.get_mut(&payment_id) else { return };
        if payment.commit().is_none() {
            self.give_up(payment_id, PaymentFailure::BadAnswer);
            return;
        }
        payment.phase = Phase::Ready;
        let (mode, app, command, fees) = (payment.mode, payment.app, payment.command, payment.fees());
        match mode {
            CommitMode::ByHand => self.tell(app, command, Event::PaymentReady { payment_id, fees }),
            CommitMode::InBand => self.commit_in_band(payment_id),
        }
    }

    fn commit_in_band(&mut self, payment_id: PaymentId) {
        let Some(payment) = self.payments.get_mut(&payment_id) else { return };
        payment.phase = Phase::Committed;
        let currency = payment.invoice.currency;
        let lock = payment.src_plain_lock.clone();
        let parts: Vec<_> = payment.parts.iter().map(|part| (part.first_hop(), part.request_id)).collect();
        for (friend, request_id) in parts {
            let Some(friend) = friend else { continue };
            let commit = CommitRequest { request_id, src_plain_lock: lock.clone() };
            self.follow(friend, currency, Origin::Own, Operation::Commit(commit));
        }
    }

    /// `ReleaseCommit`.
    pub(super) fn release_commit(&mut self, payment_id: &PaymentId) -> Outcome {
        let Some(payment) = self.payments.get_mut(payment_id) else {
            return Outcome::Refused(Refusal::UnknownPayment);
        };
        let may = matches!(payment.phase, Phase::Ready | Phase::Committed);
        let Some(commit) = payment.commit().filter(|_| may) else { return Outcome::Refused(Refusal::NotReady) };
        if payment.phase == Phase::Ready {
            payment.phase = Phase::Committed;
            if !mutant!(ReleaseNotWritten) {
                self.save_payment(payment_id);
            }
        }
        Outcome::Done(Answer::Commit(commit))
    }

    /// `WithdrawPayment`.
    pub(super) fn withdraw_payment(&mut self, payment_id: &PaymentId) -> Outcome {
        let Some(payment) = self.payments.get(payment_id) else {
            return Outcome::Refused(Refusal::UnknownPayment);
        };
        match payment.phase {
            Phase::Searching | Phase::Requested | Phase::Ready => {
                self.give_up(*payment_id, PaymentFailure::Withdrawn);
                self.save_payment(payment_id);
                Outcome::Done(Answer::Done)
            }
            Phase::Ending(_) | Phase::Failed(_) => Outcome::Done(Answer::Done),
            Phase::Committed | Phase::Paid { .. } => Outcome::Refused(Refusal::AlreadyCommitted),
        }
    }

    /// Ends a payment that has not committed: at once if nothing is open, else when the seller has cancelled every part.
    pub(super) fn give_up(&mut self, payment_id: PaymentId, failure: PaymentFailure) {
        let Some(payment) = self.payments.get_mut(&payment_id) else { return };
        if payment.parts.is_empty() {
            self.end_payment(payment_id, Phase::Failed(failure));
            return;
        }
        payment.phase = Phase::Ending(failure);
        let currency = payment.invoice.currency;
        let parts: Vec<_> = payment.parts.iter().map(|part| (part.first_hop(), part.request_id)).collect();
        for (friend, request_id) in parts {
            let Some(friend) = friend else { continue };
            self.follow(friend, currency, Origin::Own, Operation::Withdraw(Withdraw { request_id }));
        }
    }

    /// One of our requests ended without being paid.
    pub(super) fn on_own_cancelled(&mut self, payment_id: PaymentId, failed: PartEnd) {
        let Some(payment) = self.payments.get_mut(&payment_id) else { return };
        let Some(part) = payment.parts.iter().find(|part| part.request_id == failed.request_id) else { return };
        let part = part.clone();
        payment.parts.retain(|other| other.request_id != failed.request_id);
        let failed = failed.locate(&part);
        sometimes!("buyer: a split payment loses one part", !payment.parts.is_empty());
        sometimes!("buyer: a part comes back answered", part.response.is_some());
        match payment.phase.clone() {
            Phase::Searching | Phase::Requested | Phase::Ready => self.retry(payment_id, &part, failed),
            Phase::Committed => {
                sometimes!("buyer: a part is lost after the commit", true);
                payment.part_lost = true;
                self.end_if_nothing_is_open(payment_id);
            }
            Phase::Ending(failure) => {
                if payment.parts.is_empty() {
                    self.end_payment(payment_id, Phase::Failed(failure));
                }
            }
            Phase::Paid { .. } | Phase::Failed(_) => {}
        }
        self.save_payment(&payment_id);
    }

    /// One of our requests was paid; the channel has checked both locks.
    pub(super) fn on_own_collected(&mut self, payment_id: PaymentId, collect: &Collect) {
        let Some(payment) = self.payments.get_mut(&payment_id) else { return };
        let Some(part) = payment.parts.iter().find(|part| part.request_id == collect.request_id) else { return };
        let proves = |response: &&Response| response.is_complete || mutant!(ReceiptForAPart);
        if let Some(response) = part.response.as_ref().filter(proves) {
            payment.receipt = Some(Receipt {
                response_hash: response_hash(&part.request_id, &response.nonce),
                invoice_id: payment.invoice.invoice_id,
                currency: payment.invoice.currency,
                src_plain_lock: collect.src_plain_lock.clone(),
                dest_plain_lock: collect.dest_plain_lock.clone(),
                is_complete: true,
                dest_payment: part.amount,
                total_dest_payment: payment.invoice.amount,
                signature: response.signature,
            });
        }
        payment.fees_paid = payment.fees_paid.saturating_add(part.fees);
        payment.parts.retain(|part| part.request_id != collect.request_id);
        self.end_if_nothing_is_open(payment_id);
        self.save_payment(&payment_id);
    }

    fn end_if_nothing_is_open(&mut self, payment_id: PaymentId) {
        let Some(payment) = self.payments.get(&payment_id) else { return };
        if !payment.parts.is_empty() {
            return;
        }
        let phase = match &payment.receipt {
            Some(receipt) => Phase::Paid { receipt: receipt.clone() },
            None => Phase::Failed(PaymentFailure::PartLost),
        };
        self.end_payment(payment_id, phase);
    }

    pub(super) fn end_payment(&mut self, payment_id: PaymentId, phase: Phase) {
        let Some(payment) = self.payments.get_mut(&payment_id) else { return };
        payment.phase = phase;
        payment.parts = List::new();
        payment.excluded = List::new();
        payment.src_plain_lock = PlainLock([0; PlainLock::SIZE]);
        payment.receipt = None;
        self.open_payments = self.open_payments.saturating_sub(1);
        let (app, command, report) = (payment.app, payment.command, payment.report(payment_id));
        self.keep_event(app, command, Event::PaymentEnded(report));
        self.save_payment(&payment_id);
    }

    /// `PaymentStatus`.
    pub(super) fn payment_status(&self, payment_id: &PaymentId) -> Outcome {
        match self.payments.get(payment_id) {
            Some(payment) => Outcome::Done(Answer::Payment(payment.report(*payment_id))),
            None => Outcome::Refused(Refusal::UnknownPayment),
        }
    }

    /// `ForgetPayment`.
    pub(super) fn forget_payment(&mut self, payment_id: &PaymentId) -> Outcome {
        match self.payments.get(payment_id) {
            None => Outcome::Refused(Refusal::UnknownPayment),
            Some(payment) if !payment.has_ended() => Outcome::Refused(Refusal::NotEnded),
            Some(_) => {
                self.payments.remove(payment_id);
                self.changes.remove(records::key(kind::PAYMENT, &payment_id.0));
                Outcome::Done(Answer::Done)
            }
        }
    }

    /// `ListPayments`.
    pub(super) fn list_payments(&self, after: Option<PaymentId>) -> Outcome {
        let list = self.payments.after(after).take(MAX_LISTED);
        Outcome::Done(Answer::Payments(List::truncated(list.map(|(id, payment)| payment.report(*id)))))
    }

    pub(super) fn save_payment(&mut self, payment_id: &PaymentId) {
        if let Some(payment) =
            self.payments.get(payment_id).filter(|payment| !mutant!(PaidNotWritten) || !payment.has_ended())
        {
            self.changes.put(records::key(kind::PAYMENT, &payment_id.0), payment);
        }
    }
}

/// How one of our requests ended without being paid.
#[derive(Clone, Copy, Debug)]
pub(super) struct PartEnd {
    pub(super) request_id: RequestId,
    pub(super) reason: CancelReason,
    /// `None`: it never left this node, or its first friend's channel is gone.
    pub(super) hops: Option<u8>,
}

impl PartEnd {
    /// Which edge of the part's route failed.
    fn locate(self, part: &Part) -> FailedPart {
        // Node 1 of the route refused if the cancel had travelled 0 hops when it reached us.
        let refuser = self.hops.map_or(0, |hops| usize::from(hops) + 1);
        let at_entry = match self.reason {
            // The receiver refuses what goes beyond the limit that it set, or costs more than was left for it.
            CancelReason::Capacity | CancelReason::Fee => true,
            CancelReason::NoRoute
            | CancelReason::Offline
            | CancelReason::Closed
            | CancelReason::UnknownInvoice
            | CancelReason::Amount
            | CancelReason::Expired
            | CancelReason::Busy
            | CancelReason::Withdrawn
            | CancelReason::Removed
            | CancelReason::Seller => refuser + 1 >= part.route.len(),
        };
        let from = if at_entry { refuser.checked_sub(1) } else { Some(refuser) };
        let edge = from.and_then(|from| {
            let (from, to) = (*part.route.get(from)?, *part.route.get(from + 1)?);
            Some(Edge { from, to })
        });
        FailedPart { request_id: self.request_id, reason: self.reason, edge }
    }
}
