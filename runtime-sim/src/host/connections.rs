//! All connections of one process.
//!
//! | from | what | to |
//! |---|---|---|
//! | network | answered, readable, writable, reset | the task of that link |
//! | machine | [`NetCommand`], resume, join | the task of that connection |
//! | tasks | [`NetEvent`], join ended | the process's inbox |
//!
//! 1. The machine hears `Closed` exactly once, last, of each connection that it ever heard of.
//! 2. Nothing is read while the machine wants nothing, or while the pipe to the other half of a tunnel is full.
//! 3. When one half of a tunnel ends, what it sent before is forwarded, then the other half closes in order.

use std::collections::{BTreeMap, BTreeSet};

use offset_protocol::channel::{ChannelEvent, CloseReason, SendError};
use offset_protocol::identity::SharedSigner;
use offset_protocol::machine::{Instant, Rng, Seed};
use offset_protocol::net::{Address, ConnId, NetCommand, NetEvent, Purpose};

use super::task::{Due, Io, Joined, MAX_OUT, Opening, PIPE_BYTES, Phase, Task};
use super::{HostId, HostInput};
use crate::net::LinkId;

pub(super) struct Connections {
    signer: SharedSigner,
    rng: Rng,
    /// `None`: somebody works on it.
    tasks: BTreeMap<ConnId, Option<Box<Task>>>,
    by_link: BTreeMap<LinkId, ConnId>,
    timers: BTreeSet<(Instant, ConnId)>,
    accepted: u64,
    /// What the machine has to hear.
    pub(super) inbox: Vec<HostInput>,
    /// Tasks to be looked at again.
    todo: Vec<ConnId>,
    /// Tasks with something to write that was said in this turn.
    unwritten: Vec<ConnId>,
}

impl Connections {
    pub(super) fn new(signer: SharedSigner, seed: &Seed) -> Self {
        Connections {
            signer,
            rng: seed.fork("connections").rng(),
            tasks: BTreeMap::new(),
            by_link: BTreeMap::new(),
            timers: BTreeSet::new(),
            accepted: 0,
            inbox: Vec::new(),
            todo: Vec::new(),
            unwritten: Vec::new(),
        }
    }

