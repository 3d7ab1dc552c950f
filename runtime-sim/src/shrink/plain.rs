//! What is left is made plain: the network, the faults, the amounts.

use std::collections::BTreeSet;

use offset_protocol::machine::Duration;

use super::Search;
use crate::case::{Case, Commit, Operation, Present, Rare, RatePlan, Role, Timed};
use crate::faults::Fault;
use crate::host::{CrashPoint, HostId, Trap};
use crate::keys::Keys;
use crate::latency::Latency;
use crate::net::{Conditions, Cut, StreamCuts};
use crate::signatures::Signatures;
use crate::world::Crash;

/// What every friend may owe in a plain world: more than any payment there.
const ROOM: u128 = 1_000_000;
/// Payments that are tried, plainest first.
const AMOUNTS: [u128; 5] = [1, 10, 100, 1_000, 10_000];
/// How long a word between people takes in a plain world.
const NOTE: Latency = Latency::Constant(Duration::from_millis(200));

/// One way to make a case plainer.
type Edit = fn(&mut Case);

const NETWORK: [Edit; 12] = [
    |case| case.signatures = Signatures::Cheap,
    |case| case.keys = Keys::Cheap,
    |case| case.rare = Rare::Off,
    |case| case.conditions.latency = Conditions::default().latency,
    |case| case.conditions.bandwidth = Conditions::default().bandwidth,
    |case| case.conditions.send_buffer = Conditions::default().send_buffer,
    |case| case.conditions.receive_buffer = Conditions::default().receive_buffer,
    |case| case.conditions.cuts = StreamCuts::Whole,
    |case| case.note = NOTE,
    |case| {
        case.relays.iter_mut().chain(&mut case.indexes).for_each(|server| server.drift_ppm = 0);
        case.nodes.iter_mut().for_each(|node| node.drift_ppm = 0);
    },
    |case| (0..case.nodes.len()).for_each(|node| one_relay(case, node)),
    |case| (0..case.nodes.len()).for_each(|node| one_index(case, node)),
];

const AMOUNT: [Edit; 6] = [
    |case| each_term(case, |grants, charges| (*grants, *charges) = (ROOM, RatePlan::default())),
    |case| each_term(case, |_, charges| *charges = RatePlan::default()),
    |case| each_term(case, |grants, _| *grants = ROOM),
    |case| each_payment(case, |payment| *payment.tries = 1),
    |case| each_payment(case, |payment| *payment.commit = Commit::ByHand),
    |case| each_payment(case, |payment| *payment.amount = 1_000),
];

/// A node keeps one relay: an honest one, if it has any.
fn one_relay(case: &mut Case, node: usize) {
    let relays = &case.nodes[node].relays;
    let honest = relays.iter().copied().find(|relay| case.is_honest(Role::Relay(*relay)));
    let kept = honest.or_else(|| relays.first().copied());
    case.nodes[node].relays.retain(|relay| Some(*relay) == kept);
}

/// A node keeps one index server: an honest one, if it has any.
fn one_index(case: &mut Case, node: usize) {
    let indexes = &case.nodes[node].indexes;
    let honest = indexes.iter().copied().find(|index| case.is_honest(Role::Index(*index)));
    let kept = honest.or_else(|| indexes.first().copied());
    case.nodes[node].indexes.retain(|index| Some(*index) == kept);
}

/// What of a payment can be made plainer.
struct Payment<'a> {
    amount: &'a mut u128,
    commit: &'a mut Commit,
    tries: &'a mut u32,
}

fn each_payment(case: &mut Case, mut edit: impl FnMut(Payment<'_>)) {
    case.operations.iter_mut().filter_map(payment).for_each(&mut edit);
}

fn payment(timed: &mut Timed<Operation>) -> Option<Payment<'_>> {
    match &mut timed.what {
        Operation::Pay { amount, commit, tries, .. } => Some(Payment { amount, commit, tries }),
        Operation::PayAgain { .. } | Operation::Configure { .. } => None,
    }
}

fn each_term(case: &mut Case, mut edit: impl FnMut(&mut u128, &mut RatePlan)) {
    for terms in case.friendships.iter_mut().flat_map(|pair| &mut pair.terms) {
        edit(&mut terms.a_grants, &mut terms.a_charges);
        edit(&mut terms.b_grants, &mut terms.b_charges);
    }
}

