//! What an honest pair does, one story a test.

use offset_protocol::limits::{ACK_DELAY, MAX_BATCH_BYTES, MAX_BATCH_OPS, MAX_CURRENCIES, MAX_ROUTE_LEN};

use super::*;
use crate::ledger::Unsendable;

/// The batches that wait for `to`, decoded.
fn bodies(pair: &Pair, to: usize) -> Vec<friend::Body> {
    let batches = pair.wire[to].iter().filter_map(|message| match message {
        FriendMessage::Batch(batch) => Some(batch.decode_body().unwrap()),
        _ => None,
    });
    batches.collect()
}

/// `who` asks the other for `amount`; both have applied it.
fn ask(pair: &mut Pair, who: usize, number: u64, amount: u128) {
    pair.enqueue(who, Operation::Request(request(number, amount))).unwrap();
    pair.settle();
}

/// The seller's answer of `who` to the open request.
fn answer(pair: &mut Pair, who: usize, number: u64) {
    let open = pair.channel(who).incoming(&usd(), &id(number)).unwrap().request.clone();
    pair.enqueue(who, Operation::Response(response(&open, KEYS[who], usd()))).unwrap();
}

#[test]
fn a_payment_takes_three_trips() {
    let mut pair = Pair::open();
    pair.enqueue(0, Operation::Request(request(1, 30))).unwrap();
    pair.round(0, End::Speaks);
    assert!(pair.deliver(1));
    assert!(matches!(pair.events(1).as_slice(), [.., ChannelEvent::Request { .. }]));
    answer(&mut pair, 1, 1);
    pair.round(1, End::Speaks);
    assert!(pair.deliver(0));
    assert!(matches!(pair.events(0).as_slice(), [.., ChannelEvent::Response { .. }]));
    pair.enqueue(1, collect(id(1))).unwrap();
    pair.round(1, End::Speaks);
    assert!(pair.deliver(0));
    assert!(matches!(pair.events(0).as_slice(), [ChannelEvent::Collected { .. }]));
    pair.settle();
    pair.assert_mirrored();
    assert_eq!(pair.channel(0).currency(&usd()).unwrap().balance, -30);
    assert_eq!(pair.channel(1).currency(&usd()).unwrap().balance, 30);
}

#[test]
fn a_commit_travels_to_the_seller_and_a_withdrawal_too() {
    let mut pair = Pair::open();
    ask(&mut pair, 0, 1, 5);
    answer(&mut pair, 1, 1);
    pair.settle();
    pair.events(1);
    pair.enqueue(0, commit(id(1))).unwrap();
    assert_eq!(pair.enqueue(0, withdraw(id(1))), Err(Unsendable::WrongStage.into()));
    pair.settle();
    assert!(matches!(pair.events(1).as_slice(), [ChannelEvent::Commit { .. }]));
    ask(&mut pair, 0, 2, 5);
    pair.events(1);
    pair.enqueue(0, withdraw(id(2))).unwrap();
    pair.settle();
    assert!(matches!(pair.events(1).as_slice(), [ChannelEvent::Withdraw { .. }]));
    pair.assert_mirrored();
}

#[test]
fn a_commit_and_a_withdrawal_that_cross_an_answer_are_ignored() {
    let mut pair = Pair::open();
    ask(&mut pair, 0, 1, 5);
    ask(&mut pair, 0, 2, 5);
    answer(&mut pair, 1, 1);
    pair.settle();
    pair.enqueue(0, commit(id(1))).unwrap();
    pair.enqueue(0, withdraw(id(2))).unwrap();
    pair.enqueue(1, collect(id(1))).unwrap();
    pair.enqueue(1, cancel(id(2))).unwrap();
    pair.round(0, End::Speaks);
    pair.round(1, End::Speaks);
    pair.events(1);
    pair.settle();
    assert_eq!(pair.events(1), []);
    pair.assert_mirrored();
    assert!(pair.channel(1).crossing.is_empty());
}

