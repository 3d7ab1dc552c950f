//! How many requests may be open, and whose.

use offset_protocol::limits::MAX_PENDING;

use super::*;
use crate::ledger::Unsendable;
use crate::ledger::guard::{OTHERS_PLACES, OWN_REQUESTS, PLACES};

#[test]
fn an_honest_node_opens_no_more_requests_than_a_friend_takes() {
    let mut pair = Pair::open();
    for number in 0..MAX_PENDING as u64 {
        pair.enqueue(0, Operation::Request(request(number, 1))).unwrap();
        if number % 1_000 == 999 {
            pair.settle();
        }
    }
    assert_eq!(pair.enqueue(0, Operation::Request(request(9_999, 1))), Err(Unsendable::Busy.into()));
    pair.settle();
    assert_eq!(pair.enqueue(0, Operation::Request(request(9_999, 1))), Err(Unsendable::Busy.into()));
    assert_eq!(pair.channel(1).all_incoming().count(), MAX_PENDING);
    pair.assert_mirrored();
}

/// Found by the swarm, seed 3847: a friend's flood of requests, held behind somebody who had left for good, kept an honest node
/// from paying its own friend.
#[test]
fn requests_of_others_that_nobody_answers_leave_room_for_our_own() {
    let mut pair = Pair::open();
    let forward = |pair: &mut Pair, number: u64| {
        pair.enqueue_from(0, usd(), Origin::Forwarded, Operation::Request(request(number, 1)))
    };
    let most = (MAX_PENDING - OWN_REQUESTS) as u64;
    for number in 0..most {
        forward(&mut pair, number).unwrap();
        if number % 1_000 == 999 {
            pair.settle();
        }
    }
    assert_eq!(forward(&mut pair, most), Err(Refused::Full));
    pair.settle();
    assert_eq!(forward(&mut pair, most), Err(Refused::Full));
    for number in 0..OWN_REQUESTS as u64 {
        pair.enqueue(0, Operation::Request(request(10_000 + number, 1))).unwrap();
    }
    assert_eq!(pair.enqueue(0, Operation::Request(request(20_000, 1))), Err(Unsendable::Busy.into()));
    pair.settle();
    assert_eq!(pair.channel(1).all_incoming().filter(|(_, open)| !open.refused).count(), MAX_PENDING);
    pair.enqueue(1, cancel(id(0))).unwrap();
    pair.settle();
    assert_eq!(forward(&mut pair, most), Err(Refused::Full), "the place that became free is not for others");
    pair.assert_mirrored();
}

/// Found by a hostile reader: a thousand requests of one unit that go on from a friend took all the places that it has for such,
/// and our own could only end there.
#[test]
fn requests_of_others_that_go_on_from_a_friend_leave_room_for_our_own_that_do() {
    let mut pair = Pair::open();
    let onward = |number: u64| {
        let route = List::truncated([PublicKey([77; 32])]);
        Operation::Request(Request { route, ..request(number, 1) })
    };
    let most = OTHERS_PLACES as u64;
    for number in 0..most {
        pair.enqueue_from(0, usd(), Origin::Forwarded, onward(number)).unwrap();
        if number % 1_000 == 999 {
            pair.settle();
        }
    }
    let more = |pair: &mut Pair| pair.enqueue_from(0, usd(), Origin::Forwarded, onward(most));
    assert_eq!(more(&mut pair), Err(Refused::Full));
    pair.settle();
    assert_eq!(more(&mut pair), Err(Refused::Full));
    for number in 0..(PLACES - OTHERS_PLACES) as u64 {
        pair.enqueue(0, onward(10_000 + number)).unwrap();
    }
    pair.settle();
    assert_eq!(pair.channel(1).all_incoming().filter(|(_, open)| !open.refused).count(), PLACES);
    // What ends at the friend has places of its own.
    pair.enqueue_from(0, usd(), Origin::Forwarded, Operation::Request(request(20_000, 1))).unwrap();
    pair.enqueue(0, onward(30_000)).unwrap();
    pair.settle();
    let refused: Vec<_> = pair.channel(1).all_incoming().filter(|(_, open)| open.refused).collect();
    assert!(refused.is_empty(), "cancelled already");
    assert_eq!(pair.channel(0).all_outgoing().count(), PLACES + 1);
    pair.enqueue(1, cancel(id(0))).unwrap();
    pair.settle();
    assert_eq!(more(&mut pair), Err(Refused::Full), "the place that became free is not for others");
    pair.assert_mirrored();
}
