//! How secure channels in a simulated world agree on keys: by X25519 as in production, or by a cheap stand-in that costs
//! two hashes.
//!
//! Everything else of a channel stays what it is: the same handshake of the same bytes, the same records under
//! ChaCha20-Poly1305. Most of what a small world costs with real keys is X25519; what goes wrong with channels (streams that
//! break, handshakes that are cut, records that are bent) does not depend on it.
//!
//! | keys | costs | who can find a secret |
//! |---|---|---|
//! | real | one multiplication on the curve for both ends: the second is given what the first computed | nobody |
//! | cheap | hashes under a secret that the world's channels share | who gets at that secret: no machine does |
//!
//! This type lives here and nowhere else: no program can be linked with it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use offset_protocol::channel::{KeyAgreement, KeyPair, X25519};
use offset_protocol::machine::Seed;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// How the channels of a world agree on keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Keys {
    /// X25519, as in production.
    #[default]
    Real,
    /// A keyed hash.
    Cheap,
}

impl Keys {
    /// Whether they are those of production.
    pub fn are_real(&self) -> bool {
        *self == Keys::Real
    }

    /// The agreement of the world that grows from `seed`.
    pub(crate) fn agreement(self, seed: &Seed) -> Arc<dyn KeyAgreement> {
        match self {
            Keys::Real => Arc::new(OncePerPair::default()),
            Keys::Cheap => Arc::new(CheapKeys { secret: seed.fork("cheap keys").rng().bytes() }),
        }
    }
}

/// Results of X25519 that wait for the other end, at most. Chosen freely: more handshakes than a world of ten thousand has
/// under way at once; what is forgotten is computed again.
const MAX_WAITING: usize = 1 << 16;

type Point = [u8; 32];

/// X25519. Both ends come to the same number, so it is computed for the first that asks, and kept until the second has it.
#[derive(Default)]
struct OncePerPair(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    /// By both public halves, the smaller first.
    results: BTreeMap<[Point; 2], Point>,
    /// The oldest first; with those that were fetched already.
    order: VecDeque<[Point; 2]>,
}

impl Waiting {
    fn keep(&mut self, pair: [Point; 2], shared: Point) {
        self.results.insert(pair, shared);
        self.order.push_back(pair);
        while self.order.len() > MAX_WAITING {
            self.order.pop_front().map(|oldest| self.results.remove(&oldest));
        }
    }
}

fn sorted(a: Point, b: Point) -> [Point; 2] {
    if a <= b { [a, b] } else { [b, a] }
}

impl KeyAgreement for OncePerPair {
    fn public(&self, secret: &[u8; 32]) -> Point {
        X25519.public(secret)
    }

    fn agree(&self, ours: &KeyPair, theirs: &Point) -> Option<Zeroizing<[u8; 32]>> {
        let pair = sorted(ours.public, *theirs);
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shared) = waiting.results.remove(&pair) {
            return Some(Zeroizing::new(shared));
        }
        let shared = X25519.agree(ours, theirs)?;
        waiting.keep(pair, *shared);
        Some(shared)
    }
}

struct CheapKeys {
    secret: [u8; 32],
}

impl KeyAgreement for CheapKeys {
    fn public(&self, secret: &[u8; 32]) -> Point {
        *blake3::keyed_hash(&self.secret, secret).as_bytes()
    }

    fn agree(&self, ours: &KeyPair, theirs: &Point) -> Option<Zeroizing<[u8; 32]>> {
        if *theirs == [0; 32] {
            return None;
        }
        let both = sorted(ours.public, *theirs).concat();
        Some(Zeroizing::new(*blake3::keyed_hash(&self.secret, &both).as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(agreement: &dyn KeyAgreement, byte: u8) -> KeyPair {
        KeyPair::new(agreement, Zeroizing::new([byte; 32]))
    }

    #[test]
    fn both_ends_come_to_one_secret_and_no_third_does() {
        for keys in [Keys::Real, Keys::Cheap] {
            let agreement = keys.agreement(&Seed::from_number(1));
            let [a, b, c] = [1, 2, 3].map(|byte| pair(&*agreement, byte));
            for _ in 0..3 {
                let shared = agreement.agree(&a, &b.public).unwrap();
                assert_eq!(agreement.agree(&b, &a.public).unwrap(), shared);
                assert_ne!(agreement.agree(&c, &a.public).unwrap(), shared);
            }
            assert!(agreement.agree(&a, &[0; 32]).is_none());
        }
    }

    #[test]
    fn a_result_that_is_kept_is_that_of_x25519_and_what_waits_is_bounded() {
        let agreement = OncePerPair::default();
        let (a, b) = (pair(&agreement, 1), pair(&agreement, 2));
        let expected = X25519.agree(&a, &b.public);
        assert_eq!(agreement.agree(&a, &b.public), expected);
        assert_eq!(agreement.0.lock().unwrap().results.len(), 1);
        assert_eq!(agreement.agree(&b, &a.public), expected);
        assert_eq!(agreement.0.lock().unwrap().results.len(), 0);
        let mut waiting = Waiting::default();
        for number in 0..MAX_WAITING as u32 + 5 {
            let mut point = [0; 32];
            point[..4].copy_from_slice(&number.to_le_bytes());
            waiting.keep(sorted(point, [9; 32]), point);
        }
        assert_eq!((waiting.results.len(), waiting.order.len()), (MAX_WAITING, MAX_WAITING));
    }
}
