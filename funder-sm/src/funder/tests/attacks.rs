//! What a friend, a mediator or a second buyer may try.

use offset_protocol::app::{Answer, Command, CommitMode, InvoiceState, PaymentFailure, PaymentState, Refusal};
use offset_protocol::bytes::{HashedLock, InvoiceId, PlainLock, RequestId};
use offset_protocol::codec::Text;
use offset_protocol::friend::{FriendMessage, Operation};
use offset_protocol::limits::MAX_CURRENCIES;
use offset_protocol::machine::{Rng, WallTime};
use offset_protocol::money::Rate;
use offset_protocol::payment::{Commit, CommitRequest, Invoice, Request, Route, Withdraw, response_hash};

use super::net::{Net, dice, key, multi, name, part, usd};
use super::{commit_of, invoice_state, pay, receipt_of, status};
use crate::friend_channel::{ChannelEvent, Origin};
use crate::funder::{CheckedMessage, FunderInput};

/// The id of the one request that passes through a host.
fn id_at(net: &Net, host: usize) -> RequestId {
    *net.hosts[host].funder.transits.keys().next().expect("a request passes through")
}

/// A friend says what its own node would never say.
fn say(net: &mut Net, liar: usize, to: usize, operation: Operation) {
    let friend = net.hosts[liar].funder.friends.get_mut(&key(to)).unwrap();
    friend.channel.enqueue(usd(), Origin::Own, operation).unwrap();
    net.hosts[liar].funder.touch(key(to));
    net.hosts[liar].funder.round_due = true;
}

/// A request of one unit under an id and to an end of the liar's choice.
fn request(id: RequestId, route: Route, invoice: &Invoice, lock: &mut Rng) -> Request {
    Request {
        request_id: id,
        src_hashed_lock: HashedLock(lock.bytes()),
        route,
        dest_payment: 1,
        total_dest_payment: invoice.amount,
        invoice_id: invoice.invoice_id,
        left_fees: 0,
    }
}

/// Takes all that `from` has to say to `to` and lets `to` hear it in one turn, with no round of its own in between.
fn tell(net: &mut Net, from: usize, to: usize) {
    net.drain(from);
    net.flush(from);
    net.drain(from);
    while net.deliver(from, to) {}
}

/// 0 pays 10 to 2 over 1; 3 is another friend of 1.
fn line_with_a_bystander() -> (Net, Invoice) {
    let mut net = Net::new(4);
    for (a, b) in [(0, 1), (1, 2), (1, 3)] {
        net.befriend(a, b, 100, Rate::ZERO);
    }
    let invoice = net.invoice(2, 1, 10);
    net.routes = Ok(vec![multi(vec![part(&[0, 1, 2], 10, 0)])]);
    net.done(0, pay(&invoice, 1, 0, CommitMode::ByHand));
    (net, invoice)
}

#[test]
fn a_friend_that_repeats_an_id_and_breaks_its_channel_does_not_lose_the_request_of_another() {
    let (mut net, invoice) = line_with_a_bystander();
    let repeated = request(id_at(&net, 1), Route::new(), &invoice, &mut dice(1));
    say(&mut net, 3, 1, Operation::Request(repeated));
    tell(&mut net, 3, 1);
    // Before the cancel of the repeated request is signed.
    net.feed(1, FunderInput::Friend { friend: key(3), message: CheckedMessage::Forged });
    net.run();
    let commit = commit_of(&mut net, 0, 1);
    net.done(2, Command::CommitInvoice { commit });
    receipt_of(status(&mut net, 0, 1));
    assert_eq!((net.hosts[1].balance(0), net.hosts[1].balance(2)), (10, -10), "the mediator is paid what it pays");
}

