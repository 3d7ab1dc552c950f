//! One scenario for each rule of the node's side.

use offset_protocol::bytes::{Hash, TickHash};
use offset_protocol::codec::{List, decode, encode};
use offset_protocol::identity::Ed25519;
use offset_protocol::index::{IndexToNode, MultiRoute, NodeToIndex, RequestRoutes, RoutePart, Routes, state_hash};
use offset_protocol::limits::{MAX_AMOUNT, MAX_EXCLUDED_EDGES, MAX_INDEX_CURRENCIES, MAX_INDEX_ENTRIES};
use offset_protocol::machine::{Duration, Instant, Machine, Seed};
use offset_protocol::money::Rate;
use offset_protocol::net::{ConnId, ConnIds, NetCommand, NetEvent};
use offset_protocol::payment::CancelReason;

use super::*;
use crate::world::{World, address, entry, key, minus, signer};

const SECOND: Duration = Duration::from_secs(1);

/// One client, driven by hand.
struct Alone {
    client: IndexClient,
    now: Instant,
}

impl Alone {
    fn new(reserved_below: u64) -> Self {
        let now = Instant::from_micros(1_000_000);
        let client = IndexClient::new(now, signer(1), &Seed::from_number(1), ConnIds::lane(0, 1), reserved_below);
        Alone { client, now }
    }

    fn input(&mut self, input: ClientInput) -> Vec<ClientOutput> {
        self.client.handle(self.now, input);
        std::iter::from_fn(|| self.client.poll_output()).collect()
    }

    fn wait(&mut self, duration: Duration) -> Vec<ClientOutput> {
        self.now += duration;
        self.input(ClientInput::Tick)
    }

    fn add(&mut self, server: u8) -> Vec<ClientOutput> {
        self.input(ClientInput::AddServer { server: key(server), address: address(server) })
    }

    /// With reserved versions, a session with server 100, and no report yet.
    fn online() -> (Self, ConnId) {
        let mut alone = Alone::new(0);
        alone.input(ClientInput::Reserved { below: VERSION_BLOCK });
        let conn = call(&alone.add(100)).unwrap();
        alone.input(ClientInput::Net(NetEvent::Opened { conn }));
        (alone, conn)
    }

    fn hear(&mut self, conn: ConnId, message: &IndexToNode) -> Vec<ClientOutput> {
        self.input(ClientInput::Net(NetEvent::Message { conn, bytes: encode(message) }))
    }

    /// What a tick is answered with, whenever that is.
    fn tick(&mut self, conn: ConnId, n: u8) -> Vec<NodeToIndex> {
        let mut outputs = self.hear(conn, &IndexToNode::Tick(TickHash([n; 32])));
        if let Link::Up(Session { heartbeat_at: Some(at), .. }) = self.client.link {
            self.now = self.now.max(at);
            outputs.extend(self.input(ClientInput::Tick));
        }
        said(&outputs)
    }

    fn set(&mut self, friend: u8, capacity: u128) -> Vec<NodeToIndex> {
        said(&self.input(ClientInput::SetEntry(entry(friend, capacity))))
    }
}

fn call(outputs: &[ClientOutput]) -> Option<ConnId> {
    outputs.iter().find_map(|output| match output {
        ClientOutput::Net(NetCommand::Connect { conn, .. }) => Some(*conn),
        _ => None,
    })
}

fn said(outputs: &[ClientOutput]) -> Vec<NodeToIndex> {
    let message = |output: &ClientOutput| match output {
        ClientOutput::Net(NetCommand::Send { bytes, .. }) => Some(decode(bytes, MAX_FRAME).unwrap()),
        _ => None,
    };
    outputs.iter().filter_map(message).collect()
}

fn results(outputs: &[ClientOutput]) -> Vec<(u64, Result<FoundRoutes, RouteFailure>)> {
    let result = |output: &ClientOutput| match output {
        ClientOutput::Routes { local, result } => Some((*local, result.clone())),
        _ => None,
    };
    outputs.iter().filter_map(result).collect()
}

