//! The index server: learns nodes' reports from the nodes and from servers that it trusts, and answers requests for routes.
//!
//! | from → to | message | effect |
//! |---|---|---|
//! | server → node | `Tick` | on connecting, each heartbeat, and at extra ticks |
//! | node → server | `State`, `Delta`, `Attestation` | the node's own report ([`reports`]) |
//! | server → node | `Want` | the server lacks the report that an attestation or delta is about |
//! | node → server | `RequestRoutes` | `Routes`, or `Busy` ([`searches`]) |
//! | server ↔ server | `Tick` | goes into the next tick ([`federation`]) |
//! | server ↔ server | `State`, `Delta`, `Attestation`, `Want` | reports, flooded with proofs of freshness ([`reports`]) |
//! | server → server, server → node | `Later` | what a node said lately and does not remember travels back to it |
//!
//! Invariants:
//! 1. A node is reported by itself only, whoever hands it on: every report carries the node's signature.
//! 2. An older report never replaces a newer one; a report that was heard once refreshes nothing when it is heard again.
//! 3. A node without a fresh attestation for [`INDEX_NODE_TTL`](offset_protocol::limits::INDEX_NODE_TTL) is not in the graph.
//! 4. One session for each node and each server; a new one is never refused because an old one lingers.
//! 5. Nothing is said to a server that is not trusted, and nothing of it is heard.
//! 6. Everything that a peer can fill is bounded by [`ServerLimits`] or a constant beside it; what it can make the server do
//!    with reports, over all its sessions, by [`manners`].
//! 7. What costs much happens elsewhere, on any thread: searches ([`searches::Search`]), and the checks of a message that need to
//!    know nothing ([`heard::Heard`]). Whoever gives the machine bytes instead has them checked here, to the same effect.
//!
//! Not checked: whether a report is true. Two nodes that both claim a friendship have one, as far as an index server knows;
//! a payment finds out. A server that holds attestations back can keep a dead node in the graph for as long as ticks are
//! remembered, no longer.

pub mod federation;
pub mod heard;
mod limits;
pub mod manners;
mod queue;
pub mod reports;
pub mod searches;
mod shares;
pub mod ticks;

#[cfg(test)]
mod manners_tests;
#[cfg(test)]
mod network_tests;
#[cfg(test)]
mod search_tests;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use offset_protocol::buggify;
use offset_protocol::bytes::{PublicKey, TickHash};
use offset_protocol::codec::{DecodeError, encode};
use offset_protocol::identity::{BadSignature, SharedSigner};
use offset_protocol::index::{BadReport, BrokenProof, IndexToIndex, IndexToNode};
use offset_protocol::limits::INDEX_TICK;
use offset_protocol::machine::{Alarm, Duration, Instant, Machine, Rng, Seed};
use offset_protocol::net::{Address, ConnId, ConnIds, NetCommand, NetEvent, Purpose};

use crate::backoff::Bucket;
use crate::graph::Graph;
use federation::Federation;
use heard::{Heard, NodeWord, ServerWord};
pub use limits::ServerLimits;
use manners::{Manners, Memory};
use queue::Searches;
use reports::{Origin, Reports};
use searches::{Found, Search};
use shares::{Shares, Slot};
use ticks::Ticks;

/// One request for routes each so long, sustained: 20 a second.
pub const QUERY_INTERVAL: Duration = Duration::from_millis(50);
/// Requests for routes at once.
pub const QUERY_BURST: u64 = 100;
/// One report each so long, sustained: twice what the rules allow a node.
pub const REPORT_INTERVAL: Duration = Duration::from_millis(500);
/// Reports at once: a minute's worth that a slow network delivered together.
pub const REPORT_BURST: u64 = 120;
/// Clients that connect after a tick until the server makes an extra one, so that their attestations name a young tick.
pub const CLIENT_BURST: usize = 64;
/// Extra ticks are at least this far apart, so that they do not push regular ones out of memory too soon.
pub const EXTRA_TICK_GAP: Duration = Duration::from_secs(10);

/// What happens to an index server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerInput {
    /// Something about a connection: `NodeIndex` from anybody, `IndexIndex` from trusted servers.
    Net(NetEvent),
    /// A message, as [`NetEvent::Message`] brings it, that was checked already.
    Heard {
        /// The connection.
        conn: ConnId,
        /// What was said.
        heard: Heard,
    },
    /// A search that was handed out is over.
    Found(Found),
    /// An alarm is due.
    Tick,
    /// Talk to this server, if it trusts us as well. Again with another address: use that one.
    Trust {
        /// Its identity.
        server: PublicKey,
        /// Where it listens for servers.
        address: Address,
    },
    /// No longer talk to this server.
    Distrust {
        /// Its identity.
        server: PublicKey,
    },
}

