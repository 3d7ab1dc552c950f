//! Searches beside the server: what they see, who gets his turn, and what is met with `Busy`.

use offset_protocol::codec::List;
use offset_protocol::index::{IndexToNode, NodeToIndex, RequestRoutes, Routes};
use offset_protocol::limits::INDEX_TICK;
use offset_protocol::machine::{Duration, Machine};
use offset_protocol::net::{ConnId, NetEvent};

use super::searches::{
    CLIENT_WORK_BURST, CLIENT_WORK_INTERVAL, EXCLUDED_IN_UNIT, QUICK_BEFORE_FULL, SEARCH_PATIENCE, SEARCHES_AHEAD,
    WORK_BURST, WORK_INTERVAL, WORK_UNIT,
};
use super::tests::{Alone, to_node};
use super::*;
use crate::search::Workspace;
use crate::world::{entry, key};

/// Nodes of each half. All of a half are friends of each other, and nothing leads to the other half.
const HALF: u8 = 30;

fn limits() -> ServerLimits {
    ServerLimits { workers: 1, ..ServerLimits::default() }
}

fn request(id: u64, source: u8, destination: u8) -> RequestRoutes {
    RequestRoutes {
        id,
        currency: "USD".parse().unwrap(),
        amount: 1,
        source: key(source),
        destination: key(destination),
        exclude: List::new(),
        max_fee: None,
    }
}

/// A server whose searches are done when a test says so, with friends 1 and 2.
fn pair(limits: ServerLimits) -> (Alone, [ConnId; 2]) {
    let mut alone = Alone::new(limits);
    alone.held = Some(Vec::new());
    let conns = [1, 2].map(|node| alone.node(node));
    alone.report(conns[0], 1, 1, &[entry(2, 5)]);
    alone.report(conns[1], 2, 1, &[entry(1, 5)]);
    (alone, conns)
}

/// Nodes 1 to 60 in two halves. A search from one half to the other looks at everything.
fn halves(limits: ServerLimits) -> (Alone, Vec<ConnId>) {
    let mut alone = Alone::new(limits);
    alone.held = Some(Vec::new());
    let conns: Vec<ConnId> = (1..=2 * HALF).map(|node| alone.node(node)).collect();
    for node in 1..=2 * HALF {
        let friends = (1..=2 * HALF).filter(|friend| *friend != node && (*friend > HALF) == (node > HALF));
        let entries = friends.map(|friend| entry(friend, 1_000)).collect::<Vec<_>>();
        alone.report(conns[usize::from(node) - 1], node, 1, &entries);
    }
    (alone, conns)
}

fn ask(alone: &mut Alone, conn: ConnId, request: &RequestRoutes) -> Vec<IndexToNode> {
    let outputs = alone.tell(conn, &NodeToIndex::RequestRoutes(request.clone()));
    to_node(&outputs, conn)
}

fn out(alone: &Alone) -> usize {
    alone.held.as_ref().unwrap().len()
}

/// Does the oldest search that is out, and brings back what it found.
fn search(alone: &mut Alone) -> Vec<ServerOutput> {
    let search = alone.held.as_mut().unwrap().remove(0);
    alone.input(ServerInput::Found(search.run(&mut Workspace::new())))
}

/// Does all quick searches that are out or come out meanwhile.
fn search_quick(alone: &mut Alone) {
    let quick = |search: &Search| search.work() < limits().work;
    while let Some(at) = alone.held.as_ref().unwrap().iter().position(quick) {
        let found = alone.held.as_mut().unwrap().remove(at).run(&mut Workspace::new());
        alone.input(ServerInput::Found(found));
    }
}

fn routes(said: &[IndexToNode]) -> &Routes {
    match said {
        [IndexToNode::Routes(routes)] => routes,
        _ => panic!("{said:?}"),
    }
}

#[test]
fn a_search_sees_the_graph_as_it_was_when_it_began() {
    let (mut alone, conns) = pair(limits());
    assert_eq!(ask(&mut alone, conns[0], &request(7, 1, 2)), []);
    alone.report(conns[0], 1, 2, &[]);
    alone.report(conns[1], 2, 2, &[]);
    assert!(alone.server.graph().currency(&"USD".parse().unwrap()).is_none(), "reports are taken in meanwhile");
    assert_eq!(alone.server.stats().searching, 1);
    let outputs = search(&mut alone);
    let found = to_node(&outputs, conns[0]);
    assert_eq!((routes(&found).id, routes(&found).options.len()), (7, 1));
    assert_eq!(alone.server.stats().unsound, 0, "it was right when it was searched for");
    assert_eq!(routes(&ask(&mut alone, conns[0], &request(8, 1, 2))).options.len(), 0);
}

