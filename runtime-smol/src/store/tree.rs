//! An LMDB file read without LMDB: every page looked at, nothing believed.
//!
//! LMDB has no checksums and checks little of what it reads: a flipped bit in a page can make it read beyond its map. So a
//! database is walked here, page by page, before LMDB opens it, and every record comes from this walk. A file that passes is
//! one that LMDB can read and change without harm.
//!
//! 1. Every page of the file is met exactly once: in the tree of records, in that of free pages, or on one of its lists.
//! 2. Every page carries its own number and kind; its entries fill it without gap or overlap ([`super::page`]); counts and depth
//!    are those of the header.
//! 3. Keys ascend, within a page and between what the branches above promise.
//! 4. The last list of free pages is that of the header's transaction: a header with a wrong number is noticed.
//! 5. Nothing here panics, and memory stays within a few pages, one value of at most [`MAX_VALUE`], and a bit a page.
//!
//! Not checked here: the bytes of keys and values. Their checksums do that ([`super::meta::open`]). Nor can it be seen that a
//! disk forgot a whole write and kept the page that was there before, if that page fits as well: it is the file system's duty
//! to keep what it said was written. What the records prove of each other ([`offset_funder_sm::inspection`]) finds most of it.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::header::{Meta, PAGE_HEADER, Root, u16_at, u32_at, u64_at};
use super::page::{Kind, Node, Page};
use super::{KeyValue, StoreError};

/// Bytes of one value at most. Chosen freely, far above the largest record of a node (1 MiB).
pub(super) const MAX_VALUE: usize = 16 << 20;
/// LMDB's own limit.
const MAX_DEPTH: u16 = 32;
/// The first pages are headers.
const HEADERS: u64 = 2;
const OVERFLOW: u16 = 0x04;

/// A record, where it lies.
#[derive(Clone, Copy)]
pub(super) struct Record<'r> {
    pub(super) page: u64,
    pub(super) key: &'r [u8],
    pub(super) value: &'r [u8],
}

/// Hears of every record, in the order of keys.
pub(super) type Visit<'v> = dyn FnMut(Record<'_>) -> Result<(), StoreError> + 'v;

/// What the pages of a file are used for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pages {
    /// Bytes of one.
    pub size: u32,
    /// All of them, headers included.
    pub all: u64,
    /// On lists of free pages.
    pub free: u64,
}

/// One state of a database file.
pub(super) struct Tree<'f> {
    pub(super) path: &'f Path,
    pub(super) file: &'f File,
    pub(super) meta: Meta,
}

