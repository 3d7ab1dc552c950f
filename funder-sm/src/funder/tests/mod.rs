//! Whole payments between funders in memory.

mod attacks;
mod faults;
mod guard;
mod inspect;
mod limits;
mod schedule;

use offset_protocol::app::{Answer, Command, CommitMode, Event, InvoiceState, PaymentFailure, PaymentState, Refusal};
use offset_protocol::money::Rate;
use offset_protocol::payment::{CancelReason, Commit, Receipt};

use super::fuzz::{invoice_state, pay, status, verifier};
use super::net::{self, Net, key, multi, name, part, payment_id};

fn receipt_of(state: PaymentState) -> Receipt {
    match state {
        PaymentState::Paid { receipt, .. } => receipt,
        other => panic!("not paid: {other:?}"),
    }
}

fn commit_of(net: &mut Net, host: usize, number: u64) -> Commit {
    match net.done(host, Command::ReleaseCommit { payment_id: payment_id(number) }) {
        Answer::Commit(commit) => commit,
        other => panic!("{other:?}"),
    }
}

/// A rate of 1 in 16 and 2.
const RATE: Rate = Rate { mul: 1 << 28, add: 2 };

#[test]
fn a_payment_in_band_moves_the_amount_and_every_mediators_fee() {
    let mut net = Net::line(4, 1_000, RATE);
    let invoice = net.invoice(3, 1, 160);
    net.routes = Ok(vec![multi(vec![part(&[0, 1, 2, 3], 160, 24)])]);
    net.done(0, pay(&invoice, 1, 24, CommitMode::InBand));
    net.heal();
    let receipt = receipt_of(status(&mut net, 0, 1));
    assert_eq!(receipt.verify(&invoice, &verifier()), Ok(()));
    assert_eq!(invoice_state(&mut net, 3, &invoice), InvoiceState::Paid);
    assert_eq!(net.hosts[0].balance(1), -184);
    assert_eq!(net.hosts[1].balance(2), -172);
    assert_eq!(net.hosts[2].balance(3), -160);
    net.check_quiet();
}

#[test]
fn a_payment_by_hand_waits_for_the_commit_and_gives_a_receipt() {
    let mut net = Net::line(3, 1_000, RATE);
    let invoice = net.invoice(2, 1, 100);
    net.routes = Ok(vec![multi(vec![part(&[0, 1, 2], 100, 8)])]);
    net.done(0, pay(&invoice, 1, 8, CommitMode::ByHand));
    assert_eq!(status(&mut net, 0, 1), PaymentState::Ready { fees: 8 });
    assert!(net.hosts[0].events.iter().any(|(_, _, event)| matches!(event, Event::PaymentReady { fees: 8, .. })));
    assert_eq!(net.hosts[0].balance(1), 0);
    let commit = commit_of(&mut net, 0, 1);
    net.done(2, Command::CommitInvoice { commit });
    let receipt = receipt_of(status(&mut net, 0, 1));
    assert_eq!(receipt.verify(&invoice, &verifier()), Ok(()));
    assert_eq!(net.hosts[0].balance(1), -108);
    net.check_quiet();
}

#[test]
fn several_routes_make_one_payment_and_one_receipt() {
    let mut net = Net::new(4);
    for (a, b) in [(0, 1), (1, 3), (0, 2), (2, 3)] {
        net.befriend(a, b, 400, Rate::ZERO);
    }
    let invoice = net.invoice(3, 1, 150);
    net.routes = Ok(vec![multi(vec![part(&[0, 1, 3], 90, 0), part(&[0, 2, 3], 60, 0)])]);
    net.done(0, pay(&invoice, 1, 0, CommitMode::InBand));
    net.heal();
    let receipt = receipt_of(status(&mut net, 0, 1));
    assert_eq!(receipt.verify(&invoice, &verifier()), Ok(()));
    assert_eq!((net.hosts[3].balance(1), net.hosts[3].balance(2)), (90, 60));
    net.check_quiet();
}

