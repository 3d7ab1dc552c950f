//! One file that survives a crash: the node's records, in LMDB, committed on a thread of their own.
//!
//! A commit is on the disk when it returns: LMDB flushes the data pages, then writes the meta page through to the disk. So
//! one commit is two flushes, whatever it holds; the machine has one revision in flight and gathers the next one meanwhile,
//! which makes a busy node's commits large and its flushes per payment few.
//!
//! | part | guards |
//! |---|---|
//! | `header`, `tree` | nothing is believed that the file says: every page is looked at before LMDB maps it |
//! | `meta` | every record has a checksum; whose database it is, and of which schema |
//! | `engine` | one writer, commits whole and in order, room |
//! | `source` | a second process reads a state that stands still, also while a node writes |
//! | `copy` | a copy is whole, or not there |
//!
//! The file's own lock says who writes: one process, and any other is refused. LMDB's lock file beside it (`…-lock`) says who
//! reads what; it means nothing once no process has the database open.
//!
//! | error | what to do |
//! |---|---|
//! | [`StoreError::InUse`] | another process has the database; wait or end it |
//! | [`StoreError::WrongNode`], [`StoreError::WrongSchema`], [`StoreError::NotADatabase`] | the wrong file, or the wrong program; nothing was changed |
//! | [`StoreError::CutShort`], [`StoreError::Damaged`], [`StoreError::BadChecksum`] | the disk did not keep what was written: restore a backup; nothing was changed |
//! | [`StoreError::Io`], [`StoreError::Lmdb`], [`StoreError::Full`] | at a commit: stop the node, say nothing more; what was durable before still is |

mod copy;
mod engine;
mod header;
mod meta;
mod source;
#[cfg(test)]
mod tests;
mod tree;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use fs4::FileExt;
use offset_protocol::bytes::PublicKey;
use offset_protocol::persist::Change;

pub use copy::copy;
use engine::{Done, First, Prepared, Request};
use header::BadHeader;
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

/// What can be wrong with a database; each names its file.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is something at this path already.
    #[error("{path} exists already and is not overwritten", path = path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// Another process, or another store of this one, has it open.
    #[error("the database {path} is in use by another process", path = path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The file is something else.
    #[error("{path} is not a node database", path = path.display())]
    NotADatabase {
        /// The file.
        path: PathBuf,
    },
    /// The file is shorter than its own header says.
    #[error("the database {path} is damaged: it has {has} bytes and should have {needs}", path = path.display())]
    CutShort {
        /// The file.
        path: PathBuf,
        /// Its length.
        has: u64,
        /// The length that it should have.
        needs: u64,
    },
    /// A page is not what it should be.
    #[error("the database {path} is damaged at page {page}: {what}", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The page.
        page: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A record is not what was written.
    #[error("the database {path} is damaged at page {page}: a record does not match its checksum", path = path.display())]
    BadChecksum {
        /// The file.
        path: PathBuf,
        /// Where the record stands.
        page: u64,
    },
    /// It belongs to a different node.
    #[error("the database {path} belongs to the node {owner}, not to {node}", path = path.display())]
    WrongNode {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        owner: PublicKey,
        /// Whose it should be.
        node: PublicKey,
    },
    /// It was written by a program with another idea of its records.
    #[error(
        "the database {path} has schema {found}, and this program knows schemas up to {expected}: a newer program wrote it, use that one",
        path = path.display()
    )]
    WrongSchema {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: u32,
        /// This program's schema.
        expected: u32,
    },
    /// The operating system refused.
    #[error("cannot use the database {path}: {error}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// LMDB refused.
    #[error("the database {path} fails: {why}", path = path.display())]
    Lmdb {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// It would grow beyond the largest size.
    #[error("the database {path} is full: it may have {limit} bytes", path = path.display())]
    Full {
        /// The file.
        path: PathBuf,
        /// The largest size.
        limit: u64,
    },
    /// A machine gave a key that the store does not take: a bug of ours.
    #[error("a record's key for the database {path} has {size} bytes, not 1 to 200", path = path.display())]
    BadKey {
        /// The file.
        path: PathBuf,
        /// The key's size.
        size: usize,
    },
    /// A machine gave a value that the store does not take: a bug of ours.
    #[error("a record's value for the database {path} has {size} bytes, too many", path = path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The value's size.
        size: usize,
    },
    /// An earlier commit failed.
    #[error("the database {path} failed before; restart the node", path = path.display())]
    FailedBefore {
        /// The file.
        path: PathBuf,
    },
    /// The storage thread is gone: a bug of ours.
    #[error("the storage thread of {path} has ended", path = path.display())]
    Gone {
        /// The file.
        path: PathBuf,
    },
}

impl StoreError {
    fn io(path: &Path, error: io::Error) -> Self {
        StoreError::Io { path: path.to_owned(), error }
    }

    fn full(path: &Path, limit: u64) -> Self {
        StoreError::Full { path: path.to_owned(), limit }
    }

    fn lmdb(path: &Path, error: &heed::Error) -> Self {
        StoreError::Lmdb { path: path.to_owned(), why: error.to_string() }
    }

    fn header(path: &Path, bad: BadHeader) -> Self {
        let path = path.to_owned();
        match bad {
            BadHeader::Io(error) => StoreError::Io { path, error },
            BadHeader::NotADatabase => StoreError::NotADatabase { path },
            BadHeader::CutShort { has, needs } => StoreError::CutShort { path, has, needs },
            BadHeader::Damaged { page, what } => StoreError::Damaged { path, page, what },
        }
    }

