//! One scenario for each rule of the server: alone, with hand-made messages; and in a small network.

use offset_protocol::bytes::{Hash, PublicKey, TickHash};
use offset_protocol::codec::{List, decode, encode};
use offset_protocol::index::{
    Attestation, Delta, Entry, IndexToIndex, IndexToNode, NodeToIndex, Proof, RequestRoutes, State, TickInputs,
    state_hash,
};
use offset_protocol::limits::{INDEX_NODE_TTL, INDEX_TICK, MAX_AMOUNT, MAX_FRAME};
use offset_protocol::machine::{Duration, Instant, Machine, Seed};
use offset_protocol::net::{ConnId, ConnIds, NetCommand, NetEvent, Purpose};

use super::*;
use crate::search::Workspace;
use crate::world::{address, entry, key, minus, signer};

const SERVER: u8 = 100;
const FRIEND: u8 = 101;

/// One server, driven by hand.
pub(super) struct Alone {
    pub(super) server: IndexServer,
    pub(super) now: Instant,
    conns: u64,
    /// Searches that are out, if they are not done at once.
    pub(super) held: Option<Vec<Search>>,
}

impl Alone {
    pub(super) fn new(limits: ServerLimits) -> Self {
        let now = Instant::from_micros(1_000_000);
        let server = IndexServer::new(now, signer(SERVER), &Seed::from_number(1), ConnIds::lane(0, 1), limits);
        Alone { server, now, conns: 0, held: None }
    }

    pub(super) fn input(&mut self, input: ServerInput) -> Vec<ServerOutput> {
        self.server.handle(self.now, input);
        let mut outputs = Vec::new();
        while let Some(output) = self.server.poll_output() {
            match (output, &mut self.held) {
                (ServerOutput::Search(search), Some(held)) => held.push(search),
                (ServerOutput::Search(search), None) => {
                    self.server.handle(self.now, ServerInput::Found(search.run(&mut Workspace::new())));
                }
                (output, _) => outputs.push(output),
            }
        }
        self.server.assert_consistent();
        outputs
    }

    pub(super) fn net(&mut self, event: NetEvent) -> Vec<ServerOutput> {
        self.input(ServerInput::Net(event))
    }

    pub(super) fn wait(&mut self, duration: Duration) -> Vec<ServerOutput> {
        self.now += duration;
        self.input(ServerInput::Tick)
    }

    pub(super) fn connect(&mut self, purpose: Purpose, peer: u8) -> (ConnId, Vec<ServerOutput>) {
        self.connect_from(purpose, peer, &address(peer))
    }

    pub(super) fn connect_from(&mut self, purpose: Purpose, peer: u8, from: &Address) -> (ConnId, Vec<ServerOutput>) {
        self.conns += 1;
        let conn = ConnId::incoming(self.conns);
        let outputs = self.net(NetEvent::Incoming { conn, purpose, peer: key(peer), from: from.clone() });
        (conn, outputs)
    }

    pub(super) fn node(&mut self, node: u8) -> ConnId {
        self.connect(Purpose::NodeIndex, node).0
    }

    /// A trusted server's session, and the hand-made tick that it has told.
    pub(super) fn neighbour(&mut self, server: u8) -> (ConnId, TickHash) {
        self.input(ServerInput::Trust { server: key(server), address: address(server) });
        let (conn, _) = self.connect(Purpose::IndexIndex, server);
        let tick = TickHash([server; 32]);
        self.net(NetEvent::Message { conn, bytes: encode(&IndexToIndex::Tick { tick, ripple: 0 }) });
        self.wait(Duration::ZERO);
        (conn, tick)
    }

    pub(super) fn tell(&mut self, conn: ConnId, message: &impl serde::Serialize) -> Vec<ServerOutput> {
        self.net(NetEvent::Message { conn, bytes: encode(message) })
    }

    pub(super) fn tick(&self) -> TickHash {
        self.server.ticks.current()
    }

    pub(super) fn known(&self, node: u8) -> Vec<Entry> {
        self.server.graph().report(&key(node))
    }

    pub(super) fn report(&mut self, conn: ConnId, node: u8, version: u64, entries: &[Entry]) -> Vec<ServerOutput> {
        let state = state(node, version, entries, self.tick());
        self.tell(conn, &NodeToIndex::State(state))
    }
}

