//! A line of three funders in memory, one thread: what payments cost without sockets and disk.

use std::time::Instant;

use anyhow::Result;

use crate::figures::{Figure, Goal};
use crate::memory::Funders;

/// In flight, payments, and the least of them a second.
const RUNS: [(usize, usize, f64); 2] = [(1, 2_000, 3_000.0), (32, 10_000, 8_000.0)];

pub(super) fn measure() -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (in_flight, payments, goal) in RUNS {
        let mut line = Funders::line(3)?;
        line.pay(in_flight, in_flight)?;
        let (before, began) = (line.cost, Instant::now());
        line.pay(payments, in_flight)?;
        let rate = payments as f64 / began.elapsed().as_secs_f64();
        let each = |now: u64, before: u64| (now - before) as f64 / payments as f64;
        let messages = each(line.cost.messages, before.messages);
        let revisions = each(line.cost.revisions, before.revisions);
        let note = format!("{messages:.2} signed messages and {revisions:.2} revisions a payment");
        figures.push(Figure::new(format!("in memory, {in_flight} in flight"), rate, "/s", Goal::AtLeast(goal), note));
    }
    Ok(figures)
}
