//! What servers hold when the network is at rest: index graphs (I13) and relays (I14).
//!
//! Looked at after a rest that is longer than a heartbeat and than the patience of any half-open thing. Not looked at: the
//! order of frames inside tunnels, which the friends' own channel would refuse.

use std::collections::BTreeSet;

use offset_funder_sm::friend_channel::{Channel, Standing};
use offset_funder_sm::ledger::guard::{FULL_SHARE, LASTING_SHARE, ONWARD_TWELFTHS};
use offset_funder_sm::ledger::{Allowance, OpenRequest};
use offset_funder_sm::node::Node;
use offset_index_sm::server::{IndexServer, ServerStats};
use offset_protocol::app::CurrencyReport;
use offset_protocol::bytes::PublicKey;
use offset_protocol::index::Entry;
use offset_protocol::limits::{INDEX_NODE_TTL, INDEX_TICK, MAX_PENDING};
use offset_protocol::machine::Duration;
use offset_relay_sm::server::RelayServer;

use super::ledger::Fault;
use super::{Invariant, Violation};
use crate::host::HostId;
use crate::world::World;

/// What a node's channels would take, as entries: reckoned from what they show, not from what the node publishes.
fn acceptable(node: &Node) -> Vec<Entry> {
    let mut entries = Vec::new();
    for channel in node.money().channels().filter(|channel| channel.is_resumed()) {
        let usable = |report: &CurrencyReport| report.listed && report.friend_listed && report.is_open;
        for report in channel.currencies().filter(usable) {
            let CurrencyReport { currency, rate, max_debt, balance, .. } = report;
            let owed = balance.saturating_add_unsigned(channel.accepted_frozen(&currency));
            let room = max_debt.saturating_add_signed(owed.saturating_neg());
            // A limit is far below the largest number, and so is what is owed.
            let accepted = channel.all_incoming().filter(|(of, open)| *of == currency && !open.refused).count();
            let takes = accepted < MAX_PENDING && matches!(channel.standing(), Standing::Consistent { .. });
            let room = if takes && i128::try_from(max_debt).is_ok_and(|max| max > owed) { room } else { 0 };
            let forward = statable(room, onward(channel, &report));
            let friend = channel.friend();
            entries.push(Entry { friend, currency, recv_capacity: room, forward_capacity: forward, rate });
        }
    }
    entries.sort();
    entries
}

/// What should be offered that goes on from the node, by the list of the requests that do: what is left to others; if that is
/// less, what only the friend itself may use.
fn onward(channel: &Channel, report: &CurrencyReport) -> u128 {
    let goes_on = |open: &OpenRequest| !open.refused && !open.request.route.is_empty();
    let open = channel.all_incoming().filter(|(currency, open)| *currency == report.currency && goes_on(open));
    let (count, held) = open.fold((0, 0_u128), |(count, held), (_, open)| (count + 1, held + open.frozen()));
    let line = report.max_debt.saturating_add_signed(report.balance.saturating_neg());
    let part = |share| line.div_ceil(share);
    let share = match channel.allowance(&report.currency) {
        Allowance::Full => FULL_SHARE,
        Allowance::Lasting => LASTING_SHARE,
    };
    let all = (line * ONWARD_TWELFTHS).div_ceil(12);
    let others = if count < MAX_PENDING / FULL_SHARE as usize { part(share).saturating_sub(held) } else { 0 };
    let left = if count < MAX_PENDING * ONWARD_TWELFTHS as usize / 12 { all.saturating_sub(held) } else { 0 };
    left.min(others.max(all - part(FULL_SHARE)))
}

/// What a node says that may be passed on, of which a friend can push `room` in all and `onward` at most: all, or the largest
/// number not above that whose digits from the 25th on, in binary, are 0.
fn statable(room: u128, onward: u128) -> u128 {
    if onward >= room {
        return room;
    }
    let mut unit = 1;
    while onward / unit >= 1 << 24 {
        unit *= 2;
    }
    onward / unit * unit
}

