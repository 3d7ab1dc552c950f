//! A funder as those see it who look on from outside: a simulator's checkers, tests. Nothing here changes anything.

use std::collections::BTreeMap;

use offset_protocol::bytes::{PublicKey, RequestId};
use offset_protocol::index::{Entry, EntryKey};
use offset_protocol::limits::{MAX_FRIENDS, MAX_INDEX_SERVERS, MAX_RELAYS};
use offset_protocol::machine::Seed;

use super::records::Source;
use super::{Funder, FunderConfig, MAX_INVOICES, MAX_KEPT_EVENTS, MAX_OPEN_PAYMENTS, MAX_PAYMENTS, MAX_QUERIES};
use crate::friend_channel::{Channel, Size, Standing};

/// A funder and its records do not say the same.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: the records say {restored}, the node is {live}")]
pub struct Differs {
    /// Which entity.
    pub what: String,
    /// How a restart would find it; nothing if there would be none.
    pub restored: String,
    /// How it is.
    pub live: String,
}

/// What a funder remembers of requests, payments and invoices, and what it is about to do. All zero when nothing is open and
/// apps have forgotten what ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Remembers {
    /// Requests on their way through.
    pub transits: usize,
    /// Payments, ended ones included.
    pub payments: usize,
    /// Invoices, ended ones included.
    pub invoices: usize,
    /// Questions to the index servers.
    pub questions: usize,
    /// Apps with events that they have not acknowledged.
    pub apps_behind: usize,
    /// Friends whose channel will say something by itself.
    pub alarms: usize,
    /// Friends that are to be spoken to, and outputs that wait.
    pub waiting: usize,
}

/// What a node has, by state, without a name, key or amount: for whoever watches many nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Friends that are enabled, consistent and connected.
    pub friends_online: usize,
    /// Friends that are enabled, consistent and not connected.
    pub friends_offline: usize,
    /// Friends that are disabled; the channel may be inconsistent as well.
    pub friends_disabled: usize,
    /// Friends that are enabled and whose channel is inconsistent, connected or not.
    pub friends_inconsistent: usize,
    /// Relays in use with a listener of ours.
    pub relays_connected: usize,
    /// Relays in use without one.
    pub relays_disconnected: usize,
    /// Index servers with a session of ours.
    pub index_servers_connected: usize,
    /// Index servers without one.
    pub index_servers_disconnected: usize,
    /// Requests on their way through, those that begin or end here included.
    pub open_requests: usize,
    /// Payments whose outcome is not known yet.
    pub open_payments: usize,
}

