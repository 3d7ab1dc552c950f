//! What a runner tells while it runs.
//!
//! | call | when |
//! |---|---|
//! | [`Recorder::order`] | a payment is ordered |
//! | [`Recorder::ended`] | a payment has ended, at its buyer |
//! | [`Recorder::fault`] | a fault struck |
//! | [`Recorder::sample`] | now and then: how the world stands. A simulated second apart is enough |
//! | [`Recorder::hit`] | now and then, if there are cheaters: what they freeze of an honest node's room |
//! | [`Recorder::relay`], [`Recorder::count`], [`Recorder::trick`], [`Recorder::noticed`], [`Recorder::marks`] | at the end |

use std::collections::BTreeMap;
use std::sync::Arc;

use offset_protocol::machine::{Duration, Instant};
use serde::{Deserialize, Serialize};

use super::histogram::Histogram;
use super::live::{Live, Tell};
use super::series::{Sample, Series};
use crate::faults::Family;

/// Names of one kind that are kept apart; what comes later is counted under [`OTHERS`]. Chosen freely.
const MOST_NAMES: usize = 200;
/// The busiest relays are kept, so many of them. Chosen freely: more than a table shows.
const MOST_RELAYS: usize = 1_000;
/// The name of what has no room under its own.
const OTHERS: &str = "others";

/// How a payment ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Since it was ordered.
    pub latency: Duration,
    /// How often the buyer tried.
    pub attempts: u32,
    /// Friendships on the route that it took; 0 if it is not known.
    pub hops: u32,
    /// What the mediators got.
    pub fee: u128,
    /// What it came to.
    pub end: End,
}

/// What a payment came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Paid.
    Paid,
    /// Not paid, with the reason.
    Failed(String),
}

/// How many payments came to what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Payments {
    /// Ordered.
    pub ordered: u64,
    /// Paid.
    pub paid: u64,
    /// Not paid, by reason.
    pub failed: BTreeMap<String, u64>,
    /// Ordered by or from cheaters: in none of the numbers above, because it is the cheaters who decide what becomes of them.
    #[serde(default)]
    pub with_cheaters: u64,
}

/// The honest node that cheaters hit hardest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hit {
    /// Of what it could pay over its honest friends, or be paid, on average of the two, so many in a thousand were frozen one
    /// way by requests of cheaters.
    pub frozen_per_mille: u64,
    /// The node's number.
    pub node: u32,
}

impl Payments {
    /// All that were not paid.
    pub fn all_failed(&self) -> u64 {
        self.failed.values().sum()
    }

    /// Those that have not ended.
    pub fn open(&self) -> u64 {
        self.ordered.saturating_sub(self.paid + self.all_failed())
    }

    /// How many in a thousand of those that ended were paid; `None` if none ended.
    pub fn success_per_mille(&self) -> Option<u64> {
        (1_000 * self.paid).checked_div(self.paid + self.all_failed())
    }
}

/// What was told. Records of many runs add up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// What payments came to.
    pub payments: Payments,
    /// From the order to the end of payments that were paid, in microseconds.
    pub latency_us: Histogram,
    /// How often buyers tried, of payments that ended.
    pub attempts: Histogram,
    /// Friendships on the routes of payments that were paid.
    pub hops: Histogram,
    /// What mediators got, of payments that were paid.
    pub fees: Histogram,
    /// Over simulated time.
    pub series: Series,
    /// Faults that struck, by family.
    pub faults: BTreeMap<Family, u64>,
    /// How often cheaters played each trick.
    #[serde(default)]
    pub tricks: BTreeMap<String, u64>,
    /// What the honest noticed of it.
    #[serde(default)]
    pub noticed: BTreeMap<String, u64>,
    /// Whom cheaters hit hardest at any moment, if there were any.
    #[serde(default)]
    pub hardest_hit: Option<Hit>,
    /// How often each mark was reached, those never reached included.
    pub marks: BTreeMap<String, u64>,
    /// Bytes that went through the busiest relays, by their number.
    pub relays: BTreeMap<u32, u64>,
    /// Whatever else was counted, by name.
    pub counts: BTreeMap<String, u64>,
}

