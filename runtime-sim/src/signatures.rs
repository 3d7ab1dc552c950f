//! Who signs in a simulated world: Ed25519 as in production, or a cheap stand-in that costs a hash.
//!
//! The stand-in is a keyed BLAKE3 hash under a secret that all cheap signers of one world share, so any of them can verify
//! any other. A machine holds only a signer of its own identity, so a cheater's machine can forge nobody: what holds with
//! cheap signatures holds with real ones as long as no machine gets at the secret itself. This type lives here and nowhere
//! else: no program can be linked with it.

use std::sync::Arc;

use offset_protocol::bytes::{Hash, PublicKey, Signature};
use offset_protocol::channel::KeyAgreement;
use offset_protocol::identity::{BadSignature, Identity, SharedSigner, Signer, Verifier};
use offset_protocol::machine::Seed;
use serde::{Deserialize, Serialize};

use crate::keys::Keys;

/// Which signatures a world uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Signatures {
    /// Ed25519, as in production.
    Real,
    /// A keyed hash.
    Cheap,
}

/// Makes the identities of one world. Channels agree on keys only between identities of one registry, or of its clones.
#[derive(Clone)]
pub struct Registry {
    signatures: Signatures,
    seed: Seed,
    secret: [u8; 32],
    agreement: Arc<dyn KeyAgreement>,
    verifier: SharedSigner,
}

impl Registry {
    /// The registry of the world that grows from `seed`.
    pub fn new(signatures: Signatures, keys: Keys, seed: &Seed) -> Self {
        let seed = seed.fork("identities");
        let secret = seed.fork("cheap secret").rng().bytes();
        let agreement = keys.agreement(&seed);
        let verifier = cheap(&secret, numbered(&secret, u32::MAX), &agreement);
        Registry { signatures, seed, secret, agreement, verifier }
    }

    /// The identity called `name`: the same in every run of this world.
    pub fn identity(&self, name: &str) -> SharedSigner {
        let private: [u8; 32] = self.seed.fork(name).rng().bytes();
        match self.signatures {
            Signatures::Real => {
                let identity = Identity::from_private_key(&private);
                Arc::new(RealSigner { identity, agreement: self.agreement.clone() })
            }
            Signatures::Cheap => self.cheap(PublicKey(*blake3::keyed_hash(&self.secret, &private).as_bytes())),
        }
    }
}

impl Registry {
    /// The cheap identity of a number, for worlds of many: its key ends in the number, see [`number_in`].
    pub fn numbered(&self, number: u32) -> SharedSigner {
        self.cheap(numbered(&self.secret, number))
    }

    fn cheap(&self, public: PublicKey) -> SharedSigner {
        cheap(&self.secret, public, &self.agreement)
    }

    /// Verifies every cheap signer of this world.
    pub fn verifier(&self) -> SharedSigner {
        self.verifier.clone()
    }
}

/// The key of a number.
fn numbered(secret: &[u8; 32], number: u32) -> PublicKey {
    let mut private = [0; 32];
    private[..4].copy_from_slice(&number.to_le_bytes());
    let mut public = PublicKey(*blake3::keyed_hash(secret, &private).as_bytes());
    public.0[28..].copy_from_slice(&number.to_le_bytes());
    public
}

fn cheap(secret: &[u8; 32], public: PublicKey, agreement: &Arc<dyn KeyAgreement>) -> SharedSigner {
    Arc::new(CheapSigner { secret: *secret, public, agreement: agreement.clone() })
}

/// The number in a key of [`Registry::numbered`]; any other key gives any number.
pub fn number_in(key: &PublicKey) -> Option<u32> {
    key.0.last_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

/// An identity of production, with its world's key agreement.
struct RealSigner {
    identity: Identity,
    agreement: Arc<dyn KeyAgreement>,
}

impl Verifier for RealSigner {
    fn verify(&self, key: &PublicKey, hash: &Hash, signature: &Signature) -> Result<(), BadSignature> {
        self.identity.verify(key, hash, signature)
    }
}

impl Signer for RealSigner {
    fn public_key(&self) -> PublicKey {
        self.identity.public_key()
    }

    fn sign(&self, hash: &Hash) -> Signature {
        self.identity.sign(hash)
    }

    fn agreement(&self) -> &dyn KeyAgreement {
        &*self.agreement
    }
}

/// A signer for simulations only.
struct CheapSigner {
    secret: [u8; 32],
    public: PublicKey,
    agreement: Arc<dyn KeyAgreement>,
}

impl CheapSigner {
    fn mac(&self, key: &PublicKey, hash: &Hash) -> Signature {
        let mut message = [0; 64];
        message[..32].copy_from_slice(&key.0);
        message[32..].copy_from_slice(&hash.0);
        let mac = blake3::keyed_hash(&self.secret, &message);
        let mut signature = [0; 64];
        signature[..32].copy_from_slice(mac.as_bytes());
        Signature(signature)
    }
}

impl Verifier for CheapSigner {
    fn verify(&self, key: &PublicKey, hash: &Hash, signature: &Signature) -> Result<(), BadSignature> {
        if self.mac(key, hash) == *signature { Ok(()) } else { Err(BadSignature) }
    }
}

impl Signer for CheapSigner {
    fn public_key(&self) -> PublicKey {
        self.public
    }

    fn sign(&self, hash: &Hash) -> Signature {
        self.mac(&self.public, hash)
    }

    fn agreement(&self) -> &dyn KeyAgreement {
        &*self.agreement
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_hold_for_their_hash_and_key_only() {
        for signatures in [Signatures::Real, Signatures::Cheap] {
            let registry = Registry::new(signatures, Keys::Cheap, &Seed::from_number(1));
            let (alice, bob) = (registry.identity("alice"), registry.identity("bob"));
            assert_eq!(alice.public_key(), registry.identity("alice").public_key());
            assert_ne!(alice.public_key(), bob.public_key());
            let (hash, other) = (Hash([1; 32]), Hash([2; 32]));
            let signature = alice.sign(&hash);
            assert_eq!(bob.verify(&alice.public_key(), &hash, &signature), Ok(()));
            assert_eq!(bob.verify(&alice.public_key(), &other, &signature), Err(BadSignature));
            assert_eq!(bob.verify(&bob.public_key(), &hash, &signature), Err(BadSignature));
            let mut bent = signature;
            bent.0[63] ^= 1;
            assert_eq!(bob.verify(&alice.public_key(), &hash, &bent), Err(BadSignature));
        }
    }
}
