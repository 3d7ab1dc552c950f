//! `stctrl buyer`: pays by file (`pay-invoice`, `payment-status`) or in band (`pay`).
//!
//! By file, the payment file is the buyer's memory: it is on the disk before the node hears of the payment, and as long as it
//! is there the same `pay-invoice` goes on with that payment and begins no second one.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use offset_protocol::app::{self, Answer, CommitMode, Event, PaymentFailure, PaymentReport, PaymentState, Permission};
use offset_protocol::bytes::PaymentId;
use offset_protocol::files::{self as documents, Kind, Payment};
use offset_protocol::identity::Ed25519;
use offset_protocol::payment::{Commit, Invoice, Receipt};
use serde_json::{Value, json};

use super::pay::{
    NotBegun, as_far_as_known, begin, commit_of, default_max_fee, describe, fields, is_over, is_unknown, status, wait,
};
use super::routes::{self, route_fields};
use super::session::{Session, wrong_answer};
use crate::app_client::Told;
use crate::programs::exit::Failure;
use crate::programs::new_file::{NewFile, refuse_existing, remove};
use crate::programs::output::{Format, Shown, say};
use crate::programs::{args, files};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Pay an invoice by file: make the commit that the seller collects with.
    PayInvoice(PayInvoice),
    /// See how a payment stands; write the receipt once it is paid.
    PaymentStatus(PaymentStatus),
    /// Pay an invoice in band: nothing has to be carried to the seller.
    Pay(Pay),
    /// Ask the seller to cancel a payment whose commit has not left the node.
    Withdraw(Withdraw),
}

#[derive(Debug, Args)]
struct Bounds {
    /// The most that mediators may get, all together; if left out, a tenth of the amount, but at least 10.
    #[arg(short = 'f', long, value_name = "AMOUNT", value_parser = args::amount)]
    max_fee: Option<u128>,
    /// How long to wait, in seconds.
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = args::seconds)]
    max_time: Duration,
}

#[derive(Debug, Args)]
pub(super) struct PayInvoice {
    /// The invoice.
    #[arg(short, long, value_name = "FILE")]
    invoice: PathBuf,
    /// The new payment file. If it is there, of the same invoice, that payment goes on.
    #[arg(short, long, value_name = "FILE")]
    payment: PathBuf,
    /// The new commit file, for the seller.
    #[arg(short, long, value_name = "FILE")]
    commit: PathBuf,
    #[command(flatten)]
    bounds: Bounds,
}

#[derive(Debug, Args)]
pub(super) struct PaymentStatus {
    /// The payment file, from 'buyer pay-invoice'.
    #[arg(short, long, value_name = "FILE")]
    payment: PathBuf,
    /// The new receipt, written once it is paid.
    #[arg(short, long, value_name = "FILE")]
    receipt: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct Pay {
    /// The invoice.
    #[arg(short, long, value_name = "FILE")]
    invoice: PathBuf,
    /// A new payment file. Without one the invoice's id names the payment: giving the command again never pays twice either.
    #[arg(short, long, value_name = "FILE")]
    payment: Option<PathBuf>,
    /// The new receipt.
    #[arg(short, long, value_name = "FILE")]
    receipt: Option<PathBuf>,
    #[command(flatten)]
    bounds: Bounds,
    /// Only look for routes (needs the permission routes).
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// The payment file.
    #[arg(short, long, value_name = "FILE")]
    payment: Option<PathBuf>,
    /// The invoice, of a payment that 'buyer pay' began without a payment file.
    #[arg(short, long, value_name = "FILE")]
    invoice: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct Withdraw {
    #[command(flatten)]
    which: Which,
    /// How long to wait, in seconds.
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = args::seconds)]
    max_time: Duration,
}

pub(super) async fn run(command: &Command, session: &mut Session, format: Format) -> Result<Shown, Failure> {
    match command {
        Command::PayInvoice(args) => pay_invoice(args, session).await,
        Command::PaymentStatus(args) => payment_status(args, session).await,
        Command::Pay(args) => pay(args, session, format).await,
        Command::Withdraw(args) => withdraw(args, session).await,
    }
}

