//! Nodes, apps, relays and index servers in memory: what the tests of the node run.

use std::collections::BTreeMap;
use std::sync::Arc;

use offset_index_sm::search::Workspace;
use offset_index_sm::server::{EndReason, IndexServer, ServerInput, ServerLimits, ServerOutput};
use offset_protocol::app::{
    Answer, AppMessage, Command, Event as AppEvent, FriendReport, IndexAddress, Name, NodeMessage, Outcome,
    Permissions, ReportChange,
};
use offset_protocol::bytes::CommandId;
use offset_protocol::codec::{List, decode, encode};
use offset_protocol::identity::{Identity, Signer};
use offset_protocol::limits::MAX_FRAME;
use offset_protocol::machine::{Duration, Seed, WallTime, turn};
use offset_protocol::money::Currency;
use offset_protocol::net::{ConnId, ConnIds, NetCommand, Purpose};
use offset_protocol::persist::{Change, Revision};
use offset_protocol::relay::RelayAddress;
use offset_relay_sm::server::{self, Limits, RelayServer};

use super::super::*;
use crate::node::checks::Answers;
use crate::testnet::{Effect, Event, Host, HostId, World, address};

pub(super) const RELAY: HostId = 1;
pub(super) const INDEX: HostId = 2;
/// Where the nodes begin; the app of node `n` is host `n + APPS`.
pub(super) const NODES: HostId = 10;
pub(super) const APPS: HostId = 100;

pub(super) fn identity(host: HostId) -> Identity {
    Identity::from_private_key(&[host; 32])
}

pub(super) fn key(host: HostId) -> PublicKey {
    identity(host).public_key()
}

pub(super) fn name(host: HostId) -> Name {
    Name::new(&format!("host{host}")).unwrap()
}

pub(super) fn euro() -> Currency {
    "EUR".parse().unwrap()
}

fn relay_address() -> RelayAddress {
    RelayAddress { public_key: key(RELAY), address: address(RELAY) }
}

pub(super) type Records = BTreeMap<Vec<u8>, Vec<u8>>;

pub(super) enum TestHost {
    Relay(Box<RelayServer>),
    Index(Box<IndexServer>),
    Node(Box<TestNode>),
    App(Box<TestApp>),
}

/// A node with its disk.
pub(super) struct TestNode {
    host: HostId,
    pub(super) node: Node,
    pub(super) disk: Records,
    pub(super) inputs: Vec<NodeInput>,
    pub(super) revisions: u64,
}

impl TestNode {
    pub(super) fn restore(host: HostId, disk: Records, now: Instant, seed: u64) -> Self {
        let config = NodeConfig { signer: Arc::new(identity(host)), seed: Seed::from_number(seed) };
        let mut node = Node::restore(config, disk.clone().into_iter().collect(), now).unwrap();
        // Both ways are the same to everybody else.
        if host.is_multiple_of(2) {
            node.check_here();
        }
        let trust = NodeInput::Trust { app: key(host + APPS), permissions: Permissions::ALL };
        TestNode { host, node, disk, inputs: vec![NodeInput::Wall(WallTime(1)), trust], revisions: 0 }
    }

    fn turn(&mut self, now: Instant, event: Option<Event>) -> Vec<Effect> {
        match event {
            Some(Event::Net(event)) => self.inputs.push(NodeInput::Net(event)),
            Some(Event::Tick) => self.inputs.push(NodeInput::Tick),
            Some(Event::JoinEnded(..)) => panic!("a node joins nothing"),
            None => {}
        }
        let mut effects = Vec::new();
        loop {
            let inputs = std::mem::take(&mut self.inputs);
            let (mut persisted, mut checks) = (None, Vec::new());
            turn(&mut self.node, now, inputs, |output| match output {
                NodeOutput::Net(command) => effects.push(Effect::Net(command)),
                NodeOutput::Check(check) => checks.push(check),
                NodeOutput::Notice(_) => {}
                NodeOutput::Persist { revision, changes } => {
                    assert_eq!(persisted.replace((revision, changes)), None, "two revisions in flight");
                }
            });
            let signer = identity(self.host);
            self.inputs
                .extend(checks.into_iter().map(|check| NodeInput::Checked(check.run(&signer, Answers::Checked))));
            match persisted {
                Some((revision, changes)) => {
                    self.write(revision, changes);
                    self.inputs.push(NodeInput::Durable(revision));
                }
                None if self.inputs.is_empty() => return effects,
                None => {}
            }
        }
    }

