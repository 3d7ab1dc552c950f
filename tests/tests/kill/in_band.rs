//! Payments in band, both ways, without end, while somebody dies again and again.
//!
//! For half of them the command is given once, and no other.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use offset_tests::network::Network;
use offset_tests::programs::{PATIENCE, Ran, Tool};

use crate::books::{self, Ends};
use crate::{OUTAGE, Reaper, SMALL_LOG, Victims, goes_on, report, says_not_paid, setting, turns};

const STRIKES: u64 = 120;
const IN_FLIGHT: usize = 8;
/// `--max-time`, in seconds.
const MAX_TIME: u64 = 30;
/// What a busy machine may need on top of that. Chosen freely.
const GRACE: u64 = 10;
/// Longest time that payments have between two strikes; if none is paid by then, none can be as things are.
const PEACE: Duration = Duration::from_millis(1_500);
/// Longest time that is waited for a log to turn to its other half.
const TURN: Duration = Duration::from_secs(4);
const SIDES: [(&str, &str); 2] = [("alice", "carol"), ("carol", "alice")];

/// The buyer of payment `n`, and its seller.
fn sides(n: u64) -> (&'static str, &'static str) {
    SIDES[(n % 2) as usize]
}

/// Whether nobody repeats the command for this payment.
fn is_left(n: u64) -> bool {
    n % 4 < 2
}

fn invoice_line(n: u64) -> String {
    let amount = 160 * (n % 50 + 1);
    let create = format!("seller create-invoice --currency USD --amount {amount} --invoice {n}.invoice");
    Network::line_of(sides(n).1, &create)
}

fn pay_line(n: u64) -> String {
    let pay = format!("buyer pay --invoice {n}.invoice --max-time {MAX_TIME} --receipt {n}.receipt");
    Network::line_of(sides(n).0, &pay)
}

/// Payments, some of them at once, without end.
#[derive(Default)]
struct Load {
    begun: u64,
    paid: u64,
    again: VecDeque<u64>,
    /// Sellers make invoices, and buyers pay.
    running: Vec<(u64, Tool)>,
    /// What was said of payments that are left to themselves.
    said: BTreeMap<u64, Ran>,
}

impl Load {
    /// Hears what has ended.
    fn hear(&mut self, network: &Network) {
        for (n, mut tool) in std::mem::take(&mut self.running) {
            if tool.runs() {
                self.running.push((n, tool));
                continue;
            }
            self.heard(network, n, tool.finish());
        }
    }

    fn heard(&mut self, network: &Network, n: u64, ran: Ran) {
        if ran.line == invoice_line(n) {
            // Also if it is not made: then it is tried again.
            self.again.push_back(n);
            return;
        }
        assert!(goes_on(&ran) || matches!(ran.code, 1 | 3 | -1), "{ran}");
        if network.shell.has(&format!("{n}.receipt")) {
            self.paid += 1;
        } else if !is_left(n) {
            self.again.push_back(n);
        }
        if is_left(n) {
            self.said.insert(n, ran);
        }
    }

    fn fill_up(&mut self, network: &Network) {
        while self.running.len() < IN_FLIGHT {
            let n = self.again.pop_front().unwrap_or_else(|| {
                self.begun += 1;
                self.begun - 1
            });
            let line = if network.shell.has(&format!("{n}.invoice")) { pay_line(n) } else { invoice_line(n) };
            self.running.push((n, network.shell.spawn(&line)));
        }
    }

