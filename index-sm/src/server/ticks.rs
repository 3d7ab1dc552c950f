//! The server's own ticks, and what they prove.
//!
//! A tick is a hash over fresh random bytes and the neighbours' last ticks. Whoever names it, or a tick that it went into,
//! did so after it was made. The last [`TICK_MEMORY`] are remembered; what is proven against an older one is worth nothing.

use std::collections::VecDeque;

use offset_protocol::bytes::{Hash, PublicKey, TickHash};
use offset_protocol::codec::List;
use offset_protocol::index::TickInputs;
use offset_protocol::machine::Rng;
use offset_protocol::mutant;

/// Ticks that a server remembers. With two ticks more in a minute than the regular two, 16 last two minutes: longer than a
/// silent node stays in the graph.
pub const TICK_MEMORY: usize = 16;

/// Counts the server's ticks; the first is 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Serial(u64);

pub(crate) struct Ticks {
    rng: Rng,
    remembered: VecDeque<Tick>,
    last: Serial,
}

struct Tick {
    serial: Serial,
    hash: TickHash,
    inputs: TickInputs,
    /// Whose ticks went in.
    includes: Vec<PublicKey>,
}

impl Ticks {
    /// With a first tick.
    pub(crate) fn new(rng: Rng) -> Self {
        let mut ticks = Ticks { rng, remembered: VecDeque::new(), last: Serial(0) };
        ticks.make(&[]);
        ticks
    }

    /// Makes a tick from the neighbours' last ones.
    pub(crate) fn make(&mut self, neighbours: &[(PublicKey, TickHash)]) -> TickHash {
        let random = Hash(self.rng.bytes());
        // A server never has more neighbours than a tick has room for.
        let inputs = TickInputs { random, neighbours: List::truncated(neighbours.iter().map(|(_, tick)| *tick)) };
        let includes = neighbours.iter().map(|(key, _)| *key).take(inputs.neighbours.len()).collect();
        let hash = inputs.hash();
        self.last = Serial(self.last.0 + 1);
        if self.remembered.len() == TICK_MEMORY {
            self.remembered.pop_front();
        }
        self.remembered.push_back(Tick { serial: self.last, hash, inputs, includes });
        hash
    }

    /// The last tick.
    pub(crate) fn current(&self) -> TickHash {
        self.remembered.back().map_or(TickHash([0; 32]), |tick| tick.hash)
    }

    /// The last tick's number.
    pub(crate) fn last(&self) -> Serial {
        self.last
    }

    /// The newest remembered tick among `hashes`.
    pub(crate) fn newest_of(&self, hashes: &[TickHash]) -> Option<Serial> {
        let proven = |tick: &&Tick| hashes.contains(&tick.hash) || mutant!(StaleTickAccepted);
        self.remembered.iter().rev().find(proven).map(|tick| tick.serial)
    }

    /// What the tick was made of, if it is remembered.
    pub(crate) fn inputs(&self, serial: Serial) -> Option<&TickInputs> {
        self.find(serial).map(|tick| &tick.inputs)
    }

    /// Whether a tick of this neighbour went into it.
    pub(crate) fn includes(&self, serial: Serial, neighbour: &PublicKey) -> bool {
        self.find(serial).is_some_and(|tick| tick.includes.contains(neighbour))
    }

    /// Whether this tick, and all before it, are forgotten.
    pub(crate) fn has_forgotten(&self, serial: Serial) -> bool {
        self.remembered.front().is_some_and(|oldest| oldest.serial > serial)
    }

    fn find(&self, serial: Serial) -> Option<&Tick> {
        self.remembered.iter().find(|tick| tick.serial == serial)
    }
}
