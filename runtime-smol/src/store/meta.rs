//! The record that says whose database this is and how its records are to be read.

use std::path::Path;

use offset_protocol::bytes::PublicKey;

use super::StoreError;

/// The longest key of a machine's record (`protocol::persist::Change`).
pub(super) const MAX_KEY: usize = 200;
/// One byte longer than any key of a machine, so that the two never meet.
pub(super) const KEY: [u8; MAX_KEY + 1] = [0xff; MAX_KEY + 1];
/// How records are written. Grows with every change that an older program would misread.
pub(super) const SCHEMA: u32 = 1;

const MAGIC: &[u8; 8] = b"offsetdb";

/// What the meta record has to say.
#[derive(Clone, Copy)]
pub(super) enum Expected {
    /// Nothing yet: the database is new and shall belong to this node.
    New(PublicKey),
    /// That the database belongs to this node.
    Old(PublicKey),
}

pub(super) fn encode(node: &PublicKey) -> Vec<u8> {
    [MAGIC.as_slice(), &SCHEMA.to_be_bytes(), &node.0].concat()
}

pub(super) fn compare(path: &Path, found: Option<&[u8]>, node: &PublicKey) -> Result<(), StoreError> {
    let not_ours = || StoreError::NotADatabase { path: path.to_owned() };
    let rest = found.and_then(|found| found.strip_prefix(MAGIC)).ok_or_else(not_ours)?;
    let (schema, owner) = rest.split_first_chunk::<4>().ok_or_else(not_ours)?;
    let schema = u32::from_be_bytes(*schema);
    if schema != SCHEMA {
        return Err(StoreError::WrongSchema { path: path.to_owned(), found: schema, expected: SCHEMA });
    }
    let owner = PublicKey(owner.try_into().map_err(|_| not_ours())?);
    if owner != *node {
        return Err(StoreError::WrongNode { path: path.to_owned(), owner, node: *node });
    }
    Ok(())
}
