//! Hosts and friendships are dropped, with everything that names them. Numbers stay.

use super::Search;
use crate::case::{Case, Operation, Present, Role, Setting};
use crate::faults::Fault;
use crate::host::HostId;
use crate::net::Cut;

impl Search<'_, '_, '_> {
    pub(super) fn drop_hosts(&mut self) {
        for node in (0..self.best.nodes.len() as u32).rev() {
            if !self.best.is_present(Role::Node(node)) || self.change(|case| remove_node(case, node)) {
                continue;
            }
            for friend in friends(&self.best, node) {
                if self.change(|case| merge(case, node, friend)) {
                    break;
                }
            }
        }
        for relay in (0..self.best.relays.len() as u32).rev() {
            self.change(|case| remove_relay(case, relay));
        }
        for index in (0..self.best.indexes.len() as u32).rev() {
            self.change(|case| remove_index(case, index));
        }
    }

    pub(super) fn drop_friendships(&mut self) {
        for pair in (0..self.best.friendships.len()).rev() {
            self.change(|case| {
                let gone = case.friendships.remove(pair);
                let between =
                    |node: u32, friend: u32| (node, friend) == (gone.a, gone.b) || (node, friend) == (gone.b, gone.a);
                case.operations.retain(|timed| match &timed.what {
                    Operation::Configure { node, setting } => {
                        !friend_of(setting).is_some_and(|friend| between(*node, friend))
                    }
                    Operation::Pay { .. } => true,
                });
            });
        }
    }

    pub(super) fn drop_currencies(&mut self) {
        for currency in (0..self.best.currencies.len() as u32).rev() {
            if self.best.currencies.len() > 1 {
                self.change(|case| remove_currency(case, currency));
            }
        }
    }
}

fn friends(case: &Case, node: u32) -> Vec<u32> {
    let of = |pair: &crate::case::Friendship| {
        (pair.a == node).then_some(pair.b).or_else(|| (pair.b == node).then_some(pair.a))
    };
    case.friendships.iter().filter_map(of).collect()
}

fn remove_node(case: &mut Case, node: u32) {
    case.nodes[node as usize].present = Present::No;
    case.friendships.retain(|pair| pair.a != node && pair.b != node);
    case.operations.retain(|timed| match &timed.what {
        Operation::Pay { buyer, seller, .. } => *buyer != node && *seller != node,
        Operation::Configure { node: of, setting } => *of != node && friend_of(setting) != Some(node),
    });
    for role in [Role::Node(node), Role::Person(node)] {
        forget(case, case.host(role));
    }
}

/// `node` is taken out; its friends, payments and misfortunes become those of `into`.
fn merge(case: &mut Case, node: u32, into: u32) {
    let rename = |number: &mut u32| *number = if *number == node { into } else { *number };
    let mut friendships = std::mem::take(&mut case.friendships);
    for mut pair in friendships.drain(..) {
        rename(&mut pair.a);
        rename(&mut pair.b);
        let known = case
            .friendships
            .iter()
            .any(|other| (other.a, other.b) == (pair.a, pair.b) || (other.a, other.b) == (pair.b, pair.a));
        if pair.a != pair.b && !known {
            case.friendships.push(pair);
        }
    }
    for timed in &mut case.operations {
        match &mut timed.what {
            Operation::Pay { buyer, seller, .. } => [buyer, seller].into_iter().for_each(rename),
            Operation::Configure { node: of, setting } => {
                rename(of);
                friend_of_mut(setting).into_iter().for_each(rename);
            }
        }
    }
    case.operations.retain(|timed| match &timed.what {
        Operation::Pay { buyer, seller, .. } => buyer != seller,
        Operation::Configure { node: of, setting } => friend_of(setting) != Some(*of),
    });
    for role in [Role::Node, Role::Person] {
        let (from, to) = (case.host(role(node)), case.host(role(into)));
        for timed in &mut case.faults {
            host_of_mut(&mut timed.what).filter(|host| **host == from).into_iter().for_each(|host| *host = to);
        }
        forget(case, from);
    }
    case.nodes[node as usize].present = Present::No;
}

fn remove_relay(case: &mut Case, relay: u32) {
    let others = (0..case.relays.len() as u32).find(|&other| other != relay && case.is_present(Role::Relay(other)));
    let Some(other) = others.filter(|_| case.is_present(Role::Relay(relay))) else { return };
    case.relays[relay as usize].present = Present::No;
    for node in &mut case.nodes {
        leave_out(&mut node.relays, relay, other);
    }
    for timed in &mut case.operations {
        if let Operation::Configure { setting: Setting::Relays { relays }, .. } = &mut timed.what {
            leave_out(relays, relay, other);
        }
    }
    forget(case, case.host(Role::Relay(relay)));
}

