//! Every record of nodes in the middle of payments, changed in every byte: nothing panics, and no money moves unnoticed.

use std::sync::Arc;

use offset_protocol::fuzz::Cheap;
use offset_protocol::machine::Seed;

use super::net::Disk;
use super::*;
use crate::funder::{Funder, FunderConfig, RestoreError};
use crate::inspection::{Check, Inspection};

/// Four nodes in a line: a payment that is done, one whose commit is out, invoices.
fn busy() -> Net {
    let mut net = Net::line(4, 1_000, RATE);
    let done = net.invoice(3, 1, 160);
    net.routes = Ok(vec![multi(vec![part(&[0, 1, 2, 3], 160, 24)])]);
    net.done(0, pay(&done, 1, 24, CommitMode::InBand));
    net.heal();
    let open = net.invoice(3, 2, 160);
    net.done(0, pay(&open, 2, 24, CommitMode::ByHand));
    net.heal();
    commit_of(&mut net, 0, 2);
    net.heal();
    net.invoice(1, 3, 70);
    // One that the mediators have heard of, and not the seller.
    let last = net.invoice(3, 4, 32);
    net.routes = Ok(vec![multi(vec![part(&[0, 1, 2, 3], 32, 10)])]);
    net.done(0, pay(&last, 4, 10, CommitMode::InBand));
    for (from, to) in [(0, 1), (1, 2)] {
        for _ in 0..3 {
            (0..4).for_each(|host| {
                net.drain(host);
                net.flush(host);
                net.drain(host);
            });
            net.deliver(from, to);
        }
    }
    (0..4).for_each(|host| {
        net.drain(host);
        net.flush(host);
        net.drain(host);
    });
    net
}

fn rebuilt(host: usize, disk: &Disk) -> Result<Funder, RestoreError> {
    let config = FunderConfig { signer: Arc::new(Cheap(key(host))), seed: Seed::from_number(0) };
    Funder::rebuild(config, disk.clone())
}

fn inspected(host: usize, disk: &Disk) -> Result<Inspection, RestoreError> {
    Funder::inspect_records(key(host), Arc::new(Cheap(key(host))), disk.clone())
}

/// All that is money: balances and what is frozen, by friend and currency.
fn money(funder: &Funder) -> Vec<String> {
    let channels = funder.channels().flat_map(|channel| {
        channel.currencies().map(move |report| {
            let (friend, currency) = (channel.friend(), report.currency);
            format!("{friend} {currency} {} {} {}", report.balance, report.out_frozen, report.in_frozen)
        })
    });
    channels.collect()
}

#[test]
fn nodes_at_work_are_sound_and_everything_is_looked_at() {
    let net = busy();
    for (host, state) in net.hosts.iter().enumerate() {
        let found = inspected(host, &state.disk).unwrap();
        assert!(found.is_sound(), "node {host}: {:#?}", found.findings);
        for check in Check::ALL {
            assert!(found.checks[&check].0 > 0, "node {host}: no {check:?} was checked");
        }
        assert!(found.things["friends"] > 0 && found.things["requests on their way"] > 0, "{:?}", found.things);
        let standing = found.currencies.values().next().unwrap();
        assert_eq!(standing.friends, found.things["friends"]);
    }
    let all = |thing: &str| -> u64 {
        let found = net.hosts.iter().enumerate().map(|(host, state)| inspected(host, &state.disk).unwrap());
        found.map(|found| found.things.get(thing).copied().unwrap_or(0)).sum()
    };
    for thing in ["open requests, ours", "open requests, friends'", "receipts", "offers for invoices", "payments, open"]
    {
        assert!(all(thing) > 0, "there are no {thing}");
    }
}

#[test]
fn a_byte_that_changes_in_a_record_never_panics_and_no_money_moves_unnoticed() {
    let net = busy();
    let (mut tried, mut noticed) = (0, 0);
    for (host, state) in net.hosts.iter().enumerate() {
        let before = money(&rebuilt(host, &state.disk).unwrap());
        for (key, value) in &state.disk {
            for at in 0..value.len() {
                let mut disk = state.disk.clone();
                disk.get_mut(key).unwrap()[at] ^= 1 << (at % 8);
                tried += 1;
                let is_sound = inspected(host, &disk).is_ok_and(|found| found.is_sound());
                if !is_sound {
                    noticed += 1;
                } else {
                    let after = money(&rebuilt(host, &disk).unwrap());
                    assert_eq!(
                        after,
                        before,
                        "node {host}, byte {at} of the record {:?}",
                        key.escape_ascii().to_string()
                    );
                }
            }
        }
    }
    // What is not noticed is what nobody proves: names, limits, rates, addresses.
    assert!(noticed * 10 > tried * 7, "{noticed} of {tried} are noticed");
}

#[test]
fn a_record_that_is_missing_is_noticed_if_another_needs_it() {
    let net = busy();
    for (host, state) in net.hosts.iter().enumerate() {
        let needed = |key: &[u8]| {
            let of_channel = matches!(key.get(33), Some(b'c' | b'l' | b'i' | b'o' | b'b' | b'r'));
            key[0] == b'f' || key[0] == b'q' || key[0] == b'c' && of_channel
        };
        for key in state.disk.keys().filter(|key| needed(key)) {
            let mut disk = state.disk.clone();
            disk.remove(key);
            let is_sound = inspected(host, &disk).is_ok_and(|found| found.is_sound());
            assert!(!is_sound, "node {host} does without the record {:?}", key.escape_ascii().to_string());
        }
    }
}

#[test]
fn records_of_another_node_are_not_taken_for_ours() {
    let net = busy();
    assert!(!inspected(1, &net.hosts[2].disk).is_ok_and(|found| found.is_sound()));
}
