//! The node's side of relays: it waits for calls at its own relays and calls its friends at theirs.
//!
//! Two parts that know nothing of each other: the `listener` (own relays, calls that come in) and the `connector` (friends'
//! relays, calls that go out). What both make is a *tunnel*: a connection whose messages are the friend's.
//!
//! | input | effect |
//! |---|---|
//! | [`Input::AddRelay`], [`Input::RemoveRelay`] | wait for calls there, or no longer; tunnels stay |
//! | [`Input::Accept`], [`Input::Reject`] | the answer to [`Output::Incoming`] |
//! | [`Input::Dial`], [`Input::StopDialling`], [`Input::Forget`] | call a friend until a tunnel stands, again after it ended |
//! | [`Input::SendTunnel`], [`Input::CloseTunnel`] | use a tunnel |
//! | [`Input::NetworkReturned`] | start afresh without waiting |
//!
//! 1. Each [`Output::TunnelOpened`] is followed by exactly one [`Output::TunnelClosed`], also after [`Input::CloseTunnel`].
//! 2. Nothing that relays or callers do makes it hold more than [`MAX_CALLS`] calls and [`MAX_ATTEMPTS`] attempts.
//! 3. A connection that is of no use any more is closed at once.
//!
//! It does not prove who is at the other end of a tunnel: a relay could lie. The friends' own secure channel inside the
//! tunnel does. With both sides dialling, two tunnels may stand; which one stays is decided above.

mod backoff;
mod connector;
mod effects;
mod listener;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use offset_protocol::bytes::PublicKey;
use offset_protocol::machine::{Alarm, Duration, Instant, Machine, Seed};
use offset_protocol::net::{ConnId, ConnIds, NetCommand, NetEvent};
use offset_protocol::relay::{FailReason, RELAY_HALF_DEADLINE, RejectReason, RelayAddress, RelayShare};
use serde::{Deserialize, Serialize};

pub use backoff::{FIRST_WAIT, LISTENER_SPREAD, LONGEST_WAIT, STABLE_AFTER, TUNNEL_SPREAD};
use connector::Connector;
pub use connector::{HEAD_START, MAX_ATTEMPTS, MAX_IN_RACE};
use effects::Effects;
use listener::Listener;
pub use listener::MAX_CALLS;

/// A connection to a relay is open by then, or given up. Chosen freely: name look-up, TCP and a handshake of at most 5 s.
pub const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// A relay answers by then, or is given up: a little more than it waits for the called node.
pub const ANSWER_DEADLINE: Duration = Duration::from_micros(RELAY_HALF_DEADLINE.as_micros() + 2_000_000);

/// What can happen to a relay client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Input {
    /// Something happened to a connection.
    Net(NetEvent),
    /// Wait for calls at this relay. A relay that is known stays as it is; with a new address it starts afresh.
    AddRelay(RelayAddress),
    /// No longer wait for calls there. Calls that are being taken there are given up; no [`Output::RelayDown`] follows.
    RemoveRelay {
        /// The relay's identity.
        relay: PublicKey,
    },
    /// Take a call.
    Accept {
        /// As in [`Output::Incoming`].
        relay: PublicKey,
        /// As in [`Output::Incoming`].
        from: PublicKey,
    },
    /// Do not take a call.
    Reject {
        /// As in [`Output::Incoming`].
        relay: PublicKey,
        /// As in [`Output::Incoming`].
        from: PublicKey,
        /// What the caller is told.
        reason: RejectReason,
    },
    /// This friend should be connected: call it until a tunnel that we called stands, and again some time after that ended.
    /// Said again, it updates the list of relays.
    Dial {
        /// Whom.
        friend: PublicKey,
        /// Where it waits for calls; beyond [`MAX_RELAYS`](offset_protocol::limits::MAX_RELAYS) they are not tried.
        relays: Vec<RelayAddress>,
    },
    /// Stop calling. Tunnels stay. Which relay worked, and how long to rest, is remembered.
    StopDialling {
        /// Whom.
        friend: PublicKey,
    },
    /// Stop calling, and remember nothing: the friend is removed.
    Forget {
        /// Whom.
        friend: PublicKey,
    },
    /// Send a message to a friend.
    SendTunnel {
        /// The tunnel.
        conn: ConnId,
        /// The message; at most [`MAX_FRAME`](offset_protocol::limits::MAX_FRAME) bytes.
        bytes: Vec<u8>,
    },
    /// Close a tunnel.
    CloseTunnel {
        /// The tunnel.
        conn: ConnId,
    },
    /// The network of this host is back or has changed: what is open may be dead, and waiting is of no use.
    NetworkReturned,
    /// The alarm is due.
    Tick,
}

