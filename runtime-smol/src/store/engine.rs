//! The pages' thread: the only code that touches LMDB.
//!
//! Invariants
//! 1. The process holds the file's lock before LMDB opens it, until after LMDB closed it.
//! 2. The file is never shorter than the map, so that no page of the map lies beyond its end.
//! 3. Commits are synchronous, in the order asked. After one failed, no other is tried: what LMDB holds in memory may differ
//!    from what is on the disk, and only a restart from the disk is safe.
//! 4. Pages that another process reads (a backup) are kept as long as it lives and no longer: a reader that was killed is
//!    cleared after every commit that it might have seen, and before the file grows.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::Receiver;

use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions, MdbError, WithoutTls};
use offset_protocol::bytes::PublicKey;
use offset_protocol::persist::Change;
use rustix::io::Errno;

use super::header::Saved;
use super::link::{self, Mark, Ready, Request};
use super::locked::Locked;
use super::meta::{self, LogState};
use super::{Locking, StoreCounters, StoreError, source};

/// The first size of the map. Chosen small, because the file is as long as the map.
pub(super) const FIRST_MAP: u64 = 1 << 20;
/// The map doubles up to steps of this size.
const LARGEST_STEP: u64 = 1 << 30;
type Table<'e> = Database<'e, Bytes, Bytes>;

/// A locked file with a checked header, not yet given to LMDB.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) path: PathBuf,
    pub(super) file: Arc<Locked>,
    pub(super) node: PublicKey,
    pub(super) map_size: u64,
    pub(super) limit: u64,
    /// Changes in one transaction, where there may be several.
    pub(super) part: usize,
    pub(super) locking: Locking,
    pub(super) counters: Arc<StoreCounters>,
}

/// What is to be written before anything else: all of an older schema, or what stood in the log of a node that was killed.
#[derive(Debug)]
pub(super) struct First {
    pub(super) changes: Vec<Change>,
    pub(super) log: LogState,
    /// What the pages are meanwhile, if they may take it in parts, because a log has it all.
    pub(super) between: Option<LogState>,
}

/// Runs until every sender is gone. `ready` hears whether the database could be opened and has what comes first.
pub(super) fn run(prepared: &Prepared, first: Option<First>, ready: &Ready, requests: &Receiver<Request>) {
    // Whoever opens a store waits for `ready`; if it is gone nobody needs the answer.
    let opened = open(prepared);
    let env = match opened {
        Ok(env) => env,
        Err(error) => return drop(ready.send(Err(error))),
    };
    let mut engine = match Engine::new(&env, prepared).and_then(|mut engine| {
        engine.begin(first)?;
        Ok(engine)
    }) {
        Ok(engine) => engine,
        Err(error) => return drop(ready.send(Err(error))),
    };
    if ready.send(Ok(())).is_err() {
        return;
    }
    while let Ok(Request { changes, mark, done }) = requests.recv() {
        done(engine.commit(&changes, mark));
    }
}

#[allow(unsafe_code)]
fn open(prepared: &Prepared) -> Result<Env<WithoutTls>, StoreError> {
    let size = usize::try_from(prepared.map_size).map_err(|_| StoreError::full(&prepared.path, prepared.map_size))?;
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    options.map_size(size);
    let locking = match prepared.locking {
        Locking::Shared => {
            source::try_lock_file(&prepared.path, true)?;
            EnvFlags::empty()
        }
        Locking::Alone => EnvFlags::NO_LOCK,
    };
    // SAFETY: NO_LOCK asks the caller to exclude other writers and old readers. It is used only for a file that nobody else
    // knows of, by the storage thread alone, one transaction at a time.
    unsafe { options.flags(EnvFlags::NO_SUB_DIR | EnvFlags::NO_READ_AHEAD | locking) };
    // SAFETY: the map is undefined behaviour only if somebody else changes the file under it. The lock keeps out every
    // process that asks for it; whoever reads meanwhile only registers in LMDB's lock file; and a file that is shorter than
    // its map, or whose pages are not what they should be, was refused before.
    unsafe { options.open(&prepared.path) }.map_err(|error| StoreError::lmdb(&prepared.path, &error))
}

