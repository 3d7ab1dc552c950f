//! A relay that may open only 256 files meets 600 nodes that want to listen. 220 do, the others wait, most of them in the
//! system's queue. Then all leave; the figure is how long it takes until a tunnel stands.

use std::io::Write;
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use offset_protocol::channel::SecureChannel;
use offset_protocol::machine::Instant as ChannelInstant;

use super::client::{Client, Place, Who, connect};
use super::process::Relay;
use super::tunnel::tunnel;
use super::{Figure, Goal};

/// Files that the relay may open.
const FILES: u64 = 256;
/// Nodes that want to listen.
const NODES: usize = 600;
/// Nodes that certainly find a place: the relay needs a few files for itself.
const PLACES: usize = 220;
/// How long the relay has nothing to accept with.
const EXHAUSTED: Duration = Duration::from_secs(2);
/// It serves again within this time, or it does not. Chosen freely: as long as a node waits for a connection.
const GOAL_S: f64 = 10.0;

pub(super) fn measure() -> Result<Vec<Figure>> {
    let mut relay = Relay::start()?;
    relay.limit_files(FILES)?;
    let from = Ipv4Addr::new(127, 0, 4, 1);
    let mut listeners = Vec::new();
    for _ in 0..PLACES {
        let mut client = Client::open(relay.place, from, &Who::fresh())?;
        client.listen()?;
        listeners.push(client);
    }
    let waiting = (PLACES..NODES).map(|_| knock(relay.place, from)).collect::<Result<Vec<_>>>()?;
    let before = relay.process().cpu_s()?;
    std::thread::sleep(EXHAUSTED);
    let busy = (relay.process().cpu_s()? - before) / EXHAUSTED.as_secs_f64() * 100.0;
    relay.must_run()?;
    let alive = listeners.iter_mut().map(Client::serve).filter(|alive| *alive).count();
    if alive < listeners.len() {
        bail!("{} of {} listeners were lost when the files ran out", listeners.len() - alive, listeners.len());
    }
    drop((listeners, waiting));
    let left = Instant::now();
    let served = loop {
        match tunnel(relay.place) {
            Ok(_) => break left.elapsed().as_secs_f64(),
            Err(error) if left.elapsed().as_secs_f64() > GOAL_S => {
                return Err(error.context("the relay does not serve again after all have left"));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    };
    relay.must_run()?;
    let note =
        format!("{NODES} nodes, {FILES} files; {busy:.0} % of a core while there were no files; no listener lost");
    Ok(vec![Figure::new("serves again after too many listeners", served, "s", Goal::AtMost(GOAL_S), note)])
}

/// Connects and says the first frame, without waiting for an answer.
fn knock(place: Place, from: Ipv4Addr) -> Result<TcpStream> {
    let mut stream = connect(place.address, from)?;
    let mut first = Vec::new();
    let mut channel = SecureChannel::initiator(Who::fresh().channel(), place.key, ChannelInstant::ZERO);
    channel.start(ChannelInstant::ZERO, &mut first);
    stream.write_all(&first)?;
    Ok(stream)
}
