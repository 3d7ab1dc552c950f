//! A case at the fidelity of funds: the money and its routes only, for networks of up to a million nodes.
//!
//! | part of the world | here |
//! |---|---|
//! | node | the real [`Funder`](offset_funder_sm::funder::Funder), and a disk only where something needs it |
//! | friends | typed messages, signed by a cheap signer, over links that come and go |
//! | index | one real graph and the real search |
//! | people | buyers and sellers who speak with funders directly; nothing is kept of a deal that has ended |
//! | relays, connections, apps, encryption | not here: see [`crate::full`] |
//!
//! Of a [`Case`] the number of relays and index servers does not matter, nor on which of them a node is; a latency of its
//! conditions is one whole way between two friends, or between a node and the index. Settings: limits, rates, opening and
//! closing of currencies, enabling and disabling of friends happen; a friend is not removed, and at healing every friend is
//! enabled again. Which faults there are says `faults.rs` of this module.
//!
//! Signatures are always cheap: they may not be real ones here, for keys carry numbers.

mod build;
mod deal;
mod event;
mod faults;
mod index;
mod links;
mod people;
mod watch;
mod world;

use offset_protocol::app::Command;
use offset_protocol::bytes::{CommandId, Hash};
use offset_protocol::machine::{Duration, Instant};

use deal::Order;
use event::Event;
use world::World;

use crate::case::{Case, Operation, Rare, Setting};
use crate::check::{Invariant, Violation};
use crate::dice::Dice;
use crate::full::Watch;
use crate::marks::{self, Sites};
use crate::result::Recorder;
use crate::trace::{Keep, Trace};

/// How a case is run. But for `set_up` nothing of it changes what happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// What the trace keeps.
    pub keep: Keep,
    /// Whether the checkers look on.
    pub watch: Watch,
    /// How friendships are made.
    pub set_up: SetUp,
    /// So many nodes in a thousand have a disk, beside those that need one because of a fault.
    pub sampled_per_mille: u32,
    /// A node with a disk is compared with it once in so many writes; 0: at the end only.
    pub compare_every: u64,
    /// The laws of alarms are looked at once in so many turns; 0: never.
    pub laws_every: u32,
    /// All friendships are looked at this often; `None`: at the end only.
    pub look_every: Option<Duration>,
    /// Whether a ledger of our own is kept of everything.
    pub shadow: Shadow,
    /// After healing everything ends within this time.
    pub settle: Duration,
}

/// How friendships are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetUp {
    /// In the world, while time passes.
    AsEvents,
    /// By the same machines, two friends at a time, before time begins.
    Before,
}

/// Whether a ledger of our own is kept of every friendship, request and node: see [`crate::check::ledger`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shadow {
    /// It is: each write is read again.
    Kept,
    /// It is not: friendships are compared end by end only, nodes at the end.
    NotKept,
}

impl Options {
    /// For worlds of any size: everything is looked at, at a cost that does not grow with the world.
    pub const fn large() -> Self {
        Options {
            keep: Keep::Hash,
            watch: Watch::Always,
            set_up: SetUp::Before,
            sampled_per_mille: 1,
            compare_every: 64,
            laws_every: 64,
            look_every: None,
            shadow: Shadow::NotKept,
            settle: Duration::from_secs(240),
        }
    }

    /// For small worlds: everything is looked at often.
    pub const fn small() -> Self {
        Options {
            set_up: SetUp::AsEvents,
            sampled_per_mille: 1_000,
            compare_every: 8,
            laws_every: 16,
            look_every: Some(Duration::from_secs(60)),
            shadow: Shadow::Kept,
            ..Options::large()
        }
    }
}

/// How often things happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events of the queue.
    pub events: u64,
    /// Turns of nodes.
    pub turns: u64,
    /// Letters between friends that were taken in.
    pub letters: u64,
    /// Letters that were lost with their link.
    pub lost: u64,
    /// Flushes of disks.
    pub flushes: u64,
    /// Questions to the index.
    pub questions: u64,
    /// Parts of payments that came back.
    pub parts_failed: u64,
    /// Nodes that crashed or stopped, and starts after that.
    pub crashes: u64,
    /// See `crashes`.
    pub boots: u64,
    /// Faults that mean nothing here.
    pub passed_over: u64,
    /// The most that there ever was at once: letters under way, deals, events that wait.
    pub most: Most,
}

