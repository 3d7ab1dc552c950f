//! The handshake: Noise XX with both identities bound to it.
//!
//! ```text
//! frame     length u16 BE | kind u8 (0 Noise, 1 error) | body          length counts kind and body
//! 1  ->     "OFST" | version u16 BE | purpose u8 | e                    prologue: "offset/1" | these first seven bytes
//! 2  <-     e, ee, s, es, identity                   or an error: code u8 | version u16 BE | purpose u8
//! 3  ->     s, se, identity
//! identity  version u16 BE | features u64 BE | Ed25519 public key 32 | signature 64
//! ```
//!
//! Guards:
//! 1. An identity signs (role, handshake hash before its message, own X25519 static key): it is worth nothing in another
//!    handshake, in the other role, or beside another static key.
//! 2. The initiator judges the responder's identity before its own leaves.
//! 3. Version and purpose are part of the handshake hash; who alters them on the way breaks the handshake.
//! 4. No more than [`MAX_HANDSHAKE`] bytes in both directions together, judged by the announced length.
//!
//! Does *not* know the time, nor whether the responder wants this initiator. An error frame is not authenticated: whoever
//! can forge one could also cut the connection.

use snow::{Builder, HandshakeState};
use zeroize::{Zeroize, Zeroizing};

use super::agreement::KeyPair;
use super::record::{Key, LENGTH};
use super::resolver::{Primitives, params};
use super::{CloseReason, Role, VERSION};
use crate::bytes::{Hash, PublicKey, Signature};
use crate::context::{CHANNEL_IDENTITY, Hasher};
use crate::identity::SharedSigner;
use crate::limits::MAX_HANDSHAKE;
use crate::machine::Seed;
use crate::net::Purpose;

/// The first bytes of a connection: nothing else is meant by accident.
const MAGIC: [u8; 4] = *b"OFST";
/// What the prologue begins with.
const PROLOGUE: &[u8; 8] = b"offset/1";
/// Magic, version, purpose.
const HELLO: usize = 7;
/// Version, features, public key, signature.
const IDENTITY: usize = 2 + 8 + PublicKey::SIZE + Signature::SIZE;
/// What this end can do beyond version 1: nothing yet. Unknown bits of the peer are ignored.
const FEATURES: u64 = 0;
/// A buffer for any of our own messages: the second has 202 bytes.
const MESSAGE: usize = 256;

/// Kind of a frame that carries a Noise message.
const FRAME_NOISE: u8 = 0;
/// Kind of a frame that says why there will be none.
const FRAME_ERROR: u8 = 1;
/// The responder speaks another version.
const ERROR_VERSION: u8 = 1;
/// The responder is there for something else.
const ERROR_PURPOSE: u8 = 2;

/// What a finished handshake leaves behind.
pub(super) struct Session {
    pub(super) peer: PublicKey,
    pub(super) sending: Key,
    pub(super) receiving: Key,
    /// The final handshake hash: names this session, and no other.
    pub(super) hash: Hash,
    /// For the keys of later exchanges; leads back to none of the handshake's secrets.
    pub(super) rekey_seed: Seed,
}

/// Which frame is next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The initiator has not started.
    Unstarted,
    /// The responder waits for the first frame.
    First,
    /// The initiator waits for the second.
    Second,
    /// The responder waits for the third.
    Third,
}

/// Who we are and whom we want.
pub(super) struct Terms {
    pub(super) role: Role,
    pub(super) purpose: Purpose,
    pub(super) signer: SharedSigner,
    /// The initiator's only acceptable peer; `None` for a responder.
    pub(super) expected: Option<PublicKey>,
}

/// A handshake under way.
pub(super) struct Handshake {
    noise: HandshakeState,
    terms: Terms,
    static_key: [u8; 32],
    rekey_seed: Seed,
    step: Step,
    bytes: usize,
}

impl Handshake {
    pub(super) fn new(terms: Terms, seed: &Seed) -> Self {
        let pair = KeyPair::new(terms.signer.agreement(), Zeroizing::new(seed.fork("static").rng().bytes()));
        let prologue = [&PROLOGUE[..], &hello(terms.purpose)].concat();
        let (signer, static_key) = (terms.signer.clone(), pair.clone());
        let primitives = Primitives { seed: seed.fork("ephemeral"), signer, static_key };
        let builder = Builder::with_resolver(params(), Box::new(primitives))
            .prologue(&prologue)
            .and_then(|builder| builder.local_private_key(&*pair.secret));
        let (noise, step) = match terms.role {
            Role::Initiator => (builder.and_then(Builder::build_initiator), Step::Unstarted),
            Role::Responder => (builder.and_then(Builder::build_responder), Step::First),
        };
        let noise = noise.expect("our resolver has every primitive that our pattern names");
        Handshake { noise, terms, static_key: pair.public, rekey_seed: seed.fork("rekey"), step, bytes: 0 }
    }

