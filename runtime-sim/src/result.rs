//! What a run came to: facts, which are the same every time, and what the machine under it paid for them.
//!
//! | type | what it holds |
//! |---|---|
//! | [`RunResult`] | [`Facts`] and [`Cost`]; two results are equal when their facts are |
//! | [`Verdict`] | how the run ended, with the program's exit code for it |
//! | [`Recorder`] | what a runner tells while it runs; ends as a [`Record`] |
//! | [`Record`] | payments, distributions, series over time, faults, marks, counts; records of many runs add up |
//!
//! 1. Stored numbers are whole: a result reads back as it was written, on every machine.
//! 2. A record's size is bounded whatever the run did: histograms and series grow coarser instead of longer, and what has
//!    a name of its own is limited in number.
//!
//! Not checked: that a runner tells everything.

mod histogram;
mod live;
mod recorder;
mod series;

use std::fmt;

use offset_protocol::bytes::Hash;
use offset_protocol::machine::{Duration, Instant};
use serde::{Deserialize, Serialize};

pub use histogram::Histogram;
pub use live::{Live, Look};
pub use recorder::{End, Ended, Hit, Payments, Record, Recorder};
pub use series::{Gauge, MAX_SLICES, Sample, Series, Slice};

use crate::case::{Case, Fidelity};
use crate::check::{Invariant, Violation};

/// The version of the program, and the commit that it was built from where the builder said so.
pub fn version() -> String {
    let package = env!("CARGO_PKG_VERSION");
    option_env!("OFFSET_COMMIT").map_or_else(|| package.to_owned(), |commit| format!("{package}+{commit}"))
}

/// One run.
#[derive(Clone, Debug, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunResult {
    /// The same in every process, build profile and number of jobs.
    pub facts: Facts,
    /// What it cost here.
    pub cost: Cost,
}

impl PartialEq for RunResult {
    /// What a run costs is no part of what it came to.
    fn eq(&self, other: &Self) -> bool {
        self.facts == other.facts
    }
}

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// The scenario that its case was drawn from.
    pub scenario: String,
    /// The seed.
    pub seed: u64,
    /// See [`version`].
    pub version: String,
    /// How much of the world was simulated.
    pub fidelity: Fidelity,
    /// How it ended.
    pub verdict: Verdict,
    /// Of everything that happened; `None` if the runner gave none (it panicked).
    pub trace_hash: Option<TraceHash>,
    /// Events of the queue.
    pub events: u64,
    /// How long it took in the world.
    pub simulated: Duration,
    /// From healing until nothing was open; `None` if it did not come to that.
    pub settled_after: Option<Duration>,
    /// What was told on the way.
    pub record: Record,
}

impl Facts {
    /// Facts of a run of `case` about which nothing is known yet but how it ended.
    pub fn new(case: &Case, verdict: Verdict) -> Self {
        Facts {
            scenario: case.scenario.clone(),
            seed: case.seed,
            version: version(),
            fidelity: case.fidelity,
            verdict,
            trace_hash: None,
            events: 0,
            simulated: Duration::ZERO,
            settled_after: None,
            record: Record::default(),
        }
    }
}

/// What a run cost on the machine on which it ran.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cost {
    /// Wall time, in microseconds.
    pub wall_us: u64,
    /// The most memory that the process ever held, in bytes; 0 where the system does not tell.
    pub peak_memory_bytes: u64,
}

/// The hash of a trace, in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TraceHash(pub String);

impl From<Hash> for TraceHash {
    fn from(hash: Hash) -> Self {
        TraceHash(blake3::Hash::from_bytes(hash.0).to_hex().to_string())
    }
}

impl fmt::Display for TraceHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Verdict {
    /// As it should.
    Pass,
    /// All invariants held, but the scenario expected more.
    Missed {
        /// Each expectation that was not met, as a sentence.
        expectations: Vec<String>,
    },
    /// An invariant that must always hold did not.
    Violation(Finding),
    /// After healing something did not come to its end.
    Liveness(Finding),
    /// A program panicked.
    Panic {
        /// What it said.
        message: String,
    },
    /// The same case in another process took another course.
    NotDeterministic {
        /// The first event that differed.
        difference: String,
    },
    /// The run took more than it may.
    ResourceLimit {
        /// Of what.
        what: String,
    },
    /// What was asked for was not done in the time that was given.
    Budget {
        /// What is missing.
        what: String,
    },
}

/// What a checker found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Finding {
    /// The invariant's name.
    pub invariant: String,
    /// When it was noticed.
    pub at: Instant,
    /// The host's number, if it was one host's.
    pub host: Option<u32>,
    /// What that host is, as text.
    pub role: Option<String>,
    /// How it shows.
    pub what: String,
}

impl Verdict {
    /// The verdict that a violation in a run of `case` comes to.
    pub fn of_violation(case: &Case, violation: &Violation) -> Self {
        let role = violation.host.and_then(|host| case.role(host)).map(|role| role.to_string());
        Verdict::of_finding(Finding {
            invariant: format!("{:?}", violation.invariant).to_lowercase(),
            at: violation.at,
            host: violation.host.map(|host| host.0),
            role,
            what: violation.what.clone(),
        })
    }

    /// The verdict that a finding comes to.
    pub fn of_finding(finding: Finding) -> Self {
        let stuck = format!("{:?}", Invariant::Resolution).to_lowercase();
        match finding.invariant.as_str() {
            crate::replay::PANIC => Verdict::Panic { message: finding.what },
            invariant if invariant == stuck => Verdict::Liveness(finding),
            _ => Verdict::Violation(finding),
        }
    }

