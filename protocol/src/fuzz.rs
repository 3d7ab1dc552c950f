//! What drives machines by bytes, in fuzz targets and in tests: decisions that are read from bytes, and signatures that cost
//! nothing. Only with the cargo feature `fuzz`.
//!
//! 1. The same bytes give the same decisions: no clock, no generator.
//! 2. Bytes end. Whoever drives asks [`Choices::is_empty`] and stops, so that short inputs are cheap and no input runs for ever;
//!    decisions after the end are all 0.
//! 3. A decision takes as few bytes as it needs, so that a change of one byte changes one decision.

use crate::bytes::{Hash, PublicKey, Signature};
use crate::context;
use crate::identity::{BadSignature, Signer, Verifier};

/// Decisions that are read from bytes. See the module.
#[derive(Clone, Debug)]
pub struct Choices<'b> {
    bytes: &'b [u8],
}

impl<'b> Choices<'b> {
    /// The decisions of these bytes.
    pub const fn new(bytes: &'b [u8]) -> Self {
        Choices { bytes }
    }

    /// Whether all bytes are used up.
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// A byte.
    pub fn byte(&mut self) -> u8 {
        match self.bytes.split_first() {
            Some((first, rest)) => {
                self.bytes = rest;
                *first
            }
            None => 0,
        }
    }

    /// Any number, from eight bytes.
    pub fn number(&mut self) -> u64 {
        (0..8).fold(0, |number, _| number << 8 | u64::from(self.byte()))
    }

    /// A number in `0..limit`; 0 if `limit` is 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        let mut number = 0;
        let mut reach = 1_u64;
        while reach < limit {
            number = number << 8 | u64::from(self.byte());
            reach = reach.saturating_mul(256);
        }
        number.checked_rem(limit).unwrap_or(0)
    }

    /// The place of one of `count` things; `None` if there is none.
    pub fn place(&mut self, count: usize) -> Option<usize> {
        let place = self.below(u64::try_from(count).unwrap_or(u64::MAX));
        usize::try_from(place).ok().filter(|place| *place < count)
    }

    /// True or false.
    pub fn flip(&mut self) -> bool {
        self.byte() % 2 == 1
    }

    /// True once in so many times, and never after the end.
    pub fn once_in(&mut self, times: u64) -> bool {
        !self.is_empty() && self.below(times) == times.saturating_sub(1)
    }

    /// At most `most` of the bytes that are left, which stay as they are.
    pub fn take(&mut self, most: usize) -> &'b [u8] {
        let (taken, rest) = self.bytes.split_at(most.min(self.bytes.len()));
        self.bytes = rest;
        taken
    }
}

/// Signs for whoever it says it is, with a hash that everybody can make; verifies for all. For what happens to honest
/// signatures, and to those of whoever lies under its own name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cheap(pub PublicKey);

impl Cheap {
    /// What `key` signs.
    pub fn signature(key: &PublicKey, hash: &Hash) -> Signature {
        let half = |number| context::SEED_NUMBER.hasher().u8(number).fixed(&key.0).fixed(&hash.0).finish().0;
        let mut signature = [0; 64];
        let (first, second) = signature.split_at_mut(32);
        first.copy_from_slice(&half(0));
        second.copy_from_slice(&half(1));
        Signature(signature)
    }
}

impl Verifier for Cheap {
    fn verify(&self, key: &PublicKey, hash: &Hash, signature: &Signature) -> Result<(), BadSignature> {
        if *signature == Cheap::signature(key, hash) { Ok(()) } else { Err(BadSignature) }
    }
}

impl Signer for Cheap {
    fn public_key(&self) -> PublicKey {
        self.0
    }

    fn sign(&self, hash: &Hash) -> Signature {
        Cheap::signature(&self.0, hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_takes_as_few_bytes_as_it_needs_and_stays_in_its_range() {
        let mut choices = Choices::new(&[7, 1, 0, 200, 3, 9, 9]);
        assert_eq!((choices.below(0), choices.below(1)), (0, 0));
        assert_eq!(choices.below(5), 2);
        assert_eq!(choices.below(256), 1);
        assert_eq!(choices.below(257), 200);
        assert!(choices.flip());
        assert_eq!(choices.take(1), [9]);
        assert_eq!((choices.is_empty(), choices.place(10)), (false, Some(9)));
        assert!(choices.is_empty());
    }

    #[test]
    fn after_the_end_all_decisions_are_the_first() {
        let mut choices = Choices::new(&[]);
        assert_eq!((choices.byte(), choices.number(), choices.below(1_000), choices.flip()), (0, 0, 0, false));
        assert_eq!((choices.place(0), choices.place(3), choices.once_in(1)), (None, Some(0), false));
        assert!(choices.take(4).is_empty());
    }

    #[test]
    fn nobody_signs_for_another() {
        let (one, other, hash) = (PublicKey([1; 32]), PublicKey([2; 32]), Hash([3; 32]));
        let signature = Cheap(one).sign(&hash);
        assert_eq!(Cheap(other).verify(&one, &hash, &signature), Ok(()));
        assert_eq!(Cheap(other).verify(&other, &hash, &signature), Err(BadSignature));
        assert_eq!(Cheap(other).verify(&one, &Hash([4; 32]), &signature), Err(BadSignature));
    }
}
