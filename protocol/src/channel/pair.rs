//! Two ends of ours with a clock and wires of their own ([`Pair`]), for tests and fuzz targets.
// A step of a test that fails is a test that fails.
#![allow(clippy::unwrap_used)]
// Tests use all of it, targets do not.
#![cfg_attr(not(test), allow(dead_code))]

use std::sync::Arc;

use super::*;
use crate::identity::Identity;

/// A signer for tests: the same number, the same identity.
pub(crate) fn signer(number: u8) -> SharedSigner {
    Arc::new(Identity::from_private_key(&[number; 32]))
}

pub(crate) fn key(number: u8) -> PublicKey {
    signer(number).public_key()
}

/// The identities of a [`Pair`].
pub(crate) const ALICE: u8 = 1;
pub(crate) const BOB: u8 = 2;

pub(crate) fn config(identity: u8, purpose: Purpose, seed: u64) -> ChannelConfig {
    ChannelConfig { purpose, signer: signer(identity), seed: Seed::from_number(seed) }
}

/// One end of a [`Pair`]: the channel, what it has written and is not delivered yet, what it has told its owner.
pub(crate) struct TestEnd {
    pub(crate) channel: SecureChannel,
    pub(crate) wire: Vec<u8>,
    pub(crate) events: Vec<ChannelEvent>,
    /// All that it ever wrote.
    pub(crate) written: Vec<u8>,
}

impl TestEnd {
    pub(crate) fn new(channel: SecureChannel) -> Self {
        TestEnd { channel, wire: Vec::new(), events: Vec::new(), written: Vec::new() }
    }

    /// Goes through one door, and checks what must hold after any.
    pub(crate) fn door(&mut self, through: impl FnOnce(&mut SecureChannel, &mut Vec<u8>)) {
        let mut wire = Vec::new();
        through(&mut self.channel, &mut wire);
        self.written.extend_from_slice(&wire);
        self.wire.append(&mut wire);
        while let Some(event) = self.channel.poll_event() {
            assert!(self.closed().is_none(), "nothing follows the end");
            self.events.push(event);
        }
        assert_eq!(self.closed().is_some(), self.channel.poll_timeout().is_none());
    }

    pub(crate) fn receive(&mut self, now: Instant, bytes: &[u8]) {
        // Both doors say the same, so every test goes through either.
        if bytes.len().is_multiple_of(2) {
            self.door(|channel, wire| channel.receive(now, bytes, wire));
        } else {
            self.door(|channel, wire| channel.receive_in_place(now, &mut bytes.to_vec(), wire));
        }
    }

    pub(crate) fn send(&mut self, now: Instant, message: &[u8]) {
        self.door(|channel, wire| channel.send(now, message, wire).unwrap());
    }

    /// A tick, with the laws of the alarm.
    pub(crate) fn tick(&mut self, now: Instant) {
        let before = self.channel.poll_timeout();
        let (wire, events) = (self.wire.len(), self.events.len());
        self.door(|channel, wire| channel.tick(now, wire));
        match (before, self.channel.poll_timeout()) {
            (Some(before), Some(after)) if now >= before.at => assert!(after.at > now, "after a due tick, later"),
            (before, after) => {
                let due = before.is_some_and(|alarm| now >= alarm.at);
                let same = (wire, events, before) == (self.wire.len(), self.events.len(), after);
                assert!(due || same, "an early tick changes nothing");
            }
        }
    }

    pub(crate) fn closed(&self) -> Option<CloseReason> {
        match self.events.last() {
            Some(ChannelEvent::Closed(reason)) => Some(*reason),
            Some(ChannelEvent::Identified { .. } | ChannelEvent::Opened { .. } | ChannelEvent::Message(_)) | None => {
                None
            }
        }
    }

    pub(crate) fn messages(&self) -> Vec<Vec<u8>> {
        let message = |event: &ChannelEvent| match event {
            ChannelEvent::Message(message) => Some(message.clone()),
            ChannelEvent::Identified { .. } | ChannelEvent::Opened { .. } | ChannelEvent::Closed(_) => None,
        };
        self.events.iter().filter_map(message).collect()
    }

    pub(crate) fn has(&self, event: &ChannelEvent) -> bool {
        self.events.contains(event)
    }
}

/// An initiator (Alice) and a responder (Bob) with a clock of their own and a perfect stream between them.
pub(crate) struct Pair {
    pub(crate) now: Instant,
    pub(crate) alice: TestEnd,
    pub(crate) bob: TestEnd,
}

impl Pair {
    /// Two ends that want each other; nothing has been said.
    pub(crate) fn new(seed: u64) -> Self {
        Self::with(config(ALICE, Purpose::Friend, 2 * seed), key(BOB), config(BOB, Purpose::Friend, 2 * seed + 1))
    }

    pub(crate) fn with(alice: ChannelConfig, expected: PublicKey, bob: ChannelConfig) -> Self {
        let now = Instant::from_micros(1_000_000);
        let alice = TestEnd::new(SecureChannel::initiator(alice, expected, now));
        let bob = TestEnd::new(SecureChannel::responder(bob, now));
        Pair { now, alice, bob }
    }

    /// Two ends that have opened, with no events left.
    pub(crate) fn open(seed: u64) -> Self {
        let mut pair = Self::new(seed);
        pair.establish();
        assert_eq!(pair.alice.events, [ChannelEvent::Opened { peer: key(BOB) }]);
        let (peer, opened) = (key(ALICE), ChannelEvent::Opened { peer: key(ALICE) });
        assert_eq!(pair.bob.events, [ChannelEvent::Identified { peer }, opened]);
        pair.alice.events.clear();
        pair.bob.events.clear();
        pair
    }

    pub(crate) fn start(&mut self) {
        self.alice.door(|channel, wire| channel.start(self.now, wire));
    }

    pub(crate) fn establish(&mut self) {
        self.start();
        self.deliver();
        self.bob.door(|channel, wire| channel.admit(self.now, wire));
        self.deliver();
    }

    /// Carries everything that is under way, until nothing is.
    pub(crate) fn deliver(&mut self) {
        while !self.alice.wire.is_empty() || !self.bob.wire.is_empty() {
            self.forth(usize::MAX);
            self.back(usize::MAX);
        }
    }

    /// Carries at most `most` bytes from Alice to Bob.
    pub(crate) fn forth(&mut self, most: usize) {
        let most = most.min(self.alice.wire.len());
        let bytes: Vec<u8> = self.alice.wire.drain(..most).collect();
        self.bob.receive(self.now, &bytes);
    }

    /// Carries at most `most` bytes from Bob to Alice.
    pub(crate) fn back(&mut self, most: usize) {
        let most = most.min(self.bob.wire.len());
        let bytes: Vec<u8> = self.bob.wire.drain(..most).collect();
        self.alice.receive(self.now, &bytes);
    }

    /// Lets `time` pass with every tick on time, and delivers after each.
    pub(crate) fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        loop {
            let next = Alarm::earliest(self.alice.channel.poll_timeout(), self.bob.channel.poll_timeout());
            let Some(next) = next.filter(|alarm| alarm.at <= until) else { break };
            self.now = self.now.max(next.at);
            self.alice.tick(self.now);
            self.bob.tick(self.now);
            self.deliver();
        }
        self.now = until;
    }
}
