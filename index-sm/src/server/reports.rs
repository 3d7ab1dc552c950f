//! Reports: which are new, how they flood, when they end. Their form, signature and proof were checked before
//! ([`heard`](super::heard)).
//!
//! An attestation is *newer* than what is known of its node if its version is higher, or if the version is the same and it
//! is provably younger than a later tick of this server. What was heard once is never newer again, so floods end, and a
//! replayed attestation keeps nobody alive. The record of a node that fell silent stays until every tick is forgotten
//! that its last attestations could be proven against; then they cannot be, and the record goes.
//!
//! | received | held | effect |
//! |---|---|---|
//! | a lower version | – | ignored; whoever sent it, node or server, is told the later one (`Later`) |
//! | `Later` | a lower version | the node is told, if it is here; if not, all other servers are |
//! | anything not newer, or proven against no remembered tick | – | ignored |
//! | `Attestation` | a report of its hash | refreshed, flooded |
//! | `Delta` | the version that it starts from | applied, if the result has its hash; flooded |
//! | `State` | – | taken; an attestation of it floods |
//! | a change that there is no room for, or of a node that makes too much work ([`manners`](super::manners)) | – | ignored |
//! | `Attestation`, `Delta` | anything else | `Want`, to whoever sent it |

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use offset_protocol::bytes::PublicKey;
use offset_protocol::codec::{List, encode};
use offset_protocol::index::{Attestation, Delta, IndexToIndex, IndexToNode, Proof, State, TickInputs, state_hash};
use offset_protocol::limits::{INDEX_NODE_TTL, INDEX_TICK, MAX_INDEX_CURRENCIES, MAX_INDEX_ENTRIES, MAX_PROOF_LINKS};
use offset_protocol::machine::{Duration, Instant};
use offset_protocol::net::{ConnId, NetCommand};
use offset_protocol::{buggify, mutant, sometimes};

use super::heard::Checked;
use super::manners::{Lines, Work};
use super::shares::Held;
#[cfg(any(test, feature = "probes"))]
use super::shares::Slot;
use super::ticks::Serial;
use super::{IndexServer, Misbehaviour, ServerOutput};

/// Reports that the server asked other servers for and waits for. At the limit it asks again a heartbeat later.
pub const MAX_WANTS: usize = 65_536;
/// A report that was asked for is not asked for again before this has passed.
pub const WANT_PATIENCE: Duration = INDEX_TICK;

/// Who handed a report over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Node(PublicKey),
    Neighbour(PublicKey),
}

/// What a node, or a server on its behalf, reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Report {
    State(State),
    Delta(Delta),
    Attestation(Attestation),
}

impl Report {
    pub(super) fn attestation(&self) -> Attestation {
        match self {
            Report::State(state) => state.attestation,
            Report::Delta(delta) => delta.attestation,
            Report::Attestation(attestation) => *attestation,
        }
    }

    pub(super) fn check(&self) -> Result<(), Misbehaviour> {
        match self {
            Report::State(state) => Ok(state.check()?),
            Report::Delta(delta) => Ok(delta.check()?),
            Report::Attestation(_) => Ok(()),
        }
    }
}

/// What is known of every node.
#[derive(Default)]
pub(crate) struct Reports {
    records: BTreeMap<PublicKey, Record>,
    /// When nodes in the graph fall silent.
    expiry: BTreeSet<(Instant, PublicKey)>,
    /// Nodes that fell silent, by the last tick then.
    graves: VecDeque<(Serial, PublicKey)>,
    /// Reports that neighbours were asked for, and when.
    wants: BTreeMap<PublicKey, (Instant, ConnId)>,
    /// The links of the last proof; most proofs of a moment are the same.
    last_links: Arc<[TickInputs]>,
}

