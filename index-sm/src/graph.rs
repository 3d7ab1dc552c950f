//! Who can push how much to whom, and at what rate: one directed graph for each currency.
//!
//! Nodes have small numbers inside a currency. Each node owns the lines that it published: a line of `v` about `u` is the
//! edge `u → v` with its capacity, and the rate that `v` charges for forwarding what comes from `u`. An edge is usable if
//! both ends list each other; every line knows, so that a search looks at one list only.
//!
//! Invariants:
//! 1. Lines of a node are in the order of their friends' numbers, one a friend.
//! 2. A line is `mutual` exactly if its friend has a line about its owner.
//! 3. A number is in use exactly if its node has a line, or a line is about it.
//! 4. A graph is read without locks or caches: a reader brings its own [`Workspace`](crate::search::Workspace).
//!
//! Not checked here: who may change which report, and whether it is fresh.

use std::collections::{BTreeMap, BTreeSet};

use offset_protocol::bytes::PublicKey;
use offset_protocol::index::{Entry, EntryKey};
use offset_protocol::money::{Currency, Rate};
use offset_protocol::mutant;

/// Every report that a server knows.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    currencies: BTreeMap<Currency, CurrencyGraph>,
    members: BTreeMap<PublicKey, BTreeSet<Currency>>,
    entries: usize,
}

/// The graph of one currency.
#[derive(Clone, Debug, Default)]
pub struct CurrencyGraph {
    numbers: BTreeMap<PublicKey, u32>,
    nodes: Vec<Node>,
    free: Vec<u32>,
}

#[derive(Clone, Debug)]
struct Node {
    key: PublicKey,
    /// Invariant 1.
    lines: Vec<Line>,
    /// Lines of others about this node.
    mentions: u32,
}

/// What its owner published about one friend: the edge from the friend to the owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// The friend's number.
    pub(crate) friend: u32,
    /// Whether the friend lists the owner, too.
    pub(crate) mutual: bool,
    /// What the friend can push to the owner.
    pub(crate) capacity: u128,
    /// What the owner charges for forwarding it.
    pub(crate) rate: Rate,
}

impl Graph {
    /// A graph without nodes.
    pub fn new() -> Self {
        Graph::default()
    }

    /// Entries of all reports.
    pub fn entries(&self) -> usize {
        self.entries
    }

    /// The graph of one currency, if any node has an entry in it.
    pub fn currency(&self, currency: &Currency) -> Option<&CurrencyGraph> {
        self.currencies.get(currency)
    }

    /// The entries of `node`, ordered by friend and currency; none if it is unknown.
    pub fn report(&self, node: &PublicKey) -> Vec<Entry> {
        let mut entries = Vec::new();
        for currency in self.members.get(node).into_iter().flatten() {
            let Some(graph) = self.currencies.get(currency) else { continue };
            let Some(number) = graph.number(node) else { continue };
            entries.extend(graph.lines(number).iter().map(|line| Entry {
                friend: graph.key(line.friend),
                currency: *currency,
                recv_capacity: line.capacity,
                rate: line.rate,
            }));
        }
        entries.sort_unstable();
        entries
    }

    /// Makes `entries` (strictly ascending) the whole report of `node`.
    pub fn replace(&mut self, node: &PublicKey, entries: &[Entry]) {
        let gone = |key: &EntryKey| entries.binary_search_by_key(key, Entry::key).is_err();
        let removed: Vec<_> = self.report(node).iter().map(Entry::key).filter(gone).collect();
        self.update(node, entries, &removed);
    }

    /// Removes `node`'s report.
    pub fn remove(&mut self, node: &PublicKey) {
        self.replace(node, &[]);
    }

    /// Sets and removes entries of `node`. Removing what is not there changes nothing; no entry is in both lists.
    pub fn update(&mut self, node: &PublicKey, set: &[Entry], removed: &[EntryKey]) {
        let mut changes: BTreeMap<Currency, (Vec<&Entry>, Vec<PublicKey>)> = BTreeMap::new();
        for entry in set {
            changes.entry(entry.currency).or_default().0.push(entry);
        }
        for key in removed {
            changes.entry(key.currency).or_default().1.push(key.friend);
        }
        for (currency, (set, removed)) in changes {
            let graph = self.currencies.entry(currency).or_default();
            let before = graph.degree(node);
            graph.update(node, &set, &removed);
            let after = graph.degree(node);
            self.entries = self.entries - before + after;
            let empty = graph.numbers.is_empty();
            if empty {
                self.currencies.remove(&currency);
            }
            self.remember_membership(node, currency, after > 0);
        }
    }

    fn remember_membership(&mut self, node: &PublicKey, currency: Currency, member: bool) {
        let currencies = self.members.entry(*node).or_default();
        if member {
            currencies.insert(currency);
        } else {
            currencies.remove(&currency);
        }
        if currencies.is_empty() {
            self.members.remove(node);
        }
    }
}

impl CurrencyGraph {
    /// The number of `key`, if it is in this graph.
    pub(crate) fn number(&self, key: &PublicKey) -> Option<u32> {
        self.numbers.get(key).copied()
    }

    /// The key of a number in use.
    pub(crate) fn key(&self, number: u32) -> PublicKey {
        self.nodes[number as usize].key
    }

