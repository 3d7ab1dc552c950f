//! The tutorial as somebody does it by hand: files, command lines, exit codes. Also what goes wrong by hand.
// A step that fails is a test that fails.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use offset_tests::network::Network;
use offset_tests::programs::{Server, Shell};
use serde_json::Value;

/// A command line of somebody's card.
fn card(who: &str, command: &str) -> String {
    Network::line_of(who, command)
}

/// A relay and an index server, started and with tickets as the tutorial says.
fn start_servers(shell: &Shell) -> (Server, Server) {
    shell.ok("stmgr gen-ident --output relay.ident");
    let relay = shell.start("strelay --idfile relay.ident --laddr 127.0.0.1:0");
    let address = relay.address();
    shell.ok(&format!("stmgr relay-ticket --idfile relay.ident --address {address} --output relay.ticket"));
    shell.mkdir("index-trusted");
    shell.ok("stmgr gen-ident --output index.ident");
    let doors = "--lclient 127.0.0.1:0 --lserver 127.0.0.1:0";
    let index = shell.start(&format!("stindex --idfile index.ident {doors} --trusted index-trusted"));
    let address = index.address();
    shell.ok(&format!("stmgr index-ticket --idfile index.ident --address {address} --output index.ticket"));
    (relay, index)
}

/// A node with an app, as the tutorial says.
fn start_node(shell: &Shell, who: &str) -> Server {
    shell.mkdir(&format!("{who}-trusted"));
    shell.ok(&format!("stmgr gen-ident --output {who}.ident"));
    shell.ok(&format!("stmgr gen-ident --output {who}-app.ident"));
    shell.ok(&format!("stmgr init-node-db --idfile {who}.ident --output {who}.db"));
    let permissions = "--pbuyer --pseller --pconfig --proutes";
    shell.ok(&format!("stmgr app-ticket --idfile {who}-app.ident --output {who}-trusted/app.ticket {permissions}"));
    let files = format!("--database {who}.db --idfile {who}.ident --trusted {who}-trusted");
    let node = shell.start(&format!("stnode {files} --laddr 127.0.0.1:0"));
    let address = node.address();
    shell.ok(&format!("stmgr node-ticket --idfile {who}.ident --address {address} --output {who}-node.ticket"));
    node
}

/// Gives a card a relay and an index server, and writes its friend ticket.
fn configure(shell: &Shell, who: &str) {
    shell.fails(1, &card(who, &format!("info export-ticket --ticket {who}.friend")), "has no relay");
    shell.ok(&card(who, "config add-relay --relay relay.ticket --name relay"));
    shell.ok(&card(who, "config add-index --index index.ticket --name index"));
    shell.ok(&card(who, &format!("info export-ticket --ticket {who}.friend")));
}

fn befriend(shell: &Shell, who: &str, friend: &str) {
    shell.ok(&card(who, &format!("config add-friend --friend {friend}.friend --name {friend}")));
    shell.ok(&card(who, &format!("config open-currency --name {friend} --currency USD")));
    shell.ok(&card(who, &format!("config set-currency-max-debt --name {friend} --currency USD --mdebt 1000")));
}

