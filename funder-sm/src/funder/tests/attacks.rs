//! What a friend, a mediator or a second buyer may try.

use offset_protocol::app::{Command, CommitMode, InvoiceState, PaymentFailure, PaymentState, Refusal};
use offset_protocol::bytes::{HashedLock, PlainLock, RequestId};
use offset_protocol::friend::{FriendMessage, Operation};
use offset_protocol::limits::MAX_CURRENCIES;
use offset_protocol::machine::Rng;
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
    assert!(matches!(net.wires[&(0, 1)].front(), Some(FriendMessage::Resume(_))), "{:?}", net.wires[&(0, 1)]);
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

/// A buyer's two parts were answered, one as complete; then the first went, and the second with it. Now another first part
/// stands under the same lock: its buyer has not heard of all that. Gives its request, and the commit that the buyer can make.
fn joined_after_the_end(net: &mut Net) -> (RequestId, Commit) {
    let invoice = net.invoice(2, 1, 10);
    let plain = PlainLock([3; 32]);
    let part = |number: u8, dest_payment: u128| Request {
        dest_payment,
        src_hashed_lock: plain.hashed(),
        ..request(RequestId([number; 16]), Route::new(), &invoice, &mut dice(1))
    };
    let (first, complete, again) = (part(1, 4), part(2, 6), part(3, 4));
    say(net, 0, 2, Operation::Request(first.clone()));
    net.run();
    say(net, 1, 2, Operation::Request(complete.clone()));
    net.run();
    let open = net.hosts[1].funder.friends[&key(2)].channel.outgoing(&usd(), &complete.request_id).unwrap();
    let response = open.response.clone().unwrap();
    assert!(response.is_complete);
    say(net, 0, 2, Operation::Withdraw(Withdraw { request_id: first.request_id }));
    net.run();
    say(net, 0, 2, Operation::Request(again.clone()));
    net.run();
    let commit = Commit {
        response_hash: response_hash(&complete.request_id, &response.nonce),
        src_plain_lock: plain,
        dest_hashed_lock: response.dest_hashed_lock,
        dest_payment: complete.dest_payment,
        total_dest_payment: invoice.amount,
        invoice_id: invoice.invoice_id,
        currency: usd(),
        signature: response.signature,
    };
    assert_eq!(invoice_state(net, 2, &invoice), InvoiceState::Open { offered: 4 });
    (again.request_id, commit)
}

#[test]
fn a_part_that_joins_after_its_offer_ended_is_cancelled_when_its_buyer_has_committed() {
    for by_hand in [false, true] {
        let mut net = Net::line(3, 100, Rate::ZERO);
        net.befriend(0, 2, 100, Rate::ZERO);
        let (id, commit) = joined_after_the_end(&mut net);
        // Another buyer's offer has nothing to do with it.
        let invoice = net.hosts[2].funder.invoices.get(&commit.invoice_id).unwrap().invoice.clone();
        say(&mut net, 1, 2, Operation::Request(request(RequestId([9; 16]), Route::new(), &invoice, &mut dice(9))));
        net.run();
        if by_hand {
            let refusal = net.refused(2, Command::CommitInvoice { commit });
            assert_eq!(refusal, Refusal::PartMissing { offered: 4, amount: 10 });
        } else {
            let commit = CommitRequest { request_id: id, src_plain_lock: commit.src_plain_lock };
            say(&mut net, 0, 2, Operation::Commit(commit));
            net.run();
        }
        // The buyer can never withdraw it any more: it would stay frozen for good.
        assert_eq!(net.hosts[0].friend(2).unwrap().currencies[0].out_frozen, 0);
        assert_eq!(net.hosts[2].balance(0), 0);
        assert_eq!(invoice_state(&mut net, 2, &invoice), InvoiceState::Open { offered: 1 });
        net.crash(2);
        net.heal();
        assert_eq!(invoice_state(&mut net, 2, &invoice), InvoiceState::Open { offered: 1 });
    }
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
    assert_eq!((held(&net, 0, 1), held(&net, 1, 2)), (1_024, 1_024), "all that may be passed on");
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
