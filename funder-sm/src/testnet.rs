//! A network in memory for tests: hosts are machines, connections deliver whole messages after a fixed time, in order.
//!
//! It does what a runtime does: proves who is at the other end, reads nothing of a relay's new connection until it may,
//! and forwards between joined ones. It can lie: see [`World::mangle`], [`World::cut`] and [`World::vanish`].

use std::collections::{BTreeMap, VecDeque};

use offset_protocol::bytes::PublicKey;
use offset_protocol::codec::Text;
use offset_protocol::limits::KEEPALIVE_SILENCE;
use offset_protocol::machine::{Alarm, Duration, Instant};
use offset_protocol::net::{Address, ConnId, NetCommand, NetEvent, Purpose};

/// A host of the network.
pub(crate) type HostId = u8;

/// What a host's machine wants of the network.
pub(crate) enum Effect {
    Net(NetCommand),
    Resume(ConnId),
    Join(ConnId, ConnId),
}

/// What a host can be told.
pub(crate) enum Event {
    Net(NetEvent),
    JoinEnded(ConnId, ConnId),
    Tick,
}

/// A machine with a place in the network.
pub(crate) trait Host {
    fn public_key(&self) -> PublicKey;
    /// Whether it is read from only when it says so.
    fn paces(&self) -> bool;
    fn turn(&mut self, now: Instant, event: Option<Event>) -> Vec<Effect>;
    fn alarm(&self) -> Option<Alarm>;
}

/// One end of a connection.
type End = (HostId, ConnId);

struct Wire {
    peer: End,
    /// Holds what came while the host does not read.
    held: VecDeque<Vec<u8>>,
    reads: bool,
    joined: Option<ConnId>,
}

enum Due {
    Arrive {
        from: HostId,
        to: End,
        bytes: Vec<u8>,
    },
    Tell {
        to: End,
        event: NetEvent,
    },
    /// The other end closed.
    End(End),
    /// This end closed, or never came to be.
    Gone(End),
    Start(HostId),
}

/// Changes a message on its way from one host to another; `None` drops it.
pub(crate) type Mangle = Box<dyn FnMut(HostId, HostId, Vec<u8>) -> Option<Vec<u8>>>;

pub(crate) struct World<H> {
    pub(crate) now: Instant,
    pub(crate) hosts: BTreeMap<HostId, H>,
    pub(crate) latency: Duration,
    pub(crate) mangle: Mangle,
    wires: BTreeMap<End, Wire>,
    queue: BTreeMap<(Instant, u64), Due>,
    counter: u64,
}

/// The address of a host.
pub(crate) fn address(host: HostId) -> Address {
    Text::new(&format!("host{host}:1")).unwrap()
}

fn host_at(address: &Address) -> Option<HostId> {
    address.as_str().strip_prefix("host")?.strip_suffix(":1")?.parse().ok()
}

impl<H: Host> World<H> {
    pub(crate) fn new() -> Self {
        World {
            now: Instant::from_micros(1_000_000),
            hosts: BTreeMap::new(),
            latency: Duration::from_millis(10),
            mangle: Box::new(|_, _, bytes| Some(bytes)),
            wires: BTreeMap::new(),
            queue: BTreeMap::new(),
            counter: 0,
        }
    }

    pub(crate) fn add(&mut self, id: HostId, host: H) {
        self.hosts.insert(id, host);
        self.at(Duration::ZERO, Due::Start(id));
    }

