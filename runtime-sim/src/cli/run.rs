//! `stsim run`: one seed of a scenario.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueEnum};

use super::execute::{Executed, Wishes, execute};
use super::json::{RunReport, pretty, seconds};
use super::progress::{Limits, Watcher};
use super::{Failure, broken, files, say, story};
use crate::case::Case;
use crate::full::Watch;
use crate::replay::{Replay, Shown};
use crate::report::{Report, html, times};
use crate::result::{Live, RunResult, Verdict};
use crate::scenario::{Scenario, draw, fields};
use crate::trace::Keep;

/// Arguments of the command.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// A scenario of this program (see `stsim scenario`), or a file
    scenario: String,
    /// Which run of it
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Set a field of the scenario, as in `topology.nodes=50..60`; may stand here several times
    #[arg(long, value_name = "FIELD=VALUE")]
    set: Vec<String>,
    /// When the checkers look: after each event, or at the end only, to see what they cost
    #[arg(long, value_enum, default_value = "always")]
    checks: Checks,
    /// Print the result as one JSON object
    #[arg(long)]
    json: bool,
    /// Write a report for people: one HTML file that needs nothing else
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Write every event, a line each
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Write the case: what `stsim replay` and `stsim shrink` read
    #[arg(long, value_name = "FILE")]
    case: Option<PathBuf>,
    #[command(flatten)]
    broken: broken::Arguments,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Checks {
    Always,
    AtTheEnd,
}

pub(super) fn run(arguments: &Arguments) -> Result<u8, Failure> {
    files::must_be_free(&[&arguments.report, &arguments.trace, &arguments.case])?;
    arguments.broken.arm()?;
    let scenario = Scenario::load(&arguments.scenario, &arguments.set)
        .map_err(|why| Failure(format!("{}: {why}", arguments.scenario)))?;
    let case = draw(&scenario, arguments.seed).map_err(Failure::new)?;
    let live = Arc::new(Live::default());
    let limits =
        Limits { wall_us: scenario.number(&fields::MOST_WALL), memory_mib: scenario.number(&fields::MOST_MEMORY) };
    let watcher = Watcher::start(&case, Arc::clone(&live), limits);
    let wishes = Wishes {
        keep: if arguments.trace.is_some() { Keep::Lines } else { Keep::Hash },
        watch: match arguments.checks {
            Checks::Always => Watch::Always,
            Checks::AtTheEnd => Watch::AtTheEnd,
        },
        live: Some(live),
    };
    let executed = execute(&case, Some(&scenario), wishes);
    watcher.stop();
    write_files(arguments, &case, &executed)?;
    let verdict = &executed.result.facts.verdict;
    if arguments.json {
        say(pretty(&RunReport::new(&executed.result)));
    } else {
        say(summary(&executed.result));
        if *verdict != Verdict::Pass {
            say(format!("again      {}\n", again(arguments)));
        }
    }
    Ok(verdict.exit_code())
}

fn write_files(arguments: &Arguments, case: &Case, executed: &Executed) -> Result<(), Failure> {
    let facts = &executed.result.facts;
    if let Some(path) = &arguments.case {
        files::write_new(path, &files::case_file(case, facts).to_json())?;
    }
    if let (Some(path), Some(trace)) = (&arguments.trace, &executed.trace) {
        let replay = Replay { finding: facts.verdict.finding().cloned(), trace: trace.clone() };
        let mut text = String::new();
        replay.events(case, Shown::default()).for_each(|line| {
            let _ = writeln!(text, "{line}");
        });
        files::write_new(path, &text)?;
    }
    if let Some(path) = &arguments.report {
        let again = again(arguments);
        let mut report = Report::new(&executed.result, &again).with_case(case);
        if matches!(facts.verdict, Verdict::Violation(_) | Verdict::Liveness(_) | Verdict::Panic { .. }) {
            report.story = story::of(case, facts.events);
        }
        files::write_new(path, &html(&report))?;
    }
    Ok(())
}

fn again(arguments: &Arguments) -> String {
    let words = command(&arguments.scenario, arguments.seed, &arguments.set);
    format!("{words}{}", arguments.broken.words())
}

/// The line that shows a run again.
pub(super) fn command(scenario: &str, seed: u64, set: &[String]) -> String {
    let mut line = format!("stsim run {} --seed {seed}", quoted(scenario));
    set.iter().for_each(|one| {
        let _ = write!(line, " --set {}", quoted(one));
    });
    line
}

/// A word as a shell takes it.
pub(super) fn quoted(word: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./=".contains(letter);
    if word.chars().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

fn percent(per_mille: u128) -> String {
    format!("{}.{} %", per_mille / 10, per_mille % 10)
}

/// What a run came to, for people.
pub(super) fn summary(result: &RunResult) -> String {
    let RunResult { facts, cost } = result;
    let record = &facts.record;
    let mut text = format!("{}\n", facts.verdict);
    let mut line = |name: &str, what: String| {
        let _ = writeln!(text, "{name:<10} {what}");
    };
    line("scenario", format!("{} seed {}, version {}", facts.scenario, facts.seed, facts.version));
    let payments = &record.payments;
    line(
        "payments",
        format!(
            "{} ordered: {} paid, {} failed, {} open",
            payments.ordered,
            payments.paid,
            payments.all_failed(),
            payments.open()
        ),
    );
    if payments.paid > 0 {
        let ms = |per_mille| record.latency_us.quantile(per_mille) / 1_000;
        line("latency", format!("{} ms half of them, {} ms 99 of 100, {} ms all", ms(500), ms(990), ms(1_000)));
    }
    let mut reasons: Vec<_> = payments.failed.iter().collect();
    reasons.sort_by_key(|(why, times)| (std::cmp::Reverse(**times), *why));
    for (why, times) in reasons.iter().take(5) {
        line("", format!("{times} failed: {why}"));
    }
    if payments.with_cheaters > 0 {
        line("cheaters", format!("{} payments with cheaters, not counted above", payments.with_cheaters));
    }
    if let Some(hit) = record.hardest_hit {
        let all = record.series.slices().iter().map(|slice| slice.frozen_by_cheaters_per_mille.high).max();
        line(
            "frozen",
            format!(
                "by cheaters: {} of what node {} could pay or be paid over honest friends, {} of all, at most",
                percent(hit.frozen_per_mille.into()),
                hit.node,
                percent(all.unwrap_or(0))
            ),
        );
    }
    line("faults", format!("{} of {} families", record.all_faults(), record.faults.len()));
    if let Some(settled) = facts.settled_after {
        line("settled", format!("{:.1} s after healing", seconds(settled.as_micros())));
    }
    let (virtual_s, wall_s) = (seconds(facts.simulated.as_micros()), seconds(cost.wall_us));
    let speed = |amount: f64| amount / wall_s.max(0.000_001);
    line("time", format!("{virtual_s:.1} s simulated in {wall_s:.2} s, {} times as fast", times(speed(virtual_s))));
    line("events", format!("{}, {:.0} a second", facts.events, speed(facts.events as f64)));
    if cost.peak_memory_bytes > 0 {
        line("memory", format!("{} MiB at most", cost.peak_memory_bytes >> 20));
    }
    if let Some(hash) = &facts.trace_hash {
        line("trace", hash.to_string());
    }
    text
}
