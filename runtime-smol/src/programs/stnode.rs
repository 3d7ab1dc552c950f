//! `stnode`: the node. It keeps the friendships and the money, and serves its owner's apps.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use offset_funder_sm::funder::Disagreement;
use offset_funder_sm::node::checks::{Answers, Check};
use offset_funder_sm::node::{Node, NodeConfig, NodeInput, NodeOutput, Notice};
use offset_protocol::files::AppTicket;
use offset_protocol::machine::WallTime;
use offset_protocol::net::{NetEvent, Purpose};
use offset_protocol::persist::Revision;

use super::exit::{self, Failure};
use super::server::{Build, Door, Server, ServerArgs};
use super::table::safe;
use super::trusted::{self, Trust};
use super::{args, config, core_dumps};
use crate::connection::Reading;
use crate::driver::{Effect, Program, Sender};
use crate::metrics::Sample;
use crate::network;
use crate::remembering::Remembering;
use crate::store::{FoundStore, Store};
use crate::workers::{Urgency, Workers, cores};

/// Offset node: keeps friendships and balances, and serves its owner's apps.
#[derive(Debug, clap::Parser)]
#[command(name = "stnode", version)]
struct Args {
    /// The node's database (see `stmgr init-node-db`)
    #[arg(short, long, value_name = "FILE")]
    database: PathBuf,
    /// Where to listen for apps; port 0 picks a free one
    #[arg(short, long, value_name = "HOST:PORT", value_parser = args::door)]
    laddr: String,
    /// The folder with the tickets of the apps that may connect, watched while running
    #[arg(short, long, value_name = "DIR")]
    trusted: PathBuf,
    /// KiB of the log in front of the database: the larger, the fewer bytes are written for a payment
    #[arg(long, value_name = "KIB", default_value_t = FoundStore::DEFAULT_LOG / KIB, value_parser = clap::value_parser!(u64).range(FoundStore::SMALLEST_LOG / KIB..=FoundStore::LARGEST_LOG / KIB))]
    log_size: u64,
    /// Threads that check signatures; 0: the one that does everything else. Without it: one for each core of four or more, else 0
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(..=MOST_CHECKERS))]
    check_threads: Option<u16>,
    #[command(flatten)]
    server: ServerArgs,
}

const KIB: u64 = 1_024;
/// Good signatures that are remembered between the thread that checks and the funder, and from signing a response to seeing it
/// again in a commit. Chosen freely, in some 2 MiB at most: as many as payments can be under way.
const REMEMBERED: usize = 8_192;

/// With so many cores, signatures are checked on other threads. With few there is none that has nothing to do while a node is busy,
/// and what comes back one by one makes small rounds: measured with two, 32 payments in flight took 3.2 flushes each instead of 2.4.
const ENOUGH_CORES: usize = 4;
/// Threads that check signatures at most. Chosen freely, as many as large machines have cores.
const MOST_CHECKERS: i64 = 256;
/// Signatures of a check that is short.
const SHORT_CHECK: usize = 2;

const BUILD: Build = &[("program", "stnode"), ("version", env!("CARGO_PKG_VERSION"))];

/// The program.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    core_dumps::forbid();
    match config::parse("stnode", args) {
        Ok(args) => exit::finish("stnode", run(&args)),
        Err(code) => code,
    }
}

fn run(args: &Args) -> Result<(), Failure> {
    let mut server = Server::start(BUILD, &args.server, args.server.net.limits()?)?;
    let (found, records) = Store::find(&args.database, server.signer.public_key()).map_err(Failure::failed)?;
    let signer = Arc::new(Remembering::new(server.signer.clone(), REMEMBERED));
    let threads = args.check_threads.map_or(if cores() < ENOUGH_CORES { 0 } else { cores() }, usize::from);
    let checkers = checkers(threads, &signer, &server.inbox)?;
    let config = NodeConfig { signer: signer.clone(), seed: server.seed.clone() };
    let mut machine = Node::restore(config, records, server.clock.now()).map_err(|error| {
        Failure::failed(format_args!("the database {} cannot be understood: {error}", args.database.display()))
    })?;
    if checkers.is_none() {
        machine.check_here();
    }
    // Only now: what cannot be understood is not changed, and an older program can still open it.
    let store = found.with_log(args.log_size * KIB).open().map_err(Failure::failed)?;
    let inbox = server.inbox.clone();
    let _watch = trusted::watch(
        &args.trusted,
        |ticket: AppTicket| (ticket.public_key, ticket.permissions),
        move |trust| {
            inbox.input(match trust {
                Trust::Granted(app, permissions) => NodeInput::Trust { app, permissions },
                Trust::Withdrawn(app) => NodeInput::Distrust { app },
            });
        },
    )?;
    let inbox = server.inbox.clone();
    let _network = network::watch(move || inbox.input(NodeInput::NetworkReturned))
        .map_err(|error| Failure::failed(format_args!("cannot start: {error}")))?;
    server.listen(&Door {
        address: &args.laddr,
        purpose: Purpose::AppNode,
        reading: Reading::Freely,
        announcement: "listening on",
    })?;
    let words = Words { signer, inbox: server.inbox.clone(), checkers, has_checked: false };
    server.run(words, machine, Some(store))
}

