//! A case runs again: what it comes to, every event with its cause, what nodes told each other.
//!
//! | | |
//! |---|---|
//! | [`run`] | the case, and nothing but the case: no generator is asked |
//! | [`Replay::events`] | the events up to one, of one host or of all, each in words with its cause |
//! | [`Replay::story_of`] | the causes of an event: it, what caused it, what caused that, … |
//!
//! The events of a case that panicked are there, too, up to the panic.

use std::any::Any;
use std::fmt::Write as _;

use offset_protocol::machine::Instant;

use crate::case::{Case, Fidelity, Role};
use crate::full::{self, Options, Outcome};
use crate::host::HostId;
use crate::result::{Finding, Verdict};
use crate::trace::{Keep, Kind, Line, Trace};
use crate::words;

/// The invariant of a finding that is a panic.
pub const PANIC: &str = "panic";
/// Causes that are shown. Chosen freely: further back than anybody reads.
const MOST_CAUSES: usize = 40;

/// A run of a case.
pub struct Replay {
    /// What it came to, if nothing was found.
    pub outcome: Option<Outcome>,
    /// What was found.
    pub finding: Option<Finding>,
    /// Everything that happened, as far as it was kept.
    pub trace: Trace,
}

/// Runs a case.
///
/// # Errors
/// A case of a fidelity that this version cannot run.
pub fn run(case: &Case, keep: Keep) -> Result<Replay, CannotRun> {
    match case.fidelity {
        Fidelity::Full => Ok(run_full(case, keep)),
        Fidelity::Funds => Err(CannotRun),
    }
}

/// A case of a fidelity that this version cannot run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cases of fidelity `funds` cannot be replayed")]
pub struct CannotRun;

fn run_full(case: &Case, keep: Keep) -> Replay {
    let (result, trace) = full::run_caught(case, &Options { keep, ..Options::default() });
    let (outcome, finding) = match result {
        Ok(Ok(outcome)) => (Some(outcome), None),
        Ok(Err(violation)) => (None, Verdict::of_violation(case, &violation).finding().cloned()),
        Err(words) => (None, Some(panicked(case, &trace, words))),
    };
    Replay { outcome, finding, trace }
}

/// What running a case finds, if anything. For [`crate::shrink`].
pub fn find(case: &Case) -> Option<Finding> {
    run(case, Keep::Hash).ok()?.finding
}

/// A panic during the last event of a trace.
fn panicked(case: &Case, trace: &Trace, what: String) -> Finding {
    let (at, to) = trace.last();
    let role = case.role(HostId(to));
    let host = role.map(|_| to);
    Finding { invariant: PANIC.to_owned(), at, host, role: role.map(|role| role.to_string()), what }
}

/// A panic of which nothing is known but its words.
pub(crate) fn of_panic(panic: &dyn Any) -> Finding {
    let what = full::words_of(panic);
    Finding { invariant: PANIC.to_owned(), at: Instant::ZERO, host: None, role: None, what }
}

/// Which events are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// None after this one.
    pub until: Option<u64>,
    /// Only those of this host, and the steps of the plan.
    pub host: Option<HostId>,
}

impl Replay {
    /// The number of the last event: the one during which it was found, if something was.
    pub const fn last_event(&self) -> u64 {
        self.trace.events()
    }

    /// Events in words, one line each. Only if the run kept them.
    pub fn events<'a>(&'a self, case: &'a Case, shown: Shown) -> impl Iterator<Item = String> + 'a {
        let until = shown.until.unwrap_or(u64::MAX);
        let lines = self.trace.lines().take_while(move |line| line.number <= until);
        let wanted = move |line: &Line| shown.host.is_none_or(|host| line.to == host.0 || line.kind == Kind::Plan);
        lines.filter(wanted).map(|line| self.line(case, &line))
    }

    /// An event and its causes, in words, the event first.
    pub fn story_of(&self, case: &Case, event: u64) -> Vec<String> {
        self.trace.causes(event, MOST_CAUSES).iter().map(|line| self.line(case, line)).collect()
    }

    fn line(&self, case: &Case, line: &Line) -> String {
        let mut text =
            format!("{:>8}  {}  {:<16}  {}", line.number, words::time(line.at), host(case, line.to), what(case, line));
        for said in self.said_during(line.number) {
            let _ = write!(text, "; {said}");
        }
        match line.cause.and_then(|cause| self.trace.line(cause)) {
            None => {}
            Some(cause) => {
                let _ = write!(text, "  <- {} ({} at {})", cause.number, cause.kind.name(), host(case, cause.to));
            }
        }
        text
    }

    /// What a node told another, or heard, during an event.
    fn said_during(&self, event: u64) -> impl Iterator<Item = String> + '_ {
        // Kept in the order in which it was made; what was taken in may be anywhere before.
        self.trace.said().iter().filter_map(move |said| {
            let made = (said.made.0 == event).then(|| format!("says to h{}: {}", said.to, said.words));
            let taken = said.taken.filter(|(taken, _)| *taken == event);
            made.or_else(|| taken.map(|_| format!("hears from h{}: {}", said.from, said.words)))
        })
    }
}

fn host(case: &Case, to: u32) -> String {
    case.role(HostId(to)).map_or_else(|| "the world".to_owned(), |role: Role| format!("{role} (h{to})"))
}

/// What happened, in words.
pub(crate) fn what(case: &Case, line: &Line) -> String {
    let link = || format!("link {}.{}", line.about & 0xffff_ffff, line.about >> 32);
    match line.kind {
        Kind::Syn => format!("is asked for a connection, {}", link()),
        Kind::Accepted => format!("its connection is accepted, {}", link()),
        Kind::Refused => format!("its connection is refused, {}", link()),
        Kind::Arrive => format!("bytes arrive, {}", link()),
        Kind::Window => format!("has room to write again, {}", link()),
        Kind::Reset => format!("its connection is broken, {}", link()),
        Kind::Turn => format!("takes its turn, life {}", line.about),
        Kind::Wake => format!("its alarm rings, life {}", line.about),
        Kind::Flushed => format!("its write {} is durable", line.about),
        Kind::Boot => "starts".to_owned(),
        Kind::Note => format!("hears word {}", line.about),
        Kind::Plan => words::step(case, line.about as usize),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line::{self, LineSpec};
    use offset_protocol::machine::Seed;

    #[test]
    fn a_replay_shows_every_event_with_its_cause_and_changes_nothing() {
        let case = line::case(3, &LineSpec::small(&Seed::from_number(3)));
        let (plain, kept) = (run(&case, Keep::Hash).unwrap(), run(&case, Keep::Lines).unwrap());
        assert_eq!(plain.outcome.as_ref().unwrap().hash, kept.outcome.as_ref().unwrap().hash);
        let all = kept.trace.lines().len() as u64;
        assert_eq!((all, kept.last_event()), (plain.last_event(), all));
        assert!(kept.trace.lines().all(|line| line.cause.is_none_or(|cause| cause < line.number)));
        let caused = kept.trace.lines().filter(|line| line.cause.is_some()).count() as u64;
        assert!(caused * 10 > all * 9, "{caused} of {all}");
        let story = kept.story_of(&case, all);
        assert!(story.len() > 3, "{story:?}");
        let node = case.host(Role::Node(0));
        let shown: Vec<_> = kept.events(&case, Shown { until: Some(500), host: Some(node) }).collect();
        assert!(shown.len() > 10 && shown.len() < 500, "{}", shown.len());
        assert!(shown.iter().all(|text| text.contains("node 0") || text.contains("the world")));
    }
}
