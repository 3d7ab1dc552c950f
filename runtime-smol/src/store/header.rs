//! The two meta pages of an LMDB file, read the ordinary way before LMDB maps anything into memory.
//!
//! LMDB believes its meta pages. If they promise more than the file holds, the first look beyond its end kills the process
//! (SIGBUS); so both are read here and compared with the file's length and with each other, and garbage ends in a sentence.
//! What the pages behind them hold is looked at by [`super::tree`].
//!
//! LMDB writes the page of transaction `n` at place `n & 1`. So the two numbers differ by one (both are 0 in a file that was
//! just made), and neither can be changed without being noticed: the tree behind each knows its own number.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::MAX_MAP;

pub(super) const PAGE_HEADER: usize = 16;
const META: usize = 136;
const PAGE: usize = PAGE_HEADER + META;
/// What systems use. Backups move from one to another, so that it need not be what this one uses.
const PAGE_SIZES: std::ops::RangeInclusive<u32> = 4_096..=65_536;
const IS_META: u16 = 0x08;
const MAGIC: u32 = 0xBEEF_C0DE;
const FORMAT: u32 = 1;
/// Keys of the tree of free pages are numbers.
const INTEGER_KEYS: u16 = 0x08;
/// The database is a file and not a folder.
const NO_SUB_DIR: u16 = 0x4000;
/// The number of a page that is none.
const NO_PAGE: u64 = u64::MAX;

/// One of LMDB's two trees, as a meta page describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Root {
    pub(super) flags: u16,
    pub(super) depth: u16,
    pub(super) branch_pages: u64,
    pub(super) leaf_pages: u64,
    pub(super) overflow_pages: u64,
    pub(super) entries: u64,
    pub(super) page: Option<u64>,
}

/// A meta page: one state of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) page_size: u32,
    /// Bytes of the map; this store keeps the file at least that long.
    pub(super) map_size: u64,
    /// The tree of free pages, by the transaction that freed them.
    pub(super) free: Root,
    /// The tree of records.
    pub(super) main: Root,
    pub(super) last_page: u64,
    /// The transaction that made this state.
    pub(super) txn: u64,
}

/// Why a file is no database that this program can open.
#[derive(Debug)]
pub(super) enum BadHeader {
    Io(io::Error),
    NotADatabase,
    CutShort {
        has: u64,
        needs: u64,
    },
    /// A database, but for this.
    Damaged {
        page: u64,
        what: &'static str,
    },
}

/// Reads both meta pages, by their places, and compares them with the file's length.
pub(super) fn read(file: &File) -> Result<[Meta; 2], BadHeader> {
    let has = file.metadata().map_err(BadHeader::Io)?.len();
    let first = Meta::read(file, has, 0, 0)?;
    let second = Meta::read(file, has, 1, u64::from(first.page_size))?;
    let newer = if second.txn > first.txn { second } else { first };
    let damaged = |page, what| Err(BadHeader::Damaged { page, what });
    if first.page_size != second.page_size {
        return damaged(1, "it names another page size than page 0");
    }
    // A sparse file can be as long as it likes: what is promised is paid for with memory.
    let mut needs = 0;
    for (place, meta) in [(0, first), (1, second)] {
        let pages = meta.last_page.checked_add(1).and_then(|pages| pages.checked_mul(u64::from(meta.page_size)));
        let promised = pages.unwrap_or(u64::MAX).max(meta.map_size);
        if promised > MAX_MAP {
            return damaged(place, "it promises more than a database may have");
        }
        if meta.txn == newer.txn {
            needs = promised.max(needs);
        }
    }
    if has < needs {
        return Err(BadHeader::CutShort { has, needs });
    }
    Ok([first, second])
}

