//! Funders joined by links in memory: disks that lose what was not flushed, links that drop, hosts that crash. For tests and
//! fuzz targets.
// A step of a test that fails is a test that fails.
#![allow(clippy::unwrap_used)]
// Tests use all of it, targets do not.
#![cfg_attr(not(test), allow(dead_code))]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use offset_protocol::app::{
    Answer, ChannelReport, Command, Event, FriendReport, IndexAddress, Outcome, Refusal, ReportChange,
};
use offset_protocol::bytes::{CommandId, InvoiceId, PaymentId, PublicKey};
use offset_protocol::codec::List;
use offset_protocol::friend::FriendMessage;
use offset_protocol::fuzz::Cheap;
use offset_protocol::identity::{SharedSigner, Verified};
use offset_protocol::index::{Edge, MultiRoute, RoutePart};
use offset_protocol::machine::{Duration, Instant, Machine, Rng, Seed};
use offset_protocol::money::{Currency, Rate};
use offset_protocol::payment::{CancelReason, Invoice};
use offset_protocol::persist::{Change, Revision};

use crate::funder::{
    CheckedMessage, FoundRoutes, Funder, FunderConfig, FunderInput, FunderOutput, RouteFailure, RouteQuery,
};

pub(super) type Disk = BTreeMap<Vec<u8>, Vec<u8>>;

pub(super) struct Host {
    pub(super) funder: Funder,
    pub(super) disk: Disk,
    pub(super) unflushed: Option<(Revision, Vec<Change>)>,
    pub(super) replies: BTreeMap<CommandId, Outcome>,
    pub(super) events: Vec<(CommandId, Option<u64>, Event)>,
    pub(super) bytes_written: usize,
    births: u64,
}

pub(super) struct Net {
    pub(super) now: Instant,
    pub(super) hosts: Vec<Host>,
    pub(super) links: BTreeSet<(usize, usize)>,
    pub(super) wires: BTreeMap<(usize, usize), VecDeque<FriendMessage>>,
    /// What the index servers answer.
    pub(super) routes: Result<Vec<MultiRoute>, RouteFailure>,
    pub(super) queries: Vec<RouteQuery>,
    /// Edges that requests came back from, as the index servers' client is told.
    pub(super) failed: Vec<(Edge, CancelReason)>,
    pub(super) messages: usize,
    commands: u64,
    wishes: BTreeSet<(usize, usize)>,
    /// Who says what its own node would not: its records need not make sense.
    pub(super) liar: Option<usize>,
}

pub(super) const APP: PublicKey = PublicKey([0xaa; 32]);

pub(super) fn usd() -> Currency {
    "USD".parse().unwrap()
}

fn signer(host: usize) -> SharedSigner {
    Arc::new(Cheap(key(host)))
}

pub(super) fn key(host: usize) -> PublicKey {
    PublicKey([host as u8 + 1; 32])
}

pub(super) fn name(host: usize) -> offset_protocol::app::Name {
    format!("node{host}").parse().unwrap()
}

fn pair(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}

impl Host {
    fn new(host: usize) -> Self {
        Host {
            funder: born(host, 0, &Disk::new()),
            disk: Disk::new(),
            unflushed: None,
            replies: BTreeMap::new(),
            events: Vec::new(),
            bytes_written: 0,
            births: 0,
        }
    }

    pub(super) fn friend(&self, friend: usize) -> Option<FriendReport> {
        self.funder.full_report().into_iter().find_map(|change| match change {
            ReportChange::Friend(report) if report.public_key == key(friend) => Some(report),
            _ => None,
        })
    }

    pub(super) fn balance(&self, friend: usize) -> i128 {
        self.friend(friend).and_then(|report| report.currencies.first().map(|currency| currency.balance)).unwrap_or(0)
    }
}

fn born(host: usize, births: u64, disk: &Disk) -> Funder {
    let config = FunderConfig { signer: signer(host), seed: Seed::from_number(host as u64 * 1_000_003 + births) };
    Funder::restore(config, disk.iter().map(|(key, value)| (key.clone(), value.clone()))).unwrap()
}

