//! A relay that restarts, and its 10,000 nodes, a thousand of them behind one address, in virtual time: the real machines of
//! both sides, the real door with its limits as they are by default, and a model of the network and of what handshakes cost.
//!
//! A stranger meanwhile knocks three thousand times a second from one address, takes every handshake that it gets, begins
//! each and finishes none.
//!
//! It shows that the nodes do not come as a herd, that the limits at the door let everybody back within a bounded time, and
//! that the stranger never gets more of the processor than it should. It does not show what a real system does to 10,000 real sockets: `stbench relay restart` does.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::IpAddr;

use offset_protocol::bytes::PublicKey;
use offset_protocol::limits::HANDSHAKE_DEADLINE;
use offset_protocol::machine::{Duration, Instant, Machine, Rng, Seed};
use offset_protocol::net::{Address, ConnId, ConnIds, NetCommand, NetEvent, Purpose};
use offset_protocol::relay::RelayAddress;
use offset_relay_sm::client::{self, LONGEST_WAIT, RelayClient};
use offset_relay_sm::server::{self, Limits, RelayServer};
use offset_runtime_smol::gate::{DoorLimits, Gate, Ticket};

const NODES: usize = 10_000;
/// Nodes behind one address.
const BEHIND_NAT: usize = 1_000;
/// What a handshake costs the relay, on both of its cores: 0.3 ms on one.
const HANDSHAKE: Duration = Duration::from_micros(150);
/// Between two knocks of the stranger.
const STRANGER_EVERY: Duration = Duration::from_micros(333);
/// The stranger's address.
const STRANGER: [u8; 4] = [198, 51, 100, 1];
/// The relay's key.
const RELAY: PublicKey = PublicKey([200; 32]);

/// What comes to pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A client's alarm may be due.
    Alarm(usize),
    /// A client wants to wait for calls.
    Begins(usize),
    /// A client's packet reaches the door.
    Knocks(usize, ConnId),
    /// The relay has shaken hands.
    Shaken(ConnId),
    /// A client hears that it is connected, what the relay says, or that a connection is gone.
    Opened(usize, ConnId),
    Hears(usize, ConnId),
    Gone(usize, ConnId),
    /// The relay hears `Listen`.
    Asked(ConnId),
    /// The stranger knocks; the relay gives up a handshake of its.
    StrangerKnocks,
    StrangerLeaves(u64),
}

/// A connection that the relay has let in.
struct Peer {
    node: usize,
    conn: ConnId,
    since: Instant,
    /// Its place among the handshakes.
    ticket: Option<Ticket>,
    said: Option<Vec<u8>>,
    answers: Vec<Vec<u8>>,
}

struct Relay {
    server: RelayServer,
    gate: Gate,
    peers: BTreeMap<ConnId, Peer>,
    /// The stranger's places among the handshakes.
    strange: BTreeMap<u64, Ticket>,
    busy_until: Instant,
}

#[derive(Default)]
struct Counts {
    /// Connections that came to the door while the relay was up, and that it let in, by second.
    knocked: BTreeMap<u64, usize>,
    let_in: BTreeMap<u64, usize>,
    refused: usize,
    /// The stranger's handshakes, by second.
    strange: BTreeMap<u64, usize>,
    last_up: Option<Instant>,
}

struct World {
    now: Instant,
    events: BinaryHeap<Reverse<(Instant, u64, Event)>>,
    seq: u64,
    rng: Rng,
    clients: Vec<RelayClient>,
    /// The relay's connection of a client's.
    known: BTreeMap<(usize, ConnId), ConnId>,
    relay: Option<Relay>,
    next_conn: u64,
    up: Vec<bool>,
    counts: Counts,
}

impl World {
    fn new() -> World {
        let seed = Seed::from_number(4);
        let client = |n: usize| RelayClient::new(seed.fork(&format!("node {n}")), ConnIds::lane(0, 1));
        World {
            now: Instant::from_micros(1_000_000),
            events: BinaryHeap::new(),
            seq: 0,
            rng: seed.fork("network").rng(),
            clients: (0..NODES).map(client).collect(),
            known: BTreeMap::new(),
            relay: None,
            next_conn: 0,
            up: vec![false; NODES],
            counts: Counts::default(),
        }
    }

