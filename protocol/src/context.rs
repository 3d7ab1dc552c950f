//! Every hash and signature of Offset has a context of its own, and all of them stand here.
//!
//! A context is a BLAKE3 `derive_key` context string, so a hash made for one purpose is never one for another. Parts of
//! fixed size are hashed as they are; parts of variable size follow their length (u32, little endian). Numbers are little endian.

use std::sync::OnceLock;

use blake3::hazmat::{ContextKey, HasherExt, hash_derive_key_context};

use crate::bytes::Hash;

/// One purpose of hashing.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    text: &'static str,
    place: usize,
}

macro_rules! contexts {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        #[allow(non_camel_case_types, clippy::upper_case_acronyms)] // places are called as their contexts
        enum Place { $($name),* }
        $($(#[$doc])* pub const $name: Context = Context { text: $text, place: Place::$name as usize };)*
        /// All contexts, for the test that they differ and for the specification.
        pub const ALL: &[Context] = &[$($name),*];
    };
}

contexts! {
    /// A seed made from a number, in tests and simulations.
    SEED_NUMBER = "offset v1 seed number";
    /// The seed of a part: parent seed, label.
    SEED_FORK = "offset v1 seed fork";
    /// What an identity signs inside a handshake: role, handshake hash so far, own static key.
    CHANNEL_IDENTITY = "offset v1 channel";
    /// The key after a rekey of the secure channel.
    CHANNEL_REKEY = "offset v1 channel rekey";
    /// A hashed lock: the plain lock.
    LOCK = "offset v1 lock";
    /// Request id and the seller's nonce.
    RESPONSE = "offset v1 response";
    /// What a seller signs.
    RESPONSE_SIGNATURE = "offset v1 response signature";
    /// The head of a friend's log before its first batch.
    FRIEND_GENESIS = "offset v1 friend-channel genesis";
    /// The head of a friend's log: previous head, body hash.
    FRIEND_HEAD = "offset v1 friend-channel head";
    /// The body of a batch.
    FRIEND_BODY = "offset v1 friend-channel body";
    /// The totals of all currencies.
    FRIEND_TOTALS = "offset v1 friend-channel totals";
    /// What a friend signs: sender, receiver, header bytes.
    FRIEND_BATCH = "offset v1 friend-channel batch";
    /// What signs a reset: sender, receiver, epoch, reset token.
    FRIEND_RESET = "offset v1 friend-channel reset";
    /// A tick of an index server: random, neighbours' ticks.
    INDEX_TICK = "offset v1 index tick";
    /// The sorted entries of a node's report.
    INDEX_STATE = "offset v1 index state";
    /// What a node signs about its report.
    INDEX_ATTESTATION = "offset v1 index attestation";
    /// What guards a record on a node's own disk: key, value. Nobody else ever sees it.
    DATABASE_RECORD = "offset v1 database record";
    /// What guards the log in front of that disk's database: what part of it this is, then the part.
    DATABASE_LOG = "offset v1 database log";
}

/// What BLAKE3 makes of each context string: the same for every hash, so it is made once.
static KEYS: [OnceLock<ContextKey>; ALL.len()] = [const { OnceLock::new() }; ALL.len()];

impl Context {
    /// A hasher for this purpose.
    pub fn hasher(&self) -> Hasher {
        let key = KEYS[self.place].get_or_init(|| hash_derive_key_context(self.text));
        Hasher(blake3::Hasher::new_from_context_key(key))
    }

    /// The context string as it enters BLAKE3.
    pub const fn text(&self) -> &'static str {
        self.text
    }
}

/// Hashes parts in order; see the module's rules.
#[derive(Clone)]
pub struct Hasher(blake3::Hasher);

impl Hasher {
    /// A part of fixed size, as it is.
    pub fn fixed<const N: usize>(&mut self, part: &[u8; N]) -> &mut Self {
        self.0.update(part);
        self
    }

    /// A part of variable size: its length as u32, then its bytes.
    pub fn bytes(&mut self, part: &[u8]) -> &mut Self {
        self.0.update(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_le_bytes());
        self.0.update(part);
        self
    }

    /// One byte: a flag or a tag.
    pub fn u8(&mut self, part: u8) -> &mut Self {
        self.fixed(&[part])
    }

    /// A 32-bit number.
    pub fn u32(&mut self, part: u32) -> &mut Self {
        self.fixed(&part.to_le_bytes())
    }

    /// A 64-bit number.
    pub fn u64(&mut self, part: u64) -> &mut Self {
        self.fixed(&part.to_le_bytes())
    }

    /// A 128-bit number.
    pub fn u128(&mut self, part: u128) -> &mut Self {
        self.fixed(&part.to_le_bytes())
    }

    /// A signed 128-bit number, two's complement.
    pub fn i128(&mut self, part: i128) -> &mut Self {
        self.fixed(&part.to_le_bytes())
    }

    /// The hash of all parts so far.
    pub fn finish(&self) -> Hash {
        Hash(*self.0.finalize().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn all_contexts_differ_and_carry_the_version() {
        let texts: BTreeSet<_> = ALL.iter().map(Context::text).collect();
        assert_eq!(texts.len(), ALL.len());
        assert!(texts.iter().all(|text| text.starts_with("offset v1 ")));
    }

    #[test]
    fn a_hash_is_that_of_the_context_string_the_first_time_and_later() {
        for context in ALL {
            let expected = blake3::Hasher::new_derive_key(context.text()).update(b"part").finalize();
            for _ in 0..2 {
                assert_eq!(context.hasher().fixed(b"part").finish().0, *expected.as_bytes());
            }
        }
    }

    #[test]
    fn a_part_cannot_borrow_bytes_from_its_neighbour() {
        let hash = |a: &[u8], b: &[u8]| LOCK.hasher().bytes(a).bytes(b).finish();
        assert_ne!(hash(b"ab", b"c"), hash(b"a", b"bc"));
    }
}
