//! `stmgr backup`, `restore` and `check`: a node's database from outside, also while the node runs.
//!
//! What is read is looked at page by page and never believed ([`crate::store`]); what it means is looked at by the node's own
//! code ([`offset_funder_sm::inspection`]). A restored database is an old one, and nothing can make it new: the node's friends
//! know what it has forgotten, and say so. So `restore` says what to do then.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use offset_funder_sm::inspection::{Check as Checked, Inspection};
use offset_funder_sm::node::Node;
use offset_protocol::bytes::PublicKey;
use offset_protocol::identity::Ed25519;
use serde_json::{Value, json};

use super::super::exit::Failure;
use super::super::new_file::refuse_existing;
use super::super::output::Shown;
use super::super::table::{Side, Table, safe};
use super::name;
use crate::store::{self, Content, Nameless, Records, SCHEMA, Source};

/// Findings that a human is shown; `--json` has more.
const MOST_SHOWN: usize = 20;

#[derive(Debug, Args)]
pub(super) struct Backup {
    /// The node's database.
    #[arg(short, long, value_name = "FILE")]
    database: PathBuf,
    /// The new backup: a database like the other one.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct Restore {
    /// The backup. It stays as it is.
    #[arg(short, long, value_name = "FILE")]
    input: PathBuf,
    /// The new database; the old one, and its log, must be out of the way.
    #[arg(short, long, value_name = "FILE")]
    database: PathBuf,
    /// The input is the database of a node that was killed, and its log is lost or damaged: take what is left
    #[arg(long)]
    without_log: bool,
}

#[derive(Debug, Args)]
pub(super) struct Check {
    /// A node's database, or a backup. It stays as it is.
    #[arg(short, long, value_name = "FILE")]
    database: PathBuf,
}

pub(super) fn backup(args: &Backup) -> Result<Shown, Failure> {
    refuse_existing(&args.output)?;
    let source = Source::open(&args.database).map_err(Failure::failed)?;
    let facts = if source.schema() == SCHEMA {
        let content = store::copy(&source, &args.output).map_err(Failure::failed)?;
        Facts::of(&source, content)
    } else {
        // A copy has checksums, which would vouch from then on for what nothing has vouched for yet.
        copy_if_sound(&args.database, source, &args.output)?
    };
    let while_it_runs = if facts.in_use { ", as it was a moment ago: the node went on meanwhile" } else { "" };
    let text = format!(
        "{}: a backup of the database of the node {}, {} records{while_it_runs}",
        args.output.display(),
        facts.owner,
        facts.content.records
    );
    Ok(Shown::new(text, made("backup", &args.output, &facts)))
}

pub(super) fn restore(args: &Restore) -> Result<Shown, Failure> {
    refuse_existing(&args.database)?;
    let source = if args.without_log { Source::open_without_log(&args.input) } else { Source::open(&args.input) };
    let facts = copy_if_sound(&args.input, source.map_err(Failure::failed)?, &args.database)?;
    let (database, node) = (args.database.display(), facts.owner);
    let text = format!(
        "{database}: the database of the node {node} as the backup has it, {} records\n\
         \n\
         This is an old copy. What the node did after the backup is not in it, but its friends know. So:\n\
         1. Start the node with this database only; never use the other one again, nor this backup a second time.\n\
         2. Look at 'stctrl info friends'. Whoever did anything with this node since the backup is INCONSISTENT, with both\n\
         \u{20}  sides' counts: ours are old, the friend's are new. The others go on as if nothing had been.\n\
         3. Compare what the friend counts with what you remember, and accept it: 'stctrl config reset-friend --name NAME'.\n\
         \u{20}  The friend does nothing: what this node counts is old, and accepting it may cost the friend money.\n\
         4. Of a payment that was open at the backup, or began after it, ask the seller before you pay again: whatever this\n\
         \u{20}  node says of it, it may be paid.\n\
         \n\
         Lost for good: payments and invoices after the backup (receipts that were written to files still count), and what was\n\
         frozen with an inconsistent friend: what it counts has every open request to it as paid, those of others that only\n\
         went through this node as well, and none of its own to this node.",
        facts.content.records
    );
    Ok(Shown::new(text, made("node-database", &args.database, &facts)))
}

