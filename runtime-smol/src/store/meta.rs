//! How a record stands in the file, and the record that says whose database this is and how its records are to be read.
//!
//! | schema | a value in the file |
//! |---|---|
//! | 1 | the record's value as it is |
//! | 2 | the record's value, then the first 8 bytes of `H("offset v1 database record"; str(key), str(value))` |
//!
//! LMDB has no checksums: without one a bit that flips in a balance would be a balance. A database of an older schema is
//! brought to the newest when it is opened and its records were understood, in one transaction; one of a newer schema is refused.

use offset_protocol::bytes::PublicKey;
use offset_protocol::context::DATABASE_RECORD;

/// The longest key of a machine's record (`protocol::persist::Change`).
pub(super) const MAX_KEY: usize = 200;
/// One byte longer than any key of a machine, so that the two never meet; and the last of all.
pub(super) const KEY: [u8; MAX_KEY + 1] = [0xff; MAX_KEY + 1];
/// How records are written. Grows with every change that an older program would misread.
pub const SCHEMA: u32 = 2;
/// The oldest that can be brought to the newest.
pub(super) const OLDEST: u32 = 1;
/// Bytes that guard a record. Chosen freely: one mistake in 2^64 goes unnoticed.
pub(super) const SEAL: usize = 8;

const MAGIC: &[u8; 8] = b"offsetdb";

/// What a meta record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) schema: u32,
    pub(super) owner: PublicKey,
}

/// The value of the meta record of this program's schema.
pub(super) fn encode(node: &PublicKey) -> Vec<u8> {
    [MAGIC.as_slice(), &SCHEMA.to_be_bytes(), &node.0].concat()
}

/// The schema of a meta record, whatever the schema is; `None` if it is no meta record.
pub(super) fn schema(value: &[u8]) -> Option<u32> {
    value.strip_prefix(MAGIC)?.first_chunk::<4>().map(|schema| u32::from_be_bytes(*schema))
}

/// Reads a meta record of a schema that this program knows, as it stands in the file.
pub(super) fn decode(stored: &[u8]) -> Option<Found> {
    let schema = schema(stored)?;
    let value = open(schema, &KEY, stored)?;
    let owner = value.get(MAGIC.len() + 4..)?;
    Some(Found { schema, owner: PublicKey(owner.try_into().ok()?) })
}

/// Writes a record's value as it stands in the file, into `stored`.
pub(super) fn seal(key: &[u8], value: &[u8], stored: &mut Vec<u8>) {
    stored.clear();
    stored.extend_from_slice(value);
    stored.extend_from_slice(&checksum(key, value));
}

/// The value of a record that stands in the file like this; `None` if it is not what was written.
pub(super) fn open<'s>(schema: u32, key: &[u8], stored: &'s [u8]) -> Option<&'s [u8]> {
    if schema < 2 {
        return Some(stored);
    }
    let (value, seal) = stored.split_last_chunk::<SEAL>()?;
    (checksum(key, value) == *seal).then_some(value)
}

fn checksum(key: &[u8], value: &[u8]) -> [u8; SEAL] {
    let hash = DATABASE_RECORD.hasher().bytes(key).bytes(value).finish();
    let mut first = [0; SEAL];
    first.copy_from_slice(&hash.0[..SEAL]);
    first
}
