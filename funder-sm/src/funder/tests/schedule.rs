//! Payments under arbitrary schedules: messages late, links that drop, hosts that crash before or after any flush.
//!
//! After every step a restart from the disk must give the state that runs; after healing every payment has ended, friends
//! agree, nothing is frozen, and the balances are exactly what the paid invoices say.

use offset_protocol::app::{Command, CommitMode, InvoiceState, PaymentState};
use offset_protocol::machine::Rng;
use offset_protocol::money::Rate;
use offset_protocol::payment::{Commit, Invoice};
use proptest::prelude::*;

use super::net::{Net, dice, key, multi, part, payment_id};
use super::{Answer, invoice_state, pay, status, verifier};

const HOSTS: usize = 4;
const FEE: Rate = Rate { mul: 1 << 27, add: 1 };

struct Schedule {
    net: Net,
    dice: Rng,
    /// By payment number: buyer, seller, invoice.
    payments: Vec<(usize, usize, Invoice)>,
    /// Commits on their way by hand.
    commits: Vec<(usize, Commit)>,
}

impl Schedule {
    fn new(seed: u64) -> Self {
        let net = Net::line(HOSTS, 400, FEE);
        Schedule { net, dice: dice(seed), payments: Vec::new(), commits: Vec::new() }
    }

    fn host(&mut self) -> usize {
        self.dice.below(HOSTS as u64) as usize
    }

    fn step(&mut self) {
        let host = self.host();
        match self.dice.below(100) {
            0..8 => self.begin_payment(),
            8..12 => self.decide_by_hand(),
            12..15 => self.carry_commit(),
            15..40 => {
                self.net.drain(host);
                self.net.flush(host);
            }
            40..85 => {
                self.net.drain(host);
                let to = if self.dice.below(2) == 0 { host.wrapping_sub(1) } else { host + 1 };
                self.net.deliver(host, to);
            }
            85..90 => {
                self.net.tick();
            }
            90..94 if host + 1 < HOSTS => self.net.cut(host, host + 1),
            94..98 if host + 1 < HOSTS => self.net.connect(host, host + 1),
            98.. => self.net.crash(host),
            _ => {}
        }
        self.net.check_restore(host);
    }

    fn begin_payment(&mut self) {
        let (buyer, seller) = (self.host(), self.host());
        if buyer == seller {
            return;
        }
        let number = self.payments.len() as u64;
        let amount = 1 + u128::from(self.dice.below(120));
        // The invoice is made in peace; what follows is not.
        let mut id = [0; 16];
        id[..8].copy_from_slice(&number.to_le_bytes());
        let invoice = Invoice {
            invoice_id: offset_protocol::bytes::InvoiceId(id),
            currency: super::net::usd(),
            seller: key(seller),
            amount,
            description: Default::default(),
        };
        let command = Command::AddInvoice {
            invoice_id: invoice.invoice_id,
            currency: invoice.currency,
            amount,
            description: Default::default(),
            expires_at: None,
        };
        self.net.command(seller, command);
        let hosts: Vec<usize> =
            if buyer < seller { (buyer..=seller).collect() } else { (seller..=buyer).rev().collect() };
        let fees = FEE.fee(amount).unwrap() * (hosts.len() as u128 - 2);
        self.net.routes = Ok(vec![multi(vec![part(&hosts, amount, fees)])]);
        let mode = if self.dice.below(2) == 0 { CommitMode::ByHand } else { CommitMode::InBand };
        self.net.command(buyer, pay(&invoice, number, fees, mode));
        self.payments.push((buyer, seller, invoice));
    }

    /// A buyer by hand withdraws, or asks for its commit.
    fn decide_by_hand(&mut self) {
        let Some(number) = self.pick() else { return };
        let buyer = self.payments[number].0;
        let payment_id = payment_id(number as u64);
        let command = match self.dice.below(3) {
            0 => Command::WithdrawPayment { payment_id },
            _ => Command::ReleaseCommit { payment_id },
        };
        self.net.command(buyer, command);
        self.take_commits();
    }