    /// Runs the network for a while.
    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.step(end) {}
        self.now = end;
    }

    /// Runs until `done`, for 60 s at most; says whether it came to that.
    pub(crate) fn run_until(&mut self, mut done: impl FnMut(&mut Self) -> bool) -> bool {
        let end = self.now + Duration::from_secs(60);
        while !done(self) {
            if !self.step(end) {
                return done(self);
            }
        }
        true
    }

    /// Lets a host take a turn after something was done to it from outside.
    pub(crate) fn poke(&mut self, host: HostId) {
        self.feed(host, None);
    }

    /// Cuts all connections between two hosts; both ends hear of it.
    pub(crate) fn cut(&mut self, a: HostId, b: HostId) {
        let ends: Vec<_> =
            self.wires.iter().filter(|(end, wire)| end.0 == a && wire.peer.0 == b).map(|(end, _)| *end).collect();
        for end in ends {
            if let Some(wire) = self.wires.get(&end) {
                let peer = wire.peer;
                self.at(Duration::ZERO, Due::End(end));
                self.at(Duration::ZERO, Due::End(peer));
            }
        }
    }

    /// Puts a new machine in a host's place; that the old one's connections are dead shows only by their silence.
    pub(crate) fn vanish(&mut self, id: HostId, host: H) {
        let ends: Vec<_> = self.wires.keys().filter(|end| end.0 == id).copied().collect();
        for end in ends {
            if let Some(wire) = self.wires.remove(&end) {
                self.at(KEEPALIVE_SILENCE, Due::End(wire.peer));
            }
        }
        self.queue.retain(|_, due| match due {
            Due::Arrive { to, .. } | Due::Tell { to, .. } | Due::End(to) | Due::Gone(to) => to.0 != id,
            Due::Start(_) => true,
        });
        self.add(id, host);
    }

    /// How many connections lead from `a` to `b`.
    pub(crate) fn connections(&self, a: HostId, b: HostId) -> usize {
        self.wires.iter().filter(|(end, wire)| end.0 == a && wire.peer.0 == b).count()
    }

    /// One event, or one alarm, if there is any until `end`.
    fn step(&mut self, end: Instant) -> bool {
        let alarm =
            self.hosts.iter().filter_map(|(id, host)| host.alarm().map(|alarm| (alarm.at.max(self.now), *id))).min();
        let due = self.queue.keys().next().map(|key| key.0);
        match (due, alarm) {
            (Some(due), alarm) if due <= end && alarm.is_none_or(|(at, _)| due <= at) => {
                self.now = self.now.max(due);
                if let Some((_, due)) = self.queue.pop_first() {
                    self.on_due(due);
                }
                true
            }
            (_, Some((at, host))) if at <= end => {
                self.now = at;
                self.feed(host, Some(Event::Tick));
                let next = self.hosts[&host].alarm();
                assert!(
                    next.is_none_or(|next| next.at > at),
                    "after a due tick the alarm is later: {next:?} at {at:?}"
                );
                true
            }
            _ => false,
        }
    }

    fn at(&mut self, delay: Duration, due: Due) {
        self.counter += 1;
        self.queue.insert((self.now + delay, self.counter), due);
    }

    fn on_due(&mut self, due: Due) {
        match due {
            Due::Start(host) => self.feed(host, None),
            Due::Tell { to, event } => {
                if self.wires.contains_key(&to) {
                    self.feed(to.0, Some(Event::Net(event)));
                }
            }
            Due::End(to) => self.on_end(to),
            Due::Gone(to) => self.feed(to.0, Some(Event::Net(NetEvent::Closed { conn: to.1 }))),
            Due::Arrive { from, to, bytes } => {
                let Some(bytes) = (self.mangle)(from, to.0, bytes) else { return };
                self.arrive(to, bytes);
            }
        }
    }

    fn arrive(&mut self, to: End, bytes: Vec<u8>) {
        let Some(paces) = self.hosts.get(&to.0).map(Host::paces) else { return };
        let Some(wire) = self.wires.get_mut(&to) else { return };
        if let Some(other) = wire.joined {
            return self.send((to.0, other), bytes);
        }
        if paces && !wire.reads {
            return wire.held.push_back(bytes);
        }
        wire.reads = !paces;
        self.feed(to.0, Some(Event::Net(NetEvent::Message { conn: to.1, bytes })));
    }

    fn send(&mut self, from: End, bytes: Vec<u8>) {
        if let Some(wire) = self.wires.get(&from) {
            let to = wire.peer;
            self.at(self.latency, Due::Arrive { from: from.0, to, bytes });
        }
    }

    fn feed(&mut self, id: HostId, event: Option<Event>) {
        let Some(host) = self.hosts.get_mut(&id) else { return };
        for effect in host.turn(self.now, event) {
            match effect {
                Effect::Net(command) => self.on_command(id, command),
                Effect::Resume(conn) => self.read_on((id, conn)),
                Effect::Join(a, b) => {
                    for (end, other) in [(a, b), (b, a)] {
                        let Some(wire) = self.wires.get_mut(&(id, end)) else { continue };
                        wire.joined = Some(other);
                        for bytes in std::mem::take(&mut wire.held) {
                            self.send((id, other), bytes);
                        }
                    }
                }
            }
        }
    }

    fn read_on(&mut self, end: End) {
        let Some(wire) = self.wires.get_mut(&end) else { return };
        wire.reads = true;
        if let Some(bytes) = wire.held.pop_front() {
            self.at(Duration::ZERO, Due::Arrive { from: end.0, to: end, bytes });
        }
    }

    fn on_command(&mut self, host: HostId, command: NetCommand) {
        match command {
            NetCommand::Connect { conn, purpose, address, peer } => self.connect((host, conn), purpose, &address, peer),
            NetCommand::Admit { conn } => {
                if let Some(wire) = self.wires.get(&(host, conn)) {
                    let to = wire.peer;
                    self.at(self.latency, Due::Tell { to, event: NetEvent::Opened { conn: to.1 } });
                }
            }
            NetCommand::Send { conn, bytes } => self.send((host, conn), bytes),
            NetCommand::Close { conn } => self.close((host, conn)),
        }
    }

    fn connect(&mut self, from: End, purpose: Purpose, address: &Address, peer: PublicKey) {
        let to = host_at(address).filter(|to| self.hosts.get(to).is_some_and(|host| host.public_key() == peer));
        let Some(to) = to else {
            return self.at(self.latency, Due::Gone(from));
        };
        self.counter += 1;
        let there = (to, ConnId::incoming(self.counter));
        let wire = |peer| Wire { peer, held: VecDeque::new(), reads: true, joined: None };
        self.wires.insert(from, wire(there));
        self.wires.insert(there, wire(from));
        let peer = self.hosts[&from.0].public_key();
        let source = Text::new(&format!("host{}", from.0)).unwrap();
        let event = NetEvent::Incoming { conn: there.1, purpose, peer, from: source };
        self.at(self.latency, Due::Tell { to: there, event });
    }

    /// The host closes its end. What it sent before arrives before the end.
    fn close(&mut self, end: End) {
        let Some(wire) = self.wires.remove(&end) else { return };
        self.at(Duration::ZERO, Due::Gone(end));
        self.at(self.latency, Due::End(wire.peer));
        if let Some(partner) = wire.joined.and_then(|other| self.wires.get_mut(&(end.0, other))) {
            partner.joined = None;
        }
    }

    /// The other end has closed.
    fn on_end(&mut self, end: End) {
        let Some(wire) = self.wires.remove(&end) else { return };
        match wire.joined {
            None => self.feed(end.0, Some(Event::Net(NetEvent::Closed { conn: end.1 }))),
            Some(other) => {
                self.feed(end.0, Some(Event::JoinEnded(end.1, other)));
                if let Some(partner) = self.wires.remove(&(end.0, other)) {
                    self.at(self.latency, Due::End(partner.peer));
                }
            }
        }
    }
}
