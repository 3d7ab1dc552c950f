//! The relay: where nodes without a public address meet.
//!
//! It guards that whoever waits for calls can be called, that a tunnel joins exactly the two nodes that both asked for it,
//! and that nobody, by malice or by dying silently, keeps others out. Identities are proven before anything is heard.
//!
//! | message | on a connection that | effect |
//! |---|---|---|
//! | `Listen` | is being set up | `Listening`; an older listener of that identity goes at once; calls that wait are told again |
//! | `Connect { to }` | is being set up | half a tunnel, `Incoming` to `to`; or `Failed` at once, with the reason |
//! | `Accept { from }` | is being set up | `Ready` to both, then [`Output::Join`]; or `Failed` |
//! | `Reject { from, reason }` | listens | `Failed { Rejected }` to the caller |
//! | anything else | | the connection closes |
//!
//! 1. An identity has at most one listener; the newest counts.
//! 2. Of one caller to one node there is at most one half and one tunnel; the newest counts. An identity whose share of
//!    set-ups or halves is used up loses its oldest. So a dead session never keeps its own node out, as long as its share
//!    has room for one half a friend and for two ends of tunnels a friend (one called each way).
//! 3. No limit of [`Limits`] is ever exceeded; what is refused for one is told [`FailReason::Busy`] with whose it is.
//! 4. Set-ups end after [`RELAY_SETUP_DEADLINE`], halves after [`RELAY_HALF_DEADLINE`] or with the listener they wait for.
//! 5. Of a relay that serves chosen identities only ([`RelayServer::for_chosen`]) nobody else holds a place for longer than it takes
//!    to be told so; who is no longer chosen loses its listener, halves and tunnels at once.
//! 6. A message costs a fixed number of map look-ups; only a listener that comes or goes costs one for each call that
//!    waits for it, of which there are at most [`Limits::waiting_calls`].
//!
//! The runtime reads nothing more of a connection after a message until [`Output::Resume`] or [`Output::Join`]. Not here,
//! but in the runtime: forwarding after `Join`, its byte rates, idle tunnels (the channels' keepalive), slow readers.

mod book;
mod limits;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};

use offset_protocol::bytes::PublicKey;
use offset_protocol::codec::{decode, encode};
use offset_protocol::machine::{Alarm, Instant, Machine};
use offset_protocol::net::{ConnId, NetCommand, NetEvent, Purpose};
use offset_protocol::relay::{
    FailReason, FromRelay, LimitScope, MAX_RELAY_MESSAGE, RELAY_DRAIN_TIME, RELAY_HALF_DEADLINE, RELAY_SETUP_DEADLINE,
    RejectReason, RelayShare, ToRelay,
};
use offset_protocol::{buggify, mutant, sometimes};
use serde::{Deserialize, Serialize};

pub use book::Counts;
use book::{Book, Call, End, Peer, Role};
pub use limits::{LEAST_BYTES_PER_S, Limits, LimitsError, Quota, TunnelRate, What};
use offset_protocol::deadlines::Deadlines;

/// What can happen to a relay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Input {
    /// Something happened to a connection.
    Net(NetEvent),
    /// A tunnel ended: one end closed, and the runtime closed the other.
    JoinEnded {
        /// One end, as in [`Output::Join`].
        a: ConnId,
        /// The other end.
        b: ConnId,
    },
    /// Serve this identity. Of no effect in a relay that serves everybody.
    Allow {
        /// Whom.
        node: PublicKey,
    },
    /// Serve it no longer, and end what it has here. Of no effect in a relay that serves everybody.
    Disallow {
        /// Whom.
        node: PublicKey,
    },
    /// Shut down in order.
    Drain,
    /// The alarm is due.
    Tick,
}

