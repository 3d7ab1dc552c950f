//! The node's own relays and index servers, and where friends listen.
//!
//! A relay that the user removes is listened to until every friend that we keep a link to has signed for the list without it:
//! so nobody is lost while the relays change.

use std::collections::BTreeSet;

use offset_protocol::app::{Answer, IndexAddress, Name, Outcome, Refusal, RelayReport, ReportChange};
use offset_protocol::bytes::PublicKey;
use offset_protocol::codec::List;
use offset_protocol::limits::{MAX_INDEX_SERVERS, MAX_RELAYS};
use offset_protocol::relay::RelayAddress;
use offset_protocol::sometimes;

use super::io::FunderOutput;
use super::records::{self, IndexRecord, RelayRecord, kind};
use super::{Funder, IndexServer};

/// A relay of this node.
pub(super) struct Relay {
    pub(super) record: RelayRecord,
    pub(super) connected: bool,
    /// Friends that do not know yet that it retires.
    pub(super) awaiting: BTreeSet<PublicKey>,
}

impl Relay {
    pub(super) fn new(record: RelayRecord) -> Self {
        Relay { record, connected: false, awaiting: BTreeSet::new() }
    }

    fn report(&self) -> RelayReport {
        RelayReport { relay: self.record.relay.clone(), name: self.record.name.clone(), connected: self.connected }
    }
}

impl Funder {
    /// The relays that friends are told of.
    pub(super) fn our_relays(&self) -> List<RelayAddress, MAX_RELAYS> {
        let current = self.relays.values().filter(|relay| !relay.record.retiring);
        List::truncated(current.map(|relay| relay.record.relay.clone()))
    }

    /// `AddRelay`.
    pub(super) fn add_relay(&mut self, relay: RelayAddress, name: Name) -> Outcome {
        let key = relay.public_key;
        let current = || self.relays.values().filter(|relay| !relay.record.retiring);
        if let Some(known) = current().find(|known| known.record.relay.public_key == key) {
            let same = known.record.relay == relay && known.record.name == name;
            let refusal = Refusal::KeyTaken(known.record.name.clone());
            return if same { Outcome::Done(Answer::Done) } else { Outcome::Refused(refusal) };
        }
        if current().any(|known| known.record.name == name) {
            return Outcome::Refused(Refusal::NameTaken);
        }
        // Retiring relays count: they are listened to.
        if !self.relays.contains_key(&key) && self.relays.len() >= MAX_RELAYS {
            return Outcome::Refused(Refusal::LimitReached(MAX_RELAYS as u32));
        }
        let record = RelayRecord { relay: relay.clone(), name, retiring: false };
        self.changes.put(records::key(kind::RELAY, &key.0), &record);
        let added = Relay::new(record);
        self.hold(FunderOutput::Report(ReportChange::Relay(added.report())));
        self.relays.insert(key, added);
        self.hold(FunderOutput::Listen { relay });
        self.tell_friends_our_relays();
        Outcome::Done(Answer::Done)
    }

    /// `RemoveRelay`.
    pub(super) fn remove_relay(&mut self, name: &Name) -> Outcome {
        let named = |relay: &&mut Relay| !relay.record.retiring && relay.record.name == *name;
        let Some(relay) = self.relays.values_mut().find(named) else {
            return Outcome::Refused(Refusal::UnknownRelay);
        };
        relay.record.retiring = true;
        let key = relay.record.relay.public_key;
        self.changes.put(records::key(kind::RELAY, &key.0), &relay.record);
        self.hold(FunderOutput::Report(ReportChange::RelayRemoved(key)));
        self.tell_friends_our_relays();
        self.retire(key);
        Outcome::Done(Answer::Done)
    }

    /// Waits for the friends that must learn that a relay retires; lets it go at once if there are none.
    pub(super) fn retire(&mut self, key: PublicKey) {
        let waits = |friend: &super::Friend| friend.record.enabled && !friend.channel.relays_acknowledged();
        let awaiting = self.friends.iter().filter(|(_, friend)| waits(friend)).map(|(key, _)| *key).collect();
        if let Some(relay) = self.relays.get_mut(&key) {
            relay.awaiting = awaiting;
            sometimes!("funder: a relay retires and a friend does not know yet", !relay.awaiting.is_empty());
        }
        self.drop_retired();
    }

