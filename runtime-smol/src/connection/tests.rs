//! Connections between hubs of one process, over real sockets on loopback.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::task::Waker;
use std::time::Duration as StdDuration;

use offset_protocol::bytes::PublicKey;
use offset_protocol::identity::{Identity, SharedSigner, Signer};
use offset_protocol::limits::MAX_FRAME;
use offset_protocol::machine::Seed;
use offset_protocol::net::NetCommand;

use super::rate::TunnelRate;
use super::*;
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
    server.desk.lock().handed = Handed { units: 128, by_peer: true, last: false };
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

/// A relay with two clients that have both said hello, and are joined.
struct Joined {
    relay: Host,
    ends: [(Host, ConnId); 2],
    inner: [ConnId; 2],
}

fn joined() -> Joined {
    joined_with(TunnelRate::default())
}

fn joined_with(rate: TunnelRate) -> Joined {
    let mut relay = Host::new(9);
    relay.hub.limit_tunnels(rate);
    let address = relay.listen(Purpose::NodeRelay, Reading::OneByOne);
    let (ends, inner) = tunnel(&mut relay, address, [1, 2]);
    Joined { relay, ends, inner }
}

/// Two hosts that have both said hello, and are joined; and the relay's connections with them.
fn tunnel(relay: &mut Host, address: SocketAddr, numbers: [u8; 2]) -> ([(Host, ConnId); 2], [ConnId; 2]) {
    let mut inner = Vec::new();
    let ends = numbers.map(|number| {
        let mut host = Host::new(number);
        let conn = host.connect(address, relay.key, Purpose::NodeRelay);
        let theirs = relay.admit();
        assert_eq!(host.desk.next(), NetEvent::Opened { conn });
        host.send(conn, b"hello".to_vec());
        assert_eq!(relay.desk.next(), NetEvent::Message { conn: theirs, bytes: b"hello".to_vec() });
        inner.push(theirs);
        (host, conn)
    });
    let inner = [inner[0], inner[1]];
    relay.hub.join(inner[0], inner[1]);
    relay.hub.flush();
    (ends, inner)
}

#[test]
fn an_identity_in_debt_waits_and_loses_nothing() {
    // Ten messages of 20 kB, of which the burst lets two pass; the others are earned at 200 kB/s.
    let rate = TunnelRate { bytes_per_s: 200_000, burst_bytes: 20_000 };
    let Joined { relay: _relay, ends: [(mut a, to_a), (b, _)], .. } = joined_with(rate);
    let start = std::time::Instant::now();
    for n in 0..10 {
        a.send(to_a, message(n, 20_000));
    }
    for n in 0..10 {
        assert!(b.desk.next_message() == message(n, 20_000), "message {n}");
    }
    assert!(start.elapsed() >= StdDuration::from_millis(700), "{:?}", start.elapsed());
}

#[test]
fn two_peers_that_flood_each_other_through_a_join_and_read_slowly_lose_nothing_and_never_block() {
    const COUNT: usize = 6_000;
    let Joined { relay: _relay, ends, .. } = joined();
    let floods = ends.map(|(mut host, conn)| {
        host.desk.set_room(0);
        let (desk, mail) = (host.desk.clone(), host.hub.mail(conn));
        let reading = std::thread::spawn(move || {
            for n in 0..COUNT {
                if n % 100 == 0 {
                    std::thread::sleep(StdDuration::from_millis(2));
                    desk.set_room(100);
                }
                assert!(desk.next_message() == message(n, 2_000 + n % 50), "message {n}");
            }
        });
        let sending = std::thread::spawn(move || {
            for n in 0..COUNT {
                while mail.waiting() > 1_000 {
                    std::thread::sleep(StdDuration::from_micros(200));
                }
                host.send(conn, message(n, 2_000 + n % 50));
            }
            host
        });
        (reading, sending)
    });
    for (reading, sending) in floods {
        let host = sending.join().unwrap();
        reading.join().unwrap();
        assert_eq!(host.desk.next_within(StdDuration::ZERO), None);
    }
}

