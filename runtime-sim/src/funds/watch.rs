//! What must hold among funders.
//!
//! | | what | when |
//! |---|---|---|
//! | I1 | two ends that have heard everything of each other say the same | each letter, at the friendship that it came over; all at a look |
//! | I2 | no channel becomes inconsistent | each letter; all at a look |
//! | I3 | a friend owes, with what it froze, no more than was granted | as I2, where no limit was ever changed |
//! | I4 | frozen sums are the sums over open requests | as I2; hubs with much open once in a while |
//! | I5 | all balances sum to zero; each node gained what its deals come to and what it earned as a mediator | at the end |
//! | I2, I3, I5–I7 | every friendship, request and node come to what a ledger of our own says: see [`crate::check::ledger`] | each write, in small worlds |
//! | I11 | a restart from the written records finds what the node is | nodes with a disk, once in so many writes; all of them at the end |
//! | I13 | the index has what each node would say now | at the end |
//! | I10, I17 | nothing is open, nothing is remembered | at the end |
//!
//! The laws of alarms (I17) are looked at in each turn, receipts (I9) by the people.

use std::collections::BTreeSet;

use offset_funder_sm::friend_channel::{Channel, Standing};
use offset_funder_sm::funder::Funder;
use offset_protocol::bytes::{PublicKey, RequestId};
use offset_protocol::index::Entry;
use offset_protocol::money::Currency;
use offset_protocol::persist::Change;

use super::links::Side;
use super::world::World;
use super::{Options, Shadow};
use crate::check::ledger::{Ledger, NodeId, User};
use crate::check::view::touched;
use crate::check::{Invariant, Violation};
use crate::full::Watch;
use crate::result::Sample;

/// With more open requests than this a friendship's sums are gathered once in [`SELDOM`] letters only: so that what a letter
/// costs stays the same whatever is open.
const MANY_OPEN: usize = 32;
const SELDOM: u64 = 64;

/// Looks on.
#[derive(Debug)]
pub(super) struct Watcher {
    watch: Watch,
    compare_every: u64,
    letters: u64,
    writes: u64,
    /// Delivered cuts of friendships that were looked at.
    pub(super) delivered: u64,
    pub(super) compared: u64,
    /// Who changed a limit for whom.
    pub(super) limits_changed: BTreeSet<(u32, u32)>,
    ledger: Option<Box<Ledger>>,
    /// The friends that the turn at hand wrote about.
    touched: Vec<PublicKey>,
    wrote: bool,
}

type Found = Result<(), (Invariant, String)>;

impl Watcher {
    /// Looks on at nodes with these keys.
    pub(super) fn new(options: &Options, keys: &[PublicKey]) -> Self {
        let with_ledger = options.watch == Watch::Always && options.shadow == Shadow::Kept;
        let ledger = with_ledger.then(|| {
            let mut ledger = Box::new(Ledger::new());
            for key in keys {
                ledger.add_node(*key, User::NeverAccepts);
            }
            ledger
        });
        Watcher {
            watch: options.watch,
            compare_every: options.compare_every,
            letters: 0,
            writes: 0,
            delivered: 0,
            compared: 0,
            limits_changed: BTreeSet::new(),
            ledger,
            touched: Vec::new(),
            wrote: false,
        }
    }

    /// Whether records are read here whatever disk they go to.
    pub(super) const fn reads_records(&self) -> bool {
        self.ledger.is_some()
    }

    /// A node writes.
    pub(super) fn on_write(&mut self, changes: &[Change]) {
        if self.ledger.is_some() {
            self.wrote = true;
            self.touched = touched(changes);
        }
    }

    /// What a node wrote is durable.
    pub(super) fn on_durable(&mut self, node: u32) {
        if let Some(ledger) = &mut self.ledger {
            ledger.on_durable(NodeId(node));
        }
    }
}

