//! The secure channel: an authenticated, encrypted stream of whole messages over any stream of bytes.
//!
//! Runs on every TCP connection, and once more end to end inside a relay's tunnel. Pure: bytes and time come in, bytes and
//! [`ChannelEvent`]s come out, and all randomness comes from one [`Seed`].
//!
//! | step | from | on the wire |
//! |---|---|---|
//! | 1 | initiator | handshake frame: magic, version, purpose, `e` |
//! | 2 | responder | handshake frame: `e, ee, s, es`, identity; or an error frame, and the end |
//! | 3 | initiator | handshake frame: `s, se`, identity; only if the responder is the expected one |
//! | 4 | responder | record "admitted" or record "close, not trusted", as its owner's policy says |
//! | 5 | both | records: messages, keepalives, fresh keys, and at last a close |
//!
//! Layouts stand in the submodules: `handshake` (frames), `agreement` (Diffie-Hellman), `record` (records, padding, rekey by
//! count), `rekey` (fresh Diffie-Hellman), `transport` (which record may come when).
//!
//! Invariants:
//! 1. The initiator opens only to the very identity that it expected; the responder's owner learns a proven identity and
//!    nothing else before it answers.
//! 2. Messages arrive whole, in order, once, or not at all: the first record that does not open closes the channel.
//! 3. An orderly end is sealed, so that it cannot be confused with a cut.
//! 4. What a peer can fill is bounded: [`MAX_HANDSHAKE`](crate::limits::MAX_HANDSHAKE) for the handshake, one record before
//!    admission, [`MAX_FRAME`] for a message; an announced length is judged before it is believed.
//! 5. After [`ChannelEvent::Closed`] nothing happens any more: every door does nothing and there is no alarm.
//! 6. The same seed, identity, inputs and times give the same bytes.
//!
//! The doors, in three groups. Each appends what must be written to the caller's `wire`; write it even after `Closed`.
//! * owner's: [`start`](SecureChannel::start), [`send`](SecureChannel::send), [`admit`](SecureChannel::admit),
//!   [`refuse`](SecureChannel::refuse), [`close`](SecureChannel::close), [`pause`](SecureChannel::pause),
//!   [`resume`](SecureChannel::resume)
//! * stream's and clock's: [`receive`](SecureChannel::receive), [`receive_in_place`](SecureChannel::receive_in_place),
//!   [`lost`](SecureChannel::lost), [`tick`](SecureChannel::tick)
//! * questions: [`poll_event`](SecureChannel::poll_event) (until `None`, after every other door),
//!   [`poll_timeout`](SecureChannel::poll_timeout)
//!
//! Does *not* limit how many handshakes run at once, nor how much its owner lets a slow reader's `wire` grow; does not hide
//! how many records travel and when. Keys are zeroised on drop, but for what `snow` leaves on the stack and in its own
//! symmetric state during the handshake.

mod agreement;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
mod handshake;
mod machine;
#[cfg(any(test, feature = "fuzz"))]
mod pair;
mod reason;
mod record;
mod rekey;
mod resolver;
#[cfg(any(test, feature = "fuzz"))]
mod snow_peer;
mod transport;

#[cfg(test)]
pub(crate) mod tests;

use std::collections::VecDeque;
use std::fmt;

use serde::{Deserialize, Serialize};

pub use agreement::{KeyAgreement, KeyPair, X25519};
pub use machine::{Input, Output};
pub use reason::{CloseReason, Misbehaviour, SendError};

use crate::bytes::PublicKey;
use crate::identity::SharedSigner;
use crate::limits::{HANDSHAKE_DEADLINE, MAX_FRAME};
use crate::machine::{Alarm, Duration, Instant, Seed};
use crate::net::Purpose;
use crate::{mutant, sometimes};
use handshake::{Handshake, Terms};
use record::LENGTH;
use transport::{Effect, End, Stage, Transport};

/// The version of the channel that this crate speaks. Both ends must speak the same.
pub const VERSION: u16 = 1;