    /// The file that it is about.
    pub fn path(&self) -> &Path {
        match self {
            StoreError::Exists { path }
            | StoreError::InUse { path }
            | StoreError::NotADatabase { path }
            | StoreError::CutShort { path, .. }
            | StoreError::Damaged { path, .. }
            | StoreError::BadChecksum { path, .. }
            | StoreError::WrongNode { path, .. }
            | StoreError::WrongSchema { path, .. }
            | StoreError::Io { path, .. }
            | StoreError::Lmdb { path, .. }
            | StoreError::Full { path, .. }
            | StoreError::BadKey { path, .. }
            | StoreError::TooLarge { path, .. }
            | StoreError::FailedBefore { path }
            | StoreError::Gone { path } => path,
        }
    }

    /// The same about the file that it will become. Only what a new file can suffer has another name.
    fn renamed(self, to: &Path) -> Self {
        let path = to.to_owned();
        match self {
            StoreError::Io { error, .. } => StoreError::Io { path, error },
            StoreError::Lmdb { why, .. } => StoreError::Lmdb { path, why },
            StoreError::Full { limit, .. } => StoreError::Full { path, limit },
            StoreError::FailedBefore { .. } => StoreError::FailedBefore { path },
            other => other,
        }
    }
}

/// Who else may look at a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Locking {
    /// Other processes may read.
    Shared,
    /// Nobody knows of the file yet.
    Alone,
}

/// An open database. Dropping it waits until the commits under way are done.
///
/// * Doors: [`Store::create`], [`Store::open`], which reads all there is.
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
    /// Makes a new, empty database that belongs to `node`, readable by its owner only.
    ///
    /// # Errors
    /// [`StoreError::Exists`] if there is a file already, which is left as it is.
    pub fn create(path: &Path, node: PublicKey) -> Result<Store, StoreError> {
        Store::create_with_limit(path, node, MAX_MAP)
    }

    pub(crate) fn create_with_limit(path: &Path, node: PublicKey, limit: u64) -> Result<Store, StoreError> {
        let file =
            OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path).map_err(|error| {
                match error.kind() {
                    io::ErrorKind::AlreadyExists => StoreError::Exists { path: path.to_owned() },
                    _ => StoreError::io(path, error),
                }
            })?;
        let store = Store::start_new(path, file, limit, node, Locking::Shared)
            .and_then(|store| sync_folder(path).map(|()| store));
        if store.is_err() {
            // It is ours: it did not exist a moment ago. A half-made database would only be in the way.
            let _ = std::fs::remove_file(path);
            let _ = std::fs::remove_file(source::lock_file(path));
        }
        store
    }

    /// Makes a database of a file that is empty.
    fn start_new(path: &Path, file: File, limit: u64, node: PublicKey, locking: Locking) -> Result<Store, StoreError> {
        lock(&file, path)?;
        let counters = Arc::default();
        let prepared = Prepared { path: path.to_owned(), file, map_size: engine::FIRST_MAP, limit, locking, counters };
        Store::start(prepared, First::Owner(node))
    }

    /// Opens the database of `node` and reads all its records, sorted by key. One of an older schema is of the newest then.
    ///
    /// # Errors
    /// If it is missing, in use, damaged anywhere, somebody else's, or of a newer schema.
    pub fn open(path: &Path, node: PublicKey) -> Result<(Store, Records), StoreError> {
        Store::open_with_limit(path, node, MAX_MAP)
    }

    fn open_with_limit(path: &Path, node: PublicKey, limit: u64) -> Result<(Store, Records), StoreError> {
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(|error| StoreError::io(path, error))?;
        if !file.metadata().map_err(|error| StoreError::io(path, error))?.is_file() {
            return Err(StoreError::NotADatabase { path: path.to_owned() });
        }
        lock(&file, path)?;
        let meta = source::settled(path, &file)?;
        let tree = Tree { path, file: &file, meta };
        let found = source::identify(&tree)?;
        if found.owner != node {
            return Err(StoreError::WrongNode { path: path.to_owned(), owner: found.owner, node });
        }
        let records = source::read_all(&tree, found.schema)?;
        let first = if found.schema == SCHEMA {
            First::Nothing
        } else {
            tracing::info!(path = %path.display(), from = found.schema, to = SCHEMA, "the database is brought to a newer schema");
            First::Upgrade(node, records.clone())
        };
        let (map_size, counters) = (meta.map_size, Arc::default());
        let prepared = Prepared { path: path.to_owned(), file, map_size, limit, locking: Locking::Shared, counters };
        Ok((Store::start(prepared, first)?, records))
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

fn lock(file: &File, path: &Path) -> Result<(), StoreError> {
    FileExt::try_lock(file).map_err(|error| match error {
        fs4::TryLockError::WouldBlock => StoreError::InUse { path: path.to_owned() },
        fs4::TryLockError::Error(error) => StoreError::io(path, error),
    })
}

/// Makes the new file's name durable.
fn sync_folder(path: &Path) -> Result<(), StoreError> {
    File::open(folder(path)).and_then(|folder| folder.sync_all()).map_err(|error| StoreError::io(path, error))
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
