//! The thread in front of the pages: a commit is done when the log has it.
//!
//! Invariants
//! 1. A commit is on the disk before its end is told, as a group of the log or, if it is larger than a half, in the pages.
//! 2. What stands in a half of the log is written over only after the pages have all of it. They take it in some transactions, the
//!    last of which says the number of its last group: until then all of it counts as not taken.
//! 3. After anything failed, no other commit is tried: only a restart from the disk knows what is there.
//! 4. In memory there is at most what both halves hold.
//!
//! While the pages take one half the other one is written to, so that commits wait for the pages only if these are slower than
//! the log fills.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::Receiver;

use offset_protocol::persist::Change;

use super::link::{self, Link, Mark, Request, Waiting};
use super::locked::Locked;
use super::log::Log;
use super::meta::LogState;
use super::overlay::Overlay;
use super::{StoreCounters, StoreError};

/// A log, the pages behind it, and what stands in the one and not in the other.
pub(super) struct Front {
    pub(super) path: PathBuf,
    pub(super) pages: Link,
    pub(super) log: Log,
    pub(super) counters: Arc<StoreCounters>,
    /// Kept until the log is gone: whoever has the lock may take a spent log away.
    pub(super) lock: Arc<Locked>,
}

/// Does commits until every sender is gone; then all is in the pages, and the log is gone.
///
/// # Errors
/// If that last step fails: the log stays, with everything that was committed. After a commit that failed nothing is tried.
pub(super) fn run(front: Front, requests: &Receiver<Request>) -> Result<(), StoreError> {
    let mut writer = Writer { front, overlay: Overlay::default(), taking: None, applied: 0, failed: false };
    while let Ok(Request { changes, mark: _, done }) = requests.recv() {
        done(writer.commit(changes));
    }
    writer.finish()
}

struct Writer {
    front: Front,
    /// What this half of the log holds.
    overlay: Overlay,
    /// The pages take what the other half holds.
    taking: Option<Waiting>,
    /// The last group that the pages were told to take.
    applied: u64,
    failed: bool,
}

impl Writer {
    fn commit(&mut self, changes: Vec<Change>) -> Result<(), StoreError> {
        let path = &self.front.path;
        if self.failed {
            return Err(StoreError::FailedBefore { path: path.clone() });
        }
        link::check(path, &changes)?;
        if changes.is_empty() {
            return Ok(());
        }
        let records = changes.len() as u64;
        let result = self.write(changes);
        self.failed = result.is_err();
        result?;
        let counters = &self.front.counters;
        counters.commits.fetch_add(1, Relaxed);
        counters.records.fetch_add(records, Relaxed);
        counters.waiting_bytes.store(self.overlay.bytes() as u64, Relaxed);
        Ok(())
    }

    fn write(&mut self, changes: Vec<Change>) -> Result<(), StoreError> {
        if let Some(result) = self.taking.as_ref().and_then(Waiting::poll) {
            self.taking = None;
            result?;
        }
        if !self.front.log.takes(&changes) {
            return self.write_through(changes);
        }
        if !self.front.log.has_room(&changes) {
            self.turn()?;
        }
        let bytes = self.front.log.append(&changes)?;
        self.overlay.put(changes);
        let counters = &self.front.counters;
        counters.flushes.fetch_add(StoreCounters::FLUSHES_PER_GROUP, Relaxed);
        counters.bytes.fetch_add(bytes, Relaxed);
        Ok(())
    }

    /// Lets the pages take this half, and goes on with the other one.
    fn turn(&mut self) -> Result<(), StoreError> {
        self.wait()?;
        let after = self.state(self.front.log.last());
        self.take(after)?;
        self.front.log.turn();
        Ok(())
    }

    /// What is larger than a half goes to the pages at once, in one transaction with everything before it: no log has it.
    fn write_through(&mut self, changes: Vec<Change>) -> Result<(), StoreError> {
        self.wait()?;
        self.overlay.put(changes);
        self.applied = self.front.log.skip();
        let changes = std::mem::take(&mut self.overlay).into_changes();
        self.front.pages.commit(changes, Mark::AtOnce(self.state(self.applied)))?.wait()?;
        self.front.log.turn();
        Ok(())
    }

    /// Lets the pages take what this half holds, all of which the log has.
    fn take(&mut self, after: LogState) -> Result<(), StoreError> {
        let (id, reaches) = (self.front.log.id(), self.front.log.last());
        let between = LogState::Open { id, applied: self.applied, reaches };
        let changes = std::mem::take(&mut self.overlay).into_changes();
        self.applied = reaches;
        self.taking = Some(self.front.pages.commit(changes, Mark::InParts { between, after })?);
        Ok(())
    }

    fn state(&self, applied: u64) -> LogState {
        LogState::at(self.front.log.id(), applied)
    }

    fn wait(&mut self) -> Result<(), StoreError> {
        self.taking.take().map_or(Ok(()), Waiting::wait)
    }

    /// Brings everything into the pages, and takes the log away: a database that nobody has open is one file.
    fn finish(mut self) -> Result<(), StoreError> {
        if self.failed {
            return Ok(());
        }
        let last = self.front.log.id();
        let taken = self.wait().and_then(|()| self.take(LogState::Closed { last })).and_then(|()| self.wait());
        let Front { path, pages, log, counters, lock } = self.front;
        counters.waiting_bytes.store(0, Relaxed);
        let closed = taken.and_then(|()| log.remove());
        drop(pages);
        // Only now: nobody else may look for a log before.
        drop(lock);
        closed.map_err(|why| StoreError::LeftOpen { path, why: Box::new(why) })
    }
}
