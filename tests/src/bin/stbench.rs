//! Benches across crates. `stbench funder` pays along a line of funders in memory and prints what it cost; run it under
//! `valgrind --tool=callgrind` with two counts of payments, and the difference is the cost of a payment. `stbench index`
//! searches routes in large graphs ([`offset_tests::routes`] says how), `stbench index-server` asks real index servers
//! ([`offset_tests::index::bench`] says how). `stbench node` measures nodes ([`offset_tests::node`] says how), `stbench relay` a
//! real relay ([`offset_tests::relay`] says how).

use std::time::Instant;

use anyhow::{Result, bail};
use offset_tests::memory::Funders;
use offset_tests::routes::{Beside, Network, Times, Update, huge_pages};

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default: usize| args.get(at).map_or(Ok(default), |arg| arg.parse::<usize>());
    match args.first().map(String::as_str) {
        Some("funder") => funder(number(1, 1_000)?, number(2, 32)?, number(3, 3)?),
        Some("index") => {
            let sizes = match args.get(1..) {
                None | Some([]) => vec![10_000, 1_000_000],
                Some(sizes) => sizes.iter().map(|size| size.parse()).collect::<Result<_, _>>()?,
            };
            sizes.into_iter().try_for_each(index)
        }
        #[cfg(target_os = "linux")]
        Some("index-server") => index_server(),
        #[cfg(target_os = "linux")]
        Some("node") => offset_tests::node::run(args.get(1..).unwrap_or_default()),
        #[cfg(target_os = "linux")]
        Some("relay") => offset_tests::relay::run(args.get(1..).unwrap_or_default()),
        #[cfg(target_os = "linux")]
        Some("relay-helper") => offset_tests::relay::helper(args.get(1..).unwrap_or_default()),
        _ => bail!(
            "usage: stbench funder [PAYMENTS [IN_FLIGHT [NODES]]] | index [NODES]... | index-server (Linux) | node [NAME...] [--json] (Linux) | relay [NAME...] [--json] (Linux)"
        ),
    }
}

#[allow(clippy::print_stdout)]
fn index(nodes: u32) -> Result<()> {
    let start = Instant::now();
    let mut network = Network::new(nodes, 1)?;
    let (entries, built) = (network.entries(), start.elapsed().as_secs_f64());
    println!("{nodes} nodes, {entries} directed entries, one thread; made in {built:.1} s");
    if let Some(bytes) = network.bytes {
        println!(
            "  memory   {:>8.1} MiB, {:.1} bytes an entry",
            bytes as f64 / f64::from(1 << 20),
            bytes as f64 / entries as f64
        );
    }
    if let Some(bytes) = huge_pages() {
        println!("  of it    {:>8.1} MiB in huge pages", bytes as f64 / f64::from(1 << 20));
    }
    let (many, few) = if nodes > 100_000 { (3_000, 300) } else { (20_000, 2_000) };
    let print = |what: &str, times: &Times| {
        println!(
            "  {what:<9} p50 {:>8.3} ms, p99 {:>8.3} ms, {:>9.0} a second ({} measured, {} without a route, {} capped)",
            times.quantile_ms(0.5),
            times.quantile_ms(0.99),
            times.rate(),
            times.count(),
            times.failed,
            times.capped,
        );
    };
    print("single", &network.singles(many));
    print("options", &network.options(many));
    print("split", &network.splits(few));
    print("refusal", &network.refusals(few));
    print("capacity", &network.updates(many, Update::Capacity, Beside::Nothing));
    print("rate", &network.updates(many, Update::Rate, Beside::Nothing));
    print("held", &network.updates(many, Update::Capacity, Beside::Searches));
    print("held rate", &network.updates(many, Update::Rate, Beside::Searches));
    Ok(())
}

/// Changes that are measured.
#[cfg(target_os = "linux")]
const ROUNDS: usize = 40;

/// Nodes whose heartbeats are measured, and for how many ticks.
#[cfg(target_os = "linux")]
const SESSIONS: u64 = 8_000;
#[cfg(target_os = "linux")]
const TICKS: usize = 3;

#[cfg(target_os = "linux")]
#[allow(clippy::print_stdout)]
fn index_server() -> Result<()> {
    use offset_tests::index::bench;
    for (servers, goal) in [(1, "10 ms"), (3, "1 s")] {
        let delays = bench::until_searchable(servers, ROUNDS)?;
        println!(
            "update until searchable, {servers} in a line: p50 {:.2} ms, p99 {:.2} ms, {ROUNDS} rounds (goal {goal})",
            delays.quantile_ms(0.5),
            delays.quantile_ms(0.99),
        );
    }
    let got = bench::heartbeats(SESSIONS, TICKS)?;
    println!(
        "{SESSIONS} nodes, a heartbeat each {:.1} s: {:.1} us of CPU a heartbeat, {:.1} % of a core for 100,000 nodes (goal 50 %); {:.1} MiB",
        got.seconds * SESSIONS as f64 / got.answered as f64,
        got.cpu_s / got.answered as f64 * 1e6,
        got.share_of_core(100_000.0) * 100.0,
        got.resident as f64 / f64::from(1 << 20),
    );
    let (sessions, each, under_way) = (600, 100, 5);
    let got = bench::throughput(sessions, each, under_way)?;
    let total = (got.answered + got.busy) as f64;
    println!(
        "{sessions} sessions, {under_way} requests under way each: {:.0} requests a second, {:.0} for each CPU second of the server ({} answered, {} busy, {:.2} s)",
        total / got.seconds,
        total / got.cpu_s,
        got.answered,
        got.busy,
        got.seconds,
    );
    Ok(())
}

#[allow(clippy::print_stdout)]
fn funder(payments: usize, in_flight: usize, nodes: usize) -> Result<()> {
    let mut line = Funders::line(nodes)?;
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
