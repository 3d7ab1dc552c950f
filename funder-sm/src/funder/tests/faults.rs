//! Faults of the first Offset that must be impossible here.

use offset_protocol::app::{Command, CommitMode, InvoiceState, PaymentFailure, PaymentState, Refusal};
use offset_protocol::bytes::{PlainLock, ResetToken};
use offset_protocol::codec::List;
use offset_protocol::friend::ResetTerms;
use offset_protocol::money::Rate;
use offset_protocol::payment::CancelReason;

use super::net::{Net, key, multi, name, part, usd};
use super::{commit_of, invoice_state, pay, receipt_of, status};
use crate::funder::{CheckedMessage, FunderInput, RouteFailure};

/// A friend says that its log does not fit ours.
fn make_inconsistent(net: &mut Net, host: usize, friend: usize) {
    let terms = ResetTerms { epoch: 1, reset_token: ResetToken([7; 32]), balances: List::new() };
    net.feed(host, FunderInput::Friend { friend: key(friend), message: CheckedMessage::Inconsistent(terms) });
}

/// A payment from 0 over 1 to 2, by hand, whose request is on its way to the seller and no further.
fn request_at_the_seller(net: &mut Net) -> offset_protocol::payment::Invoice {
    let invoice = net.invoice(2, 1, 10);
    net.routes = Ok(vec![multi(vec![part(&[0, 1, 2], 10, 0)])]);
    net.command(0, pay(&invoice, 1, 0, CommitMode::ByHand));
    for (host, to) in [(0, 1), (1, 2)] {
        // The buyer asks for routes when the payment is durable, and sends along them when that is.
        for _ in 0..2 {
            net.drain(host);
            net.flush(host);
        }
        net.drain(host);
        while net.deliver(host, to) {}
    }
    assert_eq!([0, 1, 2].map(|host| net.hosts[host].funder.counts().open_requests), [1, 1, 1]);
    invoice
}

#[test]
fn an_answer_for_a_friend_that_became_inconsistent_is_swallowed() {
    let mut net = Net::line(3, 100, Rate::ZERO);
    request_at_the_seller(&mut net);
    make_inconsistent(&mut net, 1, 0);
    net.run();
    assert_eq!(net.hosts[1].friend(2).unwrap().currencies[0].out_frozen, 0, "withdrawn from the seller");
}

#[test]
fn a_node_is_counted_by_states() {
    let mut net = Net::line(3, 100, Rate::ZERO);
    let invoice = net.invoice(2, 1, 10);
    net.routes = Ok(vec![multi(vec![part(&[0, 1, 2], 10, 0)])]);
    net.done(0, pay(&invoice, 1, 0, CommitMode::ByHand));
    let money = |net: &Net, host: usize| net.hosts[host].funder.counts();
    let friends = |net: &Net| {
        let counts = money(net, 1);
        [counts.friends_online, counts.friends_offline, counts.friends_disabled, counts.friends_inconsistent]
    };
    assert_eq!((money(&net, 0).open_payments, money(&net, 1).open_payments), (1, 0));
    assert_eq!([0, 1, 2].map(|host| money(&net, host).open_requests), [1, 1, 1]);
    assert_eq!(friends(&net), [2, 0, 0, 0]);
    net.cut(1, 2);
    net.run();
    assert_eq!(friends(&net), [1, 1, 0, 0]);
    make_inconsistent(&mut net, 1, 0);
    net.run();
    assert_eq!(friends(&net), [0, 1, 0, 1]);
    net.done(1, Command::DisableFriend { name: name(0) });
    assert_eq!(friends(&net), [0, 1, 1, 0]);
}

#[test]
fn an_answer_for_a_friend_that_was_removed_is_swallowed() {
    let mut net = Net::line(3, 100, Rate::ZERO);
    request_at_the_seller(&mut net);
    net.done(1, Command::RemoveFriend { name: name(0) });
    assert_eq!(net.hosts[1].friend(2).unwrap().currencies[0].out_frozen, 0, "withdrawn from the seller");
    assert!(net.hosts[1].friend(0).is_none());
}

