//! One file that survives a crash: the node's records, in LMDB, committed on a thread of their own.
//!
//! A commit is on the disk when it returns: LMDB flushes the data pages, then writes the meta page through to the disk. So
//! one commit is two flushes, whatever it holds; the machine has one revision in flight and gathers the next one meanwhile,
//! which makes a busy node's commits large and its flushes per payment few.
//!
//! | part | guards |
//! |---|---|
//! | `header`, `page`, `tree` | nothing is believed that the file says: every page is looked at before LMDB maps it |
//! | `meta` | every record has a checksum; whose database it is, and of which schema |
//! | `engine` | one writer, commits whole and in order, room |
//! | `source` | a second process reads a state that stands still, also while a node writes |
//! | `copy` | a new database, a copy too, is whole, or not there |
//!
//! The file's own lock says who writes: one process, and any other is refused. LMDB's lock file beside it (`…-lock`) says who
//! reads what; it means nothing once no process has the database open. Only a node makes one, so that it is the node's user's.
//!
//! | error | what to do |
//! |---|---|
//! | [`StoreError::InUse`] | another process has the database; wait or end it |
//! | [`StoreError::WrongNode`], [`StoreError::WrongSchema`], [`StoreError::NotADatabase`] | the wrong file, or the wrong program; nothing was changed |
//! | [`StoreError::LockFile`] | another user made it: remove it while no node runs; nothing was changed |
//! | [`StoreError::SeveralNames`], [`StoreError::NotKept`] | one name, one lock file, beside each other, writable; then again |
//! | [`StoreError::CutShort`], [`StoreError::Damaged`], [`StoreError::BadChecksum`] | the disk did not keep what was written: restore a backup; nothing was changed |
//! | [`StoreError::Io`], [`StoreError::Lmdb`], [`StoreError::Full`] | at a commit: stop the node, say nothing more; what was durable before still is |

mod copy;
mod engine;
mod error;
mod header;
mod locked;
mod meta;
mod page;
mod source;
#[cfg(test)]
mod tests;
mod tree;

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use offset_protocol::bytes::PublicKey;
use offset_protocol::persist::Change;

pub use copy::{copy, create};
use engine::{Done, First, Prepared, Request};
pub use error::StoreError;
use locked::Locked;
pub use meta::SCHEMA;
pub use source::{Content, Source};
pub use tree::Pages;
use tree::Tree;

/// A record: its key and its value.
pub type KeyValue = (Vec<u8>, Vec<u8>);

/// All records of a database, by key.
pub type Records = Vec<KeyValue>;

/// Hears of the key and value of every record; what it says ends the reading.
pub type Visitor<'v> = dyn FnMut(&[u8], &[u8]) -> Result<(), StoreError> + 'v;

/// The largest database. Chosen freely: far above ten years of a busy node, far below the address space.
const MAX_MAP: u64 = 1 << 40;
/// Requests that wait for the storage thread. The machine has one revision in flight, so that two are already plenty.
const MAX_WAITING: usize = 16;

/// What storage has cost since the store was opened. Read at any time.
#[derive(Debug, Default)]
pub struct StoreCounters {
    /// Commits done.
    pub commits: AtomicU64,
    /// Flushes to the disk that these commits made, [`StoreCounters::FLUSHES_PER_COMMIT`] each.
    pub flushes: AtomicU64,
    /// Records written or removed.
    pub records: AtomicU64,
    /// Bytes of keys and values given to commits. LMDB writes whole pages, 4 KiB each: see `used_bytes` for what stays.
    pub bytes: AtomicU64,
    /// Bytes of the pages in use, the size of the database.
    pub used_bytes: AtomicU64,
}

impl StoreCounters {
    /// LMDB without NOSYNC: one `fdatasync` for the data pages, one `O_DSYNC` write of the meta page.
    pub const FLUSHES_PER_COMMIT: u64 = 2;
}

/// Who else may look at a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Locking {
    /// Other processes may read.
    Shared,
    /// Nobody knows of the file yet.
    Alone,
}

/// A database that is locked and was read, and that nothing has changed yet. Dropping it lets go of it.
#[derive(Debug)]
pub struct FoundStore {
    prepared: Prepared,
    first: First,
    schema: u32,
}

impl FoundStore {
    /// Opens it for writing, now that its records have been understood. One of an older schema is brought to the newest: from
    /// then on its checksums vouch for what it holds, and older programs refuse it.
    ///
    /// # Errors
    /// If LMDB cannot open it, or an older schema cannot be written anew; it is then as it was.
    pub fn open(self) -> Result<Store, StoreError> {
        if self.schema != SCHEMA {
            tracing::info!(path = %self.prepared.path.display(), from = self.schema, to = SCHEMA, "the database is brought to a newer schema");
        }
        Store::start(self.prepared, self.first)
    }
}

/// An open database. Dropping it waits until the commits under way are done.
///
/// * Doors: [`Store::create`]; [`Store::open`], which reads all there is; [`Store::find`], which changes nothing before the
///   records are understood.
/// * Writing: [`Store::commit`] waits; [`Store::commit_then`] does not.
/// * Cost: [`Store::counters`].
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    requests: Option<SyncSender<Request>>,
    thread: Option<JoinHandle<()>>,
    counters: Arc<StoreCounters>,
}

