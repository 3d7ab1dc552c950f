//! Payments between funders in memory: real signatures, no sockets, no disk. For counting instructions, and for making
//! databases that took a life to fill.
//!
//! Every message goes through the checks that it goes through in a node: signatures of batches are verified before a funder
//! sees them. What a revision writes is counted and forgotten; but for that of the first host, if somebody wants it.

use std::collections::{BTreeMap, VecDeque};
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

use crate::routes::thread_seconds;

const APP: PublicKey = PublicKey([0xaa; 32]);
const AMOUNT: u128 = 100;

struct Host {
    key: PublicKey,
    signer: SharedSigner,
    funder: Funder,
}

/// What waits for a host.
enum Input {
    Checked(FunderInput),
    /// A friend's message, as it came.
    Said {
        from: usize,
        message: FriendMessage,
    },
}

/// Funders who are friends, and ways to pay between them.
pub struct Funders {
    hosts: Vec<Host>,
    places: BTreeMap<PublicKey, usize>,
    /// The ways that payments take in turn, buyers first.
    ways: Vec<Vec<usize>>,
    next_way: usize,
    inbox: VecDeque<(usize, Input)>,
    now: Instant,
    ids: offset_protocol::machine::Rng,
    currency: Currency,
    replies: Vec<Outcome>,
    paid: usize,
    failed: usize,
    /// What it cost so far.
    pub cost: Cost,
    /// What the first host has on its disk, by key; kept if there is a map.
    pub first_records: Option<BTreeMap<Vec<u8>, Vec<u8>>>,
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
    /// Seconds that this thread worked for the first host.
    pub first_s: f64,
}

/// The identity of a host.
pub fn identity(host: usize) -> Identity {
    let mut private_key = [7; 32];
    private_key[..8].copy_from_slice(&(host as u64).to_le_bytes());
    Identity::from_private_key(&private_key)
}

impl Funders {
    /// Friends in a line that let each other owe anything; payments go from the first to the last.
    ///
    /// # Errors
    /// If the funders refuse to be configured.
    pub fn line(length: usize) -> Result<Funders> {
        let mut line = Funders::new(length)?;
        for at in 1..length {
            line.befriend(at - 1, at)?;
        }
        line.ways.push((0..length).collect());
        Ok(line)
    }

    /// A hub, which is the first, and so many friends of it, an even number; payments go through it, between pairs of friends.
    ///
    /// # Errors
    /// As of [`Funders::line`].
    pub fn star(friends: usize) -> Result<Funders> {
        let mut star = Funders::new(friends + 1)?;
        star.first_records = Some(BTreeMap::new());
        for friend in 1..=friends {
            star.befriend(0, friend)?;
        }
        star.ways = (1..=friends).step_by(2).flat_map(|a| [vec![a, 0, a + 1], vec![a + 1, 0, a]]).collect();
        Ok(star)
    }

    /// Lets payments go this way only.
    pub fn pay_along(&mut self, way: Vec<usize>) {
        (self.ways, self.next_way) = (vec![way], 0);
    }

