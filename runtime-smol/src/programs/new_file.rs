//! A new file: whole or not at all, on the disk when it is said to be, and never over another one.

use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use offset_protocol::files::{self, Document, Kind};
use tempfile::NamedTempFile;

use super::exit::Failure;

/// Refuses a path at which there is something already.
///
/// # Errors
/// A [`Failure`] that names the file.
pub fn refuse_existing(path: &Path) -> Result<(), Failure> {
    // A dangling link is something, too.
    match path.symlink_metadata() {
        Ok(_) => Err(exists(path)),
        Err(_) => Ok(()),
    }
}

/// Reserve it before anything is done that the file shall tell of: a folder that cannot be written to is found out in time.
#[derive(Debug)]
pub struct NewFile {
    path: PathBuf,
    temporary: NamedTempFile,
}

impl NewFile {
    /// Checks that nothing is at `path` and that a file of `kind` can be made there. A file with a private key will be readable by
    /// its owner only.
    ///
    /// # Errors
    /// A [`Failure`] that names the file.
    pub fn reserve(path: &Path, kind: Kind) -> Result<NewFile, Failure> {
        refuse_existing(path)?;
        let mode = if kind.is_secret() { 0o600 } else { 0o644 };
        let mut builder = tempfile::Builder::new();
        let permissions = Permissions::from_mode(mode);
        // Hidden: watched folders do not look at it.
        builder.prefix(".offset-").permissions(permissions);
        let temporary = builder.tempfile_in(folder(path)).map_err(|error| cannot_write(path, &error))?;
        Ok(NewFile { path: path.to_owned(), temporary })
    }

    /// Writes `value`, which is on the disk when this returns.
    ///
    /// # Errors
    /// A [`Failure`] that names the file; then there is no new file.
    pub fn write<T: Document>(self, value: &T) -> Result<(), Failure> {
        let NewFile { path, mut temporary } = self;
        let text = files::print(value);
        let written = temporary.write_all(text.as_bytes()).and_then(|()| temporary.as_file().sync_all());
        written.map_err(|error| cannot_write(&path, &error))?;
        temporary.persist_noclobber(&path).map_err(|error| match error.error.kind() {
            io::ErrorKind::AlreadyExists => exists(&path),
            _ => cannot_write(&path, &error.error),
        })?;
        // The name survives a power cut, too; a file system that cannot promise it has kept the content at least.
        let _ = File::open(folder(&path)).and_then(|folder| folder.sync_all());
        Ok(())
    }
}

/// Takes back a file that this program made and that turned out to mean nothing.
pub fn remove(path: &Path) {
    // If it stays, it does no harm: the next run finds it and goes on.
    let _ = std::fs::remove_file(path);
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn exists(path: &Path) -> Failure {
    Failure::failed(format_args!("{} exists already and is not overwritten", path.display()))
}

fn cannot_write(path: &Path, error: &io::Error) -> Failure {
    Failure::failed(format_args!("cannot write {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use offset_protocol::identity::Identity;

    use super::super::files::write;
    use super::*;

    #[test]
    fn a_file_that_was_reserved_still_does_not_overwrite() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.ident");
        let (first, second) = (NewFile::reserve(&path, Kind::Identity), NewFile::reserve(&path, Kind::Identity));
        first.unwrap().write(&Identity::from_private_key(&[7; 32])).unwrap();
        let before = std::fs::read(&path).unwrap();
        let failure = second.unwrap().write(&Identity::from_private_key(&[8; 32])).unwrap_err();
        assert_eq!(failure.sentence, format!("{} exists already and is not overwritten", path.display()));
        assert_eq!(std::fs::read(&path).unwrap(), before);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left behind");
    }

    #[test]
    fn a_dangling_link_is_not_written_through() {
        let folder = tempfile::tempdir().unwrap();
        let (link, target) = (folder.path().join("link"), folder.path().join("elsewhere"));
        std::os::unix::fs::symlink(&target, &link).unwrap();
        assert!(write(&link, &Identity::from_private_key(&[7; 32])).is_err());
        assert!(!target.exists());
    }

    #[test]
    fn a_folder_that_cannot_be_written_to_is_found_out_when_the_file_is_reserved() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("no/such.file");
        let failure = NewFile::reserve(&path, Kind::Commit).unwrap_err();
        assert!(failure.sentence.starts_with(&format!("cannot write {}: ", path.display())), "{failure}");
    }
}