    fn start_relay(&mut self) {
        let (server, gate) = (RelayServer::new(Limits::default()), Gate::new(DoorLimits::default()));
        let (peers, strange) = (BTreeMap::new(), BTreeMap::new());
        self.relay = Some(Relay { server, gate, peers, strange, busy_until: self.now });
        self.counts = Counts::default();
    }

    /// The process is gone; the system tells every client.
    fn kill_relay(&mut self) {
        let Some(relay) = self.relay.take() else { return };
        for peer in relay.peers.into_values() {
            self.known.remove(&(peer.node, peer.conn));
            self.later(Event::Gone(peer.node, peer.conn));
        }
    }

    /// After one trip over the network: 5 to 100 ms.
    fn later(&mut self, event: Event) {
        let trip = Duration::from_micros(5_000 + self.rng.below(95_000));
        self.at(self.now + trip, event);
    }

    fn at(&mut self, at: Instant, event: Event) {
        self.seq += 1;
        self.events.push(Reverse((at, self.seq, event)));
    }

    /// Until all are up, or `until`.
    fn run(&mut self, until: Instant) {
        while let Some(Reverse((at, _, event))) = self.events.peek().copied()
            && at <= until
            && !(self.relay.is_some() && self.up.iter().all(|up| *up))
        {
            self.events.pop();
            self.now = at;
            self.on_event(event);
        }
    }

    fn on_event(&mut self, event: Event) {
        let net = |event| client::Input::Net(event);
        match event {
            Event::Alarm(node) => self.tell(node, client::Input::Tick),
            Event::Begins(node) => {
                let address = "relay:1".parse().unwrap();
                self.tell(node, client::Input::AddRelay(RelayAddress { public_key: RELAY, address }));
            }
            Event::Opened(node, conn) => self.tell(node, net(NetEvent::Opened { conn })),
            Event::Gone(node, conn) => self.tell(node, net(NetEvent::Closed { conn })),
            Event::Knocks(node, conn) => self.on_knock(node, conn),
            Event::Shaken(theirs) => self.on_shaken(theirs),
            Event::Asked(theirs) => self.on_asked(theirs),
            Event::StrangerKnocks => self.on_stranger(),
            Event::StrangerLeaves(number) => {
                if let Some(relay) = &mut self.relay {
                    relay.strange.remove(&number);
                }
            }
            Event::Hears(node, conn) => {
                let answers = self.peer_of(node, conn).map(|peer| std::mem::take(&mut peer.answers));
                for bytes in answers.unwrap_or_default() {
                    self.tell(node, net(NetEvent::Message { conn, bytes }));
                }
            }
        }
    }

    fn peer_of(&mut self, node: usize, conn: ConnId) -> Option<&mut Peer> {
        let theirs = self.known.get(&(node, conn))?;
        self.relay.as_mut()?.peers.get_mut(theirs)
    }

    // -- the clients

    fn tell(&mut self, node: usize, input: client::Input) {
        let client = &mut self.clients[node];
        if input == client::Input::Tick && client.poll_timeout().is_none_or(|alarm| alarm.at > self.now) {
            return;
        }
        client.handle(self.now, input);
        let outputs: Vec<_> = std::iter::from_fn(|| client.poll_output()).collect();
        if let Some(alarm) = client.poll_timeout() {
            self.at(alarm.at, Event::Alarm(node));
        }
        for output in outputs {
            match output {
                client::Output::Net(NetCommand::Connect { conn, .. }) => self.later(Event::Knocks(node, conn)),
                client::Output::Net(NetCommand::Send { conn, bytes }) => {
                    if let Some(peer) = self.peer_of(node, conn) {
                        peer.said = Some(bytes);
                        let theirs = self.known[&(node, conn)];
                        self.later(Event::Asked(theirs));
                    }
                }
                client::Output::Net(NetCommand::Close { conn }) => self.on_client_closes(node, conn),
                client::Output::RelayUp { .. } => {
                    self.up[node] = true;
                    self.counts.last_up = Some(self.now);
                }
                client::Output::RelayDown { .. } => self.up[node] = false,
                other => panic!("unexpected {other:?}"),
            }
        }
    }

