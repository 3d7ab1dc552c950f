//! Fresh keys, by count and by Diffie-Hellman, while messages are under way in both directions.

use x25519_dalek::{X25519_BASEPOINT_BYTES, x25519};

use super::snow_peer::{opened_by_snow, opened_to_snow};
use super::*;
use crate::limits::{KEEPALIVE, KEEPALIVE_SILENCE, REKEY_DH, REKEY_RECORDS};

pub(super) fn transport(end: &mut TestEnd) -> &mut Transport {
    match &mut end.channel.phase {
        Phase::Open(transport) => transport,
        Phase::Handshake(_) | Phase::Unadmitted(_) | Phase::Closed => panic!("not open"),
    }
}

fn set_rekey_records(pair: &mut Pair, records: u64) {
    for end in [&mut pair.alice, &mut pair.bob] {
        let (sending, receiving) = transport(end).directions();
        sending.set_rekey_records(records);
        receiving.set_rekey_records(records);
    }
}

/// Keys from Alice to Bob and from Bob to Alice, if both ends agree on them.
pub(super) fn keys(pair: &mut Pair) -> ([u8; 32], [u8; 32]) {
    let (sending, receiving) = transport(&mut pair.alice).directions();
    let of_alice = (*sending.key(), *receiving.key());
    let (sending, receiving) = transport(&mut pair.bob).directions();
    assert_eq!(of_alice, (*receiving.key(), *sending.key()));
    of_alice
}

#[test]
fn keys_change_after_so_many_records_and_nothing_is_lost() {
    let mut pair = Pair::open(1);
    let before = keys(&mut pair);
    // The responder's "admitted" was its first record.
    for number in 1..REKEY_RECORDS {
        pair.alice.send(pair.now, &number.to_le_bytes());
        pair.bob.send(pair.now, &number.to_le_bytes());
        pair.deliver();
        let message = Some(ChannelEvent::Message(number.to_le_bytes().to_vec()));
        assert_eq!((pair.alice.events.pop(), pair.bob.events.pop()), (message.clone(), message));
    }
    let after = keys(&mut pair);
    assert_eq!(before.0, after.0, "one record is missing");
    assert_ne!(before.1, after.1);
    pair.alice.send(pair.now, b"the last one under the old key");
    pair.alice.send(pair.now, b"the first one under the new key");
    pair.deliver();
    assert_ne!(before.0, keys(&mut pair).0);
    assert_eq!(pair.bob.messages().len(), 2);
}

#[test]
fn an_exchange_is_offered_every_hour_by_the_initiator() {
    let mut pair = Pair::open(1);
    let first = keys(&mut pair);
    pair.pass(Duration::from_micros(REKEY_DH.as_micros() - 1));
    assert_eq!(keys(&mut pair), first);
    pair.pass(Duration::from_micros(1));
    let second = keys(&mut pair);
    assert!(first.0 != second.0 && first.1 != second.1);
    pair.pass(REKEY_DH);
    let third = keys(&mut pair);
    assert!(second.0 != third.0 && second.1 != third.1);
    pair.pass(REKEY_DH.times(24));
    assert!(pair.alice.events.is_empty() && pair.bob.events.is_empty());
    assert_ne!(keys(&mut pair), third);
}

/// Two hours and more of traffic, where bytes of both directions are carried in random pieces and at random times, while
/// keys change by count and by exchange.
fn storm(seed: u64) {
    let mut rng = Seed::from_number(seed).rng();
    let mut pair = Pair::open(seed);
    set_rekey_records(&mut pair, 3 + seed % 7);
    let before = keys(&mut pair);
    let (mut to_bob, mut to_alice) = (Vec::new(), Vec::new());
    let until = pair.now + REKEY_DH.times(2) + KEEPALIVE.times(8);
    while pair.now < until {
        let message = rng.next_u64().to_le_bytes().repeat(rng.below(200) as usize);
        match rng.below(12) {
            0..3 => {
                pair.alice.send(pair.now, &message);
                to_bob.push(message);
            }
            3..6 => {
                pair.bob.send(pair.now, &message);
                to_alice.push(message);
            }
            6..8 => pair.forth(rng.below(3_000) as usize),
            8..10 => pair.back(rng.below(3_000) as usize),
            10 => {
                pair.now += Duration::from_secs(rng.below(8));
                pair.alice.tick(pair.now);
                pair.bob.tick(pair.now);
            }
            _ => {
                // Nothing is ever under way for longer than the silence that a peer may keep.
                pair.forth(usize::MAX);
                pair.back(usize::MAX);
            }
        }
    }
    pair.deliver();
    assert_eq!(pair.bob.messages(), to_bob, "seed {seed}");
    assert_eq!(pair.alice.messages(), to_alice, "seed {seed}");
    assert_eq!((pair.alice.closed(), pair.bob.closed()), (None, None));
    let after = keys(&mut pair);
    assert!(before.0 != after.0 && before.1 != after.1);
    assert_eq!(transport(&mut pair.alice).exchanges(), 2);
}

