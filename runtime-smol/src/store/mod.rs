//! A database that survives a crash: the node's records in LMDB's pages, and in front of them a log.
//!
//! A commit is on the disk when it returns: appended to the log, with one flush. When half of the log is full, the pages take what
//! it holds, on a thread of their own and in some transactions (two flushes each: LMDB flushes the data pages, then writes the meta page
//! through to the disk), while the other half is written to. The machine has one revision in flight and gathers the next one
//! meanwhile, which makes a busy node's commits large and its flushes per payment few. When nobody has it open, a database is
//! one file: the pages have everything, and the log is gone.
//!
//! | part | guards |
//! |---|---|
//! | `header`, `page`, `tree` | nothing is believed that the file says: every page is looked at before LMDB maps it |
//! | `meta` | every record has a checksum; whose database it is, of which schema, and what it has to do with a log |
//! | `log`, `overlay` | commits whole and in order, also those that the pages do not have yet |
//! | `front`, `engine` | two threads, one writer each: of the log, and of the pages; what fails ends everything; room |
//! | `source` | a second process reads a state that stands still, also while a node writes |
//! | `copy` | a new database, a copy too, is whole, or not there |
//!
//! The file's own lock says who writes: one process, and any other is refused; it is for the log, too. LMDB's lock file beside it
//! (`…-lock`) says who reads what; it means nothing once no process has the database open. Only a node makes one, so that it is
//! the node's user's; and only a node makes a log (`…-log`).
//!
//! | error | what to do |
//! |---|---|
//! | [`StoreError::InUse`] | another process has the database; wait or end it |
//! | [`StoreError::WrongNode`], [`StoreError::WrongSchema`], [`StoreError::NotADatabase`] | the wrong file, or the wrong program; nothing was changed |
//! | [`StoreError::LockFile`] | another user made it: remove it while no node runs; nothing was changed |
//! | [`StoreError::SeveralNames`], [`StoreError::NotKept`] | one name, one lock file, beside each other, writable; then again |
//! | [`StoreError::CutShort`], [`StoreError::Damaged`], [`StoreError::BadChecksum`], [`StoreError::LogDamaged`] | the disk did not keep what was written: restore a backup; nothing was changed |
//! | [`StoreError::LogLost`], [`StoreError::LogNeeded`], [`StoreError::ForeignLog`] | the database of a node that was killed was moved without its log, or another one to its place; nothing was changed |
//! | [`StoreError::Io`], [`StoreError::LogFile`], [`StoreError::Lmdb`], [`StoreError::Full`] | at a commit: stop the node, say nothing more; what was durable before still is |

mod copy;
mod engine;
mod error;
mod front;
mod header;
mod link;
mod locked;
mod log;
mod meta;
mod overlay;
mod page;
mod source;
#[cfg(test)]
mod tests;
mod tree;

use std::fs::{File, OpenOptions};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use offset_protocol::bytes::PublicKey;
use offset_protocol::persist::Change;

pub use copy::{Nameless, copy, create};
use engine::{First, Prepared};
pub use error::StoreError;
use front::Front;
use link::{Link, Mark, Request};
use locked::Locked;
use log::recover::Recovered;
use log::{Beside, Log};
use meta::LogState;
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
/// Changes that the pages take from the log in one transaction. Chosen freely: some ten of them for a half.
const PART: usize = 512;

/// How much room a database takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// Bytes of its file at most.
    pub(crate) largest: u64,
    /// Bytes of each half of its log, a multiple of 4 KiB.
    pub(crate) half: usize,
    /// Changes that the pages take from the log in one transaction.
    pub(crate) part: usize,
}

impl Default for Room {
    fn default() -> Self {
        Room { largest: MAX_MAP, half: log::HALF, part: PART }
    }
}

/// What storage has cost since the store was opened. Read at any time.
#[derive(Debug, Default)]
pub struct StoreCounters {
    /// Commits done.
    pub commits: AtomicU64,
    /// How often the pages took what stood in the log, or what was too large for it.
    pub page_commits: AtomicU64,
    /// Flushes to the disk: [`StoreCounters::FLUSHES_PER_GROUP`] for what went into the log,
    /// [`StoreCounters::FLUSHES_PER_PAGE_COMMIT`] for each commit of the pages.
    pub flushes: AtomicU64,
    /// Records written or removed by commits.
    pub records: AtomicU64,
    /// Bytes written to the log, and of keys and values given to the pages, of which these write whole ones of 4 KiB.
    pub bytes: AtomicU64,
    /// Bytes of the pages in use.
    pub used_bytes: AtomicU64,
    /// Bytes of keys and values that stand in the half of the log that is written to, and not in the pages.
    pub waiting_bytes: AtomicU64,
}

