//! `stctrl info`: tables for a human, the same as objects with `--json`, and two files that only a node can make.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use offset_protocol::app::{self, Answer, ChannelReport, CurrencyReport, FriendReport, MAX_LISTED, Name};
use offset_protocol::codec::List;
use offset_protocol::files::{FriendTicket, Kind};
use offset_protocol::friend::{CurrencyBalance, ResetTerms};
use offset_protocol::identity::Ed25519;
use offset_protocol::money::{Currency, Rate};
use offset_protocol::relay::RelayAddress;
use serde_json::{Value, json};

use super::session::{Session, wrong_answer};
use super::{pay, seller};
use crate::programs::args;
use crate::programs::exit::Failure;
use crate::programs::new_file::NewFile;
use crate::programs::output::Shown;
use crate::programs::table::{Side, Table, safe};

/// Pages of a list: what a node remembers is bounded, and so is what it can make us ask.
const MAX_PAGES: usize = 4_096;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// The friends, and how each currency stands.
    ///
    /// First column: E enabled or D disabled, + online or - offline. balance: what the friend owes this node; below 0 this node
    /// owes. frozen out: of this node, in requests to the friend that are still open; frozen in: of the friend, in its requests
    /// to this node. max debt: what the friend may owe at most, as this node set it. rate: what this node charges for forwarding
    /// what comes from the friend; x is the amount.
    Friends,
    /// The relays that the node listens on.
    Relays,
    /// The index servers.
    Index,
    /// What all friends together owe, by currency.
    Balance,
    /// The payments that the node remembers.
    Payments,
    /// The invoices that the node remembers.
    Invoices,
    /// Export a friend's last signature on the balances.
    FriendLastToken(FriendLastToken),
    /// Export this node's friend ticket: who it is, and at which relays.
    ExportTicket(ExportTicket),
}

#[derive(Debug, Args)]
pub(super) struct FriendLastToken {
    /// The friend's name.
    #[arg(short, long, value_parser = args::name)]
    name: Name,
    /// The new token file.
    #[arg(short, long, value_name = "FILE")]
    token: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct ExportTicket {
    /// The new ticket.
    #[arg(short, long, value_name = "FILE")]
    ticket: PathBuf,
}

pub(super) async fn run(command: &Command, session: &mut Session) -> Result<Shown, Failure> {
    match command {
        Command::Friends => Ok(friends(session.report().await?.friends.values())),
        Command::Relays => relays(session).await,
        Command::Index => index(session).await,
        Command::Balance => Ok(balance(session.report().await?.friends.values())),
        Command::Payments => payments(session).await,
        Command::Invoices => invoices(session).await,
        Command::FriendLastToken(args) => friend_last_token(args, session).await,
        Command::ExportTicket(args) => export_ticket(args, session).await,
    }
}

// -- friends

/// By name. `E` or `D`: enabled, disabled; `+` or `-`: online, offline.
pub(super) fn friends<'a>(friends: impl Iterator<Item = &'a FriendReport>) -> Shown {
    let mut friends: Vec<&FriendReport> = friends.collect();
    friends.sort_by(|a, b| a.name.cmp(&b.name));
    if friends.is_empty() {
        return Shown::new("no friends", json!({ "friends": [] }));
    }
    let right = Side::Right;
    let mut table =
        Table::new(&[Side::Left, Side::Left, Side::Left, right, right, right, right, Side::Left, Side::Left]);
    let heading = ["", "friend", "currency", "balance", "frozen out", "frozen in", "max debt", "rate", "requests"];
    table.row(heading.map(str::to_owned));
    for friend in &friends {
        let status = format!("{}{}", if friend.enabled { 'E' } else { 'D' }, if friend.online { '+' } else { '-' });
        let mut head = [status, friend.name.to_string()];
        if friend.currencies.is_empty() {
            table.row(head.clone());
        }
        for currency in friend.currencies.iter() {
            // Status and name stand in the first row of a friend only.
            table.row(std::mem::take(&mut head).into_iter().chain(currency_cells(friend, currency)));
        }
    }
    let notes = friends.iter().filter_map(|friend| disagreement(friend));
    let text = std::iter::once(table.to_string()).chain(notes).collect::<Vec<_>>().join("\n\n");
    let fields: Vec<Value> = friends.iter().map(|friend| friend_fields(friend)).collect();
    Shown::new(text, json!({ "friends": fields }))
}