/// What an index server wants done. A crash loses all of it, and all that it knew; nodes report again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerOutput {
    /// Something about a connection.
    Net(NetCommand),
    /// Search, on any thread, and bring back what was found as [`ServerInput::Found`].
    Search(Search),
    /// The server closed a connection; for the log.
    Ended {
        /// The connection.
        conn: ConnId,
        /// Who was there.
        peer: PublicKey,
        /// Why.
        reason: EndReason,
    },
    /// A server cannot be trusted; for the log.
    NotTrusted {
        /// Which.
        server: PublicKey,
        /// Why not.
        reason: TrustRefusal,
    },
}

/// Why the server closed a connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndReason {
    /// The peer broke a rule.
    #[error("misbehaviour: {0}")]
    Misbehaved(#[from] Misbehaviour),
    /// A server that is not trusted.
    #[error("the server is not trusted")]
    Untrusted,
    /// The same peer has a newer connection.
    #[error("a newer connection of the same peer replaced this one")]
    Replaced,
    /// Both servers dialled at once, and the other connection stays.
    #[error("both servers dialled at once")]
    Crossed,
    /// No room for another client.
    #[error("the server has no room for more clients")]
    Full,
    /// An index server speaks with nodes and index servers only.
    #[error("a connection for another purpose")]
    Purpose,
}

/// A rule that a peer broke.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misbehaviour {
    /// Not a message.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
    /// A report against the rules of its form.
    #[error(transparent)]
    Report(#[from] BadReport),
    /// A report that its node did not sign.
    #[error("a report with a bad signature")]
    Signature(#[from] BadSignature),
    /// A proof that does not hang together.
    #[error(transparent)]
    Proof(#[from] BrokenProof),
    /// A node spoke for another one.
    #[error("a node reported for another node")]
    NotItself,
    /// A whole report with another hash than its attestation states.
    #[error("a report does not have the hash that its node signed")]
    StateHash,
    /// More reports than the rules allow.
    #[error("too many reports")]
    TooManyReports,
}

/// Why a server was not put among the trusted ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrustRefusal {
    /// It is this very server.
    #[error("a server does not talk to itself")]
    Itself,
    /// There are too many.
    #[error("no room for more trusted servers")]
    TooMany,
}

/// What a server has and did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerStats {
    /// Sessions of nodes.
    pub clients: usize,
    /// Sessions of servers.
    pub neighbours: usize,
    /// Nodes in the graph.
    pub nodes: usize,
    /// Entries of all reports.
    pub entries: usize,
    /// Reports that it lacks and has asked other servers for.
    pub wanted: usize,
    /// When the one of them was asked for that waits longest.
    pub wanted_since: Option<Instant>,
    /// Requests for routes that wait for their turn.
    pub waiting: usize,
    /// Searches that were handed out and are not over.
    pub searching: usize,
    /// Those of them that a quick search was not enough for: they may look at all that [`ServerLimits::work`] allows.
    pub searching_costly: usize,
    /// Requests for routes answered.
    pub answered: u64,
    /// Requests for routes met with `Busy`.
    pub busy: u64,
    /// Lines of reports that searches looked at.
    pub searched: u64,
    /// Options that a search offered and that the graph, as it was when the search began, did not carry. Counted in
    /// simulations and tests only.
    pub unsound: u64,
    /// Reports that were new and taken.
    pub accepted: u64,
    /// Those of them that were no news at all: there must be none.
    pub repeated: u64,
    /// Reports that were old, known, or not provably fresh.
    pub ignored: u64,
    /// Reports that the limits left no room for, or whose node or address makes too much work.
    pub refused: u64,
}

/// The machine of an index server. See the [module](self).
pub struct IndexServer {
    signer: SharedSigner,
    limits: ServerLimits,
    conns: BTreeMap<ConnId, Peer>,
    conn_ids: ConnIds,
    clients: BTreeMap<PublicKey, Client>,
    federation: Federation,
    reports: Reports,
    ticks: Ticks,
    schedule: TickSchedule,
    graph: Graph,
    memory: Memory,
    shares: Shares,
    searches: Searches,
    rng: Rng,
    outputs: VecDeque<ServerOutput>,
    stats: ServerStats,
}

