//! `stctrl seller`: makes invoices, cancels them, collects.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use offset_protocol::app::{self, Answer, InvoiceReport, InvoiceState, Permission, Refusal};
use offset_protocol::bytes::InvoiceId;
use offset_protocol::files::Kind;
use offset_protocol::identity::Ed25519;
use offset_protocol::machine::WallTime;
use offset_protocol::money::Currency;
use offset_protocol::payment::{Commit, Description, Invoice};
use serde_json::{Value, json};

use super::session::{Session, refused, wrong_answer};
use crate::programs::exit::Failure;
use crate::programs::new_file::NewFile;
use crate::programs::output::Shown;
use crate::programs::{args, files};

/// An invoice is asked for again after this much silence, then more and more seldom.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make an invoice, and be ready to be paid.
    #[command(name = "create-invoice")]
    Create(CreateInvoice),
    /// Do not be paid any more.
    #[command(name = "cancel-invoice")]
    Cancel(CancelInvoice),
    /// Collect with the commit that the buyer handed over; done once the node has collected.
    #[command(name = "commit-invoice")]
    Commit(CommitInvoice),
}

#[derive(Debug, Args)]
pub(super) struct CreateInvoice {
    /// What it must be paid in.
    #[arg(short, long)]
    currency: Currency,
    /// How much.
    #[arg(short, long, value_parser = args::positive_amount)]
    amount: u128,
    /// The new invoice file, for the buyer.
    #[arg(short, long, value_name = "FILE")]
    invoice: PathBuf,
    /// What for; the buyer reads it.
    #[arg(short, long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    description: Description,
    /// Do not be paid after this time, such as 15m, 12h or 7d. Never expires if left out.
    #[arg(short, long, value_name = "TIME", value_parser = args::span)]
    expires: Option<Duration>,
}

#[derive(Debug, Args)]
pub(super) struct CancelInvoice {
    /// The invoice.
    #[arg(short, long, value_name = "FILE")]
    invoice: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct CommitInvoice {
    /// The invoice.
    #[arg(short, long, value_name = "FILE")]
    invoice: PathBuf,
    /// The commit from the buyer.
    #[arg(short, long, value_name = "FILE")]
    commit: PathBuf,
    /// How long to wait, in seconds.
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = args::seconds)]
    max_time: Duration,
}

pub(super) async fn run(command: &Command, session: &mut Session) -> Result<Shown, Failure> {
    match command {
        Command::Create(args) => create_invoice(args, session).await,
        Command::Cancel(args) => cancel_invoice(args, session).await,
        Command::Commit(args) => commit_invoice(args, session).await,
    }
}

async fn create_invoice(args: &CreateInvoice, session: &mut Session) -> Result<Shown, Failure> {
    let file = NewFile::reserve(&args.invoice, Kind::Invoice)?;
    session.demand(Permission::Seller).await?;
    let invoice = Invoice {
        invoice_id: InvoiceId(session.random()),
        currency: args.currency,
        seller: session.node(),
        amount: args.amount,
        description: args.description.clone(),
    };
    let lifetime = args.expires.map(|span| u64::try_from(span.as_millis()).unwrap_or(u64::MAX));
    let expires_at = lifetime.map(|span_ms| WallTime(session.wall().0.saturating_add(span_ms)));
    let Invoice { invoice_id, currency, amount, description, .. } = invoice.clone();
    let asked = session.ask(app::Command::AddInvoice { invoice_id, currency, amount, description, expires_at }).await?;
    match asked.outcome {
        Ok(answer) if answer == Answer::Invoice(invoice.clone()) => {}
        Ok(_) => return Err(wrong_answer()),
        // The id was chosen at random just now: only the first try can have used it.
        Err(Refusal::InvoiceIdTaken) if asked.repeated => {}
        Err(refusal) => return Err(refused(&refusal)),
    }
    if let Err(failure) = file.write(&invoice) {
        // Nobody can pay what nobody has; if this fails, too, the invoice stays open and unpaid.
        let _ = session.order(app::Command::CancelInvoice { invoice_id }).await;
        return Err(failure);
    }
    let text = format!("{}: an invoice of {amount} {currency}, for the buyer", args.invoice.display());
    let mut fields = invoice_fields(&invoice);
    fields["invoice"] = json!(name(&args.invoice));
    fields["expires_at_ms"] = json!(expires_at.map(|at| at.0));
    Ok(Shown::new(text, fields))
}

async fn cancel_invoice(args: &CancelInvoice, session: &mut Session) -> Result<Shown, Failure> {
    let invoice = own_invoice(&args.invoice, session)?;
    let invoice_id = invoice.invoice_id;
    if let Err(refusal) = session.ask(app::Command::CancelInvoice { invoice_id }).await?.outcome {
        let has_ended = refusal == Refusal::InvoiceEnded;
        if !(has_ended && status(invoice_id, session).await?.state == InvoiceState::Cancelled) {
            return Err(refused(&refusal));
        }
    }
    let mut fields = invoice_fields(&invoice);
    fields["status"] = json!("cancelled");
    Ok(Shown::new(format!("{}: the invoice is cancelled", args.invoice.display()), fields))
}