impl Record {
    /// Adds another run's.
    pub fn merge(&mut self, other: &Record) {
        self.payments.ordered += other.payments.ordered;
        self.payments.paid += other.payments.paid;
        self.payments.with_cheaters += other.payments.with_cheaters;
        other.payments.failed.iter().for_each(|(why, times)| add_named(&mut self.payments.failed, why, *times));
        self.latency_us.merge(&other.latency_us);
        self.attempts.merge(&other.attempts);
        self.hops.merge(&other.hops);
        self.fees.merge(&other.fees);
        self.series.merge(&other.series);
        for (family, times) in &other.faults {
            *self.faults.entry(*family).or_default() += times;
        }
        other.tricks.iter().for_each(|(trick, times)| add_named(&mut self.tricks, trick, *times));
        other.noticed.iter().for_each(|(what, times)| add_named(&mut self.noticed, what, *times));
        self.hardest_hit = self.hardest_hit.max(other.hardest_hit);
        for (mark, times) in &other.marks {
            *self.marks.entry(mark.clone()).or_default() += times;
        }
        for (relay, bytes) in &other.relays {
            *self.relays.entry(*relay).or_default() += bytes;
        }
        self.keep_busiest_relays();
        other.counts.iter().for_each(|(name, count)| add_named(&mut self.counts, name, *count));
    }

    /// Faults of all families.
    pub fn all_faults(&self) -> u64 {
        self.faults.values().sum()
    }

    /// Marks that were never reached.
    pub fn marks_unreached(&self) -> impl Iterator<Item = &str> {
        self.marks.iter().filter(|(_, times)| **times == 0).map(|(mark, _)| mark.as_str())
    }

    fn keep_busiest_relays(&mut self) {
        if self.relays.len() > MOST_RELAYS {
            let mut all: Vec<(u32, u64)> = self.relays.iter().map(|(relay, bytes)| (*relay, *bytes)).collect();
            all.sort_by_key(|(relay, bytes)| (std::cmp::Reverse(*bytes), *relay));
            self.relays = all.into_iter().take(MOST_RELAYS).collect();
        }
    }
}

/// Gathers what a runner tells. See the module.
#[derive(Clone, Debug, Default)]
pub struct Recorder {
    record: Record,
    events: u64,
    live: Option<Arc<Live>>,
}

impl Recorder {
    /// A recorder that also tells how far the run is.
    pub fn watched(live: Arc<Live>) -> Self {
        Recorder { live: Some(live), ..Recorder::default() }
    }

    fn tell(&self, at: Instant, what: Tell) {
        if let Some(live) = &self.live {
            live.tell(at, what);
        }
    }

    /// A payment is ordered.
    pub fn order(&mut self, at: Instant) {
        self.record.payments.ordered += 1;
        self.record.series.at(at).ordered += 1;
        self.tell(at, Tell::Ordered);
    }

    /// A payment is ordered by or from a cheater. Its end is not told.
    pub fn order_with_cheater(&mut self) {
        self.record.payments.with_cheaters += 1;
    }

    /// So much of an honest node's room is frozen by cheaters now.
    pub fn hit(&mut self, hit: Hit) {
        self.record.hardest_hit = self.record.hardest_hit.max(Some(hit));
    }

    /// Cheaters played a trick so many times more.
    pub fn trick(&mut self, trick: &str, times: u64) {
        add_named(&mut self.record.tricks, trick, times);
    }

    /// The honest noticed something so many times more.
    pub fn noticed(&mut self, what: &str, times: u64) {
        add_named(&mut self.record.noticed, what, times);
    }

    /// A payment has ended.
    pub fn ended(&mut self, at: Instant, ended: Ended) {
        let Ended { latency, attempts, hops, fee, end } = ended;
        let record = &mut self.record;
        record.attempts.add(attempts.into());
        match end {
            End::Paid => {
                record.payments.paid += 1;
                record.latency_us.add(latency.as_micros());
                if hops > 0 {
                    record.hops.add(hops.into());
                }
                record.fees.add(u64::try_from(fee).unwrap_or(u64::MAX));
                record.series.at(at).paid += 1;
                self.tell(at, Tell::Paid);
            }
            End::Failed(why) => {
                add_named(&mut record.payments.failed, &why, 1);
                record.series.at(at).failed += 1;
                self.tell(at, Tell::Failed);
            }
        }
    }

    /// A fault struck.
    pub fn fault(&mut self, at: Instant, family: Family) {
        *self.record.faults.entry(family).or_default() += 1;
        self.record.series.at(at).struck += 1;
        self.tell(at, Tell::Fault);
    }

