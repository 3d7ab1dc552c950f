//! What one identity, and all identities behind one address, may make the server do with reports.
//!
//! | bucket | of | counts | beyond it |
//! |---|---|---|---|
//! | reports | an identity, over all its sessions | messages | the session ends |
//! | queries | an identity, over all its sessions | requests for routes | `Busy` ([`searches`](super::searches)) |
//! | work | a node, whoever brings its reports | lines | changes are ignored, counted as refused |
//! | work | an address, for the sessions from it | lines | the same |
//!
//! A report costs the lines that the server has to go through: those that the node has already, those that come, and one for
//! each `MOVED_A_LINE` lines and arcs that move at its friends, and 8 for each friend that it names anew or no longer. A line is about 0.2 microseconds of the state thread, so
//! that a node gets 0.3 % of it, sustained, and an address ten times that. A report that only says that nothing has changed
//! costs nothing and is always taken: nobody leaves the graph because it has said too much. A node that is not heard goes on
//! from a version that the server lacks, and is asked for the whole report when its bucket has something in it again.
//!
//! What is known of an identity outlives its session until its buckets are full again.

use std::collections::BTreeMap;

use offset_protocol::bytes::PublicKey;
use offset_protocol::machine::{Duration, Instant};
use offset_protocol::net::Address;

use crate::backoff::Bucket;

/// Lines in a unit of the budgets below.
const UNIT: u64 = 16;
/// Lines and arcs of friends that are moved or copied in the time that a line takes: 16 to 32 bytes each, at some GiB a second.
const MOVED_A_LINE: u64 = 32;
/// The reports of one node cost a unit each so long, sustained: 16,000 lines a second, so that even a node with as many
/// friends as there may be can tell a change each second.
pub const REPORT_WORK_INTERVAL: Duration = Duration::from_millis(1);
/// Units at once: 16 whole reports of the greatest length.
pub const REPORT_WORK_BURST: u64 = 8_192;
/// The same for all nodes behind one address: ten times a node's.
pub const ADDRESS_WORK_INTERVAL: Duration = Duration::from_micros(100);
/// Units at once behind one address.
pub const ADDRESS_WORK_BURST: u64 = 81_920;
/// Identities that left lately and whose buckets are not full. Of those beyond it nothing is remembered: their address is
/// what bounds them then.
pub const MAX_REMEMBERED: usize = 1 << 17;
/// Addresses whose bucket is not full. All others share one.
pub const MAX_ADDRESSES: usize = 1 << 16;

/// What a report costs, in lines.
pub(super) struct Lines {
    /// That the node has, or that come.
    pub(super) own: usize,
    /// That move at friends.
    pub(super) moved: u64,
}

impl Lines {
    fn units(&self) -> u64 {
        (self.own as u64 + self.moved / MOVED_A_LINE).div_ceil(UNIT)
    }
}

/// What an identity's sessions said lately.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Manners {
    pub(super) queries: Bucket,
    pub(super) reports: Bucket,
}

/// A bucket of work of one node.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Work(Bucket);

impl Work {
    pub(super) fn is_used_up(&self, now: Instant) -> bool {
        self.0.is_empty(now, REPORT_WORK_INTERVAL, REPORT_WORK_BURST)
    }

    /// Units that are not earned back.
    #[cfg(test)]
    pub(super) fn owed(&self, now: Instant) -> u64 {
        (0..).find(|units| !self.0.is_empty(now, REPORT_WORK_INTERVAL, units + 1)).unwrap_or_default()
    }

    pub(super) fn charge(&mut self, now: Instant, lines: &Lines) {
        self.0.charge(now, REPORT_WORK_INTERVAL, lines.units());
    }
}

/// What is remembered of identities that left, and of addresses.
#[derive(Default)]
pub(super) struct Memory {
    left: BTreeMap<PublicKey, Manners>,
    addresses: BTreeMap<Address, Bucket>,
    others: Bucket,
}

impl Memory {
    /// What an identity that comes has left over.
    pub(super) fn recall(&mut self, node: &PublicKey) -> Manners {
        self.left.remove(node).unwrap_or_default()
    }

    /// Whether an identity was here a moment ago.
    pub(super) fn remembers(&self, node: &PublicKey) -> bool {
        self.left.contains_key(node)
    }

    /// An identity leaves.
    pub(super) fn remember(&mut self, now: Instant, node: PublicKey, manners: Manners) {
        let full = manners.queries.is_full(now) && manners.reports.is_full(now);
        if !full && self.left.len() < MAX_REMEMBERED {
            self.left.insert(node, manners);
        }
    }

    pub(super) fn is_used_up(&self, now: Instant, address: &Address) -> bool {
        let bucket = match self.addresses.get(address) {
            Some(own) => own,
            None if self.addresses.len() < MAX_ADDRESSES => return false,
            None => &self.others,
        };
        bucket.is_empty(now, ADDRESS_WORK_INTERVAL, ADDRESS_WORK_BURST)
    }

    pub(super) fn charge(&mut self, now: Instant, address: &Address, lines: &Lines) {
        let bucket = if self.addresses.len() < MAX_ADDRESSES || self.addresses.contains_key(address) {
            self.addresses.entry(address.clone()).or_default()
        } else {
            &mut self.others
        };
        bucket.charge(now, ADDRESS_WORK_INTERVAL, lines.units());
    }

    /// Forgets whose buckets are full.
    pub(super) fn forget(&mut self, now: Instant) {
        self.left.retain(|_, manners| !(manners.queries.is_full(now) && manners.reports.is_full(now)));
        self.addresses.retain(|_, bucket| !bucket.is_full(now));
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.left.is_empty() && self.addresses.is_empty()
    }

    #[cfg(any(test, feature = "probes"))]
    pub(super) fn is_bounded(&self) -> bool {
        self.left.len() <= MAX_REMEMBERED && self.addresses.len() <= MAX_ADDRESSES
    }
}