#[test]
fn what_is_found_goes_to_nobody_but_who_asked() {
    let (mut alone, conns) = pair(limits());
    ask(&mut alone, conns[0], &request(7, 1, 2));
    alone.net(NetEvent::Closed { conn: conns[0] });
    let again = alone.node(1);
    assert_eq!(search(&mut alone), [], "the connection that asked is gone");
    assert_eq!((alone.server.stats().searching, alone.server.stats().answered), (0, 0));
    ask(&mut alone, again, &request(8, 1, 2));
    let outputs = search(&mut alone);
    assert_eq!(routes(&to_node(&outputs, again)).id, 8);
}

#[test]
fn a_newer_session_is_not_told_what_an_older_one_asked() {
    let (mut alone, conns) = pair(limits());
    for id in 0..3 {
        ask(&mut alone, conns[0], &request(id, 1, 2));
    }
    assert_eq!(alone.server.stats().waiting, 2);
    let again = alone.node(1);
    assert_eq!((alone.server.stats().waiting, search(&mut alone).len()), (0, 0));
    ask(&mut alone, again, &request(9, 1, 2));
    let outputs = search(&mut alone);
    assert_eq!(routes(&to_node(&outputs, again)).id, 9);
}

#[test]
fn requests_of_a_client_that_left_are_not_searched_for() {
    let (mut alone, conns) = pair(limits());
    for id in 0..9 {
        ask(&mut alone, conns[0], &request(id, 1, 2));
    }
    let waiting = alone.server.stats().waiting;
    assert!(waiting > 0);
    alone.net(NetEvent::Closed { conn: conns[0] });
    assert_eq!(alone.server.stats().waiting, 0);
    while out(&alone) > 0 {
        assert_eq!(search(&mut alone), []);
    }
    assert_eq!(alone.server.stats().searching, 0);
}

#[test]
fn a_search_that_comes_back_twice_is_heard_once() {
    let (mut alone, conns) = pair(limits());
    ask(&mut alone, conns[0], &request(7, 1, 2));
    let found = alone.held.as_mut().unwrap().remove(0).run(&mut Workspace::new());
    assert_eq!(alone.input(ServerInput::Found(found.clone())).len(), 1);
    assert_eq!(alone.input(ServerInput::Found(found)), []);
}

#[test]
fn who_asks_once_waits_for_one_search_of_everybody_else() {
    let (mut alone, conns) = pair(ServerLimits { workers: 4, ..limits() });
    for id in 0..50 {
        ask(&mut alone, conns[0], &request(id, 1, 2));
    }
    // The greedy one has half of the threads; the others, and the places behind them, are for others.
    assert_eq!((out(&alone), alone.server.stats().waiting), (2, 48));
    assert_eq!(ask(&mut alone, conns[1], &request(90, 2, 1)), []);
    assert_eq!(out(&alone), 3);
    for id in 91..95 {
        ask(&mut alone, conns[1], &request(id, 2, 1));
    }
    assert_eq!(out(&alone), 4);
    // From here on they take turns.
    let mut order = Vec::new();
    for _ in 0..11 {
        let outputs = search(&mut alone);
        order.extend([0, 1].into_iter().filter(|who| !to_node(&outputs, conns[*who]).is_empty()));
    }
    assert_eq!(order.iter().filter(|who| **who == 1).count(), 5, "{order:?}");
}

#[test]
fn reports_ticks_and_others_go_on_while_costly_searches_are_out() {
    let (mut alone, conns) = halves(limits());
    for node in 1..=HALF {
        ask(&mut alone, conns[usize::from(node)], &request(1, node, node + HALF));
    }
    assert_eq!(out(&alone), SEARCHES_AHEAD, "one of each of two clients");
    let before = alone.server.tick();
    alone.report(conns[0], 1, 2, &[entry(2, 77)]);
    assert_eq!(alone.known(1), [entry(2, 77)]);
    alone.wait(Duration::from_millis(900));
    assert_eq!(alone.server.stats().busy, 0);
    let outputs = alone.wait(INDEX_TICK);
    assert_ne!(alone.server.tick(), before);
    let busy = conns.iter().flat_map(|conn| to_node(&outputs, *conn));
    let busy = busy.filter(|said| matches!(said, IndexToNode::Busy { .. })).count();
    assert_eq!(busy, usize::from(HALF) - SEARCHES_AHEAD, "they waited too long");
}

