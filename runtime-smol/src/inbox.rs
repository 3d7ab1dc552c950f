//! What waits for the state thread: the one bounded queue between the many tasks and the one machine.
//!
//! Two doors in. [`Inbox::poll_push`] is for what a peer can produce at will: it waits while the queue is full, and its
//! caller stops reading from the peer meanwhile. [`Inbox::push`] never waits; it is for what is bounded by other limits (one
//! `Closed` a connection, one `Durable` a revision, one tick of a folder). One door out: [`Inbox::take`] gives everything
//! that waits at once, so that a busy machine takes its inputs in large turns.
//!
//! Invariants of what came through [`Inbox::poll_push`]:
//! 1. Of one connection at most `SHARE_ITEMS` wait, and no further one behind `SHARE_BYTES` of it: whoever floods,
//!    a turn holds little of one peer, and others wait behind little of it.
//! 2. Of all, `MAX_ITEMS` or `MAX_BYTES` wait; then only those get in of whom nothing waits, until there is twice as much:
//!    many that flood do not keep out one that does not.

use std::collections::{HashMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use offset_protocol::net::ConnId;

/// Items that wait. Chosen freely: more than a turn of a busy node, and the state thread takes all of them at once.
const MAX_ITEMS: usize = 4_096;
/// Bytes that wait. Chosen freely: sixteen messages of the greatest length.
const MAX_BYTES: usize = 16 << 20;

/// Items of one connection that wait. Chosen freely: a turn that holds as many short checks takes some milliseconds, and the
/// costs of a turn are small against that.
const SHARE_ITEMS: usize = 64;
/// Bytes of one connection behind which another item may wait. Chosen freely: two messages of the greatest length.
const SHARE_BYTES: usize = 2 << 20;

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
    /// What waits of each connection.
    shares: HashMap<ConnId, Share>,
    /// Who waits for room, by connection, so that a task that asks often waits once.
    waiting: HashMap<ConnId, Waker>,
}

/// What waits of one connection.
#[derive(Clone, Copy, Debug, Default)]
struct Share {
    items: usize,
    bytes: usize,
}

impl Share {
    fn has_room(self) -> bool {
        self.items < SHARE_ITEMS && self.bytes < SHARE_BYTES
    }
}

impl<T> State<T> {
    /// Whether one more item of `conn` may wait.
    fn has_room(&self, conn: ConnId) -> bool {
        let within = |times: usize| self.items.len() < times * MAX_ITEMS && self.bytes < times * MAX_BYTES;
        self.shares.get(&conn).map_or(within(2), |share| share.has_room() && within(1))
    }

    fn add(&mut self, conn: ConnId, size: usize, item: T) {
        let share = self.shares.entry(conn).or_default();
        share.items += 1;
        share.bytes += size;
        self.bytes += size;
        self.items.push_back(item);
    }
}

impl<T> Default for Inbox<T> {
    fn default() -> Self {
        let state = State { items: VecDeque::new(), bytes: 0, shares: HashMap::new(), waiting: HashMap::new() };
        Inbox { state: Mutex::new(state), filled: Condvar::new() }
    }
}

impl<T> Inbox<T> {
    /// Adds an item whose number is bounded elsewhere.
    pub fn push(&self, item: T) {
        self.lock().items.push_back(item);
        self.filled.notify_one();
    }

    /// Adds what `make` makes of `slot`, `size` bytes of `conn`, if there is room; else `conn`'s task is woken when there is. `make` may
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
        if !state.has_room(conn) {
            state.waiting.insert(conn, cx.waker().clone());
            return Poll::Pending;
        }
        drop(state);
        if let Some(content) = slot.take() {
            let item = make(content);
            let mut state = self.lock();
            state.add(conn, size, item);
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
        state.shares.clear();
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

    /// Pushes of one connection until it must wait; how many got in.
    async fn flood(inbox: &Inbox<usize>, key: u64, size: usize) -> usize {
        let mut taken = 0;
        while poll_once(push(inbox, key, size)).await.is_some() {
            taken += 1;
        }
        taken
    }

    #[test]
    fn a_full_inbox_lets_nobody_in_of_whom_something_waits() {
        let inbox = Inbox::default();
        block_on(async {
            for key in 0..16 {
                push(&inbox, key, 1 << 20).await;
            }
            assert!(poll_once(push(&inbox, 1, 1)).await.is_none());
            inbox.push(7);
            assert_eq!(inbox.take(None).len(), 17);
            assert!(poll_once(push(&inbox, 1, 1)).await.is_some());
        });
    }

    /// Found by a reviewer: one queue for all held 4,096 messages of one friend, and a node with few cores took 0.2 s for them,
    /// turn for turn, while everybody else waited behind.
    #[test]
    fn behind_a_flood_of_one_connection_others_wait_for_little_of_it() {
        let inbox = Inbox::default();
        block_on(async {
            for _ in 0..3 {
                assert_eq!(flood(&inbox, 1, 100).await, SHARE_ITEMS);
                push(&inbox, 2, 5).await;
                assert_eq!(inbox.take(None).iter().position(|item| *item == 5), Some(SHARE_ITEMS));
                assert_eq!(flood(&inbox, 1, 1 << 20).await, SHARE_BYTES >> 20);
                push(&inbox, 2, 5).await;
                assert_eq!(inbox.take(None).len(), 1 + (SHARE_BYTES >> 20));
            }
        });
    }

    #[test]
    fn behind_a_flood_of_many_connections_somebody_else_still_gets_in() {
        let inbox = Inbox::default();
        block_on(async {
            let mut taken = 0;
            for key in 0..2 * (MAX_ITEMS / SHARE_ITEMS) as u64 {
                taken += flood(&inbox, key, 1).await;
            }
            assert_eq!(taken, MAX_ITEMS + MAX_ITEMS / SHARE_ITEMS);
            push(&inbox, 1_000, 5).await;
            assert_eq!(inbox.take(None).back(), Some(&5));
        });
        // But that has an end, too.
        block_on(async {
            let mut taken = 0;
            for key in 0..3 * MAX_ITEMS as u64 {
                taken += flood(&inbox, key, 1).await;
            }
            assert_eq!(taken, 2 * MAX_ITEMS);
        });
    }

    #[test]
    fn whoever_waits_for_room_is_woken() {
        let inbox = Arc::new(Inbox::default());
        block_on(push(&inbox, 1, MAX_BYTES));
        let waiting = std::thread::spawn({
            let inbox = inbox.clone();
            move || block_on(push(&inbox, 1, 5))
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
