//! `stsim mutants`: whether the checkers find machines that are broken on purpose.

use std::ops::Range;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::cpu::Stopwatch;
use super::json::pretty;
use super::{Failure, say};
use crate::mutants::{COMPILED, Mutant, case, expects, find, hunt, known};

/// Arguments of the command.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Only these, by name; may stand here several times
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// So many cases are tried for each at most
    #[arg(long, default_value_t = 2_000)]
    cases: u64,
    /// No case is tried for one after this many seconds on a core
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Try first the case in which each was caught before: says quickly whether it still is
    #[arg(long)]
    known: bool,
    /// Run the cases with machines that are not broken: nothing may be found
    #[arg(long)]
    honest: bool,
    /// Print the table as one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Table {
    mutants: Vec<Row>,
    seconds: f64,
}

#[derive(Debug, Serialize)]
struct Row {
    name: &'static str,
    /// The part of the house that it breaks.
    home: String,
    /// What is wrong with it.
    what: &'static str,
    /// The invariant that it is meant to break.
    expected: String,
    caught: bool,
    /// What fired.
    by: Option<String>,
    /// What it said.
    said: Option<String>,
    case: Option<u64>,
    cases_tried: u64,
    /// On a core.
    seconds: f64,
}

/// The exit code if one survives, or if a machine that is not broken is found out: a checker is blind, or lies.
const WRONG: u8 = 1;

pub(super) fn run(arguments: &Arguments) -> Result<u8, Failure> {
    if arguments.honest {
        return Ok(honest(arguments));
    }
    if !COMPILED {
        return Err(Failure::new("this program was built without broken machines: build it with --features mutants"));
    }
    if let Some(name) = arguments.only.iter().find(|name| Mutant::named(name).is_none()) {
        return Err(Failure(format!("there is no mutant {name:?}")));
    }
    // A machine that panics is found out; its words stand in the table.
    std::panic::set_hook(Box::new(|_| {}));
    let wanted =
        |mutant: &&Mutant| arguments.only.is_empty() || arguments.only.iter().any(|name| name == mutant.name());
    let all = Stopwatch::start();
    let mut mutants = Vec::new();
    for &mutant in Mutant::ALL.iter().filter(wanted) {
        let row = search(mutant, arguments);
        if !arguments.json {
            let found = row.by.as_deref().unwrap_or("SURVIVES");
            let number = row.case.map_or_else(|| "-".to_owned(), |case| case.to_string());
            say(format!(
                "{:<26} {:<8} {:<4} {found:<12} case {number:>4} {:>6.2} s\n",
                row.name, row.home, row.expected, row.seconds
            ));
        }
        mutants.push(row);
    }
    let survivors = mutants.iter().filter(|row| !row.caught).count();
    let table = Table { mutants, seconds: all.spent().as_secs_f64() };
    if arguments.json {
        say(pretty(&table));
    } else {
        let count = table.mutants.len();
        say(format!("{} of {count} caught, {:.1} s on a core\n", count - survivors, table.seconds));
    }
    Ok(if survivors == 0 { 0 } else { WRONG })
}

fn numbers(mutant: Option<Mutant>, arguments: &Arguments) -> impl Iterator<Item = u64> + use<> {
    let first = mutant.filter(|_| arguments.known).and_then(known);
    let all: Range<u64> = 0..arguments.cases;
    first.into_iter().chain(all)
}

fn search(mutant: Mutant, arguments: &Arguments) -> Row {
    let (watch, most) = (Stopwatch::start(), Duration::from_secs(arguments.seconds));
    let mut cases_tried = 0;
    let mut numbers = numbers(Some(mutant), arguments).take_while(|_| watch.spent() < most);
    let found = numbers.find_map(|number| {
        cases_tried += 1;
        hunt(mutant, number..number + 1)
    });
    Row {
        name: mutant.name(),
        home: format!("{:?}", mutant.home()).to_lowercase(),
        what: mutant.what(),
        expected: format!("I{}", expects(mutant)),
        caught: found.is_some(),
        by: found.as_ref().map(|found| format!("{:?}", found.violation.invariant).to_lowercase()),
        said: found.as_ref().map(|found| found.violation.what.chars().take(200).collect()),
        case: found.map(|found| found.number),
        cases_tried,
        seconds: watch.spent().as_secs_f64(),
    }
}

/// The same cases with machines as they are.
fn honest(arguments: &Arguments) -> u8 {
    let (watch, most) = (Stopwatch::start(), Duration::from_secs(arguments.seconds));
    let (mut runs, mut accused) = (0_u64, 0_u64);
    for number in numbers(None, arguments).take_while(|_| watch.spent() < most) {
        runs += 1;
        if let Some(violation) = find(None, &case(number)) {
            accused += 1;
            say(format!("case {number}: {violation}\n"));
        }
    }
    say(format!(
        "{runs} runs of machines that are not broken, {accused} accused, {:.1} s\n",
        watch.spent().as_secs_f64()
    ));
    if accused == 0 { 0 } else { WRONG }
}
