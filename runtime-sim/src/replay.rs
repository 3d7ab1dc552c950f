//! A case runs again: what it comes to, every event with its cause, what nodes told each other.
//!
//! | | |
//! |---|---|
//! | [`run`] | the case, and nothing but the case: no generator is asked |
//! | [`Replay::events`] | the events up to one, of one host or of all, each in words with its cause |
//! | [`Replay::story_of`] | the causes of an event: it, what caused it, what caused that, … |
//! | [`Replay::story`] | the same of the last event where something was found |
//!
//! The events of a case that panicked are there, too, up to the panic.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};

use offset_protocol::machine::Instant;

use crate::case::{Case, Fidelity, Role};
use crate::check::Violation;
use crate::full;
use crate::funds;
use crate::host::HostId;
use crate::result::{Finding, Recorder, Verdict};
use crate::trace::{Keep, Kind, Line, Trace};
use crate::words;

/// The invariant of a finding that is a panic.
pub const PANIC: &str = "panic";
/// Nodes of a world of funds at which everything is looked at often.
const SMALL: usize = 200;
/// Causes that are looked at. Chosen freely: further back than anybody reads.
const MOST_CAUSES: usize = 400;
/// Lines of a story. Chosen freely.
const MOST_LINES: usize = 40;

/// A run of a case.
pub struct Replay {
    /// What was found, if anything.
    pub finding: Option<Finding>,
    /// Everything that happened, as far as it was kept.
    pub trace: Trace,
}

/// Runs a case.
pub fn run(case: &Case, keep: Keep) -> Replay {
    match case.fidelity {
        Fidelity::Full => run_full(case, keep),
        Fidelity::Funds => run_funds(case, keep),
    }
}

fn run_full(case: &Case, keep: Keep) -> Replay {
    let (result, trace) = full::run_caught(case, &full::Options { keep, ..full::Options::default() });
    let finding = match result {
        Ok(result) => result.err().and_then(|violation| of_violation(case, &violation)),
        Err(words) => Some(panicked(case, &trace, words)),
    };
    Replay { finding, trace }
}

/// As the size of the case asks for. Of a world of funds that panicked there is no trace.
fn run_funds(case: &Case, keep: Keep) -> Replay {
    let small = case.nodes.len() <= SMALL;
    let options = if small { funds::Options::small() } else { funds::Options::large() };
    let options = funds::Options { keep, ..options };
    let run = || funds::run_recorded(case, &options, &mut Recorder::default(), &mut |_| {});
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok((result, trace)) => {
            let finding = result.err().and_then(|violation| of_violation(case, &violation));
            Replay { finding, trace }
        }
        Err(panic) => Replay { finding: Some(of_panic(&*panic)), trace: Trace::new(keep) },
    }
}

fn of_violation(case: &Case, violation: &Violation) -> Option<Finding> {
    Verdict::of_violation(case, violation).finding().cloned()
}

/// What running a case finds, if anything. For [`crate::shrink`].
pub fn find(case: &Case) -> Option<Finding> {
    run(case, Keep::Hash).finding
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

/// The host that a line is about; `None`: the world, or the index of a case of fidelity `funds`.
fn host_of(case: &Case, line: &Line) -> Option<HostId> {
    match case.fidelity {
        Fidelity::Full => case.role(HostId(line.to)).map(|_| HostId(line.to)),
        // There are nodes only, and their own numbers stand in the trace.
        Fidelity::Funds => ((line.to as usize) < case.nodes.len()).then(|| case.host(Role::Node(line.to))),
    }
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
        let wanted = move |line: &Line| {
            shown.host.is_none_or(|host| host_of(case, line) == Some(host) || line.kind == Kind::Plan)
        };
        let said = self.said();
        lines.filter(wanted).map(move |line| self.line(case, &line, &said))
    }

    /// The last event and its causes: of those at the host where it was found, if it was found at one.
    pub fn story(&self, case: &Case) -> Vec<String> {
        let host = self.finding.as_ref().and_then(|finding| finding.host).map(HostId);
        let there = host.and_then(|host| self.trace.lines().filter(|line| host_of(case, line) == Some(host)).last());
        self.story_of(case, there.map_or(self.last_event(), |line| line.number))
    }

    /// An event and its causes, in words, the event first. An alarm that rings again and again is told once.
    pub fn story_of(&self, case: &Case, event: u64) -> Vec<String> {
        let causes = self.trace.causes(event, MOST_CAUSES);
        let said = self.said();
        let mut story = Vec::new();
        let alike = |a: &Line, b: &Line| {
            a.kind == b.kind && a.to == b.to && !said.contains_key(&a.number) && !said.contains_key(&b.number)
        };
        for run in causes.chunk_by(alike) {
            let (first, rest) = (run.first(), run.get(1..).unwrap_or_default());
            story.extend(first.map(|line| self.line(case, line, &said)));
            match rest {
                [more @ .., last] if !more.is_empty() => {
                    story.push(format!("{:>8}  and {} more like it, caused one by the other", "", more.len()));
                    story.push(self.line(case, last, &said));
                }
                _ => story.extend(rest.iter().map(|line| self.line(case, line, &said))),
            }
        }
        story.truncate(MOST_LINES);
        story
    }

    fn line(&self, case: &Case, line: &Line, said: &BTreeMap<u64, Vec<String>>) -> String {
        let mut text =
            format!("{:>8}  {}  {:<20}  {}", line.number, words::time(line.at), host(case, line), what(case, line));
        for said in said.get(&line.number).into_iter().flatten() {
            let _ = write!(text, "; {said}");
        }
        match line.cause.and_then(|cause| self.trace.line(cause)) {
            None => {}
            Some(cause) => {
                let _ = write!(text, "  <- {} ({} at {})", cause.number, cause.kind.name(), host(case, &cause));
            }
        }
        text
    }

    /// What nodes told others, or heard, by event.
    fn said(&self) -> BTreeMap<u64, Vec<String>> {
        let mut all: BTreeMap<u64, Vec<String>> = BTreeMap::new();
        for said in self.trace.said() {
            all.entry(said.made.0).or_default().push(format!("says to h{}: {}", said.to, said.words));
            if let Some((taken, _)) = said.taken {
                all.entry(taken).or_default().push(format!("hears from h{}: {}", said.from, said.words));
            }
        }
        all
    }
}

fn host(case: &Case, line: &Line) -> String {
    let host = host_of(case, line).and_then(|host| Some((case.role(host)?, host)));
    host.map_or_else(|| "the world".to_owned(), |(role, host)| format!("{role} ({host})"))
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
        Kind::Letter => "a message of a friend arrives".to_owned(),
        Kind::Durable => format!("its write {} is durable", line.about),
        Kind::Up => format!("link {} is up", line.about),
        Kind::Down => format!("link {} is down", line.about),
        Kind::Dial => format!("link {} is tried again", line.about),
        Kind::Report => "a report reaches the index".to_owned(),
        Kind::Ask => "a question reaches the index".to_owned(),
        Kind::Answer => "an answer of the index arrives".to_owned(),
        Kind::Word => "its person hears something".to_owned(),
        Kind::Operation => "the next operation is due".to_owned(),
        Kind::Fault => "the next fault is due".to_owned(),
        Kind::Look => "all friendships are looked at".to_owned(),
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
        let (plain, kept) = (run(&case, Keep::Hash), run(&case, Keep::Lines));
        assert_eq!((plain.trace.hash(), &plain.finding), (kept.trace.hash(), &None));
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