#[test]
fn a_friend_that_repeats_an_id_and_is_removed_does_not_lose_our_payment() {
    let (mut net, invoice) = line_with_a_bystander();
    net.befriend(0, 3, 100, Rate::ZERO);
    let repeated = request(id_at(&net, 0), Route::new(), &invoice, &mut dice(1));
    say(&mut net, 3, 0, Operation::Request(repeated));
    tell(&mut net, 3, 0);
    net.done(0, Command::RemoveFriend { name: name(3) });
    let commit = commit_of(&mut net, 0, 1);
    net.done(2, Command::CommitInvoice { commit });
    receipt_of(status(&mut net, 0, 1));
}

#[test]
fn a_friend_that_repeats_an_id_cannot_withdraw_the_request_of_another() {
    let (mut net, invoice) = line_with_a_bystander();
    let id = id_at(&net, 1);
    let repeated = request(id, Route::new(), &invoice, &mut dice(1));
    // Both in one batch: when its channel hears the withdrawal, the refusal of its request does not wait there yet.
    let events = vec![
        ChannelEvent::Request { currency: usd(), request: repeated },
        ChannelEvent::Withdraw { currency: usd(), withdraw: Withdraw { request_id: id } },
    ];
    net.hosts[1].funder.on_channel_events(key(3), events);
    net.hosts[1].funder.settle();
    net.hosts[1].funder.round_due = true;
    net.run();
    assert_eq!(invoice_state(&mut net, 2, &invoice), InvoiceState::Open { offered: 10 });
    let commit = commit_of(&mut net, 0, 1);
    net.done(2, Command::CommitInvoice { commit });
    receipt_of(status(&mut net, 0, 1));
}

#[test]
fn of_two_buyers_with_valid_commits_only_the_one_who_paid_hears_that_it_is_done() {
    let mut net = Net::line(3, 100, Rate::ZERO);
    let invoice = net.invoice(1, 1, 10);
    for buyer in [0, 2] {
        net.routes = Ok(vec![multi(vec![part(&[buyer, 1], 10, 0)])]);
        net.done(buyer, pay(&invoice, 1, 0, CommitMode::ByHand));
    }
    let (first, second) = (commit_of(&mut net, 0, 1), commit_of(&mut net, 2, 1));
    net.done(1, Command::CommitInvoice { commit: first.clone() });
    assert_eq!(invoice_state(&mut net, 1, &invoice), InvoiceState::Paid);
    let refusal = net.refused(1, Command::CommitInvoice { commit: second });
    assert_eq!(refusal, Refusal::InvoiceEnded);
    net.crash(1);
    net.heal();
    net.done(1, Command::CommitInvoice { commit: first });
    assert_eq!(net.hosts[1].balance(2), 0, "the second buyer has not paid");
    assert_eq!(status(&mut net, 2, 1), PaymentState::Failed(PaymentFailure::PartLost));
}

#[test]
fn small_offers_do_not_keep_a_buyer_from_an_invoice() {
    let mut net = Net::line(3, 100, Rate::ZERO);
    let invoice = net.invoice(1, 1, 10);
    let mut lock = dice(1);
    for number in 0..=crate::funder::MAX_OFFERS {
        let small = request(RequestId([number as u8 + 1; 16]), Route::new(), &invoice, &mut lock);
        say(&mut net, 2, 1, Operation::Request(small));
    }
    net.run();
    assert_eq!(net.hosts[1].friend(2).unwrap().currencies[0].in_frozen, 16, "no more offers than there are places");
    net.routes = Ok(vec![multi(vec![part(&[0, 1], 10, 0)])]);
    net.done(0, pay(&invoice, 1, 0, CommitMode::InBand));
    receipt_of(status(&mut net, 0, 1));
    assert_eq!(invoice_state(&mut net, 1, &invoice), InvoiceState::Paid);
    assert_eq!(net.hosts[1].friend(2).unwrap().currencies[0].in_frozen, 0, "all others were cancelled");
}

