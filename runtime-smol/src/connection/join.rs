//! Two connections joined: whole messages go straight from one task to the other, through a bounded pipe each way.
//!
//! 1. A pipe holds at most [`PipeLimits::bytes`] and one message more, [`PIPE_MESSAGES`] at most, or one message while the
//!    budget is tight; whoever fills it waits, and meanwhile reads nothing from its peer. So TCP's own flow control reaches
//!    from end to end. Counted is what a message takes of memory ([`cost`]), and an empty pipe keeps next to none.
//! 2. A task that waits for room in one pipe goes on emptying the other: there is no circle of waiting.
//! 3. When one end goes, what it sent before is still forwarded, then the other end closes in order. The outlet hears
//!    [`super::Outlet::join_ended`] once.
//! 4. What an identity sends is paid from its bucket ([`super::rate`]); in debt it waits, and so does its peer's reading.
//! 5. A tunnel through which nothing moved either way for [`JOIN_IDLE`] ends. Bytes of a long message that a slow reader
//!    takes are movement, and so is waiting for a debt to be paid.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use offset_protocol::limits::KEEPALIVE_SILENCE;
use offset_protocol::machine::{Duration, Instant};
use offset_protocol::net::ConnId;

use super::Outlet;
use super::budget::{Account, Budget, Charge};
use super::rate::Bucket;

/// Bytes that wait in one direction of a tunnel, if nothing else is said. Chosen freely: a quarter of the largest message keeps a fast link busy.
pub const PIPE_BYTES: usize = 256 * 1024;
/// Messages that wait in one direction of a tunnel at most, however small they are. Chosen freely: as many as a mailbox.
const PIPE_MESSAGES: usize = 4_096;
/// Places for messages that an empty pipe keeps. Chosen freely: some hundred bytes, so that a tunnel that is idle costs
/// little.
const KEPT_PLACES: usize = 16;
/// An idle tunnel ends after this long: the friends' own channel sends keepalives far more often.
pub const JOIN_IDLE: Duration = KEEPALIVE_SILENCE;

/// Bytes that a message which waits takes: its own, and its place in a queue that grows by doubling with what an allocation
/// costs (on 64 bits 2 times 24, and 16).
pub(super) fn cost(message: &Vec<u8>) -> usize {
    message.capacity() + 64
}

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
pub(super) fn halves(
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
            self.moves_until(now);
        }
        poll
    }

    /// What waits for this connection is counted as its own.
    pub(super) fn charge_to(&self, account: &Account) {
        self.from_other.lock().charge.move_to(account);
    }

    /// The tunnel is not idle before this.
    pub(super) fn moves_until(&self, at: Instant) {
        self.join.last_moved_us.fetch_max(at.as_micros(), Relaxed);
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
        // Nobody reads it any more.
        self.from_other.clear();
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
        if state.bytes >= most || state.messages.len() >= PIPE_MESSAGES {
            state.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if let Some(message) = slot.take() {
            let bytes = state.bytes + cost(&message);
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
        let bytes = state.bytes.saturating_sub(cost(&message));
        state.now_holds(bytes);
        if state.messages.is_empty() {
            state.messages.shrink_to(KEPT_PLACES);
        }
        // Woken at half, not at every message: a writer that moves one message at a time is twice as slow.
        let half = state.bytes <= self.most_bytes / 2 && state.messages.len() <= PIPE_MESSAGES / 2;
        let writer = if half { state.writer.take() } else { None };
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

    /// Gives back what is in it.
    fn clear(&self) {
        let mut state = self.lock();
        state.now_holds(0);
        let messages = std::mem::take(&mut state.messages);
        drop(state);
        drop(messages);
    }

    fn lock(&self) -> MutexGuard<'_, PipeState> {
        // No code that can panic runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pipe(bytes: usize) -> (Pipe, Budget) {
        let budget = Budget::new(64 << 20);
        (Pipe::new(&PipeLimits { bytes, budget: budget.clone() }), budget)
    }

    /// Pushes copies until there is no room; how many went in.
    fn fill(pipe: &Pipe, message: &[u8]) -> usize {
        let mut context = Context::from_waker(Waker::noop());
        (0..).take_while(|_| pipe.poll_push(&mut context, &mut Some(message.to_vec())).is_ready()).count()
    }

    fn drain(pipe: &Pipe) -> usize {
        let mut context = Context::from_waker(Waker::noop());
        std::iter::from_fn(|| match pipe.poll_pop(&mut context) {
            Poll::Ready(message) => message,
            Poll::Pending => None,
        })
        .count()
    }

    /// What the queue itself and the allocations of its messages take, at least.
    fn memory(pipe: &Pipe) -> usize {
        let state = pipe.lock();
        let own: usize = state.messages.iter().map(Vec::capacity).sum();
        state.messages.capacity() * size_of::<Vec<u8>>() + own
    }

    #[test]
    fn a_pipe_full_of_empty_messages_is_charged_for_what_it_takes_and_gives_it_back() {
        for size in [0, 1, 30, 5_000] {
            let (pipe, budget) = pipe(PIPE_BYTES);
            let count = fill(&pipe, &vec![0; size]);
            assert!(count <= PIPE_MESSAGES, "{count} messages of {size} bytes");
            assert!(memory(&pipe) <= budget.held(), "{} bytes, {} counted", memory(&pipe), budget.held());
            assert!(budget.held() <= PIPE_BYTES + 2 * (size + 4_096), "{} bytes are counted", budget.held());
            assert_eq!(drain(&pipe), count);
            assert_eq!(budget.held(), 0);
            assert!(memory(&pipe) <= 2 * KEPT_PLACES * size_of::<Vec<u8>>(), "an empty pipe keeps {}", memory(&pipe));
        }
    }

    #[test]
    fn a_wide_pipe_holds_a_bounded_number_of_messages_and_wakes_its_writer_all_the_same() {
        let (pipe, _) = pipe(64 << 20);
        assert_eq!(fill(&pipe, b""), PIPE_MESSAGES);
        assert_eq!(drain(&pipe), PIPE_MESSAGES);
        assert!(pipe.lock().writer.is_none(), "the writer was woken");
        assert_eq!(fill(&pipe, b""), PIPE_MESSAGES);
    }

    #[test]
    fn what_nobody_reads_any_more_is_given_back_at_once() {
        let (pipe, budget) = pipe(PIPE_BYTES);
        fill(&pipe, &[0; 1_000]);
        pipe.close();
        pipe.clear();
        assert_eq!((budget.held(), memory(&pipe)), (0, 0));
    }
}
