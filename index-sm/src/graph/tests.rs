//! The graph against its own lines, and views against what they were.

use offset_protocol::money::Rate;

use super::fuzz::{Change, check_arcs, entry, key, replay, usd, whole};
use super::*;

fn edge(graph: &Graph, from: u8, to: u8) -> Option<u128> {
    let graph = usd(graph);
    let to = graph.number(&key(to))?;
    graph.view().edge(graph.number(&key(from))?, to).map(|line| line.capacity(to, to))
}

#[test]
fn an_edge_needs_both_ends_in_the_same_currency() {
    let mut graph = Graph::new();
    graph.replace(&key(1), &[entry(2, "USD", 10)]);
    assert_eq!(edge(&graph, 2, 1), None);
    graph.replace(&key(2), &[entry(1, "EUR", 20)]);
    assert_eq!(edge(&graph, 2, 1), None);
    graph.update(&key(2), &[entry(1, "USD", 30)], &[]);
    assert_eq!((edge(&graph, 2, 1), edge(&graph, 1, 2)), (Some(10), Some(30)));
    graph.update(&key(2), &[], &[entry(1, "USD", 0).key()]);
    assert_eq!((edge(&graph, 2, 1), edge(&graph, 1, 2)), (None, None));
}

#[test]
fn a_report_comes_back_as_it_went_in() {
    let mut graph = Graph::new();
    let report = [entry(2, "EUR", 1), entry(2, "USD", 1 << 90).forwarding((1 << 85) / 3), entry(3, "USD", 3)];
    graph.replace(&key(1), &report);
    assert_eq!(graph.report(&key(1)), report);
    assert_eq!(graph.entries(), 3);
    graph.replace(&key(1), &report[1..2]);
    assert_eq!(graph.report(&key(1)), &report[1..2]);
    assert_eq!(graph.entries(), 1);
    assert_eq!(graph.report(&key(2)), []);
}

#[test]
fn what_nobody_speaks_of_leaves_nothing_behind() {
    let mut graph = Graph::new();
    graph.replace(&key(1), &[entry(2, "USD", 1), entry(3, "USD", 1)]);
    graph.replace(&key(2), &[entry(1, "USD", 1)]);
    graph.remove(&key(1));
    assert_eq!(usd(&graph).numbers.len(), 2);
    graph.remove(&key(2));
    assert!(graph.currencies.is_empty() && graph.members.is_empty());
    assert_eq!(graph.entries(), 0);
    graph.update(&key(9), &[], &[entry(1, "USD", 0).key()]);
    assert!(graph.currencies.is_empty() && graph.members.is_empty());
}

use proptest::prelude::*;

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let lines = prop_oneof![
        3 => prop::collection::vec((0..40_u8, 0..3_u8, 0..5_u8), 0..4),
        1 => prop::collection::vec((0..40_u8, 0..3_u8, 0..5_u8), 20..40),
    ];
    prop::collection::vec((0..40_u8, any::<bool>(), lines), 1..60)
}

proptest! {
    #[test]
    fn arcs_agree_with_lines_after_any_changes(changes in changes()) {
        replay(changes);
    }
}

#[test]
fn numbers_are_used_again() {
    let mut graph = Graph::new();
    graph.replace(&key(1), &[entry(2, "USD", 1)]);
    for n in 3..40 {
        graph.replace(&key(n), &[entry(1, "USD", 1)]);
        graph.remove(&key(n));
    }
    assert_eq!(usd(&graph).view().size(), 3);
}

