//! One machine on one thread: takes all inputs that wait, makes one turn of them or several ([`Pace`]), carries out what the
//! machine wants.
//!
//! | arrival | from |
//! |---|---|
//! | connection events, messages; or inputs that the program made of messages on these tasks ([`Program::prepare`]) | the connections' tasks |
//! | `Durable`, or the end of the store | the storage thread |
//! | an input as it is | folder watchers and whoever else has the [`Sender`] |
//! | a question how the machine stands, answered between two turns | whoever watches the program ([`crate::metrics`]) |
//! | `End` | the signals' thread |
//!
//! 1. Everything a machine wants done happens in the order in which it said it.
//! 2. When a commit fails the driver returns at once: nothing is sent after it.
//! 3. Asked to end, it stops accepting, lets the machine finish, closes every connection in order, and returns within
//!    [`END_LIMIT`] at the latest. The store is closed after that, with everything committed that was asked for; if it cannot be,
//!    that is how the run ended.

#[cfg(test)]
mod tests;

use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant as StdInstant};

use offset_protocol::machine::{Instant, Machine, WallTime, turn};
use offset_protocol::net::{ConnId, NetCommand, NetEvent};
use offset_protocol::persist::{Change, Revision};

use crate::clock::Clock;
use crate::connection::{Handed, Mail, Outlet, Whence};
use crate::hub::Hub;
use crate::inbox::Inbox;
use crate::metrics::{Meters, Sample};
use crate::store::{Store, StoreError};

/// An orderly end takes no longer than this.
pub const END_LIMIT: Duration = Duration::from_secs(5);
/// The part of it that the machine has to finish by itself; the rest is for closing connections.
const FINISH_LIMIT: Duration = Duration::from_millis(3_500);
/// When the connections that did not close by then are dropped.
const CLOSE_LIMIT: Duration = Duration::from_millis(4_700);

/// The machine's vocabulary, translated. Everything that a machine does not know stays `None`.
pub trait Program {
    /// The machine.
    type Machine: Machine<Input = Self::Input, Output = Self::Output>;
    /// What happens to it.
    type Input: Send + 'static;
    /// What it wants done.
    type Output;

    /// The input for something that happened to a connection.
    fn net(&mut self, event: NetEvent) -> Self::Input;

    /// What is done with each message on its connection's own task, on any thread, before the machine hears it: whatever takes
    /// long and needs no state, such as checking signatures. Asked for once, when the driver is made; the order of a
    /// connection's messages stays. Messages that come before that, and those that are handed back, reach the machine as they
    /// came.
    fn prepare(&mut self) -> Option<Prepare<Self::Input>> {
        None
    }

    /// How the machine takes what waits for it.
    fn pace(&self) -> Pace {
        Pace::Whole
    }

    /// The input for an alarm that is due.
    fn tick(&mut self) -> Self::Input;

    /// What the machine wants done, in the driver's words.
    fn effect(&mut self, output: Self::Output) -> Effect;

    /// The input for a revision that is on the disk.
    fn durable(&mut self, revision: Revision) -> Option<Self::Input> {
        let _ = revision;
        None
    }

    /// The input for a join that ended.
    fn join_ended(&mut self, a: ConnId, b: ConnId) -> Option<Self::Input> {
        let _ = (a, b);
        None
    }

    /// The input before a turn that tells the wall time, if the machine wants to know.
    fn wall(&mut self, wall: WallTime) -> Option<Self::Input> {
        let _ = wall;
        None
    }

    /// How the machine stands, for whoever watches the program: asked at most a few times a second, between two turns, on
    /// the state thread. Numbers only, of what there is; nothing that tells who.
    fn samples(&self, machine: &Self::Machine) -> Vec<Sample> {
        let _ = machine;
        Vec::new()
    }

    /// The input that asks the machine to finish. With `None` it is finished at once; else when it says
    /// [`Effect::Finished`], or when its time is up.
    fn end(&mut self) -> Option<Self::Input> {
        None
    }
}

/// Makes an input of a message, and says what that was worth; or hands its bytes back.
pub type Prepare<I> = Box<dyn Fn(&Whence, Vec<u8>) -> Result<(I, Handed), Vec<u8>> + Send + Sync>;

