//! `stsim compare`: two sets of runs. Runs of one seed are compared with each other where both sets have it: what the seed
//! makes of a run is taken out of the comparison then.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::json::{RunLine, SwarmReport, pretty};
use super::{Failure, say};

/// Arguments of the command.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// What `stsim swarm --json` printed before
    before: PathBuf,
    /// What it printed after
    after: PathBuf,
    /// Print the comparison as one JSON object
    #[arg(long)]
    json: bool,
}

type Measure = fn(&RunLine) -> Option<f64>;

/// What is compared, in which unit; `None` for a run that does not have it.
const MEASURES: [(&str, Measure); 11] = [
    ("payments paid, per mille", |run| {
        let ended = run.paid + run.failed;
        (ended > 0).then(|| 1_000.0 * run.paid as f64 / ended as f64)
    }),
    ("latency, median, ms", |run| paid(run, run.latency_p50_us as f64 / 1e3)),
    ("latency, 99 of 100, ms", |run| paid(run, run.latency_p99_us as f64 / 1e3)),
    ("attempts", |run| (run.paid + run.failed > 0).then_some(run.attempts_milli as f64 / 1e3)),
    ("hops", |run| paid(run, run.hops_milli as f64 / 1e3)),
    ("fee", |run| paid(run, run.fee_milli as f64 / 1e3)),
    ("settled after, s", |run| run.settled_us.map(|us| us as f64 / 1e6)),
    ("faults", |run| Some(run.faults as f64)),
    ("events", |run| Some(run.events as f64)),
    ("simulated, s", |run| Some(run.virtual_us as f64 / 1e6)),
    ("wall time, ms", |run| Some(run.wall_us as f64 / 1e3)),
];

fn paid(run: &RunLine, value: f64) -> Option<f64> {
    (run.paid > 0).then_some(value)
}

/// A mean with half of its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Mean {
    mean: f64,
    plus_minus: f64,
    runs: usize,
}

#[derive(Debug, Serialize)]
struct Compared {
    measure: &'static str,
    before: Mean,
    after: Mean,
    /// After minus before.
    difference: Mean,
    /// Whether the runs were compared seed by seed.
    paired: bool,
    significant: bool,
}

#[derive(Debug, Serialize)]
struct Comparison {
    scenario: [String; 2],
    version: [String; 2],
    /// What was set besides the scenario.
    set: [Vec<String>; 2],
    seeds: [u64; 2],
    failed: [usize; 2],
    /// Seeds of both that took another course.
    other_course: Option<usize>,
    measures: Vec<Compared>,
}

pub(super) fn run(arguments: &Arguments) -> Result<u8, Failure> {
    let (before, after) = (SwarmReport::read(&arguments.before)?, SwarmReport::read(&arguments.after)?);
    let comparison = compare(&before, &after);
    say(if arguments.json { pretty(&comparison) } else { table(&comparison) });
    Ok(0)
}

fn compare(before: &SwarmReport, after: &SwarmReport) -> Comparison {
    let by_seed: BTreeMap<u64, &RunLine> = before.runs.iter().map(|run| (run.seed, run)).collect();
    let pairs: Vec<(&RunLine, &RunLine)> =
        after.runs.iter().filter_map(|run| by_seed.get(&run.seed).map(|old| (*old, run))).collect();
    let measures = MEASURES.iter().filter_map(|(measure, of)| compared(measure, *of, before, after, &pairs)).collect();
    Comparison {
        scenario: [before.scenario.clone(), after.scenario.clone()],
        version: [before.version.clone(), after.version.clone()],
        set: [before.set.clone(), after.set.clone()],
        seeds: [before.seeds, after.seeds],
        failed: [before.failed.len(), after.failed.len()],
        other_course: (!pairs.is_empty())
            .then(|| pairs.iter().filter(|(old, new)| old.trace_hash != new.trace_hash).count()),
        measures,
    }
}

fn compared(
    measure: &'static str,
    of: Measure,
    before: &SwarmReport,
    after: &SwarmReport,
    pairs: &[(&RunLine, &RunLine)],
) -> Option<Compared> {
    let all = |report: &SwarmReport| report.runs.iter().filter_map(of).collect::<Vec<f64>>();
    let (old, new) = (all(before), all(after));
    let differences: Vec<f64> = pairs.iter().filter_map(|(old, new)| Some(of(new)? - of(old)?)).collect();
    let (before, after) = (mean(&old)?, mean(&new)?);
    // Pairs say more, if there are enough of them.
    let paired = 2 * differences.len() >= old.len().max(new.len());
    let difference = if paired { mean(&differences)? } else { apart(&old, &new)? };
    let significant = difference.runs > 1 && difference.mean.abs() > difference.plus_minus;
    Some(Compared { measure, before, after, difference, paired, significant })
}

/// `None` if there is nothing.
fn mean(values: &[f64]) -> Option<Mean> {
    let (mean, variance) = moments(values)?;
    let runs = values.len();
    Some(Mean { mean, plus_minus: student(runs as f64 - 1.0) * (variance / runs as f64).sqrt(), runs })
}

/// The difference of two means of different runs (Welch).
fn apart(old: &[f64], new: &[f64]) -> Option<Mean> {
    let ((before, a), (after, b)) = (moments(old)?, moments(new)?);
    let (n, m) = (old.len() as f64, new.len() as f64);
    let (a, b) = (a / n, b / m);
    let freedom = if a + b > 0.0 {
        (a + b) * (a + b) / (a * a / (n - 1.0).max(1.0) + b * b / (m - 1.0).max(1.0))
    } else {
        n + m - 2.0
    };
    let runs = old.len().min(new.len());
    Some(Mean { mean: after - before, plus_minus: student(freedom) * (a + b).sqrt(), runs })
}