/// The newer one of two meta pages, if their numbers are as LMDB writes them while nobody writes.
pub(super) fn newest(metas: &[Meta; 2]) -> Result<Meta, BadHeader> {
    let [even, odd] = metas;
    let are_new = even.txn == 0 && odd.txn == 0;
    let alternate = even.txn.is_multiple_of(2) && !odd.txn.is_multiple_of(2) && even.txn.abs_diff(odd.txn) == 1;
    if !are_new && !alternate {
        return Err(BadHeader::Damaged { page: 0, what: "the two headers do not follow each other" });
    }
    Ok(if odd.txn > even.txn { *odd } else { *even })
}

/// The bytes of both meta pages, to be put back after a commit that failed.
///
/// When LMDB cannot write a meta page it puts the old number back, but not the rest: the older state would not be whole any
/// more. It is never read by LMDB, but here it would be taken for damage.
pub(super) struct Saved {
    page_size: u64,
    bytes: [[u8; PAGE]; 2],
}

impl Saved {
    pub(super) fn of(file: &File, page_size: u32) -> io::Result<Saved> {
        let page_size = u64::from(page_size);
        let mut bytes = [[0; PAGE]; 2];
        file.read_exact_at(&mut bytes[0], 0)?;
        file.read_exact_at(&mut bytes[1], page_size)?;
        Ok(Saved { page_size, bytes })
    }

    /// Puts back what was there. The newer page has not changed, and is written only if the disk forgot it.
    pub(super) fn put_back(&self, file: &File) -> io::Result<()> {
        let now = Saved::of(file, u32::try_from(self.page_size).unwrap_or(u32::MAX))?;
        for (at, (saved, now)) in [0, self.page_size].into_iter().zip(self.bytes.iter().zip(&now.bytes)) {
            if saved != now {
                file.write_all_at(saved, at)?;
            }
        }
        file.sync_data()
    }
}

impl Meta {
    fn read(file: &File, has: u64, place: u64, at: u64) -> Result<Meta, BadHeader> {
        let mut page = [0; PAGE];
        let needs = at.saturating_add(PAGE as u64);
        if has < needs {
            // A first page that is right says what the rest should be; a short file without one is just something else.
            return Err(if at == 0 { BadHeader::NotADatabase } else { BadHeader::CutShort { has, needs } });
        }
        file.read_exact_at(&mut page, at).map_err(BadHeader::Io)?;
        match Meta::parse(&page, place) {
            Some(meta) => Ok(meta),
            None if place == 0 => Err(BadHeader::NotADatabase),
            None => Err(BadHeader::Damaged { page: place, what: "it is no header" }),
        }
    }

    /// The page as LMDB 0.9 writes it on a 64-bit host, in the host's byte order.
    fn parse(page: &[u8; PAGE], place: u64) -> Option<Meta> {
        let number = u64_at(page, 0)?;
        let flags = u16_at(page, 10)?;
        let meta = page.get(PAGE_HEADER..)?;
        let page_size = u32_at(meta, 24)?;
        let free = Root::parse(meta.get(24..72)?)?;
        let main = Root::parse(meta.get(72..120)?)?;
        let sane = number == place
            && flags == IS_META
            && u32_at(meta, 0)? == MAGIC
            && u32_at(meta, 4)? == FORMAT
            && page_size.is_power_of_two()
            && PAGE_SIZES.contains(&page_size)
            && free.flags & !NO_SUB_DIR == INTEGER_KEYS
            && main.flags == 0;
        let meta = Meta {
            page_size,
            map_size: u64_at(meta, 16)?,
            free,
            main,
            last_page: u64_at(meta, 120)?,
            txn: u64_at(meta, 128)?,
        };
        sane.then_some(meta)
    }
}

impl Root {
    fn parse(bytes: &[u8]) -> Option<Root> {
        let page = u64_at(bytes, 40)?;
        Some(Root {
            flags: u16_at(bytes, 4)?,
            depth: u16_at(bytes, 6)?,
            branch_pages: u64_at(bytes, 8)?,
            leaf_pages: u64_at(bytes, 16)?,
            overflow_pages: u64_at(bytes, 24)?,
            entries: u64_at(bytes, 32)?,
            page: (page != NO_PAGE).then_some(page),
        })
    }
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}
