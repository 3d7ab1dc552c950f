//! Sales and purchases, as two people make them.
//!
//! | note | from → to | then |
//! |---|---|---|
//! | [`Note::Order`] | the scenario → buyer | the buyer asks the seller |
//! | [`Note::Ask`] | buyer → seller | the seller's node adds an invoice |
//! | [`Note::Offer`] | seller → buyer | the buyer's node pays it |
//! | [`Note::Commit`] | buyer → seller | by hand only: the seller's node collects |
//! | [`Note::GiveUp`] | buyer → seller | the seller's node cancels the invoice |
//!
//! A buyer who loses patience withdraws; one whose payment failed tries again a few times, then gives up. Both ask their
//! nodes again how things stand when nothing is heard, so that a lost event delays a deal but never stops it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use offset_protocol::app::{
    Answer, Command, CommitMode, Event, InvoiceState, Outcome, PaymentFailure, PaymentState, Refusal,
};
use offset_protocol::bytes::{InvoiceId, PaymentId};
use offset_protocol::identity::Verifier;
use offset_protocol::index::MultiRoute;
use offset_protocol::machine::{Duration, Instant, Rng};
use offset_protocol::money::Currency;
use offset_protocol::payment::{Commit, Description, Invoice};

use super::Chore;
use super::again::{Again, AgainWish};
use crate::host::HostId;

/// Names a deal; both sides know it by this number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DealId(pub u64);

/// What the scenario wants a buyer to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The deal.
    pub deal: DealId,
    /// The seller's host (the person's, not the node's).
    pub seller: HostId,
    /// In which currency.
    pub currency: Currency,
    /// What the seller gets.
    pub amount: u128,
    /// The most that mediators may get.
    pub max_fee: u128,
    /// How it is committed.
    pub mode: CommitMode,
    /// How often the buyer tries in all.
    pub tries: u32,
    /// After this long without an outcome the buyer withdraws.
    pub patience: Duration,
    /// Along these routes; `None`: the node finds some.
    pub routes: Option<MultiRoute>,
}

/// What people tell each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// Buy this.
    Order(Order),
    /// I want to buy.
    Ask {
        /// The deal.
        deal: DealId,
        /// Who asks.
        buyer: HostId,
        /// In which currency.
        currency: Currency,
        /// For how much.
        amount: u128,
    },
    /// Here is the invoice.
    Offer {
        /// The deal.
        deal: DealId,
        /// What is to be paid.
        invoice: Invoice,
    },
    /// Here is the commit.
    Commit {
        /// The deal.
        deal: DealId,
        /// For the seller's node.
        commit: Commit,
    },
    /// I do not buy after all.
    GiveUp {
        /// The deal.
        deal: DealId,
    },
    /// The scenario → the buyer: pay the invoice of this deal once more.
    PayAgain {
        /// The deal.
        deal: DealId,
    },
    /// The scenario → a person: change these settings.
    Chores(Vec<Chore>),
    /// The scenario → a person: the node has forgotten some of what it knew, or everything.
    NodeForgot,
    /// I cannot sell after all: my node forgot it.
    NoDeal {
        /// The deal.
        deal: DealId,
    },
}

/// How a deal stands, on either side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Going on.
    Open,
    /// Paid.
    Paid {
        /// What the mediators got; zero at the seller, who does not know.
        fees: u128,
    },
    /// Ended without a payment.
    Failed(String),
    /// Committed, but not all of it could be collected.
    PaidInPart {
        /// What was collected.
        collected: u128,
    },
}

/// A deal at the seller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sale {
    buyer: HostId,
    /// Names the invoice.
    pub invoice_id: InvoiceId,
    /// In which currency.
    pub currency: Currency,
    /// How much is asked.
    pub amount: u128,
    /// Where it stands.
    pub stage: Stage,
    commit: Option<Commit>,
    /// Of the buyer's second payment.
    other_commit: Option<Commit>,
    /// The node has said that the invoice exists: before that it cannot be cancelled.
    made: bool,
    cancelling: bool,
    ask_again_at: Option<Instant>,
}