    fn write(&mut self, revision: Revision, changes: Vec<Change>) {
        self.revisions += 1;
        assert_eq!(revision.0, self.revisions);
        for Change { key, value } in changes {
            match value {
                Some(value) => self.disk.insert(key, value),
                None => self.disk.remove(&key),
            };
        }
    }
}

/// An app that is always connected, if it can be.
pub(super) struct TestApp {
    host: HostId,
    conns: u64,
    conn: Option<ConnId>,
    open: bool,
    queue: Vec<AppMessage>,
    commands: u64,
    pub(super) replies: BTreeMap<CommandId, Outcome>,
    pub(super) events: Vec<(CommandId, Option<u64>, AppEvent)>,
    pub(super) friends: BTreeMap<PublicKey, FriendReport>,
    pub(super) index_connected: bool,
    pub(super) permissions: Option<Permissions>,
}

impl TestApp {
    fn new(host: HostId) -> Self {
        TestApp {
            host,
            conns: 0,
            conn: None,
            open: false,
            queue: Vec::new(),
            commands: 0,
            replies: BTreeMap::new(),
            events: Vec::new(),
            friends: BTreeMap::new(),
            index_connected: false,
            permissions: None,
        }
    }

    /// Queues a command.
    pub(super) fn ask(&mut self, command: Command) -> CommandId {
        self.commands += 1;
        let mut id = [self.host; 16];
        id[..8].copy_from_slice(&self.commands.to_le_bytes());
        self.queue.push(AppMessage::Command { id: CommandId(id), command });
        CommandId(id)
    }

    pub(super) fn acknowledge(&mut self, id: CommandId, number: u64) {
        self.queue.push(AppMessage::Acknowledge { id, number });
    }

    fn turn(&mut self, event: Option<Event>) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Some(Event::Net(NetEvent::Opened { .. })) => self.open = true,
            Some(Event::Net(NetEvent::Message { bytes, .. })) => self.hear(decode(&bytes, MAX_FRAME).unwrap()),
            Some(Event::Net(NetEvent::Closed { .. })) => {
                (self.conn, self.open) = (None, false);
                self.friends.clear();
            }
            Some(Event::Net(NetEvent::Incoming { .. }) | Event::JoinEnded(..) | Event::Tick) | None => {}
        }
        if self.conn.is_none() {
            let conn = ConnId::outgoing(self.conns);
            self.conns += 1;
            self.conn = Some(conn);
            let node = self.host - APPS;
            let (address, peer) = (address(node), key(node));
            effects.push(Effect::Net(NetCommand::Connect { conn, purpose: Purpose::AppNode, address, peer }));
        }
        if let Some(conn) = self.conn.filter(|_| self.open) {
            for message in self.queue.drain(..) {
                effects.push(Effect::Net(NetCommand::Send { conn, bytes: encode(&message) }));
            }
        }
        effects
    }

    fn hear(&mut self, message: NodeMessage) {
        match message {
            NodeMessage::Hello { permissions, .. } => self.permissions = Some(permissions),
            NodeMessage::Report { changes, .. } => changes.into_iter().for_each(|change| self.note(change)),
            NodeMessage::Reply { id, outcome } => {
                assert_eq!(self.replies.insert(id, outcome), None, "one reply each");
            }
            NodeMessage::Event { id, number, event } => {
                if !self.events.contains(&(id, number, event.clone())) {
                    self.events.push((id, number, event));
                }
            }
        }
    }

    fn note(&mut self, change: ReportChange) {
        match change {
            ReportChange::Friend(report) => drop(self.friends.insert(report.public_key, report)),
            ReportChange::FriendRemoved(key) => drop(self.friends.remove(&key)),
            ReportChange::Index(report) => self.index_connected = report.connected,
            ReportChange::IndexRemoved(_) | ReportChange::Relay(_) | ReportChange::RelayRemoved(_) => {}
        }
    }

    /// The balance with a friend, as reported.
    pub(super) fn balance(&self, friend: HostId) -> i128 {
        self.friends[&key(friend)].currencies[0].balance
    }
}

