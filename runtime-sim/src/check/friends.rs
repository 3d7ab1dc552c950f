//! The ledger of a world, and what two ends of a friendship show of each other (I1, I4, and what [`super::ledger`] holds).
//!
//! A *delivered cut* of a friendship is a moment at which each end has applied everything that the other has made. At such
//! a moment the two ends must describe one and the same ledger. Between such moments they may differ by what is under way,
//! and by nothing else: the ledger follows what is under way.
//!
//! Lists of open requests are compared when they are short, and now and then when they are long: their sums and numbers are
//! compared always.

use std::collections::{BTreeMap, BTreeSet};

use offset_funder_sm::friend_channel::Channel;
use offset_funder_sm::node::Node;
use offset_protocol::bytes::{PublicKey, RequestId};
use offset_protocol::money::Currency;

use super::bounds::{self, When};
use super::ledger::{Fault, Ledger, NodeId, User};
use super::receipts::{self, DealFacts};
use super::{Invariant, Violation, losses, view};
use crate::host::HostId;
use crate::people::{DealId, SharedPerson};
use crate::world::World;

/// Requests of a friendship that are listed at every look.
const SHORT: usize = 16;
/// Longer lists are looked at once in so many looks.
const LONG_EVERY: u64 = 64;

/// Watches all friendships of a world.
#[derive(Debug, Default)]
pub struct Friendships {
    ledger: Ledger,
    hosts: BTreeMap<PublicKey, HostId>,
    nodes: BTreeMap<HostId, NodeId>,
    looks: u64,
}

impl Friendships {
    /// Watches the nodes on these hosts; all of them are honest.
    pub fn new(world: &World, nodes: &[HostId]) -> Self {
        let mut friendships = Friendships::default();
        for &host in nodes {
            friendships.watch(world, host, User::MayAccept);
        }
        friendships
    }

    /// Watches one more honest node, which has not started yet.
    pub fn watch(&mut self, world: &World, host: HostId, user: User) {
        let key = world.key_of(host);
        self.hosts.insert(key, host);
        self.nodes.insert(host, self.ledger.add_node(key, user));
    }

    /// The books.
    pub const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// How many delivered cuts of friendships, and of the whole network, were looked at.
    pub const fn looked_at(&self) -> (u64, u64) {
        let looked = self.ledger.looked();
        (looked.cuts, looked.whole)
    }

    /// Whether the ledger has followed every friendship from its beginning on.
    pub const fn is_whole(&self) -> bool {
        self.ledger.looked().lost == 0
    }

    /// Checks the friendships of the node on `host`, which has just taken a turn and written: those that it wrote about.
    ///
    /// # Errors
    /// The first invariant that does not hold.
    pub fn check(&mut self, world: &World, host: HostId) -> Result<(), Violation> {
        let Some(&id) = self.nodes.get(&host) else { return Ok(()) };
        let Some(node) = world.machine::<Node>(host) else { return Ok(()) };
        let touched = view::touched(world.last_write(host));
        self.ledger.on_turn(id, node.money(), &touched).map_err(at(world, host))?;
        self.looks += 1;
        for channel in touched.iter().filter_map(|friend| node.money().channel(friend)) {
            bounds::check(channel.sizes(), When::Busy).map_err(at(world, host))?;
            self.check_lists(world, channel).map_err(at(world, host))?;
        }
        Ok(())
    }

    /// A write of the node on `host` has reached its disk.
    pub fn on_flushed(&mut self, world: &World, host: HostId) {
        if let Some(&id) = self.nodes.get(&host).filter(|_| world.is_flushed(host)) {
            self.ledger.on_durable(id);
        }
    }

    /// The node on `host` has started.
    ///
    /// # Errors
    /// [`Invariant::Logs`] if it does not know what it must know, or whatever else does not hold.
    pub fn on_booted(&mut self, world: &World, host: HostId) -> Result<(), Violation> {
        let Some(&id) = self.nodes.get(&host) else { return Ok(()) };
        let Some(node) = world.machine::<Node>(host) else { return Ok(()) };
        self.ledger.on_boot(id, node.money()).map_err(at(world, host))
    }