fn currency_cells(friend: &FriendReport, report: &CurrencyReport) -> [String; 7] {
    [
        report.currency.to_string(),
        report.balance.to_string(),
        report.out_frozen.to_string(),
        report.in_frozen.to_string(),
        report.max_debt.to_string(),
        rate(report.rate),
        requests(friend, report).to_owned(),
    ]
}

/// Whether new requests pass.
fn requests(friend: &FriendReport, report: &CurrencyReport) -> &'static str {
    if matches!(friend.channel, ChannelReport::Inconsistent { .. }) {
        return "INCONSISTENT";
    }
    match (report.listed, report.friend_listed, report.is_open) {
        (true, true, true) => "open",
        (true, true, false) => "closed",
        (true, false, _) => "waits for the friend to open",
        (false, true, _) => "opened by the friend only",
        (false, false, _) => "removed",
    }
}

/// As a formula, exactly: `x*5/2^32+1`.
pub(super) fn rate(rate: Rate) -> String {
    match rate {
        Rate { mul: 0, add } => add.to_string(),
        Rate { mul, add: 0 } => format!("x*{mul}/2^32"),
        Rate { mul, add } => format!("x*{mul}/2^32+{add}"),
    }
}

/// What each side counts, if two friends do not agree, as it is for this node: what the friend owes it.
fn disagreement(friend: &FriendReport) -> Option<String> {
    let ChannelReport::Inconsistent { why, ours, theirs } = &friend.channel else { return None };
    let name = safe(friend.name.as_str());
    let head = format!("'{name}' is INCONSISTENT: {}", safe(why.as_str()));
    let ours_line = format!("as this node counts: {}", terms_line(ours));
    let Some(theirs) = theirs else {
        return Some(format!("{head}\n{ours_line}\n'{name}' has stated nothing yet that could be accepted"));
    };
    let accepted = accepted(theirs);
    Some(format!(
        "{head}\n\
         {ours_line}\n\
         as '{name}' counts: {}\n\
         accepting what '{name}' counts: {}, compared with what this node counts\n\
         Each side counts as paid what the other had asked of it and was still open. Whoever has forgotten something accepts what the other counts. If that is this node, or you agree to it:\n\
         stctrl config reset-friend --name '{name}'",
        terms_line(&accepted),
        difference(ours, &accepted),
    ))
}

/// A friend's terms as they are for this node once they are accepted: the friend counts the other way round.
pub(super) fn accepted(theirs: &ResetTerms) -> ResetTerms {
    let balances = theirs.balances.iter();
    let turned = balances.map(|one| CurrencyBalance { balance: one.balance.saturating_neg(), ..*one });
    ResetTerms { balances: List::truncated(turned), ..theirs.clone() }
}

/// What changes by it, in each currency in which something does.
fn difference(ours: &ResetTerms, accepted: &ResetTerms) -> String {
    let mut changes: BTreeMap<Currency, i128> = BTreeMap::new();
    for one in accepted.balances.iter() {
        changes.insert(one.currency, one.balance);
    }
    for one in ours.balances.iter() {
        let change = changes.entry(one.currency).or_default();
        *change = change.saturating_sub(one.balance);
    }
    let changes = changes.iter().filter(|(_, change)| **change != 0);
    let changes: Vec<_> = changes.map(|(currency, change)| format!("{change:+} {currency}")).collect();
    if changes.is_empty() { "no change".to_owned() } else { changes.join(", ") }
}

/// Terms, in short.
pub(super) fn terms_line(terms: &ResetTerms) -> String {
    let balances = terms.balances.iter().map(|one| format!("{} {}", one.balance, one.currency));
    let balances = balances.collect::<Vec<_>>().join(", ");
    format!("{} (epoch {})", if balances.is_empty() { "all balances 0" } else { &balances }, terms.epoch)
}

