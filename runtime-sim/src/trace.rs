//! What happened, as one hash; and, when asked, as a list whose first difference can be found.
//!
//! The hash covers every event of the queue in order, with everything that hosts wrote to their connections and disks. Two
//! runs with one hash did the same.

use offset_protocol::bytes::Hash;
use offset_protocol::machine::Instant;

use crate::queue::Key;

/// Bytes that are gathered before they are hashed: BLAKE3 is fastest on long input.
const GATHERED: usize = 64 * 1_024;

/// One event, as a trace keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// When.
    pub at: Instant,
    /// To whom.
    pub to: u32,
    /// What kind of event.
    pub kind: &'static str,
    /// What it was about; depends on the kind.
    pub about: u64,
}

/// What a trace keeps besides the hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Nothing.
    Hash,
    /// Every event.
    Lines,
}

/// The trace of one run.
#[derive(Clone)]
pub struct Trace {
    hasher: blake3::Hasher,
    gathered: Vec<u8>,
    events: u64,
    lines: Option<Vec<Line>>,
}

impl Trace {
    /// An empty trace.
    pub fn new(keep: Keep) -> Self {
        let lines = match keep {
            Keep::Hash => None,
            Keep::Lines => Some(Vec::new()),
        };
        Trace { hasher: blake3::Hasher::new(), gathered: Vec::with_capacity(GATHERED), events: 0, lines }
    }

    /// An event of the queue.
    pub fn event(&mut self, key: Key, kind: &'static str, about: u64) {
        self.events += 1;
        self.gathered.extend_from_slice(&key.at.as_micros().to_le_bytes());
        self.gathered.extend_from_slice(&key.to.to_le_bytes());
        self.gathered.extend_from_slice(kind.as_bytes());
        self.gathered.extend_from_slice(&about.to_le_bytes());
        self.flush_if_long();
        if let Some(lines) = &mut self.lines {
            lines.push(Line { at: key.at, to: key.to, kind, about });
        }
    }

    /// Something that a host wrote.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.gathered.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        if bytes.len() < GATHERED {
            self.gathered.extend_from_slice(bytes);
            self.flush_if_long();
        } else {
            self.flush();
            self.hasher.update(bytes);
        }
    }

    /// How many events there were.
    pub const fn events(&self) -> u64 {
        self.events
    }

    /// The hash of everything so far.
    pub fn hash(&self) -> Hash {
        let mut hasher = self.hasher.clone();
        hasher.update(&self.gathered);
        Hash(*hasher.finalize().as_bytes())
    }

    /// The events, if they are kept.
    pub fn lines(&self) -> &[Line] {
        self.lines.as_deref().unwrap_or_default()
    }

    fn flush_if_long(&mut self) {
        if self.gathered.len() >= GATHERED {
            self.flush();
        }
    }

    fn flush(&mut self) {
        self.hasher.update(&self.gathered);
        self.gathered.clear();
    }
}

/// The number of the first event in which two kept traces differ, with both events.
pub fn first_difference(a: &Trace, b: &Trace) -> Option<(usize, Option<Line>, Option<Line>)> {
    let (a, b) = (a.lines(), b.lines());
    let at = (0..a.len().max(b.len())).find(|&n| a.get(n) != b.get(n))?;
    Some((at, a.get(at).copied(), b.get(at).copied()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(us: u64) -> Key {
        Key { at: Instant::from_micros(us), to: 1, sequence: us }
    }

    #[test]
    fn the_hash_does_not_depend_on_when_it_is_asked_for() {
        let (mut a, mut b) = (Trace::new(Keep::Hash), Trace::new(Keep::Lines));
        for n in 0..10_000 {
            a.event(key(n), "test", n);
            b.event(key(n), "test", n);
            if n % 7 == 0 {
                a.bytes(&[1; 300]);
                b.bytes(&[1; 300]);
                let _ = b.hash();
            }
        }
        assert_eq!(a.hash(), b.hash());
        assert_eq!(b.lines().len(), 10_000);
    }

    #[test]
    fn the_first_difference_is_found() {
        let (mut a, mut b) = (Trace::new(Keep::Lines), Trace::new(Keep::Lines));
        for n in 0..10 {
            a.event(key(n), "test", n);
            b.event(key(n), "test", n / 9 * 9 + n % 9);
        }
        assert_eq!(first_difference(&a, &b), None);
        a.event(key(10), "test", 1);
        b.event(key(10), "test", 2);
        let (at, one, other) = first_difference(&a, &b).unwrap();
        assert_eq!((at, one.unwrap().about, other.unwrap().about), (10, 1, 2));
        assert_ne!(a.hash(), b.hash());
    }
}
