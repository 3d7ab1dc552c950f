//! A folder of small files that takes effect while the program runs: tickets of trusted apps, of trusted servers.
//!
//! Twice a second the folder's names, sizes and times are compared with what they were; only a file that changed is read.
//! Simple, and right on every file system. A file that does not parse, or that we may not read, counts as absent and is named
//! in the log, once. A file that could not be read for another reason (no open file left, a disk that fails) is as it was, and
//! read again at the next look. A folder that is gone is empty, until it is back.

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
    read: fn(&Path, &Metadata) -> Result<Vec<u8>, Unread>,
    /// Every file that was looked at; `None` if it says nothing that can be read.
    files: BTreeMap<OsString, (Look, Option<T>)>,
    /// Those among them that could not be read the last time: what is known of them is old.
    unread: BTreeSet<OsString>,
    too_many: bool,
    was_there: bool,
    gone: bool,
}

/// Why a file says nothing.
enum Unread {
    /// What is there is of no use.
    Useless(String),
    /// It may be of use; the system could not give it to us now.
    Failed(io::Error),
}

impl From<io::Error> for Unread {
    fn from(error: io::Error) -> Self {
        if is_there_no_more(&error) || error.kind() == io::ErrorKind::PermissionDenied {
            return Unread::Useless(error.to_string());
        }
        Unread::Failed(error)
    }
}

/// Whether nothing is at a path, or it leads nowhere.
fn is_there_no_more(error: &io::Error) -> bool {
    /// Links that lead in a circle.
    const ELOOP: i32 = 40;
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
        || error.raw_os_error() == Some(ELOOP)
}

impl<T, P> Folder<T, P>
where
    T: Clone + PartialEq + Send + 'static,
    P: FnMut(&Path, &[u8]) -> Result<T, String> + Send + 'static,
{
    /// A folder that was never scanned; `parse` turns a file's path and content into a value, or says what is wrong.
    pub fn new(path: &Path, parse: P) -> Self {
        Folder {
            path: path.to_owned(),
            parse,
            most: MAX_FILES,
            read,
            files: BTreeMap::new(),
            unread: BTreeSet::new(),
            too_many: false,
            was_there: false,
            gone: false,
        }
    }

    /// The same with another number of files that are looked at.
    pub fn with_most(self, most: usize) -> Self {
        Folder { most, ..self }
    }

    /// What changed since the last scan, by name; the first time, everything.
    ///
    /// # Errors
    /// If the folder itself cannot be read; what is known stays. A folder that was there and is gone is no error, but empty.
    pub fn scan(&mut self) -> Result<Vec<FolderChange<T>>, FolderError> {
        let names = match self.names() {
            Ok(names) => {
                if std::mem::take(&mut self.gone) {
                    tracing::info!(folder = %self.path.display(), "the folder is back");
                }
                self.was_there = true;
                names
            }
            Err(error) if self.was_there && is_there_no_more(&error) => {
                if !std::mem::replace(&mut self.gone, true) {
                    tracing::warn!(folder = %self.path.display(), "the folder is gone, nothing that was in it counts until it is back");
                }
                BTreeSet::new()
            }
            Err(error) => return Err(FolderError { path: self.path.clone(), error }),
        };
        self.unread.retain(|name| names.contains(name));
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
        let metadata = match std::fs::metadata(&path).map_err(Unread::from) {
            Ok(metadata) if !metadata.is_dir() => metadata,
            Err(Unread::Failed(error)) => return self.keep(name, &error),
            // A folder, a link that leads nowhere any more, a file that vanished since it was listed: nothing to be read is
            // there.
            Ok(_) | Err(Unread::Useless(_)) => {
                let (_, value) = self.files.remove(&name)?;
                return value.map(|value| FolderChange::Removed { name, value });
            }
        };
        let look = Look::from(&metadata);
        if self.files.get(&name).is_some_and(|(before, _)| *before == look) {
            return None;
        }
        let content = match (self.read)(&path, &metadata) {
            Err(Unread::Failed(error)) => return self.keep(name, &error),
            Err(Unread::Useless(why)) => Err(why),
            Ok(content) => (self.parse)(&path, &content),
        };
        self.unread.remove(&name);
        let value = content.inspect_err(|why| tracing::warn!(file = %path.display(), "ignored: {why}")).ok();
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

impl<T, P> Folder<T, P> {
    /// Leaves a file that could not be read as it was; the next look tries again.
    fn keep(&mut self, name: OsString, error: &io::Error) -> Option<FolderChange<T>> {
        let file = self.path.join(&name);
        if self.unread.insert(name) {
            tracing::warn!(file = %file.display(), %error, "it cannot be read now, what it said before counts");
        }
        None
    }
}

impl<T, P> std::fmt::Debug for Folder<T, P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Folder").field("path", &self.path).field("files", &self.files.len()).finish_non_exhaustive()
    }
}

fn read(path: &Path, metadata: &Metadata) -> Result<Vec<u8>, Unread> {
    // Opening a pipe would wait for its writer.
    if !metadata.is_file() {
        return Err(Unread::Useless("not a file".to_owned()));
    }
    if metadata.len() > MAX_FILE_BYTES {
        return Err(Unread::Useless(format!("{} bytes, at most {MAX_FILE_BYTES} are read", metadata.len())));
    }
    let mut content = Vec::new();
    File::open(path)?.take(MAX_FILE_BYTES).read_to_end(&mut content)?;
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
    fn a_file_that_cannot_be_read_for_lack_of_open_files_is_as_it_was_and_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("a"), "1").unwrap();
        let mut watched = Folder::new(folder.path(), parse);
        assert_eq!(watched.scan().unwrap(), [added("a", "1")]);
        // The ticket is replaced, and another comes, while the program has no file left.
        std::fs::write(at("new"), "22").unwrap();
        std::fs::rename(at("new"), at("a")).unwrap();
        std::fs::write(at("b"), "3").unwrap();
        watched.read = |_, _| Err(io::Error::from_raw_os_error(24).into());
        assert_eq!(watched.scan().unwrap(), []);
        assert_eq!(watched.scan().unwrap(), []);
        watched.read = read;
        let changed = FolderChange::Changed { name: "a".into(), old: "1".into(), new: "22".into() };
        assert_eq!(watched.scan().unwrap(), [changed, added("b", "3")]);
        assert_eq!(watched.scan().unwrap(), []);
        assert!(watched.unread.is_empty());
    }

    #[test]
    fn a_folder_that_is_removed_is_empty_until_it_is_back() {
        let parent = tempfile::tempdir().unwrap();
        let (path, aside) = (parent.path().join("tickets"), parent.path().join("aside"));
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("a"), "1").unwrap();
        let mut watched = Folder::new(&path, parse);
        assert_eq!(watched.scan().unwrap(), [added("a", "1")]);
        std::fs::rename(&path, &aside).unwrap();
        let removed = FolderChange::Removed { name: "a".into(), value: "1".into() };
        assert_eq!(watched.scan().unwrap(), std::slice::from_ref(&removed));
        assert_eq!(watched.scan().unwrap(), []);
        std::fs::rename(&aside, &path).unwrap();
        assert_eq!(watched.scan().unwrap(), [added("a", "1")]);
        // Something else in its place is no folder either.
        std::fs::remove_dir_all(&path).unwrap();
        std::fs::write(&path, "").unwrap();
        assert_eq!(watched.scan().unwrap(), [removed]);
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