    /// The disk of `host` is an old copy, or empty, from now on.
    pub fn excuse(&mut self, host: HostId) {
        if let Some(&id) = self.nodes.get(&host) {
            self.ledger.excuse(id);
        }
    }

    /// At rest: every request has ended, but for those that `may_be_open` names, and every node has what its requests and
    /// resets brought.
    ///
    /// # Errors
    /// [`Invariant::Resolution`], [`Invariant::Shadow`].
    pub fn check_whole(&self, world: &World, may_be_open: impl Fn(&RequestId) -> bool) -> Result<(), Violation> {
        let gone = self.nodes.iter().filter(|(host, _)| world.is_retired(**host));
        let gone: BTreeSet<NodeId> = gone.map(|(_, node)| *node).collect();
        self.ledger.check_whole(|node| gone.contains(&node), may_be_open).map_err(|(node, (invariant, what))| {
            let host = node.and_then(|node| self.nodes.iter().find(|(_, id)| **id == node)).map(|(host, _)| *host);
            Violation { invariant, at: world.now(), host, what }
        })
    }

    /// Nothing of any node is larger than it may be.
    ///
    /// # Errors
    /// [`Invariant::Bounds`].
    pub fn check_sizes(&self, world: &World, when: When) -> Result<(), Violation> {
        for &host in self.nodes.keys() {
            let Some(node) = world.machine::<Node>(host) else { continue };
            bounds::check(node.money().sizes(), when).map_err(at(world, host))?;
        }
        Ok(())
    }

    /// No node that remembers has lost more than it granted to cheaters. At rest; `people` by the host of their node.
    ///
    /// # Errors
    /// [`Invariant::Losses`].
    pub fn check_losses<'p>(
        &self,
        world: &World,
        people: impl IntoIterator<Item = (HostId, &'p SharedPerson)>,
        currencies: &[Currency],
    ) -> Result<(), Violation> {
        for (host, person) in people {
            let Some(&id) = self.nodes.get(&host).filter(|id| !self.ledger.may_have_forgotten(**id)) else { continue };
            let Some(node) = world.machine::<Node>(host) else { continue };
            for currency in currencies {
                let earned = losses::earned(person.0.borrow().deals(), currency);
                let position = losses::position(&self.ledger, id, node.money().channels(), currency, earned);
                losses::check(&position).map_err(at(world, host))?;
            }
        }
        Ok(())
    }

    /// What people were told of these deals is what happened: deal, and host and person of buyer and seller. When none is
    /// open.
    ///
    /// # Errors
    /// [`Invariant::Receipts`].
    pub fn check_receipts<'p>(
        &self,
        world: &World,
        deals: impl IntoIterator<Item = (DealId, [(HostId, &'p SharedPerson); 2])>,
    ) -> Result<(), Violation> {
        let facts = deals.into_iter().filter_map(|(deal, [buyer, seller])| {
            let [buys, sells] = [buyer.1.0.borrow(), seller.1.0.borrow()];
            let [buyer, seller] = [self.nodes.get(&buyer.0)?, self.nodes.get(&seller.0)?];
            DealFacts::of(deal, (*buyer, buys.deals()), (*seller, sells.deals()))
        });
        let fail = |(invariant, what)| Violation { invariant, at: world.now(), host: None, what };
        receipts::check(&self.ledger, facts).map_err(fail)
    }

    fn check_lists(&self, world: &World, channel: &Channel) -> Result<(), Fault> {
        let open = channel.open_requests();
        if open.0 + open.1 > SHORT && !self.looks.is_multiple_of(LONG_EVERY) {
            return Ok(());
        }
        check_frozen(channel)?;
        match self.other_end(world, channel) {
            Some(other) if self.ledger.is_exact(&channel.us(), &channel.friend()) && is_delivered(channel, other) => {
                check_mirror(channel, other)
            }
            Some(_) | None => Ok(()),
        }
    }

    fn other_end<'w>(&self, world: &'w World, channel: &Channel) -> Option<&'w Channel> {
        let host = self.hosts.get(&channel.friend())?;
        world.machine::<Node>(*host)?.money().channel(&channel.us())
    }
}

