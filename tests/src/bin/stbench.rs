//! Benches across crates. `stbench funder` pays along a line of funders in memory and prints what it cost; run it under
//! `valgrind --tool=callgrind` with two counts of payments, and the difference is the cost of a payment.

use std::time::Instant;

use anyhow::{Result, bail};
use offset_tests::memory::Line;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default: usize| args.get(at).map_or(Ok(default), |arg| arg.parse::<usize>());
    match args.first().map(String::as_str) {
        Some("funder") => funder(number(1, 1_000)?, number(2, 32)?, number(3, 3)?),
        _ => bail!("usage: stbench funder [PAYMENTS [IN_FLIGHT [NODES]]]"),
    }
}

#[allow(clippy::print_stdout)]
fn funder(payments: usize, in_flight: usize, nodes: usize) -> Result<()> {
    let mut line = Line::new(nodes)?;
    let before = line.cost;
    let start = Instant::now();
    line.pay(payments, in_flight.max(1))?;
    let seconds = start.elapsed().as_secs_f64();
    let each = |total: u64| total as f64 / payments.max(1) as f64;
    println!("{payments} payments, {in_flight} in flight, {nodes} nodes in memory, one thread");
    println!("{:.0} payments/s", payments as f64 / seconds);
    println!("{:.2} revisions a payment", each(line.cost.revisions - before.revisions));
    println!("{:.0} bytes of records a payment", each(line.cost.record_bytes - before.record_bytes));
    println!("{:.2} messages between friends a payment", each(line.cost.messages - before.messages));
    Ok(())
}
