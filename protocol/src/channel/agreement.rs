//! How the two ends of a handshake come to a secret that nobody else has.
//!
//! Programs use [`X25519`]. A simulator may bring something cheaper, as it may with signatures: the agreement comes with the
//! identity ([`Signer::agreement`](crate::identity::Signer::agreement)), and everything else of the channel stays what it is.
//! Fresh keys inside a long connection are always X25519.
//!
//! Guards that a result to which the peer contributed nothing is refused.

use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

/// Both halves of a key. The secret one is zeroised on drop.
#[derive(Clone)]
pub struct KeyPair {
    /// What nobody learns.
    pub secret: Zeroizing<[u8; 32]>,
    /// What the peer learns.
    pub public: [u8; 32],
}

/// Diffie-Hellman over keys of 32 bytes.
pub trait KeyAgreement: Send + Sync {
    /// The public half of a secret.
    fn public(&self, secret: &[u8; 32]) -> [u8; 32];

    /// What both ends come to, each with its own pair and the other's public half. `None` if the peer's half is one with
    /// which the result would not depend on ours.
    fn agree(&self, ours: &KeyPair, theirs: &[u8; 32]) -> Option<Zeroizing<[u8; 32]>>;
}

/// X25519, as in every program.
#[derive(Clone, Copy, Debug)]
pub struct X25519;

impl KeyAgreement for X25519 {
    fn public(&self, secret: &[u8; 32]) -> [u8; 32] {
        PublicKey::from(&StaticSecret::from(*secret)).to_bytes()
    }

    fn agree(&self, ours: &KeyPair, theirs: &[u8; 32]) -> Option<Zeroizing<[u8; 32]>> {
        let shared = StaticSecret::from(*ours.secret).diffie_hellman(&PublicKey::from(*theirs));
        shared.was_contributory().then(|| Zeroizing::new(shared.to_bytes()))
    }
}

impl KeyPair {
    /// The pair of a secret.
    pub fn new(agreement: &dyn KeyAgreement, secret: Zeroizing<[u8; 32]>) -> Self {
        let public = agreement.public(&secret);
        KeyPair { secret, public }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(byte: u8) -> KeyPair {
        KeyPair::new(&X25519, Zeroizing::new([byte; 32]))
    }

    #[test]
    fn both_ends_come_to_the_same() {
        let (ours, theirs) = (pair(7), pair(8));
        let shared = X25519.agree(&ours, &theirs.public);
        assert!(shared.is_some());
        assert_eq!(shared, X25519.agree(&theirs, &ours.public));
        assert_ne!(shared, X25519.agree(&ours, &pair(9).public));
    }

    #[test]
    fn a_key_of_small_order_is_refused() {
        let mut one = [0; 32];
        one[0] = 1;
        assert!(X25519.agree(&pair(7), &[0; 32]).is_none());
        assert!(X25519.agree(&pair(7), &one).is_none());
    }
}
