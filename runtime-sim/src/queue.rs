//! What happens next: one queue for the whole world, ordered by (time, destination, sequence).
//!
//! Near events lie in a ring of about-1-ms buckets and cost the same at any size: a push is one write, a bucket is sorted
//! once, when its time comes. Only what is further away than the ring reaches (four seconds: keepalives, heartbeats, faults)
//! pays a heap's logarithm.
//!
//! 1. Events come out in the order of their [`Key`], whatever order they went in.
//! 2. Events of one time and destination come out in the order in which they went in.
//! 3. Nothing comes out before what came out already, unless it was pushed later for an earlier time.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use offset_protocol::machine::Instant;

/// Buckets of the ring: 64 words of 64 bits, so that the next full one is found with two bit scans.
const BUCKETS: u64 = 4_096;
/// A bucket is 2^10 us wide.
const WIDTH_BITS: u32 = 10;

/// Where an event stands in the order of all events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// When it happens.
    pub at: Instant,
    /// To whom.
    pub to: u32,
    /// Counts pushes.
    pub sequence: u64,
}

#[derive(Clone, Debug)]
struct Entry<T> {
    key: Key,
    item: T,
}

/// Reversed, so that a max-heap gives the earliest first.
impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        other.key.cmp(&self.key)
    }
}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl<T> Eq for Entry<T> {}

/// The queue. See the module.
#[derive(Debug)]
pub struct EventQueue<T> {
    /// The bucket that is being emptied, sorted; the next event is the last.
    current: Vec<Entry<T>>,
    /// What was pushed for the current bucket (or an earlier one) since it was sorted.
    late: BinaryHeap<Entry<T>>,
    /// Buckets `tick + 1 ..= tick + BUCKETS - 1`, by their number modulo [`BUCKETS`].
    ring: Box<[Vec<Entry<T>>]>,
    /// One bit a bucket that is not empty.
    full: [u64; 64],
    /// One bit a word of `full` that is not zero.
    full_words: u64,
    far: BinaryHeap<Entry<T>>,
    /// The number of the current bucket.
    tick: u64,
    pushed: u64,
    waiting: usize,
}

impl<T> Default for EventQueue<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> EventQueue<T> {
    /// An empty queue.
    pub fn new() -> Self {
        EventQueue {
            current: Vec::new(),
            late: BinaryHeap::new(),
            ring: (0..BUCKETS).map(|_| Vec::new()).collect(),
            full: [0; 64],
            full_words: 0,
            far: BinaryHeap::new(),
            tick: 0,
            pushed: 0,
            waiting: 0,
        }
    }

    /// Events that wait.
    pub const fn len(&self) -> usize {
        self.waiting
    }

    /// Whether nothing will happen.
    pub const fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// Lets `item` happen to `to` at `at`. Gives the sequence number of its key.
    pub fn push(&mut self, at: Instant, to: u32, item: T) -> u64 {
        let sequence = self.pushed;
        let entry = Entry { key: Key { at, to, sequence }, item };
        self.pushed += 1;
        self.waiting += 1;
        let bucket = bucket_of(at);
        if bucket <= self.tick {
            self.late.push(entry);
        } else if bucket - self.tick < BUCKETS {
            let slot = (bucket % BUCKETS) as usize;
            self.ring[slot].push(entry);
            self.full[slot / 64] |= 1 << (slot % 64);
            self.full_words |= 1 << (slot / 64);
        } else {
            self.far.push(entry);
        }
        sequence
    }

    /// The next event, if it happens at `until` or before.
    pub fn pop_until(&mut self, until: Instant) -> Option<(Key, T)> {
        if self.next_at()? > until { None } else { self.pop() }
    }

    /// The next event.
    pub fn pop(&mut self) -> Option<(Key, T)> {
        self.open_bucket()?;
        // In `Entry`'s reversed order the greater one is earlier.
        let entry = match (self.current.last(), self.late.peek()) {
            (Some(sorted), Some(late)) if late > sorted => self.late.pop(),
            (None, _) => self.late.pop(),
            (Some(_), _) => self.current.pop(),
        }?;
        self.waiting -= 1;
        Some((entry.key, entry.item))
    }

    /// When the next event happens.
    pub fn next_at(&mut self) -> Option<Instant> {
        self.open_bucket()?;
        [self.current.last(), self.late.peek()].into_iter().flatten().map(|entry| entry.key.at).min()
    }