/// How a machine takes what waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Everything in one turn, so that what it says and persists is for as much as possible at once.
    Whole,
    /// In slices that are over when this time has passed, so that what it said in one has left before the next, and a tick
    /// that is due does not wait for the rest: for machines some of whose inputs cost much.
    Sliced(Duration),
}

/// What a machine's output comes to.
#[derive(Debug)]
pub enum Effect {
    /// A command to a connection.
    Net(NetCommand),
    /// Commit, then say `Durable`.
    Persist {
        /// What to call it.
        revision: Revision,
        /// The records.
        changes: Vec<Change>,
    },
    /// Forward each one's messages to the other.
    Join {
        /// One.
        a: ConnId,
        /// The other.
        b: ConnId,
    },
    /// Read this connection's next message.
    Resume {
        /// The connection.
        conn: ConnId,
    },
    /// The machine has finished, after [`Program::end`].
    Finished,
    /// Nothing; the program has done what there was to do, such as writing a log line.
    Nothing,
}

/// Why a driver returned too early.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// The store failed. Nothing was sent that speaks for what is not on the disk.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A machine without a store wanted to persist: a bug of ours.
    #[error("there is no database to write to")]
    NoStore,
}

/// What waits for the machine.
enum Arrival<I> {
    Net(NetEvent),
    Incoming(Arc<Mail>, NetEvent),
    JoinEnded(ConnId, ConnId),
    Input(I),
    Durable(Revision),
    StoreFailed(StoreError),
    Observe(smol::channel::Sender<Vec<Sample>>),
    End,
}

/// The way to the machine from other threads.
pub struct Sender<I>(Arc<Door<I>>);

struct Door<I> {
    inbox: Inbox<Arrival<I>>,
    prepare: OnceLock<Prepare<I>>,
}

impl<I> Clone for Sender<I> {
    fn clone(&self) -> Self {
        Sender(self.0.clone())
    }
}

impl<I> Default for Sender<I> {
    fn default() -> Self {
        Sender(Arc::new(Door { inbox: Inbox::default(), prepare: OnceLock::new() }))
    }
}

impl<I> std::fmt::Debug for Sender<I> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sender")
    }
}

impl<I> Sender<I> {
    /// The way to a machine that will run.
    pub fn new() -> Self {
        Sender::default()
    }

    /// Gives the machine an input. Never waits: only for what is bounded elsewhere.
    pub fn input(&self, input: I) {
        self.push(Arrival::Input(input));
    }

    /// Asks how the machine stands. The answer comes after the turn that is under way; none comes once the driver has
    /// ended. Who asks must see to it that few questions wait.
    pub fn observe(&self) -> smol::channel::Receiver<Vec<Sample>> {
        let (answer, answered) = smol::channel::bounded(1);
        self.push(Arrival::Observe(answer));
        answered
    }

    /// Asks the driver to end in order.
    pub fn end(&self) {
        self.push(Arrival::End);
    }

    fn push(&self, arrival: Arrival<I>) {
        self.0.inbox.push(arrival);
    }

    fn arrival(&self, from: &Whence, bytes: Vec<u8>) -> (Arrival<I>, Handed) {
        let prepared = match self.0.prepare.get() {
            Some(prepare) => prepare(from, bytes),
            None => Err(bytes),
        };
        match prepared {
            Ok((input, handed)) => (Arrival::Input(input), handed),
            Err(bytes) => (Arrival::Net(NetEvent::Message { conn: from.conn, bytes }), Handed::default()),
        }
    }
}

impl<I: Send> Outlet for Sender<I> {
    fn poll_message(&self, cx: &mut Context<'_>, from: &Whence, slot: &mut Option<Vec<u8>>) -> Poll<Handed> {
        let size = slot.as_ref().map_or(0, Vec::len);
        let mut handed = Handed::default();
        let make = |bytes| {
            let arrival;
            (arrival, handed) = self.arrival(from, bytes);
            arrival
        };
        self.0.inbox.poll_push(cx, from.conn, slot, size, make).map(|()| handed)
    }

    fn event(&self, event: NetEvent) {
        self.push(Arrival::Net(event));
    }

    fn incoming(&self, mail: Arc<Mail>, event: NetEvent) {
        self.push(Arrival::Incoming(mail, event));
    }

    fn join_ended(&self, a: ConnId, b: ConnId) {
        self.push(Arrival::JoinEnded(a, b));
    }
}