#[test]
fn a_collect_for_a_friend_that_was_removed_is_swallowed() {
    let mut net = Net::line(3, 100, Rate::ZERO);
    let invoice = net.invoice(2, 1, 10);
    net.routes = Ok(vec![multi(vec![part(&[0, 1, 2], 10, 0)])]);
    net.done(0, pay(&invoice, 1, 0, CommitMode::ByHand));
    let commit = commit_of(&mut net, 0, 1);
    net.cut(1, 2);
    net.done(2, Command::CommitInvoice { commit });
    net.done(1, Command::RemoveFriend { name: name(0) });
    net.connect(1, 2);
    net.run();
    assert_eq!(net.hosts[1].balance(2), -10);
}

#[test]
fn a_request_to_a_friend_that_is_removed_comes_back() {
    let mut net = Net::line(3, 100, Rate::ZERO);
    let invoice = net.invoice(2, 1, 10);
    net.routes = Ok(vec![multi(vec![part(&[0, 1, 2], 10, 0)])]);
    net.done(0, pay(&invoice, 1, 0, CommitMode::ByHand));
    net.done(1, Command::RemoveFriend { name: name(2) });
    match status(&mut net, 0, 1) {
        PaymentState::Failed(PaymentFailure::Cancelled(part)) => assert_eq!(part.reason, CancelReason::Removed),
        other => panic!("{other:?}"),
    }
    assert_eq!(net.hosts[0].friend(1).unwrap().currencies[0].out_frozen, 0);
}

#[test]
fn an_invoice_cannot_be_paid_in_another_currency() {
    let mut net = Net::line(2, 100, Rate::ZERO);
    let eur = "EUR".parse().unwrap();
    for (us, friend) in [(0, 1), (1, 0)] {
        net.done(us, Command::OpenCurrency { name: name(friend), currency: eur });
        net.done(us, Command::SetMaxDebt { name: name(friend), currency: eur, max_debt: 100 });
    }
    let mut invoice = net.invoice(1, 1, 10);
    invoice.currency = eur;
    net.routes = Ok(vec![multi(vec![part(&[0, 1], 10, 0)])]);
    net.done(0, pay(&invoice, 1, 0, CommitMode::InBand));
    match status(&mut net, 0, 1) {
        PaymentState::Failed(PaymentFailure::Cancelled(part)) => {
            assert_eq!(part.reason, CancelReason::UnknownInvoice);
        }
        other => panic!("{other:?}"),
    }
    invoice.currency = usd();
    assert_eq!(invoice_state(&mut net, 1, &invoice), InvoiceState::Open { offered: 0 });
}

#[test]
fn a_seller_is_not_told_that_it_was_paid_when_a_part_has_vanished() {
    let mut net = Net::new(4);
    for (a, b) in [(0, 1), (1, 3), (0, 2), (2, 3)] {
        net.befriend(a, b, 300, Rate::ZERO);
    }
    let invoice = net.invoice(3, 1, 150);
    net.routes = Ok(vec![multi(vec![part(&[0, 1, 3], 90, 0), part(&[0, 2, 3], 60, 0)])]);
    net.done(0, pay(&invoice, 1, 0, CommitMode::ByHand));
    let commit = commit_of(&mut net, 0, 1);
    // One part vanishes with its channel before the commit arrives.
    net.done(3, Command::RemoveFriend { name: name(1) });
    let refusal = net.refused(3, Command::CommitInvoice { commit });
    assert_eq!(refusal, Refusal::PartMissing { offered: 0, amount: 150 });
    assert_eq!(invoice_state(&mut net, 3, &invoice), InvoiceState::Open { offered: 0 });
    assert_eq!(net.hosts[3].balance(2), 0, "the other part went back whole");
}

#[test]
fn a_part_that_is_lost_while_it_is_collected_is_told_as_paid_in_part() {
    let mut net = Net::new(4);
    for (a, b) in [(0, 1), (1, 3), (0, 2), (2, 3)] {
        net.befriend(a, b, 300, Rate::ZERO);
    }
    let invoice = net.invoice(3, 1, 150);
    net.routes = Ok(vec![multi(vec![part(&[0, 1, 3], 90, 0), part(&[0, 2, 3], 60, 0)])]);
    net.done(0, pay(&invoice, 1, 0, CommitMode::ByHand));
    let commit = commit_of(&mut net, 0, 1);
    // The commit and the removal enter one round: the collect to node 1 never stands in a log.
    net.command(3, Command::CommitInvoice { commit });
    net.command(3, Command::RemoveFriend { name: name(1) });
    net.run();
    assert_eq!(invoice_state(&mut net, 3, &invoice), InvoiceState::PaidInPart { collected: 60 });
}

