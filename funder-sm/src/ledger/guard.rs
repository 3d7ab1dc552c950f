//! What requests may hold that a node only passes on: the freeze guard (SPEC 9.12).
//!
//! No request ever expires, so whoever pays a seller that stays silent freezes a part of every line on the way, for as long
//! as it likes. Nobody can take that back; so a node decides how much of a line strangers may hold *before* it accepts.
//! What a friend may push to us while nothing is open is its *line*: our limit for it, less what it owes us already.
//!
//! | of one friend, in one currency | requests that go on from here hold at most |
//! |---|---|
//! | credit | [`FULL_SHARE`] of the line |
//! | number | [`PLACES`] |
//! | credit × time | what [`FULL_SHARE`] holds above [`LASTING_SHARE`] in [`PATIENCE`]; that refills while less than [`LASTING_SHARE`] is held. Used up, only [`LASTING_SHARE`] of credit is left to new requests until it is full again |
//!
//! The rest of the line is for what ends here. The limit is kept by the end that receives, because it alone knows the line.
//! Requests that end here, and those that a node makes itself, are not limited by it.
//!
//! Not checked: how much of what one friend may push is held by requests of another; every friend has a line of its own.

use offset_protocol::limits::MAX_PENDING;
use offset_protocol::machine::{Duration, Instant};

/// One part in so many of a line, and of the places on it, that requests of others may hold. Chosen by measuring: a half costs
/// payments less and lets an attacker with three friends block a quarter of a node with four; a quarter costs large payments
/// twice as much (`BENCHMARKS.md`).
pub const FULL_SHARE: u128 = 3;
/// One part in so many that they may hold for good.
pub const LASTING_SHARE: u128 = 6;
/// Of the places for requests of one friend, in one currency, so many are for those that go on from here. Whoever sends them
/// knows the number: a node passes on fewer, so that its own can still go on
/// ([`OWN_ONWARD`](crate::friend_channel::OWN_ONWARD)).
pub const PLACES: usize = MAX_PENDING / FULL_SHARE as usize;
/// How long requests of others may hold all of [`FULL_SHARE`]. A payment takes seconds; chosen freely.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How much of a line requests may hold that go on from here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Allowance {
    /// [`FULL_SHARE`].
    #[default]
    Full,
    /// [`LASTING_SHARE`]: too much was held for too long.
    Lasting,
}

impl Allowance {
    const fn share(self) -> u128 {
        match self {
            Allowance::Full => FULL_SHARE,
            Allowance::Lasting => LASTING_SHARE,
        }
    }

    /// What may be held of a line. Rounded up, so that a line of one unit is of use.
    pub const fn of(self, line: u128) -> u128 {
        line.div_ceil(self.share())
    }
}

/// What requests that go on from here hold now, and the line that they hold it of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// What they freeze.
    pub frozen: u128,
    /// What the friend may push while nothing is open.
    pub line: u128,
}

impl Held {
    fn lasting(&self) -> u128 {
        Allowance::Lasting.of(self.line)
    }

    /// How much credit × time may be held above what may be held for good.
    fn budget(&self) -> u128 {
        let above = Allowance::Full.of(self.line).saturating_sub(self.lasting());
        above.saturating_mul(PATIENCE.as_micros().into())
    }
}

/// The credit × time that requests of one friend have held in one currency, in units times microseconds: a bucket that fills
/// with what is held above the lasting share, and empties with what is left of that share.
///
/// Not stored: a clock begins anew with each process. After a restart with open requests the bucket counts as full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Strain {
    spent: u128,
    /// As of when; `None` until the clock of this process is known.
    at: Option<Instant>,
    allowance: Allowance,
}

impl Strain {
    /// Nothing was held before now.
    pub fn begin(now: Instant) -> Strain {
        Strain { at: Some(now), ..Strain::default() }
    }

    /// Nobody knows for how long was held what is held.
    pub const fn unknown() -> Strain {
        Strain { spent: u128::MAX, at: None, allowance: Allowance::Lasting }
    }

    /// What new requests may hold.
    pub const fn allowance(&self) -> Allowance {
        self.allowance
    }

    /// Brings the bucket up to now, `held` having been held since it was brought up last. Says whether it is of use still:
    /// one that is empty, with nothing held, is not.
    #[must_use]
    pub fn settle(&mut self, now: Instant, held: &Held) -> bool {
        let passed = u128::from(self.at.map_or(Duration::ZERO, |at| now.since(at)).as_micros());
        let (lasting, budget) = (held.lasting(), held.budget());
        let filled = held.frozen.saturating_sub(lasting).saturating_mul(passed);
        let emptied = lasting.saturating_sub(held.frozen).saturating_mul(passed);
        // Saturating is exact: a budget is far below the largest number.
        self.spent = self.spent.min(budget).saturating_add(filled).saturating_sub(emptied).min(budget);
        self.at = self.at.max(Some(now));
        if self.spent == 0 && held.frozen <= lasting {
            self.allowance = Allowance::Full;
        } else if self.spent == budget {
            self.allowance = Allowance::Lasting;
        }
        held.frozen > 0 || self.spent > 0
    }

    /// When the allowance changes if nothing else does.
    pub fn next_change(&self, held: &Held) -> Option<Instant> {
        let (lasting, at) = (held.lasting(), self.at?);
        let (left, speed) = match self.allowance {
            Allowance::Full => (held.budget().saturating_sub(self.spent), held.frozen.saturating_sub(lasting)),
            Allowance::Lasting => (self.spent, lasting.saturating_sub(held.frozen)),
        };
        let wait = (speed > 0).then(|| left.div_ceil(speed))?;
        Some(at + Duration::from_micros(u64::try_from(wait.max(1)).ok()?))
    }
}
