//! An end of the channel made of `snow` and the specification alone: its own resolver, its own frames, its own records.
//! Whatever it agrees on with our channel is Noise and not a habit of ours. It can also lie, which our channel cannot.
// A step of a test that fails is a test that fails.
#![allow(clippy::unwrap_used)]
// Tests use all of it, targets do not.
#![cfg_attr(not(test), allow(dead_code))]

use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{ChaCha20Poly1305, KeyInit};
use snow::params::{CipherChoice, DHChoice, HashChoice, NoiseParams};
use snow::resolvers::CryptoResolver;
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Error, HandshakeState, TransportState};
use x25519_dalek::{X25519_BASEPOINT_BYTES, x25519};

use super::pair::{ALICE, BOB, TestEnd, config, key, signer};
use super::*;
use crate::bytes::Signature;

struct Resolver(u8);

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Counter(self.0)))
    }
    fn resolve_dh(&self, _: &DHChoice) -> Option<Box<dyn Dh>> {
        Some(Box::new(Curve::default()))
    }
    fn resolve_hash(&self, _: &HashChoice) -> Option<Box<dyn Hash>> {
        Some(Box::new(Blake(Vec::new())))
    }
    fn resolve_cipher(&self, _: &CipherChoice) -> Option<Box<dyn Cipher>> {
        Some(Box::new(Seal([0; 32])))
    }
}

struct Counter(u8);

impl Random for Counter {
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), Error> {
        dest.fill_with(|| {
            self.0 = self.0.wrapping_mul(5).wrapping_add(113);
            self.0
        });
        Ok(())
    }
}

#[derive(Default)]
struct Curve([u8; 32], [u8; 32]);

impl Dh for Curve {
    fn name(&self) -> &'static str {
        "25519"
    }
    fn pub_len(&self) -> usize {
        32
    }
    fn priv_len(&self) -> usize {
        32
    }
    fn set(&mut self, privkey: &[u8]) {
        self.0 = privkey.try_into().unwrap();
        self.1 = x25519(self.0, X25519_BASEPOINT_BYTES);
    }
    fn generate(&mut self, rng: &mut dyn Random) -> Result<(), Error> {
        let mut secret = [0; 32];
        rng.try_fill_bytes(&mut secret)?;
        self.set(&secret);
        Ok(())
    }
    fn pubkey(&self) -> &[u8] {
        &self.1
    }
    fn privkey(&self) -> &[u8] {
        &self.0
    }
    fn dh(&self, pubkey: &[u8], out: &mut [u8]) -> Result<(), Error> {
        out[..32].copy_from_slice(&x25519(self.0, pubkey[..32].try_into().unwrap()));
        Ok(())
    }
}

struct Blake(Vec<u8>);

impl Hash for Blake {
    fn name(&self) -> &'static str {
        "BLAKE3"
    }
    fn block_len(&self) -> usize {
        64
    }
    fn hash_len(&self) -> usize {
        32
    }
    fn reset(&mut self) {
        self.0.clear();
    }
    fn input(&mut self, data: &[u8]) {
        self.0.extend_from_slice(data);
    }
    fn result(&mut self, out: &mut [u8]) {
        out[..32].copy_from_slice(blake3::hash(&self.0).as_bytes());
    }
}

struct Seal([u8; 32]);

fn noise_nonce(count: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&count.to_le_bytes());
    nonce
}

impl Cipher for Seal {
    fn name(&self) -> &'static str {
        "ChaChaPoly"
    }
    fn set(&mut self, key: &[u8; 32]) {
        self.0 = *key;
    }
    fn encrypt(&self, count: u64, aad: &[u8], msg: &[u8], out: &mut [u8]) -> usize {
        let sealed = ChaCha20Poly1305::new(&self.0.into()).encrypt(&noise_nonce(count).into(), Payload { msg, aad });
        let sealed = sealed.unwrap();
        out[..sealed.len()].copy_from_slice(&sealed);
        sealed.len()
    }
    fn decrypt(&self, count: u64, aad: &[u8], msg: &[u8], out: &mut [u8]) -> Result<usize, Error> {
        let opened = ChaCha20Poly1305::new(&self.0.into()).decrypt(&noise_nonce(count).into(), Payload { msg, aad });
        let opened = opened.map_err(|_| Error::Decrypt)?;
        out[..opened.len()].copy_from_slice(&opened);
        Ok(opened.len())
    }
}

