//! Funders in a line whom bytes drive: payments, messages late, links that drop, hosts that crash before or after any flush.
//!
//! | the first byte | what else may happen | what must hold once everything has healed |
//! |---|---|---|
//! | honest | nothing | every payment has ended, friends agree, nothing is frozen, balances are what paid invoices say |
//! | any | people change settings, node 0 says what its own node would not, messages are forged | honest friends agree, and nobody who only forwards has lost anything to a friend whose channel stands |
//!
//! After every step a restart from the disk must give the state that runs; nothing may go on for ever; no command has two
//! replies.
// A step of a test that fails is a test that fails.
#![allow(clippy::unwrap_used)]
// Tests use all of it, targets do not.
#![cfg_attr(not(test), allow(dead_code))]

use offset_protocol::app::{Answer, ChannelReport, Command, CommitMode, InvoiceState, Outcome, PaymentState};
use offset_protocol::bytes::{Hash, HashedLock, InvoiceId, PlainLock, RequestId, ResetToken};
use offset_protocol::codec::List;
use offset_protocol::friend::{Operation, ResetTerms, Resume};
use offset_protocol::fuzz::{Cheap, Choices};
use offset_protocol::identity::Verifier;
use offset_protocol::money::Rate;
use offset_protocol::payment::{Cancel, CancelReason, Collect, Commit, CommitRequest, Invoice, Request, Withdraw};

use super::net::{Net, key, multi, name, part, payment_id, usd};
use super::{CheckedMessage, FunderInput};
use crate::friend_channel::Origin;

/// What the mediators charge.
const FEE: Rate = Rate { mul: 1 << 27, add: 1 };
/// Steps of one input.
const MAX_STEPS: usize = 400;
/// Payments of one input: each is asked for several times at the end.
const MAX_PAYMENTS: usize = 24;

/// Who else is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Company {
    Honest,
    Any,
}

/// Plays the schedule that `choices` are.
///
/// # Panics
/// Something does not hold.
pub fn run(choices: &mut Choices) {
    let first = choices.byte();
    let company = if first.is_multiple_of(2) { Company::Honest } else { Company::Any };
    let mut schedule = Schedule::new(if first % 4 < 2 { 3 } else { 4 }, company);
    for _ in 0..MAX_STEPS {
        if choices.is_empty() {
            break;
        }
        schedule.step(choices);
    }
    schedule.finish();
    match company {
        Company::Honest => schedule.check(),
        Company::Any => schedule.check_what_is_honest(),
    }
}

/// A line of funders, and what was ordered along it.
struct Schedule {
    net: Net,
    company: Company,
    /// By payment number: buyer, seller, invoice.
    payments: Vec<(usize, usize, Invoice)>,
    /// Commits on their way by hand.
    commits: Vec<(usize, Commit)>,
}

impl Schedule {
    fn new(hosts: usize, company: Company) -> Self {
        let mut net = Net::line(hosts, 400, FEE);
        net.liar = (company == Company::Any).then_some(0);
        Schedule { net, company, payments: Vec::new(), commits: Vec::new() }
    }

    fn hosts(&self) -> usize {
        self.net.hosts.len()
    }

    fn host(&self, choices: &mut Choices) -> usize {
        choices.below(self.hosts() as u64) as usize
    }

    fn step(&mut self, choices: &mut Choices) {
        let host = self.host(choices);
        match choices.below(104) {
            0..8 => self.begin_payment(choices),
            8..12 => self.decide_by_hand(choices),
            12..15 => self.carry_commit(),
            15..40 => {
                self.net.drain(host);
                self.net.flush(host);
            }
            40..85 => {
                self.net.drain(host);
                let to = if choices.flip() { host.wrapping_sub(1) } else { host + 1 };
                self.net.deliver(host, to);
            }
            85..90 => {
                self.net.tick();
            }
            90..94 if host + 1 < self.hosts() => self.net.cut(host, host + 1),
            94..98 if host + 1 < self.hosts() => self.connect(host),
            98..100 => self.net.crash(host),
            100.. if self.company == Company::Any => self.anything(host, choices),
            _ => {}
        }
        self.net.check_restore(host);
    }