pub(super) struct Record {
    attestation: Attestation,
    /// From the attestation's tick to a tick of ours; empty if it is one.
    links: Arc<[TickInputs]>,
    /// The tick of ours that it is younger than.
    younger_than: Serial,
    place: Place,
    /// When the node was last told, or others so that it is, of a later version that another server knew.
    told_later: Option<Instant>,
    /// What its reports cost lately, whoever brought them.
    work: Work,
    /// What its lines take of the share of an address.
    held: Option<Held>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In the graph, until then.
    Graph(Instant),
    /// Fell silent when this was the last tick.
    Grave(Serial),
}

impl Reports {
    /// Nodes in the graph.
    pub(crate) fn alive(&self) -> usize {
        self.expiry.len()
    }

    /// Nodes in memory, those included that fell silent lately.
    pub(crate) fn remembered(&self) -> usize {
        self.records.len()
    }

    /// Reports that neighbours were asked for.
    pub(crate) fn wanted(&self) -> usize {
        self.wants.len()
    }

    /// When the oldest of these was asked for. Looks at all of them.
    pub(crate) fn wanted_since(&self) -> Option<Instant> {
        self.wants.values().map(|(at, _)| *at).min()
    }

    pub(crate) fn next_expiry(&self) -> Option<Instant> {
        self.expiry.first().map(|(at, _)| *at)
    }

    /// Panics if an invariant does not hold. What `ticks` have forgotten is not looked at.
    #[cfg(any(test, feature = "probes"))]
    pub(crate) fn assert_consistent(&self, ticks: &super::ticks::Ticks) {
        let alive = self.records.values().filter(|record| matches!(record.place, Place::Graph(_))).count();
        assert_eq!(alive, self.expiry.len(), "who is in the graph leaves it some day");
        assert!(self.wants.len() <= MAX_WANTS);
        for (node, record) in &self.records {
            assert_eq!(*node, record.attestation.node);
            if let Place::Graph(at) = record.place {
                assert!(self.expiry.contains(&(at, *node)), "the day is the right one");
            }
            let proof = List::truncated(record.links.iter().cloned());
            let proven =
                offset_protocol::index::proven_ticks(&record.attestation.time_hash, &proof).unwrap_or_default();
            let tick = ticks.inputs(record.younger_than).map(TickInputs::hash);
            assert!(tick.is_none_or(|tick| proven.contains(&tick)), "a report is as young as its proof says");
        }
    }

    /// Whether the node is in the graph, as far as this knows.
    #[cfg(any(test, feature = "probes"))]
    pub(crate) fn is_held(&self, node: &PublicKey) -> bool {
        self.held(node).is_some()
    }

    /// What all records hold of the shares of addresses.
    #[cfg(any(test, feature = "probes"))]
    pub(super) fn lines_by_slot(&self) -> BTreeMap<Slot, u64> {
        let mut lines = BTreeMap::new();
        for held in self.records.values().filter_map(|record| record.held) {
            *lines.entry(held.slot).or_default() += u64::from(held.lines);
        }
        lines
    }

    #[cfg(test)]
    pub(crate) fn units_owed(&self, now: Instant, node: &PublicKey) -> u64 {
        self.records.get(node).map_or(0, |record| record.work.owed(now))
    }

    /// The record of a node that is in the graph.
    fn held(&self, node: &PublicKey) -> Option<&Record> {
        self.records.get(node).filter(|record| matches!(record.place, Place::Graph(_)))
    }

    fn shared(&mut self, links: Vec<TickInputs>) -> Arc<[TickInputs]> {
        if self.last_links[..] != links[..] {
            self.last_links = links.into();
        }
        Arc::clone(&self.last_links)
    }

    fn put(&mut self, record: Record) {
        let node = record.attestation.node;
        let place = record.place;
        let old = self.records.insert(node, record);
        if let Some(Place::Graph(at)) = old.map(|old| old.place) {
            self.expiry.remove(&(at, node));
        }
        match place {
            Place::Graph(at) => {
                self.expiry.insert((at, node));
            }
            Place::Grave(serial) => self.graves.push_back((serial, node)),
        }
        self.wants.remove(&node);
    }
}

