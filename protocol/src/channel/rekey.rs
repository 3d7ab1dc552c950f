//! Fresh keys inside a long connection: a Diffie-Hellman exchange in three records.
//!
//! ```text
//! initiator -> responder   offer    1 | e_i     the next records still travel under the old key
//! initiator <- responder   answer   2 | e_r     the last record from the responder under its old key
//! initiator -> responder   done     3           the last record from the initiator under its old key
//!
//! new key of a direction = H("offset v1 channel rekey", its old key | X25519(e_i, e_r) | session's handshake hash |
//!                            number of the exchange u64 LE, from 1 | e_i | e_r | direction u8: 0 forth, 1 back)
//! ```
//!
//! Guards:
//! 1. Each direction changes its key after a record that travels in it, so whatever is in flight opens.
//! 2. Only the connection's initiator offers, one exchange at a time: offers cannot cross.
//! 3. Who is asked pays no more than one exchange per [`MIN_REKEY_DH`].
//! 4. The old key goes into the new one: an exchange never weakens a channel.
//!
//! Does *not* authenticate anybody anew: the keys under which the steps travel do.

use zeroize::Zeroizing;

use super::agreement::{KeyAgreement as _, KeyPair, X25519};
use super::record::{Key, Kind};
use super::{MIN_REKEY_DH, Misbehaviour, Role};
use crate::buggify;
use crate::bytes::Hash;
use crate::context::CHANNEL_REKEY;
use crate::limits::REKEY_DH;
use crate::machine::{Alarm, Duration, Instant, Seed};

/// A time after which offering is allowed and early, where [`buggify!`] strikes: [`MIN_REKEY_DH`] with room for clocks.
const EARLY_REKEY: Duration = Duration::from_micros(MIN_REKEY_DH.as_micros() / 4 * 5);

const OFFER: u8 = 1;
const ANSWER: u8 = 2;
const DONE: u8 = 3;

/// One step, as a record carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The initiator's half.
    Offer([u8; 32]),
    /// The responder's half; its direction changes keys.
    Answer([u8; 32]),
    /// The initiator's direction changes keys.
    Done,
}

impl Step {
    pub(super) fn parse(content: &[u8]) -> Result<Self, Misbehaviour> {
        match content {
            [OFFER, key @ ..] => key.try_into().ok().map(Step::Offer),
            [ANSWER, key @ ..] => key.try_into().ok().map(Step::Answer),
            [DONE] => Some(Step::Done),
            _ => None,
        }
        .ok_or(Misbehaviour::BadContent(Kind::Rekey.tag()))
    }

    /// The content of the step's record, in `room`.
    pub(super) fn write<'a>(&self, room: &'a mut [u8; 33]) -> &'a [u8] {
        let (tag, key) = match self {
            Step::Offer(key) => (OFFER, Some(key)),
            Step::Answer(key) => (ANSWER, Some(key)),
            Step::Done => (DONE, None),
        };
        room[0] = tag;
        let Some(key) = key else { return &room[..1] };
        room[1..].copy_from_slice(key);
        room
    }
}

/// What both ends know after an exchange, from which each direction's new key comes.
#[derive(Clone)]
pub(super) struct Fresh {
    shared: Zeroizing<[u8; 32]>,
    session: Hash,
    number: u64,
    offered: [u8; 32],
    answered: [u8; 32],
}

impl Fresh {
    /// The key after `old` for what `sender` sends.
    pub(super) fn key(&self, old: &[u8; 32], sender: Role) -> Key {
        let mut hasher = CHANNEL_REKEY.hasher();
        hasher.fixed(old).fixed(&self.shared).fixed(&self.session.0).u64(self.number);
        hasher.fixed(&self.offered).fixed(&self.answered).u8(sender.tag());
        Zeroizing::new(hasher.finish().0)
    }
}

/// How far an exchange is.
enum Pending {
    /// None under way.
    Nothing,
    /// We offered and wait for the answer.
    Offered(KeyPair),
    /// We answered and wait for the peer's direction to change.
    Answered(Fresh),
}

/// The exchanges of one connection.
pub(super) struct Exchange {
    role: Role,
    /// Replaced after every use, so that what is in memory now tells nothing about earlier halves.
    seed: Seed,
    session: Hash,
    number: u64,
    pending: Pending,
    /// When the initiator offers next: a while after the last exchange, or after the channel opened.
    offer_at: Instant,
    /// From then on the peer has withheld its part for too long.
    overdue_at: Instant,
    /// When the peer last offered.
    offered_at: Option<Instant>,
}

