//! Records: sizes, splits, the end, and every way to tamper with them.

use super::super::record::{Direction, Kind, MAX_CONTENT, MAX_PLAIN, check_length, padded};
use super::snow_peer::{opened_by_snow, opened_to_snow, plain};
use super::*;

/// Alice's next message as it lies on her wire.
fn sealed(pair: &mut Pair, message: &[u8]) -> Vec<u8> {
    pair.alice.send(pair.now, message);
    std::mem::take(&mut pair.alice.wire)
}

fn misbehaved(rule: Misbehaviour) -> Option<CloseReason> {
    Some(CloseReason::Misbehaved(rule))
}

#[test]
fn padding_goes_in_small_steps_and_then_in_large_ones() {
    let sizes =
        [(0, 64), (61, 64), (62, 128), (1_021, 1_024), (1_022, 1_280), (1_277, 1_280), (MAX_CONTENT, MAX_PLAIN)];
    for (content, expected) in sizes {
        assert_eq!(padded(content), expected);
        assert_eq!(check_length(expected + 16), Ok(()));
        let mut pair = Pair::open(1);
        assert_eq!(sealed(&mut pair, &vec![1; content]).len(), 2 + expected + 16);
    }
    assert_eq!(MAX_PLAIN, 65_280);
    let whole = (0..=usize::from(u16::MAX)).filter(|length| check_length(*length).is_ok()).count();
    assert_eq!(whole, 1_024 / 64 + (MAX_PLAIN - 1_024) / 256);
}

#[test]
fn a_message_of_the_greatest_length_arrives_whole() {
    let mut pair = Pair::open(1);
    for length in [MAX_CONTENT, MAX_CONTENT + 1, 2 * MAX_CONTENT, 2 * MAX_CONTENT + 1, MAX_FRAME - 1, MAX_FRAME] {
        let message: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
        pair.alice.send(pair.now, &message);
        pair.bob.send(pair.now, &message);
        pair.deliver();
        assert_eq!(pair.bob.events.pop(), Some(ChannelEvent::Message(message.clone())));
        assert_eq!(pair.alice.events.pop(), Some(ChannelEvent::Message(message)));
    }
    assert!(pair.alice.events.is_empty() && pair.bob.events.is_empty());
}

#[test]
fn a_message_may_be_split_anywhere_but_never_grow_beyond_the_limit() {
    let (mut bob, mut alice, now) = opened_by_snow();
    let part = vec![5; 1_000];
    for _ in 0..MAX_FRAME / part.len() {
        bob.receive(now, &alice.record(2, &part));
    }
    let rest = MAX_FRAME % part.len();
    bob.receive(now, &alice.record(1, &part[..rest]));
    assert_eq!(bob.events.pop(), Some(ChannelEvent::Message(vec![5; MAX_FRAME])));
    for _ in 0..MAX_FRAME / part.len() {
        bob.receive(now, &alice.record(2, &part));
    }
    assert_eq!(bob.closed(), None);
    bob.receive(now, &alice.record(1, &part[..=rest]));
    assert_eq!(bob.closed(), misbehaved(Misbehaviour::MessageTooLong));
}

#[test]
fn a_replayed_record_closes() {
    let mut pair = Pair::open(1);
    let record = sealed(&mut pair, b"pay");
    pair.bob.receive(pair.now, &record);
    pair.bob.receive(pair.now, &record);
    assert_eq!(pair.bob.events, [ChannelEvent::Message(b"pay".to_vec()), ChannelEvent::Closed(CloseReason::Forged)]);
}

#[test]
fn a_reordered_record_closes() {
    let mut pair = Pair::open(1);
    let (first, second) = (sealed(&mut pair, b"first"), sealed(&mut pair, b"second"));
    pair.bob.receive(pair.now, &second);
    pair.bob.receive(pair.now, &first);
    assert_eq!(pair.bob.events, [ChannelEvent::Closed(CloseReason::Forged)]);
}

#[test]
fn a_dropped_record_closes() {
    let mut pair = Pair::open(1);
    sealed(&mut pair, b"first");
    let second = sealed(&mut pair, b"second");
    pair.bob.receive(pair.now, &second);
    assert_eq!(pair.bob.events, [ChannelEvent::Closed(CloseReason::Forged)]);
}

#[test]
fn a_record_sent_back_to_its_sender_closes() {
    let mut pair = Pair::open(1);
    let record = sealed(&mut pair, b"mirror");
    pair.alice.receive(pair.now, &record);
    assert_eq!(pair.alice.closed(), Some(CloseReason::Forged));
}

#[test]
fn a_record_of_another_session_closes() {
    let (mut one, mut other) = (Pair::open(1), Pair::open(2));
    other.bob.receive(one.now, &sealed(&mut one, b"elsewhere"));
    assert_eq!(other.bob.closed(), Some(CloseReason::Forged));
}

