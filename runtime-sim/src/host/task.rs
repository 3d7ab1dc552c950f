//! One connection of a process, as the real programs' connection task drives it: a link, a secure channel, what waits to be
//! written, and whether more may be read.

use offset_protocol::channel::{ChannelConfig, ChannelEvent, SecureChannel};
use offset_protocol::identity::SharedSigner;
use offset_protocol::limits::KEEPALIVE_SILENCE;
use offset_protocol::machine::{Duration, Instant, Seed};
use offset_protocol::net::{ConnId, Purpose};

use super::HostId;
use crate::kernel::Kernel;
use crate::net::{LinkId, Network, Read, Side};
use offset_protocol::bytes::PublicKey;

/// Bytes that may wait for a slow reader; beyond them it is disconnected. As in the real programs.
pub(super) const MAX_OUT: usize = 4 << 20;
/// Bytes that may wait in one direction of a tunnel. As in the real programs.
pub(super) const PIPE_BYTES: usize = 256 * 1_024;
/// How long a connection may take to be made. As in the real programs.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// How long the last bytes may take. As in the real programs.
const FLUSH_LIMIT: Duration = Duration::from_secs(3);
/// How long the peer's end is awaited after ours. As in the real programs.
const LINGER_LIMIT: Duration = Duration::from_secs(1);
/// A peer that takes no byte for this long is gone; a tunnel through which nothing moves for this long ends.
const STALL_LIMIT: Duration = KEEPALIVE_SILENCE;
/// Bytes read at once.
const READ_BYTES: usize = 64 * 1_024;

/// What a task needs of the world.
pub(crate) struct Io<'a> {
    pub(crate) kernel: &'a mut Kernel,
    pub(crate) network: &'a mut Network,
    /// What the host's clock shows.
    pub(crate) now: Instant,
    pub(crate) host: HostId,
}

/// Who opened the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opening {
    /// This process, to reach this peer.
    Ours { peer: PublicKey },
    /// Somebody at this host.
    Theirs { from: HostId },
    /// This process, to say what no channel says.
    Raw,
}

/// How much of the peer is heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// Whatever it says.
    Freely,
    /// One message; the next when the machine says so.
    OneByOne { paused: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// No answer to our request for a connection yet.
    Connecting {
        until: Instant,
    },
    Running,
    /// The channel is closed; its last bytes are on their way.
    Flushing {
        until: Instant,
    },
    /// All is written; the peer's end is awaited.
    Lingering {
        until: Instant,
    },
    Done,
}

/// The other half of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Joined {
    pub(super) other: ConnId,
    /// The two as the machine named them.
    pub(super) pair: (ConnId, ConnId),
    /// When something last moved this way.
    pub(super) moved_at: Instant,
    /// The other's pipe is full: nothing is read.
    pub(super) blocked: bool,
}

pub(super) struct Task {
    pub(super) conn: ConnId,
    pub(super) link: LinkId,
    pub(super) side: Side,
    pub(super) purpose: Purpose,
    pub(super) opening: Opening,
    pub(super) phase: Phase,
    pub(super) channel: Option<SecureChannel>,
    /// Sealed, not written yet.
    pub(super) out: Vec<u8>,
    /// Messages that wait for the channel to open.
    pub(super) early: Vec<Vec<u8>>,
    pub(super) reading: Reading,
    pub(super) joined: Option<Joined>,
    /// Whether the machine has heard of the connection, and so must hear of its end.
    pub(super) told: bool,
    /// When the first of the bytes in `out` began to wait.
    stalled_at: Option<Instant>,
    /// The entry among the timers.
    pub(super) timer: Option<Instant>,
}

impl Task {
    pub(super) fn outgoing(conn: ConnId, link: LinkId, purpose: Purpose, peer: PublicKey, now: Instant) -> Self {
        let phase = Phase::Connecting { until: now + CONNECT_LIMIT };
        Self::new(conn, (link, Side::Caller), purpose, Opening::Ours { peer }, phase)
    }

    pub(super) fn incoming(conn: ConnId, link: LinkId, purpose: Purpose, from: HostId) -> Self {
        Self::new(conn, (link, Side::Callee), purpose, Opening::Theirs { from }, Phase::Running)
    }

    /// A cheater's connection without a channel. Nothing is ever read from it.
    pub(super) fn raw(conn: ConnId, link: LinkId, now: Instant) -> Self {
        let phase = Phase::Connecting { until: now + CONNECT_LIMIT };
        Self::new(conn, (link, Side::Caller), Purpose::Friend, Opening::Raw, phase)
    }

    fn new(conn: ConnId, (link, side): (LinkId, Side), purpose: Purpose, opening: Opening, phase: Phase) -> Self {
        let reading = match (purpose, opening) {
            (Purpose::NodeRelay, Opening::Theirs { .. }) => Reading::OneByOne { paused: false },
            (_, Opening::Ours { .. } | Opening::Raw)
            | (Purpose::NodeIndex | Purpose::IndexIndex | Purpose::AppNode | Purpose::Friend, Opening::Theirs { .. }) => {
                Reading::Freely
            }
        };
        Task {
            conn,
            link,
            side,
            purpose,
            opening,
            phase,
            channel: None,
            out: Vec::new(),
            early: Vec::new(),
            reading,
            joined: None,
            told: matches!(opening, Opening::Ours { .. } | Opening::Raw),
            stalled_at: None,
            timer: None,
        }
    }

