//! `stsim swarm`: many seeds of a scenario. What is reported does not depend on how many threads did the work.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Range;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use clap::Args;

use super::execute::{Wishes, execute};
use super::json::{Failed, RunLine, SwarmReport, pretty};
use super::run::{command, quoted};
use super::shard::{Shard, of_array_job};
use super::{Failure, again, files, progress, say, story};
use crate::case::Case;
use crate::report::{Report, Story, html};
use crate::result::{Record, RunResult, Verdict, version};
use crate::scenario::field::{NEVER, read_time, show_time};
use crate::scenario::{Scenario, draw};

/// Arguments of the command.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// A scenario of this program (see `stsim scenario`), or a file
    #[arg(default_value = "swarm")]
    scenario: String,
    /// Which seeds: `A..B`, B not included. Without it: from 0 on, as long as --for says
    #[arg(long, value_name = "A..B", required_unless_present = "time")]
    seeds: Option<Seeds>,
    /// No run begins after this time, as in `10m`. If seeds are left then, the program exits with 8
    #[arg(long = "for", value_name = "TIME", value_parser = time)]
    time: Option<std::time::Duration>,
    /// Threads; as many as processors if it is not said
    #[arg(long)]
    jobs: Option<usize>,
    /// Only every N-th seed, beginning with the I-th, from 0. In an array job of Slurm, Kubernetes or AWS Batch, the job's
    /// own part if it is not said
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
    /// Set a field of the scenario, as in `topology.nodes=50..60`; may stand here several times
    #[arg(long, value_name = "FIELD=VALUE")]
    set: Vec<String>,
    /// The case of each run that fails is saved in this folder
    #[arg(long, value_name = "FOLDER", default_value = "stsim-cases")]
    cases: PathBuf,
    /// One in so many runs is repeated in another process, and must take the same course; 0: none
    #[arg(long, default_value_t = 20)]
    repeat: u64,
    /// Print the result as one JSON object: what `stsim merge` and `stsim compare` read
    #[arg(long)]
    json: bool,
    /// Write a report for people: one HTML file that needs nothing else
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// `A..B`.
#[derive(Clone, Debug)]
struct Seeds(Range<u64>);

impl FromStr for Seeds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no range of seeds: A..B is wanted, with A below B");
        let (from, to) = text.split_once("..").ok_or_else(wrong)?;
        let (from, to) = (from.parse().map_err(|_| wrong())?, to.parse().map_err(|_| wrong())?);
        if from < to { Ok(Seeds(from..to)) } else { Err(wrong()) }
    }
}

fn time(text: &str) -> Result<std::time::Duration, String> {
    read_time(text).map(|time| std::time::Duration::from_micros(time.as_micros()))
}

