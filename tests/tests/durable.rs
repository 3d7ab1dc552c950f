//! What a node's owner does with its database, and what a disk does to it: backups while it runs, an old copy restored, a full
//! disk, one that cannot be written to, bytes that change, other schemas. Each ends in a clear message, and nothing is lost
//! beyond what that message says.
// A step that fails is a test that fails.
#![allow(clippy::unwrap_used)]

#[path = "durable/disks.rs"]
mod disks;
#[path = "durable/logs.rs"]
mod logs;

use std::path::Path;
use std::time::{Duration, Instant};

use offset_tests::network::Network;
use offset_tests::programs::{PATIENCE, Shell, Tool, program};
use serde_json::Value;

fn node_line(who: &str, database: &str) -> String {
    format!("stnode --database {database} --idfile {who}.ident --laddr 127.0.0.1:0 --trusted {who}-trusted")
}

/// Pays an invoice of `amount` USD; what the buyer's balance loses.
fn pay(network: &Network, (buyer, seller): (&str, &str), n: u32, amount: u128) {
    let create = format!("seller create-invoice --currency USD --amount {amount} --invoice {n}.invoice");
    network.ok(seller, &create);
    network.until_ok(buyer, &format!("buyer pay --invoice {n}.invoice --receipt {n}.receipt"));
    network.shell.ok(&format!("stverify verify-receipt --invoice {n}.invoice --receipt {n}.receipt"));
}

