//! One connection: a task that owns its socket and its secure channel, so that encryption runs on all cores.
//!
//! | from | what | through |
//! |---|---|---|
//! | state thread | admit, send, resume, join, close | [`Mail`], bounded; overflow ends the connection |
//! | peer | messages | the [`Outlet`], bounded: while it is full nothing is read |
//! | peer, joined | messages | a pipe to the other task, bounded in the same way |
//!
//! 1. Nothing is read while a message waits for room, so that a fast peer is slowed by TCP and not buffered for.
//! 2. The task goes on writing whatever it waits for, and never waits for its own writes before it reads: two peers that
//!    flood each other cannot block each other.
//! 3. A socket that takes too little (`wire::LEAST_DRAIN_PER_S` on average) for `Bounds::stall` while something waits for
//!    it ends its connection.
//! 4. Messages that cost something before the machine hears them are looked at a few at a time, within a rate if the peer
//!    pays for them, and not at all behind one that ends the connection (`checks`).
//! 5. The outlet hears `Closed` exactly once, last, if it ever heard of the connection.
//!
//! What waits in memory is bounded by the mailbox, the wire and one message, whatever the peer does; and for all connections
//! together by the [`budget`].

pub mod budget;
mod checks;
pub mod counters;
mod join;
mod mail;
mod parts;
pub mod rate;
#[cfg(test)]
mod tests;
mod time;
mod wire;

use std::cell::RefCell;
use std::future::Future;
use std::io::{self, Read};
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};

use offset_protocol::channel::{ChannelEvent, CloseReason};
use offset_protocol::machine::{Duration, Instant};
use offset_protocol::net::NetEvent;
use offset_protocol::relay::MAX_RELAY_MESSAGE;
use smol::Timer;

use budget::{Account, Charge};
pub use budget::{Budget, LEAST_BUDGET};
use checks::Checks;
pub use checks::{Handed, Payer};
pub use counters::NetCounters;
pub use join::JoinEnd;
use join::JoinHalf;
pub use join::{JOIN_IDLE, PIPE_BYTES, PipeLimits, join};
pub use mail::Mail;
use mail::{End, Room};
pub(crate) use parts::{Bounds, Opening, Parts};
pub use parts::{Outlet, Reading, Whence};
use wire::{Drain, WIRE_BYTES, WIRE_SLACK, Wire};

/// A peer that takes too little for this long, while something waits for it, is gone, if nothing else is said. Chosen freely:
/// as long as its silence may be; longer makes no difference, because then the system and the tunnel end by themselves.
pub const STALL_LIMIT: Duration = offset_protocol::limits::KEEPALIVE_SILENCE;
/// How long the last bytes may take. Within the five seconds in which a program closes.
const FLUSH_LIMIT: Duration = Duration::from_secs(3);
/// How long we listen for the peer's end after ours, so that the system does not discard what we sent last.
const LINGER_LIMIT: Duration = Duration::from_secs(1);
/// Bytes read at once: most records of the greatest length are then whole, and opened where they lie.
const READ_BYTES: usize = 128 * 1024;
/// Rounds of work before other tasks get their turn; fewer if messages cost much ([`checks`]).
const ROUNDS: usize = 32;

thread_local! {
    /// One buffer per thread, so that an idle connection holds none.
    static READ_BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    /// The channel is closed; its last bytes are on their way.
    Flushing {
        until: Instant,
    },
    /// All is sent; the peer's end is awaited.
    Lingering {
        until: Instant,
    },
    Done,
}