/// What taking a report makes of its node's accounts.
struct Made {
    work: Work,
    held: Option<Held>,
}

/// What a report leads to.
enum Verdict {
    /// What it brings is right; so many entries the node has then, if that changes.
    Take { entries: Option<usize> },
    /// Its content is missing; whether that is the outcome of applying a change to all that the node has.
    Want { tried: bool },
}

impl IndexServer {
    pub(super) fn on_report(&mut self, now: Instant, origin: Origin, checked: Checked) -> Result<(), Misbehaviour> {
        let Checked { report, proof, ticks } = checked;
        let attestation = report.attestation();
        if let Origin::Node(node) = origin
            && node != attestation.node
        {
            return Err(Misbehaviour::NotItself);
        }
        if self.is_known(&attestation) && !mutant!(AttestationReplayed) {
            sometimes!("index: a report is heard twice", true);
            self.stats.ignored += 1;
            self.tell_if_later(origin, &attestation);
            return Ok(());
        }
        sometimes!("index: a report names a tick that is forgotten", self.ticks.newest_of(&ticks).is_none());
        let Some(younger_than) = self.ticks.newest_of(&ticks).filter(|serial| self.is_newer(&attestation, *serial))
        else {
            self.stats.ignored += 1;
            return Ok(());
        };
        if self.makes_too_much_work(now, origin, &report) {
            self.stats.refused += 1;
            return Ok(());
        }
        let before = self.graph.entries_of(&attestation.node);
        match self.judge(&report) {
            Verdict::Want { .. } if mutant!(WantNotAsked) => {}
            Verdict::Want { tried } => {
                if tried {
                    self.charge_known(now, origin, &attestation, &Lines { own: before, moved: 0 });
                }
                self.want(now, origin, attestation.node);
            }
            Verdict::Take { entries } if !self.has_room(origin, &report, entries) => {
                let own = before.max(entries.unwrap_or(0));
                self.charge_known(now, origin, &attestation, &Lines { own, moved: 0 });
                self.stats.refused += 1;
            }
            Verdict::Take { entries } => {
                let moved = match &report {
                    Report::State(state) if entries.is_some() => self.graph.replace(&attestation.node, &state.entries),
                    Report::Delta(delta) if entries.is_some() => {
                        self.graph.update(&attestation.node, &delta.set, &delta.removed)
                    }
                    Report::State(_) | Report::Delta(_) | Report::Attestation(_) => 0,
                };
                let lines = entries.map(|after| Lines { own: before.max(after), moved });
                let work = self.charge(now, origin, &attestation, lines.as_ref());
                let held = self.held_after(origin, &attestation.node, entries);
                self.keep(now, attestation, proof, younger_than, Made { work, held });
                self.flood(origin, report);
            }
        }
        Ok(())
    }

    /// The attestation stands for what the graph has of its node now.
    fn keep(&mut self, now: Instant, attestation: Attestation, proof: Proof, younger_than: Serial, made: Made) {
        let Made { work, held } = made;
        let links = self.reports.shared(proof.into_vec());
        let place = Place::Graph(now + INDEX_NODE_TTL);
        let known = self.reports.records.get(&attestation.node);
        self.stats.repeated += u64::from(known.is_some_and(|known| known.attestation == attestation));
        let told_later = known.and_then(|known| known.told_later);
        let before = known.and_then(|known| known.held);
        self.shares.hold(before, held);
        self.reports.put(Record { attestation, links, younger_than, place, told_later, work, held });
        self.stats.accepted += 1;
    }

    /// Whether this was heard before, or something of a later version: the common case of a flood, so it is told first.
    fn is_known(&self, attestation: &Attestation) -> bool {
        self.reports.records.get(&attestation.node).is_some_and(|record| {
            let known = &record.attestation;
            attestation.version < known.version
                || (attestation.version == known.version && attestation.time_hash == known.time_hash)
        })
    }

