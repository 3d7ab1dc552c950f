//! A copy of a database: whole and on the disk under its name, or not there at all.
//!
//! The copy is written as a new database beside its name, record by record as they are read and checked, so that it holds
//! nothing but what a node would find, and no free pages. Only when it is on the disk does it get its name.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use offset_protocol::persist::Change;

use super::source::{Content, Source};
use super::{Locking, MAX_MAP, Store, StoreError, folder, sync_folder};

/// Bytes of records that one transaction writes at most: memory is bounded by it.
const MOST_AT_ONCE: usize = 4 << 20;

/// Copies a database to `output`, readable by its owner only.
///
/// # Errors
/// If the source is damaged, there is something at `output` already, or it cannot be written. Then there is no new file; one
/// that is hidden (`.offset-…`) may stay behind if the process was killed.
pub fn copy(source: &Source, output: &Path) -> Result<Content, StoreError> {
    // A dangling link is something, too.
    if output.symlink_metadata().is_ok() {
        return Err(StoreError::Exists { path: output.to_owned() });
    }
    let permissions = std::fs::Permissions::from_mode(0o600);
    let mut builder = tempfile::Builder::new();
    let temporary = builder.prefix(".offset-").permissions(permissions).tempfile_in(folder(output));
    let temporary = temporary.map_err(|error| StoreError::io(output, error))?;
    let file = temporary.reopen().map_err(|error| StoreError::io(output, error))?;
    let store = Store::start_new(temporary.path(), file, MAX_MAP, source.owner(), Locking::Alone);
    // Whoever reads the error has never heard of the hidden file; what is wrong with the source names the source.
    let content = store
        .and_then(|store| fill(source, &store))
        .map_err(|error| if error.path() == temporary.path() { error.renamed(output) } else { error })?;
    temporary.as_file().sync_all().map_err(|error| StoreError::io(output, error))?;
    temporary.persist_noclobber(output).map_err(|error| match error.error.kind() {
        io::ErrorKind::AlreadyExists => StoreError::Exists { path: output.to_owned() },
        _ => StoreError::io(output, error.error),
    })?;
    sync_folder(output)?;
    Ok(content)
}

fn fill(source: &Source, store: &Store) -> Result<Content, StoreError> {
    let (mut waiting, mut bytes) = (Vec::new(), 0);
    let content = source.read(&mut |key, value| {
        bytes += key.len() + value.len();
        waiting.push(Change { key: key.to_vec(), value: Some(value.to_vec()) });
        if bytes < MOST_AT_ONCE {
            return Ok(());
        }
        bytes = 0;
        store.commit(std::mem::take(&mut waiting))
    })?;
    store.commit(waiting)?;
    Ok(content)
}