    fn new(length: usize) -> Result<Funders> {
        let seed = Seed::from_number(1);
        let mut hosts = Vec::new();
        for number in 0..length {
            let signer: SharedSigner = Arc::new(identity(number));
            let config = FunderConfig { signer: signer.clone(), seed: seed.fork(&number.to_string()) };
            hosts.push(Host { key: signer.public_key(), signer, funder: Funder::restore(config, [])? });
        }
        let places = hosts.iter().enumerate().map(|(at, host)| (host.key, at)).collect();
        Ok(Funders {
            hosts,
            places,
            ways: Vec::new(),
            next_way: 0,
            inbox: VecDeque::new(),
            now: Instant::from_micros(1),
            ids: seed.fork("ids").rng(),
            currency: "USD".parse()?,
            replies: Vec::new(),
            paid: 0,
            failed: 0,
            cost: Cost::default(),
            first_records: None,
        })
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
            self.tell(us, FunderInput::LinkUp { friend });
        }
        self.run()
    }

    fn tell(&mut self, host: usize, input: FunderInput) {
        self.inbox.push_back((host, Input::Checked(input)));
    }

    fn command(&mut self, host: usize, command: Command) {
        let id = CommandId(self.ids.bytes());
        self.tell(host, FunderInput::Command { app: APP, id, command });
    }

    fn done(&mut self, host: usize, command: Command) -> Result<Answer> {
        self.command(host, command);
        self.run()?;
        match self.replies.pop().context("no reply")? {
            Outcome::Done(answer) => Ok(answer),
            Outcome::Refused(refusal) => bail!("refused: {refusal}"),
        }
    }

    /// Makes payments, `in_flight` at a time.
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
        let way = self.ways.get(self.next_way % self.ways.len().max(1)).cloned().unwrap_or_default();
        self.next_way += 1;
        let (&buyer, &seller) = way.first().zip(way.last()).context("a way has two ends")?;
        let invoice = Command::AddInvoice {
            invoice_id: InvoiceId(self.ids.bytes()),
            currency: self.currency,
            amount: AMOUNT,
            description: Default::default(),
            expires_at: None,
        };
        let Command::AddInvoice { invoice_id, currency, amount, .. } = invoice else { bail!("not an invoice") };
        self.command(seller, invoice);
        let route = List::truncated(way.iter().map(|host| self.hosts[*host].key));
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
        self.command(buyer, pay);
        Ok(())
    }

    /// Rounds over the hosts that something waits for, each with all of it, until nothing waits.
    fn run(&mut self) -> Result<()> {
        loop {
            let mut inputs: BTreeMap<usize, Vec<Input>> = BTreeMap::new();
            for (host, input) in std::mem::take(&mut self.inbox) {
                inputs.entry(host).or_default().push(input);
            }
            if inputs.is_empty() && !self.tick(&mut inputs) {
                return Ok(());
            }
            for (host, inputs) in inputs {
                self.turn(host, inputs)?;
            }
        }
    }

    fn turn(&mut self, host: usize, inputs: Vec<Input>) -> Result<()> {
        let (began, now) = ((host == 0).then(thread_seconds), self.now);
        let mut outputs = Vec::new();
        // Checking what came is part of its work.
        let checked = inputs.into_iter().map(|input| match input {
            Input::Checked(input) => Ok(input),
            Input::Said { from, message } => {
                Ok(FunderInput::Friend { friend: self.hosts[from].key, message: self.checked(from, host, message)? })
            }
        });
        let inputs = checked.collect::<Result<Vec<_>>>()?;
        offset_protocol::machine::turn(&mut self.hosts[host].funder, now, inputs, |output| outputs.push(output));
        self.cost.first_s += began.map_or(0.0, |began| thread_seconds() - began);
        outputs.into_iter().try_for_each(|output| self.carry_out(host, output))
    }

    /// Moves time to the next alarm; false if there is none soon.
    fn tick(&mut self, inputs: &mut BTreeMap<usize, Vec<Input>>) -> bool {
        let alarms = self.hosts.iter().filter_map(|host| host.funder.poll_timeout());
        let Some(at) = alarms.map(|alarm| alarm.at).min() else { return false };
        if at > self.now + Duration::from_secs(1) {
            return false;
        }
        self.now = self.now.max(at);
        let is_due = |host: &Host| host.funder.poll_timeout().is_some_and(|alarm| alarm.at <= self.now);
        let due = self.hosts.iter().enumerate().filter(|(_, host)| is_due(host));
        inputs.extend(due.map(|(at, _)| (at, vec![Input::Checked(FunderInput::Tick)])));
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
                if let Some(records) = self.first_records.as_mut().filter(|_| host == 0) {
                    for change in changes {
                        match change.value {
                            Some(value) => drop(records.insert(change.key, value)),
                            None => drop(records.remove(&change.key)),
                        }
                    }
                }
                self.tell(host, FunderInput::Durable(revision));
            }
            FunderOutput::Friend { friend, message } => {
                self.cost.messages += 1;
                let to = *self.places.get(&friend).context("unknown friend")?;
                self.inbox.push_back((to, Input::Said { from: host, message }));
            }
            FunderOutput::Reply { outcome, .. } => self.replies.push(outcome),
            FunderOutput::Event { event: Event::PaymentEnded(report), id, number, app } => {
                match report.state {
                    PaymentState::Paid { .. } => self.paid += 1,
                    _ => self.failed += 1,
                }
                if let Some(number) = number {
                    self.tell(host, FunderInput::Acknowledge { app, id, number });
                }
            }
            FunderOutput::Event { event: Event::InvoiceEnded(_), id, number: Some(number), app } => {
                self.tell(host, FunderInput::Acknowledge { app, id, number });
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
            FriendMessage::Limits(limits) => CheckedMessage::Limits(limits),
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
        let mut line = Funders::line(3).unwrap();
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
        let mut line = Funders::line(3).unwrap();
        let start = line.cost;
        line.pay(64, 1).unwrap();
        let alone = line.cost.revisions - start.revisions;
        let middle = line.cost;
        line.pay(64, 32).unwrap();
        let together = line.cost.revisions - middle.revisions;
        assert!(together * 8 < alone, "{together} revisions together, {alone} one by one");
    }
}