pub(super) fn sorted(entries: &[Entry]) -> Vec<Entry> {
    let mut entries = entries.to_vec();
    entries.sort();
    entries
}

pub(super) fn attest(node: u8, version: u64, entries: &[Entry], tick: TickHash) -> Attestation {
    Attestation::sign(&signer(node), version, state_hash(&sorted(entries)), tick)
}

pub(super) fn state(node: u8, version: u64, entries: &[Entry], tick: TickHash) -> State {
    let listed = List::try_from(sorted(entries)).unwrap();
    State { attestation: attest(node, version, entries, tick), entries: listed }
}

pub(super) fn to_node(outputs: &[ServerOutput], to: ConnId) -> Vec<IndexToNode> {
    sent(outputs, to).iter().map(|bytes| decode(bytes, MAX_FRAME).unwrap()).collect()
}

fn to_server(outputs: &[ServerOutput], to: ConnId) -> Vec<IndexToIndex> {
    sent(outputs, to).iter().map(|bytes| decode(bytes, MAX_FRAME).unwrap()).collect()
}

fn sent(outputs: &[ServerOutput], to: ConnId) -> Vec<Vec<u8>> {
    let send = |output: &ServerOutput| match output {
        ServerOutput::Net(NetCommand::Send { conn, bytes }) if *conn == to => Some(bytes.clone()),
        _ => None,
    };
    outputs.iter().filter_map(send).collect()
}

pub(super) fn reasons(outputs: &[ServerOutput]) -> Vec<EndReason> {
    let reason = |output: &ServerOutput| match output {
        ServerOutput::Ended { reason, .. } => Some(reason.clone()),
        _ => None,
    };
    outputs.iter().filter_map(reason).collect()
}

fn alone() -> Alone {
    Alone::new(ServerLimits::default())
}

#[test]
fn a_node_is_admitted_and_hears_the_tick() {
    let mut alone = alone();
    let (conn, outputs) = alone.connect(Purpose::NodeIndex, 1);
    let tick = encode(&IndexToNode::Tick(alone.tick()));
    let expected = [NetCommand::Admit { conn }, NetCommand::Send { conn, bytes: tick }].map(ServerOutput::Net);
    assert_eq!(outputs, expected);
}

#[test]
fn a_report_is_in_the_graph_at_once_and_changes_with_deltas() {
    let mut alone = alone();
    let conn = alone.node(1);
    assert_eq!(alone.report(conn, 1, 1, &[entry(2, 5), entry(3, 6)]), []);
    assert_eq!(alone.known(1), sorted(&[entry(2, 5), entry(3, 6)]));
    let attestation = attest(1, 2, &[entry(2, 7)], alone.tick());
    let removed = List::try_from(vec![entry(3, 0).key()]).unwrap();
    let delta = Delta { attestation, base: 1, set: List::try_from(vec![entry(2, 7)]).unwrap(), removed };
    assert_eq!(alone.tell(conn, &NodeToIndex::Delta(delta)), []);
    assert_eq!(alone.known(1), [entry(2, 7)]);
}

#[test]
fn an_old_report_cannot_replace_a_newer_one() {
    let mut alone = alone();
    let conn = alone.node(1);
    alone.report(conn, 1, 5, &[entry(2, 5)]);
    alone.report(conn, 1, 4, &[entry(2, 99)]);
    assert_eq!(alone.known(1), [entry(2, 5)]);
    // Nor after the node fell silent, as long as the old one could pass for fresh.
    alone.wait(INDEX_NODE_TTL);
    assert_eq!(alone.known(1), []);
    alone.report(conn, 1, 4, &[entry(2, 99)]);
    assert_eq!(alone.known(1), []);
    alone.report(conn, 1, 6, &[entry(2, 6)]);
    assert_eq!(alone.known(1), [entry(2, 6)]);
}

#[test]
fn a_replayed_attestation_does_not_keep_a_dead_node_alive() {
    let mut alone = alone();
    let (neighbour, _) = alone.neighbour(FRIEND);
    let tick = alone.tick();
    let link = TickInputs { random: Hash([1; 32]), neighbours: List::try_from(vec![tick]).unwrap() };
    let state = state(1, 1, &[entry(2, 5)], link.hash());
    let attestation = state.attestation;
    let proof = Proof::try_from(vec![link]).unwrap();
    alone.tell(neighbour, &IndexToIndex::State { state, proof: proof.clone() });
    assert_eq!(alone.known(1).len(), 1);
    for _ in 0..20 {
        alone.wait(Duration::from_secs(5));
        assert_eq!(alone.tell(neighbour, &IndexToIndex::Attestation { attestation, proof: proof.clone() }), []);
    }
    assert_eq!(alone.known(1), []);
}

