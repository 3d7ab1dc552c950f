//! `kill -9` of any program at any point of a payment, or of all of them at once: they start again at the same addresses, and
//! the next command goes on. In the end friends agree to the last unit, every payment is paid exactly once, and its receipt
//! proves it. Nobody repairs anything; whoever wants to pay gives the same command again.
//!
//! What a killed node leaves on its disk is looked at before it starts again: every signature, hash and sum of it
//! (`stmgr check`).
//!
//! `OFFSET_KILLS` says how often each test kills, `OFFSET_SEED` at which moments.
// A step that fails is a test that fails.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use offset_tests::network::Network;
use offset_tests::programs::{PATIENCE, Ran, Tool};
use serde_json::Value;

/// The victim that is not a server: the `stctrl` that runs.
const TOOL: &str = "stctrl";
/// Everybody, at once: a power cut, but for what the system still has in its cache.
const ALL: &str = "all";

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// Random moments: good enough for a test, and the same again with the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn sleep_below(&mut self, ms: u64) {
        std::thread::sleep(Duration::from_millis(self.below(ms)));
    }
}

/// All that can be killed.
fn victims(network: &Network) -> Vec<String> {
    let mut victims = network.names();
    victims.extend([TOOL.to_owned(), ALL.to_owned()]);
    victims
}

/// The servers that die.
fn named(network: &Network, victim: &str) -> Vec<String> {
    if victim == ALL { network.names() } else { vec![victim.to_owned()] }
}

fn kill(network: &mut Network, victim: &str) {
    for name in named(network, victim) {
        network.server(&name).kill();
    }
}

/// Looks at what the dead left on their disks, and starts them again.
fn restart(network: &mut Network, victim: &str) {
    for name in named(network, victim) {
        if network.shell.has(&format!("{name}.db")) {
            network.shell.ok(&format!("stmgr check --database {name}.db"));
        }
        network.server(&name).restart();
    }
}

/// Whether a command may end like this while everything runs: it goes on when it is given again.
fn goes_on(ran: &Ran) -> bool {
    match ran.code {
        0 | 5 => true,
        1 => ran.stderr.contains("it is not paid, and nothing moved"),
        _ => false,
    }
}

// -- by file

/// One step of a payment by file.
struct Step {
    who: &'static str,
    command: String,
    makes: Option<String>,
}

fn steps(n: u64) -> [Step; 4] {
    let step = |who, command: String, makes: Option<String>| Step { who, command, makes };
    [
        step(
            "carol",
            format!("seller create-invoice --currency USD --amount 160 --invoice {n}.invoice"),
            Some(format!("{n}.invoice")),
        ),
        step(
            "alice",
            format!("buyer pay-invoice --invoice {n}.invoice --payment {n}.payment --commit {n}.commit"),
            Some(format!("{n}.commit")),
        ),
        step("carol", format!("seller commit-invoice --invoice {n}.invoice --commit {n}.commit"), None),
        step(
            "alice",
            format!("buyer payment-status --payment {n}.payment --receipt {n}.receipt"),
            Some(format!("{n}.receipt")),
        ),
    ]
}

impl Step {
    fn spawn(&self, network: &Network) -> Tool {
        network.shell.spawn(&Network::line_of(self.who, &self.command))
    }