/// A deal at the buyer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Purchase {
    /// What was ordered.
    pub order: Order,
    /// Where it stands.
    pub stage: Stage,
    pub(super) invoice: Option<Invoice>,
    /// Names the try that goes on.
    pub payment_id: PaymentId,
    tries_left: u32,
    /// When the next try begins; `None` while one goes on.
    next_try_at: Option<Instant>,
    /// The node has said that it takes care of this try.
    pub(super) begun: bool,
    /// The commit was asked for, and perhaps released: the answer may still be on its way.
    releasing: bool,
    committed: bool,
    withdrawing: bool,
    /// The second payment, if the buyer has paid again.
    pub(super) again: Option<Again>,
    /// Payments that were committed and fell apart: some of each may have been collected.
    pub fell_apart: u32,
    /// Why the last try failed, for whoever wonders why the deal is still open.
    last_failure: Option<String>,
    /// Why all tries have failed, while the second payment goes on.
    pub(super) failed: Option<String>,
    impatient_at: Instant,
    ask_again_at: Instant,
    hops: u32,
}

impl Purchase {
    /// The currency and amount that the buyer is asked for: by the invoice, or, before there is one, by the order.
    pub fn asked(&self) -> (Currency, u128) {
        let by_invoice = self.invoice.as_ref().map(|invoice| (invoice.currency, invoice.amount));
        by_invoice.unwrap_or((self.order.currency, self.order.amount))
    }
}

/// What a person wants of the node for a deal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Add the invoice.
    Invoice,
    /// Pay it.
    Pay,
    /// Fetch the commit.
    Release,
    /// Withdraw the payment.
    Withdraw,
    /// Say how the payment stands.
    PaymentStatus,
    /// Collect.
    Collect,
    /// Cancel the invoice.
    Cancel,
    /// Say how the invoice stands.
    InvoiceStatus,
    /// Something about the second payment.
    Again(AgainWish),
    /// Collect on the commit of the second payment.
    CollectOther,
}

/// Both ask their nodes again after this long without news.
const ASK_AGAIN: Duration = Duration::from_secs(10);
/// What the node could not do now is tried again after this long.
const TRY_AGAIN: Duration = Duration::from_secs(3);

/// A buyer whose payment failed waits this long before the next try.
const NEXT_TRY: Duration = Duration::from_secs(5);

/// Why a deal failed whose node forgot it.
const FORGOT: &str = "the node forgot it";

/// All deals of one person.
#[derive(Debug, Default)]
pub struct Deals {
    sales: BTreeMap<DealId, Sale>,
    pub(super) purchases: BTreeMap<DealId, Purchase>,
    by_payment: BTreeMap<PaymentId, DealId>,
    pub(super) again_by_payment: BTreeMap<PaymentId, DealId>,
    by_invoice: BTreeMap<InvoiceId, DealId>,
    pub(super) wishes: VecDeque<(DealId, Wish)>,
    pub(super) notes: VecDeque<(HostId, Note)>,
    pub(super) complaints: Vec<String>,
    /// Deals of which the node forgot something.
    pub(super) forgotten: BTreeSet<DealId>,
    in_doubt: bool,
    /// Deals whose buyers have given up.
    given_up: BTreeSet<DealId>,
    /// Purchases that have ended, for whoever keeps the statistics.
    pub(super) ended: Vec<DealId>,
}

impl Deals {
    /// As a seller.
    pub fn sales(&self) -> impl Iterator<Item = (DealId, &Sale)> {
        self.sales.iter().map(|(deal, sale)| (*deal, sale))
    }

    /// As a buyer.
    pub fn purchases(&self) -> impl Iterator<Item = (DealId, &Purchase)> {
        self.purchases.iter().map(|(deal, purchase)| (*deal, purchase))
    }

    /// One deal as its buyer sees it.
    pub fn purchase(&self, deal: DealId) -> Option<&Purchase> {
        self.purchases.get(&deal)
    }

    pub(super) fn take_ended(&mut self) -> Vec<DealId> {
        std::mem::take(&mut self.ended)
    }

    /// Deals that have not ended.
    pub fn open(&self) -> usize {
        let sales = self.sales.values().filter(|sale| sale.stage == Stage::Open).count();
        sales + self.purchases.values().filter(|purchase| purchase.stage == Stage::Open).count()
    }

    pub(super) fn next_wish(&mut self) -> Option<(DealId, Wish)> {
        self.wishes.pop_front()
    }

