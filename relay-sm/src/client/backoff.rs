//! How long to wait before the next try: twice as long after each failure, with jitter. What had lasted ends for all clients
//! of a relay in the same moment, when that restarts; so the first wait after it is spread over some seconds, and they do
//! not come back all at once. A node whose own network changed does not wait at all: its parent says so.

use offset_protocol::machine::{Duration, Instant, Rng};

/// The first wait, before jitter.
pub const FIRST_WAIT: Duration = Duration::from_millis(500);
/// The longest wait.
pub const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// After a listening connection that had lasted, the first wait is anything up to this. Chosen freely: ten thousand nodes
/// then come at less than the rate at which a relay lets connections in by default.
pub const LISTENER_SPREAD: Duration = Duration::from_secs(8);
/// The same after a tunnel. Shorter, because somebody may wait for it, and the friend calls too.
pub const TUNNEL_SPREAD: Duration = Duration::from_secs(2);
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

    /// How long to wait: between half of the full wait and all of it, and each failure makes that longer. What ended after a
    /// long life was no failure: all begins again, with a wait of any length up to `spread`.
    pub(super) fn after_end(&mut self, since: Instant, now: Instant, spread: Duration, rng: &mut Rng) -> Duration {
        if now.since(since) < STABLE_AFTER {
            return self.after_failure(rng);
        }
        self.reset();
        Duration::from_micros(rng.below(spread.as_micros() + 1))
    }

    /// How long to wait when nothing came of a try.
    pub(super) fn after_failure(&mut self, rng: &mut Rng) -> Duration {
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
    fn waits_double_with_jitter_up_to_the_longest_and_start_again_spread_out_after_a_long_life() {
        let mut rng = Seed::from_number(1).rng();
        let mut backoff = Backoff::default();
        let now = Instant::from_micros(1_000_000_000);
        for full_ms in [500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000] {
            let wait = backoff.after_end(now, now, LISTENER_SPREAD, &mut rng).as_millis();
            assert!((full_ms / 2..=full_ms).contains(&wait), "{wait} ms of {full_ms}");
        }
        let eighth = |_| {
            let wait = backoff.after_end(now - STABLE_AFTER, now, LISTENER_SPREAD, &mut rng);
            assert!(wait <= LISTENER_SPREAD);
            wait.as_micros() * 8 / LISTENER_SPREAD.as_micros()
        };
        let mut in_eighth = [0; 9];
        (0..800).map(eighth).for_each(|eighth| in_eighth[eighth as usize] += 1);
        assert!(in_eighth[..8].iter().all(|count| (50..=150).contains(count)), "{in_eighth:?}");
        let wait = backoff.after_end(now, now, LISTENER_SPREAD, &mut rng);
        assert!(wait <= FIRST_WAIT, "then as ever");
    }
}
