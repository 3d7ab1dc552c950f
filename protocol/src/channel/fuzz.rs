//! Channels driven by bytes, in four ways.
//!
//! | way | what the bytes decide | what must hold |
//! |---|---|---|
//! | any input | what comes through the doors of one end, in whatever state it is | no panic, one end, the laws of the alarm |
//! | two ends | what both say and do, how their streams are cut, what is altered on the way | what arrives is what was said, in order, without gaps; all of it, if nothing was altered |
//! | a peer that proved itself | the plain bytes of its records | no panic, one end |
//! | a peer that proves itself | the identity that it sends inside the handshake | nobody is let in by it |
//!
//! Not checked here: what an end costs, and that altered bytes close it (they may be the last that arrive).

use super::pair::{ALICE, BOB, Pair, TestEnd, config, key};
use super::snow_peer::{SnowPeer, frame, opened_by_snow, opened_to_snow, unadmitted_to_snow};
use super::*;
use crate::fuzz::Choices;
use crate::limits::REKEY_DH;
use crate::machine::Machine;

/// Steps of one input. Chosen freely: a handshake takes five.
const MAX_STEPS: usize = 200;
/// Bytes that both ends of a pair say in one input.
const MAX_SAID: usize = 400_000;
/// States of [`end_in`].
pub(super) const STATES: u8 = 18;

/// Drives channels as `choices` say.
///
/// # Panics
/// Something does not hold.
pub fn run(choices: &mut Choices) {
    match choices.below(4) {
        0 => any_input(choices),
        1 => Between::new(choices).run(choices),
        2 => any_record(choices),
        _ => any_identity(choices),
    }
}