    /// Numbers are below this.
    pub(crate) fn size(&self) -> usize {
        self.nodes.len()
    }

    /// What `number` published, by friend's number.
    pub(crate) fn lines(&self, number: u32) -> &[Line] {
        &self.nodes[number as usize].lines
    }

    /// The edge `from → to`, if both list each other.
    pub(crate) fn edge(&self, from: u32, to: u32) -> Option<&Line> {
        let lines = self.lines(to);
        let at = lines.binary_search_by_key(&from, |line| line.friend).ok()?;
        Some(&lines[at]).filter(|line| line.mutual || mutant!(OneSidedEdges))
    }

    fn degree(&self, node: &PublicKey) -> usize {
        self.number(node).map_or(0, |number| self.lines(number).len())
    }

    fn update(&mut self, node: &PublicKey, set: &[&Entry], removed: &[PublicKey]) {
        let owner = self.intern(node);
        let mut fresh = Vec::new();
        for entry in set {
            let friend = self.intern(&entry.friend);
            match self.position(owner, friend) {
                Ok(at) => {
                    let line = &mut self.nodes[owner as usize].lines[at];
                    (line.capacity, line.rate) = (entry.recv_capacity, entry.rate);
                }
                Err(_) => {
                    let mutual = self.tell_friend(owner, friend, true);
                    self.nodes[friend as usize].mentions += 1;
                    fresh.push(Line { friend, mutual, capacity: entry.recv_capacity, rate: entry.rate });
                }
            }
        }
        self.insert_lines(owner, fresh);
        let removed = if mutant!(ClosedEdgeKept) { &[] } else { removed };
        let gone: BTreeSet<u32> = removed.iter().filter_map(|friend| self.number(friend)).collect();
        self.remove_lines(owner, &gone);
        self.release(owner);
    }

    fn position(&self, owner: u32, friend: u32) -> Result<usize, usize> {
        self.lines(owner).binary_search_by_key(&friend, |line| line.friend)
    }

    /// Tells `friend`'s line about `owner`, if there is one, whether `owner` lists `friend`; says whether there is one.
    fn tell_friend(&mut self, owner: u32, friend: u32, listed: bool) -> bool {
        let Ok(at) = self.position(friend, owner) else { return false };
        self.nodes[friend as usize].lines[at].mutual = listed;
        true
    }

    /// Adds lines about friends that `owner` has none about; sorts once, however many they are.
    fn insert_lines(&mut self, owner: u32, fresh: Vec<Line>) {
        if fresh.is_empty() {
            return;
        }
        let lines = &mut self.nodes[owner as usize].lines;
        lines.extend(fresh);
        lines.sort_unstable_by_key(|line| line.friend);
    }

    fn remove_lines(&mut self, owner: u32, gone: &BTreeSet<u32>) {
        if gone.is_empty() {
            return;
        }
        let lines = std::mem::take(&mut self.nodes[owner as usize].lines);
        let (removed, kept): (Vec<Line>, Vec<Line>) = lines.into_iter().partition(|line| gone.contains(&line.friend));
        self.nodes[owner as usize].lines = kept;
        for line in removed {
            self.tell_friend(owner, line.friend, false);
            self.nodes[line.friend as usize].mentions -= 1;
            self.release(line.friend);
        }
    }

    fn intern(&mut self, key: &PublicKey) -> u32 {
        if let Some(number) = self.number(key) {
            return number;
        }
        let node = Node { key: *key, lines: Vec::new(), mentions: 0 };
        let number = match self.free.pop() {
            Some(number) => {
                self.nodes[number as usize] = node;
                number
            }
            None => {
                // A server's limit of entries, far below 2^32, bounds the numbers.
                self.nodes.push(node);
                (self.nodes.len() - 1) as u32
            }
        };
        self.numbers.insert(*key, number);
        number
    }

    /// Gives the number free if nothing speaks of it any more (invariant 3).
    fn release(&mut self, number: u32) {
        let node = &mut self.nodes[number as usize];
        if node.mentions == 0 && node.lines.is_empty() {
            node.lines = Vec::new();
            self.numbers.remove(&node.key);
            self.free.push(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> PublicKey {
        PublicKey([n; 32])
    }

    fn entry(friend: u8, currency: &str, recv_capacity: u128) -> Entry {
        let currency = currency.parse().unwrap();
        Entry { friend: key(friend), currency, recv_capacity, rate: Rate { mul: 3, add: friend.into() } }
    }

    fn usd(graph: &Graph) -> &CurrencyGraph {
        graph.currency(&"USD".parse().unwrap()).unwrap()
    }

    fn edge(graph: &Graph, from: u8, to: u8) -> Option<u128> {
        let graph = usd(graph);
        graph.edge(graph.number(&key(from))?, graph.number(&key(to))?).map(|line| line.capacity)
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
        let report = [entry(2, "EUR", 1), entry(2, "USD", 2), entry(3, "USD", 3)];
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

    #[test]
    fn numbers_are_used_again() {
        let mut graph = Graph::new();
        graph.replace(&key(1), &[entry(2, "USD", 1)]);
        for n in 3..40 {
            graph.replace(&key(n), &[entry(1, "USD", 1)]);
            graph.remove(&key(n));
        }
        assert_eq!(usd(&graph).size(), 3);
    }
}
