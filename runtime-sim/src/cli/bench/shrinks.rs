//! How small, and how soon, a failure is made small: with machines that are broken on purpose.

use std::time::{Duration, Instant};

use offset_protocol::probe::mutate;

use super::{Answer, Measured, NoFigure, Size as HowMuch};
use crate::case::{Case, Rare};
use crate::mutants::{COMPILED, Mutant, case};
use crate::replay;
use crate::result::Finding;
use crate::shrink::{Budget, Progress, Size, shrink};

/// Cases that are tried for each mutant.
const HUNT: u64 = 60;
/// No case is tried after this.
const BUDGET: Duration = Duration::from_secs(60);
/// A small case has no more steps.
const SMALL: usize = 20;
/// So many mutants must be found, in a hundred: a shrinker of nothing is quick.
const FOUND: usize = 90;

struct Shrunk {
    steps: usize,
    seconds: f64,
}

pub(super) fn shrink_all(size: HowMuch) -> Answer {
    if !COMPILED {
        return Err(NoFigure::Skipped("build with --features mutants: there are no broken machines here".to_owned()));
    }
    let wanted = &Mutant::ALL[..(size.of(Mutant::ALL.len() as u64) as usize).min(Mutant::ALL.len())];
    let shrunk: Vec<Shrunk> = wanted.iter().filter_map(|mutant| shrunk(*mutant)).collect();
    if shrunk.is_empty() || 100 * shrunk.len() < FOUND * wanted.len() {
        return Err(NoFigure::Failed(format!("{} of {} broken machines were found", shrunk.len(), wanted.len())));
    }
    let good = shrunk.iter().filter(|one| one.steps <= SMALL && one.seconds <= BUDGET.as_secs_f64()).count();
    let median = |value: fn(&Shrunk) -> f64| {
        let mut values: Vec<f64> = shrunk.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let mut measured = Measured::default();
    // Who was not found was not made small.
    measured.value("within 20 steps and 60 s", 100.0 * good as f64 / wanted.len() as f64);
    measured.value("median steps", median(|one| one.steps as f64));
    measured.value("median time", median(|one| one.seconds));
    let most = shrunk.iter().map(|one| one.steps).max().unwrap_or(0);
    measured.note(format!("{} of {} found and made small, {most} steps at most", shrunk.len(), wanted.len()));
    Ok(measured)
}

fn shrunk(mutant: Mutant) -> Option<Shrunk> {
    let (finding, case) = (0..HUNT).find_map(|number| {
        let case = Case { rare: Rare::Drawn, ..case(number) };
        Some((find(mutant, &case)?, case))
    })?;
    let began = Instant::now();
    // What counts is when the smallest case was there, not how long it took to see that there is no smaller one.
    let (mut size, mut since) = (Size::of(&case), Duration::ZERO);
    let mut is_over = || began.elapsed() > BUDGET;
    let budget = Budget { attempts: u64::MAX, is_over: &mut is_over };
    let mut look = |progress: &Progress| {
        if progress.size != size {
            (size, since) = (progress.size, began.elapsed());
        }
    };
    let shrunk = shrink(&case, &finding, &mut |case| find(mutant, case), budget, &mut look);
    if shrunk.to != size {
        since = began.elapsed();
    }
    Some(Shrunk { steps: shrunk.to.steps(), seconds: since.as_secs_f64() })
}

fn find(mutant: Mutant, case: &Case) -> Option<Finding> {
    mutate(Some(mutant));
    let finding = replay::find(case);
    mutate(None);
    finding
}