/// A responder closes when offers of new keys come faster than this. Chosen freely: far below
/// [`REKEY_DH`](crate::limits::REKEY_DH), and an exchange a minute costs nobody anything.
pub const MIN_REKEY_DH: Duration = Duration::from_secs(60);

/// Bytes that a responder keeps for later while its owner has not decided: one record of the greatest length. An honest
/// initiator says nothing then, except that it closes.
const MAX_HELD: usize = LENGTH + u16::MAX as usize;

/// Room that an idle channel keeps for receiving; more is given back when it has nothing to say.
const IDLE_INBOX: usize = 1_024;

/// Who opened the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Initiator,
    Responder,
}

impl Role {
    const fn tag(self) -> u8 {
        match self {
            Role::Initiator => 0,
            Role::Responder => 1,
        }
    }

    const fn other(self) -> Self {
        match self {
            Role::Initiator => Role::Responder,
            Role::Responder => Role::Initiator,
        }
    }
}

/// What both roles need to know.
pub struct ChannelConfig {
    /// What the connection is for; both ends must name the same.
    pub purpose: Purpose,
    /// Our identity.
    pub signer: SharedSigner,
    /// All randomness of this channel. Never give one seed to two channels.
    pub seed: Seed,
}

/// What a channel tells its owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChannelEvent {
    /// To a responder: the peer has proven this identity. Answer with `admit` or `refuse` before the handshake's deadline.
    Identified {
        /// Who it is.
        peer: PublicKey,
    },
    /// Messages can be sent from now on.
    Opened {
        /// Who is there.
        peer: PublicKey,
    },
    /// One whole message.
    Message(Vec<u8>),
    /// The last event.
    Closed(CloseReason),
}

enum Phase {
    /// The peer has proven nothing yet.
    Handshake(Box<Handshake>),
    /// Both ends have proven themselves; the responder's owner decides.
    Unadmitted(Box<Transport>),
    /// Messages flow.
    Open(Box<Transport>),
    /// Nothing happens any more.
    Closed,
}

/// Places for events that a channel keeps when none waits. Chosen freely: some hundred bytes.
const KEPT_EVENTS: usize = 8;

/// Bytes that a message which waits takes: its own, and its place in a queue that grows by doubling with what an allocation
/// costs. A peer may send empty ones.
fn cost(message: &Vec<u8>) -> usize {
    message.capacity() + 2 * size_of::<ChannelEvent>() + 16
}

/// One end of a secure channel; see the module's documentation for the order of its doors.
pub struct SecureChannel {
    phase: Phase,
    deadline: Instant,
    /// One frame or record that is not whole yet; or what a responder keeps until its owner has decided.
    inbox: Vec<u8>,
    events: VecDeque<ChannelEvent>,
    /// What the messages among them take.
    queued: usize,
    /// What the [`Machine`](crate::machine::Machine) door has to transmit.
    outbox: Vec<u8>,
}

impl SecureChannel {
    /// The end that opened the stream, to reach `expected_peer` and nobody else.
    pub fn initiator(config: ChannelConfig, expected_peer: PublicKey, now: Instant) -> Self {
        Self::new(config, Role::Initiator, Some(expected_peer), now)
    }

    /// The end that accepted the stream.
    pub fn responder(config: ChannelConfig, now: Instant) -> Self {
        Self::new(config, Role::Responder, None, now)
    }

    fn new(config: ChannelConfig, role: Role, expected: Option<PublicKey>, now: Instant) -> Self {
        let ChannelConfig { purpose, signer, seed } = config;
        let handshake = Handshake::new(Terms { role, purpose, signer, expected }, &seed);
        SecureChannel {
            phase: Phase::Handshake(Box::new(handshake)),
            deadline: now + HANDSHAKE_DEADLINE,
            inbox: Vec::new(),
            events: VecDeque::new(),
            queued: 0,
            outbox: Vec::new(),
        }
    }

