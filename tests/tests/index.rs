//! The real index server under load: whoever asks for much is told that it is busy, everybody else is served meanwhile.
#![cfg(target_os = "linux")]
// Helpers of tests, as tests do.
#![allow(clippy::unwrap_used)]

use offset_tests::index::{Peer, Servers, entry, request};

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

#[test]
fn costly_searches_keep_neither_reports_nor_the_requests_of_others_waiting() {
    let mut servers = Servers::start(1).unwrap();
    let (mut peers, [mut one, mut two]) = crowd(&servers);
    flood(&mut peers[..GREEDY as usize], 1);
    // While these are searched for: what is reported is found by who asks after it, and cheap requests are answered.
    for round in 0..20_u64 {
        let capacity = 10 + u128::from(round);
        one.change(entry(501, capacity).unwrap()).unwrap();
        two.change(entry(500, capacity).unwrap()).unwrap();
        // Both changes are in the graph when both have been answered behind them.
        one.routes(&request(round, 1, 500, 501).unwrap()).unwrap();
        let routes = two.routes(&request(round, capacity, 500, 501).unwrap()).unwrap();
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
    assert_eq!(one.routes(&request(1, 1, 500, 501).unwrap()).unwrap().options.len(), 1);
    assert!(servers.run());
}