    /// Makes sure that the next event lies in the current bucket; `None` if there is none.
    fn open_bucket(&mut self) -> Option<()> {
        if !self.current.is_empty() || !self.late.is_empty() {
            return Some(());
        }
        let near = self.next_full();
        let far = self.far.peek().map(|entry| bucket_of(entry.key.at));
        self.tick = [near, far].into_iter().flatten().min()?;
        if near == Some(self.tick) {
            let slot = (self.tick % BUCKETS) as usize;
            std::mem::swap(&mut self.current, &mut self.ring[slot]);
            self.full[slot / 64] &= !(1 << (slot % 64));
            if self.full[slot / 64] == 0 {
                self.full_words &= !(1 << (slot / 64));
            }
        }
        while self.far.peek().is_some_and(|entry| bucket_of(entry.key.at) == self.tick) {
            self.current.extend(self.far.pop());
        }
        self.current.sort_unstable();
        Some(())
    }

    /// The number of the first bucket after the current one that is not empty.
    fn next_full(&self) -> Option<u64> {
        let start = ((self.tick + 1) % BUCKETS) as usize;
        let (word, bit) = (start / 64, start % 64);
        let slot = first_bit(self.full[word] & (!0 << bit), word)
            .or_else(|| self.first_in_words(self.full_words & (!0u64).checked_shl(word as u32 + 1).unwrap_or(0)))
            .or_else(|| self.first_in_words(self.full_words & ((1 << word) - 1)))
            .or_else(|| first_bit(self.full[word] & ((1 << bit) - 1), word))?;
        let ahead = (slot as u64 + BUCKETS - start as u64) % BUCKETS;
        Some(self.tick + 1 + ahead)
    }

    fn first_in_words(&self, words: u64) -> Option<usize> {
        let word = first_bit(words, 0)?;
        first_bit(self.full[word], word)
    }
}

const fn bucket_of(at: Instant) -> u64 {
    at.as_micros() >> WIDTH_BITS
}

/// The number of the lowest bit that is set in `bits`, the `word`-th word of many.
const fn first_bit(bits: u64, word: usize) -> Option<usize> {
    if bits == 0 { None } else { Some(word * 64 + bits.trailing_zeros() as usize) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(us: u64) -> Instant {
        Instant::from_micros(us)
    }

    #[test]
    fn events_of_one_time_come_by_destination_then_by_age() {
        let mut queue = EventQueue::new();
        for (time, to, item) in [(5, 2, 'a'), (5, 1, 'b'), (5, 1, 'c'), (4, 9, 'd')] {
            queue.push(at(time), to, item);
        }
        let order: String = std::iter::from_fn(|| queue.pop()).map(|(_, item)| item).collect();
        assert_eq!(order, "dbca");
    }

    #[test]
    fn a_look_ahead_does_not_disturb_what_is_pushed_before_it() {
        let mut queue = EventQueue::new();
        queue.push(at(10_000_000), 0, 'z');
        assert_eq!(queue.next_at(), Some(at(10_000_000)));
        assert_eq!(queue.pop_until(at(9_999_999)), None);
        queue.push(at(3), 0, 'a');
        queue.push(at(9_000_000), 0, 'b');
        let order: String = std::iter::from_fn(|| queue.pop()).map(|(_, item)| item).collect();
        assert_eq!(order, "abz");
    }

    proptest! {
        /// Pushes and pops mixed, near and far, compared with one sorted list.
        #[test]
        fn the_order_is_that_of_a_sorted_list(
            steps in proptest::collection::vec((0u64..4, 0u64..20_000_000, 0u32..3, any::<bool>()), 1..400)
        ) {
            let mut queue = EventQueue::new();
            let mut model: Vec<Key> = Vec::new();
            let mut now = 0;
            for (sequence, (scale, ahead, to, pop)) in steps.into_iter().enumerate() {
                let time = at(now + ahead / [1, 100, 10_000, 5_000_000][scale as usize]);
                queue.push(time, to, ());
                model.push(Key { at: time, to, sequence: sequence as u64 });
                if pop {
                    model.sort();
                    let expected = model.remove(0);
                    let (key, ()) = queue.pop().unwrap();
                    prop_assert_eq!(key, expected);
                    now = key.at.as_micros();
                }
                prop_assert_eq!(queue.len(), model.len());
            }
            model.sort();
            for expected in model {
                prop_assert_eq!(queue.pop().map(|(key, ())| key), Some(expected));
            }
            prop_assert!(queue.is_empty());
        }
    }
}