/// The task of one connection; a future that ends with it.
pub(crate) struct Connection {
    parts: Parts,
    phase: Phase,
    open: bool,
    /// Where its messages come from, since it opened.
    whence: Option<Whence>,
    /// Whether the outlet knows of this connection.
    known: bool,
    /// We asked the channel to close: what the peer still says is of no interest.
    closing: bool,
    /// Whether the machine lets us read on ([`Reading::OneByOne`]).
    paused: bool,
    /// Whether the channel knows that we do not read.
    channel_paused: bool,
    ended_by_peer: bool,
    maybe_readable: bool,
    wire: Wire,
    /// A message that waits for room.
    pending: Option<Vec<u8>>,
    join: Option<JoinHalf>,
    /// What looking at its messages costs.
    checks: Checks,
    /// When the peer may send on through its tunnel, or have its messages looked at.
    blocked_until: Option<Instant>,
    /// With little memory for all: its tunnel takes the next message when the other end has taken the last.
    waits_for_clear: bool,
    drain: Drain,
    /// Since when a message comes that is not whole yet.
    coming_since: Option<Instant>,
    /// Bytes in the mailbox that there was no room for.
    mail_left: usize,
    account: Account,
    charge: Charge,
    timer: Timer,
    timer_at: Option<Instant>,
}

impl Connection {
    /// The task. An outgoing channel says its first bytes.
    pub(crate) fn new(mut parts: Parts) -> Self {
        let mut wire = Wire::default();
        parts.channel.start(parts.clock.now(), wire.buffer());
        let known = matches!(parts.opening, Opening::Ours { .. });
        let account = parts.bounds.budget.account(parts.mail.clone());
        let charge = account.charge();
        Connection {
            parts,
            phase: Phase::Running,
            open: false,
            whence: None,
            known,
            closing: false,
            paused: false,
            channel_paused: false,
            ended_by_peer: false,
            maybe_readable: true,
            wire,
            pending: None,
            join: None,
            checks: Checks::default(),
            blocked_until: None,
            waits_for_clear: false,
            drain: Drain::default(),
            coming_since: None,
            mail_left: 0,
            account,
            charge,
            timer: Timer::never(),
            timer_at: None,
        }
    }

    /// One round of everything that can be done without waiting. Whether anything was.
    fn round(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let ticked = self.tick(cx, now);
        let mailed = self.take_mail(cx, now);
        let forwarded = self.take_forwarded(cx, now);
        let written = self.write(cx, now);
        let delivered = self.deliver(cx, now);
        let read = self.read(cx, now);
        ticked || mailed || forwarded || written || delivered || read
    }

    // -- from the state thread

    fn take_mail(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        if self.phase != Phase::Running {
            return false;
        }
        let room = if self.open { Room::Bytes(self.room()) } else { Room::NotOpen };
        let taken = self.parts.mail.take(cx, room);
        let mut moved = !taken.messages.is_empty();
        self.mail_left = taken.left;
        if taken.orders.admit {
            self.parts.channel.admit(now, self.wire.buffer());
            moved = true;
        }
        if taken.orders.resume {
            self.paused = false;
            moved = true;
        }
        if let Some(half) = taken.orders.join {
            half.charge_to(&self.account);
            (self.join, self.paused) = (Some(half), false);
            moved = true;
        }
        for message in taken.messages {
            self.send(now, &message);
        }
        match taken.end {
            None => moved,
            Some(End::Close) => self.begin_close(now),
            Some(End::Overflow) => self.abandon("reads too slowly"),
            Some(End::GiveWay) => {
                self.parts.counters.ended.add(counters::GAVE_WAY);
                self.phase = Phase::Done;
                true
            }
        }
    }

    /// Frames of the joined connection, once no message of the machine waits before them.
    fn take_forwarded(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let mut moved = false;
        while self.open && !self.closing && self.room() > 0 {
            let Some(join) = &self.join else { break };
            match join.poll_next(cx) {
                Poll::Pending => break,
                Poll::Ready(Some(message)) => self.send(now, &message),
                Poll::Ready(None) => return self.begin_close(now),
            }
            moved = true;
        }
        moved
    }

    fn send(&mut self, now: Instant, message: &[u8]) {
        self.parts.counters.messages_out.fetch_add(1, Relaxed);
        if let Err(error) = self.parts.channel.send(now, message, self.wire.buffer()) {
            tracing::debug!(conn = ?self.parts.conn, %error, "a message was not sent");
        }
    }