/// Found by the swarm (seed 11041): it stayed queued for as long as nothing else could be said to the friend.
#[test]
fn what_waits_about_a_request_goes_when_the_request_ends() {
    let mut pair = Pair::open();
    ask(&mut pair, 0, 1, 5);
    ask(&mut pair, 0, 2, 5);
    answer(&mut pair, 1, 1);
    pair.settle();
    pair.enqueue(1, collect(id(1))).unwrap();
    pair.enqueue(1, cancel(id(2))).unwrap();
    pair.round(1, End::Speaks);
    pair.enqueue(0, commit(id(1))).unwrap();
    pair.enqueue(0, withdraw(id(2))).unwrap();
    assert!(pair.deliver(0));
    assert!(pair.parties[0].channel.queue.is_empty());
    let within = |size: &Size| size.size <= size.limit;
    assert!(pair.channel(0).sizes().iter().all(within));
    pair.settle();
    pair.assert_mirrored();
}

#[test]
fn a_request_beyond_the_limit_comes_back_with_the_reason() {
    let mut pair = Pair::open();
    pair.channel(1).set_max_debt(usd(), 10).unwrap();
    assert_eq!(pair.channel(1).recv_capacity(&usd()), 10);
    ask(&mut pair, 0, 1, 11);
    let reasons = |events: Vec<ChannelEvent>| -> Vec<CancelReason> {
        let cancelled = events.into_iter().filter_map(|event| match event {
            ChannelEvent::Cancelled { cancel, .. } => Some(cancel.reason),
            _ => None,
        });
        cancelled.collect()
    };
    assert_eq!(reasons(pair.events(0)), [CancelReason::Capacity]);
    assert!(!pair.events(1).iter().any(|event| matches!(event, ChannelEvent::Request { .. })));
    ask(&mut pair, 0, 2, 10);
    assert_eq!(pair.channel(1).recv_capacity(&usd()), 0);
    pair.channel(1).close_currency(usd(), &mut Vec::new()).unwrap();
    ask(&mut pair, 0, 3, 1);
    assert_eq!(reasons(pair.events(0)), [CancelReason::Closed]);
    pair.assert_mirrored();
}

#[test]
fn answers_come_first_then_what_is_forwarded_then_our_own() {
    let mut pair = Pair::open();
    ask(&mut pair, 1, 1, 5);
    let channel = pair.channel(0);
    channel.enqueue(usd(), Origin::Own, Operation::Request(request(2, 1))).unwrap();
    channel.enqueue(usd(), Origin::Forwarded, Operation::Request(request(3, 1))).unwrap();
    channel.enqueue(usd(), Origin::Own, cancel(id(1))).unwrap();
    pair.round(0, End::Speaks);
    let [body] = bodies(&pair, 1).try_into().unwrap();
    let order: Vec<_> = body.operations[0].operations.iter().map(queue::request_id).collect();
    assert_eq!(order, [id(1), id(3), id(2)]);
}

#[test]
fn an_acknowledgement_waits_for_a_moment_and_is_not_itself_acknowledged() {
    let mut pair = Pair::open();
    pair.enqueue(0, Operation::Request(request(1, 5))).unwrap();
    pair.round(0, End::Speaks);
    pair.deliver(1);
    let alarm = pair.channel(1).poll_timeout().unwrap();
    assert_eq!(alarm.at, pair.now + ACK_DELAY);
    pair.round(1, End::Speaks);
    assert!(bodies(&pair, 0).is_empty());
    pair.now = alarm.at;
    pair.round(1, End::Speaks);
    assert_eq!(bodies(&pair, 0), [friend::Body::default()]);
    assert_eq!(pair.channel(1).poll_timeout(), None);
    pair.deliver(0);
    assert!(pair.channel(0).unacked.is_empty());
    assert_eq!(pair.channel(0).poll_timeout(), None);
    // It stays, and goes with the next thing that the other says.
    assert_eq!(pair.channel(1).unacked.len(), 1);
    ask(&mut pair, 0, 2, 5);
    assert_eq!(pair.channel(1).unacked.len(), 1);
}

#[test]
fn half_a_window_is_acknowledged_at_once() {
    let mut pair = Pair::open();
    for number in 0..WINDOW as u64 / 2 {
        pair.enqueue(0, Operation::Request(request(number, 5))).unwrap();
        pair.round(0, End::Speaks);
        pair.round(1, End::Speaks);
        assert!(bodies(&pair, 0).is_empty());
        pair.deliver(1);
    }
    pair.round(1, End::Speaks);
    assert_eq!(bodies(&pair, 0).len(), 1);
}

