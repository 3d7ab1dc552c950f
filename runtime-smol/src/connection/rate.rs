//! How many bytes an identity may send through tunnels: a token bucket that is paid by waiting, never by dropping.
//!
//! All tunnels of one identity share one bucket. A message may leave while the bucket is not in debt, so even the largest
//! one passes at some time; what it costs beyond is a debt, and the connection reads nothing more until that is paid.
//!
//! A bucket outlives the tunnels of its identity until it is full again: whoever closes them and comes back finds it as it
//! was. So `Buckets` holds those of identities with tunnels, and of others a bounded number.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use offset_protocol::machine::{Duration, Instant};
use offset_relay_sm::server::TunnelRate;

/// How a bucket fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Tokens a second in the long run. In a tunnel they are bytes.
    pub per_s: u64,
    /// Tokens at once after a rest.
    pub burst: u64,
}

impl From<TunnelRate> for Rate {
    fn from(rate: TunnelRate) -> Self {
        Rate { per_s: rate.bytes_per_s, burst: rate.burst_bytes }
    }
}

/// The least that a message costs: as much as the shortest one takes on the wire.
pub(crate) const LEAST_COST: usize = 64;
/// Buckets of identities without a tunnel that are kept. Chosen freely, in some 10 MiB: with the limits as they are without
/// flags a bucket is full again after three seconds, and so many do not come in that time.
const MOST_UNUSED: usize = 65_536;
/// Buckets past which the first sweep looks for those that are full and not in use.
const FIRST_SWEEP: usize = 1_024;

/// The buckets of all who have one: identities, or addresses.
#[derive(Debug)]
pub(crate) struct Buckets<K> {
    by_owner: BTreeMap<K, Arc<Bucket>>,
    /// How many there are at the next sweep, so that sweeping costs little for each that comes.
    sweep_at: usize,
    most_unused: usize,
}

impl<K> Default for Buckets<K> {
    fn default() -> Self {
        Buckets { by_owner: BTreeMap::new(), sweep_at: FIRST_SWEEP, most_unused: MOST_UNUSED }
    }
}

impl<K: Clone + Ord> Buckets<K> {
    /// The bucket of an owner; a full one with this limit if there is none.
    pub(crate) fn of(&mut self, owner: &K, limit: Rate, now: Instant) -> Arc<Bucket> {
        if let Some(bucket) = self.by_owner.get(owner) {
            return bucket.clone();
        }
        if self.by_owner.len() >= self.sweep_at {
            self.sweep(now);
        }
        let bucket = Arc::new(Bucket::new(limit, now));
        self.by_owner.insert(owner.clone(), bucket.clone());
        bucket
    }

    /// Forgets those that are full and not in use, and if others not in use are still too many, the half of them that is
    /// nearest to full.
    fn sweep(&mut self, now: Instant) {
        let is_unused = |bucket: &Arc<Bucket>| Arc::strong_count(bucket) == 1;
        self.by_owner.retain(|_, bucket| !is_unused(bucket) || !bucket.is_full(now));
        let unused = self.by_owner.iter().filter(|(_, bucket)| is_unused(bucket));
        let mut unused: Vec<_> = unused.map(|(owner, bucket)| (bucket.tokens(now), owner.clone())).collect();
        if unused.len() > self.most_unused {
            unused.sort();
            for (_, owner) in unused.drain(self.most_unused / 2..) {
                self.by_owner.remove(&owner);
            }
        }
        self.sweep_at = FIRST_SWEEP.max(2 * self.by_owner.len());
    }
}

/// One bucket.
#[derive(Debug)]
pub(crate) struct Bucket {
    limit: Rate,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Negative: a debt.
    tokens: i64,
    /// Up to when it was filled.
    filled: Instant,
}

impl Bucket {
    /// A full bucket.
    pub(crate) fn new(limit: Rate, now: Instant) -> Self {
        let tokens = i64::try_from(limit.burst).unwrap_or(i64::MAX);
        Bucket { limit, state: Mutex::new(State { tokens, filled: now }) }
    }

    /// When the next message may leave; `None`: now.
    pub(crate) fn blocked_until(&self, now: Instant) -> Option<Instant> {
        // No code that can panic runs under the lock.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.fill(&self.limit, now);
        let debt = u64::try_from(state.tokens.saturating_neg()).ok().filter(|debt| *debt > 0)?;
        let wait_us = debt.saturating_mul(1_000_000) / self.limit.per_s.max(1) + 1;
        Some(now + Duration::from_micros(wait_us))
    }

