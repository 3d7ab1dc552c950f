//! The world of funders and its loop: the next event, the turn that it causes, what that turn wants done.

use std::collections::BTreeMap;
use std::ops::Range;

use offset_funder_sm::funder::{CheckedMessage, Funder, FunderConfig, FunderInput, FunderOutput};
use offset_protocol::bytes::PublicKey;
use offset_protocol::friend::FriendMessage;
use offset_protocol::identity::Verified;
use offset_protocol::index::{Entry, EntryKey};
use offset_protocol::machine::{Duration, Instant, Machine, Seed, turn};
use offset_protocol::persist::{Change, Revision};

use super::build::seed_of;
use super::event::{Ask, Event, Post, Reply, Report, Slot};
use super::faults::Weather;
use super::index::{DEADLINE, Index};
use super::links::{Link, Neighbours, Received, Wish};
use super::people::People;
use super::watch::Watcher;
use super::{Counts, Laws};
use crate::check::{Invariant, Violation};
use crate::clock::Clock;
use crate::dice::Dice;
use crate::disk::Disk;
use crate::host::{CrashPoint, HostId, LawBroken, Trap};
use crate::latency::Latency;
use crate::queue::EventQueue;
use crate::result::Recorder;
use crate::signatures::{Registry, number_in};
use crate::trace::Trace;

/// A node that is on or off. Small: there may be a million.
pub(super) struct Node {
    /// `None`: off.
    pub(super) funder: Option<Funder>,
    /// Counts starts.
    pub(super) life: u32,
    pub(super) clock: Clock,
    /// When the earliest wake of this life rings; none is on its way if it is in the past.
    wake_at: Option<Instant>,
    /// When its last report reaches the index.
    report_at: Instant,
    /// What few nodes have.
    pub(super) rare: Option<Box<Rare>>,
}

/// What few nodes have.
#[derive(Debug, Default)]
pub(super) struct Rare {
    /// What is written is kept.
    pub(super) disk: Disk,
    pub(super) trap: Option<Trap>,
    /// It stands still before this.
    pub(super) paused_until: Instant,
    /// Its writes fail before this.
    pub(super) disk_fails_until: Instant,
}

impl Node {
    pub(super) fn new(funder: Funder, clock: Clock) -> Self {
        Node { funder: Some(funder), life: 0, clock, wake_at: None, report_at: Instant::ZERO, rare: None }
    }

    pub(super) fn disk(&self) -> Option<&Disk> {
        self.rare.as_ref().map(|rare| &rare.disk)
    }
}

/// The world.
pub(super) struct World {
    pub(super) now: Instant,
    pub(super) queue: EventQueue<Event>,
    pub(super) trace: Trace,
    pub(super) dice: Dice,
    /// For the laws of alarms: what they draw changes nothing else.
    pub(super) laws: Laws,
    pub(super) seed: Seed,
    pub(super) registry: Registry,
    /// The number of the first node among the hosts of the case.
    pub(super) first_host: u32,
    /// The numbers of the index servers among them.
    pub(super) index_hosts: Range<u32>,

    pub(super) nodes: Vec<Node>,
    pub(super) keys: Vec<PublicKey>,
    pub(super) neighbours: Neighbours,
    pub(super) links: Vec<Link>,
    pub(super) post: Post,
    pub(super) index: Index,
    pub(super) people: People,
    pub(super) weather: Weather,
    pub(super) watcher: Watcher,
    pub(super) latency: Latency,
    pub(super) recorder: Recorder,
    pub(super) counts: Counts,

    /// What people want of the node at hand.
    pub(super) errands: Vec<FunderInput>,
    outputs: Vec<FunderOutput>,
    /// A node with a disk wrote in this turn.
    wrote: bool,
    set: Vec<Entry>,
    removed: Vec<EntryKey>,
}

/// What a world is made of.
pub(super) struct Parts {
    pub(super) seed: Seed,
    pub(super) registry: Registry,
    pub(super) first_host: u32,
    pub(super) index_hosts: Range<u32>,
    pub(super) nodes: Vec<Node>,
    pub(super) keys: Vec<PublicKey>,
    pub(super) links: Vec<Link>,
    pub(super) people: People,
    pub(super) watcher: Watcher,
    pub(super) latency: Latency,
    pub(super) laws: Laws,
    pub(super) trace: Trace,
}

