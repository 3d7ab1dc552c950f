//! `strelay`: where nodes without a public address meet.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use offset_protocol::net::{ConnId, NetEvent, Purpose};
use offset_relay_sm::server::{Input, Output, RelayServer};

use super::exit::{self, Failure};
use super::limit_args::RelayArgs;
use super::server::{Build, Door, Server, ServerArgs};
use super::trusted::{self, Trust};
use super::{args, config, core_dumps};
use crate::connection::Reading;
use crate::driver::{Effect, Program};
use crate::metrics::Sample;

/// Offset relay: nodes without a public address meet here. It sees who talks to whom, never what.
#[derive(Debug, clap::Parser)]
#[command(name = "strelay", version)]
struct Args {
    /// Where to listen for nodes; port 0 picks a free one
    #[arg(short, long, value_name = "HOST:PORT", value_parser = args::door)]
    laddr: String,
    /// The folder with the friend or node tickets of the nodes to serve, watched while running; everybody if left out
    #[arg(short, long, value_name = "DIR")]
    allowed: Option<PathBuf>,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    limits: RelayArgs,
}

const BUILD: Build = &[("program", "strelay"), ("version", env!("CARGO_PKG_VERSION"))];

/// The program.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    core_dumps::forbid();
    match config::parse("strelay", args) {
        Ok(args) => exit::finish("strelay", run(&args)),
        Err(code) => code,
    }
}

fn run(args: &Args) -> Result<(), Failure> {
    let (limits, net) = args.limits.limits(&args.server.net)?;
    let mut server = Server::start(BUILD, &args.server, net)?;
    let inbox = server.inbox.clone();
    let report = move |trust| {
        inbox.input(match trust {
            Trust::Granted(node, ()) => Input::Allow { node },
            Trust::Withdrawn(node) => Input::Disallow { node },
        });
    };
    let watch = |folder: &PathBuf| trusted::watch_nodes(folder, report);
    let _watch = args.allowed.as_ref().map(watch).transpose()?;
    server.listen(&Door {
        address: &args.laddr,
        purpose: Purpose::NodeRelay,
        reading: Reading::OneByOne,
        announcement: "listening on",
    })?;
    server.limit_tunnels(limits.tunnel_rate.into());
    let machine = match &args.allowed {
        None => RelayServer::new(limits),
        Some(_) => RelayServer::for_chosen(limits),
    };
    server.run(Relay::default(), machine, None)
}

/// Between two lines of the log about nodes that are not served.
const TELL_AGAIN: Duration = Duration::from_secs(10);

#[derive(Default)]
struct Relay {
    turned_away: u64,
    told: Option<Instant>,
}

impl Program for Relay {
    type Machine = RelayServer;
    type Input = Input;
    type Output = Output;

    fn net(&mut self, event: NetEvent) -> Input {
        Input::Net(event)
    }

    fn tick(&mut self) -> Input {
        Input::Tick
    }

    fn join_ended(&mut self, a: ConnId, b: ConnId) -> Option<Input> {
        Some(Input::JoinEnded { a, b })
    }

    fn end(&mut self) -> Option<Input> {
        Some(Input::Drain)
    }

    fn samples(&self, machine: &RelayServer) -> Vec<Sample> {
        let counts = machine.counts();
        vec![
            Sample::gauge("offset_relay_setups", "Connections that have not said what they are for", counts.setups),
            Sample::gauge("offset_relay_listeners", "Identities that wait for calls", counts.listeners),
            Sample::gauge("offset_relay_half_tunnels", "Calls that wait to be accepted", counts.halves),
            Sample::gauge("offset_relay_tunnels", "Tunnels, each of two connections", counts.tunnels),
            Sample::counter(
                "offset_relay_turned_away",
                "Nodes that came and are not served (--allowed)",
                self.turned_away,
            ),
        ]
    }

    fn effect(&mut self, output: Output) -> Effect {
        match output {
            Output::Net(command) => Effect::Net(command),
            Output::Resume { conn } => Effect::Resume { conn },
            Output::Join { a, b } => Effect::Join { a, b },
            Output::Misbehaved { conn, peer, rule } => {
                tracing::info!(?conn, %peer, %rule, "a peer broke a rule");
                Effect::Nothing
            }
            Output::TurnedAway { peer } => {
                self.turned_away += 1;
                // Whoever is not served comes again and again, and anybody may come.
                if self.told.is_none_or(|told| told.elapsed() >= TELL_AGAIN) {
                    self.told = Some(Instant::now());
                    tracing::info!(%peer, so_far = self.turned_away, "a node is not in the folder of those to serve");
                }
                Effect::Nothing
            }
            Output::Drained => Effect::Finished,
        }
    }
}
