//! Lines of friends under every fault, many seeds. `OFFSET_SIM_SEEDS=A..B` (or a number) runs others than the usual ones.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests, and figures for whoever runs them")]

use offset_protocol::machine::Seed;
use offset_runtime_sim::full::Outcome;
use offset_runtime_sim::line::{LineSpec, Weather, run};
use offset_runtime_sim::trace::Keep;

/// Seeds of an ordinary test run.
const SEEDS: u64 = 200;
/// Threads that share them: as many as the smallest machine that we know has cores.
const THREADS: u64 = 2;

fn seeds() -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("OFFSET_SIM_SEEDS") else { return 0..SEEDS };
    match text.split_once("..") {
        Some((from, to)) => from.parse().unwrap()..to.parse().unwrap(),
        None => 0..text.parse().unwrap(),
    }
}

fn try_small(number: u64, change: impl Fn(&mut LineSpec)) -> Result<Outcome, String> {
    let mut spec = LineSpec::small(&Seed::from_number(number));
    change(&mut spec);
    run(number, &spec).map_err(|violation| format!("seed {number}: {violation}\n{spec:?}"))
}

fn run_small(number: u64, change: impl Fn(&mut LineSpec)) -> Outcome {
    try_small(number, change).unwrap_or_else(|violation| panic!("{violation}"))
}

/// The first ten.
fn join(failures: &[&String]) -> String {
    failures.iter().take(10).map(|failure| failure.as_str()).collect::<Vec<_>>().join("\n")
}

#[test]
fn payments_survive_every_fault() {
    let seeds = seeds();
    let results: Vec<Result<Outcome, String>> = std::thread::scope(|scope| {
        let share = |thread| {
            let mine = seeds.clone().filter(move |seed| seed % THREADS == thread);
            scope.spawn(move || mine.map(|seed| try_small(seed, |_| {})).collect::<Vec<_>>())
        };
        let threads: Vec<_> = (0..THREADS).map(share).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let failures: Vec<_> = results.iter().filter_map(|result| result.as_ref().err()).collect();
    assert!(failures.is_empty(), "{} of {} seeds failed:\n{}", failures.len(), results.len(), join(&failures));
    let outcomes: Vec<Outcome> = results.into_iter().flatten().collect();
    let sum = |count: fn(&Outcome) -> u64| outcomes.iter().map(count).sum::<u64>();
    println!(
        "{} seeds: {} events, {} turns, {} flushes, {} crashes, {} faults; {} deals paid, {} not; \
         {} cuts of friendships, {} of networks, {} restores compared; settled after {:?} at most",
        outcomes.len(),
        sum(|o| o.counts.events),
        sum(|o| o.counts.turns),
        sum(|o| o.counts.flushes),
        sum(|o| o.counts.crashes),
        sum(|o| o.faults.values().sum::<usize>() as u64),
        sum(|o| o.deals.0 as u64),
        sum(|o| o.deals.1 as u64),
        sum(|o| o.cuts.0),
        sum(|o| o.cuts.1),
        sum(|o| o.restores),
        outcomes.iter().map(|o| o.settled_after).max(),
    );
    if outcomes.len() as u64 >= SEEDS {
        assert!(sum(|o| o.deals.0 as u64) > sum(|o| o.deals.1 as u64), "most deals are paid even in foul weather");
        assert!(sum(|o| o.counts.crashes) > 300 && sum(|o| o.restores) > 300, "the checkers had something to look at");
    }
}

#[test]
fn in_fair_weather_every_deal_is_paid_at_once() {
    for seed in 1_000..1_010 {
        let outcome = run_small(seed, |spec| (spec.weather, spec.max_debt) = (Weather::Fair, 1_000_000));
        assert_eq!(outcome.deals.1, 0, "seed {seed}: {outcome:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 2_000..2_006 {
        let (once, again) = (run_small(seed, |_| {}), run_small(seed, |spec| spec.keep = Keep::Lines));
        assert_eq!(once, again, "seed {seed}");
    }
    assert_ne!(run_small(2_000, |_| {}).hash, run_small(2_001, |_| {}).hash);
}
