//! The channel as records, one an entity, so that a change costs what changed and not what there is.
//!
//! | key after the prefix | record |
//! |---|---|
//! | `c` | where both logs stand |
//! | `s` | the dispute or the unconfirmed reset; none while consistent |
//! | `r` | both ends' relays |
//! | `e` | the friend's last signature of an earlier epoch |
//! | `l` currency | totals, what the friend knew of them, configuration |
//! | `i`, `o` currency, request id | an open request, incoming or outgoing |
//! | `b` number | a batch that the friend has not signed for |
//! | `q` class, number | an operation that waits |
//!
//! What follows from others is not kept: queue indices, sums of refused requests, crossing answers, the window.

use std::collections::BTreeSet;

use offset_protocol::bytes::{PublicKey, RequestId};
use offset_protocol::codec::{self, List};
use offset_protocol::friend::{Batch, Body, Evidence, Operation};
use offset_protocol::limits::{MAX_CURRENCIES, MAX_FRAME};
use offset_protocol::money::Currency;
use offset_protocol::persist::Change;
use offset_protocol::{mutant, wire_struct};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::queue::{Class, QueueKey, RequestKey, Waiting, request_id};
use super::{Channel, Content, Core, CurrencyConfig, CurrencyState, Mark, Relays, State, Unacked};
use crate::ledger::{Delta, Ledger, OpenRequest, Totals};

/// Both ends' lists together.
const MAX_STATES: usize = 2 * MAX_CURRENCIES;

/// A record that this version did not write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRecord {
    /// No key of ours.
    #[error("a friend channel has no record with the key {0:?}")]
    Key(Vec<u8>),
    /// A value that cannot be read.
    #[error("the record of a friend channel with the key {0:?} is malformed: {1}")]
    Value(Vec<u8>, codec::DecodeError),
    /// A record that there must be.
    #[error("a record of a friend channel is missing: {0}")]
    Missing(&'static str),
    /// An open request in a currency that has no record.
    #[error("a request is open in {0}, which has no record")]
    Orphan(Currency),
}

/// What has changed since the last [`Channel::take_changes`]: what changed twice may stand here twice.
#[derive(Clone, Debug, Default)]
pub(super) struct Dirty(Vec<Key>);

impl Dirty {
    /// This record has changed.
    pub(super) fn say(&mut self, key: Key) {
        if self.0.last() != Some(&key) {
            self.0.push(key);
        }
    }

    /// Each once, in order; nothing has changed any more.
    fn take(&mut self) -> Vec<Key> {
        let mut keys = std::mem::take(&mut self.0);
        keys.sort_unstable();
        keys.dedup();
        keys
    }
}

wire_struct! {
    struct CurrencyRecord {
        totals: Totals,
        seen: Totals,
        config: CurrencyConfig,
    }

    struct DeltaRecord {
        currency: Currency,
        delta: Delta,
    }

    struct BatchRecord {
        batch: Batch,
        deltas: List<DeltaRecord, MAX_STATES>,
    }
}

/// Which record of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Core,
    State,
    Relays,
    Evidence,
    Currency(Currency),
    Incoming(RequestKey),
    Outgoing(RequestKey),
    Batch(u64),
    Queued(QueueKey),
}

impl Key {
    fn append(&self, out: &mut Vec<u8>) {
        match self {
            Key::Core => out.push(b'c'),
            Key::State => out.push(b's'),
            Key::Relays => out.push(b'r'),
            Key::Evidence => out.push(b'e'),
            Key::Currency(currency) => {
                out.push(b'l');
                out.extend_from_slice(currency.as_str().as_bytes());
            }
            Key::Incoming((currency, id)) => append_request(b'i', currency, id, out),
            Key::Outgoing((currency, id)) => append_request(b'o', currency, id, out),
            Key::Batch(seq) => {
                out.push(b'b');
                out.extend_from_slice(&seq.to_be_bytes());
            }
            Key::Queued(key) => {
                out.extend_from_slice(&[b'q', key.class.tag()]);
                out.extend_from_slice(&key.number.to_be_bytes());
            }
        }
    }

    fn parse(bytes: &[u8]) -> Option<Key> {
        let (kind, rest) = bytes.split_first()?;
        let key = match kind {
            b'c' => Key::Core,
            b's' => Key::State,
            b'r' => Key::Relays,
            b'e' => Key::Evidence,
            b'l' => return Some(Key::Currency(parse_currency(rest)?)),
            b'i' => return Some(Key::Incoming(parse_request(rest)?)),
            b'o' => return Some(Key::Outgoing(parse_request(rest)?)),
            b'b' => return Some(Key::Batch(u64::from_be_bytes(rest.try_into().ok()?))),
            b'q' => {
                let (class, number) = rest.split_first()?;
                let number = u64::from_be_bytes(number.try_into().ok()?);
                return Some(Key::Queued(QueueKey { class: Class::from_tag(*class)?, number }));
            }
            _ => return None,
        };
        rest.is_empty().then_some(key)
    }
}

