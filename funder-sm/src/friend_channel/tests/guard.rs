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
    fn exchange(&mut self) {
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

#[test]
fn what_is_held_for_long_leaves_less_until_it_has_ended() {
    let mut pair = Pair::narrow();
    let began = pair.now;
    assert_eq!(pair.capacities(), (1_200, 400));
    pair.enqueue(0, onward(1, 320)).unwrap();
    pair.exchange();
    assert_eq!((pair.now, pair.capacities()), (began, (880, 80)));
    // 120 more than may be held for good: the budget of 200 for a minute lasts 100 s. The alarm is the channel's own.
    pair.settle();
    assert_eq!((pair.now, pair.capacities()), (began + Duration::from_secs(100), (880, 0)));
    pair.enqueue(0, onward(2, 1)).unwrap();
    pair.enqueue(0, Operation::Request(request(3, 700))).unwrap();
    pair.exchange();
    assert_eq!(cancelled(&pair.events(0)), [(id(2), CancelReason::Capacity)], "what ends here is as welcome as ever");
    pair.enqueue(1, cancel(id(1))).unwrap();
    pair.enqueue(1, cancel(id(3))).unwrap();
    pair.exchange();
    let ended = pair.now;
    assert_eq!(pair.capacities(), (1_200, 200));
    pair.settle();
    assert_eq!((pair.now, pair.capacities()), (ended + PATIENCE, (1_200, 400)));
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
    // What was held by nobody is not held against anybody.
    pair.enqueue(1, cancel(id(1))).unwrap();
    pair.exchange();
    assert_eq!(pair.parties[1].restored().allowance(&usd()), Allowance::Full);
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
