//! `stctrl config`: relays, index servers, friends and currencies.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use offset_protocol::app::{self, ChannelReport, IndexAddress, Name, Refusal};
use offset_protocol::files::FriendTicket;
use offset_protocol::money::{Currency, Rate};
use offset_protocol::relay::RelayAddress;
use serde_json::json;

use super::info;
use super::session::{Session, refused};
use crate::app_client::Report;
use crate::programs::exit::Failure;
use crate::programs::output::Shown;
use crate::programs::table::safe;
use crate::programs::{args, files};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Listen on a relay.
    AddRelay(AddRelay),
    /// Listen on a relay no more.
    RemoveRelay(Named),
    /// Use an index server.
    AddIndex(AddIndex),
    /// Use an index server no more.
    RemoveIndex(Named),
    /// Begin a friendship.
    AddFriend(FriendFile),
    /// Replace what is known of where a friend listens.
    SetFriendRelays(FriendFile),
    /// End a friendship at once, with everything that it owes or is owed.
    RemoveFriend(Named),
    /// Call a friend something else.
    RenameFriend(Rename),
    /// Keep a link to a friend.
    EnableFriend(Named),
    /// Keep no link to a friend.
    DisableFriend(Named),
    /// Use a currency with a friend, and take new requests in it.
    OpenCurrency(InCurrency),
    /// Take no new requests in a currency.
    CloseCurrency(InCurrency),
    /// Use a currency with a friend no more; nothing may be owed or open in it.
    RemoveCurrency(InCurrency),
    /// Set what a friend may owe us.
    SetCurrencyMaxDebt(MaxDebt),
    /// Set what we charge for forwarding what comes from a friend.
    SetCurrencyRate(SetRate),
    /// Accept a friend's terms for a new beginning, those that 'info friends' shows.
    ResetFriend(Named),
}

#[derive(Debug, Args)]
pub(super) struct Named {
    /// Its name.
    #[arg(short, long, value_parser = args::name)]
    name: Name,
}

#[derive(Debug, Args)]
pub(super) struct AddRelay {
    /// The relay's ticket.
    #[arg(short, long, value_name = "FILE")]
    relay: PathBuf,
    /// A name for it, of your choice.
    #[arg(short, long, value_parser = args::name)]
    name: Name,
}

#[derive(Debug, Args)]
pub(super) struct AddIndex {
    /// The index server's ticket.
    #[arg(short, long, value_name = "FILE")]
    index: PathBuf,
    /// A name for it, of your choice.
    #[arg(short, long, value_parser = args::name)]
    name: Name,
}

#[derive(Debug, Args)]
pub(super) struct FriendFile {
    /// The friend's ticket.
    #[arg(short, long, value_name = "FILE")]
    friend: PathBuf,
    /// The friend's name, of your choice.
    #[arg(short, long, value_parser = args::name)]
    name: Name,
}

#[derive(Debug, Args)]
pub(super) struct Rename {
    /// The friend's name.
    #[arg(short, long, value_parser = args::name)]
    name: Name,
    /// The new name.
    #[arg(short = 'w', long, value_parser = args::name)]
    new_name: Name,
}

#[derive(Debug, Args)]
pub(super) struct InCurrency {
    /// The friend's name.
    #[arg(short, long, value_parser = args::name)]
    name: Name,
    /// The currency.
    #[arg(short, long)]
    currency: Currency,
}

#[derive(Debug, Args)]
pub(super) struct MaxDebt {
    /// The friend's name.
    #[arg(short, long, value_parser = args::name)]
    name: Name,
    /// The currency.
    #[arg(short, long)]
    currency: Currency,
    /// What the friend may owe us. If the friend vanishes, that much may be lost.
    #[arg(short, long, value_name = "AMOUNT", value_parser = args::amount)]
    mdebt: u128,
}

#[derive(Debug, Args)]
pub(super) struct SetRate {
    /// The friend's name.
    #[arg(short, long, value_parser = args::name)]
    name: Name,
    /// The currency.
    #[arg(short, long)]
    currency: Currency,
    /// The proportional part, in parts of 2^32: the fee for x is x * MUL / 2^32 + ADD.
    #[arg(short, long)]
    mul: u32,
    /// The fixed part.
    #[arg(short, long)]
    add: u32,
}

