//! What requests that go on from here may hold, over time and over a restart.

use super::*;
use crate::ledger::Allowance;
use crate::ledger::guard::PATIENCE;

/// A request that goes on to a seller behind the receiver.
fn onward(number: u64, amount: u128) -> Operation {
    Operation::Request(Request { route: List::truncated([SELLER]), ..request(number, amount) })
}

impl Pair {
    /// A line of 1200 from party 0 to party 1.
    fn narrow() -> Pair {
        let mut pair = Pair::open();
        pair.channel(1).set_max_debt(usd(), 1_200).unwrap();
        pair.settle();
        pair
    }

    /// Everything that is said arrives, at this very moment.
    pub(super) fn exchange(&mut self) {
        for _ in 0..4 {
            self.round(0, End::Speaks);
            self.round(1, End::Speaks);
            while self.deliver(0) || self.deliver(1) {}
        }
    }

    fn capacities(&self) -> (u128, u128) {
        let channel = &self.parties[1].channel;
        (channel.recv_capacity(&usd()), channel.forward_capacity(&usd()))
    }
}

fn cancelled(events: &[ChannelEvent]) -> Vec<(RequestId, CancelReason)> {
    let reason = |event: &ChannelEvent| match event {
        ChannelEvent::Cancelled { cancel, .. } => Some((cancel.request_id, cancel.reason)),
        _ => None,
    };
    events.iter().filter_map(reason).collect()
}

/// A request of somebody else's that goes on from the friend.
fn pass_on(pair: &mut Pair, number: u64, amount: u128) -> Result<Enqueued, Refused> {
    let passed = pair.enqueue_from(0, usd(), Origin::Forwarded, onward(number, amount));
    pair.exchange();
    passed
}

/// Ours, that goes on from the friend: why it comes back, if it does.
fn pay(pair: &mut Pair, number: u64, amount: u128) -> Vec<(RequestId, CancelReason)> {
    pair.enqueue(0, onward(number, amount)).unwrap();
    pair.exchange();
    cancelled(&pair.events(0))
}

#[test]
fn others_are_passed_on_up_to_a_third_of_the_line_and_what_is_kept_is_ours_from_the_first_burst() {
    let mut pair = Pair::narrow();
    assert_eq!(pass_on(&mut pair, 1, 401), Err(Refused::Full), "more than a third at once");
    assert_eq!(pass_on(&mut pair, 2, 300), Ok(Enqueued::Queued));
    assert_eq!(pass_on(&mut pair, 3, 101), Err(Refused::Full), "more than a third together");
    assert_eq!(pass_on(&mut pair, 4, 100), Ok(Enqueued::Queued));
    assert_eq!(pass_on(&mut pair, 5, 1), Err(Refused::Full));
    assert_eq!(pair.capacities(), (800, 100), "what is kept is offered");
    // What ends at the friend is not bounded.
    pair.enqueue_from(0, usd(), Origin::Forwarded, Operation::Request(request(6, 50))).unwrap();
    assert_eq!(pay(&mut pair, 7, 100), []);
    assert_eq!(pay(&mut pair, 8, 1), [(id(8), CancelReason::Capacity)], "five twelfths are held");
    assert_eq!(pair.capacities(), (650, 0));
    // Our own count where others' are bounded: what is kept is for our next one.
    pair.enqueue(1, cancel(id(2))).unwrap();
    pair.exchange();
    assert_eq!(pass_on(&mut pair, 9, 201), Err(Refused::Full));
    assert_eq!(pass_on(&mut pair, 10, 200), Ok(Enqueued::Queued));
    pair.assert_mirrored();
}

#[test]
fn what_waits_to_be_signed_counts_as_well() {
    let mut pair = Pair::narrow();
    let pass_on =
        |pair: &mut Pair, number, amount| pair.enqueue_from(0, usd(), Origin::Forwarded, onward(number, amount));
    pass_on(&mut pair, 1, 300).unwrap();
    assert_eq!(pass_on(&mut pair, 2, 101), Err(Refused::Full));
    pass_on(&mut pair, 3, 100).unwrap();
    assert_eq!(pass_on(&mut pair, 4, 1), Err(Refused::Full));
}

