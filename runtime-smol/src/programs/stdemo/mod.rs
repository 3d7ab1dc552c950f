//! `stdemo`: a whole network on this machine's loopback, from nothing to a verified receipt.
//!
//! It makes a temporary folder, starts one relay, two federated index servers and a line of nodes, each a process of its own,
//! makes the nodes friends, and pays from the first to the last. Alone it shows every step (`show`); `stdemo load` pays
//! many times and measures (`load`).
//!
//! The processes run the real programs: `stdemo --as PROGRAM …` is PROGRAM, so that one file is enough to run the demo.

mod cost;
mod load;
mod network;
mod process;
mod show;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use super::exit::{self, Exit, Failure};
use super::{core_dumps, output, stctrl, stindex, stmgr, stnode, strelay, stverify};

/// Runs a whole Offset network on loopback and pays through it.
#[derive(Debug, Parser)]
#[command(name = "stdemo", version, args_conflicts_with_subcommands = true)]
#[command(
    after_help = "`stdemo --as PROGRAM …` is the program of that name: stmgr, strelay, stindex, stnode, stctrl or stverify."
)]
struct StDemo {
    /// How many nodes stand in the line.
    #[arg(short, long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(2..=16))]
    nodes: u16,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Pay many times and measure.
    Load(LoadArgs),
}

/// How much to pay.
#[derive(Clone, Debug, Args)]
struct LoadArgs {
    /// How many nodes stand in the line.
    #[arg(short, long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(2..=16))]
    nodes: u16,
    /// How many payments to make.
    #[arg(short, long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    payments: u32,
    /// How many payments go on at once.
    #[arg(short = 'k', long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=4_096))]
    in_flight: u32,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// The program.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    core_dumps::forbid();
    let args: Vec<OsString> = args.collect();
    if args.get(1).is_some_and(|arg| arg == "--as") {
        return run_as(&args[2..]);
    }
    let parsed: StDemo = match exit::parse(args.into_iter()) {
        Ok(parsed) => parsed,
        Err(code) => return code,
    };
    match parsed.command {
        None => exit::finish("stdemo", smol::block_on(show::run(parsed.nodes.into()))),
        Some(Command::Load(args)) if args.json => {
            let done = smol::block_on(load::run(&args, load::Progress::Hidden)).map(|figures| figures.shown());
            output::print("stdemo", output::Format::Json, done)
        }
        Some(Command::Load(args)) => {
            let done = smol::block_on(load::run(&args, load::Progress::Shown)).map(|figures| figures.shown());
            output::print("stdemo", output::Format::Text, done)
        }
    }
}

/// Is one of the other programs, and ends when the demo does.
fn run_as(args: &[OsString]) -> ExitCode {
    process::end_with_parent();
    let name = args.first().and_then(|name| Path::new(name).to_str()).unwrap_or_default();
    let args = args.iter().cloned();
    match name {
        "stmgr" => stmgr::main(args),
        "strelay" => strelay::main(args),
        "stindex" => stindex::main(args),
        "stnode" => stnode::main(args),
        "stctrl" => stctrl::main(args),
        "stverify" => stverify::main(args),
        _ => exit::finish("stdemo", Err(Failure::new(Exit::Usage, "--as wants the name of a program of Offset"))),
    }
}
