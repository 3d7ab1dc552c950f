//! Who a server lets in and what it lets them have: limits by flags and by file, a relay for chosen nodes, the listener of a
//! phone that changes its network.

use std::net::{Ipv4Addr, SocketAddr};

use offset_protocol::bytes::PublicKey;
use offset_protocol::codec::{List, decode, encode};
use offset_protocol::files::{FriendTicket, NodeTicket};
use offset_protocol::relay::{FailReason, FromRelay, MAX_RELAY_MESSAGE, RelayShare, ToRelay};
use socket2::{Domain, Socket, Type};

use super::*;

/// A node as a relay sees it: one connection.
struct Node {
    session: Session,
}

impl Node {
    /// Connects as the node of this number, from this address of the loopback.
    fn connect(relay: &str, number: u8, from: Ipv4Addr) -> Node {
        let to: SocketAddr = relay.parse().unwrap();
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
        socket.connect(&to.into()).unwrap();
        let app = App { address: relay.to_owned(), clock: Clock::start() };
        match app.shake_hands(socket.into(), Purpose::NodeRelay, number) {
            Attempt::Admitted(session) => Node { session },
            Attempt::Refused => panic!("a relay admits everybody, if only to say no"),
        }
    }

    fn new(relay: &str, number: u8) -> Node {
        Node::connect(relay, number, Ipv4Addr::LOCALHOST)
    }

    fn tell(&mut self, message: &ToRelay) {
        let (now, mut wire) = (self.session.clock.now(), Vec::new());
        self.session.channel.send(now, &encode(message), &mut wire).unwrap();
        self.session.stream.write_all(&wire).unwrap();
    }

    fn hear(&mut self) -> FromRelay {
        match self.session.next_event() {
            ChannelEvent::Message(bytes) => decode(&bytes, MAX_RELAY_MESSAGE).unwrap(),
            other => panic!("unexpected {other:?}"),
        }
    }

    fn listen(mut self) -> (Node, RelayShare) {
        self.tell(&ToRelay::Listen);
        match self.hear() {
            FromRelay::Listening { share } => (self, share),
            other => panic!("unexpected {other:?}"),
        }
    }
}

fn key(number: u8) -> PublicKey {
    identity(number).public_key()
}

const NOT_ALLOWED: FromRelay = FromRelay::Failed { reason: FailReason::NotAllowed };

#[test]
fn a_relay_for_chosen_nodes_serves_them_from_the_moment_their_ticket_is_there_until_it_is_gone() {
    let folder = Folder::new();
    folder.write("trusted/b.ticket", &FriendTicket { public_key: key(2), relays: List::new() });
    let mut command = folder.relay();
    command.arg("--allowed").arg(folder.file("trusted"));
    let relay = metrics::Watched::start(command, &["listening on "]);
    let address = relay.address().to_owned();
    let (mut listener, _) = Node::new(&address, 2).listen();
    assert_eq!(Node::new(&address, 3).hear(), NOT_ALLOWED);
    // Another kind of file that names a node does as well.
    folder.write("trusted/c.ticket", &NodeTicket { public_key: key(3), address: "host:1".parse().unwrap() });
    std::thread::sleep(Duration::from_millis(1_200));
    let mut caller = Node::new(&address, 3);
    caller.tell(&ToRelay::Connect { to: key(2) });
    assert_eq!(listener.hear(), FromRelay::Incoming { from: key(3) });
    let mut taker = Node::new(&address, 2);
    taker.tell(&ToRelay::Accept { from: key(3) });
    assert_eq!((taker.hear(), caller.hear()), (FromRelay::Ready, FromRelay::Ready));
    std::fs::remove_file(folder.file("trusted/b.ticket")).unwrap();
    assert_eq!(listener.hear(), NOT_ALLOWED);
    listener.session.wait_for_the_end();
    taker.session.wait_for_the_end();
    caller.session.wait_for_the_end();
    assert_eq!(Node::new(&address, 2).hear(), NOT_ALLOWED);
    drop(Node::new(&address, 3).listen());
    // Who was turned away is counted, and one of them named.
    assert_eq!(relay.value("offset_relay_turned_away_total"), 2.0);
    relay.server.signal("-TERM");
    let (status, log) = relay.server.wait();
    assert!(status.success());
    let named: Vec<_> = log.lines().filter(|line| line.contains("not in the folder of those to serve")).collect();
    assert!(named.len() == 1 && named[0].contains(&key(3).to_string()), "{log}");
}

