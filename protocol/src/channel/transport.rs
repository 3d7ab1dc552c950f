//! A channel that has its keys: which record may come when, and what it does.
//!
//! | record | from | while | effect |
//! |---|---|---|---|
//! | admitted | responder | unadmitted | the initiator is open |
//! | close, not trusted | responder | unadmitted | the initiator is refused |
//! | close, orderly | either | always, but not inside a message | closed in order |
//! | more, data | either | open | a part, the last part of a message |
//! | keepalive | either | open | none but that it was heard |
//! | rekey | as [`rekey`](super::rekey) says | open | fresh keys |
//!
//! Guards: a message is complete, in order and at most [`MAX_FRAME`] long; anything else that opens is misbehaviour.
//! Does *not* guard how much its owner feeds it at once.

use super::handshake::Session;
use super::record::{Direction, Kind, MAX_CONTENT};
use super::rekey::{Exchange, Step};
use super::{CloseReason, Misbehaviour, Role};
use crate::bytes::PublicKey;
use crate::limits::{KEEPALIVE, KEEPALIVE_SILENCE, MAX_FRAME};
use crate::machine::{Alarm, Duration, Instant};
use crate::{buggify, mutant, sometimes};

/// Content of a close record: the end, in order.
const CLOSE_ORDERLY: u8 = 0;
/// Content of a close record: the responder's policy refuses the initiator.
const CLOSE_NOT_TRUSTED: u8 = 1;

/// Bytes of a small part, and how much earlier than need be a keepalive is sent, where [`buggify!`] strikes.
const SMALL_PART: usize = 97;
const EARLY_KEEPALIVE: Duration = Duration::from_secs(13);

/// How far a channel with keys is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The responder has not said yet whether it hears the initiator.
    Unadmitted,
    /// Messages flow.
    Open,
}

/// What a unit of input came to.
pub(super) enum Effect {
    /// Nothing that the owner must know.
    Nothing,
    /// The handshake is done and the peer is who it says.
    Proven(Session),
    /// The responder admitted us.
    Admitted,
    /// A whole message.
    Message(Vec<u8>),
}

/// Which end a sealed close speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Orderly,
    NotTrusted,
}

/// Keys of both directions, a message in parts, and the time of the last records.
pub(super) struct Transport {
    role: Role,
    peer: PublicKey,
    sending: Direction,
    receiving: Direction,
    exchange: Exchange,
    /// The parts of a message so far; `None` between messages.
    parts: Option<Vec<u8>>,
    spoke_at: Instant,
    /// `None` while nobody listens.
    heard_at: Option<Instant>,
}

impl Transport {
    pub(super) fn new(role: Role, session: Session, now: Instant) -> Self {
        Transport {
            role,
            peer: session.peer,
            sending: Direction::new(session.sending),
            receiving: Direction::new(session.receiving),
            exchange: Exchange::new(role, session.rekey_seed, session.hash, now),
            parts: None,
            spoke_at: now,
            heard_at: Some(now),
        }
    }

    pub(super) fn role(&self) -> Role {
        self.role
    }

    pub(super) fn peer(&self) -> PublicKey {
        self.peer
    }

    /// The channel is open from now on: all its clocks start.
    pub(super) fn opened(&mut self, now: Instant) {
        self.exchange.completed(now);
        self.spoke_at = now;
        self.heard_at = self.heard_at.map(|_| now);
    }

    pub(super) fn admit(&mut self, now: Instant, wire: &mut Vec<u8>) {
        self.seal(now, Kind::Admitted, &[], wire);
    }

    pub(super) fn close(&mut self, now: Instant, end: End, wire: &mut Vec<u8>) {
        let code = match end {
            End::Orderly => CLOSE_ORDERLY,
            End::NotTrusted => CLOSE_NOT_TRUSTED,
        };
        self.seal(now, Kind::Close, &[code], wire);
    }