/// Who is at the other end of a connection that messages may come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peer {
    Client(PublicKey),
    /// Not open yet.
    Dialled(PublicKey),
    Neighbour(PublicKey),
}

#[derive(Clone, Debug)]
struct Client {
    conn: ConnId,
    /// Where it comes from, for limits.
    site: Address,
    slot: Slot,
    queries: Bucket,
    reports: Bucket,
}

#[derive(Clone, Copy, Debug)]
struct TickSchedule {
    regular: Instant,
    extra: Option<Instant>,
    /// What the next tick tells neighbours.
    ripple: u8,
    /// The next extra tick is not before this.
    extra_not_before: Instant,
    joined: usize,
}

impl IndexServer {
    /// A server that knows nothing and trusts nobody yet.
    pub fn new(now: Instant, signer: SharedSigner, seed: &Seed, conn_ids: ConnIds, limits: ServerLimits) -> Self {
        IndexServer {
            federation: Federation::new(signer.public_key()),
            signer,
            limits,
            conns: BTreeMap::new(),
            conn_ids,
            clients: BTreeMap::new(),
            reports: Reports::default(),
            ticks: Ticks::new(seed.fork("index ticks").rng()),
            schedule: TickSchedule {
                regular: now + INDEX_TICK,
                extra: None,
                ripple: 0,
                extra_not_before: now,
                joined: 0,
            },
            graph: Graph::new(),
            memory: Memory::default(),
            shares: Shares::new(seed.fork("index shares")),
            searches: Searches::default(),
            rng: seed.fork("index backoff").rng(),
            outputs: VecDeque::new(),
            stats: ServerStats::default(),
        }
    }

    /// What the server has and did so far.
    pub fn stats(&self) -> ServerStats {
        ServerStats {
            clients: self.clients.len(),
            neighbours: self.federation.sessions(),
            nodes: self.reports.alive(),
            entries: self.graph.entries(),
            wanted: self.reports.wanted(),
            wanted_since: self.reports.wanted_since(),
            waiting: self.searches.waiting(),
            searching: self.searches.running(),
            searching_costly: self.searches.running_full(),
            ..self.stats
        }
    }

    /// The last tick that it made.
    pub fn tick(&self) -> TickHash {
        self.ticks.current()
    }

    /// What the server knows, for whoever checks it.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// For simulations and tests: panics if an invariant of the module does not hold. Costs as much as all reports.
    #[cfg(any(test, feature = "probes"))]
    pub fn assert_consistent(&self) {
        self.graph.assert_consistent();
        self.reports.assert_consistent(&self.ticks);
        self.searches.assert_consistent(&self.limits);
        assert!(self.graph.owners().all(|node| self.reports.is_held(node)), "a silent node is in the graph");
        assert!(self.clients.len() <= self.limits.max_clients);
        assert!(self.reports.remembered() <= self.limits.max_nodes && self.limits.hold(&self.graph));
        assert!(self.memory.is_bounded());
        self.assert_shares();
        let of_clients =
            self.clients.iter().all(|(key, client)| self.conns.get(&client.conn) == Some(&Peer::Client(*key)));
        let of_servers = self.federation.open();
        let of_servers = of_servers.iter().all(|(key, conn)| self.conns.get(conn) == Some(&Peer::Neighbour(*key)));
        assert!(of_clients && of_servers, "a session has its connection");
        let sessions = self.conns.values().filter(|peer| !matches!(peer, Peer::Dialled(_))).count();
        assert_eq!(sessions, self.clients.len() + self.federation.sessions(), "a connection has its session");
    }

    #[cfg(any(test, feature = "probes"))]
    fn assert_shares(&self) {
        let (sessions, lines) = self.shares.all();
        let mut counted = BTreeMap::new();
        self.clients.values().for_each(|client| *counted.entry(client.slot).or_default() += 1_u32);
        assert_eq!(*sessions, counted, "each session is counted for its address");
        assert_eq!(*lines, self.reports.lines_by_slot(), "and each line");
        assert!(sessions.values().all(|sessions| *sessions as usize <= self.limits.max_clients_each));
    }

    fn on_net(&mut self, now: Instant, event: NetEvent) {
        match event {
            NetEvent::Incoming { conn, purpose, peer, from } => match purpose {
                Purpose::NodeIndex => self.on_client(now, conn, peer, &from),
                Purpose::IndexIndex => self.on_incoming_server(now, conn, peer),
                Purpose::NodeRelay | Purpose::AppNode | Purpose::Friend => self.end(conn, peer, EndReason::Purpose),
            },
            NetEvent::Opened { conn } => self.on_opened(now, conn),
            NetEvent::Message { conn, bytes } => self.on_message(now, conn, &bytes),
            NetEvent::Closed { conn } => self.on_closed(now, conn),
        }
    }

