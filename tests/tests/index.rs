//! The real index server under load: whoever asks for much is told that it is busy, everybody else is served meanwhile.
#![cfg(target_os = "linux")]
// Helpers of tests, as tests do.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use offset_protocol::index::{Entry, Routes};
use offset_protocol::money::Rate;
use offset_tests::index::{Peer, Servers, entry, request};
use offset_tests::programs::PATIENCE;

/// Nodes of each half. All of a half are friends of each other, and nothing leads to the other half.
const HALF: u64 = 60;
/// Nodes that ask for what is not there: everything is looked at.
const GREEDY: u64 = 12;
/// As many as a session may ask for at once.
const REQUESTS: u64 = 100;

fn friends(node: u64) -> impl Iterator<Item = u64> {
    let half = node / HALF * HALF;
    (half..half + HALF).filter(move |friend| *friend != node)
}

/// The two halves, and two that only know each other.
fn crowd(servers: &Servers) -> (Vec<Peer>, [Peer; 2]) {
    let peers = (0..2 * HALF).map(|node| {
        let mut peer = servers.peer(0, node).unwrap();
        peer.report(friends(node).map(|friend| entry(friend, 1_000).unwrap()).collect()).unwrap();
        peer
    });
    let peers = peers.collect();
    let pair = [(500, 501), (501, 500)].map(|(node, friend)| {
        let mut peer = servers.peer(0, node).unwrap();
        peer.report(vec![entry(friend, 1).unwrap()]).unwrap();
        peer
    });
    (peers, pair)
}

fn flood(peers: &mut [Peer], amount: u128) {
    for (node, peer) in (0..).zip(peers) {
        peer.ask_all((0..REQUESTS).map(|id| request(id, amount, node, HALF + node).unwrap())).unwrap();
    }
}

/// Ways that look good from either end and are a unit too narrow in the middle: a search tries one after another.
const WAYS: u64 = 800;
/// The ends of these ways.
const ENDS: (u64, u64) = (9_000, 9_001);
/// What is asked for at these ends.
const NARROW: u128 = 100;