    fn take_commits(&mut self) {
        for host in 0..HOSTS {
            for outcome in self.net.hosts[host].replies.values() {
                if let offset_protocol::app::Outcome::Done(Answer::Commit(commit)) = outcome {
                    let seller = self.payments.iter().find(|(_, _, invoice)| invoice.invoice_id == commit.invoice_id);
                    self.commits.extend(seller.map(|(_, seller, _)| (*seller, commit.clone())));
                }
            }
            self.net.hosts[host].replies.clear();
        }
    }

    fn carry_commit(&mut self) {
        self.take_commits();
        if let Some((seller, commit)) = self.commits.pop() {
            self.net.command(seller, Command::CommitInvoice { commit });
        }
    }

    fn pick(&mut self) -> Option<usize> {
        let count = self.payments.len() as u64;
        (count > 0).then(|| self.dice.below(count) as usize)
    }

    /// Everything heals; every payment that is open is decided; everything ends.
    fn finish(&mut self) {
        for _ in 0..4 {
            self.net.heal();
            self.take_commits();
            for (number, (buyer, seller, invoice)) in self.payments.clone().into_iter().enumerate() {
                self.end_payment(number, buyer, seller, &invoice);
            }
        }
        self.net.heal();
    }

    fn end_payment(&mut self, number: usize, buyer: usize, seller: usize, invoice: &Invoice) {
        let payment_id = payment_id(number as u64);
        let known = self.net.ask(buyer, Command::PaymentStatus { payment_id });
        let offset_protocol::app::Outcome::Done(Answer::Payment(report)) = known else { return };
        match report.state {
            PaymentState::Ready { .. } | PaymentState::Searching | PaymentState::Requested => {
                self.net.ask(buyer, Command::WithdrawPayment { payment_id });
            }
            PaymentState::Committed { .. } => {
                if let Answer::Commit(commit) = self.net.done(buyer, Command::ReleaseCommit { payment_id }) {
                    self.net.ask(seller, Command::CommitInvoice { commit });
                }
            }
            PaymentState::Ending(_) => {
                self.net.ask(seller, Command::CancelInvoice { invoice_id: invoice.invoice_id });
            }
            PaymentState::Paid { .. } | PaymentState::Failed(_) => {}
        }
    }

    fn check(&mut self) {
        self.net.check_quiet();
        let mut expected = [0i128; HOSTS];
        for (number, (buyer, seller, invoice)) in self.payments.clone().into_iter().enumerate() {
            let payment_id = payment_id(number as u64);
            let known = self.net.ask(buyer, Command::PaymentStatus { payment_id });
            let offset_protocol::app::Outcome::Done(_) = known else { continue };
            match status(&mut self.net, buyer, number as u64) {
                PaymentState::Paid { receipt, fees } => {
                    assert_eq!(receipt.verify(&invoice, &verifier()), Ok(()));
                    assert_eq!(invoice_state(&mut self.net, seller, &invoice), InvoiceState::Paid);
                    let amount = invoice.amount as i128;
                    expected[buyer] -= amount + fees as i128;
                    expected[seller] += amount;
                    for mediator in &mut expected[buyer.min(seller) + 1..buyer.max(seller)] {
                        *mediator += FEE.fee(invoice.amount).unwrap() as i128;
                    }
                }
                PaymentState::Failed(_) => {}
                open => panic!("payment {number} from {buyer} to {seller} is open: {open:?}"),
            }
        }
        for (host, expected) in expected.iter().enumerate() {
            let left = if host > 0 { self.net.hosts[host].balance(host - 1) } else { 0 };
            let right = if host + 1 < HOSTS { self.net.hosts[host].balance(host + 1) } else { 0 };
            assert_eq!(left + right, *expected, "what node {host} has");
        }
    }
}

fn run(seed: u64, steps: usize) {
    let mut schedule = Schedule::new(seed);
    for _ in 0..steps {
        schedule.step();
    }
    schedule.finish();
    schedule.check();
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn payments_end_once_and_balances_are_what_was_paid(seed in any::<u64>()) {
        run(seed, 300);
    }
}