enum Written {
    Something,
    /// No changes, or only removals of what was not there.
    Nothing,
}

struct Engine<'e> {
    env: &'e Env<WithoutTls>,
    table: Table<'e>,
    file: &'e File,
    path: &'e Path,
    node: PublicKey,
    limit: u64,
    part: usize,
    locking: Locking,
    counters: &'e StoreCounters,
    /// A value on its way into the file.
    stored: Vec<u8>,
    failed: bool,
}

impl<'e> Engine<'e> {
    fn new(env: &'e Env<WithoutTls>, prepared: &'e Prepared) -> Result<Self, StoreError> {
        let path = prepared.path.as_path();
        let lmdb = |error: heed::Error| StoreError::lmdb(path, &error);
        let txn = env.write_txn().map_err(lmdb)?;
        let table = env
            .create_databases_and_commit(txn, |opener, txn| {
                opener.create_database::<Bytes, Bytes>(txn, None).map(CommitOrAbort::<_, ()>::Commit)
            })
            .map_err(lmdb)?
            .commit()
            .ok_or_else(|| StoreError::lmdb(path, &heed::Error::Mdb(MdbError::Problem)))?;
        let counters = &prepared.counters;
        Ok(Engine {
            env,
            table,
            file: &prepared.file,
            path,
            node: prepared.node,
            limit: prepared.limit,
            part: prepared.part,
            locking: prepared.locking,
            counters,
            stored: Vec::new(),
            failed: false,
        })
    }

    /// What comes before everything else.
    fn begin(&mut self, first: Option<First>) -> Result<(), StoreError> {
        self.measure();
        if self.locking == Locking::Alone {
            self.file.set_len(FIRST_MAP).map_err(|error| StoreError::io(self.path, error))?;
        }
        match first {
            None => Ok(()),
            Some(First { changes, log, between: None }) => self.write(&changes, Some(log)),
            Some(First { changes, log, between: Some(between) }) => self.write_in_parts(&changes, between, log),
        }
    }

    fn commit(&mut self, changes: &[Change], mark: Mark) -> Result<(), StoreError> {
        if self.failed {
            return Err(StoreError::FailedBefore { path: self.path.to_owned() });
        }
        link::check(self.path, changes)?;
        let result = match mark {
            Mark::Nothing => self.write(changes, None),
            Mark::AtOnce(log) => self.write(changes, Some(log)),
            Mark::InParts { between, after } => self.write_in_parts(changes, between, after),
        };
        self.failed = result.is_err();
        result
    }

    /// A transaction writes every page anew that it changes, and what it frees is used from the next but one on. So one that
    /// changes a little of every page makes the file twice as large, and several, each of some keys in their order, do not.
    fn write_in_parts(&mut self, changes: &[Change], between: LogState, after: LogState) -> Result<(), StoreError> {
        let last = changes.len().saturating_sub(1) / self.part * self.part;
        for part in changes[..last].chunks(self.part) {
            self.write(part, Some(between))?;
        }
        self.write(&changes[last..], Some(after))
    }

    fn write(&mut self, changes: &[Change], log: Option<LogState>) -> Result<(), StoreError> {
        let page_size = self.env.unnamed_database_stat().page_size;
        let before = Saved::of(self.file, page_size).map_err(|error| StoreError::io(self.path, error))?;
        match self.write_with_room(changes, log) {
            // LMDB does not go to the disk for nothing.
            Ok(Written::Nothing) => return Ok(()),
            Ok(Written::Something) => {}
            Err(error) => {
                if let Err(why) = before.put_back(self.file) {
                    tracing::error!(path = %self.path.display(), %why, "the headers are not as they were before the commit that failed");
                }
                return Err(error);
            }
        }
        let size =
            |change: &Change| change.key.len() + change.value.as_ref().map_or(0, |value| value.len() + meta::SEAL);
        self.counters.page_commits.fetch_add(1, Relaxed);
        self.counters.flushes.fetch_add(StoreCounters::FLUSHES_PER_PAGE_COMMIT, Relaxed);
        self.counters.bytes.fetch_add(changes.iter().map(size).sum::<usize>() as u64, Relaxed);
        self.clear_dead_readers();
        self.measure();
        Ok(())
    }

