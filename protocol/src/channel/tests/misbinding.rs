//! Mallory in the middle: an identity is worth nothing outside the very handshake that it was made for.
//!
//! The attack of the original protocol: each end signed only its ephemeral key and a nonce, so Mallory could carry one
//! end's proof into another connection and make Bob believe that Alice's connection was Mallory's, or the reverse.

use super::snow_peer::{SnowPeer, frame, identity, signed_hash};
use super::*;

const MALLORY: u8 = 3;

/// Alice, who wants to reach `expected`, has said her first frame.
fn alice(expected: u8) -> (TestEnd, Instant) {
    let now = Instant::ZERO;
    let mut alice = TestEnd::new(SecureChannel::initiator(config(ALICE, Purpose::Friend, 7), key(expected), now));
    alice.door(|channel, wire| channel.start(now, wire));
    (alice, now)
}

fn bob() -> TestEnd {
    TestEnd::new(SecureChannel::responder(config(BOB, Purpose::Friend, 8), Instant::ZERO))
}

#[test]
fn the_proof_that_alice_gave_mallory_does_not_make_mallorys_connection_hers() {
    let (mut alice, now) = alice(MALLORY);
    let mut server = SnowPeer::new(1, MALLORY);
    server.on_first(&std::mem::take(&mut alice.wire));
    alice.receive(now, &server.identify());
    let (proof, ..) = server.read_identity(&std::mem::take(&mut alice.wire));

    let (mut bob, mut client) = (bob(), SnowPeer::new(0, MALLORY));
    bob.receive(now, &client.first());
    client.on_identity(&std::mem::take(&mut bob.wire), &key(BOB));
    bob.receive(now, &client.frame_with(&proof));
    assert_eq!(bob.events, [ChannelEvent::Closed(CloseReason::BadIdentity)]);
}

#[test]
fn the_proof_that_bob_gave_mallory_does_not_make_mallory_bob() {
    let (mut bob, mut client) = (bob(), SnowPeer::new(0, MALLORY));
    let (mut alice, now) = alice(BOB);
    bob.receive(now, &client.first());
    let (proof, ..) = client.read_identity(&std::mem::take(&mut bob.wire));

    let mut server = SnowPeer::new(1, MALLORY);
    server.on_first(&std::mem::take(&mut alice.wire));
    alice.receive(now, &server.frame_with(&proof));
    assert_eq!(alice.events, [ChannelEvent::Closed(CloseReason::BadIdentity)]);
    assert!(alice.wire.is_empty(), "alice's identity did not leave");
}

#[test]
fn mallory_cannot_put_its_own_name_on_alices_connection() {
    // Mallory carries Alice's handshake with Bob, and answers for her in the last frame, as itself.
    let (mut alice, now) = alice(BOB);
    let mut bob = bob();
    let first = std::mem::take(&mut alice.wire);
    bob.receive(now, &first);
    let second = std::mem::take(&mut bob.wire);
    alice.receive(now, &second);
    let third = std::mem::take(&mut alice.wire);

    // It has none of Alice's secrets, so all that it can do to her last frame is to exchange bytes of it: its identity
    // for hers, or the whole frame for one of a handshake of its own.
    let hash = signed_hash(0, &[0; 32], &[0; 32]);
    let own = identity(1, &key(MALLORY), &signer(MALLORY).sign(&hash));
    let mut spliced = third.clone();
    let at = spliced.len() - 16 - own.len();
    spliced[at..at + own.len()].copy_from_slice(&own);
    bob.receive(now, &spliced);
    assert_eq!(bob.events, [ChannelEvent::Closed(CloseReason::BadHandshake)]);

    let mut bob = self::bob();
    bob.receive(now, &first);
    let (mut other, mut client) = (self::bob(), SnowPeer::new(0, MALLORY));
    other.receive(now, &client.first());
    client.on_identity(&std::mem::take(&mut other.wire), &key(BOB));
    bob.receive(now, &client.identify());
    assert_eq!(bob.events, [ChannelEvent::Closed(CloseReason::BadHandshake)]);
}

#[test]
fn alice_who_wants_mallory_is_not_carried_to_bob() {
    let (mut alice, now) = alice(MALLORY);
    let mut bob = bob();
    bob.receive(now, &std::mem::take(&mut alice.wire));
    alice.receive(now, &std::mem::take(&mut bob.wire));
    let reason = CloseReason::WrongPeer { expected: key(MALLORY), met: key(BOB) };
    assert_eq!(alice.events, [ChannelEvent::Closed(reason)]);
    assert!(alice.wire.is_empty(), "alice's identity did not leave");
    assert!(bob.events.is_empty(), "bob believes nothing about anybody");
}

#[test]
fn a_signature_over_somebody_elses_static_key_proves_nothing() {
    // Mallory signs Alice's static key, which it may know, under its own name.
    let (mut bob, mut client) = (bob(), SnowPeer::new(0, MALLORY));
    let now = Instant::ZERO;
    bob.receive(now, &client.first());
    client.on_identity(&std::mem::take(&mut bob.wire), &key(BOB));
    let alices = SnowPeer::new(0, ALICE).static_public;
    let signature = client.signer.sign(&signed_hash(0, client.noise.get_handshake_hash(), &alices));
    let payload = identity(1, &key(MALLORY), &signature);
    bob.receive(now, &client.frame_with(&payload));
    assert_eq!(bob.events, [ChannelEvent::Closed(CloseReason::BadIdentity)]);
}

#[test]
fn a_signature_in_the_other_role_proves_nothing() {
    let (mut bob, mut client) = (bob(), SnowPeer::new(0, MALLORY));
    let now = Instant::ZERO;
    bob.receive(now, &client.first());
    client.on_identity(&std::mem::take(&mut bob.wire), &key(BOB));
    let hash = signed_hash(1, client.noise.get_handshake_hash(), &client.static_public);
    let payload = identity(1, &key(MALLORY), &client.signer.sign(&hash));
    bob.receive(now, &client.frame_with(&payload));
    assert_eq!(bob.events, [ChannelEvent::Closed(CloseReason::BadIdentity)]);
}

#[test]
fn a_whole_handshake_cannot_be_replayed() {
    let mut pair = Pair::open(3);
    pair.alice.send(pair.now, b"pay");
    let recorded = pair.alice.written;
    // Bob restarts with another seed and hears every byte again.
    let mut bob = TestEnd::new(SecureChannel::responder(config(BOB, Purpose::Friend, 99), pair.now));
    bob.receive(pair.now, &recorded);
    assert_eq!(bob.events, [ChannelEvent::Closed(CloseReason::BadHandshake)]);
}

#[test]
fn a_weak_ephemeral_key_is_refused() {
    let mut bob = bob();
    bob.receive(Instant::ZERO, &frame(0, &[b"OFST\x00\x01\x05", &[0; 32][..]].concat()));
    assert_eq!(bob.events, [ChannelEvent::Closed(CloseReason::BadHandshake)]);
}
