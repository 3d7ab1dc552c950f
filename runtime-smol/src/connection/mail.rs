//! What the state thread wants of one connection, until the connection's task takes it.
//!
//! Invariant: the state thread never waits here. A peer that reads so slowly that [`MAX_MESSAGES`] or [`MAX_BYTES`] gather
//! is disconnected instead.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::join::{JoinHalf, cost};

/// Messages that may wait for a slow reader. Chosen freely: several windows of batches.
pub(super) const MAX_MESSAGES: usize = 4_096;
/// Bytes that may wait for a slow reader. Chosen freely: four messages of the greatest length.
pub(super) const MAX_BYTES: usize = 4 << 20;

/// One connection's mailbox.
#[derive(Debug, Default)]
pub struct Mail {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    messages: VecDeque<Vec<u8>>,
    bytes: usize,
    /// What they take in memory.
    cost: usize,
    orders: Orders,
    end: Option<End>,
    waker: Option<Waker>,
}

impl State {
    fn clear(&mut self) {
        (self.messages, self.bytes, self.cost) = (VecDeque::new(), 0, 0);
    }
}

/// Orders that are carried out before the messages.
#[derive(Debug, Default)]
pub(super) struct Orders {
    pub(super) admit: bool,
    pub(super) resume: bool,
    pub(super) join: Option<JoinHalf>,
}

/// How a connection shall end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// After the messages that wait, in order.
    Close,
    /// At once: the peer reads too slowly.
    Overflow,
    /// At once: somebody else needs the place.
    GiveWay,
}

/// What the task took.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) orders: Orders,
    pub(super) messages: Vec<Vec<u8>>,
    /// Given only when no message waits any more.
    pub(super) end: Option<End>,
    /// Whether messages still wait.
    pub(super) more: bool,
    /// What they take in memory.
    pub(super) left: usize,
}

impl Mail {
    /// Adds a message, without waking the task: see [`Mail::wake`].
    pub fn send(&self, message: Vec<u8>) {
        let mut state = self.lock();
        if state.end.is_some() {
            return;
        }
        state.bytes = state.bytes.saturating_add(message.len());
        state.cost = state.cost.saturating_add(cost(&message));
        state.messages.push_back(message);
        if state.messages.len() > MAX_MESSAGES || state.bytes > MAX_BYTES {
            state.clear();
            state.end = Some(End::Overflow);
        }
    }

    /// Hear the peer.
    pub fn admit(&self) {
        self.lock().orders.admit = true;
    }

    /// Read the next message.
    pub fn resume(&self) {
        self.lock().orders.resume = true;
    }

    /// Forward from now on.
    pub(super) fn join(&self, half: JoinHalf) {
        self.lock().orders.join = Some(half);
    }

    /// Close in order, after the messages that wait.
    pub fn close(&self) {
        let mut state = self.lock();
        state.end = state.end.or(Some(End::Close));
    }

    /// End at once, without a word: the handshake takes a place that somebody else needs.
    pub fn give_way(&self) {
        self.lock().end = Some(End::GiveWay);
    }

    #[cfg(test)]
    pub(crate) fn gives_way(&self) -> bool {
        self.lock().end == Some(End::GiveWay)
    }

    /// End at once, whatever waits.
    pub(super) fn abandon(&self) {
        let mut state = self.lock();
        state.clear();
        state.end = Some(End::Overflow);
        drop(state);
        self.wake();
    }

    /// Tells the task that there is something. Once after several of the above, so that they share one write.
    pub fn wake(&self) {
        let waker = self.lock().waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Ready when the connection shall end. Takes nothing.
    pub(crate) fn poll_ended(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        state.waker = Some(cx.waker().clone());
        if state.end.is_some() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Orders, messages up to `room` bytes (and the one that exceeds it), and the end if there is nothing before it.
    /// Without room the messages wait; a channel that is not open yet has no room, and none is waited for at its end.
    pub(super) fn take(&self, cx: &mut Context<'_>, room: Room) -> Taken {
        let mut state = self.lock();
        match &state.waker {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            Some(_) | None => state.waker = Some(cx.waker().clone()),
        }
        let mut taken = Taken { orders: std::mem::take(&mut state.orders), ..Taken::default() };
        let (mut left, open) = match room {
            Room::Bytes(left) => (left, true),
            Room::NotOpen => (0, false),
        };
        while left > 0 {
            let Some(message) = state.messages.pop_front() else { break };
            state.bytes = state.bytes.saturating_sub(message.len());
            state.cost = state.cost.saturating_sub(cost(&message));
            left = left.saturating_sub(message.len());
            taken.messages.push(message);
        }
        (taken.more, taken.left) = (!state.messages.is_empty(), state.cost);
        // A peer that is admitted now hears what is meant for it before the end: the channel opens first.
        let may_open = open || taken.orders.admit;
        taken.end = state.end.filter(|end| *end != End::Close || !may_open || (open && !taken.more));
        taken
    }

    #[cfg(test)]
    pub(super) fn is_ended(&self) -> bool {
        self.lock().end.is_some()
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.lock().messages.len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How much the task can take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// This many bytes.
    Bytes(usize),
    /// The channel is not open: nothing can be sent.
    NotOpen,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(mail: &Mail, room: Room) -> Taken {
        mail.take(&mut Context::from_waker(Waker::noop()), room)
    }

    #[test]
    fn the_end_waits_for_the_messages_before_it() {
        let mail = Mail::default();
        mail.send(vec![1; 10]);
        mail.send(vec![2; 10]);
        mail.close();
        mail.send(vec![3; 10]);
        let first = take(&mail, Room::Bytes(5));
        assert_eq!((first.messages.len(), first.end, first.more), (1, None, true));
        let second = take(&mail, Room::Bytes(50));
        assert_eq!((second.messages, second.end), (vec![vec![2; 10]], Some(End::Close)));
    }

    #[test]
    fn a_channel_that_is_not_open_ends_without_its_messages() {
        let mail = Mail::default();
        mail.send(vec![1]);
        assert_eq!(take(&mail, Room::NotOpen).end, None);
        mail.close();
        let taken = take(&mail, Room::NotOpen);
        assert_eq!((taken.messages.len(), taken.end), (0, Some(End::Close)));
    }

    #[test]
    fn a_peer_that_is_admitted_and_closed_at_once_hears_what_is_between() {
        let mail = Mail::default();
        mail.admit();
        mail.send(vec![1]);
        mail.close();
        let taken = take(&mail, Room::NotOpen);
        assert_eq!((taken.orders.admit, taken.messages.len(), taken.end), (true, 0, None));
        let taken = take(&mail, Room::Bytes(100));
        assert_eq!((taken.messages.len(), taken.end), (1, Some(End::Close)));
    }

    #[test]
    fn a_slow_reader_costs_no_more_than_the_limit() {
        for (size, count) in [(1, MAX_MESSAGES), (1 << 20, MAX_BYTES >> 20)] {
            let mail = Mail::default();
            (0..count).for_each(|_| mail.send(vec![0; size]));
            assert!(mail.poll_ended(&mut Context::from_waker(Waker::noop())).is_pending());
            mail.send(vec![0; size]);
            let taken = take(&mail, Room::Bytes(usize::MAX));
            assert_eq!((taken.messages.len(), taken.end), (0, Some(End::Overflow)));
        }
    }
}
