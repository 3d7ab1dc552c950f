//! The log in front of the pages: one flush a commit, and no more bytes than it says.
//!
//! A file beside the database (`NAME-log`), as long as it will ever be and written with zeros before the database names it: what
//! is written later changes its bytes and nothing else of the file system's, so that a flush is one write. It has two halves.
//! Groups of changes are appended to one; when it is full, the other one goes on while the pages take what it held.
//!
//! | part | guards |
//! |---|---|
//! | `frame` | how it stands in the file |
//! | `recover` | what is read of it again |
//! | here | the file: made, written, looked at |
//!
//! Each log has an id of its own that the database names while it needs it, so that no other log is ever read in its place. Each
//! group begins in a block of its own: no block that was acknowledged is written again before the pages have what it holds.

mod aligned;
pub(super) mod frame;
pub(super) mod recover;

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use offset_protocol::persist::Change;

use super::meta::LogId;
use super::{StoreError, sync_folder};
use aligned::Aligned;
pub(super) use frame::{HEAD, LARGEST_HALF};
use frame::{Layout, SMALLEST_BLOCK};
use recover::Recovered;

/// Bytes of a half: some 1,800 payments' records. Three nodes wrote 22.9 KiB to their disks for a payment with halves of 1 MiB, 13.9
/// with 2 and 10 to 14 with these (12,000 payments, 64 in flight); larger ones cost memory, and time at the start.
pub(super) const HALF: usize = 4 << 20;
/// Bytes that are written at once where the file is made.
const CHUNK: usize = 1 << 20;

/// The log of a database.
pub(super) fn beside(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push("-log");
    name.into()
}

/// A log that is written to.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    /// Which file it is, whatever has its name.
    inode: (u64, u64),
    file: File,
    layout: Layout,
    /// The half that is written to.
    half: usize,
    /// Bytes of it that are used.
    used: usize,
    /// The last group.
    last: u64,
    buffer: Aligned,
}

impl Log {
    /// Makes the log of a database, empty and on the disk. There must be none.
    ///
    /// # Errors
    /// If it cannot be made; there is none then.
    pub(super) fn create(database: &Path, half: usize) -> Result<Log, StoreError> {
        let path = beside(database);
        let failed = |error| StoreError::LogFile { path: path.clone(), error };
        let id = random().map_err(failed)?;
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(failed)?;
        let mut buffer = Aligned::default();
        let made = fill(&path, id, half, &mut buffer).map_err(failed);
        let made = made.and_then(|(file, layout)| {
            sync_folder(&path)?;
            let there = file.metadata().map_err(failed)?;
            Ok(((there.dev(), there.ino()), file, layout))
        });
        match made {
            Ok((inode, file, layout)) => Ok(Log { path, inode, file, layout, half: 0, used: 0, last: 0, buffer }),
            Err(error) => {
                // Nothing refers to it; one that stays is empty, and the next start takes it away.
                let _ = std::fs::remove_file(&path);
                Err(error)
            }
        }
    }

    pub(super) fn id(&self) -> LogId {
        self.layout.id
    }

    /// The number of the last group.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// Whether a group of these changes fits into a half at all.
    pub(super) fn takes(&self, changes: &[Change]) -> bool {
        self.padded(changes) <= self.layout.half
    }

    /// Whether it still fits into this half.
    pub(super) fn has_room(&self, changes: &[Change]) -> bool {
        self.padded(changes) <= self.layout.half - self.used
    }

    /// Appends a group, for which there must be room, and waits until it is on the disk. Returns the bytes that were written.
    ///
    /// # Errors
    /// If it is not, or nobody knows; nothing may be appended after that.
    pub(super) fn append(&mut self, changes: &[Change]) -> Result<u64, StoreError> {
        let length = self.padded(changes);
        let at = (HEAD + self.half * self.layout.half + self.used) as u64;
        let bytes = self.buffer.zeros(length);
        frame::write(self.layout.id, self.last + 1, changes, bytes);
        let written = self.file.write_all_at(bytes, at).and_then(|()| self.file.sync_data());
        written.map_err(|error| StoreError::LogFile { path: self.path.clone(), error })?;
        self.last += 1;
        self.used += length;
        Ok(length as u64)
    }

    /// Counts a group that goes to the pages alone.
    pub(super) fn skip(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Goes on at the beginning of the other half, of which the pages must have everything.
    pub(super) fn turn(&mut self) {
        self.half = 1 - self.half;
        self.used = 0;
    }

    /// Takes the file away. The database must not need it any more. If the name is another file's by now, somebody may need
    /// that: it stays.
    pub(super) fn remove(self) -> Result<(), StoreError> {
        match self.path.symlink_metadata() {
            Ok(there) if (there.dev(), there.ino()) == self.inode => remove(&self.path),
            Ok(_) => {
                tracing::warn!(path = %self.path.display(), "another log has the name of this one, and stays");
                Ok(())
            }
            Err(error) => Err(StoreError::LogFile { path: self.path, error }),
        }
    }

    fn padded(&self, changes: &[Change]) -> usize {
        frame::size(changes).next_multiple_of(self.layout.block)
    }
}

fn random() -> io::Result<LogId> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(LogId(id))
}