fn at(world: &World, host: HostId) -> impl Fn(Fault) -> Violation {
    let at = world.now();
    move |(invariant, what)| Violation { invariant, at, host: Some(host), what }
}

fn is_delivered(a: &Channel, b: &Channel) -> bool {
    let (a, b) = (a.marks(), b.marks());
    a.epoch == b.epoch && a.made == b.applied && b.made == a.applied
}

/// I4: what is frozen is the sum over the open requests.
///
/// # Errors
/// [`Invariant::Frozen`].
pub fn check_frozen(channel: &Channel) -> Result<(), Fault> {
    let mut out: BTreeMap<Currency, u128> = BTreeMap::new();
    let mut incoming: BTreeMap<Currency, (u128, u128, u128)> = BTreeMap::new();
    for (currency, open) in channel.all_outgoing() {
        *out.entry(currency).or_default() += open.frozen();
    }
    for (currency, open) in channel.all_incoming() {
        let (all, accepted, forwarded) = incoming.entry(currency).or_default();
        *all += open.frozen();
        *accepted += if open.refused { 0 } else { open.frozen() };
        *forwarded += if open.refused || open.request.route.is_empty() { 0 } else { open.frozen() };
    }
    for report in channel.currencies() {
        let out = out.get(&report.currency).copied().unwrap_or(0);
        let (all, accepted, forwarded) = incoming.get(&report.currency).copied().unwrap_or_default();
        if (report.out_frozen, report.in_frozen) != (out, all) {
            let what = format!("{report:?}: open requests freeze {out} out and {all} in");
            return Err((Invariant::Frozen, what));
        }
        let counted = (channel.accepted_frozen(&report.currency), channel.forwarded_frozen(&report.currency));
        if counted != (accepted, forwarded) {
            let sums = (accepted, forwarded);
            let what = format!("{report:?}: {counted:?} counts as accepted and as passed on, open requests: {sums:?}");
            return Err((Invariant::Frozen, what));
        }
    }
    Ok(())
}

/// I1: two ends at a delivered cut.
///
/// # Errors
/// [`Invariant::Mirror`].
pub fn check_mirror(a: &Channel, b: &Channel) -> Result<(), Fault> {
    let numbers = |channel: &Channel| -> BTreeMap<Currency, (i128, u128, u128)> {
        let all = channel.currencies().map(|r| (r.currency, (r.balance, r.out_frozen, r.in_frozen)));
        all.filter(|(_, numbers)| *numbers != (0, 0, 0)).collect()
    };
    let mirrored: BTreeMap<_, _> =
        numbers(b).into_iter().map(|(currency, (balance, out, in_))| (currency, (-balance, in_, out))).collect();
    let ours = numbers(a);
    if ours != mirrored {
        let what = format!("with {:?}: ours {ours:?}, the friend's mirrored {mirrored:?}", a.friend());
        return Err((Invariant::Mirror, what));
    }
    let ids = |open: &mut dyn Iterator<Item = (Currency, RequestId)>| open.collect::<BTreeSet<_>>();
    let out = |channel: &Channel| ids(&mut channel.all_outgoing().map(|(c, open)| (c, open.request.request_id)));
    let in_ = |channel: &Channel| ids(&mut channel.all_incoming().map(|(c, open)| (c, open.request.request_id)));
    if out(a) != in_(b) || in_(a) != out(b) {
        return Err((Invariant::Mirror, format!("with {:?}: other requests are open at the two ends", a.friend())));
    }
    Ok(())
}