/// A handshake frame as the specification draws it.
pub(super) fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(1 + body.len()).unwrap();
    [&length.to_be_bytes()[..], &[kind], body].concat()
}

/// The plain bytes of a record as the specification draws them.
pub(super) fn plain(kind: u8, content: &[u8]) -> Vec<u8> {
    let mut plain = vec![kind];
    plain.extend_from_slice(&u16::try_from(content.len()).unwrap().to_be_bytes());
    plain.extend_from_slice(content);
    let step = if plain.len() <= 1_024 { 64 } else { 256 };
    plain.resize(plain.len().div_ceil(step) * step, 0);
    plain
}

/// What an end in `role` (0 initiator, 1 responder) signs.
pub(super) fn signed_hash(role: u8, handshake_hash: &[u8], static_key: &[u8]) -> crate::bytes::Hash {
    let mut hasher = blake3::Hasher::new_derive_key("offset v1 channel");
    hasher.update(&[role]).update(handshake_hash).update(static_key);
    crate::bytes::Hash(*hasher.finalize().as_bytes())
}

/// An identity payload as the specification draws it.
pub(super) fn identity(version: u16, key: &PublicKey, signature: &Signature) -> Vec<u8> {
    [&version.to_be_bytes()[..], &[0; 8], &key.0, &signature.0].concat()
}

/// A handshake under way.
pub(super) struct SnowPeer {
    pub(super) noise: HandshakeState,
    pub(super) signer: SharedSigner,
    pub(super) static_public: [u8; 32],
    role: u8,
}

impl SnowPeer {
    /// `role` 0 is an initiator, 1 a responder. The number is identity and randomness.
    pub(super) fn new(role: u8, number: u8) -> Self {
        let mut params: NoiseParams = "Noise_XX_25519_ChaChaPoly_BLAKE2s".parse().unwrap();
        params.name = "Noise_XX_25519_ChaChaPoly_BLAKE3".to_owned();
        let secret = [number ^ 0x5a; 32];
        let prologue = b"offset/1OFST\x00\x01\x05";
        let builder = snow::Builder::with_resolver(params, Box::new(Resolver(number)));
        let builder = builder.prologue(prologue).unwrap().local_private_key(&secret).unwrap();
        let noise = if role == 0 { builder.build_initiator() } else { builder.build_responder() }.unwrap();
        let static_public = x25519(secret, X25519_BASEPOINT_BYTES);
        SnowPeer { noise, signer: signer(number), static_public, role }
    }

    /// The initiator's first frame.
    pub(super) fn first(&mut self) -> Vec<u8> {
        let message = self.noise_message(&[]);
        frame(0, &[b"OFST\x00\x01\x05", &message[..]].concat())
    }

    pub(super) fn on_first(&mut self, bytes: &[u8]) {
        assert_eq!(&bytes[..10], b"\x00\x28\x00OFST\x00\x01\x05");
        assert_eq!(self.noise.read_message(&bytes[10..], &mut [0; 512]), Ok(0));
    }

    /// A Noise frame with an honest identity.
    pub(super) fn identify(&mut self) -> Vec<u8> {
        let hash = signed_hash(self.role, self.noise.get_handshake_hash(), &self.static_public);
        let payload = identity(1, &self.signer.public_key(), &self.signer.sign(&hash));
        self.frame_with(&payload)
    }

    /// A Noise frame with any payload.
    pub(super) fn frame_with(&mut self, payload: &[u8]) -> Vec<u8> {
        let message = self.noise_message(payload);
        frame(0, &message)
    }

    pub(super) fn noise_message(&mut self, payload: &[u8]) -> Vec<u8> {
        let mut message = vec![0; 512];
        let length = self.noise.write_message(payload, &mut message).unwrap();
        message.truncate(length);
        message
    }

