//! What can be wrong with a database: each names the file that it is about.

use std::io;
use std::path::{Path, PathBuf};

use offset_protocol::bytes::PublicKey;

use super::header::BadHeader;

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
    /// The operating system refused the lock file beside the database.
    #[error("cannot use {path}, the lock file of the database: {error}{advice}", path = path.display(), advice = advice(error))]
    LockFile {
        /// The lock file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The operating system refused the log beside the database.
    #[error("cannot use {path}, the log of the database: {error}", path = path.display())]
    LogFile {
        /// The log.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The newest records stand in a log that is not there.
    #[error("the database {path} has its newest records in its log {log}, which {why}: put the right one back, or restore a backup, or what is left as an old copy (stmgr restore --without-log)", path = path.display(), log = log.display())]
    LogLost {
        /// The file.
        path: PathBuf,
        /// Its log.
        log: PathBuf,
        /// What is wrong with that.
        why: &'static str,
    },
    /// The pages alone are of no moment.
    #[error("the database {path} was just taking over what its log {log} has, and is nothing without it: put the log back, or restore a backup", path = path.display(), log = log.display())]
    LogNeeded {
        /// The file.
        path: PathBuf,
        /// Its log.
        log: PathBuf,
    },
    /// The log is not what was written.
    #[error("the log {path} is damaged: {what}; restore a backup, or what is left as an old copy (stmgr restore --without-log)", path = path.display())]
    LogDamaged {
        /// The log.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// There is a log where this database has none.
    #[error("{path} is not the log of the database that lies beside it, and may be all that another one has of its newest records: move it to that database, or away", path = path.display())]
    ForeignLog {
        /// The log.
        path: PathBuf,
    },
    /// The file has several names, and LMDB would have a lock file beside each.
    #[error("the database {path} has {names} names (hard links): remove the others, or copy it", path = path.display())]
    SeveralNames {
        /// The file.
        path: PathBuf,
        /// How many.
        names: u64,
    },
    /// A node wrote over what was being read.
    #[error("the database {path} changed while it was read: its node does not see who reads; was its lock file replaced, or is it on a read-only mount?", path = path.display())]
    NotKept {
        /// The file.
        path: PathBuf,
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
    /// All commits are done, and the pages could not take them, or the log could not be removed.
    #[error(
        "everything is saved, but the database could not be closed in order, and its log may be needed at the next start: {why}"
    )]
    LeftOpen {
        /// The file.
        path: PathBuf,
        /// What failed.
        why: Box<StoreError>,
    },
    /// The node that has it wrote so much, each time, that no moment's state could be read.
    #[error("the database {path} changes faster than it can be read; try again when its node has less to do", path = path.display())]
    Changing {
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

/// What can be done about a lock file that was refused.
fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::IsADirectory => {
            "; it must be writable by who runs this, or the folder if it is not there yet, and may be removed while no program \
             has the database open"
        }
        _ => "",
    }
}

impl StoreError {
    pub(super) fn io(path: &Path, error: io::Error) -> Self {
        StoreError::Io { path: path.to_owned(), error }
    }

    pub(super) fn full(path: &Path, limit: u64) -> Self {
        StoreError::Full { path: path.to_owned(), limit }
    }

    pub(super) fn lmdb(path: &Path, error: &heed::Error) -> Self {
        StoreError::Lmdb { path: path.to_owned(), why: error.to_string() }
    }

    pub(super) fn header(path: &Path, bad: BadHeader) -> Self {
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
            | StoreError::LockFile { path, .. }
            | StoreError::LogFile { path, .. }
            | StoreError::LogLost { path, .. }
            | StoreError::LogNeeded { path, .. }
            | StoreError::LogDamaged { path, .. }
            | StoreError::ForeignLog { path }
            | StoreError::SeveralNames { path, .. }
            | StoreError::NotKept { path }
            | StoreError::Lmdb { path, .. }
            | StoreError::Full { path, .. }
            | StoreError::BadKey { path, .. }
            | StoreError::TooLarge { path, .. }
            | StoreError::FailedBefore { path }
            | StoreError::LeftOpen { path, .. }
            | StoreError::Changing { path }
            | StoreError::Gone { path } => path,
        }
    }

    /// The same about the file that it will become. Only what a new file can suffer has another name.
    pub(super) fn renamed(self, to: &Path) -> Self {
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
