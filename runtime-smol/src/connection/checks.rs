//! What looking at messages costs on the connections' own tasks: how much of it before other tasks get their turn, and how
//! much of it a peer may cause.
//!
//! A program may work on messages before its machine hears them ([`Prepare`](crate::driver::Prepare)), say check signatures,
//! and says what it was worth in *units* of about 50 microseconds.
//!
//! 1. After [`UNITS_A_TURN`] the task lets others go before it.
//! 2. A peer that pays for its checks has a bucket of its own, and is paused while it is in debt, before the next message is
//!    looked at: [`CHECK_RATE`].
//! 3. Behind a message that ends the connection nothing is looked at, and nothing is read.

use offset_protocol::machine::Instant;

use super::rate::{Bucket, Rate};

/// Units before other tasks get their turn: about half a millisecond, and one message.
const UNITS_A_TURN: u32 = 8;
/// Units that a peer may cause, sustained and at once: with 64 for the longest report there is, a node has two of these a
/// second, and a minute's worth of small ones that a slow network delivered together. At most 0.7 % of a core, and 13
/// milliseconds at once.
pub(crate) const CHECK_RATE: Rate = Rate { per_s: 128, burst: 256 };
/// Bytes that are decoded and hashed in a unit.
const BYTES_A_UNIT: usize = 8 * 1024;

/// What was done with a message that was handed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Handed {
    /// What looking at it cost, in units; nothing if it was only passed on.
    pub units: u32,
    /// Whether the peer pays for that.
    pub by_peer: bool,
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
        self.bucket.as_ref().and_then(|bucket| bucket.blocked_until(now))
    }

    pub(super) fn count(&mut self, now: Instant, handed: Handed) {
        self.units = self.units.saturating_add(handed.units);
        self.over |= handed.last;
        if handed.by_peer && handed.units > 0 {
            self.bucket.get_or_insert_with(|| Bucket::new(CHECK_RATE, now)).take(handed.units.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use offset_protocol::machine::Duration;

    use super::*;

    /// A read buffer full of small reports was checked at one go, 17 to 50 ms long.
    #[test]
    fn a_turn_is_over_after_a_few_checks_and_the_next_one_begins_anew() {
        let mut checks = Checks::default();
        let check = Handed { units: Handed::units_of(200), ..Handed::default() };
        let now = Instant::from_micros(1);
        let looked_at = (1..=340).find(|_| {
            checks.count(now, check);
            checks.is_turn_over()
        });
        assert_eq!(looked_at, Some(UNITS_A_TURN));
        checks.begin_turn();
        assert!(!checks.is_turn_over());
        checks.count(now, Handed { units: Handed::units_of(500_000), ..Handed::default() });
        assert!(checks.is_turn_over(), "one large report is a turn's work");
    }

    #[test]
    fn who_pays_is_paused_and_who_does_not_is_not() {
        let (mut node, mut server) = (Checks::default(), Checks::default());
        let now = Instant::from_micros(1);
        for _ in 0..300 {
            node.count(now, Handed { units: 1, by_peer: true, last: false });
            server.count(now, Handed { units: 1, ..Handed::default() });
        }
        assert_eq!(server.blocked_until(now), None);
        let until = node.blocked_until(now).unwrap();
        assert!((300..400).contains(&until.since(now).as_millis()), "44 units at 128 a second");
        assert_eq!(node.blocked_until(until), None);
        // What an honest node says at most: 120 reports at once, then two a second.
        let mut honest = Checks::default();
        for _ in 0..120 {
            honest.count(now, Handed { units: Handed::units_of(400), by_peer: true, last: false });
        }
        for s in 1..600 {
            let later = now + Duration::from_secs(s);
            assert_eq!(honest.blocked_until(later), None);
            honest.count(later, Handed { units: Handed::units_of(500_000), by_peer: true, last: false });
            honest.count(later, Handed { units: Handed::units_of(500_000), by_peer: true, last: false });
        }
    }
}
