//! Runs with cheaters: who they are, and what the honest notice of them.
//!
//! Cheaters are no part of the core: what is open with them may stay open. They go on after healing; the relays and index
//! servers among them are replaced, as people would.

use std::collections::{BTreeMap, BTreeSet};

use offset_funder_sm::friend_channel::Standing;
use offset_funder_sm::node::Node;
use offset_protocol::bytes::PublicKey;

use super::{Run, settings};
use crate::case::{Case, Role, Setting};
use crate::host::HostId;
use crate::world::{Step, StepKind};

/// What the honest have noticed so far.
#[derive(Debug, Default)]
pub(super) struct Noticed {
    is_on: bool,
    /// Channels that are inconsistent, by honest host and cheater.
    disputes: BTreeSet<(HostId, PublicKey)>,
    blames: u64,
}

impl Noticed {
    pub(super) fn new(case: &Case) -> Self {
        Noticed { is_on: case.has_cheaters(), ..Noticed::default() }
    }
}

impl Run<'_> {
    /// Writes down what an honest host shows after a step.
    pub(super) fn notice_cheaters(&mut self, step: &Step) {
        if !self.noticed.is_on {
            return;
        }
        match step.kind {
            StepKind::Turn { wrote } => {
                if wrote {
                    self.notice_disputes(step.host);
                }
                self.notice_blames();
            }
            StepKind::Network
            | StepKind::Flushed
            | StepKind::Booted
            | StepKind::Crashed
            | StepKind::Plan(_)
            | StepKind::Stale => {}
        }
    }

    fn notice_disputes(&mut self, host: HostId) {
        let Some(Role::Node(number)) = self.case.role(host) else { return };
        let Some(node) = self.world.machine::<Node>(host).filter(|_| self.core.contains(&number)) else { return };
        for channel in node.money().channels() {
            let place = (host, channel.friend());
            match channel.standing() {
                Standing::Consistent { .. } => {
                    self.noticed.disputes.remove(&place);
                }
                Standing::Inconsistent { why, .. } => {
                    if self.noticed.disputes.insert(place) {
                        self.evidence.noticed(format!("inconsistent: {}", word_of(why)));
                    }
                }
            }
        }
    }

    fn notice_blames(&mut self) {
        let total = self.world.blamed();
        let new = usize::try_from(total - self.noticed.blames).unwrap_or(usize::MAX);
        self.noticed.blames = total;
        let known = self.world.blames().count();
        let lately: Vec<_> = self.world.blames().skip(known.saturating_sub(new)).cloned().collect();
        for (_, host, what) in lately {
            if self.case.role(host).is_some_and(|role| self.case.is_honest(role)) {
                let rule = what.split_once(": ").map_or(what.as_str(), |(_, rule)| rule);
                self.evidence.noticed(format!("blamed: {rule}"));
            }
        }
    }

    /// People choose other servers than those that cheat, and tell their friends so, past the relays that carry nothing.
    pub(super) fn replace_servers(&mut self) {
        let honest = |roles: Vec<Role>| -> Vec<u32> {
            let fit = |role: &Role| {
                self.case.is_present(*role)
                    && self.case.is_honest(*role)
                    && !self.world.is_retired(self.case.host(*role))
            };
            roles
                .into_iter()
                .filter(fit)
                .filter_map(|role| match role {
                    Role::Relay(n) | Role::Index(n) => Some(n),
                    Role::Node(_) | Role::Person(_) | Role::Stranger(_) | Role::Guest(_) => None,
                })
                .collect()
        };
        let all_relays: Vec<Role> = (0..self.case.relays.len() as u32).map(Role::Relay).collect();
        let all_indexes: Vec<Role> = (0..self.case.indexes.len() as u32).map(Role::Index).collect();
        let any_cheats = |roles: &[Role]| roles.iter().any(|role| !self.case.is_honest(*role));
        let (mut wanted, mut by_hand) = (Vec::new(), None);
        if any_cheats(&all_relays) {
            let relays = honest(all_relays);
            by_hand = Some(relays.clone());
            wanted.push(Setting::Relays { relays });
        }
        if any_cheats(&all_indexes) {
            wanted.push(Setting::Indexes { indexes: honest(all_indexes) });
        }
        for &node in &self.core {
            if let Some(relays) = &by_hand {
                let unreachable = self.meets_nowhere(node, relays);
                let note = settings::friends_listen_at(self.case, &self.world, &unreachable, relays);
                self.world.tell(self.case.host(Role::Person(node)), note);
            }
            for setting in &wanted {
                if let Some(note) = settings::change(self.case, &self.world, node, setting) {
                    self.world.tell(self.case.host(Role::Person(node)), note);
                }
            }
        }
    }

    /// The friends of whom the node knows no relay that carries anything.
    fn meets_nowhere(&self, node: u32, relays: &[u32]) -> Vec<u32> {
        let honest: BTreeSet<PublicKey> =
            relays.iter().map(|&relay| self.world.key_of(self.case.host(Role::Relay(relay)))).collect();
        let friends = self.case.friendships.iter().filter_map(|pair| match (pair.a == node, pair.b == node) {
            (true, _) => Some(pair.b),
            (_, true) => Some(pair.a),
            (false, false) => None,
        });
        let is_lost = |friend: &u32| {
            let known = self.channel(node, *friend).map(|channel| channel.friend_relays());
            known.is_some_and(|known| !known.iter().any(|relay| honest.contains(&relay.public_key)))
        };
        friends.filter(is_lost).collect()
    }

    /// The keys of the nodes that cheat.
    pub(super) fn cheating_nodes(&self) -> BTreeSet<PublicKey> {
        let nodes = (0..self.case.nodes.len() as u32).map(Role::Node);
        nodes.filter(|role| !self.case.is_honest(*role)).map(|role| self.world.key_of(self.case.host(role))).collect()
    }

    /// What people may complain about when there are cheaters: anything in a deal with one of them; and a mediator that
    /// cheats may cancel what was committed: it pays for that itself.
    pub(super) fn excuse_complaints(&self) {
        if !self.noticed.is_on {
            return;
        }
        let cheats = |node: &u32| !self.case.is_honest(Role::Node(*node));
        let with_cheaters = self.deals.iter().filter(|(_, (buyer, seller))| cheats(buyer) || cheats(seller));
        let with_cheaters: Vec<String> = with_cheaters.map(|(deal, _)| format!("{deal:?}: ")).collect();
        for person in &self.people {
            person.0.borrow_mut().excuse(|complaint| {
                let is_excused = complaint.contains(": committed, then ")
                    || with_cheaters.iter().any(|deal| complaint.starts_with(deal));
                if is_excused {
                    let what = complaint.split_once(": ").map_or(complaint, |(_, what)| what);
                    self.evidence.noticed(format!("complained: {what}"));
                }
                is_excused
            });
        }
    }

    /// Invoices of deals between the honest and cheaters: whoever waits for the cheater may wait for ever.
    pub(super) fn deals_with_cheaters(&self) -> BTreeSet<offset_protocol::bytes::InvoiceId> {
        let cheats = |node: u32| !self.case.is_honest(Role::Node(node));
        self.invoices_of(|buyer, seller| cheats(buyer) || cheats(seller))
    }

    /// Invoices of deals in which a cheater buys: what it asks others to freeze.
    pub(super) fn bought_by_cheaters(&self) -> BTreeSet<offset_protocol::bytes::InvoiceId> {
        self.invoices_of(|buyer, _| !self.case.is_honest(Role::Node(buyer)))
    }

    /// Invoices of deals between such buyers and sellers.
    fn invoices_of(&self, wanted: impl Fn(u32, u32) -> bool) -> BTreeSet<offset_protocol::bytes::InvoiceId> {
        let mut with: BTreeMap<u32, Vec<crate::people::DealId>> = BTreeMap::new();
        for (deal, (buyer, seller)) in &self.deals {
            if wanted(*buyer, *seller) {
                with.entry(*seller).or_default().push(*deal);
            }
        }
        let mut invoices = BTreeSet::new();
        for (seller, deals) in with {
            let person = self.people[seller as usize].0.borrow();
            let sales = person.deals().sales().filter(|(deal, _)| deals.contains(deal));
            invoices.extend(sales.map(|(_, sale)| sale.invoice_id));
        }
        invoices
    }
}

/// The first word of a value's form for programmers: which variant it is.
fn word_of(why: &offset_funder_sm::friend_channel::Misbehaviour) -> String {
    use offset_funder_sm::friend_channel::Misbehaviour::Operation;
    let text = match why {
        Operation { rule, .. } => format!("operation: {rule:?}"),
        other => format!("{other:?}"),
    };
    text.split([' ', '{']).take(if text.starts_with("operation") { 2 } else { 1 }).collect::<Vec<_>>().join(" ")
}