    fn write_with_room(&mut self, changes: &[Change], log: Option<LogState>) -> Result<Written, StoreError> {
        loop {
            match self.try_write(changes, log) {
                Ok(written) => return Ok(written),
                // What they held may be room enough.
                Err(heed::Error::Mdb(MdbError::MapFull)) if self.clear_dead_readers() > 0 => {}
                Err(heed::Error::Mdb(MdbError::MapFull)) => self.grow()?,
                Err(error) => return Err(self.lmdb(&error)),
            }
        }
    }

    fn try_write(&mut self, changes: &[Change], log: Option<LogState>) -> heed::Result<Written> {
        let mut txn = self.env.write_txn()?;
        let mut written = Written::Nothing;
        for change in changes {
            match &change.value {
                Some(value) => {
                    meta::seal(&change.key, value, &mut self.stored);
                    self.table.put(&mut txn, &change.key, &self.stored)?;
                }
                None if self.table.delete(&mut txn, &change.key)? => {}
                None => continue,
            }
            written = Written::Something;
        }
        if let Some(log) = log {
            meta::seal(&meta::KEY, &meta::encode(&self.node, log), &mut self.stored);
            self.table.put(&mut txn, &meta::KEY, &self.stored)?;
            written = Written::Something;
        }
        txn.commit()?;
        Ok(written)
    }

    /// Lets go of what processes read that are gone; says how many there were.
    fn clear_dead_readers(&self) -> usize {
        if self.locking == Locking::Alone {
            return 0;
        }
        // A lock file that cannot be read is no reason to stop.
        let cleared = self.env.clear_stale_readers().unwrap_or(0);
        if cleared > 0 {
            tracing::info!(path = %self.path.display(), cleared, "a backup that was killed kept old pages; they are free again");
        }
        cleared
    }

    /// Doubles the map. The file grows first: the other way round the map would reach beyond its end.
    #[allow(unsafe_code)]
    fn grow(&mut self) -> Result<(), StoreError> {
        let old = self.env.info().map_size as u64;
        let new = old.saturating_add(old.min(LARGEST_STEP));
        let size = usize::try_from(new).ok().filter(|_| new <= self.limit);
        let size = size.ok_or_else(|| StoreError::full(self.path, self.limit))?;
        self.file.set_len(new).map_err(|error| StoreError::io(self.path, error))?;
        // SAFETY: no transaction may be open. This thread is the only one that makes any, and `try_write` returned, which
        // ended its own.
        unsafe { self.env.resize(size) }.map_err(|error| self.lmdb(&error))
    }

    fn measure(&self) {
        let pages = self.env.info().last_page_number as u64 + 1;
        let page_size = u64::from(self.env.unnamed_database_stat().page_size);
        self.counters.used_bytes.store(pages.saturating_mul(page_size), Relaxed);
    }

    fn lmdb(&self, error: &heed::Error) -> StoreError {
        match self.probe(error) {
            Some(why) => StoreError::Lmdb { path: self.path.to_owned(), why: why.to_string() },
            None => StoreError::lmdb(self.path, error),
        }
    }

    /// LMDB says EIO of a write that was cut short, which is what a full disk makes of a large one. What the system says of the last
    /// page of the map, which nothing refers to, is the reason then.
    fn probe(&self, error: &heed::Error) -> Option<std::io::Error> {
        let is_short =
            matches!(error, heed::Error::Io(error) if error.raw_os_error() == Some(Errno::IO.raw_os_error()));
        let (info, page_size) = (self.env.info(), self.env.unnamed_database_stat().page_size as usize);
        let last = (info.map_size / page_size).saturating_sub(1);
        if !is_short || info.last_page_number >= last {
            return None;
        }
        self.file.write_all_at(&vec![0; page_size], (last * page_size) as u64).err()
    }
}
