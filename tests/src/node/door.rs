//! How long a new app waits for its node's report, while others hold sockets at the door and say nothing.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use offset_protocol::files::{self, NodeTicket};
use offset_protocol::identity::Identity;
use offset_protocol::machine::Seed;
use offset_runtime_smol::app_client::{AppClient, Target};

use crate::figures::{Figure, Goal, quantile};
use crate::network::Network;

const IDLE: usize = 1_000;
const APPS: u64 = 50;
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn measure() -> Result<Vec<Figure>> {
    let mut network = Network::new();
    network.start_relay("relay");
    network.start_index_servers(&["index"]);
    network.start_node("alice", "relay", "index");
    let address = network.server("alice").address().to_owned();
    let without = waits(&network, 0)?;
    // A door lets so many a second come; those who were let in stay until they are given up.
    let idle = (0..IDLE).map(|_| TcpStream::connect(&address)).collect::<Result<Vec<_>, _>>()?;
    // They sit there: what is a second old gives way to newcomers of its own address.
    std::thread::sleep(Duration::from_millis(1_200));
    let mut with = waits(&network, APPS)?;
    drop(idle);
    let (p50, longest) = (quantile(&mut with, 0.5), quantile(&mut with, 1.0));
    let before = quantile(&mut without.clone(), 0.5);
    let note = format!("{APPS} apps one after the other, longest {longest:.1} ms; without idle sockets {before:.1} ms");
    Ok(vec![Figure::new(format!("a new app beside {IDLE} idle sockets"), p50, "ms", Goal::AtMost(100.0), note)])
}

/// Milliseconds until each of some apps has the node's report.
fn waits(network: &Network, seed: u64) -> Result<Vec<f64>> {
    let ticket: NodeTicket = files::parse(network.shell.read("alice-node.ticket").as_bytes()).context("the ticket")?;
    let mut waits = Vec::new();
    for app in 0..APPS {
        let identity: Identity =
            files::parse(network.shell.read("alice-app.ident").as_bytes()).context("the app's identity")?;
        let signer = std::sync::Arc::new(identity);
        let target = Target { node: ticket.public_key, address: ticket.address.clone(), app: signer };
        let began = Instant::now();
        smol::block_on(AppClient::connect(&target, Seed::from_number(seed + app), PATIENCE))?;
        waits.push(began.elapsed().as_secs_f64() * 1e3);
    }
    Ok(waits)
}
