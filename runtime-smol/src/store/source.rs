//! Reading a database from outside: for a backup, a check, a restored copy; while a node writes to it, or while none does.
//!
//! | the file | how it is kept still |
//! |---|---|
//! | no node has it | a shared lock on the file: a node that starts meanwhile is refused, for as long as the reading takes |
//! | a node writes to it | a read transaction of LMDB, which registers in the lock file beside the database: the node then keeps every page of that state |
//!
//! Why LMDB's lock file and nothing of our own: the writer must know which old pages somebody still reads, also somebody in
//! another process who may die at any moment. That is what the file is for. A reader that was killed leaves its place taken;
//! the node clears it when the file would have to grow, and from time to time ([`super::engine`]), so that it costs at most
//! room for what was written in between. A reader that hangs costs more: the file grows until it is ended.
//!
//! So the lock file must be one that we can write to, the same as the node's: it is opened before LMDB does, and what was read
//! counts only if the node has kept it.
//!
//! Only the transaction is LMDB's. The pages are read the ordinary way ([`super::tree`]), so nothing here depends on the
//! reader's map: the file may grow while it is read, and a damaged file ends in a sentence.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use heed::{Env, EnvFlags, EnvOpenOptions, RoTxn, WithoutTls};
use offset_protocol::bytes::PublicKey;

use super::header::{self, Meta};
use super::locked::Locked;
use super::meta::{self, Found};
use super::tree::{Pages, Record, Tree};
use super::{Records, StoreError, Visitor};

/// How often a state that is just being replaced is asked for anew, and the pause before that: half a second in all. A commit
/// takes a small part of a pause, so that the second try nearly always succeeds.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(5);

/// A database that is kept still while it is read.
pub struct Source {
    path: PathBuf,
    kept: Kept,
    meta: Meta,
    found: Found,
}

/// What keeps a file still. Dropping it lets go.
enum Kept {
    /// No node has it.
    Locked(Locked),
    /// A node writes to it, and keeps the state of the transaction.
    Pinned { file: File, _pin: RoTxn<'static, WithoutTls> },
}

impl Kept {
    fn file(&self) -> &File {
        match self {
            Kept::Locked(file) => file,
            Kept::Pinned { file, .. } => file,
        }
    }
}

/// What there is in a database, before its records are understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Content {
    /// How its pages are used.
    pub pages: Pages,
    /// How many records it has, the one that names its node not counted.
    pub records: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").field("path", &self.path).field("found", &self.found).finish_non_exhaustive()
    }
}

impl Source {
    /// Opens a database for reading, whoever has it.
    ///
    /// # Errors
    /// If it is missing, no database, damaged where its header is, or of another schema; or if its node starts just now.
    pub fn open(path: &Path) -> Result<Source, StoreError> {
        let path = &real(path)?;
        let file = OpenOptions::new().read(true).open(path).map_err(|error| StoreError::io(path, error))?;
        if !file.metadata().map_err(|error| StoreError::io(path, error))?.is_file() {
            return Err(StoreError::NotADatabase { path: path.to_owned() });
        }
        let (kept, meta) = match Locked::shared(file, path)? {
            Ok(file) => {
                let meta = settled(path, &file)?;
                (Kept::Locked(file), meta)
            }
            Err(file) => {
                refuse_names(path, &file)?;
                let (meta, pin) = pinned(path, &file)?;
                (Kept::Pinned { file, _pin: pin }, meta)
            }
        };
        let found = identify(&Tree { path, file: kept.file(), meta })?;
        Ok(Source { path: path.to_owned(), kept, meta, found })
    }

    /// Whose database it is.
    pub fn owner(&self) -> PublicKey {
        self.found.owner
    }

    /// How its records are written.
    pub fn schema(&self) -> u32 {
        self.found.schema
    }

    /// Whether a node has it open.
    pub fn is_in_use(&self) -> bool {
        matches!(self.kept, Kept::Pinned { .. })
    }