#[test]
fn a_payment_finds_another_way_while_the_seller_still_holds_its_first_try() {
    let mut net = Net::new(4);
    for (a, b) in [(0, 1), (1, 2), (0, 3), (3, 2)] {
        net.befriend(a, b, 100, Rate::ZERO);
    }
    let invoice = net.invoice(2, 1, 10);
    net.routes = Ok(vec![multi(vec![part(&[0, 1, 2], 10, 0)])]);
    net.command(0, pay(&invoice, 1, 0, CommitMode::InBand));
    for (host, to) in [(0, 1), (1, 2)] {
        net.drain(host);
        net.flush(host);
        tell(&mut net, host, to);
    }
    // The mediator loses its channel ahead: the request comes back, while the seller goes on holding it.
    net.routes = Ok(vec![multi(vec![part(&[0, 3, 2], 10, 0)])]);
    net.done(1, Command::RemoveFriend { name: name(2) });
    receipt_of(status(&mut net, 0, 1));
    assert_eq!(net.hosts[2].balance(3), 10);
}

#[test]
fn two_parts_that_come_back_at_once_are_searched_together() {
    let mut net = Net::new(5);
    for (a, b) in [(0, 1), (1, 3), (0, 2), (2, 3), (0, 4), (4, 3)] {
        net.befriend(a, b, 600, Rate::ZERO);
    }
    let invoice = net.invoice(3, 1, 150);
    net.cut(1, 3);
    net.cut(2, 3);
    net.run();
    net.routes = Ok(vec![
        multi(vec![part(&[0, 1, 3], 90, 0), part(&[0, 2, 3], 60, 0)]),
        multi(vec![part(&[0, 4, 3], 90, 0)]),
        multi(vec![part(&[0, 4, 3], 60, 0)]),
    ]);
    net.command(0, pay(&invoice, 1, 0, CommitMode::InBand));
    for _ in 0..2 {
        net.drain(0);
        net.flush(0);
    }
    net.drain(0);
    net.flush(0);
    net.drain(0);
    for mediator in [1, 2] {
        while net.deliver(0, mediator) {}
        tell(&mut net, mediator, 0);
    }
    if let Ok(options) = &mut net.routes {
        options[0] = multi(vec![part(&[0, 4, 3], 150, 0)]);
    }
    net.run();
    receipt_of(status(&mut net, 0, 1));
    assert_eq!(net.hosts[3].balance(4), 150);
}

#[test]
fn what_was_made_for_an_old_link_never_goes_over_a_new_one() {
    let mut net = Net::line(2, 100, Rate::ZERO);
    net.command(0, Command::OpenCurrency { name: name(1), currency: "EUR".parse().unwrap() });
    net.drain(0);
    // The revision becomes durable, and the link is replaced in one turn.
    net.flush(0);
    net.cut(0, 1);
    net.connect(0, 1);
    tell(&mut net, 0, 9);
    let said: Vec<_> = net.wires[&(0, 1)].iter().take(2).collect();
    assert!(matches!(said.as_slice(), [FriendMessage::Limits(_), FriendMessage::Resume(_)]), "{said:?}");
    net.run();
    net.check_quiet();
}

#[test]
fn an_invoice_is_not_paid_by_the_collect_of_another_request_with_its_id() {
    // 0 pays 2 over 1; the collect waits at 1 for 0, which is away. Then 3 brings the same id to an invoice of 1.
    let (mut net, _) = line_with_a_bystander();
    let id = id_at(&net, 1);
    let commit = commit_of(&mut net, 0, 1);
    net.cut(0, 1);
    net.done(2, Command::CommitInvoice { commit });
    let own = net.invoice(1, 9, 1);
    assert!(net.hosts[1].funder.transits.is_empty(), "the collect is queued for node 0");
    let plain = PlainLock([3; 32]);
    let repeated = Request { src_hashed_lock: plain.hashed(), ..request(id, Route::new(), &own, &mut dice(1)) };
    say(&mut net, 3, 1, Operation::Request(repeated));
    net.run();
    say(&mut net, 3, 1, Operation::Commit(CommitRequest { request_id: id, src_plain_lock: plain }));
    tell(&mut net, 3, 1);
    net.cut(1, 3);
    net.connect(0, 1);
    net.run();
    assert_eq!(net.hosts[1].balance(0), 10, "the collect for node 0 stands in a log");
    assert_eq!(invoice_state(&mut net, 1, &own), InvoiceState::Collecting { collected: 0 });
    net.heal();
    assert_eq!(invoice_state(&mut net, 1, &own), InvoiceState::Paid);
}