    /// Reads a frame with an identity, unchecked: `(payload, handshake hash before it, static key)`.
    pub(super) fn read_identity(&mut self, bytes: &[u8]) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
        let before = self.noise.get_handshake_hash().to_vec();
        assert_eq!(usize::from(u16::from_be_bytes([bytes[0], bytes[1]])) + 2, bytes.len());
        assert_eq!(bytes[2], 0);
        let mut payload = vec![0; 512];
        let length = self.noise.read_message(&bytes[3..], &mut payload).unwrap();
        payload.truncate(length);
        (payload, before, self.noise.get_remote_static().unwrap().to_vec())
    }

    /// Reads a frame with an identity and checks all of it as the specification says.
    pub(super) fn on_identity(&mut self, bytes: &[u8], expected: &PublicKey) {
        let (payload, before, static_key) = self.read_identity(bytes);
        assert_eq!(payload.len(), 106);
        assert_eq!(payload[..10], [0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(payload[10..42], expected.0);
        let signature = Signature(payload[42..].try_into().unwrap());
        let hash = signed_hash(1 - self.role, &before, &static_key);
        assert_eq!(self.signer.verify(expected, &hash, &signature), Ok(()));
    }

    pub(super) fn transport(self) -> Records {
        let session = self.noise.get_handshake_hash().to_vec();
        Records(self.noise.into_transport_mode().unwrap(), session)
    }
}

/// Records after the handshake, with `snow`'s own nonces and rekeying; and the session's handshake hash.
pub(super) struct Records(pub(super) TransportState, pub(super) Vec<u8>);

impl Records {
    /// A well-formed record.
    pub(super) fn record(&mut self, kind: u8, content: &[u8]) -> Vec<u8> {
        self.sealed(&plain(kind, content))
    }

    /// Any plain bytes, sealed.
    pub(super) fn sealed(&mut self, plain: &[u8]) -> Vec<u8> {
        let mut sealed = vec![0; plain.len() + 16];
        assert_eq!(self.0.write_message(plain, &mut sealed), Ok(plain.len() + 16));
        [&u16::try_from(sealed.len()).unwrap().to_be_bytes()[..], &sealed].concat()
    }

    /// Takes one record off `bytes`: its type and content.
    pub(super) fn open(&mut self, bytes: &mut Vec<u8>) -> (u8, Vec<u8>) {
        let length = usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
        let sealed: Vec<u8> = bytes.drain(..2 + length).skip(2).collect();
        let mut opened = vec![0; length];
        let opened_length = self.0.read_message(&sealed, &mut opened).unwrap();
        let content = usize::from(u16::from_be_bytes([opened[1], opened[2]]));
        assert_eq!(opened[..opened_length], plain(opened[0], &opened[3..3 + content]));
        (opened[0], opened[3..3 + content].to_vec())
    }
}

/// An open channel of ours as initiator, with a `snow` peer that responded (Bob).
pub(super) fn opened_to_snow() -> (TestEnd, Records, Instant) {
    let (mut alice, mut records, now) = unadmitted_to_snow();
    alice.receive(now, &records.record(6, &[]));
    assert_eq!(alice.events, [ChannelEvent::Opened { peer: key(BOB) }]);
    alice.events.clear();
    (alice, records, now)
}

/// The same, before the peer has admitted ours.
pub(super) fn unadmitted_to_snow() -> (TestEnd, Records, Instant) {
    let now = Instant::from_micros(5);
    let channel = SecureChannel::initiator(config(ALICE, Purpose::Friend, 1), key(BOB), now);
    let (mut alice, mut bob) = (TestEnd::new(channel), SnowPeer::new(1, BOB));
    alice.door(|channel, wire| channel.start(now, wire));
    bob.on_first(&std::mem::take(&mut alice.wire));
    alice.receive(now, &bob.identify());
    bob.on_identity(&std::mem::take(&mut alice.wire), &key(ALICE));
    (alice, bob.transport(), now)
}

/// An open channel of ours as responder, with a `snow` peer that initiated (Alice).
pub(super) fn opened_by_snow() -> (TestEnd, Records, Instant) {
    let now = Instant::from_micros(5);
    let channel = SecureChannel::responder(config(BOB, Purpose::Friend, 1), now);
    let (mut alice, mut bob) = (SnowPeer::new(0, ALICE), TestEnd::new(channel));
    bob.receive(now, &alice.first());
    alice.on_identity(&std::mem::take(&mut bob.wire), &key(BOB));
    bob.receive(now, &alice.identify());
    assert_eq!(bob.events, [ChannelEvent::Identified { peer: key(ALICE) }]);
    bob.door(|channel, wire| channel.admit(now, wire));
    let mut records = alice.transport();
    assert_eq!(records.open(&mut bob.wire), (6, Vec::new()));
    assert!(bob.wire.is_empty());
    bob.events.clear();
    (bob, records, now)
}