#[test]
fn a_full_window_holds_back_operations_and_never_an_acknowledgement() {
    let mut pair = Pair::open();
    for who in [0, 1] {
        for number in 0..WINDOW as u64 + 5 {
            pair.enqueue(who, Operation::Request(request(100 * who as u64 + number, 5))).unwrap();
            pair.round(who, End::Speaks);
        }
        assert_eq!(pair.wire[1 - who].len(), WINDOW);
        assert_eq!(pair.channel(who).all_queued().count(), 5);
    }
    pair.settle();
    pair.assert_mirrored();
    for who in [0, 1] {
        assert_eq!(pair.channel(who).all_outgoing().count(), WINDOW + 5);
        assert!(pair.channel(who).queue.is_empty());
    }
}

#[test]
fn a_friend_that_acknowledges_nothing_fills_no_memory() {
    let mut pair = Pair::open();
    // Everything that 1 says is lost, and 0 goes on as if nothing were missing.
    for number in 0..2 * MAX_UNACKED as u64 {
        let mut forged = next_batch(pair.channel(1), &operations(vec![Operation::Request(request(number, 1))]));
        forged.state_totals(pair.channel(1), |totals| totals.out_frozen += 1);
        pair.hand(1, forged.sign(0));
        pair.wait(60);
        pair.round(1, End::Speaks);
        pair.wire[0].clear();
    }
    assert!(matches!(pair.channel(1).standing(), Standing::Consistent { .. }));
    assert_eq!(pair.channel(1).unacked.len(), MAX_UNACKED);
    assert_eq!(pair.channel(1).poll_timeout(), None);
}

#[test]
fn what_was_lost_is_said_again_byte_for_byte() {
    let mut pair = Pair::open();
    pair.enqueue(0, Operation::Request(request(1, 5))).unwrap();
    pair.round(0, End::Speaks);
    let first = pair.wire[1].clone();
    pair.unlink();
    pair.parties[0].channel = pair.parties[0].restored();
    pair.link();
    pair.round(0, End::Speaks);
    assert!(matches!(pair.wire[1].pop_front(), Some(FriendMessage::Limits(_))));
    assert!(matches!(pair.wire[1].pop_front(), Some(FriendMessage::Resume(_))));
    pair.round(1, End::Speaks);
    while pair.deliver(0) {}
    pair.round(0, End::Speaks);
    assert_eq!(pair.wire[1], first);
}

#[test]
fn a_replayed_batch_changes_nothing() {
    let mut pair = Pair::open();
    pair.enqueue(0, Operation::Request(request(1, 5))).unwrap();
    pair.round(0, End::Speaks);
    let again = pair.wire[1].clone();
    pair.settle();
    let before = pair.channel(1).clone();
    pair.events(1);
    for message in again {
        pair.hand(1, message);
    }
    assert_eq!(pair.events(1), []);
    assert_same(&before, pair.channel(1));
}

#[test]
fn requests_that_were_never_signed_come_back_when_the_link_goes() {
    let mut pair = Pair::open();
    pair.enqueue(0, Operation::Request(request(1, 5))).unwrap();
    pair.unlink();
    let dropped = pair.events(0).pop().unwrap();
    assert!(matches!(dropped, ChannelEvent::Dropped { why: Refused::Offline, .. }));
    assert_eq!(pair.enqueue(0, Operation::Request(request(2, 5))), Err(Refused::Offline));
    assert_eq!(pair.channel(0).can_push(&usd()), Err(Refused::Offline));
}

#[test]
fn a_withdrawal_undoes_a_request_that_still_waits() {
    let mut pair = Pair::open();
    pair.enqueue(0, Operation::Request(request(1, 5))).unwrap();
    assert_eq!(pair.enqueue(0, withdraw(id(1))), Ok(Enqueued::Undone(request(1, 5))));
    assert!(pair.channel(0).queue.is_empty());
    pair.round(0, End::Speaks);
    assert!(bodies(&pair, 1).is_empty());
}