    /// Seals a message of at most [`MAX_FRAME`] bytes, in as few records as it takes.
    pub(super) fn send(&mut self, now: Instant, message: &[u8], wire: &mut Vec<u8>) {
        let most = if buggify!("transport: a message in small parts", 200) { SMALL_PART } else { MAX_CONTENT };
        let (first, last) = message.split_at((message.len().saturating_sub(1)) / most * most);
        sometimes!("transport: a message travels in parts", !first.is_empty());
        for part in first.chunks(most) {
            self.seal(now, Kind::More, part, wire);
        }
        self.seal(now, Kind::Data, last, wire);
    }

    /// One record, without its length.
    pub(super) fn on_record(
        &mut self,
        now: Instant,
        stage: Stage,
        sealed: &mut [u8],
        wire: &mut Vec<u8>,
    ) -> Result<Effect, CloseReason> {
        let record = self.receiving.open(sealed)?;
        self.heard_at = self.heard_at.map(|_| now);
        let (kind, content) = (record.kind, record.content);
        let misplaced = Misbehaviour::Misplaced(kind.tag());
        let effect = match (kind, stage) {
            (Kind::Close, _) => return Err(self.on_close(stage, content)),
            (Kind::Admitted, Stage::Unadmitted) if self.role == Role::Initiator => on_admitted(content),
            (Kind::Data, Stage::Open) => self.on_data(content),
            (Kind::More, Stage::Open) => self.on_more(content),
            (Kind::Keepalive, Stage::Open) => empty(Kind::Keepalive, content).map(|()| Effect::Nothing),
            (Kind::Rekey, Stage::Open) => self.on_rekey(now, content, wire).map(|()| Effect::Nothing),
            (Kind::Admitted, Stage::Unadmitted | Stage::Open)
            | (Kind::Data | Kind::More | Kind::Keepalive | Kind::Rekey, Stage::Unadmitted) => Err(misplaced),
        };
        effect.map_err(CloseReason::Misbehaved)
    }

    fn on_close(&self, stage: Stage, content: &[u8]) -> CloseReason {
        let tag = Kind::Close.tag();
        let may_refuse = self.role == Role::Initiator && stage == Stage::Unadmitted;
        match content {
            [CLOSE_ORDERLY] if self.parts.is_none() => CloseReason::Orderly,
            [CLOSE_NOT_TRUSTED] if may_refuse => CloseReason::Refused,
            [CLOSE_ORDERLY | CLOSE_NOT_TRUSTED] => CloseReason::Misbehaved(Misbehaviour::Misplaced(tag)),
            _ => CloseReason::Misbehaved(Misbehaviour::BadContent(tag)),
        }
    }

    fn on_more(&mut self, content: &[u8]) -> Result<Effect, Misbehaviour> {
        if content.is_empty() {
            // A part without bytes could be repeated for ever without coming nearer to a message.
            return Err(Misbehaviour::BadContent(Kind::More.tag()));
        }
        // Most messages in parts have one whole record and a little more: room for that spares a copy of everything.
        let parts = self.parts.get_or_insert_with(|| Vec::with_capacity(content.len() + content.len() / 16));
        append(parts, content)?;
        Ok(Effect::Nothing)
    }

    fn on_data(&mut self, content: &[u8]) -> Result<Effect, Misbehaviour> {
        let Some(mut message) = self.parts.take() else { return Ok(Effect::Message(content.to_vec())) };
        append(&mut message, content)?;
        Ok(Effect::Message(message))
    }

    fn on_rekey(&mut self, now: Instant, content: &[u8], wire: &mut Vec<u8>) -> Result<(), Misbehaviour> {
        match Step::parse(content)? {
            Step::Offer(key) => {
                let (answer, fresh) = self.exchange.on_offer(now, key)?;
                self.seal_step(now, answer, wire);
                self.sending.switch(fresh.key(self.sending.key(), Role::Responder));
            }
            Step::Answer(key) => {
                let fresh = self.exchange.on_answer(now, key)?;
                self.receiving.switch(fresh.key(self.receiving.key(), Role::Responder));
                self.seal_step(now, Step::Done, wire);
                sometimes!("transport: fresh keys are exchanged", true);
                if mutant!(KeysNotSwitched) {
                    return Ok(());
                }
                self.sending.switch(fresh.key(self.sending.key(), Role::Initiator));
            }
            Step::Done => {
                let fresh = self.exchange.on_done(now)?;
                self.receiving.switch(fresh.key(self.receiving.key(), Role::Initiator));
            }
        }
        Ok(())
    }

