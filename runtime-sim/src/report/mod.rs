//! A report for people: one HTML file that needs no network, no script and no other file.
//!
//! | section | from |
//! |---|---|
//! | verdict, and the command that shows the run again | the result |
//! | what failed: causes of the last event, sequence diagram | a replay of the case, made small |
//! | faults against success over time; frozen credit and saturation; index convergence | the record's series |
//! | latency, attempts, hops, fees | the record's histograms |
//! | why payments failed, faults by family, busiest relays | the record |
//! | the network, as communities when it is large | the case |
//! | marks reached and not; what it cost | the record |
//!
//! Everything in a case or result may come from a stranger's file: all text is escaped.

mod charts;
mod layout;
mod map;
mod sections;
mod style;

pub(crate) use charts::times;

use crate::case::Case;
use crate::diagram::sequence;
use crate::replay::Replay;
use crate::result::{Record, RunResult, Verdict};
use crate::shrink::Shrunk;

/// A diagram of more events than this is no diagram. Chosen freely: a screen holds some hundred arrows.
const MOST_DRAWN: usize = 3_000;

/// The smallest case that failed alike, told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Story {
    /// How it fails, how large it is, and how large the case was of which it was made.
    pub about: String,
    /// The last event at the place of the failure and its causes, one a line.
    pub causes: Vec<String>,
    /// A sequence diagram, as SVG of our own making.
    pub diagram: Option<String>,
}

impl Story {
    /// Of a case that was made small, and ran once more with its events kept.
    pub fn new(shrunk: &Shrunk, replay: &Replay) -> Self {
        let said = replay.trace.said().len();
        Story {
            about: format!("{}. Made smaller: {} of {}.", shrunk.finding, shrunk.to, shrunk.from),
            causes: replay.story(&shrunk.case),
            diagram: (said > 0 && said <= MOST_DRAWN).then(|| sequence(&shrunk.case, replay)),
        }
    }
}

/// What a report is about.
#[derive(Clone, Debug)]
pub struct Report<'r> {
    /// The heading.
    pub title: String,
    /// See [`crate::result::version`].
    pub version: String,
    /// How it ended; `None` for many runs together.
    pub verdict: Option<&'r Verdict>,
    /// Runs together in it.
    pub runs: u64,
    /// Runs that failed, of many: seed, verdict, and the command that shows it again.
    pub failures: Vec<(u64, String, String)>,
    /// The command that shows it again.
    pub command: String,
    /// Everything that was told.
    pub record: &'r Record,
    /// Events of the queue, if it is one run.
    pub events: Option<u64>,
    /// Simulated time in microseconds, if it is one run.
    pub simulated_us: Option<u64>,
    /// From healing until nothing was open, in microseconds, if it came to that.
    pub settled_us: Option<u64>,
    /// Wall time in microseconds.
    pub wall_us: u64,
    /// The most memory in bytes; 0: not known.
    pub peak_memory_bytes: u64,
    /// The hash of the trace, if it is one run.
    pub trace_hash: Option<String>,
    /// The case, for the map.
    pub case: Option<&'r Case>,
    /// The story of the failure, or of the first of many.
    pub story: Option<Story>,
}

impl<'r> Report<'r> {
    /// About one run.
    pub fn new(result: &'r RunResult, command: &str) -> Self {
        let RunResult { facts, cost } = result;
        Report {
            title: format!("{}, seed {}", facts.scenario, facts.seed),
            version: facts.version.clone(),
            verdict: Some(&facts.verdict),
            runs: 1,
            failures: Vec::new(),
            command: command.to_owned(),
            record: &facts.record,
            events: Some(facts.events),
            simulated_us: Some(facts.simulated.as_micros()),
            settled_us: facts.settled_after.map(|settled| settled.as_micros()),
            wall_us: cost.wall_us,
            peak_memory_bytes: cost.peak_memory_bytes,
            trace_hash: facts.trace_hash.as_ref().map(|hash| hash.0.clone()),
            case: None,
            story: None,
        }
    }

    /// About many runs of a scenario.
    pub fn of_many(scenario: &str, version: &str, runs: u64, record: &'r Record) -> Self {
        Report {
            title: format!("{scenario}, {runs} seeds"),
            version: version.to_owned(),
            verdict: None,
            runs,
            failures: Vec::new(),
            command: String::new(),
            record,
            events: None,
            simulated_us: None,
            settled_us: None,
            wall_us: 0,
            peak_memory_bytes: 0,
            trace_hash: None,
            case: None,
            story: None,
        }
    }

