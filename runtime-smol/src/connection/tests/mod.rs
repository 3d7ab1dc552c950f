//! Connections between hubs of one process, over real sockets on loopback.

mod joined;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::task::Waker;
use std::time::Duration as StdDuration;

use offset_protocol::bytes::PublicKey;
use offset_protocol::identity::{Identity, SharedSigner, Signer};
use offset_protocol::limits::MAX_FRAME;
use offset_protocol::machine::Seed;
use offset_protocol::net::{Address, ConnId, NetCommand, Purpose};

use super::rate::Rate;
use super::*;
use crate::clock::Clock;
use crate::executor::Executor;
use crate::hub::{Hub, HubConfig};
use crate::limits::NetLimits;

const PATIENCE: StdDuration = StdDuration::from_secs(30);

/// An outlet that keeps everything and gives room for messages as the test says.
#[derive(Default)]
struct Desk {
    state: Mutex<DeskState>,
    changed: Condvar,
}

#[derive(Default)]
struct DeskState {
    events: VecDeque<NetEvent>,
    incoming: Vec<Arc<Mail>>,
    joins_ended: Vec<(ConnId, ConnId)>,
    room: usize,
    handed: Handed,
    waiting: Vec<Waker>,
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, DeskState> {
        self.state.lock().unwrap()
    }

    fn change(&self, change: impl FnOnce(&mut DeskState)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    fn set_room(&self, room: usize) {
        let mut state = self.lock();
        state.room = room;
        state.waiting.drain(..).for_each(Waker::wake);
    }

    /// The next event; the test fails if none comes.
    fn next(&self) -> NetEvent {
        self.next_within(PATIENCE).expect("an event in time")
    }

    fn next_within(&self, patience: StdDuration) -> Option<NetEvent> {
        let (mut state, _) =
            self.changed.wait_timeout_while(self.lock(), patience, |state| state.events.is_empty()).unwrap();
        state.events.pop_front()
    }

    fn next_message(&self) -> Vec<u8> {
        match self.next() {
            NetEvent::Message { bytes, .. } => bytes,
            other => panic!("a message, not {other:?}"),
        }
    }
}

impl Outlet for Desk {
    fn poll_message(&self, cx: &mut Context<'_>, from: &Whence, slot: &mut Option<Vec<u8>>) -> Poll<Handed> {
        let mut state = self.lock();
        if state.room == 0 {
            state.waiting.push(cx.waker().clone());
            return Poll::Pending;
        }
        state.room -= 1;
        state.events.push_back(NetEvent::Message { conn: from.conn, bytes: slot.take().unwrap() });
        self.changed.notify_all();
        Poll::Ready(state.handed)
    }

    fn event(&self, event: NetEvent) {
        self.change(|state| state.events.push_back(event));
    }

    fn incoming(&self, mail: Arc<Mail>, event: NetEvent) {
        self.change(|state| {
            state.incoming.push(mail);
            state.events.push_back(event);
        });
    }

    fn join_ended(&self, a: ConnId, b: ConnId) {
        self.change(|state| state.joins_ended.push((a, b)));
    }
}

struct Host {
    hub: Hub,
    desk: Arc<Desk>,
    key: PublicKey,
}

impl Host {
    fn new(number: u8) -> Host {
        Host::with(number, NetLimits::default())
    }

    fn with(number: u8, limits: NetLimits) -> Host {
        let identity = Identity::from_private_key(&[number; 32]);
        let key = identity.public_key();
        let signer: SharedSigner = Arc::new(identity);
        let desk = Arc::new(Desk::default());
        desk.set_room(usize::MAX);
        let (clock, executor) = (Clock::start(), Executor::start().unwrap());
        let seed = Seed::from_number(u64::from(number));
        let hub = Hub::new(HubConfig { signer, seed, clock, executor, outlet: desk.clone(), limits });
        Host { hub, desk, key }
    }

    fn listen(&mut self, purpose: Purpose, reading: Reading) -> SocketAddr {
        self.hub.listen(crate::tcp::listen("127.0.0.1:0").unwrap(), purpose, reading).unwrap()
    }

    fn connect(&mut self, to: SocketAddr, peer: PublicKey, purpose: Purpose) -> ConnId {
        let (conn, address) = (ConnId::outgoing(1), Address::new(&to.to_string()).unwrap());
        self.hub.command(NetCommand::Connect { conn, purpose, address, peer });
        conn
    }

    /// Waits for a peer and admits it.
    fn admit(&mut self) -> ConnId {
        let NetEvent::Incoming { conn, purpose, peer, .. } = self.desk.next() else { panic!("a peer") };
        let mail = self.desk.lock().incoming.pop().unwrap();
        self.hub.on_incoming(conn, purpose, peer, mail);
        self.command(NetCommand::Admit { conn });
        conn
    }

    fn send(&mut self, conn: ConnId, bytes: Vec<u8>) {
        self.command(NetCommand::Send { conn, bytes });
    }

