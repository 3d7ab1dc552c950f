//! No input whatever panics, and no split of a valid stream changes what it says.

use proptest::collection::vec;
use proptest::prelude::*;

use super::fuzz::{STATES, end_in, hear, run};
use super::snow_peer::frame;
use super::*;
use crate::fuzz::Choices;

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
        state in 0..STATES,
        inputs in vec((any_input(), prop_oneof![Just(0u64), 0..20_000_000u64, 0..u64::MAX / 32], any::<bool>()), 1..12),
    ) {
        let (mut end, mut now) = end_in(state);
        for (input, passed, pausing) in inputs {
            now += Duration::from_micros(passed);
            hear(&mut end, now, pausing, input);
        }
        let ends = end.events.iter().filter(|event| matches!(event, ChannelEvent::Closed(_))).count();
        prop_assert!(ends <= 1);
    }

    #[test]
    fn whatever_bytes_decide_what_arrives_is_what_was_said(bytes in vec(any::<u8>(), 0..600)) {
        run(&mut Choices::new(&bytes));
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