fn query(amount: u128) -> RouteQuery {
    let (source, destination) = (key(1), key(3));
    RouteQuery {
        currency: "USD".parse().unwrap(),
        amount,
        source,
        destination,
        exclude: List::new(),
        max_fee: Some(10),
    }
}

fn answer(id: u64, route: &[u8], amount: u128, fees: u128) -> IndexToNode {
    let route = List::truncated(route.iter().map(|n| key(*n)));
    let option = MultiRoute { parts: List::try_from(vec![RoutePart { route, amount, fees }]).unwrap() };
    IndexToNode::Routes(Routes { id, options: List::try_from(vec![option]).unwrap(), capped: false })
}

#[test]
fn on_connecting_the_whole_report_goes_out_and_then_changes() {
    let (mut alone, conn) = Alone::online();
    assert_eq!(alone.set(2, 50), []);
    let said = alone.tick(conn, 1);
    let [NodeToIndex::State(state)] = &said[..] else { panic!("{said:?}") };
    assert_eq!(&state.entries[..], [entry(2, 50)]);
    assert_eq!(state.attestation.state_hash, state_hash(&[entry(2, 50)]));
    assert_eq!(state.attestation.time_hash, TickHash([1; 32]));
    assert!(state.attestation.verify(&Ed25519).is_ok());
    let base = state.attestation.version;
    alone.wait(SECOND);
    let said = alone.set(2, 60);
    let [NodeToIndex::Delta(delta)] = &said[..] else { panic!("{said:?}") };
    assert_eq!((delta.base, delta.attestation.version, &delta.set[..]), (base, base + 1, &[entry(2, 60)][..]));
}

#[test]
fn without_change_a_heartbeat_is_one_attestation_of_the_same_version() {
    let (mut alone, conn) = Alone::online();
    alone.tick(conn, 1);
    alone.now += HEARTBEAT_GAP;
    let said = alone.tick(conn, 2);
    let [NodeToIndex::Attestation(first)] = said[..] else { panic!("{said:?}") };
    assert_eq!(first.time_hash, TickHash([2; 32]));
    alone.now += HEARTBEAT_GAP;
    let said = alone.tick(conn, 3);
    assert!(matches!(said[..], [NodeToIndex::Attestation(next)] if next.version == first.version));
}

#[test]
fn a_few_extra_ticks_are_answered_and_many_are_only_heard() {
    let (mut alone, conn) = Alone::online();
    alone.tick(conn, 1);
    let answers = |alone: &mut Alone| (2..50).map(|n| alone.tick(conn, n).len() as u64).sum::<u64>();
    assert_eq!(answers(&mut alone), HEARTBEAT_BURST - 1, "the whole report was the first");
    alone.now += HEARTBEAT_GAP;
    assert_eq!(answers(&mut alone), 1);
    assert!(matches!(alone.tick(conn, 50)[..], []));
    alone.now += HEARTBEAT_GAP;
    assert!(
        matches!(alone.tick(conn, 51)[..], [NodeToIndex::Attestation(next)] if next.time_hash == TickHash([51; 32]))
    );
}

/// A hundred thousand nodes hear a tick at once; what they answered came in one burst.
#[test]
fn nodes_answer_a_tick_at_different_moments_and_each_seed_at_its_own() {
    let pause = |seed: u64| {
        let now = Instant::from_micros(1_000_000);
        let client = IndexClient::new(now, signer(1), &Seed::from_number(seed), ConnIds::lane(0, 1), 0);
        let mut alone = Alone { client, now };
        alone.input(ClientInput::Reserved { below: VERSION_BLOCK });
        let conn = call(&alone.add(100)).unwrap();
        alone.input(ClientInput::Net(NetEvent::Opened { conn }));
        assert_eq!(alone.tick(conn, 1).len(), 1, "a server that knows nothing is told at once");
        assert_eq!(alone.now, now);
        alone.hear(conn, &IndexToNode::Tick(TickHash([2; 32])));
        let at = alone.client.poll_timeout().unwrap();
        assert_eq!(at.why, "heartbeat");
        at.at.since(now)
    };
    let pauses: Vec<Duration> = (0..40).map(pause).collect();
    assert!(pauses.iter().all(|pause| *pause < HEARTBEAT_SPREAD));
    let half = Duration::from_millis(250);
    assert!((8..32).contains(&pauses.iter().filter(|pause| **pause < half).count()), "{pauses:?}");
    assert_eq!(pause(7), pauses[7]);
}

