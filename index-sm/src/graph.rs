//! Who can push how much to whom, and at what rate: one directed graph for each currency.
//!
//! Nodes have small numbers inside a currency. Each node owns the lines that it published: a line of `v` about `u` is the
//! edge `u → v` with its capacity, and the rate that `v` charges for forwarding what comes from `u`. An edge is usable if
//! both ends list each other. Usable edges stand in two more lists, which searches run over: `back` of the node that they
//! lead to, and `ahead` of the node that they come from.
//!
//! | change | costs, with `d` lines of the nodes concerned |
//! |---|---|
//! | a capacity | O(log d) |
//! | a rate, a line more or less | O(d) bytes moved |
//! | a report of `n` lines | n times that at the friends; sorting at its node |
//!
//! Invariants:
//! 1. Lines of a node are in the order of their friends' numbers, one a friend.
//! 2. A line is `mutual` exactly if its friend has a line about its owner.
//! 3. A number is in use exactly if its node has a line, or a line is about it.
//! 4. `back` and `ahead` have exactly the usable edges, with the rates and capacities of their lines.
//! 5. A graph is read without locks or caches: a reader brings its own [`Workspace`](crate::search::Workspace).
//!
//! Not checked here: who may change which report, and whether it is fresh.

use std::collections::{BTreeMap, BTreeSet};

use offset_protocol::bytes::PublicKey;
use offset_protocol::index::{Entry, EntryKey};
use offset_protocol::money::{Currency, Rate};
use offset_protocol::mutant;

use crate::arc::{Arc, Arcs, Rounded, make_room};

/// More changed edges of one node than this, and its lists are made anew. Chosen freely: moving a list's bytes a few times
/// is cheaper than looking up every friend's line.
const MANY: usize = 16;

/// Every report that a server knows.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    currencies: BTreeMap<Currency, CurrencyGraph>,
    /// The currencies of each report, ascending.
    members: BTreeMap<PublicKey, Vec<Currency>>,
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
    /// Usable edges that lead here; invariant 4.
    back: Arcs,
    /// Usable edges that lead away from here; invariant 4.
    ahead: Arcs,
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

/// When the arcs at the owner of a report that changes are put right; those at its friends are at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Own {
    Now,
    Later,
}

impl Line {
    /// The edge that the line is about, from the side whose other end is `node`.
    fn arc(&self, node: u32) -> Arc {
        Arc { node, rate: self.rate, capacity: Rounded::of(self.capacity) }
    }
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

