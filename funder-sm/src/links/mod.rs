//! Links to friends: each friend is reached through relays, from both sides, and spoken to end to end.
//!
//! A *session* is a relay's tunnel with a secure channel inside, in which both friends have proven who they are. Both
//! friends dial, so two sessions may come up, and a friend that comes back after a crash makes a new one while the old one
//! lingers. The two must agree on one of them without asking: **the friend with the lower public key leads.**
//!
//! | at | what happens | effect |
//! |---|---|---|
//! | leader | a session opens | it is the link: [`Output::Up`]; the one before is closed, [`Output::Down`] comes first |
//! | leader | the friend dials within [`RACE_WINDOW`] of our own session | refused: the two raced, the leader's stays |
//! | follower | a session opens | it waits |
//! | follower | the leader speaks in a session that waits | it is the link; the one before is closed |
//! | both | the link is up | nobody dials; what we were dialling is closed |
//! | follower | the link is up | every other session is closed |
//! | both | the link ends | [`Output::Down`]; dialling begins again |
//! | both | [`Input::DropLink`] | the link ends; the friend is not dialled or heard for a growing while |
//! | both | [`Input::EndLink`] | the link ends; dialling begins again |
//!
//! The leader speaks first on every link, because the first message on a link is always where one stands.
//!
//! Invariants:
//! 1. To the parent a friend is down, then up, then down, and so on; messages come only while it is up, all from one
//!    session. When a session takes over, what the one before still carried is lost.
//! 2. Only a friend that the parent wants gets a session, and only the friend whom the relay named can open it. What a
//!    relay changes, drops, crosses or invents ends that session and nothing else.
//! 3. A newer session replaces an older one at once (but for a race), so that a dead one never keeps the friend out.
//! 4. What a session says first is never older than what was heard before it on another. The leader decides, so what the
//!    follower says is an answer to it. What the leader says may have been held up on the way, by a relay that stood still,
//!    until a later session was the link: that session has closed all those that were there before it.
//! 5. A friend has at most one session that is not the link per direction and relay. A relay brings at most
//!    [`MAX_CALLS_OF_RELAY`] calls per [`HANDSHAKE_DEADLINE`](offset_protocol::limits::HANDSHAKE_DEADLINE), of one friend
//!    [`MAX_CALLS_OF_FRIEND`]. A session that comes to nothing is closed.
//!
//! Not checked here: what friends say to each other.

mod calls;
mod io;
mod session;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use offset_protocol::bytes::PublicKey;
use offset_protocol::channel::{ChannelConfig, ChannelEvent, SecureChannel};
use offset_protocol::codec::{List, encode};
use offset_protocol::friend::FriendMessage;
use offset_protocol::identity::SharedSigner;
use offset_protocol::limits::MAX_RELAYS;
use offset_protocol::machine::{Alarm, Duration, Instant, Machine, Rng};
use offset_protocol::net::{ConnId, Purpose};
use offset_protocol::relay::{RejectReason, RelayAddress};
use offset_protocol::{buggify, mutant, sometimes};
use offset_relay_sm::client::{self as relay, Direction, RelayClient};

use calls::RecentCalls;
pub use io::{Config, Input, Output};
use offset_protocol::deadlines::Deadlines;
use session::{Session, Shun, Slot, Stage};

/// Two sessions that open within this time raced; the friend learned too late that ours stands. Chosen freely: longer than
/// a round trip through a relay, shorter than a restart.
pub const RACE_WINDOW: Duration = Duration::from_secs(2);
/// A follower closes a session in which the leader says nothing for this long. Chosen freely: the leader speaks at once.
pub const SPEAK_DEADLINE: Duration = Duration::from_secs(10);
/// Calls that one relay may bring per [`HANDSHAKE_DEADLINE`](offset_protocol::limits::HANDSHAKE_DEADLINE). Chosen freely: a
/// node's friends all come back within a minute or two.
pub const MAX_CALLS_OF_RELAY: usize = 512;
/// Calls of one friend that one relay may bring in that time. Chosen freely: more than a friend makes that calls again and
/// again with growing pauses. Counted for each relay, so that one that lies cannot use up what others need.
pub const MAX_CALLS_OF_FRIEND: usize = 8;
/// The channel's bytes travel through a tunnel in pieces of at most this size. Chosen freely: one record of the outer
/// channel, so that relays buffer little.
const MAX_PIECE: usize = 64 * 1024;

