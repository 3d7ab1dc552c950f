//! The world: all hosts, the network between them, and the one loop that lets everything happen in order.
//!
//! A world is a function of its seed and of what its owner does to it between steps. [`World::step`] lets one event happen
//! and says what it touched, so that a checker looks at that and at nothing else.
//!
//! | what | how |
//! |---|---|
//! | a process runs | inputs wait until its turn, a short random time later; so turns take several at once, as under load |
//! | a process writes | the disk takes its time; `Durable` comes after it, never before |
//! | a process crashes | its connections break (or fall silent, if the power failed), what was not flushed is lost or not |
//! | a person tells another something | a note, past the network; it arrives after a while whatever happens |
//!
//! Panics of machines are not caught: they are bugs, and the test that runs the world shows its seed.

mod steer;

use std::collections::{BTreeMap, VecDeque};

use offset_protocol::bytes::{Hash, PublicKey};
use offset_protocol::identity::SharedSigner;
use offset_protocol::machine::{Duration, Instant, Seed};
use offset_protocol::net::{Address, NetCommand};
use offset_protocol::persist::Change;
use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::disk::{Disk, Records};
use crate::host::{
    CrashPoint, Effect, Host, HostId, HostInput, LawBroken, Life, LinkNews, Pace, Program, Weight, Wish, io,
};
use crate::kernel::{Draw, Event, Kernel};
use crate::keys::Keys;
use crate::latency::Latency;
use crate::net::{Asked, Conditions, LinkId, NetCounts, Network};
use crate::people::Note;
use crate::signatures::{Registry, Signatures};
use crate::trace::{Keep, Trace};

/// How a world begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorldConfig {
    /// Which signatures.
    pub signatures: Signatures,
    /// How channels agree on keys.
    pub keys: Keys,
    /// How the network is when nothing is broken.
    pub conditions: Conditions,
    /// How long a note between people takes.
    pub note: Latency,
    /// What the trace keeps.
    pub keep: Keep,
}

/// What one step touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// When it was.
    pub at: Instant,
    /// Whom it touched.
    pub host: HostId,
    /// What it was.
    pub kind: StepKind,
}

/// Kinds of steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepKind {
    /// Bytes moved; no machine ran.
    Network,
    /// The host's machine took a turn.
    Turn {
        /// Whether it handed something to its disk: everything that it knows, at the end of the turn.
        wrote: bool,
    },
    /// A write reached the disk.
    Flushed,
    /// The host's program started.
    Booted,
    /// The host crashed at a point that a trap named.
    Crashed,
    /// A step of the plan is due; the owner does it.
    Plan(u32),
    /// Nothing: what was meant is no more.
    Stale,
}

/// How a host crashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Crash {
    /// The process dies; its system breaks its connections.
    Process,
    /// The power fails; nobody hears anything.
    Power,
}

/// A machine broke a law.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at {at:?} {name}: {law}")]
pub struct Broken {
    /// When.
    pub at: Instant,
    /// Which host.
    pub name: String,
    /// Which law.
    pub law: LawBroken,
}

/// How often things happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events of the queue.
    pub events: u64,
    /// Turns of machines.
    pub turns: u64,
    /// Writes that became durable.
    pub flushes: u64,
    /// Crashes.
    pub crashes: u64,
    /// Of the network.
    pub net: NetCounts,
}

/// A process that crashed by a trap starts again after this long.
const RESTART_AFTER: Duration = Duration::from_secs(3);
/// A note to somebody whose device is off is tried again after this long.
const NOTE_RETRY: Duration = Duration::from_secs(1);
/// Rule breaks that are remembered; the oldest go first.
const MAX_BLAMES: usize = 64;

/// A simulated world. See the module.
pub struct World {
    kernel: Kernel,
    network: Network,
    hosts: Vec<Host>,
    by_address: BTreeMap<Address, HostId>,
    registry: Registry,
    seed: Seed,
    note: Latency,
    notes: BTreeMap<u64, Note>,
    notes_sent: u64,
    turns: u64,
    crashes: u64,
    blames: VecDeque<(Instant, HostId, String)>,
    blamed: u64,
    accusation: Option<(HostId, String)>,
}