#[test]
fn a_payment_takes_another_route_when_one_comes_back() {
    let mut net = Net::new(4);
    for (a, b) in [(0, 1), (0, 2), (2, 3)] {
        net.befriend(a, b, 400, Rate::ZERO);
    }
    let invoice = net.invoice(3, 1, 50);
    // Node 1 is no friend of the seller: the first route comes back.
    net.routes = Ok(vec![multi(vec![part(&[0, 1, 3], 50, 0)])]);
    net.command(0, pay(&invoice, 1, 0, CommitMode::InBand));
    // The question leaves when the payment is durable.
    net.drain(0);
    net.flush(0);
    net.drain(0);
    net.routes = Ok(vec![multi(vec![part(&[0, 2, 3], 50, 0)])]);
    net.run();
    receipt_of(status(&mut net, 0, 1));
    let retried = net.queries.last().unwrap();
    assert_eq!(retried.exclude[0].from, key(1));
    assert_eq!(retried.exclude[0].to, key(3));
    // And the client of the index servers knows it for other payments.
    assert_eq!(net.failed, [(retried.exclude[0], CancelReason::NoRoute)]);
    net.check_quiet();
}

#[test]
fn a_request_beyond_the_limit_comes_back_with_its_reason_and_edge() {
    let mut net = Net::line(3, 100, Rate::ZERO);
    let invoice = net.invoice(2, 1, 101);
    let routes = Some(multi(vec![part(&[0, 1, 2], 101, 0)]));
    let order = Command::Pay { payment_id: payment_id(1), invoice, max_fee: 0, mode: CommitMode::InBand, routes };
    net.done(0, order);
    match status(&mut net, 0, 1) {
        PaymentState::Failed(PaymentFailure::Cancelled(part)) => {
            assert_eq!(part.reason, CancelReason::Capacity);
            assert_eq!(part.edge.map(|edge| (edge.from, edge.to)), Some((key(0), key(1))));
            assert!(net.failed.is_empty(), "its own edges a node knows itself");
        }
        other => panic!("{other:?}"),
    }
    net.check_quiet();
}

#[test]
fn fees_that_are_too_small_come_back_and_nothing_moves() {
    let mut net = Net::line(4, 1_000, RATE);
    let invoice = net.invoice(3, 1, 160);
    net.routes = Ok(vec![multi(vec![part(&[0, 1, 2, 3], 160, 23)])]);
    net.done(0, pay(&invoice, 1, 1_000, CommitMode::InBand));
    assert!(matches!(status(&mut net, 0, 1), PaymentState::Failed(_)));
    assert!(net.queries.len() > 1, "it tried again without the edge that failed");
    assert_eq!(net.hosts[0].balance(1), 0);
    net.check_quiet();
}

#[test]
fn a_payment_can_be_withdrawn_until_its_commit_has_left() {
    let mut net = Net::line(3, 1_000, Rate::ZERO);
    let invoice = net.invoice(2, 1, 10);
    net.routes = Ok(vec![multi(vec![part(&[0, 1, 2], 10, 0)])]);
    net.done(0, pay(&invoice, 1, 0, CommitMode::ByHand));
    net.done(0, Command::WithdrawPayment { payment_id: payment_id(1) });
    assert_eq!(status(&mut net, 0, 1), PaymentState::Failed(PaymentFailure::Withdrawn));
    net.check_quiet();
    // The invoice can still be paid, and after the commit was released there is no way back.
    net.done(0, pay(&invoice, 2, 0, CommitMode::ByHand));
    commit_of(&mut net, 0, 2);
    let refusal = net.refused(0, Command::WithdrawPayment { payment_id: payment_id(2) });
    assert_eq!(refusal, Refusal::AlreadyCommitted);
}

#[test]
fn an_invoice_that_is_cancelled_gives_back_what_was_frozen() {
    let mut net = Net::line(3, 1_000, Rate::ZERO);
    let invoice = net.invoice(2, 1, 10);
    net.routes = Ok(vec![multi(vec![part(&[0, 1, 2], 10, 0)])]);
    net.done(0, pay(&invoice, 1, 0, CommitMode::ByHand));
    net.done(2, Command::CancelInvoice { invoice_id: invoice.invoice_id });
    assert!(matches!(status(&mut net, 0, 1), PaymentState::Failed(PaymentFailure::Cancelled(_))));
    net.check_quiet();
}

