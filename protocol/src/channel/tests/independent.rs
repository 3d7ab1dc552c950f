//! Our channel and one that shares nothing with it understand each other.

use super::snow_peer::{opened_by_snow, opened_to_snow};
use super::*;

#[test]
fn interoperates_with_an_independent_snow_peer_that_responds() {
    let (mut alice, mut records, now) = opened_to_snow();
    alice.send(now, b"to snow");
    assert_eq!(records.open(&mut alice.wire), (1, b"to snow".to_vec()));
    alice.receive(now, &records.record(2, b"from "));
    alice.receive(now, &records.record(3, &[]));
    alice.receive(now, &records.record(1, b"snow"));
    assert_eq!(alice.messages(), [b"from snow"]);
    alice.door(|channel, wire| channel.close(now, wire));
    assert_eq!(records.open(&mut alice.wire), (5, vec![0]));
}

#[test]
fn interoperates_with_an_independent_snow_peer_that_initiates() {
    let (mut bob, mut records, now) = opened_by_snow();
    let long: Vec<u8> = (0..150_000u32).map(|i| i as u8).collect();
    bob.send(now, &long);
    let (first, second, third) =
        (records.open(&mut bob.wire), records.open(&mut bob.wire), records.open(&mut bob.wire));
    assert_eq!((first.0, second.0, third.0, bob.wire.len()), (2, 2, 1, 0));
    assert_eq!([first.1, second.1, third.1].concat(), long);
    bob.receive(now, &records.record(1, b"from snow"));
    bob.receive(now, &records.record(5, &[0]));
    assert_eq!(bob.messages(), [b"from snow"]);
    assert_eq!(bob.closed(), Some(CloseReason::Orderly));
}

#[test]
fn both_directions_rekey_as_snow_does_after_the_same_number_of_records() {
    let (mut alice, mut records, now) = opened_to_snow();
    // The record "admitted" was the first in the direction from snow.
    for number in 0..crate::limits::REKEY_RECORDS + 10 {
        alice.send(now, &number.to_le_bytes());
        assert_eq!(records.open(&mut alice.wire), (1, number.to_le_bytes().to_vec()));
        if number + 1 == crate::limits::REKEY_RECORDS {
            records.0.rekey_incoming();
            records.0.rekey_outgoing();
        }
        alice.receive(now, &records.record(1, &number.to_le_bytes()));
        assert_eq!(alice.events.pop(), Some(ChannelEvent::Message(number.to_le_bytes().to_vec())));
    }
}
