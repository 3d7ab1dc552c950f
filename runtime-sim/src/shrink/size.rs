//! How large a case is, as a reader counts.

use std::fmt;

use crate::case::{Case, Present, Rare, RatePlan};
use crate::keys::Keys;
use crate::latency::Latency;
use crate::net::{Conditions, StreamCuts};
use crate::signatures::Signatures;

/// How large a case is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size {
    /// What people do.
    pub operations: usize,
    /// What goes wrong.
    pub faults: usize,
    /// Relays, index servers, nodes with their persons, strangers and guests that take part.
    pub hosts: usize,
    /// Pairs of friends.
    pub friendships: usize,
    /// In how many ways the world before all that is not the plain one.
    pub edits: usize,
}

impl Size {
    /// Of a case.
    pub fn of(case: &Case) -> Self {
        let servers = case.relays.iter().chain(&case.indexes).map(|server| server.present);
        let hosts = servers.chain(case.nodes.iter().map(|node| node.present));
        let hosts = hosts.chain(case.strangers.iter().map(|stranger| stranger.present));
        let hosts = hosts.chain(case.guests.iter().map(|guest| guest.present));
        Size {
            operations: case.operations.len(),
            faults: case.faults.len(),
            hosts: hosts.filter(|present| *present == Present::Yes).count(),
            friendships: case.friendships.len(),
            edits: edits(case),
        }
    }

    /// Operations, faults and hosts.
    pub const fn total(&self) -> usize {
        self.operations + self.faults + self.hosts
    }

    /// What somebody has to do to show the failure: operations, faults, and edits of the plain world.
    pub const fn steps(&self) -> usize {
        self.operations + self.faults + self.edits
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Size { operations, faults, hosts, .. } = self;
        write!(f, "{operations} operations, {faults} faults, {hosts} hosts ({} steps)", self.steps())
    }
}

/// What is not as in the plain world: constant delays, no limits, whole segments, cheap signatures and keys, right clocks, one
/// currency, no fees, no tricks.
fn edits(case: &Case) -> usize {
    let Conditions { latency, bandwidth, send_buffer, receive_buffer, cuts } = case.conditions;
    let plain = Conditions::default();
    let is_constant = |latency: &Latency| matches!(latency, Latency::Constant(_));
    let network = [
        case.signatures != Signatures::Cheap,
        case.keys != Keys::Cheap,
        case.rare != Rare::Off,
        !is_constant(&latency),
        !is_constant(&case.note),
        bandwidth != plain.bandwidth,
        send_buffer != plain.send_buffer,
        receive_buffer != plain.receive_buffer,
        cuts != StreamCuts::Whole,
    ];
    let drifts = case.relays.iter().chain(&case.indexes).map(|server| (server.present, server.drift_ppm));
    let drifts = drifts.chain(case.nodes.iter().map(|node| (node.present, node.drift_ppm)));
    let terms = case.friendships.iter().flat_map(|friendship| &friendship.terms);
    let rates = terms.flat_map(|terms| [terms.a_charges, terms.b_charges]);
    let several = |node: &crate::case::NodePlan| node.present == Present::Yes && node.relays.len() > 1;
    network.into_iter().filter(|edit| *edit).count()
        + drifts.filter(|(present, drift)| *present == Present::Yes && *drift != 0).count()
        + rates.filter(|rate| *rate != RatePlan::default()).count()
        + case.nodes.iter().filter(|node| several(node)).count()
        + case.currencies.len().saturating_sub(1)
        + tricks(case)
}

/// Tricks of those who take part.
fn tricks(case: &Case) -> usize {
    let is_there = |present: Present| present == Present::Yes;
    let servers = case.relays.iter().chain(&case.indexes).filter(|server| is_there(server.present));
    let nodes = case.nodes.iter().filter(|node| is_there(node.present));
    let strangers = case.strangers.iter().filter(|stranger| is_there(stranger.present));
    servers.map(|server| server.cheat.relay.len() + server.cheat.index.len()).sum::<usize>()
        + nodes.map(|node| node.cheat.friend.len() + node.cheat.person.len() + node.cheat.report.len()).sum::<usize>()
        + strangers.map(|stranger| stranger.cheat.len()).sum::<usize>()
}
