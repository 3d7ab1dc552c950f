//! How long things take: the way of a packet, the flush of a disk.

use offset_protocol::machine::Duration;
use serde::{Deserialize, Serialize};

use crate::dice::{Dice, exp};

/// No single delay is longer than this. Chosen freely: beyond it a connection counts as silent anyway.
const LONGEST: Duration = Duration::from_secs(120);

/// A distribution of delays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Latency {
    /// Always the same.
    Constant(Duration),
    /// Anything between the two, alike.
    Uniform {
        /// The shortest.
        low: Duration,
        /// The longest.
        high: Duration,
    },
    /// Mostly short, seldom long.
    Exponential {
        /// The average.
        mean: Duration,
    },
    /// As real networks are: a median, and a factor either way.
    LogNormal {
        /// Half of all delays are shorter.
        median: Duration,
        /// Standard deviation of the logarithm, in thousandths.
        sigma_milli: u32,
    },
    /// Uniform, but for a rare slow tail.
    Tail {
        /// The shortest.
        low: Duration,
        /// The longest of the common ones.
        high: Duration,
        /// How many in a thousand are slow.
        slow_per_mille: u32,
        /// How long a slow one takes.
        slow: Duration,
    },
}

impl Latency {
    /// Draws one delay.
    pub fn draw(&self, dice: &mut Dice) -> Duration {
        let delay = match *self {
            Latency::Constant(delay) => delay,
            Latency::Uniform { low, high } => dice.duration(low, high),
            Latency::Exponential { mean } => scale(mean, dice.exponential()),
            Latency::LogNormal { median, sigma_milli } => {
                scale(median, exp(dice.normal() * f64::from(sigma_milli) / 1_000.0))
            }
            Latency::Tail { low, high, slow_per_mille, slow } => {
                if dice.chance(slow_per_mille) {
                    slow
                } else {
                    dice.duration(low, high)
                }
            }
        };
        delay.min(LONGEST)
    }
}

fn scale(delay: Duration, factor: f64) -> Duration {
    Duration::from_micros((delay.as_micros() as f64 * factor) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use offset_protocol::machine::Seed;

    #[test]
    fn delays_stay_in_their_range() {
        let mut dice = Dice::new(&Seed::from_number(1), "latency");
        let (low, high, slow) = (Duration::from_millis(2), Duration::from_millis(9), Duration::from_secs(3));
        for _ in 0..1_000 {
            let uniform = Latency::Uniform { low, high }.draw(&mut dice);
            assert!((low..=high).contains(&uniform));
            let tail = Latency::Tail { low, high, slow_per_mille: 100, slow }.draw(&mut dice);
            assert!((low..=high).contains(&tail) || tail == slow);
            assert!(Latency::LogNormal { median: high, sigma_milli: 3_000 }.draw(&mut dice) <= LONGEST);
        }
    }

    #[test]
    fn half_of_the_log_normal_delays_are_below_the_median() {
        let mut dice = Dice::new(&Seed::from_number(2), "latency");
        let median = Duration::from_millis(30);
        let model = Latency::LogNormal { median, sigma_milli: 500 };
        let below = (0..10_000).filter(|_| model.draw(&mut dice) < median).count();
        assert!((4_800..5_200).contains(&below), "{below}");
    }
}