fn moments(values: &[f64]) -> Option<(f64, f64)> {
    if values.is_empty() {
        return None;
    }
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean) * (value - mean)).sum();
    Some((mean, squares / (count - 1.0).max(1.0)))
}

/// The 97.5 % point of Student's distribution: from the tables up to ten degrees of freedom, then by the first terms of
/// Cornish and Fisher's series, right to three digits.
fn student(freedom: f64) -> f64 {
    const TABLE: [f64; 10] = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228];
    const Z: f64 = 1.959_964;
    if freedom < 1.0 {
        return f64::INFINITY;
    }
    match TABLE.get(freedom as usize - 1) {
        Some(point) => *point,
        None => {
            let cubic = (Z * Z * Z + Z) / (4.0 * freedom);
            let fifth = (5.0 * Z.powi(5) + 16.0 * Z.powi(3) + 3.0 * Z) / (96.0 * freedom * freedom);
            Z + cubic + fifth
        }
    }
}

fn table(comparison: &Comparison) -> String {
    let Comparison { scenario, version, set, seeds, failed, other_course, measures } = comparison;
    let mut text = String::new();
    for (place, name) in ["before:", "after: "].into_iter().enumerate() {
        let _ = write!(
            text,
            "{name} {} seeds of {}, version {}, {} failed",
            seeds[place], scenario[place], version[place], failed[place]
        );
        let set = set[place].join(", ");
        let _ = if set.is_empty() { writeln!(text) } else { writeln!(text, ", with {set}") };
    }
    if let Some(other) = other_course {
        let _ = writeln!(text, "{other} seeds of both took another course");
    }
    let _ = writeln!(text, "\n{:<26} {:>22} {:>22} {:>22}", "mean of runs", "before", "after", "difference");
    let show = |mean: &Mean| match mean.plus_minus.is_finite() {
        true => format!("{:.2} ± {:.2}", mean.mean, mean.plus_minus),
        false => format!("{:.2} (one run)", mean.mean),
    };
    for one in measures {
        let flag = match (one.significant, one.difference.mean > 0.0) {
            (true, true) => "  more",
            (true, false) => "  less",
            (false, _) => "",
        };
        let (before, after, difference) = (show(&one.before), show(&one.after), show(&one.difference));
        let _ = writeln!(text, "{:<26} {before:>22} {after:>22} {difference:>22}{flag}", one.measure);
    }
    text.push_str("\n95 % intervals; what changed significantly is flagged. Now and then one of ten is flagged by chance alone.\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::Record;

    fn report(events: impl IntoIterator<Item = (u64, u64)>) -> SwarmReport {
        let run = |(seed, events)| RunLine {
            seed,
            exit_code: 0,
            trace_hash: None,
            events,
            virtual_us: 0,
            settled_us: None,
            ordered: 0,
            paid: 0,
            failed: 0,
            latency_p50_us: 0,
            latency_p99_us: 0,
            attempts_milli: 0,
            hops_milli: 0,
            fee_milli: 0,
            faults: 0,
            wall_us: 0,
        };
        let runs: Vec<RunLine> = events.into_iter().map(run).collect();
        SwarmReport {
            scenario: "test".to_owned(),
            file: None,
            version: "1".to_owned(),
            set: Vec::new(),
            seeds: runs.len() as u64,
            failed: Vec::new(),
            repeated: 0,
            wall_s: 0.0,
            marks_unreached: Vec::new(),
            budget: None,
            exit_code: 0,
            runs,
            record: Record::default(),
        }
    }

    fn events(before: &SwarmReport, after: &SwarmReport) -> Compared {
        let found = compare(before, after).measures.into_iter().find(|one| one.measure == "events");
        found.unwrap()
    }

    #[test]
    fn a_small_change_of_every_seed_is_significant_by_pairs_only() {
        let noisy = |add: u64| report((0..40).map(move |seed| (seed, 1_000 * (seed % 7) + add + seed % 2)));
        let paired = events(&noisy(0), &noisy(5));
        assert!(paired.paired && paired.significant && paired.difference.mean == 5.0);
        let others = report((100..140).map(|seed| (seed, 1_000 * (seed % 7) + 5)));
        let apart = events(&noisy(0), &others);
        assert!(!apart.paired && !apart.significant);
    }

    #[test]
    fn nothing_is_significant_between_a_set_and_itself_or_of_one_run() {
        let set = report((0..10).map(|seed| (seed, seed * seed)));
        assert!(compare(&set, &set).measures.iter().all(|one| !one.significant));
        assert!(!events(&report([(1, 5)]), &report([(1, 9_000)])).significant);
        assert!(table(&compare(&set, &set)).contains("0 seeds of both took another course"));
    }

    #[test]
    fn intervals_are_those_of_the_books() {
        assert!((student(4.0) - 2.776).abs() < 0.001);
        assert!((student(30.0) - 2.042).abs() < 0.002);
        assert!((student(10_000.0) - 1.960).abs() < 0.001);
        let of_five = mean(&[1.0, 2.0, 3.0, 4.0, 5.0]).unwrap();
        assert!((of_five.plus_minus - 1.963).abs() < 0.001, "{of_five:?}");
    }
}
