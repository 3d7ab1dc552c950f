//! A new database, empty or a copy: whole and on the disk under its name, or not there at all.
//!
//! It is written beside its name, and gets its name only when it is on the disk. Nobody knows of it until then, so that it
//! needs no lock file; one that root left behind would be in the way of the node's user. A copy is written record by record as
//! they are read and checked: it holds nothing but what a node would find, no free pages, and needs no log.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use offset_protocol::bytes::PublicKey;
use offset_protocol::persist::Change;

use super::link::{Link, Mark};
use super::source::{Content, Source};
use super::{Store, StoreError, folder, log, sync_folder};

/// Bytes of records that one transaction writes at most: memory is bounded by it.
const MOST_AT_ONCE: usize = 4 << 20;

/// Makes a new, empty database that belongs to `node`, readable by its owner only, and closes it.
///
/// # Errors
/// [`StoreError::Exists`] if there is something already, which is left as it is; or if it cannot be written. Then there is no
/// new file; one that is hidden (`.offset-…`) may stay behind if the process was killed.
pub fn create(path: &Path, node: PublicKey) -> Result<(), StoreError> {
    make(path, node, |_| Ok(()))
}

/// Copies a database to `output`, readable by its owner only.
///
/// # Errors
/// As of [`create`]; or if the source is damaged.
pub fn copy(source: &Source, output: &Path) -> Result<Content, StoreError> {
    make(output, source.owner(), |pages| fill(source, pages))
}

fn make<T>(output: &Path, node: PublicKey, fill: impl FnOnce(&Link) -> Result<T, StoreError>) -> Result<T, StoreError> {
    // A dangling link is something, too; and so is the log of a database that was moved away.
    for path in [output.to_owned(), log::beside(output)] {
        if path.symlink_metadata().is_ok() {
            return Err(StoreError::Exists { path });
        }
    }
    let permissions = std::fs::Permissions::from_mode(0o600);
    let mut builder = tempfile::Builder::new();
    let temporary = builder.prefix(".offset-").permissions(permissions).tempfile_in(folder(output));
    let temporary = temporary.map_err(|error| StoreError::io(output, error))?;
    let file = temporary.reopen().map_err(|error| StoreError::io(output, error))?;
    // Whoever reads the error has never heard of the hidden file; what is wrong with a source names the source.
    let made = Store::start_new(temporary.path(), file, node)
        .and_then(|pages| fill(&pages))
        .map_err(|error| if error.path() == temporary.path() { error.renamed(output) } else { error })?;
    temporary.as_file().sync_all().map_err(|error| StoreError::io(output, error))?;
    temporary.persist_noclobber(output).map_err(|error| match error.error.kind() {
        io::ErrorKind::AlreadyExists => StoreError::Exists { path: output.to_owned() },
        _ => StoreError::io(output, error.error),
    })?;
    sync_folder(output)?;
    Ok(made)
}

fn fill(source: &Source, pages: &Link) -> Result<Content, StoreError> {
    let (mut waiting, mut bytes) = (Vec::new(), 0);
    let content = source.read(&mut |key, value| {
        bytes += key.len() + value.len();
        waiting.push(Change { key: key.to_vec(), value: Some(value.to_vec()) });
        if bytes < MOST_AT_ONCE {
            return Ok(());
        }
        bytes = 0;
        pages.commit(std::mem::take(&mut waiting), Mark::Nothing)?.wait()
    })?;
    pages.commit(waiting, Mark::Nothing)?.wait()?;
    Ok(content)
}