#[test]
fn a_truncated_record_closes_as_cut_or_as_forged() {
    let message = [3; 200];
    let whole = sealed(&mut Pair::open(1), &message);
    for length in 0..whole.len() {
        let mut pair = Pair::open(1);
        pair.bob.receive(pair.now, &whole[..length]);
        assert_eq!(pair.bob.closed(), None);
        pair.bob.door(|channel, _| channel.lost(pair.now));
        assert_eq!(pair.bob.events, [ChannelEvent::Closed(CloseReason::Cut)]);
    }
    // With a length that fits what is left of it, it is forged.
    let mut pair = Pair::open(1);
    let mut short = whole[..2 + 64 + 16].to_vec();
    short[..2].copy_from_slice(&80u16.to_be_bytes());
    pair.bob.receive(pair.now, &short);
    assert_eq!(pair.bob.events, [ChannelEvent::Closed(CloseReason::Forged)]);
}

#[test]
fn a_flipped_bit_in_any_byte_of_a_record_closes() {
    let whole = sealed(&mut Pair::open(1), b"pay one");
    for at in 0..whole.len() * 8 {
        let mut pair = Pair::open(1);
        let mut flipped = whole.clone();
        flipped[at / 8] ^= 1 << (at % 8);
        pair.bob.receive(pair.now, &flipped);
        if at / 8 >= 2 {
            assert_eq!(pair.bob.closed(), Some(CloseReason::Forged));
        }
        // A length that another record could have makes it wait for more, which never opens.
        pair.bob.receive(pair.now, &vec![0; 66_000]);
        assert_eq!(pair.bob.events.len(), 1);
        let length = usize::from(u16::from_be_bytes([flipped[0], flipped[1]]));
        let expected = check_length(length).map_or_else(CloseReason::Misbehaved, |()| CloseReason::Forged);
        assert_eq!(pair.bob.closed(), Some(expected));
    }
}

#[test]
fn an_oversized_record_closes_before_any_of_it_is_kept() {
    for length in [0, 1, 15, 16, 79, 81, 1_041, 65_297, 65_535_usize] {
        let mut pair = Pair::open(1);
        let kept = pair.bob.channel.inbox.capacity();
        pair.bob.receive(pair.now, &(length as u16).to_be_bytes());
        assert_eq!(pair.bob.closed(), misbehaved(Misbehaviour::RecordLength(length)));
        assert!(kept <= IDLE_INBOX && pair.bob.channel.inbox.capacity() == 0);
    }
}

#[test]
fn a_record_that_opens_but_is_none_closes() {
    use Misbehaviour as M;
    let mut dirty = plain(1, b"x");
    dirty[63] = 1;
    let mut long = plain(1, b"x");
    long.resize(128, 0);
    let mut lying = plain(1, b"x");
    lying[1..3].copy_from_slice(&[0xff, 0xff]);
    let mut over = plain(1, &[1; 61]);
    over[2] = 62;
    let cases = [
        (dirty, M::Padding),
        (long, M::ContentLength),
        (lying, M::ContentLength),
        (over, M::ContentLength),
        (plain(0, b""), M::UnknownRecord(0)),
        (plain(7, b""), M::UnknownRecord(7)),
        (plain(255, b""), M::UnknownRecord(255)),
        (plain(2, b""), M::BadContent(2)),
        (plain(3, b"x"), M::BadContent(3)),
        (plain(4, b""), M::BadContent(4)),
        (plain(4, &[1; 32]), M::BadContent(4)),
        (plain(4, &[1; 34]), M::BadContent(4)),
        (plain(4, &[3, 0]), M::BadContent(4)),
        (plain(4, &[9]), M::BadContent(4)),
        (plain(5, b""), M::BadContent(5)),
        (plain(5, &[2]), M::BadContent(5)),
        (plain(5, &[0, 0]), M::BadContent(5)),
        (plain(5, &[1]), M::Misplaced(5)),
        (plain(6, b""), M::Misplaced(6)),
    ];
    for (plain, rule) in cases {
        for (mut end, mut peer, now) in [opened_by_snow(), opened_to_snow()] {
            end.receive(now, &peer.sealed(&plain));
            assert_eq!(end.events, [ChannelEvent::Closed(CloseReason::Misbehaved(rule))], "{plain:?}");
            assert!(end.wire.is_empty());
        }
    }
}

#[test]
fn an_end_inside_a_message_is_no_orderly_end() {
    let (mut bob, mut alice, now) = opened_by_snow();
    bob.receive(now, &alice.record(2, b"half a"));
    bob.receive(now, &alice.record(5, &[0]));
    assert_eq!(bob.events, [ChannelEvent::Closed(CloseReason::Misbehaved(Misbehaviour::Misplaced(5)))]);
}

