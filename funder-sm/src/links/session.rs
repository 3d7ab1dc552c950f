//! One session with a friend, and how long a friend that misbehaved is not heard.

use std::ops::RangeInclusive;

use offset_protocol::bytes::PublicKey;
use offset_protocol::channel::SecureChannel;
use offset_protocol::machine::Instant;
use offset_relay_sm::client::{Direction, FIRST_WAIT, LONGEST_WAIT, STABLE_AFTER};

/// A tunnel with a secure channel inside.
pub(super) struct Session {
    pub(super) friend: PublicKey,
    pub(super) slot: Slot,
    /// Since when it is what it is: a tunnel; later the link.
    pub(super) since: Instant,
    pub(super) stage: Stage,
    pub(super) channel: SecureChannel,
}

/// Which of a friend's sessions: who called, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Slot {
    pub(super) direction: Direction,
    pub(super) relay: PublicKey,
}

/// How far a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The two prove who they are.
    Handshake,
    /// Open, but the friend leads and has not spoken in it.
    Waiting {
        /// When it is given up.
        until: Instant,
    },
    /// This is the session in use.
    Link,
}

impl Slot {
    /// All slots of sessions that we dialled.
    pub(super) const fn dialled() -> RangeInclusive<Slot> {
        let first = Slot { direction: Direction::Dialled, relay: PublicKey([0; 32]) };
        let last = Slot { direction: Direction::Dialled, relay: PublicKey([0xff; 32]) };
        first..=last
    }
}

impl Session {
    /// When it wants to be looked at.
    pub(super) fn alarm(&self) -> Option<Instant> {
        let channel = self.channel.poll_timeout().map(|alarm| alarm.at);
        match self.stage {
            Stage::Waiting { until } => Some(channel.map_or(until, |at| at.min(until))),
            Stage::Handshake | Stage::Link => channel,
        }
    }
}

/// How long a friend that misbehaved is not heard: twice as long each time, unless it behaved for a while in between.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Shun {
    until: Instant,
    times: u32,
}

impl Shun {
    pub(super) fn dropped(&mut self, now: Instant, link_since: Instant) {
        if now.since(link_since) >= STABLE_AFTER {
            self.times = 0;
        }
        let wait = FIRST_WAIT.times(1 << self.times.min(16));
        self.times = self.times.saturating_add(1);
        self.until = now + wait.min(LONGEST_WAIT);
    }

    pub(super) fn is_on(&self, now: Instant) -> bool {
        now < self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use offset_protocol::machine::Duration;

    #[test]
    fn a_friend_is_shunned_longer_each_time_and_forgiven_after_it_behaved() {
        let mut shun = Shun::default();
        let mut now = Instant::ZERO + STABLE_AFTER;
        assert!(!shun.is_on(now));
        for wait_ms in [500, 1_000, 2_000, 4_000] {
            shun.dropped(now, now);
            assert!(shun.is_on(now + Duration::from_millis(wait_ms - 1)));
            now += Duration::from_millis(wait_ms);
            assert!(!shun.is_on(now));
        }
        (0..100).for_each(|_| shun.dropped(now, now));
        assert!(!shun.is_on(now + LONGEST_WAIT));
        shun.dropped(now, now - STABLE_AFTER);
        assert!(!shun.is_on(now + FIRST_WAIT));
    }
}