impl Search<'_, '_, '_> {
    pub(super) fn plain_network(&mut self) {
        if self.change(|case| NETWORK.iter().for_each(|edit| edit(case))) {
            return;
        }
        for edit in NETWORK {
            self.change(edit);
        }
        for node in 0..self.best.nodes.len() {
            if self.best.nodes[node].present == Present::Yes {
                self.change(|case| case.nodes[node].drift_ppm = 0);
                self.change(|case| one_relay(case, node));
                self.change(|case| one_index(case, node));
            }
        }
    }

    pub(super) fn small_amounts(&mut self) {
        if !self.change(|case| AMOUNT.iter().for_each(|edit| edit(case))) {
            for edit in AMOUNT {
                self.change(edit);
            }
        }
        for index in 0..self.best.operations.len() {
            let amount = payment(&mut self.best.operations[index]).map(|payment| *payment.amount);
            for smaller in AMOUNTS.into_iter().filter(|smaller| amount.is_some_and(|amount| *smaller < amount)) {
                let set = |case: &mut Case| {
                    payment(&mut case.operations[index]).into_iter().for_each(|payment| *payment.amount = smaller);
                };
                if self.change(set) {
                    break;
                }
            }
            self.change(|case| payment(&mut case.operations[index]).into_iter().for_each(|payment| *payment.tries = 1));
        }
        for pair in 0..self.best.friendships.len() {
            for terms in 0..self.best.friendships[pair].terms.len() {
                self.change(|case| {
                    let terms = &mut case.friendships[pair].terms[terms];
                    (terms.a_charges, terms.b_charges) = (RatePlan::default(), RatePlan::default());
                });
            }
        }
    }

    pub(super) fn plain_faults(&mut self) {
        for index in 0..self.best.faults.len() {
            for plainer in plainer(&self.best.faults[index].what) {
                self.change(|case| case.faults[index].what = plainer);
            }
        }
    }
}

/// Faults that are like this one, but plainer; the plainest first.
fn plainer(fault: &Fault) -> Vec<Fault> {
    let second = Duration::from_secs(1);
    match fault {
        Fault::Cut { name, cut } => {
            let around = |hosts: &BTreeSet<HostId>| {
                hosts
                    .iter()
                    .map(|host| Fault::Cut { name: *name, cut: Cut::Around([*host].into()) })
                    .collect::<Vec<_>>()
            };
            match cut {
                Cut::Around(hosts) if hosts.len() > 1 => around(hosts),
                Cut::OneWay { from, to } => [around(from), around(to)].concat(),
                Cut::Around(_) | Cut::Pair(..) => Vec::new(),
            }
        }
        Fault::Crash { host, crash, off } => {
            let plain = |crash, off| Fault::Crash { host: *host, crash, off };
            vec![plain(Crash::Process, second), plain(*crash, second), plain(Crash::Process, *off)]
        }
        Fault::Trap { host, trap } => {
            let plain = |point| Fault::Trap { host: *host, trap: Trap { point, after: 0 } };
            vec![plain(CrashPoint::Written), plain(trap.point)]
        }
        Fault::Pause { host, .. } => vec![Fault::Pause { host: *host, time: second }],
        Fault::Stop { host, .. } => vec![Fault::Stop { host: *host, off: second }],
        Fault::PutBack { host, .. } => vec![Fault::PutBack { host: *host, off: second }],
        Fault::Wipe { host, .. } => vec![Fault::Wipe { host: *host, off: second }],
        Fault::DiskFails { host, .. } => vec![Fault::DiskFails { host: *host, lasts: second }],
        Fault::Clog { host, extra } if *extra > second => vec![Fault::Clog { host: *host, extra: second }],
        Fault::Disk { host, flush: Latency::Uniform { high, .. } } => {
            vec![Fault::Disk { host: *host, flush: Latency::Constant(*high) }]
        }
        Fault::Pace { host, turn: Latency::Uniform { high, .. } } => {
            vec![Fault::Pace { host: *host, turn: Latency::Constant(*high) }]
        }
        Fault::Connect { .. }
        | Fault::Reset { .. }
        | Fault::Swallow { .. }
        | Fault::Heal { .. }
        | Fault::Clog { .. }
        | Fault::Disk { .. }
        | Fault::Wall { .. }
        | Fault::Roam { .. }
        | Fault::Pace { .. }
        | Fault::Leave { .. }
        | Fault::Copy { .. } => Vec::new(),
    }
}