    /// The next note; the buyer that a note names is this person.
    pub(super) fn next_note(&mut self, me: HostId) -> Option<(HostId, Note)> {
        let (to, mut note) = self.notes.pop_front()?;
        if let Note::Ask { buyer, .. } = &mut note {
            *buyer = me;
        }
        Some((to, note))
    }

    pub(super) fn take_complaints(&mut self) -> Vec<String> {
        let complaints = std::mem::take(&mut self.complaints);
        if self.in_doubt { Vec::new() } else { complaints }
    }

    // -- notes

    pub(super) fn on_note(&mut self, now: Instant, note: Note, rng: &mut Rng) {
        match note {
            Note::Order(order) => self.on_order(now, order, rng),
            // The buyer's change of mind may be faster than its wish.
            Note::Ask { deal, .. } if self.given_up.contains(&deal) => {}
            Note::Ask { deal, buyer, currency, amount } => {
                let invoice_id = InvoiceId(rng.bytes());
                let sale = Sale {
                    buyer,
                    invoice_id,
                    currency,
                    amount,
                    stage: Stage::Open,
                    commit: None,
                    other_commit: None,
                    made: false,
                    cancelling: false,
                    ask_again_at: None,
                };
                self.by_invoice.insert(invoice_id, deal);
                self.sales.insert(deal, sale);
                self.wishes.push_back((deal, Wish::Invoice));
            }
            Note::Offer { deal, invoice } => {
                // An offer that is repeated, because its seller's node forgot to answer, is the same.
                let waits = |purchase: &&mut Purchase| purchase.invoice.is_none() && purchase.stage == Stage::Open;
                if let Some(purchase) = self.purchases.get_mut(&deal).filter(waits) {
                    purchase.invoice = Some(invoice);
                    self.wishes.push_back((deal, Wish::Pay));
                }
            }
            Note::Commit { deal, commit } => {
                let Some(sale) = self.sales.get_mut(&deal).filter(|_| !self.forgotten.contains(&deal)) else { return };
                if sale.commit.is_none() {
                    sale.commit = Some(commit);
                    self.wishes.push_back((deal, Wish::Collect));
                } else if sale.commit.as_ref() != Some(&commit) && sale.other_commit.is_none() {
                    sale.other_commit = Some(commit);
                    self.wishes.push_back((deal, Wish::CollectOther));
                }
            }
            Note::PayAgain { deal } => self.on_pay_again(deal, rng),
            // The person's own, not a deal's.
            Note::Chores(_) | Note::NodeForgot => {}
            Note::NoDeal { deal } => self.on_no_deal(deal),
            Note::GiveUp { deal } => {
                self.given_up.insert(deal);
                if let Some(sale) = self.sales.get_mut(&deal).filter(|sale| sale.stage == Stage::Open) {
                    sale.cancelling = true;
                    if sale.made {
                        self.wishes.push_back((deal, Wish::Cancel));
                    }
                }
            }
        }
    }

    /// The node forgot: what is open is given up on both sides, and what it says of old deals counts no more.
    pub(super) fn on_forgot(&mut self) {
        let mut cleaning = Vec::new();
        for (deal, purchase) in &mut self.purchases {
            self.forgotten.insert(*deal);
            // An old copy may hold what has failed since.
            if !matches!(purchase.stage, Stage::Paid { .. }) {
                cleaning.push((*deal, Wish::Withdraw));
            }
            if purchase.stage == Stage::Open {
                purchase.stage = Stage::Failed(FORGOT.to_owned());
                self.ended.push(*deal);
                self.notes.push_back((purchase.order.seller, Note::GiveUp { deal: *deal }));
                if purchase.is_again_open() {
                    cleaning.push((*deal, Wish::Again(AgainWish::Withdraw)));
                }
            }
        }
        for (deal, sale) in &mut self.sales {
            self.forgotten.insert(*deal);
            if !matches!(sale.stage, Stage::Paid { .. }) {
                cleaning.push((*deal, Wish::Cancel));
            } else if sale.commit.is_some() {
                // An old copy may hold the request that was collected since, and nobody else can end it.
                cleaning.push((*deal, Wish::Collect));
                cleaning.extend(sale.other_commit.as_ref().map(|_| (*deal, Wish::CollectOther)));
            }
            if sale.stage == Stage::Open {
                sale.stage = Stage::Failed(FORGOT.to_owned());
                self.notes.push_back((sale.buyer, Note::NoDeal { deal: *deal }));
            }
        }
        let forgotten = &self.forgotten;
        self.wishes.retain(|(deal, _)| !forgotten.contains(deal));
        // What the node does remember must not stay open for ever; what it answers does not matter.
        self.wishes.extend(cleaning);
    }

