//! A case at full fidelity: complete machines, streams of bytes, real encryption, disks, people with apps.
//!
//! | phase | what happens |
//! |---|---|
//! | safety | cards are set up, deals are made, settings change, faults happen; every checker looks on |
//! | liveness | the honest core is healed, every other fault is made permanent; within a bounded time everything ends |
//! | probes | each live friendship carries a payment; payments below the maximum flow between core nodes succeed |
//! | rest | the books are compared; servers, reports and records too; then almost nothing happens any more |

mod books;
mod build;
mod cheaters;
mod flow;
mod healing;
pub(crate) mod latency;
mod laws;
mod record;
mod settings;
#[cfg(test)]
mod tests;

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use record::Looks;

use offset_protocol::bytes::Hash;
use offset_protocol::machine::{Duration, Instant};

use crate::case::{Case, Operation, Rare, Role};
use crate::cheats::{Evidence, SharedEvidence};
use crate::check::friends::Friendships;
use crate::check::ledger::User;
use crate::check::restore::Restores;
use crate::check::{Invariant, Violation};
use crate::faults::{Family, Fault, Injector};
use crate::guests::SharedGuest;
use crate::host::HostId;
use crate::marks::{self, Armed, Sites};
use crate::people::{DealId, Note, SharedPerson, Stage};
use crate::result::Recorder;
use crate::talk::Talk;
use crate::trace::{Keep, Trace};
use crate::world::{Counts, StepKind, World};

/// How a case is run; changes nothing of what happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// What the trace keeps.
    pub keep: Keep,
    /// How often a node's records are compared with it: once in so many turns that wrote; 0: never.
    pub compare_every: u64,
    /// Whether the checkers look on.
    pub watch: Watch,
}

/// Whether the checkers look on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// After every event, on what it touched.
    Always,
    /// At the end only: to measure what the looking costs.
    AtTheEnd,
}

impl Default for Options {
    fn default() -> Self {
        Options { keep: Keep::Hash, compare_every: 16, watch: Watch::Always }
    }
}

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Of everything that happened.
    pub hash: Hash,
    /// How long it took in the world.
    pub simulated: Duration,
    /// How often things happened.
    pub counts: Counts,
    /// Faults, by family.
    pub faults: BTreeMap<Family, usize>,
    /// Deals that were paid, and that were not.
    pub deals: (usize, usize),
    /// Delivered cuts that were looked at: of friendships, of the whole network.
    pub cuts: (u64, u64),
    /// Restarts that were compared.
    pub restores: u64,
    /// From healing until nothing was open.
    pub settled_after: Duration,
    /// Probes that were paid.
    pub probes: usize,
    /// What cheaters did, and what was noticed of it.
    pub cheats: Evidence,
}

/// Runs a case to its end.
///
/// # Errors
/// The first invariant that does not hold.
pub fn run(case: &Case, options: &Options) -> Result<Outcome, Violation> {
    run_recorded(case, options, &mut Recorder::default()).0
}

/// Like [`run`]; tells the recorder what happens on the way, and gives the trace as well, whatever the run came to.
pub fn run_recorded(case: &Case, options: &Options, recorder: &mut Recorder) -> (Result<Outcome, Violation>, Trace) {
    let _armed = arm(case);
    let mut run = Run::new(case, options);
    std::mem::swap(&mut run.recorder, recorder);
    let result = run.carry_on_to_the_end();
    std::mem::swap(&mut run.recorder, recorder);
    run.record_end(recorder);
    (result, run.into_trace())
}

/// Like [`run_recorded`], without a recorder; a panic is a result as well, with what it said.
pub fn run_caught(case: &Case, options: &Options) -> (Result<Result<Outcome, Violation>, String>, Trace) {
    let _armed = arm(case);
    let mut run = match catch_unwind(AssertUnwindSafe(|| Run::new(case, options))) {
        Ok(run) => run,
        Err(panic) => return (Err(words_of(&*panic)), Trace::new(options.keep)),
    };
    // A world that panicked is asked for its trace and nothing else.
    let result = catch_unwind(AssertUnwindSafe(|| run.carry_on_to_the_end()));
    (result.map_err(|panic| words_of(&*panic)), run.into_trace())
}

fn arm(case: &Case) -> Option<Armed> {
    // What this thread reached before is not this run's.
    drop(marks::take());
    match case.rare {
        Rare::Off => None,
        Rare::Drawn => Some(marks::arm(case.seed, Sites::Drawn)),
    }
}

