//! Requests in currencies that we do not list: how many a liar can have us keep, and that an honest friend never has as many.

use offset_protocol::friend::{Body, CurrencyOperations, totals_hash};
use offset_protocol::limits::{MAX_BATCH_OPS, MAX_CURRENCIES, MAX_PENDING};

use super::*;
use crate::ledger::BrokenRule;

fn currency(number: usize) -> Currency {
    format!("C{number:02}").parse().unwrap()
}

fn only(currency: Currency, operations: Vec<Operation>) -> Body {
    let group = CurrencyOperations { currency, operations: List::try_from(operations).unwrap() };
    Body { operations: List::try_from(vec![group]).unwrap(), ..Body::default() }
}

/// 0 says this in its own name, acknowledging nothing new; `frozen` is what each of its currencies has frozen then.
fn say(pair: &mut Pair, body: &Body, frozen: &[u128]) {
    let mut lie = next_batch(pair.channel(1), body);
    let totals = |(number, frozen): (usize, &u128)| CurrencyTotals {
        currency: currency(number),
        balance: 0,
        out_frozen: *frozen,
        in_frozen: 0,
    };
    let totals: Vec<_> = frozen.iter().enumerate().filter(|(_, frozen)| **frozen > 0).map(totals).collect();
    lie.header.totals_hash = totals_hash(&totals);
    pair.hand(1, lie.sign(0));
    // What it answers is lost. A `Pair::round` would compare all that is open with a restart's, each time.
    let now = pair.now;
    pair.channel(1).make_messages(now, &Cheap(KEYS[1]), &mut Vec::new());
    pair.parties[1].persist();
}

/// Found by a reviewer: 8,192 for each of 32 currencies that the victim had never heard of, with as many answers that waited.
#[test]
fn a_friend_that_acknowledges_nothing_fills_no_memory_with_currencies_of_its_own() {
    let mut pair = Pair::open();
    let list: Vec<_> = (0..MAX_CURRENCIES).map(currency).collect();
    say(&mut pair, &Body { currencies: Some(List::try_from(list).unwrap()), ..Body::default() }, &[]);
    let mut frozen = [0; MAX_CURRENCIES];
    let (mut open, mut waiting, mut records, mut said) = (0, 0, 0, 0);
    'all: for number in 0..MAX_CURRENCIES {
        for _ in 0..2 * MAX_PENDING / MAX_BATCH_OPS {
            let ask = |n| Operation::Request(request(n, 1));
            let requests = (said..said + MAX_BATCH_OPS as u64).map(ask).collect();
            frozen[number] += MAX_BATCH_OPS as u128;
            say(&mut pair, &only(currency(number), requests), &frozen);
            if !matches!(pair.channel(1).standing(), Standing::Consistent { .. }) {
                break 'all;
            }
            said += MAX_BATCH_OPS as u64;
            open = open.max(pair.channel(1).all_incoming().count());
            waiting = waiting.max(pair.channel(1).all_queued().count());
            let size = |(key, value): (&Vec<u8>, &Vec<u8>)| key.len() + value.len();
            records = records.max(pair.parties[1].disk.iter().map(size).sum());
        }
    }
    // What fits into our window was cancelled, and so much more waits.
    assert_eq!((open, waiting), (MAX_UNLISTED, MAX_UNLISTED));
    assert_eq!(said as usize, MAX_UNLISTED + WINDOW * MAX_BATCH_OPS);
    assert!(records < 8 << 20, "{records} bytes of records");
    let Standing::Inconsistent { why, .. } = pair.channel(1).standing() else { panic!("262,144 requests are kept") };
    let request_id = id(said);
    let rule = BrokenRule::TooManyOpen;
    assert_eq!(*why, Misbehaviour::Operation { currency: currency(4), request_id, rule });
    assert_eq!(pair.channel(1).all_queued().count(), 0);
}

/// The most that an honest friend can do to an honest node: a whole window of requests in currencies that have left, while the
/// window of the node is full of something else.
#[test]
fn a_whole_window_of_requests_that_cross_a_removal_is_cancelled() {
    let mut pair = Pair::open();
    let all = 0..MAX_UNLISTED / MAX_PENDING;
    for who in [0, 1] {
        all.clone().for_each(|number| pair.channel(who).open_currency(currency(number)).unwrap());
    }
    pair.settle();
    for number in 0..WINDOW as u64 - 1 {
        pair.enqueue(1, Operation::Request(request(number, 1))).unwrap();
        pair.round(1, End::Speaks);
    }
    all.clone().for_each(|number| pair.channel(1).remove_currency(currency(number)).unwrap());
    pair.round(1, End::Speaks);
    for number in all {
        for part in 0..(MAX_PENDING / MAX_QUEUED_REQUESTS) as u64 {
            for nth in 0..MAX_QUEUED_REQUESTS as u64 {
                let nth = (number * MAX_PENDING) as u64 + part * MAX_QUEUED_REQUESTS as u64 + nth;
                let ask = Operation::Request(request(1_000 + nth, 1));
                pair.enqueue_in(0, currency(number), ask).unwrap();
            }
            pair.round(0, End::Speaks);
        }
    }
    while pair.deliver(1) {}
    assert_eq!(pair.channel(1).unlisted_open(), MAX_UNLISTED);
    pair.settle();
    for who in [0, 1] {
        assert!(matches!(pair.channel(who).standing(), Standing::Consistent { .. }));
    }
    assert_eq!(pair.channel(0).all_outgoing().count(), 0);
    pair.assert_mirrored();
    pair.assert_lists_known();
}

/// Otherwise the crossing requests of two removals would add up, beyond what one window holds.
#[test]
fn a_currency_leaves_the_list_when_nothing_is_open_any_more_in_those_that_left() {
    let mut pair = Pair::open();
    for who in [0, 1] {
        [0, 1].into_iter().for_each(|number| pair.channel(who).open_currency(currency(number)).unwrap());
    }
    pair.settle();
    // More than the cancels of one batch.
    for number in 0..MAX_BATCH_OPS as u64 + 88 {
        pair.enqueue_in(0, currency(0), Operation::Request(request(number, 1))).unwrap();
    }
    pair.channel(1).remove_currency(currency(0)).unwrap();
    pair.round(1, End::Speaks);
    pair.round(0, End::Speaks);
    while pair.deliver(1) {}
    pair.channel(1).remove_currency(currency(1)).unwrap();
    pair.wire[0].clear();
    pair.round(1, End::Speaks);
    let says = pair.wire[0].iter().filter_map(|message| match message {
        FriendMessage::Batch(batch) => Some(batch.decode_body().unwrap().currencies.is_some()),
        _ => None,
    });
    assert_eq!(says.collect::<Vec<_>>(), [false, true]);
}
