//! `stsim`: runs scenarios and cases, many or one, and says what they came to.
//!
//! | command | |
//! |---|---|
//! | `run` | one seed of a scenario |
//! | `swarm` | many seeds, on all processors; `merge` joins parts, `compare` compares wholes |
//! | `replay`, `shrink` | a case that was saved |
//! | `topology`, `scenario` | graphs and scenarios by themselves |
//! | `mutants` | whether the checkers find machines that are broken on purpose |
//! | `bench` | how fast, how small, how exact: the figures beside their floors |
//!
//! Exit codes: 0 pass, 1 an expectation of the scenario was not met, 2 wrong usage, 3 an invariant was violated, 4 something
//! got stuck, 5 a program panicked, 6 not deterministic, 7 a limit of resources was reached, 8 the budget did not suffice.
//!
//! This is the only part of the crate with a clock, threads, files and processes. What a run comes to depends on none of them.

#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the program around simulations has a clock and threads; the simulations have not"
)]

mod again;
mod bench;
mod broken;
mod compare;
mod cpu;
mod execute;
mod files;
mod json;
mod merge;
mod mutants;
mod progress;
mod replay;
mod run;
mod scenario;
mod shard;
mod shrink;
mod story;
mod swarm;
mod topology;

use std::ffi::OsString;
use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Simulates a whole network of friends who owe each other: the very programs, every fault, one seed.
///
/// Exit codes: 0 pass, 1 an expectation of the scenario was not met, 2 wrong usage, 3 an invariant was violated,
/// 4 something got stuck, 5 a program panicked, 6 not deterministic, 7 a limit of resources was reached, 8 the budget did
/// not suffice.
#[derive(Debug, Parser)]
#[command(name = "stsim", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run one seed of a scenario
    Run(run::Arguments),
    /// Run many seeds of a scenario, and save a case for each that fails
    Swarm(swarm::Arguments),
    /// Join the results of the shards of one swarm
    Merge(merge::Arguments),
    /// Compare two results: means with 95 % intervals, what changed significantly
    Compare(compare::Arguments),
    /// Run a saved case again, event by event
    Replay(replay::Arguments),
    /// Make a saved case that fails as small as possible
    Shrink(shrink::Arguments),
    /// Make, import and describe graphs of friends
    Topology(topology::Arguments),
    /// List, show, explain and check scenarios
    Scenario(scenario::Arguments),
    /// Hunt machines that are broken on purpose
    Mutants(mutants::Arguments),
    /// Measure the figures of this program, each in a process of its own, beside their floors
    Bench(bench::Arguments),
    /// Run the case that comes in, and say what it came to: how a swarm asks another process
    #[command(hide = true)]
    Again(again::Arguments),
}

/// A command that could not do what it was asked for, as a sentence.
struct Failure(String);

impl Failure {
    fn new(why: impl Display) -> Self {
        Failure(why.to_string())
    }

    fn of_file(path: &std::path::Path, why: impl Display) -> Self {
        Failure(format!("{}: {why}", path.display()))
    }
}

/// The exit code of wrong usage.
const USAGE: u8 = 2;

/// The program. Prints, and says with which code to exit.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            let code = if error.use_stderr() { USAGE } else { 0 };
            // Nowhere to say that nothing can be said.
            drop(error.print());
            return ExitCode::from(code);
        }
    };
    execute::remember_panics();
    let done = match arguments.command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Swarm(arguments) => swarm::run(&arguments),
        Command::Merge(arguments) => merge::run(&arguments),
        Command::Compare(arguments) => compare::run(&arguments),
        Command::Replay(arguments) => replay::run(&arguments),
        Command::Shrink(arguments) => shrink::run(&arguments),
        Command::Topology(arguments) => topology::run(&arguments),
        Command::Scenario(arguments) => scenario::run(&arguments),
        Command::Mutants(arguments) => mutants::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Again(arguments) => again::run(&arguments),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(Failure(sentence)) => {
            drop(writeln!(std::io::stderr(), "stsim: {sentence}"));
            ExitCode::from(USAGE)
        }
    }
}

/// Prints to stdout. A reader who has gone away is no error.
fn say(text: impl Display) {
    let mut out = std::io::stdout().lock();
    drop(write!(out, "{text}").and_then(|()| out.flush()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }
}
