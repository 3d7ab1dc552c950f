//! What must hold in every world, whatever goes wrong in it.
//!
//! | | invariant | where | when |
//! |---|---|---|---|
//! | I1 | mirror: when both logs are delivered, balances are opposite, frozen sums mirrored, open requests the same | [`ledger`] for sums and numbers, [`friends`] for the lists | each write of a node, for the friends that it concerns; long lists of requests now and then |
//! | I2 | one number, one batch; what was durable, or applied by the friend, is never forgotten; nothing is applied or signed for that was not made; no channel becomes inconsistent without a reason | [`ledger`] | each write and each start |
//! | I3 | what a friend owes, with what was accepted of it, grows only within what it is granted; and what goes on from a node, within the share that it may hold | [`ledger`] | each write |
//! | I4 | frozen sums are the sums over open requests | [`friends`]; by the logs: [`ledger`] | as I1 |
//! | I5 | at each end exactly what was made and applied comes to; the balances of the network sum to zero at every delivered cut; at rest each node has what its requests and resets brought | [`ledger`] | each write; at such a cut; at rest |
//! | I6 | a mediator takes exactly its fee; both its sides are paid or neither; it neither collects nor cancels too early | [`ledger`] | each write, hop by hop |
//! | I7 | follows from I5 and I6: every request moves the same at all hops, or nothing | [`ledger`] | as I5 and I6 |
//! | I8 | nobody loses more than the limits that it gave to its own cheating friends | [`losses`] | at rest |
//! | I9 | what buyer and seller were told was collected; one receipt an invoice, for what was issued and paid | [`receipts`], people | at rest; people: with each event |
//! | I10 | nothing is open a bounded time after healing; every request has ended at both ends of every hop | the runner, [`ledger`] | at the end |
//! | I11 | a restart from the written records finds what the node is; nothing is said before it is durable | [`restore`]; by every crash: I2 | turns that wrote; each start |
//! | I12 | an epoch begins on terms that an end stated and the other's user may accept; they are what stood there, within what was granted; both ends begin with them; the drift is booked | [`ledger`] | each write |
//! | I13 | every route that an index server offered was in its graph at that moment, and no report refreshed itself; every server holds of every node what the node's channels would take and pass on; who is gone is forgotten; no version of a report is used twice | [`servers`], [`marks`] | after a rest |
//! | I14 | one listener a node and relay, one tunnel a friendship, nothing half-done; books of relays, links and index servers hold together | [`servers`]; by the machines' own assertions, [`crate::host::Resident`] | after a rest; one turn in twenty |
//! | I15 | what a connection's channel gives its owner is what the other end sealed: once, in order, unaltered; what a tunnel carries was sealed by its other end, where nobody cheats | [`crate::net`]; [`marks`] | each message; at the end |
//! | I16 | the report that an app rebuilt from changes is what the node knows; what was said to be done is shown; one reply a command; nobody does what it may not, nor says what is no message | [`report`], [`crate::people`], [`crate::guests`] | replies: each; the rest: at the end |
//! | I17 | queues and maps are within their limits, and empty at rest; sessions of apps and of index servers too; the laws of alarms | [`bounds`], the runner, [`crate::host::Hosted`] | channels: each write; nodes, sessions: after a rest; servers: one turn in twenty; alarms: each turn |
//! | I18 | no panic; where nobody cheats, no host accuses another of what no honest host does, and nothing happens for which there is no reason | the test that runs the world; the runner, [`marks`] | accusations: each event; marks: at the end |
//! | I19 | same again | whoever runs a world twice | |
//!
//! What [`ledger`], [`losses`], [`receipts`] and [`bounds`] look at is a funder and what people were told, not a world: they
//! serve runs with funders only as well. [`friends`] is how a world uses them.
//!
//! The machines keep no log; an accusation (a peer broke a rule, a record was forged) is what a program would log as an error.
//!
//! Not checked: friendships with a cheater, but for limits, terms and losses; friendships of a node whose disk was lost or
//! put back, from the moment at which something does not fit until both ends have begun anew; bytes that a process takes,
//! which no machine knows; index servers with thousands of entries do not assert their books.

pub mod bounds;
pub mod friends;
pub mod ledger;
pub mod losses;
pub mod marks;
pub mod receipts;
pub mod report;
pub mod restore;
pub mod servers;
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
    /// I15.
    Channel,
    /// I16.
    Report,
    /// I17: sizes.
    Bounds,
    /// I17 and I18: laws of machines, and programs that do not start.
    Laws,
    /// I18: an honest host is accused, or something happened for which there is no reason.
    Clean,
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