#[test]
fn what_is_held_for_long_leaves_others_less_until_it_has_ended_and_us_what_is_kept() {
    let mut pair = Pair::narrow();
    let began = pair.now;
    assert_eq!(pair.capacities(), (1_200, 400));
    pass_on(&mut pair, 1, 320).unwrap();
    assert_eq!((pair.now, pair.capacities()), (began, (880, 100)));
    // 120 more than may be held for good: the budget of 200 for a minute lasts 100 s. The alarm is the channel's own.
    pair.settle();
    assert_eq!((pair.now, pair.capacities()), (began + Duration::from_secs(100), (880, 100)));
    assert_eq!(pair.channel(0).allowance_ahead(&usd()), Allowance::Lasting);
    assert_eq!(pass_on(&mut pair, 2, 1), Err(Refused::Full));
    assert_eq!(pay(&mut pair, 3, 180), [], "all of the rest of five twelfths is ours");
    pair.enqueue(0, Operation::Request(request(4, 700))).unwrap();
    pair.exchange();
    assert_eq!(cancelled(&pair.events(0)), [], "what ends at the friend is as welcome as ever");
    for number in [1, 3, 4] {
        pair.enqueue(1, cancel(id(number))).unwrap();
    }
    pair.exchange();
    let ended = pair.now;
    assert_eq!(pair.capacities(), (1_200, 200));
    assert_eq!(pass_on(&mut pair, 5, 201), Err(Refused::Full));
    pair.settle();
    assert_eq!((pair.now, pair.capacities()), (ended + PATIENCE, (1_200, 400)));
    assert_eq!(pass_on(&mut pair, 6, 201), Ok(Enqueued::Queued));
    pair.assert_mirrored();
}

#[test]
fn a_restart_knows_what_is_held_and_takes_it_for_held_long() {
    let mut pair = Pair::narrow();
    pair.enqueue(0, onward(1, 100)).unwrap();
    pair.enqueue(0, Operation::Request(request(2, 300))).unwrap();
    pair.exchange();
    assert_eq!(pair.channel(1).forwarded_frozen(&usd()), 100);
    let restored = pair.parties[1].restored();
    assert_eq!(restored.forwarded_frozen(&usd()), 100);
    assert_eq!(restored.allowance(&usd()), Allowance::Lasting);
    assert_eq!(restored.poll_timeout(), None, "nobody is told while there is no link");
    assert_eq!((restored.recv_capacity(&usd()), restored.forward_capacity(&usd())), (800, 100));
    let sender = pair.parties[0].restored();
    assert_eq!(sender.allowance_ahead(&usd()), Allowance::Lasting);
    assert_eq!(sender.friends_limit(&usd()), 0, "the friend says it on the next link");
    // What was held by nobody is not held against anybody.
    pair.enqueue(1, cancel(id(1))).unwrap();
    pair.exchange();
    assert_eq!(pair.parties[1].restored().allowance(&usd()), Allowance::Full);
    assert_eq!(pair.parties[0].restored().allowance_ahead(&usd()), Allowance::Full);
}

#[test]
fn a_friend_tells_its_limit_on_every_link_before_all_else_and_when_it_changes() {
    let mut pair = Pair::narrow();
    assert_eq!(pair.channel(0).friends_limit(&usd()), 1_200);
    pair.channel(1).set_max_debt(usd(), 300).unwrap();
    pair.settle();
    assert_eq!(pair.channel(0).friends_limit(&usd()), 300);
    assert_eq!(pass_on(&mut pair, 1, 101), Err(Refused::Full));
    assert_eq!(pass_on(&mut pair, 2, 100), Ok(Enqueued::Queued));
    // After a restart nothing is known before the next link.
    pair.round(0, End::CrashesAfterPersist);
    assert_eq!(pair.channel(0).friends_limit(&usd()), 0);
    pair.link();
    pair.round(1, End::Speaks);
    assert!(matches!(pair.wire[0].make_contiguous(), [FriendMessage::Limits(_), FriendMessage::Resume(_), ..]));
    pair.settle();
    assert_eq!(pair.channel(0).friends_limit(&usd()), 300);
}

#[test]
fn a_friend_that_ends_its_channel_holds_nothing_any_more() {
    let mut pair = Pair::narrow();
    pair.enqueue(0, onward(1, 400)).unwrap();
    pair.exchange();
    pair.wait(200_000);
    pair.exchange();
    assert_eq!(pair.channel(1).allowance(&usd()), Allowance::Lasting);
    pair.forge(1);
    assert_eq!(pair.channel(1).forwarded_frozen(&usd()), 0);
    assert_eq!(pair.channel(1).allowance(&usd()), Allowance::Full);
}
