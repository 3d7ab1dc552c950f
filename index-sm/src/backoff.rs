//! How long to wait before the next attempt, and how often something may be done.

use offset_protocol::machine::{Duration, Instant, Rng};

/// The pause after the first failure.
pub(crate) const BACKOFF_FIRST: Duration = Duration::from_millis(500);
/// The longest pause.
pub(crate) const BACKOFF_LONGEST: Duration = Duration::from_secs(60);
/// A session that lasted this long makes the failures before it forgotten.
pub(crate) const SESSION_PROVES_ITSELF: Duration = Duration::from_secs(10);

/// Exponential backoff with jitter: the pause doubles with each failure, and is drawn from its upper half.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Another failure; how long to wait now.
    pub(crate) fn next(&mut self, rng: &mut Rng) -> Duration {
        let doublings = self.failures.min(16);
        self.failures = self.failures.saturating_add(1);
        let longest = BACKOFF_FIRST.times(1 << doublings).min(BACKOFF_LONGEST).as_micros();
        Duration::from_micros(longest / 2 + rng.below(longest / 2 + 1))
    }

    /// Forget the failures.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// A token bucket: so many at once, then one each interval.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bucket {
    /// When the bucket is full again.
    full_at: Instant,
}

impl Bucket {
    /// Takes a token, if there is one.
    pub(crate) fn take(&mut self, now: Instant, interval: Duration, burst: u64) -> bool {
        let full_at = self.full_at.max(now);
        if full_at.since(now) > interval.times(burst.saturating_sub(1)) {
            return false;
        }
        self.full_at = full_at + interval;
        true
    }

    /// Takes `tokens` for what was done already; below nothing, if they are not there.
    pub(crate) fn charge(&mut self, now: Instant, interval: Duration, tokens: u64) {
        self.full_at = self.full_at.max(now) + interval.times(tokens);
    }

    /// Whether nothing was taken lately.
    pub(crate) fn is_full(&self, now: Instant) -> bool {
        self.full_at <= now
    }

    /// Whether there is nothing left of a burst.
    pub(crate) fn is_empty(&self, now: Instant, interval: Duration, burst: u64) -> bool {
        self.full_at.since(now) >= interval.times(burst)
    }

    /// Whether so many tokens are there.
    pub(crate) fn has_room(&self, now: Instant, interval: Duration, burst: u64, tokens: u64) -> bool {
        tokens <= burst && self.full_at.since(now) <= interval.times(burst - tokens)
    }

    /// When so many tokens will be there, if none is taken until then.
    pub(crate) fn room_at(&self, interval: Duration, burst: u64, tokens: u64) -> Instant {
        Instant::ZERO + self.full_at.since(Instant::ZERO + interval.times(burst.saturating_sub(tokens)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use offset_protocol::machine::Seed;

    #[test]
    fn pauses_double_up_to_the_longest_and_are_never_in_step() {
        let mut rng = Seed::from_number(1).rng();
        let mut backoff = Backoff::default();
        let pauses: Vec<_> = (0..20).map(|_| backoff.next(&mut rng).as_millis()).collect();
        assert!((250..=500).contains(&pauses[0]) && (500..=1_000).contains(&pauses[1]), "{pauses:?}");
        assert!(pauses[10..].iter().all(|pause| (30_000..=60_000).contains(pause)), "{pauses:?}");
        backoff.reset();
        assert!(backoff.next(&mut rng) <= BACKOFF_FIRST);
    }

    #[test]
    fn a_bucket_gives_its_burst_then_its_rate() {
        let (mut bucket, second) = (Bucket::default(), Duration::from_secs(1));
        let now = Instant::from_micros(1);
        assert_eq!((0..10).filter(|_| bucket.take(now, second, 5)).count(), 5);
        assert_eq!((0..10).filter(|_| bucket.take(now + second.times(2), second, 5)).count(), 2);
    }
}