    pub(super) fn role(&self) -> Role {
        self.terms.role
    }

    /// The initiator's first frame; nothing at any other time.
    pub(super) fn start(&mut self, wire: &mut Vec<u8>) -> Result<(), CloseReason> {
        if self.step != Step::Unstarted {
            return Ok(());
        }
        self.step = Step::Second;
        let hello = hello(self.terms.purpose);
        self.write(&hello, &[], wire)
    }

    /// Judges an announced frame before any of it is kept.
    pub(super) fn check_length(&self, length: usize) -> Result<(), CloseReason> {
        let fits = self.bytes + LENGTH + length <= MAX_HANDSHAKE;
        if fits { Ok(()) } else { Err(CloseReason::HandshakeTooLong) }
    }

    /// One whole frame, without its length; the reply is appended to `wire`.
    pub(super) fn on_frame(&mut self, frame: &[u8], wire: &mut Vec<u8>) -> Result<Option<Session>, CloseReason> {
        self.bytes += LENGTH + frame.len();
        let (kind, body) = frame.split_first().ok_or(CloseReason::BadHandshake)?;
        match (*kind, self.step) {
            (FRAME_NOISE, Step::First) => self.on_first(body, wire).map(|()| None),
            (FRAME_NOISE, Step::Second) => self.on_second(body, wire).map(Some),
            (FRAME_NOISE, Step::Third) => self.on_third(body).map(Some),
            (FRAME_ERROR, Step::Second) => Err(self.on_error(body)),
            _ => Err(CloseReason::BadHandshake),
        }
    }

    fn on_first(&mut self, body: &[u8], wire: &mut Vec<u8>) -> Result<(), CloseReason> {
        let (head, message) = body.split_first_chunk::<HELLO>().ok_or(CloseReason::BadHandshake)?;
        let [m0, m1, m2, m3, v0, v1, theirs] = *head;
        if [m0, m1, m2, m3] != MAGIC {
            // Not one of us; an answer would mean nothing to it.
            return Err(CloseReason::BadHandshake);
        }
        let (version, ours) = (u16::from_be_bytes([v0, v1]), self.terms.purpose);
        if version != VERSION {
            self.write_error(ERROR_VERSION, wire);
            return Err(CloseReason::WrongVersion { ours: VERSION, theirs: version });
        }
        if theirs != ours.tag() {
            self.write_error(ERROR_PURPOSE, wire);
            return Err(CloseReason::WrongPurpose { ours, theirs });
        }
        let mut payload = [0; MESSAGE];
        let length = self.noise.read_message(message, &mut payload).map_err(|_| CloseReason::BadHandshake)?;
        if length != 0 {
            return Err(CloseReason::BadHandshake);
        }
        self.step = Step::Third;
        let identity = self.identity();
        self.write(&[], &identity, wire)
    }

    fn on_second(&mut self, body: &[u8], wire: &mut Vec<u8>) -> Result<Session, CloseReason> {
        let met = self.read_identity(body)?;
        if let Some(expected) = self.terms.expected.filter(|expected| *expected != met) {
            return Err(CloseReason::WrongPeer { expected, met });
        }
        let identity = self.identity();
        self.write(&[], &identity, wire)?;
        Ok(self.session(met))
    }

    fn on_third(&mut self, body: &[u8]) -> Result<Session, CloseReason> {
        let met = self.read_identity(body)?;
        Ok(self.session(met))
    }

    fn on_error(&self, body: &[u8]) -> CloseReason {
        let [code, v0, v1, purpose] = *body else { return CloseReason::BadHandshake };
        let (theirs, ours) = (u16::from_be_bytes([v0, v1]), self.terms.purpose);
        match code {
            ERROR_VERSION if theirs != VERSION => CloseReason::WrongVersion { ours: VERSION, theirs },
            ERROR_PURPOSE if purpose != ours.tag() => CloseReason::WrongPurpose { ours, theirs: purpose },
            // An unknown code, or a complaint about what we have in common.
            _ => CloseReason::BadHandshake,
        }
    }

