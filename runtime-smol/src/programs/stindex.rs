//! `stindex`: learns who can pay whom, and finds routes.
//!
//! | thread | does |
//! |---|---|
//! | the state thread | the machine: reports, ticks, whose request is searched for next |
//! | the connections' tasks | channels; decode and check what peers say ([`Heard`]) |
//! | one worker for each core | searches, each over a snapshot of the graph |

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use offset_index_sm::search::Workspace;
use offset_index_sm::server::heard::Heard;
use offset_index_sm::server::searches::Search;
use offset_index_sm::server::{IndexServer, ServerInput, ServerOutput};
use offset_protocol::app::IndexAddress;
use offset_protocol::identity::Verifier;
use offset_protocol::net::{ConnIds, NetEvent, Purpose};

use super::exit::{self, Failure};
use super::limit_args::IndexArgs;
use super::server::{Build, Door, Server, ServerArgs};
use super::trusted::{self, Trust};
use super::{args, config, core_dumps};
use crate::connection::{Handed, Payer, Reading};
use crate::driver::{Effect, Pace, Prepare, Program};
use crate::metrics::{Sample, Value};
use crate::remembering::Remembering;
use crate::workers::{Urgency, Workers, cores};

/// How long reports are taken in before what was said about them leaves, and a tick that is due. Chosen freely: far below a
/// network's delay, far above what a turn costs by itself.
const SLICE: Duration = Duration::from_millis(5);

/// Offset index server: learns who can pay whom from the nodes themselves, and finds routes for them.
#[derive(Debug, clap::Parser)]
#[command(name = "stindex", version)]
struct Args {
    /// Where to listen for nodes; port 0 picks a free one
    #[arg(short = 'c', long, value_name = "HOST:PORT", value_parser = args::door)]
    lclient: String,
    /// Where to listen for other index servers; port 0 picks a free one
    #[arg(short = 's', long, value_name = "HOST:PORT", value_parser = args::door)]
    lserver: String,
    /// The folder with index tickets of the servers to share reports with, watched while running
    #[arg(short, long, value_name = "DIR")]
    trusted: PathBuf,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    limits: IndexArgs,
}

const BUILD: Build = &[("program", "stindex"), ("version", env!("CARGO_PKG_VERSION"))];

/// The program.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    core_dumps::forbid();
    match config::parse("stindex", args) {
        Ok(args) => exit::finish("stindex", run(&args)),
        Err(code) => code,
    }
}

fn run(args: &Args) -> Result<(), Failure> {
    let cores = cores();
    let limits = args.limits.limits(cores)?;
    let mut server = Server::start(BUILD, &args.server, args.server.net.limits()?)?;
    let inbox = server.inbox.clone();
    let _watch = trusted::watch(
        &args.trusted,
        |ticket: IndexAddress| (ticket.public_key, ticket.address),
        move |trust| {
            inbox.input(match trust {
                Trust::Granted(server, address) => ServerInput::Trust { server, address },
                Trust::Withdrawn(server) => ServerInput::Distrust { server },
            });
        },
    )?;
    let (now, conn_ids) = (server.clock.now(), ConnIds::lane(0, 1));
    let machine = IndexServer::new(now, server.signer.clone(), &server.seed, conn_ids, limits);
    let searchers = Workers::start("search", cores, Urgency::CanWait, || {
        let (mut workspace, inbox) = (Workspace::new(), server.inbox.clone());
        move |search: Search| inbox.input(ServerInput::Found(search.run(&mut workspace)))
    });
    let searchers = searchers.map_err(|error| Failure::failed(format_args!("cannot start: {error}")))?;
    let verifier = Arc::new(Remembering::new(server.signer.clone(), 2 * limits.max_clients));
    server.listen(&Door {
        address: &args.lclient,
        purpose: Purpose::NodeIndex,
        reading: Reading::Freely,
        announcement: "listening for clients on",
    })?;
    server.listen(&Door {
        address: &args.lserver,
        purpose: Purpose::IndexIndex,
        reading: Reading::Freely,
        announcement: "listening for servers on",
    })?;
    server.run(Index { searchers, verifier }, machine, None)
}

/// What checking a message of so many bytes was worth. Trusted servers pay for nothing: they hand on what all their nodes say. A
/// request for routes costs a node a unit, whatever becomes of it: so it can send 128 of them a second, far more than are answered, and
/// not fill what the server reads from others.
fn worth(purpose: Purpose, heard: &Heard, bytes: usize) -> Handed {
    let (units, payer) = match (purpose == Purpose::NodeIndex, heard.is_light()) {
        (true, true) => (1, Payer::Connection),
        (true, false) => (Handed::units_of(bytes), Payer::Address),
        (false, true) => (0, Payer::Nobody),
        (false, false) => (Handed::units_of(bytes), Payer::Nobody),
    };
    Handed { units, payer, last: heard.is_last() }
}

struct Index {
    searchers: Workers<Search>,
    verifier: Arc<dyn Verifier>,
}

