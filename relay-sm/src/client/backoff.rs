//! How long to wait before the next try: twice as long after each failure, with jitter, so that the clients of a relay
//! that restarts do not come back all at once.

use offset_protocol::machine::{Duration, Instant, Rng};

/// The first wait, before jitter.
pub const FIRST_WAIT: Duration = Duration::from_millis(500);
/// The longest wait.
pub const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// What lived this long was no failure. Chosen freely: longer than any handshake inside.
pub const STABLE_AFTER: Duration = Duration::from_secs(20);

/// Failures in a row.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// Counts a failure, unless what ended had lived long; then how long to wait: between half of the full wait and all
    /// of it.
    pub(super) fn after(&mut self, since: Option<Instant>, now: Instant, rng: &mut Rng) -> Duration {
        if since.is_some_and(|since| now.since(since) >= STABLE_AFTER) {
            self.reset();
        }
        let doubled = FIRST_WAIT.times(1 << self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        let half = doubled.min(LONGEST_WAIT).as_micros() / 2;
        Duration::from_micros(half + rng.below(half + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use offset_protocol::machine::Seed;

    #[test]
    fn waits_double_with_jitter_up_to_the_longest_and_start_again_after_a_long_life() {
        let mut rng = Seed::from_number(1).rng();
        let mut backoff = Backoff::default();
        let now = Instant::from_micros(1_000_000_000);
        for full_ms in [500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000] {
            let wait = backoff.after(Some(now), now, &mut rng).as_millis();
            assert!((full_ms / 2..=full_ms).contains(&wait), "{wait} ms of {full_ms}");
        }
        let wait = backoff.after(Some(now - STABLE_AFTER), now, &mut rng);
        assert!(wait <= FIRST_WAIT);
    }
}
