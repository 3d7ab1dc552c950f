//! How far a run is, for somebody who looks on from another thread. Nothing of it comes back into the run.

use std::sync::atomic::{AtomicU64, Ordering};

use offset_protocol::machine::{Duration, Instant};

/// How far a run is. A look at it may mix two moments.
#[derive(Debug, Default)]
pub struct Live {
    at_us: AtomicU64,
    events: AtomicU64,
    ordered: AtomicU64,
    paid: AtomicU64,
    failed: AtomicU64,
    faults: AtomicU64,
}

/// What a look found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// In the world.
    pub now: Duration,
    /// Events of the queue, as of the last sample.
    pub events: u64,
    /// Payments ordered.
    pub ordered: u64,
    /// Payments paid.
    pub paid: u64,
    /// Payments that failed.
    pub failed: u64,
    /// Faults that struck.
    pub faults: u64,
}

/// What is told.
#[derive(Clone, Copy, Debug)]
pub(super) enum Tell {
    Ordered,
    Paid,
    Failed,
    Fault,
    Events(u64),
}

impl Live {
    /// How far it is.
    pub fn look(&self) -> Look {
        let get = |number: &AtomicU64| number.load(Ordering::Relaxed);
        Look {
            now: Duration::from_micros(get(&self.at_us)),
            events: get(&self.events),
            ordered: get(&self.ordered),
            paid: get(&self.paid),
            failed: get(&self.failed),
            faults: get(&self.faults),
        }
    }

    pub(super) fn tell(&self, at: Instant, what: Tell) {
        self.at_us.store(at.as_micros(), Ordering::Relaxed);
        let one_more = |number: &AtomicU64| {
            let _ = number.fetch_add(1, Ordering::Relaxed);
        };
        match what {
            Tell::Ordered => one_more(&self.ordered),
            Tell::Paid => one_more(&self.paid),
            Tell::Failed => one_more(&self.failed),
            Tell::Fault => one_more(&self.faults),
            Tell::Events(events) => self.events.store(events, Ordering::Relaxed),
        }
    }
}
