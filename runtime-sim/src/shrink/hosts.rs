//! Hosts, friendships and tricks are dropped, with everything that names them. Numbers stay.

use super::Search;
use crate::case::{Case, Operation, Present, Role, Setting};
use crate::cheats::{FriendTrick, IndexTrick, PersonTrick, Play, RelayTrick, ReportTrick, StrangerTrick};
use crate::faults::Fault;
use crate::host::HostId;
use crate::net::Cut;

impl Search<'_, '_, '_> {
    pub(super) fn drop_tricks(&mut self) {
        if !self.best.has_cheaters() {
            return;
        }
        for stranger in (0..self.best.strangers.len()).rev() {
            self.change(|case| {
                case.strangers[stranger].present = Present::No;
                forget(case, case.host(Role::Stranger(stranger as u32)));
            });
        }
        // All tricks of one host, then each; who plays none any more is honest.
        for number in (0..self.best.hosts()).rev() {
            let Some(role) = self.best.role(HostId(number)) else { continue };
            self.change(|case| plays_of(case, role).into_iter().for_each(|mut plays| plays.clear()));
            for list in 0..LISTS {
                let count = |case: &mut Case| plays_of(case, role).get(list).map_or(0, Plays::len);
                for play in (0..count(&mut self.best)).rev() {
                    self.change(|case| {
                        plays_of(case, role).get_mut(list).into_iter().for_each(|plays| plays.remove(play));
                    });
                }
            }
        }
    }

    pub(super) fn drop_hosts(&mut self) {
        for guest in (0..self.best.guests.len()).rev() {
            self.change(|case| {
                case.guests[guest].present = Present::No;
                forget(case, case.host(Role::Guest(guest as u32)));
            });
        }
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
                    Operation::Pay { .. } | Operation::PayAgain { .. } => true,
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
        Operation::PayAgain { buyer, .. } => *buyer != node,
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
            Operation::PayAgain { buyer, .. } => rename(buyer),
            Operation::Configure { node: of, setting } => {
                rename(of);
                friend_of_mut(setting).into_iter().for_each(rename);
            }
        }
    }
    case.guests.iter_mut().for_each(|guest| rename(&mut guest.node));
    case.operations.retain(|timed| match &timed.what {
        Operation::Pay { buyer, seller, .. } => buyer != seller,
        Operation::PayAgain { .. } => true,
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
    let Some(other) = stand_in(case, Role::Relay, case.relays.len() as u32, relay) else { return };
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
    let Some(other) = stand_in(case, Role::Index, case.indexes.len() as u32, index) else { return };
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

/// Who can take the place of a server that is taken out: an honest one, if that one was.
fn stand_in(case: &Case, role: fn(u32) -> Role, count: u32, gone: u32) -> Option<u32> {
    let is_there = |number: &u32| case.is_present(role(*number)) && case.is_honest(role(*number));
    let honest = (0..count).filter(|other| *other != gone).find(is_there);
    let any = || (0..count).find(|&other| other != gone && case.is_present(role(other)));
    let other = if case.is_honest(role(gone)) { honest } else { honest.or_else(any) };
    other.filter(|_| case.is_present(role(gone)))
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
            Operation::PayAgain { .. } => {}
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
        Operation::PayAgain { .. } => return None,
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

/// Lists of tricks that a host has at most.
const LISTS: usize = 3;

/// A list of tricks, of whatever sort.
enum Plays<'a> {
    Relay(&'a mut Vec<Play<RelayTrick>>),
    Index(&'a mut Vec<Play<IndexTrick>>),
    Friend(&'a mut Vec<Play<FriendTrick>>),
    Person(&'a mut Vec<Play<PersonTrick>>),
    Report(&'a mut Vec<Play<ReportTrick>>),
    Stranger(&'a mut Vec<Play<StrangerTrick>>),
}

impl Plays<'_> {
    fn len(&self) -> usize {
        match self {
            Plays::Relay(list) => list.len(),
            Plays::Index(list) => list.len(),
            Plays::Friend(list) => list.len(),
            Plays::Person(list) => list.len(),
            Plays::Report(list) => list.len(),
            Plays::Stranger(list) => list.len(),
        }
    }

    fn retain(&mut self, keep: impl Fn(usize) -> bool) {
        fn only<T>(list: &mut Vec<T>, keep: impl Fn(usize) -> bool) {
            let mut place = 0;
            list.retain(|_| {
                place += 1;
                keep(place - 1)
            });
        }
        match self {
            Plays::Relay(list) => only(list, keep),
            Plays::Index(list) => only(list, keep),
            Plays::Friend(list) => only(list, keep),
            Plays::Person(list) => only(list, keep),
            Plays::Report(list) => only(list, keep),
            Plays::Stranger(list) => only(list, keep),
        }
    }

    fn clear(&mut self) {
        self.retain(|_| false);
    }

    fn remove(&mut self, gone: usize) {
        self.retain(|place| place != gone);
    }
}

/// The tricks of a host, by sort; a person has those of its node.
fn plays_of(case: &mut Case, role: Role) -> Vec<Plays<'_>> {
    match role {
        Role::Relay(n) => vec![Plays::Relay(&mut case.relays[n as usize].cheat.relay)],
        Role::Index(n) => vec![Plays::Index(&mut case.indexes[n as usize].cheat.index)],
        Role::Node(n) => {
            let cheat = &mut case.nodes[n as usize].cheat;
            vec![Plays::Friend(&mut cheat.friend), Plays::Person(&mut cheat.person), Plays::Report(&mut cheat.report)]
        }
        Role::Person(_) | Role::Guest(_) => Vec::new(),
        Role::Stranger(n) => vec![Plays::Stranger(&mut case.strangers[n as usize].cheat)],
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
