//! Faults that a user would see, each with its test: wrong databases, programs that do not end, clients that say nothing,
//! clients that come back while their dead session lingers, commands that hang or lie.
// A step that fails is a test that fails.
#![allow(clippy::unwrap_used)]

use std::io::Read;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use offset_tests::network::Network;
use offset_tests::programs::{PATIENCE, Tool};

/// How long a server may take to close everything in order.
const END: Duration = Duration::from_secs(5);
/// How long a network of a few programs may take to find together again on a machine that does much else, too. A dead
/// session ends by its own only after 40 s.
const BACK_AGAIN: Duration = Duration::from_secs(10);

fn node_line(database: &str) -> String {
    format!("stnode --database {database} --idfile alice.ident --laddr 127.0.0.1:0 --trusted alice-trusted")
}

#[test]
fn a_database_belongs_to_one_process_and_must_be_one() {
    let mut network = Network::new();
    network.start_relay("relay");
    network.start_index_servers(&["index"]);
    network.start_node("alice", "relay", "index");
    let shell = &network.shell;
    shell.fails(1, &node_line("alice.db"), "alice.db is in use by another process");
    shell.write("garbage.db", [7; 100_000]);
    shell.fails(1, &node_line("garbage.db"), "garbage.db is not a node database");
    shell.write("empty.db", "");
    shell.fails(1, &node_line("empty.db"), "empty.db is not a node database");
    shell.fails(1, &node_line("missing.db"), "missing.db");
    shell.fails(1, &node_line("alice.ident"), "alice.ident is not a node database");
    shell.ok("stmgr gen-ident --output other.ident");
    shell.ok("stmgr init-node-db --idfile other.ident --output other.db");
    shell.fails(1, &node_line("other.db"), "other.db belongs to the node");
    // None of that disturbed the first process; and its lock dies with it.
    network.ok("alice", "info friends");
    network.server("alice").kill();
    network.server("alice").restart();
    network.ok("alice", "info relays");
}

#[test]
fn every_server_ends_in_order_within_five_seconds_under_load() {
    let mut network = Network::line();
    network.wait_for_route("alice", "carol");
    let mut load: Vec<Tool> = Vec::new();
    let names: Vec<String> = network.names().into_iter().rev().collect();
    for (n, name) in names.iter().enumerate() {
        let address = network.server(name).address().to_owned();
        let silent: Vec<TcpStream> = (0..50).map(|_| TcpStream::connect(&address).unwrap()).collect();
        if name != "carol" && n < 3 {
            for part in 0..4 {
                let invoice = format!("{n}.{part}.invoice");
                let (buyer, seller) = if name == "bob" { ("alice", "bob") } else { ("bob", "alice") };
                network.ok(seller, &format!("seller create-invoice --currency USD --amount 5 --invoice {invoice}"));
                let pay = format!("buyer pay --max-time 3 --timeout 1 --invoice {invoice}");
                load.push(network.shell.spawn(&Network::line_of(buyer, &pay)));
            }
        }
        let begun = Instant::now();
        let server = network.server(name);
        server.signal("-TERM");
        assert_eq!(server.wait(PATIENCE), Some(0), "{name}");
        assert!(begun.elapsed() < END, "{name} took {:?} to end", begun.elapsed());
        if n == 0 {
            // The next ones have work to do.
            server.restart();
            network.wait_for_friends();
        }
        drop(silent);
    }
    for tool in load {
        // Paid, or not, or nobody there to ask: but it ends, and says which.
        let ran = tool.finish();
        assert!([0, 1, 3, 5].contains(&ran.code), "{ran}");
    }
}

#[test]
fn a_node_that_was_killed_is_back_in_seconds() {
    let mut network = Network::line();
    network.wait_for_route("alice", "carol");
    for name in ["bob", "relay2", "index2", "relay1", "index1"] {
        network.server(name).kill();
        if name == "bob" {
            let begun = Instant::now();
            while network.friend("alice", "bob")["online"] == true {
                assert!(begun.elapsed() < BACK_AGAIN, "Alice does not notice that Bob is gone");
            }
        }
        network.server(name).restart();
        let begun = Instant::now();
        network.wait_for_friends();
        network.wait_for_route("alice", "carol");
        let took = begun.elapsed();
        report(&format!("{name} was killed, and the network was whole again after {took:?}"));
        // Two index servers that were both killed within ten seconds wait for their next tick.
        assert!(took < BACK_AGAIN * 2, "{name}: {took:?}");
    }
}

/// Shown when the test fails, or with `--nocapture`.
#[allow(clippy::print_stdout)]
fn report(line: &str) {
    println!("{line}");
}