impl Tree<'_> {
    /// Looks at every page; `visit` hears of every record.
    pub(super) fn walk(&self, visit: &mut Visit<'_>) -> Result<Pages, StoreError> {
        let mut walk = Walk::new(self)?;
        walk.tree(&self.meta.free, Keys::Transactions, &mut |_| Ok(()))?;
        walk.tree(&self.meta.main, Keys::Bytes, visit)?;
        walk.finish()
    }

    /// The key and value of the last record, without looking at the others.
    pub(super) fn last_record(&self) -> Result<Option<KeyValue>, StoreError> {
        self.last_of(&self.meta.main)
    }

    /// Checks that this is the state that its header's number names (see 4).
    pub(super) fn check_number(&self) -> Result<(), StoreError> {
        let freed = self.last_of(&self.meta.free)?.and_then(|(key, _)| u64_at(&key, 0));
        // The first transaction has nothing to free; every other one frees the page that was the root.
        let is_right = freed.map_or(self.meta.txn <= 1, |freed| freed == self.meta.txn);
        if is_right {
            Ok(())
        } else {
            Err(self.damaged(self.meta.txn & 1, "its number is not that of what it describes"))
        }
    }

    /// Whether there is a list of the pages that this transaction freed.
    pub(super) fn has_freed(&self, txn: u64) -> Result<bool, StoreError> {
        let Some(mut number) = self.meta.free.page else { return Ok(false) };
        for _ in 0..MAX_DEPTH {
            let page = self.page(number)?;
            let mut child = None;
            for index in 0..page.count {
                match page.node(index).ok_or_else(|| self.damaged(number, "it is malformed"))? {
                    // The first key of a branch stands for whatever is less than the second.
                    Node::Child { key, page } if index == 0 || u64_at(key, 0) <= Some(txn) => child = Some(page),
                    Node::Child { .. } => {}
                    Node::Small { key, .. } | Node::Big { key, .. } if u64_at(key, 0) == Some(txn) => return Ok(true),
                    Node::Small { .. } | Node::Big { .. } => {}
                }
            }
            match child {
                Some(child) => number = child,
                None => return Ok(false),
            }
        }
        Err(self.damaged(number, "the tree is too deep"))
    }

    fn last_of(&self, root: &Root) -> Result<Option<KeyValue>, StoreError> {
        let Some(mut number) = root.page else { return Ok(None) };
        for _ in 0..MAX_DEPTH {
            let page = self.page(number)?;
            let last = page.count.checked_sub(1).ok_or_else(|| self.damaged(number, "it is empty"))?;
            let node = page.node(last).ok_or_else(|| self.damaged(number, "it is malformed"))?;
            match (page.kind, node) {
                (Kind::Branch, Node::Child { page, .. }) => number = page,
                (Kind::Leaf, Node::Small { key, value }) => return Ok(Some((key.to_vec(), value.to_vec()))),
                (Kind::Leaf, Node::Big { key, size, page }) => {
                    return Ok(Some((key.to_vec(), self.big_value(page, size)?.0)));
                }
                (Kind::Leaf, Node::Child { .. }) | (Kind::Branch, Node::Small { .. } | Node::Big { .. }) => {
                    return Err(self.damaged(number, "it is malformed"));
                }
            }
        }
        Err(self.damaged(number, "the tree is too deep"))
    }

    fn page(&self, number: u64) -> Result<Page, StoreError> {
        self.check_in_range(number, 1)?;
        let mut bytes = vec![0; self.page_size()];
        self.read(&mut bytes, number, 0)?;
        Page::parse(bytes, number).ok_or_else(|| self.damaged(number, "it is no page of a tree"))
    }

    /// The value that begins on this overflow page, and how many pages it has.
    fn big_value(&self, number: u64, size: usize) -> Result<(Vec<u8>, u64), StoreError> {
        self.check_in_range(number, 1)?;
        let mut header = [0; PAGE_HEADER];
        self.read(&mut header, number, 0)?;
        let is_right = u64_at(&header, 0) == Some(number) && u16_at(&header, 10) == Some(OVERFLOW);
        let pages = u64::from(u32_at(&header, 12).filter(|_| is_right).unwrap_or(0));
        let room = pages.saturating_mul(u64::from(self.meta.page_size)).saturating_sub(PAGE_HEADER as u64);
        if !is_right || size as u64 > room || size > MAX_VALUE {
            return Err(self.damaged(number, "it does not hold the value that it should"));
        }
        self.check_in_range(number, pages)?;
        let mut value = vec![0; size];
        self.read(&mut value, number, PAGE_HEADER as u64)?;
        Ok((value, pages))
    }

    fn check_in_range(&self, first: u64, pages: u64) -> Result<(), StoreError> {
        let last = first.saturating_add(pages).saturating_sub(1);
        if first >= HEADERS && last <= self.meta.last_page {
            Ok(())
        } else {
            Err(self.damaged(first, "it does not exist, but something refers to it"))
        }
    }

    fn read(&self, bytes: &mut [u8], page: u64, offset: u64) -> Result<(), StoreError> {
        // Page numbers are within the file's length, so that this cannot overflow.
        let at = page.saturating_mul(u64::from(self.meta.page_size)).saturating_add(offset);
        self.file.read_exact_at(bytes, at).map_err(|error| StoreError::io(self.path, error))
    }

    fn page_size(&self) -> usize {
        // At most 64 KiB.
        self.meta.page_size as usize
    }

    fn damaged(&self, page: u64, what: &'static str) -> StoreError {
        StoreError::Damaged { path: self.path.to_owned(), page, what }
    }
}

/// How the keys of a tree are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keys {
    Bytes,
    Transactions,
}

impl Keys {
    fn are_valid(self, key: &[u8]) -> bool {
        self == Keys::Bytes || key.len() == 8
    }

    fn ascend(self, a: &[u8], b: &[u8]) -> bool {
        match self {
            Keys::Bytes => a < b,
            Keys::Transactions => u64_at(a, 0) < u64_at(b, 0),
        }
    }
}

/// What a tree turned out to have.
#[derive(Default)]
struct Counts {
    branch_pages: u64,
    leaf_pages: u64,
    overflow_pages: u64,
    entries: u64,
}

/// Where a page stands: under which keys, and how deep.
#[derive(Clone, Copy)]
struct Place<'k> {
    number: u64,
    depth: u16,
    from: Option<&'k [u8]>,
    below: Option<&'k [u8]>,
}

struct Walk<'t, 'f> {
    tree: &'t Tree<'f>,
    met: Vec<u64>,
    pages: Pages,
    counts: Counts,
}

impl<'t, 'f> Walk<'t, 'f> {
    fn new(tree: &'t Tree<'f>) -> Result<Self, StoreError> {
        // The file is as long as that, at most MAX_MAP in pages of 4 KiB: 32 MiB of bits.
        let all = tree.meta.last_page.saturating_add(1);
        let words = usize::try_from(all.div_ceil(64)).map_err(|_| tree.damaged(0, "it has too many pages"))?;
        let pages = Pages { size: tree.meta.page_size, all, free: 0 };
        Ok(Walk { tree, met: vec![0; words], pages, counts: Counts::default() })
    }

