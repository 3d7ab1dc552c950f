//! `stsim merge`: the shards of one swarm, joined.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use super::json::{SwarmReport, pretty};
use super::{Failure, files, say, swarm};

/// Arguments of the command.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// What `stsim swarm --json` printed in each shard
    #[arg(required = true)]
    results: Vec<PathBuf>,
    /// Write a report for people about all of them: one HTML file that needs nothing else
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments) -> Result<u8, Failure> {
    files::must_be_free(&[&arguments.report])?;
    let mut whole: Option<SwarmReport> = None;
    for path in &arguments.results {
        let part = SwarmReport::read(path)?;
        match &mut whole {
            None => whole = Some(part),
            Some(whole) => join(whole, part).map_err(|why| Failure::of_file(path, why))?,
        }
    }
    let whole = whole.ok_or_else(|| Failure::new("there is nothing to join"))?;
    if let Some(path) = &arguments.report {
        files::write_new(path, &swarm::page(&whole, &swarm::again(&whole), None))?;
    }
    // The result goes to a file as a rule; whoever sits there is told in words.
    drop(write!(std::io::stderr(), "{}", swarm::summary(&whole)));
    say(pretty(&whole));
    Ok(whole.exit_code)
}

/// Adds a part. The order of parts makes no difference to what comes out.
fn join(whole: &mut SwarmReport, part: SwarmReport) -> Result<(), String> {
    for (name, ours, theirs) in [
        ("scenario", &whole.scenario, &part.scenario),
        ("version", &whole.version, &part.version),
        ("setting", &whole.set.join(" "), &part.set.join(" ")),
    ] {
        if ours != theirs {
            return Err(format!("is of another {name}: {theirs:?}, not {ours:?}"));
        }
    }
    whole.runs.extend(part.runs);
    whole.runs.sort_by_key(|run| run.seed);
    if let Some(pair) = whole.runs.windows(2).find(|pair| pair[0].seed == pair[1].seed) {
        return Err(format!("has seed {}, which another part has", pair[0].seed));
    }
    whole.seeds += part.seeds;
    whole.failed.extend(part.failed);
    whole.failed.sort_by_key(|failed| failed.seed);
    whole.repeated += part.repeated;
    whole.wall_s += part.wall_s;
    whole.record.merge(&part.record);
    whole.marks_unreached = whole.record.marks_unreached().map(str::to_owned).collect();
    whole.budget = match (whole.budget.take(), part.budget) {
        (Some(a), Some(b)) if a != b => Some(if a < b { format!("{a}; {b}") } else { format!("{b}; {a}") }),
        (a, b) => a.or(b),
    };
    whole.exit_code = SwarmReport::worst(&whole.failed, whole.budget.as_ref());
    Ok(())
}
