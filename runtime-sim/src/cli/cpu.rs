//! Time that this thread has spent on a core: what a budget "on one core" means, whatever else the machine does.

use std::fs;
use std::time::{Duration, Instant};

/// Begins now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stopwatch {
    began: Instant,
    spent: Option<Duration>,
}

impl Stopwatch {
    pub(super) fn start() -> Self {
        Stopwatch { began: Instant::now(), spent: on_core() }
    }

    /// On a core since then; where the system does not tell, all the time since then.
    pub(super) fn spent(&self) -> Duration {
        match (self.spent, on_core()) {
            (Some(before), Some(now)) => now.saturating_sub(before),
            (_, None) | (None, _) => self.began.elapsed(),
        }
    }
}

/// What the scheduler of Linux counts: nanoseconds on a core, nanoseconds of waiting for one, times.
fn on_core() -> Option<Duration> {
    let text = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_counted_and_waiting_is_not_more_than_time() {
        let watch = Stopwatch::start();
        let began = Instant::now();
        let mut sum = 0_u64;
        while began.elapsed() < Duration::from_millis(20) {
            sum = sum.wrapping_mul(3).wrapping_add(1);
        }
        assert!(sum > 0 && watch.spent() > Duration::ZERO && watch.spent() <= began.elapsed() * 2);
    }
}
