//! Graphs driven by bytes, against naive ones.
//!
//! | the first byte | what the bytes decide | what must hold |
//! |---|---|---|
//! | large | reports of 40 nodes, and when a snapshot is taken | the reports come back, arcs are those of the lines, snapshots stay as they were |
//! | small | reports of at most 6 nodes, and what is asked in between | offers hold and are the cheapest, by trying every route; without fees, a split is found whenever the flow allows it |
// A step of a test that fails is a test that fails.
#![allow(clippy::unwrap_used)]
// Tests use all of it, targets do not.
#![cfg_attr(not(test), allow(dead_code))]

use offset_protocol::codec::List;
use offset_protocol::fuzz::Choices;
use offset_protocol::index::{Edge, RequestRoutes};
use offset_protocol::limits::MAX_AMOUNT;
use offset_protocol::money::Rate;

use super::*;
use crate::answer::answer;
use crate::fuzz::naive::{self, Edges, Said, WORK, check_answer, check_flow};
use crate::search::Workspace;

/// Changes of one graph.
const MAX_CHANGES: usize = 120;
/// Nodes of a small one: all routes between them are tried.
const MAX_NODES: u64 = 6;
/// Questions to a small one.
const MAX_QUESTIONS: usize = 12;

/// A node reports, or takes back, lines: to whom, by which rate, with which capacity.
pub(super) type Change = (u8, bool, Vec<(u8, u8, u8)>);

/// Drives a graph as `choices` say.
///
/// # Panics
/// Something does not hold.
pub fn run(choices: &mut Choices) {
    if choices.once_in(4) { replay(changes(choices)) } else { ask_small(choices) }
}

fn changes(choices: &mut Choices) -> Vec<Change> {
    let mut changes = Vec::new();
    while !choices.is_empty() && changes.len() < MAX_CHANGES {
        let (node, kind) = (choices.below(40) as u8, choices.byte());
        let lines = if kind % 8 == 0 { 20 + kind / 16 } else { kind / 2 % 4 };
        let line = |_| (choices.below(40) as u8, choices.below(3) as u8, choices.below(5) as u8);
        changes.push((node, kind % 2 == 0, (0..lines).map(line).collect()));
    }
    changes
}

/// The graph after each change against a map of reports, and snapshots against copies of what they were.
pub(super) fn replay(changes: Vec<Change>) {
    let mut graph = Graph::new();
    let mut reports: BTreeMap<(u8, u8), (u8, u8)> = BTreeMap::new();
    let mut snapshots = Vec::new();
    for (node, sets, lines) in changes {
        let lines: BTreeMap<u8, (u8, u8)> = lines.into_iter().map(|(to, mul, cap)| (to, (mul, cap))).collect();
        let of = |friend: u8, (mul, capacity): (u8, u8)| {
            let rate = Rate { mul: mul.into(), add: 0 };
            Entry { rate, ..entry(friend, "USD", capacity.into()) }.forwarding((capacity / 2).into())
        };
        let entries: Vec<Entry> = lines.iter().map(|(friend, line)| of(*friend, *line)).collect();
        if sets {
            graph.update(&key(node), &entries, &[]);
            reports.extend(lines.iter().map(|(friend, line)| ((node, *friend), *line)));
        } else {
            let keys: Vec<EntryKey> = entries.iter().map(Entry::key).collect();
            graph.update(&key(node), &[], &keys);
            reports.retain(|(owner, friend), _| *owner != node || !lines.contains_key(friend));
        }
        if let Some(graph) = graph.currency(&"USD".parse().unwrap()) {
            check_arcs(graph);
        }
        let wanted: Vec<Entry> =
            reports.iter().filter(|((owner, _), _)| *owner == node).map(|((_, to), line)| of(*to, *line)).collect();
        assert_eq!(graph.report(&key(node)), wanted);
        assert_eq!(graph.entries(), reports.len());
        if let Some(graph) = graph.currency_mut(&"USD".parse().unwrap()).filter(|_| node % 2 == 0) {
            let (first, second) = (graph.snapshot(), graph.snapshot());
            assert!(sync::Arc::ptr_eq(&first, &second), "nothing has changed");
            assert_eq!(whole(&first), whole(graph.view()));
            let copy = whole(&first);
            snapshots.push((first, copy));
        }
    }
    for (snapshot, copy) in snapshots {
        assert_eq!(whole(&snapshot), copy);
    }
}

