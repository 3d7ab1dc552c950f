//! What an app knows of its node: the report, rebuilt from its changes.

use std::collections::BTreeMap;

use offset_protocol::app::{FriendReport, IndexReport, RelayReport, ReportChange};
use offset_protocol::bytes::PublicKey;

/// A report as an app rebuilds it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReportBook {
    /// By key.
    pub friends: BTreeMap<PublicKey, FriendReport>,
    /// By key.
    pub relays: BTreeMap<PublicKey, RelayReport>,
    /// By key.
    pub indexes: BTreeMap<PublicKey, IndexReport>,
    next_number: u64,
    complete: bool,
}

impl ReportBook {
    /// Whether the whole report has arrived on the session that stands.
    pub const fn is_complete(&self) -> bool {
        self.complete
    }

    pub(super) fn on_session_lost(&mut self) {
        *self = ReportBook::default();
    }

    pub(super) fn on_report(&mut self, number: u64, changes: &[ReportChange], complete: bool) -> Result<(), String> {
        if number != self.next_number {
            return Err(format!("report number {number} came when {} was due", self.next_number));
        }
        self.next_number += 1;
        self.complete |= complete;
        for change in changes {
            self.apply(change);
        }
        Ok(())
    }

    /// Applies one change.
    pub fn apply(&mut self, change: &ReportChange) {
        match change {
            ReportChange::Relay(relay) => {
                self.relays.insert(relay.relay.public_key, relay.clone());
            }
            ReportChange::RelayRemoved(key) => {
                self.relays.remove(key);
            }
            ReportChange::Index(index) => {
                self.indexes.insert(index.server.public_key, index.clone());
            }
            ReportChange::IndexRemoved(key) => {
                self.indexes.remove(key);
            }
            ReportChange::Friend(friend) => {
                self.friends.insert(friend.public_key, friend.clone());
            }
            ReportChange::FriendRemoved(key) => {
                self.friends.remove(key);
            }
        }
    }
}