    /// Looks at every page and every checksum; `visit` hears of every record, by key. What it heard counts only if this succeeds.
    ///
    /// # Errors
    /// The first damage, or what `visit` says; or that the node did not keep still what was read.
    pub fn read(&self, visit: &mut Visitor<'_>) -> Result<Content, StoreError> {
        let tree = Tree { path: &self.path, file: self.kept.file(), meta: self.meta };
        let content = read(&tree, self.found.schema, visit);
        if self.is_in_use() && !self.is_kept()? {
            return Err(StoreError::NotKept { path: self.path.clone() });
        }
        content
    }

    /// Whether the node still keeps the state that was read: a second look, should it register readers in another lock file
    /// than ours (somebody replaced it). A node that knows of a reader leaves alone what later transactions freed, so that the
    /// list of the next one is still there; one that does not uses that list first, two commits later at the earliest.
    fn is_kept(&self) -> Result<bool, StoreError> {
        let newest = || -> Result<Meta, StoreError> {
            let metas = header::read(self.kept.file()).map_err(|bad| StoreError::header(&self.path, bad))?;
            Ok(if metas[1].txn > metas[0].txn { metas[1] } else { metas[0] })
        };
        let next = self.meta.txn.saturating_add(1);
        let mut last = Ok(false);
        for _ in 0..TRIES {
            let meta = newest()?;
            if meta.txn <= next {
                return Ok(true);
            }
            // The newest state is not kept for us: what it says counts if it was one of the last two all the time.
            last = Tree { path: &self.path, file: self.kept.file(), meta }.has_freed(next);
            if matches!(last, Ok(true)) || newest()?.txn <= meta.txn.saturating_add(1) {
                break;
            }
        }
        last
    }
}

/// Where a database really is: LMDB's lock file lies there, and not beside a link.
pub(super) fn real(path: &Path) -> Result<PathBuf, StoreError> {
    path.canonicalize().map_err(|error| StoreError::io(path, error))
}

/// Refuses a file that has several names: beside each there would be another lock file.
pub(super) fn refuse_names(path: &Path, file: &File) -> Result<(), StoreError> {
    match file.metadata().map_err(|error| StoreError::io(path, error))?.nlink() {
        0 | 1 => Ok(()),
        names => Err(StoreError::SeveralNames { path: path.to_owned(), names }),
    }
}

/// The state of a file to which nobody writes; whoever calls has it locked.
pub(super) fn settled(path: &Path, file: &File) -> Result<Meta, StoreError> {
    let metas = header::read(file).map_err(|bad| StoreError::header(path, bad))?;
    let newest = header::newest(&metas).map_err(|bad| StoreError::header(path, bad))?;
    for meta in metas {
        Tree { path, file, meta }.check_number()?;
    }
    Ok(newest)
}

/// The newest state of a file to which a node writes, kept by a read transaction.
fn pinned(path: &Path, file: &File) -> Result<(Meta, RoTxn<'static, WithoutTls>), StoreError> {
    let mut last = StoreError::InUse { path: path.to_owned() };
    for _ in 0..TRIES {
        match try_pinned(path, file) {
            Ok(Some(found)) => return Ok(found),
            // The node has its lock, but has not opened the file yet; or it committed twice between two looks.
            Ok(None) => {}
            Err(error @ StoreError::LockFile { .. }) => return Err(error),
            // A header read just as it was written; or damage.
            Err(error) => last = error,
        }
        std::thread::sleep(PAUSE);
    }
    Err(last)
}