/// The most that there ever was at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Most {
    /// Letters under way.
    pub letters: u64,
    /// Deals that were open.
    pub deals: u64,
    /// Events that waited.
    pub events: u64,
}

/// The laws of alarms, now and then.
pub(crate) struct Laws {
    every: u32,
    dice: Dice,
}

/// How far a run is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// In the world.
    pub now: Instant,
    /// Events so far.
    pub events: u64,
    /// Payments: ordered, paid, failed.
    pub payments: (u64, u64, u64),
    /// Faults so far.
    pub faults: u64,
}

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Of everything that happened.
    pub hash: Hash,
    /// How long it took in the world.
    pub simulated: Duration,
    /// From healing until nothing was open.
    pub settled_after: Duration,
    /// How often things happened.
    pub counts: Counts,
    /// Delivered cuts of friendships that were looked at, and restarts that were compared.
    pub looked_at: (u64, u64),
}

/// Runs a case to its end.
///
/// # Errors
/// The first invariant that does not hold.
pub fn run(case: &Case, options: &Options) -> Result<Outcome, Violation> {
    run_recorded(case, options, &mut Recorder::default(), &mut |_| {}).0
}

/// Events between two calls for a progress line.
const TELL_EVERY: u64 = 1 << 16;

/// Like [`run`]; tells the recorder what happens on the way and how far it is every 65,536 events, and gives the trace as
/// well, whatever the run came to.
pub fn run_recorded(
    case: &Case,
    options: &Options,
    recorder: &mut Recorder,
    tell: &mut dyn FnMut(&Progress),
) -> (Result<Outcome, Violation>, Trace) {
    // What this thread reached before is not this run's.
    drop(marks::take());
    let armed = match case.rare {
        Rare::Off => None,
        Rare::Drawn => Some(marks::arm(case.seed, Sites::Drawn)),
    };
    let ended = match Run::new(case, options) {
        Ok(mut run) => {
            let result = run.carry_on_recorded(recorder, tell);
            (result, run.world.trace)
        }
        Err(violation) => (Err(violation), Trace::new(options.keep)),
    };
    drop(armed);
    ended
}

/// One run of a case.
pub struct Run<'c> {
    case: &'c Case,
    options: Options,
    world: World,
    next_operation: usize,
    next_fault: usize,
    told_at: u64,
}

impl<'c> Run<'c> {
    /// The world of a case, set up or about to be; nothing has happened in it.
    ///
    /// # Errors
    /// The first invariant that does not hold.
    pub fn new(case: &'c Case, options: &Options) -> Result<Self, Violation> {
        let world = build::build(case, options)?;
        let mut run = Run { case, options: *options, world, next_operation: 0, next_fault: 0, told_at: 0 };
        run.schedule_operation();
        run.schedule_fault();
        run.schedule_look();
        Ok(run)
    }

    /// How often things happened so far.
    pub fn counts(&self) -> Counts {
        let world = &self.world;
        let most = Most {
            letters: world.post.letters.most() as u64,
            deals: world.people.most() as u64,
            events: world.counts.most.events,
        };
        Counts { events: world.trace.events(), questions: world.index.asked, most, ..world.counts }
    }

    /// What is known at the end.
    fn record_end(&self, recorder: &mut Recorder) {
        let counts = self.counts();
        let named = [
            ("turns of machines", counts.turns),
            ("writes flushed", counts.flushes),
            ("crashes", counts.crashes),
            ("letters", counts.letters),
            ("letters lost", counts.lost),
            ("questions", counts.questions),
            ("parts that came back", counts.parts_failed),
            ("faults passed over", counts.passed_over),
        ];
        named.into_iter().for_each(|(name, count)| recorder.count(name, count));
        recorder.marks(marks::take());
    }