pub(super) fn check(args: &Check) -> Result<Shown, Failure> {
    let source = Source::open(&args.database).map_err(Failure::failed)?;
    let (facts, records) = read(source)?;
    let inspection = inspect(&args.database, facts.owner, records)?;
    let mut parts = vec![head(&facts).to_string()];
    parts.push(things(&inspection).to_string());
    parts.push(checks(&facts, &inspection).to_string());
    if !inspection.currencies.is_empty() {
        parts.push(currencies(&inspection).to_string());
    }
    if !inspection.is_sound() {
        parts.push(findings(&inspection));
    }
    let shown = Shown::new(parts.join("\n\n"), fields(args, &facts, &inspection));
    Ok(match unsound(&args.database, &inspection) {
        None => shown,
        Some(failure) => shown.but(failure),
    })
}

// -- reading, and letting go before anything else

/// What a source says of its database, kept when the source is let go.
#[derive(Debug)]
struct Facts {
    owner: PublicKey,
    schema: u32,
    in_use: bool,
    commits_in_log: u64,
    content: Content,
}

impl Facts {
    fn of(source: &Source, content: Content) -> Facts {
        let (owner, schema) = (source.owner(), source.schema());
        Facts { owner, schema, in_use: source.is_in_use(), commits_in_log: source.groups_in_log(), content }
    }
}

/// Reads everything and lets the database go: to look at what it means takes far longer, and meanwhile a node must be able to
/// start, and one that runs to write over its old pages.
fn read(source: Source) -> Result<(Facts, Records), Failure> {
    let mut records = Records::new();
    let content = source.read(&mut |key, value| {
        records.push((key.to_vec(), value.to_vec()));
        Ok(())
    });
    let facts = Facts::of(&source, content.map_err(Failure::failed)?);
    Ok((facts, records))
}

/// The same, with a copy of what was read.
fn read_and_copy(source: Source, output: &Path) -> Result<(Facts, Records, Nameless), Failure> {
    let mut records = Records::new();
    let copy = Nameless::of(&source, output, &mut |key, value| {
        records.push((key.to_vec(), value.to_vec()));
        Ok(())
    });
    let copy = copy.map_err(Failure::failed)?;
    Ok((Facts::of(&source, copy.content()), records, copy))
}

/// Looks at what everything means.
fn inspect(path: &Path, owner: PublicKey, records: Records) -> Result<Inspection, Failure> {
    Node::inspect(owner, Arc::new(Ed25519), records)
        .map_err(|error| Failure::failed(format_args!("the database {} cannot be understood: {error}", path.display())))
}

/// Copies a database; the copy gets its name only if nothing is wrong with what it holds.
fn copy_if_sound(path: &Path, source: Source, output: &Path) -> Result<Facts, Failure> {
    let (facts, records, copy) = read_and_copy(source, output)?;
    if let Some(failure) = unsound(path, &inspect(path, facts.owner, records)?) {
        return Err(failure);
    }
    copy.name().map_err(Failure::failed)?;
    Ok(facts)
}

fn unsound(path: &Path, inspection: &Inspection) -> Option<Failure> {
    let first = inspection.findings.first()?;
    let (failed, first) = (inspection.failed(), safe(first));
    Some(Failure::failed(format_args!("the database {} is not sound: {failed} wrong, first {first}", path.display())))
}

// -- for a human

fn head(facts: &Facts) -> Table {
    let Facts { owner, schema, in_use, commits_in_log, content } = facts;
    let mut table = Table::new(&[Side::Left, Side::Left]);
    let mut row = |what: &str, is: String| table.row([what.to_owned(), is]);
    row("node", owner.to_string());
    let brought = if *schema == SCHEMA { "" } else { " (the node brings it to the newest when it starts)" };
    row("schema", format!("{schema}{brought}"));
    row("in use", if *in_use { "by a node that runs" } else { "no" }.to_owned());
    row("pages", format!("{} of {} bytes, {} free", content.pages.all, content.pages.size, content.pages.free));
    row("records", format!("{} of {} bytes", content.records, content.bytes));
    if *commits_in_log > 0 {
        let records = content.in_log;
        row("in the log", format!("{records} records of {commits_in_log} commits, not in the pages yet"));
    }
    table
}