/// How far the driver is on its way to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Course {
    Running,
    /// The machine finishes.
    Finishing {
        asked: StdInstant,
    },
    /// Connections close.
    Closing {
        asked: StdInstant,
    },
}

/// Runs one machine. The thread that calls [`Driver::run`] is the state thread.
pub struct Driver<P: Program> {
    program: P,
    machine: P::Machine,
    inbox: Sender<P::Input>,
    hub: Hub,
    store: Option<Store>,
    clock: Clock,
    course: Course,
    persisting: usize,
    effects: Vec<Effect>,
    meters: Option<Meters>,
}

/// What a driver is made of.
pub struct DriverParts<P: Program> {
    /// The translation.
    pub program: P,
    /// The machine.
    pub machine: P::Machine,
    /// The way to it; the hub's outlet is the same.
    pub inbox: Sender<P::Input>,
    /// Its connections.
    pub hub: Hub,
    /// Its storage, if it has any.
    pub store: Option<Store>,
    /// The program's clock.
    pub clock: Clock,
    /// Where to write how long things took, if anybody watches.
    pub meters: Option<Meters>,
}

impl<P: Program> Driver<P> {
    /// A driver that has not started yet.
    pub fn new(parts: DriverParts<P>) -> Self {
        let DriverParts { mut program, machine, inbox, hub, store, clock, meters } = parts;
        if let Some(prepare) = program.prepare() {
            // Nobody else sets it, and no sender has two drivers.
            let _ = inbox.0.prepare.set(prepare);
        }
        let course = Course::Running;
        Driver { program, machine, inbox, hub, store, clock, course, persisting: 0, effects: Vec::new(), meters }
    }

    /// Runs until it is asked to end and has.
    ///
    /// # Errors
    /// [`DriverError`] if the store fails: at once, with nothing sent after that, or when it is closed at the end.
    pub fn run(mut self) -> Result<P::Machine, DriverError> {
        self.turns(Vec::new())?;
        loop {
            let arrivals = self.inbox.0.inbox.take(self.wait_until());
            let mut inputs = Vec::with_capacity(arrivals.len() + 2);
            for arrival in arrivals {
                self.on_arrival(arrival, &mut inputs)?;
            }
            self.turns(inputs)?;
            if self.is_ended() {
                self.store.map_or(Ok(()), Store::close)?;
                return Ok(self.machine);
            }
        }
    }

    fn on_arrival(&mut self, arrival: Arrival<P::Input>, inputs: &mut Vec<P::Input>) -> Result<(), DriverError> {
        match arrival {
            Arrival::Net(event) => {
                if let NetEvent::Closed { conn } = &event {
                    self.hub.on_closed(*conn);
                }
                inputs.push(self.program.net(event));
            }
            Arrival::Incoming(mail, event) => {
                if let NetEvent::Incoming { conn, purpose, peer, .. } = &event {
                    self.hub.on_incoming(*conn, *purpose, *peer, mail);
                }
                inputs.push(self.program.net(event));
            }
            Arrival::JoinEnded(a, b) => inputs.extend(self.program.join_ended(a, b)),
            Arrival::Input(input) => inputs.push(input),
            Arrival::Durable(revision) => {
                self.persisting = self.persisting.saturating_sub(1);
                inputs.extend(self.program.durable(revision));
            }
            Arrival::StoreFailed(error) => return Err(error.into()),
            // Whoever asked may have given up.
            Arrival::Observe(answer) => drop(answer.try_send(self.program.samples(&self.machine))),
            Arrival::End => self.on_end(inputs),
        }
        Ok(())
    }

    /// Gives the machine its inputs, in as many turns as its pace asks for.
    fn turns(&mut self, inputs: Vec<P::Input>) -> Result<(), DriverError> {
        let slice = match self.program.pace() {
            Pace::Whole => return self.turn(inputs),
            Pace::Sliced(slice) => slice,
        };
        let mut inputs = inputs.into_iter();
        loop {
            self.turn(Slice { over_at: StdInstant::now() + slice, inputs: &mut inputs, first: true })?;
            if inputs.len() == 0 {
                return Ok(());
            }
        }
    }