/// What a relay client wants done or known. A crash loses all of it harmlessly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Do something with a connection.
    Net(NetCommand),
    /// We can be called at this relay.
    RelayUp {
        /// The relay.
        relay: PublicKey,
        /// What it lets us have.
        share: RelayShare,
    },
    /// We cannot be called at this relay now; it is tried again by itself. Said when it is lost and after each try that failed.
    RelayDown {
        /// The relay.
        relay: PublicKey,
        /// Why, if it said so or was silent.
        reason: Option<FailReason>,
    },
    /// Somebody calls. The answer is [`Input::Accept`] or [`Input::Reject`]; none within 15 s is forgotten.
    Incoming {
        /// Where.
        relay: PublicKey,
        /// Who, as the relay says.
        from: PublicKey,
    },
    /// A tunnel stands.
    TunnelOpened {
        /// The tunnel.
        conn: ConnId,
        /// Whom it leads to, as the relay says.
        friend: PublicKey,
        /// Through which relay.
        relay: PublicKey,
        /// Who called.
        direction: Direction,
    },
    /// A message came through a tunnel.
    TunnelMessage {
        /// The tunnel.
        conn: ConnId,
        /// From whom.
        friend: PublicKey,
        /// The message.
        bytes: Vec<u8>,
    },
    /// A tunnel is gone.
    TunnelClosed {
        /// The tunnel.
        conn: ConnId,
        /// With whom.
        friend: PublicKey,
    },
}

/// Who called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Direction {
    /// We did.
    Dialled,
    /// The friend did.
    Accepted,
}

/// The relay client's machine. See the module.
#[derive(Debug)]
pub struct RelayClient {
    listener: Listener,
    connector: Connector,
    tunnels: BTreeMap<ConnId, Tunnel>,
    fx: Effects,
}

#[derive(Clone, Copy, Debug)]
struct Tunnel {
    friend: PublicKey,
    relay: PublicKey,
    direction: Direction,
    since: Instant,
}

/// How a tunnel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Lost,
    ClosedByParent,
}

impl Machine for RelayClient {
    type Input = Input;
    type Output = Output;

    fn handle(&mut self, now: Instant, input: Input) {
        let fx = &mut self.fx;
        match input {
            Input::Net(event) => self.on_net(now, event),
            Input::AddRelay(relay) => self.listener.add(now, fx, relay),
            Input::RemoveRelay { relay } => self.listener.remove(fx, relay),
            Input::Accept { relay, from } => self.listener.accept(now, fx, relay, from),
            Input::Reject { relay, from, reason } => self.listener.reject(fx, relay, from, reason),
            Input::Dial { friend, relays } => self.connector.dial(now, fx, friend, relays),
            Input::StopDialling { friend } => self.connector.stop(now, fx, friend),
            Input::Forget { friend } => self.connector.forget(now, fx, friend),
            Input::SendTunnel { conn, bytes } => {
                if self.tunnels.contains_key(&conn) {
                    fx.push(Output::Net(NetCommand::Send { conn, bytes }));
                }
            }
            Input::CloseTunnel { conn } => {
                if self.tunnels.contains_key(&conn) {
                    fx.close(conn);
                    self.end_tunnel(now, conn, Ending::ClosedByParent);
                }
            }
            Input::NetworkReturned => {
                self.listener.on_network_returned(now, fx);
                self.connector.on_network_returned(now, fx);
            }
            Input::Tick => {
                self.listener.on_tick(now, fx);
                self.connector.on_tick(now, fx);
            }
        }
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.fx.outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<Alarm> {
        let listener = self.listener.next_deadline().map(|at| Alarm { at, why: "relay client: listener" });
        let connector = self.connector.next_deadline().map(|at| Alarm { at, why: "relay client: connector" });
        Alarm::earliest(listener, connector)
    }
}

impl RelayClient {
    /// A client without relays and friends. `ids` gives numbers to its connections, `seed` jitter to its waits.
    pub fn new(seed: Seed, ids: ConnIds) -> Self {
        RelayClient {
            listener: Listener::new(),
            connector: Connector::new(),
            tunnels: BTreeMap::new(),
            fx: Effects { ids, rng: seed.rng(), shares: BTreeMap::new(), outputs: VecDeque::new() },
        }
    }

