//! A friend that floods a node whose few cores have no room for it: honest friends go on paying over the same node.
// A step that fails is a test that fails.
#![allow(clippy::unwrap_used)]
// What a program does is read from /proc, and its cores are chosen for it.
#![cfg(target_os = "linux")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use offset_protocol::codec::List;
use offset_protocol::files::{self, FriendTicket};
use offset_protocol::relay::RelayAddress;
use offset_tests::network::Network;
use offset_tests::node::flood::Flood;
use offset_tests::programs::PATIENCE;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Cores of a node that checks signatures on its state thread.
const CORES: usize = 2;
/// Payments while the flood goes on.
const PAYMENTS: u64 = 5;
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

#[test]
fn a_flood_of_one_friend_leaves_the_node_to_the_others() {
    keep_few_cores();
    let mut network = Network::new();
    network.start_relay("relay");
    network.start_index_servers(&["index"]);
    network.start_node("alice", "relay", "index");
    network.start_node_with("bob", "relay", "index", "--metrics 127.0.0.1:0");
    network.start_node("carol", "relay", "index");
    network.befriend("alice", "bob", 1_000_000);
    network.befriend("bob", "carol", 1_000_000);
    let mallory = FriendTicket { public_key: Flood::key(), relays: List::new() };
    network.shell.write("mallory.friend", files::print(&mallory).as_bytes());
    network.ok("bob", "config add-friend --friend mallory.friend --name mallory");
    network.wait_for_friends();
    network.wait_for_route("alice", "carol");
    let relay: RelayAddress = files::parse(network.shell.read("relay.ticket").as_bytes()).unwrap();
    let bob: FriendTicket = files::parse(network.shell.read("bob.friend").as_bytes()).unwrap();
    let metrics = network.server("bob").metrics_address().to_owned();

    let flood = Flood::start(&relay, bob.public_key).unwrap();
    let begun = Instant::now();
    while flood.said() < 10_000 {
        assert!(flood.goes_on() && begun.elapsed() < PATIENCE, "no flood: {} batches", flood.said());
        std::thread::sleep(Duration::from_millis(20));
    }
    let (heard_before, turns_before) = heard_and_turns(&metrics);
    for n in 0..PAYMENTS {
        network.ok("carol", &format!("seller create-invoice --currency USD --amount 5 --invoice {n}.invoice"));
        network.ok("alice", &format!("buyer pay --invoice {n}.invoice --receipt {n}.receipt"));
        network.shell.ok(&format!("stverify verify-receipt --invoice {n}.invoice --receipt {n}.receipt"));
    }
    let (heard, turns) = heard_and_turns(&metrics);
    let (heard, turns) = (heard - heard_before, turns - turns_before);
    assert!(flood.goes_on(), "the flood has ended after {} batches", flood.said());
    assert!(heard > 10 * PAYMENTS * 100, "{heard} messages are no flood");
    assert!(heard <= MOST_IN_A_TURN * turns, "{heard} messages in {turns} turns: one friend fills them");
    drop(flood);
    network.wait_for_quiet();
    network.check_agreement();
}
