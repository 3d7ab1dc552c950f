//! How much of a relay a node, an address and everybody together may hold, and the counting of it.
//!
//! Counted are *places*. A connection has one place at a time: it is being set up, or listens, or is half a tunnel, or is
//! one end of a tunnel. A newer claim of the same identity never fails because of its own dead ones: see
//! [`Places::oldest_of`], which says whose place to free.

use std::collections::{BTreeMap, BTreeSet};

use offset_protocol::bytes::PublicKey;
use offset_protocol::net::{Address, ConnId};
use offset_protocol::relay::{LimitScope, RelayShare};

/// Places of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// For one identity.
    pub per_identity: u32,
    /// For all identities at one address. Many nodes may share one behind a carrier's NAT.
    pub per_address: u32,
    /// For everybody.
    pub total: u32,
}

/// How much an identity may send through all its tunnels: a token bucket that is paid by waiting. Enforced by the runtime,
/// which forwards; told to the nodes here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TunnelRate {
    /// Bytes a second in the long run.
    pub bytes_per_s: u64,
    /// Bytes at once after a rest.
    pub burst_bytes: u64,
}

impl Default for TunnelRate {
    /// Chosen freely: thousands of payments a second for each identity, and no more than a sixth of a gigabit link.
    fn default() -> Self {
        TunnelRate { bytes_per_s: 20 << 20, burst_bytes: 64 << 20 }
    }
}

/// The least [`TunnelRate::bytes_per_s`]: a message of the greatest length, 1 MiB, is paid for within 32 s. Its sender cannot
/// send meanwhile, and a node takes a relay that reads nothing for 40 s for dead.
pub const LEAST_BYTES_PER_S: u64 = 32 << 10;

/// All limits of a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections that have not yet said what they are for; each lives 5 s at most.
    pub setups: Quota,
    /// Nodes that wait for calls. An identity has one listener whatever this says: a newer one replaces it.
    pub listeners: Quota,
    /// Calls that wait to be accepted, counted at the caller; each lives 15 s at most.
    pub halves: Quota,
    /// Ends of tunnels: a tunnel takes one place of each of the two nodes. Two friends may call each other at once, so a
    /// node needs two places for each friend.
    pub tunnel_ends: Quota,
    /// Calls that may wait for one called node.
    pub waiting_calls: u32,
    /// Bytes through tunnels.
    pub tunnel_rate: TunnelRate,
}

/// A limit that would lock everybody out, or that could never be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitsError {
    /// Too small to serve anybody.
    #[error("{what} must be at least {least}, or nobody is served")]
    TooSmall {
        /// Which limit.
        what: What,
        /// The least that serves somebody.
        least: u64,
    },
    /// One may have more than there is.
    #[error("{what} must be at most {total}: that is all that there are")]
    AboveTotal {
        /// Which limit.
        what: What,
        /// What everybody may have together.
        total: u32,
    },
}

/// Names a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct What {
    places: &'static str,
    whose: &'static str,
}

impl What {
    /// Which places, in the plural.
    pub fn places(&self) -> &'static str {
        self.places
    }

    /// ` per identity`, ` per address`, ` in total` or nothing.
    pub fn whose(&self) -> &'static str {
        self.whose
    }
}

impl std::fmt::Display for What {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.places, self.whose)
    }
}

impl Quota {
    fn check(&self, places: &'static str, least_total: u32) -> Result<(), LimitsError> {
        let total = What { places, whose: " in total" };
        at_least(total, self.total.into(), least_total.into())?;
        for (whose, limit) in [(" per identity", self.per_identity), (" per address", self.per_address)] {
            let what = What { places, whose };
            at_least(what, limit.into(), 1)?;
            at_most(what, limit, self.total)?;
        }
        Ok(())
    }
}

fn at_least(what: What, limit: u64, least: u64) -> Result<(), LimitsError> {
    if limit < least { Err(LimitsError::TooSmall { what, least }) } else { Ok(()) }
}

fn at_most(what: What, limit: u32, total: u32) -> Result<(), LimitsError> {
    if limit > total { Err(LimitsError::AboveTotal { what, total }) } else { Ok(()) }
}

impl Limits {
    /// Whether somebody can be served, and every limit can be reached.
    ///
    /// # Errors
    /// The first limit that makes no sense.
    pub fn check(&self) -> Result<(), LimitsError> {
        self.setups.check("set-ups", 1)?;
        self.listeners.check("listeners", 1)?;
        self.halves.check("halves", 1)?;
        // A tunnel has two.
        self.tunnel_ends.check("ends of tunnels", 2)?;
        let waiting = What { places: "calls that wait for one node", whose: "" };
        at_least(waiting, self.waiting_calls.into(), 1)?;
        at_most(waiting, self.waiting_calls, self.halves.total)?;
        let TunnelRate { bytes_per_s, burst_bytes } = self.tunnel_rate;
        at_least(What { places: "bytes a second through tunnels", whose: "" }, bytes_per_s, LEAST_BYTES_PER_S)?;
        at_least(What { places: "bytes at once through tunnels", whose: "" }, burst_bytes, 1)
    }

