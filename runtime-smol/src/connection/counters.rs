//! What connections have cost, and how many there are, were refused and ended: written by the tasks, read at any time.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, MutexGuard, PoisonError};

use offset_protocol::channel::CloseReason;
use offset_protocol::net::Purpose;

/// Refused because one address has too many handshakes in progress.
pub(crate) const ADDRESS_LIMIT: &str = "address_limit";
/// Refused because all addresses together have.
pub(crate) const TOTAL_LIMIT: &str = "total_limit";
/// Refused because one address comes too fast.
pub(crate) const ADDRESS_RATE: &str = "address_rate";
/// Refused because all addresses together do.
pub(crate) const TOTAL_RATE: &str = "total_rate";
/// Refused by the machine, once the peer had proven who it is.
pub(crate) const NOT_ADMITTED: &str = "not_admitted";
/// Ended by us because the peer took too little or nothing of what we sent.
pub(crate) const SLOW_READER: &str = "slow_reader";
/// A handshake that took a place which somebody with fewer of them needed.
pub(crate) const GAVE_WAY: &str = "gave_way";
/// Never began: the address that we dialled did not answer.
pub(crate) const UNREACHABLE: &str = "unreachable";

const KINDS: &[&str] = &["app_node", "index_index", "node_index", "node_relay"];
const REFUSED: &[&str] = &[ADDRESS_LIMIT, TOTAL_LIMIT, ADDRESS_RATE, TOTAL_RATE, NOT_ADMITTED];
const ENDED: &[&str] = &[
    "orderly",
    "cut",
    "silent",
    "deadline",
    "wrong_version",
    "wrong_purpose",
    "wrong_peer",
    "refused",
    "bad_handshake",
    "bad_identity",
    "handshake_too_long",
    "forged",
    "misbehaved",
    "unsendable",
    SLOW_READER,
    GAVE_WAY,
    UNREACHABLE,
];

/// What connections have cost since the start. Read at any time.
#[derive(Debug)]
pub struct NetCounters {
    /// Bytes read from sockets.
    pub bytes_in: AtomicU64,
    /// Bytes written to sockets.
    pub bytes_out: AtomicU64,
    /// Calls that read at least a byte.
    pub reads: AtomicU64,
    /// Calls that wrote at least a byte.
    pub writes: AtomicU64,
    /// Messages from peers.
    pub messages_in: AtomicU64,
    /// Messages to peers.
    pub messages_out: AtomicU64,
    /// Connections that the machine knows of now, by what they are for; those being dialled included.
    pub open: Tally,
    /// Connections that were refused, by reason.
    pub refused: Tally,
    /// Connections that ended, by reason; handshakes that came to nothing included.
    pub ended: Tally,
}

impl Default for NetCounters {
    fn default() -> Self {
        NetCounters {
            bytes_in: AtomicU64::default(),
            bytes_out: AtomicU64::default(),
            reads: AtomicU64::default(),
            writes: AtomicU64::default(),
            messages_in: AtomicU64::default(),
            messages_out: AtomicU64::default(),
            open: Tally::of(KINDS),
            refused: Tally::of(REFUSED),
            ended: Tally::of(ENDED),
        }
    }
}

/// Numbers by a few constant names. For what happens at most a few times in the life of a connection: it takes a lock.
#[derive(Debug, Default)]
pub struct Tally(Mutex<BTreeMap<&'static str, u64>>);

impl Tally {
    /// Zero of each, so that whoever watches sees the first one arrive.
    fn of(names: &[&'static str]) -> Self {
        Tally(Mutex::new(names.iter().map(|name| (*name, 0)).collect()))
    }

    /// One more.
    pub(crate) fn add(&self, name: &'static str) {
        let mut numbers = self.lock();
        let number = numbers.entry(name).or_default();
        *number = number.saturating_add(1);
    }

    /// One less.
    pub(crate) fn remove(&self, name: &'static str) {
        let mut numbers = self.lock();
        let number = numbers.entry(name).or_default();
        *number = number.saturating_sub(1);
    }

    /// All numbers, by name.
    pub fn read(&self) -> Vec<(&'static str, u64)> {
        self.lock().iter().map(|(name, number)| (*name, *number)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, u64>> {
        // No code that can panic runs under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a connection is for, as one word.
pub(crate) const fn kind_of(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::NodeRelay => "node_relay",
        Purpose::NodeIndex => "node_index",
        Purpose::IndexIndex => "index_index",
        Purpose::AppNode => "app_node",
        Purpose::Friend => "friend",
    }
}

/// Why a connection ended, as one word.
pub(crate) const fn name_of(reason: &CloseReason) -> &'static str {
    match reason {
        CloseReason::Orderly => "orderly",
        CloseReason::Cut => "cut",
        CloseReason::Silent => "silent",
        CloseReason::Deadline => "deadline",
        CloseReason::WrongVersion { .. } => "wrong_version",
        CloseReason::WrongPurpose { .. } => "wrong_purpose",
        CloseReason::WrongPeer { .. } => "wrong_peer",
        CloseReason::Refused => "refused",
        CloseReason::BadHandshake => "bad_handshake",
        CloseReason::BadIdentity => "bad_identity",
        CloseReason::HandshakeTooLong => "handshake_too_long",
        CloseReason::Forged => "forged",
        CloseReason::Misbehaved(_) => "misbehaved",
        CloseReason::Unsendable(_) => "unsendable",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_begins_with_zeros_and_never_goes_below() {
        let tally = Tally::of(&["b", "a"]);
        tally.remove("a");
        tally.add("b");
        tally.add("b");
        tally.remove("b");
        assert_eq!(tally.read(), [("a", 0), ("b", 1)]);
    }

    #[test]
    fn every_name_is_there_from_the_beginning() {
        let counters = NetCounters::default();
        let known: Vec<_> = counters.ended.read().into_iter().map(|(name, _)| name).collect();
        for reason in [CloseReason::Orderly, CloseReason::Deadline, CloseReason::BadHandshake, CloseReason::Forged] {
            assert!(known.contains(&name_of(&reason)), "{reason}");
        }
        for purpose in [Purpose::NodeRelay, Purpose::NodeIndex, Purpose::IndexIndex, Purpose::AppNode] {
            assert!(KINDS.contains(&kind_of(purpose)));
        }
    }
}