#[test]
fn a_peer_that_never_reads_through_a_join_slows_the_other_and_costs_the_relay_no_more_than_the_pipes() {
    let Joined { relay, ends: [(mut a, conn_a), (b, conn_b)], inner } = joined();
    b.desk.set_room(0);
    let mut sent = 0;
    // A says more than all sockets hold, until its own mailbox is full: then it gives up.
    let closed = loop {
        a.send(conn_a, vec![1; 100_000]);
        sent += 100_000;
        match a.desk.next_within(StdDuration::from_micros(200)) {
            None => assert!(sent < 64 << 20, "{sent} bytes went into a join that nobody reads"),
            Some(event) => break event,
        }
    };
    assert_eq!(closed, NetEvent::Closed { conn: conn_a });
    let (taken, given) = (&relay.hub.counters().bytes_in, &relay.hub.counters().bytes_out);
    let held = taken.load(Relaxed).saturating_sub(given.load(Relaxed));
    assert!(held < 2 << 20, "the relay holds {held} bytes");
    // B wakes up, hears what was on its way, and then the end.
    b.desk.set_room(usize::MAX);
    while b.desk.next() != (NetEvent::Closed { conn: conn_b }) {}
    let ended = relay.desk.lock().joins_ended.clone();
    assert_eq!(ended, [(inner[0], inner[1])]);
}

#[test]
fn when_one_end_of_a_join_closes_the_other_hears_all_that_was_said_before() {
    let Joined { relay, ends: [(mut a, conn_a), (b, conn_b)], inner } = joined();
    for n in 0..200 {
        a.hub.command(NetCommand::Send { conn: conn_a, bytes: message(n, 5_000) });
    }
    a.command(NetCommand::Close { conn: conn_a });
    for n in 0..200 {
        assert!(b.desk.next_message() == message(n, 5_000));
    }
    assert_eq!(b.desk.next(), NetEvent::Closed { conn: conn_b });
    assert_eq!(a.desk.next(), NetEvent::Closed { conn: conn_a });
    let mut closed = [relay.desk.next(), relay.desk.next()].map(|event| event.conn());
    closed.sort();
    assert_eq!(closed, inner);
    assert_eq!(relay.desk.lock().joins_ended, [(inner[0], inner[1])]);
}

#[test]
fn a_join_with_a_connection_that_is_gone_closes_the_other() {
    let Joined { mut relay, ends: [(mut a, conn_a), (b, conn_b)], inner } = joined();
    a.command(NetCommand::Close { conn: conn_a });
    assert_eq!(b.desk.next(), NetEvent::Closed { conn: conn_b });
    let gone = relay.desk.next().conn();
    relay.hub.on_closed(gone);
    relay.hub.join(inner[0], inner[1]);
    assert_eq!(relay.desk.lock().joins_ended.len(), 2);
}

#[test]
fn clients_that_say_nothing_delay_nobody() {
    let (mut client, mut server) = (Host::new(1), Host::new(2));
    let address = server.listen(Purpose::AppNode, Reading::Freely);
    let silent: Vec<_> = (0..50).map(|_| TcpStream::connect(address).unwrap()).collect();
    let conn = client.connect(address, server.key, Purpose::AppNode);
    server.admit();
    assert_eq!(client.desk.next_within(StdDuration::from_secs(3)), Some(NetEvent::Opened { conn }));
    drop(silent);
}

/// Tunnels whose readers stand still while their writers flood them.
#[test]
fn stalled_readers_keep_the_budget_and_others_go_on() {
    const STALLED: u8 = 4;
    const SIZE: usize = 16 * 1024;
    // Longer than a busy machine takes to fill the budget: who was closed for stalling fills nothing any more.
    let limits = NetLimits { memory_bytes: 512 * 1024, stall: Duration::from_secs(15), ..NetLimits::default() };
    let mut relay = Host::with(9, limits);
    let budget = relay.hub.budget();
    let address = relay.listen(Purpose::NodeRelay, Reading::OneByOne);
    let mut stalled: Vec<_> =
        (0..STALLED).map(|number| tunnel(&mut relay, address, [20 + number, 40 + number]).0).collect();
    let ([(mut caller, to_caller), (callee, _)], inner) = tunnel(&mut relay, address, [1, 2]);
    stalled.iter().for_each(|[_, (reader, _)]| reader.desk.set_room(0));
    // Everything that the sockets hold must be full first. What a relay with room for all would hold at the end: half a MiB
    // in the pipe and the wire of each tunnel.
    let (mut highest, mut round, begun) = (0, 0, std::time::Instant::now());
    while round < 20 {
        assert!(begun.elapsed() < PATIENCE, "{highest} bytes: the budget was never used up");
        for [(writer, conn), _] in &mut stalled {
            let mail = writer.hub.mail(*conn);
            for n in 0..50_usize.saturating_sub(mail.waiting()) {
                writer.send(*conn, message(n, SIZE));
            }
        }
        std::thread::sleep(StdDuration::from_millis(5));
        highest = highest.max(budget.held());
        // Some rounds more than it takes to use it up.
        round += usize::from(highest >= limits.memory_bytes);
    }
    // A tunnel that is read goes on meanwhile, one message at a time.
    for n in 0..50 {
        caller.send(to_caller, message(n, SIZE));
        assert!(callee.desk.next_message() == message(n, SIZE), "message {n} of a tunnel that is read");
        highest = highest.max(budget.held());
    }
    // In each direction of each connection there may be a message, in a buffer of twice its size and half read again.
    let connections = 2 * (usize::from(STALLED) + 1);
    let most = limits.memory_bytes + connections * 6 * SIZE;
    assert!(highest <= most, "{highest} bytes, at most {most}");
    // Who reads nothing is closed in time, and then everything is given back.
    let mut closed = std::collections::BTreeSet::new();
    while closed.len() < 2 * usize::from(STALLED) {
        let NetEvent::Closed { conn } = relay.desk.next() else { panic!("the end of a stalled tunnel") };
        assert!(!inner.contains(&conn), "the tunnel that is read stays");
        closed.insert(conn);
    }
    caller.send(to_caller, message(7, SIZE));
    assert!(callee.desk.next_message() == message(7, SIZE));
    caller.command(NetCommand::Close { conn: to_caller });
    let begun = std::time::Instant::now();
    while budget.held() > 0 {
        assert!(begun.elapsed() < PATIENCE, "{} bytes are held by nobody", budget.held());
        std::thread::sleep(StdDuration::from_millis(5));
    }
}