/// Writes a new file with a head and zeros. Past the system's cache where that is possible: a write through the cache costs
/// whole pages or more, and one past it costs what it has.
fn fill(path: &Path, id: LogId, half: usize, buffer: &mut Aligned) -> io::Result<(File, Layout)> {
    for block in [SMALLEST_BLOCK, HEAD] {
        let layout = Layout { id, half, block };
        match open_past_cache(path).and_then(|file| fill_with(&file, &layout, block, buffer).map(|()| file)) {
            Ok(file) => return Ok((file, layout)),
            // Not of this disk, or not in blocks of this size. Systems say so in many ways; what is really wrong shows below.
            Err(error) => tracing::debug!(%error, block, "the log is not written past the cache in such blocks"),
        }
    }
    // Through the cache whole pages are written again: two groups never share one.
    let (file, layout) = (OpenOptions::new().write(true).open(path)?, Layout { id, half, block: HEAD });
    fill_with(&file, &layout, HEAD, buffer)?;
    Ok((file, layout))
}

fn fill_with(file: &File, layout: &Layout, block: usize, buffer: &mut Aligned) -> io::Result<()> {
    // The head comes first: what is left of a file that was never finished can be told from a log that somebody needs.
    let head = buffer.zeros(block);
    layout.write(head);
    file.write_all_at(head, 0)?;
    let mut at = block;
    while at < layout.length() {
        let length = CHUNK.min(layout.length() - at);
        file.write_all_at(buffer.zeros(length), at as u64)?;
        at += length;
    }
    file.sync_all()
}

#[cfg(target_os = "linux")]
fn open_past_cache(path: &Path) -> io::Result<File> {
    let flags = i32::try_from(rustix::fs::OFlags::DIRECT.bits()).map_err(|_| io::ErrorKind::InvalidInput)?;
    OpenOptions::new().write(true).custom_flags(flags).open(path)
}

#[cfg(not(target_os = "linux"))]
fn open_past_cache(_: &Path) -> io::Result<File> {
    Err(io::ErrorKind::InvalidInput.into())
}

fn remove(path: &Path) -> Result<(), StoreError> {
    std::fs::remove_file(path).map_err(|error| StoreError::LogFile { path: path.to_owned(), error })
}

// -- looking at one

/// What a database that needs no log has beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beside {
    Nothing,
    /// A log that nobody needs.
    Spent,
}

impl Beside {
    /// Looks what there is; `last` is the log that the database had last.
    ///
    /// # Errors
    /// If there is something that somebody may need.
    pub(super) fn look(database: &Path, last: LogId) -> Result<Beside, StoreError> {
        let path = beside(database);
        let foreign = || StoreError::ForeignLog { path: path.clone() };
        if !path.symlink_metadata().is_ok_and(|there| there.is_file()) {
            return if path.symlink_metadata().is_ok() { Err(foreign()) } else { Ok(Beside::Nothing) };
        }
        let file = contents(&path)?.ok_or_else(foreign)?;
        let is_spent = match Layout::parse(&file) {
            Some(layout) => layout.id == last || !recover::has_groups(&file, &layout),
            // Made, and not finished.
            None => file.iter().all(|byte| *byte == 0),
        };
        if is_spent { Ok(Beside::Spent) } else { Err(foreign()) }
    }

    /// Leaves nothing there.
    pub(super) fn clear(self, database: &Path) -> Result<(), StoreError> {
        match self {
            Beside::Nothing => Ok(()),
            Beside::Spent => remove(&beside(database)),
        }
    }
}

/// Reads what stands in the log `id` of a database after group `applied`: at least what `reaches` names.
///
/// # Errors
/// If it is missing, another one, or damaged.
pub(super) fn read(database: &Path, id: LogId, applied: u64, reaches: u64) -> Result<Recovered, StoreError> {
    let path = beside(database);
    let lost = |why| StoreError::LogLost { path: database.to_owned(), log: path.clone(), why };
    let damaged = |what| StoreError::LogDamaged { path: path.clone(), what };
    let file = match contents(&path) {
        Ok(file) => file.ok_or_else(|| damaged("it is larger than any log"))?,
        Err(StoreError::LogFile { error, .. }) if error.kind() == io::ErrorKind::NotFound => {
            return Err(lost("is missing"));
        }
        Err(error) => return Err(error),
    };
    let layout = Layout::parse(&file).ok_or_else(|| damaged("it has no head"))?;
    if layout.id != id {
        return Err(lost("is another database's, or of another time"));
    }
    let recovered = recover::recover(&file, &layout, applied).map_err(damaged)?;
    if applied.saturating_add(recovered.groups) < reaches {
        return Err(damaged("it ends before what the pages have of it: it is older than they are, or its end is gone"));
    }
    Ok(recovered)
}

/// All bytes of a file; `None` if there are more than a log has.
fn contents(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    let failed = |error| StoreError::LogFile { path: path.to_owned(), error };
    let mut file = File::open(path).map_err(failed)?;
    let most = (HEAD + 2 * LARGEST_HALF) as u64;
    let mut bytes = Vec::new();
    file.by_ref().take(most + 1).read_to_end(&mut bytes).map_err(failed)?;
    Ok((bytes.len() as u64 <= most).then_some(bytes))
}