    /// Like [`Run::carry_on_to_the_end`]; tells the recorder what happens on the way.
    ///
    /// # Errors
    /// The first invariant that does not hold.
    pub fn carry_on_recorded(
        &mut self,
        recorder: &mut Recorder,
        tell: &mut dyn FnMut(&Progress),
    ) -> Result<Outcome, Violation> {
        std::mem::swap(&mut self.world.recorder, recorder);
        let result = self.carry_on_to_the_end(tell);
        std::mem::swap(&mut self.world.recorder, recorder);
        self.record_end(recorder);
        result
    }

    /// Runs to the end of the case, and lets everything come to rest.
    ///
    /// # Errors
    /// The first invariant that does not hold.
    pub fn carry_on_to_the_end(&mut self, tell: &mut dyn FnMut(&Progress)) -> Result<Outcome, Violation> {
        self.run_until(self.case.heal_at, tell)?;
        self.heal()?;
        let healed = self.world.now;
        let settled_after = self.settle(healed, tell)?;
        // What is left is what nobody waits for: acknowledgements, patience with what has ended.
        self.run_until(Instant::from_micros(u64::MAX), tell)?;
        self.world.check_at_rest()?;
        Ok(Outcome {
            hash: self.world.trace.hash(),
            simulated: self.world.now.since(Instant::ZERO),
            settled_after,
            counts: self.counts(),
            looked_at: (self.world.watcher.delivered, self.world.watcher.compared),
        })
    }

    /// Lets everything until `until` happen.
    ///
    /// # Errors
    /// The first invariant that does not hold.
    pub fn run_until(&mut self, until: Instant, tell: &mut dyn FnMut(&Progress)) -> Result<(), Violation> {
        while let Some(event) = self.world.step(until)? {
            match event {
                Event::Operation => self.operate()?,
                Event::Fault => self.strike(),
                Event::Look => self.look()?,
                Event::Letter(_)
                | Event::Durable { .. }
                | Event::Wake { .. }
                | Event::Up { .. }
                | Event::Down { .. }
                | Event::Dial { .. }
                | Event::Boot { .. }
                | Event::Report(_)
                | Event::Ask(_)
                | Event::Answer(_)
                | Event::Word(_) => {}
            }
            let world = &mut self.world;
            world.counts.most.events = world.counts.most.events.max(world.queue.len() as u64);
            if world.trace.events() >= self.told_at + TELL_EVERY {
                self.told_at = world.trace.events();
                tell(&self.progress());
            }
        }
        if until != Instant::from_micros(u64::MAX) {
            self.world.now = self.world.now.max(until);
        }
        Ok(())
    }

    fn progress(&self) -> Progress {
        let record = self.world.recorder.record();
        let payments = &record.payments;
        Progress {
            now: self.world.now,
            events: self.world.trace.events(),
            payments: (payments.ordered, payments.paid, payments.all_failed()),
            faults: record.all_faults(),
        }
    }

    fn schedule_operation(&mut self) {
        if let Some(timed) = self.case.operations.get(self.next_operation) {
            self.world.queue.push(timed.at.max(self.world.now), u32::MAX, Event::Operation);
        }
    }

    fn schedule_fault(&mut self) {
        if let Some(timed) = self.case.faults.get(self.next_fault) {
            self.world.queue.push(timed.at.max(self.world.now), u32::MAX, Event::Fault);
        }
    }

    /// Looks end with the safety phase: at rest there is a last one.
    fn schedule_look(&mut self) {
        let wanted = self.options.look_every.filter(|_| self.options.watch == Watch::Always);
        if let Some(at) = wanted.map(|every| self.world.now + every).filter(|at| *at < self.case.heal_at) {
            self.world.queue.push(at, u32::MAX, Event::Look);
        }
    }

    fn look(&mut self) -> Result<(), Violation> {
        self.world.check_all()?;
        let sample = self.world.sample();
        self.world.recorder.sample(self.world.now, sample);
        self.schedule_look();
        Ok(())
    }