async fn commit_invoice(args: &CommitInvoice, session: &mut Session) -> Result<Shown, Failure> {
    let invoice = own_invoice(&args.invoice, session)?;
    let commit: Commit = files::read(&args.commit)?;
    let checked = commit.verify(&invoice, &Ed25519);
    checked.map_err(|why| Failure::failed(format_args!("{} is not valid: {why}", args.commit.display())))?;
    let asked = session.ask(app::Command::CommitInvoice { commit }).await?;
    match asked.outcome {
        // Given before, by an earlier run or by the first try: how it stands says more.
        Ok(_) | Err(Refusal::InvoiceEnded) => {}
        Err(refusal) => return Err(refused(&refusal)),
    }
    let deadline = Instant::now() + args.max_time;
    let report = wait(invoice.invoice_id, deadline, session).await?;
    let (_, sentence) = describe(&report);
    let fields = fields(&report);
    match report.state {
        InvoiceState::Paid => Ok(Shown::new(format!("collected: {} {}", invoice.amount, invoice.currency), fields)),
        InvoiceState::Open { .. } | InvoiceState::Collecting { .. } => {
            Ok(Shown::new("", fields)
                .but(Failure::pending(format_args!("{sentence}; give the same command again later"))))
        }
        InvoiceState::Cancelled | InvoiceState::PaidInPart { .. } => {
            Ok(Shown::new("", fields).but(Failure::failed(sentence)))
        }
    }
}

/// Waits until the invoice has ended, at most to the deadline; gives how it stands then.
async fn wait(invoice_id: InvoiceId, deadline: Instant, session: &mut Session) -> Result<InvoiceReport, Failure> {
    let mut pause = FIRST_PAUSE;
    loop {
        let report = status(invoice_id, session).await?;
        let left = deadline.saturating_duration_since(Instant::now());
        let is_over = match report.state {
            InvoiceState::Paid | InvoiceState::Cancelled | InvoiceState::PaidInPart { .. } => true,
            InvoiceState::Open { .. } | InvoiceState::Collecting { .. } => false,
        };
        if is_over || left.is_zero() {
            return Ok(report);
        }
        session.pause(pause.min(left)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn status(invoice_id: InvoiceId, session: &mut Session) -> Result<InvoiceReport, Failure> {
    let answer = session.order(app::Command::InvoiceStatus { invoice_id }).await?;
    let Answer::InvoiceStatus(report) = answer else { return Err(wrong_answer()) };
    Ok(report)
}

/// The invoice of a file, if this node is its seller.
fn own_invoice(path: &Path, session: &Session) -> Result<Invoice, Failure> {
    let invoice: Invoice = files::read(path)?;
    if invoice.seller != session.node() {
        return Err(Failure::failed(format_args!(
            "{} is an invoice of another node, {}",
            path.display(),
            invoice.seller
        )));
    }
    Ok(invoice)
}

/// A state's stable name, and a sentence.
pub(super) fn describe(report: &InvoiceReport) -> (&'static str, String) {
    let Invoice { amount, currency, .. } = &report.invoice;
    match report.state {
        InvoiceState::Open { offered } => {
            ("open", format!("not paid yet; {offered} of {amount} {currency} are offered"))
        }
        InvoiceState::Collecting { collected } => {
            ("collecting", format!("{collected} of {amount} {currency} are collected, the rest is on its way"))
        }
        InvoiceState::Paid => ("paid", format!("{amount} {currency} are collected")),
        InvoiceState::Cancelled => ("cancelled", "the invoice is cancelled".to_owned()),
        InvoiceState::PaidInPart { collected } => (
            "paid-in-part",
            format!(
                "only {collected} of {amount} {currency} were collected: the rest was lost with a friend's channel"
            ),
        ),
    }
}

/// An invoice and how it stands, for programs.
pub(super) fn fields(report: &InvoiceReport) -> Value {
    let mut fields = invoice_fields(&report.invoice);
    let (name, _) = describe(report);
    fields["status"] = json!(name);
    fields["expires_at_ms"] = json!(report.expires_at.map(|at| at.0));
    match report.state {
        InvoiceState::Open { offered } => fields["offered"] = json!(offered.to_string()),
        InvoiceState::Collecting { collected } | InvoiceState::PaidInPart { collected } => {
            fields["collected"] = json!(collected.to_string());
        }
        InvoiceState::Paid | InvoiceState::Cancelled => {}
    }
    fields
}

fn invoice_fields(invoice: &Invoice) -> Value {
    json!({
        "invoice_id": invoice.invoice_id.to_string(),
        "currency": invoice.currency.as_str(),
        "amount": invoice.amount.to_string(),
        "description": invoice.description.as_str(),
    })
}

fn name(path: &Path) -> String {
    path.display().to_string()
}
