//! What stands in the log and not yet in the pages: of each key the last that was said.

use std::collections::BTreeMap;
use std::collections::btree_map::Iter;
use std::iter::Peekable;

use offset_protocol::persist::Change;

use super::{StoreError, Visitor};

/// Changes, the last of each key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Overlay {
    changes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    bytes: usize,
}

impl Overlay {
    pub(super) fn put(&mut self, changes: Vec<Change>) {
        for Change { key, value } in changes {
            let size = |value: &Option<Vec<u8>>| value.as_ref().map_or(0, Vec::len);
            let (key_size, new) = (key.len(), size(&value));
            let old = self.changes.insert(key, value).map(|old| key_size + size(&old));
            self.bytes = (self.bytes + key_size + new).saturating_sub(old.unwrap_or(0));
        }
    }

    /// How many keys there are.
    pub(super) fn len(&self) -> usize {
        self.changes.len()
    }

    /// Bytes of keys and values.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// All changes, by key.
    pub(super) fn into_changes(self) -> Vec<Change> {
        self.changes.into_iter().map(|(key, value)| Change { key, value }).collect()
    }

    /// Lays it over records that come by key.
    pub(super) fn over(&self) -> Over<'_> {
        Over { changes: self.changes.iter().peekable() }
    }
}

/// An overlay on its way over the records below it.
pub(super) struct Over<'o> {
    changes: Peekable<Iter<'o, Vec<u8>, Option<Vec<u8>>>>,
}

impl Over<'_> {
    /// The next record below. `visit` hears what is above, up to its key, and of itself if nothing is said of it above.
    pub(super) fn record(&mut self, key: &[u8], value: &[u8], visit: &mut Visitor<'_>) -> Result<(), StoreError> {
        while let Some((above, change)) = self.changes.next_if(|(above, _)| above.as_slice() <= key) {
            if let Some(value) = change {
                visit(above, value)?;
            }
            if above == key {
                return Ok(());
            }
        }
        visit(key, value)
    }

    /// No more records below.
    pub(super) fn rest(self, visit: &mut Visitor<'_>) -> Result<(), StoreError> {
        for (key, change) in self.changes {
            if let Some(value) = change {
                visit(key, value)?;
            }
        }
        Ok(())
    }
}