#[test]
fn fresh_keys_lose_nothing_that_is_in_flight_in_both_directions() {
    for seed in 0..8 {
        storm(seed);
    }
}

#[test]
fn every_record_in_flight_around_an_exchange_opens() {
    let mut pair = Pair::open(1);
    pair.pass(Duration::from_secs(3_590));
    let before = keys(&mut pair);
    pair.now += Duration::from_secs(10);
    pair.alice.send(pair.now, b"a1");
    pair.bob.send(pair.now, b"b1");
    pair.alice.tick(pair.now);
    pair.alice.send(pair.now, b"a2, after the offer, still under the old key");
    pair.forth(usize::MAX);
    pair.alice.send(pair.now, b"a3, when the answer is under way");
    pair.bob.send(pair.now, b"b2, under the new key");
    pair.back(usize::MAX);
    pair.alice.send(pair.now, b"a4, under the new key");
    pair.bob.send(pair.now, b"b3");
    pair.deliver();
    assert_eq!(pair.bob.messages().len(), 4);
    assert_eq!(pair.alice.messages().len(), 3);
    let after = keys(&mut pair);
    assert!(before.0 != after.0 && before.1 != after.1 && after.0 != after.1);
}

/// The record content and the secret of one half of an exchange.
fn half(step: u8, secret: u8) -> (Vec<u8>, [u8; 32]) {
    let public = x25519([secret; 32], X25519_BASEPOINT_BYTES);
    ([&[step][..], &public].concat(), public)
}

/// A direction's next key, as the specification says.
fn next_key(
    old: &[u8; 32],
    shared: &[u8; 32],
    session: &[u8],
    halves: (&[u8; 32], &[u8; 32]),
    direction: u8,
) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("offset v1 channel rekey");
    hasher.update(old).update(shared).update(session).update(&1u64.to_le_bytes());
    hasher.update(halves.0).update(halves.1).update(&[direction]);
    *hasher.finalize().as_bytes()
}

#[test]
fn an_exchange_interoperates_with_an_independent_peer() {
    let (mut bob, mut alice, now) = opened_by_snow();
    let (sending, receiving) = transport(&mut bob).directions();
    let (back, forth) = (*sending.key(), *receiving.key());
    let (offer, offered) = half(1, 77);
    bob.receive(now, &alice.record(4, &offer));
    let (kind, answer) = alice.open(&mut bob.wire);
    assert_eq!((kind, answer[0], answer.len(), bob.wire.len()), (4, 2, 33, 0));
    let answered: [u8; 32] = answer[1..].try_into().unwrap();
    let shared = x25519([77; 32], answered);
    let halves = (&offered, &answered);
    alice.0.rekey_manually(None, Some(&next_key(&back, &shared, &alice.1, halves, 1)));
    bob.send(now, b"new key back");
    assert_eq!(alice.open(&mut bob.wire), (1, b"new key back".to_vec()));
    bob.receive(now, &alice.record(1, b"old key forth"));
    bob.receive(now, &alice.record(4, &[3]));
    alice.0.rekey_manually(Some(&next_key(&forth, &shared, &alice.1, halves, 0)), None);
    bob.receive(now, &alice.record(1, b"new key forth"));
    assert_eq!(bob.messages(), [&b"old key forth"[..], b"new key forth"]);
}