    fn tree(&mut self, root: &Root, keys: Keys, visit: &mut Visit<'_>) -> Result<(), StoreError> {
        self.counts = Counts::default();
        if let Some(number) = root.page {
            let depth = root.depth;
            if depth == 0 || depth > MAX_DEPTH {
                return Err(self.tree.damaged(0, "it promises a tree of impossible depth"));
            }
            self.page(keys, Place { number, depth, from: None, below: None }, visit)?;
        }
        let Counts { branch_pages, leaf_pages, overflow_pages, entries } = self.counts;
        let found = Root { branch_pages, leaf_pages, overflow_pages, entries, ..*root };
        let is_empty = root.page.is_none() && root.depth != 0;
        if found != *root || is_empty {
            return Err(self.tree.damaged(self.tree.meta.txn & 1, "it counts other pages and records than there are"));
        }
        Ok(())
    }

    fn page(&mut self, keys: Keys, place: Place<'_>, visit: &mut Visit<'_>) -> Result<(), StoreError> {
        let Place { number, depth, from, below } = place;
        let tree = self.tree;
        let page = tree.page(number)?;
        self.meet(number, 1)?;
        let malformed = |what| tree.damaged(number, what);
        let is_leaf = page.kind == Kind::Leaf;
        if is_leaf != (depth == 1) || page.count == 0 {
            return Err(malformed("it stands at the wrong place of its tree"));
        }
        if is_leaf {
            self.counts.leaf_pages += 1
        } else {
            self.counts.branch_pages += 1
        }
        let mut before = from;
        for index in 0..page.count {
            let node = page.node(index).ok_or_else(|| malformed("it has a malformed entry"))?;
            let (Node::Child { key, .. } | Node::Small { key, .. } | Node::Big { key, .. }) = node;
            // The first key of a branch stands for whatever is less than the second.
            let stands = !is_leaf && index == 0;
            let is_first = index == 0;
            let is_after = |before: &[u8]| keys.ascend(before, key) || (is_first && before == key);
            if !stands {
                let in_order = keys.are_valid(key)
                    && before.is_none_or(is_after)
                    && below.is_none_or(|below| keys.ascend(key, below));
                if !in_order {
                    return Err(malformed("its keys are not in order"));
                }
                before = Some(key);
            }
            match node {
                Node::Child { page: child, .. } => {
                    let next = (index + 1 < page.count).then(|| page.node(index + 1)).flatten();
                    let below = match next {
                        Some(Node::Child { key, .. }) => Some(key),
                        Some(Node::Small { .. } | Node::Big { .. }) | None => below,
                    };
                    self.page(keys, Place { number: child, depth: depth - 1, from: before, below }, visit)?;
                }
                Node::Small { key, value } => self.entry(keys, Record { page: number, key, value }, visit)?,
                Node::Big { key, size, page: first } => {
                    let (value, pages) = tree.big_value(first, size)?;
                    self.meet(first, pages)?;
                    self.counts.overflow_pages += pages;
                    self.entry(keys, Record { page: number, key, value: &value }, visit)?;
                }
            }
        }
        Ok(())
    }

    fn entry(&mut self, keys: Keys, record: Record<'_>, visit: &mut Visit<'_>) -> Result<(), StoreError> {
        self.counts.entries += 1;
        match keys {
            Keys::Bytes => visit(record),
            Keys::Transactions => self.free_list(record.page, record.value),
        }
    }

    /// A list of free pages: how many, then their numbers, descending. What follows is room that was not needed.
    fn free_list(&mut self, number: u64, value: &[u8]) -> Result<(), StoreError> {
        let tree = self.tree;
        let malformed = || tree.damaged(number, "it has a malformed list of free pages");
        let count = u64_at(value, 0).and_then(|count| usize::try_from(count).ok()).ok_or_else(malformed)?;
        if count > (value.len() / 8).saturating_sub(1) {
            return Err(malformed());
        }
        let mut before = u64::MAX;
        for index in 1..=count {
            let page = u64_at(value, 8 * index).filter(|page| *page < before).ok_or_else(malformed)?;
            before = page;
            tree.check_in_range(page, 1)?;
            self.meet(page, 1)?;
            self.pages.free += 1;
        }
        Ok(())
    }

    fn meet(&mut self, first: u64, pages: u64) -> Result<(), StoreError> {
        for number in first..first.saturating_add(pages) {
            let word = usize::try_from(number / 64).ok().and_then(|word| self.met.get_mut(word));
            let bit = 1 << (number % 64);
            match word {
                Some(word) if *word & bit == 0 => *word |= bit,
                Some(_) | None => return Err(self.tree.damaged(number, "it is used twice")),
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Pages, StoreError> {
        self.meet(0, HEADERS)?;
        for number in 0..self.pages.all {
            let word = usize::try_from(number / 64).ok().and_then(|word| self.met.get(word)).copied().unwrap_or(0);
            if word & (1 << (number % 64)) == 0 {
                return Err(self.tree.damaged(number, "it is neither used nor free"));
            }
        }
        Ok(self.pages)
    }
}