fn remove_index(case: &mut Case, index: u32) {
    let others = (0..case.indexes.len() as u32).find(|&other| other != index && case.is_present(Role::Index(other)));
    let Some(other) = others.filter(|_| case.is_present(Role::Index(index))) else { return };
    case.indexes[index as usize].present = Present::No;
    for node in &mut case.nodes {
        leave_out(&mut node.indexes, index, other);
    }
    for timed in &mut case.operations {
        if let Operation::Configure { setting: Setting::Indexes { indexes }, .. } = &mut timed.what {
            leave_out(indexes, index, other);
        }
    }
    forget(case, case.host(Role::Index(index)));
}

/// A server leaves a list; if it was the only one, `other` takes its place.
fn leave_out(list: &mut Vec<u32>, gone: u32, other: u32) {
    let had_any = !list.is_empty();
    list.retain(|server| *server != gone);
    if had_any && list.is_empty() {
        list.push(other);
    }
}

fn remove_currency(case: &mut Case, gone: u32) {
    let renumber = |currency: &mut u32| *currency -= u32::from(*currency > gone);
    case.currencies.remove(gone as usize);
    for friendship in &mut case.friendships {
        friendship.terms.retain(|terms| terms.currency != gone);
        friendship.terms.iter_mut().for_each(|terms| renumber(&mut terms.currency));
    }
    case.friendships.retain(|friendship| !friendship.terms.is_empty());
    case.operations.retain(|timed| currency_of(&timed.what) != Some(gone));
    for timed in &mut case.operations {
        match &mut timed.what {
            Operation::Pay { currency, .. }
            | Operation::Configure {
                setting:
                    Setting::Grant { currency, .. }
                    | Setting::Charge { currency, .. }
                    | Setting::Open { currency, .. }
                    | Setting::Close { currency, .. },
                ..
            } => renumber(currency),
            Operation::Configure {
                setting:
                    Setting::Enable { .. }
                    | Setting::Disable { .. }
                    | Setting::Remove { .. }
                    | Setting::Relays { .. }
                    | Setting::Indexes { .. },
                ..
            } => {}
        }
    }
}

fn currency_of(operation: &Operation) -> Option<u32> {
    let setting = match operation {
        Operation::Pay { currency, .. } => return Some(*currency),
        Operation::Configure { setting, .. } => setting,
    };
    match setting {
        Setting::Grant { currency, .. }
        | Setting::Charge { currency, .. }
        | Setting::Open { currency, .. }
        | Setting::Close { currency, .. } => Some(*currency),
        Setting::Enable { .. }
        | Setting::Disable { .. }
        | Setting::Remove { .. }
        | Setting::Relays { .. }
        | Setting::Indexes { .. } => None,
    }
}

fn friend_of(setting: &Setting) -> Option<u32> {
    friend_of_mut(&mut setting.clone()).copied()
}

fn friend_of_mut(setting: &mut Setting) -> Option<&mut u32> {
    match setting {
        Setting::Grant { friend, .. }
        | Setting::Charge { friend, .. }
        | Setting::Open { friend, .. }
        | Setting::Close { friend, .. }
        | Setting::Enable { friend }
        | Setting::Disable { friend }
        | Setting::Remove { friend } => Some(friend),
        Setting::Relays { .. } | Setting::Indexes { .. } => None,
    }
}

/// Nothing goes wrong with a host any more, and no cut is about it.
fn forget(case: &mut Case, host: HostId) {
    let mut empty = Vec::new();
    for timed in &mut case.faults {
        let Fault::Cut { name, cut } = &mut timed.what else { continue };
        let is_empty = match cut {
            Cut::Around(hosts) => {
                hosts.remove(&host);
                hosts.is_empty()
            }
            Cut::OneWay { from, to } => {
                from.remove(&host);
                to.remove(&host);
                from.is_empty() || to.is_empty()
            }
            Cut::Pair(a, b) => *a == host || *b == host,
        };
        if is_empty {
            empty.push(*name);
        }
    }
    case.faults.retain_mut(|timed| match &mut timed.what {
        Fault::Cut { name, .. } | Fault::Heal { name } => !empty.contains(name),
        fault => host_of_mut(fault).is_none_or(|of| *of != host),
    });
}

fn host_of_mut(fault: &mut Fault) -> Option<&mut HostId> {
    match fault {
        Fault::Clog { host, .. }
        | Fault::Crash { host, .. }
        | Fault::Trap { host, .. }
        | Fault::Pause { host, .. }
        | Fault::Disk { host, .. }
        | Fault::Wall { host, .. }
        | Fault::Stop { host, .. }
        | Fault::DiskFails { host, .. }
        | Fault::Roam { host }
        | Fault::Pace { host, .. }
        | Fault::Leave { host }
        | Fault::Copy { host }
        | Fault::PutBack { host, .. }
        | Fault::Wipe { host, .. } => Some(host),
        Fault::Reset { .. }
        | Fault::Swallow { .. }
        | Fault::Connect { .. }
        | Fault::Cut { .. }
        | Fault::Heal { .. } => None,
    }
}
