//! Less waiting between what happens.

use offset_protocol::machine::{Duration, Instant};

use super::Search;
use crate::case::{Case, Operation};

/// Waiting that is not worth a try to shorten.
const SHORT: Duration = Duration::from_millis(200);
/// Times are rounded to this, if that changes nothing.
const ROUND: u64 = 100_000;
/// A payment's patience in a plain world.
const PATIENCE: Duration = Duration::from_secs(10);

impl Search<'_, '_, '_> {
    pub(super) fn short_times(&mut self) {
        self.change(|case| {
            let last = moments(case).last().copied().unwrap_or_default();
            case.heal_at = last.max(Instant::from_micros(ROUND)) + SHORT;
        });
        // Gaps from the last to the first: what comes after a gap comes earlier by it, or by its half.
        for index in (0..moments(&self.best).len()).rev() {
            let all = moments(&self.best);
            let Some(&at) = all.get(index) else { continue };
            let before = index.checked_sub(1).and_then(|before| all.get(before)).copied().unwrap_or_default();
            let gap = at.since(before);
            if gap > SHORT {
                let by = |part: u64| Duration::from_micros((gap.as_micros() - SHORT.as_micros()) / part);
                let _ = self.change(|case| earlier(case, at, by(1))) || self.change(|case| earlier(case, at, by(2)));
            }
        }
        self.change(|case| {
            each_time(case, |at| *at = Instant::from_micros(at.as_micros() / ROUND * ROUND));
            case.heal_at = Instant::from_micros(case.heal_at.as_micros().div_ceil(ROUND) * ROUND);
        });
        self.change(|case| {
            for timed in &mut case.operations {
                if let Operation::Pay { patience, .. } = &mut timed.what {
                    *patience = PATIENCE;
                }
            }
        });
    }
}

/// When something happens, in order, each moment once.
fn moments(case: &Case) -> Vec<Instant> {
    let operations = case.operations.iter().map(|timed| timed.at);
    let mut all: Vec<Instant> = operations.chain(case.faults.iter().map(|timed| timed.at)).collect();
    all.sort_unstable();
    all.dedup();
    all
}

fn each_time(case: &mut Case, mut change: impl FnMut(&mut Instant)) {
    case.operations.iter_mut().for_each(|timed| change(&mut timed.at));
    case.faults.iter_mut().for_each(|timed| change(&mut timed.at));
}

/// Everything from `from` on happens earlier.
fn earlier(case: &mut Case, from: Instant, by: Duration) {
    each_time(case, |at| *at = if *at >= from { *at - by } else { *at });
    case.heal_at = if case.heal_at >= from { case.heal_at - by } else { case.heal_at };
}