#[test]
fn what_is_told_before_the_heartbeat_takes_its_place() {
    let (mut alone, conn) = Alone::online();
    alone.tick(conn, 1);
    alone.wait(SECOND);
    assert_eq!(said(&alone.hear(conn, &IndexToNode::Tick(TickHash([2; 32])))), []);
    let said_now = alone.set(2, 5);
    assert!(matches!(&said_now[..], [NodeToIndex::Delta(delta)] if delta.attestation.time_hash == TickHash([2; 32])));
    assert_eq!(said(&alone.wait(HEARTBEAT_SPREAD)), []);
}

#[test]
fn changes_that_come_together_leave_together_a_few_times_in_a_row_and_then_once_a_second() {
    let (mut alone, conn) = Alone::online();
    alone.tick(conn, 1);
    alone.wait(DELTA_GAP.times(DELTA_BURST));
    let (began, mut left) = (alone.now, Vec::new());
    let mut capacity = 0;
    while alone.now < began + SECOND.times(10) {
        // Two changes at a time, whenever it may speak.
        capacity += 1_000;
        for said in [alone.set(2, capacity), alone.set(3, capacity)] {
            left.extend(said.iter().map(|_| alone.now.since(began)));
        }
        let at = alone.client.poll_timeout().unwrap().at;
        let said = said(&alone.wait(at.since(alone.now)));
        let [NodeToIndex::Delta(delta)] = &said[..] else { panic!("{said:?}") };
        assert_eq!(delta.set.iter().map(|entry| entry.recv_capacity).max(), Some(capacity));
        left.push(alone.now.since(began));
    }
    let close: Vec<_> = (0..DELTA_BURST).map(|n| DELTA_CLOSEST.times(n)).collect();
    let (first, rest) = left.split_at(close.len());
    assert_eq!(first, close);
    let sustained: Vec<_> = (1..=rest.len() as u64).map(|n| DELTA_GAP.times(n)).collect();
    assert_eq!(rest, sustained);
    alone.wait(SECOND);
    let gone = entry(2, 0).key();
    let said = super::tests::said(&alone.input(ClientInput::RemoveEntry(gone)));
    assert!(matches!(&said[..], [NodeToIndex::Delta(delta)] if delta.removed[..] == [gone] && delta.set.is_empty()));
}

#[test]
fn a_small_change_waits_for_the_heartbeat_and_a_closed_edge_does_not() {
    let (mut alone, conn) = Alone::online();
    alone.set(2, 1_000);
    alone.tick(conn, 1);
    alone.wait(SECOND.times(5));
    assert_eq!(alone.set(2, 1_009), []);
    assert_eq!(alone.set(2, 991), []);
    alone.now += HEARTBEAT_GAP;
    assert!(matches!(&alone.tick(conn, 2)[..], [NodeToIndex::Delta(delta)] if delta.set[..] == [entry(2, 991)]));
    alone.wait(SECOND);
    assert_eq!(alone.set(2, 1_001).len(), 1);
    alone.wait(SECOND);
    assert_eq!(alone.set(2, 0).len(), 1);
    alone.wait(SECOND);
    assert_eq!(alone.set(2, 1).len(), 1);
    alone.wait(SECOND);
    let dearer = Entry { rate: Rate { mul: 0, add: 2 }, ..entry(2, 1) };
    assert_eq!(said(&alone.input(ClientInput::SetEntry(dearer))).len(), 1);
}