    fn on_client(&mut self, now: Instant, conn: ConnId, node: PublicKey, from: &Address) {
        let (site, slot) = (from.clone(), self.shares.slot(from));
        let is_new = !self.clients.contains_key(&node) && !self.memory.remembers(&node);
        let client = match self.clients.get(&node).cloned() {
            Some(old) => {
                self.end(old.conn, node, EndReason::Replaced);
                self.searches.forget_waiting(&node);
                self.shares.session_ends(old.slot);
                Client { conn, site, slot, ..old }
            }
            None if self.clients.len() >= self.limits.max_clients
                || self.shares.sessions(slot) >= self.limits.max_clients_each =>
            {
                return self.end(conn, node, EndReason::Full);
            }
            None => {
                let Manners { queries, reports } = self.memory.recall(&node);
                Client { conn, site, slot, queries, reports }
            }
        };
        self.shares.session_begins(slot);
        self.clients.insert(node, client);
        self.conns.insert(conn, Peer::Client(node));
        self.net(NetCommand::Admit { conn });
        self.send(conn, &IndexToNode::Tick(self.ticks.current()));
        // Whoever comes again and again brings nobody a tick; nor do the few of many that come all the time.
        self.schedule.joined += usize::from(is_new);
        if self.schedule.joined >= CLIENT_BURST.max(self.clients.len() / CLIENT_BURST)
            || buggify!("index: a tick out of turn", 100)
        {
            self.want_extra_tick(now, 0);
        }
    }

    fn on_message(&mut self, now: Instant, conn: ConnId, bytes: &[u8]) {
        let purpose = match self.conns.get(&conn) {
            // Closed a moment ago, or not open yet: not heard.
            None | Some(Peer::Dialled(_)) => return,
            Some(Peer::Client(_)) => Purpose::NodeIndex,
            Some(Peer::Neighbour(_)) => Purpose::IndexIndex,
        };
        if let Some(heard) = Heard::check(purpose, bytes, &*self.signer) {
            self.on_heard(now, conn, heard);
        }
    }

    fn on_heard(&mut self, now: Instant, conn: ConnId, heard: Heard) {
        let (peer, result) = match self.conns.get(&conn).copied() {
            None | Some(Peer::Dialled(_)) => return,
            Some(Peer::Client(node)) => {
                let Some(word) = heard.into_node_word() else { return };
                (node, word.and_then(|word| self.on_node_word(now, node, word)))
            }
            Some(Peer::Neighbour(server)) => {
                let Some(word) = heard.into_server_word() else { return };
                (server, word.and_then(|word| self.on_server_word(now, server, word)))
            }
        };
        if let Err(misbehaviour) = result {
            self.end(conn, peer, EndReason::Misbehaved(misbehaviour));
            self.forget_conn(now, conn);
        }
    }

    fn on_node_word(&mut self, now: Instant, node: PublicKey, word: NodeWord) -> Result<(), Misbehaviour> {
        let report = match word {
            NodeWord::Request(request) => {
                self.on_request(now, node, request);
                return Ok(());
            }
            NodeWord::Report(report) => report,
        };
        let allowed = |client: &mut Client| client.reports.take(now, REPORT_INTERVAL, REPORT_BURST);
        if !self.clients.get_mut(&node).is_some_and(allowed) {
            return Err(Misbehaviour::TooManyReports);
        }
        self.on_report(now, Origin::Node(node), report)
    }

    fn on_server_word(&mut self, now: Instant, server: PublicKey, word: ServerWord) -> Result<(), Misbehaviour> {
        match word {
            ServerWord::Tick { tick, ripple } => self.on_neighbours_tick(now, server, tick, ripple),
            ServerWord::Want { node } => self.on_want(server, node),
            ServerWord::Later(attestation) => self.on_later(now, server, attestation),
            ServerWord::Report(report) => return self.on_report(now, Origin::Neighbour(server), report),
        }
        Ok(())
    }

    fn on_closed(&mut self, now: Instant, conn: ConnId) {
        self.forget_conn(now, conn);
    }

