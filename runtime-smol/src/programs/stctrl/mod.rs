//! `stctrl`: looks at a node and controls it, as an app.
//!
//! | group | permission | module |
//! |---|---|---|
//! | `info` | any registered app (`payments` buyer, `invoices` seller) | `info` |
//! | `config` | `config` | `config` |
//! | `routes` | `routes` | `routes` |
//! | `buyer` | `buyer` | `buyer` |
//! | `seller` | `seller` | `seller` |
//!
//! 1. Files are checked before the node hears anything: an input that is no good, an output that exists.
//! 2. A command that was interrupted, here or at the node, can be given again and does nothing twice.
//! 3. Success is said only of what the node has done and made durable.

mod buyer;
mod config;
mod info;
mod pay;
mod routes;
mod seller;
mod session;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use offset_protocol::files::{Kind, NodeEntry, NodeTicket};

use super::exit::Failure;
use super::output::{self, Format, Shown};
use super::{args, core_dumps, files, identity};
use crate::app_client::Target;
use crate::logging::{self, LogFormat};
use session::Session;

/// Looks at a node and controls it.
#[derive(Debug, Parser)]
#[command(name = "stctrl", version, propagate_version = true)]
pub struct StCtrl {
    #[command(flatten)]
    node: NodeArgs,
    /// Print one JSON object.
    #[arg(long, global = true)]
    json: bool,
    /// The form of the log on stderr (RUST_LOG says how much).
    #[arg(long, global = true, value_enum, default_value_t)]
    log_format: LogFormat,
    #[command(subcommand)]
    group: Group,
}

/// Which node, and as whom.
#[derive(Debug, Args)]
struct NodeArgs {
    /// The app's identity file; left out if the ticket is a node entry.
    #[arg(short = 'I', long, value_name = "FILE")]
    idfile: Option<PathBuf>,
    /// If the app's identity is locked: its passphrase is the first line of this file. Without it, it is typed on the terminal.
    #[arg(long, global = true, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// The node's ticket, or a node entry.
    #[arg(short = 'T', long, value_name = "FILE")]
    ticket: PathBuf,
    /// How long to wait for an answer of the node, in seconds.
    #[arg(long, global = true, value_name = "SECONDS", default_value = "10", value_parser = args::seconds)]
    timeout: Duration,
}

#[derive(Debug, Subcommand)]
enum Group {
    /// What the node looks like.
    #[command(subcommand)]
    Info(info::Command),
    /// Change relays, index servers, friends and currencies.
    #[command(subcommand)]
    Config(config::Command),
    /// Find routes.
    #[command(subcommand)]
    Routes(routes::Command),
    /// Pay.
    #[command(subcommand)]
    Buyer(buyer::Command),
    /// Be paid.
    #[command(subcommand)]
    Seller(seller::Command),
}

/// The program.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    core_dumps::forbid();
    match output::parse::<StCtrl>("stctrl", args) {
        Ok(args) => {
            logging::start(args.log_format);
            output::print("stctrl", Format::json_if(args.json), smol::block_on(run(&args)))
        }
        Err(exit) => exit,
    }
}

/// Does what the command line says.
///
/// # Errors
/// The exit code and one sentence.
pub async fn run(args: &StCtrl) -> Result<Shown, Failure> {
    let mut session = Session::new(target(&args.node)?, args.node.timeout)?;
    let format = Format::json_if(args.json);
    let result = match &args.group {
        Group::Info(command) => info::run(command, &mut session).await,
        Group::Config(command) => config::run(command, &mut session).await,
        Group::Routes(command) => routes::run(command, &mut session).await,
        Group::Buyer(command) => buyer::run(command, &mut session, format).await,
        Group::Seller(command) => seller::run(command, &mut session).await,
    };
    session.close().await;
    result
}

/// Whom to connect to and as whom, from the files.
fn target(args: &NodeArgs) -> Result<Target, Failure> {
    let NodeArgs { idfile, ticket, passphrase_file, .. } = args;
    if files::kind(ticket)? == Kind::NodeEntry {
        let NodeEntry { node, app } = files::read(ticket)?;
        if let Some(flag) =
            idfile.is_some().then_some("--idfile").or(passphrase_file.as_ref().map(|_| "--passphrase-file"))
        {
            let why =
                format_args!("{} is a node entry and brings its own identity: leave out {flag}", ticket.display());
            return Err(Failure::usage(why));
        }
        return Ok(Target { node: node.public_key, address: node.address, app: Arc::new(app) });
    }
    let node: NodeTicket = files::read(ticket)?;
    let Some(idfile) = idfile else {
        return Err(Failure::usage("--idfile is missing: say as which app to connect"));
    };
    let app = identity::read(idfile, passphrase_file.as_deref())?;
    Ok(Target { node: node.public_key, address: node.address, app: Arc::new(app) })
}
