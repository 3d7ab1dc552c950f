//! The network: links with latency that can die silently, relays that crash and drain, nodes that crash and move.

mod nodes;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use offset_protocol::bytes::PublicKey;
use offset_protocol::codec::decode;
use offset_protocol::fuzz::Choices;
use offset_protocol::machine::{Duration, Instant, Machine, Rng, Seed};
use offset_protocol::net::{ConnId, ConnIds, NetCommand, NetEvent};
use offset_protocol::relay::{FailReason, FromRelay, MAX_RELAY_MESSAGE, RelayAddress};

use crate::client::{self, Direction, RelayClient};
use crate::server::{self, Limits, Quota, RelayServer, TunnelRate};

/// A dead connection is noticed by then: the channel's keepalive.
const SILENCE: Duration = Duration::from_secs(40);
/// Friends greet each other in a tunnel by then, or give it up.
const GREETING: Duration = Duration::from_secs(5);
/// What goes wrong in one world.
const MAX_FAULTS: usize = 60;
/// Silence, the longest wait, one more round.
pub(crate) const HEALED_WITHIN: Duration = Duration::from_secs(40 + 60 + 60);

pub(crate) struct World {
    now: Instant,
    rng: Rng,
    relays: Vec<Relay>,
    nodes: Vec<Node>,
    links: Vec<Link>,
    from_node: BTreeMap<(usize, ConnId), usize>,
    from_relay: BTreeMap<(usize, ConnId), usize>,
    events: BTreeMap<(Instant, u64), (usize, Arrival)>,
    sequence: u64,
    inputs: VecDeque<(usize, client::Input)>,
    limits: Limits,
}

struct Relay {
    address: RelayAddress,
    server: RelayServer,
    conns: u64,
}

struct Node {
    key: PublicKey,
    client: RelayClient,
    life: u64,
    place: u64,
    own_relays: Vec<usize>,
    friends: BTreeSet<PublicKey>,
    sessions: BTreeMap<ConnId, Session>,
}

#[derive(Clone, Copy, Debug)]
struct Session {
    friend: PublicKey,
    direction: Direction,
    opened: Instant,
    up: Option<Instant>,
}

/// One connection of a node to a relay. Each end has its own idea of whether it still stands.
struct Link {
    node: usize,
    node_conn: ConnId,
    node_open: bool,
    relay: usize,
    relay_conn: ConnId,
    relay_open: bool,
    reading: bool,
    cut: bool,
    from: String,
    latency: Duration,
    inbox: VecDeque<Item>,
    joined: Option<usize>,
}

#[derive(Clone, Debug)]
enum Item {
    Bytes(Vec<u8>),
    End,
}

#[derive(Clone, Debug)]
enum Arrival {
    AtRelay(Item),
    KnockAtRelay,
    AtNode(Item),
    OpenedAtNode,
    /// The keepalive's verdict, or a reset: arrives whatever happened to the link.
    SilenceAtRelay,
    SilenceAtNode,
}