    /// When the next task wants something.
    pub(super) fn alarm(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// How many connections there are.
    pub(super) fn len(&self) -> usize {
        self.tasks.len()
    }

    // -- the network

    /// A peer's request was accepted.
    pub(super) fn on_accepted(&mut self, io: &mut Io<'_>, link: LinkId, purpose: Purpose, from: HostId) {
        let conn = ConnId::incoming(self.accepted);
        self.accepted += 1;
        let mut task = Task::incoming(conn, link, purpose, from);
        task.begin(io.now, self.signer.clone(), self.rng.seed());
        self.add(task);
    }

    /// Our own request was answered.
    pub(super) fn on_answer(&mut self, io: &mut Io<'_>, link: LinkId, accepted: bool) {
        let Some(mut task) = self.take_by_link(link) else { return };
        if !matches!(task.phase, Phase::Connecting { .. }) {
            return self.put(task);
        }
        if accepted {
            task.begin(io.now, self.signer.clone(), self.rng.seed());
        } else {
            self.end(io, &mut task, Ending::Cut);
        }
        self.put_and_drive(io, task);
    }

    /// Something can be read or written.
    pub(super) fn on_ready(&mut self, io: &mut Io<'_>, link: LinkId) {
        if let Some(&conn) = self.by_link.get(&link) {
            self.drive(io, conn);
        }
    }

    /// The link is broken.
    pub(super) fn on_reset(&mut self, io: &mut Io<'_>, link: LinkId) {
        let Some(mut task) = self.take_by_link(link) else { return };
        self.end(io, &mut task, Ending::Cut);
        self.put_and_drive(io, task);
    }

    // -- the clock

    pub(super) fn on_time(&mut self, io: &mut Io<'_>) {
        while let Some(&(at, conn)) = self.timers.first() {
            if at > io.now {
                return;
            }
            let Some(mut task) = self.take(conn) else { return };
            match (task.due(io.now), task.channel.as_mut()) {
                (Some(Due::Tick), Some(channel)) => channel.tick(io.now, &mut task.out),
                (Some(Due::Idle), _) => self.close(io, &mut task),
                (Some(Due::LetGo), _) => task.release(io),
                (Some(Due::GiveUp), _) => self.end(io, &mut task, Ending::Abort),
                (Some(Due::Tick) | None, _) => {}
            }
            self.put_and_drive(io, task);
        }
    }

    // -- the machine

    /// Carries out a command; a peer's address is `to` if it has a host.
    pub(super) fn command(&mut self, io: &mut Io<'_>, command: NetCommand, to: Option<(HostId, u16)>) {
        match command {
            NetCommand::Connect { conn, purpose, peer, .. } => {
                let Some((host, port)) = to else {
                    return self.inbox.push(HostInput::Net(NetEvent::Closed { conn }));
                };
                let link = io.network.connect(io.kernel, io.host, host, port);
                self.add(Task::outgoing(conn, link, purpose, peer, io.now));
            }
            NetCommand::Admit { conn } => self.with(io, conn, |io, task| {
                if let Some(channel) = &mut task.channel {
                    channel.admit(io.now, &mut task.out);
                }
            }),
            NetCommand::Send { conn, bytes } => {
                let Some(mut task) = self.take(conn) else { return };
                self.send(io, &mut task, bytes);
                self.put(task);
                if self.unwritten.last() != Some(&conn) {
                    self.unwritten.push(conn);
                }
            }
            NetCommand::Close { conn } => {
                let Some(mut task) = self.take(conn) else { return };
                self.close(io, &mut task);
                self.put_and_drive(io, task);
            }
        }
    }

    /// Writes what the machine has said since the last time: as in the real programs, all that one turn says to a peer goes
    /// out at once.
    pub(super) fn write_all(&mut self, io: &mut Io<'_>) {
        while let Some(conn) = self.unwritten.pop() {
            self.drive(io, conn);
        }
    }

    pub(super) fn resume(&mut self, io: &mut Io<'_>, conn: ConnId) {
        self.with(io, conn, |io, task| task.resume(io.now));
    }

    pub(super) fn join(&mut self, io: &mut Io<'_>, a: ConnId, b: ConnId) {
        let mut running = |conn| self.task(conn).is_some_and(|task| task.phase == Phase::Running);
        if !running(a) || !running(b) {
            // One of them ended before it heard of the tunnel: the other ends too.
            self.inbox.push(HostInput::JoinEnded { a, b });
            for conn in [a, b] {
                self.command(io, NetCommand::Close { conn }, None);
            }
            return;
        }
        for (conn, other) in [(a, b), (b, a)] {
            if let Some(task) = self.task(conn) {
                task.joined = Some(Joined { other, pair: (a, b), moved_at: io.now, blocked: false });
                task.resume(io.now);
            }
        }
        self.drive(io, a);
        self.drive(io, b);
    }

    // -- cheaters

    /// Connects and begins no handshake.
    pub(super) fn raw_connect(&mut self, io: &mut Io<'_>, conn: ConnId, to: Option<(HostId, u16)>) {
        let Some((host, port)) = to else { return self.inbox.push(HostInput::Net(NetEvent::Closed { conn })) };
        let link = io.network.connect(io.kernel, io.host, host, port);
        self.add(Task::raw(conn, link, io.now));
    }

    /// Puts something into the stream, past the channel.
    pub(super) fn raw(&mut self, io: &mut Io<'_>, conn: ConnId, bytes: &[u8]) {
        let Some(mut task) = self.take(conn) else { return };
        if matches!(task.phase, Phase::Connecting { .. } | Phase::Running) {
            task.out.extend_from_slice(bytes);
        }
        self.put_and_drive(io, task);
    }

    /// Reads no more.
    pub(super) fn deafen(&mut self, io: &mut Io<'_>, conn: ConnId) {
        self.with(io, conn, |_, task| task.deafen());
    }

    // -- inside

    fn with(&mut self, io: &mut Io<'_>, conn: ConnId, change: impl FnOnce(&mut Io<'_>, &mut Task)) {
        let Some(mut task) = self.take(conn) else { return };
        if task.phase == Phase::Running {
            change(io, &mut task);
        }
        self.put_and_drive(io, task);
    }