    /// A node that was restored from an old copy does not know which versions it has used; nobody else can use them up.
    fn tell_if_later(&mut self, origin: Origin, said: &Attestation) {
        let Some(known) = self.reports.records.get(&said.node).map(|record| record.attestation) else { return };
        if said.version >= known.version {
            return;
        }
        match origin {
            Origin::Node(node) => self.tell_node(&node, known),
            // Its server may never have heard the later word: the node would stay out of our graph.
            Origin::Neighbour(server) => {
                if let Some(conn) = self.federation.conn(&server) {
                    self.send(conn, &IndexToIndex::Later(known));
                }
            }
        }
    }

    fn tell_node(&mut self, node: &PublicKey, known: Attestation) {
        if let Some(conn) = self.clients.get(node).map(|client| client.conn) {
            self.send(conn, &IndexToNode::Later(known));
        }
    }

    /// Another server knows a later word of a node than this one. It changes nothing here, because nothing proves it fresh;
    /// it goes to the node, or on to where the node may be. Once in a heartbeat for each node: a node that signs ever later
    /// versions makes no more work than its reports do, and a word that was lost on the way is said again with the next one.
    pub(super) fn on_later(&mut self, now: Instant, server: PublicKey, later: Attestation) {
        let Some(record) = self.reports.records.get_mut(&later.node) else { return };
        let told = record.told_later.is_some_and(|at| now.since(at) < INDEX_TICK);
        if told || later.version <= record.attestation.version {
            return;
        }
        record.told_later = Some(now);
        sometimes!("index: another server knows a later word of a node", true);
        if self.clients.contains_key(&later.node) {
            return self.tell_node(&later.node, later);
        }
        let bytes = encode(&IndexToIndex::Later(later));
        for (_, conn) in self.federation.open().into_iter().filter(|(other, _)| *other != server) {
            let bytes = bytes.clone();
            self.outputs.push_back(ServerOutput::Net(NetCommand::Send { conn, bytes }));
        }
    }

    fn is_newer(&self, attestation: &Attestation, younger_than: Serial) -> bool {
        self.reports
            .records
            .get(&attestation.node)
            .is_none_or(|record| attestation.version > record.attestation.version || younger_than > record.younger_than)
            || mutant!(AttestationReplayed)
    }

    fn judge(&self, report: &Report) -> Verdict {
        let attestation = report.attestation();
        let held = self.reports.held(&attestation.node);
        match report {
            Report::State(_) if self.stands(&attestation) => Verdict::Take { entries: None },
            Report::State(state) => Verdict::Take { entries: Some(state.entries.len()) },
            Report::Delta(_) | Report::Attestation(_) if buggify!("index: ask for a report again", 50) => {
                Verdict::Want { tried: false }
            }
            Report::Delta(_) | Report::Attestation(_) if self.stands(&attestation) => Verdict::Take { entries: None },
            Report::Delta(delta) if held.is_some_and(|held| held.attestation.version == delta.base) => {
                let entries = delta.apply(&self.graph.report(&attestation.node));
                let fits = entries.len() <= MAX_INDEX_ENTRIES && state_hash(&entries) == attestation.state_hash;
                sometimes!("index: a delta does not come to what was signed", !fits);
                if fits { Verdict::Take { entries: Some(entries.len()) } } else { Verdict::Want { tried: true } }
            }
            Report::Delta(_) | Report::Attestation(_) => Verdict::Want { tried: false },
        }
    }

    /// Whether the report that is held has this content.
    fn stands(&self, attestation: &Attestation) -> bool {
        let held = self.reports.held(&attestation.node);
        held.is_some_and(|held| held.attestation.state_hash == attestation.state_hash)
    }