    fn on_client_closes(&mut self, node: usize, conn: ConnId) {
        if let Some(theirs) = self.known.remove(&(node, conn))
            && let Some(relay) = &mut self.relay
        {
            relay.peers.remove(&theirs);
            relay.server.handle(self.now, server::Input::Net(NetEvent::Closed { conn: theirs }));
            self.drain_server();
        }
    }

    // -- the relay

    fn address(node: usize) -> IpAddr {
        match node {
            0..BEHIND_NAT => IpAddr::from([192, 0, 2, 1]),
            _ => IpAddr::from([10, 0, (node >> 8) as u8, node as u8]),
        }
    }

    fn on_knock(&mut self, node: usize, conn: ConnId) {
        let Some(relay) = &mut self.relay else { return self.later(Event::Gone(node, conn)) };
        let second = self.now.as_micros() / 1_000_000;
        *self.counts.knocked.entry(second).or_default() += 1;
        let Ok(ticket) = relay.gate.enter(World::address(node), self.now, &std::sync::Arc::default()) else {
            self.counts.refused += 1;
            return self.later(Event::Gone(node, conn));
        };
        // Its first bytes came right behind it.
        ticket.hear();
        *self.counts.let_in.entry(second).or_default() += 1;
        relay.busy_until = relay.busy_until.max(self.now) + HANDSHAKE;
        let done = relay.busy_until;
        self.next_conn += 1;
        let theirs = ConnId::incoming(self.next_conn);
        let peer = Peer { node, conn, since: self.now, ticket: Some(ticket), said: None, answers: Vec::new() };
        relay.peers.insert(theirs, peer);
        self.known.insert((node, conn), theirs);
        // Two more trips: our frame there, its proof back.
        let trips = Duration::from_micros(10_000 + self.rng.below(190_000));
        self.at(done + trips, Event::Shaken(theirs));
    }

    fn on_stranger(&mut self) {
        self.at(self.now + STRANGER_EVERY, Event::StrangerKnocks);
        let Some(relay) = &mut self.relay else { return };
        let Ok(ticket) = relay.gate.enter(IpAddr::from(STRANGER), self.now, &std::sync::Arc::default()) else { return };
        ticket.hear();
        *self.counts.strange.entry(self.now.as_micros() / 1_000_000).or_default() += 1;
        relay.busy_until = relay.busy_until.max(self.now) + HANDSHAKE;
        self.next_conn += 1;
        let number = self.next_conn;
        relay.strange.insert(number, ticket);
        self.at(self.now + HANDSHAKE_DEADLINE, Event::StrangerLeaves(number));
    }

    fn on_shaken(&mut self, theirs: ConnId) {
        let Some(relay) = &mut self.relay else { return };
        let Some(peer) = relay.peers.get_mut(&theirs) else { return };
        if self.now >= peer.since + HANDSHAKE_DEADLINE {
            let (node, conn) = (peer.node, peer.conn);
            relay.peers.remove(&theirs);
            self.known.remove(&(node, conn));
            return self.later(Event::Gone(node, conn));
        }
        peer.ticket = None;
        let mut key = [0; 32];
        key[..8].copy_from_slice(&(peer.node as u64).to_be_bytes());
        let from = Address::new(&World::address(peer.node).to_string()).unwrap();
        let (peer, purpose) = (PublicKey(key), Purpose::NodeRelay);
        let event = NetEvent::Incoming { conn: theirs, purpose, peer, from };
        relay.server.handle(self.now, server::Input::Net(event));
        self.drain_server();
    }