/// Tells the server of the ways from one end to the other, in four hops each, as another server would.
fn lay_narrow_ways(servers: &Servers) {
    let mut teller = servers.neighbour(0, 90).unwrap();
    let (source, destination) = ENDS;
    let [near, far] = [10_000, 20_000].map(|first| move |way| first + way);
    let lets = |friend, capacity, fee| Entry { rate: Rate { mul: 0, add: fee }, ..entry(friend, capacity).unwrap() };
    let open = |friend, fee| lets(friend, 1_000, fee);
    let closed = |friend| entry(friend, 0).unwrap();
    teller.hand_on(source, (0..WAYS).map(|way| closed(near(way))).collect()).unwrap();
    teller.hand_on(destination, (0..WAYS).map(|way| open(far(way), 0)).collect()).unwrap();
    for way in 0..WAYS {
        // Room for the amount, its own fee, and all of the other one's but a unit.
        let narrow = lets(source, NARROW + 10, 1);
        teller.hand_on(near(way), vec![narrow, closed(far(way))]).unwrap();
        teller.hand_on(far(way), vec![open(near(way), 10), closed(destination)]).unwrap();
    }
    // What is heard behind all that.
    teller.hand_on(30_000, vec![open(30_001, 0)]).unwrap();
    teller.hand_on(30_001, vec![open(30_000, 0)]).unwrap();
    let mut asker = servers.peer(0, 30_000).unwrap();
    let began = Instant::now();
    while asker.routes(&request(0, 1, 30_000, 30_001).unwrap()).unwrap().options.is_empty() {
        assert!(began.elapsed() < PATIENCE, "the ways are not heard of");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Nodes that each ask for two searches of the greatest cost, and what they were answered.
struct Greedy(Vec<(Peer, Vec<Option<Routes>>)>);

impl Greedy {
    fn ask(servers: &Servers, nodes: std::ops::Range<u64>) -> Greedy {
        let peers = nodes.map(|node| {
            let mut peer = servers.peer(0, node).unwrap();
            peer.ask_all((0..2).map(|id| request(id, NARROW, ENDS.0, ENDS.1).unwrap())).unwrap();
            (peer, Vec::new())
        });
        Greedy(peers.collect())
    }

    /// How many answers have come so far.
    fn answered(&mut self) -> usize {
        for (peer, answers) in &mut self.0 {
            answers.extend(peer.answers().unwrap().into_iter().map(|(_, routes)| routes));
        }
        self.0.iter().map(|(_, answers)| answers.len()).sum()
    }
}

#[test]
fn while_a_search_of_the_greatest_cost_runs_reports_newcomers_and_cheap_requests_are_served() {
    let mut servers = Servers::start(1).unwrap();
    lay_narrow_ways(&servers);
    let mut pair = [(500, 501), (501, 500)].map(|(node, friend)| {
        let mut peer = servers.peer(0, node).unwrap();
        peer.report(vec![entry(friend, 1).unwrap()]).unwrap();
        peer
    });
    let costly_runs = |servers: &Servers| servers.metric(0, "offset_index_searches_costly").unwrap() > 0.0;
    let (began, mut beside, mut round, mut all) = (Instant::now(), 0, 0_u64, Vec::new());
    while beside < 5 {
        assert!(began.elapsed() < 2 * PATIENCE, "{beside} rounds went on beside one search, of {round}");
        let mut greedy = Greedy::ask(&servers, 40_000 + 10 * round..40_006 + 10 * round);
        let asked = Instant::now();
        while !costly_runs(&servers) {
            assert!(asked.elapsed() < PATIENCE, "no costly search ever ran beside the server");
        }
        loop {
            round += 1;
            if round > 100 {
                // A node may say so much at once, and two reports a second after that.
                std::thread::sleep(Duration::from_millis(600));
            }
            let before = greedy.answered();
            let ran = costly_runs(&servers);
            let capacity = 10 + u128::from(round);
            // A report is taken in, who asks behind it is answered from it, and who comes is told the tick.
            let [one, two] = &mut pair;
            one.change(entry(501, capacity).unwrap()).unwrap();
            two.change(entry(500, capacity).unwrap()).unwrap();
            one.routes_in_the_end(&request(round, 1, 500, 501).unwrap()).unwrap();
            let (routes, _) = two.routes_in_the_end(&request(round, capacity, 500, 501).unwrap()).unwrap();
            assert_eq!(routes.options.len(), 1, "round {round}");
            drop(servers.peer(0, 600).unwrap());
            // No costly search has ended since, and one ran: it is the same one all the time.
            let after = greedy.answered();
            beside += u64::from(ran && before == after && costly_runs(&servers));
            if after == 2 * greedy.0.len() {
                break;
            }
        }
        all.extend(greedy.0.into_iter().flat_map(|(_, answers)| answers));
    }
    // They are cut off at the server's limit, or met with `Busy` in their turn, which is legitimate.
    let searched: Vec<_> = all.iter().flatten().collect();
    assert!(!searched.is_empty() && searched.iter().all(|routes| routes.capped), "they were of the greatest cost");
    assert!(servers.run());
}

#[test]
fn many_who_ask_for_what_is_not_there_keep_neither_reports_nor_the_requests_of_others_waiting() {
    let mut servers = Servers::start(1).unwrap();
    let (mut peers, [mut one, mut two]) = crowd(&servers);
    flood(&mut peers[..GREEDY as usize], 1);
    // Whoever asks meanwhile is answered from what was reported before it.
    for round in 0..20_u64 {
        let capacity = 10 + u128::from(round);
        one.change(entry(501, capacity).unwrap()).unwrap();
        two.change(entry(500, capacity).unwrap()).unwrap();
        // Both changes are in the graph when both have been answered behind them.
        one.routes_in_the_end(&request(round, 1, 500, 501).unwrap()).unwrap();
        let (routes, _) = two.routes_in_the_end(&request(round, capacity, 500, 501).unwrap()).unwrap();
        assert_eq!(routes.options.len(), 1, "round {round}");
    }
    for peer in &mut peers[..GREEDY as usize] {
        let mut answered: Vec<u64> = (0..REQUESTS).map(|_| peer.answer().unwrap().0).collect();
        answered.sort_unstable();
        assert_eq!(answered, (0..REQUESTS).collect::<Vec<_>>(), "each request is answered once");
    }
    assert!(servers.run());
}

#[test]
fn who_asks_too_often_is_told_so_and_who_leaves_meanwhile_harms_nobody() {
    let mut servers = Servers::start(1).unwrap();
    let (mut peers, [mut one, _two]) = crowd(&servers);
    let greedy = &mut peers[0];
    greedy.ask_all((0..5 * REQUESTS).map(|id| request(id, 1, 0, HALF).unwrap())).unwrap();
    let answers: Vec<_> = (0..5 * REQUESTS).map(|_| greedy.answer().unwrap()).collect();
    let busy = answers.iter().filter(|(_, routes)| routes.is_none()).count() as u64;
    assert!((3 * REQUESTS..5 * REQUESTS).contains(&busy), "{busy} of {}", 5 * REQUESTS);
    flood(&mut peers[1..], 1);
    drop(peers);
    let (routes, _) = one.routes_in_the_end(&request(1, 1, 500, 501).unwrap()).unwrap();
    assert_eq!(routes.options.len(), 1);
    assert!(servers.run());
}
