//! The primitives that `snow` runs the Noise pattern with: the identity's key agreement (X25519), ChaCha20-Poly1305, BLAKE3
//! and a generator from our seed.
//!
//! Guards two things: a Diffie-Hellman result to which the peer contributed nothing is refused, and every random byte of a
//! handshake comes from the machine's [`Seed`], so that a transcript can be repeated. Does *not* choose the pattern.

use blake3::Hasher;
use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::{ChaCha20Poly1305, KeyInit};
use snow::Error;
use snow::params::{
    BaseChoice, CipherChoice, DHChoice, HandshakeChoice, HandshakeModifierList, HandshakePattern, HashChoice,
    NoiseParams,
};
use snow::resolvers::CryptoResolver;
use snow::types::{Cipher, Dh, Hash, Random};
use zeroize::Zeroizing;

use super::agreement::KeyPair;
use crate::identity::SharedSigner;
use crate::machine::{Rng, Seed};

/// The Noise protocol name. It is exactly 32 bytes long, so Noise takes it as the first handshake hash unhashed.
pub(super) const PROTOCOL_NAME: &str = "Noise_XX_25519_ChaChaPoly_BLAKE3";

/// Bytes of an authentication tag.
pub(super) const TAG: usize = 16;

/// The parameters for `snow`, which knows no BLAKE3: its BLAKE2s slot has the same sizes (hash 32, block 64), and
/// [`Primitives`] puts BLAKE3 there. Only the name enters the handshake.
pub(super) fn params() -> NoiseParams {
    NoiseParams::new(
        PROTOCOL_NAME.to_owned(),
        BaseChoice::Noise,
        HandshakeChoice { pattern: HandshakePattern::XX, modifiers: HandshakeModifierList { list: Vec::new() } },
        DHChoice::Curve25519,
        CipherChoice::ChaChaPoly,
        HashChoice::Blake2s,
    )
}

/// The nonce of record or message number `count`: 4 zero bytes, then the number, little endian, as in Noise.
pub(super) fn nonce(count: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&count.to_le_bytes());
    nonce
}

/// Our choice of primitives, for one handshake.
pub(super) struct Primitives {
    /// Of the ephemeral key.
    pub(super) seed: Seed,
    /// Whose agreement it is.
    pub(super) signer: SharedSigner,
    /// The static key: `snow` hands over its secret half only, and the public one costs a multiplication.
    pub(super) static_key: KeyPair,
}

impl CryptoResolver for Primitives {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Generator(self.seed.rng())))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        let (signer, static_key) = (self.signer.clone(), self.static_key.clone());
        let curve = || Box::new(Curve { signer, known: static_key, pair: None }) as Box<dyn Dh>;
        (*choice == DHChoice::Curve25519).then(curve)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        (*choice == HashChoice::Blake2s).then(|| Box::new(Blake3(Hasher::new())) as Box<dyn Hash>)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        (*choice == CipherChoice::ChaChaPoly).then(|| Box::new(ChaChaPoly(Zeroizing::new([0; 32]))) as Box<dyn Cipher>)
    }
}

struct Generator(Rng);

impl Random for Generator {
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), Error> {
        self.0.fill(dest);
        Ok(())
    }
}

/// A key, once it is set or generated: no secret stands in for one that is not there.
struct Curve {
    signer: SharedSigner,
    /// The static key, whose public half need not be computed again.
    known: KeyPair,
    pair: Option<KeyPair>,
}

/// What a key that is not there looks like to who only looks.
const NO_KEY: [u8; 32] = [0; 32];

