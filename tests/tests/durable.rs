//! What a node's owner does with its database, and what a disk does to it: backups while it runs, an old copy restored, a full
//! disk, one that cannot be written to, bytes that change, other schemas. Each ends in a clear message, and nothing is lost
//! beyond what that message says.
// A step that fails is a test that fails.
#![allow(clippy::unwrap_used)]

use std::ops::Range;
use std::path::Path;
use std::process::Command;
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

// -- disks

/// What a disk of a few hundred KiB is made of here.
enum SmallDisk {
    /// A file system in memory, in a namespace of its own: `ENOSPC`, as it is.
    Mounted,
    /// No file may have a byte beyond a limit: another error, at the same place.
    Limited,
}

/// Whether a process may have a namespace and mounts of its own.
fn may_mount() -> bool {
    let tried = Command::new("unshare").args(["-Urm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]).output();
    tried.is_ok_and(|tried| tried.status.success())
}

impl SmallDisk {
    fn here() -> SmallDisk {
        if may_mount() {
            return SmallDisk::Mounted;
        }
        report("no namespaces here: a limit on files stands for the full disk");
        SmallDisk::Limited
    }

    /// A script that runs the node until it ends, and leaves its database as `after.db` with its log.
    fn script(&self, kib: u32) -> String {
        let node = program("stnode");
        let node = format!(
            "{} --database small/alice.db --idfile alice.ident --laddr \"$1\" --trusted alice-trusted --log-size 64",
            node.display()
        );
        match self {
            SmallDisk::Mounted => format!(
                "mount -t tmpfs -o size={kib}k tmpfs small || exit 70\ncp --sparse=always alice.db small/alice.db || exit 71\n\
                 {node}\ncode=$?\ncp --sparse=always small/alice.db after.db\n\
                 cp small/alice.db-log after.db-log\nexit $code\n"
            ),
            SmallDisk::Limited => format!(
                "cp alice.db small/alice.db || exit 71\ntrap '' XFSZ\n(ulimit -f {kib}; {node})\ncode=$?\n\
                 cp small/alice.db after.db\ncp small/alice.db-log after.db-log\nexit $code\n"
            ),
        }
    }

    fn line(&self) -> &'static str {
        match self {
            SmallDisk::Mounted => "/usr/bin/env unshare -Urm bash full.sh 127.0.0.1:0",
            SmallDisk::Limited => "/usr/bin/env bash full.sh 127.0.0.1:0",
        }
    }
}

#[test]
fn a_node_whose_disk_is_full_says_so_ends_and_has_lost_nothing_when_there_is_room() {
    let mut network = Network::line();
    network.wait_for_route("alice", "carol");
    let address = network.server("alice").address().to_owned();
    network.server("alice").signal("-TERM");
    assert_eq!(network.server("alice").wait(PATIENCE), Some(0));
    let disk = SmallDisk::here();
    network.shell.mkdir("small");
    network.shell.write("full.sh", disk.script(200));
    let mut small = network.shell.start(&disk.line().replace("127.0.0.1:0", &address));
    network.wait_for_friends();
    // Invoices and payments, until there is no room for another.
    let mut paid = 0_u128;
    let begun = Instant::now();
    for n in 0.. {
        if !small.runs() {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "the disk does not get full");
        network.ok("carol", &format!("seller create-invoice --currency USD --amount 160 --invoice {n}.invoice"));
        let ran = network.run("alice", &format!("buyer pay --invoice {n}.invoice --receipt {n}.receipt --max-time 5"));
        if ran.code == 0 {
            paid += 1;
            continue;
        }
        assert!([1, 3, 5].contains(&ran.code), "{ran}");
    }
    assert_eq!(small.wait(PATIENCE), Some(1));
    let log = small.log();
    let says = match disk {
        SmallDisk::Mounted => "No space left on device",
        SmallDisk::Limited => "File too large",
    };
    assert!(log.contains("small/alice.db") && log.contains(says) && !log.contains("panicked"), "{log}");
    report(&format!("{paid} payments until the disk was full"));
    assert!(paid > 0);
    // With room again it goes on: what was paid is paid, and what was not, is not.
    network.shell.ok("stmgr check --database after.db");
    std::fs::remove_file(network.shell.path("alice.db")).unwrap();
    for file in ["", "-log"] {
        let [from, to] = ["after", "alice"].map(|name| network.shell.path(&format!("{name}.db{file}")));
        std::fs::copy(from, to).unwrap();
    }
    network.server("alice").restart();
    network.wait_for_quiet();
    network.check_agreement();
    let known = network.json("alice", "info payments");
    let known = known["payments"].as_array().unwrap();
    let done = known.iter().filter(|payment| payment["status"] == "paid").count() as u128;
    assert!(done >= paid, "{done} payments are known to be paid, {paid} were");
    assert_eq!(network.owed("alice", "bob"), -i128::try_from(done * (160 + 10 + 5)).unwrap());
    pay(&network, ("alice", "carol"), 100_000, 160);
}

/// Found by a newcomer: after a restore, which leaves no lock file, the node died of `SIGBUS`.
#[test]
fn a_node_that_starts_on_a_full_disk_says_so_and_starts_when_there_is_room() {
    if !may_mount() {
        return report("skipped: without namespaces there is no small disk to be full at the start");
    }
    let shell = Shell::new();
    shell.mkdir("small");
    shell.mkdir("alice-trusted");
    shell.ok("stmgr gen-ident --output alice.ident");
    shell.ok("stmgr init-node-db --idfile alice.ident --output alice.db");
    let node = format!(
        "{} --database small/alice.db --idfile alice.ident --laddr 127.0.0.1:0 --trusted alice-trusted --log-size 64",
        program("stnode").display()
    );
    shell.write(
        "full.sh",
        format!(
            "mount -t tmpfs -o size=300k tmpfs small || exit 70\ncp alice.db small/alice.db || exit 71\n\
             cat /dev/zero > small/filler 2> /dev/null\ntimeout 60 {node} 2> said\necho $? > code\n\
             rm small/filler\n{node} > listens 2> said-later &\n\
             for tick in $(seq 600); do grep -q 127.0.0.1 listens && break; sleep 0.1; done\n\
             kill -TERM $!; wait $!\necho $? > code-later\n"
        ),
    );
    let ran = shell.run("/usr/bin/env unshare -Urm bash full.sh");
    assert_eq!(ran.code, 0, "{ran}");
    let said = shell.read("said");
    assert!(said.contains("small/alice.db") && said.contains("No space left on device"), "{said}");
    assert_eq!(shell.read("code").trim(), "1", "{said}");
    assert_eq!(shell.read("code-later").trim(), "0", "{}", shell.read("said-later"));
}

#[test]
fn a_database_that_cannot_be_written_to_is_refused_in_words_and_can_still_be_checked_and_copied() {
    let shell = Shell::new();
    shell.mkdir("files");
    shell.mkdir("alice-trusted");
    shell.ok("stmgr gen-ident --output alice.ident");
    shell.ok("stmgr init-node-db --idfile alice.ident --output files/alice.db");
    let node = program("stnode");
    let stmgr = program("stmgr");
    let lines = format!(
        "{} --database files/alice.db --idfile alice.ident --laddr 127.0.0.1:0 --trusted alice-trusted 2> said\n\
         echo $? > code\n\
         {stmgr} check --database files/alice.db > checked 2>&1 && {stmgr} backup --database files/alice.db --output copy.db\n",
        node.display(),
        stmgr = stmgr.display(),
    );
    // Root may write to whatever is only marked so; a file system that is mounted so stops everybody.
    let is_root = rustix::process::getuid().is_root();
    let ran = if may_mount() {
        shell.write("go.sh", format!("mount --bind files files && mount -o remount,bind,ro files || exit 70\n{lines}"));
        shell.run("/usr/bin/env unshare -Urm bash go.sh")
    } else if !is_root {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o400);
        std::fs::set_permissions(shell.path("files/alice.db"), mode).unwrap();
        shell.write("go.sh", lines);
        shell.run("/usr/bin/env bash go.sh")
    } else {
        return report("skipped: root without namespaces cannot be kept from writing to a file");
    };
    assert_eq!(ran.code, 0, "{ran}");
    assert_eq!(shell.read("code").trim(), "1");
    let said = shell.read("said");
    let why = ["Read-only file system", "Permission denied"];
    assert!(said.contains("files/alice.db") && why.iter().any(|why| said.contains(why)), "{said}");
    shell.ok("stmgr check --database copy.db");
}