#[test]
fn what_may_be_passed_on_is_news_as_what_may_end_is() {
    let (mut alone, conn) = Alone::online();
    let says = |alone: &mut Alone, most| {
        alone.wait(SECOND);
        said(&alone.input(ClientInput::SetEntry(entry(2, 3_000).forwarding(most)))).len()
    };
    says(&mut alone, 1_000);
    alone.tick(conn, 1);
    alone.wait(SECOND.times(5));
    assert_eq!(says(&mut alone, 991), 0, "less than 1 %");
    assert_eq!(says(&mut alone, 990), 1, "1 % of what is passed on, though nothing else has changed");
    assert_eq!(says(&mut alone, 0), 1);
    assert_eq!(says(&mut alone, 1), 1);
}

#[test]
fn what_no_server_would_take_is_told_as_the_next_that_it_would() {
    let (mut alone, conn) = Alone::online();
    let boast = |recv_capacity, forward_capacity| Entry { recv_capacity, forward_capacity, ..entry(2, 1) };
    alone.input(ClientInput::SetEntry(boast(u128::MAX, u128::MAX)));
    alone.input(ClientInput::SetEntry(Entry { friend: key(3), ..boast(5, 6) }));
    alone.input(ClientInput::SetEntry(Entry { friend: key(4), ..boast(1 << 30, (1 << 25) + 1) }));
    let told = [boast(MAX_AMOUNT, MAX_AMOUNT), boast(5, 5), boast(1 << 30, 1 << 25)];
    let mut told: Vec<_> = (2..).zip(told).map(|(friend, entry)| Entry { friend: key(friend), ..entry }).collect();
    told.sort_unstable();
    let said = alone.tick(conn, 1);
    let [NodeToIndex::State(state)] = &said[..] else { panic!("{said:?}") };
    assert_eq!((&state.entries[..], state.check()), (&told[..], Ok(())));
}

#[test]
fn a_change_that_is_taken_back_is_not_told() {
    let (mut alone, conn) = Alone::online();
    alone.set(2, 50);
    alone.tick(conn, 1);
    alone.set(2, 70);
    alone.set(2, 50);
    assert_eq!(said(&alone.wait(SECOND)), []);
}

#[test]
fn a_server_that_wants_it_gets_the_whole_report() {
    let (mut alone, conn) = Alone::online();
    alone.set(2, 50);
    alone.tick(conn, 1);
    alone.wait(SECOND);
    let said = said(&alone.hear(conn, &IndexToNode::Want));
    assert!(matches!(&said[..], [NodeToIndex::State(state)] if state.entries.len() == 1));
}

#[test]
fn versions_that_an_old_copy_does_not_know_of_are_skipped() {
    let (mut alone, conn) = Alone::online();
    alone.set(2, 50);
    alone.tick(conn, 1);
    let later =
        |version, by| IndexToNode::Later(Attestation::sign(&signer(by), version, Hash([0; 32]), TickHash([9; 32])));
    // Nobody but the node itself can make it skip versions.
    assert_eq!(alone.hear(conn, &later(5_000, 2)), []);
    let mut altered = later(5_000, 1);
    if let IndexToNode::Later(attestation) = &mut altered {
        attestation.version += 1;
    }
    assert_eq!(alone.hear(conn, &altered), []);
    let outputs = alone.hear(conn, &later(5_000, 1));
    assert_eq!(outputs, [ClientOutput::ReserveVersions { below: 5_001 + VERSION_BLOCK }]);
    alone.wait(SECOND);
    let said = said(&alone.input(ClientInput::Reserved { below: 5_001 + VERSION_BLOCK }));
    assert!(matches!(&said[..], [NodeToIndex::State(state)] if state.attestation.version == 5_001), "{said:?}");
    assert_eq!(alone.hear(conn, &later(5_000, 1)), []);
}

#[test]
fn no_version_leaves_before_it_is_reserved_for_good() {
    let mut alone = Alone::new(7_000);
    let born: Vec<_> = std::iter::from_fn(|| alone.client.poll_output()).collect();
    assert_eq!(born, [ClientOutput::ReserveVersions { below: 7_000 + VERSION_BLOCK }]);
    let conn = call(&alone.add(100)).unwrap();
    alone.input(ClientInput::Net(NetEvent::Opened { conn }));
    assert_eq!(alone.tick(conn, 1), []);
    let said = said(&alone.input(ClientInput::Reserved { below: 7_000 + VERSION_BLOCK }));
    assert!(matches!(&said[..], [NodeToIndex::State(state)] if state.attestation.version == 7_000));
}

