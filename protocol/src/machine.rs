//! One shape for every state machine, and the only three things that it may know of the world outside:
//! the time it is told, the seed it is born with, the inputs it is fed.
//!
//! Laws of the alarm, which the simulator asserts at every step: queued output counts as due now; after a due tick the
//! next alarm is later or none; an early tick changes nothing; reading the alarm has no effect.

use std::fmt;
use std::ops::{Add, AddAssign, Sub};

use chacha20::ChaCha20;
use chacha20::cipher::{KeyIvInit, StreamCipher};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// A pure state machine: everything that happens to it comes in through [`Machine::handle`], everything that it wants
/// done comes out of [`Machine::poll_output`].
pub trait Machine {
    /// What can happen to the machine.
    type Input;
    /// What the machine wants done.
    type Output;

    /// The only door in. It cannot fail and never panics: a refusal, a reply and a verdict about a peer are outputs.
    fn handle(&mut self, now: Instant, input: Self::Input);

    /// The next output, oldest first, until `None`.
    fn poll_output(&mut self) -> Option<Self::Output>;

    /// When the machine next wants a tick, and why. Reading it has no effect.
    fn poll_timeout(&self) -> Option<Alarm>;
}

/// Feeds all waiting inputs, then drains all outputs into `outlet`. The only caller of a machine in every runtime.
pub fn turn<M: Machine>(
    machine: &mut M,
    now: Instant,
    inputs: impl IntoIterator<Item = M::Input>,
    mut outlet: impl FnMut(M::Output),
) {
    for input in inputs {
        machine.handle(now, input);
    }
    while let Some(output) = machine.poll_output() {
        outlet(output);
    }
}

/// A point in monotonic time: microseconds since an origin that the runtime chose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Instant(u64);

/// A span of time in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Duration(u64);

/// Wall time in milliseconds since 1970, for what a human reads; never used for a decision about money.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WallTime(pub u64);

impl Instant {
    /// The origin.
    pub const ZERO: Instant = Instant(0);

    /// The instant `us` microseconds after the origin.
    pub const fn from_micros(us: u64) -> Self {
        Instant(us)
    }

    /// Microseconds since the origin.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Time passed since `earlier`; zero if `earlier` is later.
    pub const fn since(self, earlier: Instant) -> Duration {
        Duration(self.0.saturating_sub(earlier.0))
    }
}

impl Duration {
    /// No time at all.
    pub const ZERO: Duration = Duration(0);

    /// A span of `us` microseconds.
    pub const fn from_micros(us: u64) -> Self {
        Duration(us)
    }

    /// A span of `ms` milliseconds; saturates.
    pub const fn from_millis(ms: u64) -> Self {
        Duration(ms.saturating_mul(1_000))
    }

    /// A span of `s` seconds; saturates.
    pub const fn from_secs(s: u64) -> Self {
        Duration(s.saturating_mul(1_000_000))
    }

    /// The span in microseconds.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// The span in whole milliseconds, rounded down.
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000
    }

    /// `self * factor`; saturates.
    pub const fn times(self, factor: u64) -> Self {
        Duration(self.0.saturating_mul(factor))
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;
    fn add(self, rhs: Duration) -> Instant {
        Instant(self.0.saturating_add(rhs.0))
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, rhs: Duration) {
        *self = *self + rhs;
    }
}

impl Sub<Duration> for Instant {
    type Output = Instant;
    fn sub(self, rhs: Duration) -> Instant {
        Instant(self.0.saturating_sub(rhs.0))
    }
}

/// When a machine wants its next tick, and why (for traces).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// The instant from which a tick is due.
    pub at: Instant,
    /// A short name of the reason.
    pub why: &'static str,
}

impl Alarm {
    /// The earlier of two alarms, either of which may be missing; the first wins a tie.
    pub fn earliest(a: Option<Alarm>, b: Option<Alarm>) -> Option<Alarm> {
        match (a, b) {
            (Some(a), Some(b)) => Some(if b.at < a.at { b } else { a }),
            (a, b) => a.or(b),
        }
    }
}

/// All the randomness that a machine will ever have: 32 secret bytes, given at birth.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Seed([u8; 32]);