    /// Bytes that may still be sealed.
    fn room(&self) -> usize {
        let waiting = self.wire.waiting();
        if waiting > 0 && self.parts.bounds.budget.is_tight() { 0 } else { WIRE_BYTES.saturating_sub(waiting) }
    }

    /// Tells the budget what this connection holds.
    fn count(&mut self, now: Instant) {
        if self.wire.waiting() == 0 && self.parts.bounds.budget.is_tight() {
            self.wire.release();
        }
        let pending = self.pending.as_ref().map_or(0, Vec::capacity);
        self.charge.set(self.wire.room() + self.parts.channel.held() + pending + self.mail_left);
        self.coming_since = match self.parts.channel.incomplete() {
            0 => None,
            _ => self.coming_since.or(Some(now)),
        };
        let since = [self.drain.waits_since(), self.coming_since];
        self.account.waits_since(since.into_iter().flatten().min());
        self.parts.bounds.budget.relieve(now, self.parts.bounds.stall);
    }

    // -- to the socket

    fn write(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        if self.phase == Phase::Done {
            return false;
        }
        if self.wire.waiting() == 0 {
            return self.flushed(now);
        }
        let stall = self.parts.bounds.stall;
        match self.wire.poll_write(cx, &self.parts.stream) {
            Poll::Ready(Ok(written)) => {
                self.parts.counters.writes.fetch_add(1, Relaxed);
                self.parts.counters.bytes_out.fetch_add(written as u64, Relaxed);
                // A long message may take a slow reader longer than a tunnel may be idle. A keepalive leaves nothing behind.
                if self.wire.waiting() > 0
                    && let Some(join) = &self.join
                {
                    join.moves_until(now);
                }
                self.drain.on_written(now, written, self.wire.waiting(), stall);
                true
            }
            Poll::Ready(Err(error)) => self.broken(now, &error),
            Poll::Pending => {
                self.drain.on_written(now, 0, self.wire.waiting(), stall);
                // The channel's own bytes come on top of the messages; a peer that makes it talk must also listen.
                self.wire.waiting() > 2 * WIRE_BYTES + WIRE_SLACK + offset_protocol::limits::MAX_FRAME
                    && self.abandon("reads too slowly")
            }
        }
    }

    fn flushed(&mut self, now: Instant) -> bool {
        match self.phase {
            Phase::Flushing { .. } if self.ended_by_peer => self.phase = Phase::Done,
            Phase::Flushing { .. } => {
                // If the socket is gone already there is no end to wait for.
                let shut = self.parts.stream.get_ref().shutdown(Shutdown::Write);
                self.phase = if shut.is_ok() { Phase::Lingering { until: now + LINGER_LIMIT } } else { Phase::Done };
            }
            Phase::Running | Phase::Lingering { .. } | Phase::Done => return false,
        }
        true
    }

    // -- to the machine

    fn deliver(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let mut moved = false;
        while self.phase == Phase::Running {
            if self.pending.is_some() && !self.poll_hand_over(cx, now) {
                break;
            }
            let Some(event) = self.parts.channel.poll_event() else { break };
            moved = true;
            self.on_event(now, event);
        }
        moved
    }

