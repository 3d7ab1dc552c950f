//! Handshakes that fail: each for the right reason, on both sides where both can know.

use super::snow_peer::{SnowPeer, frame, identity, signed_hash, unadmitted_to_snow};
use super::*;
use crate::limits::MAX_HANDSHAKE;

fn closed(reason: CloseReason) -> Option<CloseReason> {
    Some(reason)
}

#[test]
fn a_wrong_identity_closes_before_ours_leaves() {
    let mut pair = Pair::with(config(ALICE, Purpose::Friend, 1), key(9), config(BOB, Purpose::Friend, 2));
    pair.establish();
    assert_eq!(pair.alice.closed(), closed(CloseReason::WrongPeer { expected: key(9), met: key(BOB) }));
    assert!(pair.bob.events.is_empty());
    assert_eq!(pair.alice.written.len(), 42, "only the first frame");
    pair.bob.door(|channel, _| channel.lost(pair.now));
    assert_eq!(pair.bob.closed(), closed(CloseReason::Cut));
}

#[test]
fn a_wrong_purpose_is_told_on_both_sides() {
    let mut pair = Pair::with(config(ALICE, Purpose::NodeRelay, 1), key(BOB), config(BOB, Purpose::NodeIndex, 2));
    pair.establish();
    let ours = CloseReason::WrongPurpose { ours: Purpose::NodeRelay, theirs: Purpose::NodeIndex.tag() };
    assert_eq!(pair.alice.events, [ChannelEvent::Closed(ours)]);
    let theirs = CloseReason::WrongPurpose { ours: Purpose::NodeIndex, theirs: Purpose::NodeRelay.tag() };
    assert_eq!(pair.bob.events, [ChannelEvent::Closed(theirs)]);
}

#[test]
fn a_wrong_version_is_told_on_both_sides() {
    let mut pair = Pair::new(1);
    pair.start();
    pair.alice.wire[7..9].copy_from_slice(&[2, 1]);
    pair.forth(usize::MAX);
    assert_eq!(pair.bob.closed(), closed(CloseReason::WrongVersion { ours: 1, theirs: 0x201 }));
    assert_eq!(pair.bob.wire, [0, 5, 1, 1, 0, 1, 5]);
    // And the other way round: a responder of the future refuses us.
    pair.alice.receive(pair.now, &[0, 5, 1, 1, 2, 1, 5]);
    assert_eq!(pair.alice.closed(), closed(CloseReason::WrongVersion { ours: 1, theirs: 0x201 }));
}

#[test]
fn a_wrong_version_in_the_identity_is_told_too() {
    let now = Instant::ZERO;
    let mut bob = TestEnd::new(SecureChannel::responder(config(BOB, Purpose::Friend, 1), now));
    let mut alice = SnowPeer::new(0, ALICE);
    bob.receive(now, &alice.first());
    alice.on_identity(&std::mem::take(&mut bob.wire), &key(BOB));
    let hash = signed_hash(0, alice.noise.get_handshake_hash(), &alice.static_public);
    let payload = identity(7, &key(ALICE), &alice.signer.sign(&hash));
    bob.receive(now, &alice.frame_with(&payload));
    assert_eq!(bob.events, [ChannelEvent::Closed(CloseReason::WrongVersion { ours: 1, theirs: 7 })]);
}

#[test]
fn an_error_frame_that_complains_about_nothing_is_none() {
    for bad in [&[0, 5, 1, 1, 0, 1, 5][..], &[0, 5, 1, 2, 0, 1, 5], &[0, 5, 1, 3, 9, 9, 9], &[0, 2, 1, 1], &[0, 1, 2]] {
        let mut pair = Pair::new(1);
        pair.start();
        pair.alice.receive(pair.now, bad);
        assert_eq!(pair.alice.events, [ChannelEvent::Closed(CloseReason::BadHandshake)], "{bad:?}");
    }
}

#[test]
fn a_responder_takes_no_error_frame_and_nobody_speaks_out_of_turn() {
    let mut pair = Pair::new(1);
    pair.bob.receive(pair.now, &[0, 5, 1, 1, 2, 1, 5]);
    assert_eq!(pair.bob.closed(), closed(CloseReason::BadHandshake));
    pair.alice.receive(pair.now, &frame(0, &[0; 202]));
    assert_eq!(pair.alice.closed(), closed(CloseReason::BadHandshake), "not even started");
    assert!(pair.alice.written.is_empty() && pair.bob.written.is_empty());
}

