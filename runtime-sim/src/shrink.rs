//! The smallest case that fails in the same way.
//!
//! A case that fails is made smaller again and again: something is taken out or made plainer, the case is run, and if it
//! still fails in the same way, what is left goes on. *In the same way*: the same invariant, noticed at the same sort of
//! host, and, where an invariant has many faces (what is stuck, what broke a law, what a panic said), the same words.
//!
//! | pass | what it tries |
//! |---|---|
//! | cut the tail | the world is healed right after the failure; nothing that comes later is in the case |
//! | drop families | whole families of faults, all operations of a kind |
//! | drop tricks | strangers, all tricks of a cheater, each trick |
//! | drop steps | operations and faults, half of them, a quarter, … one by one; what begins something goes with what ends it |
//! | drop hosts | nodes with all that is theirs; nodes whose friends and payments a neighbour takes over; relays, index servers |
//! | drop friendships | |
//! | plain network | one latency, no limits, whole segments, cheap signatures and keys, clocks that are right, nothing rare |
//! | drop currencies | |
//! | plain faults | whole cuts, short outages, traps that spring at once |
//! | small amounts | one try, small payments, no fees, the same limits for all |
//! | short times | less waiting between what happens |
//!
//! Passes are repeated until none helps or the budget is spent. No case is run twice. A runner that panics has failed, too.
//!
//! 1. The result fails as the finding says, or is the case that was given.
//! 2. The same case, finding and runner give the same result, if the budget does not end.
//! 3. Every case that is run is valid ([`Case::check`]), keeps a relay and an index server for every node, and ends what a
//!    person shut if the case before did: so an honest world has no new reason to fail.
//!
//! Not checked: that an honest world passes the result; only who knows the bug can tell.

mod hosts;
mod plain;
mod size;
mod steps;
mod times;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use offset_protocol::machine::{Duration, Instant};

pub use size::Size;

use crate::case::Case;
use crate::result::Finding;

/// How much may be tried.
pub struct Budget<'a> {
    /// So many cases are run at most.
    pub attempts: u64,
    /// Asked before each: whether the time is up. The simulator itself has no clock.
    pub is_over: &'a mut dyn FnMut() -> bool,
}

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is tried now.
    pub pass: &'static str,
    /// What is left.
    pub size: Size,
    /// Cases that were run.
    pub attempts: u64,
}

/// Why it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// No pass helps any more.
    Smallest,
    /// The budget was spent.
    Budget,
}

/// What is left of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shrunk {
    /// The case.
    pub case: Case,
    /// How it fails.
    pub finding: Finding,
    /// How large it was.
    pub from: Size,
    /// How large it is.
    pub to: Size,
    /// Cases that were run.
    pub attempts: u64,
    /// Why it ended.
    pub ended: Ended,
}

/// After the failure the world is healed this much later.
const AFTER_FAILURE: Duration = Duration::from_millis(1);

/// Makes a case that fails smaller. `finding` is what running it comes to.
pub fn shrink(
    case: &Case,
    finding: &Finding,
    runner: &mut dyn FnMut(&Case) -> Option<Finding>,
    budget: Budget<'_>,
    progress: &mut dyn FnMut(&Progress),
) -> Shrunk {
    let from = Size::of(case);
    let mut search = Search {
        best: case.clone(),
        finding: finding.clone(),
        wanted: Likeness::of(finding),
        seen: BTreeSet::from([fingerprint(case)]),
        runner,
        budget,
        progress,
        attempts: 0,
        pass: "",
        is_over: false,
    };
    search.run();
    let (to, ended) = (Size::of(&search.best), if search.is_over { Ended::Budget } else { Ended::Smallest });
    Shrunk { case: search.best, finding: search.finding, from, to, attempts: search.attempts, ended }
}

/// What two findings of one bug have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Likeness {
    invariant: String,
    sort: String,
    words: Vec<String>,
}

/// Invariants with many faces: their words are looked at.
const MANY_FACED: [&str; 4] = ["panic", "laws", "resolution", "people"];
/// How many words are looked at. Chosen freely: enough to tell what is stuck, too few to name a host or a number.
const WORDS: usize = 3;

impl Likeness {
    fn of(finding: &Finding) -> Self {
        let sort = finding.role.as_deref().unwrap_or_default();
        let is_word = |word: &&str| !word.is_empty() && word.chars().all(char::is_alphabetic);
        let words = finding.what.split(|c: char| !c.is_alphanumeric()).filter(is_word).take(WORDS);
        let looked_at = MANY_FACED.contains(&finding.invariant.as_str());
        Likeness {
            invariant: finding.invariant.clone(),
            sort: sort.trim_end_matches(|c: char| c.is_ascii_digit() || c == ' ').to_owned(),
            words: words.filter(|_| looked_at).map(str::to_owned).collect(),
        }
    }
}

