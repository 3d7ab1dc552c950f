//! Figures of complete nodes: the swarm, what its checkers cost, and ten thousand of them.

use super::told_peak;
use super::{Answer, Measured, NoFigure, Size, timed};
use crate::bench::network::Network;
use crate::case::Case;
use crate::cli::execute::{Wishes, execute};
use crate::full::Watch;
use crate::result::RunResult;
use crate::scenario::{Scenario, draw};
use crate::topology::Shape;

const MIB: f64 = (1u64 << 20) as f64;
const GIB: f64 = (1u64 << 30) as f64;

fn swarm(set: &[&str]) -> Result<Scenario, NoFigure> {
    let set: Vec<String> = set.iter().map(|&one| one.to_owned()).collect();
    Scenario::load("swarm", &set).map_err(NoFigure::failed)
}

fn drawn(scenario: &Scenario, seed: u64) -> Result<Case, NoFigure> {
    draw(scenario, seed).map_err(NoFigure::failed)
}

/// A run in which every invariant held, or none.
fn passed(case: &Case, watch: Watch) -> Result<RunResult, NoFigure> {
    let result = execute(case, None, Wishes { watch, ..Wishes::default() }).result;
    let verdict = &result.facts.verdict;
    if verdict.exit_code() == 0 { Ok(result) } else { Err(NoFigure::Failed(format!("seed {}: {verdict}", case.seed))) }
}

/// Seeds of the swarm that did not end well: if there is one, there is no figure.
#[derive(Default)]
struct Broken {
    seeds: u64,
    broken: Vec<String>,
}

impl Broken {
    /// A run of a seed, unless it is broken.
    fn run(&mut self, scenario: &Scenario, seed: u64) -> Result<Option<(RunResult, f64)>, NoFigure> {
        self.seeds += 1;
        let case = drawn(scenario, seed)?;
        match timed(|| passed(&case, Watch::Always)) {
            (Ok(result), seconds) => Ok(Some((result, seconds))),
            (Err(NoFigure::Failed(why)), _) => {
                self.broken.push(why.chars().take(MOST_WORDS).collect());
                Ok(None)
            }
            (Err(why), _) => Err(why),
        }
    }

    fn check(self) -> Result<(), NoFigure> {
        if self.broken.is_empty() {
            return Ok(());
        }
        Err(NoFigure::Failed(format!("{} of {} seeds: {:?}", self.broken.len(), self.seeds, self.broken)))
    }
}

/// Of what a broken seed says, so much is told: how to run it stands at its beginning.
const MOST_WORDS: usize = 120;

pub(super) fn sim_to_real(size: Size) -> Answer {
    let scenario = swarm(&["topology.nodes=10"])?;
    let seeds = size.of(200);
    let (mut simulated, mut events, mut seconds) = (0.0, 0, 0.0);
    let mut broken = Broken::default();
    for seed in 1..=seeds {
        if let Some((result, took)) = broken.run(&scenario, seed)? {
            simulated += result.facts.simulated.as_micros() as f64 / 1e6;
            events += result.facts.events;
            seconds += took;
        }
    }
    let mut measured = Measured::default();
    measured.value("simulated : real", simulated / seconds);
    measured.note(format!("{seeds} seeds: {simulated:.0} simulated seconds, {events} events in {seconds:.1} s"));
    broken.check()?;
    Ok(measured)
}

pub(super) fn swarm_seed(size: Size) -> Answer {
    let scenario = swarm(&["payments.count=300"])?;
    let seeds = size.of(200);
    let (mut times, mut broken) = (Vec::new(), Broken::default());
    for seed in 1..=seeds {
        times.extend(broken.run(&scenario, seed)?.map(|(_, seconds)| seconds * 1e3));
    }
    if times.is_empty() {
        return Err(NoFigure::Failed("no seed passed".to_owned()));
    }
    times.sort_by(f64::total_cmp);
    let at = |per_mille: usize| times[(times.len() * per_mille / 1_000).min(times.len() - 1)];
    let mut measured = Measured::default();
    measured.value("median time", at(500));
    measured.value("peak memory", told_peak()? / MIB);
    measured.note(format!(
        "{seeds} seeds: half within {:.0} ms, 90 % within {:.0} ms, all within {:.0} ms",
        at(500),
        at(900),
        at(1_000)
    ));
    broken.check()?;
    Ok(measured)
}

pub(super) fn invariants(size: Size) -> Answer {
    let scenario = swarm(&[])?;
    let swarm: Vec<Case> = (1..=size.of(50)).map(|seed| drawn(&scenario, seed)).collect::<Result<_, _>>()?;
    let network = Network {
        shape: Shape::BarabasiAlbert { links: 4 },
        nodes: size.nodes(1_000),
        payments: size.of(4_000),
        per_second: 100,
        seed: 1,
    };
    let funds = [network.case().map_err(NoFigure::failed)?];
    let mut measured = Measured::default();
    for (name, cases) in [("in the swarm", swarm.as_slice()), ("in funds", &funds)] {
        let Watched { on, off, passed } = watched_and_not(cases)?;
        measured.value(name, 100.0 * (on - off) / on);
        measured.note(format!("{name}: {passed} cases, {on:.2} s watched always, {off:.2} s at the end only"));
    }
    Ok(measured)
}

/// Processor time of the same cases in both ways.
#[derive(Default)]
struct Watched {
    on: f64,
    off: f64,
    /// Cases that ended well, and count.
    passed: usize,
}

/// Runs cases watched after every event and watched at the end only: by turns, three times, and the quickest counts, so that
/// neither has the quieter machine.
fn watched_and_not(cases: &[Case]) -> Result<Watched, NoFigure> {
    let mut sums = Watched::default();
    for case in cases {
        let mut best = [f64::INFINITY; 2];
        for _ in 0..3 {
            for (best, watch) in best.iter_mut().zip([Watch::Always, Watch::AtTheEnd]) {
                match timed(|| passed(case, watch)) {
                    (Ok(_), seconds) => *best = best.min(seconds),
                    (Err(why), _) => return Err(why),
                }
            }
        }
        let [on, off] = best;
        sums = Watched { on: sums.on + on, off: sums.off + off, passed: sums.passed + 1 };
    }
    Ok(sums)
}

pub(super) fn full_10k(size: Size) -> Answer {
    let nodes = format!("topology.nodes={}", size.nodes(10_000));
    let count = format!("payments.count={}", size.of(5_000));
    let scenario = Scenario::load("full-10k", &[nodes, count]).map_err(NoFigure::failed)?;
    let case = drawn(&scenario, 1)?;
    let (result, seconds) = timed(|| passed(&case, Watch::Always));
    let facts = result?.facts;
    let mut measured = Measured::default();
    measured.value("events", facts.events as f64 / seconds);
    measured.value("peak memory", told_peak()? / GIB);
    let payments = &facts.record.payments;
    measured.note(format!(
        "{} nodes, {} friendships, {} of {} paid, {} events, {:.0} simulated seconds in {seconds:.0} s, checkers on",
        case.nodes.len(),
        case.friendships.len(),
        payments.paid,
        payments.ordered,
        facts.events,
        facts.simulated.as_micros() as f64 / 1e6,
    ));
    if payments.success_per_mille().is_none_or(|paid| paid < 900) {
        return Err(NoFigure::Failed(format!("too few payments were paid: {payments:?}")));
    }
    Ok(measured)
}