    /// What a node is told of them.
    pub(crate) fn share(&self) -> RelayShare {
        let TunnelRate { bytes_per_s, burst_bytes } = self.tunnel_rate;
        let (halves, tunnel_ends) = (self.halves.per_identity, self.tunnel_ends.per_identity);
        RelayShare { halves, tunnel_ends, bytes_per_s, burst_bytes }
    }
}

impl Default for Limits {
    /// For a small public relay. Chosen freely: a node with a thousand friends must fit into each share per identity, a
    /// few hundred nodes with ten friends behind one NAT into each share per address, and all of it together into some 200 MiB.
    fn default() -> Self {
        Limits {
            setups: Quota { per_identity: 512, per_address: 2_048, total: 8_192 },
            listeners: Quota { per_identity: 1, per_address: 4_096, total: 131_072 },
            halves: Quota { per_identity: 512, per_address: 2_048, total: 16_384 },
            tunnel_ends: Quota { per_identity: 2_048, per_address: 4_096, total: 131_072 },
            waiting_calls: 512,
            tunnel_rate: TunnelRate::default(),
        }
    }
}

/// Places of one kind that are taken.
#[derive(Debug)]
pub(crate) struct Places {
    quota: Quota,
    taken: BTreeSet<(PublicKey, ConnId)>,
    by_identity: BTreeMap<PublicKey, u32>,
    by_address: BTreeMap<Address, u32>,
}

impl Places {
    pub(crate) const fn new(quota: Quota) -> Self {
        Places { quota, taken: BTreeSet::new(), by_identity: BTreeMap::new(), by_address: BTreeMap::new() }
    }

    /// Takes a place, or says whose share is used up.
    pub(crate) fn take(&mut self, conn: ConnId, identity: PublicKey, address: &Address) -> Result<(), LimitScope> {
        if self.is_full_for(&identity) {
            return Err(LimitScope::Identity);
        }
        if count(&self.by_address, address) >= self.quota.per_address {
            return Err(LimitScope::Address);
        }
        if self.len() >= self.quota.total as usize {
            return Err(LimitScope::Total);
        }
        if self.taken.insert((identity, conn)) {
            *self.by_identity.entry(identity).or_default() += 1;
            *self.by_address.entry(address.clone()).or_default() += 1;
        }
        Ok(())
    }

    /// Gives a place back.
    pub(crate) fn release(&mut self, conn: ConnId, identity: PublicKey, address: &Address) {
        if self.taken.remove(&(identity, conn)) {
            decrement(&mut self.by_identity, &identity);
            decrement(&mut self.by_address, address);
        }
    }

    /// The connections with a place of `identity`.
    pub(crate) fn held_by(&self, identity: PublicKey) -> impl Iterator<Item = ConnId> {
        let first = (identity, ConnId::outgoing(0));
        self.taken.range(first..).take_while(move |(of, _)| *of == identity).map(|&(_, conn)| conn)
    }

    /// Whether `identity` has used up its own share.
    pub(crate) fn is_full_for(&self, identity: &PublicKey) -> bool {
        count(&self.by_identity, identity) >= self.quota.per_identity
    }

    /// The place that `identity` has held longest, by its connection: numbers of incoming connections ascend.
    pub(crate) fn oldest_of(&self, identity: PublicKey) -> Option<ConnId> {
        self.held_by(identity).next()
    }

    pub(crate) fn len(&self) -> usize {
        self.taken.len()
    }

    /// Panics if a limit does not hold or something is left of what was released.
    #[cfg(any(test, feature = "probes"))]
    pub(crate) fn assert_consistent(&self) {
        let sum = |counts: &mut dyn Iterator<Item = u32>| counts.map(|count| count as usize).sum::<usize>();
        assert_eq!(sum(&mut self.by_identity.values().copied()), self.taken.len());
        assert_eq!(sum(&mut self.by_address.values().copied()), self.taken.len());
        assert!(self.by_identity.values().all(|&count| count > 0 && count <= self.quota.per_identity));
        assert!(self.by_address.values().all(|&count| count > 0 && count <= self.quota.per_address));
        assert!(self.taken.len() <= self.quota.total as usize);
    }
}

fn count<K: Ord>(counts: &BTreeMap<K, u32>, key: &K) -> u32 {
    counts.get(key).copied().unwrap_or(0)
}

/// Counts one less; what is zero leaves the map.
pub(crate) fn decrement<K: Ord>(counts: &mut BTreeMap<K, u32>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(key);
        }
    }
}
