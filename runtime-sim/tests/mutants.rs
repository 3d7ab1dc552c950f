//! Every machine that is broken on purpose is found out. Built with the cargo feature `mutants` only.
//!
//! An ordinary run looks first at the case in which each was caught before, then at a few others. With
//! `OFFSET_MUTANTS=full` each is hunted from the first case on, for a minute on one core; `stsim mutants` prints the table.

#![cfg(feature = "mutants")]
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::disallowed_types,
    reason = "figures for whoever runs them, and a budget of time"
)]

use std::time::{Duration, Instant};

use offset_runtime_sim::mutants::{Mutant, hunt, known};

/// Cases that are tried for a mutant that is not caught where it was before.
const OTHERS: u64 = 60;
const FULL: Duration = Duration::from_secs(60);
/// Threads that share the mutants: as many as the smallest machine that we know has cores.
const THREADS: usize = 2;

fn is_caught(mutant: Mutant) -> bool {
    if std::env::var("OFFSET_MUTANTS").is_ok_and(|text| text == "full") {
        let began = Instant::now();
        return (0..).take_while(|_| began.elapsed() < FULL).any(|number| hunt(mutant, number..number + 1).is_some());
    }
    known(mutant).into_iter().chain(0..OTHERS).any(|number| hunt(mutant, number..number + 1).is_some())
}

#[test]
fn every_broken_machine_is_found_out() {
    std::panic::set_hook(Box::new(|_| {}));
    let survivors: Vec<Mutant> = std::thread::scope(|scope| {
        let share = |thread| {
            let mine = Mutant::ALL.iter().copied().skip(thread).step_by(THREADS);
            scope.spawn(move || mine.filter(|mutant| !is_caught(*mutant)).collect::<Vec<_>>())
        };
        let threads: Vec<_> = (0..THREADS).map(share).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    drop(std::panic::take_hook());
    println!("{} of {} caught", Mutant::ALL.len() - survivors.len(), Mutant::ALL.len());
    assert_eq!(survivors, [], "their checkers are blind, or the schedules to meet them are missing");
}