/// A part of an invoice of 10 under a lock of the liar's choice.
fn part_of(invoice: &Invoice, lock: &PlainLock, number: u8, dest_payment: u128) -> Request {
    let src_hashed_lock = lock.hashed();
    Request { dest_payment, src_hashed_lock, ..request(RequestId([number; 16]), Route::new(), invoice, &mut dice(1)) }
}

fn out_frozen(net: &Net, host: usize, friend: usize) -> u128 {
    net.hosts[host].friend(friend).unwrap().currencies[0].out_frozen
}

/// Two parts of 4 and 6 were answered, the second as complete; then the first went, and the second with it. Gives the commit
/// that their buyer can make who has not heard of that.
fn ended_offer(net: &mut Net, invoice: &Invoice, lock: &PlainLock) -> Commit {
    let (first, complete) = (part_of(invoice, lock, 1, 4), part_of(invoice, lock, 2, 6));
    say(net, 0, 2, Operation::Request(first.clone()));
    net.run();
    say(net, 1, 2, Operation::Request(complete.clone()));
    net.run();
    let open = net.hosts[1].funder.friends[&key(2)].channel.outgoing(&usd(), &complete.request_id).unwrap();
    let response = open.response.clone().unwrap();
    assert!(response.is_complete);
    say(net, 0, 2, Operation::Withdraw(Withdraw { request_id: first.request_id }));
    net.run();
    assert_eq!(out_frozen(net, 1, 2), 0);
    Commit {
        response_hash: response_hash(&complete.request_id, &response.nonce),
        src_plain_lock: lock.clone(),
        dest_hashed_lock: response.dest_hashed_lock,
        dest_payment: complete.dest_payment,
        total_dest_payment: invoice.amount,
        invoice_id: invoice.invoice_id,
        currency: usd(),
        signature: response.signature,
    }
}

/// Found by a hostile reader: a mediator of both parts ended the offer, let its buyer replace one part, put its own part in the
/// place of the other, and had the buyer pay for its receipt.
#[test]
fn nothing_joins_an_offer_that_was_complete_and_ended_whoever_brings_it() {
    let mut net = Net::line(3, 100, Rate::ZERO);
    net.befriend(0, 2, 100, Rate::ZERO);
    let (invoice, lock) = (net.invoice(2, 1, 10), PlainLock([3; 32]));
    let commit = ended_offer(&mut net, &invoice, &lock);
    for crash in [false, true] {
        if crash {
            net.crash(2);
            net.heal();
        }
        // The buyer's replacement, and the mediator's own.
        say(&mut net, 0, 2, Operation::Request(part_of(&invoice, &lock, 3 + u8::from(crash), 4)));
        say(&mut net, 1, 2, Operation::Request(part_of(&invoice, &lock, 5 + u8::from(crash), 6)));
        net.run();
        assert_eq!((out_frozen(&net, 0, 2), out_frozen(&net, 1, 2)), (0, 0));
        assert_eq!(invoice_state(&mut net, 2, &invoice), InvoiceState::Open { offered: 0 });
    }
    let refusal = net.refused(2, Command::CommitInvoice { commit });
    assert_eq!(refusal, Refusal::PartMissing { offered: 0, amount: 10 });
    // Who pays under another lock is welcome.
    net.routes = Ok(vec![multi(vec![part(&[0, 2], 4, 0), part(&[0, 1, 2], 6, 0)])]);
    net.done(0, pay(&invoice, 1, 0, CommitMode::InBand));
    receipt_of(status(&mut net, 0, 1));
    assert_eq!(invoice_state(&mut net, 2, &invoice), InvoiceState::Paid);
}

