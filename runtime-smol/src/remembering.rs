//! A verifier that remembers good signatures for a while: in a federation the same attestation comes from every neighbour,
//! within moments, and checking it again costs as much as the first time.
//!
//! 1. A signature is good only if it was checked and every bit of key, hash and signature is the same.
//! 2. Memory is fixed: a newer signature takes the place of an older one. What is forgotten is checked again, no more; so
//!    whoever makes places collide gains nothing.
//!
//! Bad signatures are not remembered.

use std::sync::{Mutex, PoisonError};

use offset_protocol::bytes::{Hash, PublicKey, Signature};
use offset_protocol::identity::{BadSignature, SharedSigner, Verifier};

/// Signatures that are remembered, in 2 MiB. Chosen freely: those of some seconds, and a flood passes within one.
const PLACES: usize = 1 << 14;

type Good = (PublicKey, Hash, Signature);

/// Checks as `verifier` does.
pub struct Remembering {
    verifier: SharedSigner,
    /// A lock each, so that hardly ever two threads want the same one.
    places: Vec<Mutex<Option<Good>>>,
}

impl std::fmt::Debug for Remembering {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Remembering")
    }
}

impl Remembering {
    /// Remembers nothing yet.
    pub fn new(verifier: SharedSigner) -> Self {
        Remembering { verifier, places: (0..PLACES).map(|_| Mutex::default()).collect() }
    }

    fn place(&self, signature: &Signature) -> &Mutex<Option<Good>> {
        let [a, b, ..] = signature.0;
        &self.places[usize::from(u16::from_le_bytes([a, b])) % PLACES]
    }
}

impl Verifier for Remembering {
    fn verify(&self, key: &PublicKey, hash: &Hash, signature: &Signature) -> Result<(), BadSignature> {
        let asked = (*key, *hash, *signature);
        let place = self.place(signature);
        // Nothing that can panic runs under the lock.
        if *place.lock().unwrap_or_else(PoisonError::into_inner) == Some(asked) {
            return Ok(());
        }
        self.verifier.verify(key, hash, signature)?;
        *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(asked);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    use offset_protocol::identity::{Identity, Signer};

    use super::*;

    /// Counts how often it is asked.
    struct Counting(Identity, AtomicU32);

    impl Verifier for Counting {
        fn verify(&self, key: &PublicKey, hash: &Hash, signature: &Signature) -> Result<(), BadSignature> {
            self.1.fetch_add(1, Relaxed);
            self.0.verify(key, hash, signature)
        }
    }

    impl Signer for Counting {
        fn public_key(&self) -> PublicKey {
            self.0.public_key()
        }

        fn sign(&self, hash: &Hash) -> Signature {
            self.0.sign(hash)
        }
    }

    #[test]
    fn a_good_signature_is_checked_once_and_nothing_else_passes_for_it() {
        let counting = Arc::new(Counting(Identity::from_private_key(&[1; 32]), AtomicU32::new(0)));
        let remembering = Remembering::new(counting.clone());
        let (key, hash) = (counting.public_key(), Hash([7; 32]));
        let signature = counting.sign(&hash);
        for _ in 0..3 {
            assert_eq!(remembering.verify(&key, &hash, &signature), Ok(()));
        }
        assert_eq!(counting.1.load(Relaxed), 1);
        let mut forged = signature;
        forged.0[63] ^= 1;
        for _ in 0..2 {
            assert_eq!(remembering.verify(&key, &Hash([8; 32]), &signature), Err(BadSignature));
            assert_eq!(remembering.verify(&PublicKey([9; 32]), &hash, &signature), Err(BadSignature));
            assert_eq!(remembering.verify(&key, &hash, &forged), Err(BadSignature));
        }
        assert_eq!(counting.1.load(Relaxed), 7);
        assert_eq!(remembering.verify(&key, &hash, &signature), Ok(()));
        assert_eq!(counting.1.load(Relaxed), 7, "a bad signature takes no place");
    }

    #[test]
    fn a_signature_whose_place_was_taken_is_checked_again() {
        let counting = Arc::new(Counting(Identity::from_private_key(&[1; 32]), AtomicU32::new(0)));
        let remembering = Remembering::new(counting.clone());
        let signed = |n: u32| {
            let mut hash = [0; 32];
            hash[..4].copy_from_slice(&n.to_le_bytes());
            (Hash(hash), counting.sign(&Hash(hash)))
        };
        let first = signed(0);
        let same_place =
            |(_, other): &(Hash, Signature)| std::ptr::eq(remembering.place(&first.1), remembering.place(other));
        let second = (1..).map(signed).find(same_place).unwrap();
        for (hash, signature) in [&first, &second, &first] {
            assert_eq!(remembering.verify(&counting.public_key(), hash, signature), Ok(()));
        }
        assert_eq!(counting.1.load(Relaxed), 3);
    }
}