impl Funder {
    /// What there is, by state. Looks at every friend, relay and index server once.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts {
            relays_connected: self.relays.values().filter(|relay| !relay.record.retiring && relay.connected).count(),
            relays_disconnected: self
                .relays
                .values()
                .filter(|relay| !relay.record.retiring && !relay.connected)
                .count(),
            index_servers_connected: self.index_servers.values().filter(|server| server.connected).count(),
            index_servers_disconnected: self.index_servers.values().filter(|server| !server.connected).count(),
            open_requests: self.transits.len(),
            open_payments: self.open_payments,
            ..Counts::default()
        };
        for friend in self.friends.values() {
            let inconsistent = matches!(friend.channel.standing(), Standing::Inconsistent { .. });
            *match (friend.record.enabled, inconsistent, friend.online) {
                (false, _, _) => &mut counts.friends_disabled,
                (true, true, _) => &mut counts.friends_inconsistent,
                (true, false, true) => &mut counts.friends_online,
                (true, false, false) => &mut counts.friends_offline,
            } += 1;
        }
        counts
    }

    /// What it remembers.
    pub fn remembers(&self) -> Remembers {
        Remembers {
            transits: self.transits.len(),
            payments: self.payments.len(),
            invoices: self.invoices.len(),
            questions: self.queries.len(),
            apps_behind: self.events.apps_behind(),
            alarms: self.alarms.len(),
            waiting: self.touched.len() + self.held.len() + self.ready.len() + self.todo.len(),
        }
    }

    /// The channels to all friends, by key.
    pub fn channels(&self) -> impl Iterator<Item = &Channel> {
        self.friends.values().map(|friend| &friend.channel)
    }

    /// Friends whose links are up, as far as this knows.
    #[cfg(any(test, feature = "probes"))]
    pub(crate) fn friends_online(&self) -> impl Iterator<Item = &PublicKey> {
        self.friends.iter().filter(|(_, friend)| friend.online).map(|(key, _)| key)
    }

    /// The channel to one friend.
    pub fn channel(&self, friend: &PublicKey) -> Option<&Channel> {
        self.friends.get(friend).map(|friend| &friend.channel)
    }

    /// What the index servers were told last.
    pub fn published(&self) -> impl Iterator<Item = Entry> {
        self.friends.iter().flat_map(|(&friend, state)| {
            state.published.iter().map(move |(&currency, said)| EntryKey { friend, currency }.entry(*said))
        })
    }

    /// The relays on which this node listens, those included that it leaves once all friends know the others.
    pub fn listens_on(&self) -> impl Iterator<Item = PublicKey> {
        self.relays.keys().copied()
    }

    /// The requests on their way through this node.
    pub fn transits(&self) -> impl Iterator<Item = RequestId> {
        self.transits.keys().copied()
    }

    /// Whether a request on its way through this node is one of others, and not part of a payment of its own.
    pub fn is_of_others(&self, request_id: &RequestId) -> bool {
        let transit = self.transits.get(request_id);
        transit.is_some_and(|transit| !matches!(transit.from, Source::Payment(_)))
    }

    /// How a request on its way through this node stands, for whoever looks for what is stuck.
    pub fn describe_transit(&self, request_id: &RequestId) -> Option<String> {
        self.transits.get(request_id).map(|transit| format!("{transit:?}"))
    }

    /// How many requests are on their way through this node.
    pub fn open_transits(&self) -> usize {
        self.transits.len()
    }

    /// Everything that could grow, channels included, with its limit. What waits to leave has no limit of its own: it is
    /// what one turn brings about, and is empty when nothing is under way.
    pub fn sizes(&self) -> Vec<Size> {
        let open: usize = self.channels().map(|channel| channel.open_requests()).map(|(out, inc)| out + inc).sum();
        let queued: usize = self.channels().map(|channel| channel.all_queued().count()).sum();
        let kept = self.events.longest();
        let collecting = self.friends.values().map(|friend| friend.collecting.len()).sum();
        let held = self.held.len() + self.ready.len() + self.in_flight.as_ref().map_or(0, Vec::len);
        let mut sizes = vec![
            Size::lasting("friends", self.friends.len(), MAX_FRIENDS),
            Size::lasting("relays", self.relays.len(), MAX_RELAYS),
            Size::lasting("index servers", self.index_servers.len(), MAX_INDEX_SERVERS),
            Size::lasting("payments", self.payments.len(), MAX_PAYMENTS),
            Size::passing("open payments", self.open_payments, MAX_OPEN_PAYMENTS),
            Size::lasting("invoices", self.invoices.len(), MAX_INVOICES),
            Size::lasting("kept events of an app", kept, MAX_KEPT_EVENTS),
            Size::passing("questions", self.queries.len(), MAX_QUERIES + self.open_payments),
            Size::passing("transits", self.transits.len(), open + queued),
            Size::passing("parts being collected", collecting, open),
            Size::lasting("alarms", self.alarms.len(), self.friends.len()),
            Size::passing("outputs that wait", held, usize::MAX),
            Size::passing("records that wait", self.changes.len(), usize::MAX),
            Size::passing("friends with news", self.touched.len(), self.friends.len()),
        ];
        sizes.extend(self.channels().flat_map(Channel::sizes));
        sizes
    }

    /// Whether everything that this node knows was handed to its disk.
    pub fn is_written(&self) -> bool {
        self.changes.is_empty() && self.touched.is_empty()
    }

    /// Compares everything that a restart from `records` would find with how it is now. Nothing to compare while something
    /// waits for the next revision: that is not meant to be in any record yet.
    ///
    /// # Errors
    /// The first difference, or why the records cannot be read.
    pub fn compare_with(&self, records: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>) -> Result<(), Differs> {
        if !self.is_written() {
            return Ok(());
        }
        let config = FunderConfig { signer: self.signer.clone(), seed: Seed::from_number(0) };
        let restored = Funder::rebuild(config, records).map_err(|error| Differs {
            what: "database".to_owned(),
            restored: error.to_string(),
            live: "running".to_owned(),
        })?;
        if self.is_like(&restored) {
            return Ok(());
        }
        let (mut restored, live) = (restored.portrait(), self.portrait());
        for (what, live) in live {
            let found = restored.remove(&what).unwrap_or_default();
            if found != live {
                return Err(Differs { what, restored: found, live });
            }
        }
        match restored.pop_first() {
            None => Ok(()),
            Some((what, restored)) => Err(Differs { what, restored, live: String::new() }),
        }
    }

    /// Whether a restart that found `other` would have found this one. Cheaper than to compare portraits.
    fn is_like(&self, other: &Funder) -> bool {
        let friends = self.friends.iter().zip(&other.friends);
        let mut friends = friends.map(|((key, one), (other_key, other))| {
            key == other_key && one.record == other.record && one.channel.is_like(&other.channel)
        });
        let relays = |funder: &'_ Funder| funder.relays.values().map(|relay| relay.record.clone()).collect::<Vec<_>>();
        let servers =
            |funder: &'_ Funder| funder.index_servers.values().map(|server| server.record.clone()).collect::<Vec<_>>();
        self.friends.len() == other.friends.len()
            && friends.all(|is_like| is_like)
            && self.relays.keys().eq(other.relays.keys())
            && relays(self) == relays(other)
            && self.index_servers.keys().eq(other.index_servers.keys())
            && servers(self) == servers(other)
            && self.transits == other.transits
            && self.payments == other.payments
            && self.invoices == other.invoices
            && self.events.is_like(&other.events)
    }

    /// Everything that a restart must find again, by entity.
    fn portrait(&self) -> BTreeMap<String, String> {
        let friends = self.friends.iter().map(|(key, friend)| {
            (format!("friend {key}"), format!("{:?}\n{}", friend.record, friend.channel.portrait()))
        });
        let relays = self.relays.iter().map(|(key, relay)| (format!("relay {key}"), format!("{:?}", relay.record)));
        let servers =
            self.index_servers.iter().map(|(key, server)| (format!("index {key}"), format!("{:?}", server.record)));
        let transits = self.transits.iter().map(|(id, transit)| (format!("request {id}"), format!("{transit:?}")));
        let payments = self.payments.iter().map(|(id, payment)| (format!("payment {id}"), format!("{payment:?}")));
        let invoices = self.invoices.iter().map(|(id, invoice)| (format!("invoice {id}"), format!("{invoice:?}")));
        let events = std::iter::once(("kept events".to_owned(), self.events.portrait()));
        friends.chain(relays).chain(servers).chain(transits).chain(payments).chain(invoices).chain(events).collect()
    }
}