/// One of two ends, in one of all the states that there are.
pub(super) fn end_in(state: u8) -> (TestEnd, Instant) {
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

/// An end hears something at a time, reading on or not.
pub(super) fn hear(end: &mut TestEnd, now: Instant, pausing: bool, input: Input) {
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

fn any_input(choices: &mut Choices) {
    let (mut end, mut now) = end_in(choices.below(STATES.into()) as u8);
    for _ in 0..MAX_STEPS {
        if choices.is_empty() {
            break;
        }
        now += any_time(choices);
        let pausing = choices.once_in(4);
        let input = match choices.below(12) {
            0..=5 => Input::Received(any_bytes(choices)),
            6 => Input::Send(vec![7; choices.below(70_000) as usize]),
            7 => Input::Admit,
            8 => Input::Start,
            9 => [Input::Refuse, Input::Close, Input::Lost][choices.below(3) as usize].clone(),
            _ => Input::Tick,
        };
        hear(&mut end, now, pausing, input);
    }
    let ends = end.events.iter().filter(|event| matches!(event, ChannelEvent::Closed(_))).count();
    assert!(ends <= 1, "the end came {ends} times");
}

/// Bytes as they are, or framed as the channel frames its own.
fn any_bytes(choices: &mut Choices) -> Vec<u8> {
    let framing = choices.below(4);
    let length = choices.byte();
    let body = choices.take(length.into());
    match framing {
        0 => frame(choices.below(4) as u8, body),
        1 => frame(0, &[b"OFST\x00\x01\x05", body].concat()),
        _ => body.to_vec(),
    }
}

fn any_time(choices: &mut Choices) -> Duration {
    match choices.below(8) {
        0 => Duration::from_millis(choices.below(60_000)),
        1 => Duration::from_secs(choices.below(8_000)),
        _ => Duration::ZERO,
    }
}

fn any_record(choices: &mut Choices) {
    let (mut end, mut peer, now) = match choices.below(3) {
        0 => opened_to_snow(),
        1 => opened_by_snow(),
        _ => unadmitted_to_snow(),
    };
    for _ in 0..MAX_STEPS {
        if choices.is_empty() {
            break;
        }
        let steps = 1 + choices.below(20) as usize;
        let kind = choices.byte();
        let length = choices.byte();
        let content = choices.take(length.into());
        let mut plain = [&[kind, 0, length], content].concat();
        // A true length and a known type mostly, so that the content is what is judged.
        if kind < 250 {
            plain[0] = kind % 6 + 1;
            plain[2] = content.len() as u8;
            plain.resize(plain.len().next_multiple_of(64), 0);
        } else {
            plain.resize(64 * steps, 0);
        }
        let sealed = peer.sealed(&plain);
        // In two pieces.
        let (first, second) = sealed.split_at(steps.min(sealed.len()));
        end.receive(now, first);
        end.receive(now, second);
    }
    assert!(end.messages().iter().all(|message| message.len() <= MAX_FRAME));
}

fn any_identity(choices: &mut Choices) {
    let now = Instant::ZERO;
    let as_initiator = choices.flip();
    let payload = choices.take(250);
    if as_initiator {
        let mut bob = TestEnd::new(SecureChannel::responder(config(BOB, Purpose::Friend, 1), now));
        let mut alice = SnowPeer::new(0, ALICE);
        bob.receive(now, &alice.first());
        alice.on_identity(&std::mem::take(&mut bob.wire), &key(BOB));
        bob.receive(now, &alice.frame_with(payload));
        assert!(bob.closed().is_some(), "an identity that nobody signed was taken");
    } else {
        let channel = SecureChannel::initiator(config(ALICE, Purpose::Friend, 1), key(BOB), now);
        let (mut alice, mut bob) = (TestEnd::new(channel), SnowPeer::new(1, BOB));
        alice.door(|channel, wire| channel.start(now, wire));
        bob.on_first(&std::mem::take(&mut alice.wire));
        alice.receive(now, &bob.frame_with(payload));
        assert!(alice.closed().is_some(), "an identity that nobody signed was taken");
    }
}

/// Two ends, and somebody on the wire.
struct Between {
    pair: Pair,
    /// What was said, by Alice and by Bob.
    said: [Vec<Vec<u8>>; 2],
    altered: bool,
}

impl Between {
    fn new(choices: &mut Choices) -> Self {
        // Handshakes are the same again and again: the half of all inputs begins behind one.
        let mut pair = if choices.flip() { Pair::new(1) } else { Pair::open(1) };
        pair.start();
        Between { pair, said: Default::default(), altered: false }
    }

    fn run(mut self, choices: &mut Choices) {
        for _ in 0..MAX_STEPS {
            if choices.is_empty() {
                break;
            }
            self.step(choices);
            self.check_order();
        }
        if self.altered {
            return;
        }
        let Pair { now, .. } = self.pair;
        self.pair.alice.channel.resume(now);
        self.pair.bob.channel.resume(now);
        self.pair.deliver();
        self.pair.bob.door(|channel, wire| channel.admit(now, wire));
        self.pair.deliver();
        self.check_order();
        if self.pair.alice.closed().is_none() && self.pair.bob.closed().is_none() {
            assert_eq!(self.pair.bob.messages().len(), self.said[0].len(), "what Alice said did not all arrive");
            assert_eq!(self.pair.alice.messages().len(), self.said[1].len(), "what Bob said did not all arrive");
        }
    }

    fn step(&mut self, choices: &mut Choices) {
        let now = self.pair.now;
        match choices.below(20) {
            0..=4 => self.pair.forth(1 + choices.below(3_000) as usize),
            5..=9 => self.pair.back(1 + choices.below(3_000) as usize),
            10 => self.pair.deliver(),
            11..=13 => self.say(choices),
            14 => self.pair.bob.door(|channel, wire| channel.admit(now, wire)),
            15 => {
                let end = self.end(choices);
                end.channel.pause();
            }
            16 => {
                let end = self.end(choices);
                end.channel.resume(now);
            }
            17 => {
                self.pair.now += any_time(choices);
                self.pair.alice.tick(self.pair.now);
                self.pair.bob.tick(self.pair.now);
            }
            18 => self.alter(choices),
            _ if choices.once_in(8) => {
                let end = self.end(choices);
                end.door(|channel, wire| channel.close(now, wire));
            }
            _ => self.pair.pass(Duration::from_secs(choices.below(30))),
        }
    }

    fn end(&mut self, choices: &mut Choices) -> &mut TestEnd {
        if choices.flip() { &mut self.pair.alice } else { &mut self.pair.bob }
    }

    fn say(&mut self, choices: &mut Choices) {
        let who = usize::from(choices.flip());
        let length = match choices.below(16) {
            0 => choices.below(140_000) as usize,
            1..=3 => choices.below(4_000) as usize,
            _ => choices.below(80) as usize,
        };
        let so_far: usize = self.said.iter().flatten().map(Vec::len).sum();
        if so_far + length > MAX_SAID {
            return;
        }
        let number = self.said[who].len();
        let message: Vec<u8> = (0..length).map(|at| (at * 7 + number) as u8).collect();
        let (now, end) = (self.pair.now, if who == 0 { &mut self.pair.alice } else { &mut self.pair.bob });
        let mut sent = Ok(());
        end.door(|channel, wire| sent = channel.send(now, &message, wire));
        if sent.is_ok() {
            self.said[who].push(message);
        }
    }

    /// Somebody alters what is on its way.
    fn alter(&mut self, choices: &mut Choices) {
        let wire = if choices.flip() { &mut self.pair.alice.wire } else { &mut self.pair.bob.wire };
        let Some(place) = choices.place(wire.len()) else { return };
        self.altered = true;
        let how = choices.below(5);
        let length = 1 + choices.below(200) as usize;
        let end = (place + length).min(wire.len());
        match how {
            0 => wire[place] ^= 1 << choices.below(8),
            1 => drop(wire.drain(place..end)),
            2 => {
                let again = wire[place..end].to_vec();
                wire.splice(place..place, again);
            }
            3 => wire[place..end].reverse(),
            _ => {
                let bytes = choices.take(length);
                wire.splice(place..place, bytes.iter().copied());
            }
        }
    }

    /// What arrived is what was said, from the first on and without a gap.
    fn check_order(&self) {
        for (who, end) in [&self.pair.bob, &self.pair.alice].into_iter().enumerate() {
            let heard = end.messages();
            assert!(heard.len() <= self.said[who].len(), "more arrived than was said");
            let same = heard.iter().zip(&self.said[who]).all(|(heard, said)| heard == said);
            assert!(same, "something else arrived than was said");
        }
    }
}