/// Looks at a friend until it is so.
#[track_caller]
fn wait_for(network: &Network, us: &str, friend: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let begun = Instant::now();
    loop {
        let report = network.friend(us, friend);
        if is_so(&report) {
            return report;
        }
        assert!(begun.elapsed() < PATIENCE, "at {us}: {report}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Shown when the test fails, or with `--nocapture`.
#[allow(clippy::print_stdout)]
fn report(line: &str) {
    println!("{line}");
}

// -- backups

#[test]
fn backups_of_nodes_at_work_are_whole_each_and_one_that_is_killed_leaves_nothing_under_its_name() {
    // A small log: a backup meets the pages while they take over a half.
    let mut network = Network::line_with("--log-size 64");
    network.wait_for_route("alice", "carol");
    let mut load: Vec<(u32, Tool)> = Vec::new();
    let (mut number, mut last) = (0, 0);
    for round in 0..12 {
        load.retain_mut(|(_, tool)| tool.runs());
        while load.len() < 3 {
            let create = format!("seller create-invoice --currency USD --amount 160 --invoice {number}.invoice");
            network.ok("carol", &create);
            let line = Network::line_of("alice", &format!("buyer pay --invoice {number}.invoice"));
            load.push((number, network.shell.spawn(&line)));
            number += 1;
        }
        let who = ["bob", "alice", "carol"][round % 3];
        let line = format!("stmgr backup --database {who}.db --output {who}.{round}.backup");
        if round % 4 == 3 {
            // A backup that dies half way.
            let mut tool = network.shell.spawn(&line);
            std::thread::sleep(Duration::from_millis(5 * round as u64));
            tool.kill();
            if tool.finish().code != 0 && !network.shell.has(&format!("{who}.{round}.backup")) {
                continue;
            }
        } else {
            let made = network.shell.json(&line);
            assert_eq!(made["in_use"], true, "{made}");
        }
        let backup = network.shell.json(&format!("stmgr check --database {who}.{round}.backup"));
        assert_eq!((&backup["sound"], &backup["in_use"]), (&Value::Bool(true), &Value::Bool(false)), "{backup}");
        let running = network.shell.json(&format!("stmgr check --database {who}.db"));
        assert_eq!((&running["sound"], &running["in_use"]), (&Value::Bool(true), &Value::Bool(true)), "{running}");
        if who == "carol" {
            let ended = backup["things"]["invoices, ended"].as_u64().unwrap_or(0);
            assert!(ended >= last, "a later backup knows less: {ended} after {last}");
            last = ended;
        }
        network.shell.fails(1, &line, "exists already and is not overwritten");
    }
    load.into_iter().for_each(|(_, tool)| drop(tool.finish()));
    assert!(last > 0, "nobody paid meanwhile");
    network.wait_for_quiet();
    network.check_agreement();
    // A backup is a database: the node of its owner could begin with it. Nobody else could.
    network.shell.fails(1, &node_line("alice", "bob.0.backup"), "belongs to the node");
    network.server("bob").kill();
    network.shell.ok("stmgr check --database bob.db");
}

/// What `stmgr restore` says to do, done.
#[test]
fn an_old_copy_is_noticed_by_the_friend_and_by_the_node_and_a_reset_leads_out() {
    let mut network = Network::line();
    network.wait_for_route("alice", "carol");
    pay(&network, ("alice", "carol"), 1, 160);
    network.wait_for_quiet();
    // Committed at the backup, and collected after it.
    network.ok("carol", "seller create-invoice --currency USD --amount 160 --invoice 9.invoice");
    network.ok("alice", "buyer pay-invoice --invoice 9.invoice --payment 9.payment --commit 9.commit");
    network.shell.ok("stmgr backup --database alice.db --output alice.backup");
    let then = network.owed("alice", "bob");
    network.ok("carol", "seller commit-invoice --invoice 9.invoice --commit 9.commit");
    for n in 2..5 {
        pay(&network, ("alice", "carol"), n, 320);
    }
    network.wait_for_quiet();
    let now = network.owed("alice", "bob");
    assert_eq!(now, then - (160 + 160 / 16 + 5) - 3 * (320 + 320 / 16 + 5));

    network.server("alice").signal("-TERM");
    assert_eq!(network.server("alice").wait(PATIENCE), Some(0));
    network.shell.fails(1, "stmgr restore --input alice.backup --database alice.db", "exists already");
    std::fs::rename(network.shell.path("alice.db"), network.shell.path("alice.lost")).unwrap();
    let said = network.shell.ok("stmgr restore --input alice.backup --database alice.db");
    for words in ["This is an old copy", "INCONSISTENT", "stctrl config reset-friend", "Lost for good"] {
        assert!(said.contains(words), "{said}");
    }
    network.server("alice").restart();

    // Both notice, both say so, and nothing moves.
    let broken =
        |report: &Value| report["channel"]["consistent"] == false && !report["channel"]["friend_terms"].is_null();
    let at_alice = wait_for(&network, "alice", "bob", broken);
    let at_bob = wait_for(&network, "bob", "alice", broken);
    for report in [&at_alice, &at_bob] {
        assert!(report["channel"]["why"].as_str().unwrap().contains("an old copy"), "{report}");
    }
    for (who, friend) in [("alice", "bob"), ("bob", "alice")] {
        let table = network.ok(who, "info friends");
        let way_out = format!("stctrl config reset-friend --name '{friend}'");
        assert!(table.contains("is INCONSISTENT") && table.contains(&way_out), "{table}");
        let log = network.server(who).log();
        assert!(log.contains("nothing moves with this friend any more") && log.contains("an old copy"), "{log}");
    }
    assert_eq!(network.owed("alice", "bob"), then, "what Alice remembers");
    assert_eq!(network.owed("bob", "alice"), -now, "what Bob knows");
    network.ok("carol", "seller create-invoice --currency USD --amount 160 --invoice 5.invoice");
    let ran = network.run("alice", "buyer pay --invoice 5.invoice --max-time 3");
    assert!(ran.code == 1 || ran.code == 5, "{ran}");
    // It is said again after a restart, for whoever looks at the log then.
    network.server("alice").kill();
    let lines = network.server("alice").log().matches("nothing moves with this friend any more").count();
    network.server("alice").restart();
    wait_for(&network, "alice", "bob", broken);
    assert!(network.server("alice").log().matches("nothing moves with this friend any more").count() > lines);

    // The way out: Alice accepts what Bob knows.
    network.ok("alice", "config reset-friend --name bob");
    network.wait_for_friends();
    assert_eq!((network.owed("alice", "bob"), network.owed("bob", "alice")), (now, -now), "nothing is lost");
    network.check_agreement();
    network.until_ok("alice", "buyer pay --invoice 5.invoice --receipt 5.receipt");
    network.wait_for_quiet();
    assert_eq!(network.owed("alice", "bob"), now - (160 + 160 / 16 + 5));
    network.check_agreement();
    // What is lost is what was said to be: payments after the backup. Their receipts in files still count.
    let known = network.json("alice", "info payments");
    let known = known["payments"].as_array().unwrap();
    let paid = known.iter().filter(|one| one["status"] == "paid").count();
    assert_eq!((known.len(), paid), (3, 2), "the one before the backup and the one after the reset: {known:?}");
    // Of the one that was open nobody says that it was not paid, and no command pays it again.
    for command in [
        "buyer payment-status --payment 9.payment --receipt 9.receipt",
        "buyer pay --invoice 9.invoice --payment 9.payment",
    ] {
        network.fails("alice", 1, command, "not known here");
    }
    assert_eq!(network.owed("alice", "bob"), now - (160 + 160 / 16 + 5));
    network.shell.ok("stverify verify-receipt --invoice 4.invoice --receipt 4.receipt");
    for who in ["alice", "bob", "carol"] {
        network.shell.ok(&format!("stmgr check --database {who}.db"));
    }
}

// -- schemas

/// The files of `runtime-smol/tests/schema-1`.
fn old_database(shell: &Shell, who: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../runtime-smol/tests/schema-1");
    let mut bytes = std::fs::read(folder.join(format!("{who}.db"))).unwrap();
    bytes.resize(1 << 20, 0);
    shell.write(&format!("{who}.db"), bytes);
    std::fs::copy(folder.join(format!("{who}.ident")), shell.path(&format!("{who}.ident"))).unwrap();
}

#[test]
fn a_node_goes_on_with_a_database_of_schema_1_and_none_with_one_of_a_newer_schema() {
    let shell = Shell::new();
    for (who, friend, balance, frozen) in
        [("alice", "bob", "-525", ("345", "0")), ("bob", "alice", "525", ("0", "345"))]
    {
        old_database(&shell, who);
        shell.mkdir(&format!("{who}-trusted"));
        shell.ok(&format!("stmgr gen-ident --output {who}-app.ident"));
        let ticket = format!("stmgr app-ticket --idfile {who}-app.ident --output {who}-trusted/app.ticket");
        shell.ok(&format!("{ticket} --pbuyer --pseller --pconfig --proutes"));
        assert_eq!(shell.json(&format!("stmgr check --database {who}.db"))["schema"], 1);
        let mut node = shell.start(&node_line(who, &format!("{who}.db")));
        assert!(node.log().contains("newer schema"), "{}", node.log());
        let address = node.address();
        shell.ok(&format!("stmgr node-ticket --idfile {who}.ident --address {address} --output {who}-node.ticket"));
        let friends = shell.json(&Network::line_of(who, "info friends"));
        let friends = friends["friends"].as_array().unwrap();
        let usd = &friends.iter().find(|there| there["name"] == friend).unwrap()["currencies"][0];
        assert_eq!(
            (&usd["balance"], &usd["out_frozen"], &usd["in_frozen"]),
            (&balance.into(), &frozen.0.into(), &frozen.1.into())
        );
        if who == "alice" {
            let payments = shell.json(&Network::line_of(who, "info payments"));
            let mut status: Vec<_> =
                payments["payments"].as_array().unwrap().iter().map(|one| one["status"].as_str().unwrap()).collect();
            status.sort_unstable();
            assert_eq!(status, ["committed", "paid", "paid", "paid"]);
        }
        node.kill();
        let after = shell.json(&format!("stmgr check --database {who}.db"));
        assert_eq!((&after["schema"], &after["sound"]), (&3.into(), &true.into()));
        node.restart();
    }
    let mut bytes = std::fs::read(shell.path("alice.db")).unwrap();
    let text = b"offsetdb\0\0\0\x03";
    let places: Vec<_> = bytes.windows(12).enumerate().filter(|(_, window)| window == text).map(|(at, _)| at).collect();
    places.into_iter().for_each(|at| bytes[at + 11] = 4);
    shell.write("newer.db", bytes);
    for line in [node_line("alice", "newer.db"), "stmgr check --database newer.db".to_owned()] {
        shell.fails(
            1,
            &line,
            "newer.db has schema 4, and this program knows schemas up to 3: a newer program wrote it",
        );
    }
}