#[test]
fn a_block_of_versions_is_reserved_before_the_last_one_is_used_up() {
    let (mut alone, conn) = Alone::online();
    alone.tick(conn, 1);
    let mut reserved = Vec::new();
    for n in 0..600_u128 {
        alone.now += SECOND;
        let outputs = alone.input(ClientInput::SetEntry(entry(2, 1 + n % 2)));
        reserved.extend(outputs.into_iter().filter(|output| matches!(output, ClientOutput::ReserveVersions { .. })));
        alone.tick(conn, 1);
    }
    assert_eq!(reserved, [ClientOutput::ReserveVersions { below: 2 * VERSION_BLOCK }]);
}

#[test]
fn without_a_reserved_version_the_node_stays_alive() {
    let mut alone = Alone::new(0);
    alone.input(ClientInput::Reserved { below: 1 });
    let conn = call(&alone.add(100)).unwrap();
    alone.input(ClientInput::Net(NetEvent::Opened { conn }));
    assert_eq!(alone.tick(conn, 1).len(), 1);
    alone.wait(SECOND);
    assert_eq!(alone.set(2, 50), []);
    alone.now += HEARTBEAT_GAP;
    assert!(matches!(alone.tick(conn, 2)[..], [NodeToIndex::Attestation(attestation)] if attestation.version == 0));
    assert!(matches!(&said(&alone.input(ClientInput::Reserved { below: 9 }))[..], []));
    assert!(matches!(&said(&alone.wait(SECOND))[..], [NodeToIndex::Delta(_)]));
}

#[test]
fn a_request_without_any_server_fails_at_once() {
    let mut alone = Alone::new(0);
    let outputs = alone.input(ClientInput::Request { local: 5, query: query(1) });
    assert_eq!(results(&outputs), [(5, Err(RouteFailure::NoServer))]);
}

#[test]
fn a_request_while_nobody_is_reachable_fails_at_its_deadline() {
    let mut alone = Alone::new(0);
    let conn = call(&alone.add(100)).unwrap();
    assert_eq!(alone.input(ClientInput::Request { local: 5, query: query(1) }), []);
    alone.input(ClientInput::Net(NetEvent::Closed { conn }));
    assert_eq!(results(&alone.wait(minus(REQUEST_DEADLINE, SECOND))), []);
    assert_eq!(results(&alone.wait(SECOND)), [(5, Err(RouteFailure::Unreachable))]);
    assert_eq!(results(&alone.wait(REQUEST_DEADLINE)), []);
}

#[test]
fn a_request_that_the_server_does_not_answer_fails_at_its_deadline_and_a_late_answer_is_nobodys() {
    let (mut alone, conn) = Alone::online();
    let asked = said(&alone.input(ClientInput::Request { local: 5, query: query(20) }));
    let [NodeToIndex::RequestRoutes(request)] = &asked[..] else { panic!() };
    assert_eq!(results(&alone.wait(REQUEST_DEADLINE)), [(5, Err(RouteFailure::Timeout))]);
    assert_eq!(alone.hear(conn, &answer(request.id, &[1, 2, 3], 20, 1)), []);
}

#[test]
fn an_answer_and_busy_go_to_their_request() {
    let (mut alone, conn) = Alone::online();
    let mut ids = Vec::new();
    for local in [7, 8] {
        let asked = said(&alone.input(ClientInput::Request { local, query: query(20) }));
        let [NodeToIndex::RequestRoutes(request)] = &asked[..] else { panic!() };
        ids.push(request.id);
    }
    assert_eq!(results(&alone.hear(conn, &IndexToNode::Busy { id: ids[1] })), [(8, Err(RouteFailure::Busy))]);
    let found = results(&alone.hear(conn, &answer(ids[0], &[1, 2, 3], 20, 1)));
    assert!(matches!(&found[..], [(7, Ok(found))] if found.options.len() == 1 && !found.capped));
    assert_eq!(alone.hear(conn, &IndexToNode::Busy { id: ids[0] }), []);
}