    /// Whether the node's reports, or those from its address, cost too much lately for another one that changes something.
    fn makes_too_much_work(&self, now: Instant, origin: Origin, report: &Report) -> bool {
        let attestation = report.attestation();
        if matches!(report, Report::Attestation(_)) || self.stands(&attestation) {
            return false;
        }
        let site = match origin {
            Origin::Node(node) => self.clients.get(&node).map(|client| &client.site),
            Origin::Neighbour(_) => None,
        };
        self.reports.records.get(&attestation.node).is_some_and(|record| record.work.is_used_up(now))
            || site.is_some_and(|site| self.memory.is_used_up(now, site))
    }

    /// Charges the node, and its address, for a change; what the node's bucket is then.
    fn charge(&mut self, now: Instant, origin: Origin, attestation: &Attestation, lines: Option<&Lines>) -> Work {
        let mut work = self.reports.records.get(&attestation.node).map(|record| record.work).unwrap_or_default();
        if let Some(lines) = lines {
            work.charge(now, lines);
            if let Origin::Node(node) = origin
                && let Some(client) = self.clients.get(&node)
            {
                self.memory.charge(now, &client.site, lines);
            }
        }
        work
    }

    /// Charges for what was done in vain.
    fn charge_known(&mut self, now: Instant, origin: Origin, attestation: &Attestation, lines: &Lines) {
        let work = self.charge(now, origin, attestation, Some(lines));
        if let Some(record) = self.reports.records.get_mut(&attestation.node) {
            record.work = work;
        }
    }

    /// Whether the limits have room for a report; for `entries` that are new, if any are.
    fn has_room(&self, origin: Origin, report: &Report, entries: Option<usize>) -> bool {
        let (node, limits) = (report.attestation().node, &self.limits);
        if !self.reports.records.contains_key(&node) && self.reports.remembered() >= limits.max_nodes {
            return false;
        }
        let Some(entries) = entries else { return true };
        let held = self.held_after(origin, &node, Some(entries));
        let before = self.reports.records.get(&node).and_then(|record| record.held);
        if let Some(Held { slot, lines }) = held.filter(|_| held != before) {
            let own = before.filter(|before| before.slot == slot).map_or(0, |before| before.lines);
            if self.shares.lines(slot) - u64::from(own) + u64::from(lines) > limits.max_lines_each as u64 {
                return false;
            }
        }
        let growth = match report {
            Report::State(state) => self.graph.growth(&node, &state.entries),
            Report::Delta(delta) => self.graph.growth(&node, &delta.set),
            Report::Attestation(_) => return true,
        };
        let currencies = match report {
            Report::State(_) => growth.named,
            Report::Delta(_) | Report::Attestation(_) => growth.of_report,
        };
        self.graph.entries() - self.graph.entries_of(&node) + entries <= limits.max_entries
            && self.graph.numbers() + growth.numbers <= limits.max_numbers
            && self.graph.currencies() + growth.currencies <= limits.max_currencies
            && currencies <= MAX_INDEX_CURRENCIES
    }

    /// What a node's lines take of an address's share once a report with so many entries is taken; as before, if nothing
    /// changes. A node that tells a change takes it from where it is.
    fn held_after(&self, origin: Origin, node: &PublicKey, entries: Option<usize>) -> Option<Held> {
        let before = self.reports.records.get(node).and_then(|record| record.held);
        let Some(entries) = entries else { return before };
        match origin {
            Origin::Node(node) => self.clients.get(&node).map(|client| Held::new(client.slot, entries)),
            Origin::Neighbour(_) => None,
        }
    }

    fn want(&mut self, now: Instant, origin: Origin, node: PublicKey) {
        match origin {
            Origin::Node(node) => {
                sometimes!("index: a report of a node is asked for again", true);
                if let Some(conn) = self.clients.get(&node).map(|client| client.conn) {
                    self.send(conn, &IndexToNode::Want);
                }
            }
            Origin::Neighbour(server) => {
                let Some(conn) = self.federation.conn(&server) else { return };
                let asked = self.reports.wants.get(&node);
                let waiting =
                    asked.is_some_and(|(at, conn)| now.since(*at) < WANT_PATIENCE && self.conns.contains_key(conn));
                sometimes!("index: a report is wanted that another server was asked for", waiting);
                if waiting || (asked.is_none() && self.reports.wants.len() >= MAX_WANTS) {
                    return;
                }
                self.reports.wants.insert(node, (now, conn));
                sometimes!("index: a report is asked of another server", true);
                self.send(conn, &IndexToIndex::Want { node });
            }
        }
    }

