//! The storage thread: the only code that touches LMDB.
//!
//! Invariants
//! 1. The process holds the file's lock before LMDB opens it, until after LMDB closed it.
//! 2. The file is never shorter than the map, so that no page of the map lies beyond its end.
//! 3. Commits are synchronous, in the order asked. After one failed, no other is tried: what LMDB holds in memory may differ
//!    from what is on the disk, and only a restart from the disk is safe.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, SyncSender};

use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions, MdbError, WithoutTls};
use offset_protocol::persist::Change;

use super::{Records, StoreCounters, StoreError, meta};

/// The first size of the map. Chosen small, because the file is as long as the map.
pub(super) const FIRST_MAP: u64 = 1 << 20;
/// The map doubles up to steps of this size.
const LARGEST_STEP: u64 = 1 << 30;

type Table<'e> = Database<'e, Bytes, Bytes>;

/// What the storage thread is asked to do.
pub(super) enum Request {
    Load { answer: SyncSender<Result<Records, StoreError>> },
    Commit { changes: Vec<Change>, done: Done },
}

/// Hears of the end of a commit, on the storage thread.
pub(super) type Done = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// A locked file with a checked header, not yet given to LMDB.
pub(super) struct Prepared {
    pub(super) path: PathBuf,
    pub(super) file: File,
    pub(super) map_size: u64,
    pub(super) limit: u64,
    pub(super) counters: Arc<StoreCounters>,
}

/// Runs until every sender is gone. `ready` hears whether the database could be opened.
pub(super) fn run(
    prepared: Prepared,
    identity: meta::Expected,
    ready: &SyncSender<Result<(), StoreError>>,
    requests: &Receiver<Request>,
) {
    // Whoever opens a store waits for `ready`; if it is gone nobody needs the answer.
    let opened = open(&prepared);
    let env = match opened {
        Ok(env) => env,
        Err(error) => return drop(ready.send(Err(error))),
    };
    let mut engine = match Engine::new(&env, &prepared).and_then(|mut engine| {
        engine.settle_identity(identity)?;
        Ok(engine)
    }) {
        Ok(engine) => engine,
        Err(error) => return drop(ready.send(Err(error))),
    };
    if ready.send(Ok(())).is_err() {
        return;
    }
    while let Ok(request) = requests.recv() {
        match request {
            Request::Load { answer } => drop(answer.send(engine.load())),
            Request::Commit { changes, done } => done(engine.commit(&changes)),
        }
    }
}

#[allow(unsafe_code)]
fn open(prepared: &Prepared) -> Result<Env<WithoutTls>, StoreError> {
    let size = usize::try_from(prepared.map_size).map_err(|_| StoreError::full(&prepared.path, prepared.map_size))?;
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    options.map_size(size);
    // SAFETY: NO_LOCK asks the caller to exclude other writers and old readers. The lock on the file itself excludes every
    // other process and every other `Store` of this one, and only the storage thread uses this environment, one
    // transaction at a time.
    unsafe { options.flags(EnvFlags::NO_SUB_DIR | EnvFlags::NO_LOCK | EnvFlags::NO_READ_AHEAD) };
    // SAFETY: the map is undefined behaviour only if somebody else changes the file under it. The lock keeps out every
    // process that asks for it; the header check keeps out files that are shorter than their map.
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
    limit: u64,
    counters: &'e StoreCounters,
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
        Ok(Engine { env, table, file: &prepared.file, path, limit: prepared.limit, counters, failed: false })
    }

    /// Writes whose database this is into a new one, or compares it in an old one.
    fn settle_identity(&mut self, identity: meta::Expected) -> Result<(), StoreError> {
        let read = self.env.read_txn().map_err(|error| self.lmdb(&error))?;
        let found = self.table.get(&read, &meta::KEY).map_err(|error| self.lmdb(&error))?.map(<[u8]>::to_vec);
        drop(read);
        self.measure();
        match identity {
            meta::Expected::New(node) => {
                self.file.set_len(FIRST_MAP).map_err(|error| StoreError::io(self.path, error))?;
                self.write(&[Change { key: meta::KEY.to_vec(), value: Some(meta::encode(&node)) }])
            }
            meta::Expected::Old(node) => meta::compare(self.path, found.as_deref(), &node),
        }
    }

    fn load(&self) -> Result<Records, StoreError> {
        let lmdb = |error: heed::Error| self.lmdb(&error);
        let txn = self.env.read_txn().map_err(lmdb)?;
        let mut records = Records::new();
        for record in self.table.iter(&txn).map_err(lmdb)? {
            let (key, value) = record.map_err(lmdb)?;
            if key != meta::KEY {
                records.push((key.to_vec(), value.to_vec()));
            }
        }
        Ok(records)
    }

    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        if self.failed {
            return Err(StoreError::FailedBefore { path: self.path.to_owned() });
        }
        if let Some(bad) = changes.iter().find(|change| !(1..=meta::MAX_KEY).contains(&change.key.len())) {
            return Err(StoreError::BadKey { path: self.path.to_owned(), size: bad.key.len() });
        }
        let result = self.write(changes);
        self.failed = result.is_err();
        result
    }

    fn write(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        loop {
            match self.try_write(changes) {
                Ok(Written::Something) => break,
                // LMDB does not go to the disk for nothing.
                Ok(Written::Nothing) => return Ok(()),
                Err(heed::Error::Mdb(MdbError::MapFull)) => self.grow()?,
                Err(error) => return Err(self.lmdb(&error)),
            }
        }
        let size = |change: &Change| change.key.len() + change.value.as_ref().map_or(0, Vec::len);
        self.counters.commits.fetch_add(1, Relaxed);
        self.counters.flushes.fetch_add(StoreCounters::FLUSHES_PER_COMMIT, Relaxed);
        self.counters.records.fetch_add(changes.len() as u64, Relaxed);
        self.counters.bytes.fetch_add(changes.iter().map(size).sum::<usize>() as u64, Relaxed);
        self.measure();
        Ok(())
    }

    fn try_write(&self, changes: &[Change]) -> heed::Result<Written> {
        let mut txn = self.env.write_txn()?;
        let mut written = Written::Nothing;
        for change in changes {
            match &change.value {
                Some(value) => self.table.put(&mut txn, &change.key, value)?,
                None if self.table.delete(&mut txn, &change.key)? => {}
                None => continue,
            }
            written = Written::Something;
        }
        txn.commit()?;
        Ok(written)
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
        StoreError::lmdb(self.path, error)
    }
}
