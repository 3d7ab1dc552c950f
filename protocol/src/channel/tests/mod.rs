//! Tests of the channel, and the two harnesses that they share: [`Pair`] (two ends of ours with their own clock and wires)
//! and [`snow_peer::SnowPeer`] (an independent end that can also misbehave).

mod any_input;
mod handshake;
mod independent;
mod misbinding;
mod records;
mod rekey;
mod time;
mod vector;

pub(crate) use super::pair::{ALICE, BOB, Pair, TestEnd, config, key, signer};
use super::*;
use super::{fuzz, snow_peer};
use crate::machine::Machine;

#[test]
fn messages_travel_both_ways_after_admission() {
    let mut pair = Pair::open(1);
    pair.alice.send(pair.now, b"from alice");
    pair.bob.send(pair.now, b"from bob");
    pair.bob.send(pair.now, b"");
    pair.deliver();
    assert_eq!(pair.bob.messages(), [b"from alice"]);
    assert_eq!(pair.alice.messages(), [&b"from bob"[..], b""]);
}

#[test]
fn the_same_seed_gives_the_same_transcript() {
    let transcript = |seed| {
        let mut pair = Pair::open(seed);
        pair.alice.send(pair.now, b"one");
        pair.bob.send(pair.now, &[7; 100_000]);
        pair.pass(Duration::from_secs(3_700));
        pair.alice.door(|channel, wire| channel.close(pair.now, wire));
        pair.deliver();
        (pair.alice.written, pair.bob.written)
    };
    assert_eq!(transcript(5), transcript(5));
    let (one, other) = (transcript(5), transcript(6));
    assert_ne!(one.0, other.0);
    assert_ne!(one.1, other.1);
}

#[test]
fn nothing_secret_is_printed() {
    let pair = Pair::open(1);
    assert_eq!(format!("{:?}", pair.alice.channel), r#"SecureChannel { phase: "open", .. }"#);
    let config = format!("{:?}", config(ALICE, Purpose::Friend, 1));
    assert_eq!(config, format!("ChannelConfig {{ purpose: Friend, identity: {:?}, .. }}", key(ALICE)));
}

#[test]
fn a_channel_may_move_between_threads() {
    fn movable<T: Send>() {}
    movable::<SecureChannel>();
}

#[test]
fn the_machine_does_what_the_doors_do() {
    fn drain(machine: &mut SecureChannel, events: &mut Vec<ChannelEvent>) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Some(output) = machine.poll_output() {
            match output {
                Output::Transmit(more) => bytes.extend_from_slice(&more),
                Output::Event(event) => events.push(event),
            }
        }
        bytes
    }
    let mut doors = Pair::open(9);
    let Pair { now, mut alice, mut bob } = Pair::new(9);
    let mut to_alice = Vec::new();
    alice.channel.handle(now, Input::Start);
    for _ in 0..4 {
        alice.channel.handle(now, Input::Received(to_alice));
        let to_bob = drain(&mut alice.channel, &mut alice.events);
        alice.written.extend_from_slice(&to_bob);
        bob.channel.handle(now, Input::Received(to_bob));
        bob.channel.handle(now, Input::Admit);
        to_alice = drain(&mut bob.channel, &mut bob.events);
        bob.written.extend_from_slice(&to_alice);
    }
    assert_eq!((&alice.written, &bob.written), (&doors.alice.written, &doors.bob.written));
    doors.alice.send(now, b"hello");
    alice.channel.handle(now, Input::Send(b"hello".to_vec()));
    let bytes = drain(&mut alice.channel, &mut alice.events);
    assert_eq!(bytes, doors.alice.wire);
    bob.channel.handle(now, Input::Received(bytes));
    drain(&mut bob.channel, &mut bob.events);
    assert!(bob.has(&ChannelEvent::Message(b"hello".to_vec())));
    bob.channel.handle(now, Input::Close);
    alice.channel.handle(now, Input::Lost);
    drain(&mut alice.channel, &mut alice.events);
    drain(&mut bob.channel, &mut bob.events);
    assert_eq!((alice.closed(), bob.closed()), (Some(CloseReason::Cut), Some(CloseReason::Orderly)));
}

#[test]
fn a_message_that_cannot_be_sent_never_looks_sent() {
    let mut pair = Pair::new(1);
    let wire = &mut Vec::new();
    assert_eq!(pair.alice.channel.send(pair.now, b"early", wire), Err(SendError::NotOpen));
    pair.start();
    pair.deliver();
    // Both have their keys; nobody was admitted yet.
    assert_eq!(pair.alice.channel.send(pair.now, b"early", wire), Err(SendError::NotOpen));
    assert_eq!(pair.bob.channel.send(pair.now, b"early", wire), Err(SendError::NotOpen));
    pair.bob.door(|channel, wire| channel.admit(pair.now, wire));
    pair.deliver();
    let refused = SendError::TooLong { length: MAX_FRAME + 1, limit: MAX_FRAME };
    assert_eq!(pair.alice.channel.send(pair.now, &vec![0; MAX_FRAME + 1], wire), Err(refused));
    assert!(wire.is_empty());
    pair.alice.door(|channel, _| channel.handle(pair.now, Input::Send(vec![0; MAX_FRAME + 1])));
    assert_eq!(pair.alice.closed(), Some(CloseReason::Unsendable(refused)));
    assert_eq!(pair.alice.channel.send(pair.now, b"late", wire), Err(SendError::Closed));
}
