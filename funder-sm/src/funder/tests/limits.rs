//! What apps may ask of a node: at each limit more is refused, and what was there goes on.

use offset_protocol::app::{
    Command, CommitMode, Event, IndexAddress, InvoiceState, Name, Outcome, PaymentFailure, PaymentState, Refusal,
};
use offset_protocol::bytes::{CommandId, InvoiceId, PublicKey};
use offset_protocol::codec::List;
use offset_protocol::limits::MAX_FRIENDS;
use offset_protocol::money::Rate;
use offset_protocol::payment::Invoice;
use offset_protocol::relay::RelayAddress;

use super::net::{APP, Net, key, multi, part, usd};
use super::{invoice_state, pay, receipt_of, status};
use crate::funder::FunderInput;
use crate::funder::buyer::{MAX_OPEN_PAYMENTS, MAX_PAYMENTS};
use crate::funder::events::MAX_KEPT_EVENTS;
use crate::funder::routes::MAX_QUERIES;
use crate::funder::seller::MAX_INVOICES;

/// 0 and 1 are friends; 1 made an invoice, and the servers know the way for its amount.
fn friends() -> (Net, Invoice) {
    let mut net = Net::line(2, 1_000_000, Rate::ZERO);
    let invoice = net.invoice(1, 1, 10);
    net.routes = Ok(vec![multi(vec![part(&[0, 1], 10, 0)])]);
    (net, invoice)
}

/// An invoice that the servers know no way for.
fn unpayable(invoice: &Invoice, number: u64) -> Invoice {
    let mut id = [0xcc; 16];
    id[..8].copy_from_slice(&number.to_le_bytes());
    Invoice { invoice_id: InvoiceId(id), amount: 11, ..invoice.clone() }
}

fn replied(net: &mut Net, host: usize, id: CommandId) -> Outcome {
    net.hosts[host].replies.remove(&id).expect("every command gets a reply")
}

#[test]
fn at_1_024_searches_another_is_refused_and_each_gets_its_answer() {
    let (mut net, _) = friends();
    let find = |amount| Command::FindRoutes {
        currency: usd(),
        amount,
        source: None,
        destination: key(1),
        exclude: List::new(),
        max_fee: None,
    };
    // Nobody answers before all are asked.
    let asked: Vec<_> = (0..MAX_QUERIES).map(|_| net.command(0, find(10))).collect();
    let beyond = net.command(0, find(10));
    assert_eq!(net.hosts[0].funder.queries.len(), 1_024);
    net.run();
    assert_eq!(replied(&mut net, 0, beyond), Outcome::Refused(Refusal::Busy));
    for id in asked {
        assert!(matches!(replied(&mut net, 0, id), Outcome::Done(_)));
    }
    net.done(0, find(10));
}

#[test]
fn at_8_192_open_payments_another_is_refused_and_those_go_on() {
    let (mut net, invoice) = friends();
    let first = net.command(0, pay(&invoice, 1, 0, CommitMode::InBand));
    for number in 2..=MAX_OPEN_PAYMENTS as u64 {
        net.command(0, pay(&unpayable(&invoice, number), number, 0, CommitMode::InBand));
    }
    assert_eq!(net.hosts[0].funder.open_payments, 8_192);
    let beyond = net.command(0, pay(&unpayable(&invoice, 1), 0, 0, CommitMode::InBand));
    net.run();
    assert!(matches!(replied(&mut net, 0, first), Outcome::Done(_)));
    assert_eq!(replied(&mut net, 0, beyond), Outcome::Refused(Refusal::Busy));
    receipt_of(status(&mut net, 0, 1));
    assert_eq!(status(&mut net, 0, 8_192), PaymentState::Failed(PaymentFailure::NoRoute));
    assert_eq!(net.hosts[0].funder.open_payments, 0);
    // There is room again, and what is remembered has a bound of its own.
    let again = net.invoice(1, 2, 10);
    net.done(0, pay(&again, 0, 0, CommitMode::InBand));
    receipt_of(status(&mut net, 0, 0));
}

#[test]
fn at_200_000_payments_another_is_refused_until_one_is_forgotten() {
    let (mut net, invoice) = friends();
    net.done(0, pay(&invoice, 1, 0, CommitMode::InBand));
    let ended = net.hosts[0].funder.payments.values().next().unwrap().clone();
    let payments = &mut net.hosts[0].funder.payments;
    (2..=MAX_PAYMENTS as u64).for_each(|number| drop(payments.insert(super::payment_id(number), ended.clone())));
    assert_eq!(net.hosts[0].funder.payments.len(), 200_000);
    let more = net.invoice(1, 2, 10);
    let pay_more = pay(&more, 0, 0, CommitMode::InBand);
    assert_eq!(net.refused(0, pay_more.clone()), Refusal::LimitReached(200_000));
    receipt_of(status(&mut net, 0, 1));
    net.done(0, Command::ForgetPayment { payment_id: super::payment_id(7) });
    net.done(0, pay_more);
    receipt_of(status(&mut net, 0, 0));
}

