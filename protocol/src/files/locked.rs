//! Identity files whose private key is sealed with a passphrase. What is here is the form; the key derivation, which takes
//! memory and time on purpose, is the programs' part.
//!
//! The private key is sealed with ChaCha20-Poly1305 under the key that Argon2id (version 0x13) makes of the passphrase, with
//! a nonce of zeros: the salt, and so the key, is new with every file. Associated data: [`LockedIdentity::bound`], so that
//! nothing else of the file can be altered unnoticed.

use serde::{Deserialize, Serialize};

use super::Kind;
use super::json::{base64url_fixed, document};
use crate::bytes::PublicKey;

/// Bytes of a salt.
pub const SALT_BYTES: usize = 16;
/// Bytes of a sealed private key: the key and its tag.
pub const SEALED_BYTES: usize = 48;

/// What Argon2id is run with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hardness {
    /// Memory, in KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// Lanes; they make no difference to what it costs here.
    pub lanes: u32,
}

impl Hardness {
    /// Of new files: 64 MiB and three passes, the second recommendation of RFC 9106 with one lane. About a quarter of a
    /// second on a phone.
    pub const DEFAULT: Hardness = Hardness { memory_kib: 64 * 1024, passes: 3, lanes: 1 };
    /// The most memory that a file may demand of whoever opens it, in KiB: 1 GiB.
    pub const MAX_MEMORY_KIB: u32 = 1024 * 1024;
    /// The most passes, times KiB: sixteen times the default.
    pub const MAX_WORK: u64 = 16 * 3 * 64 * 1024;

    fn check(self) -> Result<(), String> {
        let Hardness { memory_kib, passes, lanes } = self;
        let work = u64::from(memory_kib) * u64::from(passes);
        if passes == 0 || !(1..=16).contains(&lanes) || memory_kib < 8 * lanes {
            return Err("its key derivation is none".to_owned());
        }
        if memory_kib > Self::MAX_MEMORY_KIB || work > Self::MAX_WORK {
            return Err("its key derivation demands more memory or time than any Offset file does".to_owned());
        }
        Ok(())
    }
}

/// An identity that needs a passphrase. The public key is in the clear: tickets can be made without the passphrase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockedIdentity {
    /// Whose it is.
    pub public_key: PublicKey,
    /// What Argon2id is run with.
    pub argon2id: Hardness,
    /// Its salt.
    pub salt: [u8; SALT_BYTES],
    /// The sealed private key.
    pub sealed: [u8; SEALED_BYTES],
}

impl LockedIdentity {
    /// What the seal binds: a label, the public key, the three numbers (big endian) and the salt.
    pub fn bound(&self) -> Vec<u8> {
        let Hardness { memory_kib, passes, lanes } = self.argon2id;
        let mut bytes = b"offset locked identity 1".to_vec();
        bytes.extend_from_slice(&self.public_key.0);
        [memory_kib, passes, lanes].iter().for_each(|number| bytes.extend_from_slice(&number.to_be_bytes()));
        bytes.extend_from_slice(&self.salt);
        bytes
    }
}

document!(LockedIdentity as LockedIdentityJson, Kind::LockedIdentity, check |locked| locked.argon2id.check(), {
    public_key: PublicKey,
    argon2id: Hardness,
    #[serde(with = "base64url_fixed")]
    salt: [u8; SALT_BYTES],
    #[serde(with = "base64url_fixed")]
    sealed: [u8; SEALED_BYTES],
});
