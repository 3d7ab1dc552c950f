//! `strelay`: where nodes without a public address meet.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use offset_protocol::net::{ConnId, NetEvent, Purpose};
use offset_relay_sm::server::{Input, Limits, Output, RelayServer};

use super::exit::{self, Failure};
use super::server::{Common, Door, Server};
use crate::connection::Reading;
use crate::driver::{Effect, Program};
use crate::logging::LogFormat;
use crate::metrics::Sample;

/// Offset relay: nodes without a public address meet here. It sees who talks to whom, never what.
#[derive(Debug, clap::Parser)]
#[command(name = "strelay", version)]
struct Args {
    /// The relay's identity file (see `stmgr gen-ident`)
    #[arg(short, long, value_name = "FILE")]
    idfile: PathBuf,
    /// If the identity is locked: its passphrase is the first line of this file; without it, it is typed on the terminal
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// Where to listen for nodes; port 0 picks a free one
    #[arg(short, long, value_name = "HOST:PORT")]
    laddr: String,
    /// Where to tell metrics to Prometheus (`/metrics`) and whether all is well (`/health`); nowhere if left out
    #[arg(long, value_name = "HOST:PORT")]
    metrics: Option<String>,
    /// How to write the log on stderr
    #[arg(long, value_enum, default_value_t)]
    log_format: LogFormat,
}

/// The program.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    match exit::parse(args) {
        Ok(args) => exit::finish("strelay", run(&args)),
        Err(code) => code,
    }
}

fn run(args: &Args) -> Result<(), Failure> {
    let mut server = Server::start(&Common {
        build: &[("program", "strelay"), ("version", env!("CARGO_PKG_VERSION"))],
        idfile: &args.idfile,
        passphrase_file: args.passphrase_file.as_deref(),
        log_format: args.log_format,
        metrics: args.metrics.as_deref(),
    })?;
    server.listen(&Door {
        address: &args.laddr,
        purpose: Purpose::NodeRelay,
        reading: Reading::OneByOne,
        announcement: "listening on",
    })?;
    server.run(Relay, RelayServer::new(Limits::default()), None)
}

struct Relay;

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
            Output::Drained => Effect::Finished,
        }
    }
}
