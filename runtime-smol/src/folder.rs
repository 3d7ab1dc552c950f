//! A folder of small files that takes effect while the program runs: tickets of trusted apps, of trusted servers.
//!
//! Twice a second the folder's names, sizes and times are compared with what they were; only a file that changed is read.
//! Simple, and right on every file system. A file that does not parse counts as absent and is named in the log, once.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// How often the folder is looked at.
pub const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// Files that are looked at, the first by name, if nothing else is said. Chosen freely, far above what a person trusts.
pub const MAX_FILES: usize = 1_024;
/// Bytes of one file. Chosen freely: a ticket has a few hundred.
pub const MAX_FILE_BYTES: u64 = 64 * 1024;

/// What happened to a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FolderChange<T> {
    /// A file is there that was not, or now can be read.
    Added {
        /// Its name.
        name: OsString,
        /// Its content.
        value: T,
    },
    /// A file has different content.
    Changed {
        /// Its name.
        name: OsString,
        /// What it said before.
        old: T,
        /// What it says now.
        new: T,
    },
    /// A file is gone, or can no longer be read.
    Removed {
        /// Its name.
        name: OsString,
        /// What it said before.
        value: T,
    },
}

/// A folder cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the folder {path}: {error}", path = path.display())]
pub struct FolderError {
    path: PathBuf,
    error: io::Error,
}

/// Watches a folder until it is dropped.
#[derive(Debug)]
pub struct FolderWatch {
    _until: Sender<()>,
}

/// What a file was when it was last looked at. A file written twice within one tick of the file system's clock, without a
/// change of size, is noticed by its change time or its inode at the latest.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Look {
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl From<&Metadata> for Look {
    fn from(metadata: &Metadata) -> Self {
        Look {
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// The folder as it was when it was last scanned.
pub struct Folder<T, P> {
    path: PathBuf,
    parse: P,
    most: usize,
    /// Every file that was looked at; `None` if it says nothing that can be read.
    files: BTreeMap<OsString, (Look, Option<T>)>,
    too_many: bool,
}

impl<T, P> Folder<T, P>
where
    T: Clone + PartialEq + Send + 'static,
    P: FnMut(&Path, &[u8]) -> Result<T, String> + Send + 'static,
{
    /// A folder that was never scanned; `parse` turns a file's path and content into a value, or says what is wrong.
    pub fn new(path: &Path, parse: P) -> Self {
        Folder { path: path.to_owned(), parse, most: MAX_FILES, files: BTreeMap::new(), too_many: false }
    }

    /// The same with another number of files that are looked at.
    pub fn with_most(self, most: usize) -> Self {
        Folder { most, ..self }
    }

    /// What changed since the last scan, by name; the first time, everything.
    ///
    /// # Errors
    /// If the folder itself cannot be read; what is known stays.
    pub fn scan(&mut self) -> Result<Vec<FolderChange<T>>, FolderError> {
        let names = self.names().map_err(|error| FolderError { path: self.path.clone(), error })?;
        let gone: Vec<_> = self.files.keys().filter(|name| !names.contains(*name)).cloned().collect();
        let removed = gone.into_iter().filter_map(|name| {
            let (_, value) = self.files.remove(&name)?;
            value.map(|value| FolderChange::Removed { name, value })
        });
        let mut changes: Vec<_> = removed.collect();
        changes.extend(names.into_iter().filter_map(|name| self.look(name)));
        Ok(changes)
    }

    /// Scans twice a second on a thread of its own, until the watch is dropped.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn watch(mut self, mut report: impl FnMut(FolderChange<T>) + Send + 'static) -> io::Result<FolderWatch> {
        let (until, dropped) = channel::<()>();
        let run = move || {
            let mut failing = false;
            while dropped.recv_timeout(POLL_INTERVAL) == Err(RecvTimeoutError::Timeout) {
                match self.scan() {
                    Ok(changes) => {
                        failing = false;
                        changes.into_iter().for_each(&mut report);
                    }
                    Err(error) if !failing => {
                        failing = true;
                        tracing::warn!(%error, "what was trusted before stays trusted");
                    }
                    Err(_) => {}
                }
            }
        };
        std::thread::Builder::new().name("folder".into()).spawn(run)?;
        Ok(FolderWatch { _until: until })
    }

    /// The names that count: not hidden, which keeps out what editors leave, and at most [`MAX_FILES`].
    fn names(&mut self) -> io::Result<BTreeSet<OsString>> {
        let mut names = BTreeSet::new();
        let mut too_many = false;
        for entry in std::fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            if name.as_encoded_bytes().starts_with(b".") {
                continue;
            }
            names.insert(name);
            if names.len() > self.most {
                too_many = true;
                names.pop_last();
            }
        }
        if too_many && !self.too_many {
            tracing::warn!(folder = %self.path.display(), limit = self.most, "too many files, the last by name are ignored");
        }
        self.too_many = too_many;
        Ok(names)
    }

    fn look(&mut self, name: OsString) -> Option<FolderChange<T>> {
        let path = self.path.join(&name);
        // A folder, a link that leads nowhere any more, a file that vanished since it was listed: nothing to be read is there.
        let Some(metadata) = std::fs::metadata(&path).ok().filter(|metadata| !metadata.is_dir()) else {
            let (_, value) = self.files.remove(&name)?;
            return value.map(|value| FolderChange::Removed { name, value });
        };
        let look = Look::from(&metadata);
        if self.files.get(&name).is_some_and(|(before, _)| *before == look) {
            return None;
        }
        let value = match read(&path, &metadata).and_then(|content| (self.parse)(&path, &content)) {
            Ok(value) => Some(value),
            Err(why) => {
                tracing::warn!(file = %path.display(), "ignored: {why}");
                None
            }
        };
        let before = self.files.insert(name.clone(), (look, value.clone())).and_then(|(_, value)| value);
        match (before, value) {
            (None, None) => None,
            (None, Some(value)) => Some(FolderChange::Added { name, value }),
            (Some(value), None) => Some(FolderChange::Removed { name, value }),
            (Some(old), Some(new)) if old == new => None,
            (Some(old), Some(new)) => Some(FolderChange::Changed { name, old, new }),
        }
    }
}

impl<T, P> std::fmt::Debug for Folder<T, P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Folder").field("path", &self.path).field("files", &self.files.len()).finish_non_exhaustive()
    }
}