fn asks(outputs: &[ClientOutput]) -> RequestRoutes {
    let asked = said(outputs);
    let [NodeToIndex::RequestRoutes(request)] = &asked[..] else { panic!("{asked:?}") };
    request.clone()
}

fn nothing(id: u64) -> IndexToNode {
    IndexToNode::Routes(Routes { id, options: List::new(), capped: false })
}

#[test]
fn edges_that_failed_are_left_out_for_a_while_unless_nothing_is_found_without_them() {
    let (mut alone, conn) = Alone::online();
    let edge = |from: u8, to: u8| Edge { from: key(from), to: key(to) };
    let currency = "USD".parse().unwrap();
    let failed = FailedEdge { edge: edge(2, 3), currency, reason: CancelReason::Offline };
    alone.input(ClientInput::EdgeFailed(failed));
    let mut own = query(20);
    own.exclude = List::truncated([edge(5, 6)]);
    let first = asks(&alone.input(ClientInput::Request { local: 7, query: own.clone() }));
    assert_eq!(first.exclude.to_vec(), [edge(5, 6), edge(2, 3)]);
    // Asked once more, under the same number, and then no more.
    let second = asks(&alone.hear(conn, &nothing(first.id)));
    assert_eq!((second.id, second.exclude.to_vec()), (first.id, vec![edge(5, 6)]));
    let found = results(&alone.hear(conn, &nothing(first.id)));
    assert!(matches!(&found[..], [(7, Ok(found))] if found.options.is_empty()));
    // What is found without it is the answer; when its rest is over it is not left out.
    let third = asks(&alone.input(ClientInput::Request { local: 8, query: query(20) }));
    assert_eq!(results(&alone.hear(conn, &answer(third.id, &[1, 4, 3], 20, 1))).len(), 1);
    alone.wait(failed::LONG_REST);
    let fourth = asks(&alone.input(ClientInput::Request { local: 9, query: query(20) }));
    assert!(fourth.exclude.is_empty());
}

#[test]
fn a_question_that_excludes_as_much_as_it_may_leaves_out_no_more() {
    let (mut alone, _) = Alone::online();
    let currency = "USD".parse().unwrap();
    for n in 0..failed::MAX_REMEMBERED as u8 {
        let edge = Edge { from: key(n), to: key(200) };
        alone.input(ClientInput::EdgeFailed(FailedEdge { edge, currency, reason: CancelReason::Busy }));
    }
    let mut full = query(20);
    full.exclude = List::truncated((0..MAX_EXCLUDED_EDGES as u8).map(|n| Edge { from: key(n), to: key(201) }));
    let asked = asks(&alone.input(ClientInput::Request { local: 7, query: full.clone() }));
    assert_eq!(asked.exclude, full.exclude);
}

#[test]
fn a_server_that_answers_nonsense_is_left_and_the_next_one_asked() {
    for nonsense in [
        answer(1, &[1, 2], 20, 1),
        answer(1, &[2, 3], 20, 1),
        answer(1, &[1, 2, 2, 3], 20, 1),
        answer(1, &[1, 2, 3], 21, 1),
        answer(1, &[1, 2, 3], 20, 11),
        answer(1, &[], 20, 1),
    ] {
        let (mut alone, conn) = Alone::online();
        alone.add(101);
        alone.input(ClientInput::Request { local: 7, query: query(20) });
        let outputs = alone.hear(conn, &nonsense);
        assert_eq!(outputs[0], ClientOutput::Net(NetCommand::Close { conn }));
        assert_eq!(results(&outputs), []);
        let outputs = alone.wait(SECOND);
        let Some(ClientOutput::Net(NetCommand::Connect { conn, peer, .. })) = outputs.first() else { panic!() };
        assert_eq!(*peer, key(101));
        let asked = said(&alone.input(ClientInput::Net(NetEvent::Opened { conn: *conn })));
        assert!(matches!(&asked[..], [NodeToIndex::RequestRoutes(request)] if request.id == 1));
    }
}

