//! Who can push how much to whom, and at what rate: one directed graph for each currency.
//!
//! Nodes have small numbers inside a currency. Each node owns the lines that it published: a line of `v` about `u` is the
//! edge `u → v` with its capacities (what may end at `v`, and what `v` would pass on), and the rate that `v` charges for
//! forwarding what comes from `u`. An edge is usable if both ends list each other. Usable edges stand in two more lists,
//! which searches run over: `back` of the node that they lead to, and `ahead` of the node that they come from.
//!
//! | change | costs, with `d` lines of the nodes concerned |
//! |---|---|
//! | a capacity | O(log d) |
//! | a rate | O(d) bytes moved within the friend's list, 16 a line |
//! | a line more or less | the friend's two lists made anew: O(d) bytes copied, 32 a line |
//! | a report of `n` lines | n times that at the friends, *d* being theirs; sorting at its node, O(n log n) |
//! | a node more or less | O(log) of the nodes; now and then, when most numbers are free, all that are left move together |
//! | the first change of a node after a snapshot | besides, O(d) bytes of its lists that change, and some 200 pointers |
//!
//! What a report moves at friends is up to the friends' reports, not to its own: [`Graph::update`] says how much it was, so
//! that whoever sent the report can be charged for it.
//!
//! Invariants:
//! 1. Lines of a node are in the order of their friends' numbers, one a friend.
//! 2. A line is `mutual` exactly if its friend has a line about its owner.
//! 3. A number is in use exactly if its node has a line, or a line is about it.
//! 4. `back` and `ahead` have exactly the usable edges, with the rates of their lines and what may be passed on over them.
//! 5. A snapshot of a currency never changes. It costs next to nothing, and a graph that nobody holds a snapshot of changes in
//!    place (`cow`). Graph and snapshot are read without locks or caches: a reader brings its own
//!    [`Workspace`](crate::search::Workspace).
//!
//! Not checked here: who may change which report, and whether it is fresh.

use std::collections::{BTreeMap, BTreeSet};
use std::sync;

use offset_protocol::bytes::PublicKey;
use offset_protocol::index::{Entry, EntryKey};
use offset_protocol::money::Currency;
use offset_protocol::mutant;

use crate::arc::Arcs;
use crate::cow::{self, CowList};
use crate::view::{Line, Node, View};

/// When more of a graph's numbers than this are free, and three of four are, those in use move together. Chosen freely: below
/// it there is nothing to gain, and each move is paid for by three numbers given free.
const SPARSE: usize = 1_024;

/// More changed edges of one node than this, and its lists are made anew. Chosen freely: moving a list's bytes a few times
/// is cheaper than looking up every friend's line.
const MANY: usize = 16;

/// What it counts that a friend's record is changed at all, in lines and arcs that move: under a snapshot its leaf of the list of
/// nodes is copied, some 4 microseconds, and else next to nothing.
const TOUCHED: u64 = 256;

/// Every report that a server knows.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    currencies: BTreeMap<Currency, CurrencyGraph>,
    /// The currencies of each report, ascending.
    members: BTreeMap<PublicKey, Vec<Currency>>,
    entries: usize,
    numbers: usize,
}

/// The graph of one currency.
#[derive(Clone, Debug, Default)]
pub struct CurrencyGraph {
    numbers: BTreeMap<PublicKey, u32>,
    view: View,
    free: Vec<u32>,
    /// Lines and arcs of friends in the lists that the change under way has touched, and what touching the friends counts.
    moved: u64,
    /// The last view that was handed out, if nothing has changed since.
    handed_out: Option<sync::Arc<View>>,
}

/// The graph of one currency at one moment. While it is held, what changes in the graph is copied first.
#[derive(Clone, Debug)]
pub struct Snapshot(sync::Arc<View>);

impl Snapshot {
    /// Numbers of nodes in it, used or free.
    pub fn size(&self) -> usize {
        self.0.size()
    }
}

