//! How long a tunnel takes to stand, from the caller's first packet until both ends are ready: two TCP connections, two
//! handshakes, one word to the listener. Once on a quiet relay, once while 1,000 strangers have shaken hands and say nothing.
//!
//! A relay gives up those who say nothing after 5 s, so new ones come every few seconds. The bench, on the same machine, has
//! half of the work of every handshake.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::client::{Client, Who};
use super::process::Relay;
use super::tunnel::Listener;
use super::{Figure, Goal, quantile};

/// Strangers at a time.
const SILENT: usize = 1_000;
/// How often the strangers are replaced.
const CROWDS: u8 = 4;
/// How long after the first stranger came the relay has certainly not given it up.
const CROWD_LASTS: Duration = Duration::from_millis(4_500);
/// Set-ups on a quiet relay.
const QUIET: usize = 200;
/// Set-ups with one crowd at most.
const BUSY: usize = 200;

pub(super) fn measure() -> Result<Vec<Figure>> {
    let mut relay = Relay::start()?;
    let mut listener = Listener::new(relay.place)?;
    let mut quiet_ms = (0..QUIET).map(|_| set_up_ms(&mut listener)).collect::<Result<Vec<_>>>()?;
    let mut busy_ms = Vec::new();
    for crowd in 0..CROWDS {
        // Each from an address of its own: from one alone a relay takes fewer at once than all of them.
        let from = Ipv4Addr::new(127, 0, 2, crowd + 1);
        let begun = Instant::now();
        let mut crowd = (0..SILENT)
            .map(|_| Client::open(relay.place, from, &Who::fresh()))
            .collect::<Result<Vec<_>>>()
            .context("a stranger cannot shake hands")?;
        let mut count = 0;
        while count < BUSY && begun.elapsed() < CROWD_LASTS {
            busy_ms.push(set_up_ms(&mut listener)?);
            count += 1;
        }
        let gone = crowd.iter_mut().map(Client::serve).filter(|alive| !alive).count();
        if gone > 0 || count == 0 {
            bail!("{gone} of {SILENT} strangers were gone too early; {count} tunnels beside them");
        }
    }
    relay.must_run()?;
    let (median, late, count) = (quantile(&mut busy_ms, 0.5), quantile(&mut busy_ms, 0.99), busy_ms.len());
    let note = format!(
        "{count} set-ups, p99 {late:.2} ms; without strangers {:.2} ms, p99 {:.2} ms",
        quantile(&mut quiet_ms, 0.5),
        quantile(&mut quiet_ms, 0.99)
    );
    let name = format!("set-up beside {SILENT} silent strangers, median");
    Ok(vec![Figure::new(name, median, "ms", Goal::AtMost(50.0), note)])
}

fn set_up_ms(listener: &mut Listener) -> Result<f64> {
    let caller = Who::fresh();
    let begun = Instant::now();
    listener.call(&caller)?;
    Ok(begun.elapsed().as_secs_f64() * 1e3)
}
