//! What requests of others may hold of a line: the freeze guard (SPEC 9.12).
//!
//! No request ever expires, so whoever pays a seller that stays silent freezes a part of every line on the way, for as long
//! as it likes. Nobody can take that back; so it is decided *before* how much of a line strangers may hold. What a friend may
//! push while nothing is open is its *line*: the limit for it, less what it owes already.
//!
//! | kept by | of requests that go on from a line's end | credit | number |
//! |---|---|---|---|
//! | that end, which accepts them | all of them | [`ONWARD_TWELFTHS`] of the line | [`PLACES`] |
//! | the end that sends them | when it passes one on: all, its own too | [`FULL_SHARE`] | [`OTHERS_PLACES`] |
//! | the same, over time | the same | [`LASTING_SHARE`], once what [`FULL_SHARE`] holds above that was held for [`PATIENCE`], until as much has been free again | |
//!
//! What the two ends' rules differ by is kept for the sender's own payments that go on from its friend, whatever others hold that
//! go on from there, and for how long; while the line is as long as it was, and what ends at the friend leaves it free. Only
//! the sender knows which are its own, and nobody else need know: so it is the sender that bounds others,
//! and the rule about time is its rule alone; kept by the other end as well, it would take the sender's part with the rest. The
//! receiving end keeps the rest of the line for what ends there.
//!
//! The sender knows the line because the friend tells its limit, and tells the friend in turn which of its two shares it keeps to
//! ([`Limits`](offset_protocol::friend::FriendMessage::Limits)): the friend says what strangers should be offered ([`offered`]).
//!
//! Not checked: how much of what one friend may push is held by requests of another; every friend has a line of its own.

use offset_protocol::limits::MAX_PENDING;
use offset_protocol::machine::{Duration, Instant};

/// Of a line, and of the places on it, so many twelfths requests may hold that go on from it. An attacker fills its own lines this
/// far, whatever others keep to.
pub const ONWARD_TWELFTHS: u128 = 5;
/// One part in so many of a line, and of the places on it, up to which requests of others are passed on. Chosen by measuring: what
/// it is less than [`ONWARD_TWELFTHS`] by, a twelfth, is kept for the sender (`BENCHMARKS.md`).
pub const FULL_SHARE: u128 = 3;
/// One part in so many that they may hold for good.
pub const LASTING_SHARE: u128 = 6;
/// Of the places for requests of one friend, in one currency, so many are for those that go on from here.
pub const PLACES: usize = MAX_PENDING * ONWARD_TWELFTHS as usize / 12;
/// Up to so many of them others' are passed on: thousands that nobody answers leave a node its own way beyond the friend.
pub const OTHERS_PLACES: usize = MAX_PENDING / FULL_SHARE as usize;
/// Of [`MAX_PENDING`], so many are not for requests of others, wherever those end: whoever makes requests that nobody answers
/// keeps a node from forwarding, never from paying. Chosen freely.
pub const OWN_REQUESTS: usize = 256;
/// How long requests of others may hold all of [`FULL_SHARE`]. A payment takes seconds; chosen freely.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What requests may hold of a line that go on from it, whosever they are. Rounded up, so that a line of one unit is of use.
pub const fn onward(line: u128) -> u128 {
    line / 12 * ONWARD_TWELFTHS + (line % 12 * ONWARD_TWELFTHS).div_ceil(12)
}

/// What is said of a line of which requests that go on hold `held`: what its sender would pass on for others; if that is less,
/// what is kept for the sender, who is offered no other way to use it.
///
/// `allowance` is `None` where the sender passes on nothing for others any more.
pub fn offered(held: &Held, allowance: Option<Allowance>) -> u128 {
    let line = held.line;
    let kept = onward(line).saturating_sub(Allowance::Full.of(line));
    let others = allowance.map_or(0, |allowance| allowance.of(line)).saturating_sub(held.frozen);
    others.max(kept).min(onward(line).saturating_sub(held.frozen))
}

/// Up to which part of a line requests of others are passed on.
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

/// What requests that go on from a line hold of it now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// What they freeze.
    pub frozen: u128,
    /// What may be pushed over it while nothing is open.
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

/// The credit × time that requests have held of one line, in one direction and currency, in units times microseconds: a bucket
/// that fills with what is held above the lasting share, and empties with what is left of that share.
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

    /// Up to what others' are passed on.
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