/// The relay's connection with a sender, and the sender's channel, in virtual time.
struct Timed {
    connection: Connection,
    sender: SecureChannel,
    socket: TcpStream,
    now: Instant,
}

impl Timed {
    /// Open.
    fn new(outlet: Arc<Desk>, budget: &Budget) -> Timed {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        socket.set_nonblocking(true).unwrap();
        let (stream, from) = listener.accept().unwrap();
        let signer = |number| Arc::new(Identity::from_private_key(&[number; 32]));
        let (now, purpose) = (Instant::from_micros(1_000_000), Purpose::NodeRelay);
        let config = |number: u8| {
            let signer: SharedSigner = signer(number);
            offset_protocol::channel::ChannelConfig { purpose, signer, seed: Seed::from_number(number.into()) }
        };
        let ticket = crate::gate::Gate::new(NetLimits::default().door).enter(from.ip(), now, &Arc::default()).unwrap();
        let from = Address::new("127.0.0.1").unwrap();
        let parts = Parts {
            conn: ConnId::incoming(1),
            stream: Async::new(stream).unwrap(),
            channel: SecureChannel::responder(config(2), now),
            opening: Opening::Theirs { purpose, from, ticket },
            reading: Reading::OneByOne,
            mail: Arc::default(),
            outlet,
            counters: Arc::default(),
            bounds: Bounds { stall: STALL_LIMIT, budget: budget.clone() },
            clock: Clock::start(),
        };
        let mut sender = SecureChannel::initiator(config(1), signer(2).public_key(), now);
        let mut wire = Vec::new();
        sender.start(now, &mut wire);
        std::io::Write::write_all(&mut &socket, &wire).unwrap();
        let mut timed = Timed { connection: Connection::new(parts), sender, socket, now };
        for _ in 0..10 {
            timed.pass(Duration::from_millis(1));
            timed.connection.parts.mail.admit();
        }
        assert!(timed.connection.open);
        timed
    }

    /// Lets time pass on both sides, and then both do what they can.
    fn pass(&mut self, time: Duration) {
        self.now += time;
        let (now, mut wire, mut buffer) = (self.now, Vec::new(), [0; 4_096]);
        self.sender.tick(now, &mut wire);
        if let Ok(read) = self.socket.read(&mut buffer) {
            self.sender.receive(now, &buffer[..read], &mut wire);
        }
        std::io::Write::write_all(&mut &self.socket, &wire).unwrap();
        self.work();
    }

    /// The relay does what it can, without waiting for the system to say that there is something to read.
    fn work(&mut self) {
        self.connection.maybe_readable = true;
        let mut context = Context::from_waker(Waker::noop());
        assert!((0..100).any(|_| !self.connection.round(&mut context, self.now)), "it comes to rest");
        self.connection.tell_channel_whether_we_read(self.now);
    }

    fn say(&mut self, message: &[u8]) {
        let mut wire = Vec::new();
        self.sender.send(self.now, message, &mut wire).unwrap();
        std::io::Write::write_all(&mut &self.socket, &wire).unwrap();
    }
}