    /// Nobody listens from now on: silence is our own.
    pub(super) fn pause(&mut self) {
        self.heard_at = None;
    }

    /// Somebody listens again; the peer gets the whole time.
    pub(super) fn resume(&mut self, now: Instant) {
        if self.heard_at.is_none() {
            self.heard_at = Some(now);
            self.exchange.grant(now, KEEPALIVE_SILENCE);
        }
    }

    /// The next alarm of an open channel.
    pub(super) fn alarm(&self) -> Option<Alarm> {
        let keepalive = Alarm { at: self.spoke_at + KEEPALIVE, why: "keepalive" };
        let keepalive = Some(keepalive).filter(|_| !mutant!(KeepaliveNever));
        Alarm::earliest(Alarm::earliest(keepalive, self.peer_alarm()), self.exchange.offer_alarm())
    }

    /// When the peer has failed us: only while somebody listens to it.
    fn peer_alarm(&self) -> Option<Alarm> {
        let silent = Alarm { at: self.heard_at? + KEEPALIVE_SILENCE, why: "peer silent" };
        Alarm::earliest(Some(silent), Some(self.exchange.overdue_alarm()))
    }

    /// Everything that is due in an open channel.
    pub(super) fn tick(&mut self, now: Instant, wire: &mut Vec<u8>) -> Result<(), CloseReason> {
        if self.heard_at.is_some_and(|heard| now >= heard + KEEPALIVE_SILENCE) {
            sometimes!("transport: a peer is silent for too long", true);
            return Err(CloseReason::Silent);
        }
        if self.heard_at.is_some() && now >= self.exchange.overdue_alarm().at {
            return Err(CloseReason::Misbehaved(Misbehaviour::RekeyOverdue));
        }
        if let Some(offer) = self.exchange.offer(now) {
            self.seal_step(now, offer, wire);
        }
        if now >= self.spoke_at + KEEPALIVE && !mutant!(KeepaliveNever) {
            self.seal(now, Kind::Keepalive, &[], wire);
        }
        Ok(())
    }

    fn seal_step(&mut self, now: Instant, step: Step, wire: &mut Vec<u8>) {
        let mut room = [0; 33];
        self.seal(now, Kind::Rekey, step.write(&mut room), wire);
    }

    fn seal(&mut self, now: Instant, kind: Kind, content: &[u8], wire: &mut Vec<u8>) {
        self.sending.seal(kind, content, wire);
        self.spoke_at = if buggify!("transport: keepalive early", 50) { now - EARLY_KEEPALIVE } else { now };
    }

    /// Bytes of a message that is not whole, so far.
    pub(super) fn incomplete(&self) -> usize {
        self.parts.as_ref().map_or(0, Vec::len)
    }

    /// Bytes of memory of a message that is not whole.
    pub(super) fn held(&self) -> usize {
        self.parts.as_ref().map_or(0, Vec::capacity)
    }

    #[cfg(test)]
    pub(super) fn directions(&mut self) -> (&mut Direction, &mut Direction) {
        (&mut self.sending, &mut self.receiving)
    }

    #[cfg(test)]
    pub(super) fn exchanges(&self) -> u64 {
        self.exchange.number()
    }

    #[cfg(test)]
    pub(super) fn session(&self) -> [u8; 32] {
        self.exchange.session()
    }
}

fn on_admitted(content: &[u8]) -> Result<Effect, Misbehaviour> {
    empty(Kind::Admitted, content).map(|()| Effect::Admitted)
}

fn empty(kind: Kind, content: &[u8]) -> Result<(), Misbehaviour> {
    if content.is_empty() { Ok(()) } else { Err(Misbehaviour::BadContent(kind.tag())) }
}

fn append(parts: &mut Vec<u8>, content: &[u8]) -> Result<(), Misbehaviour> {
    if parts.len() + content.len() > MAX_FRAME {
        return Err(Misbehaviour::MessageTooLong);
    }
    parts.extend_from_slice(content);
    Ok(())
}