fn append_request(kind: u8, currency: &Currency, id: &RequestId, out: &mut Vec<u8>) {
    out.push(kind);
    out.extend_from_slice(&id.0);
    out.extend_from_slice(currency.as_str().as_bytes());
}

fn parse_currency(bytes: &[u8]) -> Option<Currency> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

fn parse_request(bytes: &[u8]) -> Option<RequestKey> {
    let (id, currency) = bytes.split_at_checked(RequestId::SIZE)?;
    Some((parse_currency(currency)?, RequestId(id.try_into().ok()?)))
}

/// Collects changes under one prefix.
struct Writer<'a> {
    prefix: &'a [u8],
    out: &'a mut Vec<Change>,
}

impl Writer<'_> {
    fn put<T: Serialize>(&mut self, key: &Key, value: Option<&T>) {
        let mut bytes = Vec::with_capacity(self.prefix.len() + 34);
        bytes.extend_from_slice(self.prefix);
        key.append(&mut bytes);
        self.out.push(Change { key: bytes, value: value.map(codec::encode) });
    }

    fn remove(&mut self, key: &Key) {
        self.put::<u8>(key, None);
    }
}

/// Storage.
impl Channel {
    /// Appends the records that changed since the last call, each under `key_prefix`.
    pub fn take_changes(&mut self, key_prefix: &[u8], out: &mut Vec<Change>) {
        let dirty = self.dirty.take();
        let mut writer = Writer { prefix: key_prefix, out };
        for key in dirty {
            match key {
                Key::Core => writer.put(&key, Some(&self.core)),
                Key::State => writer.put(&key, Some(&self.state).filter(|state| **state != State::Consistent)),
                Key::Relays => writer.put(&key, Some(&self.relays)),
                Key::Evidence => writer.put(&key, self.old_evidence.as_ref()),
                Key::Currency(_) if mutant!(BalanceNotWritten) => {}
                Key::Currency(currency) => {
                    let record = self.currencies.get(&currency).map(CurrencyState::record);
                    writer.put(&key, record.as_ref());
                }
                Key::Incoming((currency, id)) => writer.put(&key, self.incoming(&currency, &id)),
                Key::Outgoing((currency, id)) => writer.put(&key, self.outgoing(&currency, &id)),
                Key::Batch(_) if mutant!(BatchNotWritten) => {}
                Key::Batch(seq) => writer.put(&key, self.unacked_at(seq).map(Unacked::record).as_ref()),
                // The queue knows by itself.
                Key::Queued(_) => {}
            }
        }
        for (key, waiting) in self.queue.take_dirty() {
            writer.put(&Key::Queued(key), waiting);
        }
    }

    /// The same where nobody keeps records: nothing has changed any more. Says whether anything had.
    pub(crate) fn forget_changes(&mut self) -> bool {
        let dirty = std::mem::take(&mut self.dirty);
        let queued = self.queue.forget_dirty();
        !dirty.0.is_empty() || queued
    }

    /// Appends the removal of every record: the friendship ends. Changes that were not taken are void.
    pub fn erase(&self, key_prefix: &[u8], out: &mut Vec<Change>) {
        let mut writer = Writer { prefix: key_prefix, out };
        let mut keys = BTreeSet::from([Key::Core, Key::State, Key::Relays, Key::Evidence]);
        keys.extend(&self.dirty.0);
        keys.extend(self.currencies.keys().map(|currency| Key::Currency(*currency)));
        keys.extend(self.all_incoming().map(|(currency, open)| Key::Incoming((currency, open.request.request_id))));
        keys.extend(self.all_outgoing().map(|(currency, open)| Key::Outgoing((currency, open.request.request_id))));
        keys.extend(self.unacked.iter().map(|unacked| Key::Batch(unacked.mark.seq)));
        keys.iter().for_each(|key| writer.remove(key));
        self.queue.stored_keys().into_iter().for_each(|key| writer.remove(&Key::Queued(key)));
    }

    /// The channel that the records describe; `records` are pairs of key, without the prefix, and value, in any order.
    /// The link is down.
    ///
    /// # Errors
    /// [`BadRecord`] if the records are not those of one channel.
    pub fn restore(
        us: PublicKey,
        friend: PublicKey,
        records: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>,
    ) -> Result<Self, BadRecord> {
        let mut parts = Parts::default();
        for (key, value) in records {
            parts.take(key, &value)?;
        }
        parts.build(us, friend)
    }

    pub(super) fn unacked_at(&self, seq: u64) -> Option<&Unacked> {
        let first = self.unacked.front()?.mark.seq;
        self.unacked.get(usize::try_from(seq.checked_sub(first)?).ok()?)
    }

    /// Appends a batch to those that wait for the friend's signature.
    pub(super) fn hold(&mut self, unacked: Unacked) {
        self.window_used += usize::from(unacked.content.is_any());
        let seq = unacked.mark.seq;
        self.crossing.extend(unacked.ended.iter().map(|key| (*key, seq)));
        if self.unacked.is_empty() {
            // Mostly there is one at most, and of most friendships none.
            self.unacked.reserve_exact(1);
        }
        self.unacked.push_back(unacked);
    }
}