    /// The connection is gone, or as good as gone; what its peer reported stays until it is no longer fresh.
    fn forget_conn(&mut self, now: Instant, conn: ConnId) {
        match self.conns.remove(&conn) {
            Some(Peer::Client(node)) if self.clients.get(&node).is_some_and(|client| client.conn == conn) => {
                if let Some(Client { queries, reports, slot, .. }) = self.clients.remove(&node) {
                    self.shares.session_ends(slot);
                    self.memory.remember(now, node, Manners { queries, reports });
                }
                self.searches.forget_waiting(&node);
            }
            Some(Peer::Dialled(server) | Peer::Neighbour(server)) => self.on_neighbour_gone(now, server, conn),
            Some(Peer::Client(_)) | None => {}
        }
    }

    fn on_tick(&mut self, now: Instant) {
        if now >= self.schedule.regular {
            // A server that slept through ticks makes one, not all of them.
            let missed = now.since(self.schedule.regular).as_micros() / INDEX_TICK.as_micros();
            self.schedule.regular += INDEX_TICK.times(missed + 1);
            self.make_tick(now);
        }
        if self.schedule.extra.is_some_and(|at| now >= at) {
            self.schedule.extra_not_before = now + EXTRA_TICK_GAP;
            self.make_tick(now);
        }
        self.expire(now);
        self.dial_due(now);
        self.on_search_alarms(now);
    }

    /// A tick out of turn, so that nobody waits for the regular one to be heard; one for all who want it by then.
    fn want_extra_tick(&mut self, now: Instant, ripple: u8) {
        self.schedule.ripple = self.schedule.ripple.max(ripple);
        let at = self.schedule.extra_not_before.max(now);
        self.schedule.extra.get_or_insert(at);
    }

    fn make_tick(&mut self, now: Instant) {
        let tick = self.ticks.make(&self.federation.last_ticks());
        let ripple = std::mem::take(&mut self.schedule.ripple);
        self.schedule.extra = None;
        self.schedule.joined = 0;
        let clients: Vec<ConnId> = self.clients.values().map(|client| client.conn).collect();
        let to_node = encode(&IndexToNode::Tick(tick));
        for conn in clients {
            self.net(NetCommand::Send { conn, bytes: to_node.clone() });
        }
        let to_server = encode(&IndexToIndex::Tick { tick, ripple });
        for conn in self.federation.conns() {
            self.net(NetCommand::Send { conn, bytes: to_server.clone() });
        }
        self.bury_for_good(now);
        self.memory.forget(now);
        self.searches.forget_done(now);
    }

    fn net(&mut self, command: NetCommand) {
        self.outputs.push_back(ServerOutput::Net(command));
    }

    fn send(&mut self, conn: ConnId, message: &impl serde::Serialize) {
        self.net(NetCommand::Send { conn, bytes: encode(message) });
    }

    /// Closes a connection; the caller forgets what was known of its peer.
    fn end(&mut self, conn: ConnId, peer: PublicKey, reason: EndReason) {
        if matches!(reason, EndReason::Replaced | EndReason::Crossed) {
            self.conns.remove(&conn);
        }
        self.net(NetCommand::Close { conn });
        self.outputs.push_back(ServerOutput::Ended { conn, peer, reason });
    }
}

impl Machine for IndexServer {
    type Input = ServerInput;
    type Output = ServerOutput;

    fn handle(&mut self, now: Instant, input: ServerInput) {
        match input {
            ServerInput::Net(event) => self.on_net(now, event),
            ServerInput::Heard { conn, heard } => self.on_heard(now, conn, heard),
            ServerInput::Found(found) => self.on_found(now, found),
            ServerInput::Tick => self.on_tick(now),
            ServerInput::Trust { server, address } => self.on_trust(now, server, address),
            ServerInput::Distrust { server } => self.on_distrust(server),
        }
    }

    fn poll_output(&mut self) -> Option<ServerOutput> {
        self.outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<Alarm> {
        let tick = self.schedule.extra.map_or(self.schedule.regular, |extra| extra.min(self.schedule.regular));
        let tick = Some(Alarm { at: tick, why: "tick" });
        let expiry = self.reports.next_expiry().map(|at| Alarm { at, why: "silent node" });
        let dial = self.federation.next_dial().map(|at| Alarm { at, why: "dial" });
        let refusal = self.searches.next_refusal().map(|at| Alarm { at, why: "impatient request" });
        let budget = self.searches.next_budget().map(|at| Alarm { at, why: "search budget" });
        let search = Alarm::earliest(refusal, budget);
        Alarm::earliest(Alarm::earliest(tick, search), Alarm::earliest(expiry, dial))
    }
}