    /// One turn of the machine, and what it wants done.
    fn turn(&mut self, inputs: impl IntoIterator<Item = P::Input>) -> Result<(), DriverError> {
        let _timing = self.meters.as_ref().map(Meters::time_turn);
        let now = self.clock.now();
        let tick = self.alarm().is_some_and(|at| at <= now).then(|| self.program.tick());
        let mut inputs = inputs.into_iter().chain(tick).peekable();
        let wall = inputs.peek().is_some().then(|| self.program.wall(self.clock.wall())).flatten();
        let inputs = wall.into_iter().chain(inputs);
        let (program, effects) = (&mut self.program, &mut self.effects);
        turn(&mut self.machine, now, inputs, |output| effects.push(program.effect(output)));
        let mut effects = std::mem::take(&mut self.effects);
        for effect in effects.drain(..) {
            self.carry_out(effect)?;
        }
        self.effects = effects;
        self.hub.flush();
        Ok(())
    }

    fn carry_out(&mut self, effect: Effect) -> Result<(), DriverError> {
        match effect {
            // A machine that does not know of the end connects again what we close.
            Effect::Net(NetCommand::Connect { conn, .. }) if matches!(self.course, Course::Closing { .. }) => {
                self.inbox.event(NetEvent::Closed { conn });
            }
            Effect::Net(command) => self.hub.command(command),
            Effect::Persist { revision, changes } => self.persist(revision, changes)?,
            Effect::Join { a, b } => self.hub.join(a, b),
            Effect::Resume { conn } => self.hub.resume(conn),
            Effect::Finished => self.close(),
            Effect::Nothing => {}
        }
        Ok(())
    }

    fn persist(&mut self, revision: Revision, changes: Vec<Change>) -> Result<(), DriverError> {
        let store = self.store.as_ref().ok_or(DriverError::NoStore)?;
        let inbox = self.inbox.clone();
        self.persisting += 1;
        let timing = self.meters.as_ref().map(Meters::time_commit);
        store.commit_then(changes, move |result| {
            drop(timing);
            inbox.push(match result {
                Ok(()) => Arrival::Durable(revision),
                Err(error) => Arrival::StoreFailed(error),
            });
        })?;
        Ok(())
    }

    // -- the end

    fn on_end(&mut self, inputs: &mut Vec<P::Input>) {
        if self.course != Course::Running {
            return;
        }
        tracing::info!("asked to end");
        if let Some(meters) = &self.meters {
            meters.drain();
        }
        self.hub.stop_listening();
        self.course = Course::Finishing { asked: StdInstant::now() };
        match self.program.end() {
            Some(input) => inputs.push(input),
            None => self.close(),
        }
    }

    fn close(&mut self) {
        if let Course::Finishing { asked } = self.course {
            self.course = Course::Closing { asked };
            self.hub.close_all();
        }
    }

    fn is_ended(&mut self) -> bool {
        match self.course {
            Course::Running => false,
            Course::Finishing { asked } => {
                if asked.elapsed() >= FINISH_LIMIT {
                    self.close();
                }
                false
            }
            Course::Closing { asked } => {
                (self.hub.is_empty() && self.persisting == 0) || asked.elapsed() >= CLOSE_LIMIT
            }
        }
    }

    // -- time

    fn alarm(&self) -> Option<Instant> {
        self.machine.poll_timeout().map(|alarm| alarm.at)
    }

    fn wait_until(&self) -> Option<StdInstant> {
        let alarm = self.alarm().and_then(|at| self.clock.system(at));
        let course = match self.course {
            Course::Running => None,
            Course::Finishing { asked } => Some(asked + FINISH_LIMIT),
            // Nothing may be left to wait for already.
            Course::Closing { .. } if self.hub.is_empty() && self.persisting == 0 => Some(StdInstant::now()),
            Course::Closing { asked } => Some(asked + CLOSE_LIMIT),
        };
        alarm.into_iter().chain(course).min()
    }
}

/// The inputs of one turn: at least one, if there are any, and then as many as there is time for.
struct Slice<'a, I> {
    over_at: StdInstant,
    inputs: &'a mut std::vec::IntoIter<I>,
    first: bool,
}

impl<I> Iterator for Slice<'_, I> {
    type Item = I;

    fn next(&mut self) -> Option<I> {
        if !std::mem::take(&mut self.first) && StdInstant::now() >= self.over_at {
            return None;
        }
        self.inputs.next()
    }
}

impl<P: Program> std::fmt::Debug for Driver<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver").field("hub", &self.hub).field("course", &self.course).finish_non_exhaustive()
    }
}
