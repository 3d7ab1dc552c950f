//! Fixed-size byte strings with one meaning each: keys, hashes, locks, signatures and ids.
//!
//! On the wire each is a CBOR byte string of exactly its size; in files and for humans it is base64url without padding.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE64URL_NOPAD;
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroize;

/// Text that is not the base64url form of a byte string of the right size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a {what}: expected {size} bytes in base64url without padding")]
pub struct BadText {
    /// The type that was wanted.
    pub what: &'static str,
    /// Its size in bytes.
    pub size: usize,
}

/// Serialises as a byte string in binary formats and as base64url in formats for humans.
fn serialize_bytes<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    if serializer.is_human_readable() {
        serializer.serialize_str(&BASE64URL_NOPAD.encode(bytes))
    } else {
        serializer.serialize_bytes(bytes)
    }
}

struct FixedVisitor<const N: usize>;

impl<const N: usize> Visitor<'_> for FixedVisitor<N> {
    type Value = [u8; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{N} bytes")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<[u8; N], E> {
        bytes.try_into().map_err(|_| E::invalid_length(bytes.len(), &self))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<[u8; N], E> {
        parse(text).ok_or_else(|| E::custom(format_args!("expected {N} bytes in base64url without padding")))
    }
}

fn parse<const N: usize>(text: &str) -> Option<[u8; N]> {
    // Longer text is refused before it is decoded.
    if text.len() != BASE64URL_NOPAD.encode_len(N) {
        return None;
    }
    BASE64URL_NOPAD.decode(text.as_bytes()).ok()?.try_into().ok()
}

fn deserialize_fixed<'de, D: Deserializer<'de>, const N: usize>(deserializer: D) -> Result<[u8; N], D::Error> {
    if deserializer.is_human_readable() {
        deserializer.deserialize_str(FixedVisitor::<N>)
    } else {
        deserializer.deserialize_bytes(FixedVisitor::<N>)
    }
}

macro_rules! common {
    ($name:ident, $size:literal) => {
        impl $name {
            /// Size in bytes.
            pub const SIZE: usize = $size;
        }
        impl AsRef<[u8]> for $name {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serialize_bytes(&self.0, serializer)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserialize_fixed(deserializer).map($name)
            }
        }
        impl FromStr for $name {
            type Err = BadText;
            fn from_str(text: &str) -> Result<Self, BadText> {
                parse(text).map($name).ok_or(BadText { what: stringify!($name), size: $size })
            }
        }
    };
}

macro_rules! public {
    ($($(#[$doc:meta])* $name:ident[$size:literal];)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $size]);
        common!($name, $size);
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&BASE64URL_NOPAD.encode(&self.0))
            }
        }
        /// The first eight characters: enough to tell values apart in a log.
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), &BASE64URL_NOPAD.encode(&self.0)[..8])
            }
        }
    )*};
}

macro_rules! secret {
    ($($(#[$doc:meta])* $name:ident[$size:literal];)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Zeroize)]
        #[zeroize(drop)]
        pub struct $name(pub [u8; $size]);
        common!($name, $size);
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}(secret)", stringify!($name))
            }
        }
    )*};
}

public! {
    /// A BLAKE3 hash in some [`crate::context`].
    Hash[32];
    /// An Ed25519 public key: the identity of a node, relay, index server or app.
    PublicKey[32];
    /// An Ed25519 signature over a [`struct@Hash`].
    Signature[64];
    /// The hash of a [`PlainLock`].
    HashedLock[32];
    /// One request: chosen at random by the buyer, the same at every hop.
    RequestId[16];
    /// One invoice: chosen at random by the seller.
    InvoiceId[16];
    /// One payment: chosen at random by the buyer's app.
    PaymentId[16];
    /// What the seller hashes together with the request id, so that a response cannot be guessed.
    Nonce[16];
    /// Names one reset of a friend channel.
    ResetToken[32];
    /// One tick of an index server.
    TickHash[32];
    /// Names one command of an app; its reply and its events repeat it.
    CommandId[16];
}

secret! {
    /// The secret that opens a [`HashedLock`]. It becomes public with the commit or the collect.
    PlainLock[32];
}

impl PlainLock {
    /// The lock that this secret opens.
    pub fn hashed(&self) -> HashedLock {
        HashedLock(crate::context::LOCK.hasher().fixed(&self.0).finish().0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips_and_wrong_sizes_are_refused() {
        let key = PublicKey([7; 32]);
        assert_eq!(key.to_string().parse::<PublicKey>(), Ok(key));
        for bad in ["", "AAAA", &"A".repeat(44), &"*".repeat(43)] {
            let error = bad.parse::<PublicKey>().unwrap_err();
            assert_eq!(error.to_string(), "not a PublicKey: expected 32 bytes in base64url without padding");
        }
    }

    #[test]
    fn a_plain_lock_is_never_printed() {
        assert_eq!(format!("{:?}", PlainLock([1; 32])), "PlainLock(secret)");
    }
}