    /// Lets a task do what it can; then those that it gave something to do.
    fn drive(&mut self, io: &mut Io<'_>, conn: ConnId) {
        self.todo.push(conn);
        while let Some(conn) = self.todo.pop() {
            let Some(mut task) = self.take(conn) else { continue };
            while let Some(event) = task.next_event(io) {
                self.on_channel_event(io, &mut task, event);
            }
            task.flush(io);
            self.unblock_other(&task);
            self.put(task);
        }
    }

    fn on_channel_event(&mut self, io: &mut Io<'_>, task: &mut Task, event: ChannelEvent) {
        let conn = task.conn;
        match (event, task.opening) {
            (ChannelEvent::Identified { peer }, Opening::Theirs { from }) => {
                task.told = true;
                let from = from.to_string().parse::<Address>().unwrap_or_default();
                self.inbox.push(HostInput::Net(NetEvent::Incoming { conn, purpose: task.purpose, peer, from }));
            }
            (ChannelEvent::Opened { .. }, Opening::Ours { .. }) => {
                self.inbox.push(HostInput::Net(NetEvent::Opened { conn }));
                for message in std::mem::take(&mut task.early) {
                    self.send(io, task, message);
                }
            }
            (ChannelEvent::Identified { .. }, Opening::Ours { .. } | Opening::Raw)
            | (ChannelEvent::Opened { .. }, Opening::Theirs { .. } | Opening::Raw) => {}
            (ChannelEvent::Message(bytes), _) if task.joined.is_some() => {
                io.network.on_heard(task.link, task.side, &bytes);
                self.forward(io, task, bytes);
            }
            (ChannelEvent::Message(bytes), _) => {
                io.network.on_heard(task.link, task.side, &bytes);
                self.inbox.push(HostInput::Net(NetEvent::Message { conn, bytes }));
                task.pause();
            }
            (ChannelEvent::Closed(CloseReason::Cut), _) => self.end(io, task, Ending::Cut),
            (ChannelEvent::Closed(reason), _) => {
                if reason.is_accusation() {
                    io.network.accused.push((io.host, format!("a {:?} connection: {reason}", task.purpose)));
                }
                self.end(io, task, Ending::Orderly);
            }
        }
    }

    /// Hands a message to the other half of the tunnel.
    fn forward(&mut self, io: &mut Io<'_>, task: &mut Task, bytes: Vec<u8>) {
        let Some(joined) = &mut task.joined else { return };
        joined.moved_at = io.now;
        let Some(mut other) = self.take(joined.other) else { return };
        if let Some(back) = &mut other.joined {
            back.moved_at = io.now;
        }
        self.send(io, &mut other, bytes);
        joined.blocked = other.phase == Phase::Running && other.out.len() >= PIPE_BYTES;
        // It is written once everything that came with this message is forwarded; then this half may read again.
        if self.todo.last() != Some(&joined.other) {
            self.todo.push(joined.other);
        }
        self.put(other);
    }

    /// Lets the other half of a tunnel read again when this one has written enough.
    fn unblock_other(&mut self, task: &Task) {
        let Some(joined) = task.joined else { return };
        if task.out.len() <= PIPE_BYTES / 2
            && let Some(other) = self.task(joined.other)
            && let Some(back) = &mut other.joined
            && back.blocked
        {
            back.blocked = false;
            self.todo.push(joined.other);
        }
    }

