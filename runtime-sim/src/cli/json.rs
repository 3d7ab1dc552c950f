//! What commands print with `--json`, and read again. Names of fields are stable.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Failure;
use crate::result::{Facts, Record, RunResult};

/// No result is read that is larger. Chosen freely: a swarm of a million seeds.
const MAX_BYTES: u64 = 1 << 30;

/// What `stsim run --json` prints.
#[derive(Debug, Serialize)]
pub(super) struct RunReport<'r> {
    seed: u64,
    trace_hash: Option<&'r str>,
    events: u64,
    virtual_s: f64,
    wall_s: f64,
    payments: Payments,
    faults: u64,
    violations: Vec<Violated<'r>>,
    peak_memory_bytes: u64,
    exit_code: u8,
    /// Everything.
    result: &'r RunResult,
}

#[derive(Debug, Serialize)]
struct Payments {
    ok: u64,
    failed: u64,
    open: u64,
}

#[derive(Debug, Serialize)]
struct Violated<'r> {
    invariant: &'r str,
    time_us: u64,
    hosts: Vec<u32>,
    event: u64,
    what: &'r str,
}

impl<'r> RunReport<'r> {
    pub(super) fn new(result: &'r RunResult) -> Self {
        let RunResult { facts, cost } = result;
        let payments = &facts.record.payments;
        let violated = facts.verdict.finding().map(|finding| Violated {
            invariant: &finding.invariant,
            time_us: finding.at.as_micros(),
            hosts: finding.host.into_iter().collect(),
            event: facts.events,
            what: &finding.what,
        });
        RunReport {
            seed: facts.seed,
            trace_hash: facts.trace_hash.as_ref().map(|hash| hash.0.as_str()),
            events: facts.events,
            virtual_s: seconds(facts.simulated.as_micros()),
            wall_s: seconds(cost.wall_us),
            payments: Payments { ok: payments.paid, failed: payments.all_failed(), open: payments.open() },
            faults: facts.record.all_faults(),
            violations: violated.into_iter().collect(),
            peak_memory_bytes: cost.peak_memory_bytes,
            exit_code: facts.verdict.exit_code(),
            result,
        }
    }
}

/// What `stsim swarm --json` prints, and `merge` and `compare` read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SwarmReport {
    pub(super) scenario: String,
    /// The file that it stands in, if it is not one of the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) file: Option<String>,
    pub(super) version: String,
    /// What was set besides the scenario, as on the command line.
    pub(super) set: Vec<String>,
    /// How many.
    pub(super) seeds: u64,
    pub(super) failed: Vec<Failed>,
    /// How many runs were repeated in another process.
    pub(super) repeated: u64,
    /// Of all shards together.
    pub(super) wall_s: f64,
    pub(super) marks_unreached: Vec<String>,
    /// What was not done of what was asked for.
    pub(super) budget: Option<String>,
    pub(super) exit_code: u8,
    /// By seed.
    pub(super) runs: Vec<RunLine>,
    /// All runs together.
    pub(super) record: Record,
}

/// A run that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Failed {
    pub(super) seed: u64,
    pub(super) invariant: String,
    /// The file in which its case was saved.
    pub(super) case: Option<String>,
    pub(super) exit_code: u8,
    /// The verdict in words.
    pub(super) what: String,
}

/// One run of many.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RunLine {
    pub(super) seed: u64,
    pub(super) exit_code: u8,
    pub(super) trace_hash: Option<String>,
    pub(super) events: u64,
    pub(super) virtual_us: u64,
    pub(super) settled_us: Option<u64>,
    pub(super) ordered: u64,
    pub(super) paid: u64,
    pub(super) failed: u64,
    pub(super) latency_p50_us: u64,
    pub(super) latency_p99_us: u64,
    pub(super) attempts_milli: u64,
    pub(super) hops_milli: u64,
    pub(super) fee_milli: u64,
    pub(super) faults: u64,
    pub(super) wall_us: u64,
}

impl RunLine {
    pub(super) fn new(result: &RunResult) -> Self {
        let RunResult { facts, cost } = result;
        let Facts { record, .. } = facts;
        RunLine {
            seed: facts.seed,
            exit_code: facts.verdict.exit_code(),
            trace_hash: facts.trace_hash.as_ref().map(|hash| hash.0.clone()),
            events: facts.events,
            virtual_us: facts.simulated.as_micros(),
            settled_us: facts.settled_after.map(|settled| settled.as_micros()),
            ordered: record.payments.ordered,
            paid: record.payments.paid,
            failed: record.payments.all_failed(),
            latency_p50_us: record.latency_us.quantile(500),
            latency_p99_us: record.latency_us.quantile(990),
            attempts_milli: record.attempts.mean_milli(),
            hops_milli: record.hops.mean_milli(),
            fee_milli: record.fees.mean_milli(),
            faults: record.all_faults(),
            wall_us: cost.wall_us,
        }
    }
}

impl SwarmReport {
    /// How the command line names the scenario.
    pub(super) fn source(&self) -> &str {
        self.file.as_deref().unwrap_or(&self.scenario)
    }

    /// What the program that reports it exits with: the worst that happened.
    pub(super) fn worst(failed: &[Failed], budget: Option<&String>) -> u8 {
        // Money first, then what may hide more.
        const ORDER: [u8; 6] = [3, 5, 4, 6, 7, 1];
        let found = ORDER.into_iter().find(|code| failed.iter().any(|failed| failed.exit_code == *code));
        found.unwrap_or(if budget.is_some() { 8 } else { 0 })
    }

    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let bytes = std::fs::metadata(path).map_err(|why| Failure::of_file(path, why))?.len();
        if bytes > MAX_BYTES {
            return Err(Failure::of_file(path, format!("{bytes} bytes are more than a result has")));
        }
        let text = std::fs::read_to_string(path).map_err(|why| Failure::of_file(path, why))?;
        serde_json::from_str(&text).map_err(|why| {
            Failure::of_file(path, format!("this is no result of `stsim swarm --json`: {}", short(&why)))
        })
    }
}

/// What is wrong with a file, without the list of all that would have been right.
pub(super) fn short(why: &serde_json::Error) -> String {
    let why = why.to_string();
    why.split(", expected one of").next().unwrap_or_default().to_owned()
}

/// As text, with a line for each thing.
pub(super) fn pretty(value: &impl Serialize) -> String {
    // Numbers, texts, lists and maps by text: that has always a form in JSON.
    let mut text = serde_json::to_string_pretty(value).unwrap_or_default();
    text.push('\n');
    text
}

pub(super) fn seconds(us: u64) -> f64 {
    us as f64 / 1_000_000.0
}
