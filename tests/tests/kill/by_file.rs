//! Payments by file: four are under way, each a step behind the one before, and a strike meets all four.
//!
//! Of every third payment each command is given once, and none after the first that does not end well: then, at the latest when
//! the invoice expires, it has ended by itself.

use std::time::{Duration, Instant};

use offset_tests::network::Network;
use offset_tests::programs::{PATIENCE, Ran, Tool};

use crate::books::{self, Ends};
use crate::{OUTAGE, Reaper, SMALL_LOG, Victims, goes_on, report, setting};

/// Every victim, pairs and all, at every moment of every step, and a third of them again.
const STRIKES: u64 = 80;
const AMOUNT: u64 = 160;
/// How long an invoice is good that nobody looks after, in seconds.
const LIFETIME: u64 = 20;
/// From then until everybody has heard that it has ended: generous, as what is waited for is one way over two hops.
const WORD: u64 = 10;
const SIDES: [(&str, &str); 1] = [("alice", "carol")];

/// A step of a payment.
struct Step {
    who: &'static str,
    command: String,
    makes: Option<String>,
}

fn steps(n: u64) -> [Step; 4] {
    let step = |who, command: String, makes: Option<String>| Step { who, command, makes };
    let expires = if is_left(n) { format!(" --expires {LIFETIME}s") } else { String::new() };
    [
        step(
            "carol",
            format!("seller create-invoice --currency USD --amount {AMOUNT} --invoice {n}.invoice{expires}"),
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

/// Whether nobody repeats a command for this payment.
fn is_left(n: u64) -> bool {
    n.is_multiple_of(3)
}

impl Step {
    fn spawn(&self, network: &Network) -> Tool {
        network.shell.spawn(&Network::line_of(self.who, &self.command))
    }

    /// Whether it is done, as its user sees. A file is written as a whole, at the very end.
    fn is_done(&self, network: &Network, ran: &Ran) -> bool {
        self.makes.as_ref().map_or(ran.code == 0, |file| network.shell.has(file))
    }

    /// Gives the command until it is done.
    fn carry_out(&self, network: &Network) {
        let begun = Instant::now();
        while !self.makes.as_ref().is_some_and(|file| network.shell.has(file)) {
            let ran = network.run(self.who, &self.command);
            assert!(goes_on(&ran) && begun.elapsed() < PATIENCE, "after {:?}: {ran}", begun.elapsed());
            if ran.code == 0 {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// When the steps begin, they are not there.
    Before,
    /// They die while the steps are done.
    Within,
    /// They die when the steps are done, and are there again before the next.
    After,
}

/// A payment, and its next step.
struct Payment {
    n: u64,
    step: usize,
}

/// Payments, each a step behind the one before.
#[derive(Default)]
struct Row {
    under_way: Vec<Payment>,
    /// Those that nobody looks after any more before their end.
    left: Vec<u64>,
}

impl Row {
    /// All take a step, and somebody dies meanwhile.
    fn take_a_step(&mut self, network: &mut Network, reaper: &mut Reaper, strike: Option<&(Victims, Moment)>) {
        let steps: Vec<Step> =
            self.under_way.iter().map(|one| steps(one.n).into_iter().nth(one.step).unwrap()).collect();
        let spawn = |network: &Network| steps.iter().map(|step| step.spawn(network)).collect::<Vec<_>>();
        let (tools, dead) = match strike {
            None | Some((_, Moment::After)) => (spawn(network), Vec::new()),
            Some((victims, Moment::Before)) => {
                let dead = reaper.kill(network, victims);
                (spawn(network), dead)
            }
            Some((victims, Moment::Within)) => {
                let mut tools = spawn(network);
                reaper.dice.sleep_below(80);
                if matches!(victims, Victims::Tool) {
                    tools.iter_mut().for_each(Tool::kill);
                }
                (tools, reaper.kill(network, victims))
            }
        };
        if !dead.is_empty() {
            reaper.dice.sleep_below(OUTAGE);
            reaper.raise(network, &dead);
        }
        let ran: Vec<Ran> = tools.into_iter().map(Tool::finish).collect();
        self.go_on(network, &steps, &ran);
        if let Some((victims, Moment::After)) = strike {
            let dead = reaper.kill(network, victims);
            reaper.raise(network, &dead);
        }
    }

    /// Whoever looks after a payment repeats its command until it is done; the others leave it as it is.
    fn go_on(&mut self, network: &Network, steps: &[Step], ran: &[Ran]) {
        for (mut payment, (step, ran)) in std::mem::take(&mut self.under_way).into_iter().zip(steps.iter().zip(ran)) {
            assert!(goes_on(ran) || matches!(ran.code, 3 | -1), "{ran}");
            if !is_left(payment.n) {
                step.carry_out(network);
            } else if !step.is_done(network, ran) {
                self.left.push(payment.n);
                continue;
            }
            payment.step += 1;
            if payment.step < 4 {
                self.under_way.push(payment);
            } else if is_left(payment.n) {
                self.left.push(payment.n);
            }
        }
    }
}

#[test]
fn whoever_dies_during_payments_by_file_each_is_paid_once_or_not_at_all() {
    let begun = Instant::now();
    let mut network = Network::line_with(SMALL_LOG);
    network.wait_for_route("alice", "carol");
    let mut reaper = Reaper::new();
    let strikes = setting("OFFSET_KILLS").unwrap_or(STRIKES);
    let (mut deck, mut row) = (Vec::new(), Row::default());
    for n in 1..=strikes + 3 {
        if deck.is_empty() {
            deck = [Moment::Before, Moment::Within, Moment::After]
                .into_iter()
                .flat_map(|moment| reaper.deck(&network).into_iter().map(move |victims| (victims, moment)))
                .collect();
        }
        // The last ones are led to their end in peace.
        let strike = (n <= strikes).then(|| reaper.dice.take(&mut deck));
        if strike.is_some() {
            row.under_way.push(Payment { n, step: 0 });
        }
        row.take_a_step(&mut network, &mut reaper, strike.as_ref());
        report(&format!("{n}: {strike:?}, {:?} after the beginning", begun.elapsed()));
    }
    assert!(row.under_way.is_empty());
    let books = books::wait_for_ends(&network, &SIDES, Duration::from_secs(LIFETIME + WORD));
    books.check(&network);
    let mut ends = Ends::default();
    row.left.iter().filter_map(|n| books::invoice_id(&network, *n)).for_each(|id| books.count(&id, &mut ends));
    let paid = |n: &u64| books::invoice_id(&network, *n).is_some_and(|id| books.is_paid(&id));
    assert!((1..=strikes).filter(|n| !is_left(*n)).all(|n| paid(&n)), "what somebody looked after is paid");
    // Of what nobody looked after the receipt is written when it is asked for.
    for n in row.left.iter().filter(|n| paid(n)) {
        steps(*n)[3].carry_out(&network);
    }
    books::verify_receipts(&network, &(1..=strikes).filter(paid).collect::<Vec<_>>());
    books::check_databases(&network);
    report(&format!("{:?}\nof those that nobody looked after: {ends:?}\n{:?} in all", reaper.tally, begun.elapsed()));
    assert!(strikes < STRIKES || ends.paid > 0 && ends.failed > 0, "{ends:?}");
}
