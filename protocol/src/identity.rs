//! Who signs, who checks, and the types that cannot exist unchecked.
//!
//! Everything that is signed is a [`struct@Hash`] in a [`crate::context`] of its own. Machines sign through [`Signer`] and check through [`Verifier`],
//! so that a simulator can bring a cheap one; programs use [`Identity`], which is Ed25519 with strict verification. The same
//! door brings the key agreement of secure channels: programs use X25519.

use std::fmt;
use std::sync::Arc;

use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};

use crate::bytes::{Hash, PublicKey, Signature};
use crate::channel::{KeyAgreement, X25519};

/// A signature that its key did not make over that hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bad signature")]
pub struct BadSignature;

/// Verifies anybody's signatures.
pub trait Verifier: Send + Sync {
    /// Checks that `key` signed `hash`.
    ///
    /// # Errors
    /// [`BadSignature`] if it did not.
    fn verify(&self, key: &PublicKey, hash: &Hash, signature: &Signature) -> Result<(), BadSignature>;
}

/// Signs as one identity.
pub trait Signer: Verifier {
    /// The identity that [`Signer::sign`] signs as.
    fn public_key(&self) -> PublicKey;

    /// Signs a hash.
    fn sign(&self, hash: &Hash) -> Signature;

    /// How secure channels of this identity agree on keys: X25519, but in simulations. Both ends must do the same.
    fn agreement(&self) -> &dyn KeyAgreement {
        &X25519
    }
}

/// Strict Ed25519 verification, without an identity of its own.
#[derive(Clone, Copy, Debug)]
pub struct Ed25519;

impl Verifier for Ed25519 {
    fn verify(&self, key: &PublicKey, hash: &Hash, signature: &Signature) -> Result<(), BadSignature> {
        verify(key, hash, signature)
    }
}

/// A signer shared by the parts of one machine.
pub type SharedSigner = Arc<dyn Signer>;

/// An Ed25519 identity. The private key is zeroised on drop and never printed.
pub struct Identity(SigningKey);

impl Identity {
    /// The identity of a 32-byte private key.
    pub fn from_private_key(private_key: &[u8; 32]) -> Self {
        Identity(SigningKey::from_bytes(private_key))
    }

    /// The private key, to be written into an identity file; zeroised on drop.
    pub fn private_key(&self) -> zeroize::Zeroizing<[u8; 32]> {
        zeroize::Zeroizing::new(self.0.to_bytes())
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.public_key())
    }
}

impl Signer for Identity {
    fn public_key(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    fn sign(&self, hash: &Hash) -> Signature {
        Signature(self.0.sign(&hash.0).to_bytes())
    }
}

impl Verifier for Identity {
    fn verify(&self, key: &PublicKey, hash: &Hash, signature: &Signature) -> Result<(), BadSignature> {
        verify(key, hash, signature)
    }
}

/// Checks that `key` made `signature` over `hash`, strictly: no small-order keys, no malleable encodings.
///
/// # Errors
/// [`BadSignature`] if it did not.
pub fn verify(key: &PublicKey, hash: &Hash, signature: &Signature) -> Result<(), BadSignature> {
    let key = VerifyingKey::from_bytes(&key.0).map_err(|_| BadSignature)?;
    let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
    key.verify_strict(&hash.0, &signature).map_err(|_| BadSignature)
}

/// A value whose signature was checked. Only a check can make one; it may happen on any thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified<T> {
    value: T,
    by: PublicKey,
}

impl<T: Signable> Verified<T> {
    /// Checks `value`'s signature by `by` for `to`.
    ///
    /// # Errors
    /// [`BadSignature`] if `by` did not sign it.
    pub fn check(value: T, by: PublicKey, to: &PublicKey, verifier: &dyn Verifier) -> Result<Self, BadSignature> {
        verifier.verify(&by, &value.signed_hash(&by, to), value.signature())?;
        Ok(Verified { value, by })
    }

    /// Who signed it.
    pub fn by(&self) -> PublicKey {
        self.by
    }

    /// The value.
    pub fn into_inner(self) -> T {
        self.value
    }
}

impl<T> std::ops::Deref for Verified<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

/// A message that carries a signature over bytes that travelled.
pub trait Signable {
    /// The hash that `by` signed when it sent this to `to`; made from the bytes that travelled, never from a new encoding.
    fn signed_hash(&self, by: &PublicKey, to: &PublicKey) -> Hash;

    /// The signature that came with it.
    fn signature(&self) -> &Signature;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context;

    #[test]
    fn a_signature_holds_for_its_hash_and_its_key_only() {
        let (alice, bob) = (Identity::from_private_key(&[1; 32]), Identity::from_private_key(&[2; 32]));
        let hash = context::LOCK.hasher().u8(1).finish();
        let signature = alice.sign(&hash);
        assert_eq!(bob.verify(&alice.public_key(), &hash, &signature), Ok(()));
        assert_eq!(bob.verify(&bob.public_key(), &hash, &signature), Err(BadSignature));
        let other = context::LOCK.hasher().u8(2).finish();
        assert_eq!(bob.verify(&alice.public_key(), &other, &signature), Err(BadSignature));
    }

    #[test]
    fn a_small_order_key_verifies_nothing() {
        // The identity point signs anything under lax verification.
        let mut key = [0; 32];
        key[0] = 1;
        let mut signature = [0; 64];
        signature[0] = 1;
        let hash = context::LOCK.hasher().u8(1).finish();
        assert_eq!(verify(&PublicKey(key), &hash, &Signature(signature)), Err(BadSignature));
    }

    #[test]
    fn an_identity_prints_only_its_public_key() {
        let identity = Identity::from_private_key(&[9; 32]);
        assert_eq!(format!("{identity:?}"), format!("Identity({})", identity.public_key()));
    }
}
