//! What looking at messages costs on the connections' own tasks: how much of it before other tasks get their turn, and how
//! much of it a peer may cause.
//!
//! A program may work on messages before its machine hears them ([`Prepare`](crate::driver::Prepare)), say check signatures,
//! and says what it was worth in *units* of about 50 microseconds.
//!
//! 1. After [`UNITS_A_TURN`] the task lets others go before it.
//! 2. A peer that pays for its checks has a bucket of its own, and one with all others of its address, which outlives its
//!    connections: it is paused while one of them is in debt, before the next message is looked at: [`CHECK_RATE`],
//!    [`ADDRESS_CHECK_RATE`].
//! 3. Behind a message that ends the connection nothing is looked at, and nothing is read.

use std::sync::Arc;

use offset_protocol::machine::Instant;

use super::rate::{Bucket, Rate};

/// Units before other tasks get their turn: about half a millisecond, and one message.
const UNITS_A_TURN: u32 = 8;
/// Units that a peer may cause, sustained and at once: with 64 for the longest report there is, a node has two of these a
/// second, and a minute's worth of small ones that a slow network delivered together. At most 0.7 % of a core, and 13
/// milliseconds at once.
pub(crate) const CHECK_RATE: Rate = Rate { per_s: 128, burst: 256 };
/// The same for all peers of one address: ten times as much. At most 7 % of a core, and 130 milliseconds at once.
pub(crate) const ADDRESS_CHECK_RATE: Rate = Rate { per_s: 1_280, burst: 2_560 };
/// Bytes that are decoded and hashed in a unit.
const BYTES_A_UNIT: usize = 8 * 1024;

/// Who pays for what a message cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Payer {
    /// Nobody: the peer is trusted.
    #[default]
    Nobody,
    /// The connection, for what is next to nothing but must not come without end.
    Connection,
    /// The connection and all others of its address.
    Address,
}

/// What was done with a message that was handed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Handed {
    /// What looking at it cost, in units; nothing if it was only passed on.
    pub units: u32,
    /// Who pays for that.
    pub payer: Payer,
    /// Whether the machine will close the connection for it: whatever comes behind it is of no interest.
    pub last: bool,
}

impl Handed {
    /// What a check of a signature, and of a message of this many bytes, is worth.
    pub fn units_of(bytes: usize) -> u32 {
        1 + u32::try_from(bytes / BYTES_A_UNIT).unwrap_or(u32::MAX - 1)
    }
}

/// The account of one connection.
#[derive(Debug, Default)]
pub(super) struct Checks {
    /// Since the task's turn began.
    units: u32,
    /// There is none before the peer has to pay for something.
    bucket: Option<Bucket>,
    /// Its address's, from then on.
    of_address: Option<Arc<Bucket>>,
    over: bool,
}

impl Checks {
    /// The task's turn begins.
    pub(super) fn begin_turn(&mut self) {
        self.units = 0;
    }

    /// Whether others come first.
    pub(super) fn is_turn_over(&self) -> bool {
        self.units >= UNITS_A_TURN
    }

    /// Whether nothing more is heard.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// When the next message may be looked at; `None`: now.
    pub(super) fn blocked_until(&self, now: Instant) -> Option<Instant> {
        let buckets = [self.bucket.as_ref(), self.of_address.as_deref()];
        buckets.into_iter().flatten().filter_map(|bucket| bucket.blocked_until(now)).max()
    }

    /// Counts what was done. `of_address` is asked for once.
    pub(super) fn count(&mut self, now: Instant, handed: Handed, of_address: impl FnOnce() -> Option<Arc<Bucket>>) {
        self.units = self.units.saturating_add(handed.units);
        self.over |= handed.last;
        if handed.payer == Payer::Nobody || handed.units == 0 {
            return;
        }
        self.bucket.get_or_insert_with(|| Bucket::new(CHECK_RATE, now)).take(handed.units.into());
        if handed.payer == Payer::Address {
            if self.of_address.is_none() {
                self.of_address = of_address();
            }
            if let Some(bucket) = &self.of_address {
                bucket.take(handed.units.into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use offset_protocol::machine::Duration;

    use super::super::rate::Buckets;
    use super::*;

    /// A read buffer full of small reports was checked at one go, 17 to 50 ms long.
    #[test]
    fn a_turn_is_over_after_a_few_checks_and_the_next_one_begins_anew() {
        let mut checks = Checks::default();
        let check = Handed { units: Handed::units_of(200), ..Handed::default() };
        let now = Instant::from_micros(1);
        let looked_at = (1..=340).find(|_| {
            checks.count(now, check, || None);
            checks.is_turn_over()
        });
        assert_eq!(looked_at, Some(UNITS_A_TURN));
        checks.begin_turn();
        assert!(!checks.is_turn_over());
        checks.count(now, Handed { units: Handed::units_of(500_000), ..Handed::default() }, || None);
        assert!(checks.is_turn_over(), "one large report is a turn's work");
    }

    #[test]
    fn who_pays_is_paused_and_who_does_not_is_not() {
        let (mut node, mut server) = (Checks::default(), Checks::default());
        let now = Instant::from_micros(1);
        for _ in 0..300 {
            node.count(now, Handed { units: 1, payer: Payer::Address, last: false }, || None);
            server.count(now, Handed { units: 1, ..Handed::default() }, || None);
        }
        assert_eq!(server.blocked_until(now), None);
        let until = node.blocked_until(now).unwrap();
        assert!((300..400).contains(&until.since(now).as_millis()), "44 units at 128 a second");
        assert_eq!(node.blocked_until(until), None);
        // What an honest node says at most: 120 reports at once, then two a second.
        let mut honest = Checks::default();
        for _ in 0..120 {
            honest.count(now, Handed { units: Handed::units_of(400), payer: Payer::Address, last: false }, || None);
        }
        for s in 1..600 {
            let later = now + Duration::from_secs(s);
            assert_eq!(honest.blocked_until(later), None);
            honest.count(
                later,
                Handed { units: Handed::units_of(500_000), payer: Payer::Address, last: false },
                || None,
            );
            honest.count(
                later,
                Handed { units: Handed::units_of(500_000), payer: Payer::Address, last: false },
                || None,
            );
        }
    }

    /// A new connection had a new bucket: two hundred a second, each with 256 units, were a core and more.
    #[test]
    fn an_address_pays_for_all_its_connections_also_for_those_that_ended() {
        let (now, mut buckets) = (Instant::from_micros(1), Buckets::default());
        let mut looked_at = |address: &str| {
            (0..100)
                .map(|_| {
                    let mut checks = Checks::default();
                    let mut units = 0;
                    while units < 256 && checks.blocked_until(now).is_none() {
                        let bucket = buckets.of(&address.to_owned(), ADDRESS_CHECK_RATE, now);
                        checks.count(now, Handed { units: 1, payer: Payer::Address, last: false }, || Some(bucket));
                        units += 1;
                    }
                    units
                })
                .sum::<u32>()
        };
        assert!((2_560..2_800).contains(&looked_at("here")), "ten connections' worth, and one unit of each that comes");
        assert!(looked_at("elsewhere") >= 2_560, "others have their own");
    }
}
