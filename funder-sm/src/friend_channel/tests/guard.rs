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
    assert_eq!(restored.poll_timeout(), None, "nobody is told while there is no link");
    let sender = pair.parties[0].restored();
    assert_eq!(sender.allowance_ahead(&usd()), Allowance::Lasting);
    assert_eq!(sender.friends_limit(&usd()), 0, "the friend says it on the next link");
    // What was held by nobody is not held against anybody.
    pair.enqueue(1, cancel(id(1))).unwrap();
    pair.exchange();
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
    pair.settle();
    assert_eq!(pair.channel(0).allowance_ahead(&usd()), Allowance::Full);
}

/// The party dies and comes back; the link with it.
fn restart(pair: &mut Pair, party: usize) {
    pair.round(party, End::CrashesAfterPersist);
    pair.link();
    pair.exchange();
}

/// Found by a reviewer: each end had a bucket of its own, and they came apart for good.
#[test]
fn what_is_offered_is_what_is_passed_on_after_restarts_and_outages() {
    for party in 0..2 {
        let mut pair = Pair::narrow();
        pass_on(&mut pair, 1, 200).unwrap();
        restart(&mut pair, party);
        for hours in [0, 1, 24 * 30] {
            pair.wait(hours * 3_600_000);
            pair.settle();
            let (_, offered) = pair.capacities();
            assert_eq!(offered, if party == 0 { 100 } else { 200 }, "after {hours} h");
            assert_eq!(pair.enqueue_from(0, usd(), Origin::Forwarded, onward(900 + hours, 201)), Err(Refused::Full));
            pair.assert_mirrored();
        }
    }
    // A cancel is on its way while the link is down: the sender counts for longer than the receiver.
    let mut pair = Pair::narrow();
    pass_on(&mut pair, 1, 390).unwrap();
    pair.enqueue(1, cancel(id(1))).unwrap();
    pair.round(1, End::Speaks);
    pair.unlink();
    pair.wait(3_600_000);
    pair.link();
    pair.exchange();
    pair.assert_mirrored();
    assert_eq!(pair.capacities(), (1_200, 200));
    assert_eq!(pass_on(&mut pair, 2, 201), Err(Refused::Full));
    assert_eq!(pass_on(&mut pair, 3, 200), Ok(Enqueued::Queued));
    pair.wait(30 * 24 * 3_600_000);
    pair.settle();
    pair.assert_mirrored();
    assert_eq!(pair.capacities(), (1_000, 100), "what is kept");
}

#[test]
fn after_a_restart_others_have_the_lasting_share_also_once_the_link_is_back() {
    let mut pair = Pair::narrow();
    pass_on(&mut pair, 1, 150).unwrap();
    restart(&mut pair, 0);
    assert_eq!(pass_on(&mut pair, 2, 51), Err(Refused::Full));
    assert_eq!(pass_on(&mut pair, 3, 50), Ok(Enqueued::Queued));
}

/// Found by a reviewer: an hour before the limit was lowered counted as an hour after it.
#[test]
fn a_limit_counts_from_when_it_is_told() {
    let mut pair = Pair::narrow();
    pass_on(&mut pair, 1, 190).unwrap();
    pair.settle();
    pair.wait(3_600_000);
    pair.channel(1).set_max_debt(usd(), 600).unwrap();
    pair.exchange();
    assert_eq!(pair.channel(0).allowance_ahead(&usd()), Allowance::Full, "190 of 600 for no time");
    pair.settle();
    assert_eq!(pair.channel(0).allowance_ahead(&usd()), Allowance::Lasting, "and for long");
}

#[test]
fn of_limits_the_later_one_of_a_currency_counts_and_none_above_the_largest_amount() {
    let mut pair = Pair::narrow();
    let now = pair.now;
    let limit = |max_debt, is_lasting| CurrencyLimit { currency: usd(), max_debt, is_lasting };
    let hear = |pair: &mut Pair, limits: &[CurrencyLimit]| {
        pair.channel(0).on_limits(now, &List::truncated(limits.iter().copied()));
        (pair.channel(0).friends_limit(&usd()), pair.channel(0).allowance(&usd()))
    };
    assert_eq!(hear(&mut pair, &[limit(5, true), limit(7, false)]), (7, Allowance::Full));
    assert_eq!(hear(&mut pair, &[limit(7, false), limit(u128::MAX, true)]), (MAX_AMOUNT, Allowance::Lasting));
    let others: Vec<_> =
        (0..32).map(|n| CurrencyLimit { currency: format!("C{n}").parse().unwrap(), ..limit(9, true) }).collect();
    assert_eq!(hear(&mut pair, &others), (0, Allowance::Full));
    assert_eq!(hear(&mut pair, &[]), (0, Allowance::Full));
}

/// Found by a reviewer.
#[test]
fn limits_are_said_again_when_a_currency_comes_and_when_it_goes() {
    let mut pair = Pair::narrow();
    let eur: Currency = "EUR".parse().unwrap();
    pair.channel(1).open_currency(eur).unwrap();
    pair.settle();
    assert!(pair.channel(0).friends_limits.iter().any(|limit| limit.currency == eur));
    pair.channel(1).set_max_debt(eur, 77).unwrap();
    pair.settle();
    assert_eq!(pair.channel(0).friends_limit(&eur), 77);
    for currency in [eur, usd()] {
        pair.channel(1).remove_currency(currency).unwrap();
        pair.settle();
        assert_eq!(pair.channel(0).friends_limit(&currency), 0);
    }
}

/// What SPEC 9.12.3 says about a line that becomes shorter, and about what ends at the friend.
#[test]
fn what_is_kept_is_gone_with_a_fifth_of_the_line_and_while_what_ends_at_the_friend_holds_the_rest() {
    let full = || {
        let mut pair = Pair::narrow();
        pass_on(&mut pair, 1, 400).unwrap();
        pair
    };
    let lowered = |limit| {
        let mut pair = full();
        pair.channel(1).set_max_debt(usd(), limit).unwrap();
        pair.exchange();
        pay(&mut pair, 3, 1).is_empty()
    };
    assert!(lowered(963) && !lowered(960));
    let mut pair = full();
    pair.enqueue_from(0, usd(), Origin::Forwarded, Operation::Request(request(2, 800))).unwrap();
    pair.exchange();
    assert!(!pay(&mut pair, 3, 1).is_empty());
}
