//! What must hold in every world, whatever goes wrong in it.
//!
//! | | invariant | where | when |
//! |---|---|---|---|
//! | I1 | mirror: when both logs are delivered, balances are opposite, frozen sums mirrored, open requests the same | [`friends`] | each turn of a node, with the friends of that node |
//! | I2 | no honest channel ever becomes inconsistent: no two batches under one number, none forgotten | [`friends`] | each turn |
//! | I3 | what a friend owes, with what it has frozen, is within what was granted | [`friends`] | each turn |
//! | I4 | frozen sums are the sums over open requests | [`friends`] | each turn |
//! | I5 | the balances of the whole network sum to zero at every delivered cut | [`friends`] | each turn at such a cut |
//! | I5–I7 | node by node the balances are those of a ledger of our own, driven by the deals that were paid | [`shadow`] | when nothing is open |
//! | I9 | seller and buyer agree on what was paid; receipts prove it | [`shadow`], people | when nothing is open |
//! | I10 | nothing is open a bounded time after healing | [`shadow`] | at the end |
//! | I11 | a restart from the written records finds what the node is | [`restore`] | turns that wrote; and by every crash |
//! | I13 | every index server holds of every node what that node would say | [`servers`] | after a rest |
//! | I14 | one listener a node and relay, one tunnel a friendship, nothing half-done | [`servers`] | after a rest |
//! | I16 | the report that an app rebuilt from changes is what the node knows | [`report`] | at the end |
//! | I17 | the laws of alarms | [`crate::host::Hosted`] | each turn |
//!
//! Not checked yet: hop by hop while requests are open (I6, I7 as they happen), losses under cheaters (I8), resets (I12),
//! routes as they are offered (I13), bounds of queues (I17).

pub mod bounds;
pub mod friends;
pub mod ledger;
pub mod losses;
pub mod receipts;
pub mod report;
pub mod restore;
pub mod servers;
pub mod shadow;
pub mod view;

use offset_protocol::machine::Instant;

use crate::host::HostId;

/// An invariant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// I1.
    Mirror,
    /// I2.
    Logs,
    /// I3.
    Limits,
    /// I4.
    Frozen,
    /// I5.
    Conservation,
    /// I5 to I7, against a ledger of our own.
    Shadow,
    /// I6 and I7, hop by hop.
    Hops,
    /// I8.
    Losses,
    /// I9.
    Receipts,
    /// I10.
    Resolution,
    /// I11.
    Durability,
    /// I12.
    Reset,
    /// I13.
    Index,
    /// I14.
    Relay,
    /// I16.
    Report,
    /// I17: sizes.
    Bounds,
    /// I17 and I18: laws of machines, and programs that do not start.
    Laws,
    /// A person noticed what must not be.
    People,
}

/// An invariant that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{invariant:?} at {} us, host {host:?}: {what}", at.as_micros())]
pub struct Violation {
    /// Which.
    pub invariant: Invariant,
    /// When it was noticed.
    pub at: Instant,
    /// Where.
    pub host: Option<HostId>,
    /// How it shows.
    pub what: String,
}