/// How thoroughly one end is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Depth {
    /// Without sums over much that is open.
    Quick,
    Full,
}

impl World {
    /// After `to` has taken in a letter of `from`.
    pub(super) fn check_after_letter(&mut self, to: u32, from: u32) -> Result<(), Violation> {
        if self.watcher.watch == Watch::AtTheEnd {
            return Ok(());
        }
        self.watcher.letters += 1;
        let depth = if self.watcher.letters.is_multiple_of(SELDOM) { Depth::Full } else { Depth::Quick };
        let delivered = self.check_pair(to, from, depth)?;
        self.watcher.delivered += u64::from(delivered);
        Ok(())
    }

    /// After a turn of a node.
    pub(super) fn check_after_turn(&mut self, node: u32) -> Result<(), Violation> {
        if !std::mem::take(&mut self.watcher.wrote) {
            return Ok(());
        }
        let touched = std::mem::take(&mut self.watcher.touched);
        let (Some(ledger), Some(funder)) = (&mut self.watcher.ledger, &self.nodes[node as usize].funder) else {
            return Ok(());
        };
        let looked = ledger.on_turn(NodeId(node), funder, &touched);
        looked.map_err(|(invariant, what)| self.violation(invariant, Some(node), what))
    }

    /// After a node has started from its disk.
    pub(super) fn check_after_boot(&mut self, node: u32) -> Result<(), Violation> {
        let (Some(ledger), Some(funder)) = (&mut self.watcher.ledger, &self.nodes[node as usize].funder) else {
            return Ok(());
        };
        let looked = ledger.on_boot(NodeId(node), funder);
        looked.map_err(|(invariant, what)| self.violation(invariant, Some(node), what))
    }

    /// After a node with a disk has written.
    pub(super) fn check_after_write(&mut self, node: u32) -> Result<(), Violation> {
        if self.watcher.watch == Watch::AtTheEnd || self.watcher.compare_every == 0 {
            return Ok(());
        }
        self.watcher.writes += 1;
        if self.watcher.writes.is_multiple_of(self.watcher.compare_every) { self.compare(node) } else { Ok(()) }
    }

    fn compare(&mut self, node: u32) -> Result<(), Violation> {
        let state = &self.nodes[node as usize];
        let (Some(funder), Some(disk)) = (&state.funder, state.disk()) else { return Ok(()) };
        self.watcher.compared += 1;
        funder
            .compare_with(disk.written())
            .map_err(|difference| self.violation(Invariant::Durability, Some(node), difference.to_string()))
    }

    fn channel(&self, node: u32, friend: u32) -> Option<&Channel> {
        self.funder(node)?.channel(self.keys.get(friend as usize)?)
    }

    /// One end, and both if everything was delivered; gives whether it was.
    fn check_pair(&self, node: u32, friend: u32, depth: Depth) -> Result<bool, Violation> {
        let Some(ours) = self.channel(node, friend) else { return Ok(false) };
        let fail = |(invariant, what)| {
            let who = format!("with node {friend}: {what}");
            self.violation(invariant, Some(node), who)
        };
        let limits_hold = !self.watcher.limits_changed.contains(&(node, friend));
        check_alone(ours, depth, limits_hold).map_err(fail)?;
        match self.channel(friend, node) {
            Some(theirs) if is_delivered(ours, theirs) => {
                check_mirror(ours, theirs, depth).map_err(fail)?;
                Ok(true)
            }
            Some(_) | None => Ok(false),
        }
    }

    /// Everything that can be looked at at any moment.
    pub(super) fn check_all(&mut self) -> Result<(), Violation> {
        for number in 0..self.links.len() {
            let (a, b) = (self.links[number].node(Side::A), self.links[number].node(Side::B));
            self.check_pair(a, b, Depth::Full)?;
            let delivered = self.check_pair(b, a, Depth::Full)?;
            self.watcher.delivered += u64::from(delivered);
        }
        Ok(())
    }