fn things(inspection: &Inspection) -> Table {
    let mut table = Table::new(&[Side::Left, Side::Right]);
    table.row(["what there is".to_owned(), "number".to_owned()]);
    for (thing, number) in &inspection.things {
        table.row([(*thing).to_owned(), number.to_string()]);
    }
    table
}

fn checks(facts: &Facts, inspection: &Inspection) -> Table {
    let content = &facts.content;
    let mut table = Table::new(&[Side::Left, Side::Right, Side::Right]);
    table.row(["what was checked", "number", "wrong"].map(str::to_owned));
    // Whatever was wrong with these ended the check.
    table.row(["pages".to_owned(), content.pages.all.to_string(), "0".to_owned()]);
    if facts.schema >= 2 {
        table.row(["checksums of records".to_owned(), (content.records + 1).to_string(), "0".to_owned()]);
    }
    for check in Checked::ALL {
        let (checked, failed) = inspection.checks.get(&check).copied().unwrap_or_default();
        table.row([check.name().to_owned(), checked.to_string(), failed.to_string()]);
    }
    table
}

fn currencies(inspection: &Inspection) -> Table {
    let right = Side::Right;
    let mut table = Table::new(&[Side::Left, right, right, right, right]);
    table.row(["currency", "friends", "balance", "frozen out", "frozen in"].map(str::to_owned));
    for (currency, one) in &inspection.currencies {
        let numbers =
            [one.friends.to_string(), one.balance.to_string(), one.out_frozen.to_string(), one.in_frozen.to_string()];
        table.row(std::iter::once(currency.to_string()).chain(numbers));
    }
    table
}

fn findings(inspection: &Inspection) -> String {
    let mut lines: Vec<String> = inspection.findings.iter().take(MOST_SHOWN).map(|finding| safe(finding)).collect();
    let more = inspection.failed().saturating_sub(lines.len() as u64);
    if more > 0 {
        lines.push(format!("and {more} more"));
    }
    lines.join("\n")
}

// -- for programs

fn made(kind: &str, path: &Path, facts: &Facts) -> Value {
    json!({
        "type": kind,
        "public_key": facts.owner.to_string(),
        "file": name(path),
        "records": facts.content.records,
        "in_use": facts.in_use,
    })
}

fn fields(args: &Check, facts: &Facts, inspection: &Inspection) -> Value {
    let content = &facts.content;
    let checks = Checked::ALL.into_iter().map(|check| {
        let (checked, failed) = inspection.checks.get(&check).copied().unwrap_or_default();
        json!({ "what": check.name(), "checked": checked, "wrong": failed })
    });
    let currencies = inspection.currencies.iter().map(|(currency, one)| {
        json!({
            "currency": currency.as_str(),
            "friends": one.friends,
            "balance": one.balance.to_string(),
            "out_frozen": one.out_frozen.to_string(),
            "in_frozen": one.in_frozen.to_string(),
        })
    });
    json!({
        "file": name(&args.database),
        "public_key": facts.owner.to_string(),
        "schema": facts.schema,
        "in_use": facts.in_use,
        "pages": { "size": content.pages.size, "all": content.pages.all, "free": content.pages.free },
        "records": content.records,
        "bytes": content.bytes,
        "in_log": { "records": content.in_log, "commits": facts.commits_in_log },
        "things": inspection.things,
        "checks": checks.collect::<Vec<_>>(),
        "currencies": currencies.collect::<Vec<_>>(),
        "sound": inspection.is_sound(),
        "findings": inspection.findings,
    })
}

#[cfg(test)]
mod tests;