#[test]
fn an_invoice_of_which_too_many_offers_ended_takes_no_more_parts_but_can_be_paid_at_once() {
    let mut net = Net::line(3, 100, Rate::ZERO);
    net.befriend(0, 2, 100, Rate::ZERO);
    let invoice = net.invoice(2, 1, 10);
    for number in 0..crate::funder::MAX_ENDED as u8 {
        ended_offer(&mut net, &invoice, &PlainLock([number; 32]));
    }
    for number in [0, 99] {
        say(&mut net, 0, 2, Operation::Request(part_of(&invoice, &PlainLock([number; 32]), 1, 4)));
        net.run();
        assert_eq!(out_frozen(&net, 0, 2), 0, "a part under lock {number}");
    }
    net.routes = Ok(vec![multi(vec![part(&[0, 1, 2], 10, 0)])]);
    net.done(0, pay(&invoice, 1, 0, CommitMode::InBand));
    receipt_of(status(&mut net, 0, 1));
}

#[test]
fn a_commit_for_less_than_the_whole_cancels_what_is_there() {
    let mut net = Net::line(3, 100, Rate::ZERO);
    let (invoice, lock) = (net.invoice(2, 1, 10), PlainLock([3; 32]));
    say(&mut net, 1, 2, Operation::Request(part_of(&invoice, &lock, 1, 4)));
    say(&mut net, 1, 2, Operation::Request(part_of(&invoice, &PlainLock([9; 32]), 9, 1)));
    net.run();
    let commit = CommitRequest { request_id: RequestId([1; 16]), src_plain_lock: lock.clone() };
    say(&mut net, 1, 2, Operation::Commit(commit));
    net.run();
    // Nobody can withdraw it any more: it would stay frozen for good. Another buyer's offer has nothing to do with it.
    assert_eq!(out_frozen(&net, 1, 2), 1);
    assert_eq!(invoice_state(&mut net, 2, &invoice), InvoiceState::Open { offered: 1 });
    say(&mut net, 1, 2, Operation::Request(part_of(&invoice, &lock, 2, 4)));
    net.run();
    assert_eq!(out_frozen(&net, 1, 2), 1, "nothing comes under its lock");
}

#[test]
fn what_is_offered_for_an_invoice_ends_when_that_expires() {
    for crash in [false, true] {
        let mut net = Net::line(3, 1_000, Rate::ZERO);
        let wall = |seconds: u64| FunderInput::Wall(WallTime(seconds * 1_000));
        net.feed(2, wall(10));
        let command = Command::AddInvoice {
            invoice_id: InvoiceId([1; 16]),
            currency: usd(),
            amount: 10,
            description: Text::default(),
            expires_at: Some(WallTime(60_000)),
        };
        let Answer::Invoice(invoice) = net.done(2, command) else { panic!("no invoice") };
        say(&mut net, 1, 2, Operation::Request(part_of(&invoice, &PlainLock([3; 32]), 1, 10)));
        say(&mut net, 1, 2, Operation::Request(part_of(&invoice, &PlainLock([4; 32]), 2, 9)));
        net.run();
        assert_eq!(out_frozen(&net, 1, 2), 19);
        if crash {
            net.crash(2);
            net.heal();
        }
        net.feed(2, wall(60));
        net.run();
        assert_eq!(out_frozen(&net, 1, 2), 19, "the last moment counts");
        net.feed(2, wall(61));
        net.run();
        assert_eq!(out_frozen(&net, 1, 2), 0);
        // A clock that goes back does not open again what has ended: nothing joins the part that was there.
        net.feed(2, wall(10));
        say(&mut net, 1, 2, Operation::Request(part_of(&invoice, &PlainLock([4; 32]), 3, 1)));
        net.run();
        assert_eq!(out_frozen(&net, 1, 2), 0);
        assert_eq!(invoice_state(&mut net, 2, &invoice), InvoiceState::Open { offered: 0 });
    }
}