impl Program for Index {
    type Machine = IndexServer;
    type Input = ServerInput;
    type Output = ServerOutput;

    fn net(&mut self, event: NetEvent) -> ServerInput {
        ServerInput::Net(event)
    }

    fn prepare(&mut self) -> Option<Prepare<ServerInput>> {
        let verifier = self.verifier.clone();
        Some(Box::new(move |from, bytes| match Heard::check(from.purpose, &bytes, &*verifier) {
            Some(heard) => {
                let handed = worth(from.purpose, &heard, bytes.len());
                Ok((ServerInput::Heard { conn: from.conn, heard }, handed))
            }
            None => Err(bytes),
        }))
    }

    fn pace(&self) -> Pace {
        Pace::Sliced(SLICE)
    }

    fn tick(&mut self) -> ServerInput {
        ServerInput::Tick
    }

    fn samples(&self, machine: &IndexServer) -> Vec<Sample> {
        let stats = machine.stats();
        vec![
            Sample::gauge("offset_index_clients", "Sessions of nodes", stats.clients),
            Sample::gauge("offset_index_neighbours", "Sessions of other index servers", stats.neighbours),
            Sample::gauge("offset_index_nodes", "Nodes in the graph", stats.nodes),
            Sample::gauge("offset_index_entries", "Entries of all reports in the graph", stats.entries),
            Sample::gauge("offset_index_reports_wanted", "Reports that are missing and were asked for", stats.wanted),
            Sample::gauge(
                "offset_index_requests_waiting",
                "Requests for routes that wait for their turn",
                stats.waiting,
            ),
            Sample::gauge("offset_index_searches", "Searches for routes in progress", stats.searching),
            Sample::gauge(
                "offset_index_searches_costly",
                "Searches in progress that a quick one was not enough for",
                stats.searching_costly,
            ),
            Sample::new(
                "offset_index_search_seconds_total",
                "Time that searches took, all threads together",
                Value::FractionalCounter(self.searchers.busy_seconds()),
            ),
            Sample::counter(
                "offset_index_searched_lines_total",
                "Lines of reports that searches looked at",
                stats.searched,
            ),
            Sample::counter("offset_index_requests_answered_total", "Requests for routes answered", stats.answered),
            Sample::counter("offset_index_requests_busy_total", "Requests for routes met with Busy", stats.busy),
            Sample::counter("offset_index_reports_accepted_total", "Reports that were new and taken", stats.accepted),
            Sample::counter(
                "offset_index_reports_ignored_total",
                "Reports that were old, known or stale",
                stats.ignored,
            ),
            Sample::counter("offset_index_reports_refused_total", "Reports that there was no room for", stats.refused),
        ]
    }

    fn effect(&mut self, output: ServerOutput) -> Effect {
        match output {
            ServerOutput::Net(command) => return Effect::Net(command),
            ServerOutput::Search(search) => self.searchers.give(search),
            ServerOutput::Ended { conn, peer, reason } => tracing::info!(?conn, %peer, %reason, "connection ended"),
            ServerOutput::NotTrusted { server, reason } => tracing::warn!(%server, %reason, "a ticket was ignored"),
        }
        Effect::Nothing
    }
}

#[cfg(test)]
mod tests {
    use offset_protocol::bytes::{Hash, TickHash};
    use offset_protocol::codec::{List, encode};
    use offset_protocol::identity::{Ed25519, Identity, SharedSigner};
    use offset_protocol::index::{Attestation, IndexToIndex, NodeToIndex, Proof, RequestRoutes};

    use super::*;

    #[test]
    fn nodes_pay_for_what_is_checked_and_a_bad_signature_is_the_last_that_is_looked_at() {
        let signer: SharedSigner = Arc::new(Identity::from_private_key(&[1; 32]));
        let worth =
            |purpose, bytes: &[u8]| worth(purpose, &Heard::check(purpose, bytes, &Ed25519).unwrap(), bytes.len());
        let attestation = Attestation::sign(&signer, 1, Hash([2; 32]), TickHash([3; 32]));
        let good = Handed { units: 1, payer: Payer::Address, last: false };
        assert_eq!(worth(Purpose::NodeIndex, &encode(&NodeToIndex::Attestation(attestation))), good);
        let forged = Attestation { version: 2, ..attestation };
        let bad = Handed { last: true, ..good };
        assert_eq!(worth(Purpose::NodeIndex, &encode(&NodeToIndex::Attestation(forged))), bad);
        let request = RequestRoutes {
            id: 1,
            currency: "USD".parse().unwrap(),
            amount: 1,
            source: attestation.node,
            destination: attestation.node,
            exclude: List::new(),
            max_fee: None,
        };
        let request = encode(&NodeToIndex::RequestRoutes(request));
        assert_eq!(worth(Purpose::NodeIndex, &request), Handed { payer: Payer::Connection, ..good });
        let flooded = encode(&IndexToIndex::Attestation { attestation, proof: Proof::new() });
        assert_eq!(worth(Purpose::IndexIndex, &flooded), Handed { payer: Payer::Nobody, ..good });
    }
}