pub(crate) fn words_of(panic: &dyn Any) -> String {
    let words = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    words.unwrap_or("a panic without words").to_owned()
}

/// One run of a case.
pub(crate) struct Run<'c> {
    case: &'c Case,
    options: Options,
    world: World,
    /// By node.
    people: Vec<SharedPerson>,
    guests: Vec<SharedGuest>,
    injector: Injector,
    friendships: Friendships,
    restores: Restores,
    /// The deals that were made, with buyer and seller.
    deals: BTreeMap<DealId, (u32, u32)>,
    ordered_at: BTreeMap<DealId, Instant>,
    /// Honest nodes that are neither taken out nor gone for good.
    core: BTreeSet<u32>,
    recorder: Recorder,
    looks: Looks,
    evidence: SharedEvidence,
    noticed: cheaters::Noticed,
    has_cheaters: bool,
    /// The marks of a run that came to its end.
    reached: Vec<(&'static str, u64)>,
    /// What nodes say, if the trace is kept.
    talk: Option<Talk>,
}

impl<'c> Run<'c> {
    fn new(case: &'c Case, options: &Options) -> Self {
        let evidence = SharedEvidence::default();
        let (mut world, people, guests) = build::build(case, options.keep, &evidence);
        let honest = |node: &u32| case.is_present(Role::Node(*node)) && case.is_honest(Role::Node(*node));
        let core: BTreeSet<u32> = (0..case.nodes.len() as u32).filter(honest).collect();
        let nodes: Vec<HostId> = core.iter().map(|&node| case.host(Role::Node(node))).collect();
        let mut friendships = Friendships::default();
        for (&node, &host) in core.iter().zip(&nodes) {
            let accepts = case.nodes.get(node as usize).and_then(|plan| plan.accepts_reset_after);
            let user = if accepts.is_some() { User::MayAccept } else { User::NeverAccepts };
            friendships.watch(&world, host, user);
        }
        let talk = match options.keep {
            Keep::Hash => None,
            Keep::Lines => Some(Talk::new(&world, &nodes)),
        };
        world.look_on(options.watch == Watch::Always);
        let mut run = Run {
            case,
            options: *options,
            world,
            people,
            guests,
            injector: Injector::default(),
            friendships,
            restores: Restores::new(options.compare_every),
            deals: BTreeMap::new(),
            ordered_at: BTreeMap::new(),
            core,
            recorder: Recorder::default(),
            looks: Looks::new(case.hosts()),
            evidence,
            noticed: cheaters::Noticed::new(case),
            has_cheaters: case.has_cheaters(),
            reached: Vec::new(),
            talk,
        };
        run.schedule();
        run
    }

    /// Operations first, then faults, as steps of the world's plan.
    fn schedule(&mut self) {
        let operations = self.case.operations.iter().map(|timed| timed.at);
        let faults = self.case.faults.iter().map(|timed| timed.at);
        for (step, at) in operations.chain(faults).enumerate() {
            self.world.plan_at(at, step as u32);
        }
    }

    fn into_trace(self) -> Trace {
        let mut trace = self.world.into_trace();
        trace.keep_said(self.talk.map(Talk::into_said).unwrap_or_default());
        trace
    }

    fn carry_on_to_the_end(&mut self) -> Result<Outcome, Violation> {
        self.run_until(self.case.heal_at)?;
        self.heal();
        let settled_after = self.settle()?;
        let probes = self.probe()?;
        self.settle()?;
        self.rest()?;
        self.await_silence()?;
        self.await_what_holds_at_rest()?;
        self.check_marks()?;
        self.record_held();
        let paid = self.deals.keys().filter(|deal| self.is_paid(**deal)).count();
        Ok(Outcome {
            hash: self.world.trace_hash(),
            simulated: self.world.now().since(Instant::ZERO),
            counts: self.world.counts(),
            faults: self.injector.counts().clone(),
            deals: (paid, self.deals.len() - paid),
            cuts: self.friendships.looked_at(),
            restores: self.restores.compared(),
            settled_after,
            probes,
            cheats: self.evidence.get(),
        })
    }

