//! A small network for tests: servers and clients, one clock, connections with a delay that can be cut.

use std::collections::BTreeMap;
use std::sync::Arc;

use offset_protocol::bytes::PublicKey;
use offset_protocol::identity::{Identity, SharedSigner};
use offset_protocol::index::Entry;
use offset_protocol::machine::{Alarm, Duration, Instant, Machine, Seed};
use offset_protocol::money::Rate;
use offset_protocol::net::{Address, ConnId, ConnIds, NetCommand, NetEvent};

use crate::client::{ClientInput, ClientOutput, IndexClient};
use crate::search::Workspace;
use crate::server::{EndReason, IndexServer, ServerInput, ServerLimits, ServerOutput};

const DELAY: Duration = Duration::from_millis(20);

pub(crate) fn signer(n: u8) -> SharedSigner {
    Arc::new(Identity::from_private_key(&[n; 32]))
}

pub(crate) fn key(n: u8) -> PublicKey {
    signer(n).public_key()
}

pub(crate) fn address(n: u8) -> Address {
    Address::new(&format!("host{n}:1")).unwrap()
}

pub(crate) fn entry(friend: u8, recv_capacity: u128) -> Entry {
    let currency = "USD".parse().unwrap();
    let rate = Rate { mul: 0, add: 1 };
    Entry { friend: key(friend), currency, recv_capacity, forward_capacity: recv_capacity, rate }
}

pub(crate) fn plus(a: Duration, b: Duration) -> Duration {
    (Instant::ZERO + a + b).since(Instant::ZERO)
}

pub(crate) fn minus(a: Duration, b: Duration) -> Duration {
    (Instant::ZERO + a).since(Instant::ZERO + b)
}

pub(crate) enum Host {
    Server(Box<IndexServer>),
    Client(Box<IndexClient>),
}

enum Event {
    Net(NetEvent),
    Reserved(u64),
}

/// Hosts are named by the number that their key is made from.
pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) hosts: BTreeMap<u8, Host>,
    births: u64,
    events: BTreeMap<(Instant, u64), (u8, Event)>,
    sequence: u64,
    /// Both ends of each connection.
    conns: BTreeMap<(u8, ConnId), (u8, ConnId)>,
    /// Pairs that cannot connect.
    apart: Vec<(u8, u8)>,
    pub(crate) reserved: BTreeMap<u8, u64>,
    pub(crate) ended: Vec<(u8, PublicKey, EndReason)>,
    pub(crate) answers: Vec<(u8, ClientOutput)>,
}

impl World {
    pub(crate) fn new() -> Self {
        World {
            now: Instant::from_micros(1_000_000),
            hosts: BTreeMap::new(),
            births: 0,
            events: BTreeMap::new(),
            sequence: 0,
            conns: BTreeMap::new(),
            apart: Vec::new(),
            reserved: BTreeMap::new(),
            ended: Vec::new(),
            answers: Vec::new(),
        }
    }

    /// Starts a server, or starts it again without anything that it knew.
    pub(crate) fn start_server(&mut self, n: u8, trusted: &[u8]) {
        self.stop(n);
        self.births += 1;
        let seed = Seed::from_number(self.births);
        let server =
            IndexServer::new(self.now, signer(n), &seed, ConnIds::lane(self.births, 1_000), ServerLimits::default());
        self.hosts.insert(n, Host::Server(Box::new(server)));
        for other in trusted {
            self.server_input(n, ServerInput::Trust { server: key(*other), address: address(*other) });
        }
    }

    /// Starts a node's client, or starts it again with what its database holds.
    pub(crate) fn start_client(&mut self, n: u8, servers: &[u8], entries: &[Entry]) {
        self.stop(n);
        self.births += 1;
        let (seed, conn_ids) = (Seed::from_number(self.births), ConnIds::lane(self.births, 1_000));
        let reserved = self.reserved.get(&n).copied().unwrap_or(0);
        let client = IndexClient::new(self.now, signer(n), &seed, conn_ids, reserved);
        self.hosts.insert(n, Host::Client(Box::new(client)));
        for entry in entries {
            self.client_input(n, ClientInput::SetEntry(*entry));
        }
        for server in servers {
            self.client_input(n, ClientInput::AddServer { server: key(*server), address: address(*server) });
        }
    }

    /// The host ends; its peers hear so.
    pub(crate) fn stop(&mut self, n: u8) {
        self.hosts.remove(&n);
        self.events.retain(|_, (host, _)| *host != n);
        self.drop_connections(|a, b| a == n || b == n);
    }

    /// Breaks the connection between two hosts and keeps them apart.
    pub(crate) fn part(&mut self, a: u8, b: u8) {
        self.apart.push((a, b));
        self.drop_connections(|from, to| (from, to) == (a, b) || (from, to) == (b, a));
    }

    /// From now on nothing passes over the connections between two hosts, and neither is told. New ones can be made.
    pub(crate) fn silence(&mut self, a: u8, b: u8) {
        let dead =
            |((from, _), (to, _)): (&(u8, ConnId), &(u8, ConnId))| (*from, *to) == (a, b) || (*from, *to) == (b, a);
        self.conns.retain(|one, other| !dead((one, other)));
    }

    pub(crate) fn heal(&mut self) {
        self.apart.clear();
    }