    /// With a map of the network.
    #[must_use]
    pub fn with_case(mut self, case: &'r Case) -> Self {
        self.case = Some(case);
        self
    }
}

/// The whole file.
pub fn html(report: &Report<'_>) -> String {
    let title = escape(&report.title);
    let body = sections::all(report);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title}</title>\n<style>{}</style>\n</head>\n<body>\n\
         {body}</body>\n</html>\n",
        style::CSS
    )
}

/// Text as HTML shows it.
pub(crate) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            _ => safe.push(letter),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::Family;
    use crate::result::{Cost, End, Ended, Facts, Finding, Recorder, Sample};
    use crate::scenario::{Scenario, draw};
    use offset_protocol::machine::{Duration, Instant};

    fn result(case: &Case, verdict: Verdict) -> RunResult {
        let mut recorder = Recorder::default();
        for n in 0..200u64 {
            let at = Instant::from_micros(n * 400_000);
            recorder.order(at);
            let end = if n % 4 > 0 { End::Paid } else { End::Failed("no <route>".to_owned()) };
            let latency = Duration::from_millis(20 + n * n % 5_000);
            recorder.ended(at, Ended { latency, attempts: 1 + (n % 3) as u32, hops: 2, fee: n.into(), end });
            recorder.sample(at, Sample { frozen: (n * 7).into(), faults_active: n % 5, ..Sample::default() });
            recorder.fault(at, Family::Crash);
        }
        recorder.marks(vec![("reached", 2), ("not reached", 0)]);
        let facts = Facts { record: recorder.finish(), ..Facts::new(case, verdict) };
        RunResult { facts, cost: Cost::default() }
    }

    /// Whether every element that begins ends.
    fn is_balanced(html: &str) -> bool {
        let mut open = Vec::new();
        for tag in html.split('<').skip(1) {
            let name: String =
                tag.chars().take_while(|letter| letter.is_ascii_alphanumeric() || *letter == '/').collect();
            let alone =
                matches!(name.as_str(), "" | "meta" | "br") || tag.split('>').next().is_some_and(|t| t.ends_with('/'));
            match name.strip_prefix('/') {
                Some(name) if open.last().is_some_and(|last| last == name) => drop(open.pop()),
                Some(_) => return false,
                None if alone => {}
                None => open.push(name),
            }
        }
        open.is_empty()
    }

    #[test]
    fn a_report_is_whole_without_scripts_or_other_files_and_everything_foreign_is_escaped() {
        let case = draw(&Scenario::load("swarm", &[]).unwrap(), 3).unwrap();
        let finding = Finding {
            invariant: "frozen".to_owned(),
            at: Instant::from_micros(9),
            host: None,
            role: None,
            what: "<script>alert('x')</script>".to_owned(),
        };
        for verdict in [Verdict::Pass, Verdict::Violation(finding)] {
            let result = result(&case, verdict);
            let page = html(&Report::new(&result, "stsim run swarm --seed 3").with_case(&case));
            assert!(is_balanced(&page), "{page}");
            assert!(!page.contains("<script") && !page.contains("no <route>") && page.contains("no &lt;route&gt;"));
            for foreign in ["http://", "https://", "src=", "@import", "url("] {
                assert!(!page.replace("http://www.w3.org/2000/svg", "").contains(foreign), "{foreign}");
            }
            for needed in ["stsim run swarm --seed 3", "Latency", "not reached", "crash", "prefers-color-scheme"] {
                assert!(page.contains(needed), "{needed}");
            }
        }
    }

    #[test]
    fn a_report_about_nothing_is_whole_as_well() {
        let record = Record::default();
        let page = html(&Report::of_many("swarm", "1", 0, &record));
        assert!(is_balanced(&page), "{page}");
        assert!(!page.contains("NaN") && !page.contains("inf"));
    }

    #[test]
    fn a_large_network_is_drawn_as_communities() {
        let large = [
            "topology.nodes=3000".to_owned(),
            "topology.kind=villages".to_owned(),
            "topology.village=60..60".to_owned(),
        ];
        let case = draw(&Scenario::load("swarm", &large).unwrap(), 3).unwrap();
        let result = result(&case, Verdict::Pass);
        let page = html(&Report::new(&result, "x").with_case(&case));
        assert!(is_balanced(&page));
        assert!(page.len() < 400_000, "{} bytes", page.len());
    }
}