    /// How the world stands.
    pub fn sample(&mut self, at: Instant, sample: Sample) {
        let events = sample.events.saturating_sub(self.events);
        self.events = sample.events.max(self.events);
        self.record.series.look(at, &sample, events);
        self.tell(at, Tell::Events(self.events));
    }

    /// So many more bytes went through a relay.
    pub fn relay(&mut self, relay: u32, bytes: u64) {
        *self.record.relays.entry(relay).or_default() += bytes;
    }

    /// So many more of something, under a name that all runs give it ("bytes sent", "crashes").
    pub fn count(&mut self, name: &str, count: u64) {
        add_named(&mut self.record.counts, name, count);
    }

    /// Marks that were reached, as [`crate::marks::take`] gives them.
    pub fn marks(&mut self, reached: Vec<(&'static str, u64)>) {
        for (mark, times) in reached {
            *self.record.marks.entry(mark.to_owned()).or_default() += times;
        }
    }

    /// What was told so far.
    pub const fn record(&self) -> &Record {
        &self.record
    }

    /// What was told.
    pub fn finish(mut self) -> Record {
        self.record.keep_busiest_relays();
        self.record
    }
}

fn add_named(named: &mut BTreeMap<String, u64>, name: &str, times: u64) {
    let name = if named.contains_key(name) || named.len() < MOST_NAMES { name } else { OTHERS };
    *named.entry(name.to_owned()).or_default() += times;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(payments: u64) -> Record {
        let mut recorder = Recorder::default();
        for n in 0..payments {
            let at = Instant::from_micros(n * 1_000_000);
            recorder.order(at);
            let end = match n % 3 {
                0 => End::Paid,
                1 => End::Failed("no route".to_owned()),
                _ => continue,
            };
            recorder.ended(at, Ended { latency: Duration::from_millis(n), attempts: 2, hops: 3, fee: 1, end });
            recorder.fault(at, Family::Cut);
            recorder.sample(at, Sample { events: 10 * n, ..Sample::default() });
        }
        recorder.relay(1, 100);
        recorder.count("crashes", 4);
        recorder.marks(vec![("reached", 1), ("never", 0)]);
        recorder.finish()
    }

    #[test]
    fn what_is_told_is_counted() {
        let record = record(9);
        assert_eq!((record.payments.ordered, record.payments.paid, record.payments.all_failed()), (9, 3, 3));
        assert_eq!((record.payments.open(), record.payments.success_per_mille()), (3, Some(500)));
        assert_eq!((record.latency_us.count(), record.attempts.count(), record.hops.mean()), (3, 6, 3));
        assert_eq!(record.all_faults(), 6);
        assert_eq!(record.series.slices().iter().map(|slice| slice.events).sum::<u64>(), 70);
        assert_eq!(record.marks_unreached().collect::<Vec<_>>(), ["never"]);
    }

    #[test]
    fn who_looks_on_sees_how_far_it_is() {
        let live = Arc::new(Live::default());
        let mut recorder = Recorder::watched(Arc::clone(&live));
        recorder.order(Instant::from_micros(5));
        recorder.fault(Instant::from_micros(7), Family::Cut);
        recorder.sample(Instant::from_micros(9), Sample { events: 44, ..Sample::default() });
        let look = live.look();
        assert_eq!((look.now.as_micros(), look.events, look.ordered, look.faults), (9, 44, 1, 1));
    }

    #[test]
    fn records_add_up() {
        let mut both = record(9);
        let mut other = record(30);
        other.hardest_hit = Some(Hit { frozen_per_mille: 70, node: 2 });
        both.merge(&other);
        assert_eq!(both.hardest_hit.map(|hit| hit.node), Some(2));
        assert_eq!((both.payments.ordered, both.payments.paid), (39, 13));
        assert_eq!((both.relays[&1], both.counts["crashes"], both.marks["reached"]), (200, 8, 2));
    }

    #[test]
    fn names_are_limited_in_number() {
        let mut recorder = Recorder::default();
        for n in 0..10 * MOST_NAMES {
            recorder.count(&format!("{n}"), 1);
        }
        let record = recorder.finish();
        assert_eq!(record.counts.len(), MOST_NAMES + 1);
        assert_eq!(record.counts.values().sum::<u64>(), 10 * MOST_NAMES as u64);
    }
}
