//! A file with a lock on it, which is given up with the file.

use std::fs::File;
use std::ops::Deref;
use std::path::Path;

use fs4::FileExt;

use super::StoreError;

/// A locked file. Dropping it gives up the lock, and not only the file: a process that is just being started has every file of
/// its parent, until it is the program that it will be, and would keep the lock as long.
#[derive(Debug)]
pub(super) struct Locked(File);

impl Locked {
    /// Locks it against every other process and every other use in this one.
    ///
    /// # Errors
    /// [`StoreError::InUse`] if somebody has it, and what the system says.
    pub(super) fn alone(file: File, path: &Path) -> Result<Locked, StoreError> {
        match FileExt::try_lock(&file) {
            Ok(()) => Ok(Locked(file)),
            Err(fs4::TryLockError::WouldBlock) => Err(StoreError::InUse { path: path.to_owned() }),
            Err(fs4::TryLockError::Error(error)) => Err(StoreError::io(path, error)),
        }
    }

    /// Locks it against writers; gives it back if there is one.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn shared(file: File, path: &Path) -> Result<Result<Locked, File>, StoreError> {
        match FileExt::try_lock_shared(&file) {
            Ok(()) => Ok(Ok(Locked(file))),
            Err(fs4::TryLockError::WouldBlock) => Ok(Err(file)),
            Err(fs4::TryLockError::Error(error)) => Err(StoreError::io(path, error)),
        }
    }
}

impl Deref for Locked {
    type Target = File;

    fn deref(&self) -> &File {
        &self.0
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        if let Err(error) = FileExt::unlock(&self.0) {
            tracing::warn!(%error, "a lock could not be given up before its file was closed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_given_up_with_its_file_even_while_a_child_that_is_being_started_has_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.db");
        File::create(&path).unwrap();
        let open = || File::options().read(true).write(true).open(&path).unwrap();
        let (alone, waiting) = (Locked::alone(open(), &path).unwrap(), open());
        assert!(matches!(Locked::alone(open(), &path), Err(StoreError::InUse { .. })));
        // What a child has between its start and its program: the same open file.
        let childs = alone.try_clone().unwrap();
        let Err(waiting) = Locked::shared(waiting, &path).unwrap() else { panic!("somebody has it") };
        drop(alone);
        let shared = Locked::shared(waiting, &path).unwrap().unwrap();
        assert!(matches!(Locked::alone(open(), &path), Err(StoreError::InUse { .. })));
        let childs = (childs, shared.try_clone().unwrap());
        drop(shared);
        assert!(Locked::alone(open(), &path).is_ok());
        drop(childs);
    }
}