    fn drop_retired(&mut self) {
        let done = |relay: &&Relay| relay.record.retiring && relay.awaiting.is_empty();
        let retired: Vec<PublicKey> =
            self.relays.values().filter(done).map(|relay| relay.record.relay.public_key).collect();
        for key in retired {
            self.relays.remove(&key);
            self.changes.remove(records::key(kind::RELAY, &key.0));
            self.hold(FunderOutput::StopListening { relay: key });
        }
    }

    fn tell_friends_our_relays(&mut self) {
        let relays = self.our_relays();
        for (key, friend) in self.friends.iter_mut() {
            friend.channel.set_relays(relays.clone());
            self.touched.insert(*key);
        }
    }

    /// A friend has signed for our relays.
    pub(super) fn on_relays_acknowledged(&mut self, friend: PublicKey) {
        self.stop_awaiting(&friend);
    }

    /// Nobody waits any more for what this friend knows of our relays.
    pub(super) fn stop_awaiting(&mut self, friend: &PublicKey) {
        for relay in self.relays.values_mut() {
            relay.awaiting.remove(friend);
        }
        self.drop_retired();
    }

    /// Whether the node listens on a relay.
    pub(super) fn on_relay_status(&mut self, relay: PublicKey, connected: bool) {
        let Some(relay) = self.relays.get_mut(&relay) else { return };
        if relay.connected != connected {
            relay.connected = connected;
            if !relay.record.retiring {
                let report = relay.report();
                self.hold(FunderOutput::Report(ReportChange::Relay(report)));
            }
        }
    }

    /// `AddIndex`.
    pub(super) fn add_index(&mut self, server: IndexAddress, name: Name) -> Outcome {
        let key = server.public_key;
        if let Some(known) = self.index_servers.get(&key) {
            let same = known.record.server == server && known.record.name == name;
            let refusal = Refusal::KeyTaken(known.record.name.clone());
            return if same { Outcome::Done(Answer::Done) } else { Outcome::Refused(refusal) };
        }
        if self.index_servers.values().any(|known| known.record.name == name) {
            return Outcome::Refused(Refusal::NameTaken);
        }
        if self.index_servers.len() >= MAX_INDEX_SERVERS {
            return Outcome::Refused(Refusal::LimitReached(MAX_INDEX_SERVERS as u32));
        }
        let record = IndexRecord { server: server.clone(), name };
        self.changes.put(records::key(kind::INDEX, &key.0), &record);
        let added = IndexServer { record, connected: false };
        self.hold(FunderOutput::Report(ReportChange::Index(added.report())));
        self.index_servers.insert(key, added);
        self.hold(FunderOutput::UseIndex { server });
        Outcome::Done(Answer::Done)
    }

    /// `RemoveIndex`.
    pub(super) fn remove_index(&mut self, name: &Name) -> Outcome {
        let found = self.index_servers.iter().find(|(_, server)| server.record.name == *name);
        let Some(key) = found.map(|(key, _)| *key) else { return Outcome::Refused(Refusal::UnknownIndex) };
        self.index_servers.remove(&key);
        self.changes.remove(records::key(kind::INDEX, &key.0));
        self.hold(FunderOutput::Report(ReportChange::IndexRemoved(key)));
        self.hold(FunderOutput::StopIndex { server: key });
        Outcome::Done(Answer::Done)
    }

    /// Whether an index server is the one in use.
    pub(super) fn on_index_status(&mut self, server: PublicKey, connected: bool) {
        let Some(server) = self.index_servers.get_mut(&server) else { return };
        if server.connected != connected {
            server.connected = connected;
            let report = server.report();
            self.hold(FunderOutput::Report(ReportChange::Index(report)));
        }
    }

    /// A friend says where it listens.
    pub(super) fn on_friend_relays(&mut self, friend: PublicKey, relays: List<RelayAddress, MAX_RELAYS>) {
        let Some(state) = self.friends.get_mut(&friend) else { return };
        // A list without a relay would cut the friend off: it is of no use to anyone.
        if relays.is_empty() || state.record.relays == relays {
            return;
        }
        state.record.relays = relays;
        self.save_friend(&friend);
        self.keep_link(&friend);
    }
}