    /// Gives the command until it is done.
    fn carry_out(&self, network: &Network) {
        let begun = Instant::now();
        // A file is written as a whole, at the very end.
        while !self.makes.as_ref().is_some_and(|file| network.shell.has(file)) {
            let ran = network.run(self.who, &self.command);
            assert!(goes_on(&ran) && begun.elapsed() < PATIENCE, "after {:?}: {ran}", begun.elapsed());
            if ran.code == 0 {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Gives the command, and kills somebody meanwhile.
    fn interrupt(&self, network: &mut Network, strike: &Strike, dice: &mut Dice) {
        if strike.victim == TOOL {
            let mut tool = self.spawn(network);
            dice.sleep_below(80);
            tool.kill();
            return drop(tool.finish());
        }
        let tool = if strike.moment == Moment::Before {
            kill(network, &strike.victim);
            self.spawn(network)
        } else {
            let tool = self.spawn(network);
            dice.sleep_below(80);
            kill(network, &strike.victim);
            tool
        };
        dice.sleep_below(400);
        restart(network, &strike.victim);
        let ran = tool.finish();
        assert!(goes_on(&ran) || ran.code == 3, "{} was killed: {ran}", strike.victim);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// When the step begins, it is not there.
    Before,
    /// It dies while the step is done.
    Within,
    /// It dies when the step is done, and is there again before the next.
    After,
}

/// Who is killed, and when.
#[derive(Debug)]
struct Strike {
    victim: String,
    step: usize,
    moment: Moment,
}

impl Strike {
    /// One after the other, all of them: every victim at every moment of every step, in an order that soon has met all.
    fn number(n: u64, victims: &[String]) -> Strike {
        let count = victims.len() as u64;
        let point = (n * 5 + n / (count * 12)) % 12;
        let moment = [Moment::Before, Moment::Within, Moment::After][(point % 3) as usize];
        Strike { victim: victims[(n % count) as usize].clone(), step: (point / 3) as usize, moment }
    }
}

#[test]
fn whoever_dies_during_a_payment_by_file_it_is_paid_once() {
    let mut network = Network::line();
    let mut dice = Dice(setting("OFFSET_SEED", 1));
    let kills = setting("OFFSET_KILLS", 24);
    let victims = victims(&network);
    network.wait_for_route("alice", "carol");
    for n in 1..=kills {
        let strike = Strike::number(n, &victims);
        let begun = Instant::now();
        for (at, step) in steps(n).iter().enumerate() {
            if at != strike.step {
                step.carry_out(&network);
                continue;
            }
            if strike.moment == Moment::After && strike.victim != TOOL {
                step.carry_out(&network);
                kill(&mut network, &strike.victim);
                restart(&mut network, &strike.victim);
                continue;
            }
            step.interrupt(&mut network, &strike, &mut dice);
            step.carry_out(&network);
        }
        report(&format!("{n}: {strike:?}, paid after {:?}", begun.elapsed()));
        network.shell.ok(&format!("stverify verify-receipt --invoice {n}.invoice --receipt {n}.receipt"));
    }
    network.wait_for_quiet();
    network.check_agreement();
    let (each, kills) = (160, i128::from(kills));
    assert_eq!(network.owed("carol", "bob"), kills * each);
    assert_eq!(network.owed("alice", "bob"), -kills * (each + each / 16 + 5));
    let paid = statuses(&network, "alice", "payments");
    assert!(paid.values().all(|(status, _)| status == "paid"), "{paid:?}");
    let collected = statuses(&network, "carol", "invoices");
    assert!(paid.keys().all(|invoice| collected.get(invoice).is_some_and(|(status, _)| status == "paid")));
}

/// Shown when the test fails, or with `--nocapture`.
#[allow(clippy::print_stdout)]
fn report(line: &str) {
    println!("{line}");
}

// -- in band

/// Invoice id to status and what it cost in all, of payments; or what it brought, of invoices.
fn statuses(network: &Network, who: &str, what: &str) -> BTreeMap<String, (String, i128)> {
    let report = network.json(who, &format!("info {what}"));
    let entries = report[what].as_array().into_iter().flatten();
    let number = |value: &Value| value.as_str().and_then(|number| number.parse::<i128>().ok()).unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let entry =
        |one: &Value| (text(&one["invoice_id"]), (text(&one["status"]), number(&one["amount"]) + number(&one["fees"])));
    entries.map(entry).collect()
}

/// The buyer of payment `n`, and its seller.
fn sides(n: u64) -> (&'static str, &'static str) {
    if n.is_multiple_of(2) { ("alice", "carol") } else { ("carol", "alice") }
}

fn pay_line(n: u64) -> String {
    Network::line_of(sides(n).0, &format!("buyer pay --invoice {n}.invoice --max-time 60 --receipt {n}.receipt"))
}

#[test]
fn whoever_dies_during_payments_in_band_each_is_paid_once() {
    let mut network = Network::line();
    let mut dice = Dice(setting("OFFSET_SEED", 1));
    let kills = setting("OFFSET_KILLS", 16);
    let victims = victims(&network);
    network.wait_for_route("alice", "carol");
    let mut load = Load::default();
    for n in 0..kills {
        let waiting = load.until_one_is_paid(&network);
        dice.sleep_below(150);
        // Every sixth time the power is cut.
        let victim = if n % 6 == 5 { ALL } else { &victims[dice.below(victims.len() as u64) as usize] };
        report(&format!("{victim} dies {waiting:?} after the one before, {} paid so far", load.paid));
        if victim == TOOL {
            load.running.iter_mut().take(1).for_each(|(_, tool)| tool.kill());
            continue;
        }
        kill(&mut network, victim);
        dice.sleep_below(400);
        restart(&mut network, victim);
    }
    let begun = Instant::now();
    load.running.into_iter().for_each(|(_, tool)| drop(tool.finish()));
    for n in 0..load.begun {
        settle(&network, n);
    }
    report(&format!("all {} are paid {:?} after the last restart", load.begun, begun.elapsed()));
    network.wait_for_quiet();
    network.check_agreement();
    check_payments(&network);
    for n in 0..load.begun {
        network.shell.ok(&format!("stverify verify-receipt --invoice {n}.invoice --receipt {n}.receipt"));
    }
}

/// Payments, some of them at once, without end.
#[derive(Default)]
struct Load {
    begun: u64,
    paid: u64,
    again: VecDeque<u64>,
    running: Vec<(u64, Tool)>,
}

impl Load {
    /// Lets time pass until a payment is paid, but not much: it may be that none can be. Returns what it took.
    fn until_one_is_paid(&mut self, network: &Network) -> Duration {
        let (begun, paid) = (Instant::now(), self.paid);
        while self.paid == paid && begun.elapsed() < Duration::from_millis(2_500) {
            for (n, mut tool) in std::mem::take(&mut self.running) {
                if tool.runs() {
                    self.running.push((n, tool));
                } else if tool.finish().code == 0 || network.shell.has(&format!("{n}.receipt")) {
                    self.paid += 1;
                } else {
                    self.again.push_back(n);
                }
            }
            while self.running.len() < 4 {
                let n = self.again.pop_front().unwrap_or_else(|| self.create_invoice(network));
                self.running.push((n, network.shell.spawn(&pay_line(n))));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        begun.elapsed()
    }

    fn create_invoice(&mut self, network: &Network) -> u64 {
        let n = self.begun;
        let amount = 160 * (n % 50 + 1);
        let create = format!("seller create-invoice --currency USD --amount {amount} --invoice {n}.invoice");
        network.ok(sides(n).1, &create);
        self.begun += 1;
        n
    }
}

/// Gives the command again until it is paid: everything runs, and the index servers learn the routes again.
fn settle(network: &Network, n: u64) {
    let begun = Instant::now();
    // A receipt is written as a whole, at the very end.
    while !network.shell.has(&format!("{n}.receipt")) {
        let ran = network.shell.run(&pay_line(n));
        assert!(goes_on(&ran) && begun.elapsed() < PATIENCE, "after {:?}: {ran}", begun.elapsed());
        if ran.code != 0 {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Buyer and seller say the same of every invoice, and the balances are what follows.
fn check_payments(network: &Network) {
    let mut owed = BTreeMap::from([("alice", 0), ("carol", 0)]);
    for (buyer, seller) in [sides(0), sides(1)] {
        let paid = statuses(network, buyer, "payments");
        for (invoice, (status, amount)) in statuses(network, seller, "invoices") {
            let (of_buyer, cost) = paid.get(&invoice).cloned().unwrap_or_default();
            assert!(status == "paid" && of_buyer == "paid", "the seller says {status}, the buyer {of_buyer}");
            *owed.entry(buyer).or_default() -= cost;
            *owed.entry(seller).or_default() += amount;
        }
    }
    for (who, owed) in owed {
        assert_eq!(network.owed(who, "bob"), owed, "{who}");
    }
}
