//! A host: a program that runs, crashes and starts again, its disk, its clock, its place in the network.
//!
//! | part | survives a crash |
//! |---|---|
//! | [`Program`]: how to start the process; what people remember | yes |
//! | [`Disk`]: what was flushed | yes |
//! | `Life`: the process, its connections, what waits for it | no |
//!
//! A machine is reached through [`Hosted`] only, which turns a host's inputs into its own and calls it through
//! [`offset_protocol::machine::turn`], exactly as the real programs do.

mod connections;
mod hosted;
mod life;
pub(crate) mod task;

use std::any::Any;

use offset_protocol::identity::SharedSigner;
use offset_protocol::machine::{Alarm, Instant, Seed, WallTime};
use offset_protocol::net::{Address, ConnId, NetCommand, NetEvent, Purpose};
use offset_protocol::persist::{Change, Revision};
use serde::{Deserialize, Serialize};

pub use hosted::{Hosted, Job, Prepare, Resident, SlowJobs};
pub(crate) use life::{Life, LinkNews, Wish, io};

use crate::clock::Clock;
use crate::dice::Dice;
use crate::disk::{Disk, Records};
use crate::latency::Latency;
use crate::people::Note;

/// Names a host; counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HostId(pub u32);

impl std::fmt::Display for HostId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "h{}", self.0)
    }
}

/// What can happen to a process.
#[derive(Clone, Debug)]
pub enum HostInput {
    /// Something happened to a connection.
    Net(NetEvent),
    /// A tunnel ended.
    JoinEnded {
        /// One end.
        a: ConnId,
        /// The other.
        b: ConnId,
    },
    /// A revision is on disk.
    Durable(Revision),
    /// What the host's wall clock shows.
    Wall(WallTime),
    /// The host's network is there again.
    NetworkReturned,
    /// Shut down in order.
    Drain,
    /// Somebody told the person at this host something.
    Note(Note),
    /// The alarm is due.
    Tick,
}

/// What a process wants done.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Something with a connection.
    Net(NetCommand),
    /// Write these records and say when they are durable.
    Persist {
        /// Their number.
        revision: Revision,
        /// The records.
        changes: Vec<Change>,
    },
    /// Read the next message of this connection.
    Resume {
        /// Which.
        conn: ConnId,
    },
    /// Forward between these two.
    Join {
        /// One.
        a: ConnId,
        /// The other.
        b: ConnId,
    },
    /// For cheaters: connect, and begin no handshake.
    RawConnect {
        /// The number that it gets.
        conn: ConnId,
        /// Where to.
        address: Address,
    },
    /// For cheaters: put this into the stream, past the channel.
    Raw {
        /// Into which.
        conn: ConnId,
        /// Anything.
        bytes: Vec<u8>,
    },
    /// For cheaters: never read from this connection again.
    Deafen {
        /// Which.
        conn: ConnId,
    },
    /// Tell a person something, past the network.
    Note {
        /// At which host.
        to: HostId,
        /// What.
        note: Note,
    },
    /// Something about a peer, for the log.
    Blame {
        /// What, in words.
        what: String,
        /// Whether an honest peer may have done it.
        weight: Weight,
    },
    /// The process has ended in order.
    Stop,
}

/// What it means that a host says something about a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// It happens to the honest: an accident of the network, a race, a place that is taken.
    Remark,
    /// No honest peer does that.
    Accusation,
}

/// A law of all machines that one of them broke.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LawBroken {
    /// Reading the alarm twice gave two answers.
    #[error("reading the alarm changed it from {first:?} to {second:?}")]
    AlarmRead {
        /// The first answer.
        first: Option<Alarm>,
        /// The second.
        second: Option<Alarm>,
    },
    /// A program does not start from its own records.
    #[error("it does not start: {why}")]
    WillNotStart {
        /// What it says.
        why: String,
    },
    /// After a tick that was due the alarm is due still.
    #[error("after a tick at {now:?} the alarm is {alarm:?}")]
    AlarmStays {
        /// When the tick was.
        now: Instant,
        /// What it left.
        alarm: Alarm,
    },
    /// What a secure channel gave its owner is not what the other end sealed.
    #[error("{what}")]
    Misheard {
        /// Where, and what.
        what: String,
    },
    /// A tick before its time changed something.
    #[error("an early tick at {now:?} changed the alarm from {before:?} to {after:?} and gave {outputs} outputs")]
    EarlyTick {
        /// When the tick was.
        now: Instant,
        /// The alarm before it.
        before: Option<Alarm>,
        /// The alarm after it.
        after: Option<Alarm>,
        /// What it put out.
        outputs: usize,
    },
}