#[test]
fn queues_of_requests_are_bounded_each_for_itself() {
    let mut pair = Pair::open();
    let channel = pair.channel(0);
    for number in 0..MAX_QUEUED_REQUESTS as u64 {
        channel.enqueue(usd(), Origin::Forwarded, Operation::Request(request(number, 1))).unwrap();
    }
    let more = |channel: &mut Channel, origin| channel.enqueue(usd(), origin, Operation::Request(request(9_999, 1)));
    assert_eq!(more(channel, Origin::Forwarded), Err(Refused::Full));
    assert_eq!(Refused::Full.cancel_reason(), CancelReason::Busy);
    assert_eq!(more(channel, Origin::Own), Ok(Enqueued::Queued));
    // Three batches, the first two of them full, leave in one round.
    pair.round(0, End::Speaks);
    let sizes: Vec<_> = bodies(&pair, 1).iter().map(|body| body.operations[0].operations.len()).collect();
    assert_eq!(sizes, [MAX_BATCH_OPS, MAX_BATCH_OPS, 1]);
}

#[test]
fn the_largest_requests_fit_into_batches() {
    let mut pair = Pair::open();
    let route: Vec<_> = (0..MAX_ROUTE_LEN as u8).map(|hop| PublicKey([hop + 100; 32])).collect();
    for number in 0..400 {
        let route = List::try_from(route.clone()).unwrap();
        let amount = (1 << 80) + u128::from(number);
        pair.enqueue(0, Operation::Request(Request { route, left_fees: 1 << 79, ..request(number, amount) })).unwrap();
    }
    pair.round(0, End::Speaks);
    let batches: Vec<_> = pair.wire[1]
        .iter()
        .filter_map(|message| match message {
            FriendMessage::Batch(batch) => Some(batch.body.len()),
            _ => None,
        })
        .collect();
    assert!(batches.len() > 1 && batches.iter().all(|length| *length <= MAX_BATCH_BYTES), "{batches:?}");
    pair.settle();
    pair.assert_mirrored();
}

#[test]
fn an_operation_is_never_longer_than_it_is_measured() {
    let amount = MAX_AMOUNT / 4;
    let route: Vec<_> = (0..MAX_ROUTE_LEN as u8).map(|hop| PublicKey([hop + 100; 32])).collect();
    let request = Request { route: List::try_from(route).unwrap(), left_fees: amount, ..request(1, amount) };
    let operations = [
        Operation::Response(response(&request, SELLER, usd())),
        Operation::Request(request),
        collect(id(1)),
        cancel(id(1)),
        commit(id(1)),
        withdraw(id(1)),
    ];
    for operation in operations {
        let length = offset_protocol::codec::encode(&operation).len();
        assert!(length <= speak::most_bytes(&operation), "{operation:?} takes {length} bytes");
    }
}

#[test]
fn a_currency_is_removed_when_the_friend_has_signed_for_it() {
    let mut pair = Pair::open();
    ask(&mut pair, 0, 1, 5);
    assert_eq!(pair.channel(0).remove_currency(usd()), Err(ConfigError::InUse));
    assert_eq!(pair.channel(1).remove_currency(usd()), Err(ConfigError::InUse));
    pair.enqueue(1, cancel(id(1))).unwrap();
    pair.settle();
    pair.channel(0).remove_currency(usd()).unwrap();
    assert!(pair.channel(0).currency(&usd()).is_some());
    pair.settle();
    assert!(pair.events(0).contains(&ChannelEvent::CurrencyRemoved(usd())));
    assert!(!pair.channel(1).currency(&usd()).unwrap().friend_listed);
    assert_eq!(pair.enqueue(1, Operation::Request(request(2, 5))), Err(Refused::NotListed));
    pair.channel(1).remove_currency(usd()).unwrap();
    pair.settle();
    assert_eq!(pair.channel(0).currencies().count(), 0);
    assert_eq!(pair.channel(1).currencies().count(), 0);
}

#[test]
fn a_request_that_crosses_a_removal_is_cancelled() {
    let mut pair = Pair::open();
    pair.enqueue(0, Operation::Request(request(1, 5))).unwrap();
    pair.round(0, End::Speaks);
    pair.channel(1).remove_currency(usd()).unwrap();
    pair.round(1, End::Speaks);
    pair.settle();
    let cancelled = |event: &ChannelEvent| matches!(event, ChannelEvent::Cancelled { cancel, .. } if cancel.reason == CancelReason::Closed);
    assert!(pair.events(0).iter().any(cancelled));
    assert!(pair.events(1).contains(&ChannelEvent::CurrencyRemoved(usd())));
    pair.assert_mirrored();
}

