//! What waits for the state thread: the one bounded queue between the many tasks and the one machine.
//!
//! Two doors in. [`Inbox::poll_push`] is for what a peer can produce at will: it waits while the queue is full, and its
//! caller stops reading from the peer meanwhile. [`Inbox::push`] never waits; it is for what is bounded by other limits (one
//! `Closed` a connection, one `Durable` a revision, one tick of a folder). One door out: [`Inbox::take`] gives everything
//! that waits at once, so that a busy machine takes its inputs in large turns.

use std::collections::{HashMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use offset_protocol::net::ConnId;

/// Items that wait. Chosen freely: more than a turn of a busy node, and the state thread takes all of them at once.
const MAX_ITEMS: usize = 4_096;
/// Bytes that wait. Chosen freely: sixteen messages of the greatest length.
const MAX_BYTES: usize = 16 << 20;

/// A bounded queue from many tasks to one thread.
#[derive(Debug)]
pub struct Inbox<T> {
    state: Mutex<State<T>>,
    filled: Condvar,
}

#[derive(Debug)]
struct State<T> {
    items: VecDeque<T>,
    bytes: usize,
    /// Who waits for room, by connection, so that a task that asks often waits once.
    waiting: HashMap<ConnId, Waker>,
}

impl<T> Default for Inbox<T> {
    fn default() -> Self {
        let state = State { items: VecDeque::new(), bytes: 0, waiting: HashMap::new() };
        Inbox { state: Mutex::new(state), filled: Condvar::new() }
    }
}

impl<T> Inbox<T> {
    /// Adds an item whose number is bounded elsewhere.
    pub fn push(&self, item: T) {
        self.lock().items.push_back(item);
        self.filled.notify_one();
    }

    /// Adds what `make` makes of `slot`, `size` bytes, if there is room; else `conn`'s task is woken when there is. `make` may
    /// take its time: it holds nobody up. So there may be one item more than there is room for in each thread that calls this.
    pub fn poll_push<S>(
        &self,
        cx: &mut Context<'_>,
        conn: ConnId,
        slot: &mut Option<S>,
        size: usize,
        make: impl FnOnce(S) -> T,
    ) -> Poll<()> {
        let mut state = self.lock();
        if state.items.len() >= MAX_ITEMS || state.bytes >= MAX_BYTES {
            state.waiting.insert(conn, cx.waker().clone());
            return Poll::Pending;
        }
        drop(state);
        if let Some(content) = slot.take() {
            let item = make(content);
            let mut state = self.lock();
            state.bytes += size;
            state.items.push_back(item);
            drop(state);
            self.filled.notify_one();
        }
        Poll::Ready(())
    }

    /// Everything that waits; if that is nothing, waits for the first item or for `until`.
    pub fn take(&self, until: Option<Instant>) -> VecDeque<T> {
        let mut state = self.lock();
        while state.items.is_empty() {
            let Some(until) = until else {
                state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self.filled.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.bytes = 0;
        let (items, waiting) = (std::mem::take(&mut state.items), std::mem::take(&mut state.waiting));
        drop(state);
        waiting.into_values().for_each(Waker::wake);
        items
    }

    /// No code that can panic runs under the lock, so that a poisoned one is as good as any.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use futures_lite::future::{block_on, poll_fn, poll_once};

    use super::*;

    async fn push(inbox: &Inbox<usize>, key: u64, size: usize) {
        let mut slot = Some(size);
        poll_fn(|cx| inbox.poll_push(cx, ConnId::incoming(key), &mut slot, size, |size| size)).await;
    }

    #[test]
    fn a_full_inbox_lets_nobody_in_until_it_is_taken() {
        let inbox = Inbox::default();
        block_on(async {
            push(&inbox, 1, MAX_BYTES).await;
            assert!(poll_once(push(&inbox, 1, 1)).await.is_none());
            inbox.push(7);
            assert_eq!(inbox.take(None), [MAX_BYTES, 7]);
            assert!(poll_once(push(&inbox, 1, 1)).await.is_some());
        });
    }

    #[test]
    fn whoever_waits_for_room_is_woken() {
        let inbox = Arc::new(Inbox::default());
        block_on(push(&inbox, 1, MAX_BYTES));
        let waiting = std::thread::spawn({
            let inbox = inbox.clone();
            move || block_on(push(&inbox, 2, 5))
        });
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(inbox.take(None), [MAX_BYTES]);
        waiting.join().unwrap();
        assert_eq!(inbox.take(None), [5]);
    }

    #[test]
    fn waiting_ends_in_time() {
        let inbox = Inbox::<usize>::default();
        let until = Instant::now() + Duration::from_millis(5);
        assert!(inbox.take(Some(until)).is_empty());
        assert!(Instant::now() >= until);
    }
}