/// A process: a machine that runs.
pub trait Process {
    /// Keeps an input for the next turn.
    fn push(&mut self, input: HostInput);

    /// Feeds what waits, and a tick if one is due, then drains.
    ///
    /// # Errors
    /// [`LawBroken`] if the machine broke a law of all machines.
    fn turn(&mut self, now: Instant, dice: &mut Dice, effects: &mut Vec<Effect>) -> Result<(), LawBroken>;

    /// When it wants a tick.
    fn alarm(&self) -> Option<Alarm>;

    /// The machine, for those who know its type.
    fn machine(&self) -> &dyn Any;
}

/// What a process finds when it starts.
pub struct Boot<'a> {
    /// What is on the disk.
    pub records: &'a Records,
    /// Its identity.
    pub signer: SharedSigner,
    /// Its randomness; another one each time.
    pub seed: Seed,
    /// What its clock shows.
    pub now: Instant,
    /// What its wall clock shows.
    pub wall: WallTime,
}

/// How to start a process.
pub trait Program {
    /// The ports on which it accepts connections, and what for.
    fn ports(&self) -> Vec<(u16, Purpose)>;

    /// Whether it takes [`HostInput::Drain`] and stops by itself then.
    fn drains(&self) -> bool {
        false
    }

    /// Starts it.
    ///
    /// # Errors
    /// Why it will not start: its own records must always do.
    fn start(&mut self, boot: Boot<'_>) -> Result<Box<dyn Process>, String>;
}

/// How fast a host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// From the first input that waits to the turn that takes it.
    pub turn: Latency,
    /// From a write to its being durable.
    pub flush: Latency,
}

/// One host.
pub(crate) struct Host {
    pub(crate) id: HostId,
    pub(crate) address: Address,
    pub(crate) signer: SharedSigner,
    pub(crate) program: Box<dyn Program>,
    pub(crate) disk: Disk,
    pub(crate) clock: Clock,
    pub(crate) pace: Pace,
    pub(crate) seed: Seed,
    /// Counts starts; events of an earlier life are ignored.
    pub(crate) lives: u32,
    pub(crate) life: Option<Life>,
    /// Nothing runs before this.
    pub(crate) paused_until: Instant,
    /// Writes fail before this.
    pub(crate) disk_fails_until: Instant,
    /// An old copy of the disk.
    pub(crate) copy: Option<Records>,
    /// Has left for good.
    pub(crate) retired: bool,
    /// Crash when this many of these have happened.
    pub(crate) trap: Option<Trap>,
}

/// A point at which a host shall crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum CrashPoint {
    /// Right after it handed a write to its disk: before anything of it is durable.
    Written,
    /// Right after a write reached the disk: before the process is told.
    Flushed,
    /// Right after it was told that a write is durable and said what it may say then: some messages out, perhaps not all.
    Said,
    /// Right after it sent a message.
    Sent,
    /// Right after it sent a message while a write was under way, which is lost: if the message spoke for the write, somebody
    /// now knows more than the disk.
    SentAhead,
}

impl CrashPoint {
    /// All of them.
    pub const ALL: [CrashPoint; 5] =
        [CrashPoint::Written, CrashPoint::Flushed, CrashPoint::Said, CrashPoint::Sent, CrashPoint::SentAhead];
}

/// A crash that waits for its point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Trap {
    /// Where.
    pub point: CrashPoint,
    /// After how many more.
    pub after: u32,
}

impl Host {
    /// Counts a point that was passed; whether the host crashes here.
    pub(crate) fn passes(&mut self, point: CrashPoint) -> bool {
        let Some(trap) = &mut self.trap else { return false };
        if trap.point != point {
            return false;
        }
        if trap.after > 0 {
            trap.after -= 1;
            return false;
        }
        self.trap = None;
        true
    }
}
