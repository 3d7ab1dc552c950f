//! How a log stands in its file: a head, then two halves of groups, each group in blocks of its own.
//!
//! | part | bytes |
//! |---|---|
//! | the log's head, at 0 | `offsetlg`, version `u32`, id (16), bytes of a half `u32`, bytes of a block `u32`, checksum (16) |
//! | a group's head, at the beginning of a block | id (16), number `u64`, bytes of its changes `u32`, zero `u32`, checksum of the changes (16), checksum of this head (16) |
//! | its changes, right behind | of each: bytes of the key `u8`, bytes of the value `u32` or 2^32 - 1 if the record is removed, key, value |
//!
//! Numbers are big endian. A checksum is the first 16 bytes of `H("offset v1 database log"; kind, str(bytes))`. A group's head has
//! one of its own, so that it is known that a group was begun there even if the rest of it is gone.

use offset_protocol::context::DATABASE_LOG;
use offset_protocol::persist::Change;

use super::super::meta::{LogId, MAX_KEY};

/// Room for the log's head: the largest block.
pub(in crate::store) const HEAD: usize = 4_096;
/// The smallest block. No disk writes less.
pub(in crate::store) const SMALLEST_BLOCK: usize = 512;
/// Bytes of a half at most: a head that says more is none.
pub(in crate::store) const LARGEST_HALF: usize = 16 << 20;

const MAGIC: &[u8; 8] = b"offsetlg";
const VERSION: u32 = 1;
const CHECK: usize = 16;
const LOG_HEAD: usize = 8 + 4 + 16 + 4 + 4;
const GROUP_HEAD: usize = 16 + 8 + 4 + 4 + CHECK;
/// A group's head with its checksum.
pub(in crate::store) const GROUP: usize = GROUP_HEAD + CHECK;
const ENTRY: usize = 1 + 4;
const REMOVED: u32 = u32::MAX;

/// What is guarded.
#[derive(Clone, Copy)]
enum Kind {
    Log = 0,
    Group = 1,
    Changes = 2,
}

fn checksum(kind: Kind, bytes: &[u8]) -> [u8; CHECK] {
    let hash = DATABASE_LOG.hasher().u8(kind as u8).bytes(bytes).finish();
    let mut first = [0; CHECK];
    first.copy_from_slice(&hash.0[..CHECK]);
    first
}

/// What a log's head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) struct Layout {
    pub(in crate::store) id: LogId,
    /// Bytes of a half.
    pub(in crate::store) half: usize,
    /// Groups begin at multiples of that.
    pub(in crate::store) block: usize,
}

impl Layout {
    /// Bytes of the whole file.
    pub(in crate::store) fn length(&self) -> usize {
        HEAD + 2 * self.half
    }

    /// Writes the head; `into` has a block at least.
    pub(super) fn write(&self, into: &mut [u8]) {
        let mut head = Vec::with_capacity(LOG_HEAD + CHECK);
        head.extend_from_slice(MAGIC);
        head.extend_from_slice(&VERSION.to_be_bytes());
        head.extend_from_slice(&self.id.0);
        for size in [self.half, self.block] {
            head.extend_from_slice(&u32::try_from(size).unwrap_or(u32::MAX).to_be_bytes());
        }
        head.extend_from_slice(&checksum(Kind::Log, &head));
        into[..head.len()].copy_from_slice(&head);
    }

    /// Reads the head of a file; `None` if it has none that this program knows.
    pub(in crate::store) fn parse(file: &[u8]) -> Option<Layout> {
        let (head, check) = file.get(..LOG_HEAD + CHECK)?.split_at(LOG_HEAD);
        if checksum(Kind::Log, head) != *check {
            return None;
        }
        let rest = head.strip_prefix(MAGIC)?.strip_prefix(&VERSION.to_be_bytes())?;
        let (id, rest) = rest.split_first_chunk::<16>()?;
        let (half, block) = (number(rest, 0)?, number(rest, 4)?);
        let sane = half <= LARGEST_HALF
            && half.is_multiple_of(HEAD)
            && block.is_power_of_two()
            && (SMALLEST_BLOCK..=HEAD).contains(&block);
        sane.then_some(Layout { id: LogId(*id), half, block })
    }
}

