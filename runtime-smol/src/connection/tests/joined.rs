//! Connections that a relay has joined, and what all of them may hold together.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;

use offset_protocol::channel::SecureChannel;
use offset_protocol::net::Address;
use smol::Async;

use super::*;
use crate::gate::DoorLimits;

/// A relay with two clients that have both said hello, and are joined.
struct Joined {
    relay: Host,
    ends: [(Host, ConnId); 2],
    inner: [ConnId; 2],
}

fn joined() -> Joined {
    joined_with(offset_relay_sm::server::TunnelRate::default().into())
}

fn joined_with(rate: Rate) -> Joined {
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
    let rate = Rate { per_s: 200_000, burst: 20_000 };
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

#[test]
fn whoever_has_said_something_is_not_taken_for_silent() {
    let door = DoorLimits { handshakes_per_address: 2, ..DoorLimits::default() };
    let mut server = Host::with(2, NetLimits { door, ..NetLimits::default() });
    let address = server.listen(Purpose::AppNode, Reading::Freely);
    // Both are cut off if the machine is so busy that a second passes: then once more.
    let is_cut = |stream: &mut TcpStream| {
        stream.set_read_timeout(Some(StdDuration::from_millis(100))).unwrap();
        let waits = |error: &std::io::Error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
        !matches!(stream.read(&mut [0]), Err(error) if waits(&error))
    };
    for _ in 0..20 {
        let (mut client, began) = (Host::new(1), std::time::Instant::now());
        let mut speaks = TcpStream::connect(address).unwrap();
        speaks.write_all(&[1; 10]).unwrap();
        let mut silent = TcpStream::connect(address).unwrap();
        std::thread::sleep(StdDuration::from_millis(100));
        let conn = client.connect(address, server.key, Purpose::AppNode);
        let took = began.elapsed();
        server.admit();
        assert_eq!(client.desk.next_within(StdDuration::from_secs(3)), Some(NetEvent::Opened { conn }));
        assert!(is_cut(&mut silent), "who has said nothing gives way");
        if took < StdDuration::from_millis(900) {
            return assert!(!is_cut(&mut speaks), "who has spoken stays");
        }
    }
    panic!("this machine is too busy");
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
            bounds: Bounds { stall: STALL_LIMIT, budget: budget.clone(), checks: Arc::default() },
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
    let rate = Rate { per_s: 1_000, burst: 1_000 };
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
