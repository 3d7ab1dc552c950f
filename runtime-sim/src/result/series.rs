//! What happened over simulated time, in at most [`MAX_SLICES`] slices: a run that lasts longer gets wider ones.

use offset_protocol::machine::{Duration, Instant};
use serde::{Deserialize, Serialize};

/// A series never has more slices. Chosen freely: about as many as a chart has room for.
pub const MAX_SLICES: usize = 256;
/// How wide slices are at first.
const FIRST_WIDTH: Duration = Duration::from_secs(1);

/// How the world stands at one moment. All of it together, over all nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Faults that last and have not been mended.
    pub faults_active: u64,
    /// Credit that is frozen in open requests, in units of all currencies.
    pub frozen: u128,
    /// Requests that are open.
    pub open: u64,
    /// Directions of friendships, in a thousand, in which less than a tenth of what was granted is left.
    pub saturated_per_mille: u64,
    /// Of what honest friends could pass to each other, so many in a thousand are frozen by requests of cheaters.
    pub frozen_by_cheaters_per_mille: u64,
    /// Reports that some index server does not have, or has in an older state.
    pub index_behind: u64,
    /// Events of the queue so far.
    pub events: u64,
}

/// A number that is looked at now and then. Of several runs together: over all of their looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gauge {
    /// Of all looks.
    pub sum: u128,
    /// How many looks.
    pub looks: u64,
    /// The largest.
    pub high: u128,
}

impl Gauge {
    fn look(&mut self, value: u128) {
        self.merge(&Gauge { sum: value, looks: 1, high: value });
    }

    fn merge(&mut self, other: &Gauge) {
        self.sum = self.sum.saturating_add(other.sum);
        self.looks += other.looks;
        self.high = self.high.max(other.high);
    }

    /// The average, rounded down; `None` if nobody looked.
    pub fn mean(&self) -> Option<u128> {
        self.sum.checked_div(self.looks.into())
    }
}

/// What happened within one slice of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slice {
    /// Payments that were ordered.
    pub ordered: u64,
    /// Payments that ended paid.
    pub paid: u64,
    /// Payments that ended otherwise.
    pub failed: u64,
    /// Faults that struck.
    pub struck: u64,
    /// Events of the queue.
    pub events: u64,
    /// See [`Sample::faults_active`].
    pub faults_active: Gauge,
    /// See [`Sample::frozen`].
    pub frozen: Gauge,
    /// See [`Sample::open`].
    pub open: Gauge,
    /// See [`Sample::saturated_per_mille`].
    pub saturated_per_mille: Gauge,
    /// See [`Sample::frozen_by_cheaters_per_mille`].
    #[serde(default)]
    pub frozen_by_cheaters_per_mille: Gauge,
    /// See [`Sample::index_behind`].
    pub index_behind: Gauge,
}

impl Slice {
    fn merge(&mut self, other: &Slice) {
        self.ordered += other.ordered;
        self.paid += other.paid;
        self.failed += other.failed;
        self.struck += other.struck;
        self.events += other.events;
        self.faults_active.merge(&other.faults_active);
        self.frozen.merge(&other.frozen);
        self.open.merge(&other.open);
        self.saturated_per_mille.merge(&other.saturated_per_mille);
        self.frozen_by_cheaters_per_mille.merge(&other.frozen_by_cheaters_per_mille);
        self.index_behind.merge(&other.index_behind);
    }

    /// How many in a thousand of the payments that ended here were paid; `None` if none ended.
    pub fn success_per_mille(&self) -> Option<u64> {
        (1_000 * self.paid).checked_div(self.paid + self.failed)
    }
}

/// Slices of one width, from the beginning of the world on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Series {
    width: Duration,
    slices: Vec<Slice>,
}

impl Default for Series {
    fn default() -> Self {
        Series { width: FIRST_WIDTH, slices: Vec::new() }
    }
}

impl Series {
    /// How wide a slice is.
    pub const fn width(&self) -> Duration {
        self.width
    }

    /// The slices, from the beginning on.
    pub fn slices(&self) -> &[Slice] {
        &self.slices
    }

    /// The slice of a moment.
    pub(super) fn at(&mut self, at: Instant) -> &mut Slice {
        while self.place(at) >= MAX_SLICES {
            self.widen();
        }
        let place = self.place(at);
        if self.slices.len() <= place {
            self.slices.resize(place + 1, Slice::default());
        }
        &mut self.slices[place]
    }

    /// A look at the world; `events` are those since the last look.
    pub(super) fn look(&mut self, at: Instant, sample: &Sample, events: u64) {
        let slice = self.at(at);
        slice.events += events;
        slice.faults_active.look(sample.faults_active.into());
        slice.frozen.look(sample.frozen);
        slice.open.look(sample.open.into());
        slice.saturated_per_mille.look(sample.saturated_per_mille.into());
        slice.frozen_by_cheaters_per_mille.look(sample.frozen_by_cheaters_per_mille.into());
        slice.index_behind.look(sample.index_behind.into());
    }

    /// Adds another run's, moment by moment.
    pub fn merge(&mut self, other: &Series) {
        while self.width < other.width {
            self.widen();
        }
        for (n, slice) in other.slices.iter().enumerate() {
            let begins = Instant::from_micros(other.width.as_micros().saturating_mul(n as u64));
            self.at(begins).merge(slice);
        }
    }

    fn place(&self, at: Instant) -> usize {
        (at.as_micros() / self.width.as_micros().max(1)) as usize
    }

    /// Slices of twice the width.
    fn widen(&mut self) {
        self.width = Duration::from_micros(self.width.as_micros().saturating_mul(2).max(1));
        let halves = std::mem::take(&mut self.slices);
        self.slices.extend(halves.chunks(2).map(|pair| {
            let mut whole = Slice::default();
            pair.iter().for_each(|half| whole.merge(half));
            whole
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> Instant {
        Instant::from_micros(s * 1_000_000)
    }

    #[test]
    fn a_long_run_gets_wider_slices_and_loses_nothing() {
        let mut series = Series::default();
        for s in 0..100_000 {
            series.at(at(s)).ordered += 1;
        }
        assert!(series.slices().len() <= MAX_SLICES);
        assert_eq!(series.width(), Duration::from_secs(512));
        assert_eq!(series.slices().iter().map(|slice| slice.ordered).sum::<u64>(), 100_000);
        assert!(series.slices()[..190].iter().all(|slice| slice.ordered == 512));
    }

    #[test]
    fn series_of_different_widths_add_up() {
        let (mut short, mut long) = (Series::default(), Series::default());
        for s in 0..60 {
            short.at(at(s)).paid += 1;
        }
        for s in 0..1_000 {
            long.look(at(s), &Sample { frozen: s.into(), ..Sample::default() }, 3);
        }
        let mut both = short.clone();
        both.merge(&long);
        long.merge(&short);
        assert_eq!(both, long);
        let paid: u64 = both.slices().iter().map(|slice| slice.paid).sum();
        let events: u64 = both.slices().iter().map(|slice| slice.events).sum();
        assert_eq!((paid, events), (60, 3_000));
        let last = both.slices()[both.slices().len() - 1].frozen;
        assert_eq!(last.high, 999);
        assert!(last.mean().unwrap() > 990);
    }
}