/// What a report would bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Growth {
    /// Numbers that are not in use, at most.
    pub(crate) numbers: usize,
    /// Currencies that nobody has.
    pub(crate) currencies: usize,
    /// Currencies that it names.
    pub(crate) named: usize,
    /// Currencies that the report has then.
    pub(crate) of_report: usize,
}

/// When the arcs at the owner of a report that changes are put right; those at its friends are at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Own {
    Now,
    Later,
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

    /// Numbers in use, of all currencies: a node has one in each that it has an entry in, or somebody an entry about it.
    pub fn numbers(&self) -> usize {
        self.numbers
    }

    /// Entries of one report.
    pub fn entries_of(&self, node: &PublicKey) -> usize {
        let degree = |currency| self.currencies.get(currency).map_or(0, |graph: &CurrencyGraph| graph.degree(node));
        self.members.get(node).into_iter().flatten().map(degree).sum()
    }

    /// What there would be more of if `set` came into `node`'s report and nothing left it.
    pub(crate) fn growth(&self, node: &PublicKey, set: &[Entry]) -> Growth {
        let own = self.members.get(node).map_or(&[][..], Vec::as_slice);
        let mut named: BTreeSet<Currency> = BTreeSet::new();
        let (mut friends, mut last) = (0, None);
        for entry in set {
            let graph = self.currencies.get(&entry.currency);
            friends += usize::from(graph.is_none_or(|graph| graph.number(&entry.friend).is_none()));
            // Most reports have one currency.
            if last.replace(entry.currency) != Some(entry.currency) {
                named.insert(entry.currency);
            }
        }
        let fresh = named.iter().filter(|currency| own.binary_search(currency).is_err()).count();
        let currencies = named.iter().filter(|currency| !self.currencies.contains_key(*currency)).count();
        Growth { numbers: friends + fresh, currencies, named: named.len(), of_report: own.len() + fresh }
    }

    /// Currencies that there are.
    pub fn currencies(&self) -> usize {
        self.currencies.len()
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

    /// What the graph of one currency is now, for who wants to keep it while the graph goes on.
    pub fn snapshot(&mut self, currency: &Currency) -> Option<Snapshot> {
        self.currency_mut(currency).map(|graph| Snapshot(graph.snapshot()))
    }

    pub(crate) fn currency_mut(&mut self, currency: &Currency) -> Option<&mut CurrencyGraph> {
        self.currencies.get_mut(currency)
    }

    /// The entries of `node`, ordered by friend and currency; none if it is unknown.
    pub fn report(&self, node: &PublicKey) -> Vec<Entry> {
        let mut entries = Vec::new();
        for currency in self.members.get(node).into_iter().flatten() {
            let Some(graph) = self.currencies.get(currency) else { continue };
            let Some(number) = graph.number(node) else { continue };
            let entry = |line: &Line| line.entry(graph.view.key(line.friend), *currency);
            entries.extend(graph.view.lines(number).iter().map(entry));
        }
        entries.sort_unstable();
        entries
    }

    /// The entry of `node` about `friend` in `currency`.
    pub fn entry(&self, node: &PublicKey, key: &EntryKey) -> Option<Entry> {
        let graph = self.currencies.get(&key.currency)?;
        let line = graph.view.line(graph.number(node)?, graph.number(&key.friend)?)?;
        Some(line.entry(key.friend, key.currency))
    }

    /// Makes `entries` (strictly ascending) the whole report of `node`. Says what [`update`](Self::update) does.
    pub fn replace(&mut self, node: &PublicKey, entries: &[Entry]) -> u64 {
        let gone = |key: &EntryKey| entries.binary_search_by_key(key, Entry::key).is_err();
        let removed: Vec<_> = self.report(node).iter().map(Entry::key).filter(gone).collect();
        self.update(node, entries, &removed)
    }

    /// Removes `node`'s report.
    pub fn remove(&mut self, node: &PublicKey) {
        self.replace(node, &[]);
    }

    /// Sets and removes entries of `node`. Removing what is not there changes nothing; no entry is in both lists. Says how many
    /// lines and arcs of its friends stand in lists that had to change: what was moved or copied, at most.
    pub fn update(&mut self, node: &PublicKey, set: &[Entry], removed: &[EntryKey]) -> u64 {
        let mut moved = 0;
        let mut changes: BTreeMap<Currency, (Vec<&Entry>, Vec<PublicKey>)> = BTreeMap::new();
        for entry in set {
            changes.entry(entry.currency).or_default().0.push(entry);
        }
        for key in removed {
            changes.entry(key.currency).or_default().1.push(key.friend);
        }
        for (currency, (set, removed)) in changes {
            let graph = self.currencies.entry(currency).or_default();
            let (before, numbers) = (graph.degree(node), graph.numbers.len());
            moved += graph.update(node, &set, &removed);
            let after = graph.degree(node);
            self.entries = self.entries - before + after;
            self.numbers = self.numbers - numbers + graph.numbers.len();
            let empty = graph.numbers.is_empty();
            if empty {
                self.currencies.remove(&currency);
            }
            self.remember_membership(node, currency, after > 0);
        }
        moved
    }

    /// For simulations and tests: panics if an invariant of the module does not hold. Costs as much as the whole graph.
    #[cfg(any(test, feature = "probes"))]
    pub fn assert_consistent(&self) {
        let entries: usize = self.currencies.values().map(CurrencyGraph::assert_consistent).sum();
        assert_eq!(entries, self.entries, "entries are counted");
        let numbers: usize = self.currencies.values().map(|graph| graph.numbers.len()).sum();
        assert_eq!(numbers, self.numbers, "numbers are counted");
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
                currencies.reserve_exact(1);
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

    /// The graph by numbers.
    pub(crate) fn view(&self) -> &View {
        &self.view
    }

    /// The graph by numbers, as it is now and stays. Costs nothing while nothing changes; next to nothing after a change.
    pub(crate) fn snapshot(&mut self) -> sync::Arc<View> {
        let view = &self.view;
        sync::Arc::clone(self.handed_out.get_or_insert_with(|| sync::Arc::new(view.clone())))
    }

    /// Panics if an invariant does not hold; gives how many lines there are.
    #[cfg(any(test, feature = "probes"))]
    fn assert_consistent(&self) -> usize {
        let mut lines = 0;
        for (&key, &number) in &self.numbers {
            let node = self.view.node(number);
            assert_eq!(node.key, key);
            assert!(!node.lines.is_empty() || node.mentions > 0, "a number is in use for something");
            assert!(node.lines.is_sorted_by_key(|line| line.friend), "lines are in order");
            for line in &node.lines[..] {
                assert_eq!(
                    line.is_mutual(),
                    self.view.line(line.friend, number).is_some(),
                    "an edge is one that both ends report"
                );
            }
            let arcs = self.arcs_from_lines(number);
            assert_eq!(
                (&node.back, &node.ahead),
                (&arcs.0, &arcs.1),
                "all usable edges stand in the lists, as the lines say"
            );
            lines += node.lines.len();
        }
        let mentions: usize = self.numbers.values().map(|number| self.view.node(*number).mentions as usize).sum();
        assert_eq!(mentions, lines, "every line mentions a friend");
        lines
    }

    fn degree(&self, node: &PublicKey) -> usize {
        self.number(node).map_or(0, |number| self.view.lines(number).len())
    }

    fn update(&mut self, node: &PublicKey, set: &[&Entry], removed: &[PublicKey]) -> u64 {
        self.moved = 0;
        // First: what nobody but us holds need not be copied.
        self.handed_out = None;
        let owner = self.intern(node);
        // The owner's own arcs are made anew at the end if many of them change.
        let own = if set.len() + removed.len() > MANY { Own::Later } else { Own::Now };
        let mut fresh = Vec::new();
        for entry in set {
            let friend = self.intern(&entry.friend);
            match self.view.position(owner, friend) {
                Ok(at) => self.change_line(owner, at, entry, own),
                Err(_) => {
                    self.mention(friend, |mentions| *mentions += 1);
                    fresh.push(Line::new(friend, entry));
                }
            }
        }
        self.insert_lines(owner, fresh, own);
        let removed = if mutant!(ClosedEdgeKept) { &[] } else { removed };
        let gone: BTreeSet<u32> = removed.iter().filter_map(|friend| self.number(friend)).collect();
        self.remove_lines(owner, &gone, own);
        if own == Own::Later {
            let (back, ahead) = self.arcs_from_lines(owner);
            let node = self.view.node_mut(owner);
            (node.back, node.ahead) = (back, ahead);
        }
        self.release(owner);
        if self.free.len() > SPARSE && self.free.len() > self.view.size() / 4 * 3 {
            self.move_together();
        }
        self.moved
    }

    fn change_line(&mut self, owner: u32, at: usize, entry: &Entry, own: Own) {
        let old = self.view.lines(owner)[at];
        let line = Line::new(old.friend, entry).mutual(old.is_mutual());
        if old == line {
            return;
        }
        self.line_mut(owner, at).clone_from(&line);
        if !line.is_mutual() {
            return;
        }
        self.change_edge(owner, (line.friend, owner), own, |arcs, node| arcs.set(old.rate, line.arc(node)));
    }

    /// Adds lines about friends that `owner` has none about; sorts once, however many they are.
    fn insert_lines(&mut self, owner: u32, fresh: Vec<Line>, own: Own) {
        let lines = &mut self.view.node_mut(owner).lines;
        match &fresh[..] {
            [] => return,
            [line] => {
                let at = lines.partition_point(|other| other.friend < line.friend);
                cow::insert(lines, at, *line);
            }
            [..] => {
                let mut all = [&lines[..], &fresh[..]].concat();
                all.sort_unstable_by_key(|line| line.friend);
                *lines = all.into();
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
        let Ok(there) = self.view.position(friend, owner) else {
            if mutant!(OneSidedEdges) {
                self.set_mutual(owner, friend, true);
                self.change_edge(owner, (friend, owner), own, |arcs, node| arcs.insert(line.arc(node)));
            }
            return;
        };
        let theirs = self.view.lines(friend)[there];
        self.set_mutual(owner, friend, true);
        self.change_edge(owner, (friend, owner), own, |arcs, node| arcs.insert(line.arc(node)));
        if !theirs.is_mutual() {
            self.set_mutual_at_friend(friend, owner, true);
            self.change_edge(owner, (owner, friend), own, |arcs, node| arcs.insert(theirs.arc(node)));
        }
    }

    fn set_mutual(&mut self, owner: u32, friend: u32, mutual: bool) {
        if let Ok(at) = self.view.position(owner, friend) {
            let line = self.line_mut(owner, at);
            *line = line.mutual(mutual);
        }
    }

    /// The same of a friend of the node that reports: its list may have to be copied for it.
    fn set_mutual_at_friend(&mut self, friend: u32, reporter: u32, mutual: bool) {
        self.set_mutual(friend, reporter, mutual);
        self.moved += self.view.lines(friend).len() as u64;
    }

    /// One more line about `friend`, or one fewer.
    fn mention(&mut self, friend: u32, change: impl FnOnce(&mut u32)) {
        change(&mut self.view.node_mut(friend).mentions);
        self.moved += TOUCHED;
    }

    fn line_mut(&mut self, owner: u32, at: usize) -> &mut Line {
        &mut sync::Arc::make_mut(&mut self.view.node_mut(owner).lines)[at]
    }

    fn remove_lines(&mut self, owner: u32, gone: &BTreeSet<u32>, own: Own) {
        if gone.is_empty() {
            return;
        }
        let lines = &mut self.view.node_mut(owner).lines;
        let (removed, left): (Vec<Line>, Vec<Line>) = lines.iter().partition(|line| gone.contains(&line.friend));
        *lines = left.into();
        for line in removed {
            self.close(owner, &line, own);
            self.mention(line.friend, |mentions| *mentions -= 1);
            // The owner, if it spoke of itself, is released at the end, once.
            if line.friend != owner {
                self.release(line.friend);
            }
        }
    }

    /// Closes the edges between `owner` and the friend of a line that is gone.
    fn close(&mut self, owner: u32, line: &Line, own: Own) {
        let friend = line.friend;
        if line.is_mutual() {
            self.change_edge(owner, (friend, owner), own, |arcs, node| arcs.remove(node, line.rate));
        }
        let Some(theirs) = self.view.line(friend, owner).copied().filter(|line| line.is_mutual()) else { return };
        self.set_mutual_at_friend(friend, owner, false);
        self.change_edge(owner, (owner, friend), own, |arcs, node| arcs.remove(node, theirs.rate));
    }

    /// Applies `change` to the arcs of an edge at both its ends, given the other end's number; not at `owner` if that is
    /// for later.
    fn change_edge(&mut self, owner: u32, edge: (u32, u32), own: Own, change: impl Fn(&mut Arcs, u32)) {
        let (from, to) = edge;
        let wanted = |end: u32| end != owner || own == Own::Now;
        if wanted(to) {
            let arcs = &mut self.view.node_mut(to).back;
            change(arcs, from);
            self.moved += arcs.as_slice().len() as u64;
        }
        if wanted(from) {
            let arcs = &mut self.view.node_mut(from).ahead;
            change(arcs, to);
            self.moved += arcs.as_slice().len() as u64;
        }
    }

    /// What invariant 4 says about the arcs of a node.
    fn arcs_from_lines(&self, number: u32) -> (Arcs, Arcs) {
        let usable = || self.view.lines(number).iter().filter(|line| line.is_mutual());
        let back = usable().map(|line| line.arc(line.friend)).collect();
        let ahead = usable().filter_map(|line| Some(self.view.edge(number, line.friend)?.arc(line.friend))).collect();
        (Arcs::from_unsorted(back), Arcs::from_unsorted(ahead))
    }

    fn intern(&mut self, key: &PublicKey) -> u32 {
        if let Some(number) = self.number(key) {
            return number;
        }
        let node = Node::new(*key);
        let number = match self.free.pop() {
            Some(number) => {
                *self.view.node_mut(number) = node;
                number
            }
            None => {
                // A server's limit of entries, far below 2^32, bounds the numbers.
                self.view.nodes.push(node);
                (self.view.size() - 1) as u32
            }
        };
        self.numbers.insert(*key, number);
        number
    }

    /// Gives the number free if nothing speaks of it any more (invariant 3).
    fn release(&mut self, number: u32) {
        let node = self.view.node(number);
        if node.mentions == 0 && node.lines.is_empty() {
            self.numbers.remove(&node.key);
            self.free.push(number);
        }
    }

    /// Gives all nodes numbers without gaps, in the order that they had, so that every list stays in order.
    fn move_together(&mut self) {
        let mut anew = vec![0; self.view.size()];
        let mut old: Vec<u32> = self.numbers.values().copied().collect();
        old.sort_unstable();
        for (new, old) in (0..).zip(&old) {
            anew[*old as usize] = new;
        }
        let mut nodes = CowList::default();
        for number in old {
            nodes.push(self.view.node(number).renumbered(|number| anew[number as usize]));
        }
        self.view = View { nodes };
        self.numbers.values_mut().for_each(|number| *number = anew[*number as usize]);
        self.free = Vec::new();
    }
}

#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
#[cfg(test)]
mod tests;