/// Every index server holds for every node exactly what that node's channels would take now. What a node says about `unsteady`
/// friends is not looked at: it may change at any time.
///
/// # Errors
/// [`Invariant::Index`] with the first difference.
pub fn check_indexes(
    world: &World,
    indexes: &[HostId],
    nodes: &[HostId],
    unsteady: &BTreeSet<PublicKey>,
) -> Result<(), Violation> {
    for &host in indexes {
        let Some(server) = world.machine::<IndexServer>(host) else { continue };
        for &owner in nodes {
            let Some(node) = world.machine::<Node>(owner) else { continue };
            let mut truth = acceptable(node);
            let mut held = server.graph().report(&world.key_of(owner));
            held.sort();
            truth.retain(|entry| !unsteady.contains(&entry.friend));
            held.retain(|entry| !unsteady.contains(&entry.friend));
            if held != truth {
                let what = format!("of {owner} it holds {held:?}, the node would say {truth:?}");
                return Err(Violation { invariant: Invariant::Index, at: world.now(), host: Some(host), what });
            }
        }
    }
    Ok(())
}

/// Every route that the index server on `host` has offered so far was one that its graph carried at that moment, for the
/// fees that it stated; and it has taken no report twice.
///
/// # Errors
/// [`Invariant::Index`].
pub fn check_offers(world: &World, host: HostId) -> Result<(), Violation> {
    let Some(server) = world.machine::<IndexServer>(host) else { return Ok(()) };
    let fail = |(invariant, what)| Violation { invariant, at: world.now(), host: Some(host), what };
    check_stats(&server.stats()).map_err(fail)
}

fn check_stats(stats: &ServerStats) -> Result<(), Fault> {
    match (stats.unsound, stats.repeated) {
        (0, 0) => Ok(()),
        (0, repeated) => Err((Invariant::Index, format!("{repeated} reports refreshed themselves: {stats:?}"))),
        (unsound, _) => Err((Invariant::Index, format!("{unsound} offered routes are not in the graph: {stats:?}"))),
    }
}

/// A node that is silent for this long is in no graph any more: its time, and two heartbeats for its last words to travel.
pub const FORGOTTEN_AFTER: Duration = Duration::from_micros(INDEX_NODE_TTL.as_micros() + 2 * INDEX_TICK.as_micros());

/// No index server holds anything of these nodes, which have been gone for [`FORGOTTEN_AFTER`].
///
/// # Errors
/// [`Invariant::Index`] with the first report that is left.
pub fn check_gone(world: &World, indexes: &[HostId], gone: &[HostId]) -> Result<(), Violation> {
    for &host in indexes {
        let Some(server) = world.machine::<IndexServer>(host) else { continue };
        for owner in gone {
            let held = server.graph().report(&world.key_of(*owner));
            if !held.is_empty() {
                let what = format!("of {owner}, which is gone for long, it holds {held:?}");
                return Err(Violation { invariant: Invariant::Index, at: world.now(), host: Some(host), what });
            }
        }
    }
    Ok(())
}

/// Who should be at the relays, when all is at rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AtRelays {
    /// How many nodes listen at each.
    pub listeners: Vec<usize>,
    /// Friendships that both ends want a link for: one tunnel each.
    pub tunnels: usize,
    /// Friendships that only one end wants a link for: it knocks again and again.
    pub knocking: usize,
}

/// Nothing half-done is left at any relay, nobody listens twice, and every friendship has its one tunnel.
///
/// # Errors
/// [`Invariant::Relay`] with what is too much or too little.
pub fn check_relays(world: &World, relays: &[HostId], expected: &AtRelays) -> Result<(), Violation> {
    let fail = |host, what| Err(Violation { invariant: Invariant::Relay, at: world.now(), host, what });
    let mut tunnels = 0;
    for (&host, &listeners) in relays.iter().zip(&expected.listeners) {
        let Some(counts) = world.machine::<RelayServer>(host).map(RelayServer::counts) else { continue };
        tunnels += counts.tunnels;
        if counts.setups + counts.halves > expected.knocking || counts.listeners != listeners {
            return fail(Some(host), format!("{counts:?}, and {listeners} nodes call it theirs"));
        }
    }
    if tunnels == expected.tunnels {
        return Ok(());
    }
    fail(None, format!("{tunnels} tunnels at all relays together, for {} friendships", expected.tunnels))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offer_that_no_graph_carried_and_a_report_that_was_taken_twice_are_noticed() {
        let lying = ServerStats::default();
        assert_eq!(check_stats(&lying), Ok(()));
        for wrong in [ServerStats { unsound: 1, ..lying }, ServerStats { repeated: 1, ..lying }] {
            assert!(matches!(check_stats(&wrong), Err((Invariant::Index, _))));
        }
    }
}