    fn command(&mut self, command: NetCommand) {
        self.hub.command(command);
        self.hub.flush();
    }
}

/// Two hosts and their ends of one connection.
fn pair(purpose: Purpose, reading: Reading) -> (Host, ConnId, Host, ConnId) {
    let (mut client, mut server) = (Host::new(1), Host::new(2));
    let address = server.listen(purpose, reading);
    let ours = client.connect(address, server.key, purpose);
    let theirs = server.admit();
    assert_eq!(client.desk.next(), NetEvent::Opened { conn: ours });
    (client, ours, server, theirs)
}

fn message(n: usize, size: usize) -> Vec<u8> {
    let mut bytes = vec![n as u8; size.max(8)];
    bytes[..8].copy_from_slice(&(n as u64).to_be_bytes());
    bytes
}

#[test]
fn messages_of_every_size_arrive_whole_and_in_order_both_ways() {
    let (mut client, ours, mut server, theirs) = pair(Purpose::NodeIndex, Reading::Freely);
    let sizes = [8, 63, 64, 65, 1_000, 65_519, 65_536, 200_000, MAX_FRAME];
    for (n, size) in sizes.into_iter().enumerate() {
        client.send(ours, message(n, size));
        server.send(theirs, message(n, size));
    }
    for (n, size) in sizes.into_iter().enumerate() {
        assert!(client.desk.next_message() == message(n, size));
        assert!(server.desk.next_message() == message(n, size));
    }
}

/// A stranger wrote hundreds of badly signed reports at once, and all were checked though the first was enough.
#[test]
fn behind_a_message_that_ends_the_connection_nothing_is_looked_at() {
    let (mut client, ours, mut server, theirs) = pair(Purpose::NodeIndex, Reading::Freely);
    server.desk.lock().handed.last = true;
    for n in 0..500 {
        client.hub.command(NetCommand::Send { conn: ours, bytes: message(n, 200) });
    }
    client.hub.flush();
    assert!(server.desk.next_message() == message(0, 200));
    assert_eq!(server.desk.next_within(StdDuration::from_millis(100)), None);
    // What the machine has to say still leaves.
    server.send(theirs, b"no".to_vec());
    assert_eq!(client.desk.next_message(), b"no");
    server.command(NetCommand::Close { conn: theirs });
    assert_eq!(server.desk.next(), NetEvent::Closed { conn: theirs });
}

#[test]
fn a_peer_that_pays_for_its_checks_is_paused_and_loses_nothing() {
    let (mut client, ours, server, _) = pair(Purpose::NodeIndex, Reading::Freely);
    // Two messages are a burst, and the third is on credit.
    server.desk.lock().handed = Handed { units: 128, payer: Payer::Address, last: false };
    let began = std::time::Instant::now();
    for n in 0..5 {
        client.send(ours, message(n, 200));
    }
    for n in 0..5 {
        assert!(server.desk.next_message() == message(n, 200));
        let least = StdDuration::from_millis([0, 0, 0, 900, 1_900][n]);
        assert!(began.elapsed() >= least, "message {n} after {:?}", began.elapsed());
    }
}

/// It took a MiB of the budget for as long as it liked, and no reader was closed after it.
#[test]
fn whoever_is_joined_with_nobody_begins_no_long_message() {
    let (mut client, ours, mut server, theirs) = pair(Purpose::NodeRelay, Reading::OneByOne);
    client.send(ours, message(0, MAX_RELAY_MESSAGE));
    assert!(server.desk.next_message() == message(0, MAX_RELAY_MESSAGE));
    server.hub.resume(theirs);
    client.send(ours, message(1, MAX_FRAME));
    assert_eq!(server.desk.next(), NetEvent::Closed { conn: theirs });
    assert_eq!(client.desk.next(), NetEvent::Closed { conn: ours });
    // Whoever is read freely may.
    let (mut client, ours, server, _) = pair(Purpose::NodeIndex, Reading::Freely);
    client.send(ours, message(1, MAX_FRAME));
    assert!(server.desk.next_message() == message(1, MAX_FRAME));
}

#[test]
fn a_close_comes_after_what_was_sent_and_is_told_once_on_both_sides() {
    let (mut client, ours, server, theirs) = pair(Purpose::AppNode, Reading::Freely);
    for n in 0..500 {
        client.hub.command(NetCommand::Send { conn: ours, bytes: message(n, 900) });
    }
    client.command(NetCommand::Close { conn: ours });
    for n in 0..500 {
        assert!(server.desk.next_message() == message(n, 900));
    }
    assert_eq!(server.desk.next(), NetEvent::Closed { conn: theirs });
    assert_eq!(client.desk.next(), NetEvent::Closed { conn: ours });
    assert_eq!(server.desk.next_within(StdDuration::from_millis(50)), None);
    assert_eq!(client.desk.next_within(StdDuration::from_millis(50)), None);
    let writes = client.hub.counters().writes.load(Relaxed);
    assert!(writes < 100, "500 messages left in {writes} writes");
}

#[test]
fn a_peer_that_is_not_the_expected_one_or_not_wanted_is_never_opened() {
    let (mut client, mut server) = (Host::new(1), Host::new(2));
    let address = server.listen(Purpose::AppNode, Reading::Freely);
    let conn = client.connect(address, Host::new(3).key, Purpose::AppNode);
    assert_eq!(client.desk.next(), NetEvent::Closed { conn });
    client.hub.on_closed(conn);
    let conn = client.connect(address, server.key, Purpose::AppNode);
    let NetEvent::Incoming { conn: theirs, peer, from, purpose } = server.desk.next() else { panic!("a peer") };
    assert_eq!((peer, from.as_str(), purpose), (client.key, "127.0.0.1", Purpose::AppNode));
    let mail = server.desk.lock().incoming.pop().unwrap();
    server.hub.on_incoming(theirs, purpose, peer, mail);
    server.command(NetCommand::Close { conn: theirs });
    assert_eq!(client.desk.next(), NetEvent::Closed { conn });
    assert_eq!(server.desk.next(), NetEvent::Closed { conn: theirs });
}

#[test]
fn a_peer_that_is_admitted_only_to_be_told_no_hears_it() {
    let (mut client, mut server) = (Host::new(1), Host::new(2));
    let address = server.listen(Purpose::NodeRelay, Reading::OneByOne);
    let conn = client.connect(address, server.key, Purpose::NodeRelay);
    let NetEvent::Incoming { conn: theirs, purpose, peer, .. } = server.desk.next() else { panic!("a peer") };
    let mail = server.desk.lock().incoming.pop().unwrap();
    server.hub.on_incoming(theirs, purpose, peer, mail);
    server.hub.command(NetCommand::Admit { conn: theirs });
    server.hub.command(NetCommand::Send { conn: theirs, bytes: b"no".to_vec() });
    server.command(NetCommand::Close { conn: theirs });
    assert_eq!(client.desk.next(), NetEvent::Opened { conn });
    assert_eq!(client.desk.next_message(), b"no");
    assert_eq!(client.desk.next(), NetEvent::Closed { conn });
    assert_eq!(server.desk.next(), NetEvent::Closed { conn: theirs });
}

#[test]
fn a_connection_that_cannot_be_made_or_is_no_longer_wanted_closes() {
    let mut client = Host::new(1);
    let nobody = Host::new(2).listen(Purpose::AppNode, Reading::Freely);
    let conn = client.connect(nobody, client.key, Purpose::AppNode);
    assert_eq!(client.desk.next(), NetEvent::Closed { conn });
    client.hub.on_closed(conn);
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let conn = client.connect(silent.local_addr().unwrap(), client.key, Purpose::AppNode);
    client.command(NetCommand::Close { conn });
    assert_eq!(client.desk.next_within(StdDuration::from_secs(3)), Some(NetEvent::Closed { conn }));
}

#[test]
fn a_peer_that_never_reads_is_disconnected_and_costs_no_more_than_the_limit() {
    let (client, _ours, mut server, theirs) = pair(Purpose::AppNode, Reading::Freely);
    client.desk.set_room(0);
    let mut sent = 0;
    let closed = loop {
        server.send(theirs, vec![7; 100_000]);
        sent += 100_000;
        match server.desk.next_within(StdDuration::from_micros(200)) {
            None => assert!(sent < 64 << 20, "sent {sent} bytes to a peer that reads nothing"),
            Some(event) => break event,
        }
    };
    assert_eq!(closed, NetEvent::Closed { conn: theirs });
}

#[test]
fn a_slow_machine_slows_its_peer_and_loses_nothing() {
    let (mut client, ours, server, _theirs) = pair(Purpose::AppNode, Reading::Freely);
    server.desk.set_room(0);
    let mail = client.hub.mail(ours);
    let mut next = 0;
    for n in 0..30_000 {
        while mail.waiting() > 2_000 {
            server.desk.set_room(50);
            while let Some(NetEvent::Message { bytes, .. }) = server.desk.next_within(StdDuration::from_millis(1)) {
                assert!(bytes == message(next, 500));
                next += 1;
            }
        }
        client.send(ours, message(n, 500));
    }
    server.desk.set_room(usize::MAX);
    for n in next..30_000 {
        assert!(server.desk.next_message() == message(n, 500));
    }
    assert_eq!(client.desk.next_within(StdDuration::ZERO), None);
}

#[test]
fn a_connection_that_is_read_one_by_one_gives_one_message_at_each_resume() {
    let (mut client, ours, mut server, theirs) = pair(Purpose::NodeRelay, Reading::OneByOne);
    for n in 0..3 {
        client.send(ours, message(n, 100));
    }
    for n in 0..3 {
        assert!(server.desk.next_message() == message(n, 100));
        assert_eq!(server.desk.next_within(StdDuration::from_millis(30)), None);
        server.hub.resume(theirs);
        server.hub.flush();
    }
}
