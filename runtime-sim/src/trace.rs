//! What happened, as one hash; and, when asked, as a list of events with their causes, and of what nodes said to each other.
//!
//! The hash covers every event of the queue in order, with everything that hosts wrote to their connections and disks. Two
//! runs with one hash did the same. What is kept besides does not change it.
//!
//! | kept | bytes an event |
//! |---|---|
//! | the hash | 0 |
//! | the events ([`Keep::Lines`]): when, to whom, what kind, about what, caused by which | [`LINE_BYTES`] |
//!
//! Events are numbered from 1, in the order in which they happened. The cause of an event is the event during which it was
//! pushed; nothing has caused what was there at the beginning.

use offset_protocol::bytes::Hash;
use offset_protocol::machine::Instant;

use crate::queue::Key;

/// Bytes that are gathered before they are hashed: BLAKE3 is fastest on long input.
const GATHERED: usize = 64 * 1_024;

/// What one kept event costs.
pub const LINE_BYTES: usize = std::mem::size_of::<Packed>();

const _: () = assert!(LINE_BYTES <= 24, "what a trace may cost, by the design of the simulator");

/// Kinds of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// A connection is asked for.
    Syn,
    /// It was accepted.
    Accepted,
    /// It was refused.
    Refused,
    /// Bytes arrive.
    Arrive,
    /// There is room to write again.
    Window,
    /// A connection is broken.
    Reset,
    /// A process takes what waits for it.
    Turn,
    /// An alarm rings.
    Wake,
    /// A write is durable.
    Flushed,
    /// A program starts.
    Boot,
    /// A word from another person arrives.
    Note,
    /// A step of the plan is due.
    Plan,
    /// A message between friends arrives, of cases of fidelity `funds` as all that follow.
    Letter,
    /// A write is durable.
    Durable,
    /// A link is up.
    Up,
    /// A link is down.
    Down,
    /// A link is tried again.
    Dial,
    /// A report reaches the index.
    Report,
    /// A question reaches the index.
    Ask,
    /// An answer of the index arrives.
    Answer,
    /// A word from another person arrives.
    Word,
    /// The next operation of the case is due.
    Operation,
    /// The next fault of the case is due.
    Fault,
    /// Checkers look at everything.
    Look,
}

impl Kind {
    const ALL: [Kind; 24] = [
        Kind::Syn,
        Kind::Accepted,
        Kind::Refused,
        Kind::Arrive,
        Kind::Window,
        Kind::Reset,
        Kind::Turn,
        Kind::Wake,
        Kind::Flushed,
        Kind::Boot,
        Kind::Note,
        Kind::Plan,
        Kind::Letter,
        Kind::Durable,
        Kind::Up,
        Kind::Down,
        Kind::Dial,
        Kind::Report,
        Kind::Ask,
        Kind::Answer,
        Kind::Word,
        Kind::Operation,
        Kind::Fault,
        Kind::Look,
    ];

    /// In one word.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Syn => "syn",
            Kind::Accepted => "accepted",
            Kind::Refused => "refused",
            Kind::Arrive => "arrive",
            Kind::Window => "window",
            Kind::Reset => "reset",
            Kind::Turn => "turn",
            Kind::Wake => "wake",
            Kind::Flushed => "flushed",
            Kind::Boot => "boot",
            Kind::Note => "note",
            Kind::Plan => "plan",
            Kind::Letter => "letter",
            Kind::Durable => "durable",
            Kind::Up => "up",
            Kind::Down => "down",
            Kind::Dial => "dial",
            Kind::Report => "report",
            Kind::Ask => "ask",
            Kind::Answer => "answer",
            Kind::Word => "word",
            Kind::Operation => "operation",
            Kind::Fault => "fault",
            Kind::Look => "look",
        }
    }
}

/// One event, as a trace shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// Which, from 1.
    pub number: u64,
    /// When.
    pub at: Instant,
    /// To whom; `u32::MAX`: to the world.
    pub to: u32,
    /// What kind of event.
    pub kind: Kind,
    /// What it was about; depends on the kind.
    pub about: u64,
    /// The event during which it was pushed; `None`: before the first.
    pub cause: Option<u64>,
}