/// A few nodes, whose graph is asked as it changes.
fn ask_small(choices: &mut Choices) {
    let nodes = 2 + choices.below(MAX_NODES - 1) as usize;
    let is_free = choices.flip();
    let (mut graph, mut edges, mut workspace) = (Graph::new(), Edges::new(), Workspace::new());
    let mut questions = 0;
    for _ in 0..MAX_CHANGES {
        if choices.is_empty() || questions == MAX_QUESTIONS {
            break;
        }
        let (from, to) = (choices.below(nodes as u64) as usize, choices.below(nodes as u64) as usize);
        match choices.below(16) {
            0 => {
                graph.remove(&naive::key(to));
                edges.retain(|(_, reporter), _| *reporter != to);
            }
            1 if from != to => {
                graph.update(&naive::key(to), &[], &[Said::all(0, Rate::ZERO).entry(from).key()]);
                edges.remove(&(from, to));
            }
            2..13 if from != to => {
                let ends = any_capacity(choices);
                let rate = if is_free { Rate::ZERO } else { any_rate(choices) };
                let said = any_part(Said { ends, passes_on: ends, rate }, choices);
                graph.update(&naive::key(to), &[said.entry(from)], &[]);
                edges.insert((from, to), said);
            }
            _ => {
                questions += 1;
                let request = any_request(from, to, nodes, choices);
                let routes = answer(&graph, &request, &mut workspace, WORK);
                check_answer(&edges, &request, &routes, nodes);
                if is_free && from != to && request.amount > 0 {
                    check_flow(&edges, &request, &routes, nodes);
                }
            }
        }
        graph.assert_consistent();
    }
}

/// The same, of which perhaps not all is passed on.
fn any_part(said: Said, choices: &mut Choices) -> Said {
    match choices.below(8) {
        0 => said.passing_on(0),
        1..4 => said.passing_on(said.ends * u128::from(choices.byte()) / 256),
        4 => said.passing_on(said.ends / 3),
        _ => said,
    }
}

fn any_capacity(choices: &mut Choices) -> u128 {
    match choices.below(8) {
        0 => 0,
        // No server takes more from a node.
        1 => (u128::from(choices.number()) << choices.below(48)).min(MAX_AMOUNT),
        2 => 60 + u128::from(choices.byte()),
        _ => 1 + u128::from(choices.below(60)),
    }
}

fn any_rate(choices: &mut Choices) -> Rate {
    let mul = match choices.below(6) {
        0 | 1 => 0,
        2 => 1 << 30,
        3 => 1 << 31,
        4 => u32::MAX,
        _ => u32::from(choices.byte()) << 24,
    };
    Rate { mul, add: choices.below(4) as u32 }
}

fn any_request(source: usize, destination: usize, nodes: usize, choices: &mut Choices) -> RequestRoutes {
    let amount = match choices.below(12) {
        0 => u128::from(choices.number()) << choices.below(48),
        1 => 0,
        _ => 1 + u128::from(choices.below(120)),
    };
    let place = |choices: &mut Choices| naive::key(choices.below(nodes as u64) as usize);
    let excluded = choices.below(4).saturating_sub(1);
    let exclude = (0..excluded).map(|_| Edge { from: place(choices), to: place(choices) }).collect::<Vec<_>>();
    let max_fee = choices.once_in(4).then(|| u128::from(choices.below(100)));
    RequestRoutes { exclude: List::truncated(exclude), max_fee, ..naive::request(source, destination, amount) }
}

/// Invariants 2 and 4, from the lines alone.
pub(super) fn check_arcs(graph: &CurrencyGraph) {
    for number in graph.numbers.values().copied() {
        let node = graph.view.node(number);
        for line in &node.lines[..] {
            let mutual = line.friend != number && graph.view.line(line.friend, number).is_some();
            assert_eq!(line.is_mutual(), mutual);
        }
        assert_eq!((node.back.clone(), node.ahead.clone()), graph.arcs_from_lines(number));
    }
}

pub(super) type Whole = Vec<(PublicKey, Vec<Line>, Arcs, Arcs)>;

/// Everything in a view, shared with nobody.
pub(super) fn whole(view: &View) -> Whole {
    let node = |number| {
        let node = view.node(number);
        let anew = |arcs: &Arcs| Arcs::from_unsorted(arcs.as_slice().to_vec());
        (node.key, node.lines.to_vec(), anew(&node.back), anew(&node.ahead))
    };
    (0..view.size() as u32).map(node).collect()
}

pub(super) fn key(n: u8) -> PublicKey {
    PublicKey([n; 32])
}

pub(super) fn entry(friend: u8, currency: &str, recv_capacity: u128) -> Entry {
    let currency = currency.parse().unwrap();
    let rate = Rate { mul: 3, add: friend.into() };
    Entry { friend: key(friend), currency, recv_capacity, forward_capacity: recv_capacity, rate }
}

pub(super) fn usd(graph: &Graph) -> &CurrencyGraph {
    graph.currency(&"USD".parse().unwrap()).unwrap()
}
