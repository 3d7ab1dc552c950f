//! A friend that floods a node: honest friends go on paying over the same node, whether its state thread checks signatures, as on a
//! machine with few cores, or others do.
// A step that fails is a test that fails.
#![allow(clippy::unwrap_used)]
// What a program does is read from /proc, and its cores are chosen for it.
#![cfg(target_os = "linux")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use offset_protocol::bytes::PublicKey;
use offset_protocol::codec::List;
use offset_protocol::files::{self, FriendTicket};
use offset_protocol::relay::RelayAddress;
use offset_tests::network::Network;
use offset_tests::node::flood::Flood;
use offset_tests::programs::PATIENCE;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Cores of everybody: there is no room for a flood beside what others do.
const CORES: usize = 2;
/// Payments while the flood goes on.
const PAYMENTS: u64 = 5;
/// Floods, one after the other, where each ends.
const CALLS: u64 = 4;
/// Messages of a turn: a share of the flood, and what others say meanwhile.
const MOST_IN_A_TURN: u64 = 2 * 64;

/// What programs that this thread starts from now on see of the machine.
fn keep_few_cores() {
    let all = sched_getaffinity(None).unwrap();
    let mut few = CpuSet::new();
    (0..CpuSet::MAX_CPU).filter(|core| all.is_set(*core)).take(CORES).for_each(|core| few.set(core));
    sched_setaffinity(None, &few).unwrap();
}

/// Messages that a node has heard, and the turns that it has taken.
fn heard_and_turns(metrics: &str) -> (u64, u64) {
    let mut stream = TcpStream::connect(metrics).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    let figure = |name: &str| {
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name} is not on the page:\n{page}")).parse().unwrap()
    };
    (figure("offset_messages_received_total"), figure("offset_turn_seconds_count"))
}

/// Alice, Bob and Carol in a line, over one relay, and Mallory whom Bob knows as a friend.
struct Scene {
    network: Network,
    relay: RelayAddress,
    /// Whom the flood is for.
    bob: PublicKey,
    metrics: String,
}

impl Scene {
    /// With these flags for Bob's `stnode`.
    fn with(flags: &str) -> Scene {
        keep_few_cores();
        let mut network = Network::new();
        network.start_relay("relay");
        network.start_index_servers(&["index"]);
        network.start_node("alice", "relay", "index");
        network.start_node_with("bob", "relay", "index", &format!("--metrics 127.0.0.1:0 {flags}"));
        network.start_node("carol", "relay", "index");
        network.befriend("alice", "bob", 1_000_000);
        network.befriend("bob", "carol", 1_000_000);
        let mallory = FriendTicket { public_key: Flood::key(), relays: List::new() };
        network.shell.write("mallory.friend", files::print(&mallory).as_bytes());
        network.ok("bob", "config add-friend --friend mallory.friend --name mallory");
        network.wait_for_friends();
        network.wait_for_route("alice", "carol");
        let relay = files::parse(network.shell.read("relay.ticket").as_bytes()).unwrap();
        let bob: FriendTicket = files::parse(network.shell.read("bob.friend").as_bytes()).unwrap();
        let metrics = network.server("bob").metrics_address().to_owned();
        Scene { network, relay, bob: bob.public_key, metrics }
    }

    /// Honest friends pay over Bob.
    fn pay(&self, payments: std::ops::Range<u64>) {
        for n in payments {
            let create = format!("seller create-invoice --currency USD --amount 5 --invoice {n}.invoice");
            self.network.ok("carol", &create);
            self.network.ok("alice", &format!("buyer pay --invoice {n}.invoice --receipt {n}.receipt"));
            self.network.shell.ok(&format!("stverify verify-receipt --invoice {n}.invoice --receipt {n}.receipt"));
        }
    }

    fn end(self) {
        self.network.wait_for_quiet();
        self.network.check_agreement();
    }
}

/// One at a time: each needs all of the few cores.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn a_flood_of_one_friend_leaves_the_node_to_the_others() {
    let _alone = ALONE.lock();
    let scene = Scene::with("--check-threads 0");
    let flood = Flood::start(&scene.relay, scene.bob).unwrap();
    let begun = Instant::now();
    while flood.said() < 10_000 {
        assert!(flood.goes_on() && begun.elapsed() < PATIENCE, "no flood: {} batches", flood.said());
        std::thread::sleep(Duration::from_millis(20));
    }
    let (heard_before, turns_before) = heard_and_turns(&scene.metrics);
    scene.pay(0..PAYMENTS);
    let (heard, turns) = heard_and_turns(&scene.metrics);
    let (heard, turns) = (heard - heard_before, turns - turns_before);
    assert!(flood.goes_on(), "the flood has ended after {} batches", flood.said());
    assert!(heard > 10 * PAYMENTS * 100, "{heard} messages are no flood");
    assert!(heard <= MOST_IN_A_TURN * turns, "{heard} messages in {turns} turns: one friend fills them");
    drop(flood);
    scene.end();
}

/// There only so many messages wait for their check: who says more loses the link, and the next call is taken later.
#[test]
fn a_flood_of_one_friend_loses_its_link_where_signatures_are_checked_beside_the_rest() {
    let _alone = ALONE.lock();
    let scene = Scene::with("--check-threads 2");
    let mut said = 0;
    for n in 0..CALLS {
        let begun = Instant::now();
        let flood = loop {
            match Flood::start(&scene.relay, scene.bob) {
                Ok(flood) => break flood,
                Err(why) => assert!(begun.elapsed() < PATIENCE, "call {n} is not taken: {why:#}"),
            }
            std::thread::sleep(Duration::from_millis(50));
        };
        while flood.said() < 1_000 && flood.goes_on() {
            std::thread::sleep(Duration::from_millis(1));
        }
        scene.pay(n..n + 1);
        let begun = Instant::now();
        while flood.goes_on() {
            assert!(begun.elapsed() < PATIENCE, "the node listens on, after {} batches", flood.said());
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(flood.said() >= 1_000, "{} batches are no flood", flood.said());
        said += flood.said();
    }
    let (heard, _) = heard_and_turns(&scene.metrics);
    assert!(heard * 10 < said, "of {said} batches the node took {heard} messages");
    scene.end();
}