impl Net {
    pub(super) fn new(hosts: usize) -> Self {
        let mut net = Net {
            now: Instant::from_micros(1),
            hosts: (0..hosts).map(Host::new).collect(),
            links: BTreeSet::new(),
            wires: BTreeMap::new(),
            routes: Ok(Vec::new()),
            queries: Vec::new(),
            failed: Vec::new(),
            messages: 0,
            commands: 0,
            wishes: BTreeSet::new(),
            liar: None,
        };
        for host in 0..hosts {
            let server = IndexAddress { public_key: key(200), address: "127.0.0.1:1".parse().unwrap() };
            net.done(host, Command::AddIndex { server, name: name(50) });
        }
        net
    }

    /// Hosts in a line, friends with their neighbours, each letting the other owe it `limit`.
    pub(super) fn line(hosts: usize, limit: u128, rate: Rate) -> Self {
        let mut net = Net::new(hosts);
        for host in 1..hosts {
            net.befriend(host - 1, host, limit, rate);
        }
        net
    }

    pub(super) fn befriend(&mut self, a: usize, b: usize, limit: u128, rate: Rate) {
        for (us, friend) in [(a, b), (b, a)] {
            self.done(us, Command::AddFriend { public_key: key(friend), relays: List::new(), name: name(friend) });
            self.done(us, Command::OpenCurrency { name: name(friend), currency: usd() });
            self.done(us, Command::SetMaxDebt { name: name(friend), currency: usd(), max_debt: limit });
            self.done(us, Command::SetRate { name: name(friend), currency: usd(), rate });
        }
        self.connect(a, b);
        self.run();
    }

    pub(super) fn feed(&mut self, host: usize, input: FunderInput) {
        self.hosts[host].funder.handle(self.now, input);
    }

