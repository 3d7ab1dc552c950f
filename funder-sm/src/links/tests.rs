mod network;

use std::collections::BTreeSet;

use offset_protocol::codec::decode;
use offset_protocol::limits::{HANDSHAKE_DEADLINE, KEEPALIVE_SILENCE};
use offset_protocol::machine::turn;
use offset_protocol::net::{NetCommand, NetEvent};
use offset_protocol::relay::{FromRelay, RelayShare};
use proptest::prelude::*;

use super::*;
use network::*;

#[test]
fn two_friends_who_both_dial_end_with_one_session_and_one_up_each() {
    let [leader, follower] = ordered();
    for order in [[leader, follower], [follower, leader]] {
        for delay_ms in [0, 5, 15, 25, 35, 45, 55, 65, 85, 105, 200] {
            let mut world = world(&[leader, follower]);
            keep(&mut world, order[0], order[1]);
            world.run(Duration::from_millis(delay_ms));
            keep(&mut world, order[1], order[0]);
            assert!(world.run_until(|world| world.linked(leader, follower)));
            world.run(Duration::from_secs(30));
            assert_one_session(&mut world, &[leader, follower]);
            assert_eq!((world.node(leader).ups, world.node(follower).ups), (1, 1), "switched without need: {delay_ms}");
            assert!(world.talk(leader, follower));
            assert!(matches!(world.hosts[&RELAY], TestHost::Relay(_, _, 0)), "a node misbehaved at the relay");
        }
    }
}

#[test]
fn one_reachable_side_is_enough() {
    let [leader, follower] = ordered();
    for (reachable, other) in [(leader, follower), (follower, leader)] {
        let mut world = world(&[leader, follower]);
        keep(&mut world, other, reachable);
        keep_at(&mut world, reachable, other, 77);
        assert!(world.run_until(|world| world.linked(leader, follower)));
        assert!(world.talk(leader, follower));
    }
}

#[test]
fn only_friends_that_are_wanted_get_through() {
    let [a, b] = ordered();
    for (wants, other) in [(a, b), (b, a)] {
        let mut world = world(&[a, b]);
        keep(&mut world, wants, other);
        world.run(Duration::from_secs(30));
        assert!(!world.node(a).up.contains(&key(b)) && !world.node(b).up.contains(&key(a)));
        assert!(world.node(other).links.sessions.is_empty());
        keep(&mut world, other, wants);
        assert!(world.run_until(|world| world.linked(a, b)));
    }
}

#[test]
fn a_cut_link_goes_down_on_both_sides_and_comes_up_again() {
    let [a, b] = ordered();
    let mut world = world(&[a, b]);
    befriend(&mut world, a, b);
    for _ in 0..3 {
        world.run(Duration::from_secs(30));
        world.cut(a, RELAY);
        world.run(Duration::from_millis(50));
        assert!(!world.linked(a, b));
        assert!(world.run_until(|world| world.linked(a, b)));
        assert!(world.talk(a, b));
    }
}

#[test]
fn a_returning_friend_replaces_its_dead_session_at_once() {
    let [leader, follower] = ordered();
    for (returns, stays) in [(leader, follower), (follower, leader)] {
        for first_dials in [leader, follower] {
            let mut world = world(&[leader, follower]);
            // Only one of them can be dialled, so that the session's direction is known.
            keep(&mut world, first_dials, if first_dials == leader { follower } else { leader });
            keep_at(&mut world, if first_dials == leader { follower } else { leader }, first_dials, 77);
            assert!(world.run_until(|world| world.linked(leader, follower)));
            world.run(Duration::from_secs(10));
            world.vanish(returns, TestHost::Node(Box::new(TestNode::new(returns, 99))));
            world.tell(returns, Input::Listen(relay_address(RELAY)));
            keep(&mut world, returns, stays);
            let start = world.now;
            let ups = world.node(stays).ups;
            assert!(world.run_until(|world| world.node(stays).ups > ups && world.linked(leader, follower)));
            let took = world.now.since(start);
            assert!(took < Duration::from_secs(2), "{} ms until {returns} was back", took.as_millis());
            assert!(world.talk(leader, follower));
            world.run(KEEPALIVE_SILENCE.times(2));
            assert_one_session(&mut world, &[leader, follower]);
        }
    }
}

