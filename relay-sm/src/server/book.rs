//! Who is connected to a relay and as what. It keeps the indices and counts in step; what follows from a change is decided
//! by the server.
//!
//! 1. A connection has one role, and exactly the places and index entries of that role.
//! 2. An identity has at most one listener, a call at most one half and one tunnel.
//! 3. A half waits only for an identity that listens: the server removes the halves of a listener that leaves.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use offset_protocol::bytes::PublicKey;
use offset_protocol::mutant;
use offset_protocol::net::{Address, ConnId};
use offset_protocol::relay::LimitScope;

use super::limits::{Limits, Places, decrement};

/// Who calls whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Call {
    // `to` is first, so that the calls to one node are neighbours.
    pub(super) to: PublicKey,
    pub(super) from: PublicKey,
}

impl Call {
    fn all_to(to: PublicKey) -> RangeInclusive<Call> {
        Call { to, from: PublicKey([0; 32]) }..=Call { to, from: PublicKey([0xff; 32]) }
    }
}

/// The proven identity at the other end, and where it comes from.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) key: PublicKey,
    pub(super) address: Address,
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Setup,
    Listener,
    Half(Call),
    Tunnel { call: Call, other: ConnId },
}

/// One half of a tunnel that is to be.
#[derive(Clone, Debug)]
pub(super) struct End {
    pub(super) conn: ConnId,
    pub(super) peer: Peer,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Book {
    conns: BTreeMap<ConnId, (Peer, Role)>,
    listeners: BTreeMap<PublicKey, ConnId>,
    halves: BTreeMap<Call, ConnId>,
    tunnels: BTreeMap<Call, ConnId>,
    waiting: BTreeMap<PublicKey, u32>,
    max_waiting: u32,
    setup_places: Places,
    listener_places: Places,
    half_places: Places,
    tunnel_places: Places,
}

impl Book {
    pub(super) fn new(limits: &Limits) -> Self {
        Book {
            conns: BTreeMap::new(),
            listeners: BTreeMap::new(),
            halves: BTreeMap::new(),
            tunnels: BTreeMap::new(),
            waiting: BTreeMap::new(),
            max_waiting: limits.waiting_calls,
            setup_places: Places::new(limits.setups),
            listener_places: Places::new(limits.listeners),
            half_places: Places::new(limits.halves),
            tunnel_places: Places::new(limits.tunnel_ends),
        }
    }

    pub(super) fn role(&self, conn: ConnId) -> Option<Role> {
        self.conns.get(&conn).map(|(_, role)| *role)
    }

    pub(super) fn key(&self, conn: ConnId) -> Option<PublicKey> {
        self.conns.get(&conn).map(|(peer, _)| peer.key)
    }

    pub(super) fn listener(&self, key: &PublicKey) -> Option<ConnId> {
        self.listeners.get(key).copied()
    }

    pub(super) fn half(&self, call: &Call) -> Option<ConnId> {
        self.halves.get(call).copied()
    }

    /// The caller's end of a tunnel.
    pub(super) fn tunnel(&self, call: &Call) -> Option<ConnId> {
        self.tunnels.get(call).copied()
    }

    /// The halves that wait for `to`.
    pub(super) fn halves_to(&self, to: PublicKey) -> impl Iterator<Item = (Call, ConnId)> {
        self.halves.range(Call::all_to(to)).map(|(&call, &conn)| (call, conn))
    }

    /// Every connection; for shutting down.
    pub(super) fn all(&self) -> impl Iterator<Item = (ConnId, Role)> {
        self.conns.iter().map(|(&conn, (_, role))| (conn, *role))
    }

    /// Every connection of `key`, whatever it is for.
    pub(super) fn held_by(&self, key: PublicKey) -> impl Iterator<Item = ConnId> {
        let places = [&self.setup_places, &self.listener_places, &self.half_places, &self.tunnel_places];
        places.into_iter().flat_map(move |places| places.held_by(key))
    }

    /// The set-up of `key` that must give way to a newer one, if its own share is used up.
    pub(super) fn setup_in_the_way(&self, key: PublicKey) -> Option<ConnId> {
        if self.setup_places.is_full_for(&key) { self.setup_places.oldest_of(key) } else { None }
    }

    /// The half of `key` that must give way to a newer one, if its own share is used up.
    pub(super) fn half_in_the_way(&self, key: PublicKey) -> Option<ConnId> {
        if self.half_places.is_full_for(&key) { self.half_places.oldest_of(key) } else { None }
    }

    pub(super) fn add_setup(&mut self, conn: ConnId, peer: Peer) -> Result<(), LimitScope> {
        self.setup_places.take(conn, peer.key, &peer.address)?;
        self.conns.insert(conn, (peer, Role::Setup));
        Ok(())
    }

    pub(super) fn add_listener(&mut self, conn: ConnId, peer: Peer) -> Result<(), LimitScope> {
        let taken = self.listener_places.take(conn, peer.key, &peer.address);
        taken.or_else(|limit| if mutant!(TwoListeners) { Ok(()) } else { Err(limit) })?;
        self.listeners.insert(peer.key, conn);
        self.conns.insert(conn, (peer, Role::Listener));
        Ok(())
    }

