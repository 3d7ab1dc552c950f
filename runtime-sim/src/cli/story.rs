//! The story of a failure, for a report: the case is made small first, as far as a reader has patience.

use std::time::{Duration, Instant};

use super::progress::many;
use crate::case::Case;
use crate::replay;
use crate::report::Story;
use crate::shrink::{Budget, shrink};
use crate::trace::Keep;

/// A report waits so long for a smaller case. Chosen freely: `stsim shrink` takes more time.
const PATIENCE: Duration = Duration::from_secs(20);
/// The events of a longer run are not kept for a story. Chosen freely: they would need a gigabyte.
const MOST_EVENTS: u64 = 20_000_000;

/// The story of a case that fails with these many events; `None` if it is too long, or does not fail when asked again.
pub(super) fn of(case: &Case, events: u64) -> Option<Story> {
    if events > MOST_EVENTS {
        return None;
    }
    let finding = replay::find(case)?;
    let (began, bar) = (Instant::now(), many(None));
    let mut is_over = || began.elapsed() >= PATIENCE;
    let budget = Budget { attempts: u64::MAX, is_over: &mut is_over };
    let shrunk = shrink(case, &finding, &mut replay::find, budget, &mut |progress| {
        bar.set_position(progress.attempts);
        bar.set_message(format!("making the case smaller: {}", progress.size));
    });
    bar.finish_and_clear();
    let replay = replay::run(&shrunk.case, Keep::Lines);
    Some(Story::new(&shrunk, &replay))
}
