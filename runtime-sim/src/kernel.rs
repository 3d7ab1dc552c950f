//! What every part of the world needs at hand: the time, the queue, the dice, the trace.

use offset_protocol::machine::{Duration, Instant, Seed};
use offset_protocol::persist::Revision;

use crate::dice::Dice;
use crate::host::HostId;
use crate::net::{LinkId, Side};
use crate::queue::EventQueue;
use crate::trace::{Keep, Trace};

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
    pub(crate) fn describe(&self) -> (&'static str, u64) {
        match *self {
            Event::Syn { link, .. } => ("syn", link.number()),
            Event::SynAnswer { link, accepted: true } => ("accepted", link.number()),
            Event::SynAnswer { link, accepted: false } => ("refused", link.number()),
            Event::Arrive { link, .. } => ("arrive", link.number()),
            Event::Window { link, .. } => ("window", link.number()),
            Event::Reset { link, .. } => ("reset", link.number()),
            Event::Turn { life } => ("turn", life.into()),
            Event::Wake { life } => ("wake", life.into()),
            Event::Flushed { revision, .. } => ("flushed", revision.0),
            Event::Boot => ("boot", 0),
            Event::Note { number } => ("note", number),
            Event::Plan { step } => ("plan", step.into()),
        }
    }
}

/// The heart of a world.
pub(crate) struct Kernel {
    pub(crate) now: Instant,
    pub(crate) dice: Dice,
    pub(crate) trace: Trace,
    queue: EventQueue<Event>,
}

impl Kernel {
    pub(crate) fn new(seed: &Seed, keep: Keep) -> Self {
        Kernel { now: Instant::ZERO, dice: Dice::new(seed, "world"), trace: Trace::new(keep), queue: EventQueue::new() }
    }

    /// Lets `event` happen at `at`, or now if that has passed.
    pub(crate) fn at(&mut self, at: Instant, to: HostId, event: Event) {
        self.queue.push(at.max(self.now), to.0, event);
    }

    /// Lets `event` happen after `delay`.
    pub(crate) fn after(&mut self, delay: Duration, to: HostId, event: Event) {
        self.queue.push(self.now + delay, to.0, event);
    }

    /// The next event until `until`, traced; time moves on to it.
    pub(crate) fn next(&mut self, until: Instant) -> Option<(HostId, Event)> {
        let (key, event) = self.queue.pop_until(until)?;
        self.now = key.at;
        let (kind, about) = event.describe();
        self.trace.event(key, kind, about);
        Some((HostId(key.to), event))
    }
}