/// What a relay wants done. A crash loses all of it harmlessly: nodes come back and ask again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Do something with a connection.
    Net(NetCommand),
    /// Read the next message of this connection.
    Resume {
        /// The connection, which listens.
        conn: ConnId,
    },
    /// From now on forward every message of each to the other; both were told `Ready` before.
    Join {
        /// The caller's end.
        a: ConnId,
        /// The called node's end.
        b: ConnId,
    },
    /// A peer broke a rule and was closed; for logs and metrics.
    Misbehaved {
        /// The connection.
        conn: ConnId,
        /// Who.
        peer: PublicKey,
        /// Which rule.
        rule: Misbehaviour,
    },
    /// A node came that this relay does not serve; it was told so. For logs and metrics.
    TurnedAway {
        /// Who.
        peer: PublicKey,
    },
    /// The last output of a drain: nothing is left to wait for. Everything is closed.
    Drained,
}

/// A rule of the relay that a peer broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misbehaviour {
    /// Bytes that are no message to a relay.
    #[error("a message that is not one to a relay")]
    Garbage,
    /// A message that has no place on such a connection.
    #[error("a message that has no place on this connection")]
    Unexpected,
    /// Nothing was said in time.
    #[error("a connection that did not say what it is for")]
    Silent,
}

/// The relay's machine. See the module.
#[derive(Debug)]
pub struct RelayServer {
    book: Book,
    /// `None`: everybody.
    chosen: Option<BTreeSet<PublicKey>>,
    /// What every listener is told.
    share: RelayShare,
    deadlines: Deadlines<ConnId>,
    drain: Drain,
    outputs: VecDeque<Output>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Drain {
    No,
    Until(Instant),
    Done,
}

impl Machine for RelayServer {
    type Input = Input;
    type Output = Output;

    fn handle(&mut self, now: Instant, input: Input) {
        match input {
            Input::Net(NetEvent::Incoming { conn, purpose, peer, from }) => {
                self.on_incoming(now, conn, purpose, Peer { key: peer, address: from });
            }
            // A relay opens no connections, so none of its own can be opened.
            Input::Net(NetEvent::Opened { .. }) => {}
            Input::Net(NetEvent::Message { conn, bytes }) => self.on_message(now, conn, &bytes),
            Input::Net(NetEvent::Closed { conn }) => self.on_closed(conn),
            Input::JoinEnded { a, b } => self.on_join_ended(a, b),
            Input::Allow { node } => {
                if let Some(chosen) = &mut self.chosen {
                    chosen.insert(node);
                }
            }
            Input::Disallow { node } => self.on_disallow(node),
            Input::Drain => self.on_drain(now),
            Input::Tick => self.on_tick(now),
        }
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<Alarm> {
        let next = self.deadlines.next().map(|at| Alarm { at, why: "relay: somebody waits too long" });
        let drain = match self.drain {
            Drain::Until(at) => Some(Alarm { at, why: "relay: drain" }),
            Drain::No | Drain::Done => None,
        };
        Alarm::earliest(next, drain)
    }
}

impl RelayServer {
    /// A relay that serves everybody, and that nobody is connected to. Limits that make no sense together are the caller's
    /// to refuse: [`Limits::check`].
    pub fn new(limits: Limits) -> Self {
        RelayServer {
            book: Book::new(&limits),
            chosen: None,
            share: limits.share(),
            deadlines: Deadlines::default(),
            drain: Drain::No,
            outputs: VecDeque::new(),
        }
    }

    /// A relay that serves the identities of [`Input::Allow`] only; nobody at first.
    pub fn for_chosen(limits: Limits) -> Self {
        RelayServer { chosen: Some(BTreeSet::new()), ..RelayServer::new(limits) }
    }

    /// How many connections there are, by what they are for.
    pub fn counts(&self) -> Counts {
        self.book.counts()
    }

