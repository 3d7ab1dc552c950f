//! The node's side of an index server: keeps one session, reports what the node has, asks for routes.
//!
//! | input | effect |
//! |---|---|
//! | `AddServer`, `RemoveServer` | the servers that may be used; one is used at a time, the next one if it fails |
//! | a server's `Tick` | the whole report, if it is the session's first; else, after a short pause that is drawn, news or a sign of life |
//! | `SetEntry`, `RemoveEntry` | the node's report; the server hears of it at once, a few times in a row and then once a second, or at the heartbeat if it is small |
//! | `Request` | `Routes` with the same number, exactly once, within [`REQUEST_DEADLINE`] |
//! | `EdgeFailed` | requests leave the edge out for a while, as long as anything is found without it: [`failed`] |
//! | `Reserved` | the versions of a block may be used |
//!
//! Invariants:
//! 1. Every request is answered exactly once; without a server, at once.
//! 2. A version leaves in a report only below a [`ClientOutput::ReserveVersions`] that was confirmed, and never for two
//!    different reports. So a crash costs a block of numbers, and never lets an old report pass for a new one.
//! 3. One session at most; a server that is silent, refuses or misbehaves is left for the next one, after a pause that grows.
//!
//! Not checked: whether routes are true; a payment finds out. That they have the right ends, amount and form is.

pub mod failed;
pub mod report;
pub mod requests;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use offset_protocol::bytes::{PublicKey, TickHash};
use offset_protocol::codec::{decode, encode};
use offset_protocol::identity::SharedSigner;
use offset_protocol::index::{Attestation, Edge, Entry, EntryKey, IndexToNode, NodeToIndex, Routes};
use offset_protocol::limits::{INDEX_NODE_TTL, MAX_AMOUNT, MAX_FRAME, MAX_INDEX_SERVERS};
use offset_protocol::machine::{Alarm, Duration, Instant, Machine, Rng, Seed};
use offset_protocol::net::{Address, ConnId, ConnIds, NetCommand, NetEvent, Purpose};
use offset_protocol::{buggify, mutant, sometimes};

use crate::backoff::{Backoff, Bucket, SESSION_PROVES_ITSELF};
use failed::{FailedEdge, FailedEdges};
use report::Reporter;
use requests::{FoundRoutes, Requests, RouteFailure, RouteQuery};

pub use report::VERSION_BLOCK;
pub use requests::{MAX_OPEN_REQUESTS, REQUEST_DEADLINE};

/// A call to a server that is not answered in this time has failed. Longer than a slow network's handshake.
pub const CALL_PATIENCE: Duration = Duration::from_secs(15);
/// A server that does not tick for so long is left: it has dropped the node from its graph by then.
pub const TICK_PATIENCE: Duration = INDEX_NODE_TTL;
/// One delta each so long, sustained.
pub const DELTA_GAP: Duration = Duration::from_secs(1);
/// Deltas in a short time: what a user sets up, or a friend that comes, is several changes one after the other, and who waits for
/// routes should not wait for seconds. Chosen freely.
pub const DELTA_BURST: u64 = 4;
/// Deltas are at least this far apart, so that changes that come together leave together.
pub const DELTA_CLOSEST: Duration = Duration::from_millis(100);
/// One heartbeat each so long, sustained, however often the server ticks: two thirds of its regular interval.
pub const HEARTBEAT_GAP: Duration = Duration::from_secs(20);
/// Heartbeats at once. A tick out of turn tells that a server has come, perhaps back from a crash: what answers it can be
/// proven there, and nobody has to wait for routes until the next regular one.
pub const HEARTBEAT_BURST: u64 = 4;
/// A heartbeat leaves at some moment in this time after the tick that it answers: a hundred thousand nodes hear a tick at
/// once. Chosen freely: a burst becomes a second's ordinary work, and no person who waits for it notices.
pub const HEARTBEAT_SPREAD: Duration = Duration::from_millis(500);

/// What happens to an index client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientInput {
    /// Something about a connection that the client asked for.
    Net(NetEvent),
    /// An alarm is due.
    Tick,
    /// This server may be used. Again with another address: use that one.
    AddServer {
        /// Its identity.
        server: PublicKey,
        /// Where it listens for nodes.
        address: Address,
    },
    /// This server may no longer be used.
    RemoveServer {
        /// Its identity.
        server: PublicKey,
    },
    /// What the node now publishes about a friend in a currency.
    SetEntry(Entry),
    /// The node no longer publishes this.
    RemoveEntry(EntryKey),
    /// How could this amount travel?
    Request {
        /// Chosen by the node; the answer repeats it.
        local: u64,
        /// The question.
        query: RouteQuery,
    },
    /// A request of the node came back from an edge.
    EdgeFailed(FailedEdge),
    /// The answer to `ReserveVersions`: the node's database will remember it, whatever happens.
    Reserved {
        /// Versions below this are reserved.
        below: u64,
    },
}