#[test]
fn a_sender_whose_message_waits_for_a_slow_reader_while_memory_is_short_is_not_taken_for_silent() {
    let desk = Arc::new(Desk::default());
    let budget = Budget::new(1);
    let mut used = budget.charge();
    used.set(1);
    let mut timed = Timed::new(desk.clone(), &budget);
    let (mail, other) = (timed.connection.parts.mail.clone(), Mail::default());
    let [a, b] =
        [(1, &*mail), (2, &other)].map(|(number, mail)| JoinEnd { conn: ConnId::incoming(number), mail, bucket: None });
    let limits = PipeLimits { bytes: PIPE_BYTES, budget };
    let (ours, reader) = join::halves(&a, &b, &limits, timed.now, desk);
    mail.join(ours);
    timed.say(b"first");
    timed.pass(Duration::from_millis(1));
    timed.say(b"second");
    // The reader takes bytes all the time, but the message is long.
    for _ in 0..3 * 40 {
        timed.pass(Duration::from_secs(1));
        reader.moves_until(timed.now);
    }
    assert_eq!(timed.connection.phase, Phase::Running);
    let mut context = Context::from_waker(Waker::noop());
    for expected in [b"first".to_vec(), b"second".to_vec()] {
        assert_eq!(reader.poll_next(&mut context), Poll::Ready(Some(expected)));
        timed.pass(Duration::from_millis(1));
        timed.pass(Duration::from_millis(1));
    }
    // Who says nothing at all while it is read is.
    for _ in 0..41 {
        timed.now += Duration::from_secs(1);
        reader.moves_until(timed.now);
        timed.work();
    }
    assert!(timed.connection.parts.counters.ended.read().contains(&("silent", 1)));
}

#[test]
fn a_tunnel_in_debt_for_longer_than_it_may_be_idle_goes_on_when_that_is_paid() {
    let desk = Arc::new(Desk::default());
    let budget = Budget::new(LEAST_BUDGET);
    let mut timed = Timed::new(desk.clone(), &budget);
    let rate = TunnelRate { bytes_per_s: 1_000, burst_bytes: 1_000 };
    let bucket = Arc::new(rate::Bucket::new(rate, timed.now));
    // Two minutes of debt.
    bucket.pay(121_000);
    let other = Mail::default();
    let mail = timed.connection.parts.mail.clone();
    let a = JoinEnd { conn: ConnId::incoming(1), mail: &mail, bucket: Some(bucket) };
    let b = JoinEnd { conn: ConnId::incoming(2), mail: &other, bucket: None };
    let (ours, reader) = join::halves(&a, &b, &PipeLimits { bytes: PIPE_BYTES, budget }, timed.now, desk);
    mail.join(ours);
    timed.say(b"late");
    for second in 0..119 {
        timed.pass(Duration::from_secs(1));
        assert_eq!(timed.connection.phase, Phase::Running, "after {second} s");
    }
    let mut context = Context::from_waker(Waker::noop());
    assert!(reader.poll_next(&mut context).is_pending());
    timed.pass(Duration::from_secs(2));
    assert_eq!(reader.poll_next(&mut context), Poll::Ready(Some(b"late".to_vec())));
}

/// Readers that take far more than the least, and far less than is sent to them: alone none of them stalls.
#[test]
fn readers_that_take_a_little_do_not_keep_the_memory() {
    const SLOW: u8 = 6;
    const SIZE: usize = 16 * 1024;
    let limits = NetLimits { memory_bytes: 512 * 1024, stall: Duration::from_secs(20), ..NetLimits::default() };
    let mut relay = Host::with(9, limits);
    let budget = relay.hub.budget();
    let address = relay.listen(Purpose::NodeRelay, Reading::OneByOne);
    let mut slow: Vec<_> = (0..SLOW).map(|number| tunnel(&mut relay, address, [20 + number, 40 + number]).0).collect();
    let ([(mut caller, to_caller), (callee, _)], inner) = tunnel(&mut relay, address, [1, 2]);
    slow.iter().for_each(|[_, (reader, _)]| reader.desk.set_room(0));
    let (begun, mut number) = (std::time::Instant::now(), 0);
    let closed = loop {
        assert!(begun.elapsed() < PATIENCE, "{} bytes are held, nobody is closed", budget.held());
        for [(writer, conn), (reader, _)] in &mut slow {
            let mail = writer.hub.mail(*conn);
            for n in 0..50_usize.saturating_sub(mail.waiting()) {
                writer.send(*conn, message(n, SIZE));
            }
            reader.desk.set_room(1);
        }
        // Whoever reads is served all the time.
        caller.send(to_caller, message(number, SIZE));
        assert!(callee.desk.next_message() == message(number, SIZE));
        number += 1;
        if let Some(NetEvent::Closed { conn }) = relay.desk.next_within(StdDuration::from_millis(100)) {
            break conn;
        }
    };
    assert!(!inner.contains(&closed), "a slow one had to go");
    caller.send(to_caller, message(number, SIZE));
    assert!(callee.desk.next_message() == message(number, SIZE));
}