#[test]
fn at_200_000_invoices_another_is_refused_and_those_are_paid() {
    let (mut net, invoice) = friends();
    let open = net.hosts[1].funder.invoices.values().next().unwrap().clone();
    let invoices = &mut net.hosts[1].funder.invoices;
    for number in 1..MAX_INVOICES as u64 {
        let invoice = unpayable(&invoice, number);
        let id = invoice.invoice_id;
        let mut record = open.clone();
        record.invoice = invoice;
        invoices.insert(id, record);
    }
    assert_eq!(net.hosts[1].funder.invoices.len(), 200_000);
    let add = Command::AddInvoice {
        invoice_id: InvoiceId([0xdd; 16]),
        currency: usd(),
        amount: 5,
        description: Default::default(),
        expires_at: None,
    };
    assert_eq!(net.refused(1, add.clone()), Refusal::LimitReached(200_000));
    net.done(0, pay(&invoice, 1, 0, CommitMode::InBand));
    net.heal();
    receipt_of(status(&mut net, 0, 1));
    assert_eq!(invoice_state(&mut net, 1, &invoice), InvoiceState::Paid);
    net.done(1, Command::ForgetInvoice { invoice_id: invoice.invoice_id });
    net.done(1, add);
}

/// A payment that fails ends with one event that is kept.
#[test]
fn of_4_096_events_that_an_app_never_takes_the_oldest_is_forgotten() {
    let (mut net, invoice) = friends();
    let most = MAX_KEPT_EVENTS as u64;
    for number in 1..=most {
        net.command(0, pay(&unpayable(&invoice, number), number, 0, CommitMode::InBand));
    }
    net.run();
    let first = net.hosts[0].funder.events.of(&APP)[0].clone();
    assert_eq!(net.hosts[0].funder.events.longest(), 4_096);
    for number in most + 1..=most + 3 {
        net.done(0, pay(&unpayable(&invoice, number), number, 0, CommitMode::InBand));
    }
    let kept = net.hosts[0].funder.events.of(&APP);
    assert_eq!(kept.len(), 4_096);
    assert_eq!(kept.first().unwrap().number, first.number + 3);
    assert!(matches!(kept.last().unwrap().event, Event::PaymentEnded(_)));
    // What it told can be asked for, and the disk has forgotten it as well.
    let Event::PaymentEnded(forgotten) = first.event else { panic!("{first:?}") };
    net.done(0, Command::PaymentStatus { payment_id: forgotten.payment_id });
    net.crash(0);
    assert_eq!(net.hosts[0].funder.events.of(&APP), kept);
    // An app that begins to take them gets on.
    for event in kept {
        net.feed(0, FunderInput::Acknowledge { app: APP, id: event.id, number: event.number });
    }
    net.run();
    assert!(net.hosts[0].funder.events.of(&APP).is_empty());
}

/// The key of somebody whom nobody has met.
fn stranger(number: usize) -> PublicKey {
    let mut bytes = [0xee; 32];
    bytes[..8].copy_from_slice(&(number as u64).to_le_bytes());
    PublicKey(bytes)
}

fn numbered(number: usize) -> Name {
    format!("stranger{number}").parse().unwrap()
}

#[test]
fn at_8_192_friends_another_is_refused_and_those_are_served() {
    let (mut net, invoice) = friends();
    let add = |number| Command::AddFriend { public_key: stranger(number), relays: List::new(), name: numbered(number) };
    let known = net.hosts[0].funder.friends.len();
    (known..MAX_FRIENDS).for_each(|number| drop(net.done(0, add(number))));
    assert_eq!(net.hosts[0].funder.friends.len(), 8_192);
    assert_eq!(net.refused(0, add(0)), Refusal::LimitReached(8_192));
    net.done(0, pay(&invoice, 1, 0, CommitMode::InBand));
    receipt_of(status(&mut net, 0, 1));
    net.done(0, Command::RemoveFriend { name: numbered(7_000) });
    net.done(0, add(0));
    assert_eq!(net.hosts[0].funder.friends.len(), 8_192);
}

#[test]
fn at_16_relays_and_16_index_servers_another_is_refused_until_one_is_removed() {
    let (mut net, _) = friends();
    let address = |number: usize| format!("host{number}:1").parse().unwrap();
    let add = |number, is_relay| {
        let (public_key, name) = (stranger(number), numbered(number));
        if is_relay {
            Command::AddRelay { relay: RelayAddress { public_key, address: address(number) }, name }
        } else {
            Command::AddIndex { server: IndexAddress { public_key, address: address(number) }, name }
        }
    };
    for is_relay in [true, false] {
        let funder = &net.hosts[0].funder;
        let known = if is_relay { funder.relays.len() } else { funder.index_servers.len() };
        (known..16).for_each(|number| drop(net.done(0, add(number, is_relay))));
        assert_eq!(net.refused(0, add(16, is_relay)), Refusal::LimitReached(16));
        let name = numbered(3);
        net.done(0, if is_relay { Command::RemoveRelay { name } } else { Command::RemoveIndex { name } });
        // A relay is listened to until the friends have said that they know of its end.
        while net.hosts[0].funder.relays.len() == 16 && is_relay {
            assert!(net.tick(), "nobody will say so");
            net.run();
        }
        net.done(0, add(16, is_relay));
        assert_eq!(net.refused(0, add(17, is_relay)), Refusal::LimitReached(16));
    }
}