/// Looks at the table until it says this, as somebody would.
fn wait_for_row(shell: &Shell, who: &str, row: &[&str]) {
    let begun = std::time::Instant::now();
    loop {
        let table = shell.ok(&card(who, "info friends"));
        let heading =
            ["friend", "currency", "balance", "frozen", "out", "frozen", "in", "max", "debt", "rate", "requests"];
        let mut rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        assert_eq!(rows.next().as_deref(), Some(&heading[..]), "{table}");
        if rows.next().as_deref() == Some(row) {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{who} sees\n{table}\nand not {row:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Repeats a command while what it waits for is on its way.
fn until_ok(shell: &Shell, line: &str, waits: &[i32]) {
    let begun = std::time::Instant::now();
    loop {
        let ran = shell.run(line);
        if ran.code == 0 {
            return;
        }
        assert!(waits.contains(&ran.code) && begun.elapsed() < Duration::from_secs(60), "{ran}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Changes one field of a file.
fn tamper(shell: &Shell, from: &str, to: &str, field: &str, value: Value) {
    let mut document: Value = serde_json::from_str(&shell.read(from)).unwrap();
    assert!(document.get(field).is_some_and(|before| *before != value), "{document}");
    document[field] = value;
    shell.write(to, document.to_string());
}

#[test]
fn two_friends_pay_each_other_by_hand() {
    let shell = Shell::new();
    let (mut relay, mut index) = start_servers(&shell);
    let (mut alice, mut bob) = (start_node(&shell, "alice"), start_node(&shell, "bob"));
    for who in ["alice", "bob"] {
        configure(&shell, who);
    }
    befriend(&shell, "alice", "bob");
    befriend(&shell, "bob", "alice");
    wait_for_row(&shell, "alice", &["E+", "bob", "USD", "0", "0", "0", "1000", "0", "open"]);
    wait_for_row(&shell, "bob", &["E+", "alice", "USD", "0", "0", "0", "1000", "0", "open"]);
    assert!(shell.ok(&card("alice", "info relays")).contains("+  relay"));
    assert!(shell.ok(&card("alice", "info index")).contains("+  index"));

    pay_by_file(&shell);
    pay_in_band(&shell);
    cancel(&shell);
    tokens(&shell);
    switches(&shell);
    wrong_usage(&shell);
    nothing_is_overwritten(&shell);
    refusals_change_nothing(&shell);
    permissions(&shell);

    for server in [&mut alice, &mut bob, &mut index, &mut relay] {
        server.signal("-TERM");
        assert_eq!(server.wait(Duration::from_secs(5)), Some(0), "exit 0 within 5 s: {}", server.log());
    }
    shell.fails(3, &card("alice", "info friends"), "cannot reach the node");
}

fn pay_by_file(shell: &Shell) {
    shell.ok(&card("bob", "seller create-invoice --currency USD --amount 25 --invoice tea.invoice --description tea"));
    let pay = card("alice", "buyer pay-invoice --invoice tea.invoice --payment tea.payment --commit tea.commit");
    // The first route may have to wait for the index server to hear of the friendship.
    until_ok(shell, &pay, &[1]);
    wait_for_row(shell, "alice", &["E+", "bob", "USD", "0", "25", "0", "1000", "0", "open"]);
    let status = card("alice", "buyer payment-status --payment tea.payment --receipt tea.receipt");
    shell.fails(5, &status, "the seller has not collected yet");
    assert!(!shell.has("tea.receipt"));
    shell.ok(&card("bob", "seller commit-invoice --invoice tea.invoice --commit tea.commit"));
    until_ok(shell, &status, &[5]);
    wait_for_row(shell, "alice", &["E+", "bob", "USD", "-25", "0", "0", "1000", "0", "open"]);
    wait_for_row(shell, "bob", &["E+", "alice", "USD", "25", "0", "0", "1000", "0", "open"]);

    // Everybody may say everything again.
    shell.ok(&status);
    shell.ok(&card("bob", "seller commit-invoice --invoice tea.invoice --commit tea.commit"));
    wait_for_row(shell, "bob", &["E+", "alice", "USD", "25", "0", "0", "1000", "0", "open"]);

    let verified = shell.ok("stverify verify-receipt --invoice tea.invoice --receipt tea.receipt");
    assert!(
        verified.contains("25 USD") && verified.contains("tea") && verified.trim_end().ends_with("valid"),
        "{verified}"
    );
    tamper(shell, "tea.receipt", "forged.receipt", "total_dest_payment", "26".into());
    shell.fails(1, "stverify verify-receipt --invoice tea.invoice --receipt forged.receipt", "not valid");
    tamper(shell, "tea.invoice", "forged.invoice", "amount", "2".into());
    shell.fails(1, "stverify verify-receipt --invoice forged.invoice --receipt tea.receipt", "not valid");
    shell.fails(1, "stverify verify-receipt --invoice tea.receipt --receipt tea.invoice", "an invoice is needed");
    // Nobody collects with somebody else's invoice, or with a commit that was changed.
    shell.fails(1, &card("alice", "seller commit-invoice --invoice tea.invoice --commit tea.commit"), "another node");
    tamper(shell, "tea.commit", "forged.commit", "total_dest_payment", "26".into());
    shell.fails(1, &card("bob", "seller commit-invoice --invoice tea.invoice --commit forged.commit"), "not valid");
}

fn pay_in_band(shell: &Shell) {
    shell.ok(&card("alice", "seller create-invoice --currency USD --amount 10 --invoice coffee.invoice"));
    let pay = "buyer pay --invoice coffee.invoice --receipt coffee.receipt";
    shell.ok(&card("bob", &format!("{pay} --dry-run")));
    assert!(!shell.has("coffee.receipt"));
    shell.ok(&card("bob", pay));
    shell.ok("stverify verify-receipt --invoice coffee.invoice --receipt coffee.receipt");
    wait_for_row(shell, "alice", &["E+", "bob", "USD", "-15", "0", "0", "1000", "0", "open"]);
    // Given again, it pays nothing again.
    shell.ok(&card("bob", "buyer pay --invoice coffee.invoice"));
    wait_for_row(shell, "bob", &["E+", "alice", "USD", "15", "0", "0", "1000", "0", "open"]);
    let invoices = shell.json(&card("alice", "info invoices"));
    assert_eq!(invoices["invoices"][0]["status"], "paid", "{invoices}");
    assert!(shell.ok(&card("bob", "info payments")).contains("paid"));
}

fn cancel(shell: &Shell) {
    shell.ok(&card("bob", "seller create-invoice --currency USD --amount 7 --invoice cake.invoice"));
    let cancel = card("bob", "seller cancel-invoice --invoice cake.invoice");
    shell.ok(&cancel);
    shell.ok(&cancel);
    let pay = card("alice", "buyer pay-invoice --invoice cake.invoice --payment cake.payment --commit cake.commit");
    shell.fails(1, &pay, "not paid");
    assert!(!shell.has("cake.commit"));
    shell.fails(1, &card("bob", "seller cancel-invoice --invoice tea.invoice"), "");
    // Nor is an invoice paid that the seller did not write.
    shell.ok(&card("bob", "seller create-invoice --currency USD --amount 70 --invoice pie.invoice"));
    tamper(shell, "pie.invoice", "cheap.invoice", "amount", "7".into());
    shell.fails(1, &card("alice", "buyer pay --invoice cheap.invoice"), "not paid");
    shell.ok(&card("bob", "seller cancel-invoice --invoice pie.invoice"));
    wait_for_row(shell, "alice", &["E+", "bob", "USD", "-15", "0", "0", "1000", "0", "open"]);
}

fn tokens(shell: &Shell) {
    shell.ok(&card("alice", "info friend-last-token --name bob --token bob.token"));
    let verified = shell.json("stverify verify-token --token bob.token");
    assert_eq!((&verified["valid"], &verified["balances"][0]["currency"]), (&true.into(), &"USD".into()), "{verified}");
    // Bob signed what Alice owes him.
    assert_eq!(verified["balances"][0]["balance"], "15", "{verified}");
    let text = shell.read("bob.token");
    let forged = text.replacen("\"15\"", "\"14\"", 1);
    assert_ne!(text, forged);
    shell.write("forged.token", forged);
    shell.fails(1, "stverify verify-token --token forged.token", "not valid");
}

fn switches(shell: &Shell) {
    let row = |status, requests| {
        ["..", "bob", "USD", "-15", "0", "0", "1000", "0", requests]
            .map(|cell| if cell == ".." { status } else { cell })
    };
    shell.ok(&card("alice", "config disable-friend --name bob"));
    wait_for_row(shell, "alice", &row("D-", "open"));
    shell.ok(&card("alice", "config enable-friend --name bob"));
    wait_for_row(shell, "alice", &row("E+", "open"));
    shell.ok(&card("alice", "config close-currency --name bob --currency USD"));
    wait_for_row(shell, "alice", &row("E+", "closed"));
    shell.ok(&card("alice", "config open-currency --name bob --currency USD"));
    wait_for_row(shell, "alice", &row("E+", "open"));
    shell.ok(&card("alice", "config rename-friend --name bob --new-name robert"));
    shell.fails(1, &card("alice", "config disable-friend --name bob"), "");
    shell.ok(&card("alice", "config rename-friend --name robert --new-name bob"));
}

fn wrong_usage(shell: &Shell) {
    for line in [
        "stmgr gen-ident",
        "stmgr gen-ident --output x --colour red",
        "stmgr relay-ticket --idfile relay.ident --address nowhere --output x.ticket",
        "stverify verify-receipt --invoice tea.invoice",
        "strelay --idfile relay.ident",
        "stnode --database alice.db",
        "stindex",
        "stctrl info friends",
    ] {
        shell.fails(2, line, "error: ");
    }
    for command in [
        "buyer fly",
        "buyer pay-invoice --invoice tea.invoice",
        "seller create-invoice --currency USD --amount 0 --invoice x.invoice",
        "seller create-invoice --currency USD --amount 1.5 --invoice x.invoice",
        "config set-currency-rate --name bob --currency USD --mul -1 --add 0",
    ] {
        shell.fails(2, &card("alice", command), "error: ");
    }
    shell.ok("stctrl --help");
    shell.ok("stmgr --version");
}

fn nothing_is_overwritten(shell: &Shell) {
    for (file, line) in [
        ("relay.ident", "stmgr gen-ident --output relay.ident".to_owned()),
        ("relay.ticket", "stmgr relay-ticket --idfile relay.ident --address a:1 --output relay.ticket".to_owned()),
        ("tea.invoice", card("bob", "seller create-invoice --currency USD --amount 1 --invoice tea.invoice")),
        (
            "tea.commit",
            card("alice", "buyer pay-invoice --invoice tea.invoice --payment tea.payment --commit tea.commit"),
        ),
        ("coffee.receipt", card("bob", "buyer pay --invoice coffee.invoice --receipt coffee.receipt")),
        ("bob.token", card("alice", "info friend-last-token --name bob --token bob.token")),
        ("alice.friend", card("alice", "info export-ticket --ticket alice.friend")),
    ] {
        let before = shell.read(file);
        shell.fails(1, &line, &format!("{file} exists already"));
        assert_eq!(shell.read(file), before, "{line}");
    }
    shell.fails(1, "stmgr init-node-db --idfile alice.ident --output alice.db", "alice.db");
    let invoices = shell.json(&card("bob", "info invoices"));
    let amount = |invoice: &&Value| invoice["amount"] == "1";
    assert_eq!(invoices["invoices"].as_array().into_iter().flatten().find(amount), None, "no invoice without a file");
}

fn refusals_change_nothing(shell: &Shell) {
    shell.ok("stmgr relay-ticket --idfile index.ident --address 127.0.0.1:1 --output other.ticket");
    let looks = || ["friends", "relays", "index"].map(|what| shell.ok(&card("alice", &format!("info {what}"))));
    let before = looks();
    for (command, says) in [
        ("config add-friend --friend bob.friend --name robert", ""),
        ("config add-friend --friend alice.friend --name me", ""),
        ("config add-relay --relay other.ticket --name relay", ""),
        ("config add-relay --relay relay.ticket --name twice", ""),
        ("config add-relay --relay index.ticket --name other", "a relay ticket is needed"),
        ("config add-relay --relay missing.ticket --name other", "missing.ticket"),
        ("config remove-relay --name nobody", ""),
        ("config remove-index --name nobody", ""),
        ("config remove-friend --name nobody", ""),
        ("config enable-friend --name nobody", ""),
        ("config rename-friend --name nobody --new-name somebody", ""),
        ("config open-currency --name nobody --currency USD", ""),
        ("config close-currency --name bob --currency EUR", ""),
        ("config remove-currency --name bob --currency USD", ""),
        ("config set-currency-max-debt --name nobody --currency USD --mdebt 5", ""),
        ("config set-currency-max-debt --name bob --currency EUR --mdebt 5", ""),
        ("config set-currency-rate --name bob --currency EUR --mul 0 --add 5", ""),
        ("config reset-friend --name bob", "nothing to reset"),
        ("info friend-last-token --name nobody --token x.token", ""),
    ] {
        shell.fails(1, &card("alice", command), says);
    }
    // What is so already is no refusal: an interrupted command can be given again.
    shell.ok(&card("alice", "config add-friend --friend bob.friend --name bob"));
    shell.ok(&card("alice", "config add-relay --relay relay.ticket --name relay"));
    assert_eq!(looks(), before);
    assert!(!shell.has("x.token"));
}

fn permissions(shell: &Shell) {
    shell.ok("stmgr gen-ident --output viewer.ident");
    let viewer = |command: &str| format!("stctrl --idfile viewer.ident --ticket alice-node.ticket {command}");
    shell.fails(4, &viewer("info friends"), "does not know this app");
    // A ticket takes effect while the node runs.
    shell.ok("stmgr app-ticket --idfile viewer.ident --output alice-trusted/viewer.ticket");
    until_ok(shell, &viewer("info friends"), &[4]);
    shell.ok("stmgr node-entry --nodeid alice-node.ticket --appid viewer.ident --address 127.0.0.1:1 --output v.entry");
    for command in [
        "config remove-friend --name bob",
        "seller create-invoice --currency USD --amount 1 --invoice x.invoice",
        "buyer pay-invoice --invoice tea.invoice --payment x.payment --commit x.commit",
        "buyer pay --invoice tea.invoice",
        "info payments",
    ] {
        let ran = shell.run(&viewer(command));
        assert_eq!(ran.code, 4, "{ran}");
    }
    assert!(!shell.has("x.invoice") && !shell.has("x.payment") && !shell.has("x.commit"));
    std::fs::remove_file(shell.path("alice-trusted/viewer.ticket")).unwrap();
    let begun = std::time::Instant::now();
    while shell.run(&viewer("info friends")).code != 4 {
        assert!(begun.elapsed() < Duration::from_secs(20), "an app without ticket is still let in");
    }
    shell.ok(&card("alice", "info friends"));
}

#[test]
fn three_friends_in_a_line_pay_through_two_relays_and_two_index_servers() {
    let mut network = Network::line();
    let fee = |amount: i128| amount / 16 + 5;

    // By file.
    network.ok("carol", "seller create-invoice --currency USD --amount 1600 --invoice 1.invoice");
    network.until_ok("alice", "buyer pay-invoice --invoice 1.invoice --payment 1.payment --commit 1.commit");
    network.ok("carol", "seller commit-invoice --invoice 1.invoice --commit 1.commit");
    network.until_ok("alice", "buyer payment-status --payment 1.payment --receipt 1.receipt");
    network.shell.ok("stverify verify-receipt --invoice 1.invoice --receipt 1.receipt");
    check_balances(&network, -1600 - fee(1600), 1600);

    // In band, and back again.
    network.ok("carol", "seller create-invoice --currency USD --amount 333 --invoice 2.invoice");
    let paid = network.json("alice", "buyer pay --invoice 2.invoice --receipt 2.receipt --max-fee 25");
    assert_eq!((&paid["status"], &paid["fees"]), (&"paid".into(), &"25".into()), "{paid}");
    check_balances(&network, -1933 - fee(1600) - fee(333), 1933);
    network.ok("alice", "seller create-invoice --currency USD --amount 100 --invoice 3.invoice");
    network.fails("carol", 1, "buyer pay --invoice 3.invoice --max-fee 10", "not paid");
    network.ok("carol", "buyer pay --invoice 3.invoice --max-fee 11");
    check_balances(&network, -1833 - fee(1600) - fee(333), 1933 - 100 - fee(100));

    // More than anybody lends: nothing moves.
    network.ok("carol", "seller create-invoice --currency USD --amount 2000000 --invoice 4.invoice");
    network.fails("alice", 1, "buyer pay --invoice 4.invoice", "not paid");
    check_balances(&network, -1833 - fee(1600) - fee(333), 1933 - 100 - fee(100));

    an_app_without_ticket_is_cut_off(&mut network);
    network.wait_for_quiet();
    check_balances(&network, -1833 - fee(1600) - fee(333), 1933 - 100 - fee(100));
}

/// Checks what friends owe Alice and Carol, and that Bob has the rest.
fn check_balances(network: &Network, alice: i128, carol: i128) {
    network.wait_for_quiet();
    network.check_agreement();
    let bob = network.owed("bob", "alice") + network.owed("bob", "carol");
    assert_eq!((network.owed("alice", "bob"), network.owed("carol", "bob"), bob), (alice, carol, -alice - carol));
}

/// An app that is connected and waits, when its ticket goes.
fn an_app_without_ticket_is_cut_off(network: &mut Network) {
    let shell = &network.shell;
    shell.ok("stmgr gen-ident --output till.ident");
    shell.ok("stmgr app-ticket --idfile till.ident --output alice-trusted/till.ticket --pbuyer");
    let till = |command: &str| format!("stctrl --idfile till.ident --ticket alice-node.ticket {command}");
    until_ok(shell, &till("info friends"), &[4]);
    network.ok("carol", "seller create-invoice --currency USD --amount 50 --invoice 5.invoice");
    let pay = "buyer pay-invoice --invoice 5.invoice --payment 5.payment --commit 5.commit";
    network.ok("alice", pay);
    // Nobody collects, so this waits.
    let mut waiting = shell.spawn(&till("buyer pay --invoice 5.invoice --payment 5.payment"));
    std::thread::sleep(Duration::from_millis(1_000));
    assert!(waiting.runs());
    std::fs::remove_file(shell.path("alice-trusted/till.ticket")).unwrap();
    let ended = waiting.finish();
    assert_eq!(ended.code, 4, "{ended}");
    assert!(ended.stderr.contains("does not know this app"), "{ended}");
    network.ok("carol", "seller cancel-invoice --invoice 5.invoice");
    // The commit has left the node: what the seller did with it only the seller knows.
    network.fails("alice", 1, "buyer payment-status --payment 5.payment --receipt 5.receipt", "not known here");
}