    /// Whether the pending message is out of the way.
    fn poll_hand_over(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        if self.closing || self.checks.is_over() {
            self.pending = None;
            return true;
        }
        if let Some(join) = &self.join {
            self.blocked_until = join.blocked_until(now);
            if let Some(until) = self.blocked_until {
                // Who waits because we say so is not idle.
                join.moves_until(until);
                return false;
            }
            return match join.poll_forward(cx, now, &mut self.pending) {
                Poll::Pending => false,
                Poll::Ready(Ok(())) => true,
                // The other end is gone; we close when all it left is sent.
                Poll::Ready(Err(join::Gone)) => {
                    self.pending = None;
                    true
                }
            };
        }
        // No message comes before the channel has opened.
        let Some(whence) = &self.whence else { return false };
        self.blocked_until = self.checks.blocked_until(now);
        if self.blocked_until.is_some() || self.checks.is_turn_over() || self.paused {
            return false;
        }
        let Poll::Ready(handed) = self.parts.outlet.poll_message(cx, whence, &mut self.pending) else { return false };
        let (bounds, opening) = (&self.parts.bounds, &self.parts.opening);
        self.checks.count(now, handed, || match opening {
            Opening::Theirs { from, .. } => Some(bounds.checks_of(from, now)),
            Opening::Ours { .. } => None,
        });
        self.paused = self.parts.reading == Reading::OneByOne;
        true
    }

    fn on_event(&mut self, now: Instant, event: ChannelEvent) {
        match event {
            ChannelEvent::Identified { peer } => {
                if let Opening::Theirs { purpose, from, .. } = &self.parts.opening {
                    let (conn, purpose, from) = (self.parts.conn, *purpose, from.clone());
                    let event = NetEvent::Incoming { conn, purpose, peer, from };
                    self.known = true;
                    self.parts.outlet.incoming(self.parts.mail.clone(), event);
                }
            }
            ChannelEvent::Opened { peer } => {
                self.open = true;
                let (Opening::Ours { purpose } | Opening::Theirs { purpose, .. }) = self.parts.opening;
                self.whence = Some(Whence { conn: self.parts.conn, purpose, peer });
                match &mut self.parts.opening {
                    Opening::Ours { .. } => self.parts.outlet.event(NetEvent::Opened { conn: self.parts.conn }),
                    Opening::Theirs { ticket, .. } => ticket.give_back(),
                }
            }
            ChannelEvent::Message(message) => {
                self.parts.counters.messages_in.fetch_add(1, Relaxed);
                self.pending = Some(message);
                self.coming_since = None;
            }
            ChannelEvent::Closed(reason) => {
                self.parts.counters.ended.add(counters::name_of(&reason));
                self.log_end(reason);
                self.open = false;
                self.join = None;
                self.phase = Phase::Flushing { until: now + FLUSH_LIMIT };
            }
        }
    }

    fn log_end(&self, reason: CloseReason) {
        let conn = self.parts.conn;
        match reason {
            CloseReason::Orderly | CloseReason::Cut | CloseReason::Silent | CloseReason::Refused => {
                tracing::debug!(?conn, %reason, "connection closed");
            }
            CloseReason::Deadline
            | CloseReason::WrongVersion { .. }
            | CloseReason::WrongPurpose { .. }
            | CloseReason::WrongPeer { .. }
            | CloseReason::BadHandshake
            | CloseReason::BadIdentity
            | CloseReason::HandshakeTooLong
            | CloseReason::Forged
            | CloseReason::Misbehaved(_)
            | CloseReason::Unsendable(_) => tracing::info!(?conn, %reason, "connection closed"),
        }
    }

    // -- from the socket

    fn may_read(&self) -> bool {
        match self.phase {
            Phase::Running => {
                let heard = !self.closing && !self.checks.is_over();
                !self.ended_by_peer && heard && self.pending.is_none() && !self.undecided()
            }
            Phase::Lingering { .. } => !self.ended_by_peer,
            Phase::Flushing { .. } | Phase::Done => false,
        }
    }

    /// Whether the outlet was asked about the peer and has not answered.
    fn undecided(&self) -> bool {
        !self.open && self.known && matches!(self.parts.opening, Opening::Theirs { .. })
    }