impl Host for TestHost {
    fn public_key(&self) -> PublicKey {
        match self {
            TestHost::Relay(_) => key(RELAY),
            TestHost::Index(_) => key(INDEX),
            TestHost::Node(node) => key(node.host),
            TestHost::App(app) => key(app.host),
        }
    }

    fn paces(&self) -> bool {
        matches!(self, TestHost::Relay(_))
    }

    fn turn(&mut self, now: Instant, event: Option<Event>) -> Vec<Effect> {
        match self {
            TestHost::Relay(relay) => relay_turn(relay, now, event),
            TestHost::Index(index) => index_turn(index, now, event),
            TestHost::Node(node) => node.turn(now, event),
            TestHost::App(app) => app.turn(event),
        }
    }

    fn alarm(&self) -> Option<Alarm> {
        match self {
            TestHost::Relay(relay) => relay.poll_timeout(),
            TestHost::Index(index) => index.poll_timeout(),
            TestHost::Node(node) => node.node.poll_timeout(),
            TestHost::App(_) => None,
        }
    }
}

fn relay_turn(relay: &mut RelayServer, now: Instant, event: Option<Event>) -> Vec<Effect> {
    let input = event.map(|event| match event {
        Event::Net(event) => server::Input::Net(event),
        Event::JoinEnded(a, b) => server::Input::JoinEnded { a, b },
        Event::Tick => server::Input::Tick,
    });
    let mut effects = Vec::new();
    turn(relay, now, input, |output| match output {
        server::Output::Net(command) => effects.push(Effect::Net(command)),
        server::Output::Resume { conn } => effects.push(Effect::Resume(conn)),
        server::Output::Join { a, b } => effects.push(Effect::Join(a, b)),
        server::Output::Misbehaved { .. } | server::Output::TurnedAway { .. } | server::Output::Drained => {}
    });
    effects
}

fn index_turn(index: &mut IndexServer, now: Instant, event: Option<Event>) -> Vec<Effect> {
    let input = match event {
        Some(Event::Net(event)) => Some(ServerInput::Net(event)),
        Some(Event::Tick) => Some(ServerInput::Tick),
        Some(Event::JoinEnded(..)) => panic!("an index server joins nothing"),
        None => None,
    };
    let mut effects = Vec::new();
    let mut inputs = Vec::from_iter(input);
    loop {
        let mut found = Vec::new();
        turn(index, now, inputs, |output| match output {
            ServerOutput::Net(command) => effects.push(Effect::Net(command)),
            ServerOutput::Search(search) => found.push(ServerInput::Found(search.run(&mut Workspace::new()))),
            ServerOutput::Ended { reason: EndReason::Replaced, .. } => {}
            ServerOutput::Ended { reason, .. } => panic!("the index server ended a session: {reason}"),
            ServerOutput::NotTrusted { .. } => {}
        });
        if found.is_empty() {
            return effects;
        }
        inputs = found;
    }
}

impl World<TestHost> {
    pub(super) fn app(&mut self, node: HostId) -> &mut TestApp {
        match self.hosts.get_mut(&(node + APPS)) {
            Some(TestHost::App(app)) => app,
            Some(_) | None => panic!("node {node} has no app"),
        }
    }

    pub(super) fn node(&mut self, host: HostId) -> &mut TestNode {
        match self.hosts.get_mut(&host) {
            Some(TestHost::Node(node)) => node,
            Some(_) | None => panic!("host {host} is no node"),
        }
    }

    pub(super) fn tell(&mut self, node: HostId, input: NodeInput) {
        self.node(node).inputs.push(input);
        self.poke(node);
    }

    /// Gives a command and waits for its outcome.
    pub(super) fn outcome(&mut self, node: HostId, command: Command) -> (CommandId, Outcome) {
        let id = self.app(node).ask(command);
        self.poke(node + APPS);
        assert!(self.run_until(|world| world.app(node).replies.contains_key(&id)), "no reply");
        let outcome = self.app(node).replies[&id].clone();
        (id, outcome)
    }