fn key(n: u8) -> PublicKey {
    PublicKey([n; 32])
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Seed::from_number(seed).rng();
        let (relays, nodes) = (1 + rng.below(3) as usize, 2 + rng.below(4) as usize);
        let limits = what_the_living_need(nodes as u32);
        let mut world = World {
            now: Instant::from_micros(1_000_000),
            rng,
            relays: Vec::new(),
            nodes: Vec::new(),
            links: Vec::new(),
            from_node: BTreeMap::new(),
            from_relay: BTreeMap::new(),
            events: BTreeMap::new(),
            sequence: 0,
            inputs: VecDeque::new(),
            limits,
        };
        for n in 0..relays {
            let address =
                RelayAddress { public_key: key(200 + n as u8), address: format!("relay{n}:1").parse().unwrap() };
            world.relays.push(Relay { address, server: RelayServer::new(limits), conns: 0 });
        }
        for n in 0..nodes {
            world.add_node(n, nodes, relays);
        }
        for node in 0..nodes {
            world.start(node);
        }
        world
    }

    /// The last of more than two nodes is a stranger to node 0, but thinks itself its friend.
    fn add_node(&mut self, n: usize, nodes: usize, relays: usize) {
        let mut friends: BTreeSet<_> = (0..nodes).filter(|&other| other != n).map(|other| key(other as u8)).collect();
        if n == 0 && nodes > 2 {
            friends.remove(&key(nodes as u8 - 1));
        }
        let first = self.rng.below(relays as u64) as usize;
        let count = 1 + self.rng.below(relays as u64) as usize;
        let own_relays = (first..first + count).map(|relay| relay % relays).collect();
        let client = RelayClient::new(Seed::from_number(n as u64), ConnIds::lane(0, 1));
        let key = key(n as u8);
        self.nodes.push(Node { key, client, life: 0, place: 0, own_relays, friends, sessions: BTreeMap::new() });
    }

    fn start(&mut self, node: usize) {
        for relay in self.nodes[node].own_relays.clone() {
            let address = self.relays[relay].address.clone();
            self.tell_node(node, client::Input::AddRelay(address));
        }
        for friend in self.nodes[node].friends.clone() {
            self.dial(node, friend);
        }
    }

    fn dial(&mut self, node: usize, friend: PublicKey) {
        let relays = self.nodes[usize::from(friend.0[0])].own_relays.clone();
        let relays = relays.into_iter().map(|relay| self.relays[relay].address.clone()).collect();
        self.tell_node(node, client::Input::Dial { friend, relays });
    }

    // -- time

    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.next_event().filter(|&at| at <= end) {
            self.now = self.now.max(at);
            self.step();
        }
        self.now = end;
    }

    /// Goes wrong as `choices` say, until there are none left or enough has happened.
    pub(crate) fn run_with_faults(&mut self, choices: &mut Choices) {
        for _ in 0..MAX_FAULTS {
            if choices.is_empty() {
                return;
            }
            self.run(Duration::from_millis(1 << choices.below(15)));
            self.fault(choices);
        }
    }

    fn next_event(&self) -> Option<Instant> {
        let arrival = self.events.first_key_value().map(|(&(at, _), _)| at);
        let relays = self.relays.iter().filter_map(|relay| relay.server.poll_timeout()).map(|alarm| alarm.at);
        let nodes = self.nodes.iter().filter_map(|node| node.client.poll_timeout()).map(|alarm| alarm.at);
        let greetings = self.nodes.iter().flat_map(|node| node.sessions.values());
        let greetings = greetings.filter(|session| session.up.is_none()).map(|session| session.opened + GREETING);
        arrival.into_iter().chain(relays).chain(nodes).chain(greetings).min()
    }

    fn step(&mut self) {
        if let Some((&(at, sequence), _)) = self.events.first_key_value()
            && at <= self.now
            && let Some((link, arrival)) = self.events.remove(&(at, sequence))
        {
            return self.arrive(link, arrival);
        }
        for relay in 0..self.relays.len() {
            if self.relays[relay].server.poll_timeout().is_some_and(|alarm| alarm.at <= self.now) {
                self.tell_relay(relay, server::Input::Tick);
                assert!(self.relays[relay].server.poll_timeout().is_none_or(|next| next.at > self.now));
            }
        }
        for node in 0..self.nodes.len() {
            if self.nodes[node].client.poll_timeout().is_some_and(|alarm| alarm.at <= self.now) {
                self.tell_node(node, client::Input::Tick);
                assert!(self.nodes[node].client.poll_timeout().is_none_or(|next| next.at > self.now));
            }
            let late = |session: &Session| session.up.is_none() && session.opened + GREETING <= self.now;
            let late: Vec<_> =
                self.nodes[node].sessions.iter().filter(|(_, s)| late(s)).map(|(&conn, _)| conn).collect();
            for conn in late {
                self.tell_node(node, client::Input::CloseTunnel { conn });
            }
        }
    }

    // -- faults

    fn fault(&mut self, choices: &mut Choices) {
        match choices.below(10) {
            0..=3 if !self.links.is_empty() => {
                let link = choices.below(self.links.len() as u64) as usize;
                self.cut(link, SILENCE, SILENCE);
            }
            4 | 5 => {
                let node = choices.below(self.nodes.len() as u64) as usize;
                self.move_node(node);
            }
            6 => {
                let node = choices.below(self.nodes.len() as u64) as usize;
                self.crash_node(node);
            }
            7 => {
                let relay = choices.below(self.relays.len() as u64) as usize;
                self.crash_relay(relay);
            }
            8 => {
                let relay = choices.below(self.relays.len() as u64) as usize;
                self.tell_relay(relay, server::Input::Drain);
            }
            _ => {}
        }
    }

    /// Kills a link silently; each end notices at some time within its own `limit`.
    fn cut(&mut self, link: usize, node_limit: Duration, relay_limit: Duration) {
        if std::mem::replace(&mut self.links[link].cut, true) {
            return;
        }
        let (node, relay) = (self.rng.below(node_limit.as_micros() + 1), self.rng.below(relay_limit.as_micros() + 1));
        self.push(Duration::from_micros(node), link, Arrival::SilenceAtNode);
        self.push(Duration::from_micros(relay), link, Arrival::SilenceAtRelay);
    }

    pub(crate) fn move_node(&mut self, node: usize) {
        for link in 0..self.links.len() {
            if self.links[link].node == node {
                self.cut(link, SILENCE, SILENCE);
            }
        }
        self.nodes[node].place += 1;
        self.tell_node(node, client::Input::NetworkReturned);
    }

    fn crash_node(&mut self, node: usize) {
        for link in 0..self.links.len() {
            if self.links[link].node == node {
                self.links[link].node_open = false;
                self.cut(link, Duration::ZERO, SILENCE);
            }
        }
        self.from_node.retain(|&(of, _), _| of != node);
        let it = &mut self.nodes[node];
        it.life += 1;
        it.sessions.clear();
        it.client = RelayClient::new(Seed::from_number(1_000 * it.life + node as u64), ConnIds::lane(0, 1));
        self.start(node);
    }

    fn crash_relay(&mut self, relay: usize) {
        for link in 0..self.links.len() {
            if self.links[link].relay == relay {
                self.links[link].relay_open = false;
                self.links[link].joined = None;
                self.cut(link, Duration::from_secs(2), Duration::ZERO);
            }
        }
        self.relays[relay].server = RelayServer::new(self.limits);
    }

    pub(crate) fn everybody_leaves(&mut self) {
        for node in 0..self.nodes.len() {
            for friend in std::mem::take(&mut self.nodes[node].friends) {
                self.tell_node(node, client::Input::Forget { friend });
            }
            let tunnels: Vec<_> = self.nodes[node].sessions.keys().copied().collect();
            for conn in tunnels {
                self.tell_node(node, client::Input::CloseTunnel { conn });
            }
            for relay in self.nodes[node].own_relays.clone() {
                let relay = self.relays[relay].address.public_key;
                self.tell_node(node, client::Input::RemoveRelay { relay });
            }
        }
        self.run(Duration::from_secs(60));
    }

    // -- links

    fn push(&mut self, after: Duration, link: usize, arrival: Arrival) {
        self.sequence += 1;
        self.events.insert((self.now + after, self.sequence), (link, arrival));
    }

    fn send_node(&mut self, link: usize, arrival: Arrival) {
        self.push(self.links[link].latency, link, arrival);
    }

    fn arrive(&mut self, link: usize, arrival: Arrival) {
        let it = &mut self.links[link];
        let (relay, relay_conn) = (it.relay, it.relay_conn);
        match arrival {
            Arrival::KnockAtRelay if !it.cut => {
                let (peer, from) = (self.nodes[it.node].key, it.from.parse().unwrap());
                it.relay_open = true;
                let purpose = offset_protocol::net::Purpose::NodeRelay;
                let event = NetEvent::Incoming { conn: relay_conn, purpose, peer, from };
                self.tell_relay(relay, server::Input::Net(event));
            }
            Arrival::AtRelay(item) if !it.cut => {
                it.inbox.push_back(item);
                self.pump(link);
            }
            Arrival::OpenedAtNode if !it.cut => self.node_event(link, |conn| NetEvent::Opened { conn }),
            Arrival::AtNode(Item::Bytes(bytes)) if !it.cut => {
                self.node_event(link, |conn| NetEvent::Message { conn, bytes });
            }
            Arrival::AtNode(Item::End) if !it.cut => self.node_ends(link),
            Arrival::SilenceAtNode => self.node_ends(link),
            Arrival::SilenceAtRelay => self.relay_ends(link),
            // Lost with the link.
            Arrival::KnockAtRelay | Arrival::AtRelay(_) | Arrival::OpenedAtNode | Arrival::AtNode(_) => {}
        }
    }

    fn node_event(&mut self, link: usize, event: impl FnOnce(ConnId) -> NetEvent) {
        let it = &self.links[link];
        if it.node_open {
            self.tell_node(it.node, client::Input::Net(event(it.node_conn)));
        }
    }

    fn node_ends(&mut self, link: usize) {
        if self.links[link].node_open {
            self.node_event(link, |conn| NetEvent::Closed { conn });
            self.links[link].node_open = false;
        }
    }

    /// The relay's runtime learns that a connection is gone.
    fn relay_ends(&mut self, link: usize) {
        let it = &mut self.links[link];
        if !std::mem::replace(&mut it.relay_open, false) {
            return;
        }
        let (relay, a) = (it.relay, it.relay_conn);
        match it.joined.take() {
            None => self.tell_relay(relay, server::Input::Net(NetEvent::Closed { conn: a })),
            Some(other) => {
                let b = self.links[other].relay_conn;
                self.links[other].joined = None;
                self.links[other].relay_open = false;
                self.send_node(other, Arrival::AtNode(Item::End));
                self.tell_relay(relay, server::Input::JoinEnded { a, b });
            }
        }
    }

    /// Delivers what the relay may read of a link: one message, or all of them into the other end of a tunnel.
    fn pump(&mut self, link: usize) {
        while let it = &mut self.links[link]
            && it.relay_open
            && it.reading
            && let Some(item) = it.inbox.pop_front()
        {
            match (item, it.joined) {
                (Item::End, _) => self.relay_ends(link),
                (Item::Bytes(bytes), Some(other)) => self.send_node(other, Arrival::AtNode(Item::Bytes(bytes))),
                (Item::Bytes(bytes), None) => {
                    it.reading = false;
                    let (relay, conn) = (it.relay, it.relay_conn);
                    self.tell_relay(relay, server::Input::Net(NetEvent::Message { conn, bytes }));
                }
            }
        }
    }

    // -- relays

    fn tell_relay(&mut self, relay: usize, input: server::Input) {
        let server = &mut self.relays[relay].server;
        if let Some(alarm) = server.poll_timeout().filter(|alarm| alarm.at > self.now) {
            server.handle(self.now, server::Input::Tick);
            assert_eq!(
                (server.poll_output(), server.poll_timeout()),
                (None, Some(alarm)),
                "an early tick did something"
            );
        }
        server.handle(self.now, input);
        server.assert_consistent();
        while let Some(output) = self.relays[relay].server.poll_output() {
            self.on_relay_output(relay, output);
        }
    }

    fn on_relay_output(&mut self, relay: usize, output: server::Output) {
        let link_of = |world: &World, conn| world.from_relay[&(relay, conn)];
        match output {
            server::Output::Net(NetCommand::Admit { conn }) => {
                let link = link_of(self, conn);
                self.links[link].reading = true;
                self.send_node(link, Arrival::OpenedAtNode);
            }
            server::Output::Net(NetCommand::Send { conn, bytes }) => {
                let link = link_of(self, conn);
                self.assert_not_refused(link, &bytes);
                self.send_node(link, Arrival::AtNode(Item::Bytes(bytes)));
            }
            server::Output::Net(NetCommand::Close { conn }) => {
                let link = link_of(self, conn);
                self.send_node(link, Arrival::AtNode(Item::End));
                // `Closed` follows a machine's own `Close`, some time later.
                self.push(Duration::from_millis(1), link, Arrival::SilenceAtRelay);
            }
            server::Output::Resume { conn } => {
                let link = link_of(self, conn);
                self.links[link].reading = true;
                self.pump(link);
            }
            server::Output::Join { a, b } => {
                let (a, b) = (link_of(self, a), link_of(self, b));
                (self.links[a].joined, self.links[b].joined) = (Some(b), Some(a));
                (self.links[a].reading, self.links[b].reading) = (true, true);
                self.pump(a);
                self.pump(b);
            }
            // A node that crashed or moved may leave a connection behind that never says anything.
            server::Output::TurnedAway { .. } => panic!("this relay serves everybody"),
            server::Output::Misbehaved { rule, .. } => assert_eq!(rule, server::Misbehaviour::Silent),
            server::Output::Drained => self.crash_relay(relay),
            server::Output::Net(NetCommand::Connect { .. }) => panic!("a relay connects to nobody"),
        }
    }

    /// Nobody alive is refused for a limit: the dead must not count.
    fn assert_not_refused(&self, link: usize, bytes: &[u8]) {
        if let Ok(FromRelay::Failed { reason: FailReason::Busy { limit } }) = decode(bytes, MAX_RELAY_MESSAGE) {
            let it = &self.links[link];
            assert!(it.cut || !it.node_open, "node {} is alive and was refused for {limit}", it.node);
        }
    }

    // -- verdicts

    pub(crate) fn assert_heals(&mut self) {
        self.run(HEALED_WITHIN);
        self.assert_connected();
    }

    /// All friends have one tunnel with each other, the same on both sides; strangers have none.
    pub(crate) fn assert_connected(&self) {
        for (n, node) in self.nodes.iter().enumerate() {
            self.assert_listening(n);
            for (m, other) in self.nodes.iter().enumerate().filter(|&(m, _)| m != n) {
                let up = self.up(n, other.key);
                if node.friends.contains(&other.key) && other.friends.contains(&node.key) {
                    assert_eq!(up.len(), 1, "nodes {n} and {m} are not connected by one tunnel");
                    let link = &self.links[self.from_node[&(n, up[0])]];
                    let far = &self.links[link.joined.expect("a tunnel is joined")];
                    assert_eq!((far.node, self.up(m, node.key)), (m, vec![far.node_conn]));
                } else {
                    assert!(up.is_empty(), "strangers {n} and {m} are connected");
                }
            }
        }
    }

    pub(crate) fn assert_listening(&self, node: usize) {
        let node = &self.nodes[node];
        for &relay in &node.own_relays {
            assert!(node.client.is_listening(self.relays[relay].address.public_key));
        }
    }

    pub(crate) fn assert_nothing_is_left(&self) {
        for relay in &self.relays {
            assert_eq!(relay.server.counts(), server::Counts::default());
            assert_eq!(relay.server.poll_timeout(), None);
        }
        assert!(self.nodes.iter().all(|node| node.client.is_idle() && node.sessions.is_empty()));
    }
}

/// Limits that leave no room for the dead, but all that the living can use.
fn what_the_living_need(nodes: u32) -> Limits {
    let quota = |share: u32| Quota { per_identity: share, per_address: share, total: share * nodes };
    let friends = nodes - 1;
    // Both sides call, so there may be a tunnel each way.
    let tunnels = 2 * friends;
    // Set-ups: a listener, each friend called and taken; three times, because what is being closed still counts.
    let setups = 3 * (1 + 2 * friends);
    Limits {
        setups: quota(setups),
        listeners: quota(1),
        halves: quota(friends),
        tunnel_ends: quota(tunnels),
        waiting_calls: friends,
        tunnel_rate: TunnelRate::default(),
    }
}
