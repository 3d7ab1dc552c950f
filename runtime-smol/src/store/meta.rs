//! How a record stands in the file, and the record that says whose database this is and how its records are to be read.
//!
//! | schema | what is new |
//! |---|---|
//! | 1 | a record's value stands in the file as it is |
//! | 2 | it is followed by the first 8 bytes of `H("offset v1 database record"; str(key), str(value))` |
//! | 3 | the newest state may stand in a log beside the file ([`super::log`]); this record says which log, and from where on |
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
pub const SCHEMA: u32 = 3;
/// The oldest, whose values have no checksums.
pub(super) const FIRST: u32 = 1;
/// The first whose newest state may be in a log.
const WITH_LOG: u32 = 3;
/// Bytes that guard a record. Chosen freely: one mistake in 2^64 goes unnoticed.
pub(super) const SEAL: usize = 8;

const MAGIC: &[u8; 8] = b"offsetdb";

/// The name of a log: random, so that no other log is ever taken for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LogId(pub(super) [u8; 16]);

/// What a database has to do with a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LogState {
    /// All there is stands in the file. The log that it had last, which may still lie beside it, holds nothing more.
    Closed { last: LogId },
    /// What came after group `applied` stands in the log.
    Open {
        id: LogId,
        applied: u64,
        /// The pages may have something of groups up to this one, and what they are is a state only with all of these: if it is
        /// more than `applied`, they are on their way to it.
        reaches: u64,
    },
}

impl LogState {
    /// Of a database that never had one.
    pub(super) const NONE: LogState = LogState::Closed { last: LogId([0; 16]) };

    const CLOSED: u8 = 0;
    const OPEN: u8 = 1;

    /// All of the log that the pages have, up to a group.
    pub(super) const fn at(id: LogId, applied: u64) -> LogState {
        LogState::Open { id, applied, reaches: applied }
    }

    fn encode(self) -> [u8; 33] {
        let (tag, id, applied, reaches) = match self {
            LogState::Closed { last } => (LogState::CLOSED, last, 0, 0),
            LogState::Open { id, applied, reaches } => (LogState::OPEN, id, applied, reaches),
        };
        let mut bytes = [0; 33];
        bytes[0] = tag;
        bytes[1..17].copy_from_slice(&id.0);
        bytes[17..25].copy_from_slice(&applied.to_be_bytes());
        bytes[25..].copy_from_slice(&reaches.to_be_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<LogState> {
        let (tag, rest) = bytes.split_first()?;
        let (id, rest) = rest.split_first_chunk::<16>()?;
        let (applied, reaches) = rest.split_first_chunk::<8>()?;
        let (id, applied) = (LogId(*id), u64::from_be_bytes(*applied));
        let reaches = u64::from_be_bytes(reaches.try_into().ok()?);
        match *tag {
            LogState::CLOSED if (applied, reaches) == (0, 0) => Some(LogState::Closed { last: id }),
            LogState::OPEN if reaches >= applied => Some(LogState::Open { id, applied, reaches }),
            _ => None,
        }
    }
}

/// What a meta record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) schema: u32,
    pub(super) owner: PublicKey,
    pub(super) log: LogState,
}

/// The value of the meta record of this program's schema.
pub(super) fn encode(node: &PublicKey, log: LogState) -> Vec<u8> {
    [MAGIC.as_slice(), &SCHEMA.to_be_bytes(), &node.0, &log.encode()].concat()
}

/// The schema of a meta record, whatever the schema is; `None` if it is no meta record.
pub(super) fn schema(value: &[u8]) -> Option<u32> {
    value.strip_prefix(MAGIC)?.first_chunk::<4>().map(|schema| u32::from_be_bytes(*schema))
}

/// Reads a meta record of a schema that this program knows, as it stands in the file.
pub(super) fn decode(stored: &[u8]) -> Option<Found> {
    let schema = schema(stored)?;
    let value = open(schema, &KEY, stored)?;
    let (owner, rest) = value.get(MAGIC.len() + 4..)?.split_first_chunk::<32>()?;
    let log = match rest {
        [] if schema < WITH_LOG => LogState::NONE,
        log => LogState::decode(log).filter(|_| schema >= WITH_LOG)?,
    };
    Some(Found { schema, owner: PublicKey(*owner), log })
}

/// Writes a record's value as it stands in the file, into `stored`.
pub(super) fn seal(key: &[u8], value: &[u8], stored: &mut Vec<u8>) {
    stored.clear();
    stored.extend_from_slice(value);
    stored.extend_from_slice(&checksum(key, value));
}

/// The value of a record that stands in the file like this; `None` if it is not what was written.
pub(super) fn open<'s>(schema: u32, key: &[u8], stored: &'s [u8]) -> Option<&'s [u8]> {
    if schema == FIRST {
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
