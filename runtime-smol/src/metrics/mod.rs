//! `--metrics HOST:PORT`: what a program does, for Prometheus, and whether it serves, for whoever starts it again.
//!
//! | page | answer |
//! |---|---|
//! | `/metrics` | everything, as OpenMetrics text |
//! | `/health` | 200 `ok` while the program serves, 503 `draining` from the moment that it was asked to end |
//!
//! 1. The state thread never waits for who watches. Counters are atomics; how the machine stands it tells between two turns,
//!    at most once in [`FRESH`], and whoever asked waits no longer than [`ANSWER_LIMIT`].
//! 2. Every name and every label is a constant of this program ([`Sample`]): no key, no name of a friend and no text of a
//!    peer can become one. No value is an amount of money.
//! 3. Without the flag nothing listens and nothing is timed. What a task counts then, it counts for the log of costs as well.
//!
//! It does not check who asks: see SECURITY.md.

mod door;
mod exporter;
mod http;
mod process;
mod sample;

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant as StdInstant;

use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use smol::Async;

pub(crate) use exporter::Sources;
pub use exporter::{ANSWER_LIMIT, FRESH};
pub use sample::{Sample, Value};

use crate::executor::Executor;
use exporter::Exporter;

/// Upper bounds of the buckets of turns, in seconds. Chosen freely: two a decade, from a turn without news to one that
/// makes peers wait.
const TURN_BUCKETS: [f64; 12] = [1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0];
/// Upper bounds of the buckets of commits, in seconds: from a fast disk to one that is about to fail.
const COMMIT_BUCKETS: [f64; 10] = [3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0];

/// Answers on `listener` until what is returned is dropped.
#[must_use = "dropping the task closes the listener"]
pub(crate) fn start(listener: Async<TcpListener>, executor: &Executor, sources: Sources) -> smol::Task<()> {
    let site = Arc::new(Exporter::new(sources));
    executor.spawn_owned(door::serve(listener, executor.clone(), site))
}

/// Where a driver writes how long things took, and that it was asked to end.
#[derive(Clone, Debug)]
pub struct Meters {
    turns: Histogram,
    commits: Histogram,
    draining: Arc<AtomicBool>,
}

impl Meters {
    /// New ones, all zero.
    pub(crate) fn new() -> Self {
        let (turns, commits) = (Histogram::new(TURN_BUCKETS), Histogram::new(COMMIT_BUCKETS));
        Meters { turns, commits, draining: Arc::default() }
    }

    /// Times a turn of the machine, what it wants done included, until what is returned is dropped.
    pub(crate) fn time_turn(&self) -> Timing {
        Timing::of(&self.turns)
    }

    /// Times a commit from the moment it is asked for, until what is returned is dropped.
    pub(crate) fn time_commit(&self) -> Timing {
        Timing::of(&self.commits)
    }

    /// The program was asked to end.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Relaxed);
    }

    /// Whether the program was asked to end.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Relaxed)
    }

    fn register_turns(&self, registry: &mut Registry) {
        registry.register("offset_turn_seconds", "Time that one turn of the state thread took", self.turns.clone());
    }

    fn register_commits(&self, registry: &mut Registry) {
        let help = "Time from asking for a commit of the database until it was on the disk";
        registry.register("offset_node_commit_seconds", help, self.commits.clone());
    }
}

/// Something that takes time; it is over when this is dropped.
#[derive(Debug)]
pub(crate) struct Timing {
    histogram: Histogram,
    begun: StdInstant,
}

impl Timing {
    fn of(histogram: &Histogram) -> Self {
        Timing { histogram: histogram.clone(), begun: StdInstant::now() }
    }
}

impl Drop for Timing {
    fn drop(&mut self) {
        self.histogram.observe(self.begun.elapsed().as_secs_f64());
    }
}