impl Exchange {
    pub(super) fn new(role: Role, seed: Seed, session: Hash, now: Instant) -> Self {
        let (pending, offered_at) = (Pending::Nothing, None);
        let mut exchange =
            Exchange { role, seed, session, number: 0, pending, offer_at: now, overdue_at: now, offered_at };
        exchange.completed(now);
        exchange
    }

    /// The keys are fresh: an exchange is complete, or the channel opened.
    pub(super) fn completed(&mut self, now: Instant) {
        self.offer_at = now + if buggify!("transport: fresh keys early", 300) { EARLY_REKEY } else { REKEY_DH };
        self.overdue_at = now + REKEY_DH.times(2);
    }

    /// We did not listen until now: the peer has at least `grace` for its part.
    pub(super) fn grant(&mut self, now: Instant, grace: Duration) {
        self.overdue_at = self.overdue_at.max(now + grace);
    }

    /// When the initiator offers next.
    pub(super) fn offer_alarm(&self) -> Option<Alarm> {
        match (self.role, &self.pending) {
            (Role::Initiator, Pending::Nothing) => Some(Alarm { at: self.offer_at, why: "offer new keys" }),
            (Role::Initiator, Pending::Offered(..) | Pending::Answered(_)) | (Role::Responder, _) => None,
        }
    }

    /// When the peer has withheld its part for too long.
    pub(super) fn overdue_alarm(&self) -> Alarm {
        Alarm { at: self.overdue_at, why: "new keys overdue" }
    }

    /// The initiator's offer, if one is due.
    pub(super) fn offer(&mut self, now: Instant) -> Option<Step> {
        self.offer_alarm().filter(|alarm| now >= alarm.at)?;
        let half = self.half();
        let offered = half.public;
        self.pending = Pending::Offered(half);
        Some(Step::Offer(offered))
    }

    /// The responder's answer to an offer, and what its own direction's key comes from once the answer is sealed.
    pub(super) fn on_offer(&mut self, now: Instant, offered: [u8; 32]) -> Result<(Step, Fresh), Misbehaviour> {
        if self.role != Role::Responder || !matches!(self.pending, Pending::Nothing) {
            return Err(Misbehaviour::Misplaced(Kind::Rekey.tag()));
        }
        if self.offered_at.is_some_and(|before| now.since(before) < MIN_REKEY_DH) {
            return Err(Misbehaviour::RekeyTooOften);
        }
        self.offered_at = Some(now);
        let half = self.half();
        let shared = X25519.agree(&half, &offered).ok_or(Misbehaviour::WeakKey)?;
        let fresh = self.fresh(shared, offered, half.public);
        self.pending = Pending::Answered(fresh.clone());
        Ok((Step::Answer(half.public), fresh))
    }

    /// The initiator has both halves now: the responder's direction has changed keys, its own does after "done".
    pub(super) fn on_answer(&mut self, now: Instant, answered: [u8; 32]) -> Result<Fresh, Misbehaviour> {
        let Pending::Offered(half) = std::mem::replace(&mut self.pending, Pending::Nothing) else {
            return Err(Misbehaviour::Misplaced(Kind::Rekey.tag()));
        };
        let shared = X25519.agree(&half, &answered).ok_or(Misbehaviour::WeakKey)?;
        self.completed(now);
        Ok(self.fresh(shared, half.public, answered))
    }

    /// The initiator's direction has changed keys: the exchange is complete.
    pub(super) fn on_done(&mut self, now: Instant) -> Result<Fresh, Misbehaviour> {
        let Pending::Answered(fresh) = std::mem::replace(&mut self.pending, Pending::Nothing) else {
            return Err(Misbehaviour::Misplaced(Kind::Rekey.tag()));
        };
        self.completed(now);
        Ok(fresh)
    }

    fn half(&mut self) -> KeyPair {
        let secret = Zeroizing::new(self.seed.fork("half").rng().bytes());
        self.seed = self.seed.fork("next");
        KeyPair::new(&X25519, secret)
    }

    fn fresh(&mut self, shared: Zeroizing<[u8; 32]>, offered: [u8; 32], answered: [u8; 32]) -> Fresh {
        self.number = self.number.wrapping_add(1);
        Fresh { shared, session: self.session, number: self.number, offered, answered }
    }

    #[cfg(test)]
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    #[cfg(test)]
    pub(super) fn session(&self) -> [u8; 32] {
        self.session.0
    }
}
