//! `stsim mutants`: whether the checkers find machines that are broken on purpose.

use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use super::json::pretty;
use super::{Failure, say};
use crate::mutants::{COMPILED, Mutant, expects, hunt};

/// Arguments of the command.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Only these, by name; may stand here several times
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// So many cases are tried for each at most
    #[arg(long, default_value_t = 400)]
    cases: u64,
    /// No case is tried for one after this many seconds
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Print the table as one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Table {
    mutants: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    name: &'static str,
    invariant: String,
    caught: bool,
    seconds: f64,
    /// What fired.
    by: Option<String>,
    case: Option<u64>,
}

/// The exit code if one survives: a checker is blind.
const SURVIVED: u8 = 1;

pub(super) fn run(arguments: &Arguments) -> Result<u8, Failure> {
    if !COMPILED {
        return Err(Failure::new("this program was built without broken machines: build it with --features mutants"));
    }
    if let Some(name) = arguments.only.iter().find(|name| Mutant::ALL.iter().all(|mutant| mutant.name() != **name)) {
        return Err(Failure(format!("there is no mutant {name:?}")));
    }
    let wanted =
        |mutant: &&Mutant| arguments.only.is_empty() || arguments.only.iter().any(|name| name == mutant.name());
    let mut table = Table { mutants: Vec::new() };
    for &mutant in Mutant::ALL.iter().filter(wanted) {
        let row = find(mutant, arguments);
        if !arguments.json {
            let found = row.by.as_ref().map_or("SURVIVES", String::as_str);
            say(format!("{:<28} {:<4} {:>6.1} s  {found}\n", row.name, row.invariant, row.seconds));
        }
        table.mutants.push(row);
    }
    let survivors = table.mutants.iter().filter(|row| !row.caught).count();
    if arguments.json {
        say(pretty(&table));
    } else {
        say(format!("{} of {} caught\n", table.mutants.len() - survivors, table.mutants.len()));
    }
    Ok(if survivors == 0 { 0 } else { SURVIVED })
}

fn find(mutant: Mutant, arguments: &Arguments) -> Row {
    let (began, most) = (Instant::now(), Duration::from_secs(arguments.seconds));
    let mut numbers = (0..arguments.cases).take_while(|_| began.elapsed() < most);
    let found = numbers.find_map(|number| hunt(mutant, number..number + 1));
    Row {
        name: mutant.name(),
        invariant: format!("I{}", expects(mutant)),
        caught: found.is_some(),
        seconds: began.elapsed().as_secs_f64(),
        by: found.as_ref().map(|found| format!("{:?}", found.violation.invariant).to_lowercase()),
        case: found.map(|found| found.number),
    }
}