/// What one seed came to.
struct Done {
    result: RunResult,
    /// Of a run that failed.
    case: Option<Case>,
    repeated: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<u8, Failure> {
    files::must_be_free(&[&arguments.report])?;
    let scenario = Scenario::load(&arguments.scenario, &arguments.set)
        .map_err(|why| Failure(format!("{}: {why}", arguments.scenario)))?;
    let shard = match arguments.shard {
        Some(shard) => shard,
        None => of_array_job(|name| std::env::var(name).ok()).map_err(Failure)?,
    };
    let range = arguments.seeds.clone().map_or(0..u64::MAX, |Seeds(range)| range);
    // A scenario that cannot be drawn is wrong usage, not a failed run.
    draw(&scenario, range.start).map_err(Failure::new)?;
    let began = Instant::now();
    let (done, complete) = work(arguments, &scenario, range, shard);
    let first_failed = done.values().find_map(|done| Some((done.case.clone()?, done.result.facts.events)));
    let budget = match (&arguments.seeds, complete) {
        (Some(_), false) => Some(format!("the time was up after {} seeds", done.len())),
        (Some(_), true) | (None, _) => None,
    };
    let mut report = report(arguments, &scenario, done, budget)?;
    report.wall_s = began.elapsed().as_secs_f64();
    if let Some(path) = &arguments.report {
        let story = first_failed.and_then(|(case, events)| story::of(&case, events));
        let again = if report.failed.is_empty() { whole_command(arguments) } else { again(&report) };
        files::write_new(path, &page(&report, &again, story))?;
    }
    say(if arguments.json { pretty(&report) } else { summary(&report) });
    Ok(report.exit_code)
}

/// All seeds, in parallel; and whether they were all that was asked for.
fn work(arguments: &Arguments, scenario: &Scenario, range: Range<u64>, shard: Shard) -> (BTreeMap<u64, Done>, bool) {
    let jobs = arguments.jobs.or_else(|| thread::available_parallelism().ok().map(usize::from)).unwrap_or(1).max(1);
    let began = Instant::now();
    let is_over = || arguments.time.is_some_and(|time| began.elapsed() >= time);
    // The n-th seed of this shard.
    let first = range.clone().find(|seed| shard.has(*seed)).unwrap_or(range.end);
    let count = (range.end - first).div_ceil(shard.count);
    let bar = progress::many(arguments.seeds.as_ref().map(|_| count));
    let next = AtomicU64::new(0);
    let (sender, receiver) = mpsc::channel();
    let done = thread::scope(|scope| {
        for _ in 0..jobs {
            let sender = sender.clone();
            scope.spawn(|| {
                let sender = sender;
                while !is_over() {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= count {
                        break;
                    }
                    let is_repeated = arguments.repeat > 0 && n.is_multiple_of(arguments.repeat);
                    let seed = first + n * shard.count;
                    if sender.send((seed, one(scenario, seed, is_repeated))).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        let (mut done, mut failed) = (BTreeMap::new(), 0);
        for (seed, one) in receiver {
            failed += u64::from(one.case.is_some());
            bar.set_message(format!("{failed} failed"));
            bar.inc(1);
            done.insert(seed, one);
        }
        done
    });
    bar.finish_and_clear();
    let complete = done.len() as u64 == count;
    (done, complete)
}

fn one(scenario: &Scenario, seed: u64, is_repeated: bool) -> Done {
    let case = match draw(scenario, seed) {
        Ok(case) => case,
        // The first could be drawn; a later one that cannot is a finding about the scenario.
        Err(why) => return not_drawn(scenario, seed, &why.to_string()),
    };
    let mut result = execute(&case, Some(scenario), Wishes::default()).result;
    if is_repeated && let Some(difference) = again::difference(&case, &result) {
        result.facts.verdict = Verdict::NotDeterministic { difference };
    }
    let failed = result.facts.verdict != Verdict::Pass;
    Done { result, case: failed.then_some(case), repeated: is_repeated }
}

fn not_drawn(scenario: &Scenario, seed: u64, why: &str) -> Done {
    use crate::result::{Cost, Facts};
    let verdict = Verdict::Missed { expectations: vec![format!("seed {seed} cannot be drawn: {why}")] };
    let facts = Facts {
        scenario: scenario.name().to_owned(),
        seed,
        version: version(),
        fidelity: crate::case::Fidelity::Full,
        verdict,
        trace_hash: None,
        events: 0,
        simulated: offset_protocol::machine::Duration::ZERO,
        settled_after: None,
        record: Record::default(),
    };
    Done { result: RunResult { facts, cost: Cost::default() }, case: None, repeated: false }
}

fn report(
    arguments: &Arguments,
    scenario: &Scenario,
    done: BTreeMap<u64, Done>,
    budget: Option<String>,
) -> Result<SwarmReport, Failure> {
    let (mut runs, mut failed, mut record, mut repeated) = (Vec::new(), Vec::new(), Record::default(), 0);
    for (seed, Done { result, case, repeated: again }) in done {
        repeated += u64::from(again);
        record.merge(&result.facts.record);
        runs.push(RunLine::new(&result));
        let verdict = &result.facts.verdict;
        if *verdict != Verdict::Pass {
            // What was expected stands in the scenario, not in the case.
            let case = case.filter(|_| !matches!(verdict, Verdict::Missed { .. }));
            let saved = case.map(|case| files::save_case(&arguments.cases, &case, &result.facts)).transpose()?;
            failed.push(Failed {
                seed,
                invariant: verdict.invariant().to_owned(),
                case: saved.map(|path| path.display().to_string()),
                exit_code: verdict.exit_code(),
                what: verdict.to_string(),
            });
        }
    }
    Ok(SwarmReport {
        scenario: scenario.name().to_owned(),
        file: (scenario.name() != arguments.scenario).then(|| arguments.scenario.clone()),
        version: version(),
        set: arguments.set.clone(),
        seeds: runs.len() as u64,
        exit_code: SwarmReport::worst(&failed, budget.as_ref()),
        failed,
        repeated,
        wall_s: 0.0,
        marks_unreached: record.marks_unreached().map(str::to_owned).collect(),
        budget,
        runs,
        record,
    })
}

/// A page about all runs together; `again` is the command that shows them, or the first that failed.
pub(super) fn page(report: &SwarmReport, again: &str, story: Option<Story>) -> String {
    let mut page = Report::of_many(&report.scenario, &report.version, report.seeds, &report.record);
    page.wall_us = (report.wall_s * 1e6) as u64;
    page.command = again.to_owned();
    page.failures = report
        .failed
        .iter()
        .map(|failed| (failed.seed, failed.what.clone(), command(report.source(), failed.seed, &report.set)))
        .collect();
    page.story = story;
    html(&page)
}

/// The line that shows the first run that failed; without one, those of the whole swarm.
pub(super) fn again(report: &SwarmReport) -> String {
    match (report.failed.first(), report.runs.first(), report.runs.last()) {
        (Some(failed), ..) => command(report.source(), failed.seed, &report.set),
        (None, Some(first), Some(last)) => {
            let mut line = format!("stsim swarm {} --seeds {}..{}", quoted(report.source()), first.seed, last.seed + 1);
            add_set(&mut line, &report.set);
            line
        }
        (None, ..) => "stsim swarm".to_owned(),
    }
}

fn add_set(line: &mut String, set: &[String]) {
    set.iter().for_each(|one| {
        let _ = write!(line, " --set {}", quoted(one));
    });
}

/// The line that runs the swarm again.
fn whole_command(arguments: &Arguments) -> String {
    let mut line = format!("stsim swarm {}", quoted(&arguments.scenario));
    if let Some(Seeds(seeds)) = &arguments.seeds {
        let _ = write!(line, " --seeds {}..{}", seeds.start, seeds.end);
    }
    if let Some(time) = arguments.time {
        let _ = write!(line, " --for {}", show_time(u64::try_from(time.as_micros()).unwrap_or(NEVER)));
    }
    if let Some(shard) = arguments.shard {
        let _ = write!(line, " --shard {}/{}", shard.index, shard.count);
    }
    add_set(&mut line, &arguments.set);
    line
}

/// What it came to, for people.
pub(super) fn summary(report: &SwarmReport) -> String {
    let mut text = String::new();
    let SwarmReport { seeds, failed, repeated, wall_s, record, .. } = report;
    let payments = &record.payments;
    let _ = writeln!(
        text,
        "{seeds} seeds of {} in {wall_s:.1} s, {} failed, {repeated} repeated in another process; version {}",
        report.scenario,
        failed.len(),
        report.version
    );
    let _ = writeln!(
        text,
        "{} payments ordered, {} paid, {} failed; {} faults of {} families",
        payments.ordered,
        payments.paid,
        payments.all_failed(),
        record.all_faults(),
        record.faults.len()
    );
    let mut kinds: BTreeMap<&str, u64> = BTreeMap::new();
    failed.iter().for_each(|failed| *kinds.entry(&failed.invariant).or_default() += 1);
    for (kind, times) in kinds {
        let _ = writeln!(text, "{times} of {kind}");
    }
    for failed in failed {
        let what: String = failed.what.chars().take(300).collect();
        let _ = writeln!(text, "seed {}: {what}", failed.seed);
        let _ = writeln!(text, "  again: {}", command(report.source(), failed.seed, &report.set));
        if let Some(case) = &failed.case {
            let _ = writeln!(text, "  case:  stsim replay {}", quoted(case));
        }
    }
    if !report.marks_unreached.is_empty() {
        let _ = writeln!(text, "{} marks never reached:", report.marks_unreached.len());
        report.marks_unreached.iter().for_each(|mark| {
            let _ = writeln!(text, "  {mark}");
        });
    }
    if let Some(budget) = &report.budget {
        let _ = writeln!(text, "budget not reached: {budget}");
    }
    text
}