#[test]
fn a_silently_dead_friend_goes_down_by_keepalive() {
    let [a, b] = ordered();
    let mut world = world(&[a, b]);
    befriend(&mut world, a, b);
    world.vanish(b, TestHost::Node(Box::new(TestNode::new(b, 99))));
    world.run(KEEPALIVE_SILENCE.times(2));
    assert!(!world.node(a).up.contains(&key(b)));
}

#[test]
fn a_network_that_returned_makes_a_new_session_take_over_from_a_dead_one() {
    let [leader, follower] = ordered();
    for returns in [leader, follower] {
        let mut world = world(&[leader, follower]);
        befriend(&mut world, leader, follower);
        world.run(Duration::from_secs(10));
        let (leader_ups, follower_ups) = (world.node(leader).ups, world.node(follower).ups);
        world.tell(returns, Input::NetworkReturned);
        world.run(Duration::from_secs(3));
        assert_eq!(world.node(leader).ups, leader_ups + 1);
        assert_eq!(world.node(follower).ups, follower_ups + 1);
        assert!(world.talk(leader, follower));
        assert_one_session(&mut world, &[leader, follower]);
    }
}

#[test]
fn a_relay_that_alters_drops_or_repeats_bytes_ends_sessions_and_nothing_else() {
    let [a, b] = ordered();
    for fault in 0..3 {
        let mut world = world(&[a, b]);
        befriend(&mut world, a, b);
        let mut count = 0;
        world.mangle = Box::new(move |from, _, mut bytes| {
            // The relay's own messages are short.
            if from != RELAY || bytes.len() < 60 {
                return Some(bytes);
            }
            count += 1;
            match (count % 5 == 0, fault) {
                (true, 0) => {
                    let last = bytes.len() - 1;
                    bytes[last] ^= 1;
                    Some(bytes)
                }
                (true, 1) => None,
                (true, _) => Some([bytes.clone(), bytes].concat()),
                (false, _) => Some(bytes),
            }
        });
        for _ in 0..20 {
            for (from, to) in [(a, b), (b, a)] {
                world.tell(from, Input::Send { friend: key(to), message: long_message() });
            }
            world.run(Duration::from_secs(1));
        }
        assert!(world.node(a).ups > 1, "the fault was noticed");
        // What came through is what was said.
        for node in [a, b] {
            let honest =
                |message: &FriendMessage| *message == long_message() || matches!(message, FriendMessage::Resume(_));
            assert!(world.node(node).heard.iter().all(|(_, message)| honest(message)));
        }
        world.mangle = Box::new(|_, _, bytes| Some(bytes));
        assert!(world.run_until(|world| world.linked(a, b)));
        world.run(Duration::from_secs(60));
        assert!(world.talk(a, b));
    }
}

#[test]
fn a_relay_that_names_another_caller_gains_nothing() {
    let [a, b, c] = ordered();
    let mut world = world(&[a, b, c]);
    // A is called by C; the relay says that it is B. The relay tells C's half that A has taken the call.
    keep(&mut world, a, b);
    keep(&mut world, a, c);
    keep(&mut world, c, a);
    let lie = move |from, to, bytes: Vec<u8>| match decode::<FromRelay>(&bytes, 256) {
        Ok(FromRelay::Incoming { from: caller }) if from == RELAY && to == a && caller == key(c) => {
            Some(encode(&FromRelay::Incoming { from: key(b) }))
        }
        _ => Some(bytes),
    };
    let redirect = move |from, to, bytes: Vec<u8>| {
        use offset_protocol::relay::ToRelay;
        match decode::<ToRelay>(&bytes, 256) {
            Ok(ToRelay::Accept { from: caller }) if from == a && to == RELAY && caller == key(b) => {
                Some(encode(&ToRelay::Accept { from: key(c) }))
            }
            // A cannot reach C itself.
            Ok(ToRelay::Connect { .. }) if from == a => None,
            _ => lie(from, to, bytes),
        }
    };
    world.mangle = Box::new(redirect);
    world.run(Duration::from_secs(60));
    assert!(world.node(a).up.is_empty() && world.node(c).up.is_empty());
    assert_eq!(world.node(a).heard, []);
    world.mangle = Box::new(|_, _, bytes| Some(bytes));
    assert!(world.run_until(|world| world.linked(a, c)));
    assert!(world.node(b).up.is_empty());
}

