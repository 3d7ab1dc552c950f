//! One life of a process, from its start to its crash: the process, its connections, what waits for it, when it wakes.

use offset_protocol::machine::Instant;
use offset_protocol::net::Purpose;

use super::connections::Connections;
use super::task::Io;
use super::{Boot, Effect, Host, HostId, HostInput, LawBroken, Process};
use crate::clock::Clock;
use crate::kernel::{Draw, Event, Kernel};
use crate::net::{LinkId, Network};
use crate::people::Note;

pub(crate) struct Life {
    /// Which life of its host.
    pub(crate) number: u32,
    process: Box<dyn Process>,
    connections: Connections,
    /// When the machine wants a tick. It changes in turns only, and every event asks.
    alarm: Option<Instant>,
    /// Whether a turn is on its way.
    turn_waits: bool,
    /// When the next wake-up is on its way to, in the world's time.
    wakes_at: Option<Instant>,
}

impl Life {
    /// Starts the host's program.
    pub(crate) fn begin(kernel: &mut Kernel, host: &mut Host) -> Result<(), LawBroken> {
        host.lives += 1;
        let number = host.lives;
        let seed = host.seed.fork(&format!("life {number}"));
        let (now, wall) = (host.clock.local(kernel.now), host.clock.wall(kernel.now));
        let boot =
            Boot { records: host.disk.durable(), signer: host.signer.clone(), seed: seed.fork("process"), now, wall };
        let process = host.program.start(boot).map_err(|why| LawBroken::WillNotStart { why })?;
        let connections = Connections::new(host.signer.clone(), &seed);
        let mut life = Life { number, process, connections, alarm: None, turn_waits: false, wakes_at: None };
        life.want_turn(kernel, host.id, host.pace.turn);
        host.life = Some(life);
        Ok(())
    }

    /// The machine.
    pub(crate) fn process(&self) -> &dyn Process {
        &*self.process
    }

    /// How many connections there are.
    pub(crate) fn connections(&self) -> usize {
        self.connections.len()
    }

    /// Whether the next turn tells the machine that something is durable: then it may say what it kept back.
    pub(crate) fn hears_durable(&self) -> bool {
        self.connections.inbox.iter().any(|input| matches!(input, HostInput::Durable(_)))
    }

    /// Whether a note has arrived that no turn has taken.
    pub(crate) fn has_unread_note(&self) -> bool {
        self.connections.inbox.iter().any(|input| matches!(input, HostInput::Note(_)))
    }

    /// Notes that have arrived and that no turn has taken.
    pub(crate) fn unread_notes(self) -> impl Iterator<Item = Note> {
        self.connections.inbox.into_iter().filter_map(|input| match input {
            HostInput::Note(note) => Some(note),
            HostInput::Net(_)
            | HostInput::JoinEnded { .. }
            | HostInput::Durable(_)
            | HostInput::Wall(_)
            | HostInput::NetworkReturned
            | HostInput::Drain
            | HostInput::Tick => None,
        })
    }

    /// Keeps an input for the next turn.
    pub(crate) fn push(&mut self, input: HostInput) {
        self.connections.inbox.push(input);
    }

    /// A peer's request for a connection is accepted.
    pub(crate) fn on_accepted(&mut self, io: &mut Io<'_>, link: LinkId, purpose: Purpose, from: HostId) {
        self.connections.on_accepted(io, link, purpose, from);
    }

    /// Something happened to a link of ours.
    pub(crate) fn on_link(&mut self, io: &mut Io<'_>, link: LinkId, news: LinkNews) {
        match news {
            LinkNews::Answer { accepted } => self.connections.on_answer(io, link, accepted),
            LinkNews::Ready => self.connections.on_ready(io, link),
            LinkNews::Reset => self.connections.on_reset(io, link),
        }
    }

    /// The alarm rang: what is due with the connections is done.
    pub(crate) fn on_wake(&mut self, io: &mut Io<'_>) {
        self.wakes_at = self.wakes_at.filter(|at| *at > io.kernel.now);
        self.connections.on_time(io);
    }

