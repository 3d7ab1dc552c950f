//! Friendships: mirror, logs, limits, frozen sums, conservation (I1–I5).
//!
//! A *delivered cut* of a friendship is a moment at which each end has applied everything that the other has made. At such
//! a moment the two ends must describe one and the same ledger. Between such moments they may differ by what is under way,
//! and only by that; this checker does not follow what is under way.

use std::collections::{BTreeMap, BTreeSet};

use offset_funder_sm::friend_channel::{Channel, Standing};
use offset_funder_sm::node::Node;
use offset_protocol::bytes::{PublicKey, RequestId};
use offset_protocol::money::Currency;

use super::{Invariant, Violation};
use crate::host::HostId;
use crate::world::World;

/// Watches all friendships of a world.
#[derive(Debug, Default)]
pub struct Friendships {
    hosts: BTreeMap<PublicKey, HostId>,
    delivered: u64,
    whole: u64,
}

impl Friendships {
    /// Watches the nodes on these hosts.
    pub fn new(world: &World, nodes: &[HostId]) -> Self {
        let hosts = nodes.iter().map(|&host| (world.key_of(host), host)).collect();
        Friendships { hosts, delivered: 0, whole: 0 }
    }

    /// How many delivered cuts of friendships, and of the whole network, were looked at.
    pub const fn looked_at(&self) -> (u64, u64) {
        (self.delivered, self.whole)
    }

    /// Checks the friendships of the node on `host`, which has just taken a turn.
    ///
    /// # Errors
    /// The first invariant that does not hold.
    pub fn check(&mut self, world: &World, host: HostId) -> Result<(), Violation> {
        let Some(node) = world.machine::<Node>(host) else { return Ok(()) };
        let fail = |invariant, what| Violation { invariant, at: world.now(), host: Some(host), what };
        let mut all_delivered = true;
        for channel in node.money().channels() {
            check_alone(channel).map_err(|(invariant, what)| fail(invariant, what))?;
            let Some(other) = self.other_end(world, channel) else {
                all_delivered = false;
                continue;
            };
            if !is_delivered(channel, other) {
                all_delivered = false;
                continue;
            }
            self.delivered += 1;
            check_mirror(channel, other).map_err(|what| fail(Invariant::Mirror, what))?;
        }
        if all_delivered { self.check_sum(world).map_err(|what| fail(Invariant::Conservation, what)) } else { Ok(()) }
    }

    /// Every friendship is at a delivered cut. Only when nothing is under way.
    ///
    /// # Errors
    /// [`Invariant::Resolution`] names the first that is not.
    pub fn check_all_delivered(&self, world: &World) -> Result<(), Violation> {
        for &host in self.hosts.values() {
            let channels = world.machine::<Node>(host).into_iter().flat_map(|node| node.money().channels());
            for channel in channels {
                if !self.other_end(world, channel).is_some_and(|other| is_delivered(channel, other)) {
                    let what =
                        format!("{:?} with {:?}: not everything was delivered", channel.marks(), channel.friend());
                    return Err(Violation {
                        invariant: Invariant::Resolution,
                        at: world.now(),
                        host: Some(host),
                        what,
                    });
                }
            }
        }
        Ok(())
    }

    fn other_end<'w>(&self, world: &'w World, channel: &Channel) -> Option<&'w Channel> {
        let host = self.hosts.get(&channel.friend())?;
        let us = channel.us();
        world.machine::<Node>(*host)?.money().channels().find(|other| other.friend() == us)
    }

    /// The sum of all balances, if every friendship is at a delivered cut.
    fn check_sum(&mut self, world: &World) -> Result<(), String> {
        let mut sums: BTreeMap<Currency, i128> = BTreeMap::new();
        for host in self.hosts.values() {
            let Some(node) = world.machine::<Node>(*host) else { return Ok(()) };
            for channel in node.money().channels() {
                match self.other_end(world, channel) {
                    Some(other) if is_delivered(channel, other) => {}
                    Some(_) | None => return Ok(()),
                }
                for report in channel.currencies() {
                    *sums.entry(report.currency).or_default() += report.balance;
                }
            }
        }
        self.whole += 1;
        match sums.into_iter().find(|(_, sum)| *sum != 0) {
            None => Ok(()),
            Some((currency, sum)) => Err(format!("all balances in {currency} sum to {sum}")),
        }
    }
}

fn is_delivered(a: &Channel, b: &Channel) -> bool {
    let (a, b) = (a.marks(), b.marks());
    a.epoch == b.epoch && a.made == b.applied && b.made == a.applied
}

/// What one end must show by itself: I2, I3, I4.
fn check_alone(channel: &Channel) -> Result<(), (Invariant, String)> {
    if let Standing::Inconsistent { why, .. } = channel.standing() {
        return Err((Invariant::Logs, format!("the channel to {:?} is inconsistent: {why:?}", channel.friend())));
    }
    let mut out: BTreeMap<Currency, u128> = BTreeMap::new();
    let mut incoming: BTreeMap<Currency, (u128, u128)> = BTreeMap::new();
    for (currency, open) in channel.all_outgoing() {
        *out.entry(currency).or_default() += open.frozen();
    }
    for (currency, open) in channel.all_incoming() {
        let (all, accepted) = incoming.entry(currency).or_default();
        *all += open.frozen();
        *accepted += if open.refused { 0 } else { open.frozen() };
    }
    for report in channel.currencies() {
        let out = out.get(&report.currency).copied().unwrap_or(0);
        let (all, accepted) = incoming.get(&report.currency).copied().unwrap_or((0, 0));
        if (report.out_frozen, report.in_frozen) != (out, all) {
            let what = format!("{report:?}: open requests freeze {out} out and {all} in");
            return Err((Invariant::Frozen, what));
        }
        // Limits do not change in the scenarios of today, so what held at acceptance holds for ever.
        let owed = report.balance.saturating_add(i128::try_from(accepted).unwrap_or(i128::MAX));
        if accepted > 0 && owed > i128::try_from(report.max_debt).unwrap_or(i128::MAX) {
            return Err((Invariant::Limits, format!("{report:?}: the friend may owe {owed}")));
        }
    }
    Ok(())
}

/// I1: two ends at a delivered cut.
fn check_mirror(a: &Channel, b: &Channel) -> Result<(), String> {
    let numbers = |channel: &Channel| -> BTreeMap<Currency, (i128, u128, u128)> {
        let all = channel.currencies().map(|r| (r.currency, (r.balance, r.out_frozen, r.in_frozen)));
        all.filter(|(_, numbers)| *numbers != (0, 0, 0)).collect()
    };
    let mirrored: BTreeMap<_, _> =
        numbers(b).into_iter().map(|(currency, (balance, out, in_))| (currency, (-balance, in_, out))).collect();
    let ours = numbers(a);
    if ours != mirrored {
        return Err(format!("with {:?}: ours {ours:?}, the friend's mirrored {mirrored:?}", a.friend()));
    }
    let ids = |open: &mut dyn Iterator<Item = (Currency, RequestId)>| open.collect::<BTreeSet<_>>();
    let out = |channel: &Channel| ids(&mut channel.all_outgoing().map(|(c, open)| (c, open.request.request_id)));
    let in_ = |channel: &Channel| ids(&mut channel.all_incoming().map(|(c, open)| (c, open.request.request_id)));
    if out(a) != in_(b) || in_(a) != out(b) {
        return Err(format!("with {:?}: other requests are open at the two ends", a.friend()));
    }
    Ok(())
}