    /// The initiator's first bytes. Nothing for a responder, or a second time.
    pub fn start(&mut self, _now: Instant, wire: &mut Vec<u8>) {
        if let Phase::Handshake(handshake) = &mut self.phase
            && let Err(reason) = handshake.start(wire)
        {
            self.end(reason);
        }
    }

    /// Bytes from the stream, cut anywhere.
    pub fn receive(&mut self, now: Instant, bytes: &[u8], wire: &mut Vec<u8>) {
        let mut rest = bytes;
        loop {
            if self.is_undecided() {
                return self.hold(rest);
            }
            match self.fill(&mut rest) {
                Ok(true) => self.on_unit(now, wire),
                Ok(false) => return,
                Err(reason) => return self.end(reason),
            }
        }
    }

    /// As [`receive`](Self::receive), and faster: a record that lies there whole is opened where it lies. What is in `bytes`
    /// afterwards is of no use.
    pub fn receive_in_place(&mut self, now: Instant, bytes: &mut [u8], wire: &mut Vec<u8>) {
        let mut rest = bytes;
        while self.inbox.is_empty()
            && let Phase::Open(transport) = &mut self.phase
            && let Some(length) = rest.first_chunk::<LENGTH>()
            && let length = usize::from(u16::from_be_bytes(*length))
            && rest.len() >= LENGTH + length
        {
            let (record, later) = rest.split_at_mut(LENGTH + length);
            let (_, unit) = record.split_at_mut(LENGTH);
            let done = record::check_length(length).map_err(CloseReason::Misbehaved);
            match done.and_then(|()| transport.on_record(now, Stage::Open, unit, wire)) {
                Ok(effect) => self.on_effect(now, effect),
                Err(reason) => return self.end(reason),
            }
            rest = later;
        }
        self.receive(now, rest, wire);
    }

    /// Appends one message to `wire`, sealed.
    ///
    /// # Errors
    /// [`SendError`] if the channel is not open or the message longer than [`MAX_FRAME`]; then nothing was appended.
    pub fn send(&mut self, now: Instant, message: &[u8], wire: &mut Vec<u8>) -> Result<(), SendError> {
        match &mut self.phase {
            Phase::Handshake(_) | Phase::Unadmitted(_) => Err(SendError::NotOpen),
            Phase::Closed => Err(SendError::Closed),
            Phase::Open(_) if message.len() > MAX_FRAME => {
                Err(SendError::TooLong { length: message.len(), limit: MAX_FRAME })
            }
            Phase::Open(transport) => {
                transport.send(now, message, wire);
                Ok(())
            }
        }
    }

    /// A responder's owner hears the peer. Nothing unless it was asked by [`ChannelEvent::Identified`].
    pub fn admit(&mut self, now: Instant, wire: &mut Vec<u8>) {
        if !self.is_undecided() {
            return;
        }
        let Phase::Unadmitted(mut transport) = std::mem::replace(&mut self.phase, Phase::Closed) else { return };
        transport.admit(now, wire);
        self.open(now, transport);
        let held = std::mem::take(&mut self.inbox);
        self.receive(now, &held, wire);
    }

    /// A responder's owner refuses the peer, which is told. Nothing unless it was asked by [`ChannelEvent::Identified`].
    pub fn refuse(&mut self, now: Instant, wire: &mut Vec<u8>) {
        if let Phase::Unadmitted(transport) = &mut self.phase
            && transport.role() == Role::Responder
        {
            transport.close(now, End::NotTrusted, wire);
            self.end(CloseReason::Refused);
        }
    }

    /// Ends the channel in order; the peer is told if there are keys to tell it with.
    pub fn close(&mut self, now: Instant, wire: &mut Vec<u8>) {
        match &mut self.phase {
            Phase::Unadmitted(transport) | Phase::Open(transport) => transport.close(now, End::Orderly, wire),
            Phase::Handshake(_) | Phase::Closed => {}
        }
        self.end(CloseReason::Orderly);
    }

    /// The stream ended.
    pub fn lost(&mut self, _now: Instant) {
        self.end(CloseReason::Cut);
    }