#[test]
fn a_relay_tells_listeners_the_limits_of_its_flags_and_of_its_file() {
    let folder = Folder::new();
    std::fs::write(
        folder.file("relay.toml"),
        format!("idfile = {:?}\nmax-halves-per-identity = 5\ntunnel-rate = 100000\n", folder.file("a.ident")),
    )
    .unwrap();
    let mut command = Command::new(RELAY);
    command.arg("--config").arg(folder.file("relay.toml"));
    command.args(["--laddr", "127.0.0.1:0", "--tunnel-rate", "200000", "--max-tunnel-ends-per-identity", "6"]);
    let mut relay = Server::start(command);
    let address = relay.address("listening on ");
    let (_, share) = Node::new(&address, 2).listen();
    let expected = RelayShare { halves: 5, tunnel_ends: 6, bytes_per_s: 200_000, burst_bytes: 64 << 20 };
    assert_eq!(share, expected);
}

#[test]
fn all_servers_take_their_flags_from_a_file_and_name_what_is_wrong_in_it() {
    let folder = Folder::new();
    drop(folder.node());
    let config = folder.file("server.toml");
    let text = |lines: &[&str]| std::fs::write(&config, lines.join("\n")).unwrap();
    let (ident, trusted) = (folder.file("a.ident"), folder.file("trusted"));
    let idfile = format!("idfile = {ident:?}");
    let folder_line = format!("trusted = {trusted:?}");
    let database = format!("database = {:?}", folder.file("node.db"));
    let start = |program: &str| Server::start(command(program, &[("--config", &config)]));
    text(&[&idfile, "laddr = '127.0.0.1:0'", "max-listeners = 5000", "log-format = 'json'"]);
    start(RELAY).address("listening on ");
    text(&[&idfile, &folder_line, "lclient = '127.0.0.1:0'", "lserver = '127.0.0.1:0'", "accept-rate = 500"]);
    start(INDEX).address("listening for clients on ");
    text(&[&idfile, &folder_line, &database, "laddr = '127.0.0.1:0'", "stall-limit = 20"]);
    start(NODE).address("listening on ");
    for (program, line, why) in [
        (RELAY, "max-listener = 1", "there is no key 'max-listener'"),
        (INDEX, "max-listeners = 1", "there is no key 'max-listeners'"),
        (NODE, "accept-rate = 'fast'", "accept-rate: a whole number is wanted, not a text"),
        (RELAY, "tunnel-rate = 3", "tunnel-rate: 3 is not in 32768.."),
        (INDEX, "lclient = 4002", "lclient: a text in quotes is wanted, not a number"),
    ] {
        text(&["# first", line]);
        let (code, stderr) = failed(command(program, &[("--config", &config)]));
        assert_eq!((code, stderr.lines().count()), (Some(2), 1), "{stderr}");
        assert!(stderr.contains(&format!("server.toml: line 2: {why}")), "{stderr}");
    }
    let (code, stderr) = failed(command(RELAY, &[("--config", &folder.file("missing.toml"))]));
    assert_eq!(code, Some(1));
    assert!(stderr.contains("cannot read ") && stderr.contains("missing.toml: "), "{stderr}");
}

#[test]
fn limits_that_make_no_sense_together_are_refused_before_any_door_opens() {
    let folder = Folder::new();
    for (mut command, flags, why) in [
        (folder.relay(), ["--max-halves-per-identity", "99999"], "halves per identity must be at most 16384"),
        (folder.relay(), ["--max-listeners", "0"], "0 is not in 1.."),
        (folder.index(), ["--accept-burst", "3"], "accept burst per address must be at most 3"),
        (folder.node(), ["--max-handshakes", "1"], "handshakes per address must be at most 1"),
    ] {
        command.args(flags);
        let (code, stderr) = failed(command);
        assert_eq!(code, Some(2), "{stderr}");
        assert!(stderr.contains(why), "{stderr}");
    }
}

