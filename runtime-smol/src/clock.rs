//! The only place that reads the clock: monotonic time for machines, wall time for what a human reads.

use std::time::{Instant as StdInstant, SystemTime, UNIX_EPOCH};

use offset_protocol::machine::{Instant, WallTime};

/// Monotonic time since this clock was started. Copies share its origin.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: StdInstant,
}

impl Clock {
    /// A clock whose origin is now. A program has one.
    pub fn start() -> Self {
        Clock { origin: StdInstant::now() }
    }

    /// Time since the origin.
    pub fn now(self) -> Instant {
        Instant::from_micros(u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// The system's instant that is not before `at`; `None` beyond the system's range, which is never.
    pub fn system(self, at: Instant) -> Option<StdInstant> {
        self.origin.checked_add(std::time::Duration::from_micros(at.as_micros()))
    }

    /// Wall time, for histories; 1970 if the system believes it is earlier.
    pub fn wall(self) -> WallTime {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        WallTime(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_is_due_when_its_system_instant_has_come() {
        let clock = Clock::start();
        let at = clock.now() + offset_protocol::machine::Duration::from_millis(2);
        std::thread::sleep(clock.system(at).unwrap() - StdInstant::now());
        assert!(clock.now() >= at);
    }
}