fn friend_fields(friend: &FriendReport) -> Value {
    let channel = match &friend.channel {
        ChannelReport::Consistent { epoch } => json!({ "consistent": true, "epoch": epoch }),
        ChannelReport::Inconsistent { why, ours, theirs } => json!({
            "consistent": false,
            "why": why.as_str(),
            "our_terms": terms_fields(ours),
            "friend_terms": theirs.as_ref().map(terms_fields),
            "if_accepted": theirs.as_ref().map(|theirs| balances_fields(&accepted(theirs))),
        }),
    };
    let currencies = friend.currencies.iter().map(|report| {
        json!({
            "currency": report.currency.as_str(),
            "balance": report.balance.to_string(),
            "out_frozen": report.out_frozen.to_string(),
            "in_frozen": report.in_frozen.to_string(),
            "max_debt": report.max_debt.to_string(),
            "rate": { "mul": report.rate.mul, "add": report.rate.add },
            "open": report.is_open,
            "requests": requests(friend, report),
            "listed": report.listed,
            "friend_listed": report.friend_listed,
        })
    });
    json!({
        "name": friend.name.as_str(),
        "public_key": friend.public_key.to_string(),
        "enabled": friend.enabled,
        "online": friend.online,
        "relays": friend.relays.iter().map(relay_fields).collect::<Vec<_>>(),
        "currencies": currencies.collect::<Vec<_>>(),
        "channel": channel,
    })
}

fn terms_fields(terms: &ResetTerms) -> Value {
    json!({
        "epoch": terms.epoch,
        "reset_token": terms.reset_token.to_string(),
        "balances": balances_fields(terms),
    })
}

fn balances_fields(terms: &ResetTerms) -> Vec<Value> {
    let balances = terms.balances.iter();
    let balances = balances.map(|one| json!({ "currency": one.currency.as_str(), "balance": one.balance.to_string() }));
    balances.collect()
}

fn relay_fields(relay: &RelayAddress) -> Value {
    json!({ "public_key": relay.public_key.to_string(), "address": relay.address.as_str() })
}

/// Sums over all friends: `(balance, frozen out, frozen in)` by currency.
pub(super) fn balance<'a>(friends: impl Iterator<Item = &'a FriendReport>) -> Shown {
    let mut totals: BTreeMap<Currency, (i128, u128, u128)> = BTreeMap::new();
    for report in friends.flat_map(|friend| friend.currencies.iter()) {
        let (balance, out_frozen, in_frozen) = totals.entry(report.currency).or_default();
        // A ledger's amounts are far below the edge, and a node has thousands of friends, not 2^27.
        *balance = balance.saturating_add(report.balance);
        *out_frozen = out_frozen.saturating_add(report.out_frozen);
        *in_frozen = in_frozen.saturating_add(report.in_frozen);
    }
    let mut table = Table::new(&[Side::Left, Side::Right, Side::Right, Side::Right]);
    table.row(["currency", "balance", "frozen out", "frozen in"].map(str::to_owned));
    let mut fields = Vec::new();
    for (currency, (balance, out_frozen, in_frozen)) in &totals {
        table.row([currency.to_string(), balance.to_string(), out_frozen.to_string(), in_frozen.to_string()]);
        fields.push(json!({
            "currency": currency.as_str(),
            "balance": balance.to_string(),
            "out_frozen": out_frozen.to_string(),
            "in_frozen": in_frozen.to_string(),
        }));
    }
    let text = if totals.is_empty() { "no currencies".to_owned() } else { table.to_string() };
    Shown::new(text, json!({ "balances": fields }))
}

// -- relays and index servers

async fn relays(session: &mut Session) -> Result<Shown, Failure> {
    let report = session.report().await?;
    let mut relays: Vec<_> = report.relays.values().collect();
    relays.sort_by(|a, b| a.name.cmp(&b.name));
    let rows =
        relays.iter().map(|one| (one.connected, one.name.as_str(), &one.relay.public_key, one.relay.address.as_str()));
    Ok(servers("relays", rows.map(|(connected, name, key, address)| (connected, name, key.to_string(), address))))
}

async fn index(session: &mut Session) -> Result<Shown, Failure> {
    let report = session.report().await?;
    let mut servers_known: Vec<_> = report.index_servers.values().collect();
    servers_known.sort_by(|a, b| a.name.cmp(&b.name));
    let rows = servers_known.iter();
    let rows = rows
        .map(|one| (one.connected, one.name.as_str(), one.server.public_key.to_string(), one.server.address.as_str()));
    Ok(servers("index_servers", rows))
}

/// `+` or `-`: connected or not.
fn servers<'a>(what: &str, rows: impl Iterator<Item = (bool, &'a str, String, &'a str)>) -> Shown {
    let mut table = Table::new(&[Side::Left; 4]);
    table.row(["", "name", "address", "public key"].map(str::to_owned));
    let mut fields = Vec::new();
    for (connected, name, key, address) in rows {
        let sign = if connected { "+" } else { "-" };
        table.row([sign.to_owned(), name.to_owned(), address.to_owned(), key.clone()]);
        fields.push(json!({ "name": name, "address": address, "public_key": key, "connected": connected }));
    }
    let text = if fields.is_empty() { format!("no {}", what.replace('_', " ")) } else { table.to_string() };
    Shown::new(text, json!({ what: fields }))
}