fn read(path: &Path, metadata: &Metadata) -> Result<Vec<u8>, String> {
    // Opening a pipe would wait for its writer.
    if !metadata.is_file() {
        return Err("not a file".to_owned());
    }
    if metadata.len() > MAX_FILE_BYTES {
        return Err(format!("{} bytes, at most {MAX_FILE_BYTES} are read", metadata.len()));
    }
    let mut content = Vec::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    file.take(MAX_FILE_BYTES).read_to_end(&mut content).map_err(|error| error.to_string())?;
    Ok(content)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    fn parse(_: &Path, content: &[u8]) -> Result<String, String> {
        match String::from_utf8_lossy(content).into_owned() {
            text if text.starts_with("bad") => Err("bad".to_owned()),
            text => Ok(text),
        }
    }

    fn added(name: &str, value: &str) -> FolderChange<String> {
        FolderChange::Added { name: name.into(), value: value.into() }
    }

    #[test]
    fn every_change_is_told_once_with_what_was_there_before() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("a"), "1").unwrap();
        std::fs::write(at("b"), "bad").unwrap();
        std::fs::write(at(".hidden"), "1").unwrap();
        std::fs::create_dir(at("sub")).unwrap();
        let mut watched = Folder::new(folder.path(), parse);
        assert_eq!(watched.scan().unwrap(), [added("a", "1")]);
        assert_eq!(watched.scan().unwrap(), []);
        std::fs::write(at("a"), "22").unwrap();
        std::fs::write(at("b"), "good").unwrap();
        let changed = FolderChange::Changed { name: "a".into(), old: "1".into(), new: "22".into() };
        assert_eq!(watched.scan().unwrap(), [changed, added("b", "good")]);
        std::fs::remove_file(at("a")).unwrap();
        std::fs::write(at("b"), "bad again").unwrap();
        let removed = |name: &str, value: &str| FolderChange::Removed { name: name.into(), value: value.into() };
        assert_eq!(watched.scan().unwrap(), [removed("a", "22"), removed("b", "good")]);
    }

    #[test]
    fn a_link_that_leads_nowhere_any_more_and_a_folder_in_a_files_place_say_nothing() {
        let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (target, file) = (elsewhere.path().join("target"), folder.path().join("b"));
        std::fs::write(&target, "1").unwrap();
        std::os::unix::fs::symlink(&target, folder.path().join("a")).unwrap();
        std::fs::write(&file, "2").unwrap();
        let mut watched = Folder::new(folder.path(), parse);
        assert_eq!(watched.scan().unwrap(), [added("a", "1"), added("b", "2")]);
        std::fs::remove_file(&target).unwrap();
        std::fs::remove_file(&file).unwrap();
        std::fs::create_dir(&file).unwrap();
        let removed = |name: &str, value: &str| FolderChange::Removed { name: name.into(), value: value.into() };
        assert_eq!(watched.scan().unwrap(), [removed("a", "1"), removed("b", "2")]);
        assert_eq!(watched.scan().unwrap(), []);
        std::fs::write(&target, "3").unwrap();
        assert_eq!(watched.scan().unwrap(), [added("a", "3")]);
    }

    #[test]
    fn a_large_file_is_ignored_and_the_last_of_too_many_too() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), vec![b'x'; 64 * 1024 + 1]).unwrap();
        for n in 0..MAX_FILES + 5 {
            std::fs::write(folder.path().join(format!("b{n:04}")), "1").unwrap();
        }
        let changes = Folder::new(folder.path(), parse).scan().unwrap();
        assert_eq!(changes.len(), MAX_FILES - 1);
        assert_eq!(changes.first(), Some(&added("b0000", "1")));
    }

    #[test]
    fn a_missing_folder_is_an_error_that_names_it() {
        let error = Folder::new(Path::new("/no/such/folder"), parse).scan().unwrap_err();
        assert!(error.to_string().starts_with("cannot read the folder /no/such/folder: "), "{error}");
    }

    #[test]
    fn a_watched_folder_reports_until_the_watch_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let (tell, hear) = channel();
        let watch = Folder::new(folder.path(), parse).watch(move |change| tell.send(change).unwrap()).unwrap();
        std::fs::write(folder.path().join("a"), "1").unwrap();
        assert_eq!(hear.recv(), Ok(added("a", "1")));
        drop(watch);
        assert!(hear.recv().is_err(), "the thread ended");
    }
}