    fn on_net(&mut self, now: Instant, event: NetEvent) {
        let fx = &mut self.fx;
        match event {
            // A client is called through its relays only.
            NetEvent::Incoming { conn, .. } => fx.close(conn),
            NetEvent::Opened { conn } => {
                if self.listener.owns(conn) {
                    self.listener.on_opened(now, fx, conn);
                } else if self.connector.owns(conn) {
                    self.connector.on_opened(now, fx, conn);
                }
            }
            NetEvent::Message { conn, bytes } => self.on_message(now, conn, bytes),
            NetEvent::Closed { conn } => {
                if self.listener.owns(conn) {
                    self.listener.on_closed(now, fx, conn);
                } else if self.connector.owns(conn) {
                    self.connector.on_closed(now, fx, conn);
                } else {
                    self.end_tunnel(now, conn, Ending::Lost);
                }
            }
        }
    }

    fn on_message(&mut self, now: Instant, conn: ConnId, bytes: Vec<u8>) {
        let fx = &mut self.fx;
        if let Some(tunnel) = self.tunnels.get(&conn) {
            fx.push(Output::TunnelMessage { conn, friend: tunnel.friend, bytes });
        } else if self.listener.owns(conn) {
            if let Some(taken) = self.listener.on_message(now, fx, conn, &bytes) {
                self.open_tunnel(now, conn, taken.from, taken.relay, Direction::Accepted);
            }
        } else if self.connector.owns(conn)
            && let Some(won) = self.connector.on_message(now, fx, conn, &bytes)
        {
            self.open_tunnel(now, conn, won.friend, won.relay, Direction::Dialled);
        }
    }

    fn open_tunnel(&mut self, now: Instant, conn: ConnId, friend: PublicKey, relay: PublicKey, direction: Direction) {
        self.tunnels.insert(conn, Tunnel { friend, relay, direction, since: now });
        self.fx.push(Output::TunnelOpened { conn, friend, relay, direction });
    }

    fn end_tunnel(&mut self, now: Instant, conn: ConnId, ending: Ending) {
        if let Some(tunnel) = self.tunnels.remove(&conn) {
            self.fx.push(Output::TunnelClosed { conn, friend: tunnel.friend });
            self.connector.on_tunnel_ended(now, &mut self.fx, conn, tunnel, ending);
        }
    }

    /// For simulations and tests: panics if an invariant does not hold.
    #[cfg(any(test, feature = "probes"))]
    pub fn assert_consistent(&self) {
        self.listener.assert_consistent();
        self.connector.assert_consistent();
    }

    /// Whether nothing is open and nothing is waited for.
    #[cfg(any(test, feature = "fuzz"))]
    pub(crate) fn is_idle(&self) -> bool {
        self.tunnels.is_empty() && self.connector.attempts() == 0 && self.poll_timeout().is_none()
    }

    #[cfg(any(test, feature = "fuzz"))]
    pub(crate) fn is_listening(&self, relay: PublicKey) -> bool {
        self.listener.is_listening(relay)
    }
}
