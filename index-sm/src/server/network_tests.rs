//! Servers and clients in a small network: what they agree on, how soon, and who is kept out.

use offset_protocol::index::Entry;
use offset_protocol::limits::{INDEX_NODE_TTL, INDEX_TICK};
use offset_protocol::machine::Duration;

use super::tests::sorted;
use super::{EndReason, ServerInput};
use crate::client::ClientInput;
use crate::world::{World, address, entry, key, plus};

fn converged(world: &World, servers: &[u8], node: u8, expected: &[Entry]) -> bool {
    servers.iter().all(|server| world.known(*server, node) == sorted(expected))
}

/// Servers in a line, each trusting those beside it; the first has a node.
fn line(servers: &[u8]) -> World {
    let mut world = World::new();
    for (at, n) in servers.iter().enumerate() {
        let mut beside = Vec::new();
        beside.extend(at.checked_sub(1).map(|at| servers[at]));
        beside.extend(servers.get(at + 1));
        world.start_server(*n, &beside);
    }
    world
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_federation_of_three_learns_what_one_is_told() {
    let servers = [100, 101, 102];
    let mut world = line(&servers);
    world.start_client(1, &[100], &[entry(2, 50)]);
    world.run(plus(INDEX_TICK, SECOND.times(2)));
    assert!(converged(&world, &servers, 1, &[entry(2, 50)]));
    world.client_input(1, ClientInput::SetEntry(entry(2, 80)));
    world.run(SECOND.times(2));
    assert!(converged(&world, &servers, 1, &[entry(2, 80)]));
}

#[test]
fn both_dial_and_one_session_stays() {
    let mut world = line(&[100, 101]);
    world.run(SECOND.times(20));
    for n in [100, 101] {
        assert_eq!(world.server(n).stats().neighbours, 1);
    }
    let crossed = world.ended.iter().filter(|(_, _, reason)| *reason == EndReason::Crossed).count();
    assert!(crossed <= 2 && crossed == world.ended.len(), "{:?}", world.ended);
}

#[test]
fn trust_must_go_both_ways() {
    let mut world = World::new();
    world.start_server(100, &[101]);
    world.start_server(101, &[]);
    world.start_client(1, &[101], &[entry(2, 50)]);
    world.start_client(2, &[100], &[entry(1, 50)]);
    world.run(SECOND.times(100));
    assert_eq!((world.server(100).stats().neighbours, world.server(101).stats().neighbours), (0, 0));
    assert_eq!((world.known(100, 1), world.known(101, 2)), (vec![], vec![]));
    assert!(world.ended.iter().all(|(at, _, reason)| (*at, reason) == (101, &EndReason::Untrusted)));
    world.server_input(101, ServerInput::Trust { server: key(100), address: address(100) });
    world.run(plus(INDEX_TICK, SECOND));
    assert_eq!((world.known(100, 1).len(), world.known(101, 2).len()), (1, 1));
}

#[test]
fn a_dead_server_leaves_the_graph_to_those_who_live() {
    let servers = [100, 101];
    let mut world = line(&servers);
    world.start_client(1, &[100], &[entry(2, 50)]);
    world.run(INDEX_TICK.times(2));
    assert!(converged(&world, &servers, 1, &[entry(2, 50)]));
    world.stop(1);
    world.run(plus(INDEX_NODE_TTL, SECOND));
    assert!(converged(&world, &servers, 1, &[]));
}

#[test]
fn a_partition_heals_within_one_heartbeat_however_long_the_line() {
    let servers = [100, 101, 102, 103, 104];
    for broken in 0..4 {
        let mut world = line(&servers);
        world.start_client(1, &[100], &[entry(2, 50)]);
        world.start_client(2, &[104], &[entry(1, 60)]);
        world.run(INDEX_TICK.times(3));
        let (a, b) = (servers[broken], servers[broken + 1]);
        world.part(a, b);
        world.client_input(1, ClientInput::SetEntry(entry(2, 70)));
        world.client_input(2, ClientInput::SetEntry(entry(1, 80)));
        world.run(INDEX_NODE_TTL.times(3));
        assert_eq!((world.known(104, 1), world.known(100, 2)), (vec![], vec![]));
        world.heal();
        let mut linked = Duration::ZERO;
        let before = world.server(a).stats().neighbours;
        while world.server(a).stats().neighbours == before {
            world.run(SECOND);
            linked = plus(linked, SECOND);
            assert!(linked < SECOND.times(62), "no session");
        }
        world.run(plus(INDEX_TICK, SECOND));
        assert!(converged(&world, &servers, 1, &[entry(2, 70)]), "broken at {broken}");
        assert!(converged(&world, &servers, 2, &[entry(1, 80)]), "broken at {broken}");
    }
}

#[test]
fn a_server_that_restarts_knows_everything_again_within_a_heartbeat_of_its_session() {
    let servers = [100, 101];
    let mut world = line(&servers);
    world.start_client(1, &[100], &[entry(2, 50)]);
    world.start_client(2, &[101], &[entry(1, 60)]);
    world.run(INDEX_TICK.times(2));
    world.start_server(101, &[100]);
    assert_eq!(world.server(101).stats().nodes, 0);
    world.run(plus(INDEX_TICK, SECOND.times(3)));
    assert!(converged(&world, &servers, 1, &[entry(2, 50)]));
    assert!(converged(&world, &servers, 2, &[entry(1, 60)]));
}

#[test]
fn a_server_that_restarts_knows_everything_again_in_seconds_if_nothing_else_happened_lately() {
    let servers = [100, 101];
    let mut world = line(&servers);
    world.start_client(1, &[100], &[entry(2, 50)]);
    world.start_client(2, &[101], &[entry(1, 60)]);
    world.run(INDEX_TICK.times(2));
    world.start_server(101, &[100]);
    world.run(SECOND.times(4));
    assert!(converged(&world, &servers, 1, &[entry(2, 50)]));
    assert!(converged(&world, &servers, 2, &[entry(1, 60)]));
}

/// Found by the simulator: a node that lost its database, and whose last words its present server had never heard, was in
/// the graph of nobody who had heard them until they had expired and all ticks of that time were forgotten.
#[test]
fn what_a_node_forgot_comes_back_to_it_from_the_server_that_heard_it_however_far() {
    let servers = [100, 101, 102];
    let mut world = line(&servers);
    world.start_client(1, &[102], &[entry(2, 50)]);
    world.run(plus(INDEX_TICK, SECOND.times(2)));
    assert!(converged(&world, &servers, 1, &[entry(2, 50)]));
    // Only the last server hears of what follows.
    world.part(101, 102);
    for capacity in 0..5 {
        world.client_input(1, ClientInput::SetEntry(entry(2, 1_000 * capacity)));
        world.run(SECOND.times(2));
    }
    world.stop(1);
    world.reserved.remove(&1);
    world.heal();
    world.start_client(1, &[100], &[entry(2, 7)]);
    world.run(SECOND.times(62));
    assert!(converged(&world, &servers, 1, &[entry(2, 7)]));
}

#[test]
fn a_dead_session_between_servers_does_not_keep_a_living_one_out() {
    let mut world = line(&[100, 101]);
    world.start_client(1, &[100], &[entry(2, 50)]);
    world.run(SECOND.times(40));
    // 101 vanishes without a word and is back: 100 still has the old session.
    world.silence(100, 101);
    world.start_server(101, &[100]);
    world.run(SECOND.times(3));
    assert_eq!((world.server(100).stats().neighbours, world.server(101).stats().neighbours), (1, 1));
    world.run(INDEX_TICK);
    assert_eq!(world.known(101, 1).len(), 1);
}

#[test]
fn beyond_the_longest_proof_nothing_is_known() {
    let servers: Vec<u8> = (100..111).collect();
    let mut world = line(&servers);
    world.start_client(1, &[100], &[entry(2, 50)]);
    world.run(INDEX_TICK.times(12));
    assert!(converged(&world, &servers[..9], 1, &[entry(2, 50)]));
    assert!(converged(&world, &servers[9..], 1, &[]));
}

#[test]
fn servers_in_a_ring_agree_and_the_flood_ends() {
    let mut world = World::new();
    for n in 0..4 {
        world.start_server(100 + n, &[100 + (n + 1) % 4, 100 + (n + 3) % 4]);
    }
    world.start_client(1, &[100], &[entry(2, 50)]);
    world.run(INDEX_TICK.times(3));
    assert!(converged(&world, &[100, 101, 102, 103], 1, &[entry(2, 50)]));
    let accepted: u64 = (100..104).map(|n| world.server(n).stats().accepted).sum();
    // Four servers, a State, three heartbeats, and three more for ticks out of turn: a flood without end would be far above.
    assert!(accepted <= 28, "{accepted}");
}