#[test]
fn too_many_requests_and_impossible_amounts_are_refused() {
    let (mut alone, _) = Alone::online();
    for amount in [0, u128::MAX] {
        let outputs = alone.input(ClientInput::Request { local: 1, query: query(amount) });
        assert_eq!(results(&outputs), [(1, Err(RouteFailure::Amount))]);
    }
    for local in 0..MAX_OPEN_REQUESTS as u64 {
        assert_eq!(results(&alone.input(ClientInput::Request { local, query: query(1) })), []);
    }
    let outputs = alone.input(ClientInput::Request { local: 9_999, query: query(1) });
    assert_eq!(results(&outputs), [(9_999, Err(RouteFailure::TooMany))]);
    assert_eq!(results(&alone.wait(REQUEST_DEADLINE)).len(), MAX_OPEN_REQUESTS);
}

#[test]
fn removing_the_last_server_answers_everybody_who_waits() {
    let (mut alone, conn) = Alone::online();
    alone.input(ClientInput::Request { local: 7, query: query(20) });
    let outputs = alone.input(ClientInput::RemoveServer { server: key(100) });
    assert!(outputs.contains(&ClientOutput::Net(NetCommand::Close { conn })));
    assert_eq!(results(&outputs), [(7, Err(RouteFailure::NoServer))]);
    assert_eq!(alone.client.poll_timeout(), None);
    assert_eq!(alone.client.server(), None);
}

#[test]
fn pauses_between_calls_grow_and_servers_take_turns() {
    let mut alone = Alone::new(0);
    let mut outputs = alone.add(100);
    outputs.extend(alone.add(101));
    let mut calls = Vec::new();
    for _ in 0..30 {
        for output in std::mem::take(&mut outputs) {
            if let ClientOutput::Net(NetCommand::Connect { conn, peer, .. }) = output {
                calls.push((alone.now, peer));
                alone.input(ClientInput::Net(NetEvent::Closed { conn }));
            }
        }
        let at = alone.client.poll_timeout().unwrap().at;
        outputs = alone.wait(at.since(alone.now));
    }
    assert!(calls.len() > 20);
    assert!(calls.windows(2).all(|pair| pair[0].1 != pair[1].1));
    let pause = |pair: &[(Instant, PublicKey)]| pair[1].0.since(pair[0].0);
    assert!(calls.windows(2).all(|pair| pause(pair) <= Duration::from_secs(60)));
    assert!(calls.windows(2).skip(18).any(|pair| pause(pair) >= Duration::from_secs(30)));
}

#[test]
fn a_server_that_falls_silent_is_left() {
    let (mut alone, conn) = Alone::online();
    alone.tick(conn, 1);
    assert_eq!(alone.wait(minus(TICK_PATIENCE, SECOND)), []);
    let outputs = alone.wait(SECOND);
    assert_eq!(outputs[0], ClientOutput::Net(NetCommand::Close { conn }));
    let mut alone = Alone::new(0);
    let conn = call(&alone.add(100)).unwrap();
    assert_eq!(alone.wait(CALL_PATIENCE), [ClientOutput::Net(NetCommand::Close { conn })]);
}

#[test]
fn a_report_has_an_end_and_a_node_is_not_its_own_friend() {
    let mut alone = Alone::new(0);
    let outputs = alone.input(ClientInput::SetEntry(entry(1, 5)));
    let key = entry(1, 5).key();
    assert!(outputs.contains(&ClientOutput::EntryRefused { key, reason: EntryRefusal::Itself }));
    let numbered = |n: usize| {
        let friend = PublicKey(offset_protocol::context::LOCK.hasher().u64(n as u64).finish().0);
        Entry { friend, ..entry(1, 5) }
    };
    for n in 0..MAX_INDEX_ENTRIES {
        assert_eq!(alone.input(ClientInput::SetEntry(numbered(n))), []);
    }
    let outputs = alone.input(ClientInput::SetEntry(numbered(MAX_INDEX_ENTRIES)));
    assert!(matches!(&outputs[..], [ClientOutput::EntryRefused { reason: EntryRefusal::TooMany, .. }]));
    assert_eq!(alone.input(ClientInput::SetEntry(Entry { recv_capacity: 6, ..numbered(7) })), []);
}

