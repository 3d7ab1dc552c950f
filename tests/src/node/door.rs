//! How long a new app waits for its node's report, while others at the same address hold sockets at the door and say nothing.
//!
//! *Settled*: the sockets have been open for a second. *Fresh*: the app comes at once behind them. An address has 256 places for
//! handshakes; who keeps one and says nothing gives it up to a newcomer only when it has had it for 50 ms. So a fresh crowd has
//! the door cut the app off; here it comes again and again, as somebody at a shell would, and what counts is when it has its report.

use std::collections::BTreeSet;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use offset_protocol::files::{self, NodeTicket};
use offset_protocol::identity::Identity;
use offset_protocol::machine::Seed;
use offset_runtime_smol::app_client::{AppClient, ClientError, Target};

use crate::figures::{Figure, Goal, quantile};
use crate::network::Network;

const IDLE: usize = 1_000;
const APPS: u64 = 50;
const PATIENCE: Duration = Duration::from_secs(30);
/// What is a second old gives way to newcomers of its own address.
const TIME_ENOUGH: Duration = Duration::from_millis(1_200);
/// Crowds before which an app comes at once.
const CROWDS: usize = 5;
/// Longer than a handshake may take, after which a crowd is given up.
const REST: Duration = Duration::from_millis(5_500);
/// Between two tries of an app.
const AGAIN: Duration = Duration::from_millis(10);

pub(super) fn measure() -> Result<Vec<Figure>> {
    let mut network = Network::new();
    network.start_relay("relay");
    network.start_index_servers(&["index"]);
    network.start_node("alice", "relay", "index");
    let address = network.server("alice").address().to_owned();
    let mut door = Door { network, address, apps: 0 };
    Ok(vec![door.settled()?, door.fresh()?])
}

/// A node's door, and those who come.
struct Door {
    network: Network,
    address: String,
    /// How many apps have come.
    apps: u64,
}

impl Door {
    fn settled(&mut self) -> Result<Figure> {
        let mut without = self.waits()?;
        // A door lets so many a second come; those who were let in stay until they are given up.
        let idle = self.crowd()?;
        std::thread::sleep(TIME_ENOUGH);
        let mut with = self.waits()?;
        drop(idle);
        let (p50, longest) = (quantile(&mut with, 0.5), quantile(&mut with, 1.0));
        let before = quantile(&mut without, 0.5);
        let note =
            format!("{APPS} apps one after the other, longest {longest:.1} ms; without idle sockets {before:.1} ms");
        Ok(Figure::new(format!("a new app beside {IDLE} idle sockets"), p50, "ms", Goal::AtMost(100.0), note))
    }

    /// Milliseconds until each of some apps has the node's report.
    fn waits(&mut self) -> Result<Vec<f64>> {
        let connect = |_| -> Result<f64> {
            let began = Instant::now();
            self.connect()??;
            Ok(began.elapsed().as_secs_f64() * 1e3)
        };
        (0..APPS).map(connect).collect()
    }

    fn fresh(&mut self) -> Result<Figure> {
        let (mut waits, mut opened, mut tries, mut saw) = (Vec::new(), Vec::new(), Vec::new(), BTreeSet::new());
        for _ in 0..CROWDS {
            // Those of the crowd before have been given up, and an address has its burst again.
            std::thread::sleep(REST);
            let began = Instant::now();
            let idle = self.crowd()?;
            opened.push(began.elapsed().as_secs_f64() * 1e3);
            let (began, mut count) = (Instant::now(), 1.0);
            while let Err(error) = self.connect()? {
                saw.insert(error.to_string());
                if began.elapsed() > PATIENCE {
                    bail!("an app was not let in for {} s: {error}", PATIENCE.as_secs());
                }
                std::thread::sleep(AGAIN);
                count += 1.0;
            }
            waits.push(began.elapsed().as_secs_f64() * 1e3);
            tries.push(count);
            drop(idle);
        }
        let (wait, longest) = (quantile(&mut waits, 0.5), quantile(&mut waits, 1.0));
        let saw = if saw.is_empty() { "nothing".to_owned() } else { Vec::from_iter(saw).join("; ") };
        let note = format!(
            "median of {CROWDS}, longest {longest:.0} ms; opened within {:.0} ms; {:.0} tries, each {} ms after the one before; \
             before the last the app saw: {saw}",
            quantile(&mut opened, 0.5),
            quantile(&mut tries, 0.5),
            AGAIN.as_millis(),
        );
        Ok(Figure::new(format!("the same beside {IDLE} fresh ones"), wait, "ms", Goal::AtMost(100.0), note))
    }

    /// Sockets that say nothing.
    fn crowd(&self) -> Result<Vec<TcpStream>> {
        Ok((0..IDLE).map(|_| TcpStream::connect(&self.address)).collect::<Result<_, _>>()?)
    }

    /// One app comes, and leaves when it has the report.
    fn connect(&mut self) -> Result<Result<(), ClientError>> {
        let read = |name: &str| self.network.shell.read(name).into_bytes();
        let ticket: NodeTicket = files::parse(&read("alice-node.ticket")).context("the ticket")?;
        let identity: Identity = files::parse(&read("alice-app.ident")).context("the app's identity")?;
        let target = Target { node: ticket.public_key, address: ticket.address, app: Arc::new(identity) };
        self.apps += 1;
        Ok(smol::block_on(AppClient::connect(&target, Seed::from_number(self.apps), PATIENCE)).map(drop))
    }
}