#[test]
fn the_same_command_again_changes_nothing() {
    let mut net = Net::line(3, 1_000, Rate::ZERO);
    let invoice = net.invoice(2, 1, 10);
    net.routes = Ok(vec![multi(vec![part(&[0, 1, 2], 10, 0)])]);
    net.done(0, pay(&invoice, 1, 0, CommitMode::ByHand));
    let commit = commit_of(&mut net, 0, 1);
    net.done(2, Command::CommitInvoice { commit: commit.clone() });
    net.done(2, Command::CommitInvoice { commit });
    assert_eq!(net.hosts[0].balance(1), -10);
    let again = net.done(0, pay(&invoice, 1, 0, CommitMode::ByHand));
    assert_eq!(again, Answer::Done);
    assert_eq!(net.hosts[0].balance(1), -10);
    let other = net.invoice(2, 2, 10);
    assert_eq!(net.refused(0, pay(&other, 1, 0, CommitMode::ByHand)), Refusal::PaymentIdTaken);
}

#[test]
fn a_kept_event_is_told_after_a_restart_until_it_is_acknowledged() {
    let mut net = Net::line(2, 1_000, Rate::ZERO);
    let invoice = net.invoice(1, 1, 10);
    net.routes = Ok(vec![multi(vec![part(&[0, 1], 10, 0)])]);
    net.done(0, pay(&invoice, 1, 0, CommitMode::InBand));
    net.heal();
    net.crash(0);
    net.heal();
    let kept = net.hosts[0].funder.events.of(&net::APP);
    assert!(matches!(&kept[..], [event] if matches!(event.event, Event::PaymentEnded(_))));
    let (id, number) = (kept[0].id, kept[0].number);
    net.feed(0, super::FunderInput::Acknowledge { app: net::APP, id, number });
    net.run();
    net.crash(0);
    assert!(net.hosts[0].funder.events.of(&net::APP).is_empty());
}

#[test]
fn a_relay_that_is_removed_is_listened_to_until_friends_know() {
    use offset_protocol::relay::RelayAddress;
    let mut net = Net::line(2, 10, Rate::ZERO);
    let relay = RelayAddress { public_key: key(99), address: "127.0.0.1:1".parse().unwrap() };
    net.done(0, Command::AddRelay { relay: relay.clone(), name: name(99) });
    assert_eq!(net.hosts[1].friend(0).unwrap().relays.to_vec(), vec![relay.clone()]);
    net.cut(0, 1);
    net.done(0, Command::RemoveRelay { name: name(99) });
    assert!(net.hosts[0].funder.relays.contains_key(&key(99)), "the friend does not know yet");
    net.crash(0);
    assert!(net.hosts[0].funder.relays.contains_key(&key(99)), "nor after a restart");
    net.heal();
    assert!(!net.hosts[0].funder.relays.contains_key(&key(99)));
    // A list without any relay would cut the friend off: the last one known stays.
    assert_eq!(net.hosts[1].friend(0).unwrap().relays.to_vec(), vec![relay]);
}

#[test]
fn names_and_keys_are_taken_once() {
    let mut net = Net::line(3, 10, Rate::ZERO);
    let add =
        |host, called| Command::AddFriend { public_key: key(host), relays: Default::default(), name: name(called) };
    assert_eq!(net.refused(1, add(1, 7)), Refusal::OwnKey);
    assert_eq!(net.refused(1, add(2, 7)), Refusal::KeyTaken(name(2)));
    assert_eq!(net.refused(1, add(9, 2)), Refusal::NameTaken);
    assert_eq!(net.refused(1, Command::RemoveFriend { name: name(9) }), Refusal::UnknownFriend);
    net.done(1, Command::RenameFriend { name: name(2), new_name: name(9) });
    assert_eq!(net.refused(1, Command::EnableFriend { name: name(2) }), Refusal::UnknownFriend);
    net.done(1, Command::EnableFriend { name: name(9) });
}

#[test]
fn what_there_may_be_millions_of_stays_small() {
    // A simulation holds a million nodes with three friends each: see `stsim bench idle`.
    let (friend, funder) = (size_of::<super::Friend>(), size_of::<super::Funder>());
    assert!(friend <= 808 && funder <= 888, "a friend has {friend} bytes, a node {funder}");
}