/// A hundred reports about thousands of strangers each, taken back: the list of nodes was as long as ever after that.
#[test]
fn a_graph_gets_smaller_when_most_of_it_has_left() {
    let stranger = |n: u32| PublicKey([[7; 4], n.to_be_bytes()].concat().repeat(4).try_into().unwrap());
    let mut graph = Graph::new();
    for n in 1..=3 {
        // A triangle that stays, and whose numbers are at the beginning, in the middle and at the end.
        let others: Vec<Entry> = sorted((1..=3).filter(|other| *other != n).map(|other| entry(other, "USD", 5)));
        graph.replace(&key(n), &others);
        let strangers = (0..2_000).map(|m| Entry { friend: stranger(m), ..entry(1, "USD", 1) });
        graph.replace(&key(10 * n), &sorted(strangers.map(|e| Entry { friend: minus_one(e.friend, n), ..e })));
    }
    assert_eq!((graph.numbers(), usd(&graph).view().size()), (6_006, 6_006));
    let before = graph.currency_mut(&"USD".parse().unwrap()).unwrap().snapshot();
    let copy = whole(&before);
    for n in 1..=3 {
        graph.remove(&key(10 * n));
        graph.assert_consistent();
    }
    assert_eq!(graph.numbers(), 3);
    assert!(usd(&graph).view().size() <= SPARSE + 2_003, "{}", usd(&graph).view().size());
    check_arcs(usd(&graph));
    assert_eq!(whole(&before), copy, "a snapshot stays as it was");
    for n in 1..=3 {
        assert_eq!(graph.entries_of(&key(n)), 2);
        assert_eq!(usd(&graph).view().back(usd(&graph).number(&key(n)).unwrap()).len(), 2);
    }
}

fn minus_one(key: PublicKey, n: u8) -> PublicKey {
    let mut bytes = key.0;
    bytes[31] ^= n;
    bytes[0] = n;
    PublicKey(bytes)
}

fn sorted(entries: impl Iterator<Item = Entry>) -> Vec<Entry> {
    let mut entries: Vec<Entry> = entries.collect();
    entries.sort_unstable();
    entries
}

/// A hub's own list was counted once for each of its lines: whoever came back after its friends was not heard for minutes.
#[test]
fn a_hub_that_reports_after_its_friends_moves_no_more_than_they_have() {
    const FRIENDS: u64 = 500;
    let friend = |n: u64| {
        let mut bytes = [9; 32];
        bytes[..8].copy_from_slice(&n.to_be_bytes());
        PublicKey(bytes)
    };
    let to = |friend: PublicKey| Entry { friend, ..entry(1, "USD", 1) };
    let mut graph = Graph::new();
    for n in 0..FRIENDS {
        graph.replace(&friend(n), &[to(key(1))]);
    }
    let moved = graph.replace(&key(1), &sorted((0..FRIENDS).map(|n| to(friend(n)))));
    assert!((FRIENDS * TOUCHED..=FRIENDS * (TOUCHED + 8)).contains(&moved), "{moved}");
}

#[test]
fn a_report_is_told_what_it_moves_at_its_friends_and_what_it_would_bring() {
    let mut graph = Graph::new();
    assert_eq!(graph.replace(&key(1), &sorted((2..30).map(|n| entry(n, "USD", 1)))), 28 * TOUCHED);
    for n in 2..30 {
        graph.replace(&key(n), &[entry(1, "USD", 1)]);
    }
    // One line about a friend of 28 lines: its arcs in one direction and in the other.
    let faster = Entry { rate: Rate { mul: 1, add: 0 }, ..entry(1, "USD", 1) };
    assert_eq!(graph.update(&key(2), &[faster], &[]), 28 + 1);
    assert_eq!(graph.update(&key(2), &[faster], &[]), 0, "nothing changes");
    // And the line that is no longer mutual.
    assert!(graph.update(&key(2), &[], &[faster.key()]) > 28 * 2 + TOUCHED);
    let set = [entry(1, "USD", 1), entry(2, "USD", 1), entry(99, "EUR", 1)];
    assert_eq!(graph.growth(&key(98), &set), Growth { numbers: 1 + 2, currencies: 1, named: 2, of_report: 2 });
    assert_eq!(graph.growth(&key(1), &set[1..2]), Growth { numbers: 0, currencies: 0, named: 1, of_report: 1 });
}