/// The links of a node to its friends. See the module.
pub struct Links {
    signer: SharedSigner,
    us: PublicKey,
    rng: Rng,
    client: RelayClient,
    relays: BTreeMap<PublicKey, OwnRelay>,
    friends: BTreeMap<PublicKey, Friend>,
    sessions: BTreeMap<ConnId, Session>,
    deadlines: Deadlines<ConnId>,
    outputs: VecDeque<Output>,
}

/// A relay at which friends find us.
struct OwnRelay {
    address: RelayAddress,
    connected: bool,
    calls: RecentCalls,
}

/// A friend that the parent wants to be connected with.
struct Friend {
    relays: List<RelayAddress, MAX_RELAYS>,
    link: Option<ConnId>,
    /// Sessions that are not the link: in the handshake, or waiting for the leader.
    others: BTreeMap<Slot, ConnId>,
    shun: Shun,
    /// By relay.
    calls: BTreeMap<PublicKey, RecentCalls>,
}

impl Machine for Links {
    type Input = Input;
    type Output = Output;

    fn handle(&mut self, now: Instant, input: Input) {
        match input {
            Input::Net(event) => self.client.handle(now, relay::Input::Net(event)),
            Input::Listen(address) => self.on_listen(now, address),
            Input::StopListening { relay } => self.on_stop_listening(now, relay),
            Input::KeepLink { friend, relays } => self.on_keep_link(now, friend, relays),
            Input::StopLink { friend } => self.on_stop_link(now, friend),
            Input::Send { friend, message } => self.on_send(now, friend, &message),
            Input::DropLink { friend } => self.on_drop_link(now, friend),
            Input::NetworkReturned => self.on_network_returned(now),
            Input::Tick => self.on_tick(now),
            Input::EndLink { friend } => self.on_end_link(now, friend),
        }
        self.drain_client(now);
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<Alarm> {
        let session = self.deadlines.next().map(|at| Alarm { at, why: "links: a session" });
        Alarm::earliest(self.client.poll_timeout(), session)
    }
}

impl Links {
    /// Links to nobody.
    pub fn new(config: Config) -> Self {
        let Config { signer, seed, ids } = config;
        Links {
            us: signer.public_key(),
            signer,
            rng: seed.fork("channels").rng(),
            client: RelayClient::new(seed.fork("relays"), ids),
            relays: BTreeMap::new(),
            friends: BTreeMap::new(),
            sessions: BTreeMap::new(),
            deadlines: Deadlines::default(),
            outputs: VecDeque::new(),
        }
    }

    // -- what the parent wants

    fn on_listen(&mut self, now: Instant, address: RelayAddress) {
        let relay = address.public_key;
        match self.relays.get_mut(&relay) {
            Some(own) if own.address == address => return,
            Some(own) => {
                own.address = address.clone();
                self.set_relay_status(relay, false);
            }
            None => {
                let own = OwnRelay { address: address.clone(), connected: false, calls: RecentCalls::default() };
                self.relays.insert(relay, own);
            }
        }
        self.client.handle(now, relay::Input::AddRelay(address));
    }

    fn on_stop_listening(&mut self, now: Instant, relay: PublicKey) {
        self.set_relay_status(relay, false);
        self.relays.remove(&relay);
        self.client.handle(now, relay::Input::RemoveRelay { relay });
    }

    fn on_keep_link(&mut self, now: Instant, key: PublicKey, relays: List<RelayAddress, MAX_RELAYS>) {
        if key == self.us {
            return;
        }
        let friend = self.friends.entry(key).or_insert_with(Friend::new);
        friend.relays = relays;
        if friend.link.is_none() {
            self.dial(now, key);
        }
    }

    fn on_stop_link(&mut self, now: Instant, key: PublicKey) {
        self.client.handle(now, relay::Input::Forget { friend: key });
        let Some(friend) = self.friends.remove(&key) else { return };
        for conn in friend.link.into_iter().chain(friend.others.into_values()) {
            self.close(now, conn);
        }
        if friend.link.is_some() {
            self.outputs.push_back(Output::Down { friend: key });
        }
    }

    fn on_send(&mut self, now: Instant, key: PublicKey, message: &FriendMessage) {
        self.send_bytes(now, key, encode(message));
    }

    fn send_bytes(&mut self, now: Instant, key: PublicKey, bytes: Vec<u8>) {
        let Some(conn) = self.friends.get(&key).and_then(|friend| friend.link) else { return };
        self.with_channel(now, conn, |channel, wire| {
            // Our own messages are short enough; one that is not ends the link rather than leaving a gap in it.
            if channel.send(now, &bytes, wire).is_err() {
                channel.close(now, wire);
            }
        });
    }

