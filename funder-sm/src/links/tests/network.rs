//! Nodes and relays in memory: what the tests of links run.

use std::collections::BTreeSet;
use std::sync::Arc;

use offset_protocol::bytes::{Hash, ResetToken};
use offset_protocol::codec::decode;
use offset_protocol::friend::{ResetTerms, Resume};
use offset_protocol::identity::{Identity, Signer};
use offset_protocol::limits::MAX_FRAME;
use offset_protocol::machine::{Seed, turn};
use offset_protocol::net::ConnIds;
use offset_relay_sm::server::{self, Limits, RelayServer};

use super::super::*;
use crate::testnet::{Effect, Event, Host, World};
pub(super) use crate::testnet::{HostId, address};

/// The relay, and another one.
pub(super) const RELAY: HostId = 0;
pub(super) const OTHER_RELAY: HostId = 1;

pub(super) fn identity(host: HostId) -> Identity {
    Identity::from_private_key(&[host + 1; 32])
}

pub(super) fn key(host: HostId) -> PublicKey {
    identity(host).public_key()
}

/// Nodes in the order of their keys: the first one leads.
pub(super) fn ordered<const N: usize>() -> [HostId; N] {
    let mut hosts: Vec<HostId> = (10..10 + N as u8).collect();
    hosts.sort_by_key(|host| key(*host));
    hosts.try_into().unwrap()
}

pub(super) fn relay_address(host: HostId) -> RelayAddress {
    RelayAddress { public_key: key(host), address: address(host) }
}

pub(super) fn resume(number: u64) -> FriendMessage {
    FriendMessage::Resume(Resume { epoch: 0, in_seq: number, in_head: Hash([0; 32]), out_seq: 0 })
}

/// Something that only a friend may say, and rather long.
pub(super) fn long_message() -> FriendMessage {
    let balances = (0..20).map(|n| offset_protocol::friend::CurrencyBalance {
        currency: format!("C{n}").parse().unwrap(),
        balance: i128::MAX,
    });
    let terms = ResetTerms { epoch: 1, reset_token: ResetToken([3; 32]), balances: List::truncated(balances) };
    FriendMessage::Inconsistent(terms)
}

pub(super) enum TestHost {
    /// With its key, and how often a node misbehaved there.
    Relay(Box<RelayServer>, PublicKey, u32),
    Node(Box<TestNode>),
}

/// A node that says `Resume` when a link comes up, as a funder does.
pub(super) struct TestNode {
    pub(super) links: Links,
    key: PublicKey,
    inputs: Vec<Input>,
    pub(super) up: BTreeSet<PublicKey>,
    pub(super) ups: u64,
    pub(super) heard: Vec<(PublicKey, FriendMessage)>,
    pub(super) relays: BTreeSet<PublicKey>,
}

impl TestNode {
    pub(super) fn new(host: HostId, seed: u64) -> Self {
        let signer = Arc::new(identity(host));
        let config = Config { signer, seed: Seed::from_number(seed), ids: ConnIds::lane(0, 1) };
        TestNode {
            links: Links::new(config),
            key: key(host),
            inputs: Vec::new(),
            up: BTreeSet::new(),
            ups: 0,
            heard: Vec::new(),
            relays: BTreeSet::new(),
        }
    }

    fn turn(&mut self, now: Instant, event: Option<Event>) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Some(Event::Net(event)) => self.inputs.push(Input::Net(event)),
            Some(Event::Tick) => self.inputs.push(Input::Tick),
            Some(Event::JoinEnded(..)) => panic!("a node joins nothing"),
            None => {}
        }
        while !self.inputs.is_empty() {
            let inputs = std::mem::take(&mut self.inputs);
            let mut outputs = Vec::new();
            turn(&mut self.links, now, inputs, |output| outputs.push(output));
            self.links.assert_consistent();
            for output in outputs {
                match output {
                    Output::Net(command) => effects.push(Effect::Net(command)),
                    Output::Up { friend } => {
                        assert!(self.up.insert(friend), "up twice");
                        self.ups += 1;
                        self.inputs.push(Input::Send { friend, message: resume(self.ups) });
                    }
                    Output::Down { friend } => assert!(self.up.remove(&friend), "down without up"),
                    Output::Message { friend, bytes } => {
                        assert!(self.up.contains(&friend), "a message on a link that is down");
                        self.heard.push((friend, decode(&bytes, MAX_FRAME).unwrap()));
                    }
                    Output::RelayRefuses { relay, .. } => assert!(!self.relays.contains(&relay), "a relay in use"),
                    Output::RelayStatus { relay, connected: true } => assert!(self.relays.insert(relay)),
                    Output::RelayStatus { relay, connected: false } => assert!(self.relays.remove(&relay)),
                }
            }
        }
        effects
    }
}