fn number(bytes: &[u8], at: usize) -> Option<usize> {
    let bytes = bytes.get(at..)?.first_chunk::<4>()?;
    usize::try_from(u32::from_be_bytes(*bytes)).ok()
}

/// Bytes of a group of these changes, without what fills its last block.
pub(in crate::store) fn size(changes: &[Change]) -> usize {
    let entry = |change: &Change| ENTRY + change.key.len() + change.value.as_ref().map_or(0, Vec::len);
    changes.iter().map(entry).fold(GROUP, usize::saturating_add)
}

/// Writes a group into `into`, which has room for [`size`] and is zero behind it.
pub(in crate::store) fn write(id: LogId, number: u64, changes: &[Change], into: &mut [u8]) {
    let (head, body) = into.split_at_mut(GROUP);
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        body[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    };
    for Change { key, value } in changes {
        // Keys have 200 bytes at most, and the whole fits into a half.
        put(&[u8::try_from(key.len()).unwrap_or(u8::MAX)]);
        let length = value.as_ref().map_or(REMOVED, |value| u32::try_from(value.len()).unwrap_or(REMOVED));
        put(&length.to_be_bytes());
        put(key);
        put(value.as_deref().unwrap_or_default());
    }
    let length = u32::try_from(at).unwrap_or(u32::MAX);
    head[..16].copy_from_slice(&id.0);
    head[16..24].copy_from_slice(&number.to_be_bytes());
    head[24..28].copy_from_slice(&length.to_be_bytes());
    head[28..32].fill(0);
    head[32..GROUP_HEAD].copy_from_slice(&checksum(Kind::Changes, &body[..at]));
    let check = checksum(Kind::Group, &head[..GROUP_HEAD]);
    head[GROUP_HEAD..].copy_from_slice(&check);
}

/// A group that was begun, as its head has it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    pub(super) number: u64,
    length: usize,
    check: [u8; CHECK],
}

impl Group {
    /// The group of this log whose head stands at the beginning of `bytes`.
    pub(super) fn at(id: LogId, bytes: &[u8]) -> Option<Group> {
        let (head, check) = bytes.get(..GROUP)?.split_at(GROUP_HEAD);
        let rest = head.strip_prefix(&id.0)?;
        if checksum(Kind::Group, head) != *check {
            return None;
        }
        let (count, rest) = rest.split_first_chunk::<8>()?;
        let check = rest.get(8..)?.first_chunk::<CHECK>()?;
        Some(Group { number: u64::from_be_bytes(*count), length: number(rest, 0)?, check: *check })
    }

    /// Bytes of the whole.
    pub(super) fn size(&self) -> usize {
        GROUP.saturating_add(self.length)
    }

    /// What is behind the head, if it is whole.
    pub(super) fn body<'b>(&self, bytes: &'b [u8]) -> Option<&'b [u8]> {
        let body = bytes.get(GROUP..self.size())?;
        (checksum(Kind::Changes, body) == self.check).then_some(body)
    }
}

/// The changes of a group; `None` if it has something that no store writes.
pub(in crate::store) fn changes(mut body: &[u8]) -> Option<Vec<Change>> {
    let mut changes = Vec::new();
    while let Some((key, rest)) = body.split_first() {
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let key_length = usize::from(*key);
        if !(1..=MAX_KEY).contains(&key_length) {
            return None;
        }
        let (key, rest) = rest.split_at_checked(key_length)?;
        let (value, rest) = match u32::from_be_bytes(*length) {
            REMOVED => (None, rest),
            length => {
                let (value, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
                (Some(value.to_vec()), rest)
            }
        };
        changes.push(Change { key: key.to_vec(), value });
        body = rest;
    }
    Some(changes)
}