    /// The owner stops reading the stream of an open channel: until [`resume`](Self::resume) the peer's silence means
    /// nothing. Keepalives of our own go on.
    pub fn pause(&mut self) {
        match &mut self.phase {
            Phase::Unadmitted(transport) | Phase::Open(transport) => transport.pause(),
            Phase::Handshake(_) | Phase::Closed => {}
        }
    }

    /// The owner reads again.
    pub fn resume(&mut self, now: Instant) {
        match &mut self.phase {
            Phase::Unadmitted(transport) | Phase::Open(transport) => transport.resume(now),
            Phase::Handshake(_) | Phase::Closed => {}
        }
    }

    /// Time passed. Nothing before [`poll_timeout`](Self::poll_timeout).
    pub fn tick(&mut self, now: Instant, wire: &mut Vec<u8>) {
        if self.poll_timeout().is_none_or(|alarm| now < alarm.at) {
            return;
        }
        let done = match &mut self.phase {
            Phase::Handshake(_) | Phase::Unadmitted(_) => Err(CloseReason::Deadline),
            Phase::Open(transport) => transport.tick(now, wire),
            Phase::Closed => Ok(()),
        };
        match done {
            Ok(()) if self.inbox.len() <= IDLE_INBOX => self.inbox.shrink_to(IDLE_INBOX),
            Ok(()) => {}
            Err(reason) => self.end(reason),
        }
    }

    /// The next event, oldest first, until `None`.
    pub fn poll_event(&mut self) -> Option<ChannelEvent> {
        let event = self.events.pop_front();
        if let Some(ChannelEvent::Message(message)) = &event {
            self.queued = self.queued.saturating_sub(cost(message));
        }
        if self.events.is_empty() {
            self.events.shrink_to(KEPT_EVENTS);
        }
        event
    }

    /// When [`tick`](Self::tick) is due next.
    pub fn poll_timeout(&self) -> Option<Alarm> {
        match &self.phase {
            Phase::Handshake(_) => Some(Alarm { at: self.deadline, why: "handshake deadline" }),
            Phase::Unadmitted(_) => Some(Alarm { at: self.deadline, why: "admission deadline" }),
            Phase::Open(transport) => transport.alarm(),
            Phase::Closed => None,
        }
    }

    /// Bytes of memory that wait inside: for the rest of a record or message, or to be polled.
    pub fn held(&self) -> usize {
        let parts = match &self.phase {
            Phase::Unadmitted(transport) | Phase::Open(transport) => transport.held(),
            Phase::Handshake(_) | Phase::Closed => 0,
        };
        self.inbox.capacity() + parts + self.queued
    }

    /// Bytes of a message that is not whole yet; 0 between messages.
    pub fn incomplete(&self) -> usize {
        match &self.phase {
            Phase::Unadmitted(transport) | Phase::Open(transport) => transport.incomplete(),
            Phase::Handshake(_) | Phase::Closed => 0,
        }
    }

    /// Whether a responder's owner has yet to decide.
    fn is_undecided(&self) -> bool {
        matches!(&self.phase, Phase::Unadmitted(transport) if transport.role() == Role::Responder)
    }

    /// Keeps what came before its time.
    fn hold(&mut self, bytes: &[u8]) {
        if self.inbox.len() + bytes.len() > MAX_HELD {
            return self.end(CloseReason::Misbehaved(Misbehaviour::Overrun));
        }
        sometimes!("transport: bytes come before their sender is admitted", !bytes.is_empty());
        self.inbox.extend_from_slice(bytes);
    }

    /// Moves bytes into the inbox until one frame or record is whole there; judges its length as soon as that is known.
    fn fill(&mut self, bytes: &mut &[u8]) -> Result<bool, CloseReason> {
        if matches!(self.phase, Phase::Closed) {
            return Ok(false);
        }
        self.take(bytes, LENGTH);
        let Some(length) = self.inbox.first_chunk::<LENGTH>() else { return Ok(false) };
        let length = usize::from(u16::from_be_bytes(*length));
        match &self.phase {
            Phase::Handshake(handshake) => handshake.check_length(length)?,
            Phase::Unadmitted(_) | Phase::Open(_) => record::check_length(length).map_err(CloseReason::Misbehaved)?,
            Phase::Closed => {}
        }
        self.take(bytes, LENGTH + length);
        Ok(self.inbox.len() == LENGTH + length)
    }