    /// Lets time pass until it is so, but not much.
    fn go_on(&mut self, network: &Network, limit: Duration, is_so: impl Fn(&Load) -> bool) {
        let begun = Instant::now();
        while !is_so(self) && begun.elapsed() < limit {
            self.hear(network);
            self.fill_up(network);
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits until all that runs has ended, and begins nothing.
    fn end(&mut self, network: &Network) {
        for (n, tool) in std::mem::take(&mut self.running) {
            self.heard(network, n, tool.finish());
        }
    }

    fn numbers(&self, network: &Network, are_left: bool) -> Vec<u64> {
        let with_invoice = |n: &u64| network.shell.has(&format!("{n}.invoice"));
        (0..self.begun).filter(|n| is_left(*n) == are_left).filter(with_invoice).collect()
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

#[test]
fn whoever_dies_during_payments_in_band_each_is_paid_once_or_not_at_all() {
    let begun = Instant::now();
    let mut network = Network::line_with(SMALL_LOG);
    network.wait_for_route("alice", "carol");
    let mut reaper = Reaper::new();
    let strikes = setting("OFFSET_KILLS").unwrap_or(STRIKES);
    let (mut load, mut deck) = (Load::default(), Vec::new());
    for n in 1..=strikes {
        if deck.is_empty() {
            deck = reaper.deck(&network);
        }
        let victims = reaper.dice.take(&mut deck);
        let paid = load.paid;
        load.go_on(&network, PEACE, |load| load.paid > paid);
        // Every third time as soon as a node that has to die writes to the other half of its log.
        let is_aimed = reaper.dice.below(3) == 0;
        match victims.a_node().filter(|_| is_aimed) {
            Some(node) => {
                let before = turns(&network, node);
                load.go_on(&network, TURN, |_| turns(&network, node) != before);
                reaper.dice.sleep_below(4);
            }
            None => reaper.dice.sleep_below(150),
        }
        report(&format!("{n}: {victims:?} after {:?}, {} of {} paid", begun.elapsed(), load.paid, load.begun));
        if matches!(victims, Victims::Tool) {
            let one = reaper.dice.below(load.running.len().max(1) as u64) as usize;
            load.running.iter_mut().skip(one).take(1).for_each(|(_, tool)| tool.kill());
        }
        let dead = reaper.kill(&mut network, &victims);
        if !dead.is_empty() {
            reaper.dice.sleep_below(OUTAGE);
            reaper.raise(&mut network, &dead);
        }
    }
    let risen = Instant::now();
    load.end(&network);
    let books =
        books::wait_for_ends(&network, &SIDES, Duration::from_secs(MAX_TIME + GRACE).saturating_sub(risen.elapsed()));
    report(&format!("everything has ended by itself {:?} after the last restart", risen.elapsed()));
    books.check(&network);
    let ends = check_left(&network, &load, &books);
    // Now those that somebody looks after, and the receipts of the others; nothing of that pays twice.
    let again = Instant::now();
    let looked_after = load.numbers(&network, false);
    let is_paid = |n: &u64| is_left(*n) && books.is_paid(&books::invoice_id(&network, *n).unwrap());
    let left_and_paid: Vec<u64> = load.numbers(&network, true).into_iter().filter(is_paid).collect();
    let proven = [looked_after, left_and_paid].concat();
    proven.iter().for_each(|n| settle(&network, *n));
    let books = books::wait_for_ends(&network, &SIDES, PATIENCE);
    books.check(&network);
    assert!(proven.iter().all(|n| books.is_paid(&books::invoice_id(&network, *n).unwrap())));
    books::verify_receipts(&network, &proven);
    books::check_databases(&network);
    report(&format!(
        "{:?}\nof {} payments {} were looked after, of the others: {ends:?}",
        reaper.tally,
        load.begun,
        proven.len() as u64 - ends.paid
    ));
    report(&format!(
        "paid and proven {:?} after the last one ended by itself, {:?} in all",
        again.elapsed(),
        begun.elapsed()
    ));
    assert!(strikes < STRIKES || ends.paid > 0 && ends.failed > 0 && reaper.tally.beyond_a_half > 0, "{ends:?}");
}

/// How those ended that were left to themselves; what was said of them holds.
fn check_left(network: &Network, load: &Load, books: &books::Books) -> Ends {
    let mut ends = Ends::default();
    for (n, ran) in &load.said {
        let id = books::invoice_id(network, *n).unwrap();
        books.count(&id, &mut ends);
        assert!(ran.code != 0 || books.is_paid(&id), "it is not paid: {ran}");
        assert!(!says_not_paid(ran) || !books.is_paid(&id), "it is paid: {ran}");
    }
    ends
}