impl Store {
    /// Makes a new, empty database that belongs to `node` ([`create`]), and opens it.
    ///
    /// # Errors
    /// [`StoreError::Exists`] if there is something already, which is left as it is.
    pub fn create(path: &Path, node: PublicKey) -> Result<Store, StoreError> {
        Store::create_with_limit(path, node, MAX_MAP)
    }

    pub(crate) fn create_with_limit(path: &Path, node: PublicKey, limit: u64) -> Result<Store, StoreError> {
        create(path, node)?;
        Ok(Store::open_with_limit(path, node, limit)?.0)
    }

    /// Makes a database of a file that is empty and that nobody knows of.
    fn start_new(path: &Path, file: File, node: PublicKey) -> Result<Store, StoreError> {
        let file = Locked::alone(file, path)?;
        let (map_size, limit, counters) = (engine::FIRST_MAP, MAX_MAP, Arc::default());
        let prepared = Prepared { path: path.to_owned(), file, map_size, limit, locking: Locking::Alone, counters };
        Store::start(prepared, First::Owner(node))
    }

    /// Opens the database of `node` and reads all its records, sorted by key. One of an older schema is of the newest then: where
    /// the records are understood at all, [`Store::find`] lets that be done first.
    ///
    /// # Errors
    /// If it is missing, in use, damaged anywhere, somebody else's, or of a newer schema.
    pub fn open(path: &Path, node: PublicKey) -> Result<(Store, Records), StoreError> {
        Store::open_with_limit(path, node, MAX_MAP)
    }

    fn open_with_limit(path: &Path, node: PublicKey, limit: u64) -> Result<(Store, Records), StoreError> {
        let (found, records) = Store::find_with_limit(path, node, limit)?;
        Ok((found.open()?, records))
    }

    /// Locks the database of `node` and reads all its records, sorted by key. Nothing is changed.
    ///
    /// # Errors
    /// Those of [`Store::open`].
    pub fn find(path: &Path, node: PublicKey) -> Result<(FoundStore, Records), StoreError> {
        Store::find_with_limit(path, node, MAX_MAP)
    }

    fn find_with_limit(path: &Path, node: PublicKey, limit: u64) -> Result<(FoundStore, Records), StoreError> {
        let path = &source::real(path)?;
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(|error| StoreError::io(path, error))?;
        if !file.metadata().map_err(|error| StoreError::io(path, error))?.is_file() {
            return Err(StoreError::NotADatabase { path: path.to_owned() });
        }
        source::refuse_names(path, &file)?;
        let file = Locked::alone(file, path)?;
        let meta = source::settled(path, &file)?;
        let tree = Tree { path, file: &file, meta };
        let found = source::identify(&tree)?;
        if found.owner != node {
            return Err(StoreError::WrongNode { path: path.to_owned(), owner: found.owner, node });
        }
        let records = source::read_all(&tree, found.schema)?;
        let first = if found.schema == SCHEMA { First::Nothing } else { First::Upgrade(node, records.clone()) };
        let (map_size, counters) = (meta.map_size, Arc::default());
        let prepared = Prepared { path: path.to_owned(), file, map_size, limit, locking: Locking::Shared, counters };
        Ok((FoundStore { prepared, first, schema: found.schema }, records))
    }

    fn start(prepared: Prepared, first: First) -> Result<Store, StoreError> {
        let (path, counters) = (prepared.path.clone(), prepared.counters.clone());
        let (requests, inbox) = sync_channel(MAX_WAITING);
        let (ready, opened) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("store".into())
            .spawn(move || engine::run(prepared, first, &ready, &inbox))
            .map_err(|error| StoreError::io(&path, error))?;
        let mut store = Store { path, requests: Some(requests), thread: Some(thread), counters };
        match opened.recv().unwrap_or_else(|_| Err(store.gone())) {
            Ok(()) => Ok(store),
            Err(error) => {
                store.end();
                Err(error)
            }
        }
    }

    /// Writes all `changes`, or none, and waits until they are on the disk.
    ///
    /// # Errors
    /// If they are not; the store then takes no more commits.
    pub fn commit(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        let (answer, done) = sync_channel(1);
        // Nobody waits for the answer only if this thread is gone.
        self.commit_then(changes, move |result| drop(answer.send(result)))?;
        done.recv().unwrap_or_else(|_| Err(self.gone()))
    }

    /// Like [`Store::commit`], without waiting: `done` hears of the end, on the storage thread.
    ///
    /// # Errors
    /// If the storage thread is gone; `done` is then never called.
    pub fn commit_then(
        &self,
        changes: Vec<Change>,
        done: impl FnOnce(Result<(), StoreError>) + Send + 'static,
    ) -> Result<(), StoreError> {
        let done: Done = Box::new(done);
        self.ask(Request { changes, done })
    }

    /// What storage has cost so far.
    pub fn counters(&self) -> Arc<StoreCounters> {
        self.counters.clone()
    }

    fn ask(&self, request: Request) -> Result<(), StoreError> {
        let requests = self.requests.as_ref().ok_or_else(|| self.gone())?;
        requests.send(request).map_err(|_| self.gone())
    }

    fn gone(&self) -> StoreError {
        StoreError::Gone { path: self.path.clone() }
    }

    fn end(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!(path = %self.path.display(), "the storage thread panicked");
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.end();
    }
}

/// Makes the new file's name durable.
fn sync_folder(path: &Path) -> Result<(), StoreError> {
    File::open(folder(path)).and_then(|folder| folder.sync_all()).map_err(|error| StoreError::io(path, error))
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