#[test]
fn a_request_that_comes_while_a_currency_leaves_delays_it() {
    let mut pair = Pair::open();
    pair.enqueue(0, Operation::Request(request(1, 5))).unwrap();
    pair.round(0, End::Speaks);
    pair.channel(1).remove_currency(usd()).unwrap();
    pair.deliver(1);
    pair.settle();
    assert!(matches!(pair.channel(0).standing(), Standing::Consistent { .. }));
    assert!(pair.events(1).contains(&ChannelEvent::CurrencyRemoved(usd())));
    pair.assert_mirrored();
}

#[test]
fn a_currency_stays_listed_until_the_last_crossing_request_is_cancelled() {
    let mut pair = Pair::open();
    // More than the cancels of one batch.
    for number in 0..MAX_BATCH_OPS as u64 + 88 {
        pair.enqueue(0, Operation::Request(request(number, 1))).unwrap();
    }
    pair.round(0, End::Speaks);
    pair.channel(1).remove_currency(usd()).unwrap();
    while pair.deliver(1) {}
    pair.round(1, End::Speaks);
    let bodies = bodies(&pair, 0);
    let says: Vec<_> = bodies.iter().map(|body| body.currencies.is_some()).collect();
    assert_eq!(says, [false, true]);
    pair.settle();
    assert!(pair.events(1).contains(&ChannelEvent::CurrencyRemoved(usd())));
    pair.assert_mirrored();
    pair.assert_lists_known();
}

#[test]
fn a_removal_is_done_when_its_own_batch_is_signed_for_and_not_earlier() {
    let mut pair = Pair::open();
    pair.events(0);
    let eur: Currency = "EUR".parse().unwrap();
    pair.channel(0).open_currency(eur).unwrap();
    pair.round(0, End::Speaks);
    pair.deliver(1);
    pair.wait(60);
    pair.round(1, End::Speaks);
    // The acknowledgement of the first list is on its way when the second leaves.
    pair.channel(0).remove_currency(eur).unwrap();
    pair.round(0, End::Speaks);
    pair.deliver(0);
    assert!(!pair.events(0).contains(&ChannelEvent::CurrencyRemoved(eur)));
    pair.settle();
    assert!(pair.events(0).contains(&ChannelEvent::CurrencyRemoved(eur)));
}

/// Found by random schedules: the removal let us forget the currency just before we read the friend's list.
#[test]
fn a_list_that_comes_with_the_acknowledgement_of_a_removal_is_kept() {
    let mut pair = Pair::new();
    for who in [0, 1] {
        pair.channel(who).open_currency(usd()).unwrap();
    }
    pair.channel(0).remove_currency(usd()).unwrap();
    pair.link();
    pair.round(0, End::Speaks);
    pair.round(1, End::Speaks);
    while pair.deliver(0) || pair.deliver(1) {}
    pair.round(0, End::Speaks);
    pair.deliver(1);
    pair.round(1, End::Speaks);
    pair.deliver(0);
    assert!(pair.events(0).contains(&ChannelEvent::CurrencyRemoved(usd())));
    pair.assert_lists_known();
}

#[test]
fn a_currency_that_only_the_friend_lists_can_be_opened_again() {
    let mut pair = Pair::open();
    pair.channel(0).remove_currency(usd()).unwrap();
    pair.settle();
    pair.channel(0).open_currency(usd()).unwrap();
    pair.channel(0).set_max_debt(usd(), 100).unwrap();
    pair.settle();
    pair.assert_lists_known();
    ask(&mut pair, 1, 1, 5);
    assert!(pair.channel(0).incoming(&usd(), &id(1)).is_some());
}

#[test]
fn queued_requests_come_back_when_the_friend_removes_the_currency() {
    let mut pair = Pair::open();
    pair.channel(1).remove_currency(usd()).unwrap();
    pair.round(1, End::Speaks);
    pair.enqueue(0, Operation::Request(request(1, 5))).unwrap();
    pair.deliver(0);
    let dropped = |event: &ChannelEvent| matches!(event, ChannelEvent::Dropped { why: Refused::NotListed, .. });
    assert!(pair.events(0).iter().any(dropped));
    pair.settle();
    pair.assert_mirrored();
}