#[test]
fn who_comes_too_fast_is_cut_before_any_cryptography_and_counted() {
    let folder = Folder::new();
    let mut command = folder.relay();
    command.args(["--accept-rate", "2", "--accept-burst", "12"]);
    command.args(["--accept-rate-per-address", "1", "--accept-burst-per-address", "5"]);
    let relay = metrics::Watched::start(command, &["listening on "]);
    let come = |from: Ipv4Addr| -> TcpStream {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
        socket.connect(&relay.address().parse::<SocketAddr>().unwrap().into()).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket.into()
    };
    let refused = |reason: &str| relay.value(&format!("offset_connections_refused_total{{reason=\"{reason}\"}}"));
    // The door has decided about all of them once those that see a reset are as many as it says that it refused.
    let cut = |streams: &[TcpStream], reason: &str, least: &dyn Fn() -> usize| -> usize {
        let (begun, mut cut) = (Instant::now(), vec![false; streams.len()]);
        loop {
            for (mut stream, cut) in streams.iter().zip(&mut cut) {
                let read = stream.read(&mut [0]);
                *cut |= read.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset);
            }
            let (seen, said) = (cut.iter().filter(|cut| **cut).count(), refused(reason) as usize);
            if seen == said && said >= least() {
                return said;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "{seen} were cut, {said} refused, not {}", least());
            std::thread::sleep(Duration::from_millis(120));
        }
    };
    // Those that are let in are kept until the end, so that only the rates decide.
    let begun = Instant::now();
    let earned = |per_s: usize| (begun.elapsed().as_secs() as usize + 1) * per_s;
    let all: Vec<_> = (0..12).map(|_| come(Ipv4Addr::new(127, 0, 0, 2))).collect();
    let cut_here = cut(&all, "address_rate", &|| 7_usize.saturating_sub(earned(1)));
    assert!(cut_here <= 7, "{cut_here} of 12 were cut, and five may come at once");
    // Of all together twelve may come at once; some came already.
    let others: Vec<_> = (3..43).map(|n| come(Ipv4Addr::new(127, 0, 0, n))).collect();
    let cut_in_all = cut(&others, "total_rate", &|| (40 - cut_here).saturating_sub(earned(2)).max(1));
    assert!(cut_in_all < 40, "some of them may come");
}

#[test]
fn a_phone_that_changed_its_network_is_reachable_again_at_once() {
    let folder = Folder::new();
    let mut relay = Server::start(folder.relay());
    let address = relay.address("listening on ");
    // Its old connection is dead, but nobody told the relay: it is neither read nor closed.
    let (_old, _) = Node::connect(&address, 2, Ipv4Addr::new(127, 0, 0, 2)).listen();
    let mut early = Node::new(&address, 3);
    early.tell(&ToRelay::Connect { to: key(2) });
    let begun = Instant::now();
    let (mut new, _) = Node::connect(&address, 2, Ipv4Addr::new(127, 0, 0, 3)).listen();
    // A friend that called the dead connection is announced again; so is one that calls now.
    assert_eq!(new.hear(), FromRelay::Incoming { from: key(3) });
    let mut late = Node::new(&address, 4);
    late.tell(&ToRelay::Connect { to: key(2) });
    assert_eq!(new.hear(), FromRelay::Incoming { from: key(4) });
    for (caller, number) in [(&mut early, 3), (&mut late, 4)] {
        let mut taker = Node::connect(&address, 2, Ipv4Addr::new(127, 0, 0, 3));
        taker.tell(&ToRelay::Accept { from: key(number) });
        assert_eq!((taker.hear(), caller.hear()), (FromRelay::Ready, FromRelay::Ready));
    }
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}
