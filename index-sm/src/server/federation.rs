//! Other index servers: who is trusted, who dials, which of two sessions stays.
//!
//! Both ends of a trusted pair dial, and wait after each failure; a session exists only if each trusts the other, for each
//! refuses whom it does not trust. Of two sessions the newer stays, so that a dead one never keeps a living one out. If both
//! ends dialled at the same moment, each would drop the other's newer session: then the one stays that the server with the
//! smaller key dialled.
//!
//! A neighbour's last tick goes into ours for as long as its session lasts.

use std::collections::BTreeMap;

use offset_protocol::bytes::{PublicKey, TickHash};
use offset_protocol::index::IndexToIndex;
use offset_protocol::limits::{MAX_INDEX_NEIGHBOURS, MAX_PROOF_LINKS};
use offset_protocol::machine::{Duration, Instant};
use offset_protocol::net::{Address, ConnId, NetCommand, Purpose};
use offset_protocol::sometimes;

use super::{EndReason, IndexServer, Peer, ServerOutput, TrustRefusal};
use crate::backoff::{Backoff, SESSION_PROVES_ITSELF};

/// Two sessions, one dialled by each end, are taken for dialled at the same moment within this time: far above a network's
/// delay, far below the time after which a dead session is found out.
pub const CROSSING_WINDOW: Duration = Duration::from_secs(5);

/// How far the news of a new neighbour travels: as far as proofs do.
const RIPPLE: u8 = MAX_PROOF_LINKS as u8;

/// The trusted servers.
pub(crate) struct Federation {
    us: PublicKey,
    /// At most [`MAX_INDEX_NEIGHBOURS`]; so few that looking at each is no cost.
    servers: BTreeMap<PublicKey, Trusted>,
}

struct Trusted {
    address: Address,
    dial: Dial,
    backoff: Backoff,
    session: Option<Session>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Dial {
    /// There is a session.
    Idle,
    At(Instant),
    Calling(ConnId),
}

#[derive(Clone, Copy)]
struct Session {
    conn: ConnId,
    since: Instant,
    dialled_by: PublicKey,
    tick: Option<TickHash>,
}

impl Federation {
    pub(crate) fn new(us: PublicKey) -> Self {
        Federation { us, servers: BTreeMap::new() }
    }

    pub(crate) fn sessions(&self) -> usize {
        self.servers.values().filter(|server| server.session.is_some()).count()
    }

    /// Servers with a session.
    pub(crate) fn open(&self) -> Vec<(PublicKey, ConnId)> {
        let conn = |(key, server): (&PublicKey, &Trusted)| Some((*key, server.session?.conn));
        self.servers.iter().filter_map(conn).collect()
    }

    pub(crate) fn conns(&self) -> Vec<ConnId> {
        self.open().into_iter().map(|(_, conn)| conn).collect()
    }

    pub(crate) fn conn(&self, server: &PublicKey) -> Option<ConnId> {
        Some(self.servers.get(server)?.session?.conn)
    }

    /// What goes into the next tick.
    pub(crate) fn last_ticks(&self) -> Vec<(PublicKey, TickHash)> {
        let tick = |(key, server): (&PublicKey, &Trusted)| Some((*key, server.session?.tick?));
        self.servers.iter().filter_map(tick).collect()
    }

    pub(crate) fn next_dial(&self) -> Option<Instant> {
        let at = |server: &Trusted| match server.dial {
            Dial::At(at) => Some(at),
            Dial::Idle | Dial::Calling(_) => None,
        };
        self.servers.values().filter_map(at).min()
    }
}

impl IndexServer {
    pub(super) fn on_trust(&mut self, now: Instant, server: PublicKey, address: Address) {
        let refusal = if server == self.federation.us {
            Some(TrustRefusal::Itself)
        } else if self.federation.servers.len() >= MAX_INDEX_NEIGHBOURS
            && !self.federation.servers.contains_key(&server)
        {
            Some(TrustRefusal::TooMany)
        } else {
            None
        };
        if let Some(reason) = refusal {
            return self.outputs.push_back(ServerOutput::NotTrusted { server, reason });
        }
        let fresh =
            || Trusted { address: address.clone(), dial: Dial::At(now), backoff: Backoff::default(), session: None };
        let trusted = self.federation.servers.entry(server).or_insert_with(fresh);
        if trusted.address != address {
            trusted.address = address;
            trusted.backoff.reset();
            if matches!(trusted.dial, Dial::At(_)) {
                trusted.dial = Dial::At(now);
            }
        }
        self.dial_due(now);
    }

