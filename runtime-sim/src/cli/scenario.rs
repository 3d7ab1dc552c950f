//! `stsim scenario`: scenarios by themselves.

use std::fmt::Write as _;

use clap::Args;

use super::{Failure, say};
use crate::scenario::field::hint;
use crate::scenario::{BUILT_IN, Scenario, draw, explain};

/// Seeds that a check draws: what is drawn may go wrong in one only. Chosen freely.
const DRAWN: u64 = 20;

/// Arguments of the command. Without any: the scenarios of this program.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(super) struct Arguments {
    /// Every field with its unit, default and range
    #[arg(long)]
    explain: bool,
    /// Read a file and draw some runs of it, but do not run them
    #[arg(long, value_name = "FILE")]
    check: Option<String>,
    /// Print a scenario of this program, to begin one of your own with
    #[arg(long, value_name = "NAME")]
    show: Option<String>,
}

pub(super) fn run(arguments: &Arguments) -> Result<u8, Failure> {
    if arguments.explain {
        say(explain());
    } else if let Some(file) = &arguments.check {
        say(check(file).map_err(|why| Failure(format!("{file}: {why}")))?);
    } else if let Some(name) = &arguments.show {
        let found = BUILT_IN.iter().find(|(known, _)| known == name);
        let near = hint(name, BUILT_IN.iter().map(|(known, _)| *known));
        say(found.ok_or_else(|| Failure(format!("there is no scenario {name:?} in this program{near}")))?.1);
    } else {
        say(list());
    }
    Ok(0)
}

fn check(file: &str) -> Result<String, crate::scenario::ScenarioError> {
    let scenario = Scenario::load(file, &[])?;
    let mut sizes = Vec::new();
    for seed in 0..DRAWN {
        let case = draw(&scenario, seed)?;
        sizes.push([case.nodes.len(), case.friendships.len(), case.operations.len(), case.faults.len()]);
        // A large one is drawn once: it takes a while.
        if case.nodes.len() > 10_000 {
            break;
        }
    }
    let span = |place: usize| {
        let all = || sizes.iter().map(|size| size[place]);
        match (all().min().unwrap_or(0), all().max().unwrap_or(0)) {
            (low, high) if low == high => low.to_string(),
            (low, high) => format!("{low} to {high}"),
        }
    };
    Ok(format!(
        "{} is a scenario: {}\n{} nodes, {} friendships, {} operations, {} faults\n",
        scenario.name(),
        scenario.about(),
        span(0),
        span(1),
        span(2),
        span(3)
    ))
}

fn list() -> String {
    let mut text = String::new();
    for (name, _) in BUILT_IN {
        let about = Scenario::load(name, &[]).map(|scenario| scenario.about()).unwrap_or_default();
        let _ = writeln!(text, "{name:<22} {about}");
    }
    text
}