    /// From now on answers and ends of deals may be anything: some node on the way forgot what it had said.
    pub(super) fn doubt(&mut self) {
        self.in_doubt = true;
    }

    /// See [`Deals::doubt`].
    pub(super) const fn is_in_doubt(&self) -> bool {
        self.in_doubt
    }

    fn on_no_deal(&mut self, deal: DealId) {
        let Some(purchase) = self.purchases.get_mut(&deal).filter(|purchase| purchase.stage == Stage::Open) else {
            return;
        };
        purchase.tries_left = 0;
        // A try that the node was asked for may have begun: it ends by itself.
        let waiting = self.wishes.len();
        self.wishes.retain(|wish| *wish != (deal, Wish::Pay));
        let was_not_asked = purchase.invoice.is_none() || self.wishes.len() < waiting;
        if purchase.next_try_at.take().is_some() || was_not_asked {
            purchase.stage = Stage::Failed(FORGOT.to_owned());
            self.ended.push(deal);
        }
    }

    fn on_order(&mut self, now: Instant, order: Order, rng: &mut Rng) {
        let (deal, payment_id) = (order.deal, PaymentId(rng.bytes()));
        let ask = Note::Ask { deal, buyer: order.seller, currency: order.currency, amount: order.amount };
        self.notes.push_back((order.seller, ask));
        self.by_payment.insert(payment_id, deal);
        let purchase = Purchase {
            stage: Stage::Open,
            invoice: None,
            payment_id,
            tries_left: order.tries.saturating_sub(1),
            next_try_at: None,
            begun: false,
            releasing: false,
            committed: false,
            withdrawing: false,
            again: None,
            fell_apart: 0,
            last_failure: None,
            failed: None,
            impatient_at: now + order.patience,
            ask_again_at: now + ASK_AGAIN,
            hops: 0,
            order,
        };
        self.purchases.insert(deal, purchase);
    }

    // -- commands

    /// The command that a wish comes to; `None` if it has become pointless.
    pub(super) fn command(&self, deal: DealId, wish: &Wish) -> Option<Command> {
        let (sale, purchase) = (self.sales.get(&deal), self.purchases.get(&deal));
        Some(match wish {
            Wish::Invoice => {
                let Sale { invoice_id, currency, amount, .. } = *sale?;
                let description = Description::default();
                Command::AddInvoice { invoice_id, currency, amount, description, expires_at: None }
            }
            Wish::Pay => {
                let Purchase { order, payment_id, invoice, .. } = purchase?;
                let (payment_id, invoice, routes) = (*payment_id, invoice.clone()?, order.routes.clone());
                Command::Pay { payment_id, invoice, max_fee: order.max_fee, mode: order.mode, routes }
            }
            Wish::Release => Command::ReleaseCommit { payment_id: purchase?.payment_id },
            Wish::Withdraw => Command::WithdrawPayment { payment_id: purchase?.payment_id },
            Wish::PaymentStatus => Command::PaymentStatus { payment_id: purchase?.payment_id },
            Wish::Collect => Command::CommitInvoice { commit: sale?.commit.clone()? },
            Wish::Cancel => Command::CancelInvoice { invoice_id: sale?.invoice_id },
            Wish::InvoiceStatus => Command::InvoiceStatus { invoice_id: sale?.invoice_id },
            Wish::Again(wish) => Self::again_command(purchase?, *wish)?,
            Wish::CollectOther => Command::CommitInvoice { commit: sale?.other_commit.clone()? },
        })
    }

    /// What a command came to. One about a try that is over says nothing about the next.
    pub(super) fn on_outcome(
        &mut self,
        now: Instant,
        (deal, wish): (DealId, Wish),
        command: &Command,
        outcome: Outcome,
        rng: &mut Rng,
    ) {
        if self.forgotten.contains(&deal) {
            return;
        }
        match wish {
            Wish::Again(wish) => self.on_again_outcome(deal, wish, outcome),
            Wish::Invoice | Wish::Collect | Wish::CollectOther | Wish::Cancel | Wish::InvoiceStatus => {
                self.on_seller_outcome(now, deal, wish, outcome);
            }
            Wish::Pay | Wish::Release | Wish::Withdraw | Wish::PaymentStatus => {
                if self.command(deal, &wish).as_ref() == Some(command) {
                    self.on_buyer_outcome(now, deal, wish, outcome, rng);
                }
            }
        }
    }