impl CurrencyState {
    fn record(&self) -> CurrencyRecord {
        CurrencyRecord { totals: *self.ledger.totals(), seen: self.seen, config: self.config.clone() }
    }
}

impl Unacked {
    /// The friend's requests that a body of ours ends.
    pub(super) fn ended_by(body: &Body) -> Vec<RequestKey> {
        let all = body.operations.iter().flat_map(|group| group.operations.iter().map(|any| (group.currency, any)));
        let is_end = |any: &Operation| matches!(any, Operation::Cancel(_) | Operation::Collect(_));
        all.filter(|(_, any)| is_end(any)).map(|(currency, any)| (currency, request_id(any))).collect()
    }

    fn record(&self) -> BatchRecord {
        let deltas = self.deltas.iter().map(|(currency, delta)| DeltaRecord { currency: *currency, delta: *delta });
        BatchRecord { batch: self.batch.clone(), deltas: List::truncated(deltas) }
    }

    fn restore(record: BatchRecord) -> Result<Self, codec::DecodeError> {
        let header = record.batch.decode_header()?;
        let body = record.batch.decode_body()?;
        let content = Content::of(&body);
        let ended = Unacked::ended_by(&body);
        let deltas = record.deltas.into_iter().map(|record| (record.currency, record.delta)).collect();
        Ok(Unacked { mark: Mark { seq: header.seq, head: header.head }, batch: record.batch, deltas, ended, content })
    }
}

/// Records, until all of them are there.
#[derive(Default)]
struct Parts {
    core: Option<Core>,
    state: Option<State>,
    relays: Option<Relays>,
    evidence: Option<Evidence>,
    currencies: Vec<(Currency, CurrencyRecord)>,
    incoming: Vec<(RequestKey, OpenRequest)>,
    outgoing: Vec<(RequestKey, OpenRequest)>,
    batches: Vec<(u64, Unacked)>,
    queued: Vec<(QueueKey, Waiting)>,
}

fn read<T: DeserializeOwned>(key: &[u8], value: &[u8]) -> Result<T, BadRecord> {
    codec::decode(value, MAX_FRAME).map_err(|error| BadRecord::Value(key.to_vec(), error))
}

impl Parts {
    fn take(&mut self, key: Vec<u8>, value: &[u8]) -> Result<(), BadRecord> {
        match Key::parse(&key).ok_or_else(|| BadRecord::Key(key.clone()))? {
            Key::Core => self.core = Some(read(&key, value)?),
            Key::State => self.state = Some(read(&key, value)?),
            Key::Relays => self.relays = Some(read(&key, value)?),
            Key::Evidence => self.evidence = Some(read(&key, value)?),
            Key::Currency(currency) => self.currencies.push((currency, read(&key, value)?)),
            Key::Incoming(request) => self.incoming.push((request, read(&key, value)?)),
            Key::Outgoing(request) => self.outgoing.push((request, read(&key, value)?)),
            Key::Batch(seq) => {
                let unacked = Unacked::restore(read(&key, value)?).map_err(|error| BadRecord::Value(key, error))?;
                self.batches.push((seq, unacked));
            }
            Key::Queued(place) => self.queued.push((place, read(&key, value)?)),
        }
        Ok(())
    }

    fn build(mut self, us: PublicKey, friend: PublicKey) -> Result<Channel, BadRecord> {
        let core = self.core.ok_or(BadRecord::Missing("where the logs stand"))?;
        let relays = self.relays.ok_or(BadRecord::Missing("the relays"))?;
        let mut channel = Channel::from_parts(us, friend, core, relays);
        channel.state = self.state.unwrap_or(State::Consistent);
        channel.old_evidence = self.evidence.map(Box::new);
        for (currency, CurrencyRecord { totals, seen, config }) in self.currencies {
            channel.currencies.insert(currency, CurrencyState { ledger: Ledger::new(totals), seen, config });
        }
        for ((currency, _), open) in self.incoming {
            channel.currencies.get_mut(&currency).ok_or(BadRecord::Orphan(currency))?.ledger.restore_incoming(open);
        }
        for ((currency, _), open) in self.outgoing {
            channel.currencies.get_mut(&currency).ok_or(BadRecord::Orphan(currency))?.ledger.restore_outgoing(open);
        }
        channel.restore_strains();
        self.batches.sort_by_key(|(seq, _)| *seq);
        let expected = channel.core.signed_for.seq.saturating_add(1)..;
        for ((seq, unacked), expected) in self.batches.into_iter().zip(expected) {
            if seq != expected || unacked.mark.seq != seq {
                return Err(BadRecord::Missing("a batch that the friend has not signed for"));
            }
            channel.hold(unacked);
        }
        if channel.unacked.back().map_or(channel.core.signed_for, |last| last.mark) != channel.core.made {
            return Err(BadRecord::Missing("a batch that the friend has not signed for"));
        }
        self.queued.into_iter().for_each(|(key, waiting)| channel.queue.restore(key, waiting));
        Ok(channel)
    }
}