/// What an index client wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientOutput {
    /// Something about a connection. After a crash all are gone.
    Net(NetCommand),
    /// Write `below` to the node's database as the number that the next process starts from ([`IndexClient::new`]), then
    /// answer `Reserved`. Lost in a crash before that, nothing happened; after it, numbers are skipped.
    ReserveVersions {
        /// Versions below this are to be reserved.
        below: u64,
    },
    /// The answer to a request. Lost in a crash together with the request.
    Routes {
        /// The request's.
        local: u64,
        /// The answer.
        result: Result<FoundRoutes, RouteFailure>,
    },
    /// The server in use has changed; for whoever looks at the node.
    Using {
        /// The server with the open session, if any.
        server: Option<PublicKey>,
    },
    /// An entry is not published.
    EntryRefused {
        /// Which.
        key: EntryKey,
        /// Why not.
        reason: EntryRefusal,
    },
    /// A server was not added: there are [`MAX_INDEX_SERVERS`].
    ServerRefused {
        /// Which.
        server: PublicKey,
    },
}

/// Why an entry is not published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryRefusal {
    /// A node is no friend of its own.
    #[error("a node is no friend of its own")]
    Itself,
    /// A report has no more room.
    #[error("a report has no room for more entries")]
    TooMany,
    /// A report has no more room for currencies.
    #[error("a report has no room for more currencies")]
    TooManyCurrencies,
}

/// The machine of the node's side. See the [module](self).
pub struct IndexClient {
    signer: SharedSigner,
    conn_ids: ConnIds,
    rng: Rng,
    /// Where in [`HEARTBEAT_SPREAD`] heartbeats leave.
    spread: Rng,
    servers: Vec<(PublicKey, Address)>,
    /// The next one to try.
    next_server: usize,
    /// Calls since a session proved itself.
    calls: usize,
    backoff: Backoff,
    link: Link,
    reporter: Reporter,
    asked_below: u64,
    requests: Requests,
    failed: FailedEdges,
    outputs: VecDeque<ClientOutput>,
}

#[derive(Clone, Copy, Debug)]
enum Link {
    /// No session; the next call, if there is anybody to call.
    Down {
        call_at: Instant,
    },
    Calling {
        conn: ConnId,
        server: PublicKey,
        give_up_at: Instant,
    },
    Up(Session),
}

#[derive(Clone, Copy, Debug)]
struct Session {
    conn: ConnId,
    server: PublicKey,
    since: Instant,
    /// The last tick heard.
    tick: Option<TickHash>,
    /// Without a tick until then the server is left.
    silent_at: Instant,
    /// The server has heard nothing yet, or wants all of it.
    wants_state: bool,
    /// The next delta is not before this.
    delta_at: Instant,
    deltas: Bucket,
    heartbeats: Bucket,
    /// When the last tick is answered, if nothing is said before that.
    heartbeat_at: Option<Instant>,
}

impl IndexClient {
    /// A client without servers. `reserved_below` is the last number that the node's database holds from
    /// [`ClientOutput::ReserveVersions`], 0 for a new node.
    pub fn new(now: Instant, signer: SharedSigner, seed: &Seed, conn_ids: ConnIds, reserved_below: u64) -> Self {
        let mut client = IndexClient {
            reporter: Reporter::new(signer.public_key(), reserved_below),
            signer,
            conn_ids,
            rng: seed.fork("index client").rng(),
            spread: seed.fork("index client heartbeats").rng(),
            servers: Vec::new(),
            next_server: 0,
            calls: 0,
            backoff: Backoff::default(),
            link: Link::Down { call_at: now },
            asked_below: reserved_below,
            requests: Requests::default(),
            failed: FailedEdges::default(),
            outputs: VecDeque::new(),
        };
        client.reserve();
        client
    }

    /// The server with the open session.
    pub fn server(&self) -> Option<PublicKey> {
        match &self.link {
            Link::Up(session) => Some(session.server),
            Link::Down { .. } | Link::Calling { .. } => None,
        }
    }