// -- by file

async fn pay_invoice(args: &PayInvoice, session: &mut Session) -> Result<Shown, Failure> {
    let invoice: Invoice = files::read(&args.invoice)?;
    let commit_file = NewFile::reserve(&args.commit, Kind::Commit)?;
    let memory = Memory::open(&args.payment, &invoice)?;
    let payment = start(memory, &invoice, &args.bounds, CommitMode::ByHand, session).await?;
    let deadline = Instant::now() + args.bounds.max_time;
    // Committed, and even paid: a run before this one was interrupted before it wrote the commit.
    let ready = |state: &PaymentState| {
        is_over(state) || matches!(state, PaymentState::Ready { .. } | PaymentState::Committed { .. })
    };
    let report = wait(session, payment.payment_id, deadline, ready, |_| ()).await?;
    let commit = match &report.state {
        PaymentState::Ready { .. } | PaymentState::Committed { .. } => {
            let payment_id = payment.payment_id;
            let Answer::Commit(commit) = session.order(app::Command::ReleaseCommit { payment_id }).await? else {
                return Err(wrong_answer());
            };
            commit
        }
        PaymentState::Paid { receipt, .. } => commit_of(receipt),
        PaymentState::Searching | PaymentState::Requested | PaymentState::Failed(_) | PaymentState::Ending(_) => {
            return Ok(unfinished(&report, "give the same command again to go on, or 'buyer withdraw' to give up"));
        }
    };
    write_commit(&commit, &invoice, commit_file)?;
    let mut fields = fields(&report);
    fields["payment"] = json!(args.payment.display().to_string());
    fields["commit"] = json!(args.commit.display().to_string());
    let fees = fields["fees"].as_str().unwrap_or_default();
    let text = format!(
        "{}: the commit for {} {}, fees {fees}; hand it to the seller\n{}: the payment; ask 'buyer payment-status' for the receipt",
        args.commit.display(),
        invoice.amount,
        invoice.currency,
        args.payment.display(),
    );
    Ok(Shown::new(text, fields))
}

/// A commit that proves nothing would only be refused by the seller, when nobody knows why any more.
fn write_commit(commit: &Commit, invoice: &Invoice, file: NewFile) -> Result<(), Failure> {
    let checked = commit.verify(invoice, &Ed25519);
    checked.map_err(|why| Failure::failed(format_args!("the node gave a commit that is not valid: {why}")))?;
    file.write(commit)
}

async fn payment_status(args: &PaymentStatus, session: &mut Session) -> Result<Shown, Failure> {
    let payment: Payment = files::read(&args.payment)?;
    if let Some(shown) = known_receipt(args, &payment) {
        return Ok(shown);
    }
    let receipt_file = NewFile::reserve(&args.receipt, Kind::Receipt)?;
    let Some(report) = status(session, payment.payment_id).await? else {
        let why = "the node knows no such payment: it was never begun, or the node has forgotten it";
        return Err(Failure::failed(why));
    };
    let PaymentState::Paid { receipt, .. } = &report.state else {
        return Ok(unfinished(&report, "ask again later"));
    };
    write_receipt(receipt, &payment.invoice, receipt_file)?;
    Ok(paid(&report, Some(&args.receipt)))
}

/// A receipt that an earlier run wrote: what was said then is said again.
fn known_receipt(args: &PaymentStatus, payment: &Payment) -> Option<Shown> {
    let receipt: Receipt = files::read(&args.receipt).ok()?;
    receipt.verify(&payment.invoice, &Ed25519).ok()?;
    let Payment { payment_id, invoice } = payment;
    let fields = json!({
        "payment_id": payment_id.to_string(),
        "invoice_id": invoice.invoice_id.to_string(),
        "currency": invoice.currency.as_str(),
        "amount": invoice.amount.to_string(),
        "status": "paid",
        "receipt": args.receipt.display().to_string(),
    });
    Some(Shown::new(format!("it is paid; the receipt is in {} already", args.receipt.display()), fields))
}

