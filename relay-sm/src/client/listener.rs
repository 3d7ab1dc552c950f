//! The node waits for calls: one listening connection to each of its relays, kept up for ever.
//!
//! | message | effect |
//! |---|---|
//! | `Listening` | [`Output::RelayUp`] |
//! | `Incoming { from }` | [`Output::Incoming`]; the parent answers with accept or reject |
//! | `Failed`, `Closing`, garbage, a lost connection | [`Output::RelayDown`], then again after a jittered wait |
//! | `Ready` to `Accept` | the connection is a tunnel |
//! | `Failed` to `Accept` | the call is forgotten; the caller tries again |
//!
//! 1. Each relay has at most one listening connection, and exactly one deadline unless it listens.
//! 2. At most [`MAX_CALLS`] calls wait or are being taken; more are rejected as busy, here, without the parent.
//! 3. A caller who calls again while its call is being taken is offered again afterwards: the first call may be dead.

use std::collections::BTreeMap;

use offset_protocol::bytes::PublicKey;
use offset_protocol::machine::Instant;
use offset_protocol::net::ConnId;
use offset_protocol::relay::{FailReason, FromRelay, RELAY_HALF_DEADLINE, RejectReason, RelayAddress, ToRelay};

use super::backoff::{Backoff, LISTENER_SPREAD};
use super::effects::{Effects, is_ready, parse};
use super::{ANSWER_DEADLINE, CONNECT_DEADLINE, Output};
use offset_protocol::deadlines::Deadlines;
use offset_protocol::{buggify, mutant, sometimes};

/// Calls that wait for the parent's answer or are being taken, over all relays. Chosen freely: with more friends calling
/// at once the rest comes back some seconds later.
pub const MAX_CALLS: usize = 256;

/// A call that became a tunnel.
pub(super) struct Taken {
    pub(super) from: PublicKey,
    pub(super) relay: PublicKey,
}

#[derive(Debug)]
pub(super) struct Listener {
    relays: BTreeMap<PublicKey, OwnRelay>,
    calls: BTreeMap<CallKey, Call>,
    conns: BTreeMap<ConnId, Use>,
    deadlines: Deadlines<Wait>,
}

#[derive(Debug)]
struct OwnRelay {
    address: RelayAddress,
    backoff: Backoff,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Waiting,
    Connecting(ConnId),
    Asking(ConnId),
    Listening { conn: ConnId, since: Instant },
}

impl State {
    fn conn(self) -> Option<ConnId> {
        match self {
            State::Waiting => None,
            State::Connecting(conn) | State::Asking(conn) | State::Listening { conn, .. } => Some(conn),
        }
    }