#[test]
fn queued_requests_come_back_when_the_currency_is_closed() {
    let mut pair = Pair::open();
    pair.enqueue(0, Operation::Request(request(1, 5))).unwrap();
    let mut events = Vec::new();
    pair.channel(0).close_currency(usd(), &mut events).unwrap();
    assert!(matches!(events.as_slice(), [ChannelEvent::Dropped { why: Refused::Closed, .. }]));
    assert_eq!(pair.enqueue(0, Operation::Request(request(2, 5))), Err(Refused::Closed));
}

#[test]
fn a_friendship_has_at_most_so_many_currencies() {
    let mut pair = Pair::new();
    for number in 0..MAX_CURRENCIES {
        pair.channel(0).open_currency(format!("C{number}").parse().unwrap()).unwrap();
    }
    assert_eq!(pair.channel(0).open_currency(usd()), Err(ConfigError::TooMany));
    pair.link();
    pair.settle();
    assert_eq!(pair.channel(1).currencies().filter(|currency| currency.friend_listed).count(), MAX_CURRENCIES);
}

#[test]
fn relays_reach_the_friend_once_for_each_change() {
    let mut pair = Pair::open();
    pair.events(0);
    let relay = RelayAddress { public_key: SELLER, address: "relay:1".parse().unwrap() };
    let relays = List::try_from(vec![relay]).unwrap();
    pair.channel(0).set_relays(relays.clone());
    pair.settle();
    assert_eq!(pair.channel(1).friend_relays(), &relays);
    assert!(pair.events(1).contains(&ChannelEvent::FriendRelays(relays.clone())));
    assert_eq!(pair.events(0), [ChannelEvent::RelaysAcknowledged]);
    pair.channel(0).set_relays(relays);
    pair.round(0, End::Speaks);
    assert!(pair.wire[1].is_empty());
}

#[test]
fn an_operation_touches_few_records_however_much_is_open() {
    let mut pair = Pair::open();
    for number in 0..1_000 {
        pair.enqueue(0, Operation::Request(request(number, 1))).unwrap();
    }
    pair.settle();
    pair.enqueue(0, Operation::Request(request(5_000, 1))).unwrap();
    pair.channel(0).make_messages(Instant::from_micros(1), &Cheap(KEYS[0]), &mut Vec::new());
    let mut changes = Vec::new();
    pair.channel(0).take_changes(PREFIX, &mut changes);
    // Where the logs stand, the currency, the open request, the batch.
    assert_eq!(changes.len(), 4);
}

#[test]
fn nothing_is_left_of_an_erased_channel() {
    let mut pair = Pair::open();
    ask(&mut pair, 0, 1, 5);
    ask(&mut pair, 1, 2, 5);
    answer(&mut pair, 0, 2);
    pair.parties[0].persist();
    let mut changes = Vec::new();
    pair.channel(0).erase(PREFIX, &mut changes);
    let disk = &mut pair.parties[0].disk;
    for change in changes {
        assert_eq!(change.value, None);
        disk.remove(&change.key);
    }
    assert!(disk.is_empty(), "{disk:?}");
}

#[test]
fn records_of_something_else_are_refused() {
    let restore = |records: Vec<(Vec<u8>, Vec<u8>)>| Channel::restore(KEYS[0], KEYS[1], records).unwrap_err();
    assert_eq!(restore(vec![]), BadRecord::Missing("where the logs stand"));
    for key in [&b""[..], b"x", b"c1", b"lnot a currency", b"b1", b"q", b"i123"] {
        assert_eq!(restore(vec![(key.to_vec(), vec![])]), BadRecord::Key(key.to_vec()));
    }
    assert!(matches!(restore(vec![(b"c".to_vec(), vec![0])]), BadRecord::Value(_, _)));
}

#[test]
fn the_evidence_verifies_alone_and_states_the_friends_totals() {
    let mut pair = Pair::open();
    ask(&mut pair, 1, 1, 30);
    ask(&mut pair, 0, 2, 7);
    let evidence = pair.channel(0).evidence().unwrap();
    let header = evidence.verify(&Cheap(KEYS[0])).unwrap();
    assert_eq!((evidence.sender, evidence.receiver, header.epoch), (KEYS[1], KEYS[0], 0));
    let totals = CurrencyTotals { currency: usd(), balance: 0, out_frozen: 30, in_frozen: 7 };
    assert_eq!(evidence.totals[..], [totals]);
}