    fn send(&mut self, io: &mut Io<'_>, task: &mut Task, bytes: Vec<u8>) {
        match (&task.phase, &mut task.channel) {
            (Phase::Running, Some(channel)) => match channel.send(io.now, &bytes, &mut task.out) {
                Ok(()) => io.network.on_said(task.link, task.side, &bytes),
                Err(SendError::NotOpen) => task.early.push(bytes),
                Err(SendError::Closed | SendError::TooLong { .. }) => {}
            },
            (Phase::Connecting { .. }, _) => task.early.push(bytes),
            (Phase::Running | Phase::Flushing { .. } | Phase::Lingering { .. } | Phase::Done, _) => {}
        }
        if task.out.len() > MAX_OUT {
            self.end(io, task, Ending::Abort);
        }
    }

    /// Closes in order.
    fn close(&mut self, io: &mut Io<'_>, task: &mut Task) {
        match (&task.phase, &mut task.channel) {
            (Phase::Running, Some(channel)) => {
                channel.refuse(io.now, &mut task.out);
                channel.close(io.now, &mut task.out);
                self.end(io, task, Ending::Orderly);
            }
            (Phase::Connecting { .. } | Phase::Running, _) => self.end(io, task, Ending::Abort),
            (Phase::Flushing { .. } | Phase::Lingering { .. } | Phase::Done, _) => {}
        }
    }

    /// The end of a connection, of whatever kind; nothing if it has ended already, but for letting go of a broken link.
    fn end(&mut self, io: &mut Io<'_>, task: &mut Task, ending: Ending) {
        let over = matches!(task.phase, Phase::Flushing { .. } | Phase::Lingering { .. } | Phase::Done);
        match (over, ending) {
            (_, Ending::Cut) => task.release(io),
            (_, Ending::Abort) => task.abort(io),
            (false, Ending::Orderly) => task.finish(io.now),
            (true, Ending::Orderly) => {}
        }
        if over {
            return;
        }
        if let Some(joined) = task.joined.take() {
            self.inbox.push(HostInput::JoinEnded { a: joined.pair.0, b: joined.pair.1 });
            if let Some(mut other) = self.take(joined.other) {
                other.joined = None;
                self.close(io, &mut other);
                self.todo.push(other.conn);
                self.put(other);
            }
        }
        if task.told {
            self.inbox.push(HostInput::Net(NetEvent::Closed { conn: task.conn }));
        }
    }

    fn task(&mut self, conn: ConnId) -> Option<&mut Task> {
        self.tasks.get_mut(&conn)?.as_deref_mut()
    }

    /// Takes a task out, to be put back.
    fn take(&mut self, conn: ConnId) -> Option<Box<Task>> {
        self.tasks.get_mut(&conn)?.take()
    }

    fn take_by_link(&mut self, link: LinkId) -> Option<Box<Task>> {
        let conn = *self.by_link.get(&link)?;
        self.take(conn)
    }

    /// Puts in a new task.
    fn add(&mut self, task: Task) {
        self.by_link.insert(task.link, task.conn);
        self.put(Box::new(task));
    }

    /// Puts a task back, and what is due with it among the timers; forgets one that is done.
    fn put(&mut self, mut task: Box<Task>) {
        let alarm = if task.phase == Phase::Done { None } else { task.alarm() };
        if task.timer != alarm {
            if let Some(at) = task.timer {
                self.timers.remove(&(at, task.conn));
            }
            self.timers.extend(alarm.map(|at| (at, task.conn)));
            task.timer = alarm;
        }
        if task.phase == Phase::Done {
            self.by_link.remove(&task.link);
            self.tasks.remove(&task.conn);
        } else {
            self.tasks.insert(task.conn, Some(task));
        }
    }

    fn put_and_drive(&mut self, io: &mut Io<'_>, task: Box<Task>) {
        let conn = task.conn;
        self.put(task);
        self.drive(io, conn);
    }
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// In order, after what waits was written.
    Orderly,
    /// It is broken already.
    Cut,
    /// By breaking it.
    Abort,
}