/// A command, what it leads to, and how that reads.
struct Plan {
    command: app::Command,
    /// Whether the report shows that it is so already: asked only after a try that may have been carried out.
    done: Box<dyn Fn(&Report) -> bool>,
    text: String,
}

pub(super) async fn run(command: &Command, session: &mut Session) -> Result<Shown, Failure> {
    let plan = match command {
        Command::AddRelay(args) => add_relay(args)?,
        Command::AddIndex(args) => add_index(args)?,
        Command::AddFriend(args) => add_friend(args)?,
        Command::SetFriendRelays(args) => set_friend_relays(args, session).await?,
        Command::ResetFriend(args) => reset_friend(&args.name, session).await?,
        Command::RemoveRelay(args) => remove_relay(&args.name),
        Command::RemoveIndex(args) => remove_index(&args.name),
        Command::RemoveFriend(args) => remove_friend(&args.name),
        Command::RenameFriend(args) => rename_friend(args),
        Command::EnableFriend(Named { name }) => {
            set(app::Command::EnableFriend { name: name.clone() }, format!("'{name}' is enabled"))
        }
        Command::DisableFriend(Named { name }) => {
            set(app::Command::DisableFriend { name: name.clone() }, format!("'{name}' is disabled"))
        }
        Command::OpenCurrency(InCurrency { name, currency }) => set(
            app::Command::OpenCurrency { name: name.clone(), currency: *currency },
            format!("{currency} is open with '{name}'"),
        ),
        Command::CloseCurrency(InCurrency { name, currency }) => set(
            app::Command::CloseCurrency { name: name.clone(), currency: *currency },
            format!("{currency} is closed with '{name}'"),
        ),
        Command::RemoveCurrency(args) => remove_currency(args),
        Command::SetCurrencyMaxDebt(MaxDebt { name, currency, mdebt }) => set(
            app::Command::SetMaxDebt { name: name.clone(), currency: *currency, max_debt: *mdebt },
            format!("'{name}' may owe us {mdebt} {currency}"),
        ),
        Command::SetCurrencyRate(SetRate { name, currency, mul, add }) => set(
            app::Command::SetRate { name: name.clone(), currency: *currency, rate: Rate { mul: *mul, add: *add } },
            format!("forwarding x {currency} for '{name}' costs {}", info::rate(Rate { mul: *mul, add: *add })),
        ),
    };
    carry_out(plan, session).await
}

async fn carry_out(plan: Plan, session: &mut Session) -> Result<Shown, Failure> {
    let asked = session.ask(plan.command).await?;
    if let Err(refusal) = asked.outcome {
        // The first try may have done it; then the second one is refused, for example because the name is taken.
        if !(asked.repeated && (plan.done)(&session.report().await?)) {
            return Err(refused(&refusal));
        }
    }
    let text = safe(&plan.text);
    Ok(Shown::new(text.clone(), json!({ "done": text })))
}

/// A command that changes nothing when it is given twice.
fn set(command: app::Command, text: String) -> Plan {
    Plan { command, done: Box::new(|_| false), text }
}

fn add_relay(args: &AddRelay) -> Result<Plan, Failure> {
    let relay: RelayAddress = files::read(&args.relay)?;
    let name = args.name.clone();
    let text = format!("the node listens on the relay '{name}', {}", relay.address);
    let command = app::Command::AddRelay { relay: relay.clone(), name: name.clone() };
    let done = move |report: &Report| report.relay(name.as_str()).is_some_and(|there| there.relay == relay);
    Ok(Plan { command, done: Box::new(done), text })
}

fn add_index(args: &AddIndex) -> Result<Plan, Failure> {
    let server: IndexAddress = files::read(&args.index)?;
    let name = args.name.clone();
    let text = format!("the node knows the index server '{name}', {}", server.address);
    let command = app::Command::AddIndex { server: server.clone(), name: name.clone() };
    let done = move |report: &Report| report.index_server(name.as_str()).is_some_and(|there| there.server == server);
    Ok(Plan { command, done: Box::new(done), text })
}