    fn since(self) -> Option<Instant> {
        match self {
            State::Listening { since, .. } => Some(since),
            State::Waiting | State::Connecting(_) | State::Asking(_) => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct CallKey {
    relay: PublicKey,
    from: PublicKey,
}

#[derive(Clone, Copy, Debug)]
enum Call {
    Offered,
    Accepting { conn: ConnId, called_again: bool },
}

#[derive(Clone, Copy, Debug)]
enum Use {
    Listen { relay: PublicKey },
    Accept(CallKey),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Wait {
    Relay(PublicKey),
    Call(CallKey),
}

impl Listener {
    pub(super) const fn new() -> Self {
        Listener {
            relays: BTreeMap::new(),
            calls: BTreeMap::new(),
            conns: BTreeMap::new(),
            deadlines: Deadlines::new(),
        }
    }

    pub(super) fn owns(&self, conn: ConnId) -> bool {
        self.conns.contains_key(&conn)
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.next()
    }

    pub(super) fn add(&mut self, now: Instant, fx: &mut Effects, relay: RelayAddress) {
        let key = relay.public_key;
        if self.relays.get(&key).is_some_and(|own| own.address == relay) {
            return;
        }
        let was_up = self.relays.get(&key).is_some_and(|own| own.state.since().is_some());
        self.remove(fx, key);
        if was_up {
            fx.push(Output::RelayDown { relay: key, reason: None });
        }
        self.relays.insert(key, OwnRelay { address: relay, backoff: Backoff::default(), state: State::Waiting });
        self.connect(now, fx, key);
    }

    pub(super) fn remove(&mut self, fx: &mut Effects, relay: PublicKey) {
        self.disconnect(fx, relay);
        self.drop_calls(fx, relay);
        self.deadlines.clear(Wait::Relay(relay));
        self.relays.remove(&relay);
        fx.shares.remove(&relay);
    }

    /// Everything afresh: what is still open may be dead without anybody having noticed.
    pub(super) fn on_network_returned(&mut self, now: Instant, fx: &mut Effects) {
        let relays: Vec<_> = self.relays.keys().copied().collect();
        for relay in relays {
            self.drop_calls(fx, relay);
            if self.disconnect(fx, relay).since().is_some() {
                fx.push(Output::RelayDown { relay, reason: None });
            }
            if let Some(own) = self.relays.get_mut(&relay) {
                own.backoff.reset();
            }
            self.connect(now, fx, relay);
        }
    }

    pub(super) fn accept(&mut self, now: Instant, fx: &mut Effects, relay: PublicKey, from: PublicKey) {
        let key = CallKey { relay, from };
        if let (Some(own), Some(call @ Call::Offered)) = (self.relays.get(&relay), self.calls.get_mut(&key)) {
            let conn = fx.connect(&own.address);
            *call = Call::Accepting { conn, called_again: false };
            self.conns.insert(conn, Use::Accept(key));
            self.deadlines.set(Wait::Call(key), now + CONNECT_DEADLINE);
        }
    }

    pub(super) fn reject(&mut self, fx: &mut Effects, relay: PublicKey, from: PublicKey, reason: RejectReason) {
        let key = CallKey { relay, from };
        if let Some(Call::Offered) = self.calls.get(&key) {
            self.calls.remove(&key);
            self.deadlines.clear(Wait::Call(key));
            self.send_reject(fx, key, reason);
        }
    }

    pub(super) fn on_opened(&mut self, now: Instant, fx: &mut Effects, conn: ConnId) {
        match self.conns.get(&conn) {
            Some(&Use::Listen { relay }) => {
                let Some(own) = self.relays.get_mut(&relay) else { return };
                if let State::Connecting(_) = own.state {
                    own.state = State::Asking(conn);
                    self.deadlines.set(Wait::Relay(relay), now + ANSWER_DEADLINE);
                    fx.send(conn, &ToRelay::Listen);
                }
            }
            Some(&Use::Accept(key)) => {
                self.deadlines.set(Wait::Call(key), now + ANSWER_DEADLINE);
                fx.send(conn, &ToRelay::Accept { from: key.from });
            }
            None => {}
        }
    }

    pub(super) fn on_message(&mut self, now: Instant, fx: &mut Effects, conn: ConnId, bytes: &[u8]) -> Option<Taken> {
        match *self.conns.get(&conn)? {
            Use::Listen { relay } => {
                self.on_listen_message(now, fx, relay, parse(bytes));
                None
            }
            Use::Accept(key) if is_ready(bytes) => {
                self.conns.remove(&conn);
                self.finish_call(now, fx, key);
                Some(Taken { from: key.from, relay: key.relay })
            }
            Use::Accept(key) => {
                self.abort_call(now, fx, key);
                None
            }
        }
    }

    fn on_listen_message(&mut self, now: Instant, fx: &mut Effects, relay: PublicKey, message: Option<FromRelay>) {
        let Some(own) = self.relays.get_mut(&relay) else { return };
        match (own.state, message) {
            (State::Asking(conn), Some(FromRelay::Listening { share })) => {
                own.state = State::Listening { conn, since: now };
                self.deadlines.clear(Wait::Relay(relay));
                fx.shares.insert(relay, share);
                fx.push(Output::RelayUp { relay, share });
            }
            (State::Listening { .. }, Some(FromRelay::Incoming { from })) => {
                self.on_call(now, fx, CallKey { relay, from });
            }
            (_, Some(FromRelay::Failed { reason })) => self.fail(now, fx, relay, Some(reason)),
            (_, Some(FromRelay::Closing)) => self.fail(now, fx, relay, Some(FailReason::Closing)),
            (_, Some(FromRelay::Ready))
            | (State::Waiting | State::Connecting(_) | State::Listening { .. }, Some(FromRelay::Listening { .. }))
            | (State::Waiting | State::Connecting(_) | State::Asking(_), Some(FromRelay::Incoming { .. }))
            | (_, None) => self.fail(now, fx, relay, None),
        }
    }

    pub(super) fn on_closed(&mut self, now: Instant, fx: &mut Effects, conn: ConnId) {
        match self.conns.remove(&conn) {
            Some(Use::Listen { relay }) => self.fail(now, fx, relay, None),
            Some(Use::Accept(key)) => self.finish_call(now, fx, key),
            None => {}
        }
    }

    pub(super) fn on_tick(&mut self, now: Instant, fx: &mut Effects) {
        while let Some(wait) = self.deadlines.pop_due(now) {
            match wait {
                Wait::Relay(relay) => match self.relays.get(&relay).map(|own| own.state) {
                    Some(State::Waiting) => self.connect(now, fx, relay),
                    Some(State::Connecting(_) | State::Asking(_)) => {
                        self.fail(now, fx, relay, Some(FailReason::Timeout))
                    }
                    Some(State::Listening { .. }) | None => {}
                },
                Wait::Call(key) => self.abort_call(now, fx, key),
            }
        }
    }

    fn on_call(&mut self, now: Instant, fx: &mut Effects, key: CallKey) {
        let full = self.calls.len() >= MAX_CALLS || buggify!("relay client: reject a call as busy", 50);
        let is_again = matches!(self.calls.get(&key), Some(Call::Accepting { .. }));
        sometimes!("relay client: called again while the call is taken", is_again);
        match self.calls.get_mut(&key) {
            // The answer to the first call will do for this one.
            Some(Call::Offered) => {}
            Some(Call::Accepting { called_again, .. }) => *called_again = true,
            None if full => self.send_reject(fx, key, RejectReason::Busy),
            None => {
                self.calls.insert(key, Call::Offered);
                self.deadlines.set(Wait::Call(key), now + RELAY_HALF_DEADLINE);
                fx.push(Output::Incoming { relay: key.relay, from: key.from });
            }
        }
    }

    /// Forgets a call and closes the connection that was to take it.
    fn abort_call(&mut self, now: Instant, fx: &mut Effects, key: CallKey) {
        if let Some(Call::Accepting { conn, .. }) = self.calls.get(&key) {
            self.conns.remove(conn);
            fx.close(*conn);
        }
        self.finish_call(now, fx, key);
    }

    fn finish_call(&mut self, now: Instant, fx: &mut Effects, key: CallKey) {
        self.deadlines.clear(Wait::Call(key));
        let call = self.calls.remove(&key);
        let listens = matches!(self.relays.get(&key.relay), Some(OwnRelay { state: State::Listening { .. }, .. }));
        if listens && matches!(call, Some(Call::Accepting { called_again: true, .. })) {
            self.on_call(now, fx, key);
        }
    }

    fn drop_calls(&mut self, fx: &mut Effects, relay: PublicKey) {
        for key in self.calls_of(relay) {
            if let Some(Call::Accepting { conn, .. }) = self.calls.remove(&key) {
                self.conns.remove(&conn);
                fx.close(conn);
            }
            self.deadlines.clear(Wait::Call(key));
        }
    }

    fn calls_of(&self, relay: PublicKey) -> Vec<CallKey> {
        let first = CallKey { relay, from: PublicKey([0; 32]) };
        let last = CallKey { relay, from: PublicKey([0xff; 32]) };
        self.calls.range(first..=last).map(|(key, _)| *key).collect()
    }

    fn send_reject(&self, fx: &mut Effects, key: CallKey, reason: RejectReason) {
        if let Some(OwnRelay { state: State::Listening { conn, .. }, .. }) = self.relays.get(&key.relay) {
            fx.send(*conn, &ToRelay::Reject { from: key.from, reason });
        }
    }

    fn connect(&mut self, now: Instant, fx: &mut Effects, relay: PublicKey) {
        if let Some(own) = self.relays.get_mut(&relay) {
            let conn = fx.connect(&own.address);
            own.state = State::Connecting(conn);
            self.conns.insert(conn, Use::Listen { relay });
            self.deadlines.set(Wait::Relay(relay), now + CONNECT_DEADLINE);
        }
    }

    /// Closes the listening connection, if there is one, and says what it was.
    fn disconnect(&mut self, fx: &mut Effects, relay: PublicKey) -> State {
        let Some(own) = self.relays.get_mut(&relay) else { return State::Waiting };
        let before = std::mem::replace(&mut own.state, State::Waiting);
        if let Some(conn) = before.conn()
            && self.conns.remove(&conn).is_some()
        {
            fx.close(conn);
        }
        before
    }

    /// The listening connection is of no use (any more): closes it, and tries again after a while.
    fn fail(&mut self, now: Instant, fx: &mut Effects, relay: PublicKey, reason: Option<FailReason>) {
        let since = self.disconnect(fx, relay).since();
        let Some(own) = self.relays.get_mut(&relay) else { return };
        let wait = match since {
            Some(since) => own.backoff.after_end(since, now, LISTENER_SPREAD, &mut fx.rng),
            None => own.backoff.after_failure(&mut fx.rng),
        };
        if !mutant!(RelayNotRedialled) {
            self.deadlines.set(Wait::Relay(relay), now + wait);
        }
        // Offers died with the listener at the relay; what is being taken may still succeed.
        for key in self.calls_of(relay) {
            if let Some(Call::Offered) = self.calls.get(&key) {
                self.calls.remove(&key);
                self.deadlines.clear(Wait::Call(key));
            }
        }
        fx.push(Output::RelayDown { relay, reason });
    }

    /// Panics if an invariant does not hold.
    #[cfg(any(test, feature = "probes"))]
    pub(super) fn assert_consistent(&self) {
        assert!(self.calls.len() <= MAX_CALLS);
        let listening = self.relays.values().filter(|own| matches!(own.state, State::Listening { .. })).count();
        assert_eq!(self.deadlines.len(), self.calls.len() + self.relays.len() - listening);
        let accepting = self.calls.values().filter(|call| matches!(call, Call::Accepting { .. })).count();
        let connected = self.relays.values().filter(|own| own.state.conn().is_some()).count();
        assert_eq!(self.conns.len(), accepting + connected);
    }

    #[cfg(any(test, feature = "fuzz"))]
    pub(super) fn is_listening(&self, relay: PublicKey) -> bool {
        self.relays.get(&relay).is_some_and(|own| own.state.since().is_some())
    }
}