    fn read(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        if !self.may_read() || (self.paused && self.phase == Phase::Running) {
            return false;
        }
        // With little memory left for all, a tunnel takes one message at a time.
        self.waits_for_clear = match &self.join {
            Some(join) => self.parts.bounds.budget.is_tight() && join.poll_clear(cx).is_pending(),
            None => false,
        };
        if self.waits_for_clear {
            return false;
        }
        READ_BUFFER.with_borrow_mut(|buffer| match self.poll_read(cx, buffer) {
            Poll::Pending => false,
            Poll::Ready(Err(error)) => self.broken(now, &error),
            Poll::Ready(Ok(0)) => self.on_end_of_stream(now),
            Poll::Ready(Ok(read)) => {
                self.parts.counters.reads.fetch_add(1, Relaxed);
                self.parts.counters.bytes_in.fetch_add(read as u64, Relaxed);
                if let Opening::Theirs { ticket, .. } = &self.parts.opening {
                    ticket.hear();
                }
                if self.phase == Phase::Running {
                    let bytes = buffer.get_mut(..read).unwrap_or_default();
                    self.parts.channel.receive_in_place(now, bytes, self.wire.buffer());
                    if self.says_too_much() {
                        return self.abandon("begins a message that is too long");
                    }
                }
                true
            }
        })
    }

    /// Whether the peer, which nobody is joined with, begins a message that is longer than any it may say: nothing else bounds
    /// for how long it takes room.
    fn says_too_much(&self) -> bool {
        let short = self.parts.reading == Reading::OneByOne && self.join.is_none();
        short && self.parts.channel.incomplete() > MAX_RELAY_MESSAGE
    }

    /// Reads once. After a short read the socket is empty, and asking again costs a system call for nothing.
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            if !self.maybe_readable {
                ready!(self.parts.stream.poll_readable(cx))?;
                self.maybe_readable = true;
            }
            match self.parts.stream.get_ref().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.maybe_readable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
                Ok(read) => {
                    self.maybe_readable = read == buffer.len();
                    return Poll::Ready(Ok(read));
                }
            }
        }
    }

    // -- ends

    fn on_end_of_stream(&mut self, now: Instant) -> bool {
        self.ended_by_peer = true;
        match self.phase {
            Phase::Running => self.parts.channel.lost(now),
            Phase::Flushing { .. } | Phase::Lingering { .. } | Phase::Done => self.phase = Phase::Done,
        }
        true
    }

    fn begin_close(&mut self, now: Instant) -> bool {
        if self.closing {
            return false;
        }
        self.closing = true;
        if self.undecided() {
            self.parts.counters.refused.add(counters::NOT_ADMITTED);
            self.parts.channel.refuse(now, self.wire.buffer());
        } else {
            self.parts.channel.close(now, self.wire.buffer());
        }
        true
    }

    /// The socket failed: nothing more can be sent or heard, but what was heard before is still delivered.
    fn broken(&mut self, now: Instant, error: &io::Error) -> bool {
        tracing::debug!(conn = ?self.parts.conn, %error, "socket failed");
        self.ended_by_peer = true;
        self.wire = Wire::default();
        match self.phase {
            Phase::Running => self.parts.channel.lost(now),
            Phase::Flushing { .. } | Phase::Lingering { .. } | Phase::Done => self.phase = Phase::Done,
        }
        true
    }

    fn abandon(&mut self, why: &str) -> bool {
        self.parts.counters.ended.add(counters::SLOW_READER);
        tracing::info!(conn = ?self.parts.conn, why, "connection abandoned");
        self.phase = Phase::Done;
        true
    }
}

impl Future for Connection {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let connection = &mut *self;
        connection.checks.begin_turn();
        for _ in 0..ROUNDS {
            let now = connection.parts.clock.now();
            let moved = connection.round(cx, now);
            if connection.phase == Phase::Done {
                return Poll::Ready(());
            }
            connection.count(now);
            if connection.checks.is_turn_over() {
                break;
            }
            if moved {
                continue;
            }
            connection.tell_channel_whether_we_read(now);
            if !connection.arm(cx) {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // The join's end is told before the connection's own.
        self.join = None;
        if self.known {
            self.parts.outlet.event(NetEvent::Closed { conn: self.parts.conn });
        }
    }
}
