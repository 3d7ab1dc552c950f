//! A thread that does what it is asked, in order: the pages' and, in front of it, the log's.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use offset_protocol::persist::Change;

use super::StoreError;
use super::meta::{self, LogState};
use super::tree::MAX_VALUE;

/// Requests that wait for a thread. The machine has one revision in flight, so that two are already plenty.
const MAX_WAITING: usize = 16;

/// What a thread is asked to do.
pub(super) struct Request {
    pub(super) changes: Vec<Change>,
    /// Of the pages only.
    pub(super) mark: Mark,
    pub(super) done: Done,
}

/// What the pages are to know of the log.
#[derive(Clone, Copy, Debug)]
pub(super) enum Mark {
    /// What they know.
    Nothing,
    /// This, in one transaction with all changes.
    AtOnce(LogState),
    /// The log has all changes as well, so that several transactions may do: `between` until the last, which says `after`.
    InParts { between: LogState, after: LogState },
}

/// Hears of the end of a commit, on the thread that did it.
pub(super) type Done = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// Hears once whether a thread could begin.
pub(super) type Ready = SyncSender<Result<(), StoreError>>;

/// A thread that runs. Dropping it waits until it has done what it was asked.
#[derive(Debug)]
pub(super) struct Link {
    path: PathBuf,
    requests: Option<SyncSender<Request>>,
    thread: Option<JoinHandle<Result<(), StoreError>>>,
}

impl Link {
    /// Starts a thread, and waits until it says that it is ready. It ends when all requests are done and none can come; what it
    /// then returns is what [`Link::close`] says.
    ///
    /// # Errors
    /// What the thread says.
    pub(super) fn start(
        path: &Path,
        name: &str,
        run: impl FnOnce(&Ready, &Receiver<Request>) -> Result<(), StoreError> + Send + 'static,
    ) -> Result<Link, StoreError> {
        let (requests, inbox) = sync_channel(MAX_WAITING);
        let (ready, opened) = sync_channel(1);
        let thread = std::thread::Builder::new().name(name.into()).spawn(move || run(&ready, &inbox));
        let thread = thread.map_err(|error| StoreError::io(path, error))?;
        let link = Link { path: path.to_owned(), requests: Some(requests), thread: Some(thread) };
        opened.recv().unwrap_or_else(|_| Err(link.gone()))?;
        Ok(link)
    }

    /// Asks, and does not wait.
    ///
    /// # Errors
    /// If the thread is gone; nobody hears of the end then.
    pub(super) fn ask(&self, request: Request) -> Result<(), StoreError> {
        let requests = self.requests.as_ref().ok_or_else(|| self.gone())?;
        requests.send(request).map_err(|_| self.gone())
    }

    /// Asks for a commit whose end comes through a channel.
    pub(super) fn commit(&self, changes: Vec<Change>, mark: Mark) -> Result<Waiting, StoreError> {
        let (answer, done) = sync_channel(1);
        // Nobody waits for the answer only if the thread that asked is gone.
        self.ask(Request { changes, mark, done: Box::new(move |result| drop(answer.send(result))) })?;
        Ok(Waiting { done, path: self.path.clone() })
    }

    /// Waits until the thread has done what it was asked, and has ended.
    ///
    /// # Errors
    /// If its end failed, or it panicked.
    pub(super) fn close(mut self) -> Result<(), StoreError> {
        self.end()
    }

    fn end(&mut self) -> Result<(), StoreError> {
        self.requests = None;
        match self.thread.take().map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(self.gone()),
        }
    }

    fn gone(&self) -> StoreError {
        StoreError::Gone { path: self.path.clone() }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::error!(path = %self.path.display(), %error, "the store did not end in order");
        }
    }
}

/// A commit that was asked for.
#[derive(Debug)]
pub(super) struct Waiting {
    done: Receiver<Result<(), StoreError>>,
    path: PathBuf,
}

impl Waiting {
    /// Waits for its end.
    pub(super) fn wait(self) -> Result<(), StoreError> {
        self.done.recv().unwrap_or(Err(StoreError::Gone { path: self.path }))
    }

    /// Its end, if it has ended.
    pub(super) fn poll(&self) -> Option<Result<(), StoreError>> {
        match self.done.try_recv() {
            Ok(result) => Some(result),
            Err(std::sync::mpsc::TryRecvError::Empty) => None,
            Err(std::sync::mpsc::TryRecvError::Disconnected) => Some(Err(StoreError::Gone { path: self.path.clone() })),
        }
    }
}

/// Refuses what no store takes: nothing of it is written.
pub(super) fn check(path: &Path, changes: &[Change]) -> Result<(), StoreError> {
    if let Some(bad) = changes.iter().find(|change| !(1..=meta::MAX_KEY).contains(&change.key.len())) {
        return Err(StoreError::BadKey { path: path.to_owned(), size: bad.key.len() });
    }
    let large = |change: &&Change| change.value.as_ref().is_some_and(|value| value.len() > MAX_VALUE - meta::SEAL);
    if let Some(large) = changes.iter().find(large) {
        let size = large.value.as_ref().map_or(0, Vec::len);
        return Err(StoreError::TooLarge { path: path.to_owned(), size });
    }
    Ok(())
}