    fn begin_payment(&mut self, choices: &mut Choices) {
        let (buyer, seller) = self.ends(choices);
        if buyer == seller || self.payments.len() >= MAX_PAYMENTS {
            return;
        }
        let number = self.payments.len() as u64;
        let amount = 1 + u128::from(choices.below(120));
        // The invoice is made in peace; what follows is not.
        let mut id = [0; 16];
        id[..8].copy_from_slice(&number.to_le_bytes());
        let invoice = Invoice {
            invoice_id: offset_protocol::bytes::InvoiceId(id),
            currency: usd(),
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
        let mode = if choices.flip() { CommitMode::ByHand } else { CommitMode::InBand };
        self.net.command(buyer, pay(&invoice, number, fees, mode));
        self.payments.push((buyer, seller, invoice));
    }

    /// A buyer by hand withdraws, or asks for its commit.
    fn decide_by_hand(&mut self, choices: &mut Choices) {
        let Some(number) = self.pick(choices) else { return };
        let buyer = self.payments[number].0;
        let payment_id = payment_id(number as u64);
        let command = match choices.below(3) {
            0 => Command::WithdrawPayment { payment_id },
            _ => Command::ReleaseCommit { payment_id },
        };
        self.net.command(buyer, command);
        self.take_commits();
    }

    fn take_commits(&mut self) {
        for host in 0..self.hosts() {
            for outcome in self.net.hosts[host].replies.values() {
                if let Outcome::Done(Answer::Commit(commit)) = outcome {
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

    fn pick(&self, choices: &mut Choices) -> Option<usize> {
        choices.place(self.payments.len())
    }

    /// Everything heals; every payment that is open is decided; everything ends.
    fn finish(&mut self) {
        for _ in 0..4 {
            self.heal();
            self.take_commits();
            for (number, (buyer, seller, invoice)) in self.payments.clone().into_iter().enumerate() {
                self.end_payment(number, buyer, seller, &invoice);
            }
        }
        self.heal();
    }

    fn heal(&mut self) {
        for host in 1..self.hosts() {
            self.connect(host - 1);
        }
        self.net.heal();
    }

    fn end_payment(&mut self, number: usize, buyer: usize, seller: usize, invoice: &Invoice) {
        let payment_id = payment_id(number as u64);
        let known = self.net.ask(buyer, Command::PaymentStatus { payment_id });
        let Outcome::Done(Answer::Payment(report)) = known else { return };
        match report.state {
            PaymentState::Ready { .. } | PaymentState::Searching | PaymentState::Requested => {
                self.net.ask(buyer, Command::WithdrawPayment { payment_id });
            }
            PaymentState::Committed { .. } => {
                let commit = self.net.ask(buyer, Command::ReleaseCommit { payment_id });
                if let Outcome::Done(Answer::Commit(commit)) = commit {
                    self.net.ask(seller, Command::CommitInvoice { commit });
                }
            }
            PaymentState::Ending(_) => {
                self.net.ask(seller, Command::CancelInvoice { invoice_id: invoice.invoice_id });
            }
            PaymentState::Paid { .. } | PaymentState::Failed(_) => {}
        }
    }

    /// Both want a link now: people enable what they disabled.
    fn connect(&mut self, host: usize) {
        if self.company == Company::Any {
            for (us, friend) in [(host, host + 1), (host + 1, host)] {
                self.net.command(us, Command::EnableFriend { name: name(friend) });
            }
        }
        self.net.connect(host, host + 1);
    }

    fn ends(&self, choices: &mut Choices) -> (usize, usize) {
        match self.company {
            Company::Honest => (self.host(choices), self.host(choices)),
            // Whoever stands between them only forwards.
            Company::Any if choices.flip() => (0, self.hosts() - 1),
            Company::Any => (self.hosts() - 1, 0),
        }
    }

    fn check(&mut self) {
        self.net.check_quiet();
        let mut expected = vec![0i128; self.hosts()];
        for (number, (buyer, seller, invoice)) in self.payments.clone().into_iter().enumerate() {
            let payment_id = payment_id(number as u64);
            let known = self.net.ask(buyer, Command::PaymentStatus { payment_id });
            let Outcome::Done(_) = known else { continue };
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
            let right = if host + 1 < self.hosts() { self.net.hosts[host].balance(host + 1) } else { 0 };
            assert_eq!(left + right, *expected, "what node {host} has");
        }
    }

    /// What no honest node does, and what people do to their own.
    fn anything(&mut self, host: usize, choices: &mut Choices) {
        match choices.below(4) {
            0 | 1 => self.configure(host, choices),
            2 => self.say(choices),
            _ => self.forge(choices),
        }
    }

    fn configure(&mut self, host: usize, choices: &mut Choices) {
        let friend = if choices.flip() && host > 0 { host - 1 } else { host + 1 };
        let (name, currency) = (name(friend), usd());
        let number = self.pick(choices).unwrap_or_default();
        let payment_id = payment_id(number as u64);
        let invoice_id = self.payments.get(number).map_or(InvoiceId([9; 16]), |payment| payment.2.invoice_id);
        let command = match choices.below(14) {
            0 => Command::SetMaxDebt { name, currency, max_debt: u128::from(choices.below(800)) },
            1 => {
                let rate = Rate { mul: u32::from(choices.byte()) << 22, add: u32::from(choices.byte() % 8) };
                Command::SetRate { name, currency, rate }
            }
            2 | 3 => Command::OpenCurrency { name, currency },
            4 => Command::CloseCurrency { name, currency },
            5 => Command::RemoveCurrency { name, currency },
            6 => {
                self.net.command(host, Command::DisableFriend { name });
                return self.net.cut(host.min(friend), host.max(friend));
            }
            7 => Command::CancelInvoice { invoice_id },
            8 => Command::ForgetInvoice { invoice_id },
            9 => Command::ForgetPayment { payment_id },
            10 => Command::WithdrawPayment { payment_id },
            11 => Command::ListPayments { after: None },
            12 => Command::LastEvidence { name },
            _ => Command::RenameFriend { name: name.clone(), new_name: name },
        };
        self.net.command(host, command);
    }

    /// Node 0 says what its own node would not; its channel lets pass whatever is an operation at the right stage.
    fn say(&mut self, choices: &mut Choices) {
        let known: Vec<RequestId> =
            self.net.hosts.iter().flat_map(|host| host.funder.transits.keys().copied()).collect();
        let request_id = match choices.place(known.len() + 1) {
            Some(place) if place < known.len() => known[place],
            _ => RequestId([choices.byte(); 16]),
        };
        let lock = PlainLock([choices.byte(); 32]);
        let operation = match choices.below(6) {
            0 | 1 => Operation::Request(self.any_request(request_id, lock.hashed(), choices)),
            2 => Operation::Cancel(Cancel { request_id, reason: CancelReason::Seller, hops: 0 }),
            3 => Operation::Collect(Collect { request_id, src_plain_lock: lock.clone(), dest_plain_lock: lock }),
            4 => Operation::Commit(CommitRequest { request_id, src_plain_lock: lock }),
            _ => Operation::Withdraw(Withdraw { request_id }),
        };
        let funder = &mut self.net.hosts[0].funder;
        let Some(friend) = funder.friends.get_mut(&key(1)) else { return };
        if friend.channel.enqueue(usd(), Origin::Own, operation).is_ok() {
            funder.touch(key(1));
            funder.round_due = true;
        }
    }

    fn any_request(&self, request_id: RequestId, lock: HashedLock, choices: &mut Choices) -> Request {
        let hosts = self.hosts() as u64;
        let length = choices.below(hosts);
        let route = List::truncated((0..length).map(|n| key(2 + n as usize)));
        let number = self.pick(choices).unwrap_or_default();
        let invoice = self.payments.get(number).map(|payment| &payment.2);
        let amount = 1 + u128::from(choices.byte());
        Request {
            request_id,
            src_hashed_lock: lock,
            route,
            dest_payment: amount,
            total_dest_payment: invoice.map_or(amount, |invoice| invoice.amount),
            invoice_id: invoice.map_or(InvoiceId([9; 16]), |invoice| invoice.invoice_id),
            left_fees: u128::from(choices.below(40)),
        }
    }

    /// Node 1 hears something in node 0's name.
    fn forge(&mut self, choices: &mut Choices) {
        let number = u64::from(choices.byte());
        let message = match choices.below(24) {
            0 => CheckedMessage::Forged,
            1 => {
                let reset_token = ResetToken([choices.byte(); 32]);
                CheckedMessage::Inconsistent(ResetTerms { epoch: number, reset_token, balances: List::new() })
            }
            2 => CheckedMessage::Resume(Resume {
                epoch: number % 3,
                in_seq: choices.byte().into(),
                in_head: Hash([0; 32]),
                out_seq: choices.byte().into(),
            }),
            _ => CheckedMessage::Unreadable,
        };
        self.net.feed(1, FunderInput::Friend { friend: key(0), message });
    }

    /// Where node 0 may have lied: what the others have among themselves, and what it could take from them.
    fn check_what_is_honest(&self) {
        for host in 2..self.hosts() {
            let left = self.net.hosts[host - 1].friend(host).expect("nobody was removed");
            let right = self.net.hosts[host].friend(host - 1).expect("nobody was removed");
            for report in [&left, &right] {
                assert!(matches!(report.channel, ChannelReport::Consistent { .. }), "honest friends: {report:?}");
            }
            for ours in left.currencies.iter() {
                let Some(theirs) = right.currencies.iter().find(|other| other.currency == ours.currency) else {
                    continue;
                };
                assert_eq!(ours.balance, -theirs.balance, "{} and {host} disagree", host - 1);
                assert_eq!((ours.out_frozen, ours.in_frozen), (theirs.in_frozen, theirs.out_frozen));
            }
        }
        for host in 1..self.hosts() - 1 {
            let ends =
                [host - 1, host + 1].map(|friend| self.net.hosts[host].friend(friend).expect("nobody was removed"));
            if ends.iter().all(|report| matches!(report.channel, ChannelReport::Consistent { .. })) {
                let sum: i128 = ends.iter().flat_map(|report| report.currencies.iter()).map(|one| one.balance).sum();
                assert!(sum >= 0, "node {host} only forwarded, and lost {}", -sum);
            }
        }
    }
}

pub(super) fn pay(invoice: &Invoice, number: u64, max_fee: u128, mode: CommitMode) -> Command {
    Command::Pay { payment_id: payment_id(number), invoice: invoice.clone(), max_fee, mode, routes: None }
}

pub(super) fn status(net: &mut Net, host: usize, number: u64) -> PaymentState {
    match net.done(host, Command::PaymentStatus { payment_id: payment_id(number) }) {
        Answer::Payment(report) => report.state,
        other => panic!("{other:?}"),
    }
}

pub(super) fn invoice_state(net: &mut Net, host: usize, invoice: &Invoice) -> InvoiceState {
    match net.done(host, Command::InvoiceStatus { invoice_id: invoice.invoice_id }) {
        Answer::InvoiceStatus(report) => report.state,
        other => panic!("{other:?}"),
    }
}

pub(super) fn verifier() -> impl Verifier {
    Cheap(key(0))
}