    fn on_asked(&mut self, theirs: ConnId) {
        let Some(relay) = &mut self.relay else { return };
        let Some(bytes) = relay.peers.get_mut(&theirs).and_then(|peer| peer.said.take()) else { return };
        relay.server.handle(self.now, server::Input::Net(NetEvent::Message { conn: theirs, bytes }));
        self.drain_server();
    }

    fn drain_server(&mut self) {
        let Some(relay) = &mut self.relay else { return };
        let outputs: Vec<_> = std::iter::from_fn(|| relay.server.poll_output()).collect();
        for output in outputs {
            let server::Output::Net(command) = output else { continue };
            let conn = match &command {
                NetCommand::Admit { conn } | NetCommand::Send { conn, .. } | NetCommand::Close { conn } => *conn,
                NetCommand::Connect { .. } => panic!("a relay connects to nobody"),
            };
            let Some(peer) = self.relay.as_mut().and_then(|relay| relay.peers.get_mut(&conn)) else { continue };
            let (node, ours) = (peer.node, peer.conn);
            match command {
                NetCommand::Send { bytes, .. } => {
                    peer.answers.push(bytes);
                    self.later(Event::Hears(node, ours));
                }
                NetCommand::Admit { .. } => self.later(Event::Opened(node, ours)),
                NetCommand::Close { .. } | NetCommand::Connect { .. } => panic!("the relay has room for all of them"),
            }
        }
    }
}

/// All nodes listen; then the relay is away for `down`. How long after its return the last of them is back, and what came.
fn restart(down: Duration) -> (Duration, Counts) {
    let mut world = World::new();
    world.start_relay();
    for node in 0..NODES {
        // They were not all switched on in the same minute.
        let at = world.now + Duration::from_micros(world.rng.below(60_000_000));
        world.at(at, Event::Begins(node));
    }
    world.run(world.now + Duration::from_secs(200));
    assert!(world.up.iter().all(|up| *up), "everybody listens at first");
    assert_eq!(world.counts.refused, 0, "who comes in an ordinary minute is never refused");
    // Long enough that what they had is no failure.
    world.now += Duration::from_secs(60);
    world.kill_relay();
    let back = world.now + down;
    world.run(back);
    world.now = back;
    world.start_relay();
    world.at(back, Event::StrangerKnocks);
    world.run(back + Duration::from_secs(600));
    assert!(world.up.iter().all(|up| *up), "everybody is back");
    let last = world.counts.last_up.unwrap();
    (last.since(back), world.counts)
}

#[test]
fn ten_thousand_nodes_are_back_soon_after_a_restart_and_never_all_at_once() {
    let limits = DoorLimits::default();
    // A restart of the process, of the machine, and a repair.
    for (down_s, within_s) in [(1, 10), (20, 40), (600, LONGEST_WAIT.as_micros() / 1_000_000)] {
        let (took, counts) = restart(Duration::from_secs(down_s));
        let peak = |by_second: &BTreeMap<u64, usize>| by_second.values().copied().max().unwrap();
        let (knocked, let_in) = (peak(&counts.knocked), peak(&counts.let_in));
        let (strange, tries) = (peak(&counts.strange), counts.knocked.values().sum::<usize>());
        println!(
            "away for {down_s} s: the last is back after {} ms; {tries} tries, at most {knocked} in a second, of which \
             {let_in} were let in, {} refused in all; {strange} of the stranger were let in in a second",
            took.as_millis(),
            counts.refused
        );
        // A few trips and handshakes beyond the longest wait.
        assert!(took <= Duration::from_secs(within_s + 5), "{} ms", took.as_millis());
        // Of the nodes alone no second sees more than the door lets in.
        assert!(knocked <= limits.accepts.per_s as usize, "{knocked} tries in one second are a herd");
        assert!(tries <= NODES + NODES / 10, "{tries} tries, nearly all of them should be the first");
        assert!(let_in <= (limits.accepts.burst + limits.accepts.per_s) as usize, "{let_in} a second");
        // So many handshakes may be in progress from one address, and the stranger finishes none within the second.
        assert!(strange <= limits.handshakes_per_address as usize, "{strange} handshakes for a stranger");
    }
}