impl Seed {
    /// A seed from 32 bytes that the caller promises are unpredictable (or, in a test, chosen).
    pub const fn new(bytes: [u8; 32]) -> Self {
        Seed(bytes)
    }

    /// A seed for a test or a simulation, spread from one number.
    pub fn from_number(number: u64) -> Self {
        let mut hasher = crate::context::SEED_NUMBER.hasher();
        hasher.u64(number);
        Seed(hasher.finish().0)
    }

    /// An independent seed for the part called `label`. Same seed and label, same result.
    pub fn fork(&self, label: &str) -> Seed {
        let mut hasher = crate::context::SEED_FORK.hasher();
        hasher.fixed(&self.0).bytes(label.as_bytes());
        Seed(hasher.finish().0)
    }

    /// The generator that this seed starts.
    pub fn rng(&self) -> Rng {
        Rng { cipher: ChaCha20::new(&self.0.into(), &[0; 12].into()), drawn: 0, key: self.clone(), block: 0 }
    }
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed(secret)")
    }
}

/// Bytes of key stream after which the generator takes a new nonce: far below ChaCha20's limit of 256 GiB.
const RNG_REFRESH_BYTES: u64 = 1 << 36;

/// A deterministic generator: the ChaCha20 key stream under a [`Seed`].
pub struct Rng {
    cipher: ChaCha20,
    drawn: u64,
    key: Seed,
    block: u64,
}

impl Rng {
    /// Fills `out` with the next bytes of the stream.
    pub fn fill(&mut self, out: &mut [u8]) {
        self.drawn = self.drawn.saturating_add(out.len() as u64);
        if self.drawn > RNG_REFRESH_BYTES {
            self.refresh(out.len() as u64);
        }
        out.fill(0);
        self.cipher.apply_keystream(out);
    }

    fn refresh(&mut self, drawn: u64) {
        self.block += 1;
        self.drawn = drawn;
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&self.block.to_le_bytes());
        self.cipher = ChaCha20::new(&self.key.0.into(), &nonce.into());
    }

    /// The next `N` bytes.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        self.fill(&mut out);
        out
    }

    /// A uniform 64-bit number.
    pub fn next_u64(&mut self) -> u64 {
        u64::from_le_bytes(self.bytes())
    }

    /// A number in `0..limit` (0 if `limit` is 0). The bias is below 2^-64 * limit, of no account for jitter or schedules.
    pub fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(limit)) >> 64) as u64
    }

    /// A fresh seed for a part that is born later.
    pub fn seed(&mut self) -> Seed {
        Seed(self.bytes())
    }
}

impl fmt::Debug for Rng {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rng(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_stream_and_forks_differ() {
        let seed = Seed::from_number(7);
        assert_eq!(seed.rng().bytes::<64>(), seed.rng().bytes::<64>());
        assert_ne!(seed.fork("a").rng().bytes::<32>(), seed.fork("b").rng().bytes::<32>());
        assert_eq!(seed.fork("a").rng().next_u64(), seed.fork("a").rng().next_u64());
    }

    #[test]
    fn a_stream_does_not_depend_on_how_it_is_cut() {
        let mut whole = Seed::from_number(1).rng();
        let mut parts = Seed::from_number(1).rng();
        let expected = whole.bytes::<48>();
        let mut got = [0; 48];
        parts.fill(&mut got[..5]);
        parts.fill(&mut got[5..]);
        assert_eq!(expected, got);
    }

    #[test]
    fn below_stays_below() {
        let mut rng = Seed::from_number(3).rng();
        assert!((0..1_000).all(|_| rng.below(7) < 7));
        assert_eq!(rng.below(0), 0);
    }

    #[test]
    fn time_saturates_and_never_wraps() {
        let late = Instant::from_micros(u64::MAX);
        assert_eq!(late + Duration::from_secs(1), late);
        assert_eq!(Instant::ZERO.since(late), Duration::ZERO);
        assert_eq!(Instant::ZERO - Duration::from_secs(1), Instant::ZERO);
    }

    #[test]
    fn a_seed_is_never_printed() {
        assert_eq!(format!("{:?}", Seed::from_number(1)), "Seed(secret)");
    }
}