impl World {
    /// A world without hosts.
    pub fn new(seed: &Seed, config: WorldConfig) -> Self {
        World {
            kernel: Kernel::new(seed, config.keep),
            network: Network::new(config.conditions),
            hosts: Vec::new(),
            by_address: BTreeMap::new(),
            registry: Registry::new(config.signatures, config.keys, seed),
            seed: seed.fork("hosts"),
            note: config.note,
            notes: BTreeMap::new(),
            notes_sent: 0,
            turns: 0,
            crashes: 0,
            blames: VecDeque::new(),
            blamed: 0,
            accusation: None,
        }
    }

    /// Adds a host that is off. Its address is `hN`, with the ports that its program names.
    pub fn add_host(&mut self, program: Box<dyn Program>, pace: Pace, drift_ppm: i32, wall_off_ms: i64) -> HostId {
        let id = HostId(self.hosts.len() as u32);
        let address = id.to_string().parse::<Address>().unwrap_or_default();
        self.by_address.insert(address.clone(), id);
        let name = id.to_string();
        self.hosts.push(Host {
            id,
            address,
            signer: self.registry.identity(&name),
            program,
            disk: Disk::new(),
            clock: Clock::new(Instant::ZERO, drift_ppm, wall_off_ms),
            pace,
            seed: self.seed.fork(&name),
            lives: 0,
            life: None,
            paused_until: Instant::ZERO,
            disk_fails_until: Instant::ZERO,
            copy: None,
            retired: false,
            trap: None,
        });
        id
    }

    /// The identity of the host that is added as the `n`-th, from 0.
    pub fn key_of(&self, host: HostId) -> PublicKey {
        let added = self.hosts.get(host.0 as usize).map(|host| host.signer.public_key());
        added.unwrap_or_else(|| self.signer_of(host).public_key())
    }

    /// Signs as the host that is added as the `n`-th, from 0.
    pub(crate) fn signer_of(&self, host: HostId) -> SharedSigner {
        self.registry.identity(&host.to_string())
    }

    /// The address of a host's port.
    pub fn address_of(host: HostId, port: u16) -> Address {
        format!("{host}:{port}").parse().unwrap_or_default()
    }

    // -- questions

    /// What time it is.
    pub const fn now(&self) -> Instant {
        self.kernel.now
    }

    /// The hash of everything that happened.
    pub fn trace_hash(&self) -> Hash {
        self.kernel.trace.hash()
    }

    /// What happened.
    pub const fn trace(&self) -> &Trace {
        &self.kernel.trace
    }

    /// Takes what happened out of a world that has ended.
    pub(crate) fn into_trace(self) -> Trace {
        self.kernel.trace
    }

    /// How often things happened.
    pub fn counts(&self) -> Counts {
        Counts {
            events: self.kernel.trace.events(),
            turns: self.turns,
            flushes: self.hosts.iter().map(|host| host.disk.flushes()).sum(),
            crashes: self.crashes,
            net: self.network.counts,
        }
    }

    /// How many hosts there are.
    pub const fn hosts(&self) -> usize {
        self.hosts.len()
    }

    /// Whether a host's process runs.
    pub fn is_up(&self, host: HostId) -> bool {
        self.life(host).is_some()
    }

    /// Whether a host has left for good.
    pub fn is_retired(&self, host: HostId) -> bool {
        self.hosts.get(host.0 as usize).is_some_and(|host| host.retired)
    }

