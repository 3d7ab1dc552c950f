//! What must be true of a database file before LMDB maps it into memory.
//!
//! LMDB believes its meta pages. If they promise more than the file holds, the first look beyond its end kills the process
//! (SIGBUS); so both are read here the ordinary way and compared with the file's length, and garbage ends in a sentence.
//! Not checked: damage inside a data page of the right size. LMDB has no checksums; that is the file system's duty.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

const PAGE_HEADER: usize = 16;
const META: usize = 136;
const FLAGS_AT: usize = 10;
const IS_META: u16 = 0x08;
const MAGIC: u32 = 0xBEEF_C0DE;
const FORMAT: u32 = 1;

/// What the meta pages promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Bytes of the map; this store keeps the file at least that long.
    pub(super) map_size: u64,
}

/// Why a file is no database that this program can open.
#[derive(Debug)]
pub(super) enum BadHeader {
    Io(io::Error),
    /// Empty: its creation never finished.
    Empty,
    NotADatabase,
    CutShort {
        has: u64,
        needs: u64,
    },
}

/// Reads both meta pages and compares them with the file's length.
pub(super) fn check(file: &File) -> Result<Header, BadHeader> {
    let has = file.metadata().map_err(BadHeader::Io)?.len();
    if has == 0 {
        return Err(BadHeader::Empty);
    }
    let first = Meta::read(file, has, 0)?;
    let second = Meta::read(file, has, u64::from(first.page_size))?;
    let newer = if second.txn > first.txn { second } else { first };
    let pages = newer.last_page.checked_add(1).and_then(|pages| pages.checked_mul(u64::from(newer.page_size)));
    let needs = pages.ok_or(BadHeader::NotADatabase)?.max(newer.map_size);
    if has < needs {
        return Err(BadHeader::CutShort { has, needs });
    }
    Ok(Header { map_size: newer.map_size })
}

#[derive(Clone, Copy)]
struct Meta {
    page_size: u32,
    map_size: u64,
    last_page: u64,
    txn: u64,
}

impl Meta {
    fn read(file: &File, has: u64, at: u64) -> Result<Meta, BadHeader> {
        let mut page = [0; PAGE_HEADER + META];
        let needs = at.saturating_add(page.len() as u64);
        if has < needs {
            // A first page that is right says what the rest should be; a short file without one is just something else.
            return Err(if at == 0 { BadHeader::NotADatabase } else { BadHeader::CutShort { has, needs } });
        }
        file.read_exact_at(&mut page, at).map_err(BadHeader::Io)?;
        Meta::parse(&page).ok_or(BadHeader::NotADatabase)
    }

    /// The page as LMDB 0.9 writes it on a 64-bit host, in the host's byte order.
    fn parse(page: &[u8; PAGE_HEADER + META]) -> Option<Meta> {
        let flags = u16::from_ne_bytes(page.get(FLAGS_AT..FLAGS_AT + 2)?.try_into().ok()?);
        let meta = page.get(PAGE_HEADER..)?;
        let u32_at = |at: usize| Some(u32::from_ne_bytes(meta.get(at..at + 4)?.try_into().ok()?));
        let u64_at = |at: usize| Some(u64::from_ne_bytes(meta.get(at..at + 8)?.try_into().ok()?));
        let page_size = u32_at(24)?;
        let sane = flags & IS_META != 0
            && u32_at(0)? == MAGIC
            && u32_at(4)? == FORMAT
            && page_size.is_power_of_two()
            && (512..=65_536).contains(&page_size);
        sane.then_some(Meta { page_size, map_size: u64_at(16)?, last_page: u64_at(120)?, txn: u64_at(128)? })
    }
}