#[test]
fn steps_out_of_order_close() {
    let misplaced = [ChannelEvent::Closed(CloseReason::Misbehaved(Misbehaviour::Misplaced(4)))];
    for content in [half(2, 5).0, vec![3]] {
        let (mut bob, mut alice, now) = opened_by_snow();
        bob.receive(now, &alice.record(4, &content));
        assert_eq!(bob.events, misplaced, "nothing was offered");
    }
    for content in [half(1, 5).0, half(2, 5).0, vec![3]] {
        let (mut alice, mut bob, now) = opened_to_snow();
        alice.receive(now, &bob.record(4, &content));
        assert_eq!(alice.events, misplaced, "only an initiator offers, and it has not");
    }
    let (mut bob, mut alice, now) = opened_by_snow();
    bob.receive(now, &alice.record(4, &half(1, 5).0));
    bob.receive(now, &alice.record(4, &half(1, 6).0));
    assert_eq!(bob.events, misplaced, "one exchange at a time");
}

#[test]
fn a_weak_half_closes() {
    let weak = [ChannelEvent::Closed(CloseReason::Misbehaved(Misbehaviour::WeakKey))];
    let (mut bob, mut alice, now) = opened_by_snow();
    bob.receive(now, &alice.record(4, &[&[1][..], &[0; 32]].concat()));
    assert_eq!(bob.events, weak);
    assert!(bob.wire.is_empty());

    let (mut alice, mut bob, mut now) = opened_to_snow();
    while now < Instant::from_micros(5) + REKEY_DH {
        now += KEEPALIVE;
        alice.receive(now, &bob.record(3, &[]));
        alice.tick(now);
    }
    alice.receive(now, &bob.record(4, &[&[2][..], &[0; 32]].concat()));
    assert_eq!(alice.events, weak);
}

#[test]
fn an_initiator_that_offers_too_often_is_closed_and_each_answer_is_fresh() {
    let second_offer = |after: Duration| {
        let (mut bob, mut alice, now) = opened_by_snow();
        let (sending, receiving) = transport(&mut bob).directions();
        let (back, forth) = (*sending.key(), *receiving.key());
        let (offer, offered) = half(1, 77);
        bob.receive(now, &alice.record(4, &offer));
        let (_, answer) = alice.open(&mut bob.wire);
        bob.receive(now, &alice.record(4, &[3]));
        let answered: [u8; 32] = answer[1..].try_into().unwrap();
        let key =
            |old, direction| next_key(old, &x25519([77; 32], answered), &alice.1, (&offered, &answered), direction);
        let (forth, back) = (key(&forth, 0), key(&back, 1));
        alice.0.rekey_manually(Some(&forth), Some(&back));
        bob.receive(now + after, &alice.record(4, &half(1, 78).0));
        (bob, alice, answer)
    };
    let (bob, ..) = second_offer(Duration::from_micros(MIN_REKEY_DH.as_micros() - 1));
    assert_eq!(bob.closed(), Some(CloseReason::Misbehaved(Misbehaviour::RekeyTooOften)));
    let (mut bob, mut alice, first) = second_offer(MIN_REKEY_DH);
    let (kind, second) = alice.open(&mut bob.wire);
    assert_eq!((kind, second[0], bob.closed()), (4, 2, None));
    assert_ne!(first, second);
}

#[test]
fn a_peer_that_withholds_its_part_is_closed_after_two_hours() {
    for (mut end, mut peer, start) in [opened_by_snow(), opened_to_snow()] {
        let mut now = start;
        while end.closed().is_none() {
            now += KEEPALIVE;
            end.receive(now, &peer.record(3, &[]));
            end.tick(now);
        }
        assert_eq!(end.closed(), Some(CloseReason::Misbehaved(Misbehaviour::RekeyOverdue)));
        assert_eq!(now, start + REKEY_DH.times(2));
    }
}

#[test]
fn who_does_not_listen_does_not_blame_its_peer() {
    let mut pair = Pair::open(1);
    pair.bob.channel.pause();
    // Bob's owner reads nothing for three hours; what Alice says waits in between, and Alice hears keepalives.
    let until = pair.now + REKEY_DH.times(3);
    pair.alice.channel.pause();
    while pair.now < until {
        pair.now += KEEPALIVE;
        pair.alice.tick(pair.now);
        pair.bob.tick(pair.now);
    }
    pair.alice.channel.resume(pair.now);
    pair.bob.channel.resume(pair.now);
    // What is overdue by now may be among what waits to be read.
    pair.alice.tick(pair.now);
    pair.bob.tick(pair.now);
    pair.deliver();
    pair.pass(KEEPALIVE_SILENCE.times(10));
    assert!(pair.alice.events.is_empty() && pair.bob.events.is_empty());
    assert_eq!(transport(&mut pair.alice).exchanges(), 1);
}
