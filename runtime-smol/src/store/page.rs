//! One page of a tree: nothing on it reaches beyond it or over something else.

use super::header::{PAGE_HEADER, u16_at, u64_at};

const BRANCH: u16 = 0x01;
const LEAF: u16 = 0x02;
const NODE_HEADER: usize = 8;
/// The value lies on overflow pages.
const BIG: u16 = 0x01;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Branch,
    Leaf,
}

/// A page of a tree, whose entries fill it.
pub(super) struct Page {
    bytes: Vec<u8>,
    pub(super) kind: Kind,
    pub(super) count: usize,
    upper: usize,
}

/// One entry of a page.
pub(super) enum Node<'p> {
    Child { key: &'p [u8], page: u64 },
    Small { key: &'p [u8], value: &'p [u8] },
    Big { key: &'p [u8], size: usize, page: u64 },
}

impl Node<'_> {
    /// Bytes that it takes on its page: even, so that the next one begins at an even place.
    fn size(&self) -> usize {
        let content = match self {
            Node::Child { key, .. } => key.len(),
            Node::Small { key, value } => key.len() + value.len(),
            Node::Big { key, .. } => key.len() + size_of::<u64>(),
        };
        (NODE_HEADER + content).next_multiple_of(2)
    }
}

impl Page {
    pub(super) fn parse(bytes: Vec<u8>, number: u64) -> Option<Page> {
        let kind = match u16_at(&bytes, 10)? {
            BRANCH => Kind::Branch,
            LEAF => Kind::Leaf,
            _ => return None,
        };
        let lower = usize::from(u16_at(&bytes, 12)?);
        // A page of 64 KiB that is full of nothing has its upper bound beyond 16 bits: LMDB does not support that either.
        let upper = usize::from(u16_at(&bytes, 14)?);
        let count = lower.checked_sub(PAGE_HEADER)? / 2;
        let is_right =
            u64_at(&bytes, 0)? == number && lower <= upper && upper <= bytes.len() && lower.is_multiple_of(2);
        let page = is_right.then_some(Page { bytes, kind, count, upper })?;
        page.is_packed()?.then_some(page)
    }

    /// Whether the entries, by their places, fill all from the upper bound to the end. LMDB moves them together when one goes or
    /// changes its size, and trusts that they are: it computes from their sizes what to move, and where to.
    fn is_packed(&self) -> Option<bool> {
        let mut entries = Vec::with_capacity(self.count);
        for index in 0..self.count {
            let at = usize::from(u16_at(&self.bytes, PAGE_HEADER + 2 * index)?);
            entries.push((at, self.node(index)?.size()));
        }
        entries.sort_unstable();
        let mut free = self.upper;
        for (at, size) in entries {
            if at != free {
                return Some(false);
            }
            free = at.checked_add(size)?;
        }
        Some(free == self.bytes.len())
    }

    pub(super) fn node(&self, index: usize) -> Option<Node<'_>> {
        let at = usize::from(u16_at(&self.bytes, PAGE_HEADER + 2 * index)?);
        if at < self.upper || !at.is_multiple_of(2) {
            return None;
        }
        let [low, high, flags, key_size] = [0, 2, 4, 6].map(|field| u16_at(&self.bytes, at + field));
        let (low, high, flags, key_size) = (low?, high?, flags?, usize::from(key_size?));
        let key_at = at + NODE_HEADER;
        let key = self.bytes.get(key_at..key_at + key_size)?;
        let small = u64::from(low) | u64::from(high) << 16;
        if self.kind == Kind::Branch {
            return Some(Node::Child { key, page: small | u64::from(flags) << 32 });
        }
        let size = usize::try_from(small).ok()?;
        let value_at = key_at + key_size;
        match flags {
            0 => Some(Node::Small { key, value: self.bytes.get(value_at..value_at.checked_add(size)?)? }),
            BIG => Some(Node::Big { key, size, page: u64_at(&self.bytes, value_at)? }),
            _ => None,
        }
    }
}
