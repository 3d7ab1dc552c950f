//! The servers of the network as hosts run them: relay and index server. The same machines as in the real programs.

use std::cell::RefCell;
use std::collections::BTreeSet;

use offset_index_sm::search::Workspace;
use offset_index_sm::server::heard::Heard;
use offset_index_sm::server::{EndReason, IndexServer, ServerInput, ServerLimits, ServerOutput};
use offset_protocol::bytes::PublicKey;
use offset_protocol::identity::SharedSigner;
use offset_protocol::net::{Address, ConnIds, NetEvent, Purpose};
use offset_relay_sm::server::{
    Input as RelayInput, Limits as RelayLimits, Misbehaviour as RelayRule, Output as RelayOutput, RelayServer,
};

use crate::dice::Dice;
use crate::host::{Boot, Effect, HostInput, Hosted, Job, Prepare, Process, Program, Resident, Weight};

/// Where relays wait for nodes.
pub const RELAY_PORT: u16 = 4_001;
/// Where index servers wait for nodes.
pub const INDEX_CLIENT_PORT: u16 = 4_002;
/// Where index servers wait for each other.
pub const INDEX_SERVER_PORT: u16 = 4_003;

/// An index server with more entries does not look at itself: that costs as much as all its reports. Chosen freely: far more
/// than a swarm's networks have.
#[cfg(feature = "probes")]
const MAX_ASSERTED: usize = 2_000;

/// A relay.
#[derive(Clone, Copy, Debug)]
pub struct Relay {
    /// Its limits.
    pub limits: RelayLimits,
}

impl Program for Relay {
    fn ports(&self) -> Vec<(u16, Purpose)> {
        vec![(RELAY_PORT, Purpose::NodeRelay)]
    }

    fn drains(&self) -> bool {
        true
    }

    fn start(&mut self, _boot: Boot<'_>) -> Result<Box<dyn Process>, String> {
        Ok(Box::new(Hosted::new(RelayServer::new(self.limits), Vec::new())))
    }
}

impl Resident for RelayServer {
    fn input(input: HostInput) -> Option<RelayInput> {
        match input {
            HostInput::Net(event) => Some(RelayInput::Net(event)),
            HostInput::JoinEnded { a, b } => Some(RelayInput::JoinEnded { a, b }),
            HostInput::Drain => Some(RelayInput::Drain),
            HostInput::Tick => Some(RelayInput::Tick),
            HostInput::Durable(_) | HostInput::Wall(_) | HostInput::NetworkReturned | HostInput::Note(_) => None,
        }
    }

    fn effect(output: RelayOutput) -> Option<Effect> {
        Some(match output {
            RelayOutput::Net(command) => Effect::Net(command),
            RelayOutput::Resume { conn } => Effect::Resume { conn },
            RelayOutput::Join { a, b } => Effect::Join { a, b },
            RelayOutput::Misbehaved { peer, rule, .. } => {
                let weight = match rule {
                    // Its word may be lost on the way.
                    RelayRule::Silent => Weight::Remark,
                    RelayRule::Garbage | RelayRule::Unexpected => Weight::Accusation,
                };
                Effect::Blame { what: format!("{peer:?}: {rule}"), weight }
            }
            RelayOutput::TurnedAway { .. } => return None,
            RelayOutput::Drained => Effect::Stop,
        })
    }

    #[cfg(feature = "probes")]
    fn assert_consistent(&self) {
        RelayServer::assert_consistent(self);
    }
}

/// An index server.
#[derive(Clone, Debug)]
pub struct Index {
    /// The servers that it trusts, with their ports for servers.
    pub trusted: Vec<(PublicKey, Address)>,
    /// Its limits.
    pub limits: ServerLimits,
}

impl Program for Index {
    fn ports(&self) -> Vec<(u16, Purpose)> {
        vec![(INDEX_CLIENT_PORT, Purpose::NodeIndex), (INDEX_SERVER_PORT, Purpose::IndexIndex)]
    }

    fn start(&mut self, boot: Boot<'_>) -> Result<Box<dyn Process>, String> {
        let signer = boot.signer.clone();
        // Both ways are to the same effect, and programs go the one, tests of the machine mostly the other.
        let prepares = Dice::new(&boot.seed, "checked before").chance(500);
        let server = IndexServer::new(boot.now, boot.signer, &boot.seed, ConnIds::lane(0, 1), self.limits);
        let trust = |(server, address): (PublicKey, Address)| ServerInput::Trust { server, address };
        let hosted = Hosted::new(server, self.trusted.iter().cloned().map(trust).collect());
        Ok(Box::new(if prepares { hosted.prepared(check_messages(signer)) } else { hosted }))
    }
}

/// Has messages checked before the server sees them, as real programs do. Only servers are dialled.
fn check_messages(signer: SharedSigner) -> Prepare<ServerInput> {
    let mut nodes = BTreeSet::new();
    Box::new(move |input| {
        let ServerInput::Net(event) = &input else { return input };
        match event {
            NetEvent::Incoming { conn, purpose: Purpose::NodeIndex, .. } => {
                nodes.insert(*conn);
            }
            NetEvent::Closed { conn } => {
                nodes.remove(conn);
            }
            NetEvent::Message { conn, bytes } => {
                let purpose = if nodes.contains(conn) { Purpose::NodeIndex } else { Purpose::IndexIndex };
                if let Some(heard) = Heard::check(purpose, bytes, &*signer) {
                    return ServerInput::Heard { conn: *conn, heard };
                }
            }
            NetEvent::Incoming { .. } | NetEvent::Opened { .. } => {}
        }
        input
    })
}

impl Resident for IndexServer {
    fn input(input: HostInput) -> Option<ServerInput> {
        match input {
            HostInput::Net(event) => Some(ServerInput::Net(event)),
            HostInput::Tick => Some(ServerInput::Tick),
            HostInput::JoinEnded { .. }
            | HostInput::Durable(_)
            | HostInput::Wall(_)
            | HostInput::NetworkReturned
            | HostInput::Drain
            | HostInput::Note(_) => None,
        }
    }

    fn aside(&self, output: ServerOutput) -> Result<Job<ServerInput>, ServerOutput> {
        thread_local! {
            /// What it was used for before makes no difference.
            static WORKSPACE: RefCell<Workspace> = RefCell::new(Workspace::new());
        }
        match output {
            ServerOutput::Search(search) => {
                Ok(Box::new(move || ServerInput::Found(WORKSPACE.with_borrow_mut(|workspace| search.run(workspace)))))
            }
            other => Err(other),
        }
    }

    fn effect(output: ServerOutput) -> Option<Effect> {
        Some(match output {
            ServerOutput::Net(command) => Effect::Net(command),
            // Done aside.
            ServerOutput::Search(_) => return None,
            ServerOutput::Ended { peer, reason, .. } => {
                let weight = match reason {
                    EndReason::Misbehaved(_) | EndReason::Purpose => Weight::Accusation,
                    EndReason::Untrusted | EndReason::Replaced | EndReason::Crossed | EndReason::Full => Weight::Remark,
                };
                Effect::Blame { what: format!("{peer:?}: {reason}"), weight }
            }
            ServerOutput::NotTrusted { server, reason } => {
                Effect::Blame { what: format!("{server:?}: {reason}"), weight: Weight::Accusation }
            }
        })
    }

    #[cfg(feature = "probes")]
    fn assert_consistent(&self) {
        if self.stats().entries <= MAX_ASSERTED {
            IndexServer::assert_consistent(self);
        }
    }
}