    /// For simulated cheaters: something in the channel that need not be a message.
    #[cfg(feature = "meddle")]
    pub fn say_bytes(&mut self, now: Instant, friend: PublicKey, bytes: Vec<u8>) {
        self.send_bytes(now, friend, bytes);
        self.drain_client(now);
    }

    /// For simulated cheaters: something in the tunnel that is no record of the channel.
    #[cfg(feature = "meddle")]
    pub fn garble(&mut self, now: Instant, friend: PublicKey, mut bytes: Vec<u8>) {
        if let Some(conn) = self.friends.get(&friend).and_then(|friend| friend.link) {
            self.transmit(now, conn, &mut bytes);
        }
        self.drain_client(now);
    }

    /// The connection that is the link with a friend.
    #[cfg(test)]
    pub(crate) fn link_with(&self, friend: &PublicKey) -> Option<ConnId> {
        self.friends.get(friend)?.link
    }

    fn on_drop_link(&mut self, now: Instant, key: PublicKey) {
        let Some(friend) = self.friends.get_mut(&key) else { return };
        let Some(conn) = friend.link else { return };
        friend.shun.dropped(now, self.sessions.get(&conn).map_or(now, |session| session.since));
        for conn in std::mem::take(&mut friend.others).into_values() {
            self.close(now, conn);
        }
        self.end(now, conn);
    }

    fn on_end_link(&mut self, now: Instant, key: PublicKey) {
        if let Some(conn) = self.friends.get(&key).and_then(|friend| friend.link) {
            self.end(now, conn);
        }
    }

    fn on_network_returned(&mut self, now: Instant) {
        self.client.handle(now, relay::Input::NetworkReturned);
        // Links may be dead without anybody having noticed: a new session takes over from an old one.
        let friends: Vec<_> = self.friends.keys().copied().collect();
        for friend in friends {
            self.dial(now, friend);
        }
    }

    fn on_tick(&mut self, now: Instant) {
        self.client.handle(now, relay::Input::Tick);
        while let Some(conn) = self.deadlines.pop_due(now) {
            let Some(session) = self.sessions.get(&conn) else { continue };
            match session.stage {
                Stage::Waiting { until } if until <= now => {
                    sometimes!("links: a leader that calls says nothing", true);
                    self.end(now, conn);
                }
                Stage::Handshake | Stage::Waiting { .. } | Stage::Link => {
                    self.with_channel(now, conn, |channel, wire| channel.tick(now, wire));
                }
            }
        }
    }

    // -- what relays tell

    fn drain_client(&mut self, now: Instant) {
        while let Some(output) = self.client.poll_output() {
            match output {
                relay::Output::Net(command) => self.outputs.push_back(Output::Net(command)),
                relay::Output::RelayUp { relay, .. } => self.set_relay_status(relay, true),
                relay::Output::RelayDown { relay, reason } => {
                    self.set_relay_status(relay, false);
                    self.outputs.extend(reason.map(|reason| Output::RelayRefuses { relay, reason }));
                }
                relay::Output::Incoming { relay, from } => self.on_call(now, relay, from),
                relay::Output::TunnelOpened { conn, friend, relay, direction } => {
                    self.on_tunnel_opened(now, conn, friend, Slot { direction, relay });
                }
                relay::Output::TunnelMessage { conn, bytes, .. } => {
                    self.with_channel(now, conn, |channel, wire| channel.receive(now, &bytes, wire));
                }
                relay::Output::TunnelClosed { conn, .. } => {
                    self.with_channel(now, conn, |channel, _| channel.lost(now));
                }
            }
        }
    }

    fn set_relay_status(&mut self, relay: PublicKey, connected: bool) {
        if let Some(own) = self.relays.get_mut(&relay)
            && own.connected != connected
        {
            own.connected = connected;
            self.outputs.push_back(Output::RelayStatus { relay, connected });
        }
    }

    fn on_call(&mut self, now: Instant, relay: PublicKey, from: PublicKey) {
        let reject = |reason| relay::Input::Reject { relay, from, reason };
        let answer = match (self.friends.get_mut(&from), self.relays.get_mut(&relay)) {
            (None, _) => reject(RejectReason::Unknown),
            (Some(friend), Some(own)) => {
                let taken = friend.takes_call(now, relay) && own.calls.take(now, MAX_CALLS_OF_RELAY);
                sometimes!("links: a call is not taken", !taken);
                let taken = taken && !buggify!("links: refuse a call", 100);
                if taken { relay::Input::Accept { relay, from } } else { reject(RejectReason::Busy) }
            }
            (Some(_), None) => reject(RejectReason::Busy),
        };
        self.client.handle(now, answer);
    }

