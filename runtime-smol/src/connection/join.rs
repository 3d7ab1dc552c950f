//! Two connections joined: whole messages go straight from one task to the other, through a bounded pipe each way.
//!
//! 1. A pipe holds at most [`PipeLimits::bytes`] and one message more, or one message while the budget is tight; whoever fills it waits, and meanwhile reads nothing from its
//!    peer. So TCP's own flow control reaches from end to end.
//! 2. A task that waits for room in one pipe goes on emptying the other: there is no circle of waiting.
//! 3. When one end goes, what it sent before is still forwarded, then the other end closes in order. The outlet hears
//!    [`super::Outlet::join_ended`] once.
//! 4. What an identity sends is paid from its bucket ([`super::rate`]); in debt it waits, and so does its peer's reading.
//! 5. A tunnel through which nothing moved either way for [`JOIN_IDLE`] ends.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use offset_protocol::limits::KEEPALIVE_SILENCE;
use offset_protocol::machine::{Duration, Instant};
use offset_protocol::net::ConnId;

use super::Outlet;
use super::budget::{Budget, Charge};
use super::rate::Bucket;

/// Bytes that wait in one direction of a tunnel, if nothing else is said. Chosen freely: a quarter of the largest message keeps a fast link busy.
pub const PIPE_BYTES: usize = 256 * 1024;
/// An idle tunnel ends after this long: the friends' own channel sends keepalives far more often.
pub const JOIN_IDLE: Duration = KEEPALIVE_SILENCE;

/// The other task is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gone;

/// One connection's half of a join. Dropping it ends the join.
#[derive(Debug)]
pub(super) struct JoinHalf {
    to_other: Arc<Pipe>,
    from_other: Arc<Pipe>,
    join: Arc<Join>,
    /// Of the identity at this end; what it sends is paid from it.
    bucket: Option<Arc<Bucket>>,
}

/// One end of a join.
pub struct JoinEnd<'a> {
    /// The connection.
    pub conn: ConnId,
    /// Reaches its task.
    pub mail: &'a super::Mail,
    /// What its identity may send; `None`: without limit.
    pub(crate) bucket: Option<Arc<Bucket>>,
}

struct Join {
    a: ConnId,
    b: ConnId,
    ended: AtomicBool,
    last_moved_us: AtomicU64,
    outlet: Arc<dyn Outlet>,
}

impl std::fmt::Debug for Join {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Join").field("a", &self.a).field("b", &self.b).finish_non_exhaustive()
    }
}

/// What pipes may hold.
#[derive(Clone, Debug)]
pub struct PipeLimits {
    /// Bytes, before the writer waits.
    pub bytes: usize,
    /// What is held is counted here.
    pub budget: Budget,
}

/// Joins two connections: each one's messages go to the other from now on.
pub fn join(a: &JoinEnd<'_>, b: &JoinEnd<'_>, limits: &PipeLimits, now: Instant, outlet: Arc<dyn Outlet>) {
    let (half_a, half_b) = halves(a, b, limits, now, outlet);
    a.mail.join(half_a);
    b.mail.join(half_b);
}

/// The two halves of a join of `a` and `b`, in this order.
fn halves(
    a: &JoinEnd<'_>,
    b: &JoinEnd<'_>,
    limits: &PipeLimits,
    now: Instant,
    outlet: Arc<dyn Outlet>,
) -> (JoinHalf, JoinHalf) {
    let last_moved_us = AtomicU64::new(now.as_micros());
    let join = Arc::new(Join { a: a.conn, b: b.conn, ended: AtomicBool::new(false), last_moved_us, outlet });
    let (a_to_b, b_to_a) = (Arc::new(Pipe::new(limits)), Arc::new(Pipe::new(limits)));
    let (to_b, from_b) = (a_to_b.clone(), b_to_a.clone());
    let half_a = JoinHalf { to_other: to_b, from_other: from_b, join: join.clone(), bucket: a.bucket.clone() };
    (half_a, JoinHalf { to_other: b_to_a, from_other: a_to_b, join, bucket: b.bucket.clone() })
}

