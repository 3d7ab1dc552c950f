//! How many bytes an identity may send through tunnels: a token bucket that is paid by waiting, never by dropping.
//!
//! All tunnels of one identity share one bucket. A message may leave while the bucket is not in debt, so even the largest
//! one passes at some time; what it costs beyond is a debt, and the connection reads nothing more until that is paid.

use std::sync::{Mutex, PoisonError};

use offset_protocol::machine::{Duration, Instant};
pub use offset_relay_sm::server::TunnelRate;

/// The bucket of one identity.
#[derive(Debug)]
pub(crate) struct Bucket {
    limit: TunnelRate,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Negative: a debt.
    bytes: i64,
    /// Up to when it was filled.
    filled: Instant,
}

impl Bucket {
    /// A full bucket.
    pub(crate) fn new(limit: TunnelRate, now: Instant) -> Self {
        let bytes = i64::try_from(limit.burst_bytes).unwrap_or(i64::MAX);
        Bucket { limit, state: Mutex::new(State { bytes, filled: now }) }
    }

    /// When the next message may leave; `None`: now.
    pub(crate) fn blocked_until(&self, now: Instant) -> Option<Instant> {
        // No code that can panic runs under the lock.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.fill(&self.limit, now);
        let debt = u64::try_from(state.bytes.saturating_neg()).ok().filter(|debt| *debt > 0)?;
        let wait_us = debt.saturating_mul(1_000_000) / self.limit.bytes_per_s.max(1) + 1;
        Some(now + Duration::from_micros(wait_us))
    }

    /// Takes what a message that leaves costs.
    pub(crate) fn pay(&self, bytes: usize) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.bytes = state.bytes.saturating_sub(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}

impl State {
    fn fill(&mut self, limit: &TunnelRate, now: Instant) {
        let passed = u128::from(now.since(self.filled).as_micros());
        let earned = u128::from(limit.bytes_per_s) * passed / 1_000_000;
        // Time that earned less than a byte is kept for the next call.
        if earned == 0 {
            return;
        }
        let full = i64::try_from(limit.burst_bytes).unwrap_or(i64::MAX);
        self.bytes = self.bytes.saturating_add(i64::try_from(earned).unwrap_or(i64::MAX)).min(full);
        self.filled = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: TunnelRate = TunnelRate { bytes_per_s: 1_000, burst_bytes: 5_000 };

    #[test]
    fn a_burst_passes_and_then_only_what_was_earned() {
        let start = Instant::from_micros(1);
        let bucket = Bucket::new(LIMIT, start);
        bucket.pay(5_000);
        assert_eq!(bucket.blocked_until(start), None, "not in debt yet");
        bucket.pay(2_000);
        let until = bucket.blocked_until(start).unwrap();
        assert!(until.since(start) >= Duration::from_secs(2));
        assert_eq!(bucket.blocked_until(until), None);
    }

    #[test]
    fn a_rest_earns_no_more_than_the_burst() {
        let bucket = Bucket::new(LIMIT, Instant::from_micros(1));
        let later = Instant::from_micros(1) + Duration::from_secs(3_600);
        assert_eq!(bucket.blocked_until(later), None);
        bucket.pay(5_001);
        assert!(bucket.blocked_until(later).is_some());
    }

    #[test]
    fn time_that_earns_less_than_a_byte_is_not_lost() {
        let start = Instant::from_micros(1);
        let bucket = Bucket::new(LIMIT, start);
        bucket.pay(5_001);
        for us in 1..=1_000 {
            let _ = bucket.blocked_until(start + Duration::from_micros(us));
        }
        assert_eq!(bucket.blocked_until(start + Duration::from_micros(1_001)), None);
    }
}