    fn on_incoming(&mut self, now: Instant, conn: ConnId, purpose: Purpose, peer: Peer) {
        if self.book.role(conn).is_some() {
            return;
        }
        if purpose != Purpose::NodeRelay {
            return self.net(NetCommand::Close { conn });
        }
        self.net(NetCommand::Admit { conn });
        if self.drain != Drain::No {
            return self.fail(conn, FailReason::Closing);
        }
        if self.chosen.as_ref().is_some_and(|chosen| !chosen.contains(&peer.key)) {
            self.outputs.push_back(Output::TurnedAway { peer: peer.key });
            return self.fail(conn, FailReason::NotAllowed);
        }
        if let Some(oldest) = self.book.setup_in_the_way(peer.key) {
            self.remove_and_fail(oldest, FailReason::Busy { limit: LimitScope::Identity });
        }
        match self.book.add_setup(conn, peer) {
            Ok(()) => self.deadlines.set(conn, now + RELAY_SETUP_DEADLINE),
            Err(limit) => self.fail(conn, FailReason::Busy { limit }),
        }
    }

    fn on_message(&mut self, now: Instant, conn: ConnId, bytes: &[u8]) {
        let Some(role) = self.book.role(conn) else { return };
        let Ok(message) = decode::<ToRelay>(bytes, MAX_RELAY_MESSAGE) else {
            return self.misbehaved(conn, Misbehaviour::Garbage);
        };
        match (role, message) {
            (Role::Setup, ToRelay::Listen) => self.on_listen(conn),
            (Role::Setup, ToRelay::Connect { to }) => self.on_connect(now, conn, to),
            (Role::Setup, ToRelay::Accept { from }) => self.on_accept(conn, from),
            (Role::Listener, ToRelay::Reject { from, reason }) => self.on_reject(conn, from, reason),
            (Role::Setup, ToRelay::Reject { .. })
            | (Role::Listener, ToRelay::Listen | ToRelay::Connect { .. } | ToRelay::Accept { .. })
            | (Role::Half(_) | Role::Tunnel { .. }, _) => self.misbehaved(conn, Misbehaviour::Unexpected),
        }
    }

    fn on_listen(&mut self, conn: ConnId) {
        let Some(End { peer, .. }) = self.take_end(conn) else { return };
        let key = peer.key;
        let older = self.book.listener(&key);
        sometimes!("relay: a listener takes the place of an older one", older.is_some());
        if let Some(older) = older.filter(|_| !mutant!(TwoListeners)) {
            self.book.remove(older);
            self.fail(older, FailReason::Replaced);
        }
        if let Err(limit) = self.book.add_listener(conn, peer) {
            self.fail(conn, FailReason::Busy { limit });
            return self.fail_halves_to(key, FailReason::NotListening);
        }
        self.send(conn, &FromRelay::Listening { share: self.share });
        self.net_resume(conn);
        // The older listener may have been dead for a while: what it was told may never have arrived.
        let calls: Vec<_> = self.book.halves_to(key).map(|(call, _)| call).collect();
        sometimes!("relay: calls wait for a listener that comes back", !calls.is_empty());
        for call in calls {
            self.send(conn, &FromRelay::Incoming { from: call.from });
        }
    }

    fn on_connect(&mut self, now: Instant, conn: ConnId, to: PublicKey) {
        let Some(End { peer, .. }) = self.take_end(conn) else { return };
        let from = peer.key;
        if let Some(older) = self.book.half(&Call { to, from }) {
            sometimes!("relay: a caller calls again", true);
            self.remove_and_fail(older, FailReason::Replaced);
        }
        let Some(listener) = self.book.listener(&to) else {
            return self.fail(conn, FailReason::NotListening);
        };
        if let Some(oldest) = self.book.half_in_the_way(from) {
            self.remove_and_fail(oldest, FailReason::Busy { limit: LimitScope::Identity });
        }
        if buggify!("relay: refuse a call as busy", 100) {
            return self.fail(conn, FailReason::Busy { limit: LimitScope::Other });
        }
        match self.book.add_half(conn, peer, to) {
            Ok(()) => {
                if !mutant!(HalvesForever) {
                    self.deadlines.set(conn, now + RELAY_HALF_DEADLINE);
                }
                self.send(listener, &FromRelay::Incoming { from });
            }
            Err(limit) => self.fail(conn, FailReason::Busy { limit }),
        }
    }