    /// Nodes with an entry.
    #[cfg(any(test, feature = "probes"))]
    pub(crate) fn owners(&self) -> impl Iterator<Item = &PublicKey> {
        self.members.keys()
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

    /// The entry of `node` about `friend` in `currency`.
    pub fn entry(&self, node: &PublicKey, key: &EntryKey) -> Option<Entry> {
        let graph = self.currencies.get(&key.currency)?;
        let line = graph.line(graph.number(node)?, graph.number(&key.friend)?)?;
        Some(Entry { friend: key.friend, currency: key.currency, recv_capacity: line.capacity, rate: line.rate })
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

    /// For simulations and tests: panics if an invariant of the module does not hold. Costs as much as the whole graph.
    #[cfg(any(test, feature = "probes"))]
    pub fn assert_consistent(&self) {
        let entries: usize = self.currencies.values().map(CurrencyGraph::assert_consistent).sum();
        assert_eq!(entries, self.entries, "entries are counted");
        for (node, currencies) in &self.members {
            let has_lines =
                |currency: &Currency| self.currencies.get(currency).is_some_and(|graph| graph.degree(node) > 0);
            assert!(currencies.iter().all(has_lines), "a member of a currency has a line in it");
        }
    }

    fn remember_membership(&mut self, node: &PublicKey, currency: Currency, member: bool) {
        let currencies = self.members.entry(*node).or_default();
        match (currencies.binary_search(&currency), member) {
            (Err(at), true) => {
                make_room(currencies);
                currencies.insert(at, currency);
            }
            (Ok(at), false) => drop(currencies.remove(at)),
            (Ok(_), true) | (Err(_), false) => {}
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

    /// Panics if an invariant does not hold; gives how many lines there are.
    #[cfg(any(test, feature = "probes"))]
    fn assert_consistent(&self) -> usize {
        let mut lines = 0;
        for (&key, &number) in &self.numbers {
            let node = &self.nodes[number as usize];
            assert_eq!(node.key, key);
            assert!(!node.lines.is_empty() || node.mentions > 0, "a number is in use for something");
            assert!(node.lines.is_sorted_by_key(|line| line.friend), "lines are in order");
            for line in &node.lines {
                assert_eq!(
                    line.mutual,
                    self.line(line.friend, number).is_some(),
                    "an edge is one that both ends report"
                );
            }
            let mutual = node.lines.iter().filter(|line| line.mutual).count();
            assert_eq!(
                (node.back.as_slice().len(), node.ahead.as_slice().len()),
                (mutual, mutual),
                "all usable edges stand in the lists"
            );
            lines += node.lines.len();
        }
        let mentions: usize = self.numbers.values().map(|number| self.nodes[*number as usize].mentions as usize).sum();
        assert_eq!(mentions, lines, "every line mentions a friend");
        lines
    }

    /// Numbers are below this.
    pub(crate) fn size(&self) -> usize {
        self.nodes.len()
    }

    /// What `number` published, by friend's number.
    pub(crate) fn lines(&self, number: u32) -> &[Line] {
        &self.nodes[number as usize].lines
    }

    /// Usable edges to `number`, cheap ones first.
    pub(crate) fn back(&self, number: u32) -> &[Arc] {
        self.nodes[number as usize].back.as_slice()
    }

    /// Usable edges from `number`, cheap ones first.
    pub(crate) fn ahead(&self, number: u32) -> &[Arc] {
        self.nodes[number as usize].ahead.as_slice()
    }

    /// The edge `from → to`, if both list each other.
    pub(crate) fn edge(&self, from: u32, to: u32) -> Option<&Line> {
        self.line(to, from).filter(|line| line.mutual)
    }

    fn line(&self, owner: u32, friend: u32) -> Option<&Line> {
        self.position(owner, friend).ok().map(|at| &self.lines(owner)[at])
    }

    fn position(&self, owner: u32, friend: u32) -> Result<usize, usize> {
        self.lines(owner).binary_search_by_key(&friend, |line| line.friend)
    }

    fn degree(&self, node: &PublicKey) -> usize {
        self.number(node).map_or(0, |number| self.lines(number).len())
    }

    fn update(&mut self, node: &PublicKey, set: &[&Entry], removed: &[PublicKey]) {
        let owner = self.intern(node);
        // The owner's own arcs are made anew at the end if many of them change.
        let own = if set.len() + removed.len() > MANY { Own::Later } else { Own::Now };
        let mut fresh = Vec::new();
        for entry in set {
            let friend = self.intern(&entry.friend);
            match self.position(owner, friend) {
                Ok(at) => self.change_line(owner, at, entry, own),
                Err(_) => {
                    self.nodes[friend as usize].mentions += 1;
                    fresh.push(Line { friend, mutual: false, capacity: entry.recv_capacity, rate: entry.rate });
                }
            }
        }
        self.insert_lines(owner, fresh, own);
        let removed = if mutant!(ClosedEdgeKept) { &[] } else { removed };
        let gone: BTreeSet<u32> = removed.iter().filter_map(|friend| self.number(friend)).collect();
        self.remove_lines(owner, &gone, own);
        if own == Own::Later {
            (self.nodes[owner as usize].back, self.nodes[owner as usize].ahead) = self.arcs_from_lines(owner);
        }
        self.release(owner);
    }

    fn change_line(&mut self, owner: u32, at: usize, entry: &Entry, own: Own) {
        let line = &mut self.nodes[owner as usize].lines[at];
        let old = *line;
        (line.capacity, line.rate) = (entry.recv_capacity, entry.rate);
        let line = *line;
        if !line.mutual || old == line {
            return;
        }
        self.change_edge(owner, (line.friend, owner), own, |arcs, node| {
            if old.rate == line.rate {
                arcs.set_capacity(node, line.rate, Rounded::of(line.capacity));
            } else {
                arcs.remove(node, old.rate);
                arcs.insert(line.arc(node));
            }
        });
    }

    /// Adds lines about friends that `owner` has none about; sorts once, however many they are.
    fn insert_lines(&mut self, owner: u32, fresh: Vec<Line>, own: Own) {
        let lines = &mut self.nodes[owner as usize].lines;
        match &fresh[..] {
            [] => return,
            [line] => {
                let at = lines.partition_point(|other| other.friend < line.friend);
                make_room(lines);
                lines.insert(at, *line);
            }
            [..] => {
                lines.reserve_exact(fresh.len());
                lines.extend_from_slice(&fresh);
                lines.sort_unstable_by_key(|line| line.friend);
            }
        }
        for line in fresh {
            self.open(owner, &line, own);
        }
    }

    /// Opens the edges between `owner` and the friend of its new line, if the friend has a line as well.
    fn open(&mut self, owner: u32, line: &Line, own: Own) {
        let friend = line.friend;
        if friend == owner {
            return;
        }
        let Ok(there) = self.position(friend, owner) else {
            if mutant!(OneSidedEdges) {
                self.set_mutual(owner, friend, true);
                self.change_edge(owner, (friend, owner), own, |arcs, node| arcs.insert(line.arc(node)));
            }
            return;
        };
        let theirs = self.nodes[friend as usize].lines[there];
        self.set_mutual(owner, friend, true);
        self.change_edge(owner, (friend, owner), own, |arcs, node| arcs.insert(line.arc(node)));
        if !theirs.mutual {
            self.set_mutual(friend, owner, true);
            self.change_edge(owner, (owner, friend), own, |arcs, node| arcs.insert(theirs.arc(node)));
        }
    }

    fn set_mutual(&mut self, owner: u32, friend: u32, mutual: bool) {
        if let Ok(at) = self.position(owner, friend) {
            self.nodes[owner as usize].lines[at].mutual = mutual;
        }
    }

    fn remove_lines(&mut self, owner: u32, gone: &BTreeSet<u32>, own: Own) {
        if gone.is_empty() {
            return;
        }
        let mut removed = Vec::new();
        let lines = &mut self.nodes[owner as usize].lines;
        lines.retain(|line| {
            let stays = !gone.contains(&line.friend);
            if !stays {
                removed.push(*line);
            }
            stays
        });
        if lines.len() < lines.capacity() / 2 {
            lines.shrink_to_fit();
        }
        for line in removed {
            self.close(owner, &line, own);
            self.nodes[line.friend as usize].mentions -= 1;
            // The owner, if it spoke of itself, is released at the end, once.
            if line.friend != owner {
                self.release(line.friend);
            }
        }
    }

    /// Closes the edges between `owner` and the friend of a line that is gone.
    fn close(&mut self, owner: u32, line: &Line, own: Own) {
        let friend = line.friend;
        if line.mutual {
            self.change_edge(owner, (friend, owner), own, |arcs, node| arcs.remove(node, line.rate));
        }
        let Some(theirs) = self.line(friend, owner).copied().filter(|line| line.mutual) else { return };
        self.set_mutual(friend, owner, false);
        self.change_edge(owner, (owner, friend), own, |arcs, node| arcs.remove(node, theirs.rate));
    }

    /// Applies `change` to the arcs of an edge at both its ends, given the other end's number; not at `owner` if that is
    /// for later.
    fn change_edge(&mut self, owner: u32, edge: (u32, u32), own: Own, change: impl Fn(&mut Arcs, u32)) {
        let (from, to) = edge;
        let wanted = |end: u32| end != owner || own == Own::Now;
        if wanted(to) {
            change(&mut self.nodes[to as usize].back, from);
        }
        if wanted(from) {
            change(&mut self.nodes[from as usize].ahead, to);
        }
    }

    /// What invariant 4 says about the arcs of a node.
    fn arcs_from_lines(&self, number: u32) -> (Arcs, Arcs) {
        let usable = || self.lines(number).iter().filter(|line| line.mutual);
        let back = usable().map(|line| line.arc(line.friend)).collect();
        let ahead = usable().filter_map(|line| Some(self.edge(number, line.friend)?.arc(line.friend))).collect();
        (Arcs::from_unsorted(back), Arcs::from_unsorted(ahead))
    }

    fn intern(&mut self, key: &PublicKey) -> u32 {
        if let Some(number) = self.number(key) {
            return number;
        }
        let node = Node { key: *key, lines: Vec::new(), back: Arcs::default(), ahead: Arcs::default(), mentions: 0 };
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

    /// Invariants 2 and 4, from the lines alone.
    fn check_arcs(graph: &CurrencyGraph) {
        for number in graph.numbers.values().copied() {
            let node = &graph.nodes[number as usize];
            for line in &node.lines {
                let mutual = line.friend != number && graph.line(line.friend, number).is_some();
                assert_eq!(line.mutual, mutual);
            }
            assert_eq!((node.back.clone(), node.ahead.clone()), graph.arcs_from_lines(number));
        }
    }

    use proptest::prelude::*;

    type Change = (u8, bool, Vec<(u8, u8, u8)>);

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
            let mut graph = Graph::new();
            let mut reports: BTreeMap<(u8, u8), (u8, u8)> = BTreeMap::new();
            for (node, sets, lines) in changes {
                let lines: BTreeMap<u8, (u8, u8)> = lines.into_iter().map(|(to, mul, cap)| (to, (mul, cap))).collect();
                let of = |friend: u8, (mul, capacity): (u8, u8)| {
                    let rate = Rate { mul: mul.into(), add: 0 };
                    Entry { rate, ..entry(friend, "USD", capacity.into()) }
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
                prop_assert_eq!(graph.report(&key(node)), wanted);
                prop_assert_eq!(graph.entries(), reports.len());
            }
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
        assert_eq!(usd(&graph).size(), 3);
    }
}
