//! How much later an answer comes through a tunnel than through a plain proxy: round trips of 256 bytes, one at a time, both
//! ways by turns. A round trip passes the relay twice; the figure is of the whole of it.

use std::net::TcpListener;
use std::time::Instant;

use anyhow::{Result, bail};

use super::process::{Proxy, Relay};
use super::tunnel::{Pair, through_proxy, tunnel};
use super::{Figure, Goal, quantile};

const MESSAGE: [u8; 256] = [0x5a; 256];
/// Each way has so many turns, of so many round trips.
const TURNS: usize = 10;
const ROUND_TRIPS: usize = 2_000;
/// Round trips of a turn that are not counted.
const WARM_UP: usize = 200;
/// What the relay may add.
const GOAL_MS: f64 = 0.3;

pub(super) fn measure() -> Result<Vec<Figure>> {
    let mut relay = Relay::start()?;
    let target = TcpListener::bind("127.0.0.1:0")?;
    let proxy = Proxy::start(target.local_addr()?)?;
    let (mut tunnelled, mut plain) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        tunnelled.extend(round_trips_ms(tunnel(relay.place)?)?);
        plain.extend(round_trips_ms(through_proxy(proxy.address, &target)?)?);
    }
    relay.must_run()?;
    let mut figure = |name: &str, part: f64| {
        let (tunnelled, plain) = (quantile(&mut tunnelled, part), quantile(&mut plain, part));
        let note = format!("round trip {tunnelled:.3} ms, through the plain proxy {plain:.3} ms");
        Figure::new(name, tunnelled - plain, "ms", Goal::AtMost(GOAL_MS), note)
    };
    Ok(vec![figure("added to a round trip, p50", 0.5), figure("added to a round trip, p99", 0.99)])
}

fn round_trips_ms(pair: Pair) -> Result<Vec<f64>> {
    let Pair { mut caller, mut callee } = pair;
    std::thread::scope(|scope| {
        let echoing = scope.spawn(move || -> Result<()> {
            for _ in 0..WARM_UP + ROUND_TRIPS {
                let message = callee.receive()?;
                callee.send(&message)?;
            }
            Ok(())
        });
        let mut times = Vec::with_capacity(ROUND_TRIPS);
        for number in 0..WARM_UP + ROUND_TRIPS {
            let begun = Instant::now();
            caller.send(&MESSAGE)?;
            if caller.receive()? != MESSAGE {
                bail!("a message came back changed");
            }
            if number >= WARM_UP {
                times.push(begun.elapsed().as_secs_f64() * 1e3);
            }
        }
        echoing.join().unwrap_or_else(|_| bail!("the thread that answers broke"))?;
        Ok(times)
    })
}