    fn on_accept(&mut self, conn: ConnId, from: PublicKey) {
        let Some(callee) = self.take_end(conn) else { return };
        let call = Call { to: callee.peer.key, from };
        let other = self.book.halves_to(call.to).find(|(other, _)| mutant!(TunnelsCrossed) && *other != call);
        let half = other.map(|(_, half)| half).or(self.book.half(&call));
        sometimes!("relay: a call is taken that is there no more", half.is_none());
        let Some(caller) = half.and_then(|half| self.take_end(half)) else {
            return self.fail(conn, FailReason::NoSuchConnection);
        };
        if let Some(older) = self.book.tunnel(&call) {
            sometimes!("relay: a tunnel takes the place of an older one", true);
            self.end_tunnel(older);
        }
        match self.book.add_tunnel(&caller, &callee) {
            Ok(()) => {
                self.send(caller.conn, &FromRelay::Ready);
                self.send(callee.conn, &FromRelay::Ready);
                self.outputs.push_back(Output::Join { a: caller.conn, b: callee.conn });
            }
            Err((of_caller, of_callee)) => {
                self.fail(caller.conn, FailReason::Busy { limit: of_caller });
                self.fail(callee.conn, FailReason::Busy { limit: of_callee });
            }
        }
    }

    fn on_reject(&mut self, listener: ConnId, from: PublicKey, reason: RejectReason) {
        let Some(to) = self.book.key(listener) else { return };
        sometimes!("relay: a call is rejected too late", self.book.half(&Call { to, from }).is_none());
        // A half that is gone meanwhile, or was accepted, makes the answer late, not wrong.
        if let Some(half) = self.book.half(&Call { to, from }) {
            self.remove_and_fail(half, FailReason::Rejected { reason });
        }
        self.net_resume(listener);
    }

    fn on_closed(&mut self, conn: ConnId) {
        self.deadlines.clear(conn);
        match self.book.remove(conn) {
            None | Some((_, Role::Setup | Role::Half(_))) => {}
            Some((peer, Role::Listener)) => self.fail_halves_to(peer.key, FailReason::NotListening),
            Some((_, Role::Tunnel { other, .. })) => {
                self.net(NetCommand::Close { conn: other });
                self.drained_if_empty();
            }
        }
    }

    fn on_join_ended(&mut self, a: ConnId, b: ConnId) {
        if let Some(Role::Tunnel { other, .. }) = self.book.role(a)
            && other == b
        {
            self.book.remove(a);
            self.drained_if_empty();
        }
    }

    fn on_disallow(&mut self, node: PublicKey) {
        let Some(chosen) = &mut self.chosen else { return };
        if !chosen.remove(&node) {
            return;
        }
        let held: Vec<_> = self.book.held_by(node).collect();
        for conn in held {
            match self.book.role(conn) {
                Some(Role::Setup | Role::Half(_)) => self.remove_and_fail(conn, FailReason::NotAllowed),
                Some(Role::Listener) => {
                    self.remove_and_fail(conn, FailReason::NotAllowed);
                    self.fail_halves_to(node, FailReason::NotListening);
                }
                Some(Role::Tunnel { .. }) => self.end_tunnel(conn),
                // Its other end of the same tunnel, or a half to itself, went before.
                None => {}
            }
        }
        self.drained_if_empty();
    }

    fn on_drain(&mut self, now: Instant) {
        if self.drain != Drain::No {
            return;
        }
        self.drain = Drain::Until(now + RELAY_DRAIN_TIME);
        let all: Vec<_> = self.book.all().collect();
        for (conn, role) in all {
            match role {
                Role::Setup | Role::Half(_) => self.remove_and_fail(conn, FailReason::Closing),
                Role::Listener => {
                    self.book.remove(conn);
                    self.send(conn, &FromRelay::Closing);
                    self.net(NetCommand::Close { conn });
                }
                Role::Tunnel { .. } => {}
            }
        }
        self.drained_if_empty();
    }