fn write_receipt(receipt: &Receipt, invoice: &Invoice, file: NewFile) -> Result<(), Failure> {
    let checked = receipt.verify(invoice, &Ed25519);
    checked.map_err(|why| Failure::failed(format_args!("the node gave a receipt that is not valid: {why}")))?;
    file.write(receipt)
}

// -- in band

async fn pay(args: &Pay, session: &mut Session, format: Format) -> Result<Shown, Failure> {
    let invoice: Invoice = files::read(&args.invoice)?;
    let max_fee = args.bounds.max_fee.unwrap_or_else(|| default_max_fee(&invoice));
    if args.dry_run {
        let find = routes::Find {
            currency: invoice.currency,
            amount: invoice.amount,
            to: invoice.seller,
            max_fee: Some(max_fee),
        };
        return routes::find(&find, session).await;
    }
    let receipt_file = args.receipt.as_deref().map(|path| NewFile::reserve(path, Kind::Receipt)).transpose()?;
    let memory = match &args.payment {
        Some(path) => Memory::open(path, &invoice)?,
        None => Memory::Known(Payment { payment_id: PaymentId(invoice.invoice_id.0), invoice: invoice.clone() }),
    };
    let payment = start(memory, &invoice, &args.bounds, CommitMode::InBand, session).await?;
    let mut attempts: Vec<Value> = Vec::new();
    let hear = |told: &Told| {
        let Some((line, attempt)) = attempt(told, payment.payment_id) else { return };
        if format == Format::Text {
            say(&line);
        }
        attempts.push(attempt);
    };
    let deadline = Instant::now() + args.bounds.max_time;
    let report = wait(session, payment.payment_id, deadline, is_over, hear).await?;
    let mut shown = if let PaymentState::Paid { receipt, .. } = &report.state {
        if let Some(file) = receipt_file {
            write_receipt(receipt, &invoice, file)?;
        }
        let mut shown = paid(&report, args.receipt.as_deref());
        if args.receipt.is_none() {
            let text = documents::print(receipt);
            shown.text = format!("{}\nthe receipt:\n{}", shown.text, text.trim_end());
            shown.fields.insert("receipt".to_owned(), serde_json::from_str(&text).unwrap_or_default());
        }
        shown
    } else {
        unfinished(&report, "give the same command again to wait on, or 'buyer withdraw' to give up")
    };
    shown.fields.insert("attempts".to_owned(), json!(attempts));
    Ok(shown)
}

/// What an event says about a try of this payment.
fn attempt(told: &Told, payment: PaymentId) -> Option<(String, Value)> {
    match &told.event {
        Event::PartsSent { payment_id, routes } if *payment_id == payment => {
            let line = format!("sent in parts: {}", routes.parts.len());
            Some((line, json!({ "sent": route_fields(routes) })))
        }
        Event::PartFailed { payment_id, part } if *payment_id == payment => {
            let at = part.edge.map(|edge| format!(", between {} and {}", edge.from, edge.to)).unwrap_or_default();
            let fields = json!({
                "failed": part.reason.to_string(),
                "from": part.edge.map(|edge| edge.from.to_string()),
                "to": part.edge.map(|edge| edge.to.to_string()),
            });
            Some((format!("a part came back: {}{at}", part.reason), fields))
        }
        Event::PartsSent { .. }
        | Event::PartFailed { .. }
        | Event::PaymentReady { .. }
        | Event::PaymentEnded(_)
        | Event::InvoiceEnded(_) => None,
    }
}

// -- giving up

