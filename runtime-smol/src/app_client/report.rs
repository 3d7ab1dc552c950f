//! The node's report, built from its changes.

use std::collections::BTreeMap;

use offset_protocol::app::{FriendReport, IndexReport, RelayReport, ReportChange};
use offset_protocol::bytes::PublicKey;

/// What every registered app may see of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The node's relays.
    pub relays: BTreeMap<PublicKey, RelayReport>,
    /// Its index servers.
    pub index_servers: BTreeMap<PublicKey, IndexReport>,
    /// Its friends.
    pub friends: BTreeMap<PublicKey, FriendReport>,
}

impl Report {
    /// The report after one change.
    pub fn apply(&mut self, change: ReportChange) {
        match change {
            ReportChange::Relay(relay) => drop(self.relays.insert(relay.relay.public_key, relay)),
            ReportChange::RelayRemoved(key) => drop(self.relays.remove(&key)),
            ReportChange::Index(index) => drop(self.index_servers.insert(index.server.public_key, index)),
            ReportChange::IndexRemoved(key) => drop(self.index_servers.remove(&key)),
            ReportChange::Friend(friend) => drop(self.friends.insert(friend.public_key, friend)),
            ReportChange::FriendRemoved(key) => drop(self.friends.remove(&key)),
        }
    }

    /// The friend that the user calls `name`.
    pub fn friend(&self, name: &str) -> Option<&FriendReport> {
        self.friends.values().find(|friend| friend.name.as_str() == name)
    }

    /// The relay that the user calls `name`.
    pub fn relay(&self, name: &str) -> Option<&RelayReport> {
        self.relays.values().find(|relay| relay.name.as_str() == name)
    }

    /// The index server that the user calls `name`.
    pub fn index_server(&self, name: &str) -> Option<&IndexReport> {
        self.index_servers.values().find(|index| index.name.as_str() == name)
    }
}