    /// Passes a report that was just taken on to all other neighbours that can see that it is fresh.
    fn flood(&mut self, origin: Origin, report: Report) {
        let attestation = report.attestation();
        if mutant!(FederationSilent) {
            return;
        }
        let Some((serial, proof)) = self.onward_proof(&attestation.node) else { return };
        let message = match report {
            Report::Delta(delta) => IndexToIndex::Delta { delta, proof },
            Report::State(_) | Report::Attestation(_) => IndexToIndex::Attestation { attestation, proof },
        };
        let bytes = encode(&message);
        for (server, conn) in self.federation.open() {
            if origin != Origin::Neighbour(server) && self.ticks.includes(serial, &server) {
                self.net(NetCommand::Send { conn, bytes: bytes.clone() });
            }
        }
    }

    /// The tick of ours that the node's attestation is younger than, and the proof for those whose ticks went into it.
    fn onward_proof(&self, node: &PublicKey) -> Option<(Serial, Proof)> {
        let record = self.reports.held(node)?;
        if record.links.len() >= MAX_PROOF_LINKS {
            return None;
        }
        let inputs = self.ticks.inputs(record.younger_than)?;
        let links = record.links.iter().chain([inputs]).cloned();
        Some((record.younger_than, List::truncated(links)))
    }

    /// A neighbour lacks a report. If it is not here, or cannot be proven to it any more, a heartbeat brings it.
    pub(super) fn on_want(&mut self, server: PublicKey, node: PublicKey) {
        let Some(conn) = self.federation.conn(&server) else { return };
        let Some((serial, proof)) = self.onward_proof(&node) else { return };
        let Some(record) = self.reports.held(&node) else { return };
        if self.ticks.includes(serial, &server) {
            let entries = List::truncated(self.graph.report(&node));
            let state = State { attestation: record.attestation, entries };
            self.send(conn, &IndexToIndex::State { state, proof });
        }
    }

    /// Takes silent nodes out of the graph.
    pub(super) fn expire(&mut self, now: Instant) {
        while let Some((at, node)) = self.reports.expiry.first().copied()
            && at <= now
        {
            sometimes!("index: a silent node leaves the graph", true);
            if mutant!(ExpireNothing) {
                return;
            }
            if !mutant!(ExpiredEdgeKept) {
                self.graph.remove(&node);
            }
            let last = self.ticks.last();
            if let Some(mut record) = self.reports.records.remove(&node) {
                record.place = Place::Grave(last);
                let nothing = record.held.map(|held| Held::new(held.slot, 0));
                self.shares.hold(record.held, nothing);
                record.held = nothing;
                self.reports.put(record);
            }
            self.reports.expiry.remove(&(at, node));
        }
    }

    /// Forgets nodes whose last attestations no remembered tick could prove fresh, and wants that nobody fulfilled.
    pub(super) fn bury_for_good(&mut self, now: Instant) {
        while let Some((serial, node)) = self.reports.graves.front().copied()
            && self.ticks.has_forgotten(serial)
        {
            sometimes!("index: a silent node is forgotten for good", true);
            self.reports.graves.pop_front();
            if self.reports.records.get(&node).is_some_and(|record| record.place == Place::Grave(serial)) {
                let forgotten = self.reports.records.remove(&node);
                self.shares.hold(forgotten.and_then(|record| record.held), None);
            }
        }
        let conns = &self.conns;
        self.reports.wants.retain(|_, (at, conn)| now.since(*at) < WANT_PATIENCE && conns.contains_key(conn));
    }
}
