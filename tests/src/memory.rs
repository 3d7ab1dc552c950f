//! Payments along a line of funders in memory: real signatures, no sockets, no disk. For counting instructions.
//!
//! Every message goes through the checks that it goes through in a node: signatures of batches are verified before a funder
//! sees them. What a revision writes is counted and forgotten.

use std::collections::VecDeque;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use offset_funder_sm::funder::{CheckedMessage, Funder, FunderConfig, FunderInput, FunderOutput};
use offset_protocol::app::{Answer, Command, CommitMode, Event, Name, Outcome, PaymentState};
use offset_protocol::bytes::{CommandId, InvoiceId, PaymentId, PublicKey};
use offset_protocol::codec::List;
use offset_protocol::friend::FriendMessage;
use offset_protocol::identity::{Identity, SharedSigner, Verified};
use offset_protocol::index::{MultiRoute, RoutePart};
use offset_protocol::machine::{Duration, Instant, Machine, Seed};
use offset_protocol::money::Currency;

const APP: PublicKey = PublicKey([0xaa; 32]);
const AMOUNT: u128 = 100;

struct Host {
    key: PublicKey,
    signer: SharedSigner,
    funder: Funder,
}

/// A line of funders.
pub struct Line {
    hosts: Vec<Host>,
    inbox: VecDeque<(usize, FunderInput)>,
    now: Instant,
    ids: offset_protocol::machine::Rng,
    currency: Currency,
    replies: Vec<Outcome>,
    paid: usize,
    failed: usize,
    /// What it cost so far.
    pub cost: Cost,
}

/// Counted, not timed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// Revisions of all hosts: commits of a database.
    pub revisions: u64,
    /// Bytes of keys and values of all revisions.
    pub record_bytes: u64,
    /// Messages between friends.
    pub messages: u64,
}

impl Line {
    /// Friends in a line that let each other owe anything.
    ///
    /// # Errors
    /// If the funders refuse to be configured.
    pub fn new(length: usize) -> Result<Line> {
        let seed = Seed::from_number(1);
        let mut hosts = Vec::new();
        for number in 0..length {
            let signer: SharedSigner = Arc::new(Identity::from_private_key(&[number as u8 + 1; 32]));
            let config = FunderConfig { signer: signer.clone(), seed: seed.fork(&number.to_string()) };
            hosts.push(Host { key: signer.public_key(), signer, funder: Funder::restore(config, [])? });
        }
        let mut line = Line {
            hosts,
            inbox: VecDeque::new(),
            now: Instant::from_micros(1),
            ids: seed.fork("ids").rng(),
            currency: "USD".parse()?,
            replies: Vec::new(),
            paid: 0,
            failed: 0,
            cost: Cost::default(),
        };
        for at in 1..length {
            line.befriend(at - 1, at)?;
        }
        line.run()?;
        Ok(line)
    }

    fn befriend(&mut self, a: usize, b: usize) -> Result<()> {
        for (us, friend) in [(a, b), (b, a)] {
            let public_key = self.hosts[friend].key;
            let name: Name = format!("node{friend}").parse()?;
            let currency = self.currency;
            self.done(us, Command::AddFriend { public_key, relays: List::new(), name: name.clone() })?;
            self.done(us, Command::OpenCurrency { name: name.clone(), currency })?;
            self.done(us, Command::SetMaxDebt { name, currency, max_debt: 1 << 90 })?;
        }
        for (us, friend) in [(a, b), (b, a)] {
            let friend = self.hosts[friend].key;
            self.inbox.push_back((us, FunderInput::LinkUp { friend }));
        }
        self.run()
    }

    fn command(&mut self, host: usize, command: Command) {
        let id = CommandId(self.ids.bytes());
        self.inbox.push_back((host, FunderInput::Command { app: APP, id, command }));
    }

    fn done(&mut self, host: usize, command: Command) -> Result<Answer> {
        self.command(host, command);
        self.run()?;
        match self.replies.pop().context("no reply")? {
            Outcome::Done(answer) => Ok(answer),
            Outcome::Refused(refusal) => bail!("refused: {refusal}"),
        }
    }

    /// Makes payments from the first to the last, `in_flight` at a time.
    ///
    /// # Errors
    /// If a payment fails.
    pub fn pay(&mut self, payments: usize, in_flight: usize) -> Result<()> {
        let target = self.paid + payments;
        while self.paid < target {
            for _ in 0..in_flight.min(target - self.paid) {
                self.begin_payment()?;
            }
            self.run()?;
            self.replies.clear();
            if self.failed > 0 {
                bail!("{} payments failed", self.failed);
            }
        }
        Ok(())
    }