    pub(super) fn add_half(&mut self, conn: ConnId, peer: Peer, to: PublicKey) -> Result<(), LimitScope> {
        let waiting = self.waiting.get(&to).copied().unwrap_or(0);
        if waiting >= self.max_waiting {
            return Err(LimitScope::Other);
        }
        self.half_places.take(conn, peer.key, &peer.address)?;
        let call = Call { to, from: peer.key };
        self.waiting.insert(to, waiting + 1);
        self.halves.insert(call, conn);
        self.conns.insert(conn, (peer, Role::Half(call)));
        Ok(())
    }

    /// Makes a tunnel of two ends, or says for each of them, caller first, whose share is used up.
    pub(super) fn add_tunnel(&mut self, caller: &End, callee: &End) -> Result<(), (LimitScope, LimitScope)> {
        let places = &mut self.tunnel_places;
        places
            .take(caller.conn, caller.peer.key, &caller.peer.address)
            .map_err(|scope| (scope, seen_from_other(scope)))?;
        if let Err(scope) = places.take(callee.conn, callee.peer.key, &callee.peer.address) {
            places.release(caller.conn, caller.peer.key, &caller.peer.address);
            return Err((seen_from_other(scope), scope));
        }
        let call = Call { to: callee.peer.key, from: caller.peer.key };
        self.tunnels.insert(call, caller.conn);
        self.conns.insert(caller.conn, (caller.peer.clone(), Role::Tunnel { call, other: callee.conn }));
        self.conns.insert(callee.conn, (callee.peer.clone(), Role::Tunnel { call, other: caller.conn }));
        Ok(())
    }

    /// Forgets a connection; of a tunnel, both ends.
    pub(super) fn remove(&mut self, conn: ConnId) -> Option<(Peer, Role)> {
        let (peer, role) = self.conns.remove(&conn)?;
        match role {
            Role::Setup => self.setup_places.release(conn, peer.key, &peer.address),
            Role::Listener => {
                self.listener_places.release(conn, peer.key, &peer.address);
                self.listeners.remove(&peer.key);
            }
            Role::Half(call) => {
                if !mutant!(PlaceKept) {
                    self.half_places.release(conn, peer.key, &peer.address);
                }
                self.halves.remove(&call);
                decrement(&mut self.waiting, &call.to);
            }
            Role::Tunnel { call, other } => {
                self.tunnel_places.release(conn, peer.key, &peer.address);
                self.tunnels.remove(&call);
                if let Some((peer, _)) = self.conns.remove(&other) {
                    self.tunnel_places.release(other, peer.key, &peer.address);
                }
            }
        }
        Some((peer, role))
    }

    /// How many there are of what.
    pub(super) fn counts(&self) -> Counts {
        Counts {
            setups: self.setup_places.len(),
            listeners: self.listener_places.len(),
            halves: self.half_places.len(),
            tunnels: self.tunnels.len(),
        }
    }

    /// Panics if an invariant of the module does not hold.
    #[cfg(any(test, feature = "probes"))]
    pub(super) fn assert_consistent(&self) {
        for places in [&self.setup_places, &self.listener_places, &self.half_places, &self.tunnel_places] {
            places.assert_consistent();
        }
        let places = self.counts();
        assert_eq!(self.tunnel_places.len(), 2 * places.tunnels);
        assert_eq!(self.conns.len(), places.setups + places.listeners + places.halves + 2 * places.tunnels);
        assert_eq!((self.listeners.len(), self.halves.len()), (places.listeners, places.halves));
        for (&conn, (peer, role)) in &self.conns {
            match role {
                Role::Setup => {}
                Role::Listener => assert_eq!(self.listeners.get(&peer.key), Some(&conn)),
                Role::Half(call) => {
                    assert_eq!((call.from, self.halves.get(call)), (peer.key, Some(&conn)));
                    assert!(self.listeners.contains_key(&call.to), "a half waits for nobody");
                }
                Role::Tunnel { call, other } => {
                    let (other_peer, other_role) = &self.conns[other];
                    assert_eq!(*other_role, Role::Tunnel { call: *call, other: conn });
                    let caller = self.tunnels[call];
                    assert!(caller == conn || caller == *other);
                    let (from, to) = if caller == conn { (peer, other_peer) } else { (other_peer, peer) };
                    assert_eq!(*call, Call { to: to.key, from: from.key }, "a tunnel joins strangers");
                }
            }
        }
        assert_eq!(self.waiting.values().map(|&count| count as usize).sum::<usize>(), places.halves);
        assert!(self.waiting.values().all(|&count| count > 0 && count <= self.max_waiting));
    }
}

/// What a limit of one end looks like from the other.
fn seen_from_other(scope: LimitScope) -> LimitScope {
    match scope {
        LimitScope::Identity | LimitScope::Address | LimitScope::Other => LimitScope::Other,
        LimitScope::Total => LimitScope::Total,
    }
}

/// How many connections a relay has, by what they are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Not yet said what they are for.
    pub setups: usize,
    /// Wait for calls.
    pub listeners: usize,
    /// Calls that wait to be accepted.
    pub halves: usize,
    /// Tunnels, each of two connections.
    pub tunnels: usize,
}