    /// The machine that runs on a host, if it is an `M`.
    pub fn machine<M: 'static>(&self, host: HostId) -> Option<&M> {
        self.life(host)?.process().machine().downcast_ref()
    }

    /// What a restart of the host would find on its disk.
    pub fn durable(&self, host: HostId) -> &Records {
        self.hosts[host.0 as usize].disk.durable()
    }

    /// What would be on the host's disk if everything that it has written became durable.
    pub fn written(&self, host: HostId) -> Records {
        self.hosts[host.0 as usize].disk.written()
    }

    /// What the host wrote last, if it is not durable yet.
    pub fn last_write(&self, host: HostId) -> &[Change] {
        self.hosts[host.0 as usize].disk.last_write()
    }

    /// Whether everything that the host wrote is durable.
    pub fn is_flushed(&self, host: HostId) -> bool {
        self.hosts[host.0 as usize].disk.waiting() == 0
    }

    /// How many bytes arrived at a host.
    pub fn bytes_to(&self, host: HostId) -> u64 {
        self.network.bytes_to(host)
    }

    /// How many connections a host has.
    pub fn connections(&self, host: HostId) -> usize {
        self.life(host).map_or(0, Life::connections)
    }

    /// Whether a note between people is on its way, or unread.
    pub fn has_notes(&self) -> bool {
        let unread = |host: &Host| host.life.as_ref().is_some_and(Life::has_unread_note);
        !self.notes.is_empty() || self.hosts.iter().any(unread)
    }

    /// What the host's monotonic clock shows.
    pub fn local_now(&self, host: HostId) -> Instant {
        self.hosts[host.0 as usize].clock.local(self.kernel.now)
    }

    /// Who was blamed for what, lately.
    pub fn blames(&self) -> impl Iterator<Item = &(Instant, HostId, String)> {
        self.blames.iter()
    }

    /// The first thing that a host said about another which no honest host does, and who said it.
    pub const fn accusation(&self) -> Option<&(HostId, String)> {
        self.accusation.as_ref()
    }

    /// How often anybody was blamed.
    pub const fn blamed(&self) -> u64 {
        self.blamed
    }

    fn life(&self, host: HostId) -> Option<&Life> {
        self.hosts.get(host.0 as usize)?.life.as_ref()
    }

    // -- the loop

    /// Lets the next event happen, if it happens at `until` or before.
    ///
    /// # Errors
    /// [`Broken`] if a machine broke a law of all machines.
    pub fn step(&mut self, until: Instant) -> Result<Option<Step>, Broken> {
        let Some((host, event)) = self.kernel.next(until) else { return Ok(None) };
        let at = self.kernel.now;
        let kind = match self.hosts.get(host.0 as usize) {
            _ if matches!(event, Event::Plan { .. }) => self.on_plan(event),
            Some(body) if body.paused_until > at && !matches!(event, Event::Boot) => {
                self.kernel.at(body.paused_until, host, event);
                StepKind::Stale
            }
            Some(_) => self.happen(host, event)?,
            None => StepKind::Stale,
        };
        self.listen()?;
        Ok(Some(Step { at, host, kind }))
    }

    /// Lets everything happen until `until`, without looking.
    ///
    /// # Errors
    /// [`Broken`] as in [`World::step`].
    pub fn run_until(&mut self, until: Instant) -> Result<(), Broken> {
        while self.step(until)?.is_some() {}
        self.wait_until(until);
        Ok(())
    }

    /// Lets time pass, when nothing happens any more before `until`.
    pub fn wait_until(&mut self, until: Instant) {
        self.kernel.now = self.kernel.now.max(until);
    }

    fn on_plan(&mut self, event: Event) -> StepKind {
        match event {
            Event::Plan { step } => StepKind::Plan(step),
            _ => StepKind::Stale,
        }
    }

    fn happen(&mut self, host: HostId, event: Event) -> Result<StepKind, Broken> {
        match event {
            Event::Syn { link, tries } => self.on_syn(host, link, tries),
            Event::SynAnswer { link, accepted } => {
                if self.network.on_answer(&mut self.kernel, link, accepted) {
                    return Ok(self.on_link(host, link, LinkNews::Answer { accepted }));
                }
            }
            Event::Arrive { link, side } => {
                if self.network.on_arrive(&mut self.kernel, link, side) {
                    return Ok(self.on_link(host, link, LinkNews::Ready));
                }
            }
            Event::Window { link, side } => {
                if self.network.on_window(&mut self.kernel, link, side) {
                    return Ok(self.on_link(host, link, LinkNews::Ready));
                }
            }
            Event::Reset { link, side } => {
                if self.network.on_reset(link, side) {
                    return Ok(self.on_link(host, link, LinkNews::Reset));
                }
            }
            Event::Turn { life } => {
                return if self.is_life(host, life) { self.turn(host) } else { Ok(StepKind::Stale) };
            }
            Event::Wake { life } => {
                return if self.is_life(host, life) { self.on_wake(host) } else { Ok(StepKind::Stale) };
            }
            Event::Flushed { life, revision } => {
                if !self.is_life(host, life) {
                    return Ok(StepKind::Stale);
                }
                if self.hosts[host.0 as usize].disk_fails_until > self.kernel.now {
                    self.die_of_disk(host);
                    return Ok(StepKind::Crashed);
                }
                self.hosts[host.0 as usize].disk.flush(revision);
                if self.spring(host, CrashPoint::Flushed) {
                    return Ok(StepKind::Crashed);
                }
                self.give(host, HostInput::Durable(revision));
                return Ok(StepKind::Flushed);
            }
            Event::Boot => return self.on_boot(host),
            Event::Note { number } => self.on_note(host, number),
            Event::Plan { .. } => {}
        }
        Ok(StepKind::Network)
    }

    /// A write failed: the program ends, and somebody starts it again.
    fn die_of_disk(&mut self, host: HostId) {
        self.hosts[host.0 as usize].disk.crash(0);
        self.crash(host, Crash::Process);
        self.boot_after(host, RESTART_AFTER);
    }

    fn is_life(&self, host: HostId, life: u32) -> bool {
        self.life(host).is_some_and(|current| current.number == life)
    }

    fn on_syn(&mut self, host: HostId, link: LinkId, tries: u8) {
        let Asked::Wanted { port, from } = self.network.on_syn(&mut self.kernel, link, tries) else { return };
        let body = &mut self.hosts[host.0 as usize];
        let purpose = body.program.ports().into_iter().find(|(open, _)| *open == port).map(|(_, purpose)| purpose);
        let accepted = body.life.as_mut().zip(purpose);
        self.network.answer(&mut self.kernel, link, accepted.is_some());
        if let Some((life, purpose)) = accepted {
            life.on_accepted(&mut io(&mut self.kernel, &mut self.network, host, &body.clock), link, purpose, from);
            life.settle(&mut self.kernel, host, &body.clock, body.pace.turn);
        }
    }

    fn on_link(&mut self, host: HostId, link: LinkId, news: LinkNews) -> StepKind {
        let body = &mut self.hosts[host.0 as usize];
        if let Some(life) = &mut body.life {
            life.on_link(&mut io(&mut self.kernel, &mut self.network, host, &body.clock), link, news);
            life.settle(&mut self.kernel, host, &body.clock, body.pace.turn);
        }
        StepKind::Network
    }

    fn on_wake(&mut self, host: HostId) -> Result<StepKind, Broken> {
        let body = &mut self.hosts[host.0 as usize];
        let Some(life) = &mut body.life else { return Ok(StepKind::Stale) };
        life.on_wake(&mut io(&mut self.kernel, &mut self.network, host, &body.clock));
        life.settle(&mut self.kernel, host, &body.clock, body.pace.turn);
        Ok(StepKind::Network)
    }

    fn on_boot(&mut self, host: HostId) -> Result<StepKind, Broken> {
        let body = &mut self.hosts[host.0 as usize];
        if body.life.is_some() || body.retired {
            return Ok(StepKind::Stale);
        }
        self.network.lighten(host);
        body.clock.restart(self.kernel.now);
        match Life::begin(&mut self.kernel, body) {
            Ok(()) => Ok(StepKind::Booted),
            Err(law) => Err(Broken { at: self.kernel.now, name: body.address.to_string(), law }),
        }
    }

    fn on_note(&mut self, host: HostId, number: u64) {
        if self.is_retired(host) {
            self.notes.remove(&number);
            return;
        }
        if !self.is_up(host) {
            return self.kernel.after(NOTE_RETRY, host, Event::Note { number });
        }
        if let Some(note) = self.notes.remove(&number) {
            self.give(host, HostInput::Note(note));
        }
    }

    fn turn(&mut self, host: HostId) -> Result<StepKind, Broken> {
        self.turns += 1;
        let body = &mut self.hosts[host.0 as usize];
        let Some(life) = &mut body.life else { return Ok(StepKind::Stale) };
        let speaks = life.hears_durable();
        let effects = match life.turn(&mut self.kernel, host, &body.clock) {
            Ok(effects) => effects,
            Err(law) => return Err(Broken { at: self.kernel.now, name: body.address.to_string(), law }),
        };
        let mut wrote = false;
        for effect in effects {
            wrote |= matches!(effect, Effect::Persist { .. });
            let Some(point) = self.carry_out(host, effect) else { continue };
            if self.is_trapped(host) {
                self.write_all(host);
            }
            let ahead = point == CrashPoint::Sent && !self.is_flushed(host);
            if self.spring(host, point) || (ahead && self.spring(host, CrashPoint::SentAhead)) {
                return Ok(StepKind::Crashed);
            }
        }
        self.write_all(host);
        if speaks && self.spring(host, CrashPoint::Said) {
            return Ok(StepKind::Crashed);
        }
        let body = &mut self.hosts[host.0 as usize];
        if let Some(life) = &mut body.life {
            life.settle(&mut self.kernel, host, &body.clock, body.pace.turn);
        }
        Ok(StepKind::Turn { wrote })
    }

    /// Whether the host may crash at a point that it passes: what it said before that has left it.
    fn is_trapped(&self, host: HostId) -> bool {
        self.hosts[host.0 as usize].trap.is_some()
    }

    fn write_all(&mut self, host: HostId) {
        let body = &mut self.hosts[host.0 as usize];
        if let Some(life) = &mut body.life {
            life.write_all(&mut io(&mut self.kernel, &mut self.network, host, &body.clock));
        }
    }

    /// Does what a process wants; names the point that it passed by that, if any.
    fn carry_out(&mut self, host: HostId, effect: Effect) -> Option<CrashPoint> {
        let (wish, point) = match effect {
            Effect::Net(command) => {
                let point = matches!(command, NetCommand::Send { .. }).then_some(CrashPoint::Sent);
                let to = match &command {
                    NetCommand::Connect { address, .. } => self.resolve(address),
                    NetCommand::Admit { .. } | NetCommand::Send { .. } | NetCommand::Close { .. } => None,
                };
                (Wish::Command(command, to), point)
            }
            Effect::Resume { conn } => (Wish::Resume(conn), None),
            Effect::Join { a, b } => (Wish::Join(a, b), None),
            Effect::RawConnect { conn, address } => (Wish::RawConnect(conn, self.resolve(&address)), None),
            Effect::Raw { conn, bytes } => (Wish::Raw(conn, bytes), None),
            Effect::Deafen { conn } => (Wish::Deafen(conn), None),
            Effect::Persist { revision, changes } => {
                for change in &changes {
                    self.kernel.trace.bytes(&change.key);
                    self.kernel.trace.bytes(change.value.as_deref().unwrap_or_default());
                }
                let body = &mut self.hosts[host.0 as usize];
                body.disk.write(revision, changes);
                let delay = body.pace.flush.draw(&mut self.kernel.dice(Draw::Flush, host.0.into()));
                self.kernel.after(delay, host, Event::Flushed { life: body.lives, revision });
                return Some(CrashPoint::Written);
            }
            Effect::Note { to, note } => {
                self.tell(to, note);
                return None;
            }
            Effect::Blame { what, weight } => {
                self.blame(host, what, weight);
                return None;
            }
            Effect::Stop => {
                // In order: what it said has left it. Whoever looks after the program starts it again.
                self.write_all(host);
                self.crash(host, Crash::Process);
                self.boot_after(host, RESTART_AFTER);
                return None;
            }
        };
        let body = &mut self.hosts[host.0 as usize];
        if let Some(life) = &mut body.life {
            life.carry_out(&mut io(&mut self.kernel, &mut self.network, host, &body.clock), wish);
        }
        point
    }

    /// Crashes the host if a trap waits at this point.
    fn spring(&mut self, host: HostId, point: CrashPoint) -> bool {
        let springs = self.hosts[host.0 as usize].passes(point);
        if springs {
            let mut dice = self.kernel.dice(Draw::Trap, host.0.into());
            let crash = if dice.chance(500) { Crash::Process } else { Crash::Power };
            if point == CrashPoint::SentAhead {
                self.hosts[host.0 as usize].disk.crash(0);
            }
            self.crash(host, crash);
            self.boot_after(host, RESTART_AFTER);
        }
        springs
    }

    fn blame(&mut self, host: HostId, what: String, weight: Weight) {
        self.blamed += 1;
        if weight == Weight::Accusation && self.accusation.is_none() {
            self.accusation = Some((host, what.clone()));
        }
        self.blames.push_back((self.kernel.now, host, what));
        if self.blames.len() > MAX_BLAMES {
            self.blames.pop_front();
        }
    }

    /// What the network noticed about channels.
    fn listen(&mut self) -> Result<(), Broken> {
        for (host, what) in std::mem::take(&mut self.network.accused) {
            self.blame(host, what, Weight::Accusation);
        }
        match self.network.misheard.take() {
            None => Ok(()),
            Some(what) => {
                Err(Broken { at: self.kernel.now, name: "network".to_owned(), law: LawBroken::Misheard { what } })
            }
        }
    }

    fn resolve(&self, address: &Address) -> Option<(HostId, u16)> {
        let (host, port) = address.as_str().split_once(':')?;
        let host = host.parse::<Address>().ok()?;
        Some((*self.by_address.get(&host)?, port.parse().ok()?))
    }
}
