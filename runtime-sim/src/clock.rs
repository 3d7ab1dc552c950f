//! The clocks of one host: nobody's second is exactly a second, and wall clocks are wrong and jump.

use offset_protocol::machine::{Duration, Instant, WallTime};

/// The world's time zero on a perfect wall clock: 2026-01-01.
const WALL_AT_ZERO_MS: u64 = 1_767_225_600_000;

/// Turns the world's time into a host's and back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// When the process started: its own zero.
    started: Instant,
    /// How much too fast the clock runs, in millionths; below zero: too slow.
    drift_ppm: i32,
    /// How much the wall clock is ahead, in milliseconds.
    wall_off_ms: i64,
}

impl Clock {
    /// A clock that a process reads as zero at `started`. Beyond a tenth of a second a second no drift is believed.
    pub fn new(started: Instant, drift_ppm: i32, wall_off_ms: i64) -> Self {
        Clock { started, drift_ppm: drift_ppm.clamp(-100_000, 100_000), wall_off_ms }
    }

    /// A new process begins at zero again.
    pub fn restart(&mut self, started: Instant) {
        self.started = started;
    }

    fn rate(&self) -> u64 {
        (1_000_000 + i64::from(self.drift_ppm)).unsigned_abs()
    }

    /// What the host's monotonic clock shows.
    pub fn local(&self, world: Instant) -> Instant {
        let passed = world.since(self.started).as_micros();
        // Every event asks. 64 bits are enough for months, and a division of 128 bits costs as much as an event should.
        Instant::from_micros(match passed.checked_mul(self.rate()) {
            _ if self.drift_ppm == 0 => passed,
            Some(product) => product / 1_000_000,
            None => (u128::from(passed) * u128::from(self.rate()) / 1_000_000) as u64,
        })
    }

    /// The first moment at which the host's clock shows `local` or later.
    pub fn world(&self, local: Instant) -> Instant {
        let local = local.as_micros();
        let passed = match local.checked_mul(1_000_000) {
            _ if self.drift_ppm == 0 => local,
            Some(product) => product.div_ceil(self.rate()),
            None => u64::try_from((u128::from(local) * 1_000_000).div_ceil(self.rate().into())).unwrap_or(u64::MAX),
        };
        self.started + Duration::from_micros(passed)
    }

    /// What the host's wall clock shows.
    pub fn wall(&self, world: Instant) -> WallTime {
        WallTime((WALL_AT_ZERO_MS + world.as_micros() / 1_000).saturating_add_signed(self.wall_off_ms))
    }

    /// Moves the wall clock.
    pub fn jump_wall(&mut self, by_ms: i64) {
        self.wall_off_ms = self.wall_off_ms.saturating_add(by_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_is_due_when_it_rings_and_not_a_microsecond_before() {
        for drift in [-100_000, -37, 0, 1, 250, 99_999] {
            let clock = Clock::new(Instant::from_micros(12_345), drift, 0);
            for local in [0, 1, 999, 15_000_000, 86_400_000_000] {
                let local = Instant::from_micros(local);
                let world = clock.world(local);
                assert!(clock.local(world) >= local);
                if world > Instant::from_micros(12_345) {
                    assert!(clock.local(world - Duration::from_micros(1)) < local);
                }
            }
        }
    }
}
