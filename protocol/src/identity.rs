//! Who signs, who checks, and the types that cannot exist unchecked.
//!
//! Everything that is signed is a [`struct@Hash`] in a [`crate::context`] of its own. Machines sign through [`Signer`] and check through [`Verifier`],
//! so that a simulator can bring a cheap one; programs use [`Identity`], which is Ed25519 with strict verification. The same
//! door brings the key agreement of secure channels: programs use X25519.

use std::fmt;
use std::sync::Arc;

use ed25519_dalek::{Signer as _, SigningKey, Verifier as _, VerifyingKey};

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

/// The encodings of the eight points of small order.
const SMALL_ORDER: [[u8; 32]; 8] = {
    const fn filled(first: u8, middle: u8, last: u8) -> [u8; 32] {
        let mut bytes = [middle; 32];
        (bytes[0], bytes[31]) = (first, last);
        bytes
    }
    const fn with_sign(mut bytes: [u8; 32]) -> [u8; 32] {
        bytes[31] |= 0x80;
        bytes
    }
    const ONE_OF_EIGHT: [u8; 32] = [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20,
        0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
    ];
    const ANOTHER: [u8; 32] = [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5, 0xdf,
        0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
    ];
    [
        filled(1, 0, 0),
        filled(0xec, 0xff, 0x7f),
        filled(0, 0, 0),
        filled(0, 0, 0x80),
        ONE_OF_EIGHT,
        with_sign(ONE_OF_EIGHT),
        ANOTHER,
        with_sign(ANOTHER),
    ]
};

/// Checks that `key` made `signature` over `hash`, strictly: no small-order keys, no malleable encodings.
///
/// The answer is that of `VerifyingKey::verify_strict`, which decodes the signature's point to look at its order. Not needed:
/// the point is computed anyway, and the signature holds only if the computed one is encoded as the signature has it. Saves a
/// seventh.
///
/// # Errors
/// [`BadSignature`] if it did not.
pub fn verify(key: &PublicKey, hash: &Hash, signature: &Signature) -> Result<(), BadSignature> {
    let key = VerifyingKey::from_bytes(&key.0).map_err(|_| BadSignature)?;
    let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
    if key.is_weak() || SMALL_ORDER.contains(signature.r_bytes()) {
        return Err(BadSignature);
    }
    key.verify(&hash.0, &signature).map_err(|_| BadSignature)
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
    use curve25519_dalek::constants::EIGHT_TORSION;
    use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
    use curve25519_dalek::scalar::Scalar;
    use sha2::{Digest, Sha512};

    use super::*;
    use crate::context;

    #[test]
    fn the_points_of_small_order_are_eight() {
        let mut ours = SMALL_ORDER.to_vec();
        let mut all: Vec<_> = EIGHT_TORSION.iter().map(|point| point.compress().to_bytes()).collect();
        ours.sort_unstable();
        all.sort_unstable();
        assert_eq!(ours, all);
    }

    /// Every way to write a point of small order: also with `y` not reduced, and with a sign where there is none.
    fn encodings() -> Vec<[u8; 32]> {
        let mut all: Vec<[u8; 32]> = SMALL_ORDER.to_vec();
        // y = 1 and y = 0 beyond p = 2^255 - 19, and y = -1, 1 with the sign of a zero.
        for (first, last) in [(0xee, 0x7f), (0xee, 0xff), (0xed, 0x7f), (0xed, 0xff), (0xec, 0xff)] {
            let mut bytes = [0xff; 32];
            (bytes[0], bytes[31]) = (first, last);
            all.push(bytes);
        }
        let mut one = [0; 32];
        (one[0], one[31]) = (1, 0x80);
        all.push(one);
        assert!(
            all.iter().all(|bytes| CompressedEdwardsY(*bytes).decompress().is_none_or(|point| point.is_small_order()))
        );
        all
    }

    fn challenge(point: &[u8; 32], key: &[u8; 32], hash: &Hash) -> Scalar {
        let digest = Sha512::new().chain_update(point).chain_update(key).chain_update(hash.0).finalize();
        Scalar::from_bytes_mod_order_wide(&digest.into())
    }

    fn strictly(key: &[u8; 32], hash: &Hash, signature: &[u8; 64]) -> bool {
        let signature = ed25519_dalek::Signature::from_bytes(signature);
        VerifyingKey::from_bytes(key).is_ok_and(|key| key.verify_strict(&hash.0, &signature).is_ok())
    }

    #[test]
    fn what_small_orders_can_do_is_refused_as_strict_verification_does() {
        let (secret, nonce) = (Scalar::from(77_u64), Scalar::from(991_u64));
        let (mut held, mut lax) = (0, 0);
        // Keys and points with a part of small order, keys and points of small order alone, in every encoding.
        let mixed = |scalar: &Scalar| -> Vec<(Scalar, [u8; 32])> {
            let base = EdwardsPoint::mul_base(scalar);
            let with = EIGHT_TORSION.iter().map(|small| (*scalar, (base + small).compress().to_bytes()));
            with.chain(encodings().into_iter().map(|bytes| (Scalar::ZERO, bytes))).collect()
        };
        for (secret, key) in mixed(&secret) {
            for (nonce, point) in mixed(&nonce) {
                // Several hashes: what holds of a key with a part of small order depends on the challenge.
                for number in 0..8 {
                    let hash = context::LOCK.hasher().u8(number).finish();
                    let s = nonce + challenge(&point, &key, &hash) * secret;
                    let signature: [u8; 64] = [point, s.to_bytes()].concat().try_into().unwrap();
                    let holds = verify(&PublicKey(key), &hash, &Signature(signature)).is_ok();
                    assert_eq!(holds, strictly(&key, &hash, &signature), "{key:?} {signature:?}");
                    let parsed = VerifyingKey::from_bytes(&key);
                    let signature = ed25519_dalek::Signature::from_bytes(&signature);
                    lax += u32::from(parsed.is_ok_and(|key| key.verify(&hash.0, &signature).is_ok()));
                    held += u32::from(holds);
                }
            }
        }
        assert!(held > 0 && lax > held, "{held} of {lax}");
    }

    #[test]
    fn a_signature_beyond_the_group_order_is_refused() {
        let alice = Identity::from_private_key(&[1; 32]);
        let hash = context::LOCK.hasher().u8(1).finish();
        let mut signature = alice.sign(&hash);
        // The order, little endian: s + L is the same number to whoever does not look.
        let order = Scalar::ZERO - Scalar::ONE;
        let mut carry = 1_u16;
        for (byte, add) in signature.0[32..].iter_mut().zip(order.to_bytes()) {
            carry += u16::from(*byte) + u16::from(add);
            *byte = carry as u8;
            carry >>= 8;
        }
        assert_eq!(carry, 0);
        assert_eq!(verify(&alice.public_key(), &hash, &signature), Err(BadSignature));
        assert!(!strictly(&alice.public_key().0, &hash, &signature.0));
    }

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
