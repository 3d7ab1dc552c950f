//! The limits of the protocol, in one place. Each is part of SPEC.md; both ends rely on them.

use crate::machine::Duration;

/// Public keys in a route. Bounds the size of a request.
pub const MAX_ROUTE_LEN: usize = 32;
/// Bytes of a currency's name. Fits a column of a table.
pub const MAX_CURRENCY_LEN: usize = 16;
/// Relays of one node. A whole list fits into one batch.
pub const MAX_RELAYS: usize = 16;
/// Index servers of one node. Chosen freely; one is used at a time.
pub const MAX_INDEX_SERVERS: usize = 16;
/// Friends of one node. Bounds a node's memory; chosen freely, far above what a person has.
pub const MAX_FRIENDS: usize = 8_192;
/// Currencies of one friendship. Chosen freely; totals of all of them are hashed with every batch.
pub const MAX_CURRENCIES: usize = 32;
/// Operations in one signed batch.
pub const MAX_BATCH_OPS: usize = 512;
/// Bytes of one batch's body.
pub const MAX_BATCH_BYTES: usize = 256 * 1024;
/// Bytes of one application message. Bounds the memory of a connection.
pub const MAX_FRAME: usize = 1 << 20;
/// Open requests per friend, currency and direction. Bounds the memory per friend.
pub const MAX_PENDING: usize = 4_096;
/// Unacknowledged batches with operations that are kept for resending.
pub const WINDOW: usize = 32;
/// Parts of one payment over several routes.
pub const MAX_SPLIT: usize = 16;
/// Bytes of a friend's, relay's or index server's local name.
pub const MAX_NAME_LEN: usize = 64;
/// Bytes of an invoice's description.
pub const MAX_DESCRIPTION_LEN: usize = 256;
/// Bytes of a network address `HOST:PORT`: a DNS name has at most 253.
pub const MAX_ADDRESS_LEN: usize = 262;
/// The largest amount, 2^100: sums of many amounts stay far from overflow in 128 bits.
pub const MAX_AMOUNT: u128 = 1 << 100;
/// Significant bits of what an entry of a report says that its node would pass on, unless that is all: what a search compares
/// of an edge in 32 bits is exact then, below 2^24 units it always is, and above it less than 2^-23 of it is lost.
pub const FORWARD_BITS: u32 = 24;
/// Entries of one node's report to an index server. A whole report with its proof fits one message of [`MAX_FRAME`].
pub const MAX_INDEX_ENTRIES: usize = 8_192;
/// Currencies of one node's report to an index server. Each is a graph of its own; chosen freely: eight times what one
/// friendship may have.
pub const MAX_INDEX_CURRENCIES: usize = 256;
/// Entries set, and entries removed, by one delta of a report. Chosen freely; a larger change travels as a whole report.
pub const MAX_DELTA_ENTRIES: usize = 2_048;
/// Links of the proof that an attestation is fresh: how far apart two federated index servers may be.
pub const MAX_PROOF_LINKS: usize = 8;
/// Neighbours of one index server. Bounds the size of a link of a proof; chosen freely.
pub const MAX_INDEX_NEIGHBOURS: usize = 64;
/// Answers to one route request: the cheapest route, two alternatives, a split.
pub const MAX_ROUTE_OPTIONS: usize = 4;
/// Edges that a route request may exclude. Chosen freely: twice the parts of a payment, several times over.
pub const MAX_EXCLUDED_EDGES: usize = 128;

/// A keepalive is sent after this much silence of our own.
pub const KEEPALIVE: Duration = Duration::from_secs(15);
/// A connection closes after this much silence of the peer.
pub const KEEPALIVE_SILENCE: Duration = Duration::from_secs(40);
/// Records under one symmetric key, in each direction.
pub const REKEY_RECORDS: u64 = 1 << 16;
/// A fresh Diffie-Hellman inside a long connection at least this often.
pub const REKEY_DH: Duration = Duration::from_secs(3_600);
/// A handshake that is not done by then closes.
pub const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);
/// Bytes that a handshake may take in all.
pub const MAX_HANDSHAKE: usize = 8 * 1024;
/// Operations received are acknowledged after this much silence.
pub const ACK_DELAY: Duration = Duration::from_millis(50);
/// An index server's heartbeat.
pub const INDEX_TICK: Duration = Duration::from_secs(30);
/// A node that is silent for this long leaves the graph.
pub const INDEX_NODE_TTL: Duration = Duration::from_secs(100);