    pub(super) fn on_distrust(&mut self, server: PublicKey) {
        let Some(trusted) = self.federation.servers.remove(&server) else { return };
        let calling = match trusted.dial {
            Dial::Calling(conn) => Some(conn),
            Dial::Idle | Dial::At(_) => None,
        };
        for conn in calling.into_iter().chain(trusted.session.map(|session| session.conn)) {
            self.conns.remove(&conn);
            self.end(conn, server, EndReason::Untrusted);
        }
    }

    pub(super) fn dial_due(&mut self, now: Instant) {
        for (server, trusted) in &mut self.federation.servers {
            if !matches!(trusted.dial, Dial::At(at) if at <= now) {
                continue;
            }
            let conn = self.conn_ids.allocate();
            trusted.dial = Dial::Calling(conn);
            self.conns.insert(conn, Peer::Dialled(*server));
            let (address, purpose) = (trusted.address.clone(), Purpose::IndexIndex);
            let command = NetCommand::Connect { conn, purpose, address, peer: *server };
            self.outputs.push_back(ServerOutput::Net(command));
        }
    }

    pub(super) fn on_incoming_server(&mut self, now: Instant, conn: ConnId, server: PublicKey) {
        if !self.federation.servers.contains_key(&server) {
            return self.end(conn, server, EndReason::Untrusted);
        }
        if self.make_way(now, conn, server, server) {
            self.net(NetCommand::Admit { conn });
            self.begin_session(now, conn, server, server);
        }
    }

    pub(super) fn on_opened(&mut self, now: Instant, conn: ConnId) {
        let Some(Peer::Dialled(server)) = self.conns.get(&conn).copied() else { return };
        let us = self.federation.us;
        if let Some(trusted) = self.federation.servers.get_mut(&server) {
            trusted.dial = Dial::Idle;
        }
        if self.make_way(now, conn, server, us) {
            self.begin_session(now, conn, server, us);
        }
    }

    /// Closes the old session with `server`, or, if the old one stays, the new one; whether the new one stays.
    fn make_way(&mut self, now: Instant, conn: ConnId, server: PublicKey, dialled_by: PublicKey) -> bool {
        let Some(old) = self.federation.servers.get(&server).and_then(|trusted| trusted.session) else { return true };
        let crossed = old.dialled_by != dialled_by && now.since(old.since) < CROSSING_WINDOW;
        sometimes!("index: two servers call each other at once", crossed);
        sometimes!("index: a session of a server takes the place of an older one", !crossed);
        if crossed && old.dialled_by < dialled_by {
            self.end(conn, server, EndReason::Crossed);
            return false;
        }
        self.end(old.conn, server, if crossed { EndReason::Crossed } else { EndReason::Replaced });
        true
    }

    fn begin_session(&mut self, now: Instant, conn: ConnId, server: PublicKey, dialled_by: PublicKey) {
        let Some(trusted) = self.federation.servers.get_mut(&server) else { return };
        trusted.session = Some(Session { conn, since: now, dialled_by, tick: None });
        if matches!(trusted.dial, Dial::At(_)) {
            trusted.dial = Dial::Idle;
        }
        self.conns.insert(conn, Peer::Neighbour(server));
        self.send(conn, &IndexToIndex::Tick { tick: self.ticks.current(), ripple: 0 });
    }

    /// The first tick of a session goes into an extra tick of ours: from then on attestations can be proven to the neighbour.
    /// It ripples through the federation, so that they soon can be from afar.
    pub(super) fn on_neighbours_tick(&mut self, now: Instant, server: PublicKey, tick: TickHash, ripple: u8) {
        let Some(session) = self.federation.servers.get_mut(&server).and_then(|trusted| trusted.session.as_mut())
        else {
            return;
        };
        let onward = match session.tick.replace(tick) {
            None => RIPPLE,
            Some(_) if ripple > 0 => ripple.min(RIPPLE) - 1,
            Some(_) => return,
        };
        sometimes!("index: the news of another server travels on", ripple > 0);
        self.want_extra_tick(now, onward);
    }

    /// A session ended, or a call failed. Unless there is another session, the server is called again after a pause.
    pub(super) fn on_neighbour_gone(&mut self, now: Instant, server: PublicKey, conn: ConnId) {
        let Some(trusted) = self.federation.servers.get_mut(&server) else { return };
        if let Some(session) = trusted.session.take_if(|session| session.conn == conn) {
            if now.since(session.since) >= SESSION_PROVES_ITSELF {
                trusted.backoff.reset();
            }
        } else if trusted.dial == Dial::Calling(conn) {
            trusted.dial = Dial::Idle;
        }
        if trusted.session.is_none() && trusted.dial == Dial::Idle {
            trusted.dial = Dial::At(now + trusted.backoff.next(&mut self.rng));
        }
    }
}
