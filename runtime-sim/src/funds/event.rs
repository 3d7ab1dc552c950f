//! What can happen in a world of funders, and where what travels waits until it arrives.

use offset_funder_sm::funder::{FoundRoutes, QueryId, RouteFailure, RouteQuery};
use offset_protocol::friend::FriendMessage;
use offset_protocol::index::{Entry, EntryKey};

use super::people::Word;
use crate::trace::Kind;

/// What can happen. Small, because the queue copies it around: what travels stays in its slab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A friend's message arrives.
    Letter(Slot),
    /// A write has reached the disk.
    Durable { life: u32, revision: u64 },
    /// A node's alarm rings.
    Wake { life: u32 },
    /// A link is up, as this end learns.
    Up { link: u32, number: u32 },
    /// A link is down, as this end learns.
    Down { link: u32, number: u32 },
    /// A link is dialled.
    Dial { link: u32 },
    /// A node starts again.
    Boot { life: u32 },
    /// What a node reports reaches the index.
    Report(Slot),
    /// A question reaches the index.
    Ask(Slot),
    /// An answer of the index reaches a node.
    Answer(Slot),
    /// A person says something to the person of this node, or remembers something.
    Word(Slot),
    /// The next operation of the case is due.
    Operation,
    /// The next fault of the case is due.
    Fault,
    /// The world is looked over in full.
    Look,
}

impl Event {
    /// For the trace: the kind, and a number that tells two events of a kind apart.
    pub(super) const fn describe(&self) -> (Kind, u64) {
        match *self {
            Event::Letter(slot) => (Kind::Letter, slot.0 as u64),
            Event::Durable { revision, .. } => (Kind::Durable, revision),
            Event::Wake { life } => (Kind::Wake, life as u64),
            Event::Up { link, .. } => (Kind::Up, link as u64),
            Event::Down { link, .. } => (Kind::Down, link as u64),
            Event::Dial { link } => (Kind::Dial, link as u64),
            Event::Boot { life } => (Kind::Boot, life as u64),
            Event::Report(slot) => (Kind::Report, slot.0 as u64),
            Event::Ask(slot) => (Kind::Ask, slot.0 as u64),
            Event::Answer(slot) => (Kind::Answer, slot.0 as u64),
            Event::Word(slot) => (Kind::Word, slot.0 as u64),
            Event::Operation => (Kind::Operation, 0),
            Event::Fault => (Kind::Fault, 0),
            Event::Look => (Kind::Look, 0),
        }
    }
}

/// A message between friends, on its way.
#[derive(Debug)]
pub(super) struct Letter {
    pub(super) stamp: Stamp,
    pub(super) message: FriendMessage,
}

/// What says whether a letter may be taken in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp {
    pub(super) from: u32,
    pub(super) link: u32,
    /// The link's number when it was sent: what was sent over an old link never arrives.
    pub(super) number: u32,
    /// Its place among all that this side said over this link.
    pub(super) place: u32,
}

/// What a node reports to the index in one turn.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) from: u32,
    /// Forget everything that it said before: it has started anew.
    pub(super) anew: bool,
    pub(super) set: Vec<Entry>,
    pub(super) removed: Vec<EntryKey>,
}

/// A question on its way to the index.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) from: u32,
    pub(super) life: u32,
    pub(super) query: QueryId,
    pub(super) request: RouteQuery,
}

/// An answer on its way back.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) life: u32,
    pub(super) query: QueryId,
    pub(super) result: Result<FoundRoutes, RouteFailure>,
}

/// Everything that is on its way.
#[derive(Debug, Default)]
pub(super) struct Post {
    pub(super) letters: Slab<Letter>,
    pub(super) reports: Slab<Report>,
    pub(super) asks: Slab<Ask>,
    pub(super) replies: Slab<Reply>,
    pub(super) words: Slab<Word>,
}

/// A place in a [`Slab`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot(pub(super) u32);

/// Things by number; numbers are used again, in an order that depends on nothing but the calls.
#[derive(Debug)]
pub(super) struct Slab<T> {
    things: Vec<Option<T>>,
    free: Vec<u32>,
    most: usize,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Slab { things: Vec::new(), free: Vec::new(), most: 0 }
    }
}

impl<T> Slab<T> {
    /// Puts a thing somewhere.
    pub(super) fn put(&mut self, thing: T) -> Slot {
        let slot = match self.free.pop() {
            Some(slot) => {
                self.things[slot as usize] = Some(thing);
                slot
            }
            None => {
                self.things.push(Some(thing));
                self.things.len() as u32 - 1
            }
        };
        self.most = self.most.max(self.len());
        Slot(slot)
    }

    /// Takes a thing away.
    pub(super) fn take(&mut self, slot: Slot) -> Option<T> {
        let thing = self.things.get_mut(slot.0 as usize)?.take()?;
        self.free.push(slot.0);
        Some(thing)
    }

    pub(super) fn get(&self, slot: Slot) -> Option<&T> {
        self.things.get(slot.0 as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, slot: Slot) -> Option<&mut T> {
        self.things.get_mut(slot.0 as usize)?.as_mut()
    }

    pub(super) fn len(&self) -> usize {
        self.things.len() - self.free.len()
    }

    /// The most that there ever were at once.
    pub(super) const fn most(&self) -> usize {
        self.most
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Slot, &T)> {
        self.things.iter().enumerate().filter_map(|(n, thing)| Some((Slot(n as u32), thing.as_ref()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_used_again_and_an_empty_one_gives_nothing() {
        let mut slab = Slab::default();
        let (a, b) = (slab.put('a'), slab.put('b'));
        assert_eq!(slab.take(a), Some('a'));
        assert_eq!(slab.take(a), None);
        assert_eq!(slab.put('c'), a);
        assert_eq!((slab.get(a), slab.get(b), slab.len(), slab.most()), (Some(&'c'), Some(&'b'), 2, 2));
        assert_eq!(slab.iter().map(|(_, thing)| *thing).collect::<String>(), "cb");
    }

    #[test]
    fn an_event_is_small() {
        assert!(std::mem::size_of::<Event>() <= 16, "{}", std::mem::size_of::<Event>());
    }
}
