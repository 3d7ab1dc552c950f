//! The node calls its friends at their relays, until the parent says stop.
//!
//! A *race* tries a friend's relays: one starts every [`HEAD_START`], the one that worked last first, at most
//! [`MAX_IN_RACE`] at once, the next at once when one fails. The first tunnel that stands wins; the others are closed. When
//! all have failed, the friend rests for a jittered, growing while before the next race.
//!
//! | what happens to an attempt | effect |
//! |---|---|
//! | `Ready` | the connection is a tunnel: [`Output::TunnelOpened`](super::Output::TunnelOpened) |
//! | `Failed`, garbage, a lost connection, silence | the next relay at once |
//! | its tunnel ends | a rest, then the next race; if it ended young, that relay is tried last and alone, the latest of them last of all |
//!
//! 1. A friend has attempts only while it races; each attempt has exactly one deadline.
//! 2. At most [`MAX_ATTEMPTS`] attempts are open over all friends; friends beyond wait in order. At a relay that has told
//!    us how many calls of ours it takes there are no more than that; a race passes over it.
//! 3. Standing and backoff outlive a stop, so that a friend whose tunnels end at once is not called in a tight loop. The
//!    parent forgets a removed friend explicitly.
//! 4. A relay that answers at once and then forwards nothing cannot win every race: its tunnels end young.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use offset_protocol::bytes::PublicKey;
use offset_protocol::limits::MAX_RELAYS;
use offset_protocol::machine::{Duration, Instant};
use offset_protocol::net::ConnId;
use offset_protocol::relay::{RelayAddress, ToRelay};

use super::backoff::{Backoff, STABLE_AFTER, TUNNEL_SPREAD};
use super::effects::{Effects, is_ready};
use super::{ANSWER_DEADLINE, CONNECT_DEADLINE, Direction, Ending, Tunnel};
use offset_protocol::deadlines::Deadlines;
use offset_protocol::sometimes;

/// How much later than its predecessor an attempt starts. Chosen freely: longer than most tunnels take to stand, shorter
/// than anybody notices.
pub const HEAD_START: Duration = Duration::from_millis(300);
/// Attempts at once in one race.
pub const MAX_IN_RACE: usize = 3;
/// Attempts at once over all friends. Chosen freely: bounds sockets and handshakes of a node with thousands of friends.
pub const MAX_ATTEMPTS: usize = 256;

/// An attempt that became a tunnel.
pub(super) struct Won {
    pub(super) friend: PublicKey,
    pub(super) relay: PublicKey,
}

#[derive(Debug)]
pub(super) struct Connector {
    friends: BTreeMap<PublicKey, Friend>,
    attempts: BTreeMap<ConnId, Attempt>,
    deadlines: Deadlines<Wait>,
    /// Friends that wait for a free attempt, in order.
    starved: BTreeMap<u64, PublicKey>,
    next_ticket: u64,
}

#[derive(Debug)]
struct Friend {
    relays: Vec<Candidate>,
    backoff: Backoff,
    /// No race begins before.
    rests_until: Instant,
    phase: Phase,
}

#[derive(Clone, Debug)]
struct Candidate {
    address: RelayAddress,
    standing: Standing,
}

/// In the order in which a race starts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    WorkedLast,
    Fair,
    /// Its last tunnel ended young, then; who failed last is tried last, or a relay that forwards nothing would win every
    /// race against one that had bad luck once.
    EndedYoung(Instant),
}

#[derive(Debug)]
enum Phase {
    Stopped,
    Resting,
    Racing(Race),
    Connected(ConnId),
}