fn try_pinned(path: &Path, file: &File) -> Result<Option<(Meta, RoTxn<'static, WithoutTls>)>, StoreError> {
    if !lock_file(path).exists() {
        // Made by the node itself, so that it belongs to the node's user.
        return Ok(None);
    }
    try_lock_file(path, false)?;
    let [even, odd] = header::read(file).map_err(|bad| StoreError::header(path, bad))?;
    let lmdb = |error: heed::Error| StoreError::lmdb(path, &error);
    let env = open_env(path, even.map_size.max(odd.map_size))?;
    let pin = env.clone().static_read_txn().map_err(lmdb)?;
    if env.info().number_of_readers == 0 {
        // LMDB goes on without its lock file where it may only read, and nobody knows of us.
        return Err(StoreError::NotKept { path: path.to_owned() });
    }
    let txn = pin.id() as u64;
    // Now it is kept; the header that names it must be read before the second next commit.
    let metas = header::read(file).map_err(|bad| StoreError::header(path, bad))?;
    let meta = metas.into_iter().find(|meta| meta.txn == txn);
    if let Some(meta) = meta {
        Tree { path, file, meta }.check_number()?;
    }
    Ok(meta.map(|meta| (meta, pin)))
}

#[allow(unsafe_code)]
fn open_env(path: &Path, map_size: u64) -> Result<Env<WithoutTls>, StoreError> {
    let size = usize::try_from(map_size).map_err(|_| StoreError::full(path, map_size))?;
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    options.map_size(size);
    // SAFETY: none of these flags leaves anything to the caller.
    unsafe { options.flags(EnvFlags::NO_SUB_DIR | EnvFlags::READ_ONLY | EnvFlags::NO_READ_AHEAD) };
    // SAFETY: the map is undefined behaviour only if the file is cut under it, which nobody does: a node only lets it grow.
    // Only the two header pages are read through the map, by LMDB's own means of meeting a writer.
    unsafe { options.open(path) }.map_err(|error| StoreError::lmdb(path, &error))
}

/// LMDB's own lock file.
pub(super) fn lock_file(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-lock");
    name.into()
}

/// Sees whether LMDB will be able to open its lock file for writing. LMDB's own error names another file; and where it may only
/// read, it goes on without registering what it reads.
pub(super) fn try_lock_file(path: &Path, create: bool) -> Result<(), StoreError> {
    let path = lock_file(path);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(create).truncate(false).mode(0o600);
    // Closed again before LMDB opens it: to close a file that one has open twice gives up its locks.
    options.open(&path).map(drop).map_err(|error| StoreError::LockFile { path, error })
}

/// Whose database it is, and of which schema; the record that says so is the last one.
pub(super) fn identify(tree: &Tree<'_>) -> Result<Found, StoreError> {
    let path = tree.path;
    let not_ours = || StoreError::NotADatabase { path: path.to_owned() };
    let (key, stored) = tree.last_record()?.ok_or_else(not_ours)?;
    let schema = meta::schema(&stored).filter(|_| key == meta::KEY).ok_or_else(not_ours)?;
    if !(meta::OLDEST..=meta::SCHEMA).contains(&schema) {
        return Err(StoreError::WrongSchema { path: path.to_owned(), found: schema, expected: meta::SCHEMA });
    }
    meta::decode(&stored).ok_or_else(|| StoreError::BadChecksum { path: path.to_owned(), page: 0 })
}

/// Every record but the one that names the node.
pub(super) fn read(tree: &Tree<'_>, schema: u32, visit: &mut Visitor<'_>) -> Result<Content, StoreError> {
    let (mut records, mut bytes) = (0, 0);
    let pages = tree.walk(&mut |Record { page, key, value: stored }| {
        let value = meta::open(schema, key, stored)
            .ok_or_else(|| StoreError::BadChecksum { path: tree.path.to_owned(), page })?;
        if key == meta::KEY {
            return Ok(());
        }
        records += 1;
        bytes += (key.len() + value.len()) as u64;
        visit(key, value)
    })?;
    Ok(Content { pages, records, bytes })
}

/// All records, by key.
pub(super) fn read_all(tree: &Tree<'_>, schema: u32) -> Result<Records, StoreError> {
    let mut records = Records::new();
    read(tree, schema, &mut |key, value| {
        records.push((key.to_vec(), value.to_vec()));
        Ok(())
    })?;
    Ok(records)
}