// -- payments and invoices

async fn payments(session: &mut Session) -> Result<Shown, Failure> {
    let mut table = Table::new(&[Side::Left, Side::Right, Side::Left, Side::Left, Side::Left]);
    table.row(["payment", "amount", "currency", "status", "description"].map(str::to_owned));
    let mut fields = Vec::new();
    let mut after = None;
    for _ in 0..MAX_PAGES {
        let Answer::Payments(page) = session.order(app::Command::ListPayments { after }).await? else {
            return Err(wrong_answer());
        };
        for report in page.iter() {
            let (status, _) = pay::describe(&report.state);
            table.row([
                report.payment_id.to_string(),
                report.invoice.amount.to_string(),
                report.invoice.currency.to_string(),
                status.to_owned(),
                report.invoice.description.to_string(),
            ]);
            fields.push(pay::fields(report));
        }
        after = page.last().map(|report| report.payment_id);
        if page.is_empty() || page.len() < MAX_LISTED {
            break;
        }
    }
    let text = if fields.is_empty() { "no payments".to_owned() } else { table.to_string() };
    Ok(Shown::new(text, json!({ "payments": fields })))
}

async fn invoices(session: &mut Session) -> Result<Shown, Failure> {
    let mut table = Table::new(&[Side::Left, Side::Right, Side::Left, Side::Left, Side::Left]);
    table.row(["invoice", "amount", "currency", "status", "description"].map(str::to_owned));
    let mut fields = Vec::new();
    let mut after = None;
    for _ in 0..MAX_PAGES {
        let Answer::Invoices(page) = session.order(app::Command::ListInvoices { after }).await? else {
            return Err(wrong_answer());
        };
        for report in page.iter() {
            let (status, _) = seller::describe(report);
            table.row([
                report.invoice.invoice_id.to_string(),
                report.invoice.amount.to_string(),
                report.invoice.currency.to_string(),
                status.to_owned(),
                report.invoice.description.to_string(),
            ]);
            fields.push(seller::fields(report));
        }
        after = page.last().map(|report| report.invoice.invoice_id);
        if page.is_empty() || page.len() < MAX_LISTED {
            break;
        }
    }
    let text = if fields.is_empty() { "no invoices".to_owned() } else { table.to_string() };
    Ok(Shown::new(text, json!({ "invoices": fields })))
}

// -- files

async fn friend_last_token(args: &FriendLastToken, session: &mut Session) -> Result<Shown, Failure> {
    let file = NewFile::reserve(&args.token, Kind::Token)?;
    let Answer::Evidence(token) = session.order(app::Command::LastEvidence { name: args.name.clone() }).await? else {
        return Err(wrong_answer());
    };
    let checked = token.verify(&Ed25519);
    let header =
        checked.map_err(|why| Failure::failed(format_args!("the node gave a token that is not valid: {why}")))?;
    file.write(&token)?;
    let path = args.token.display();
    let text =
        format!("{path}: signed by '{}', batch {} of epoch {}", safe(args.name.as_str()), header.seq, header.epoch);
    let fields = json!({
        "token": path.to_string(),
        "signed_by": token.sender.to_string(),
        "epoch": header.epoch,
        "batch": header.seq,
    });
    Ok(Shown::new(text, fields))
}

async fn export_ticket(args: &ExportTicket, session: &mut Session) -> Result<Shown, Failure> {
    let file = NewFile::reserve(&args.ticket, Kind::FriendTicket)?;
    let report = session.report().await?;
    if report.relays.is_empty() {
        let why = "the node has no relay at which a friend could reach it; add one with 'config add-relay'";
        return Err(Failure::failed(why));
    }
    let relays = List::truncated(report.relays.values().map(|one| one.relay.clone()));
    let ticket = FriendTicket { public_key: session.node(), relays };
    file.write(&ticket)?;
    let text = format!("{}: the node {}, relays: {}", args.ticket.display(), ticket.public_key, ticket.relays.len());
    let fields = json!({
        "ticket": args.ticket.display().to_string(),
        "public_key": ticket.public_key.to_string(),
        "relays": ticket.relays.iter().map(relay_fields).collect::<Vec<_>>(),
    });
    Ok(Shown::new(text, fields))
}
