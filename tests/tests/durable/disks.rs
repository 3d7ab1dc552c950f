//! A disk that is full, now or from the start; one that cannot be written to; bytes that change or are missing.

use std::process::Command;

use super::*;

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