    fn on_tick(&mut self, now: Instant) {
        while let Some(conn) = self.deadlines.pop_due(now) {
            match self.book.role(conn) {
                Some(Role::Setup) => {
                    sometimes!("relay: somebody connects and says nothing", true);
                    self.note(conn, Misbehaviour::Silent);
                    self.remove_and_fail(conn, FailReason::Timeout);
                }
                Some(Role::Half(_)) => {
                    sometimes!("relay: half a tunnel is given up", true);
                    self.remove_and_fail(conn, FailReason::Timeout);
                }
                Some(Role::Listener | Role::Tunnel { .. }) | None => {}
            }
        }
        if let Drain::Until(at) = self.drain
            && at <= now
        {
            let all: Vec<_> = self.book.all().map(|(conn, _)| conn).collect();
            for conn in all {
                self.end_tunnel(conn);
            }
            self.drained_if_empty();
        }
    }

    /// Takes a connection out of the book, to give it another role or to refuse it one.
    fn take_end(&mut self, conn: ConnId) -> Option<End> {
        self.deadlines.clear(conn);
        self.book.remove(conn).map(|(peer, _)| End { conn, peer })
    }

    fn fail_halves_to(&mut self, to: PublicKey, reason: FailReason) {
        let halves: Vec<_> = self.book.halves_to(to).map(|(_, conn)| conn).collect();
        sometimes!("relay: a listener leaves callers behind", !halves.is_empty());
        for conn in halves {
            self.remove_and_fail(conn, reason);
        }
    }

    /// Closes both ends of a tunnel, given one of them.
    fn end_tunnel(&mut self, conn: ConnId) {
        if let Some((_, Role::Tunnel { other, .. })) = self.book.remove(conn) {
            self.net(NetCommand::Close { conn });
            self.net(NetCommand::Close { conn: other });
        }
    }

    fn drained_if_empty(&mut self) {
        if matches!(self.drain, Drain::Until(_)) && self.book.counts().tunnels == 0 {
            self.drain = Drain::Done;
            self.outputs.push_back(Output::Drained);
        }
    }

    fn note(&mut self, conn: ConnId, rule: Misbehaviour) {
        if let Some(peer) = self.book.key(conn) {
            self.outputs.push_back(Output::Misbehaved { conn, peer, rule });
        }
    }

    fn misbehaved(&mut self, conn: ConnId, rule: Misbehaviour) {
        self.note(conn, rule);
        self.net(NetCommand::Close { conn });
        self.on_closed(conn);
    }

    fn remove_and_fail(&mut self, conn: ConnId, reason: FailReason) {
        self.deadlines.clear(conn);
        self.book.remove(conn);
        self.fail(conn, reason);
    }

    fn fail(&mut self, conn: ConnId, reason: FailReason) {
        self.send(conn, &FromRelay::Failed { reason });
        self.net(NetCommand::Close { conn });
    }

    fn send(&mut self, conn: ConnId, message: &FromRelay) {
        self.net(NetCommand::Send { conn, bytes: encode(message) });
    }

    fn net_resume(&mut self, conn: ConnId) {
        self.outputs.push_back(Output::Resume { conn });
    }

    fn net(&mut self, command: NetCommand) {
        self.outputs.push_back(Output::Net(command));
    }

    /// For simulations and tests: panics if an invariant of the book does not hold.
    #[cfg(any(test, feature = "probes"))]
    pub fn assert_consistent(&self) {
        self.book.assert_consistent();
        let counts = self.counts();
        assert_eq!(
            self.deadlines.len(),
            counts.setups + counts.halves,
            "every wait has a deadline, nothing else has one"
        );
    }
}