    fn identity(&self) -> [u8; IDENTITY] {
        let hash = self.signed_by(self.terms.role).fixed(&self.static_key).finish();
        let signature = self.terms.signer.sign(&hash);
        let mut out = [0; IDENTITY];
        out[..2].copy_from_slice(&VERSION.to_be_bytes());
        out[2..10].copy_from_slice(&FEATURES.to_be_bytes());
        out[10..42].copy_from_slice(&self.terms.signer.public_key().0);
        out[42..].copy_from_slice(&signature.0);
        out
    }

    /// Reads a message that carries an identity, and checks it.
    fn read_identity(&mut self, message: &[u8]) -> Result<PublicKey, CloseReason> {
        // What was signed is the hash before this message; the static key comes with the message.
        let mut signed = self.signed_by(self.terms.role.other());
        let mut payload = [0; MESSAGE];
        let length = self.noise.read_message(message, &mut payload).map_err(|_| CloseReason::BadHandshake)?;
        let payload = payload.get(..length).ok_or(CloseReason::BadHandshake)?;
        let (theirs, key, signature) = split_identity(payload).ok_or(CloseReason::BadHandshake)?;
        if theirs != VERSION {
            return Err(CloseReason::WrongVersion { ours: VERSION, theirs });
        }
        let static_key = self.noise.get_remote_static().and_then(|key| key.first_chunk::<32>());
        let hash = signed.fixed(static_key.ok_or(CloseReason::BadHandshake)?).finish();
        self.terms.signer.verify(&key, &hash, &signature).map_err(|_| CloseReason::BadIdentity)?;
        Ok(key)
    }

    /// What an end in `role` signs now, but for its static key.
    fn signed_by(&self, role: Role) -> Hasher {
        let mut hasher = CHANNEL_IDENTITY.hasher();
        hasher.u8(role.tag()).fixed(&self.hash().0);
        hasher
    }

    fn hash(&self) -> Hash {
        let hash = self.noise.get_handshake_hash().first_chunk();
        Hash(*hash.expect("BLAKE3 gives 32 bytes"))
    }

    fn session(&mut self, peer: PublicKey) -> Session {
        let (mut forth, mut back) = self.noise.dangerously_get_raw_split();
        let (forth_key, back_key) = (Zeroizing::new(forth), Zeroizing::new(back));
        forth.zeroize();
        back.zeroize();
        let (sending, receiving) = match self.terms.role {
            Role::Initiator => (forth_key, back_key),
            Role::Responder => (back_key, forth_key),
        };
        Session { peer, sending, receiving, hash: self.hash(), rekey_seed: self.rekey_seed.clone() }
    }

    /// Appends a frame: `head` in the clear, then the next Noise message with `payload`.
    fn write(&mut self, head: &[u8], payload: &[u8], wire: &mut Vec<u8>) -> Result<(), CloseReason> {
        let mut message = [0; MESSAGE];
        let length = self.noise.write_message(payload, &mut message).map_err(|_| CloseReason::BadHandshake)?;
        self.write_frame(FRAME_NOISE, head, &message[..length], wire);
        Ok(())
    }

    fn write_error(&mut self, code: u8, wire: &mut Vec<u8>) {
        let [v0, v1] = VERSION.to_be_bytes();
        self.write_frame(FRAME_ERROR, &[code, v0, v1, self.terms.purpose.tag()], &[], wire);
    }

    fn write_frame(&mut self, kind: u8, head: &[u8], body: &[u8], wire: &mut Vec<u8>) {
        let length = 1 + head.len() + body.len();
        self.bytes += LENGTH + length;
        wire.extend_from_slice(&(length as u16).to_be_bytes());
        wire.push(kind);
        wire.extend_from_slice(head);
        wire.extend_from_slice(body);
    }
}

/// The clear bytes of the first frame.
fn hello(purpose: Purpose) -> [u8; HELLO] {
    let ([m0, m1, m2, m3], [v0, v1]) = (MAGIC, VERSION.to_be_bytes());
    [m0, m1, m2, m3, v0, v1, purpose.tag()]
}

/// Version, key and signature; features say nothing that this version knows.
fn split_identity(payload: &[u8]) -> Option<(u16, PublicKey, Signature)> {
    let (version, rest) = payload.split_first_chunk::<2>()?;
    let (_features, rest) = rest.split_first_chunk::<8>()?;
    let (key, rest) = rest.split_first_chunk::<32>()?;
    let signature: &[u8; 64] = rest.try_into().ok()?;
    Some((u16::from_be_bytes(*version), PublicKey(*key), Signature(*signature)))
}
