//! What every part of the world needs at hand: the time, the queue, the dice, the trace.

use std::collections::BTreeMap;

use offset_protocol::machine::{Duration, Instant, Seed};
use offset_protocol::persist::Revision;

use crate::dice::{Dice, Moment};
use crate::host::HostId;
use crate::net::{LinkId, Side};
use crate::queue::EventQueue;
use crate::trace::{Keep, Kind, Trace};

/// What is drawn as a world runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Draw {
    /// How long a packet takes.
    Latency,
    /// Whether a connection attempt hangs.
    Hang,
    /// Whether a connection attempt is refused.
    Refuse,
    /// How much is read.
    Read,
    /// How much is sent at once.
    Segment,
    /// When a process takes its turn.
    Turn,
    /// Whether a turn is followed by a tick that is not due.
    EarlyTick,
    /// How long a write takes.
    Flush,
    /// How a trap crashes its host.
    Trap,
    /// How many writes survive a crash.
    Kept,
    /// How long a word between people takes.
    Note,
}

/// What can happen. Small, because the queue copies it around: bytes stay where they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A connection is asked for, at the host that may accept it.
    Syn { link: LinkId, tries: u8 },
    /// The answer, at the host that asked.
    SynAnswer { link: LinkId, accepted: bool },
    /// A segment reaches this side.
    Arrive { link: LinkId, side: Side },
    /// This side learns that the other has room again.
    Window { link: LinkId, side: Side },
    /// This side learns that the connection is broken.
    Reset { link: LinkId, side: Side },
    /// A process takes what waits for it.
    Turn { life: u32 },
    /// A process's alarm rings.
    Wake { life: u32 },
    /// A write has reached the disk.
    Flushed { life: u32, revision: Revision },
    /// A program starts.
    Boot,
    /// A note from one person to another arrives.
    Note { number: u64 },
    /// A step of the plan is due.
    Plan { step: u32 },
}

impl Event {
    /// For the trace: the kind, and a number that tells two events of a kind apart.
    pub(crate) fn describe(&self) -> (Kind, u64) {
        match *self {
            Event::Syn { link, .. } => (Kind::Syn, link.number()),
            Event::SynAnswer { link, accepted: true } => (Kind::Accepted, link.number()),
            Event::SynAnswer { link, accepted: false } => (Kind::Refused, link.number()),
            Event::Arrive { link, .. } => (Kind::Arrive, link.number()),
            Event::Window { link, .. } => (Kind::Window, link.number()),
            Event::Reset { link, .. } => (Kind::Reset, link.number()),
            Event::Turn { life } => (Kind::Turn, life.into()),
            Event::Wake { life } => (Kind::Wake, life.into()),
            Event::Flushed { revision, .. } => (Kind::Flushed, revision.0),
            Event::Boot => (Kind::Boot, 0),
            Event::Note { number } => (Kind::Note, number),
            Event::Plan { step } => (Kind::Plan, step.into()),
        }
    }
}

/// The heart of a world.
pub(crate) struct Kernel {
    pub(crate) now: Instant,
    pub(crate) trace: Trace,
    seed: u64,
    queue: EventQueue<Event>,
    /// The event that caused each event that waits, by the number of its push; only if the trace keeps events.
    causes: Option<BTreeMap<u64, u32>>,
}

impl Kernel {
    pub(crate) fn new(seed: &Seed, keep: Keep) -> Self {
        let causes = match keep {
            Keep::Hash => None,
            Keep::Lines => Some(BTreeMap::new()),
        };
        let seed = seed.fork("world").rng().next_u64();
        Kernel { now: Instant::ZERO, trace: Trace::new(keep), seed, queue: EventQueue::new(), causes }
    }

    /// The dice for something that is drawn now, at this place.
    pub(crate) fn dice(&self, what: Draw, place: u64) -> Dice {
        Dice::at(Moment { seed: self.seed, what: what as u8, place, now: self.now })
    }

    /// The dice for something that is drawn now on the way from one host to another.
    pub(crate) fn dice_between(&self, what: Draw, from: HostId, to: HostId) -> Dice {
        self.dice(what, u64::from(from.0) << 32 | u64::from(to.0))
    }

    /// Lets `event` happen at `at`, or now if that has passed.
    pub(crate) fn at(&mut self, at: Instant, to: HostId, event: Event) {
        let push = self.queue.push(at.max(self.now), to.0, event);
        if let Some(causes) = &mut self.causes {
            causes.insert(push, u32::try_from(self.trace.events()).unwrap_or(0));
        }
    }

    /// Lets `event` happen after `delay`.
    pub(crate) fn after(&mut self, delay: Duration, to: HostId, event: Event) {
        self.at(self.now + delay, to, event);
    }

    /// The next event until `until`, traced; time moves on to it.
    pub(crate) fn next(&mut self, until: Instant) -> Option<(HostId, Event)> {
        let (key, event) = self.queue.pop_until(until)?;
        self.now = key.at;
        let (kind, about) = event.describe();
        let cause = self.causes.as_mut().and_then(|causes| causes.remove(&key.sequence)).unwrap_or(0);
        self.trace.event(key, kind, about, cause);
        Some((HostId(key.to), event))
    }
}