    fn on_seller_outcome(&mut self, now: Instant, deal: DealId, wish: Wish, outcome: Outcome) {
        let Some(sale) = self.sales.get_mut(&deal) else { return };
        match (wish, outcome) {
            (Wish::Invoice, Outcome::Done(Answer::Invoice(invoice))) => {
                sale.made = true;
                if sale.cancelling {
                    self.wishes.push_back((deal, Wish::Cancel));
                } else {
                    self.notes.push_back((sale.buyer, Note::Offer { deal, invoice }));
                }
            }
            // An earlier try whose answer was lost did it.
            (Wish::Invoice, Outcome::Refused(Refusal::InvoiceIdTaken)) => {
                self.wishes.push_back((deal, Wish::InvoiceStatus));
            }
            (Wish::InvoiceStatus, Outcome::Done(Answer::InvoiceStatus(report))) => {
                let was_made = std::mem::replace(&mut sale.made, true);
                if sale.cancelling && !was_made {
                    self.wishes.push_back((deal, Wish::Cancel));
                } else if report.state == (InvoiceState::Open { offered: 0 }) {
                    self.notes.push_back((sale.buyer, Note::Offer { deal, invoice: report.invoice.clone() }));
                }
                self.on_invoice(deal, report.state);
            }
            (Wish::Collect | Wish::CollectOther | Wish::Cancel, Outcome::Done(_)) => {}
            // One of the two payments is collected, or this one fell apart.
            (Wish::CollectOther, Outcome::Refused(Refusal::InvoiceEnded | Refusal::PartMissing { .. })) => {}
            // Not all parts are here (yet), or the answer of an earlier try was lost: see how it stands.
            (Wish::Collect, Outcome::Refused(Refusal::PartMissing { .. })) => sale.ask_again_at = Some(now + TRY_AGAIN),
            (Wish::Collect | Wish::Cancel, Outcome::Refused(Refusal::InvoiceEnded)) => {
                self.wishes.push_back((deal, Wish::InvoiceStatus));
            }
            (wish, outcome) => self.complaints.push(format!("{deal:?}: {wish:?} came to {outcome:?}")),
        }
    }

    fn on_buyer_outcome(&mut self, now: Instant, deal: DealId, wish: Wish, outcome: Outcome, rng: &mut Rng) {
        let Some(purchase) = self.purchases.get_mut(&deal) else { return };
        match (wish, outcome) {
            (Wish::Pay, Outcome::Done(_)) => purchase.begun = true,
            (
                Wish::Pay,
                Outcome::Refused(
                    Refusal::NoIndexServer | Refusal::IndexUnreachable | Refusal::IndexBusy | Refusal::NoRoute,
                ),
            ) => self.on_failed(now, deal, "refused: no route".to_owned(), rng),
            // Along a given route: the friend's user may be about to settle it.
            (Wish::Pay, Outcome::Refused(refusal @ Refusal::Inconsistent)) if purchase.order.routes.is_some() => {
                self.on_failed(now, deal, format!("refused: {refusal}"), rng);
            }
            (Wish::Release, Outcome::Done(Answer::Commit(commit))) => {
                purchase.committed = true;
                self.notes.push_back((purchase.order.seller, Note::Commit { deal, commit }));
            }
            (Wish::PaymentStatus, Outcome::Done(Answer::Payment(report))) => {
                let ready = matches!(report.state, PaymentState::Ready { .. });
                if ready && purchase.payment_id == report.payment_id && !purchase.committed {
                    purchase.releasing = true;
                    self.wishes.push_back((deal, Wish::Release));
                }
            }
            // It has ended, or cannot be withdrawn any more: the event tells, or the next question.
            (Wish::Withdraw | Wish::Release, Outcome::Refused(Refusal::AlreadyCommitted | Refusal::NotReady)) => {}
            (Wish::Withdraw, Outcome::Done(_)) => {}
            (wish, outcome) => self.complaints.push(format!("{deal:?}: {wish:?} came to {outcome:?}")),
        }
    }

    // -- events