    /// Takes what a message of so many bytes costs that leaves.
    pub(crate) fn pay(&self, bytes: usize) {
        self.take(bytes.max(LEAST_COST) as u64);
    }

    /// Takes this much, whatever the bucket counts.
    pub(crate) fn take(&self, tokens: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.tokens = state.tokens.saturating_sub(i64::try_from(tokens).unwrap_or(i64::MAX));
    }

    fn is_full(&self, now: Instant) -> bool {
        u64::try_from(self.tokens(now)).is_ok_and(|tokens| tokens >= self.limit.burst)
    }

    fn tokens(&self, now: Instant) -> i64 {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.fill(&self.limit, now);
        state.tokens
    }
}

impl State {
    fn fill(&mut self, limit: &Rate, now: Instant) {
        let passed = u128::from(now.since(self.filled).as_micros());
        let earned = u128::from(limit.per_s) * passed / 1_000_000;
        // Time that earned less than a token is kept for the next call.
        if earned == 0 {
            return;
        }
        let full = i64::try_from(limit.burst).unwrap_or(i64::MAX);
        self.tokens = self.tokens.saturating_add(i64::try_from(earned).unwrap_or(i64::MAX)).min(full);
        self.filled = now;
    }
}

#[cfg(test)]
mod tests {
    use offset_protocol::bytes::PublicKey;

    use super::*;

    const LIMIT: Rate = Rate { per_s: 1_000, burst: 5_000 };

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

    #[test]
    fn empty_messages_are_not_free() {
        let start = Instant::from_micros(1);
        let bucket = Bucket::new(LIMIT, start);
        let mut sent = 0;
        while bucket.blocked_until(start).is_none() {
            bucket.pay(0);
            sent += 1;
            assert!(sent <= 5_000 / LEAST_COST + 1, "{sent} empty messages at once");
        }
    }

    fn key(n: usize) -> PublicKey {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&(n as u64).to_be_bytes());
        PublicKey(key)
    }

    #[test]
    fn who_closes_its_tunnels_and_comes_back_finds_its_bucket_as_it_was() {
        let (mut buckets, start) = (Buckets::default(), Instant::from_micros(1));
        buckets.of(&key(0), LIMIT, start).pay(9_000);
        // Whatever comes meanwhile.
        for n in 1..10 * FIRST_SWEEP {
            buckets.of(&key(n), LIMIT, start);
        }
        assert!(buckets.by_owner.len() <= 2 * FIRST_SWEEP, "full ones are forgotten");
        assert!(buckets.of(&key(0), LIMIT, start).blocked_until(start).is_some(), "still in debt");
        let later = start + Duration::from_secs(9);
        for n in 1..10 * FIRST_SWEEP {
            buckets.of(&key(n), LIMIT, later);
        }
        assert!(!buckets.by_owner.contains_key(&key(0)), "what is full again is forgotten");
    }

    #[test]
    fn buckets_of_identities_that_left_in_debt_are_bounded_and_the_deepest_in_debt_stay() {
        let (mut buckets, start) = (Buckets { most_unused: 100, ..Buckets::default() }, Instant::from_micros(1));
        let used = buckets.of(&key(usize::MAX), LIMIT, start);
        used.pay(1);
        buckets.of(&key(0), LIMIT, start).pay(1_000_000);
        for n in 1..20 * FIRST_SWEEP {
            buckets.of(&key(n), LIMIT, start).pay(100 + n % 7);
        }
        assert!(buckets.by_owner.len() <= FIRST_SWEEP + 101, "{} buckets", buckets.by_owner.len());
        assert!(buckets.of(&key(0), LIMIT, start).blocked_until(start).is_some());
        assert!(Arc::ptr_eq(&used, &buckets.of(&key(usize::MAX), LIMIT, start)), "one in use is never forgotten");
    }

    #[test]
    fn at_the_least_rate_the_greatest_message_is_paid_before_its_sender_takes_us_for_dead() {
        let rate = Rate { per_s: offset_relay_sm::server::LEAST_BYTES_PER_S, burst: 1 };
        let start = Instant::from_micros(1);
        let bucket = Bucket::new(rate, start);
        bucket.pay(offset_protocol::limits::MAX_FRAME);
        let until = bucket.blocked_until(start).unwrap();
        assert!(until.since(start) < offset_protocol::limits::KEEPALIVE_SILENCE, "{until:?}");
    }
}