#[test]
fn a_stopped_link_goes_down_and_stays_down() {
    let [a, b] = ordered();
    for (stops, other) in [(a, b), (b, a)] {
        let mut world = world(&[a, b]);
        befriend(&mut world, a, b);
        world.tell(stops, Input::StopLink { friend: key(other) });
        assert!(world.node(stops).up.is_empty());
        world.run(Duration::from_secs(30));
        assert!(world.node(other).up.is_empty());
        assert!(world.node(stops).links.sessions.is_empty() && world.node(stops).links.friends.is_empty());
        befriend(&mut world, stops, other);
    }
}

#[test]
fn a_friend_that_misbehaves_again_and_again_is_dropped_ever_more_rarely() {
    let [a, b] = ordered();
    for (judge, other) in [(a, b), (b, a)] {
        let mut world = world(&[a, b]);
        keep(&mut world, a, b);
        keep(&mut world, b, a);
        let start = world.now;
        let mut drops = 0;
        while world.now.since(start) < Duration::from_secs(120) {
            world.run(Duration::from_millis(20));
            if world.node(judge).up.contains(&key(other)) {
                world.tell(judge, Input::DropLink { friend: key(other) });
                assert!(world.node(judge).up.is_empty());
                drops += 1;
            }
        }
        assert!((3..=12).contains(&drops), "{drops} drops in two minutes");
    }
}

#[test]
fn a_friend_whose_link_ends_for_want_of_room_is_heard_at_once() {
    let [a, b] = ordered();
    for (judge, other) in [(a, b), (b, a)] {
        let mut world = world(&[a, b]);
        keep(&mut world, a, b);
        keep(&mut world, b, a);
        for _ in 0..5 {
            assert!(world.run_until(|world| world.linked(a, b)));
            world.tell(judge, Input::EndLink { friend: key(other) });
            assert!(world.node(judge).up.is_empty());
            let now = world.now;
            assert!(!world.node(judge).links.friends[&key(other)].shun.is_on(now));
        }
        assert!(world.run_until(|world| world.linked(a, b)));
    }
}

#[test]
fn friends_find_each_other_at_the_relay_that_works() {
    let [a, b] = ordered();
    let mut world = world(&[a, b]);
    for node in [a, b] {
        world.tell(node, Input::Listen(relay_address(OTHER_RELAY)));
    }
    let relays = || List::truncated([relay_address(77), relay_address(RELAY), relay_address(OTHER_RELAY)]);
    world.tell(a, Input::KeepLink { friend: key(b), relays: relays() });
    world.tell(b, Input::KeepLink { friend: key(a), relays: relays() });
    assert!(world.run_until(|world| world.linked(a, b)));
    assert_eq!(world.node(a).relays, BTreeSet::from([key(RELAY), key(OTHER_RELAY)]));
    world.hosts.remove(&RELAY);
    world.cut(a, RELAY);
    world.cut(b, RELAY);
    world.run(Duration::from_secs(1));
    assert!(world.run_until(|world| world.linked(a, b)));
    assert_eq!(world.node(a).relays, BTreeSet::from([key(OTHER_RELAY)]));
    assert!(world.talk(a, b));
    world.tell(a, Input::StopListening { relay: key(OTHER_RELAY) });
    assert_eq!(world.node(a).relays, BTreeSet::new());
    assert!(world.talk(a, b), "a link outlives the relay's removal");
}

/// Speaks as a relay to one node, with calls from a friend.
fn lone_node() -> (Links, Instant, ConnId) {
    let [a, b] = ordered();
    let mut node = TestNode::new(a, 5);
    let now = Instant::from_micros(1_000_000);
    let share = RelayShare { halves: 512, tunnel_ends: 2_048, bytes_per_s: 1 << 20, burst_bytes: 1 << 20 };
    let inputs = [
        Input::Listen(relay_address(RELAY)),
        Input::KeepLink { friend: key(b), relays: List::new() },
        Input::Net(NetEvent::Opened { conn: ConnId::outgoing(0) }),
        Input::Net(NetEvent::Message { conn: ConnId::outgoing(0), bytes: encode(&FromRelay::Listening { share }) }),
    ];
    turn(&mut node.links, now, inputs, |_| {});
    (node.links, now, ConnId::outgoing(0))
}

/// The relay says that this friend calls; gives the connections with which the node takes calls.
fn call(links: &mut Links, now: Instant, listener: ConnId, from: PublicKey) -> Vec<ConnId> {
    let bytes = encode(&FromRelay::Incoming { from });
    let mut conns = Vec::new();
    turn(links, now, [Input::Net(NetEvent::Message { conn: listener, bytes })], |output| {
        if let Output::Net(NetCommand::Connect { conn, .. }) = output {
            conns.push(conn);
        }
    });
    conns
}