#[test]
fn attestations_replayed_by_turns_or_with_better_proofs_keep_nobody_alive() {
    let mut alone = alone();
    let (neighbour, _) = alone.neighbour(FRIEND);
    let link = |random: u8, ticks: &[TickHash]| TickInputs {
        random: Hash([random; 32]),
        neighbours: List::try_from(ticks.to_vec()).unwrap(),
    };
    // Two links that name the same tick of ours, and a third that reaches a later one by two ways.
    let (one, two) = (link(1, &[alone.tick()]), link(2, &[alone.tick()]));
    let early = link(3, &[alone.tick()]);
    alone.wait(INDEX_TICK);
    let late = link(4, &[alone.tick()]);
    let fork = link(5, &[early.hash(), late.hash()]);
    let message = |links: &[&TickInputs]| IndexToIndex::Attestation {
        attestation: attest(1, 1, &[entry(2, 5)], links[0].hash()),
        proof: Proof::truncated(links.iter().map(|link| (*link).clone())),
    };
    let first = state(1, 1, &[entry(2, 5)], one.hash());
    alone.tell(neighbour, &IndexToIndex::State { state: first, proof: Proof::truncated([one.clone()]) });
    assert_eq!(alone.server.stats().accepted, 1);
    for _ in 0..3 {
        alone.tell(neighbour, &message(&[&two]));
        alone.tell(neighbour, &message(&[&one]));
    }
    assert_eq!(alone.server.stats().accepted, 1);
    let forked = state(7, 1, &[], fork.hash());
    alone.tell(
        neighbour,
        &IndexToIndex::State { state: forked.clone(), proof: Proof::truncated([fork.clone(), early]) },
    );
    assert_eq!(alone.server.stats().accepted, 2);
    alone.tell(neighbour, &IndexToIndex::State { state: forked, proof: Proof::truncated([fork, late]) });
    assert_eq!(alone.server.stats().accepted, 2);
}

#[test]
fn a_silent_node_leaves_and_its_record_follows_when_nothing_of_it_can_be_fresh() {
    let mut alone = alone();
    let conn = alone.node(1);
    alone.report(conn, 1, 1, &[entry(2, 5)]);
    alone.wait(minus(INDEX_NODE_TTL, Duration::from_micros(1)));
    assert_eq!(alone.server.stats().nodes, 1);
    alone.wait(Duration::from_micros(1));
    assert_eq!((alone.server.stats().nodes, alone.server.reports.remembered()), (0, 1));
    for _ in 0..ticks::TICK_MEMORY {
        alone.wait(INDEX_TICK);
    }
    assert_eq!(alone.server.reports.remembered(), 0);
}

#[test]
fn a_node_reports_for_itself_only() {
    let mut alone = alone();
    let conn = alone.node(1);
    let outputs = alone.report(conn, 2, 1, &[entry(3, 5)]);
    assert_eq!(reasons(&outputs), [EndReason::Misbehaved(Misbehaviour::NotItself)]);
    assert_eq!(alone.server.stats().clients, 0);
    assert_eq!(alone.known(2), []);
}

