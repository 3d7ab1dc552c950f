//! The report in pieces: changes that wait to be told, and messages that are never too long.
//!
//! 1. Of several changes of one thing only the last is told.
//! 2. A chunk has at most [`MAX_REPORT_CHANGES`] changes and, but for a single change, at most [`MAX_CHUNK_BYTES`].

use std::collections::BTreeMap;

use offset_protocol::app::{MAX_REPORT_CHANGES, ReportChange};
use offset_protocol::bytes::PublicKey;
use offset_protocol::codec::{List, encode};

/// Bytes of the changes in one message. Chosen freely: far below the longest message, and small enough that an app shows
/// the first part of a long report early. The longest single change, a friend with all its relays and currencies, has
/// less than a tenth of it.
const MAX_CHUNK_BYTES: usize = 256 * 1024;

/// What a change is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Relay(PublicKey),
    Index(PublicKey),
    Friend(PublicKey),
}

/// Changes that wait to be told.
#[derive(Debug, Default)]
pub(super) struct PendingChanges(BTreeMap<Subject, ReportChange>);

impl PendingChanges {
    pub(super) fn add(&mut self, change: ReportChange) {
        self.0.insert(subject(&change), change);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn take(&mut self) -> Vec<ReportChange> {
        std::mem::take(&mut self.0).into_values().collect()
    }
}

const fn subject(change: &ReportChange) -> Subject {
    match change {
        ReportChange::Relay(report) => Subject::Relay(report.relay.public_key),
        ReportChange::RelayRemoved(key) => Subject::Relay(*key),
        ReportChange::Index(report) => Subject::Index(report.server.public_key),
        ReportChange::IndexRemoved(key) => Subject::Index(*key),
        ReportChange::Friend(report) => Subject::Friend(report.public_key),
        ReportChange::FriendRemoved(key) => Subject::Friend(*key),
    }
}

/// The changes of one message.
#[derive(Clone, Debug)]
pub(super) struct Chunk {
    pub(super) changes: List<ReportChange, MAX_REPORT_CHANGES>,
    pub(super) complete: bool,
}

impl Default for Chunk {
    /// The whole of an empty report.
    fn default() -> Self {
        Chunk { changes: List::new(), complete: true }
    }
}

/// Cuts changes into messages. Each leaves the report whole; who builds a report from nothing marks the last one only.
pub(super) fn chunks(changes: Vec<ReportChange>) -> impl Iterator<Item = Chunk> {
    let mut changes = changes.into_iter().peekable();
    std::iter::from_fn(move || {
        changes.peek()?;
        let (mut chunk, mut bytes) = (Vec::new(), 0);
        while chunk.len() < MAX_REPORT_CHANGES
            && let Some(change) = changes.peek()
        {
            bytes += encode(change).len();
            if bytes > MAX_CHUNK_BYTES && !chunk.is_empty() {
                break;
            }
            chunk.extend(changes.next());
        }
        Some(Chunk { changes: List::truncated(chunk), complete: true })
    })
}