impl JoinHalf {
    /// Hands the message in `slot` to the other task; while there is no room it stays there.
    pub(super) fn poll_forward(
        &self,
        cx: &mut Context<'_>,
        now: Instant,
        slot: &mut Option<Vec<u8>>,
    ) -> Poll<Result<(), Gone>> {
        let bytes = slot.as_ref().map_or(0, Vec::len);
        let poll = self.to_other.poll_push(cx, slot);
        if poll.is_ready() {
            if let Some(bucket) = &self.bucket {
                bucket.pay(bytes);
            }
            self.join.last_moved_us.fetch_max(now.as_micros(), Relaxed);
        }
        poll
    }

    /// Ready when the other task has taken everything that came from here, or is gone.
    pub(super) fn poll_clear(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.to_other.poll_clear(cx)
    }

    /// The next message from the other task; `None` when it is gone and nothing of it is left.
    pub(super) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<Vec<u8>>> {
        self.from_other.poll_pop(cx)
    }

    /// When the identity at this end may send on; `None`: now.
    pub(super) fn blocked_until(&self, now: Instant) -> Option<Instant> {
        self.bucket.as_ref().and_then(|bucket| bucket.blocked_until(now))
    }

    /// When the tunnel has been idle for too long.
    pub(super) fn idle_at(&self) -> Instant {
        Instant::from_micros(self.join.last_moved_us.load(Relaxed)) + JOIN_IDLE
    }
}

impl Drop for JoinHalf {
    fn drop(&mut self) {
        self.to_other.close();
        self.from_other.close();
        if !self.join.ended.swap(true, Relaxed) {
            self.join.outlet.join_ended(self.join.a, self.join.b);
        }
    }
}

/// A bounded queue of messages between two tasks.
#[derive(Debug)]
struct Pipe {
    most_bytes: usize,
    state: Mutex<PipeState>,
}

#[derive(Debug)]
struct PipeState {
    messages: VecDeque<Vec<u8>>,
    bytes: usize,
    charge: Charge,
    closed: bool,
    writer: Option<Waker>,
    reader: Option<Waker>,
}

impl PipeState {
    fn now_holds(&mut self, bytes: usize) {
        self.bytes = bytes;
        self.charge.set_roughly(bytes);
    }
}

impl Pipe {
    fn new(limits: &PipeLimits) -> Self {
        let (messages, charge) = (VecDeque::new(), limits.budget.charge());
        let state = PipeState { messages, bytes: 0, charge, closed: false, writer: None, reader: None };
        Pipe { most_bytes: limits.bytes, state: Mutex::new(state) }
    }

    fn poll_clear(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if state.bytes == 0 || state.closed {
            return Poll::Ready(());
        }
        state.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    fn poll_push(&self, cx: &mut Context<'_>, slot: &mut Option<Vec<u8>>) -> Poll<Result<(), Gone>> {
        let mut state = self.lock();
        if state.closed {
            return Poll::Ready(Err(Gone));
        }
        let most = if state.charge.budget().is_tight() { 1 } else { self.most_bytes };
        if state.bytes >= most {
            state.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if let Some(message) = slot.take() {
            // An empty message takes room too.
            let bytes = state.bytes + message.len().max(1);
            state.now_holds(bytes);
            state.messages.push_back(message);
        }
        let reader = state.reader.take();
        drop(state);
        reader.into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(()))
    }

    fn poll_pop(&self, cx: &mut Context<'_>) -> Poll<Option<Vec<u8>>> {
        let mut state = self.lock();
        let Some(message) = state.messages.pop_front() else {
            if state.closed {
                return Poll::Ready(None);
            }
            state.reader = Some(cx.waker().clone());
            return Poll::Pending;
        };
        let bytes = state.bytes.saturating_sub(message.len().max(1));
        state.now_holds(bytes);
        // Woken at half, not at every message: a writer that moves one message at a time is twice as slow.
        let writer = if state.bytes <= self.most_bytes / 2 { state.writer.take() } else { None };
        drop(state);
        writer.into_iter().for_each(Waker::wake);
        Poll::Ready(Some(message))
    }

    fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let wakers = [state.writer.take(), state.reader.take()];
        drop(state);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, PipeState> {
        // No code that can panic runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