#[test]
fn fees_are_taken_by_the_rate_for_the_friend_that_brought_the_payment() {
    let mut net = Net::line(4, 1_000, Rate::ZERO);
    // Node 1 charges what comes from node 0; what it would charge node 2 does not matter.
    net.done(1, Command::SetRate { name: name(0), currency: usd(), rate: Rate { mul: 0, add: 5 } });
    net.done(1, Command::SetRate { name: name(2), currency: usd(), rate: Rate { mul: 0, add: 100 } });
    let invoice = net.invoice(3, 1, 10);
    net.routes = Ok(vec![multi(vec![part(&[0, 1, 2, 3], 10, 5)])]);
    net.done(0, pay(&invoice, 1, 5, CommitMode::InBand));
    net.heal();
    receipt_of(status(&mut net, 0, 1));
    assert_eq!(net.hosts[0].balance(1), -15);
    assert_eq!(net.hosts[1].balance(2), -10);
}

#[test]
fn paying_without_an_index_server_is_refused_at_once() {
    let mut net = Net::line(2, 100, Rate::ZERO);
    let invoice = net.invoice(1, 1, 10);
    net.done(0, Command::RemoveIndex { name: name(50) });
    assert_eq!(net.refused(0, pay(&invoice, 1, 0, CommitMode::InBand)), Refusal::NoIndexServer);
}

#[test]
fn a_payment_ends_when_no_index_server_can_be_reached() {
    let mut net = Net::line(2, 100, Rate::ZERO);
    let invoice = net.invoice(1, 1, 10);
    net.routes = Err(RouteFailure::Unreachable);
    net.done(0, pay(&invoice, 1, 0, CommitMode::InBand));
    assert_eq!(status(&mut net, 0, 1), PaymentState::Failed(PaymentFailure::IndexUnreachable));
}

#[test]
fn a_bogus_commit_is_refused_and_does_not_block_the_invoice() {
    let mut net = Net::line(3, 100, Rate::ZERO);
    let invoice = net.invoice(2, 1, 10);
    net.routes = Ok(vec![multi(vec![part(&[0, 1, 2], 10, 0)])]);
    net.done(0, pay(&invoice, 1, 0, CommitMode::ByHand));
    let commit = commit_of(&mut net, 0, 1);
    let mut bogus = commit.clone();
    bogus.src_plain_lock = PlainLock([9; 32]);
    assert!(matches!(net.refused(2, Command::CommitInvoice { commit: bogus }), Refusal::BadCommit(_)));
    assert_eq!(invoice_state(&mut net, 2, &invoice), InvoiceState::Open { offered: 10 });
    net.done(2, Command::CommitInvoice { commit });
    receipt_of(status(&mut net, 0, 1));
}

#[test]
fn what_a_payment_writes_does_not_grow_with_the_history() {
    let mut net = Net::line(3, 1 << 40, Rate::ZERO);
    let mut cost = Vec::new();
    for number in 0..200 {
        let before: usize = net.hosts.iter().map(|host| host.bytes_written).sum();
        let invoice = net.invoice(2, number, 10);
        net.routes = Ok(vec![multi(vec![part(&[0, 1, 2], 10, 0)])]);
        net.done(0, pay(&invoice, number, 0, CommitMode::InBand));
        net.heal();
        receipt_of(status(&mut net, 0, number));
        cost.push(net.hosts.iter().map(|host| host.bytes_written).sum::<usize>() - before);
    }
    assert!(cost[199] <= cost[1] + cost[1] / 20, "{} bytes at first, {} bytes at last", cost[1], cost[199]);
}

#[test]
fn hundreds_of_payments_in_flight_drain() {
    // Bounded queues that wait for each other in a circle stalled the first Offset for good at 64.
    let mut net = Net::line(3, 1 << 40, Rate::ZERO);
    net.routes = Ok(vec![multi(vec![part(&[0, 1, 2], 10, 0)])]);
    let there: Vec<_> = (0..600).map(|number| net.invoice(2, number, 10)).collect();
    for (number, invoice) in there.iter().enumerate() {
        net.command(0, pay(invoice, number as u64, 0, CommitMode::InBand));
    }
    net.run();
    for number in 0..600 {
        receipt_of(status(&mut net, 0, number));
    }
    net.check_quiet();
}
