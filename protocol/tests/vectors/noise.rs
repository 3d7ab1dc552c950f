//! `Noise_XX_25519_ChaChaPoly_BLAKE3` from the specification alone, for one handshake whose secrets are known: nothing here
//! is shared with the channel that it checks.

use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{ChaCha20Poly1305, KeyInit};
use x25519_dalek::{X25519_BASEPOINT_BYTES, x25519};

const NAME: &[u8; 32] = b"Noise_XX_25519_ChaChaPoly_BLAKE3";
const BLOCK: usize = 64;

fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    parts.iter().for_each(|part| {
        hasher.update(part);
    });
    *hasher.finalize().as_bytes()
}

fn hmac(key: &[u8; 32], data: &[&[u8]]) -> [u8; 32] {
    let mut block = [0; BLOCK];
    block[..32].copy_from_slice(key);
    let (inner, outer) = (block.map(|byte| byte ^ 0x36), block.map(|byte| byte ^ 0x5c));
    let parts: Vec<&[u8]> = std::iter::once(&inner[..]).chain(data.iter().copied()).collect();
    hash(&[&outer, &hash(&parts)])
}

fn hkdf(chaining: &[u8; 32], input: &[u8]) -> ([u8; 32], [u8; 32]) {
    let temporary = hmac(chaining, &[input]);
    let first = hmac(&temporary, &[&[1]]);
    let second = hmac(&temporary, &[&first, &[2]]);
    (first, second)
}

fn nonce(count: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&count.to_le_bytes());
    nonce
}

pub(crate) fn seal(key: &[u8; 32], count: u64, associated: &[u8], plain: &[u8]) -> Vec<u8> {
    let payload = Payload { msg: plain, aad: associated };
    ChaCha20Poly1305::new(key.into()).encrypt((&nonce(count)).into(), payload).unwrap()
}

pub(crate) fn public(secret: &[u8; 32]) -> [u8; 32] {
    x25519(*secret, X25519_BASEPOINT_BYTES)
}

/// The state of both ends, which is the same.
pub(crate) struct Symmetric {
    pub(crate) hash: [u8; 32],
    chaining: [u8; 32],
    key: Option<[u8; 32]>,
    count: u64,
}

impl Symmetric {
    pub(crate) fn new(prologue: &[u8]) -> Self {
        let mut state = Symmetric { hash: *NAME, chaining: *NAME, key: None, count: 0 };
        state.mix_hash(prologue);
        state
    }

    pub(crate) fn mix_hash(&mut self, data: &[u8]) {
        self.hash = hash(&[&self.hash, data]);
    }

    /// `ee`, `es` or `se`: one end's secret half with the other's public one.
    pub(crate) fn mix_dh(&mut self, secret: &[u8; 32], public: &[u8; 32]) {
        let (chaining, key) = hkdf(&self.chaining, &x25519(*secret, *public));
        (self.chaining, self.key, self.count) = (chaining, Some(key), 0);
    }

    /// Seals a payload or a static key if there is a key, and mixes what travels into the hash.
    pub(crate) fn encrypt(&mut self, plain: &[u8]) -> Vec<u8> {
        let travels = match &self.key {
            Some(key) => seal(key, self.count, &self.hash, plain),
            None => plain.to_vec(),
        };
        self.count += 1;
        self.mix_hash(&travels);
        travels
    }

    /// The keys of both directions, the initiator's first.
    pub(crate) fn split(&self) -> ([u8; 32], [u8; 32]) {
        hkdf(&self.chaining, &[])
    }
}