    pub(super) fn on_event(&mut self, now: Instant, event: Event, verifier: &dyn Verifier) {
        if self.on_again_event(&event, verifier) {
            return;
        }
        match event {
            Event::PaymentReady { payment_id, .. } => {
                if let Some(deal) = self.current(&payment_id) {
                    self.purchases.entry(deal).and_modify(|purchase| purchase.releasing = true);
                    self.wishes.push_back((deal, Wish::Release));
                }
            }
            Event::PaymentEnded(report) => {
                if let Some(deal) = self.current(&report.payment_id) {
                    self.on_payment(now, deal, report.state, verifier);
                }
            }
            Event::InvoiceEnded(report) => {
                if let Some(&deal) = self.by_invoice.get(&report.invoice.invoice_id) {
                    self.on_invoice(deal, report.state);
                }
            }
            Event::PartsSent { payment_id, routes } => {
                let longest = routes.parts.iter().map(|part| part.route.len().saturating_sub(1)).max();
                if let Some(purchase) = self.current(&payment_id).and_then(|deal| self.purchases.get_mut(&deal)) {
                    purchase.hops = longest.unwrap_or(0) as u32;
                }
            }
            Event::PartFailed { .. } => {}
        }
    }

    /// The deal whose open try this payment is.
    fn current(&self, payment_id: &PaymentId) -> Option<DealId> {
        let deal = *self.by_payment.get(payment_id)?;
        let purchase = self.purchases.get(&deal)?;
        (purchase.payment_id == *payment_id && purchase.stage == Stage::Open).then_some(deal)
    }

    fn on_payment(&mut self, now: Instant, deal: DealId, state: PaymentState, verifier: &dyn Verifier) {
        let Some(purchase) = self.purchases.get_mut(&deal) else { return };
        match state {
            PaymentState::Paid { receipt, fees } => {
                let proof = purchase.invoice.as_ref().map(|invoice| receipt.verify(invoice, verifier));
                if proof != Some(Ok(())) {
                    self.complaints.push(format!("{deal:?}: the receipt proves nothing: {proof:?}"));
                }
                if fees > purchase.order.max_fee {
                    self.complaints.push(format!("{deal:?}: {fees} in fees, more than {}", purchase.order.max_fee));
                }
                purchase.stage = Stage::Paid { fees };
                self.ended.push(deal);
            }
            PaymentState::Failed(failure) => {
                if purchase.committed && failure != PaymentFailure::PartLost {
                    self.complaints.push(format!("{deal:?}: committed, then {failure}"));
                }
                if failure == PaymentFailure::PartLost {
                    // Some of it may have been collected: nobody pays such an invoice once more.
                    purchase.tries_left = 0;
                    purchase.fell_apart += 1;
                    if !purchase.releasing && purchase.order.mode == CommitMode::ByHand {
                        self.complaints.push(format!("{deal:?}: not committed, and {failure}"));
                    }
                }
                self.pending_failures(now, deal, failure.to_string());
            }
            PaymentState::Searching
            | PaymentState::Requested
            | PaymentState::Ready { .. }
            | PaymentState::Committed { .. }
            | PaymentState::Ending(_) => self.complaints.push(format!("{deal:?}: ended, but not in an end state")),
        }
    }

    fn on_invoice(&mut self, deal: DealId, state: InvoiceState) {
        if self.forgotten.contains(&deal) {
            return;
        }
        let Some(sale) = self.sales.get_mut(&deal) else { return };
        match state {
            InvoiceState::Open { .. } | InvoiceState::Collecting { .. } => {}
            InvoiceState::Paid => sale.stage = Stage::Paid { fees: 0 },
            InvoiceState::Cancelled => {
                if !sale.cancelling {
                    self.complaints.push(format!("{deal:?}: cancelled, and nobody asked for it"));
                }
                sale.stage = Stage::Failed("cancelled".to_owned());
            }
            InvoiceState::PaidInPart { collected } => sale.stage = Stage::PaidInPart { collected },
        }
    }

    fn pending_failures(&mut self, now: Instant, deal: DealId, why: String) {
        // The next try's id is drawn from the last one: events carry no generator.
        let Some(purchase) = self.purchases.get(&deal) else { return };
        let seed = blake3::hash(&purchase.payment_id.0);
        let mut rng = offset_protocol::machine::Seed::new(*seed.as_bytes()).rng();
        self.on_failed(now, deal, why, &mut rng);
    }