#[test]
fn a_relay_that_invents_calls_is_answered_busy_beyond_the_limits() {
    let (mut links, now, listener) = lone_node();
    let friends: Vec<_> = (0..100).map(|n| key(100 + n)).collect();
    let relays = List::new;
    turn(&mut links, now, friends.iter().map(|&friend| Input::KeepLink { friend, relays: relays() }), |_| {});
    let mut taken = std::collections::BTreeMap::<PublicKey, usize>::new();
    for &friend in friends.iter().cycle().take(friends.len() * 20) {
        for conn in call(&mut links, now, listener, friend) {
            *taken.entry(friend).or_default() += 1;
            // The tunnel stands, and nothing but noise comes through it.
            let events = [
                NetEvent::Opened { conn },
                NetEvent::Message { conn, bytes: encode(&FromRelay::Ready) },
                NetEvent::Message { conn, bytes: vec![0; 100] },
            ];
            turn(&mut links, now, events.map(Input::Net), |_| {});
            links.assert_consistent();
        }
    }
    assert_eq!(taken.values().sum::<usize>(), MAX_CALLS_OF_RELAY);
    assert!(taken.values().all(|count| *count <= MAX_CALLS_OF_FRIEND));
    assert!(links.sessions.is_empty());
    let later = now + HANDSHAKE_DEADLINE;
    assert_eq!(call(&mut links, later, listener, friends[0]).len(), 1, "the honest ones are heard again");
}

#[test]
fn silent_tunnels_are_bounded_and_time_out() {
    let [_, b] = ordered();
    let (mut links, mut now, listener) = lone_node();
    for _ in 0..50 {
        let conns = call(&mut links, now, listener, key(b));
        for conn in conns {
            let events = [NetEvent::Opened { conn }, NetEvent::Message { conn, bytes: encode(&FromRelay::Ready) }];
            turn(&mut links, now, events.map(Input::Net), |_| {});
        }
        assert!(links.sessions.len() <= 1, "one for each relay and direction");
        links.assert_consistent();
    }
    assert_eq!(links.sessions.len(), 1);
    now += HANDSHAKE_DEADLINE;
    turn(&mut links, now, [Input::Tick], |_| {});
    assert!(links.sessions.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Cuts, crashes, altered bytes and commands in any order: nothing panics, and afterwards the friends find each other.
    #[test]
    fn whatever_happens_to_the_network_friends_find_each_other_afterwards(
        events in proptest::collection::vec((0u8..8, 0usize..2, 1u64..3_000), 0..20),
        flips in proptest::collection::btree_set(0usize..400, 0..6),
    ) {
        let nodes: [HostId; 2] = ordered();
        let mut world = world(&nodes);
        let mut count = 0;
        world.mangle = Box::new(move |_, _, mut bytes| {
            count += 1;
            if flips.contains(&count) && !bytes.is_empty() {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 0x10;
            }
            Some(bytes)
        });
        keep(&mut world, nodes[0], nodes[1]);
        keep(&mut world, nodes[1], nodes[0]);
        for (event, who, ms) in events {
            let (node, other) = (nodes[who], nodes[1 - who]);
            match event {
                0 => world.cut(node, RELAY),
                1 => {
                    world.vanish(node, TestHost::Node(Box::new(TestNode::new(node, ms))));
                    world.tell(node, Input::Listen(relay_address(RELAY)));
                    keep(&mut world, node, other);
                }
                2 => world.tell(node, Input::NetworkReturned),
                3 => world.tell(node, Input::DropLink { friend: key(other) }),
                4 => {
                    world.tell(node, Input::StopLink { friend: key(other) });
                    keep(&mut world, node, other);
                }
                5 => world.tell(node, Input::Send { friend: key(other), message: long_message() }),
                6 => world.vanish(RELAY, relay(RELAY)),
                _ => {}
            }
            world.run(Duration::from_millis(ms));
        }
        world.mangle = Box::new(|_, _, bytes| Some(bytes));
        world.run(Duration::from_secs(120));
        prop_assert!(world.linked(nodes[0], nodes[1]));
        prop_assert!(world.talk(nodes[0], nodes[1]));
        for node in nodes {
            prop_assert_eq!(world.node(node).links.sessions.len(), 1);
        }
    }
}