#[test]
fn a_forged_report_ends_the_session() {
    let mut alone = alone();
    let conn = alone.node(1);
    let mut forged = state(1, 1, &[entry(2, 5)], alone.tick());
    forged.attestation.version = 2;
    let outputs = alone.tell(conn, &NodeToIndex::State(forged));
    assert!(matches!(reasons(&outputs)[..], [EndReason::Misbehaved(Misbehaviour::Signature(_))]));
    let conn = alone.node(1);
    let mut other = state(1, 1, &[entry(2, 5)], alone.tick());
    other.entries = List::try_from(vec![entry(2, 6)]).unwrap();
    let outputs = alone.tell(conn, &NodeToIndex::State(other));
    assert_eq!(reasons(&outputs), [EndReason::Misbehaved(Misbehaviour::StateHash)]);
    let conn = alone.node(1);
    let outputs = alone.report(conn, 1, 1, &[entry(2, MAX_AMOUNT + 1)]);
    assert_eq!(reasons(&outputs), [EndReason::Misbehaved(Misbehaviour::Report(BadReport::Capacity))]);
    for forward_capacity in [51, (1 << 24) + 1] {
        let recv_capacity = if forward_capacity == 51 { 50 } else { MAX_AMOUNT };
        let conn = alone.node(1);
        let outputs = alone.report(conn, 1, 1, &[Entry { recv_capacity, forward_capacity, ..entry(2, 0) }]);
        assert_eq!(reasons(&outputs), [EndReason::Misbehaved(Misbehaviour::Report(BadReport::Forward))]);
    }
    let conn = alone.node(1);
    let outputs = alone.net(NetEvent::Message { conn, bytes: vec![0xff; 10] });
    assert!(matches!(reasons(&outputs)[..], [EndReason::Misbehaved(Misbehaviour::Malformed(_))]));
    assert_eq!(alone.known(1), []);
}

#[test]
fn nothing_is_heard_after_the_end() {
    let mut alone = alone();
    let conn = alone.node(1);
    alone.net(NetEvent::Message { conn, bytes: vec![] });
    assert_eq!(alone.report(conn, 1, 1, &[entry(2, 5)]), []);
    assert_eq!(alone.net(NetEvent::Closed { conn }), []);
    assert_eq!(alone.known(1), []);
}

#[test]
fn a_dead_session_that_lingers_never_refuses_a_returning_node() {
    let mut alone = alone();
    let old = alone.node(1);
    alone.report(old, 1, 1, &[entry(2, 5)]);
    let (new, outputs) = alone.connect(Purpose::NodeIndex, 1);
    assert_eq!(outputs[0], ServerOutput::Net(NetCommand::Close { conn: old }));
    assert_eq!(reasons(&outputs), [EndReason::Replaced]);
    assert!(outputs.contains(&ServerOutput::Net(NetCommand::Admit { conn: new })));
    assert_eq!(alone.net(NetEvent::Closed { conn: old }), []);
    alone.report(new, 1, 2, &[entry(2, 6)]);
    assert_eq!(alone.known(1), [entry(2, 6)]);
    assert_eq!(alone.server.stats().clients, 1);
}

#[test]
fn a_delta_or_attestation_about_an_unknown_report_is_met_with_want() {
    let mut alone = alone();
    let conn = alone.node(1);
    let outputs = alone.tell(conn, &NodeToIndex::Attestation(attest(1, 1, &[entry(2, 5)], alone.tick())));
    assert_eq!(to_node(&outputs, conn), [IndexToNode::Want]);
    let set = List::try_from(vec![entry(2, 6)]).unwrap();
    let attestation = attest(1, 2, &[entry(2, 6)], alone.tick());
    let delta = Delta { attestation, base: 1, set, removed: List::new() };
    let outputs = alone.tell(conn, &NodeToIndex::Delta(delta));
    assert_eq!(to_node(&outputs, conn), [IndexToNode::Want]);
    alone.report(conn, 1, 2, &[entry(2, 6)]);
    assert_eq!(alone.known(1), [entry(2, 6)]);
}

/// Found by the simulator: a node with an old copy of its database was in no graph until all its old reports had expired.
#[test]
fn a_node_that_forgot_its_versions_is_told_the_last_one() {
    let mut alone = alone();
    let conn = alone.node(1);
    alone.report(conn, 1, 700, &[entry(2, 5)]);
    let known = attest(1, 700, &[entry(2, 5)], alone.tick());
    let outputs = alone.tell(conn, &NodeToIndex::Attestation(attest(1, 3, &[entry(2, 6)], alone.tick())));
    assert_eq!(to_node(&outputs, conn), [IndexToNode::Later(known)]);
    // What is only heard twice is no reason for a word.
    assert_eq!(to_node(&alone.tell(conn, &NodeToIndex::Attestation(known)), conn), []);
    alone.report(conn, 1, 701, &[entry(2, 6)]);
    assert_eq!(alone.known(1), [entry(2, 6)]);
}

