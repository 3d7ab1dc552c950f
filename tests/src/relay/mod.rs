//! What a relay costs: `stbench relay [NAME...] [--json]`. A real `strelay` as a process of its own, real secure channels as
//! its clients, all on this machine; Linux only.
//!
//! | name | figures |
//! |---|---|
//! | `tunnel` | bytes through one tunnel for each second of the relay's CPU; what a message and a byte cost beside a plain proxy |
//! | `latency` | a round trip through a tunnel beside one through a plain proxy |
//! | `set-up` | how long a tunnel takes to stand while 1,000 strangers say nothing |
//! | `strangers` | memory that a connection can take before anybody knows whose it is |
//! | `files` | more listeners than files, then none |
//! | `listeners` | memory of many idle listeners |
//! | `restart` | a relay that is killed under 10,000 nodes and started again |
//!
//! Each name starts a relay of its own, with all limits as they are without flags; but for `restart`, which says what it
//! changes. The plain proxy and the crowds of listeners and nodes are this program again, as processes of their own ([`helper()`]).
//!
//! It does *not* measure networks that lose or delay, nor relays that many tunnels use at once.

pub(crate) mod client;
mod files;
mod helper;
mod latency;
mod listeners;
pub(crate) mod process;
mod restart;
mod setup;
mod strangers;
mod throughput;
mod tunnel;

use anyhow::Result;

use crate::figures::{self, Figure, Goal, Measure, quantile};

pub use helper::helper;

/// Names and how they are measured, in the order in which they run: what others disturb most comes first.
const FIGURES: [(&str, Measure); 7] = [
    ("tunnel", throughput::measure),
    ("latency", latency::measure),
    ("set-up", setup::measure),
    ("strangers", strangers::measure),
    ("files", files::measure),
    ("listeners", listeners::measure),
    ("restart", restart::measure),
];

/// Measures figures by name, all without any, and prints each one beside its goal.
///
/// # Errors
/// If a name is unknown, something does not work, or a goal is missed.
pub fn run(args: &[String]) -> Result<()> {
    figures::run(&FIGURES, args)
}