    pub(crate) fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(at) = self.next_time().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.step();
        }
        self.now = end;
    }

    pub(crate) fn server(&self, n: u8) -> &IndexServer {
        match self.hosts.get(&n) {
            Some(Host::Server(server)) => server,
            _ => panic!("host {n} is no server"),
        }
    }

    pub(crate) fn client(&self, n: u8) -> &IndexClient {
        match self.hosts.get(&n) {
            Some(Host::Client(client)) => client,
            _ => panic!("host {n} is no client"),
        }
    }

    /// What a server knows of a node.
    pub(crate) fn known(&self, server: u8, node: u8) -> Vec<Entry> {
        self.server(server).graph().report(&key(node))
    }

    pub(crate) fn server_input(&mut self, n: u8, input: ServerInput) {
        let now = self.now;
        if let Some(Host::Server(server)) = self.hosts.get_mut(&n) {
            server.handle(now, input);
        }
        self.drain(n);
    }

    pub(crate) fn client_input(&mut self, n: u8, input: ClientInput) {
        let now = self.now;
        if let Some(Host::Client(client)) = self.hosts.get_mut(&n) {
            client.handle(now, input);
        }
        self.drain(n);
    }

    fn next_time(&self) -> Option<Instant> {
        let event = self.events.keys().next().map(|(at, _)| *at);
        let alarm = self.hosts.values().filter_map(alarm).map(|alarm| alarm.at).min();
        event.into_iter().chain(alarm).min()
    }

    fn step(&mut self) {
        if let Some(entry) = self.events.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let (n, event) = entry.remove();
            match (event, self.hosts.get(&n)) {
                (Event::Net(event), Some(Host::Server(_))) => self.server_input(n, ServerInput::Net(event)),
                (Event::Net(event), Some(Host::Client(_))) => self.client_input(n, ClientInput::Net(event)),
                (Event::Reserved(below), _) => self.client_input(n, ClientInput::Reserved { below }),
                (Event::Net(_), None) => {}
            }
            return;
        }
        let due: Vec<u8> = self
            .hosts
            .iter()
            .filter(|(_, host)| alarm(host).is_some_and(|alarm| alarm.at <= self.now))
            .map(|(n, _)| *n)
            .collect();
        for n in due {
            match self.hosts.get(&n) {
                Some(Host::Server(_)) => self.server_input(n, ServerInput::Tick),
                Some(Host::Client(_)) => self.client_input(n, ClientInput::Tick),
                None => {}
            }
            let next = self.hosts.get(&n).and_then(alarm);
            assert!(next.is_none_or(|next| next.at > self.now), "{next:?} after a tick at {:?}", self.now);
        }
    }

    fn drain(&mut self, n: u8) {
        let mut commands = Vec::new();
        match self.hosts.get_mut(&n) {
            Some(Host::Server(server)) => {
                while let Some(output) = server.poll_output() {
                    match output {
                        ServerOutput::Net(command) => commands.push(command),
                        ServerOutput::Search(search) => {
                            server.handle(self.now, ServerInput::Found(search.run(&mut Workspace::new())));
                        }
                        ServerOutput::Ended { peer, reason, .. } => self.ended.push((n, peer, reason)),
                        ServerOutput::NotTrusted { .. } => {}
                    }
                }
            }
            Some(Host::Client(client)) => {
                while let Some(output) = client.poll_output() {
                    match output {
                        ClientOutput::Net(command) => commands.push(command),
                        ClientOutput::ReserveVersions { below } => {
                            self.reserved.insert(n, below);
                            self.sequence += 1;
                            let at = (self.now + Duration::from_millis(5), self.sequence);
                            self.events.insert(at, (n, Event::Reserved(below)));
                        }
                        other => self.answers.push((n, other)),
                    }
                }
            }
            None => {}
        }
        for command in commands {
            self.command(n, command);
        }
    }

    fn command(&mut self, n: u8, command: NetCommand) {
        match command {
            NetCommand::Connect { conn, purpose, address: to, peer } => {
                let host = self.hosts.keys().copied().find(|host| address(*host) == to && key(*host) == peer);
                let reachable = |host: &u8| !self.apart.contains(&(n, *host)) && !self.apart.contains(&(*host, n));
                let Some(host) = host.filter(reachable) else {
                    return self.deliver(n, NetEvent::Closed { conn });
                };
                self.sequence += 1;
                let incoming = ConnId::incoming(self.sequence);
                self.conns.insert((n, conn), (host, incoming));
                self.conns.insert((host, incoming), (n, conn));
                let event = NetEvent::Incoming { conn: incoming, purpose, peer: key(n), from: address(n) };
                self.deliver(host, event);
            }
            NetCommand::Admit { conn } => {
                if let Some((peer, conn)) = self.conns.get(&(n, conn)).copied() {
                    self.deliver(peer, NetEvent::Opened { conn });
                }
            }
            NetCommand::Send { conn, bytes } => {
                if let Some((peer, conn)) = self.conns.get(&(n, conn)).copied() {
                    self.deliver(peer, NetEvent::Message { conn, bytes });
                }
            }
            NetCommand::Close { conn } => {
                if let Some((peer, theirs)) = self.conns.remove(&(n, conn)) {
                    self.conns.remove(&(peer, theirs));
                    self.deliver(peer, NetEvent::Closed { conn: theirs });
                }
                self.deliver(n, NetEvent::Closed { conn });
            }
        }
    }

    fn deliver(&mut self, n: u8, event: NetEvent) {
        self.sequence += 1;
        self.events.insert((self.now + DELAY, self.sequence), (n, Event::Net(event)));
    }

    fn drop_connections(&mut self, dead: impl Fn(u8, u8) -> bool) {
        let ends: Vec<(u8, ConnId)> =
            self.conns.iter().filter(|((from, _), (to, _))| dead(*from, *to)).map(|(one, _)| *one).collect();
        for (n, conn) in ends {
            self.conns.remove(&(n, conn));
            if self.hosts.contains_key(&n) {
                self.deliver(n, NetEvent::Closed { conn });
            }
        }
    }
}

fn alarm(host: &Host) -> Option<Alarm> {
    match host {
        Host::Server(server) => server.poll_timeout(),
        Host::Client(client) => client.poll_timeout(),
    }
}