    fn on_tunnel_opened(&mut self, now: Instant, conn: ConnId, key: PublicKey, slot: Slot) {
        // A call that was taken before the friend was dropped comes too late; one that we made was rested for.
        let heard = |friend: &&mut Friend| slot.direction == Direction::Dialled || !friend.shun.is_on(now);
        let Some(friend) = self.friends.get_mut(&key).filter(heard) else {
            return self.client.handle(now, relay::Input::CloseTunnel { conn });
        };
        // Of two tunnels through one relay the newer counts: the friend has given up the older one.
        let older = friend.others.insert(slot, conn);
        sometimes!("links: a tunnel takes the place of an older one", older.is_some());
        let config = ChannelConfig { purpose: Purpose::Friend, signer: self.signer.clone(), seed: self.rng.seed() };
        let channel = match slot.direction {
            Direction::Dialled => SecureChannel::initiator(config, key, now),
            Direction::Accepted => SecureChannel::responder(config, now),
        };
        self.sessions.insert(conn, Session { friend: key, slot, since: now, stage: Stage::Handshake, channel });
        if let Some(older) = older {
            self.close(now, older);
        }
        self.with_channel(now, conn, |channel, wire| channel.start(now, wire));
    }

    // -- sessions

    /// Lets `act` do something to a channel, then sends what it has to say and acts on what it tells.
    fn with_channel(&mut self, now: Instant, conn: ConnId, act: impl FnOnce(&mut SecureChannel, &mut Vec<u8>)) {
        let mut wire = Vec::new();
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        act(&mut session.channel, &mut wire);
        while let Some(event) = self.sessions.get_mut(&conn).and_then(|session| session.channel.poll_event()) {
            match event {
                ChannelEvent::Identified { peer } => self.on_identified(now, conn, peer, &mut wire),
                ChannelEvent::Opened { .. } => {
                    // The friend reads our last word of the handshake before it hears of anything else.
                    self.transmit(now, conn, &mut wire);
                    self.on_opened(now, conn);
                }
                ChannelEvent::Message(bytes) => self.on_message(now, conn, bytes),
                ChannelEvent::Closed(reason) => {
                    sometimes!("links: a tunnel carries what its other end did not seal", reason.is_accusation());
                    self.transmit(now, conn, &mut wire);
                    self.end(now, conn);
                }
            }
        }
        self.transmit(now, conn, &mut wire);
        if let Some(session) = self.sessions.get(&conn) {
            match session.alarm() {
                Some(at) => self.deadlines.set(conn, at),
                None => self.deadlines.clear(conn),
            }
        }
    }

    /// A friend has proven who it is in a session that it dialled.
    fn on_identified(&mut self, now: Instant, conn: ConnId, peer: PublicKey, wire: &mut Vec<u8>) {
        let Some(key) = self.sessions.get(&conn).map(|session| session.friend) else { return };
        let raced = self.raced(now, key);
        sometimes!("links: two calls raced", raced);
        let wanted = peer == key && !raced;
        if let Some(session) = self.sessions.get_mut(&conn) {
            if wanted { session.channel.admit(now, wire) } else { session.channel.refuse(now, wire) }
        }
    }

    /// Whether we lead this friend and our own session has just become the link.
    fn raced(&self, now: Instant, key: PublicKey) -> bool {
        let link = self.friends.get(&key).and_then(|friend| self.sessions.get(&friend.link?));
        link.is_some_and(|link| {
            self.us < key && link.slot.direction == Direction::Dialled && now.since(link.since) < RACE_WINDOW
        })
    }

    fn on_opened(&mut self, now: Instant, conn: ConnId) {
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        if self.us < session.friend {
            self.take_over(now, conn);
        } else {
            session.stage = Stage::Waiting { until: now + SPEAK_DEADLINE };
        }
    }

    fn on_message(&mut self, now: Instant, conn: ConnId, bytes: Vec<u8>) {
        let Some(&Session { friend, stage, .. }) = self.sessions.get(&conn) else { return };
        match stage {
            Stage::Waiting { .. } => self.take_over(now, conn),
            Stage::Handshake | Stage::Link => {}
        }
        self.outputs.push_back(Output::Message { friend, bytes });
        if buggify!("links: drop a link that works", 10) {
            self.end(now, conn);
        }
    }