#[test]
fn what_another_server_knows_of_a_node_goes_to_the_node_or_on_and_only_once() {
    let mut alone = alone();
    let (one, _) = alone.neighbour(FRIEND);
    let (two, _) = alone.neighbour(FRIEND + 1);
    let node = alone.node(1);
    let later = |version| IndexToIndex::Later(attest(1, version, &[], TickHash([1; 32])));
    assert_eq!(alone.tell(one, &later(5)), [], "of a node that nobody knows");
    alone.report(node, 1, 3, &[entry(2, 5)]);
    assert_eq!(alone.tell(one, &later(3)), [], "not later");
    let outputs = alone.tell(one, &later(5));
    assert_eq!(to_node(&outputs, node), [IndexToNode::Later(attest(1, 5, &[], TickHash([1; 32])))]);
    assert_eq!(alone.tell(two, &later(6)), [], "told already");
    assert_eq!(alone.known(1), [entry(2, 5)], "nothing proves it fresh");
    alone.net(NetEvent::Closed { conn: node });
    alone.wait(INDEX_TICK);
    let outputs = alone.tell(two, &later(6));
    assert_eq!((to_server(&outputs, one), sent(&outputs, two).len()), (vec![later(6)], 0));
    assert_eq!(alone.tell(one, &later(6)), [], "it does not go round in a circle");
    alone.wait(INDEX_TICK);
    let forged = IndexToIndex::Later(Attestation { version: 9, ..attest(1, 7, &[], TickHash([1; 32])) });
    assert!(matches!(reasons(&alone.tell(two, &forged))[..], [EndReason::Misbehaved(Misbehaviour::Signature(_))]));
}

#[test]
fn a_server_that_says_what_is_over_is_told_the_later_word() {
    let mut alone = alone();
    let (neighbour, _) = alone.neighbour(FRIEND);
    let node = alone.node(1);
    alone.report(node, 1, 7, &[entry(2, 5)]);
    let known = attest(1, 7, &[entry(2, 5)], alone.tick());
    let old =
        |version| IndexToIndex::Attestation { attestation: attest(1, version, &[], alone.tick()), proof: Proof::new() };
    let old = old(3);
    let outputs = alone.tell(neighbour, &old);
    assert_eq!(to_server(&outputs, neighbour), [IndexToIndex::Later(known)]);
}

#[test]
fn a_client_that_asks_too_often_is_busy_and_only_that_one() {
    let mut alone = alone();
    let (greedy, modest) = (alone.node(1), alone.node(2));
    let ask = |alone: &mut Alone, conn, id| {
        let currency = "USD".parse().unwrap();
        let (source, destination) = (key(1), key(2));
        let request =
            RequestRoutes { id, currency, amount: 1, source, destination, exclude: List::new(), max_fee: None };
        let outputs = alone.tell(conn, &NodeToIndex::RequestRoutes(request));
        to_node(&outputs, conn).into_iter().next().unwrap()
    };
    for id in 0..QUERY_BURST {
        assert!(matches!(ask(&mut alone, greedy, id), IndexToNode::Routes(routes) if routes.id == id));
    }
    assert_eq!(ask(&mut alone, greedy, 500), IndexToNode::Busy { id: 500 });
    assert!(matches!(ask(&mut alone, modest, 1), IndexToNode::Routes(_)));
    alone.now += QUERY_INTERVAL;
    assert!(matches!(ask(&mut alone, greedy, 501), IndexToNode::Routes(_)));
    assert_eq!(ask(&mut alone, greedy, 502), IndexToNode::Busy { id: 502 });
    assert_eq!(alone.server.stats().busy, 2);
}

#[test]
fn a_flood_of_reports_ends_the_session() {
    let mut alone = alone();
    let conn = alone.node(1);
    for version in 1..=REPORT_BURST {
        assert_eq!(alone.report(conn, 1, version, &[entry(2, version.into())]), []);
    }
    let outputs = alone.report(conn, 1, REPORT_BURST + 1, &[entry(2, 1)]);
    assert_eq!(reasons(&outputs), [EndReason::Misbehaved(Misbehaviour::TooManyReports)]);
}