    /// Lets everything until `until` happen, under the eyes of the checkers.
    fn run_until(&mut self, until: Instant) -> Result<(), Violation> {
        loop {
            let step = self.world.step(until).map_err(|broken| Self::broken(&broken))?;
            let Some(step) = step else { break };
            self.check_accusations()?;
            self.notice_cheaters(&step);
            if self.looks.are_due(step.at) {
                let mut sample = self.sample();
                self.record_hits(&mut sample);
                self.recorder.sample(step.at, sample);
            }
            if let (StepKind::Turn { .. }, Some(talk)) = (step.kind, &mut self.talk) {
                talk.look(&self.world, step.host);
            }
            if let (StepKind::Turn { .. }, Some(Role::Person(node))) = (step.kind, self.case.role(step.host)) {
                self.record_deals(node);
                continue;
            }
            match step.kind {
                StepKind::Plan(number) => self.on_plan(number as usize),
                StepKind::Turn { wrote: true } if self.options.watch == Watch::Always => {
                    self.friendships.check(&self.world, step.host)?;
                    if self.options.compare_every > 0 {
                        self.restores.check(&self.world, step.host)?;
                    }
                }
                StepKind::Booted if self.options.watch == Watch::Always => {
                    self.friendships.on_booted(&self.world, step.host)?;
                }
                StepKind::Flushed => self.friendships.on_flushed(&self.world, step.host),
                StepKind::Turn { .. } | StepKind::Network | StepKind::Booted | StepKind::Crashed | StepKind::Stale => {}
            }
        }
        self.world.wait_until(until);
        Ok(())
    }

    fn on_plan(&mut self, step: usize) {
        let case = self.case;
        if let Some(timed) = case.operations.get(step) {
            self.operate(&timed.what);
        } else if let Some(timed) = case.faults.get(step - case.operations.len()) {
            self.recorder.fault(self.world.now(), timed.what.family());
            self.injector.inject(&mut self.world, &timed.what);
            if let Fault::PutBack { host, .. } | Fault::Wipe { host, .. } = timed.what {
                self.on_forgetful(host);
            }
        }
    }

    /// A node forgot: its person sets it up again, and nobody trusts what becomes of deals any more.
    fn on_forgetful(&mut self, host: HostId) {
        if !self.injector.forgetful().contains(&host) {
            return;
        }
        self.friendships.excuse(host);
        for person in &self.people {
            person.0.borrow_mut().doubt();
        }
        if let Some(Role::Node(node)) = self.case.role(host) {
            self.world.tell(self.case.host(Role::Person(node)), Note::NodeForgot);
        }
    }

    fn operate(&mut self, operation: &Operation) {
        match operation {
            Operation::Pay { deal, buyer, seller, .. } => {
                let takes_part = |node: u32| {
                    let is_cheater = !self.case.is_honest(Role::Node(node));
                    self.core.contains(&node) || is_cheater && self.case.is_present(Role::Node(node))
                };
                if !(takes_part(*buyer) && takes_part(*seller)) {
                    return;
                }
                self.note_order(DealId(*deal), (*buyer, *seller));
                self.record_order((*buyer, *seller));
                if let Some(note) = settings::order(self.case, operation) {
                    self.world.tell(self.case.host(Role::Person(*buyer)), note);
                }
            }
            Operation::PayAgain { buyer, deal } => {
                if self.core.contains(buyer) {
                    self.world.tell(self.case.host(Role::Person(*buyer)), Note::PayAgain { deal: DealId(*deal) });
                }
            }
            Operation::Configure { node, setting } => {
                if let Some(note) = settings::change(self.case, &self.world, *node, setting) {
                    self.world.tell(self.case.host(Role::Person(*node)), note);
                }
            }
        }
    }

    fn note_order(&mut self, deal: DealId, ends: (u32, u32)) {
        self.deals.insert(deal, ends);
        self.ordered_at.insert(deal, self.world.now());
    }

    fn core_hosts(&self) -> Vec<HostId> {
        self.core.iter().map(|&node| self.case.host(Role::Node(node))).collect()
    }

    fn stage(&self, deal: DealId) -> Option<Stage> {
        let (buyer, _) = self.deals.get(&deal)?;
        let person = self.people.get(*buyer as usize)?.0.borrow();
        person.deals().purchases().find(|(id, _)| *id == deal).map(|(_, purchase)| purchase.stage.clone())
    }

    fn is_paid(&self, deal: DealId) -> bool {
        matches!(self.stage(deal), Some(Stage::Paid { .. }))
    }

    fn violation(&self, invariant: Invariant, host: Option<HostId>, what: String) -> Violation {
        Violation { invariant, at: self.world.now(), host, what }
    }
}
