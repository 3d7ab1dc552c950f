//! The world's own randomness: small, fast, and the same on every machine.
//!
//! Machines get a [`Seed`] and ChaCha20; the world's decisions (latencies, splits, faults) are no secrets and are drawn a
//! million times a second, so they come from xoshiro256++. No function of the platform's mathematics library is used: its
//! last digit differs between platforms, and one digit changes every later event.
//!
//! What a world draws as it runs comes from dice of the [`Moment`]: from the seed, what is drawn, where and when, and from
//! nothing else. So an event that is taken out of a case leaves all delays elsewhere as they were, and what happens
//! elsewhere too: otherwise every smaller case would be another world, and a failure would be lost in most of them.

use offset_protocol::machine::{Duration, Instant, Seed};

/// Where and when something is drawn, and what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The world's.
    pub seed: u64,
    /// What is drawn: a number for each kind.
    pub what: u8,
    /// Where: hosts, or links.
    pub place: u64,
    /// When.
    pub now: Instant,
}

/// Steps of the generator SplitMix64 (Steele, Lea, Flood 2014).
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The finalizer of SplitMix64: every bit of the result depends on every bit of the number.
pub(crate) const fn mixed(number: u64) -> u64 {
    let number = number.wrapping_add(GOLDEN);
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}

/// A deterministic generator for decisions of the world.
#[derive(Clone, Debug)]
pub struct Dice([u64; 4]);

impl Dice {
    /// The dice of the part called `label`.
    pub fn new(seed: &Seed, label: &str) -> Self {
        let mut rng = seed.fork(label).rng();
        Dice([rng.next_u64(), rng.next_u64(), rng.next_u64(), rng.next_u64() | 1])
    }

    /// The dice of one thing at one place and time. The same number again gives the same dice.
    pub fn at(moment: Moment) -> Self {
        let Moment { seed, what, place, now } = moment;
        let mut state = mixed(mixed(mixed(seed ^ u64::from(what)) ^ place) ^ now.as_micros());
        let mut next = || {
            state = state.wrapping_add(GOLDEN);
            mixed(state)
        };
        Dice([next(), next(), next(), next() | 1])
    }

    /// A uniform number.
    pub fn next_u64(&mut self) -> u64 {
        let [a, b, c, d] = &mut self.0;
        let result = a.wrapping_add(*d).rotate_left(23).wrapping_add(*a);
        let shifted = *b << 17;
        *c ^= *a;
        *d ^= *b;
        *b ^= *c;
        *a ^= *d;
        *c ^= shifted;
        *d = d.rotate_left(45);
        result
    }

    /// A number in `0..limit`; 0 if `limit` is 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(limit)) >> 64) as u64
    }

    /// A number in `low..=high`; `low` if there is none.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low).saturating_add(1))
    }

    /// A duration in `low..=high`.
    pub fn duration(&mut self, low: Duration, high: Duration) -> Duration {
        Duration::from_micros(self.between(low.as_micros(), high.as_micros()))
    }

    /// True `per_mille` times in a thousand.
    pub fn chance(&mut self, per_mille: u32) -> bool {
        self.below(1_000) < u64::from(per_mille)
    }

    /// One of `items`; `None` if there is none.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        items.get(self.below(items.len() as u64) as usize)
    }

    /// A number in the open interval (0, 1).
    pub fn unit(&mut self) -> f64 {
        ((self.next_u64() >> 12) as f64 + 0.5) / (1u64 << 52) as f64
    }

    /// An exponentially distributed number of mean 1.
    pub fn exponential(&mut self) -> f64 {
        -ln(self.unit())
    }

    /// A number of mean 0 and variance 1, nearly normal: the sum of twelve uniform ones (so never beyond 6).
    pub fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }
}

/// The natural logarithm of `x > 0`, made of additions, multiplications and divisions only.
pub(crate) fn ln(x: f64) -> f64 {
    // x = m * 2^e with m in [1, 2); ln m = 2 artanh((m - 1) / (m + 1)).
    let bits = x.to_bits();
    let exponent = ((bits >> 52) & 0x7ff) as i64 - 1_023;
    let mantissa = f64::from_bits((bits & ((1 << 52) - 1)) | (1_023 << 52));
    let t = (mantissa - 1.0) / (mantissa + 1.0);
    let square = t * t;
    let series = (0..12).rev().fold(0.0, |sum, k| sum * square + 1.0 / f64::from(2 * k + 1));
    exponent as f64 * std::f64::consts::LN_2 + 2.0 * t * series
}

/// `e^x`, made of additions, multiplications and divisions only; for |x| below 30.
pub(crate) fn exp(x: f64) -> f64 {
    let reduced = x / 64.0;
    let series = (1..16).rev().fold(1.0, |sum, k| 1.0 + sum * reduced / f64::from(k));
    (0..6).fold(series, |power, _| power * power)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_and_label_give_the_same_dice() {
        let seed = Seed::from_number(4);
        let draw = |label| {
            let mut dice = Dice::new(&seed, label);
            (0..100).map(|_| dice.next_u64()).collect::<Vec<_>>()
        };
        assert_eq!(draw("a"), draw("a"));
        assert_ne!(draw("a"), draw("b"));
    }

    #[test]
    fn dice_of_a_moment_depend_on_all_of_it_and_on_nothing_else() {
        let moment = Moment { seed: 7, what: 1, place: 3, now: Instant::from_micros(9) };
        assert_eq!(Dice::at(moment).next_u64(), Dice::at(moment).next_u64());
        let others = [
            Moment { seed: 8, ..moment },
            Moment { what: 2, ..moment },
            Moment { place: 4, ..moment },
            Moment { now: Instant::from_micros(10), ..moment },
        ];
        for other in others {
            assert_ne!(Dice::at(moment).next_u64(), Dice::at(other).next_u64(), "{other:?}");
        }
        let draw = |us| Dice::at(Moment { now: Instant::from_micros(us), ..moment }).below(1_000);
        let mean = (0..20_000).map(draw).sum::<u64>() / 20_000;
        assert!((490..510).contains(&mean), "{mean}");
    }

    #[test]
    fn logarithm_and_exponential_are_those_of_the_books() {
        for x in [1e-9, 0.3, 0.999, 1.0, 1.5, 2.0, 7.25, 1e6] {
            assert!((ln(x) - x.ln()).abs() < 1e-9, "{x}");
        }
        for x in [-8.0, -0.5, 0.0, 0.7, 3.0, 9.0] {
            assert!((exp(x) / x.exp() - 1.0).abs() < 1e-9, "{x}");
        }
    }

    #[test]
    fn distributions_have_their_means() {
        let mut dice = Dice::new(&Seed::from_number(1), "means");
        let mean = |mut draw: Box<dyn FnMut() -> f64 + '_>| (0..20_000).map(|_| draw()).sum::<f64>() / 20_000.0;
        assert!((mean(Box::new(|| dice.exponential())) - 1.0).abs() < 0.03);
        assert!(mean(Box::new(|| dice.normal())).abs() < 0.03);
        assert!((mean(Box::new(|| dice.between(10, 20) as f64)) - 15.0).abs() < 0.1);
    }
}