    fn strike(&mut self) {
        if let Some(timed) = self.case.faults.get(self.next_fault) {
            self.world.inject(&timed.what);
            self.next_fault += 1;
            self.schedule_fault();
        }
    }

    fn operate(&mut self) -> Result<(), Violation> {
        let Some(timed) = self.case.operations.get(self.next_operation) else { return Ok(()) };
        self.next_operation += 1;
        self.schedule_operation();
        match &timed.what {
            Operation::Pay { deal, buyer, seller, currency, amount, max_fee, commit, tries, patience } => {
                let takes_part = |node: u32| self.case.is_present(crate::case::Role::Node(node));
                if takes_part(*buyer) && takes_part(*seller) && (*currency as usize) < self.case.currencies.len() {
                    self.world.order(Order {
                        deal: *deal,
                        buyer: *buyer,
                        seller: *seller,
                        currency: *currency,
                        amount: *amount,
                        max_fee: *max_fee,
                        commit: *commit,
                        tries: *tries,
                        patience: *patience,
                    });
                }
                Ok(())
            }
            // People pay twice at full fidelity only.
            Operation::PayAgain { .. } => Ok(()),
            Operation::Configure { node, setting } => match self.setting(setting) {
                Some(command) => self.tell(*node, command),
                None => Ok(()),
            },
        }
    }

    fn tell(&mut self, node: u32, command: Command) -> Result<(), Violation> {
        if !self.case.is_present(crate::case::Role::Node(node)) {
            return Ok(());
        }
        let (app, id) = (self.world.people.app, CommandId([0; CommandId::SIZE]));
        self.world.feed(node, offset_funder_sm::funder::FunderInput::Command { app, id, command })
    }

    /// What a person tells the node to change a setting; `None` for what does not happen here.
    fn setting(&self, setting: &Setting) -> Option<Command> {
        let currency = |place: &u32| self.case.currencies.get(*place as usize).map(|name| name.0);
        let name = |friend: &u32| build::name_of(*friend);
        Some(match setting {
            Setting::Grant { friend, currency: place, max_debt } => {
                Command::SetMaxDebt { name: name(friend), currency: currency(place)?, max_debt: *max_debt }
            }
            Setting::Charge { friend, currency: place, rate } => {
                Command::SetRate { name: name(friend), currency: currency(place)?, rate: (*rate).into() }
            }
            Setting::Open { friend, currency: place } => {
                Command::OpenCurrency { name: name(friend), currency: currency(place)? }
            }
            Setting::Close { friend, currency: place } => {
                Command::CloseCurrency { name: name(friend), currency: currency(place)? }
            }
            Setting::Enable { friend } => Command::EnableFriend { name: name(friend) },
            Setting::Disable { friend } => Command::DisableFriend { name: name(friend) },
            Setting::Remove { .. } | Setting::Relays { .. } | Setting::Indexes { .. } => return None,
        })
    }

    fn heal(&mut self) -> Result<(), Violation> {
        self.world.heal();
        let disabled: Vec<(u32, u32)> = self
            .case
            .operations
            .iter()
            .filter_map(|timed| match &timed.what {
                Operation::Configure { node, setting: Setting::Disable { friend } } => Some((*node, *friend)),
                Operation::Configure { .. } | Operation::Pay { .. } | Operation::PayAgain { .. } => None,
            })
            .collect();
        // Nodes that were off start first.
        self.run_until(self.world.now, &mut |_| {})?;
        for (node, friend) in disabled {
            self.tell(node, Command::EnableFriend { name: build::name_of(friend) })?;
        }
        Ok(())
    }

    /// Runs until no deal is open.
    fn settle(&mut self, healed: Instant, tell: &mut dyn FnMut(&Progress)) -> Result<Duration, Violation> {
        loop {
            let Some((buyer, deal)) = self.world.people.first_open() else {
                return Ok(self.world.now.since(healed));
            };
            if self.world.now.since(healed) > self.options.settle {
                return Err(self.world.violation(Invariant::Resolution, Some(buyer), deal));
            }
            self.run_until(self.world.now + Duration::from_secs(1), tell)?;
        }
    }
}