    fn begin_payment(&mut self) -> Result<()> {
        let seller = self.hosts.len() - 1;
        let invoice = Command::AddInvoice {
            invoice_id: InvoiceId(self.ids.bytes()),
            currency: self.currency,
            amount: AMOUNT,
            description: Default::default(),
            expires_at: None,
        };
        let Command::AddInvoice { invoice_id, currency, amount, .. } = invoice else { bail!("not an invoice") };
        self.command(seller, invoice);
        let route = List::truncated(self.hosts.iter().map(|host| host.key));
        let part = RoutePart { route, amount, fees: 0 };
        let pay = Command::Pay {
            payment_id: PaymentId(self.ids.bytes()),
            invoice: offset_protocol::payment::Invoice {
                invoice_id,
                currency,
                seller: self.hosts[seller].key,
                amount,
                description: Default::default(),
            },
            max_fee: 0,
            mode: CommitMode::InBand,
            routes: Some(MultiRoute { parts: List::truncated([part]) }),
        };
        self.command(0, pay);
        Ok(())
    }

    /// Rounds over all hosts, each with all inputs that wait for it, until nothing waits.
    fn run(&mut self) -> Result<()> {
        loop {
            let mut inputs: Vec<Vec<FunderInput>> = self.hosts.iter().map(|_| Vec::new()).collect();
            for (host, input) in std::mem::take(&mut self.inbox) {
                inputs[host].push(input);
            }
            if inputs.iter().all(Vec::is_empty) && !self.tick(&mut inputs) {
                return Ok(());
            }
            for (host, inputs) in inputs.into_iter().enumerate() {
                let mut outputs = Vec::new();
                offset_protocol::machine::turn(&mut self.hosts[host].funder, self.now, inputs, |output| {
                    outputs.push(output);
                });
                for output in outputs {
                    self.carry_out(host, output)?;
                }
            }
        }
    }

    /// Moves time to the next alarm; false if there is none soon.
    fn tick(&mut self, inputs: &mut [Vec<FunderInput>]) -> bool {
        let alarms = self.hosts.iter().filter_map(|host| host.funder.poll_timeout());
        let Some(at) = alarms.map(|alarm| alarm.at).min() else { return false };
        if at > self.now + Duration::from_secs(1) {
            return false;
        }
        self.now = self.now.max(at);
        inputs.iter_mut().for_each(|inputs| inputs.push(FunderInput::Tick));
        true
    }

    fn carry_out(&mut self, host: usize, output: FunderOutput) -> Result<()> {
        match output {
            FunderOutput::Persist { revision, changes } => {
                self.cost.revisions += 1;
                let bytes = |change: &offset_protocol::persist::Change| {
                    change.key.len() + change.value.as_ref().map_or(0, Vec::len)
                };
                self.cost.record_bytes += changes.iter().map(bytes).sum::<usize>() as u64;
                self.inbox.push_back((host, FunderInput::Durable(revision)));
            }
            FunderOutput::Friend { friend, message } => {
                self.cost.messages += 1;
                let to = self.hosts.iter().position(|host| host.key == friend).context("unknown friend")?;
                let message = self.checked(host, to, message)?;
                self.inbox.push_back((to, FunderInput::Friend { friend: self.hosts[host].key, message }));
            }
            FunderOutput::Reply { outcome, .. } => self.replies.push(outcome),
            FunderOutput::Event { event: Event::PaymentEnded(report), id, number, app } => {
                match report.state {
                    PaymentState::Paid { .. } => self.paid += 1,
                    _ => self.failed += 1,
                }
                if let Some(number) = number {
                    self.inbox.push_back((host, FunderInput::Acknowledge { app, id, number }));
                }
            }
            FunderOutput::Event { event: Event::InvoiceEnded(_), id, number: Some(number), app } => {
                self.inbox.push_back((host, FunderInput::Acknowledge { app, id, number }));
            }
            _ => {}
        }
        Ok(())
    }

    fn checked(&self, from: usize, to: usize, message: FriendMessage) -> Result<CheckedMessage> {
        let (by, to) = (self.hosts[from].key, &self.hosts[to]);
        Ok(match message {
            FriendMessage::Resume(resume) => CheckedMessage::Resume(resume),
            FriendMessage::Inconsistent(terms) => CheckedMessage::Inconsistent(terms),
            FriendMessage::Batch(batch) => {
                CheckedMessage::Batch(Verified::check(batch, by, &to.key, &*to.signer).context("batch")?)
            }
            FriendMessage::Reset(reset) => {
                CheckedMessage::Reset(Verified::check(reset, by, &to.key, &*to.signer).context("reset")?)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_payment_costs_does_not_grow_with_those_before() {
        let mut line = Line::new(3).unwrap();
        let mut costs = Vec::new();
        for _ in 0..3 {
            let before = line.cost;
            line.pay(50, 1).unwrap();
            costs.push((line.cost.revisions - before.revisions, line.cost.record_bytes - before.record_bytes));
        }
        let (first, last) = (costs[0], costs[2]);
        assert!(last.0 <= first.0 && last.1 <= first.1 + first.1 / 50, "{costs:?}");
    }

    #[test]
    fn many_payments_share_revisions() {
        let mut line = Line::new(3).unwrap();
        let start = line.cost;
        line.pay(64, 1).unwrap();
        let alone = line.cost.revisions - start.revisions;
        let middle = line.cost;
        line.pay(64, 32).unwrap();
        let together = line.cost.revisions - middle.revisions;
        assert!(together * 8 < alone, "{together} revisions together, {alone} one by one");
    }
}
