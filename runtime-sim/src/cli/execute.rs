//! One case, run, caught and measured.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use offset_protocol::machine::Duration;

use crate::case::{Case, Fidelity};
use crate::check::Violation;
use crate::full::{self, Watch};
use crate::funds;
use crate::result::{Cost, Facts, Live, Recorder, RunResult, Verdict};
use crate::scenario::{Scenario, field::NEVER, fields, unmet};
use crate::trace::{Keep, Trace};

/// A world of funds with more nodes is looked at only as often as it can bear. As in [`crate::replay`].
const SMALL: usize = 200;

/// How a case is run; changes nothing of what happens.
pub(super) struct Wishes {
    pub(super) keep: Keep,
    pub(super) watch: Watch,
    pub(super) live: Option<Arc<Live>>,
}

impl Default for Wishes {
    fn default() -> Self {
        Wishes { keep: Keep::Hash, watch: Watch::Always, live: None }
    }
}

/// A case that was run. Of a world that panicked there is no trace.
pub(super) struct Executed {
    pub(super) result: RunResult,
    pub(super) trace: Option<Trace>,
}

/// What both fidelities tell of a run that ended well.
struct Ends {
    simulated: Duration,
    settled_after: Duration,
}

/// Runs a case; `scenario` knows what is expected of it.
pub(super) fn execute(case: &Case, scenario: Option<&Scenario>, wishes: Wishes) -> Executed {
    let mut recorder = wishes.live.clone().map(Recorder::watched).unwrap_or_default();
    execute_by(case, scenario, &mut recorder, |recorder| simulate(case, &wishes, recorder))
}

/// The same with any runner.
fn execute_by(
    case: &Case,
    scenario: Option<&Scenario>,
    recorder: &mut Recorder,
    runner: impl FnOnce(&mut Recorder) -> (Result<Ends, Violation>, Trace),
) -> Executed {
    let began = Instant::now();
    let caught = catch_unwind(AssertUnwindSafe(|| runner(recorder)));
    let wall_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
    let mut facts = Facts::new(case, Verdict::Pass);
    facts.record = std::mem::take(recorder).finish();
    let trace = match caught {
        Ok((ended, trace)) => {
            facts.events = trace.events();
            facts.trace_hash = Some(trace.hash().into());
            match ended {
                Ok(ends) => {
                    facts.simulated = ends.simulated;
                    facts.settled_after = Some(ends.settled_after);
                }
                Err(violation) => {
                    facts.simulated = violation.at.since(offset_protocol::machine::Instant::ZERO);
                    facts.verdict = Verdict::of_violation(case, &violation);
                }
            }
            Some(trace)
        }
        Err(_) => {
            facts.verdict = Verdict::Panic { message: last_panic() };
            None
        }
    };
    let cost = Cost { wall_us, peak_memory_bytes: peak_memory() };
    if let Some(scenario) = scenario.filter(|_| facts.verdict == Verdict::Pass) {
        facts.verdict = judge(scenario, &facts, &cost);
    }
    Executed { result: RunResult { facts, cost }, trace }
}

fn simulate(case: &Case, wishes: &Wishes, recorder: &mut Recorder) -> (Result<Ends, Violation>, Trace) {
    match case.fidelity {
        Fidelity::Full => {
            let options = full::Options { keep: wishes.keep, watch: wishes.watch, ..full::Options::default() };
            let (result, trace) = full::run_recorded(case, &options, recorder);
            let ends =
                |outcome: full::Outcome| Ends { simulated: outcome.simulated, settled_after: outcome.settled_after };
            (result.map(ends), trace)
        }
        Fidelity::Funds => {
            let small = case.nodes.len() <= SMALL;
            let options = if small { funds::Options::small() } else { funds::Options::large() };
            let options = funds::Options { keep: wishes.keep, watch: wishes.watch, ..options };
            let (result, trace) = funds::run_recorded(case, &options, recorder, &mut |_| {});
            let ends =
                |outcome: funds::Outcome| Ends { simulated: outcome.simulated, settled_after: outcome.settled_after };
            (result.map(ends), trace)
        }
    }
}

