//! A buyer who pays one invoice twice, as somebody does who presses the button again (I9).
//!
//! Two payments of one node for one invoice go on at once, under two locks: at the seller they are two offers, of which one at
//! most is collected. The deal is paid when either is; it has failed when both have. That both are paid must never be.
//!
//! The second payment has one try. It is withdrawn with the deal; when the first is paid, the seller cancels it.

use offset_protocol::app::{
    Answer, Command, CommitMode, Event, Outcome, PaymentFailure, PaymentReport, PaymentState, Refusal,
};
use offset_protocol::bytes::PaymentId;
use offset_protocol::identity::Verifier;
use offset_protocol::machine::Rng;

use super::deals::{DealId, Deals, Note, Purchase, Stage, Wish};

/// The second payment of a purchase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Again {
    payment_id: PaymentId,
    is_open: bool,
    begun: bool,
    releasing: bool,
    committed: bool,
    withdrawing: bool,
}

/// What a buyer wants of the node for the second payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgainWish {
    /// Pay.
    Pay,
    /// Fetch the commit.
    Release,
    /// Withdraw it.
    Withdraw,
    /// Say how it stands.
    Status,
}

impl Purchase {
    /// Whether the second payment has not ended.
    pub(super) fn is_again_open(&self) -> bool {
        self.again.as_ref().is_some_and(|again| again.is_open)
    }
}

impl Deals {
    pub(super) fn on_pay_again(&mut self, deal: DealId, rng: &mut Rng) {
        // Whoever does not see that it is paid may pay again; whoever gave up does not.
        let fits = |purchase: &&mut Purchase| {
            matches!(purchase.stage, Stage::Open | Stage::Paid { .. }) && purchase.begun && purchase.again.is_none()
        };
        let Some(purchase) = self.purchases.get_mut(&deal).filter(fits) else { return };
        let payment_id = PaymentId(rng.bytes());
        purchase.again = Some(Again {
            payment_id,
            is_open: true,
            begun: false,
            releasing: false,
            committed: false,
            withdrawing: false,
        });
        self.again_by_payment.insert(payment_id, deal);
        self.wishes.push_back((deal, Wish::Again(AgainWish::Pay)));
    }

    pub(super) fn again_command(purchase: &Purchase, wish: AgainWish) -> Option<Command> {
        let payment_id = purchase.again.as_ref()?.payment_id;
        Some(match wish {
            AgainWish::Pay => {
                let (order, invoice) = (&purchase.order, purchase.invoice.clone()?);
                Command::Pay { payment_id, invoice, max_fee: order.max_fee, mode: order.mode, routes: None }
            }
            AgainWish::Release => Command::ReleaseCommit { payment_id },
            AgainWish::Withdraw => Command::WithdrawPayment { payment_id },
            AgainWish::Status => Command::PaymentStatus { payment_id },
        })
    }

    pub(super) fn on_again_outcome(&mut self, deal: DealId, wish: AgainWish, outcome: Outcome) {
        let Some(purchase) = self.purchases.get_mut(&deal) else { return };
        let Some(again) = &mut purchase.again else { return };
        match (wish, outcome) {
            (AgainWish::Pay, Outcome::Done(_)) => {
                again.begun = true;
                if again.withdrawing {
                    self.wishes.push_back((deal, Wish::Again(AgainWish::Withdraw)));
                }
            }
            (
                AgainWish::Pay,
                Outcome::Refused(
                    Refusal::NoIndexServer | Refusal::IndexUnreachable | Refusal::IndexBusy | Refusal::NoRoute,
                ),
            ) => self.end_again(deal, None),
            (AgainWish::Release, Outcome::Done(Answer::Commit(commit))) => {
                again.committed = true;
                self.notes.push_back((purchase.order.seller, Note::Commit { deal, commit }));
            }
            (AgainWish::Status, Outcome::Done(Answer::Payment(report))) => {
                if matches!(report.state, PaymentState::Ready { .. }) && !again.committed {
                    self.release_again(deal);
                }
            }
            (AgainWish::Withdraw, Outcome::Done(_))
            | (
                AgainWish::Withdraw | AgainWish::Release,
                Outcome::Refused(Refusal::AlreadyCommitted | Refusal::NotReady),
            ) => {}
            (wish, outcome) => {
                self.complaints.push(format!("{deal:?}: {wish:?} of the second payment came to {outcome:?}"));
            }
        }
    }