/// Threads for signatures, if there are to be any.
fn checkers(
    threads: usize,
    signer: &Arc<Remembering>,
    inbox: &Sender<NodeInput>,
) -> Result<Option<Workers<Check>>, Failure> {
    if threads == 0 {
        return Ok(None);
    }
    let workers = Workers::start("check", threads, Urgency::Urgent, || {
        let (signer, inbox) = (signer.clone(), inbox.clone());
        move |check: Check| inbox.input(NodeInput::Checked(check.run(&*signer, Answers::Checked)))
    });
    workers.map(Some).map_err(|error| Failure::failed(format_args!("cannot start: {error}")))
}

struct Words {
    signer: Arc<Remembering>,
    inbox: Sender<NodeInput>,
    checkers: Option<Workers<Check>>,
    /// Whether the state thread has checked something in this turn.
    has_checked: bool,
}

impl Words {
    /// The first short check of a turn costs less than waking another thread, and others go on beside it.
    fn check(&mut self, check: Check) {
        let is_long = check.signatures() > SHORT_CHECK || std::mem::replace(&mut self.has_checked, true);
        match &self.checkers {
            Some(checkers) if is_long => checkers.give(check),
            _ => self.inbox.input(NodeInput::Checked(check.run(&*self.signer, Answers::Checked))),
        }
    }
}

impl Program for Words {
    type Machine = Node;
    type Input = NodeInput;
    type Output = NodeOutput;

    fn net(&mut self, event: NetEvent) -> NodeInput {
        NodeInput::Net(event)
    }

    fn tick(&mut self) -> NodeInput {
        NodeInput::Tick
    }

    fn durable(&mut self, revision: Revision) -> Option<NodeInput> {
        Some(NodeInput::Durable(revision))
    }

    fn wall(&mut self, wall: WallTime) -> Option<NodeInput> {
        // A turn begins.
        self.has_checked = false;
        Some(NodeInput::Wall(wall))
    }

    fn samples(&self, machine: &Node) -> Vec<Sample> {
        let counts = machine.money().counts();
        let friends = "Friends by state; what is disabled or inconsistent counts as that, connected or not";
        let friends = |state, number| Sample::gauge("offset_node_friends", friends, number).with("state", state);
        let relays =
            |state, number| Sample::gauge("offset_node_relays", "Relays in use, by state", number).with("state", state);
        let servers = |state, number| {
            Sample::gauge("offset_node_index_servers", "Index servers, by state", number).with("state", state)
        };
        let requests = "Requests on their way through this node, those that begin or end here included";
        vec![
            friends("online", counts.friends_online),
            friends("offline", counts.friends_offline),
            friends("disabled", counts.friends_disabled),
            friends("inconsistent", counts.friends_inconsistent),
            relays("connected", counts.relays_connected),
            relays("disconnected", counts.relays_disconnected),
            servers("connected", counts.index_servers_connected),
            servers("disconnected", counts.index_servers_disconnected),
            Sample::gauge("offset_node_open_requests", requests, counts.open_requests),
            Sample::gauge("offset_node_open_payments", "Payments whose outcome is not known yet", counts.open_payments),
        ]
    }

    fn effect(&mut self, output: NodeOutput) -> Effect {
        match output {
            NodeOutput::Net(command) => Effect::Net(command),
            NodeOutput::Persist { revision, changes } => Effect::Persist { revision, changes },
            NodeOutput::Check(check) => {
                self.check(check);
                Effect::Nothing
            }
            NodeOutput::Notice(Notice::RelayRefuses { relay, reason }) => {
                tracing::warn!(%relay, %reason, "a relay does not let friends find this node there");
                Effect::Nothing
            }
            NodeOutput::Notice(Notice::Disagrees(Disagreement { friend, name, why })) => {
                tracing::error!(
                    friend = %safe(name.as_str()),
                    key = %friend,
                    %why,
                    "nothing moves with this friend any more until one of you accepts the other's terms: see 'stctrl info \
                     friends', then 'stctrl config reset-friend'"
                );
                Effect::Nothing
            }
        }
    }
}