    /// How the world stands.
    pub(super) fn sample(&self) -> Sample {
        let (faults_active, events) = (self.weather.active(), self.trace.events());
        let mut sample = Sample { faults_active, events, ..Sample::default() };
        let (mut directions, mut saturated) = (0_u64, 0_u64);
        for channel in self.nodes.iter().filter_map(|node| node.funder.as_ref()).flat_map(Funder::channels) {
            sample.open += channel.open_requests().0 as u64;
            for report in channel.currencies() {
                sample.frozen += report.out_frozen;
                directions += 1;
                saturated += u64::from(channel.recv_capacity(&report.currency) < report.max_debt / 10);
            }
        }
        sample.saturated_per_mille = (1_000 * saturated).checked_div(directions).unwrap_or(0);
        sample
    }

    /// Everything that must hold when all is at rest.
    pub(super) fn check_at_rest(&mut self) -> Result<(), Violation> {
        self.check_all()?;
        for node in 0..self.nodes.len() as u32 {
            self.compare(node)?;
            if let Some(what) = self.remembered(node) {
                return Err(self.violation(Invariant::Resolution, Some(node), what));
            }
            self.check_index(node)?;
        }
        for link in &self.links {
            let (a, b) = (link.node(Side::A), link.node(Side::B));
            let delivered = match (self.channel(a, b), self.channel(b, a)) {
                (Some(ours), Some(theirs)) => is_delivered(ours, theirs),
                (ours, theirs) => ours.is_none() && theirs.is_none(),
            };
            if !delivered {
                let what = format!("with node {b}: not everything was delivered");
                return Err(self.violation(Invariant::Resolution, Some(a), what));
            }
        }
        if let Some(ledger) = &self.watcher.ledger {
            let looked = ledger.check_whole(|_| false, |_| false);
            looked.map_err(|(node, (invariant, what))| self.violation(invariant, node.map(|node| node.0), what))?;
        }
        self.check_books()
    }

    /// The index has of a node exactly what the node would say now.
    fn check_index(&self, node: u32) -> Result<(), Violation> {
        let Some(funder) = self.funder(node) else { return Ok(()) };
        let mut truth: Vec<Entry> = funder.published().collect();
        truth.sort_unstable();
        let held = self.index.graph().report(&self.keys[node as usize]);
        if held == truth {
            return Ok(());
        }
        Err(self.violation(Invariant::Index, Some(node), format!("the index has {held:?}, the node says {truth:?}")))
    }

    /// What a node still remembers of what has ended.
    fn remembered(&self, node: u32) -> Option<String> {
        let Some(funder) = self.funder(node) else { return Some("it is off".to_owned()) };
        let kept = funder.remembers();
        (kept != offset_funder_sm::funder::Remembers::default()).then(|| format!("at rest it has {kept:?}"))
    }

    fn check_books(&self) -> Result<(), Violation> {
        let mut earned = vec![0i128; self.people.currencies.len()];
        for node in 0..self.nodes.len() as u32 {
            let Some(funder) = self.funder(node) else { continue };
            let balances = balances(funder, &self.people.currencies);
            for (currency, has) in balances.into_iter().enumerate() {
                let gain = has - self.people.books().of(node, currency);
                earned[currency] += gain;
                if gain < 0 {
                    let what = format!("it has {has}, {gain} more than its own deals come to");
                    return Err(self.violation(Invariant::Shadow, Some(node), what));
                }
            }
        }
        match earned.iter().zip(&self.people.books().fees).find(|(earned, told)| earned != told) {
            None => Ok(()),
            Some((earned, told)) => {
                let what = format!("mediators earned {earned}, buyers were told {told}");
                Err(self.violation(Invariant::Shadow, None, what))
            }
        }
    }
}