#[test]
fn a_byte_that_changes_or_is_missing_ends_in_words_or_changes_nothing() {
    let mut network = Network::line();
    network.wait_for_route("alice", "carol");
    for n in 0..4 {
        pay(&network, ("alice", "carol"), n, 160);
    }
    network.wait_for_quiet();
    network.server("bob").signal("-TERM");
    assert_eq!(network.server("bob").wait(PATIENCE), Some(0));
    // Of the stopped node: a running one may still acknowledge something, and then this would be an old copy.
    network.shell.ok("stmgr backup --database bob.db --output bob.backup");
    let shell = &network.shell;
    // The backup, which has no free pages.
    let whole = std::fs::read(shell.path("bob.backup")).unwrap();
    let whole_says = shell.json("stmgr check --database bob.backup");
    let used = whole.iter().rposition(|byte| *byte != 0).unwrap();
    let (mut noticed, mut harmless) = (0, 0);
    for step in 0..120 {
        // Everywhere, and more often where pages begin and where their records lie, at the end.
        let page = step * 37 % (used / 4_096 + 1);
        let in_page = match step % 3 {
            0 => step * 13 % 160,
            1 => 4_095 - step * 13 % 1_500,
            _ => step * 977 % 4_096,
        };
        let at = (page * 4_096 + in_page).min(used);
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (step % 8);
        shell.write("flipped.db", &bytes);
        let ran = shell.run("stmgr check --database flipped.db --json");
        let says: Value = serde_json::from_str(&ran.stdout).unwrap();
        let started = step % 6 == 0 || noticed + harmless < 12;
        match ran.code {
            0 => {
                harmless += 1;
                for field in ["things", "checks", "currencies", "records", "bytes"] {
                    assert_eq!(says[field], whole_says[field], "byte {at}");
                }
                if started {
                    let mut node = shell.start(&node_line("bob", "flipped.db"));
                    node.signal("-TERM");
                    assert_eq!(node.wait(PATIENCE), Some(0), "byte {at}: {}", node.log());
                }
            }
            1 => {
                noticed += 1;
                assert!(says["error"].as_str().unwrap().contains("flipped.db"), "{says}");
                if started {
                    shell.fails(1, &node_line("bob", "flipped.db"), "flipped.db");
                }
            }
            _ => panic!("byte {at}: {ran}"),
        }
    }
    report(&format!("{noticed} changed bytes were noticed, {harmless} changed nothing"));
    assert!(noticed > 20 && harmless > 15, "{noticed} noticed, {harmless} harmless");
    for length in [0, 1, 100, 4_096, 8_192, used / 2, whole.len() - 1] {
        shell.write("cut.db", &whole[..length]);
        for line in [node_line("bob", "cut.db"), "stmgr check --database cut.db".to_owned()] {
            shell.fails(1, &line, "cut.db");
        }
    }
    // A damaged database, and the way out: the backup, which nothing has happened since.
    std::fs::remove_file(shell.path("bob.db")).unwrap();
    shell.ok("stmgr restore --input bob.backup --database bob.db");
    network.server("bob").restart();
    network.wait_for_friends();
    pay(&network, ("alice", "carol"), 9, 160);
    network.wait_for_quiet();
    network.check_agreement();
}