#[test]
fn an_orderly_end_differs_from_a_cut() {
    let mut pair = Pair::open(1);
    pair.alice.send(pair.now, b"last words");
    pair.alice.door(|channel, wire| channel.close(pair.now, wire));
    pair.deliver();
    pair.bob.door(|channel, _| channel.lost(pair.now));
    assert_eq!(pair.alice.events, [ChannelEvent::Closed(CloseReason::Orderly)]);
    let words = ChannelEvent::Message(b"last words".to_vec());
    assert_eq!(pair.bob.events, [words, ChannelEvent::Closed(CloseReason::Orderly)], "the first reason stands");

    let mut pair = Pair::open(1);
    pair.alice.door(|channel, wire| channel.close(pair.now, wire));
    pair.forth(pair.alice.wire.len() - 1);
    pair.bob.door(|channel, _| channel.lost(pair.now));
    assert_eq!(pair.bob.events, [ChannelEvent::Closed(CloseReason::Cut)]);
}

#[test]
fn after_the_end_every_door_does_nothing() {
    let mut pair = Pair::open(1);
    let record = sealed(&mut pair, b"late");
    let now = pair.now;
    pair.bob.door(|channel, wire| channel.close(now, wire));
    pair.bob.wire.clear();
    pair.bob.events.clear();
    let channel = &mut pair.bob.channel;
    let mut wire = Vec::new();
    channel.start(now, &mut wire);
    channel.receive(now, &record, &mut wire);
    assert_eq!(channel.send(now, b"x", &mut wire), Err(SendError::Closed));
    channel.admit(now, &mut wire);
    channel.refuse(now, &mut wire);
    channel.close(now, &mut wire);
    channel.lost(now);
    channel.pause();
    channel.resume(now);
    channel.tick(now + Duration::from_secs(1_000_000), &mut wire);
    assert!(wire.is_empty());
    assert_eq!((channel.poll_event(), channel.poll_timeout()), (None, None));
    assert_eq!(channel.inbox.capacity(), 0);
}

#[test]
fn a_record_is_sealed_and_opened_without_allocating() {
    let mut pair = Pair::open(1);
    let mut wire = Vec::with_capacity(100_000);
    let at = wire.as_ptr();
    pair.alice.channel.send(pair.now, &[1; 60_000], &mut wire).unwrap();
    assert_eq!(wire.as_ptr(), at);
    pair.bob.receive(pair.now, &wire);
    let inbox = pair.bob.channel.inbox.as_ptr();
    for _ in 0..10 {
        wire.clear();
        pair.alice.channel.send(pair.now, &[1; 60_000], &mut wire).unwrap();
        pair.bob.receive(pair.now, &wire);
        assert_eq!((wire.as_ptr(), pair.bob.channel.inbox.as_ptr()), (at, inbox));
    }
    // An idle connection gives the room back.
    assert!(pair.bob.channel.inbox.capacity() > 60_000);
    pair.pass(crate::limits::KEEPALIVE);
    assert!(pair.bob.channel.inbox.capacity() <= IDLE_INBOX);
    assert_eq!(pair.bob.messages().len(), 11);
}

#[test]
fn a_direction_opens_what_it_sealed_and_in_place() {
    let key = || zeroize::Zeroizing::new([9; 32]);
    let (mut sending, mut receiving) = (Direction::new(key()), Direction::new(key()));
    let mut wire = b"before".to_vec();
    sending.seal(Kind::Data, b"content", &mut wire);
    assert_eq!(wire[..8], *b"before\x00\x50");
    let record = receiving.open(&mut wire[8..]).unwrap();
    assert_eq!((record.kind, record.content), (Kind::Data, &b"content"[..]));
}

#[test]
fn empty_messages_that_wait_are_counted_for_what_they_take_and_their_places_are_given_back() {
    const COUNT: usize = 1_000;
    let mut pair = Pair::open(1);
    let mut bytes: Vec<u8> = (0..COUNT).flat_map(|_| sealed(&mut pair, b"")).collect();
    let (now, channel) = (pair.now, &mut pair.bob.channel);
    let idle = channel.held();
    channel.receive_in_place(now, &mut bytes, &mut Vec::new());
    let places = channel.events.capacity() * size_of::<ChannelEvent>();
    assert!(channel.held() >= idle + places, "{} for {places}", channel.held());
    assert_eq!(std::iter::from_fn(|| channel.poll_event()).count(), COUNT);
    assert_eq!((channel.held(), channel.events.capacity()), (idle, KEPT_EVENTS));
}