    /// Whether an event is about a second payment; then it is dealt with.
    pub(super) fn on_again_event(&mut self, event: &Event, verifier: &dyn Verifier) -> bool {
        let payment_id = match event {
            Event::PaymentReady { payment_id, .. }
            | Event::PartsSent { payment_id, .. }
            | Event::PartFailed { payment_id, .. } => payment_id,
            Event::PaymentEnded(report) => &report.payment_id,
            Event::InvoiceEnded(_) => return false,
        };
        let Some(&deal) = self.again_by_payment.get(payment_id) else { return false };
        match event {
            Event::PaymentReady { .. } => self.release_again(deal),
            Event::PaymentEnded(report) => self.end_again(deal, Some((report, verifier))),
            Event::PartsSent { .. } | Event::PartFailed { .. } | Event::InvoiceEnded(_) => {}
        }
        true
    }

    fn release_again(&mut self, deal: DealId) {
        let again = self.purchases.get_mut(&deal).and_then(|purchase| purchase.again.as_mut());
        if let Some(again) = again {
            again.releasing = true;
            self.wishes.push_back((deal, Wish::Again(AgainWish::Release)));
        }
    }

    /// The second payment has ended; without a report it never began.
    fn end_again(&mut self, deal: DealId, report: Option<(&PaymentReport, &dyn Verifier)>) {
        if self.forgotten.contains(&deal) {
            return;
        }
        let Some(purchase) = self.purchases.get_mut(&deal) else { return };
        let Some(again) = purchase.again.as_mut().filter(|again| again.is_open) else { return };
        again.is_open = false;
        let state = report.map(|(report, _)| &report.state);
        if state == Some(&PaymentState::Failed(PaymentFailure::PartLost)) {
            purchase.fell_apart += 1;
            if !again.releasing && purchase.order.mode == CommitMode::ByHand {
                self.complaints.push(format!("{deal:?}: the second was not committed, and a part of it is lost"));
            }
        }
        if let Some((PaymentReport { state: PaymentState::Paid { receipt, fees }, .. }, verifier)) = report {
            let proof = purchase.invoice.as_ref().map(|invoice| receipt.verify(invoice, verifier));
            if proof != Some(Ok(())) {
                self.complaints.push(format!("{deal:?}: the second receipt proves nothing: {proof:?}"));
            }
            if matches!(purchase.stage, Stage::Paid { .. }) {
                self.complaints.push(format!("{deal:?}: paid twice"));
                return;
            }
            purchase.stage = Stage::Paid { fees: *fees };
            self.ended.push(deal);
        } else if let Some(why) = purchase.failed.take().filter(|_| purchase.stage == Stage::Open) {
            self.fail(deal, why);
        }
    }

    /// The second payment is not wanted any more.
    pub(super) fn withdraw_again(&mut self, deal: DealId) {
        let Some(again) = self.purchases.get_mut(&deal).and_then(|purchase| purchase.again.as_mut()) else { return };
        if again.is_open && !again.withdrawing && !again.committed {
            again.withdrawing = true;
            if again.begun {
                self.wishes.push_back((deal, Wish::Again(AgainWish::Withdraw)));
            }
        }
    }

    /// Asks how the second payment stands, where it goes on.
    pub(super) fn ask_about_again(&mut self, deal: DealId) {
        let again = self.purchases.get(&deal).and_then(|purchase| purchase.again.as_ref());
        if again.is_some_and(|again| again.is_open && again.begun) {
            self.wishes.push_back((deal, Wish::Again(AgainWish::Status)));
        }
    }
}