#[test]
fn limits_refuse_what_is_new_and_keep_what_is_there() {
    let limits = ServerLimits { max_nodes: 2, max_entries: 3, max_clients: 3, ..ServerLimits::default() };
    let mut alone = Alone::new(limits);
    let conns = [1, 2, 3].map(|node| alone.node(node));
    assert_eq!(reasons(&alone.connect(Purpose::NodeIndex, 4).1), [EndReason::Full]);
    alone.report(conns[0], 1, 1, &[entry(2, 1), entry(3, 1)]);
    alone.report(conns[1], 2, 1, &[entry(1, 1), entry(3, 1)]);
    assert_eq!((alone.known(1).len(), alone.known(2).len()), (2, 0));
    alone.report(conns[1], 2, 2, &[entry(1, 1)]);
    alone.report(conns[0], 1, 2, &[entry(2, 9), entry(3, 9)]);
    assert_eq!(alone.known(1), sorted(&[entry(2, 9), entry(3, 9)]));
    alone.report(conns[2], 3, 1, &[]);
    assert_eq!((alone.server.stats().nodes, alone.server.stats().refused), (2, 2));
}

#[test]
fn a_connection_for_another_purpose_is_closed() {
    let mut alone = alone();
    let (conn, outputs) = alone.connect(Purpose::AppNode, 1);
    assert_eq!(outputs[0], ServerOutput::Net(NetCommand::Close { conn }));
    assert_eq!(reasons(&outputs), [EndReason::Purpose]);
}

#[test]
fn an_untrusted_server_is_refused_and_hears_nothing() {
    let mut alone = alone();
    let (conn, outputs) = alone.connect(Purpose::IndexIndex, FRIEND);
    assert_eq!(outputs[0], ServerOutput::Net(NetCommand::Close { conn }));
    assert_eq!(reasons(&outputs), [EndReason::Untrusted]);
    assert_eq!(sent(&outputs, conn).len(), 0);
    assert_eq!(alone.tell(conn, &IndexToIndex::Tick { tick: TickHash([1; 32]), ripple: 0 }), []);
}

#[test]
fn a_server_does_not_trust_itself() {
    let outputs = alone().input(ServerInput::Trust { server: key(SERVER), address: address(SERVER) });
    assert_eq!(outputs, [ServerOutput::NotTrusted { server: key(SERVER), reason: TrustRefusal::Itself }]);
}

#[test]
fn a_distrusted_server_is_cut_off() {
    let mut alone = alone();
    let (conn, _) = alone.neighbour(FRIEND);
    let outputs = alone.input(ServerInput::Distrust { server: key(FRIEND) });
    assert!(outputs.contains(&ServerOutput::Net(NetCommand::Close { conn })));
    assert_eq!(alone.tell(conn, &IndexToIndex::Want { node: key(1) }), []);
    assert_eq!(reasons(&alone.connect(Purpose::IndexIndex, FRIEND).1), [EndReason::Untrusted]);
}

#[test]
fn reports_flood_to_neighbours_with_a_proof_that_they_can_check() {
    let mut alone = alone();
    let (neighbour, their_tick) = alone.neighbour(FRIEND);
    let conn = alone.node(1);
    let outputs = alone.report(conn, 1, 1, &[entry(2, 5)]);
    let [IndexToIndex::Attestation { attestation, proof }] = &to_server(&outputs, neighbour)[..] else { panic!() };
    assert_eq!((attestation.node, attestation.version), (key(1), 1));
    assert!(offset_protocol::index::proven_ticks(&attestation.time_hash, proof).unwrap().contains(&their_tick));
    let outputs = alone.tell(neighbour, &IndexToIndex::Want { node: key(1) });
    let [IndexToIndex::State { state, .. }] = &to_server(&outputs, neighbour)[..] else { panic!() };
    assert_eq!(&state.entries[..], [entry(2, 5)]);
    let set = List::try_from(vec![entry(2, 6)]).unwrap();
    let attestation = attest(1, 2, &[entry(2, 6)], alone.tick());
    let delta = Delta { attestation, base: 1, set, removed: List::new() };
    let outputs = alone.tell(conn, &NodeToIndex::Delta(delta));
    assert!(matches!(&to_server(&outputs, neighbour)[..], [IndexToIndex::Delta { delta, .. }] if delta.base == 1));
    assert_eq!(alone.tell(neighbour, &IndexToIndex::Want { node: key(77) }), []);
}

