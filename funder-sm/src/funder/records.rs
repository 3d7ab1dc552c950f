//! The funder's records on disk: one entity each, so that a payment costs the same bytes whatever the node's size.
//!
//! | first byte | rest of the key | value |
//! |---|---|---|
//! | `f` | friend's key | [`FriendRecord`] |
//! | `c` | friend's key, then the channel's own | the channel's records |
//! | `r` | relay's key | [`RelayRecord`] |
//! | `i` | index server's key | [`IndexRecord`] |
//! | `q` | request id | [`Transit`] |
//! | `p` | payment id | a payment |
//! | `n` | invoice id | an invoice with its offers |
//! | `e` | app's key, number (big endian) | [`EventRecord`] |
//! | `x` | | the parent's side records; never read here |
//!
//! Changes of a round are collected by key, so that an entity that changed five times is written once.

use offset_protocol::app::{Event, IndexAddress, Name};
use offset_protocol::bytes::{CommandId, InvoiceId, PaymentId, PublicKey, RequestId};
use offset_protocol::codec::{self, List};
use offset_protocol::limits::MAX_RELAYS;
use offset_protocol::money::Currency;
use offset_protocol::persist::Change;
use offset_protocol::relay::RelayAddress;
use offset_protocol::{wire_enum, wire_struct};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::friend_channel::Channel;

/// The first byte of a record's key.
pub mod kind {
    /// A friend.
    pub const FRIEND: u8 = b'f';
    /// A record of a friend's channel.
    pub const CHANNEL: u8 = b'c';
    /// A relay.
    pub const RELAY: u8 = b'r';
    /// An index server.
    pub const INDEX: u8 = b'i';
    /// A request on its way through this node.
    pub const TRANSIT: u8 = b'q';
    /// A payment.
    pub const PAYMENT: u8 = b'p';
    /// An invoice.
    pub const INVOICE: u8 = b'n';
    /// A kept event.
    pub const EVENT: u8 = b'e';
    /// A side record of the parent.
    pub const SIDE: u8 = b'x';
}

/// Bytes of one record at most: the largest is a payment of 16 parts over 32 hops each, about 40 KiB.
const MAX_RECORD: usize = 1 << 20;

wire_struct! {
    /// What the user said about a friend.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct FriendRecord {
        /// The user's name for it.
        pub name: Name,
        /// Whether to keep a link.
        pub enabled: bool,
        /// Where it listens.
        pub relays: List<RelayAddress, MAX_RELAYS>,
    }

    /// A relay of this node.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct RelayRecord {
        /// The relay.
        pub relay: RelayAddress,
        /// The user's name for it.
        pub name: Name,
        /// Removed by the user; listened to until the friends know.
        pub retiring: bool,
    }

    /// An index server of this node.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct IndexRecord {
        /// The server.
        pub server: IndexAddress,
        /// The user's name for it.
        pub name: Name,
    }

    /// A request that passes through this node, begins or ends here.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Transit {
        /// The currency.
        pub currency: Currency,
        /// Where it came from.
        pub from: Source,
        /// Where it went.
        pub to: Target,
        /// A commit was passed on.
        pub committed: bool,
        /// A withdrawal was passed on.
        pub withdrawn: bool,
    }

    /// An event that is told until it is acknowledged.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct EventRecord {
        /// The command that it belongs to.
        pub id: CommandId,
        /// What happened.
        pub event: Event,
    }
}

wire_enum! {
    /// Where a request came from.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Source {
        /// A payment of our own.
        1 = Payment(PaymentId),
        /// A friend.
        2 = Friend(PublicKey),
        /// A friend whose channel dropped it: no answer can travel.
        3 = Gone,
    }

    /// Where a request went.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Target {
        /// A friend.
        1 = Friend(PublicKey),
        /// An invoice of our own.
        2 = Invoice(InvoiceId),
    }
}