#[test]
fn nearly_whole_offers_give_way_to_a_whole_one() {
    let mut net = Net::line(3, 1_000, Rate::ZERO);
    let invoice = net.invoice(2, 1, 10);
    for number in 1..=4 {
        say(&mut net, 1, 2, Operation::Request(part_of(&invoice, &PlainLock([number; 32]), number, 9)));
        net.run();
    }
    assert_eq!(out_frozen(&net, 1, 2), 27);
    net.routes = Ok(vec![multi(vec![part(&[0, 1, 2], 10, 0)])]);
    net.done(0, pay(&invoice, 1, 0, CommitMode::InBand));
    receipt_of(status(&mut net, 0, 1));
}

/// Found by a hostile reader: buyers that never commit froze sixteen times the amount of one invoice.
#[test]
fn offers_that_are_not_committed_freeze_three_times_the_amount_at_most() {
    let mut net = Net::line(3, 1_000, Rate::ZERO);
    let invoice = net.invoice(2, 1, 10);
    for number in 1..=crate::funder::MAX_OFFERS as u8 {
        say(&mut net, 1, 2, Operation::Request(part_of(&invoice, &PlainLock([number; 32]), number, 10)));
        net.run();
    }
    assert_eq!(out_frozen(&net, 1, 2), 30);
    assert_eq!(invoice_state(&mut net, 2, &invoice), InvoiceState::Open { offered: 10 });
}

#[test]
fn thousands_of_tiny_requests_of_a_friend_do_not_keep_us_from_paying_beyond_the_next() {
    // 0 floods 1 with requests to 3 over 2; nobody ever ends them.
    let mut net = Net::line(4, 1 << 40, Rate::ZERO);
    let mut lock = dice(1);
    let invoices: Vec<_> = (100..200).map(|number| net.invoice(3, number, 10)).collect();
    for number in 0..1_500_u64 {
        let invoice = &invoices[number as usize / 16];
        let mut id = [7; 16];
        id[..8].copy_from_slice(&number.to_le_bytes());
        let route = Route::truncated([key(2), key(3)]);
        say(&mut net, 0, 1, Operation::Request(request(RequestId(id), route, invoice, &mut lock)));
        if number % 500 == 499 {
            net.run();
        }
    }
    net.run();
    let held = |net: &Net, by: usize, of: usize| net.hosts[by].friend(of).unwrap().currencies[0].out_frozen;
    assert_eq!((held(&net, 0, 1), held(&net, 1, 2)), (1_365, 1_365), "all that may be passed on");
    let invoice = net.invoice(3, 1, 10);
    net.routes = Ok(vec![multi(vec![part(&[1, 2, 3], 10, 0)])]);
    net.done(1, pay(&invoice, 1, 0, CommitMode::InBand));
    receipt_of(status(&mut net, 1, 1));
}

#[test]
fn what_a_friend_lists_does_not_hide_our_currencies() {
    let mut net = Net::line(2, 100, Rate::ZERO);
    net.done(0, Command::OpenCurrency { name: name(1), currency: "EUR".parse().unwrap() });
    for number in 1..MAX_CURRENCIES {
        let currency = format!("{number}").parse().unwrap();
        net.done(1, Command::OpenCurrency { name: name(0), currency });
    }
    let report = net.hosts[0].friend(1).unwrap();
    assert!(report.currencies.iter().any(|currency| currency.currency == usd()));
    assert!(
        net.hosts[0].funder.friends[&key(1)].published.contains_key(&usd()),
        "nor keep them from the index servers"
    );
}
