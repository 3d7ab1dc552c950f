//! What paying takes: begin or go on, wait, say how it stands.

use std::time::{Duration, Instant};

use offset_protocol::app::{Answer, Command, CommitMode, PaymentFailure, PaymentReport, PaymentState, Refusal};
use offset_protocol::bytes::PaymentId;
use offset_protocol::files::Payment;
use offset_protocol::limits::MAX_AMOUNT;
use offset_protocol::payment::{CancelReason, Commit, Invoice, Receipt};
use serde_json::{Map, Value, json};

use super::session::{Session, refused, wrong_answer};
use crate::app_client::Told;
use crate::programs::exit::Failure;

/// A payment is asked for again after this much silence, then more and more seldom: an event can be lost with a connection.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What mediators may get at most if the user does not say: a tenth of the amount, but at least 10 units, as small amounts
/// pass by fixed fees.
pub(super) fn default_max_fee(invoice: &Invoice) -> u128 {
    (invoice.amount / 10).max(10).min(MAX_AMOUNT.saturating_sub(invoice.amount))
}

/// How a payment stands; `None` if the node knows none of this id.
pub(super) async fn status(session: &mut Session, payment_id: PaymentId) -> Result<Option<PaymentReport>, Failure> {
    let outcome = session.ask(Command::PaymentStatus { payment_id }).await?.outcome;
    if outcome == Err(Refusal::UnknownPayment) {
        return Ok(None);
    }
    let Answer::Payment(report) = outcome.map_err(|refusal| refused(&refusal))? else { return Err(wrong_answer()) };
    Ok(Some(report))
}

/// Why a payment did not begin.
#[derive(Debug)]
pub(super) enum NotBegun {
    /// The node refused it: it has not begun.
    Refused(Failure),
    /// A try got lost on its way, there or back: it may have begun.
    Unknown(Failure),
}

impl From<NotBegun> for Failure {
    fn from(why: NotBegun) -> Self {
        match why {
            NotBegun::Refused(failure) | NotBegun::Unknown(failure) => failure,
        }
    }
}

/// Begins a payment, goes on with one that is open, or begins anew one that failed for nothing. Never pays twice: the node takes
/// each payment id once, and forgets a payment only when nothing of it is open.
pub(super) async fn begin(
    session: &mut Session,
    payment: &Payment,
    max_fee: u128,
    mode: CommitMode,
) -> Result<(), NotBegun> {
    let Payment { payment_id, invoice } = payment.clone();
    if let Some(report) = status(session, payment_id).await.map_err(NotBegun::Refused)? {
        if report.invoice != invoice {
            return Err(NotBegun::Refused(refused(&Refusal::PaymentIdTaken)));
        }
        if !matches!(report.state, PaymentState::Failed(_)) || is_unknown(&report.state) {
            return Ok(());
        }
        session.order(Command::ForgetPayment { payment_id }).await.map_err(NotBegun::Refused)?;
    }
    let pay = Command::Pay { payment_id, invoice, max_fee, mode, routes: None };
    let asked = session.ask(pay).await.map_err(NotBegun::Unknown)?;
    match asked.outcome {
        Ok(_) => Ok(()),
        Err(refusal) if asked.repeated => Err(NotBegun::Unknown(refused(&refusal))),
        Err(refusal) => Err(NotBegun::Refused(refused(&refusal))),
    }
}

/// Waits until the payment stands as `until` says, at most to the deadline; gives how it stands then. `hear` is told what the node
/// tells meanwhile.
pub(super) async fn wait(
    session: &mut Session,
    payment_id: PaymentId,
    deadline: Instant,
    until: fn(&PaymentState) -> bool,
    mut hear: impl FnMut(&Told),
) -> Result<PaymentReport, Failure> {
    let mut pause = FIRST_PAUSE;
    loop {
        let Some(report) = status(session, payment_id).await? else {
            return Err(refused(&Refusal::UnknownPayment));
        };
        let left = deadline.saturating_duration_since(Instant::now());
        if until(&report.state) || left.is_zero() {
            return Ok(report);
        }
        let told = session.pause(pause.min(left)).await;
        pause = if told.is_empty() { (pause * 2).min(LONGEST_PAUSE) } else { FIRST_PAUSE };
        told.iter().for_each(&mut hear);
    }
}