impl Curve {
    fn take(&mut self, secret: Zeroizing<[u8; 32]>) {
        self.pair = Some(KeyPair::new(self.signer.agreement(), secret));
    }
}

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
        let mut secret = Zeroizing::new([0; 32]);
        let length = privkey.len().min(32);
        secret[..length].copy_from_slice(&privkey[..length]);
        if secret == self.known.secret {
            self.pair = Some(self.known.clone());
        } else {
            self.take(secret);
        }
    }

    fn generate(&mut self, rng: &mut dyn Random) -> Result<(), Error> {
        let mut secret = Zeroizing::new([0; 32]);
        rng.try_fill_bytes(&mut *secret)?;
        self.take(secret);
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        self.pair.as_ref().map_or(&NO_KEY, |pair| &pair.public)
    }

    fn privkey(&self) -> &[u8] {
        self.pair.as_ref().map_or(&NO_KEY, |pair| &*pair.secret)
    }

    fn dh(&self, pubkey: &[u8], out: &mut [u8]) -> Result<(), Error> {
        // snow hands over its whole buffer, which is longer than a key.
        let public = pubkey.first_chunk::<32>().ok_or(Error::Dh)?;
        let pair = self.pair.as_ref().ok_or(Error::Dh)?;
        let shared = self.signer.agreement().agree(pair, public).ok_or(Error::Dh)?;
        out.get_mut(..32).ok_or(Error::Dh)?.copy_from_slice(&*shared);
        Ok(())
    }
}

struct Blake3(Hasher);

impl Hash for Blake3 {
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
        self.0.reset();
    }

    fn input(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn result(&mut self, out: &mut [u8]) {
        out[..32].copy_from_slice(self.0.finalize().as_bytes());
    }
}

struct ChaChaPoly(Zeroizing<[u8; 32]>);

impl Cipher for ChaChaPoly {
    fn name(&self) -> &'static str {
        "ChaChaPoly"
    }

    fn set(&mut self, key: &[u8; 32]) {
        *self.0 = *key;
    }

    fn encrypt(&self, count: u64, authtext: &[u8], plaintext: &[u8], out: &mut [u8]) -> usize {
        let (text, rest) = out.split_at_mut(plaintext.len());
        text.copy_from_slice(plaintext);
        let tag = ChaCha20Poly1305::new((&*self.0).into())
            .encrypt_inout_detached((&nonce(count)).into(), authtext, text.into())
            .expect("a handshake message is far below the cipher's limit of 256 GiB");
        rest[..TAG].copy_from_slice(&tag);
        plaintext.len() + TAG
    }

    fn decrypt(&self, count: u64, authtext: &[u8], ciphertext: &[u8], out: &mut [u8]) -> Result<usize, Error> {
        let (text, tag) = ciphertext.split_last_chunk::<TAG>().ok_or(Error::Decrypt)?;
        let out = out.get_mut(..text.len()).ok_or(Error::Decrypt)?;
        out.copy_from_slice(text);
        ChaCha20Poly1305::new((&*self.0).into())
            .decrypt_inout_detached((&nonce(count)).into(), authtext, out.into(), tag.into())
            .map_err(|_| Error::Decrypt)?;
        Ok(text.len())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::identity::Identity;

    #[test]
    fn a_key_of_small_order_is_refused() {
        let signer: SharedSigner = Arc::new(Identity::from_private_key(&[1; 32]));
        let pair = KeyPair::new(signer.agreement(), Zeroizing::new([7; 32]));
        let mut one = [0; 32];
        one[0] = 1;
        let mut curve = Curve { signer, known: pair, pair: None };
        assert_eq!(curve.dh(&[9; 32], &mut [0; 56]), Err(Error::Dh), "no key is there yet");
        curve.set(&[7; 32]);
        assert_eq!(curve.dh(&[9; 32], &mut [0; 56]), Ok(()));
        assert_eq!(curve.dh(&one, &mut [0; 56]), Err(Error::Dh));
    }

    #[test]
    fn the_hash_is_the_size_of_the_slot_that_it_takes() {
        let mut out = [0; 32];
        let mut hash = Blake3(Hasher::new());
        hash.input(b"offset");
        hash.result(&mut out);
        assert_eq!(out, *blake3::hash(b"offset").as_bytes());
        assert_eq!((hash.hash_len(), hash.block_len(), PROTOCOL_NAME.len()), (32, 64, 32));
    }
}