    /// The exit code of a program that reports it.
    pub const fn exit_code(&self) -> u8 {
        match self {
            Verdict::Pass => 0,
            Verdict::Missed { .. } => 1,
            Verdict::Violation(_) => 3,
            Verdict::Liveness(_) => 4,
            Verdict::Panic { .. } => 5,
            Verdict::NotDeterministic { .. } => 6,
            Verdict::ResourceLimit { .. } => 7,
            Verdict::Budget { .. } => 8,
        }
    }

    /// One word or two, for tables.
    pub const fn word(&self) -> &'static str {
        match self {
            Verdict::Pass => "pass",
            Verdict::Missed { .. } => "expectation not met",
            Verdict::Violation(_) => "violation",
            Verdict::Liveness(_) => "stuck",
            Verdict::Panic { .. } => "panic",
            Verdict::NotDeterministic { .. } => "not deterministic",
            Verdict::ResourceLimit { .. } => "resource limit",
            Verdict::Budget { .. } => "budget not reached",
        }
    }

    /// What a failure is counted under: the invariant's name, or the word.
    pub fn invariant(&self) -> &str {
        match self {
            Verdict::Violation(finding) | Verdict::Liveness(finding) => &finding.invariant,
            Verdict::Pass
            | Verdict::Missed { .. }
            | Verdict::Panic { .. }
            | Verdict::NotDeterministic { .. }
            | Verdict::ResourceLimit { .. }
            | Verdict::Budget { .. } => self.word(),
        }
    }

    /// What an invariant found, if it was one.
    pub const fn finding(&self) -> Option<&Finding> {
        match self {
            Verdict::Violation(finding) | Verdict::Liveness(finding) => Some(finding),
            Verdict::Pass
            | Verdict::Missed { .. }
            | Verdict::Panic { .. }
            | Verdict::NotDeterministic { .. }
            | Verdict::ResourceLimit { .. }
            | Verdict::Budget { .. } => None,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Pass => f.write_str(self.word()),
            Verdict::Missed { expectations } => write!(f, "{}: {}", self.word(), expectations.join("; ")),
            Verdict::Violation(finding) | Verdict::Liveness(finding) => write!(f, "{}: {finding}", self.word()),
            Verdict::Panic { message: what }
            | Verdict::NotDeterministic { difference: what }
            | Verdict::ResourceLimit { what }
            | Verdict::Budget { what } => write!(f, "{}: {what}", self.word()),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Finding { invariant, at, host, role, what } = self;
        let us = at.as_micros();
        write!(f, "{invariant} at {}.{:06} s", us / 1_000_000, us % 1_000_000)?;
        match (role, host) {
            (Some(role), _) => write!(f, ", {role}")?,
            (None, Some(host)) => write!(f, ", host {host}")?,
            (None, None) => {}
        }
        write!(f, ": {what}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::HostId;
    use crate::line::{LineSpec, case};
    use offset_protocol::machine::Seed;

    #[test]
    fn what_a_run_costs_is_no_part_of_its_result_and_all_of_it_reads_back() {
        let case = case(3, &LineSpec::small(&Seed::from_number(3)));
        let mut recorder = Recorder::default();
        recorder.order(Instant::ZERO);
        let ended = Ended { latency: Duration::from_millis(3), attempts: 1, hops: 2, fee: 7, end: End::Paid };
        recorder.ended(Instant::from_micros(9), ended);
        let facts = Facts { record: recorder.finish(), ..Facts::new(&case, Verdict::Pass) };
        let result = RunResult { facts, cost: Cost { wall_us: 5, peak_memory_bytes: 6 } };
        let slower = RunResult { cost: Cost { wall_us: 50, peak_memory_bytes: 60 }, ..result.clone() };
        assert_eq!(result, slower);
        let text = serde_json::to_string(&result).unwrap();
        let read: RunResult = serde_json::from_str(&text).unwrap();
        assert_eq!((&read, read.cost), (&result, result.cost));
        assert!(!text.contains('.') || text.contains(&version()), "{text}");
    }

    #[test]
    fn what_is_stuck_is_liveness_and_everything_else_is_safety() {
        let case = case(3, &LineSpec::small(&Seed::from_number(3)));
        let violation = |invariant| Violation {
            invariant,
            at: Instant::from_micros(1_500_000),
            host: Some(HostId(0)),
            what: "so".to_owned(),
        };
        let stuck = Verdict::of_violation(&case, &violation(Invariant::Resolution));
        let broken = Verdict::of_violation(&case, &violation(Invariant::Frozen));
        assert_eq!((stuck.exit_code(), broken.exit_code()), (4, 3));
        assert_eq!(broken.to_string(), "violation: frozen at 1.500000 s, relay 0: so");
        assert_eq!(broken.invariant(), "frozen");
    }

    #[test]
    fn every_verdict_has_an_exit_code_of_its_own() {
        let text = String::new;
        let finding = || Finding { invariant: text(), at: Instant::ZERO, host: None, role: None, what: text() };
        let all = [
            Verdict::Pass,
            Verdict::Missed { expectations: Vec::new() },
            Verdict::Violation(finding()),
            Verdict::Liveness(finding()),
            Verdict::Panic { message: text() },
            Verdict::NotDeterministic { difference: text() },
            Verdict::ResourceLimit { what: text() },
            Verdict::Budget { what: text() },
        ];
        let codes: Vec<u8> = all.iter().map(Verdict::exit_code).collect();
        assert_eq!(codes, [0, 1, 3, 4, 5, 6, 7, 8], "2 is for wrong usage");
    }
}
