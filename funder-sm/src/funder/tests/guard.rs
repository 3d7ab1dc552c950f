//! What is published is what may end at the node and what may be passed on, also when nothing but time has passed.

use offset_protocol::index::check_report;
use offset_protocol::machine::Duration;

use super::*;
use crate::funder::net::{name, usd};

/// What the node in the middle says of its friend, node 0: what may end there, and what it would pass on.
fn published(net: &Net) -> Option<(u128, u128)> {
    let entry = net.hosts[1].funder.published().find(|entry| entry.friend == key(0))?;
    Some((entry.recv_capacity, entry.forward_capacity))
}

#[test]
fn what_is_published_follows_what_may_be_passed_on_over_time() {
    let mut net = Net::line(3, 1_200, Rate::ZERO);
    assert_eq!(published(&net), Some((1_200, 400)));
    let invoice = net.invoice(2, 1, 320);
    net.routes = Ok(vec![multi(vec![part(&[0, 1, 2], 320, 0)])]);
    net.done(0, pay(&invoice, 1, 0, CommitMode::ByHand));
    assert_eq!(published(&net), Some((880, 100)), "what is kept for node 0 itself");
    net.now += Duration::from_secs(101);
    net.tick();
    net.run();
    assert_eq!(published(&net), Some((880, 100)), "held for long");
    // The seller's own node is no mediator: a payment that ends at node 1 has all the room that is left.
    let direct = net.invoice(1, 2, 800);
    net.routes = Ok(vec![multi(vec![part(&[0, 1], 800, 0)])]);
    net.done(0, pay(&direct, 2, 0, CommitMode::InBand));
    receipt_of(status(&mut net, 0, 2));
    net.done(0, Command::WithdrawPayment { payment_id: payment_id(1) });
    net.run();
    assert_eq!(published(&net), Some((400, 67)), "a sixth of the 400 that are left, and what is kept is less");
    net.now += Duration::from_secs(60);
    net.tick();
    net.run();
    assert_eq!(published(&net), Some((400, 134)));
    net.check_quiet();
}

/// A line of so much that a third of it has more digits than an entry may state.
#[test]
fn what_is_published_can_be_stated_and_is_never_more_than_may_be_passed_on() {
    let limit = (1 << 90) + 1;
    let net = Net::line(3, limit, Rate::ZERO);
    let (ends, passes_on) = published(&net).unwrap();
    let allowed = net.hosts[1].funder.channel(&key(0)).unwrap().forward_capacity(&usd());
    assert_eq!((ends, allowed), (limit, limit.div_ceil(3)));
    assert!(passes_on <= allowed && allowed - passes_on <= allowed >> 23, "{passes_on} of {allowed}");
    let entries: Vec<_> = net.hosts[1].funder.published().collect();
    assert_eq!(check_report(&key(1), &entries), Ok(()));
}

/// Found by a reviewer: the other end's entry stayed of use, and index servers offered what came back as closed.
#[test]
fn nothing_is_published_of_a_closed_currency_until_it_is_open_again() {
    let mut net = Net::line(3, 1_200, Rate::ZERO);
    assert!(published(&net).is_some());
    net.done(1, Command::CloseCurrency { name: name(0), currency: usd() });
    net.run();
    assert_eq!(published(&net), None);
    net.done(1, Command::OpenCurrency { name: name(0), currency: usd() });
    net.run();
    assert_eq!(published(&net), Some((1_200, 400)));
}