    pub(super) fn command(&mut self, host: usize, command: Command) -> CommandId {
        self.commands += 1;
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.commands.to_le_bytes());
        self.feed(host, FunderInput::Command { app: APP, id: CommandId(id), command });
        CommandId(id)
    }

    /// Gives a command, runs until quiet, and takes the reply.
    pub(super) fn ask(&mut self, host: usize, command: Command) -> Outcome {
        let id = self.command(host, command);
        self.run();
        self.hosts[host].replies.remove(&id).expect("every command gets a reply")
    }

    pub(super) fn done(&mut self, host: usize, command: Command) -> Answer {
        match self.ask(host, command) {
            Outcome::Done(answer) => answer,
            Outcome::Refused(refusal) => panic!("refused: {refusal}"),
        }
    }

    pub(super) fn refused(&mut self, host: usize, command: Command) -> Refusal {
        match self.ask(host, command) {
            Outcome::Done(answer) => panic!("done: {answer:?}"),
            Outcome::Refused(refusal) => refusal,
        }
    }

    pub(super) fn connect(&mut self, a: usize, b: usize) {
        self.wishes.insert(pair(a, b));
        if self.links.insert(pair(a, b)) {
            self.wires.insert((a, b), VecDeque::new());
            self.wires.insert((b, a), VecDeque::new());
            self.feed(a, FunderInput::LinkUp { friend: key(b) });
            self.feed(b, FunderInput::LinkUp { friend: key(a) });
        }
    }

    /// Drops a link: what is on the wire is lost.
    pub(super) fn cut(&mut self, a: usize, b: usize) {
        if self.links.remove(&pair(a, b)) {
            self.wires.remove(&(a, b));
            self.wires.remove(&(b, a));
            self.feed(a, FunderInput::LinkDown { friend: key(b) });
            self.feed(b, FunderInput::LinkDown { friend: key(a) });
        }
    }

    /// The process dies: all but the disk is lost.
    pub(super) fn crash(&mut self, host: usize) {
        let linked: Vec<_> = self.links.iter().copied().filter(|(a, b)| *a == host || *b == host).collect();
        for (a, b) in linked {
            self.cut(a, b);
        }
        let state = &mut self.hosts[host];
        state.births += 1;
        state.unflushed = None;
        state.funder = born(host, state.births, &state.disk);
    }

    /// Makes the last changes durable.
    pub(super) fn flush(&mut self, host: usize) {
        let state = &mut self.hosts[host];
        let Some((revision, changes)) = state.unflushed.take() else { return };
        for Change { key, value } in changes {
            state.bytes_written += key.len() + value.as_ref().map_or(0, Vec::len);
            match value {
                Some(value) => state.disk.insert(key, value),
                None => state.disk.remove(&key),
            };
        }
        self.feed(host, FunderInput::Durable(revision));
    }

    /// Takes what a host says and puts it where it belongs.
    pub(super) fn drain(&mut self, host: usize) {
        while let Some(output) = self.hosts[host].funder.poll_output() {
            self.carry_out(host, output);
        }
    }

    fn carry_out(&mut self, host: usize, output: FunderOutput) {
        let state = &mut self.hosts[host];
        match output {
            FunderOutput::Persist { revision, changes } => {
                assert!(state.unflushed.is_none(), "two revisions in flight");
                state.unflushed = Some((revision, changes));
            }
            FunderOutput::Friend { friend, message } => {
                let friend = usize::from(friend.0[0]) - 1;
                self.messages += 1;
                if let Some(wire) = self.wires.get_mut(&(host, friend)) {
                    wire.push_back(message);
                }
            }
            FunderOutput::Reply { id, outcome, .. } => {
                assert!(state.replies.insert(id, outcome).is_none(), "two replies to one command");
            }
            FunderOutput::Event { id, number, event, .. } => state.events.push((id, number, event)),
            FunderOutput::FindRoutes { query, request } => {
                // A server answers for the amount that it was asked for.
                let fits =
                    |option: &&MultiRoute| option.parts.iter().map(|part| part.amount).sum::<u128>() == request.amount;
                let found = |options: &Vec<MultiRoute>| FoundRoutes {
                    options: options.iter().filter(fits).cloned().collect(),
                    capped: false,
                };
                let result = self.routes.as_ref().map(found).map_err(|failure| *failure);
                self.queries.push(request);
                self.feed(host, FunderInput::Routes { query, result });
            }
            FunderOutput::EdgeFailed { edge, reason, .. } => self.failed.push((edge, reason)),
            FunderOutput::DropLink { friend } => {
                let friend = usize::from(friend.0[0]) - 1;
                self.cut(host, friend);
            }
            FunderOutput::Report(_)
            | FunderOutput::Snapshot { .. }
            | FunderOutput::SideRecordDurable { .. }
            | FunderOutput::SetEntry(_)
            | FunderOutput::RemoveEntry { .. }
            | FunderOutput::Listen { .. }
            | FunderOutput::StopListening { .. }
            | FunderOutput::KeepLink { .. }
            | FunderOutput::StopLink { .. }
            | FunderOutput::UseIndex { .. }
            | FunderOutput::StopIndex { .. }
            | FunderOutput::Disagrees(_) => {}
        }
    }

    /// Delivers one message, if one waits.
    pub(super) fn deliver(&mut self, from: usize, to: usize) -> bool {
        let Some(message) = self.wires.get_mut(&(from, to)).and_then(VecDeque::pop_front) else { return false };
        let verifier = Cheap(key(to));
        let message = match message {
            FriendMessage::Resume(resume) => CheckedMessage::Resume(resume),
            FriendMessage::Inconsistent(terms) => CheckedMessage::Inconsistent(terms),
            FriendMessage::Limits(limits) => CheckedMessage::Limits(limits),
            FriendMessage::Batch(batch) => {
                CheckedMessage::Batch(Verified::check(batch, key(from), &key(to), &verifier).unwrap())
            }
            FriendMessage::Reset(reset) => {
                CheckedMessage::Reset(Verified::check(reset, key(from), &key(to), &verifier).unwrap())
            }
        };
        self.feed(to, FunderInput::Friend { friend: key(from), message });
        true
    }

    /// Everything that can happen happens, until nothing more does.
    pub(super) fn run(&mut self) {
        for _ in 0..100_000 {
            let mut quiet = true;
            for host in 0..self.hosts.len() {
                self.drain(host);
                quiet &= self.hosts[host].unflushed.is_none();
                self.flush(host);
                self.drain(host);
            }
            let wires: Vec<_> = self.wires.keys().copied().collect();
            for (from, to) in wires {
                quiet &= !self.deliver(from, to);
            }
            if quiet && !self.tick() {
                return;
            }
        }
        panic!("never quiet");
    }

    /// Moves time to the next alarm; false if there is none within a second.
    pub(super) fn tick(&mut self) -> bool {
        let due = self.hosts.iter().filter_map(|host| host.funder.poll_timeout()).map(|alarm| alarm.at).min();
        let Some(at) = due.filter(|at| *at <= self.now + Duration::from_secs(1)) else { return false };
        self.now = self.now.max(at);
        for host in 0..self.hosts.len() {
            self.feed(host, FunderInput::Tick);
        }
        true
    }

    /// Every link that was wished for is up, and everything happens.
    pub(super) fn heal(&mut self) {
        for (a, b) in self.wishes.clone() {
            self.connect(a, b);
        }
        self.run();
    }

    /// Both ends of every friendship agree, and nothing is frozen.
    pub(super) fn check_quiet(&self) {
        for (a, b) in self.wishes.iter().copied() {
            let (Some(left), Some(right)) = (self.hosts[a].friend(b), self.hosts[b].friend(a)) else { continue };
            assert!(matches!(left.channel, ChannelReport::Consistent { .. }), "inconsistent: {:?}", left.channel);
            for (ours, theirs) in left.currencies.iter().zip(right.currencies.iter()) {
                assert_eq!(ours.balance, -theirs.balance, "{a} and {b} disagree");
                assert_eq!((ours.out_frozen, ours.in_frozen), (0, 0), "{a} and {b}: frozen");
                assert_eq!((theirs.out_frozen, theirs.in_frozen), (0, 0), "{b} and {a}: frozen");
            }
        }
    }

    /// A restart from the disk would be the very node that runs.
    ///
    /// Says nothing while a change waits for its revision.
    pub(super) fn check_restore(&self, host: usize) {
        let state = &self.hosts[host];
        if state.unflushed.is_some() || !state.funder.changes.is_empty() || !state.funder.touched.is_empty() {
            return;
        }
        let config = FunderConfig { signer: signer(host), seed: Seed::from_number(0) };
        let records = state.disk.iter().map(|(key, value)| (key.clone(), value.clone()));
        let again = Funder::rebuild(config, records).unwrap();
        let offline = |report: Vec<ReportChange>| {
            report
                .into_iter()
                .map(|change| match change {
                    ReportChange::Friend(friend) => ReportChange::Friend(FriendReport { online: false, ..friend }),
                    other => other,
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(offline(again.full_report()), offline(state.funder.full_report()));
        assert!(again.transits == state.funder.transits, "transits of node {host} differ after a restart");
        assert!(again.payments == state.funder.payments, "payments of node {host} differ after a restart");
        assert!(again.invoices == state.funder.invoices, "invoices of node {host} differ after a restart");
        assert_eq!(again.open_payments, state.funder.open_payments);
        for funder in [&again, &state.funder].into_iter().filter(|_| self.liar != Some(host)) {
            let found = funder.inspect();
            assert!(found.is_sound(), "node {host}: {:#?}", found.findings);
        }
    }

    pub(super) fn invoice(&mut self, seller: usize, number: u64, amount: u128) -> Invoice {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&number.to_le_bytes());
        let command = Command::AddInvoice {
            invoice_id: InvoiceId(id),
            currency: usd(),
            amount,
            description: Default::default(),
            expires_at: None,
        };
        match self.done(seller, command) {
            Answer::Invoice(invoice) => invoice,
            other => panic!("{other:?}"),
        }
    }
}

/// A part along these hosts.
pub(super) fn part(hosts: &[usize], amount: u128, fees: u128) -> RoutePart {
    RoutePart { route: List::truncated(hosts.iter().map(|host| key(*host))), amount, fees }
}

pub(super) fn multi(parts: Vec<RoutePart>) -> MultiRoute {
    MultiRoute { parts: List::try_from(parts).unwrap() }
}

pub(super) fn payment_id(number: u64) -> PaymentId {
    let mut id = [0xbb; 16];
    id[..8].copy_from_slice(&number.to_le_bytes());
    PaymentId(id)
}

pub(super) fn dice(seed: u64) -> Rng {
    Seed::from_number(seed).rng()
}