impl StoreCounters {
    /// One `fdatasync` of a file whose length and blocks do not change.
    pub const FLUSHES_PER_GROUP: u64 = 1;
    /// LMDB without NOSYNC: one `fdatasync` for the data pages, one `O_DSYNC` write of the meta page.
    pub const FLUSHES_PER_PAGE_COMMIT: u64 = 2;

    /// Bytes that the database has, wherever they stand.
    pub fn database_bytes(&self) -> u64 {
        self.used_bytes.load(Relaxed) + self.waiting_bytes.load(Relaxed)
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

/// A database that is locked and was read, and that nothing has changed yet. Dropping it lets go of it.
#[derive(Debug)]
pub struct FoundStore {
    prepared: Prepared,
    first: Option<First>,
    beside: Beside,
    schema: u32,
    half: usize,
}

impl FoundStore {
    /// Bytes of the log if nothing else is said.
    pub const DEFAULT_LOG: u64 = 2 * log::HALF as u64;
    /// The fewest. Chosen freely: below that the pages take what a few payments wrote.
    pub const SMALLEST_LOG: u64 = 64 << 10;
    /// The most.
    pub const LARGEST_LOG: u64 = 2 * log::LARGEST_HALF as u64;

    /// Gives it a log of `bytes`, or a little less.
    pub fn with_log(mut self, bytes: u64) -> FoundStore {
        let half = bytes.clamp(FoundStore::SMALLEST_LOG, FoundStore::LARGEST_LOG) / 2;
        self.half = usize::try_from(half).unwrap_or(log::HALF) / log::HEAD * log::HEAD;
        self
    }

    /// Opens it for writing, now that its records have been understood. One of an older schema is brought to the newest: from
    /// then on its checksums vouch for what it holds, and older programs refuse it.
    ///
    /// # Errors
    /// If LMDB cannot open it, an older schema cannot be written anew (it is then as it was), the pages cannot take what a node
    /// that was killed left in its log (it is there still), or no log can be made.
    pub fn open(self) -> Result<Store, StoreError> {
        let FoundStore { prepared, first, beside, schema, half } = self;
        let (path, counters, lock) = (prepared.path.clone(), prepared.counters.clone(), prepared.file.clone());
        if schema != SCHEMA {
            tracing::info!(path = %path.display(), from = schema, to = SCHEMA, "the database is brought to a newer schema");
        }
        let pages = start_pages(prepared, first)?;
        beside.clear(&path)?;
        let log = Log::create(&path, half)?;
        // From here on the database needs the log.
        let state = LogState::at(log.id(), log.last());
        pages.commit(Vec::new(), Mark::AtOnce(state))?.wait()?;
        let front = Front { path: path.clone(), pages, log, counters: counters.clone(), lock };
        let link = Link::start(&path, "store", move |ready, inbox| {
            // Whoever starts it waits for that.
            match ready.send(Ok(())) {
                Ok(()) => front::run(front, inbox),
                Err(_) => Ok(()),
            }
        })?;
        Ok(Store { link, counters })
    }
}

/// An open database. Dropping it waits until the commits under way are done, and the pages have everything.
///
/// * Doors: [`Store::create`]; [`Store::open`], which reads all there is; [`Store::find`], which changes nothing before the
///   records are understood.
/// * Writing: [`Store::commit`] waits; [`Store::commit_then`] does not.
/// * The end: [`Store::close`] says whether it was in order.
/// * Cost: [`Store::counters`].
#[derive(Debug)]
pub struct Store {
    link: Link,
    counters: Arc<StoreCounters>,
}

impl Store {
    /// Makes a new, empty database that belongs to `node` ([`create`]), and opens it.
    ///
    /// # Errors
    /// [`StoreError::Exists`] if there is something already, which is left as it is.
    pub fn create(path: &Path, node: PublicKey) -> Result<Store, StoreError> {
        Store::create_with(path, node, Room::default())
    }

    pub(crate) fn create_with(path: &Path, node: PublicKey, room: Room) -> Result<Store, StoreError> {
        create(path, node)?;
        Ok(Store::open_with(path, node, room)?.0)
    }

    /// The pages of a file that is empty and that nobody knows of, as a new database.
    fn start_new(path: &Path, file: File, node: PublicKey) -> Result<Link, StoreError> {
        let file = Arc::new(Locked::alone(file, path)?);
        let (map_size, limit, counters) = (engine::FIRST_MAP, MAX_MAP, Arc::default());
        let (part, locking) = (PART, Locking::Alone);
        let prepared = Prepared { path: path.to_owned(), file, node, map_size, limit, part, locking, counters };
        let first = First { changes: Vec::new(), log: LogState::NONE, between: None };
        start_pages(prepared, Some(first))
    }

    /// Opens the database of `node` and reads all its records, sorted by key. One of an older schema is of the newest then: where
    /// the records are understood at all, [`Store::find`] lets that be done first.
    ///
    /// # Errors
    /// If it is missing, in use, damaged anywhere, somebody else's, of a newer schema, or not beside its log.
    pub fn open(path: &Path, node: PublicKey) -> Result<(Store, Records), StoreError> {
        Store::open_with(path, node, Room::default())
    }

    fn open_with(path: &Path, node: PublicKey, room: Room) -> Result<(Store, Records), StoreError> {
        let (found, records) = Store::find_with(path, node, room)?;
        Ok((found.open()?, records))
    }

    /// Locks the database of `node` and reads all its records, sorted by key. Nothing is changed.
    ///
    /// # Errors
    /// Those of [`Store::open`].
    pub fn find(path: &Path, node: PublicKey) -> Result<(FoundStore, Records), StoreError> {
        Store::find_with(path, node, Room::default())
    }

    fn find_with(path: &Path, node: PublicKey, room: Room) -> Result<(FoundStore, Records), StoreError> {
        let path = &source::real(path)?;
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(|error| StoreError::io(path, error))?;
        if !file.metadata().map_err(|error| StoreError::io(path, error))?.is_file() {
            return Err(StoreError::NotADatabase { path: path.to_owned() });
        }
        source::refuse_names(path, &file)?;
        let file = Arc::new(Locked::alone(file, path)?);
        let header = source::settled(path, &file)?;
        let tree = Tree { path, file: &file, meta: header };
        let found = source::identify(&tree)?;
        if found.owner != node {
            return Err(StoreError::WrongNode { path: path.to_owned(), owner: found.owner, node });
        }
        let (log, last, beside, between) = match found.log {
            LogState::Open { id, applied, reaches } => {
                let log = log::read(path, id, applied, reaches)?;
                tracing::info!(path = %path.display(), commits = log.groups, "commits are taken over from the log: the node did not end in order");
                let between = LogState::Open { id, applied, reaches: applied.saturating_add(log.groups) };
                (log, id, Beside::Spent, Some(between))
            }
            LogState::Closed { last } => (Recovered::default(), last, Beside::look(path, last)?, None),
        };
        let overlay = log.overlay;
        let records = source::read_all(&tree, found.schema, &overlay)?;
        let changes = if found.schema == meta::FIRST { changes_of(&records) } else { overlay.into_changes() };
        let is_settled = found.schema == SCHEMA && matches!(found.log, LogState::Closed { .. });
        // Nobody may ever see a part of an upgrade.
        let between = between.filter(|_| found.schema == SCHEMA);
        let first = (!is_settled).then_some(First { changes, log: LogState::Closed { last }, between });
        let (map_size, limit, counters) = (header.map_size, room.largest, Arc::default());
        let (part, locking) = (room.part, Locking::Shared);
        let prepared = Prepared { path: path.to_owned(), file, node, map_size, limit, part, locking, counters };
        Ok((FoundStore { prepared, first, beside, schema: found.schema, half: room.half }, records))
    }

    /// Writes all `changes`, or none, and waits until they are on the disk.
    ///
    /// # Errors
    /// If they are not; the store then takes no more commits.
    pub fn commit(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        self.link.commit(changes, Mark::Nothing)?.wait()
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
        self.link.ask(Request { changes, mark: Mark::Nothing, done: Box::new(done) })
    }

    /// Waits until the commits under way are done and the pages have everything: the database is one file then.
    ///
    /// # Errors
    /// If the pages cannot take what the log has, or it cannot be removed. Nothing is lost: the log stays beside the database,
    /// and whoever opens that next takes it over. Nothing is tried, and nothing said, after a commit that failed.
    pub fn close(self) -> Result<(), StoreError> {
        self.link.close()
    }

    /// What storage has cost so far.
    pub fn counters(&self) -> Arc<StoreCounters> {
        self.counters.clone()
    }
}

/// The thread that writes the pages. Whoever asked for a commit hears of its end: there is no other way to fail.
fn start_pages(prepared: Prepared, first: Option<First>) -> Result<Link, StoreError> {
    let path = prepared.path.clone();
    Link::start(&path, "pages", move |ready, inbox| {
        engine::run(&prepared, first, ready, inbox);
        Ok(())
    })
}

/// Records, to be written as they are.
fn changes_of(records: &Records) -> Vec<Change> {
    records.iter().map(|(key, value)| Change { key: key.clone(), value: Some(value.clone()) }).collect()
}

/// Makes the new file's name durable.
fn sync_folder(path: &Path) -> Result<(), StoreError> {
    File::open(folder(path)).and_then(|folder| folder.sync_all()).map_err(|error| StoreError::io(path, error))
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
