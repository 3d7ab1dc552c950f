//! How many idle listeners fit into a GiB of a relay's resident memory: all of it divided by the listeners that it holds
//! after a while of nothing but keepalives. What the system holds for their sockets is not in it.
//!
//! The listeners are real nodes in two processes, 500 from each of forty loopback addresses: a relay lets 2,000 come from one
//! at once, and these come as fast as they can. As many
//! as the system lets a process open files, at most 20,000.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::process::{Helper, Relay, most_files};
use super::{Figure, Goal};

/// Listeners, if there are enough files.
const WANTED: u64 = 20_000;
/// Files that a relay needs for itself.
const SPARE_FILES: u64 = 50;
const HELPERS: u64 = 2;
/// Longer than a keepalive's 15 s: every connection has spoken and fallen silent again.
const IDLE: Duration = Duration::from_secs(35);

pub(super) fn measure() -> Result<Vec<Figure>> {
    let mut relay = Relay::start()?;
    let empty = relay.process().resident_bytes()?;
    let each = WANTED.min(most_files().saturating_sub(SPARE_FILES)) / HELPERS;
    let begun = Instant::now();
    let start = |n: u64| {
        let (address, key) = (relay.place.address.to_string(), relay.place.key.to_string());
        Helper::start(&["listeners".to_owned(), address, key, (n * each).to_string(), each.to_string()])
    };
    let mut helpers = (0..HELPERS).map(start).collect::<Result<Vec<_>>>()?;
    for helper in &mut helpers {
        helper.hear("ready")?;
    }
    let (arrived_s, at_first) = (begun.elapsed().as_secs_f64(), relay.process().resident_bytes()?);
    let before = relay.process().cpu_s()?;
    std::thread::sleep(IDLE);
    let busy = (relay.process().cpu_s()? - before) / IDLE.as_secs_f64() * 100.0;
    let bytes = relay.process().resident_bytes()?;
    relay.must_run()?;
    let mut alive = 0;
    for helper in &mut helpers {
        helper.finish();
        alive += helper.hear("alive")?.parse::<u64>()?;
    }
    if alive < HELPERS * each {
        bail!("{} of {} listeners were lost while idle", HELPERS * each - alive, HELPERS * each);
    }
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let note = format!(
        "{alive} listeners (most files of a process here: {}), came in {arrived_s:.0} s; relay {:.0} MiB, {:.0} MiB when the \
         last had come, {:.0} MiB without any: {} bytes each; idle they cost {busy:.1} % of a core",
        most_files(),
        mib(bytes),
        mib(at_first),
        mib(empty),
        bytes.saturating_sub(empty) / alive.max(1),
    );
    let value = alive as f64 / (bytes as f64 / f64::from(1 << 30));
    Ok(vec![Figure::new("idle listeners in a GiB", value, "listeners", Goal::AtLeast(100_000.0), note)])
}