/// Whether a payment will not change any more.
pub(super) fn is_over(state: &PaymentState) -> bool {
    matches!(state, PaymentState::Paid { .. } | PaymentState::Failed(_))
}

/// Whether nobody here will ever know if it was paid: the commit had left the node when a part was lost with its channel, or came
/// back, which anybody on the route can say.
pub(super) fn is_unknown(state: &PaymentState) -> bool {
    matches!(state, PaymentState::Failed(PaymentFailure::PartLost))
}

/// The commit that led to this receipt.
pub(super) fn commit_of(receipt: &Receipt) -> Commit {
    Commit {
        response_hash: receipt.response_hash,
        src_plain_lock: receipt.src_plain_lock.clone(),
        dest_hashed_lock: receipt.dest_plain_lock.hashed(),
        dest_payment: receipt.dest_payment,
        total_dest_payment: receipt.total_dest_payment,
        invoice_id: receipt.invoice_id,
        currency: receipt.currency,
        signature: receipt.signature,
    }
}

/// A state's stable name, and a sentence.
pub(super) fn describe(state: &PaymentState) -> (&'static str, String) {
    match state {
        PaymentState::Searching => ("searching", "the node looks for routes".to_owned()),
        PaymentState::Requested => ("requested", "requests are on their way to the seller".to_owned()),
        PaymentState::Ready { .. } => ("ready", "the seller has answered; the commit was not fetched yet".to_owned()),
        PaymentState::Committed { .. } => {
            ("committed", "the commit has left the node; the seller has not collected yet".to_owned())
        }
        PaymentState::Paid { .. } => ("paid", "it is paid".to_owned()),
        PaymentState::Failed(PaymentFailure::PartLost) => (
            "unknown",
            "whether it is paid is not known here: the seller may have the commit, and a part was lost or came back. Ask the \
             seller whether this payment has arrived before you pay anything else for it"
                .to_owned(),
        ),
        PaymentState::Failed(why) => {
            ("failed", format!("it is not paid, and nothing moved{}: {why}", as_far_as_known(why)))
        }
        PaymentState::Ending(why) => ("ending", format!("it is given up ({why}), but requests are still open")),
    }
}

/// What must be said of an old copy of the database: what came back because a channel was lost, or because the seller takes no more
/// for the invoice, may have been paid in the time that the node has forgotten.
pub(super) fn as_far_as_known(why: &PaymentFailure) -> &'static str {
    match why {
        PaymentFailure::Cancelled(part) if matches!(part.reason, CancelReason::Removed | CancelReason::Seller) => {
            ", unless this node's database is an old copy"
        }
        _ => "",
    }
}

/// A payment, for programs.
pub(super) fn fields(report: &PaymentReport) -> Value {
    let mut fields = Map::new();
    let (name, _) = describe(&report.state);
    fields.insert("payment_id".to_owned(), json!(report.payment_id.to_string()));
    fields.insert("invoice_id".to_owned(), json!(report.invoice.invoice_id.to_string()));
    fields.insert("currency".to_owned(), json!(report.invoice.currency.as_str()));
    fields.insert("amount".to_owned(), json!(report.invoice.amount.to_string()));
    fields.insert("status".to_owned(), json!(name));
    match &report.state {
        PaymentState::Ready { fees } | PaymentState::Committed { fees } | PaymentState::Paid { fees, .. } => {
            fields.insert("fees".to_owned(), json!(fees.to_string()));
        }
        PaymentState::Failed(why) | PaymentState::Ending(why) => {
            fields.insert("reason".to_owned(), json!(why.to_string()));
        }
        PaymentState::Searching | PaymentState::Requested => {}
    }
    Value::Object(fields)
}