    fn on_net(&mut self, now: Instant, event: NetEvent) {
        match event {
            NetEvent::Opened { conn } => self.on_opened(now, conn),
            NetEvent::Message { conn, bytes } => self.on_message(now, conn, &bytes),
            NetEvent::Closed { conn } => {
                if self.conn() == Some(conn) {
                    self.down(now);
                }
            }
            NetEvent::Incoming { conn, .. } => self.net(NetCommand::Close { conn }),
        }
    }

    fn on_opened(&mut self, now: Instant, opened: ConnId) {
        let Link::Calling { conn, server, .. } = self.link else { return };
        if conn != opened {
            return;
        }
        self.link = Link::Up(Session {
            conn,
            server,
            since: now,
            tick: None,
            silent_at: now + TICK_PATIENCE,
            wants_state: true,
            delta_at: now,
            deltas: Bucket::default(),
            heartbeats: Bucket::default(),
            heartbeat_at: None,
        });
        self.outputs.push_back(ClientOutput::Using { server: Some(server) });
        self.ask();
    }

    fn on_message(&mut self, now: Instant, conn: ConnId, bytes: &[u8]) {
        if self.conn() != Some(conn) {
            return;
        }
        let Link::Up(session) = &mut self.link else { return };
        match decode(bytes, MAX_FRAME) {
            Ok(IndexToNode::Tick(tick)) => {
                session.tick = Some(tick);
                session.silent_at = now + TICK_PATIENCE;
                self.answer_tick(now);
            }
            Ok(IndexToNode::Want) => {
                sometimes!("index client: the server wants the whole report", true);
                session.wants_state = true;
                self.report_if_due(now, Occasion::Change);
            }
            Ok(IndexToNode::Routes(routes)) => self.on_routes(now, routes),
            Ok(IndexToNode::Busy { id }) => self.answer(id, Err(RouteFailure::Busy)),
            Ok(IndexToNode::Later(attestation)) => self.on_later(now, &attestation),
            Err(_) => self.leave(now),
        }
    }

    /// The server knows what this process does not: the database is an old copy. Only our own word counts.
    fn on_later(&mut self, now: Instant, attestation: &Attestation) {
        let ours = attestation.node == self.signer.public_key() && attestation.verify(&*self.signer).is_ok();
        if !ours || !self.reporter.overtake(attestation.version) {
            return;
        }
        sometimes!("index client: versions of an old copy are skipped", true);
        if let Link::Up(session) = &mut self.link {
            session.wants_state = true;
        }
        self.reserve();
        self.report_if_due(now, Occasion::Change);
    }

    /// A server that has heard nothing yet is told everything at once.
    fn answer_tick(&mut self, now: Instant) {
        let Link::Up(session) = &mut self.link else { return };
        if session.wants_state {
            return self.report_if_due(now, Occasion::Heartbeat);
        }
        let mut heartbeats = session.heartbeats;
        if !mutant!(HeartbeatNever) && heartbeats.take(now, HEARTBEAT_GAP, HEARTBEAT_BURST) {
            let pause = Duration::from_micros(self.spread.below(HEARTBEAT_SPREAD.as_micros()));
            session.heartbeat_at.get_or_insert(now + pause);
        }
    }

    fn on_routes(&mut self, now: Instant, routes: Routes) {
        if !self.requests.is_plausible(&routes) {
            return self.leave(now);
        }
        if routes.options.is_empty() && self.requests.retry_with_all(routes.id) {
            sometimes!("index client: a question is asked again with edges that failed", true);
            return self.ask();
        }
        self.answer(routes.id, Ok(FoundRoutes { options: routes.options, capped: routes.capped }));
    }

    /// An answer to a request that is over, or was never made, is nobody's.
    fn answer(&mut self, id: u64, result: Result<FoundRoutes, RouteFailure>) {
        let open = self.requests.take(id);
        sometimes!("index client: an answer comes too late", open.is_none());
        if let Some(open) = open {
            self.outputs.push_back(ClientOutput::Routes { local: open.local, result });
        }
    }

    fn on_request(&mut self, now: Instant, local: u64, query: RouteQuery) {
        let failure = if self.servers.is_empty() {
            Some(RouteFailure::NoServer)
        } else if query.amount == 0 || query.amount > MAX_AMOUNT {
            Some(RouteFailure::Amount)
        } else if self.requests.is_full() {
            Some(RouteFailure::TooMany)
        } else {
            None
        };
        if let Some(failure) = failure {
            return self.outputs.push_back(ClientOutput::Routes { local, result: Err(failure) });
        }
        let failed: Vec<Edge> = self.failed.of(now, &query.currency).collect();
        self.requests.add(now, local, query, &failed);
        self.ask();
    }