/// One event, as a trace keeps it: the host in 24 bits, the kind in 8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Packed {
    at: u64,
    about: u64,
    cause: u32,
    to_and_kind: u32,
}

/// The world's own number in 24 bits. No world has so many hosts.
const WORLD: u32 = 0xff_ffff;

impl Packed {
    fn new(key: Key, kind: Kind, about: u64, cause: u32) -> Self {
        Packed { at: key.at.as_micros(), about, cause, to_and_kind: key.to.min(WORLD) << 8 | kind as u32 }
    }

    fn line(self, number: u64) -> Line {
        let to = self.to_and_kind >> 8;
        Line {
            number,
            at: Instant::from_micros(self.at),
            to: if to == WORLD { u32::MAX } else { to },
            kind: Kind::ALL[(self.to_and_kind & 0xff) as usize % Kind::ALL.len()],
            about: self.about,
            cause: Some(u64::from(self.cause)).filter(|cause| *cause > 0),
        }
    }
}

/// Something that one node told another, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// By which host.
    pub from: u32,
    /// To which.
    pub to: u32,
    /// Numbers it among what this host told that one.
    pub number: u64,
    /// The event during which it was made, and when that was.
    pub made: (u64, Instant),
    /// The event during which it was taken in, and when that was, if it came to that.
    pub taken: Option<(u64, Instant)>,
    /// What.
    pub words: String,
}

/// What a trace keeps besides the hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Nothing.
    Hash,
    /// Every event, and what nodes said to each other.
    Lines,
}

/// The trace of one run.
#[derive(Clone)]
pub struct Trace {
    hasher: blake3::Hasher,
    gathered: Vec<u8>,
    events: u64,
    last: (Instant, u32),
    lines: Option<Vec<Packed>>,
    said: Vec<Said>,
}

impl Trace {
    /// An empty trace.
    pub fn new(keep: Keep) -> Self {
        let lines = match keep {
            Keep::Hash => None,
            Keep::Lines => Some(Vec::new()),
        };
        let gathered = Vec::with_capacity(GATHERED);
        Trace {
            hasher: blake3::Hasher::new(),
            gathered,
            events: 0,
            last: (Instant::ZERO, u32::MAX),
            lines,
            said: Vec::new(),
        }
    }

