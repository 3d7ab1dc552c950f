//! What a node costs: `stbench node [NAME...] [--json]`; Linux only.
//!
//! | name | figures |
//! |---|---|
//! | `load` | real programs in a line of three over one relay: latency, payments a second, CPU, flushes and bytes, with 1, 32, 64 and 512 payments in flight |
//! | `memory` | the same line in memory, one thread, without sockets and disk |
//! | `hub` | what forwarding costs a real node with 1,000 connected friends beside one with two: payments a second, CPU, memory; and the machine alone in memory |
//! | `old` | the start of a real node with 1,000 friends and a history of 100,000 payments, and its memory |
//! | `door` | how long a new app waits while 1,000 idle sockets are at the node's door, have been there for a second or have just come |
//!
//! It does *not* measure networks that lose or delay.

mod crowd;
mod door;
pub mod flood;
mod hub;
mod load;
mod memory;
mod old;

use anyhow::Result;

use crate::figures::{self, Measure};

/// Names and how they are measured.
const FIGURES: [(&str, Measure); 5] = [
    ("load", load::measure),
    ("memory", memory::measure),
    ("hub", hub::measure),
    ("old", old::measure),
    ("door", door::measure),
];

/// Measures figures by name, all without any, and prints each one beside its goal.
///
/// # Errors
/// If a name is unknown, something does not work, or a goal is missed.
pub fn run(args: &[String]) -> Result<()> {
    figures::run(&FIGURES, args)
}