    /// Gives a command that must be done.
    pub(super) fn done(&mut self, node: HostId, command: Command) -> (CommandId, Answer) {
        match self.outcome(node, command.clone()) {
            (id, Outcome::Done(answer)) => (id, answer),
            (_, Outcome::Refused(refusal)) => panic!("{command:?} was refused: {refusal}"),
        }
    }

    /// Waits for an event of a command.
    pub(super) fn event(
        &mut self,
        node: HostId,
        id: CommandId,
        is: impl Fn(&AppEvent) -> bool,
    ) -> (AppEvent, Option<u64>) {
        let find =
            |world: &mut Self| world.app(node).events.iter().find(|(of, _, event)| *of == id && is(event)).cloned();
        let came = self.run_until(|world| find(world).is_some());
        assert!(came, "the event did not come; these did: {:?}", self.app(node).events);
        let (_, number, event) = find(self).unwrap();
        (event, number)
    }

    /// A node dies and comes back from its disk.
    pub(super) fn restart(&mut self, host: HostId, seed: u64) {
        let disk = self.node(host).disk.clone();
        let node = TestNode::restore(host, disk, self.now, seed);
        self.cut_all(host);
        self.vanish(host, TestHost::Node(Box::new(node)));
    }

    /// A node dies and comes back from its disk; that shows only by the silence of its connections.
    pub(super) fn restart_silently(&mut self, host: HostId, seed: u64) {
        let disk = self.node(host).disk.clone();
        let node = TestNode::restore(host, disk, self.now, seed);
        self.vanish(host, TestHost::Node(Box::new(node)));
    }

    fn cut_all(&mut self, host: HostId) {
        for other in [RELAY, INDEX, host + APPS] {
            self.cut(host, other);
        }
        self.run(Duration::from_millis(1));
    }
}

/// Nodes in a line, each with an app, all at one relay and one index server; each lets its left neighbour owe it 1,000.
pub(super) fn line(length: u8) -> (World<TestHost>, Vec<HostId>) {
    let mut world = World::new();
    world.add(RELAY, TestHost::Relay(Box::new(RelayServer::new(Limits::default()))));
    let nodes: Vec<HostId> = (NODES..NODES + length).collect();
    world.add(INDEX, TestHost::Index(Box::new(index_server(world.now))));
    for &host in &nodes {
        let node = TestNode::restore(host, Records::new(), world.now, u64::from(host));
        world.add(host, TestHost::Node(Box::new(node)));
        world.add(host + APPS, TestHost::App(Box::new(TestApp::new(host + APPS))));
        world.done(host, Command::AddRelay { relay: relay_address(), name: name(RELAY) });
        let server = IndexAddress { public_key: key(INDEX), address: address(INDEX) };
        world.done(host, Command::AddIndex { server, name: name(INDEX) });
    }
    for pair in nodes.windows(2) {
        let &[left, right] = pair else { continue };
        befriend(&mut world, left, right);
        befriend(&mut world, right, left);
        let limit = Command::SetMaxDebt { name: name(left), currency: euro(), max_debt: 1_000 };
        world.done(right, limit);
        assert!(world.run_until(|world| usable(world, left, right) && usable(world, right, left)), "no friendship");
    }
    world.run(Duration::from_secs(3));
    (world, nodes)
}

fn index_server(now: Instant) -> IndexServer {
    let seed = Seed::from_number(77);
    IndexServer::new(now, Arc::new(identity(INDEX)), &seed, ConnIds::lane(0, 1), ServerLimits::default())
}

fn befriend(world: &mut World<TestHost>, node: HostId, friend: HostId) {
    let relays = List::truncated([relay_address()]);
    world.done(node, Command::AddFriend { public_key: key(friend), relays, name: name(friend) });
    world.done(node, Command::EnableFriend { name: name(friend) });
    world.done(node, Command::OpenCurrency { name: name(friend), currency: euro() });
}

pub(super) fn usable(world: &mut World<TestHost>, node: HostId, friend: HostId) -> bool {
    world.app(node).friends.get(&key(friend)).is_some_and(|report| {
        report.online && report.currencies.iter().any(|currency| currency.listed && currency.friend_listed)
    })
}
