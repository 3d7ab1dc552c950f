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
//! What the pages do not have yet stands in the log ([`super::log`]), and is read right after the state of the pages is kept. A
//! half of the log is written over only after a commit of the pages that has what it held; so if their state is the newest one
//! still when the log was read, nothing of the log was missed, and the two together are one moment's state. If not, both are read
//! anew. A group that is just being written is not of that moment.
//!
//! So the lock file must be one that we can write to, the same as the node's: it is opened before LMDB does, and what was read
//! counts only if the node has kept it.
//!
//! Only the transaction is LMDB's. The pages are read the ordinary way ([`super::tree`]), so nothing here depends on the
//! reader's map: the file may grow while it is read, and a damaged file ends in a sentence.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use heed::{Env, EnvFlags, EnvOpenOptions, RoTxn, WithoutTls};
use offset_protocol::bytes::PublicKey;

use super::header::{self, Meta};
use super::locked::Locked;
use super::log::recover::Recovered;
use super::meta::{self, Found, LogState};
use super::overlay::Overlay;
use super::tree::{Pages, Record, Tree};
use super::{Records, StoreError, Visitor, log};

/// LMDB's lock file: a head, and room for 126 readers.
#[cfg(any(test, target_os = "linux"))]
pub(super) const LOCK_FILE_BYTES: u64 = 8_192;

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
    /// What the log has and the pages have not.
    log: Recovered,
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
    /// Records that the log writes or removes.
    pub in_log: u64,
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
    /// If it is missing, no database, damaged where its header is, of another schema, or without the log that it needs; or if its
    /// node starts just now.
    pub fn open(path: &Path) -> Result<Source, StoreError> {
        let path = &real(path)?;
        match Locked::shared(open_file(path)?, path)? {
            Ok(file) => Source::of_nobody(path, file, beyond),
            Err(file) => {
                refuse_names(path, &file)?;
                let Moment { meta, pin, found, log } = pinned(path, &file)?;
                Ok(Source { path: path.to_owned(), kept: Kept::Pinned { file, _pin: pin }, meta, found, log })
            }
        }
    }

    /// Opens what the pages of a database have, whatever its log has: an old copy, where that is lost or damaged.
    ///
    /// # Errors
    /// As of [`Source::open`], but for the log; if the pages were just taking what that has, so that they are of no moment; or if a
    /// node has the database.
    pub fn open_without_log(path: &Path) -> Result<Source, StoreError> {
        let path = &real(path)?;
        match Locked::shared(open_file(path)?, path)? {
            Ok(file) => Source::of_nobody(path, file, nothing_beyond),
            Err(_) => Err(StoreError::InUse { path: path.to_owned() }),
        }
    }

    fn of_nobody(
        path: &Path,
        file: Locked,
        log: impl FnOnce(&Path, &Found) -> Result<Recovered, StoreError>,
    ) -> Result<Source, StoreError> {
        let meta = settled(path, &file)?;
        let found = identify(&Tree { path, file: &file, meta })?;
        let log = log(path, &found)?;
        Ok(Source { path: path.to_owned(), kept: Kept::Locked(file), meta, found, log })
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

    /// How many commits stand in the log and not in the pages.
    pub fn groups_in_log(&self) -> u64 {
        self.log.groups
    }

    /// Looks at every page and every checksum; `visit` hears of every record, by key. What it heard counts only if this succeeds.
    ///
    /// # Errors
    /// The first damage, or what `visit` says; or that the node did not keep still what was read.
    pub fn read(&self, visit: &mut Visitor<'_>) -> Result<Content, StoreError> {
        let tree = Tree { path: &self.path, file: self.kept.file(), meta: self.meta };
        let content = read(&tree, self.found.schema, &self.log.overlay, visit);
        if self.is_in_use() && !self.is_kept()? {
            return Err(StoreError::NotKept { path: self.path.clone() });
        }
        content
    }

    /// Whether the node still keeps the state that was read: a second look, should it register readers in another lock file
    /// than ours (somebody replaced it). A node that knows of a reader leaves alone what later transactions freed, so that the
    /// list of the next one is still there; one that does not uses that list first, two commits later at the earliest.
    fn is_kept(&self) -> Result<bool, StoreError> {
        let newest = || newest(&self.path, self.kept.file());
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

fn open_file(path: &Path) -> Result<File, StoreError> {
    let file = OpenOptions::new().read(true).open(path).map_err(|error| StoreError::io(path, error))?;
    if file.metadata().map_err(|error| StoreError::io(path, error))?.is_file() {
        Ok(file)
    } else {
        Err(StoreError::NotADatabase { path: path.to_owned() })
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

/// The newest header of a file to which a node writes.
fn newest(path: &Path, file: &File) -> Result<Meta, StoreError> {
    let metas = header::read(file).map_err(|bad| StoreError::header(path, bad))?;
    Ok(if metas[1].txn > metas[0].txn { metas[1] } else { metas[0] })
}

/// What a log has beyond the pages.
fn beyond(path: &Path, found: &Found) -> Result<Recovered, StoreError> {
    match found.log {
        LogState::Open { id, applied, reaches } => log::read(path, id, applied, reaches),
        LogState::Closed { .. } => Ok(Recovered::default()),
    }
}

/// Nothing, if that leaves a state of the database.
fn nothing_beyond(path: &Path, found: &Found) -> Result<Recovered, StoreError> {
    if matches!(found.log, LogState::Open { applied, reaches, .. } if reaches > applied) {
        return Err(StoreError::LogNeeded { path: path.to_owned(), log: log::beside(path) });
    }
    Ok(Recovered::default())
}

/// The state of a moment: of the pages, kept by a read transaction, and of the log.
struct Moment {
    meta: Meta,
    pin: RoTxn<'static, WithoutTls>,
    found: Found,
    log: Recovered,
}

#[cfg(test)]
pub(super) fn look_once(path: &Path, file: &File) -> Result<bool, StoreError> {
    try_pinned(path, file).map(|moment| moment.is_some())
}

/// The newest state of a file to which a node writes.
fn pinned(path: &Path, file: &File) -> Result<Moment, StoreError> {
    let mut last = StoreError::InUse { path: path.to_owned() };
    for _ in 0..TRIES {
        match try_pinned(path, file) {
            Ok(Some(moment)) => return Ok(moment),
            // The node has its lock, but has not opened the file yet.
            Ok(None) => {}
            // No other look helps.
            Err(
                error
                @ (StoreError::LockFile { .. } | StoreError::NotADatabase { .. } | StoreError::WrongSchema { .. }),
            ) => return Err(error),
            // It changed meanwhile; a header read just as it was written, a group that came before the one before it was looked
            // for; or damage.
            Err(error) => last = error,
        }
        std::thread::sleep(PAUSE);
    }
    Err(last)
}

fn try_pinned(path: &Path, file: &File) -> Result<Option<Moment>, StoreError> {
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
    let read = at(path, file, txn);
    if newest(path, file)?.txn != txn {
        // What was read may be of two moments.
        return Err(StoreError::Changing { path: path.to_owned() });
    }
    let (meta, found, log) = read?;
    Ok(Some(Moment { meta, pin, found, log }))
}

/// What the state with this number says, and what the log has beyond it.
fn at(path: &Path, file: &File, txn: u64) -> Result<(Meta, Found, Recovered), StoreError> {
    let metas = header::read(file).map_err(|bad| StoreError::header(path, bad))?;
    let meta = metas.into_iter().find(|meta| meta.txn == txn);
    let meta = meta.ok_or_else(|| StoreError::Changing { path: path.to_owned() })?;
    let tree = Tree { path, file, meta };
    tree.check_number()?;
    let found = identify(&tree)?;
    let log = beyond(path, &found)?;
    Ok((meta, found, log))
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

/// Sees whether LMDB will be able to use its lock file: to open it for writing, and to fill it. LMDB's own error names another
/// file; where it may only read, it goes on without registering what it reads; and it makes a file of holes and writes to it
/// through a map, so that on a full disk the process would end at once, without a word.
pub(super) fn try_lock_file(path: &Path, create: bool) -> Result<(), StoreError> {
    let path = lock_file(path);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(create).truncate(false).mode(0o600);
    // Closed again before LMDB opens it: to close a file that one has open twice gives up its locks.
    let filled = options.open(&path).and_then(|file| fill(&file));
    filled.map_err(|error| StoreError::LockFile { path, error })
}

/// Gives a file all the blocks that LMDB's lock file has, and changes nothing of what is in it.
#[cfg(target_os = "linux")]
fn fill(file: &File) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    use rustix::io::{Errno, retry_on_intr};
    match retry_on_intr(|| fallocate(file, FallocateFlags::empty(), 0, LOCK_FILE_BYTES)) {
        // A file system that cannot promise room: LMDB tries its luck, as it does everywhere.
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) | Ok(()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Elsewhere what gives blocks may cut a longer file that somebody has mapped.
#[cfg(not(target_os = "linux"))]
fn fill(_file: &File) -> io::Result<()> {
    Ok(())
}

/// Whose database it is, and of which schema; the record that says so is the last one.
pub(super) fn identify(tree: &Tree<'_>) -> Result<Found, StoreError> {
    let path = tree.path;
    let not_ours = || StoreError::NotADatabase { path: path.to_owned() };
    let (key, stored) = tree.last_record()?.ok_or_else(not_ours)?;
    let schema = meta::schema(&stored).filter(|_| key == meta::KEY).ok_or_else(not_ours)?;
    if !(meta::FIRST..=meta::SCHEMA).contains(&schema) {
        return Err(StoreError::WrongSchema { path: path.to_owned(), found: schema, expected: meta::SCHEMA });
    }
    meta::decode(&stored).ok_or_else(|| StoreError::BadChecksum { path: path.to_owned(), page: 0 })
}

/// Every record but the one that names the node, with what the log says of them.
pub(super) fn read(
    tree: &Tree<'_>,
    schema: u32,
    overlay: &Overlay,
    visit: &mut Visitor<'_>,
) -> Result<Content, StoreError> {
    let (mut records, mut bytes) = (0, 0);
    let mut visit = |key: &[u8], value: &[u8]| {
        records += 1;
        bytes += (key.len() + value.len()) as u64;
        visit(key, value)
    };
    let mut over = overlay.over();
    let pages = tree.walk(&mut |Record { page, key, value: stored }| {
        let value = meta::open(schema, key, stored)
            .ok_or_else(|| StoreError::BadChecksum { path: tree.path.to_owned(), page })?;
        if key == meta::KEY { Ok(()) } else { over.record(key, value, &mut visit) }
    })?;
    over.rest(&mut visit)?;
    Ok(Content { pages, records, bytes, in_log: overlay.len() as u64 })
}

/// All records, by key.
pub(super) fn read_all(tree: &Tree<'_>, schema: u32, overlay: &Overlay) -> Result<Records, StoreError> {
    let mut records = Records::new();
    read(tree, schema, overlay, &mut |key, value| {
        records.push((key.to_vec(), value.to_vec()));
        Ok(())
    })?;
    Ok(records)
}
