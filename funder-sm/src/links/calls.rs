//! How many calls came of late: a sliding window, so that neither a relay that invents calls nor a friend that calls without
//! end costs more than so many handshakes.

use std::collections::VecDeque;

use offset_protocol::limits::HANDSHAKE_DEADLINE;
use offset_protocol::machine::Instant;

/// Calls of the last [`HANDSHAKE_DEADLINE`].
#[derive(Debug, Default)]
pub(super) struct RecentCalls {
    /// When each stops counting; oldest first.
    ends: VecDeque<Instant>,
}

impl RecentCalls {
    /// Counts a call, unless there were `limit` of late.
    pub(super) fn take(&mut self, now: Instant, limit: usize) -> bool {
        if self.count(now) >= limit {
            return false;
        }
        self.ends.push_back(now + HANDSHAKE_DEADLINE);
        true
    }

    /// How many there were of late.
    pub(super) fn count(&mut self, now: Instant) -> usize {
        while self.ends.front().is_some_and(|end| *end <= now) {
            self.ends.pop_front();
        }
        self.ends.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use offset_protocol::machine::Duration;

    #[test]
    fn calls_stop_counting_after_a_while() {
        let mut calls = RecentCalls::default();
        let start = Instant::ZERO;
        assert!(calls.take(start, 2) && calls.take(start + Duration::from_secs(1), 2));
        assert!(!calls.take(start + Duration::from_secs(2), 2));
        assert!(calls.take(start + HANDSHAKE_DEADLINE, 2));
        assert_eq!(calls.count(start + HANDSHAKE_DEADLINE.times(3)), 0);
    }
}