/// Why a database cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// A key of no known kind or form.
    #[error("the database has a record with an unknown key of {length} bytes that begins with {first}")]
    UnknownKey {
        /// The key's first byte.
        first: u8,
        /// The key's length.
        length: usize,
    },
    /// A value that cannot be decoded.
    #[error("the database's {what} record cannot be read: {why}")]
    BadValue {
        /// The record's kind.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// A record refers to another one that is not there, or the channel's records do not fit together.
    #[error("the database is not consistent: {0}")]
    Inconsistent(String),
}

/// Changes that wait for the next revision: of several of one key the last one counts.
#[derive(Debug, Default)]
pub struct Changes {
    list: Vec<Change>,
    /// Nobody keeps records: whether there are any is all that matters.
    are_kept_by_nobody: bool,
    is_any: bool,
}

impl Changes {
    /// Writes a record.
    pub fn put(&mut self, key: Vec<u8>, value: &impl Serialize) {
        self.is_any = true;
        if !self.are_kept_by_nobody {
            self.list.push(Change { key, value: Some(codec::encode(value)) });
        }
    }

    /// Removes a record.
    pub fn remove(&mut self, key: Vec<u8>) {
        self.add(Change { key, value: None });
    }

    /// Adds a change that was made elsewhere.
    pub fn add(&mut self, change: Change) {
        self.is_any = true;
        if !self.are_kept_by_nobody {
            self.list.push(change);
        }
    }

    /// Adds what has changed of a friend's channel.
    pub(super) fn take_from(&mut self, channel: &mut Channel, friend: &PublicKey) {
        if self.are_kept_by_nobody {
            self.is_any |= channel.forget_changes();
        } else {
            channel.take_changes(&channel_prefix(friend), &mut self.list);
            self.is_any |= !self.list.is_empty();
        }
    }

    /// From now on nobody keeps records.
    #[cfg(feature = "meddle")]
    pub(super) fn keep_none(&mut self) {
        self.are_kept_by_nobody = true;
        self.list = Vec::new();
    }

    /// All changes so far, each key once, sorted by key; none are left.
    pub fn take(&mut self) -> Vec<Change> {
        self.is_any = false;
        let mut list = std::mem::take(&mut self.list);
        // The sort is stable: of one key the last change comes last.
        list.sort_by(|a, b| a.key.cmp(&b.key));
        list.dedup_by(|later, kept| {
            let same = later.key == kept.key;
            if same {
                std::mem::swap(later, kept);
            }
            same
        });
        list
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        !self.is_any
    }
}

/// A key of one kind byte and one fixed id.
pub fn key(kind: u8, id: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + id.len());
    key.push(kind);
    key.extend_from_slice(id);
    key
}

/// The key of a friend's record.
pub fn friend_key(friend: &PublicKey) -> Vec<u8> {
    key(kind::FRIEND, &friend.0)
}

/// The key of a transit.
pub fn transit_key(request_id: &RequestId) -> Vec<u8> {
    key(kind::TRANSIT, &request_id.0)
}

/// The key of a kept event.
pub fn event_key(app: &PublicKey, number: u64) -> Vec<u8> {
    let mut key = key(kind::EVENT, &app.0);
    key.extend_from_slice(&number.to_be_bytes());
    key
}

/// Reads a record's value.
///
/// # Errors
/// [`RestoreError::BadValue`] with the record's kind.
pub fn decode<T: DeserializeOwned>(what: &'static str, value: &[u8]) -> Result<T, RestoreError> {
    codec::decode(value, MAX_RECORD).map_err(|error| RestoreError::BadValue { what, why: error.to_string() })
}

/// Reads a fixed part of a key.
///
/// # Errors
/// [`RestoreError::UnknownKey`] if it has another size.
pub fn fixed<const N: usize>(key: &[u8], part: &[u8]) -> Result<[u8; N], RestoreError> {
    part.try_into().map_err(|_| unknown(key))
}

/// A key that nothing of ours has written.
pub fn unknown(key: &[u8]) -> RestoreError {
    RestoreError::UnknownKey { first: key.first().copied().unwrap_or(0), length: key.len() }
}

/// What the keys of a friend's channel begin with.
pub fn channel_prefix(friend: &PublicKey) -> Vec<u8> {
    key(kind::CHANNEL, &friend.0)
}