    /// An event of the queue, with the number of its cause; 0: none.
    pub fn event(&mut self, key: Key, kind: Kind, about: u64, cause: u32) {
        self.events += 1;
        self.last = (key.at, key.to);
        self.gathered.extend_from_slice(&key.at.as_micros().to_le_bytes());
        self.gathered.extend_from_slice(&key.to.to_le_bytes());
        self.gathered.extend_from_slice(kind.name().as_bytes());
        self.gathered.extend_from_slice(&about.to_le_bytes());
        self.flush_if_long();
        if let Some(lines) = &mut self.lines {
            lines.push(Packed::new(key, kind, about, cause));
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

    /// How many events there were; the number of the last.
    pub const fn events(&self) -> u64 {
        self.events
    }

    /// When the last event was, and to whom; `u32::MAX`: to the world.
    pub const fn last(&self) -> (Instant, u32) {
        self.last
    }

    /// The hash of everything so far.
    pub fn hash(&self) -> Hash {
        let mut hasher = self.hasher.clone();
        hasher.update(&self.gathered);
        Hash(*hasher.finalize().as_bytes())
    }

    /// The events in order, if they are kept.
    pub fn lines(&self) -> impl ExactSizeIterator<Item = Line> + '_ {
        let kept = self.lines.as_deref().unwrap_or_default();
        kept.iter().enumerate().map(|(index, packed)| packed.line(index as u64 + 1))
    }

    /// The event of a number, if it is kept.
    pub fn line(&self, number: u64) -> Option<Line> {
        let index = usize::try_from(number.checked_sub(1)?).ok()?;
        self.lines.as_ref()?.get(index).map(|packed| packed.line(number))
    }

    /// An event and what caused it, what caused that, and so on: at most `most`, the event first.
    pub fn causes(&self, event: u64, most: usize) -> Vec<Line> {
        std::iter::successors(self.line(event), |line| self.line(line.cause?)).take(most).collect()
    }

    /// Whether anything but the hash is kept.
    pub const fn keeps_lines(&self) -> bool {
        self.lines.is_some()
    }

    /// What nodes told each other, in the order in which it was made, if it is kept.
    pub fn said(&self) -> &[Said] {
        &self.said
    }

    /// Keeps what nodes told each other.
    pub(crate) fn keep_said(&mut self, said: Vec<Said>) {
        self.said = said;
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
pub fn first_difference(a: &Trace, b: &Trace) -> Option<(u64, Option<Line>, Option<Line>)> {
    let most = a.lines().len().max(b.lines().len()) as u64;
    let at = (1..=most).find(|&number| a.line(number) != b.line(number))?;
    Some((at, a.line(at), b.line(at)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(us: u64) -> Key {
        Key { at: Instant::from_micros(us), to: 1, sequence: us }
    }

    #[test]
    fn the_hash_does_not_depend_on_when_it_is_asked_for_nor_on_what_is_kept() {
        let (mut a, mut b) = (Trace::new(Keep::Hash), Trace::new(Keep::Lines));
        for n in 0..10_000 {
            a.event(key(n), Kind::Turn, n, 0);
            b.event(key(n), Kind::Turn, n, n as u32);
            if n % 7 == 0 {
                a.bytes(&[1; 300]);
                b.bytes(&[1; 300]);
                let _ = b.hash();
            }
        }
        assert_eq!(a.hash(), b.hash());
        assert_eq!((a.lines().len(), b.lines().len()), (0, 10_000));
    }

    #[test]
    fn an_event_reads_back_as_it_happened() {
        let mut trace = Trace::new(Keep::Lines);
        let (at, about) = (Instant::from_micros(1 << 50), u64::MAX - 3);
        for (to, kind, cause) in [(7, Kind::Syn, 0), (u32::MAX, Kind::Plan, 1), (0, Kind::Note, 2)] {
            trace.event(Key { at, to, sequence: 0 }, kind, about, cause);
        }
        let line = |number, to, kind, cause| Line { number, at, to, kind, about, cause };
        let expected =
            [line(1, 7, Kind::Syn, None), line(2, u32::MAX, Kind::Plan, Some(1)), line(3, 0, Kind::Note, Some(2))];
        assert_eq!(trace.lines().collect::<Vec<_>>(), expected);
        assert!(Kind::ALL.iter().enumerate().all(|(number, kind)| *kind as usize == number));
    }

    #[test]
    fn causes_lead_back_to_the_beginning() {
        let mut trace = Trace::new(Keep::Lines);
        for (n, cause) in [0, 1, 1, 3, 2].into_iter().enumerate() {
            trace.event(key(n as u64), Kind::Turn, 0, cause);
        }
        let chain = |event, most| trace.causes(event, most).iter().map(|line| line.number).collect::<Vec<_>>();
        assert_eq!((chain(4, 9), chain(5, 9), chain(4, 2)), (vec![4, 3, 1], vec![5, 2, 1], vec![4, 3]));
        assert!(chain(0, 9).is_empty() && chain(6, 9).is_empty());
    }

    #[test]
    fn the_first_difference_is_found() {
        let (mut a, mut b) = (Trace::new(Keep::Lines), Trace::new(Keep::Lines));
        for n in 0..10 {
            a.event(key(n), Kind::Turn, n, 0);
            b.event(key(n), Kind::Turn, n, 0);
        }
        assert_eq!(first_difference(&a, &b), None);
        a.event(key(10), Kind::Turn, 1, 0);
        b.event(key(10), Kind::Turn, 2, 0);
        let (at, one, other) = first_difference(&a, &b).unwrap();
        assert_eq!((at, one.unwrap().about, other.unwrap().about), (11, 1, 2));
        assert_ne!(a.hash(), b.hash());
    }
}
