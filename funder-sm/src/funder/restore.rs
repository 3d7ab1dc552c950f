//! From records to a funder.

use std::collections::{BTreeMap, VecDeque};

use offset_protocol::bytes::{InvoiceId, PaymentId, PublicKey, RequestId};
use offset_protocol::deadlines::Deadlines;
use offset_protocol::machine::{Instant, WallTime};
use offset_protocol::persist::Revision;
use offset_protocol::sometimes;

use super::buyer::{Payment, Phase};
use super::invoice::{InvoicePhase, InvoiceRecord};
use super::io::FunderOutput;
use super::records::{
    self, Changes, EventRecord, FriendRecord, IndexRecord, RelayRecord, RestoreError, Transit, fixed, kind, unknown,
};
use super::relays::Relay;
use super::{Friend, Funder, FunderConfig, IndexServer};
use crate::friend_channel::{Channel, Refused};
use offset_protocol::lean::{LeanMap, LeanSet};

/// Records of one friend, before they are put together.
#[derive(Default)]
struct FriendParts {
    record: Option<FriendRecord>,
    channel: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Funder {
    /// The funder that wrote these records (keys with values, in any order); a new one if there are none. Side records are
    /// passed over.
    ///
    /// # Errors
    /// [`RestoreError`] if a record cannot be read or does not fit the others.
    pub fn restore(
        config: FunderConfig,
        records: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>,
    ) -> Result<Self, RestoreError> {
        let mut funder = Funder::rebuild(config, records)?;
        funder.begin();
        Ok(funder)
    }

    /// The state that these records describe, before anything happens to it.
    pub(super) fn rebuild(
        config: FunderConfig,
        records: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>,
    ) -> Result<Self, RestoreError> {
        let mut funder = Funder::empty(config);
        let mut friends: BTreeMap<PublicKey, FriendParts> = BTreeMap::new();
        for (key, value) in records {
            funder.restore_record(&key, value, &mut friends)?;
        }
        for (key, parts) in friends {
            funder.restore_friend(key, parts)?;
        }
        funder.orphan_transits();
        Ok(funder)
    }

    fn empty(config: FunderConfig) -> Self {
        Funder {
            us: config.signer.public_key(),
            signer: config.signer,
            rng: config.seed.fork("funder").rng(),
            now: Instant::ZERO,
            wall: WallTime(0),
            friends: LeanMap::new(),
            by_name: Vec::new(),
            relays: LeanMap::new(),
            index_servers: LeanMap::new(),
            transits: LeanMap::new(),
            payments: LeanMap::new(),
            open_payments: 0,
            invoices: LeanMap::new(),
            expiring: None,
            queries: super::routes::Queries::default(),
            events: super::events::Events::default(),
            todo: VecDeque::new(),
            touched: LeanSet::new(),
            alarms: Deadlines::new(),
            snapshots: Vec::new(),
            side_keys: Vec::new(),
            changes: Changes::default(),
            held: Vec::new(),
            in_flight: None,
            ready: VecDeque::new(),
            revision: Revision(0),
            round_due: true,
            reports: super::Reports::Told,
        }
    }

    fn restore_record(
        &mut self,
        key: &[u8],
        value: Vec<u8>,
        friends: &mut BTreeMap<PublicKey, FriendParts>,
    ) -> Result<(), RestoreError> {
        let (first, rest) = key.split_first().ok_or_else(|| unknown(key))?;
        match *first {
            kind::FRIEND => {
                let friend = PublicKey(fixed(key, rest)?);
                friends.entry(friend).or_default().record = Some(records::decode("friend", &value)?);
            }
            kind::CHANNEL => {
                let (friend, own) = rest.split_at_checked(PublicKey::SIZE).ok_or_else(|| unknown(key))?;
                let parts = friends.entry(PublicKey(fixed(key, friend)?)).or_default();
                parts.channel.push((own.to_vec(), value));
            }
            kind::RELAY => {
                let record: RelayRecord = records::decode("relay", &value)?;
                self.relays.insert(PublicKey(fixed(key, rest)?), Relay::new(record));
            }
            kind::INDEX => {
                let record: IndexRecord = records::decode("index server", &value)?;
                self.index_servers.insert(PublicKey(fixed(key, rest)?), IndexServer { record, connected: false });
            }
            kind::TRANSIT => {
                let transit: Transit = records::decode("request", &value)?;
                self.transits.insert(RequestId(fixed(key, rest)?), transit);
            }
            kind::PAYMENT => {
                let payment: Payment = records::decode("payment", &value)?;
                self.open_payments += usize::from(!payment.has_ended());
                self.payments.insert(PaymentId(fixed(key, rest)?), payment);
            }
            kind::INVOICE => {
                let (id, invoice): (_, InvoiceRecord) =
                    (InvoiceId(fixed(key, rest)?), records::decode("invoice", &value)?);
                if let Some(at) = invoice.expiry() {
                    self.expiring.get_or_insert_default().insert((at, id));
                }
                self.invoices.insert(id, invoice);
            }
            kind::EVENT => {
                let (app, number) = rest.split_at_checked(PublicKey::SIZE).ok_or_else(|| unknown(key))?;
                let record: EventRecord = records::decode("event", &value)?;
                let number = u64::from_be_bytes(fixed(key, number)?);
                self.events.restore(PublicKey(fixed(key, app)?), number, record);
            }
            kind::SIDE => {}
            _ => return Err(unknown(key)),
        }
        Ok(())
    }

    fn restore_friend(&mut self, key: PublicKey, parts: FriendParts) -> Result<(), RestoreError> {
        let orphan = || RestoreError::Inconsistent(format!("friend {key} has a channel but no record"));
        let record = parts.record.ok_or_else(orphan)?;
        let channel = Channel::restore(self.us, key, parts.channel)
            .map_err(|why| RestoreError::Inconsistent(format!("the channel with friend {key}: {why}")))?;
        let place = match self.place_of(&record.name) {
            Err(place) => place,
            Ok(place) => {
                let other = self.by_name[place];
                return Err(RestoreError::Inconsistent(format!("friends {key} and {other} have one name")));
            }
        };
        self.friends.insert(key, Box::new(Friend::new(record, channel)));
        self.by_name.insert(place, key);
        Ok(())
    }

    /// A request whose payment was lost is answered to nobody; it must not keep the whole node from starting.
    fn orphan_transits(&mut self) {
        for transit in self.transits.values_mut() {
            if let records::Source::Payment(payment_id) = transit.from
                && !self.payments.contains_key(&payment_id)
            {
                transit.from = records::Source::Gone;
            }
        }
    }

    /// What a funder says when it is born: all that its surroundings have to keep up, and what waited when it stopped.
    fn begin(&mut self) {
        self.resume_collecting();
        for relay in self.relays.values().map(|relay| relay.record.relay.clone()).collect::<Vec<_>>() {
            self.hold(FunderOutput::Listen { relay });
        }
        for server in self.index_servers.values().map(|server| server.record.server.clone()).collect::<Vec<_>>() {
            self.hold(FunderOutput::UseIndex { server });
        }
        for key in self.friends.keys().copied().collect::<Vec<_>>() {
            self.keep_link(&key);
            self.drop_unsent(key);
            self.tell_disagreement(key);
        }
        let retiring: Vec<PublicKey> =
            self.relays.iter().filter(|(_, relay)| relay.record.retiring).map(|(key, _)| *key).collect();
        for key in retiring {
            self.retire(key);
        }
        let searching = |(_, payment): &(&PaymentId, &Payment)| payment.phase == Phase::Searching;
        let searching: Vec<PaymentId> = self.payments.iter().filter(searching).map(|(id, _)| *id).collect();
        sometimes!("funder: restored while a payment searches routes", !searching.is_empty());
        for payment_id in searching {
            self.search_routes(payment_id);
        }
        self.settle();
    }

    /// Requests that were queued and never signed come back: their friend is offline.
    fn drop_unsent(&mut self, key: PublicKey) {
        let mut events = Vec::new();
        if let Some(friend) = self.friends.get_mut(&key) {
            sometimes!("funder: restored with operations never signed", friend.channel.all_queued().next().is_some());
            let marks = friend.channel.marks();
            sometimes!("funder: restored with batches to resend", marks.made > marks.signed_for);
            friend.channel.drop_unsent_requests(Refused::Offline, &mut events);
        }
        self.on_channel_events(key, events);
    }

    /// Collects that do not stand in our log yet are waited for again.
    fn resume_collecting(&mut self) {
        for record in self.invoices.values() {
            if !matches!(record.phase, InvoicePhase::Collecting { .. }) {
                continue;
            }
            for part in record.offers.iter().flat_map(|offer| offer.parts.iter()) {
                sometimes!("funder: restored while a payment is collected", true);
                if let Some(friend) = self.friends.get_mut(&part.friend) {
                    friend.collecting.push_back((record.invoice.currency, part.request_id));
                }
            }
        }
    }
}