// -- logs

/// Payments both ways over Bob, all at once and no more than `seconds` each.
fn load(network: &Network, numbers: Range<u32>, seconds: u32) -> Vec<Tool> {
    let sides = |n: u32| if n.is_multiple_of(2) { ("alice", "carol") } else { ("carol", "alice") };
    for n in numbers.clone() {
        network.ok(sides(n).1, &format!("seller create-invoice --currency USD --amount 160 --invoice {n}.invoice"));
    }
    let pay = |n: u32| {
        let line = format!("buyer pay --invoice {n}.invoice --receipt {n}.receipt --max-time {seconds}");
        network.shell.spawn(&Network::line_of(sides(n).0, &line))
    };
    numbers.map(pay).collect()
}

/// Not the log that a killed node left.
struct WrongLog {
    what: String,
    /// What lies there, if anything.
    log: Option<Vec<u8>>,
    /// What is said of it.
    says: &'static [&'static str],
}

/// What may lie beside the pages of Bob's node, which was killed at work.
fn wrong_logs(network: &Network, older: &[u8]) -> Vec<WrongLog> {
    let whole = std::fs::read(network.shell.path("bob.db-log")).unwrap();
    let used = whole.iter().rposition(|byte| *byte != 0).unwrap();
    let damaged: &[_] = &["the log ", "bob.db-log is damaged"];
    let lost: &[_] = &["bob.db has its newest records in its log", "put the right one back, or restore a backup"];
    let wrong = |what: &str, log: Option<Vec<u8>>, says| WrongLog { what: what.to_owned(), log, says };
    let mut all = vec![
        wrong("none", None, lost),
        wrong("an older one", Some(older.to_vec()), lost),
        wrong("another node's", Some(std::fs::read(network.shell.path("alice.db-log")).unwrap()), lost),
        wrong("zeros", Some(vec![0; whole.len()]), damaged),
    ];
    for length in [0, 100, 4_096, used / 2, whole.len() - 1] {
        all.push(wrong(&format!("cut at {length}"), Some(whole[..length].to_vec()), damaged));
    }
    // The log's head, which begins the file, and groups behind 4 KiB, not the last one: what is not zero is part of them.
    let head = [0, 10, 20, 40].into_iter();
    let groups: Vec<usize> = (4_096..used / 2).filter(|at| whole[*at] != 0).collect();
    for at in head.chain([4_096, 4_110, 4_120]).chain(groups.iter().step_by(groups.len() / 8).copied()) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        // With another id in its head it is another log.
        let says = if (12..28).contains(&at) { &["bob.db-log"] } else { damaged };
        all.push(wrong(&format!("bit of byte {at}"), Some(bytes), says));
    }
    all
}

