//! What apps and index servers are told of friends.

use offset_protocol::app::{ChannelReport, CurrencyReport, FriendReport, IndexReport, RelayReport, ReportChange};
use offset_protocol::bytes::PublicKey;
use offset_protocol::codec::{List, Text};
use offset_protocol::index::Entry;
use offset_protocol::money::{Currency, Rate};
use offset_protocol::mutant;

use super::io::{Disagreement, FunderOutput};
use super::{Friend, Funder, IndexServer, Reports};
use crate::friend_channel::Standing;
use offset_protocol::lean::LeanSet;

impl Friend {
    fn report(&self, public_key: PublicKey) -> FriendReport {
        let channel = match self.channel.standing() {
            Standing::Consistent { epoch } => ChannelReport::Consistent { epoch },
            Standing::Inconsistent { why, ours, theirs } => ChannelReport::Inconsistent {
                why: Text::new(&why.to_string()).unwrap_or_default(),
                ours: ours.clone(),
                theirs: theirs.cloned(),
            },
        };
        FriendReport {
            public_key,
            name: self.record.name.clone(),
            enabled: self.record.enabled,
            online: self.online,
            relays: self.record.relays.clone(),
            currencies: List::truncated(self.channel.currencies()),
            channel,
        }
    }

    /// What this friend could push to us, and beyond, if a payment could come this way now. Of a currency that we have closed
    /// nothing is said, as that is closed both ways: an edge that one end does not report is of no use the other way either.
    fn entry(&self, friend: PublicKey, report: &CurrencyReport) -> Option<Entry> {
        let is_open = report.is_open && report.listed && report.friend_listed;
        let usable = self.online && self.channel.is_resumed() && is_open;
        let currency = report.currency;
        let recv_capacity = self.channel.recv_capacity(&currency) + u128::from(mutant!(CapacityOffByOne));
        let rate = if mutant!(RateIgnored) { Rate::default() } else { report.rate };
        let entry = Entry { friend, currency, recv_capacity, forward_capacity: 0, rate };
        usable.then(|| entry.forwarding(self.channel.forward_capacity(&currency)))
    }
}

impl Funder {
    /// Tells apps and index servers what is different about these friends.
    pub(super) fn report_friends(&mut self, touched: &LeanSet<PublicKey>) {
        for friend in touched.iter() {
            self.report_friend(*friend);
        }
    }

    /// Tells whoever watches the node if this friend's channel is inconsistent.
    pub(super) fn tell_disagreement(&mut self, friend: PublicKey) {
        let Some(state) = self.friends.get(&friend) else { return };
        if let Standing::Inconsistent { why, .. } = state.channel.standing() {
            let (name, why) = (state.record.name.clone(), why.to_string());
            self.hold(FunderOutput::Disagrees(Disagreement { friend, name, why }));
        }
    }

    fn report_friend(&mut self, friend: PublicKey) {
        // What is published follows from the report and from whether the channel is resumed.
        self.publish(friend);
        if self.reports == Reports::NotTold {
            return;
        }
        let Some(state) = self.friends.get_mut(&friend) else { return };
        let report = state.report(friend);
        if state.reported.as_deref() == Some(&report) {
            return;
        }
        let is_lost = mutant!(ReportChangeLost) && state.reported.is_some();
        state.reported = Some(Box::new(report.clone()));
        if !is_lost {
            self.hold(FunderOutput::Report(ReportChange::Friend(report)));
        }
    }

    /// Tells the index servers what is different about a friend.
    fn publish(&mut self, friend: PublicKey) {
        let Some(state) = self.friends.get_mut(&friend) else { return };
        let mut outputs = Vec::new();
        let gone = |currency: &&Currency| state.channel.currency(currency).is_none();
        for currency in state.published.keys().filter(gone).copied().collect::<Vec<_>>() {
            state.published.remove(&currency);
            outputs.push(FunderOutput::RemoveEntry { friend, currency });
        }
        let entries: Vec<_> =
            state.channel.currencies().map(|report| (report.currency, state.entry(friend, &report))).collect();
        for (currency, entry) in entries {
            match entry {
                Some(entry) if state.published.get(&currency) != Some(&entry.value()) => {
                    state.published.insert(currency, entry.value());
                    outputs.push(FunderOutput::SetEntry(entry));
                }
                Some(_) => {}
                None if state.published.remove(&currency).is_some() => {
                    outputs.push(FunderOutput::RemoveEntry { friend, currency });
                }
                None => {}
            }
        }
        for output in outputs {
            self.hold(output);
        }
    }

    /// Answers sessions that began: the whole report as of this round, and the app's kept events.
    pub(super) fn take_snapshots(&mut self) {
        for (session, app) in std::mem::take(&mut self.snapshots) {
            let report = self.full_report();
            let events = self.events.of(&app);
            self.hold(FunderOutput::Snapshot { session, report, events });
        }
    }

    /// The whole report, as changes from nothing.
    pub fn full_report(&self) -> Vec<ReportChange> {
        let relays = self.relays.values().filter(|relay| !relay.record.retiring).map(|relay| {
            ReportChange::Relay(RelayReport {
                relay: relay.record.relay.clone(),
                name: relay.record.name.clone(),
                connected: relay.connected,
            })
        });
        let index = self.index_servers.values().map(|server| ReportChange::Index(server.report()));
        let friends = self
            .friends
            .iter()
            .skip(usize::from(mutant!(SnapshotNotComplete)))
            .map(|(key, friend)| ReportChange::Friend(friend.report(*key)));
        relays.chain(index).chain(friends).collect()
    }
}

impl IndexServer {
    pub(super) fn report(&self) -> IndexReport {
        IndexReport { server: self.record.server.clone(), name: self.record.name.clone(), connected: self.connected }
    }
}