fn add_friend(args: &FriendFile) -> Result<Plan, Failure> {
    let FriendTicket { public_key, relays } = files::read(&args.friend)?;
    let name = args.name.clone();
    let text = format!("'{name}' is a friend: {public_key}; open a currency with it next");
    let command = app::Command::AddFriend { public_key, relays, name: name.clone() };
    let done = move |report: &Report| report.friend(name.as_str()).is_some_and(|there| there.public_key == public_key);
    Ok(Plan { command, done: Box::new(done), text })
}

async fn set_friend_relays(args: &FriendFile, session: &mut Session) -> Result<Plan, Failure> {
    let FriendTicket { public_key, relays } = files::read(&args.friend)?;
    let name = args.name.clone();
    let report = session.report().await?;
    let friend = report.friend(name.as_str()).ok_or_else(|| refused(&Refusal::UnknownFriend))?;
    if friend.public_key != public_key {
        let why = format!("{} is a ticket of {public_key}, and not of '{name}'", args.friend.display());
        return Err(Failure::failed(why));
    }
    let text = format!("'{name}' is looked for at the relays of its ticket: {}", relays.len());
    Ok(set(app::Command::SetFriendRelays { name, relays }, text))
}

/// Accepts the terms that the report shows now.
async fn reset_friend(name: &Name, session: &mut Session) -> Result<Plan, Failure> {
    let report = session.report().await?;
    let friend = report.friend(name.as_str()).ok_or_else(|| refused(&Refusal::UnknownFriend))?;
    let terms = match &friend.channel {
        ChannelReport::Inconsistent { theirs: Some(terms), .. } => terms.clone(),
        ChannelReport::Inconsistent { theirs: None, .. } => {
            return Err(Failure::failed(format_args!("'{name}' has stated no terms yet; wait until it is online")));
        }
        ChannelReport::Consistent { .. } => {
            return Err(Failure::failed(format_args!("there is nothing to reset: '{name}' and this node agree")));
        }
    };
    let (epoch, of) = (terms.epoch, name.clone());
    let done = move |report: &Report| {
        let channel = report.friend(of.as_str()).map(|friend| &friend.channel);
        matches!(channel, Some(ChannelReport::Consistent { epoch: now }) if *now >= epoch)
    };
    let text = format!("what '{name}' counts is accepted: {}", info::terms_line(&info::accepted(&terms)));
    Ok(Plan { command: app::Command::ResetFriend { name: name.clone(), terms }, done: Box::new(done), text })
}

fn remove_relay(name: &Name) -> Plan {
    let (command, of) = (app::Command::RemoveRelay { name: name.clone() }, name.clone());
    let done = move |report: &Report| report.relay(of.as_str()).is_none();
    Plan { command, done: Box::new(done), text: format!("the relay '{name}' is removed") }
}

fn remove_index(name: &Name) -> Plan {
    let (command, of) = (app::Command::RemoveIndex { name: name.clone() }, name.clone());
    let done = move |report: &Report| report.index_server(of.as_str()).is_none();
    Plan { command, done: Box::new(done), text: format!("the index server '{name}' is removed") }
}

fn remove_friend(name: &Name) -> Plan {
    let (command, of) = (app::Command::RemoveFriend { name: name.clone() }, name.clone());
    let done = move |report: &Report| report.friend(of.as_str()).is_none();
    Plan { command, done: Box::new(done), text: format!("'{name}' is a friend no more") }
}

fn rename_friend(args: &Rename) -> Plan {
    let Rename { name, new_name } = args;
    let (old, new) = (name.clone(), new_name.clone());
    let command = app::Command::RenameFriend { name: old.clone(), new_name: new.clone() };
    let done = move |report: &Report| report.friend(old.as_str()).is_none() && report.friend(new.as_str()).is_some();
    Plan { command, done: Box::new(done), text: format!("'{name}' is called '{new_name}' now") }
}

fn remove_currency(args: &InCurrency) -> Plan {
    let (name, currency) = (args.name.clone(), args.currency);
    let command = app::Command::RemoveCurrency { name: name.clone(), currency };
    let done = move |report: &Report| {
        report
            .friend(name.as_str())
            .is_some_and(|friend| !friend.currencies.iter().any(|there| there.currency == currency && there.listed))
    };
    Plan { command, done: Box::new(done), text: format!("{currency} is not used with '{}' any more", args.name) }
}
