//! How often which value occurred, in buckets that grow with the value: at most 1/16 of a value is lost, whatever its size.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A doubling is divided into so many buckets, as a power of two. Chosen freely: within 6 % is what an eye can see.
const FINE_BITS: u32 = 4;
/// Buckets that there can be: values below `2^FINE_BITS` have one each, then each doubling has `2^FINE_BITS`.
const MOST_BUCKETS: usize = ((u64::BITS - FINE_BITS + 1) as usize) << FINE_BITS;

/// A distribution of whole numbers. Those of many runs add up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Histogram {
    count: u64,
    sum: u128,
    low: u64,
    high: u64,
    /// How many values there are in each bucket; none of those behind the last that was hit.
    #[serde(serialize_with = "write_sparse", deserialize_with = "read_sparse")]
    buckets: Vec<u64>,
}

impl Histogram {
    /// One more value.
    pub fn add(&mut self, value: u64) {
        self.add_times(value, 1);
    }

    /// A value so many times.
    pub fn add_times(&mut self, value: u64, times: u64) {
        if times == 0 {
            return;
        }
        let bucket = bucket_of(value);
        if self.buckets.len() <= bucket {
            self.buckets.resize(bucket + 1, 0);
        }
        self.buckets[bucket] = self.buckets[bucket].saturating_add(times);
        self.low = if self.count == 0 { value } else { self.low.min(value) };
        self.high = self.high.max(value);
        self.count = self.count.saturating_add(times);
        self.sum = self.sum.saturating_add(u128::from(value) * u128::from(times));
    }

    /// All values of another one.
    pub fn merge(&mut self, other: &Histogram) {
        if other.count == 0 {
            return;
        }
        if self.buckets.len() < other.buckets.len() {
            self.buckets.resize(other.buckets.len(), 0);
        }
        for (ours, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *ours = ours.saturating_add(*theirs);
        }
        self.low = if self.count == 0 { other.low } else { self.low.min(other.low) };
        self.high = self.high.max(other.high);
        self.count = self.count.saturating_add(other.count);
        self.sum = self.sum.saturating_add(other.sum);
    }

    /// How many values.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The smallest; 0 if there is none.
    pub const fn low(&self) -> u64 {
        self.low
    }

    /// The largest; 0 if there is none.
    pub const fn high(&self) -> u64 {
        self.high
    }

    /// The average, rounded down; 0 if there is none.
    pub fn mean(&self) -> u64 {
        u64::try_from(self.sum.checked_div(self.count.into()).unwrap_or(0)).unwrap_or(u64::MAX)
    }

    /// The average in thousandths, rounded down; 0 if there is none.
    pub fn mean_milli(&self) -> u64 {
        let milli = self.sum.saturating_mul(1_000).checked_div(self.count.into()).unwrap_or(0);
        u64::try_from(milli).unwrap_or(u64::MAX)
    }

    /// The value that `per_mille` of all values do not exceed, as exact as the buckets are; 0 if there is none.
    pub fn quantile(&self, per_mille: u64) -> u64 {
        let wanted = (u128::from(self.count) * u128::from(per_mille)).div_ceil(1_000).max(1);
        let mut seen = 0u128;
        for (bucket, times) in self.buckets.iter().enumerate() {
            seen += u128::from(*times);
            if seen >= wanted {
                return highest_of(bucket).min(self.high).max(self.low);
            }
        }
        self.high
    }

    /// The buckets that were hit: lowest value, highest value, how often.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64, u64)> {
        let all = self.buckets.iter().enumerate().filter(|(_, times)| **times > 0);
        all.map(|(bucket, times)| (lowest_of(bucket), highest_of(bucket), *times))
    }
}

const fn bucket_of(value: u64) -> usize {
    if value < 1 << FINE_BITS {
        return value as usize;
    }
    let coarse = value.ilog2() - FINE_BITS;
    (((coarse + 1) as usize) << FINE_BITS) + ((value >> coarse) as usize - (1 << FINE_BITS))
}

const fn lowest_of(bucket: usize) -> u64 {
    let (doubling, fine) = (bucket >> FINE_BITS, (bucket & ((1 << FINE_BITS) - 1)) as u64);
    if doubling == 0 { fine } else { ((1 << FINE_BITS) + fine) << (doubling - 1) }
}

const fn highest_of(bucket: usize) -> u64 {
    if bucket + 1 >= MOST_BUCKETS { u64::MAX } else { lowest_of(bucket + 1) - 1 }
}

/// As pairs of a bucket's number and how often it was hit.
fn write_sparse<S: Serializer>(buckets: &[u64], serializer: S) -> Result<S::Ok, S::Error> {
    let hit = buckets.iter().enumerate().filter(|(_, times)| **times > 0);
    serializer.collect_seq(hit.map(|(bucket, times)| (bucket as u32, *times)))
}

fn read_sparse<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u64>, D::Error> {
    let mut buckets = Vec::new();
    for (bucket, times) in Vec::<(u32, u64)>::deserialize(deserializer)? {
        let bucket = bucket as usize;
        if bucket >= MOST_BUCKETS {
            return Err(serde::de::Error::custom(format!("there is no bucket {bucket}")));
        }
        if buckets.len() <= bucket {
            buckets.resize(bucket + 1, 0);
        }
        buckets[bucket] = times;
    }
    Ok(buckets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_value_lies_in_its_bucket_and_buckets_are_narrow(value: u64) {
            let bucket = bucket_of(value);
            prop_assert!(bucket < MOST_BUCKETS);
            let (low, high) = (lowest_of(bucket), highest_of(bucket));
            prop_assert!(low <= value && value <= high);
            prop_assert!(high - low <= low / 16);
        }

        #[test]
        fn histograms_of_two_halves_add_up_to_that_of_the_whole(values: Vec<u64>, at: prop::sample::Index) {
            let middle = if values.is_empty() { 0 } else { at.index(values.len()) };
            let of = |values: &[u64]| {
                let mut histogram = Histogram::default();
                values.iter().for_each(|value| histogram.add(*value));
                histogram
            };
            let mut sum = of(&values[..middle]);
            sum.merge(&of(&values[middle..]));
            prop_assert_eq!(&sum, &of(&values));
            let text = serde_json::to_string(&sum).unwrap();
            prop_assert_eq!(serde_json::from_str::<Histogram>(&text).unwrap(), sum);
        }
    }

    #[test]
    fn quantiles_are_right_within_a_bucket() {
        let mut histogram = Histogram::default();
        assert_eq!((histogram.quantile(500), histogram.mean()), (0, 0));
        (1..=10_000).for_each(|value| histogram.add(value));
        for (per_mille, exact) in [(500, 5_000), (990, 9_900), (1_000, 10_000)] {
            let told = histogram.quantile(per_mille);
            assert!(told >= exact && told <= exact + exact / 16, "{told} for {exact}");
        }
        assert_eq!((histogram.low(), histogram.high(), histogram.mean()), (1, 10_000, 5_000));
    }

    #[test]
    fn a_bucket_that_cannot_be_is_refused() {
        let text = r#"{"count":1,"sum":1,"low":1,"high":1,"buckets":[[999999999,1]]}"#;
        assert!(serde_json::from_str::<Histogram>(text).is_err());
    }
}