    /// Moves bytes until the inbox holds `wanted`.
    fn take(&mut self, bytes: &mut &[u8], wanted: usize) {
        let missing = wanted.saturating_sub(self.inbox.len()).min(bytes.len());
        let (now, later) = bytes.split_at(missing);
        self.inbox.extend_from_slice(now);
        *bytes = later;
    }

    /// One whole frame or record lies in the inbox.
    fn on_unit(&mut self, now: Instant, wire: &mut Vec<u8>) {
        let mut inbox = std::mem::take(&mut self.inbox);
        let unit = &mut inbox[LENGTH..];
        let done = match &mut self.phase {
            Phase::Handshake(handshake) => {
                handshake.on_frame(unit, wire).map(|done| done.map_or(Effect::Nothing, Effect::Proven))
            }
            Phase::Unadmitted(transport) => transport.on_record(now, Stage::Unadmitted, unit, wire),
            Phase::Open(transport) => transport.on_record(now, Stage::Open, unit, wire),
            Phase::Closed => Ok(Effect::Nothing),
        };
        inbox.clear();
        self.inbox = inbox;
        match done {
            Ok(effect) => self.on_effect(now, effect),
            Err(reason) => self.end(reason),
        }
    }

    fn on_effect(&mut self, now: Instant, effect: Effect) {
        match (effect, std::mem::replace(&mut self.phase, Phase::Closed)) {
            (Effect::Proven(session), Phase::Handshake(handshake)) => {
                let (role, peer) = (handshake.role(), session.peer);
                self.phase = Phase::Unadmitted(Box::new(Transport::new(role, session, now)));
                match role {
                    Role::Initiator => {}
                    Role::Responder => self.events.push_back(ChannelEvent::Identified { peer }),
                }
            }
            (Effect::Admitted, Phase::Unadmitted(transport)) => self.open(now, transport),
            (Effect::Message(message), phase) => {
                self.phase = phase;
                self.queued = self.queued.saturating_add(cost(&message));
                let waits = matches!(self.events.back(), Some(ChannelEvent::Message(_)));
                if mutant!(MessagesSwapped) && waits {
                    return self.events.insert(self.events.len() - 1, ChannelEvent::Message(message));
                }
                if mutant!(MessageTwice) {
                    self.events.push_back(ChannelEvent::Message(message.clone()));
                }
                self.events.push_back(ChannelEvent::Message(message));
            }
            (Effect::Nothing | Effect::Proven(_) | Effect::Admitted, phase) => self.phase = phase,
        }
    }

    fn open(&mut self, now: Instant, mut transport: Box<Transport>) {
        transport.opened(now);
        self.events.push_back(ChannelEvent::Opened { peer: transport.peer() });
        self.phase = Phase::Open(transport);
    }

    /// The end, for the first reason given.
    fn end(&mut self, reason: CloseReason) {
        if matches!(self.phase, Phase::Closed) {
            return;
        }
        self.phase = Phase::Closed;
        self.inbox = Vec::new();
        self.events.push_back(ChannelEvent::Closed(reason));
    }
}

impl fmt::Debug for SecureChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phase = match &self.phase {
            Phase::Handshake(_) => "handshake",
            Phase::Unadmitted(_) => "unadmitted",
            Phase::Open(_) => "open",
            Phase::Closed => "closed",
        };
        f.debug_struct("SecureChannel").field("phase", &phase).finish_non_exhaustive()
    }
}

impl fmt::Debug for ChannelConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let identity = self.signer.public_key();
        f.debug_struct("ChannelConfig")
            .field("purpose", &self.purpose)
            .field("identity", &identity)
            .finish_non_exhaustive()
    }
}