    /// Asks the session what it was not asked yet.
    fn ask(&mut self) {
        let Link::Up(Session { conn, .. }) = self.link else { return };
        for request in self.requests.unsent() {
            self.send(conn, &NodeToIndex::RequestRoutes(request));
        }
    }

    fn on_add_server(&mut self, now: Instant, server: PublicKey, address: Address) {
        if let Some(known) = self.servers.iter_mut().find(|(key, _)| *key == server) {
            known.1 = address;
        } else if self.servers.len() >= MAX_INDEX_SERVERS {
            return self.outputs.push_back(ClientOutput::ServerRefused { server });
        } else {
            // A server just added is tried first, and at once: somebody waits for it.
            self.next_server = self.servers.len();
            self.servers.push((server, address));
            if let Link::Down { call_at } = &mut self.link {
                *call_at = now.min(*call_at);
            }
        }
        self.call_if_due(now);
    }

    fn on_remove_server(&mut self, now: Instant, server: PublicKey) {
        let Some(at) = self.servers.iter().position(|(key, _)| *key == server) else { return };
        self.servers.remove(at);
        if self.next_server > at {
            self.next_server -= 1;
        }
        let in_use = match &self.link {
            Link::Calling { server, .. } | Link::Up(Session { server, .. }) => Some(*server),
            Link::Down { .. } => None,
        };
        if in_use == Some(server) {
            self.leave(now);
        }
        if self.servers.is_empty() {
            for local in self.requests.drain() {
                self.outputs.push_back(ClientOutput::Routes { local, result: Err(RouteFailure::NoServer) });
            }
        }
    }

    fn on_tick(&mut self, now: Instant) {
        while let Some((local, failure)) = self.requests.overdue(now) {
            sometimes!("index client: no server could be asked in time", failure == RouteFailure::Unreachable);
            sometimes!("index client: a question is not answered in time", failure == RouteFailure::Timeout);
            self.outputs.push_back(ClientOutput::Routes { local, result: Err(failure) });
        }
        match self.link {
            Link::Down { .. } => self.call_if_due(now),
            Link::Calling { give_up_at, .. } if give_up_at <= now => self.leave(now),
            Link::Up(session) if session.silent_at <= now => {
                sometimes!("index client: a silent server is left", true);
                self.leave(now);
            }
            Link::Up(session) if session.heartbeat_at.is_some_and(|at| at <= now) => {
                self.report_if_due(now, Occasion::Heartbeat);
            }
            Link::Up(_) => self.report_if_due(now, Occasion::Change),
            Link::Calling { .. } => {}
        }
    }

    fn call_if_due(&mut self, now: Instant) {
        let Link::Down { call_at } = self.link else { return };
        if call_at > now || self.servers.is_empty() {
            return;
        }
        self.next_server %= self.servers.len();
        let (peer, address) = self.servers[self.next_server].clone();
        self.next_server += 1;
        self.calls += 1;
        let conn = self.conn_ids.allocate();
        self.link = Link::Calling { conn, server: peer, give_up_at: now + CALL_PATIENCE };
        self.net(NetCommand::Connect { conn, purpose: Purpose::NodeIndex, address, peer });
    }

    /// Ends the session or call from our side.
    fn leave(&mut self, now: Instant) {
        if let Some(conn) = self.conn() {
            self.net(NetCommand::Close { conn });
            self.down(now);
        }
    }

    /// The session or call is gone. The next server is tried after a short pause; when all were tried, after a growing one.
    fn down(&mut self, now: Instant) {
        if let Link::Up(session) = &self.link {
            if session.tick.is_some() && now.since(session.since) >= SESSION_PROVES_ITSELF {
                self.calls = 0;
                self.backoff.reset();
            }
            self.outputs.push_back(ClientOutput::Using { server: None });
        }
        let all_tried = self.servers.is_empty() || self.calls.is_multiple_of(self.servers.len());
        let pause = if all_tried { self.backoff.next(&mut self.rng) } else { Backoff::default().next(&mut self.rng) };
        self.link = Link::Down { call_at: now + pause };
        sometimes!("index client: a question outlives its session", !self.requests.is_empty());
        self.requests.unsend();
    }