#[test]
fn a_returning_client_is_never_refused_because_its_dead_session_lingers() {
    let mut network = Network::line();
    network.wait_for_route("alice", "carol");
    // Bob freezes: his connections stay open, and nobody can know that he is gone. What was his machine comes back.
    network.server("bob").signal("-STOP");
    for end in ["", "-log"] {
        // His newest records are in the log.
        let [from, to] = ["bob", "copy"].map(|name| network.shell.path(&format!("{name}.db{end}")));
        std::fs::copy(from, to).unwrap();
    }
    let files = "--database copy.db --idfile bob.ident --trusted bob-trusted";
    let returned = network.shell.start(&format!("stnode {files} --laddr 127.0.0.1:0"));
    let begun = Instant::now();
    let address = returned.address();
    network.shell.ok(&format!("stmgr node-ticket --idfile bob.ident --address {address} --output back.ticket"));
    std::fs::rename(network.shell.path("back.ticket"), network.shell.path("bob-node.ticket")).unwrap();
    for (us, what, list) in [("bob", "relays", "relays"), ("bob", "index", "index_servers")] {
        while network.json(us, &format!("info {what}"))[list][0]["connected"] != true {
            assert!(begun.elapsed() < BACK_AGAIN, "the {what} server refuses who comes back");
        }
    }
    network.wait_for_friends();
    network.ok("carol", "seller create-invoice --currency USD --amount 160 --invoice back.invoice");
    network.until_ok("alice", "buyer pay --invoice back.invoice");
    assert!(begun.elapsed() < BACK_AGAIN, "it took {:?}", begun.elapsed());
    network.server("bob").kill();
    network.wait_for_quiet();
    network.check_agreement();
}

#[test]
fn two_hundred_silent_clients_delay_nobody() {
    let mut network = Network::line();
    network.wait_for_route("alice", "carol");
    let mut silent = Vec::new();
    for name in network.names() {
        let server = network.server(&name);
        let mut addresses = vec![server.address().to_owned()];
        if name.starts_with("index") {
            addresses.push(server.second_address().to_owned());
        }
        for address in addresses {
            silent.extend((0..200).map(|_| TcpStream::connect(&address).unwrap()));
        }
    }
    let begun = Instant::now();
    network.ok("carol", "seller create-invoice --currency USD --amount 160 --invoice 1.invoice");
    network.ok("alice", "buyer pay --invoice 1.invoice");
    // A newcomer finds its relay, its index server and its friend, too.
    network.start_node("dora", "relay2", "index2");
    network.befriend("carol", "dora", 1_000);
    network.wait_for_friends();
    assert!(begun.elapsed() < BACK_AGAIN, "it took {:?}", begun.elapsed());
    // Who says nothing is not listened to for ever.
    for mut stream in silent.into_iter().step_by(50) {
        stream.set_read_timeout(Some(BACK_AGAIN * 3)).unwrap();
        assert!(matches!(stream.read(&mut [0; 64]), Ok(0) | Err(_)), "a server speaks first");
    }
}

#[test]
fn paying_without_an_index_server_ends_at_once() {
    let mut network = Network::new();
    network.start_relay("relay");
    network.start_index_servers(&["index"]);
    network.start_node("alice", "relay", "index");
    network.start_node("bob", "relay", "index");
    network.befriend("alice", "bob", 1_000);
    network.wait_for_friends();
    network.ok("bob", "seller create-invoice --currency USD --amount 5 --invoice 1.invoice");
    network.ok("alice", "config remove-index --name index");
    for (command, says) in [
        ("buyer pay-invoice --invoice 1.invoice --payment 1.payment --commit 1.commit", "index server"),
        ("buyer pay --invoice 1.invoice --receipt 1.receipt", "index server"),
        ("buyer pay --invoice 1.invoice --dry-run", "index server"),
    ] {
        let begun = Instant::now();
        network.fails("alice", 1, command, says);
        assert!(begun.elapsed() < Duration::from_secs(5), "it took {:?}", begun.elapsed());
    }
    for file in ["1.payment", "1.commit", "1.receipt"] {
        assert!(!network.shell.has(file), "{file}");
    }
    // One that is known and does not answer is no reason to wait for ever either.
    network.ok("alice", "config add-index --index index.ticket --name index");
    network.server("index").kill();
    let begun = Instant::now();
    network.fails("alice", 1, "buyer pay --invoice 1.invoice", "not paid");
    assert!(begun.elapsed() < Duration::from_secs(40), "it took {:?}", begun.elapsed());
    network.wait_for_quiet();
    assert_eq!(network.owed("alice", "bob"), 0);
}