    /// The stream stands: the channel begins.
    pub(super) fn begin(&mut self, now: Instant, signer: SharedSigner, seed: Seed) {
        let config = ChannelConfig { purpose: self.purpose, signer, seed };
        self.phase = Phase::Running;
        let channel = match self.opening {
            Opening::Raw => return,
            Opening::Ours { peer } => {
                let mut channel = SecureChannel::initiator(config, peer, now);
                channel.start(now, &mut self.out);
                channel
            }
            Opening::Theirs { .. } => SecureChannel::responder(config, now),
        };
        self.channel = Some(channel);
    }

    fn may_hear(&self) -> bool {
        let paused = matches!(self.reading, Reading::OneByOne { paused: true }) && self.joined.is_none();
        self.phase == Phase::Running && !paused && self.joined.is_none_or(|joined| !joined.blocked)
    }

    /// The next event of the channel, if the machine may hear it now; reads as long as there is none.
    pub(super) fn next_event(&mut self, io: &mut Io<'_>) -> Option<ChannelEvent> {
        while self.may_hear() {
            let channel = self.channel.as_mut()?;
            if let Some(event) = channel.poll_event() {
                return Some(event);
            }
            match io.network.read(io.kernel, self.link, self.side, READ_BYTES) {
                Read::Bytes(bytes) => channel.receive(io.now, &bytes, &mut self.out),
                Read::Nothing => return None,
                Read::End => channel.lost(io.now),
            }
        }
        None
    }

    /// Hears no more of the peer until [`Task::resume`].
    pub(super) fn pause(&mut self) {
        if let (Reading::OneByOne { paused }, Some(channel)) = (&mut self.reading, &mut self.channel) {
            *paused = true;
            channel.pause();
        }
    }

    /// Hears nothing any more.
    pub(super) fn deafen(&mut self) {
        self.reading = Reading::OneByOne { paused: true };
    }

    pub(super) fn resume(&mut self, now: Instant) {
        if let (Reading::OneByOne { paused }, Some(channel)) = (&mut self.reading, &mut self.channel) {
            *paused = false;
            channel.resume(now);
        }
    }

    /// Writes what there is room for, and goes on to the next phase of an end when all is written.
    pub(super) fn flush(&mut self, io: &mut Io<'_>) {
        if !self.out.is_empty() && !matches!(self.phase, Phase::Connecting { .. } | Phase::Done) {
            let written = io.network.write(io.kernel, self.link, self.side, &self.out);
            self.out.drain(..written);
            self.stalled_at = match (self.out.is_empty(), written) {
                (true, _) => None,
                (false, 0) => self.stalled_at.or(Some(io.now)),
                (false, _) => Some(io.now),
            };
        }
        if self.out.is_empty() && matches!(self.phase, Phase::Flushing { .. }) {
            io.network.finish(io.kernel, self.link, self.side);
            self.phase = Phase::Lingering { until: io.now + LINGER_LIMIT };
        }
        if matches!(self.phase, Phase::Lingering { .. }) {
            self.await_end(io);
        }
    }

    /// Throws away what still comes, until the peer's end.
    fn await_end(&mut self, io: &mut Io<'_>) {
        loop {
            match io.network.read(io.kernel, self.link, self.side, READ_BYTES) {
                Read::Bytes(_) => {}
                Read::Nothing => return,
                Read::End => return self.release(io),
            }
        }
    }

    /// The channel is closed: what waits is still written.
    pub(super) fn finish(&mut self, now: Instant) {
        self.phase = Phase::Flushing { until: now + FLUSH_LIMIT };
    }

    /// Lets go of the link.
    pub(super) fn release(&mut self, io: &mut Io<'_>) {
        self.phase = Phase::Done;
        io.network.release(io.kernel, self.link, self.side);
    }

    /// Breaks the link.
    pub(super) fn abort(&mut self, io: &mut Io<'_>) {
        self.phase = Phase::Done;
        io.network.abort(io.kernel, self.link, self.side);
    }

    /// When something is due.
    pub(super) fn alarm(&self) -> Option<Instant> {
        let phase = match self.phase {
            Phase::Connecting { until } | Phase::Flushing { until } | Phase::Lingering { until } => Some(until),
            Phase::Running => self.channel.as_ref().and_then(SecureChannel::poll_timeout).map(|alarm| alarm.at),
            Phase::Done => None,
        };
        let stalled = self.stalled_at.map(|at| at + STALL_LIMIT);
        [phase, stalled, self.idle_at()].into_iter().flatten().min()
    }

    fn idle_at(&self) -> Option<Instant> {
        self.joined.filter(|_| self.phase == Phase::Running).map(|joined| joined.moved_at + STALL_LIMIT)
    }

    /// What is due, if anything.
    pub(super) fn due(&self, now: Instant) -> Option<Due> {
        if self.stalled_at.is_some_and(|at| at + STALL_LIMIT <= now) {
            return Some(Due::GiveUp);
        }
        if self.idle_at().is_some_and(|at| at <= now) {
            return Some(Due::Idle);
        }
        match self.phase {
            Phase::Connecting { until } if until <= now => Some(Due::GiveUp),
            Phase::Flushing { until } | Phase::Lingering { until } if until <= now => Some(Due::LetGo),
            Phase::Running => self.alarm().filter(|at| *at <= now).map(|_| Due::Tick),
            Phase::Connecting { .. } | Phase::Flushing { .. } | Phase::Lingering { .. } | Phase::Done => None,
        }
    }
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// The channel wants a tick.
    Tick,
    /// The peer takes nothing, or never answered.
    GiveUp,
    /// The tunnel is idle.
    Idle,
    /// The end has taken long enough.
    LetGo,
}