fn balances(funder: &Funder, currencies: &[Currency]) -> Vec<i128> {
    let mut balances = vec![0; currencies.len()];
    for report in funder.channels().flat_map(Channel::currencies) {
        if let Some(place) = currencies.iter().position(|currency| *currency == report.currency) {
            balances[place] += report.balance;
        }
    }
    balances
}

fn is_delivered(a: &Channel, b: &Channel) -> bool {
    let (a, b) = (a.marks(), b.marks());
    a.epoch == b.epoch && a.made == b.applied && b.made == a.applied
}

fn has_many_open(channel: &Channel) -> bool {
    let (sent, received) = channel.open_requests();
    sent + received > MANY_OPEN
}

/// What one end must show by itself: I2, I3, I4.
fn check_alone(channel: &Channel, depth: Depth, limits_hold: bool) -> Found {
    if let Standing::Inconsistent { why, .. } = channel.standing() {
        return Err((Invariant::Logs, format!("the channel is inconsistent: {why}")));
    }
    if depth == Depth::Quick && has_many_open(channel) {
        return Ok(());
    }
    for report in channel.currencies() {
        let of = |(currency, _): &(Currency, _)| *currency == report.currency;
        let out: u128 = channel.all_outgoing().filter(|open| of(&(open.0, ()))).map(|(_, open)| open.frozen()).sum();
        let (mut all, mut accepted) = (0u128, 0u128);
        for (_, open) in channel.all_incoming().filter(|open| of(&(open.0, ()))) {
            all += open.frozen();
            accepted += if open.refused { 0 } else { open.frozen() };
        }
        if (report.out_frozen, report.in_frozen) != (out, all) {
            return Err((Invariant::Frozen, format!("{report:?}: open requests freeze {out} out and {all} in")));
        }
        let owed = report.balance.saturating_add(i128::try_from(accepted).unwrap_or(i128::MAX));
        if limits_hold && accepted > 0 && owed > i128::try_from(report.max_debt).unwrap_or(i128::MAX) {
            return Err((Invariant::Limits, format!("{report:?}: the friend may owe {owed}")));
        }
    }
    Ok(())
}

/// I1: two ends at a delivered cut.
fn check_mirror(a: &Channel, b: &Channel, depth: Depth) -> Found {
    let is_void = |balance: i128, out: u128, in_: u128| (balance, out, in_) == (0, 0, 0);
    let ours = a.currencies().filter(|r| !is_void(r.balance, r.out_frozen, r.in_frozen));
    let theirs = b.currencies().filter(|r| !is_void(r.balance, r.out_frozen, r.in_frozen));
    let ours = ours.map(|r| (r.currency, r.balance, r.out_frozen, r.in_frozen));
    if !ours.eq(theirs.map(|r| (r.currency, -r.balance, r.in_frozen, r.out_frozen))) {
        let (ours, theirs): (Vec<_>, Vec<_>) = (a.currencies().collect(), b.currencies().collect());
        return Err((Invariant::Mirror, format!("one end says {ours:?}, the other {theirs:?}")));
    }
    let (sent, received) = a.open_requests();
    if (received, sent) != b.open_requests() {
        return Err((Invariant::Mirror, "other requests are open at the two ends".to_owned()));
    }
    if sent + received == 0 || depth == Depth::Quick && has_many_open(a) {
        return Ok(());
    }
    // Both lists are in order of currency and id.
    let out = |channel: &'_ Channel| ids(&mut channel.all_outgoing().map(|(c, open)| (c, open.request.request_id)));
    let in_ = |channel: &'_ Channel| ids(&mut channel.all_incoming().map(|(c, open)| (c, open.request.request_id)));
    if out(a) != in_(b) || in_(a) != out(b) {
        return Err((Invariant::Mirror, "other requests are open at the two ends".to_owned()));
    }
    Ok(())
}

fn ids(open: &mut dyn Iterator<Item = (Currency, RequestId)>) -> Vec<(Currency, RequestId)> {
    open.collect()
}
