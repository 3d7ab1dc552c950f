//! Token buckets of whole numbers, for accepts.

use offset_protocol::machine::Instant;

use super::AcceptRate;

/// What a bucket counts in: an accept costs this much, so that a bucket fills by whole numbers each microsecond.
const ACCEPT: u64 = 1_000_000;

/// Tokens for accepts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    rate: AcceptRate,
    /// In parts of an accept: see [`ACCEPT`].
    tokens: u64,
    /// Up to when it was filled.
    filled: Option<Instant>,
}

impl Bucket {
    pub(super) const fn full(rate: AcceptRate) -> Self {
        Bucket { rate, tokens: rate.burst as u64 * ACCEPT, filled: None }
    }

    fn fill(&mut self, now: Instant) {
        let passed = self.filled.map_or(0, |filled| now.since(filled).as_micros());
        let earned = passed.saturating_mul(u64::from(self.rate.per_s));
        self.tokens = self.tokens.saturating_add(earned).min(u64::from(self.rate.burst) * ACCEPT);
        self.filled = Some(now);
    }

    pub(super) fn has_one(&mut self, now: Instant) -> bool {
        self.fill(now);
        self.tokens >= ACCEPT
    }

    pub(super) fn take_one(&mut self) {
        self.tokens = self.tokens.saturating_sub(ACCEPT);
    }

    pub(super) fn is_full(&mut self, now: Instant) -> bool {
        self.fill(now);
        self.tokens >= u64::from(self.rate.burst) * ACCEPT
    }
}