#[test]
fn a_neighbour_is_believed_only_with_a_proof_against_a_remembered_tick() {
    let mut alone = alone();
    let (neighbour, _) = alone.neighbour(FRIEND);
    let link = |tick| TickInputs { random: Hash([1; 32]), neighbours: List::try_from(vec![tick]).unwrap() };
    let message = |link: &TickInputs, version| IndexToIndex::State {
        state: state(1, version, &[entry(2, version.into())], link.hash()),
        proof: Proof::try_from(vec![link.clone()]).unwrap(),
    };
    let stranger = link(TickHash([9; 32]));
    assert_eq!(alone.tell(neighbour, &message(&stranger, 1)), []);
    assert_eq!(alone.known(1), []);
    let good = link(alone.tick());
    for _ in 0..ticks::TICK_MEMORY - 1 {
        alone.wait(INDEX_TICK);
    }
    alone.tell(neighbour, &message(&good, 2));
    assert_eq!(alone.known(1), [entry(2, 2)]);
    alone.wait(INDEX_TICK);
    alone.tell(neighbour, &message(&good, 3));
    assert_eq!(alone.known(1), [entry(2, 2)]);
    let broken = Proof::try_from(vec![link(alone.tick())]).unwrap();
    let attestation = attest(1, 4, &[], TickHash([5; 32]));
    let outputs = alone.tell(neighbour, &IndexToIndex::Attestation { attestation, proof: broken });
    assert!(matches!(reasons(&outputs)[..], [EndReason::Misbehaved(Misbehaviour::Proof(BrokenProof { link: 0 }))]));
}

#[test]
fn a_report_that_came_round_in_a_circle_is_not_passed_on_again() {
    let mut alone = alone();
    let (one, _) = alone.neighbour(FRIEND);
    let (two, _) = alone.neighbour(FRIEND + 1);
    alone.wait(EXTRA_TICK_GAP);
    let link = TickInputs { random: Hash([1; 32]), neighbours: List::try_from(vec![alone.tick()]).unwrap() };
    let proof = Proof::try_from(vec![link.clone()]).unwrap();
    let message = IndexToIndex::State { state: state(1, 1, &[], link.hash()), proof };
    let outputs = alone.tell(one, &message);
    assert_eq!((sent(&outputs, one).len(), sent(&outputs, two).len()), (0, 1));
    assert_eq!(alone.tell(two, &message), []);
}

#[test]
fn a_missing_report_is_wanted_once_from_whoever_speaks_of_it() {
    let mut alone = alone();
    let (one, _) = alone.neighbour(FRIEND);
    let (two, _) = alone.neighbour(FRIEND + 1);
    let link = TickInputs { random: Hash([1; 32]), neighbours: List::try_from(vec![alone.tick()]).unwrap() };
    let proof = Proof::try_from(vec![link.clone()]).unwrap();
    let attestation = attest(1, 1, &[], link.hash());
    let message = IndexToIndex::Attestation { attestation, proof };
    let outputs = alone.tell(one, &message);
    assert_eq!(to_server(&outputs, one), [IndexToIndex::Want { node: key(1) }]);
    assert_eq!(alone.tell(two, &message), []);
    // The one who was asked is gone: the next who speaks of it is asked.
    alone.net(NetEvent::Closed { conn: one });
    let outputs = alone.tell(two, &message);
    assert_eq!(to_server(&outputs, two), [IndexToIndex::Want { node: key(1) }]);
}

#[test]
fn a_burst_of_clients_brings_an_extra_tick_and_no_storm_of_them() {
    let mut alone = alone();
    let mut ticks = 0;
    for round in 0..20 {
        for node in 0..200 {
            let (conn, _) = alone.connect(Purpose::NodeIndex, node);
            alone.net(NetEvent::Closed { conn });
        }
        let before = alone.tick();
        alone.wait(Duration::from_millis(100));
        ticks += usize::from(alone.tick() != before);
        assert_eq!(ticks, 1, "round {round}");
    }
}

#[test]
fn a_stranger_cannot_make_a_server_do_more_than_answer() {
    let bytes = [PublicKey([0; 32]), PublicKey([255; 32])];
    let mut alone = alone();
    for stranger in bytes {
        alone.conns += 1;
        let conn = ConnId::incoming(alone.conns);
        alone.net(NetEvent::Incoming { conn, purpose: Purpose::NodeIndex, peer: stranger, from: address(1) });
        for length in 0..40 {
            alone.net(NetEvent::Message { conn, bytes: vec![length; usize::from(length)] });
        }
    }
    assert_eq!((alone.server.stats().nodes, alone.server.stats().clients), (0, 0));
}