#[test]
fn a_node_that_crashed_never_uses_a_version_again() {
    let mut world = World::new();
    world.start_server(100, &[]);
    world.start_client(1, &[100], &[entry(2, 50)]);
    world.run(SECOND.times(3));
    world.start_client(1, &[100], &[entry(2, 70)]);
    world.run(SECOND.times(3));
    assert_eq!(world.known(100, 1), [entry(2, 70)]);
    world.start_client(1, &[100], &[]);
    world.run(SECOND.times(3));
    assert_eq!(world.known(100, 1), []);
}

#[test]
fn a_restarted_server_hears_everything_again_and_requests_survive_the_restart() {
    let mut world = World::new();
    world.start_server(100, &[]);
    world.start_client(1, &[100], &[entry(2, 50)]);
    world.start_client(2, &[100], &[entry(1, 50), entry(3, 50)]);
    world.start_client(3, &[100], &[entry(2, 50)]);
    world.run(SECOND.times(3));
    world.start_server(100, &[]);
    world.run(Duration::from_millis(1));
    world.client_input(1, ClientInput::Request { local: 1, query: query(20) });
    world.run(SECOND.times(5));
    world.client_input(1, ClientInput::Request { local: 2, query: query(20) });
    world.run(SECOND);
    let results: Vec<_> = world.answers.iter().flat_map(|(_, output)| results(std::slice::from_ref(output))).collect();
    assert!(matches!(&results[..], [(1, Ok(_)), (2, Ok(found))] if found.options.len() == 1), "{results:?}");
}

#[test]
fn when_its_server_dies_a_node_goes_to_the_next() {
    let mut world = World::new();
    world.start_server(100, &[]);
    world.start_server(101, &[]);
    world.start_client(1, &[101, 100], &[entry(2, 50)]);
    world.run(SECOND.times(3));
    let first = world.client(1).server().unwrap();
    let (first, second) = if first == key(100) { (100, 101) } else { (101, 100) };
    world.stop(first);
    world.run(SECOND.times(2));
    assert_eq!(world.client(1).server(), Some(key(second)));
    assert_eq!(world.known(second, 1), [entry(2, 50)]);
}

#[test]
fn garbage_from_a_server_ends_the_session_and_nothing_else() {
    let (mut alone, conn) = Alone::online();
    let outputs = alone.input(ClientInput::Net(NetEvent::Message { conn, bytes: vec![1, 2, 3] }));
    assert_eq!(outputs[0], ClientOutput::Net(NetCommand::Close { conn }));
    assert_eq!(alone.input(ClientInput::Net(NetEvent::Message { conn, bytes: vec![1, 2, 3] })), []);
}

/// A server ignores a report of more: the node would be in no graph.
#[test]
fn a_report_never_has_more_currencies_than_a_server_takes() {
    let (mut alone, _) = Alone::online();
    let of = |n: usize| Entry { currency: format!("C{n}").parse().unwrap(), ..entry(2, 1) };
    let refused = |outputs: &[ClientOutput]| {
        outputs
            .iter()
            .any(|output| matches!(output, ClientOutput::EntryRefused { reason: EntryRefusal::TooManyCurrencies, .. }))
    };
    for n in 0..MAX_INDEX_CURRENCIES {
        assert!(!refused(&alone.input(ClientInput::SetEntry(of(n)))));
    }
    assert!(refused(&alone.input(ClientInput::SetEntry(of(MAX_INDEX_CURRENCIES)))));
    assert!(!refused(&alone.input(ClientInput::SetEntry(Entry { friend: key(3), ..of(0) }))), "a known currency");
    for friend in [2, 3] {
        assert!(refused(&alone.input(ClientInput::SetEntry(of(MAX_INDEX_CURRENCIES)))));
        alone.input(ClientInput::RemoveEntry(Entry { friend: key(friend), ..of(0) }.key()));
    }
    assert!(
        !refused(&alone.input(ClientInput::SetEntry(of(MAX_INDEX_CURRENCIES)))),
        "a currency that nobody names any more"
    );
}