impl Host for TestHost {
    fn public_key(&self) -> PublicKey {
        match self {
            TestHost::Relay(_, key, _) => *key,
            TestHost::Node(node) => node.key,
        }
    }

    fn paces(&self) -> bool {
        matches!(self, TestHost::Relay(..))
    }

    fn turn(&mut self, now: Instant, event: Option<Event>) -> Vec<Effect> {
        let (relay, misbehaved) = match self {
            TestHost::Node(node) => return node.turn(now, event),
            TestHost::Relay(relay, _, misbehaved) => (relay, misbehaved),
        };
        let input = event.map(|event| match event {
            Event::Net(event) => server::Input::Net(event),
            Event::JoinEnded(a, b) => server::Input::JoinEnded { a, b },
            Event::Tick => server::Input::Tick,
        });
        let mut effects = Vec::new();
        turn(&mut **relay, now, input, |output| match output {
            server::Output::Net(command) => effects.push(Effect::Net(command)),
            server::Output::Resume { conn } => effects.push(Effect::Resume(conn)),
            server::Output::Join { a, b } => effects.push(Effect::Join(a, b)),
            server::Output::Misbehaved { .. } => *misbehaved += 1,
            server::Output::TurnedAway { .. } | server::Output::Drained => {}
        });
        effects
    }

    fn alarm(&self) -> Option<Alarm> {
        match self {
            TestHost::Relay(relay, ..) => relay.poll_timeout(),
            TestHost::Node(node) => node.links.poll_timeout(),
        }
    }
}

pub(super) type Net = World<TestHost>;

impl World<TestHost> {
    pub(super) fn node(&mut self, host: HostId) -> &mut TestNode {
        match self.hosts.get_mut(&host) {
            Some(TestHost::Node(node)) => node,
            Some(TestHost::Relay(..)) | None => panic!("host {host} is no node"),
        }
    }

    pub(super) fn tell(&mut self, host: HostId, input: Input) {
        self.node(host).inputs.push(input);
        self.poke(host);
    }

    pub(super) fn linked(&mut self, a: HostId, b: HostId) -> bool {
        self.node(a).up.contains(&key(b)) && self.node(b).up.contains(&key(a))
    }

    /// Whether both friends' links are up and what one says the other hears.
    pub(super) fn talk(&mut self, a: HostId, b: HostId) -> bool {
        for (from, to) in [(a, b), (b, a)] {
            self.node(to).heard.clear();
            self.tell(from, Input::Send { friend: key(to), message: long_message() });
        }
        self.run(Duration::from_secs(1));
        [(a, b), (b, a)].into_iter().all(|(from, to)| self.node(to).heard.contains(&(key(from), long_message())))
    }
}

pub(super) fn relay(host: HostId) -> TestHost {
    TestHost::Relay(Box::new(RelayServer::new(Limits::default())), key(host), 0)
}

/// A network with two relays, and nodes that all listen at the first one.
pub(super) fn world(nodes: &[HostId]) -> Net {
    let mut world = World::new();
    for host in [RELAY, OTHER_RELAY] {
        world.add(host, relay(host));
    }
    for &host in nodes {
        world.add(host, TestHost::Node(Box::new(TestNode::new(host, u64::from(host)))));
        world.tell(host, Input::Listen(relay_address(RELAY)));
    }
    world.run(Duration::from_secs(1));
    world
}

pub(super) fn keep(world: &mut Net, host: HostId, friend: HostId) {
    keep_at(world, host, friend, RELAY);
}

pub(super) fn keep_at(world: &mut Net, host: HostId, friend: HostId, relay: HostId) {
    let relays = List::truncated([relay_address(relay)]);
    world.tell(host, Input::KeepLink { friend: key(friend), relays });
}

pub(super) fn befriend(world: &mut Net, a: HostId, b: HostId) {
    keep(world, a, b);
    keep(world, b, a);
    assert!(world.run_until(|world| world.linked(a, b)));
}

/// What is left when all is quiet: at most a listener each and one tunnel's end.
pub(super) fn assert_one_session(world: &mut Net, nodes: &[HostId]) {
    for &node in nodes {
        assert_eq!(world.node(node).links.sessions.len(), 1);
        assert_eq!(world.connections(node, RELAY), 2, "a listener and a tunnel");
    }
}