async fn withdraw(args: &Withdraw, session: &mut Session) -> Result<Shown, Failure> {
    let payment_id = match (&args.which.payment, &args.which.invoice) {
        (Some(path), _) => files::read::<Payment>(path)?.payment_id,
        (None, Some(path)) => PaymentId(files::read::<Invoice>(path)?.invoice_id.0),
        (None, None) => return Err(Failure::usage("say which payment: --payment or --invoice")),
    };
    let asked = session.ask(app::Command::WithdrawPayment { payment_id }).await?;
    if let Err(refusal) = &asked.outcome {
        // Over already, perhaps by the first try of this very command: how it stands says more than the refusal.
        let report = status(session, payment_id).await?;
        if !report.is_some_and(|report| matches!(report.state, PaymentState::Failed(_) | PaymentState::Ending(_))) {
            return Err(super::session::refused(refusal));
        }
    }
    let deadline = Instant::now() + args.max_time;
    let report = wait(session, payment_id, deadline, is_over, |_| ()).await?;
    match &report.state {
        PaymentState::Failed(why) if !is_unknown(&report.state) => {
            Ok(Shown::new(format!("nothing was paid{}: {why}", as_far_as_known(why)), fields(&report)))
        }
        PaymentState::Paid { .. } => {
            let failure = Failure::failed("it is paid: the seller had collected before it heard of the wish");
            Ok(Shown::new("", fields(&report)).but(failure))
        }
        PaymentState::Searching
        | PaymentState::Requested
        | PaymentState::Ready { .. }
        | PaymentState::Committed { .. }
        | PaymentState::Failed(_)
        | PaymentState::Ending(_) => Ok(unfinished(&report, "the seller may still cancel; ask again later")),
    }
}

// -- common

/// What is known of the payment before this run.
enum Memory {
    /// It may have begun.
    Known(Payment),
    /// It has not; the file is ready to be written.
    New { file: NewFile, path: PathBuf },
}

impl Memory {
    fn open(path: &Path, invoice: &Invoice) -> Result<Memory, Failure> {
        if refuse_existing(path).is_ok() {
            return Ok(Memory::New { file: NewFile::reserve(path, Kind::Payment)?, path: path.to_owned() });
        }
        let payment: Payment = files::read(path)?;
        if payment.invoice != *invoice {
            let why = format_args!("{} belongs to another invoice; choose another payment file", path.display());
            return Err(Failure::failed(why));
        }
        Ok(Memory::Known(payment))
    }
}

/// Begins the payment or goes on with it. A new payment file is on the disk before the node hears of it, and taken back if it
/// is sure that the node knows nothing of it.
async fn start(
    memory: Memory,
    invoice: &Invoice,
    bounds: &Bounds,
    mode: CommitMode,
    session: &mut Session,
) -> Result<Payment, Failure> {
    session.demand(Permission::Buyer).await?;
    let (payment, made) = match memory {
        Memory::Known(payment) => (payment, None),
        Memory::New { file, path } => {
            let payment = Payment { payment_id: PaymentId(session.random()), invoice: invoice.clone() };
            file.write(&payment)?;
            (payment, Some(path))
        }
    };
    let max_fee = bounds.max_fee.unwrap_or_else(|| default_max_fee(invoice));
    let begun = begin(session, &payment, max_fee, mode).await;
    if let (Err(NotBegun::Refused(_)), Some(path)) = (&begun, &made) {
        remove(path);
    }
    begun?;
    Ok(payment)
}

fn paid(report: &PaymentReport, receipt: Option<&Path>) -> Shown {
    let mut fields = fields(report);
    let fees = fields["fees"].as_str().unwrap_or_default();
    let mut text = format!("paid: {} {}, fees {fees}", report.invoice.amount, report.invoice.currency);
    if let Some(path) = receipt {
        text = format!("{text}\n{}: the receipt", path.display());
        fields["receipt"] = json!(path.display().to_string());
    }
    Shown::new(text, fields)
}

/// A payment that is not paid (yet): failed, or over without an answer, exit 1; open, exit 5.
fn unfinished(report: &PaymentReport, advice: &str) -> Shown {
    let (_, sentence) = describe(&report.state);
    let failure = match &report.state {
        PaymentState::Failed(PaymentFailure::NoRoute) => Failure::failed(format_args!(
            "{sentence}; 'stctrl info friends' shows who is online and open, --max-fee allows more fees"
        )),
        PaymentState::Failed(_) => Failure::failed(sentence),
        _ => Failure::pending(format_args!("{sentence}; {advice}")),
    };
    Shown::new("", fields(report)).but(failure)
}