    /// A try has failed: the next one, or the end.
    fn on_failed(&mut self, now: Instant, deal: DealId, why: String, rng: &mut Rng) {
        let Some(purchase) = self.purchases.get_mut(&deal) else { return };
        if purchase.tries_left == 0 && purchase.is_again_open() {
            purchase.failed = Some(why);
            return self.withdraw_again(deal);
        }
        if purchase.tries_left == 0 {
            return self.fail(deal, why);
        }
        purchase.tries_left -= 1;
        purchase.last_failure = Some(why);
        purchase.payment_id = PaymentId(rng.bytes());
        purchase.begun = false;
        purchase.releasing = false;
        purchase.committed = false;
        purchase.withdrawing = false;
        purchase.next_try_at = Some(now + NEXT_TRY);
        self.by_payment.insert(purchase.payment_id, deal);
    }

    /// Nothing is left to try.
    pub(super) fn fail(&mut self, deal: DealId, why: String) {
        let Some(purchase) = self.purchases.get_mut(&deal) else { return };
        purchase.stage = Stage::Failed(why);
        self.ended.push(deal);
        self.notes.push_back((purchase.order.seller, Note::GiveUp { deal }));
    }

    // -- time

    pub(super) fn on_new_clock(&mut self, now: Instant) {
        for purchase in self.purchases.values_mut() {
            purchase.next_try_at = purchase.next_try_at.map(|_| now + NEXT_TRY);
            purchase.impatient_at = now + purchase.order.patience;
            purchase.ask_again_at = now + ASK_AGAIN;
        }
        for sale in self.sales.values_mut() {
            sale.ask_again_at = sale.ask_again_at.map(|_| now + ASK_AGAIN);
        }
    }

    pub(super) fn on_time(&mut self, now: Instant) {
        for (deal, purchase) in &mut self.purchases {
            if purchase.next_try_at.is_some_and(|at| at <= now) {
                purchase.next_try_at = None;
                purchase.impatient_at = now + purchase.order.patience;
                purchase.ask_again_at = now + ASK_AGAIN;
                self.wishes.push_back((*deal, Wish::Pay));
            }
        }
        let (mut impatient, mut asking) = (Vec::new(), Vec::new());
        for (deal, purchase) in self.purchases.iter_mut().filter(|(_, purchase)| purchase.waits()) {
            if purchase.impatient_at <= now {
                purchase.impatient_at = now + purchase.order.patience;
                impatient.push(*deal);
                if !purchase.withdrawing && !purchase.committed {
                    purchase.withdrawing = true;
                    self.wishes.push_back((*deal, Wish::Withdraw));
                }
            }
            if purchase.ask_again_at <= now {
                purchase.ask_again_at = now + ASK_AGAIN;
                asking.push(*deal);
                self.wishes.push_back((*deal, Wish::PaymentStatus));
            }
        }
        impatient.into_iter().for_each(|deal| self.withdraw_again(deal));
        asking.into_iter().for_each(|deal| self.ask_about_again(deal));
        for (deal, sale) in self.sales.iter_mut().filter(|(_, sale)| sale.stage == Stage::Open) {
            if sale.ask_again_at.is_some_and(|at| at <= now) {
                sale.ask_again_at = None;
                self.wishes.push_back((*deal, Wish::Collect));
            }
        }
    }

    pub(super) fn alarm(&self) -> Option<Instant> {
        let purchases = self.purchases.values().filter(|purchase| purchase.waits());
        let purchases = purchases.map(|purchase| purchase.impatient_at.min(purchase.ask_again_at));
        let sales = self.sales.values().filter(|sale| sale.stage == Stage::Open).filter_map(|sale| sale.ask_again_at);
        let tries = self.purchases.values().filter_map(|purchase| purchase.next_try_at);
        purchases.chain(sales).chain(tries).min()
    }
}

impl Purchase {
    /// How often it was tried.
    pub const fn tries(&self) -> u32 {
        self.order.tries.saturating_sub(self.tries_left)
    }

    /// Friendships on the longest route of the last try; 0 if it is not known.
    pub const fn hops(&self) -> u32 {
        self.hops
    }

    /// Whether it waits for its node.
    fn waits(&self) -> bool {
        self.begun && self.stage == Stage::Open
    }
}
