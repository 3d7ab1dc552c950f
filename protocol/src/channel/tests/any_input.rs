//! No input whatever panics, and no split of a valid stream changes what it says.

use proptest::collection::vec;
use proptest::prelude::*;

use super::snow_peer::{SnowPeer, frame, opened_by_snow, opened_to_snow, unadmitted_to_snow};
use super::*;
use crate::limits::REKEY_DH;

/// One of two ends, in one of all the states that there are.
fn end(state: u8) -> (TestEnd, Instant) {
    let mut pair = Pair::new(1);
    match state / 2 {
        0 => {}
        1 => pair.start(),
        2 => {
            pair.start();
            pair.forth(20);
        }
        3 => {
            pair.start();
            pair.forth(usize::MAX);
            pair.back(100);
        }
        4 => {
            pair.start();
            pair.deliver();
        }
        5 => pair = Pair::open(1),
        6 => {
            pair = Pair::open(1);
            pair.alice.send(pair.now, &[1; 3_000]);
            pair.bob.send(pair.now, &[1; 3_000]);
            pair.forth(1_000);
            pair.back(1_000);
        }
        7 => {
            pair = Pair::open(1);
            pair.now += REKEY_DH;
            pair.alice.channel.pause();
            pair.bob.channel.pause();
            pair.alice.tick(pair.now);
            pair.forth(usize::MAX);
        }
        _ => {
            pair = Pair::open(1);
            pair.alice.door(|channel, _| channel.lost(pair.now));
            pair.bob.door(|channel, _| channel.lost(pair.now));
        }
    }
    (if state.is_multiple_of(2) { pair.alice } else { pair.bob }, pair.now)
}

/// Bytes that look more like the channel's than random ones do.
fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    let noise = vec(any::<u8>(), 0..300);
    prop_oneof![
        noise.clone(),
        (0..4u8, noise.clone()).prop_map(|(kind, body)| frame(kind, &body)),
        noise.clone().prop_map(|body| frame(0, &[b"OFST\x00\x01\x05", &body[..]].concat())),
        noise.prop_map(|mut body| {
            body.resize(80, 7);
            [&[0, 80][..], &body].concat()
        }),
    ]
}

fn any_input() -> impl Strategy<Value = Input> {
    prop_oneof![
        4 => any_bytes().prop_map(Input::Received),
        2 => vec(any::<u8>(), 0..2_000).prop_map(Input::Send),
        1 => prop_oneof![Just(Input::Start), Just(Input::Admit), Just(Input::Refuse), Just(Input::Close), Just(Input::Lost)],
        3 => Just(Input::Tick),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_input_panics_in_any_state_and_the_end_comes_once(
        state in 0..18u8,
        inputs in vec((any_input(), prop_oneof![Just(0u64), 0..20_000_000u64, 0..u64::MAX / 32], any::<bool>()), 1..12),
    ) {
        let (mut end, mut now) = end(state);
        for (input, passed, pausing) in inputs {
            now += Duration::from_micros(passed);
            if pausing {
                end.channel.pause();
            } else {
                end.channel.resume(now);
            }
            match input {
                // With the laws of the alarm.
                Input::Tick => end.tick(now),
                // Through the machine's door, and what it transmits is dropped.
                other => end.door(|channel, _| channel.handle(now, other)),
            }
        }
        let ends = end.events.iter().filter(|event| matches!(event, ChannelEvent::Closed(_))).count();
        prop_assert!(ends <= 1);
    }

    #[test]
    fn no_authentic_record_panics(
        role in 0..3u8,
        records in vec((vec(any::<u8>(), 0..40), prop_oneof![Just(64usize), Just(128), Just(1_280)], 0..4u8), 1..20),
    ) {
        let (mut end, mut peer, now) = match role {
            0 => opened_to_snow(),
            1 => opened_by_snow(),
            _ => unadmitted_to_snow(),
        };
        for (mut plain, length, honest) in records {
            let content = plain.len();
            plain.resize(length, 0);
            if honest > 0 && content > 3 {
                // A true length and a known type, so that the content is what is judged.
                plain[0] = plain[0] % 6 + 1;
                plain[1..3].copy_from_slice(&(content as u16 - 3).to_be_bytes());
            }
            end.receive(now, &peer.sealed(&plain));
        }
    }

    #[test]
    fn no_authentic_identity_panics(payload in vec(any::<u8>(), 0..250), as_initiator in any::<bool>()) {
        let now = Instant::ZERO;
        if as_initiator {
            let mut bob = TestEnd::new(SecureChannel::responder(config(BOB, Purpose::Friend, 1), now));
            let mut alice = SnowPeer::new(0, ALICE);
            bob.receive(now, &alice.first());
            alice.on_identity(&std::mem::take(&mut bob.wire), &key(BOB));
            bob.receive(now, &alice.frame_with(&payload));
            prop_assert!(bob.closed().is_some());
        } else {
            let channel = SecureChannel::initiator(config(ALICE, Purpose::Friend, 1), key(BOB), now);
            let (mut alice, mut bob) = (TestEnd::new(channel), SnowPeer::new(1, BOB));
            alice.door(|channel, wire| channel.start(now, wire));
            bob.on_first(&std::mem::take(&mut alice.wire));
            alice.receive(now, &bob.frame_with(&payload));
            prop_assert!(alice.closed().is_some());
        }
    }

    #[test]
    fn any_split_of_valid_streams_says_the_same(
        messages in vec((any::<bool>(), prop_oneof![0..100usize, 0..3_000usize, 60_000..140_000usize]), 0..8),
        cuts in vec(1..2_000usize, 1..50),
        seed in 0..4u64,
    ) {
        let mut whole = Pair::open(seed);
        let mut split = Pair::new(seed);
        let mut cuts = cuts.iter().copied().cycle();
        let mut carry = |pair: &mut Pair| {
            while !pair.alice.wire.is_empty() || !pair.bob.wire.is_empty() {
                pair.forth(cuts.next().unwrap());
                pair.back(cuts.next().unwrap());
            }
        };
        split.start();
        carry(&mut split);
        split.bob.door(|channel, wire| channel.admit(split.now, wire));
        carry(&mut split);
        for (forth, length) in messages {
            let message: Vec<u8> = (0..length).map(|at| (at * 7) as u8).collect();
            for pair in [&mut whole, &mut split] {
                let sender = if forth { &mut pair.alice } else { &mut pair.bob };
                sender.send(pair.now, &message);
            }
        }
        whole.deliver();
        carry(&mut split);
        for pair in [&mut whole, &mut split] {
            pair.alice.door(|channel, wire| channel.close(pair.now, wire));
        }
        whole.deliver();
        carry(&mut split);
        prop_assert_eq!(&whole.alice.written, &split.alice.written);
        prop_assert_eq!(&whole.bob.written, &split.bob.written);
        prop_assert_eq!(whole.alice.messages(), split.alice.messages());
        prop_assert_eq!(whole.bob.messages(), split.bob.messages());
        prop_assert_eq!(split.bob.closed(), Some(CloseReason::Orderly));
    }
}
