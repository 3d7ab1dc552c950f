//! Keepalive, silence, and the laws of the alarm (which [`TestEnd::tick`] checks at every tick).

use super::*;
use crate::limits::{KEEPALIVE, KEEPALIVE_SILENCE};

#[test]
fn an_idle_connection_lives_on_keepalives() {
    let mut pair = Pair::open(1);
    let written = pair.alice.written.len();
    pair.pass(KEEPALIVE.times(40));
    assert!(pair.alice.events.is_empty() && pair.bob.events.is_empty());
    assert_eq!(pair.alice.written.len(), written + 40 * 82);
}

#[test]
fn the_clocks_of_an_open_channel_start_when_it_opens() {
    let mut pair = Pair::new(1);
    pair.start();
    pair.deliver();
    pair.pass(Duration::from_secs(4));
    pair.bob.door(|channel, wire| channel.admit(pair.now, wire));
    pair.deliver();
    let keepalive = Some(Alarm { at: pair.now + KEEPALIVE, why: "keepalive" });
    assert_eq!((pair.alice.channel.poll_timeout(), pair.bob.channel.poll_timeout()), (keepalive, keepalive));
}

#[test]
fn who_speaks_sends_no_keepalive() {
    let mut pair = Pair::open(1);
    for _ in 0..10 {
        pair.pass(Duration::from_secs(10));
        pair.alice.send(pair.now, b"x");
        pair.deliver();
    }
    assert_eq!(pair.alice.written.len(), 42 + 173 + 10 * 82);
    let alarm = pair.alice.channel.poll_timeout();
    assert_eq!(alarm, Some(Alarm { at: pair.now + KEEPALIVE, why: "keepalive" }));
}

#[test]
fn a_silent_peer_is_closed() {
    let mut pair = Pair::open(1);
    let start = pair.now;
    while pair.alice.closed().is_none() {
        pair.now = pair.alice.channel.poll_timeout().unwrap().at;
        pair.alice.tick(pair.now);
    }
    assert_eq!(pair.alice.events, [ChannelEvent::Closed(CloseReason::Silent)]);
    assert_eq!(pair.now, start + KEEPALIVE_SILENCE);
}

#[test]
fn bytes_that_are_no_record_do_not_count_as_a_sign_of_life() {
    let mut pair = Pair::open(1);
    pair.alice.send(pair.now, &[1; 5_000]);
    let wire = std::mem::take(&mut pair.alice.wire);
    for byte in &wire[..39] {
        pair.now += Duration::from_secs(1);
        pair.bob.receive(pair.now, &[*byte]);
        pair.bob.tick(pair.now);
    }
    assert!(pair.bob.events.is_empty());
    pair.now += Duration::from_secs(1);
    pair.bob.receive(pair.now, &wire[39..40]);
    pair.bob.tick(pair.now);
    assert_eq!(pair.bob.events, [ChannelEvent::Closed(CloseReason::Silent)]);
}

#[test]
fn a_paused_owner_keeps_the_connection_and_resuming_starts_the_clock() {
    let mut pair = Pair::open(1);
    pair.bob.channel.pause();
    for _ in 0..20 {
        pair.now += KEEPALIVE;
        pair.bob.tick(pair.now);
        pair.back(usize::MAX);
        pair.alice.tick(pair.now);
    }
    assert!(pair.bob.events.is_empty() && pair.alice.events.is_empty());
    pair.bob.channel.resume(pair.now);
    pair.bob.channel.resume(pair.now);
    pair.alice.wire.clear();
    let resumed = pair.now;
    while pair.bob.closed().is_none() {
        pair.now = pair.bob.channel.poll_timeout().unwrap().at;
        pair.bob.tick(pair.now);
    }
    assert_eq!((pair.bob.closed(), pair.now), (Some(CloseReason::Silent), resumed + KEEPALIVE_SILENCE));
}

#[test]
fn an_early_tick_changes_nothing() {
    let mut pair = Pair::open(1);
    for _ in 0..100 {
        pair.now += Duration::from_millis(100);
        pair.alice.tick(pair.now);
    }
    assert!(pair.alice.wire.is_empty());
}

#[test]
fn time_that_jumps_or_stands_still_breaks_nothing() {
    let mut pair = Pair::open(1);
    pair.alice.tick(Instant::ZERO);
    pair.alice.send(Instant::ZERO, b"from the past");
    pair.deliver();
    assert_eq!(pair.bob.messages().len(), 1);
    pair.bob.tick(Instant::from_micros(u64::MAX));
    assert_eq!(pair.bob.closed(), Some(CloseReason::Silent));
}