    /// A session becomes the link.
    fn take_over(&mut self, now: Instant, conn: ConnId) {
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        let (key, slot) = (session.friend, session.slot);
        let Some(friend) = self.friends.get_mut(&key) else { return };
        session.stage = Stage::Link;
        session.since = now;
        friend.others.remove(&slot);
        let before = friend.link.replace(conn);
        let stale: Vec<_> = if self.us < key {
            friend.others.range(Slot::dialled()).map(|(&slot, &conn)| (slot, conn)).collect()
        } else {
            friend.others.iter().map(|(&slot, &conn)| (slot, conn)).collect()
        };
        for (slot, _) in &stale {
            friend.others.remove(slot);
        }
        sometimes!("links: a session takes over from a link", before.is_some());
        if let Some(before) = before {
            if !mutant!(OldSessionKept) {
                self.close(now, before);
            }
            self.outputs.push_back(Output::Down { friend: key });
        }
        for (_, conn) in stale {
            self.close(now, conn);
        }
        self.client.handle(now, relay::Input::StopDialling { friend: key });
        self.outputs.push_back(Output::Up { friend: key });
    }

    /// A session is over; if it was the link, that is down and dialling begins again.
    fn end(&mut self, now: Instant, conn: ConnId) {
        let Some(session) = self.sessions.get(&conn) else { return };
        let (key, slot) = (session.friend, session.slot);
        self.close(now, conn);
        let Some(friend) = self.friends.get_mut(&key) else { return };
        if friend.link == Some(conn) {
            friend.link = None;
            if !mutant!(LinkEndNotTold) {
                self.outputs.push_back(Output::Down { friend: key });
            }
            self.dial(now, key);
        } else if friend.others.get(&slot) == Some(&conn) {
            friend.others.remove(&slot);
        }
    }

    /// Closes a session's channel and tunnel in order; its friend's book is the caller's.
    fn close(&mut self, now: Instant, conn: ConnId) {
        let Some(mut session) = self.sessions.remove(&conn) else { return };
        self.deadlines.clear(conn);
        let mut wire = Vec::new();
        session.channel.close(now, &mut wire);
        self.transmit(now, conn, &mut wire);
        self.client.handle(now, relay::Input::CloseTunnel { conn });
    }

    fn dial(&mut self, now: Instant, key: PublicKey) {
        if let Some(friend) = self.friends.get(&key) {
            let relays = friend.relays.to_vec();
            self.client.handle(now, relay::Input::Dial { friend: key, relays });
        }
    }

    fn transmit(&mut self, now: Instant, conn: ConnId, wire: &mut Vec<u8>) {
        if wire.len() <= MAX_PIECE {
            if !wire.is_empty() {
                let bytes = std::mem::take(wire);
                self.client.handle(now, relay::Input::SendTunnel { conn, bytes });
            }
            return;
        }
        for piece in std::mem::take(wire).chunks(MAX_PIECE) {
            self.client.handle(now, relay::Input::SendTunnel { conn, bytes: piece.to_vec() });
        }
    }

    /// Whether the friend has a link.
    #[cfg(any(test, feature = "probes"))]
    pub(crate) fn is_up(&self, friend: &PublicKey) -> bool {
        self.friends.get(friend).is_some_and(|friend| friend.link.is_some())
    }

    /// For simulations and tests: panics if an invariant does not hold.
    #[cfg(any(test, feature = "probes"))]
    pub(crate) fn assert_consistent(&self) {
        #[cfg(feature = "probes")]
        self.client.assert_consistent();
        let of_friends: usize =
            self.friends.values().map(|friend| friend.others.len() + friend.link.iter().len()).sum();
        assert_eq!(self.sessions.len(), of_friends, "every session has its place at a friend");
        for (key, friend) in &self.friends {
            for (slot, conn) in &friend.others {
                let session = &self.sessions[conn];
                assert_eq!((session.friend, session.slot), (*key, *slot));
                assert_ne!(session.stage, Stage::Link);
                // Invariant 4.
                let link = friend.link.map(|link| self.sessions[&link].since);
                assert!(self.us < *key || link.is_none_or(|link| session.since >= link), "an old session is left");
            }
            if let Some(conn) = friend.link {
                assert_eq!((self.sessions[&conn].friend, self.sessions[&conn].stage), (*key, Stage::Link));
            }
        }
    }
}

impl Friend {
    fn new() -> Self {
        Friend {
            relays: List::new(),
            link: None,
            others: BTreeMap::new(),
            shun: Shun::default(),
            calls: BTreeMap::new(),
        }
    }

    /// Counts a call, unless the friend is not to be heard now.
    fn takes_call(&mut self, now: Instant, relay: PublicKey) -> bool {
        self.calls.retain(|_, calls| calls.count(now) > 0);
        !self.shun.is_on(now) && self.calls.entry(relay).or_default().take(now, MAX_CALLS_OF_FRIEND)
    }
}