#[test]
fn a_request_waits_so_long_and_no_longer() {
    let (mut alone, conns) = pair(limits());
    for id in 0..4 {
        ask(&mut alone, conns[0], &request(id, 1, 2));
    }
    let due = alone.now + SEARCH_PATIENCE;
    assert_eq!(alone.server.poll_timeout().map(|alarm| (alarm.at, alarm.why)), Some((due, "impatient request")));
    assert_eq!(alone.wait(Duration::from_micros(SEARCH_PATIENCE.as_micros() - 1)), []);
    let outputs = alone.wait(Duration::from_micros(1));
    let ids = [1, 2, 3].map(|id| IndexToNode::Busy { id });
    assert_eq!(to_node(&outputs, conns[0]), ids);
    // What is out is not given up.
    let outputs = search(&mut alone);
    assert_eq!(routes(&to_node(&outputs, conns[0])).id, 0);
}

#[test]
fn a_flood_meets_busy_at_the_places_of_a_client_and_of_all() {
    let (mut alone, conns) = pair(ServerLimits { max_searches: 9, max_searches_each: 6, ..limits() });
    let mut answers = Vec::new();
    for id in 0..10 {
        answers.extend(ask(&mut alone, conns[0], &request(id, 1, 2)));
    }
    assert_eq!(answers, (6..10).map(|id| IndexToNode::Busy { id }).collect::<Vec<_>>());
    let answers: Vec<_> = (0..5).flat_map(|id| ask(&mut alone, conns[1], &request(id, 2, 1))).collect();
    assert_eq!(answers, [IndexToNode::Busy { id: 3 }, IndexToNode::Busy { id: 4 }]);
}

/// Lines that one search from half to half looks at.
fn cost(alone: &Alone) -> u64 {
    let (graph, request) = (alone.server.graph(), request(1, HALF + 1, 1));
    let (_, lines) = crate::answer::answer_counted(graph, &request, &mut Workspace::new(), 1 << 40);
    assert!(lines > 29 * 30, "{lines} lines are not much");
    lines
}

#[test]
fn one_clients_costly_requests_meet_busy_and_nobody_elses() {
    let (mut alone, conns) = halves(limits());
    alone.held = None;
    let lines = cost(&alone);
    let mut routes = 0;
    loop {
        match ask(&mut alone, conns[0], &request(routes, HALF + 1, 1))[..] {
            [IndexToNode::Routes(_)] => routes += 1,
            [IndexToNode::Busy { .. }] => break,
            ref other => panic!("{other:?}"),
        }
        // Not too often, but in no time.
        alone.server.clients.get_mut(&key(1)).unwrap().queries = Bucket::default();
    }
    // The last must have room for all that it may look at.
    let quick = limits().quick_work.div_ceil(WORK_UNIT);
    assert_eq!(routes, (CLIENT_WORK_BURST - quick) / (lines.div_ceil(WORK_UNIT) + 1) + 1);
    assert!(matches!(ask(&mut alone, conns[1], &request(1, HALF + 1, 1))[..], [IndexToNode::Routes(_)]));
    alone.now += CLIENT_WORK_INTERVAL.times(CLIENT_WORK_BURST);
    assert!(matches!(ask(&mut alone, conns[0], &request(1, HALF + 1, 1))[..], [IndexToNode::Routes(_)]));
}

#[test]
fn what_all_together_may_cost_is_in_proportion_to_the_threads_and_what_is_beyond_waits() {
    for workers in [1, 4] {
        let (mut alone, conns) = halves(ServerLimits { workers, ..limits() });
        alone.held = None;
        let lines = cost(&alone);
        let is_answered = |alone: &mut Alone, node: usize| {
            let said = ask(alone, conns[node], &request(1, HALF + 1, 1));
            matches!(said[..], [IndexToNode::Routes(_)])
        };
        let budget = WORK_BURST * WORK_UNIT * workers as u64;
        let mut answered = 0;
        let waits = 'flood: loop {
            for node in 0..conns.len() {
                // Nobody is worn out, or too quick, alone.
                alone.server.clients.get_mut(&key(node as u8 + 1)).unwrap().queries = Bucket::default();
                alone.server.searches.forgive(&key(node as u8 + 1));
                if !is_answered(&mut alone, node) {
                    break 'flood node;
                }
                answered += 1;
            }
        };
        let room = answered * lines;
        assert!(room <= budget && room + 2 * limits().quick_work > budget, "{room} of {budget}");
        let stats = alone.server.stats();
        assert_eq!((stats.waiting, stats.busy), (1, 0));
        let alarm = alone.server.poll_timeout().unwrap();
        assert_eq!(alarm.why, "search budget");
        assert!(alarm.at <= alone.now + WORK_INTERVAL.times(limits().quick_work / WORK_UNIT));
        let outputs = alone.wait(alarm.at.since(alone.now));
        assert!(matches!(to_node(&outputs, conns[waits])[..], [IndexToNode::Routes(_)]));
    }
}

