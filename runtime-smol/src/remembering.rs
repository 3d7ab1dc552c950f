//! A signer that remembers good signatures for a while: in a federation the same attestation comes from every neighbour,
//! within moments, and checking it again costs as much as the first time.
//!
//! 1. A signature is good only if it was checked and every bit of key, hash and signature is the same.
//! 2. Memory is bounded: as many signatures as were asked for, 137 bytes each and at most twice that in a table that has just
//!    grown. At least half of them are the last that were checked. What is forgotten is checked again, no more.
//! 3. Where a signature is kept is drawn anew for each program, so that nobody can make places collide.
//!
//! Bad signatures are not remembered.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{Mutex, PoisonError};

use offset_protocol::bytes::{Hash, PublicKey, Signature};
use offset_protocol::channel::KeyAgreement;
use offset_protocol::identity::{BadSignature, SharedSigner, Signer, Verifier};

/// Parts with a lock each, so that hardly ever two threads want the same one.
const PARTS: usize = 64;

/// Good signatures, with whose they are and of what.
type Good = HashMap<[u8; 64], (PublicKey, Hash)>;

/// Checks as `verifier` does.
pub struct Remembering {
    verifier: SharedSigner,
    parts: Vec<Mutex<Generations>>,
    /// Draws the part.
    draw: RandomState,
    /// Signatures of one generation of one part.
    each: usize,
}

/// When the young are as many as there may be they are old, and the old are forgotten.
#[derive(Default)]
struct Generations {
    young: Good,
    old: Good,
}

impl Generations {
    fn knows(&self, key: &PublicKey, hash: &Hash, signature: &Signature) -> bool {
        let known = self.young.get(&signature.0).or_else(|| self.old.get(&signature.0));
        known == Some(&(*key, *hash))
    }

    fn learn(&mut self, key: PublicKey, hash: Hash, signature: &Signature, each: usize) {
        if self.young.len() >= each {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(signature.0, (key, hash));
    }
}

impl std::fmt::Debug for Remembering {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Remembering")
    }
}

impl Remembering {
    /// Remembers nothing yet, and `most` signatures at most: as many as are to be told again, and as many more.
    pub fn new(verifier: SharedSigner, most: usize) -> Self {
        let parts = (0..PARTS).map(|_| Mutex::default()).collect();
        Remembering { verifier, parts, draw: RandomState::new(), each: (most / 2 / PARTS).max(1) }
    }

    fn part(&self, signature: &Signature) -> &Mutex<Generations> {
        &self.parts[self.draw.hash_one(signature.0) as usize % PARTS]
    }
}

impl Verifier for Remembering {
    fn verify(&self, key: &PublicKey, hash: &Hash, signature: &Signature) -> Result<(), BadSignature> {
        let part = self.part(signature);
        // Nothing that can panic runs under the lock.
        if part.lock().unwrap_or_else(PoisonError::into_inner).knows(key, hash, signature) {
            return Ok(());
        }
        self.verifier.verify(key, hash, signature)?;
        part.lock().unwrap_or_else(PoisonError::into_inner).learn(*key, *hash, signature, self.each);
        Ok(())
    }
}

impl Signer for Remembering {
    fn public_key(&self) -> PublicKey {
        self.verifier.public_key()
    }

    /// What it signed itself it takes for good.
    fn sign(&self, hash: &Hash) -> Signature {
        let signature = self.verifier.sign(hash);
        let part = self.part(&signature).lock();
        part.unwrap_or_else(PoisonError::into_inner).learn(self.public_key(), *hash, &signature, self.each);
        signature
    }

    fn agreement(&self) -> &dyn KeyAgreement {
        self.verifier.agreement()
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

    /// Takes everything for good, and counts.
    struct Unchecked(AtomicU32);

    impl Verifier for Unchecked {
        fn verify(&self, _: &PublicKey, _: &Hash, _: &Signature) -> Result<(), BadSignature> {
            self.0.fetch_add(1, Relaxed);
            Ok(())
        }
    }

    impl Signer for Unchecked {
        fn public_key(&self) -> PublicKey {
            PublicKey([0; 32])
        }

        fn sign(&self, _: &Hash) -> Signature {
            Signature([0; 64])
        }
    }

    #[test]
    fn a_good_signature_is_checked_once_and_nothing_else_passes_for_it() {
        let counting = Arc::new(Counting(Identity::from_private_key(&[1; 32]), AtomicU32::new(0)));
        let remembering = Remembering::new(counting.clone(), 1 << 14);
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

    /// There were 16,384 places: a heartbeat of 100,000 nodes was checked once for each neighbour that told of it.
    #[test]
    fn a_heartbeat_of_as_many_as_were_asked_for_is_checked_once_and_memory_is_bounded() {
        let nothing = Arc::new(Unchecked(AtomicU32::new(0)));
        let (most, beat) = (200_000, 80_000_u32);
        let remembering = Remembering::new(nothing.clone(), most);
        let told = |n: u32| {
            let mut signature = [7; 64];
            signature[..4].copy_from_slice(&n.to_be_bytes());
            remembering.verify(&PublicKey([1; 32]), &Hash([2; 32]), &Signature(signature)).unwrap();
        };
        for _ in 0..3 {
            (0..beat).for_each(told);
        }
        assert_eq!(nothing.0.load(Relaxed), beat);
        (0..1_000_000).for_each(told);
        let held = |part: &Mutex<Generations>| {
            let part = part.lock().unwrap();
            part.young.len() + part.old.len()
        };
        assert!(remembering.parts.iter().map(held).sum::<usize>() <= most);
    }

    #[test]
    fn what_was_forgotten_is_checked_again() {
        let counting = Arc::new(Counting(Identity::from_private_key(&[1; 32]), AtomicU32::new(0)));
        let remembering = Remembering::new(counting.clone(), 2);
        let hash = |n: u16| Hash(std::array::from_fn(|at| n.to_be_bytes()[at % 2]));
        let signed = |n: u16| (hash(n), counting.sign(&hash(n)));
        let first = signed(0);
        let same_part =
            |(_, other): &(Hash, Signature)| std::ptr::eq(remembering.part(&first.1), remembering.part(other));
        let others: Vec<_> = (1..=u16::MAX).map(signed).filter(same_part).take(2).collect();
        for (hash, signature) in [&[first], &others[..], &[first]].concat() {
            assert_eq!(remembering.verify(&counting.public_key(), &hash, &signature), Ok(()));
        }
        assert_eq!((others.len(), counting.1.load(Relaxed)), (2, 4));
    }

    #[test]
    fn what_it_signed_itself_is_not_checked() {
        let counting = Arc::new(Counting(Identity::from_private_key(&[1; 32]), AtomicU32::new(0)));
        let remembering = Remembering::new(counting.clone(), 1_000);
        let (hash, other) = (Hash([1; 32]), Hash([2; 32]));
        let signature = remembering.sign(&hash);
        assert_eq!(remembering.verify(&counting.public_key(), &hash, &signature), Ok(()));
        assert_eq!(counting.1.load(Relaxed), 0);
        assert!(remembering.verify(&counting.public_key(), &other, &signature).is_err());
        assert_eq!(counting.1.load(Relaxed), 1);
    }
}