    /// Lets the machine take everything that waits.
    pub(crate) fn turn(&mut self, kernel: &mut Kernel, host: HostId, clock: &Clock) -> Result<Vec<Effect>, LawBroken> {
        self.turn_waits = false;
        let now = clock.local(kernel.now);
        // As in the real programs, a turn begins with what the clock on the wall shows.
        self.process.push(HostInput::Wall(clock.wall(kernel.now)));
        for input in self.connections.inbox.drain(..) {
            self.process.push(input);
        }
        let mut effects = Vec::new();
        self.process.turn(now, &mut kernel.dice(Draw::EarlyTick, host.0.into()), &mut effects)?;
        self.alarm = self.process.alarm().map(|alarm| alarm.at);
        Ok(effects)
    }

    /// Carries out what concerns connections.
    pub(crate) fn carry_out(&mut self, io: &mut Io<'_>, effect: Wish) {
        match effect {
            Wish::Command(command, to) => self.connections.command(io, command, to),
            Wish::Resume(conn) => self.connections.resume(io, conn),
            Wish::Join(a, b) => self.connections.join(io, a, b),
            Wish::RawConnect(conn, to) => self.connections.raw_connect(io, conn, to),
            Wish::Raw(conn, bytes) => self.connections.raw(io, conn, &bytes),
            Wish::Deafen(conn) => self.connections.deafen(io, conn),
        }
    }

    /// Writes what was said to peers since the last time.
    pub(crate) fn write_all(&mut self, io: &mut Io<'_>) {
        self.connections.write_all(io);
    }

    /// Sees to it that the next turn and the next wake-up come. Called after everything that may have changed them.
    pub(crate) fn settle(&mut self, kernel: &mut Kernel, host: HostId, clock: &Clock, pace: crate::latency::Latency) {
        let due = self.alarm.is_some_and(|at| at <= clock.local(kernel.now));
        if !self.connections.inbox.is_empty() || due {
            self.want_turn(kernel, host, pace);
        }
        // A turn that is on its way takes the machine's alarm with it.
        let machine = self.alarm.filter(|_| !self.turn_waits);
        let Some(next) = [machine, self.connections.alarm()].into_iter().flatten().min() else { return };
        let at = clock.world(next).max(kernel.now);
        // A later one that is on its way already finds out by itself that it is too early.
        if self.wakes_at.is_none_or(|wakes_at| at < wakes_at) {
            self.wakes_at = Some(at);
            kernel.at(at, host, Event::Wake { life: self.number });
        }
    }

    fn want_turn(&mut self, kernel: &mut Kernel, host: HostId, pace: crate::latency::Latency) {
        if !self.turn_waits {
            self.turn_waits = true;
            let delay = pace.draw(&mut kernel.dice(Draw::Turn, host.0.into()));
            kernel.after(delay, host, Event::Turn { life: self.number });
        }
    }
}

/// What happened to a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkNews {
    /// Our request was answered.
    Answer { accepted: bool },
    /// It can be read or written.
    Ready,
    /// It is broken.
    Reset,
}

/// An effect that concerns connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// A command, and the host and port of its address if there is such a host.
    Command(offset_protocol::net::NetCommand, Option<(HostId, u16)>),
    /// Read on.
    Resume(offset_protocol::net::ConnId),
    /// Forward between the two.
    Join(offset_protocol::net::ConnId, offset_protocol::net::ConnId),
    /// Connect without a handshake, to this host and port if there is such a host.
    RawConnect(offset_protocol::net::ConnId, Option<(HostId, u16)>),
    /// Put something into the stream.
    Raw(offset_protocol::net::ConnId, Vec<u8>),
    /// Read no more.
    Deafen(offset_protocol::net::ConnId),
}

/// What a task needs of the world, for this host.
pub(crate) fn io<'a>(kernel: &'a mut Kernel, network: &'a mut Network, host: HostId, clock: &Clock) -> Io<'a> {
    let now = clock.local(kernel.now);
    Io { kernel, network, now, host }
}