#[test]
fn once_the_budget_of_all_is_used_up_costly_requests_are_refused_and_cheap_ones_wait() {
    let (mut alone, conns) = halves(costly());
    for conn in &conns[..5] {
        ask(&mut alone, *conn, &request(1, HALF + 1, 1));
    }
    // All were cut off, and one full search is out.
    while alone.server.stats().searching_costly == 0 {
        search(&mut alone);
    }
    assert_eq!((out(&alone), alone.server.stats().waiting), (1, 4));
    alone.server.searches.wear_out(alone.now);
    ask(&mut alone, conns[40], &request(2, 41, 42));
    let outputs = search(&mut alone);
    let said: Vec<IndexToNode> = conns.iter().flat_map(|conn| to_node(&outputs, *conn)).collect();
    assert_eq!(said.iter().filter(|said| matches!(said, IndexToNode::Busy { .. })).count(), 0, "after the cheap one");
    assert_eq!(said.len(), 1);
    let alarm = alone.server.poll_timeout().unwrap();
    alone.wait(alarm.at.since(alone.now));
    let outputs = search(&mut alone);
    let busy = conns.iter().flat_map(|conn| to_node(&outputs, *conn));
    assert_eq!(busy.filter(|said| matches!(said, IndexToNode::Busy { .. })).count(), 4);
    assert_eq!(routes(&to_node(&outputs, conns[40])).id, 2);
}

/// One thread, and so little work for quick searches that one from half to half is cut off.
fn costly() -> ServerLimits {
    ServerLimits { quick_work: 400, ..limits() }
}

#[test]
fn a_cheap_request_is_not_kept_waiting_by_the_costly_ones_of_many() {
    let (mut alone, conns) = halves(costly());
    let pair = [61, 62].map(|node| alone.node(node));
    alone.report(pair[0], 61, 1, &[entry(62, 5)]);
    alone.report(pair[1], 62, 1, &[entry(61, 5)]);
    for (node, conn) in (1..).zip(&conns[..11]) {
        for id in 0..5 {
            ask(&mut alone, *conn, &request(id, node, node + HALF));
        }
    }
    assert_eq!(ask(&mut alone, pair[0], &request(7, 61, 62)), []);
    let (mut before, mut full) = (0, 0);
    loop {
        full += alone.server.stats().searching_costly;
        before += 1;
        let outputs = search(&mut alone);
        if let [IndexToNode::Routes(found)] = &to_node(&outputs, pair[0])[..] {
            assert_eq!(found.options.len(), 1);
            break;
        }
    }
    assert_eq!(full, 0, "quick ones come first");
    assert!(before <= 11 + SEARCHES_AHEAD + 1, "{before} searches, though clients take turns");
    // The others get what they asked for, later.
    while out(&alone) > 0 {
        search(&mut alone);
    }
    let stats = alone.server.stats();
    assert_eq!((stats.answered, stats.waiting, stats.busy), (56, 0, 0));
}

#[test]
fn with_one_thread_a_full_search_has_its_turn_after_so_many_quick_ones() {
    let (mut alone, conns) = halves(costly());
    ask(&mut alone, conns[0], &request(1, 1, HALF + 1));
    search(&mut alone);
    assert_eq!((out(&alone), alone.server.stats().searching_costly), (1, 1), "nobody else asks");
    search(&mut alone);
    ask(&mut alone, conns[0], &request(2, 1, HALF + 1));
    let mut quick = 0_u32;
    while alone.server.stats().searching_costly == 0 {
        // There is always one more who asks.
        for conn in &conns[1..4] {
            if alone.server.stats().waiting < 3 {
                ask(&mut alone, *conn, &request(3, 2, 3));
            }
        }
        search(&mut alone);
        quick += 1;
    }
    // Two more are out, or were before the first was counted.
    assert!(quick.abs_diff(QUICK_BEFORE_FULL) <= 2, "{quick}");
}

#[test]
fn full_searches_take_half_of_the_threads_and_one_client_half_of_those() {
    let (mut alone, conns) = halves(ServerLimits { workers: 8, ..costly() });
    let ask_costly = |alone: &mut Alone, node: u8| {
        for id in 0..6 {
            ask(alone, conns[usize::from(node) - 1], &request(id, node, node + HALF));
        }
        search_quick(alone);
        alone.server.stats().searching_costly
    };
    assert_eq!(ask_costly(&mut alone, 1), 2);
    assert_eq!(ask_costly(&mut alone, 2), 4);
    assert_eq!(ask_costly(&mut alone, 3), 4);
    assert_eq!(ask(&mut alone, conns[30], &request(9, 31, 32)), []);
    assert_eq!(out(&alone), 5, "a quick one has its thread");
}