#[test]
fn a_stranger_of_another_protocol_is_not_answered() {
    let mut pair = Pair::new(1);
    pair.bob.receive(pair.now, b"\x00\x20GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(pair.bob.closed(), closed(CloseReason::BadHandshake));
    assert!(pair.bob.written.is_empty());
}

#[test]
fn a_first_frame_with_anything_after_its_key_is_none() {
    let now = Instant::ZERO;
    for surplus in [&b"x"[..], &[0; 100]] {
        let mut bob = TestEnd::new(SecureChannel::responder(config(BOB, Purpose::Friend, 1), now));
        let message = SnowPeer::new(0, ALICE).noise_message(surplus);
        bob.receive(now, &frame(0, &[b"OFST\x00\x01\x05", &message[..]].concat()));
        assert_eq!(bob.events, [ChannelEvent::Closed(CloseReason::BadHandshake)]);
        assert!(bob.wire.is_empty());
    }
}

#[test]
fn an_announced_frame_of_huge_length_closes_without_buffering() {
    for huge in [[0x20, 0x00], [0xff, 0xff]] {
        let mut pair = Pair::new(1);
        pair.bob.receive(pair.now, &huge);
        assert_eq!(pair.bob.closed(), closed(CloseReason::HandshakeTooLong), "two bytes are enough");
        assert_eq!(pair.bob.channel.inbox.capacity(), 0);
    }
    // Within the limit the announcement is believed, and costs no more than what has come.
    let mut pair = Pair::new(1);
    pair.bob.receive(pair.now, &(MAX_HANDSHAKE as u16 - 2).to_be_bytes());
    assert_eq!(pair.bob.closed(), None);
    assert!(pair.bob.channel.inbox.capacity() < 64);
    // The limit is one of the whole handshake, not of each frame.
    let mut pair = Pair::new(1);
    pair.start();
    pair.forth(usize::MAX);
    let left = MAX_HANDSHAKE - pair.alice.written.len() - pair.bob.written.len();
    pair.bob.receive(pair.now, &(left as u16 - 1).to_be_bytes());
    assert_eq!(pair.bob.closed(), closed(CloseReason::HandshakeTooLong));
}

#[test]
fn a_flipped_bit_anywhere_in_the_handshake_opens_nothing() {
    // Frames of 42, 205 and 173 bytes.
    for at in 0..42 + 205 + 173 {
        let mut pair = Pair::new(1);
        pair.start();
        let flip = |wire: &mut Vec<u8>, at: Option<usize>| {
            if let Some(byte) = at.and_then(|at| wire.get_mut(at)) {
                *byte ^= 1 << (*byte % 8);
            }
        };
        flip(&mut pair.alice.wire, Some(at));
        pair.forth(usize::MAX);
        flip(&mut pair.bob.wire, at.checked_sub(42));
        pair.back(usize::MAX);
        flip(&mut pair.alice.wire, at.checked_sub(42 + 205));
        pair.forth(usize::MAX);
        pair.pass(HANDSHAKE_DEADLINE);
        for end in [&pair.alice, &pair.bob] {
            let only_closed = matches!(end.events[..], [ChannelEvent::Closed(_)]);
            assert!(only_closed, "byte {at} gave {:?}", end.events);
        }
    }
}

#[test]
fn a_handshake_that_stalls_anywhere_closes_at_its_deadline() {
    for bytes in [0, 1, 41, 42, 43, 246, 247, 300] {
        let mut pair = Pair::new(1);
        pair.start();
        pair.forth(bytes);
        pair.back(bytes.saturating_sub(42));
        pair.forth(bytes.saturating_sub(42 + 205));
        pair.alice.wire.clear();
        pair.bob.wire.clear();
        pair.pass(Duration::from_micros(HANDSHAKE_DEADLINE.as_micros() - 1));
        assert!(pair.alice.events.is_empty() && pair.bob.events.is_empty());
        pair.pass(Duration::from_micros(1));
        assert_eq!(pair.alice.events, [ChannelEvent::Closed(CloseReason::Deadline)]);
        assert_eq!(pair.bob.events, [ChannelEvent::Closed(CloseReason::Deadline)]);
    }
}

#[test]
fn a_refused_initiator_is_told() {
    let mut pair = Pair::new(1);
    pair.start();
    pair.deliver();
    assert_eq!(pair.bob.events, [ChannelEvent::Identified { peer: key(ALICE) }]);
    pair.bob.door(|channel, wire| channel.refuse(pair.now, wire));
    pair.deliver();
    assert_eq!(pair.alice.events, [ChannelEvent::Closed(CloseReason::Refused)]);
    assert_eq!(pair.bob.closed(), closed(CloseReason::Refused));
}

#[test]
fn an_owner_that_never_decides_closes_at_the_deadline() {
    let mut pair = Pair::new(1);
    pair.start();
    pair.deliver();
    pair.pass(HANDSHAKE_DEADLINE);
    assert_eq!(pair.alice.closed(), closed(CloseReason::Deadline));
    assert_eq!(pair.bob.closed(), closed(CloseReason::Deadline));
}

#[test]
fn admission_and_refusal_answer_one_question_only() {
    let mut pair = Pair::new(1);
    let now = pair.now;
    let both = |end: &mut TestEnd| {
        end.door(|channel, wire| channel.admit(now, wire));
        end.door(|channel, wire| channel.refuse(now, wire));
    };
    both(&mut pair.alice);
    both(&mut pair.bob);
    assert!(pair.alice.written.is_empty() && pair.bob.written.is_empty());
    pair.start();
    pair.deliver();
    both(&mut pair.alice);
    assert!(pair.alice.wire.is_empty() && pair.alice.events.is_empty());
    both(&mut pair.bob);
    pair.deliver();
    assert_eq!(pair.alice.events, [ChannelEvent::Opened { peer: key(BOB) }], "the first word stands");
}

#[test]
fn a_responder_keeps_one_record_before_admission_and_no_more() {
    let mut pair = Pair::new(1);
    pair.start();
    pair.deliver();
    pair.bob.receive(pair.now, &[0; MAX_HELD]);
    assert_eq!(pair.bob.closed(), None);
    pair.bob.receive(pair.now, &[0]);
    assert_eq!(pair.bob.closed(), closed(CloseReason::Misbehaved(Misbehaviour::Overrun)));
}

#[test]
fn what_came_before_admission_is_heard_after_it() {
    let mut pair = Pair::new(1);
    pair.start();
    pair.deliver();
    pair.alice.door(|channel, wire| channel.close(pair.now, wire));
    pair.deliver();
    assert_eq!(pair.bob.events, [ChannelEvent::Identified { peer: key(ALICE) }]);
    pair.bob.door(|channel, wire| channel.admit(pair.now, wire));
    assert_eq!(
        pair.bob.events[1..],
        [ChannelEvent::Opened { peer: key(ALICE) }, ChannelEvent::Closed(CloseReason::Orderly)]
    );
}

#[test]
fn an_unadmitted_initiator_hears_admission_refusal_or_the_end_and_nothing_else() {
    for (kind, content) in [(1, &b"hello"[..]), (2, b"hel"), (3, b""), (4, &[3])] {
        let (mut alice, mut records, now) = unadmitted_to_snow();
        alice.receive(now, &records.record(kind, content));
        let reason = CloseReason::Misbehaved(Misbehaviour::Misplaced(kind));
        assert_eq!(alice.events, [ChannelEvent::Closed(reason)]);
    }
    for (content, reason) in [(0, CloseReason::Orderly), (1, CloseReason::Refused)] {
        let (mut alice, mut records, now) = unadmitted_to_snow();
        alice.receive(now, &records.record(5, &[content]));
        assert_eq!(alice.events, [ChannelEvent::Closed(reason)]);
    }
}

#[test]
fn closing_before_there_are_keys_says_nothing() {
    let mut pair = Pair::new(1);
    pair.alice.door(|channel, wire| channel.close(pair.now, wire));
    assert_eq!(pair.alice.events, [ChannelEvent::Closed(CloseReason::Orderly)]);
    assert!(pair.alice.wire.is_empty());
    pair.start();
    assert!(pair.alice.wire.is_empty(), "and nothing starts any more");
}

#[test]
fn a_handshake_has_the_documented_size() {
    let mut pair = Pair::new(1);
    pair.start();
    pair.start();
    assert_eq!(pair.alice.wire.len(), 42, "starting twice is starting once");
    pair.forth(usize::MAX);
    assert_eq!(pair.bob.wire.len(), 205);
    pair.back(usize::MAX);
    assert_eq!(pair.alice.wire.len(), 173);
    pair.forth(usize::MAX);
    pair.bob.door(|channel, wire| channel.admit(pair.now, wire));
    assert_eq!(pair.bob.wire.len(), 82);
}