#[derive(Debug, Default)]
struct Race {
    queue: VecDeque<Candidate>,
    open: BTreeSet<ConnId>,
    next_start: Instant,
    ticket: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Attempt {
    friend: PublicKey,
    relay: PublicKey,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Wait {
    Friend(PublicKey),
    Attempt(ConnId),
}

impl Connector {
    pub(super) const fn new() -> Self {
        Connector {
            friends: BTreeMap::new(),
            attempts: BTreeMap::new(),
            deadlines: Deadlines::new(),
            starved: BTreeMap::new(),
            next_ticket: 0,
        }
    }

    pub(super) fn owns(&self, conn: ConnId) -> bool {
        self.attempts.contains_key(&conn)
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.next()
    }

    /// The friend should be connected, through one of `relays`.
    pub(super) fn dial(&mut self, now: Instant, fx: &mut Effects, key: PublicKey, relays: Vec<RelayAddress>) {
        let friend = self.friends.entry(key).or_insert_with(|| Friend {
            relays: Vec::new(),
            backoff: Backoff::default(),
            rests_until: Instant::ZERO,
            phase: Phase::Stopped,
        });
        let changed = friend.set_relays(relays);
        match &friend.phase {
            Phase::Stopped => self.rest_or_race(now, fx, key),
            // Fresh addresses are worth a race now; the backoff stays.
            Phase::Resting | Phase::Racing(_) if changed => {
                self.leave_race(fx, key, None);
                self.race(now, fx, key);
                self.feed_starved(now, fx);
            }
            Phase::Resting | Phase::Racing(_) | Phase::Connected(_) => {}
        }
    }

    pub(super) fn stop(&mut self, now: Instant, fx: &mut Effects, key: PublicKey) {
        self.leave_race(fx, key, None);
        if let Some(friend) = self.friends.get_mut(&key) {
            friend.phase = Phase::Stopped;
            self.deadlines.clear(Wait::Friend(key));
            self.feed_starved(now, fx);
        }
    }

    pub(super) fn forget(&mut self, now: Instant, fx: &mut Effects, key: PublicKey) {
        self.stop(now, fx, key);
        self.friends.remove(&key);
    }

    /// Everything afresh, at once.
    pub(super) fn on_network_returned(&mut self, now: Instant, fx: &mut Effects) {
        let keys: Vec<_> = self.friends.keys().copied().collect();
        for &key in &keys {
            self.leave_race(fx, key, None);
        }
        for key in keys {
            let Some(friend) = self.friends.get_mut(&key) else { continue };
            friend.backoff.reset();
            friend.rests_until = now;
            match friend.phase {
                Phase::Resting | Phase::Racing(_) => self.race(now, fx, key),
                Phase::Stopped | Phase::Connected(_) => {}
            }
        }
    }

    pub(super) fn on_opened(&mut self, now: Instant, fx: &mut Effects, conn: ConnId) {
        if let Some(attempt) = self.attempts.get(&conn) {
            self.deadlines.set(Wait::Attempt(conn), now + ANSWER_DEADLINE);
            fx.send(conn, &ToRelay::Connect { to: attempt.friend });
        }
    }

    pub(super) fn on_message(&mut self, now: Instant, fx: &mut Effects, conn: ConnId, bytes: &[u8]) -> Option<Won> {
        if is_ready(bytes) {
            return self.on_ready(now, fx, conn);
        }
        fx.close(conn);
        self.on_closed(now, fx, conn);
        None
    }

    fn on_ready(&mut self, now: Instant, fx: &mut Effects, conn: ConnId) -> Option<Won> {
        let Attempt { friend: key, relay } = *self.attempts.get(&conn)?;
        sometimes!("relay client: a race through several relays is won", self.is_raced(&key));
        self.leave_race(fx, key, Some(conn));
        let friend = self.friends.get_mut(&key)?;
        friend.phase = Phase::Connected(conn);
        for candidate in &mut friend.relays {
            if candidate.address.public_key == relay {
                candidate.standing = Standing::WorkedLast;
            } else if candidate.standing == Standing::WorkedLast {
                candidate.standing = Standing::Fair;
            }
        }
        self.feed_starved(now, fx);
        Some(Won { friend: key, relay })
    }

    /// Whether several attempts to reach a friend are under way.
    fn is_raced(&self, key: &PublicKey) -> bool {
        let phase = self.friends.get(key).map(|friend| &friend.phase);
        matches!(phase, Some(Phase::Racing(race)) if race.open.len() > 1)
    }

    /// An attempt is over, without a tunnel.
    pub(super) fn on_closed(&mut self, now: Instant, fx: &mut Effects, conn: ConnId) {
        let Some(Attempt { friend: key, .. }) = self.attempts.remove(&conn) else { return };
        self.deadlines.clear(Wait::Attempt(conn));
        if let Some(Friend { phase: Phase::Racing(race), .. }) = self.friends.get_mut(&key) {
            race.open.remove(&conn);
            race.next_start = now;
        }
        self.advance(now, fx, key);
        self.feed_starved(now, fx);
    }

    /// A tunnel with a friend is over, whoever opened it.
    pub(super) fn on_tunnel_ended(
        &mut self,
        now: Instant,
        fx: &mut Effects,
        conn: ConnId,
        tunnel: Tunnel,
        ending: Ending,
    ) {
        let key = tunnel.friend;
        let Some(friend) = self.friends.get_mut(&key) else { return };
        let connected = matches!(friend.phase, Phase::Connected(connected) if connected == conn);
        let young = now.since(tunnel.since) < STABLE_AFTER;
        // A parent that stopped calling and then closes has a better tunnel: that says nothing against this relay.
        let to_blame = tunnel.direction == Direction::Dialled && young && (connected || ending == Ending::Lost);
        if to_blame && let Some(candidate) = friend.candidate(tunnel.relay) {
            candidate.standing = Standing::EndedYoung(now);
            sometimes!("relay client: a tunnel ends young", true);
        }
        if let Phase::Resting | Phase::Racing(_) = friend.phase {
            return;
        }
        friend.rests_until = now + friend.backoff.after_end(tunnel.since, now, TUNNEL_SPREAD, &mut fx.rng);
        if connected {
            self.rest_or_race(now, fx, key);
        }
    }

    pub(super) fn on_tick(&mut self, now: Instant, fx: &mut Effects) {
        while let Some(wait) = self.deadlines.pop_due(now) {
            match wait {
                Wait::Attempt(conn) => {
                    fx.close(conn);
                    self.on_closed(now, fx, conn);
                }
                Wait::Friend(key) => match self.friends.get(&key).map(|friend| &friend.phase) {
                    Some(Phase::Resting) => self.race(now, fx, key),
                    Some(Phase::Racing(_)) => self.advance(now, fx, key),
                    Some(Phase::Stopped | Phase::Connected(_)) | None => {}
                },
            }
        }
    }

    fn rest_or_race(&mut self, now: Instant, fx: &mut Effects, key: PublicKey) {
        let Some(friend) = self.friends.get_mut(&key) else { return };
        if friend.rests_until > now {
            friend.phase = Phase::Resting;
            self.deadlines.set(Wait::Friend(key), friend.rests_until);
        } else {
            self.race(now, fx, key);
        }
    }

    fn race(&mut self, now: Instant, fx: &mut Effects, key: PublicKey) {
        let Some(friend) = self.friends.get_mut(&key) else { return };
        let mut queue = friend.relays.clone();
        queue.sort_by_key(|candidate| candidate.standing);
        friend.phase = Phase::Racing(Race { queue: queue.into(), next_start: now, ..Race::default() });
        self.advance(now, fx, key);
    }

    /// Starts what may start now, and arranges for being called again when the rest may.
    fn advance(&mut self, now: Instant, fx: &mut Effects, key: PublicKey) {
        let Some(Friend { phase: Phase::Racing(race), backoff, rests_until, relays }) = self.friends.get_mut(&key)
        else {
            return;
        };
        while let Some(candidate) = race.queue.front() {
            let alone = matches!(candidate.standing, Standing::EndedYoung(_));
            if race.open.len() >= MAX_IN_RACE || (alone && !race.open.is_empty()) {
                return self.deadlines.clear(Wait::Friend(key));
            }
            if race.next_start > now {
                return self.deadlines.set(Wait::Friend(key), race.next_start);
            }
            sometimes!("relay client: too many calls at once", self.attempts.len() >= MAX_ATTEMPTS);
            if self.attempts.len() >= MAX_ATTEMPTS {
                self.deadlines.clear(Wait::Friend(key));
                if race.ticket.is_none() {
                    race.ticket = Some(self.next_ticket);
                    self.starved.insert(self.next_ticket, key);
                    self.next_ticket += 1;
                }
                return;
            }
            if is_used_up(fx, &self.attempts, candidate.address.public_key) {
                race.queue.pop_front();
                continue;
            }
            let conn = fx.connect(&candidate.address);
            self.attempts.insert(conn, Attempt { friend: key, relay: candidate.address.public_key });
            self.deadlines.set(Wait::Attempt(conn), now + CONNECT_DEADLINE);
            race.open.insert(conn);
            race.next_start = now + HEAD_START;
            race.queue.pop_front();
        }
        self.deadlines.clear(Wait::Friend(key));
        if !race.open.is_empty() {
            return;
        }
        // Without relays there is nothing to wait for: the parent dials again when it learns of some.
        let nothing_to_try = relays.is_empty();
        *rests_until = now + backoff.after_failure(&mut fx.rng);
        if !nothing_to_try {
            self.deadlines.set(Wait::Friend(key), *rests_until);
        }
        if let Some(friend) = self.friends.get_mut(&key) {
            friend.phase = Phase::Resting;
        }
    }

    /// Lets friends that waited for a free attempt go on, oldest first.
    fn feed_starved(&mut self, now: Instant, fx: &mut Effects) {
        while self.attempts.len() < MAX_ATTEMPTS
            && let Some((_, key)) = self.starved.pop_first()
        {
            if let Some(Friend { phase: Phase::Racing(race), .. }) = self.friends.get_mut(&key) {
                race.ticket = None;
            }
            self.advance(now, fx, key);
        }
    }

    /// Closes a race's attempts, except the winner, which is no attempt any more. The caller sets the next phase.
    fn leave_race(&mut self, fx: &mut Effects, key: PublicKey, winner: Option<ConnId>) {
        self.deadlines.clear(Wait::Friend(key));
        let Some(Friend { phase: Phase::Racing(race), .. }) = self.friends.get_mut(&key) else { return };
        if let Some(ticket) = race.ticket.take() {
            self.starved.remove(&ticket);
        }
        race.queue.clear();
        for conn in std::mem::take(&mut race.open) {
            self.attempts.remove(&conn);
            self.deadlines.clear(Wait::Attempt(conn));
            if Some(conn) != winner {
                fx.close(conn);
            }
        }
    }

    /// Panics if an invariant does not hold.
    #[cfg(any(test, feature = "probes"))]
    pub(super) fn assert_consistent(&self) {
        assert!(self.attempts.len() <= MAX_ATTEMPTS);
        let mut open = 0;
        for (key, friend) in &self.friends {
            if let Phase::Racing(race) = &friend.phase {
                open += race.open.len();
                assert!(race.open.len() <= MAX_IN_RACE);
                assert!(!race.open.is_empty() || race.ticket.is_some(), "a race that nothing drives");
                assert!(race.open.iter().all(|conn| self.attempts[conn].friend == *key));
            }
        }
        assert_eq!(open, self.attempts.len());
    }

    #[cfg(any(test, feature = "fuzz"))]
    pub(super) fn attempts(&self) -> usize {
        self.attempts.len()
    }
}

/// Whether as many of our calls wait at a relay as it has told us that it takes of one node: one more would drive out the
/// oldest. Only our own relays have told us.
fn is_used_up(fx: &Effects, attempts: &BTreeMap<ConnId, Attempt>, relay: PublicKey) -> bool {
    let Some(share) = fx.shares.get(&relay) else { return false };
    let most = usize::try_from(share.halves).unwrap_or(usize::MAX);
    most < MAX_ATTEMPTS && attempts.values().filter(|attempt| attempt.relay == relay).count() >= most
}

impl Friend {
    fn candidate(&mut self, relay: PublicKey) -> Option<&mut Candidate> {
        self.relays.iter_mut().find(|candidate| candidate.address.public_key == relay)
    }

    /// Takes over a new list; what stays keeps its standing. Says whether there is anything new in it.
    fn set_relays(&mut self, relays: Vec<RelayAddress>) -> bool {
        let old = std::mem::take(&mut self.relays);
        let mut changed = false;
        for address in relays.into_iter().take(MAX_RELAYS) {
            if self.relays.iter().any(|candidate| candidate.address.public_key == address.public_key) {
                continue;
            }
            let known = old.iter().find(|candidate| candidate.address == address);
            changed |= known.is_none();
            let standing = known.map_or(Standing::Fair, |candidate| candidate.standing);
            self.relays.push(Candidate { address, standing });
        }
        changed
    }
}