#[test]
fn what_is_out_counts_as_if_it_would_cost_all_that_it_may() {
    let (mut alone, conns) = halves(ServerLimits { workers: 32, ..costly() });
    for id in 0..9 {
        ask(&mut alone, conns[0], &request(id, 1, 1 + HALF));
        search_quick(&mut alone);
    }
    // There are threads for more: eight of one client.
    let stats = alone.server.stats();
    assert_eq!((stats.searching_costly, stats.waiting, stats.busy), (2, 7, 0), "as much as a burst pays for");
    search(&mut alone);
    assert_eq!(alone.server.stats().searching_costly, 2, "it cost little, and gave the rest back");
}

#[test]
fn requests_that_nothing_can_be_offered_for_are_not_free() {
    let (mut alone, conns) = pair(limits());
    let exclude = |n: usize| List::truncated((0..n).map(|_| offset_protocol::index::Edge { from: key(1), to: key(2) }));
    let count = |alone: &mut Alone, request: &RequestRoutes| {
        alone.now += CLIENT_WORK_INTERVAL.times(2 * CLIENT_WORK_BURST);
        let mut asked = 0;
        loop {
            alone.server.clients.get_mut(&key(1)).unwrap().queries = Bucket::default();
            if ask(alone, conns[0], request) == [IndexToNode::Busy { id: 1 }] {
                return asked;
            }
            asked += 1;
        }
    };
    let burst = CLIENT_WORK_BURST - limits().quick_work / WORK_UNIT + 1;
    assert_eq!(count(&mut alone, &request(1, 99, 2)), burst);
    // Nothing is looked up in vain.
    assert_eq!(count(&mut alone, &RequestRoutes { exclude: exclude(128), ..request(1, 99, 2) }), burst);
    // What is looked up is paid for, though the search finds nothing to look at.
    alone.held = None;
    let looked_up = count(&mut alone, &RequestRoutes { exclude: exclude(128), ..request(1, 1, 2) });
    let units = 1 + 128_u64.div_ceil(EXCLUDED_IN_UNIT as u64);
    assert!(looked_up <= burst / units + 1, "{looked_up}");
}

#[test]
fn clients_that_come_and_go_leave_no_turns_behind() {
    let (mut alone, conns) = pair(limits());
    for id in 0..3 {
        ask(&mut alone, conns[1], &request(id, 2, 1));
        ask(&mut alone, conns[0], &request(id, 1, 2));
    }
    for id in 0..100 {
        let conn = alone.node(1);
        alone.server.clients.get_mut(&key(1)).unwrap().queries = Bucket::default();
        ask(&mut alone, conn, &request(id, 1, 2));
    }
    assert!(alone.server.searches.turns() <= 2 * alone.server.searches.askers());
    while out(&alone) > 0 {
        search(&mut alone);
    }
    assert_eq!(alone.server.searches.turns(), 0);
}

#[test]
fn where_all_places_are_taken_costly_requests_give_way_to_new_ones() {
    let (mut alone, conns) = halves(ServerLimits { max_searches: 4, ..costly() });
    for node in 1..=3 {
        ask(&mut alone, conns[usize::from(node) - 1], &request(1, node, node + HALF));
    }
    while alone.server.stats().searching_costly == 0 {
        search(&mut alone);
    }
    ask(&mut alone, conns[9], &request(2, 10, 11));
    assert_eq!(alone.server.stats().busy, 0);
    let outputs = alone.tell(conns[8], &NodeToIndex::RequestRoutes(request(3, 9, 10)));
    let refused: Vec<u8> =
        (1..=9).filter(|node| !to_node(&outputs, conns[usize::from(*node) - 1]).is_empty()).collect();
    assert_eq!(refused, [2], "the oldest that waits for a full search");
}

#[test]
fn clients_that_asked_long_ago_are_forgotten() {
    let (mut alone, conns) = pair(limits());
    alone.held = None;
    ask(&mut alone, conns[0], &request(1, 1, 2));
    assert_eq!(alone.server.searches.askers(), 1);
    alone.net(NetEvent::Closed { conn: conns[0] });
    assert_eq!(alone.server.searches.askers(), 1, "leaving is no way to be forgiven");
    alone.wait(INDEX_TICK);
    alone.wait(INDEX_TICK);
    assert_eq!(alone.server.searches.askers(), 0);
}