#[test]
fn a_log_that_is_damaged_missing_or_another_one_is_refused_and_what_is_left_is_an_old_copy() {
    let mut network = Network::line();
    network.wait_for_route("alice", "carol");
    pay(&network, ("alice", "carol"), 1, 160);
    // The pages have what was so far, as after every start.
    network.server("bob").kill();
    let older = std::fs::read(network.shell.path("bob.db-log")).unwrap();
    network.server("bob").restart();
    network.wait_for_friends();
    network.wait_for_route("alice", "carol");
    load(&network, 2..10, 60).into_iter().for_each(|tool| drop(tool.finish()));
    let paid = |some: Range<u32>| some.filter(|n| network.shell.has(&format!("{n}.receipt"))).count();
    assert!(paid(2..10) > 0);
    // It dies at work: the first are paid, and the last have only begun.
    let tools = load(&network, 10..34, 5);
    let begun = Instant::now();
    while paid(10..34) == 0 {
        assert!(begun.elapsed() < PATIENCE, "nothing is paid");
    }
    let at_work = paid(10..34);
    network.server("bob").kill();
    tools.into_iter().for_each(|tool| drop(tool.finish()));
    report(&format!("{at_work} of 24 were paid when it died"));
    assert!(at_work < 24);
    network.shell.ok("stmgr check --database bob.db");

    // Each is refused, by everybody, and stays as it is.
    let shell = &network.shell;
    let pages = std::fs::read(shell.path("bob.db")).unwrap();
    let wrong = wrong_logs(&network, &older);
    for WrongLog { what, log, says } in &wrong {
        match log {
            Some(bytes) => shell.write("bob.db-log", bytes),
            None => std::fs::remove_file(shell.path("bob.db-log")).unwrap(),
        }
        for line in [
            "stmgr check --database bob.db".to_owned(),
            "stmgr backup --database bob.db --output new.db".to_owned(),
            "stmgr restore --input bob.db --database new.db".to_owned(),
            node_line("bob", "bob.db"),
        ] {
            let ran = shell.run(&line);
            let all = says.iter().all(|words| ran.stderr.contains(words)) && !ran.stderr.contains("panicked");
            assert!(ran.code == 1 && all && ran.stderr.lines().count() == 1, "{what}: {ran}");
            assert!(!shell.has("new.db"));
            assert!(std::fs::read(shell.path("bob.db")).unwrap() == pages, "{what}: the pages were changed");
            assert!(std::fs::read(shell.path("bob.db-log")).ok() == *log, "{what}: the log was changed");
        }
    }
    report(&format!("{} logs were refused", wrong.len()));

    // The way out, with a damaged log still beside it.
    let said = shell.ok("stmgr restore --without-log --input bob.db --database new.db");
    assert!(said.contains("This is an old copy") && said.contains("stctrl config reset-friend"), "{said}");
    for file in ["", "-log"] {
        std::fs::rename(shell.path(&format!("bob.db{file}")), shell.path(&format!("lost{file}"))).unwrap();
    }
    std::fs::rename(shell.path("new.db"), shell.path("bob.db")).unwrap();
    network.server("bob").restart();
    let broken =
        |report: &Value| report["channel"]["consistent"] == false && !report["channel"]["friend_terms"].is_null();
    let mut terms = Vec::new();
    for friend in ["alice", "carol"] {
        for (us, them) in [("bob", friend), (friend, "bob")] {
            let at = wait_for(&network, us, them, broken);
            assert!(at["channel"]["why"].as_str().unwrap().contains("an old copy"), "{at}");
            let log = network.server(us).log();
            assert!(log.contains("nothing moves with this friend any more") && log.contains("an old copy"), "{log}");
        }
        let known = network.friend(friend, "bob")["channel"]["our_terms"]["balances"].clone();
        let usd = known.as_array().unwrap().iter().find(|one| one["currency"] == "USD").unwrap();
        terms.push((friend, usd["balance"].as_str().unwrap().parse::<i128>().unwrap()));
    }
    for friend in ["alice", "carol"] {
        network.ok("bob", &format!("config reset-friend --name {friend}"));
    }
    network.wait_for_friends();
    for (friend, balance) in terms {
        assert_eq!((network.owed(friend, "bob"), network.owed("bob", friend)), (balance, -balance), "{friend}'s terms");
    }
    network.wait_for_quiet();
    network.check_agreement();
    for (payer, seller) in [("alice", "carol"), ("carol", "alice")] {
        let payments = network.json(payer, "info payments");
        let invoices = network.json(seller, "info invoices");
        let is_paid = |id: &Value| {
            let invoices = invoices["invoices"].as_array().unwrap();
            invoices
                .iter()
                .any(|one| one["invoice_id"] == *id && (one["status"] == "paid" || one["status"] == "paid-in-part"))
        };
        let payments = payments["payments"].as_array().unwrap();
        for one in payments {
            // The one whose seller may have the commit says so; of no other that was paid anybody says that it was not.
            match one["status"].as_str().unwrap() {
                "paid" => assert!(is_paid(&one["invoice_id"]), "{one}"),
                "failed" => assert!(!is_paid(&one["invoice_id"]), "{one}"),
                status => assert_eq!(status, "unknown", "nothing is open"),
            }
        }
        let count = |status| payments.iter().filter(|one| one["status"] == status).count();
        // Of 33 payments 24 may have been open when the mediator died.
        assert!(payer == "carol" || count("paid") >= 9 && count("unknown") <= 24, "{payments:?}");
    }
    let before = network.owed("alice", "bob");
    network.wait_for_route("alice", "carol");
    pay(&network, ("alice", "carol"), 100, 160);
    network.wait_for_quiet();
    network.check_agreement();
    assert_eq!(network.owed("alice", "bob"), before - (160 + 160 / 16 + 5));
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