impl World {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts {
            seed,
            registry,
            first_host,
            index_hosts,
            nodes,
            keys,
            links,
            people,
            watcher,
            latency,
            laws,
            trace,
        } = parts;
        World {
            now: Instant::ZERO,
            queue: EventQueue::new(),
            trace,
            dice: Dice::new(&seed, "funds"),
            laws,
            registry,
            first_host,
            index_hosts,
            neighbours: Neighbours::new(nodes.len(), &links),
            nodes,
            keys,
            links,
            post: Post::default(),
            index: Index::default(),
            people,
            weather: Weather::new(&seed),
            watcher,
            latency,
            recorder: Recorder::default(),
            counts: Counts::default(),
            errands: Vec::new(),
            outputs: Vec::new(),
            wrote: false,
            set: Vec::new(),
            removed: Vec::new(),
            seed,
        }
    }

    pub(super) fn push(&mut self, delay: Duration, to: u32, event: Event) {
        self.queue.push(self.now + delay, to, event);
    }

    /// The index's number as a destination: behind all nodes.
    fn index_number(&self) -> u32 {
        self.nodes.len() as u32
    }

    /// The node of a key.
    pub(super) fn number_of(&self, key: &PublicKey) -> Option<u32> {
        number_in(key).filter(|&number| self.keys.get(number as usize) == Some(key))
    }

    pub(super) fn host(&self, node: u32) -> HostId {
        HostId(self.first_host + node)
    }

    pub(super) fn funder(&self, node: u32) -> Option<&Funder> {
        self.nodes.get(node as usize)?.funder.as_ref()
    }

    pub(super) fn violation(&self, invariant: Invariant, node: Option<u32>, what: String) -> Violation {
        Violation { invariant, at: self.now, host: node.map(|node| self.host(node)), what }
    }

    /// The next event until `until`; `None` if there is none.
    pub(super) fn step(&mut self, until: Instant) -> Result<Option<Event>, Violation> {
        let Some((key, event)) = self.queue.pop_until(until) else { return Ok(None) };
        self.now = key.at;
        let (kind, about) = event.describe();
        self.trace.event(key, kind, about, 0);
        if self.stands_still(key.to, event) {
            return Ok(Some(event));
        }
        match event {
            Event::Letter(slot) => self.on_letter(key.to, slot)?,
            Event::Durable { life, revision } => self.on_flushed(key.to, life, Revision(revision))?,
            Event::Wake { life } => self.on_wake(key.to, life)?,
            Event::Up { link, number } => {
                if self.nodes[key.to as usize].funder.is_some() && self.on_up(key.to, link, number) {
                    let friend = self.friend_over(key.to, link);
                    self.feed(key.to, FunderInput::LinkUp { friend })?;
                }
            }
            Event::Down { link, number } => {
                if self.on_down(key.to, link, number) {
                    let friend = self.friend_over(key.to, link);
                    self.feed(key.to, FunderInput::LinkDown { friend })?;
                }
            }
            Event::Dial { link } => self.on_dial(link),
            Event::Boot { life } => self.on_boot(key.to, life)?,
            Event::Report(slot) => {
                if let Some(report) = self.post.reports.take(slot) {
                    self.index.report(&self.keys[report.from as usize], &report);
                }
            }
            Event::Ask(slot) => self.on_ask(slot),
            Event::Answer(slot) => {
                if let Some(Reply { query, result, .. }) =
                    self.post.replies.take(slot).filter(|reply| self.lives(key.to, reply.life))
                {
                    self.feed(key.to, FunderInput::Routes { query, result })?;
                }
            }
            Event::Word(slot) => self.on_word(key.to, slot)?,
            Event::Operation | Event::Fault | Event::Look => {}
        }
        Ok(Some(event))
    }

    /// A node that stands still takes everything later, in the same order.
    fn stands_still(&mut self, to: u32, event: Event) -> bool {
        match event {
            Event::Letter(_)
            | Event::Durable { .. }
            | Event::Wake { .. }
            | Event::Up { .. }
            | Event::Down { .. }
            | Event::Answer(_)
            | Event::Word(_) => {}
            Event::Dial { .. }
            | Event::Boot { .. }
            | Event::Report(_)
            | Event::Ask(_)
            | Event::Operation
            | Event::Fault
            | Event::Look => return false,
        }
        let rare = self.nodes.get(to as usize).and_then(|node| node.rare.as_ref());
        let Some(until) = rare.map(|rare| rare.paused_until).filter(|&until| self.now < until) else { return false };
        self.queue.push(until, to, event);
        true
    }

    fn lives(&self, node: u32, life: u32) -> bool {
        let node = &self.nodes[node as usize];
        node.funder.is_some() && node.life == life
    }

    fn friend_over(&self, node: u32, link: u32) -> PublicKey {
        let link = &self.links[link as usize];
        self.keys[link.node(link.side_of(node).other()) as usize]
    }

    fn on_letter(&mut self, to: u32, slot: Slot) -> Result<(), Violation> {
        let Some(stamp) = self.post.letters.get(slot).map(|letter| letter.stamp) else { return Ok(()) };
        match self.receive(to, &stamp) {
            Received::TooEarly => {
                self.queue.push(self.now, to, Event::Letter(slot));
                Ok(())
            }
            Received::Lost => {
                self.post.letters.take(slot);
                self.counts.lost += 1;
                Ok(())
            }
            Received::InOrder => {
                let Some(letter) = self.post.letters.take(slot) else { return Ok(()) };
                self.counts.letters += 1;
                let friend = self.keys[stamp.from as usize];
                let message = self.checked(to, friend, letter.message);
                self.feed(to, FunderInput::Friend { friend, message })?;
                self.check_after_letter(to, stamp.from)
            }
        }
    }

    /// The message, if its friend signed it.
    pub(super) fn checked(&self, to: u32, friend: PublicKey, message: FriendMessage) -> CheckedMessage {
        let us = &self.keys[to as usize];
        let verifier = &*self.registry.verifier();
        match message {
            FriendMessage::Resume(resume) => CheckedMessage::Resume(resume),
            FriendMessage::Inconsistent(terms) => CheckedMessage::Inconsistent(terms),
            FriendMessage::Limits(limits) => CheckedMessage::Limits(limits),
            FriendMessage::Batch(batch) => {
                Verified::check(batch, friend, us, verifier).map_or(CheckedMessage::Forged, CheckedMessage::Batch)
            }
            FriendMessage::Reset(reset) => {
                Verified::check(reset, friend, us, verifier).map_or(CheckedMessage::Forged, CheckedMessage::Reset)
            }
        }
    }

    fn on_flushed(&mut self, node: u32, life: u32, revision: Revision) -> Result<(), Violation> {
        if !self.lives(node, life) {
            return Ok(());
        }
        self.counts.flushes += 1;
        self.watcher.on_durable(node);
        if let Some(rare) = &mut self.nodes[node as usize].rare {
            rare.disk.flush(revision);
            if self.passes(node, CrashPoint::Flushed) {
                self.crash_in_trap(node);
                return Ok(());
            }
        }
        self.feed(node, FunderInput::Durable(revision))?;
        if self.lives(node, life) && self.passes(node, CrashPoint::Said) {
            self.crash_in_trap(node);
        }
        Ok(())
    }

    fn on_wake(&mut self, node: u32, life: u32) -> Result<(), Violation> {
        if !self.lives(node, life) {
            return Ok(());
        }
        let state = &mut self.nodes[node as usize];
        state.wake_at = None;
        let due = state.funder.as_ref().and_then(Machine::poll_timeout).map(|alarm| state.clock.world(alarm.at));
        match due {
            Some(at) if at <= self.now => self.feed(node, FunderInput::Tick),
            Some(_) => {
                self.set_wake(node);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Gives a node an input, and what its person makes of the outputs, until there is nothing more to say.
    pub(super) fn feed(&mut self, node: u32, input: FunderInput) -> Result<(), Violation> {
        self.errands.push(input);
        self.run_errands(node)
    }

    /// Gives a node all that waits for it.
    pub(super) fn run_errands(&mut self, node: u32) -> Result<(), Violation> {
        while !self.errands.is_empty() {
            let state = &mut self.nodes[node as usize];
            let Some(funder) = &mut state.funder else {
                self.errands.clear();
                break;
            };
            self.counts.turns += 1;
            let now = state.clock.local(self.now);
            let mut outputs = std::mem::take(&mut self.outputs);
            let obeyed = self.laws.turn(funder, now, self.errands.drain(..), &mut outputs);
            for output in outputs.drain(..) {
                self.carry_out(node, output)?;
            }
            self.outputs = outputs;
            self.check_after_turn(node)?;
            obeyed.map_err(|law| self.violation(Invariant::Laws, Some(node), law.to_string()))?;
        }
        self.report(node);
        self.set_wake(node);
        if std::mem::take(&mut self.wrote) { self.check_after_write(node) } else { Ok(()) }
    }

    fn set_wake(&mut self, node: u32) {
        let state = &mut self.nodes[node as usize];
        let Some(alarm) = state.funder.as_ref().and_then(Machine::poll_timeout) else { return };
        let at = state.clock.world(alarm.at).max(self.now);
        if state.wake_at.is_none_or(|wake| at < wake) {
            state.wake_at = Some(at);
            let life = state.life;
            self.queue.push(at, node, Event::Wake { life });
        }
    }

    fn carry_out(&mut self, node: u32, output: FunderOutput) -> Result<(), Violation> {
        if self.nodes[node as usize].funder.is_none() {
            // It crashed at a point that an earlier output of this turn passed.
            return Ok(());
        }
        match output {
            FunderOutput::Persist { revision, changes } => self.on_write(node, revision, changes),
            FunderOutput::Friend { friend, message } => self.on_say(node, &friend, message),
            FunderOutput::DropLink { friend } => {
                if let Some(link) = self.link_to(node, &friend) {
                    self.break_link(link, super::links::Noticed::Soon);
                }
            }
            FunderOutput::Reply { id, outcome, .. } => return self.on_outcome(node, id, outcome),
            FunderOutput::Event { app, id, number, event } => {
                // First the person makes use of it, then acknowledges: a crash in between tells it again.
                self.on_news(node, event)?;
                if let Some(number) = number {
                    self.errands.push(FunderInput::Acknowledge { app, id, number });
                }
            }
            FunderOutput::Snapshot { events, .. } => {
                for kept in events {
                    let app = self.people.app;
                    self.on_news(node, kept.event)?;
                    self.errands.push(FunderInput::Acknowledge { app, id: kept.id, number: kept.number });
                }
            }
            FunderOutput::FindRoutes { query, request } => {
                let life = self.nodes[node as usize].life;
                let slot = self.post.asks.put(Ask { from: node, life, query, request });
                let delay = self.latency.draw(&mut self.dice);
                self.push(delay, self.index_number(), Event::Ask(slot));
            }
            FunderOutput::SetEntry(entry) => {
                self.removed.retain(|key| *key != entry.key());
                self.set.retain(|old| old.key() != entry.key());
                self.set.push(entry);
            }
            FunderOutput::RemoveEntry { friend, currency } => {
                self.set.retain(|entry| (entry.friend, entry.currency) != (friend, currency));
                self.removed.push(EntryKey { friend, currency });
            }
            FunderOutput::KeepLink { friend, .. } => self.on_wish(node, &friend, Wish::Keep),
            FunderOutput::StopLink { friend } => self.on_wish(node, &friend, Wish::Stop),
            FunderOutput::Report(_)
            | FunderOutput::SideRecordDurable { .. }
            | FunderOutput::EdgeFailed { .. }
            | FunderOutput::Listen { .. }
            | FunderOutput::StopListening { .. }
            | FunderOutput::UseIndex { .. }
            | FunderOutput::StopIndex { .. }
            | FunderOutput::Disagrees(_) => {}
        }
        Ok(())
    }

    fn on_write(&mut self, node: u32, revision: Revision, changes: Vec<Change>) {
        self.watcher.on_write(&changes);
        self.trace.bytes(&revision.0.to_le_bytes());
        let flush = self.weather.flush_of(node).draw(&mut self.dice);
        let state = &mut self.nodes[node as usize];
        let life = state.life;
        if let Some(rare) = &mut state.rare {
            if self.now < rare.disk_fails_until {
                self.crash_in_trap(node);
                return;
            }
            rare.disk.write(revision, changes);
            self.wrote = true;
            if self.passes(node, CrashPoint::Written) {
                self.crash_in_trap(node);
                return;
            }
        }
        self.push(flush, node, Event::Durable { life, revision: revision.0 });
    }

    fn on_say(&mut self, node: u32, friend: &PublicKey, message: FriendMessage) {
        match &message {
            // A signature stands for all that it covers.
            FriendMessage::Batch(batch) => self.trace.bytes(&batch.signature.0[..16]),
            FriendMessage::Reset(reset) => self.trace.bytes(&reset.signature.0[..16]),
            FriendMessage::Resume(resume) => self.trace.bytes(&resume.in_head.0[..16]),
            FriendMessage::Inconsistent(terms) => self.trace.bytes(&terms.reset_token.0[..16]),
            FriendMessage::Limits(limits) => self.trace.bytes(&offset_protocol::codec::encode(limits)),
        }
        let sent = self.send(node, friend, message);
        if sent && self.nodes[node as usize].rare.is_some() {
            let writing = self.nodes[node as usize].disk().is_some_and(|disk| disk.waiting() > 0);
            if self.passes(node, CrashPoint::Sent) || writing && self.passes(node, CrashPoint::SentAhead) {
                self.crash_in_trap(node);
            }
        }
    }

    /// What the node told the index in this turn leaves as one report.
    fn report(&mut self, node: u32) {
        if self.set.is_empty() && self.removed.is_empty() {
            return;
        }
        let (set, removed) = (std::mem::take(&mut self.set), std::mem::take(&mut self.removed));
        self.report_as(Report { from: node, anew: false, set, removed });
    }

    pub(super) fn report_as(&mut self, mut report: Report) {
        report.set.sort_unstable();
        report.removed.sort_unstable();
        let trip = self.latency.draw(&mut self.dice);
        let state = &mut self.nodes[report.from as usize];
        let at = (self.now + trip).max(state.report_at);
        state.report_at = at;
        let slot = self.post.reports.put(report);
        self.queue.push(at, self.index_number(), Event::Report(slot));
    }

    fn on_ask(&mut self, slot: Slot) {
        let Some(Ask { from, life, query, request }) = self.post.asks.take(slot) else { return };
        let trip = self.latency.draw(&mut self.dice);
        let (delay, result) = if self.now < self.index.off_until {
            (DEADLINE, Err(offset_funder_sm::funder::RouteFailure::Unreachable))
        } else {
            (trip, self.index.answer(query, request))
        };
        let slot = self.post.replies.put(Reply { life, query, result });
        self.push(delay, from, Event::Answer(slot));
    }

    /// Starts a node from its disk, unless it has been started meanwhile.
    pub(super) fn on_boot(&mut self, node: u32, life: u32) -> Result<(), Violation> {
        let state = &mut self.nodes[node as usize];
        if state.funder.is_some() || state.life != life {
            return Ok(());
        }
        state.life += 1;
        state.clock.restart(self.now);
        state.wake_at = None;
        let records = state.rare.as_ref().map(|rare| rare.disk.durable().clone()).unwrap_or_default();
        let life = state.life;
        let config = FunderConfig { signer: self.registry.numbered(node), seed: seed_of(&self.seed, node, life) };
        let mut funder = Funder::restore(config, records).map_err(|error| {
            let law = LawBroken::WillNotStart { why: error.to_string() };
            self.violation(Invariant::Laws, Some(node), law.to_string())
        })?;
        funder.tell_no_reports();
        self.nodes[node as usize].funder = Some(funder);
        self.counts.boots += 1;
        self.check_after_boot(node)?;
        self.report_as(Report { from: node, anew: true, set: Vec::new(), removed: Vec::new() });
        let app = self.people.app;
        let session = offset_funder_sm::funder::SessionId(u64::from(life));
        self.resume_deals(node);
        self.feed(node, FunderInput::Snapshot { session, app })
    }
}

impl Laws {
    /// One turn, and now and then the laws of alarms.
    pub(super) fn turn(
        &mut self,
        funder: &mut Funder,
        now: Instant,
        inputs: impl IntoIterator<Item = FunderInput>,
        outputs: &mut Vec<FunderOutput>,
    ) -> Result<(), LawBroken> {
        turn(funder, now, inputs, |output| outputs.push(output));
        let alarm = funder.poll_timeout();
        if alarm.is_some_and(|alarm| alarm.at <= now) {
            turn(funder, now, [FunderInput::Tick], |output| outputs.push(output));
            if let Some(alarm) = funder.poll_timeout().filter(|alarm| alarm.at <= now) {
                return Err(LawBroken::AlarmStays { now, alarm });
            }
        }
        if self.every == 0 || self.dice.below(u64::from(self.every)) != 0 {
            return Ok(());
        }
        let (before, second) = (funder.poll_timeout(), funder.poll_timeout());
        if before != second {
            return Err(LawBroken::AlarmRead { first: before, second });
        }
        let said = outputs.len();
        turn(funder, now, [FunderInput::Tick], |output| outputs.push(output));
        let (after, outputs) = (funder.poll_timeout(), outputs.len() - said);
        if outputs == 0 && after == before { Ok(()) } else { Err(LawBroken::EarlyTick { now, before, after, outputs }) }
    }
}

/// Latencies of disks that are not the usual one, extra delays: few nodes at any time.
pub(super) type FewNodes<T> = BTreeMap<u32, T>;