    fn report_if_due(&mut self, now: Instant, occasion: Occasion) {
        let Link::Up(session) = &mut self.link else { return };
        let Some(tick) = session.tick else { return };
        if occasion == Occasion::Heartbeat {
            session.heartbeat_at = None;
        }
        let mut heartbeats = session.heartbeats;
        let heartbeat = occasion == Occasion::Heartbeat
            && !mutant!(HeartbeatNever)
            && heartbeats.take(now, HEARTBEAT_GAP, HEARTBEAT_BURST);
        let due = heartbeat || now >= session.delta_at && (session.wants_state || self.reporter.is_urgent());
        if !due {
            return;
        }
        let signer = &self.signer;
        let sign = |version, hash| Attestation::sign(signer, version, hash, tick);
        let wants_state = session.wants_state || buggify!("index client: report all", 100);
        let message = if wants_state { self.reporter.state(sign) } else { self.reporter.update(sign) };
        // Without a version news waits for `Reserved`; that what was told is still alive does not.
        sometimes!("index client: news waits for a version", message.is_none());
        let Some(message) = message.or_else(|| self.reporter.stand(sign).filter(|_| heartbeat)) else { return };
        session.heartbeats = heartbeats;
        // Whatever it is, it names the last tick.
        session.heartbeat_at = None;
        session.wants_state = false;
        session.deltas.charge(now, DELTA_GAP, 1);
        session.delta_at = session.deltas.room_at(DELTA_GAP, DELTA_BURST, 1).max(now + DELTA_CLOSEST);
        let conn = session.conn;
        self.send(conn, &message);
        self.reserve();
    }

    /// Asks for the next block of versions in good time.
    fn reserve(&mut self) {
        if let Some(below) = self.reporter.block_to_reserve()
            && below > self.asked_below
        {
            self.asked_below = below;
            self.outputs.push_back(ClientOutput::ReserveVersions { below });
        }
    }

    fn conn(&self) -> Option<ConnId> {
        match &self.link {
            Link::Down { .. } => None,
            Link::Calling { conn, .. } => Some(*conn),
            Link::Up(session) => Some(session.conn),
        }
    }

    fn net(&mut self, command: NetCommand) {
        self.outputs.push_back(ClientOutput::Net(command));
    }

    fn send(&mut self, conn: ConnId, message: &NodeToIndex) {
        self.net(NetCommand::Send { conn, bytes: encode(message) });
    }
}

/// Why a report might be due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Occasion {
    /// The server's tick is to be answered.
    Heartbeat,
    /// The report changed, or the server wants it.
    Change,
}

impl Machine for IndexClient {
    type Input = ClientInput;
    type Output = ClientOutput;

    fn handle(&mut self, now: Instant, input: ClientInput) {
        match input {
            ClientInput::Net(event) => self.on_net(now, event),
            ClientInput::Tick => self.on_tick(now),
            ClientInput::AddServer { server, address } => self.on_add_server(now, server, address),
            ClientInput::RemoveServer { server } => self.on_remove_server(now, server),
            ClientInput::SetEntry(entry) => match self.reporter.set(&entry) {
                Ok(()) => self.report_if_due(now, Occasion::Change),
                Err(reason) => self.outputs.push_back(ClientOutput::EntryRefused { key: entry.key(), reason }),
            },
            ClientInput::RemoveEntry(key) => {
                self.reporter.remove(key);
                self.report_if_due(now, Occasion::Change);
            }
            ClientInput::Request { local, query } => self.on_request(now, local, query),
            ClientInput::EdgeFailed(failed) => self.failed.note(now, &failed),
            ClientInput::Reserved { below } => {
                self.reporter.reserved(below);
                self.report_if_due(now, Occasion::Change);
            }
        }
    }

    fn poll_output(&mut self) -> Option<ClientOutput> {
        self.outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<Alarm> {
        let deadline = self.requests.next_deadline().map(|at| Alarm { at, why: "request" });
        let link = match &self.link {
            Link::Down { call_at } => (!self.servers.is_empty()).then_some(Alarm { at: *call_at, why: "call" }),
            Link::Calling { give_up_at, .. } => Some(Alarm { at: *give_up_at, why: "call unanswered" }),
            Link::Up(session) => {
                let pending = session.tick.is_some() && (session.wants_state || self.reporter.is_urgent());
                let report =
                    (pending && self.reporter.has_version()).then_some(Alarm { at: session.delta_at, why: "report" });
                let heartbeat = session.heartbeat_at.map(|at| Alarm { at, why: "heartbeat" });
                let report = Alarm::earliest(report, heartbeat);
                Alarm::earliest(report, Some(Alarm { at: session.silent_at, why: "silent server" }))
            }
        };
        Alarm::earliest(deadline, link)
    }
}
