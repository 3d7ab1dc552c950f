//! A new database, empty or a copy: whole and on the disk under its name, or not there at all.
//!
//! It is written beside its name, and gets its name only when it is on the disk. Nobody knows of it until then, so that it
//! needs no lock file; one that root left behind would be in the way of the node's user. A copy is written record by record as
//! they are read and checked: it holds nothing but what a node would find, no free pages, and needs no log.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use offset_protocol::bytes::PublicKey;
use offset_protocol::persist::Change;
use tempfile::NamedTempFile;

use super::link::{Link, Mark};
use super::source::{Content, Source};
use super::{Store, StoreError, Visitor, folder, log, sync_folder};

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
    Nameless::of(source, output, &mut |_, _| Ok(()))?.name()
}

/// A copy that is whole and has no name yet: whoever made it looks at what it holds first. Dropped, it is gone.
#[derive(Debug)]
pub struct Nameless {
    file: NamedTempFile,
    output: PathBuf,
    content: Content,
}

impl Nameless {
    /// Copies a database, for the name `output`; `visit` hears of every record, by key. The source is not needed any more then.
    ///
    /// # Errors
    /// As of [`copy`], or what `visit` says.
    pub fn of(source: &Source, output: &Path, visit: &mut Visitor<'_>) -> Result<Nameless, StoreError> {
        let (file, content) = write(output, source.owner(), |pages| fill(source, pages, visit))?;
        Ok(Nameless { file, output: output.to_owned(), content })
    }

    /// What there is in it.
    pub fn content(&self) -> Content {
        self.content
    }

    /// Gives it its name.
    ///
    /// # Errors
    /// If something has that name by now, or it cannot be given.
    pub fn name(self) -> Result<Content, StoreError> {
        name(self.file, &self.output)?;
        Ok(self.content)
    }
}

fn make(output: &Path, node: PublicKey, fill: impl FnOnce(&Link) -> Result<(), StoreError>) -> Result<(), StoreError> {
    let (file, ()) = write(output, node, fill)?;
    name(file, output)
}

/// Writes a database beside the name that it will get, onto the disk.
fn write<T>(
    output: &Path,
    node: PublicKey,
    fill: impl FnOnce(&Link) -> Result<T, StoreError>,
) -> Result<(NamedTempFile, T), StoreError> {
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
    Ok((temporary, made))
}

fn name(temporary: NamedTempFile, output: &Path) -> Result<(), StoreError> {
    temporary.persist_noclobber(output).map_err(|error| match error.error.kind() {
        io::ErrorKind::AlreadyExists => StoreError::Exists { path: output.to_owned() },
        _ => StoreError::io(output, error.error),
    })?;
    sync_folder(output)
}

fn fill(source: &Source, pages: &Link, visit: &mut Visitor<'_>) -> Result<Content, StoreError> {
    let (mut waiting, mut bytes) = (Vec::new(), 0);
    let content = source.read(&mut |key, value| {
        visit(key, value)?;
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