/// Tells cases apart.
fn fingerprint(case: &Case) -> [u8; 32] {
    *blake3::hash(&serde_json::to_vec(case).unwrap_or_default()).as_bytes()
}

/// One search for the smallest case.
struct Search<'r, 'b, 'p> {
    best: Case,
    finding: Finding,
    wanted: Likeness,
    seen: BTreeSet<[u8; 32]>,
    runner: &'r mut dyn FnMut(&Case) -> Option<Finding>,
    budget: Budget<'b>,
    progress: &'p mut dyn FnMut(&Progress),
    attempts: u64,
    pass: &'static str,
    is_over: bool,
}

/// The passes, in the order in which they are tried: first what makes cases quick to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pass {
    CutTail,
    DropFamilies,
    PlainNetwork,
    DropTricks,
    DropSteps,
    DropHosts,
    DropFriendships,
    DropCurrencies,
    PlainFaults,
    SmallAmounts,
    ShortTimes,
}

impl Pass {
    const ALL: [Pass; 11] = [
        Pass::CutTail,
        Pass::DropFamilies,
        Pass::PlainNetwork,
        Pass::DropTricks,
        Pass::DropSteps,
        Pass::DropHosts,
        Pass::DropFriendships,
        Pass::DropCurrencies,
        Pass::PlainFaults,
        Pass::SmallAmounts,
        Pass::ShortTimes,
    ];

    const fn name(self) -> &'static str {
        match self {
            Pass::CutTail => "cut the tail",
            Pass::DropFamilies => "drop families",
            Pass::PlainNetwork => "plain network",
            Pass::DropTricks => "drop tricks",
            Pass::DropSteps => "drop steps",
            Pass::DropHosts => "drop hosts",
            Pass::DropFriendships => "drop friendships",
            Pass::DropCurrencies => "drop currencies",
            Pass::PlainFaults => "plain faults",
            Pass::SmallAmounts => "small amounts",
            Pass::ShortTimes => "short times",
        }
    }
}

impl Search<'_, '_, '_> {
    fn run(&mut self) {
        loop {
            let before = self.best.clone();
            for pass in Pass::ALL {
                self.pass = pass.name();
                self.report();
                self.make(pass);
                if self.is_over {
                    return;
                }
            }
            if self.best == before {
                return;
            }
        }
    }

    fn make(&mut self, pass: Pass) {
        match pass {
            Pass::CutTail => self.cut_tail(),
            Pass::DropFamilies => self.drop_families(),
            Pass::PlainNetwork => self.plain_network(),
            Pass::DropTricks => self.drop_tricks(),
            Pass::DropSteps => self.drop_steps(),
            Pass::DropHosts => self.drop_hosts(),
            Pass::DropFriendships => self.drop_friendships(),
            Pass::DropCurrencies => self.drop_currencies(),
            Pass::PlainFaults => self.plain_faults(),
            Pass::SmallAmounts => self.small_amounts(),
            Pass::ShortTimes => self.short_times(),
        }
    }

    fn report(&mut self) {
        let progress = Progress { pass: self.pass, size: Size::of(&self.best), attempts: self.attempts };
        (self.progress)(&progress);
    }

    /// Runs a case; goes on with it if it fails in the same way.
    fn attempt(&mut self, candidate: Case) -> bool {
        self.is_over |= self.attempts >= self.budget.attempts || (self.budget.is_over)();
        if self.is_over || candidate.check().is_err() || !self.seen.insert(fingerprint(&candidate)) {
            return false;
        }
        self.attempts += 1;
        let runner = &mut self.runner;
        let result = catch_unwind(AssertUnwindSafe(|| runner(&candidate)));
        let finding = result.unwrap_or_else(|panic| Some(crate::replay::of_panic(&*panic)));
        let Some(finding) = finding.filter(|finding| Likeness::of(finding) == self.wanted) else { return false };
        (self.best, self.finding) = (candidate, finding);
        self.report();
        true
    }

    /// Tries a change of what is left.
    fn change(&mut self, change: impl FnOnce(&mut Case)) -> bool {
        let mut candidate = self.best.clone();
        change(&mut candidate);
        candidate != self.best && self.attempt(candidate)
    }

    /// The world is healed right after the failure; nothing that comes later is in the case.
    fn cut_tail(&mut self) {
        let failed_at = self.finding.at;
        let after = failed_at + AFTER_FAILURE;
        let cut = |case: &mut Case, from: Instant| {
            case.operations.retain(|timed| timed.at <= from);
            case.faults.retain(|timed| timed.at <= from);
        };
        if failed_at == Instant::ZERO {
            return;
        }
        if after < self.best.heal_at {
            // What a person shut has to be opened again, if it was.
            let _ = self.change(|case| {
                cut(case, failed_at);
                case.heal_at = after;
            }) || self.change(|case| case.heal_at = after);
        } else {
            self.change(|case| cut(case, failed_at));
        }
    }
}

#[cfg(test)]
mod tests;