/// The verdict on a run in which every invariant held.
fn judge(scenario: &Scenario, facts: &Facts, cost: &Cost) -> Verdict {
    let over = |field, has: u64, unit: &str| {
        let most = scenario.number(field);
        (most != NEVER && has > most).then(|| format!("{has} {unit}, the scenario allows {most}"))
    };
    let limits = [
        over(&fields::MOST_EVENTS, facts.events, "events"),
        over(&fields::MOST_WALL, cost.wall_us, "us of wall time"),
        over(&fields::MOST_MEMORY, cost.peak_memory_bytes >> 20, "MiB of memory"),
    ];
    if let Some(what) = limits.into_iter().flatten().next() {
        return Verdict::ResourceLimit { what };
    }
    match unmet(scenario, facts) {
        expectations if expectations.is_empty() => Verdict::Pass,
        expectations => Verdict::Missed { expectations },
    }
}

thread_local! {
    static LAST_PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// From now on a panic is remembered, with its place, instead of printed.
pub(super) fn remember_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let words = panic.to_string().replace('\n', " ");
        LAST_PANIC.with(|last| *last.borrow_mut() = words);
    }));
}

fn last_panic() -> String {
    LAST_PANIC.with(|last| last.borrow().clone())
}

/// The most memory that this process ever held, in bytes; 0 where the system does not tell.
pub(super) fn peak_memory() -> u64 {
    memory_of("VmHWM:")
}

/// A size that the system knows of this process, in bytes; 0 where it does not tell.
pub(super) fn memory_of(which: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(which));
    let kib = line.and_then(|line| line.split_whitespace().next()).and_then(|number| number.parse::<u64>().ok());
    kib.unwrap_or(0) * 1_024
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::check::Invariant;
    use crate::scenario::draw;

    fn verdict(text: &str, ended: impl FnOnce() -> Result<Ends, Violation>) -> Verdict {
        let scenario = Scenario::parse("test", text, Path::new("."), &[]).unwrap();
        let case = draw(&scenario, 1).unwrap();
        let runner = |_: &mut Recorder| (ended(), Trace::new(Keep::Hash));
        execute_by(&case, Some(&scenario), &mut Recorder::default(), runner).result.facts.verdict
    }

    fn well() -> Result<Ends, Violation> {
        Ok(Ends { simulated: Duration::from_secs(9), settled_after: Duration::from_secs(2) })
    }

    #[test]
    fn a_panic_is_caught_and_told_with_its_place() {
        remember_panics();
        let verdict = verdict("", || panic!("so it is"));
        assert_eq!(verdict.exit_code(), 5);
        let told = verdict.to_string();
        assert!(told.contains("so it is") && told.contains("execute.rs"), "{told}");
    }

    #[test]
    fn a_run_is_judged_by_what_it_broke_then_by_what_it_took_then_by_what_was_expected() {
        let violation = |invariant| Violation {
            invariant,
            at: offset_protocol::machine::Instant::ZERO,
            host: None,
            what: String::new(),
        };
        let both = "[limits]\nwall = \"1ms\"\n[expect]\npaid = 7\n";
        let slow = || {
            std::thread::sleep(std::time::Duration::from_millis(5));
            well()
        };
        assert_eq!(verdict(both, || Err(violation(Invariant::Limits))).exit_code(), 3);
        assert_eq!(verdict(both, || Err(violation(Invariant::Resolution))).exit_code(), 4);
        assert_eq!(verdict(both, slow).exit_code(), 7);
        assert_eq!(verdict("[expect]\npaid = 7\n", well).exit_code(), 1);
        assert_eq!(verdict("[expect]\nsettled_within = \"2s\"\n", well), Verdict::Pass);
    }
}
