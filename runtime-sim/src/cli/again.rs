//! Runs in another process: the same case must take the same course there (I19).

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use clap::Args;
use serde::{Deserialize, Serialize};

use super::execute::{Executed, Wishes, execute};
use super::{Failure, say};
use crate::case::Case;
use crate::result::RunResult;
use crate::trace::{Keep, Trace};

/// Arguments of the command.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Print every event as well
    #[arg(long)]
    lines: bool,
}

/// What a run came to, as far as it must be the same.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Course {
    trace_hash: Option<String>,
    events: u64,
    verdict: String,
}

impl Course {
    fn of(result: &RunResult) -> Self {
        let facts = &result.facts;
        // What a scenario expects is not asked here.
        let verdict = if facts.verdict.exit_code() == 1 { "pass".to_owned() } else { facts.verdict.to_string() };
        Course { trace_hash: facts.trace_hash.as_ref().map(|hash| hash.0.clone()), events: facts.events, verdict }
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<u8, Failure> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).map_err(Failure::new)?;
    let case: Case = serde_json::from_str(&text).map_err(Failure::new)?;
    let executed = execute(&case, None, Wishes { keep: keep(arguments.lines), ..Wishes::default() });
    let course = serde_json::to_string(&Course::of(&executed.result)).map_err(Failure::new)?;
    say(format!("{course}\n{}", executed.trace.iter().map(lines).collect::<String>()));
    Ok(0)
}

const fn keep(lines: bool) -> Keep {
    if lines { Keep::Lines } else { Keep::Hash }
}

fn lines(trace: &Trace) -> String {
    trace
        .lines()
        .map(|line| {
            let at = line.at.as_micros();
            format!("{} at {at} us to {} {} {}\n", line.number, line.to, line.kind.name(), line.about)
        })
        .collect()
}

/// Runs a case in another process; what differs from the course that it took here, in words.
pub(super) fn difference(case: &Case, here: &RunResult) -> Option<String> {
    difference_from(case, here, ask)
}

/// The same with any other process: it gets a case and arguments, and answers as [`run`] does.
fn difference_from(
    case: &Case,
    here: &RunResult,
    ask: impl Fn(&str, &[&str]) -> std::io::Result<String>,
) -> Option<String> {
    let text = match serde_json::to_string(case) {
        Ok(text) => text,
        Err(why) => return Some(why.to_string()),
    };
    let there = match ask(&text, &[]) {
        Ok(there) => there,
        Err(why) => return Some(format!("the other process did not tell: {why}")),
    };
    let here = Course::of(here);
    match serde_json::from_str::<Course>(there.lines().next().unwrap_or_default()) {
        Ok(there) if there == here => None,
        Ok(there) => Some(first_difference(case, &here, &there, &ask(&text, &["--lines"]).unwrap_or_default())),
        Err(why) => Some(format!("the other process did not tell: {why}")),
    }
}

/// Both run again with every event kept; `theirs` is what the other said then.
fn first_difference(case: &Case, here: &Course, there: &Course, theirs: &str) -> String {
    let Executed { trace, .. } = execute(case, None, Wishes { keep: Keep::Lines, ..Wishes::default() });
    let ours: String = trace.iter().map(lines).collect();
    let mut pairs = ours
        .lines()
        .map(Some)
        .chain(std::iter::repeat(None))
        .zip(theirs.lines().skip(1).map(Some).chain(std::iter::repeat(None)));
    let differs = pairs.find(|(ours, theirs)| ours != theirs || ours.is_none());
    match differs {
        Some((ours @ Some(_), theirs) | (ours, theirs @ Some(_))) => {
            let show = |line: Option<&str>| line.unwrap_or("nothing more").to_owned();
            format!("event {}, in another process {}", show(ours), show(theirs))
        }
        Some((None, None)) | None => format!("{here:?}, in another process {there:?}; not so when asked again"),
    }
}

fn ask(case: &str, arguments: &[&str]) -> std::io::Result<String> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("again").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(case.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    String::from_utf8(output.stdout).map_err(std::io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line::{LineSpec, case};
    use offset_protocol::machine::Seed;

    #[test]
    fn another_course_in_another_process_is_told_by_its_first_event() {
        let case = case(3, &LineSpec::small(&Seed::from_number(3)));
        let executed = execute(&case, None, Wishes { keep: Keep::Lines, ..Wishes::default() });
        let all: Vec<String> =
            executed.trace.iter().map(lines).collect::<String>().lines().map(str::to_owned).collect();
        let honest = serde_json::to_string(&Course::of(&executed.result)).unwrap();
        let same = |_: &str, _: &[&str]| Ok(format!("{honest}\n{}", all.join("\n")));
        assert_eq!(difference_from(&case, &executed.result, same), None);
        let mut other = all.clone();
        other[6] = "7 at 1 us to 0 boot 0".to_owned();
        let lied = serde_json::to_string(&Course { events: 0, ..Course::of(&executed.result) }).unwrap();
        let another = |_: &str, _: &[&str]| Ok(format!("{lied}\n{}", other.join("\n")));
        let told = difference_from(&case, &executed.result, another).unwrap();
        assert_eq!(told, format!("event {}, in another process {}", all[6], other[6]));
        let silent = |_: &str, _: &[&str]| Ok(String::new());
        assert!(difference_from(&case, &executed.result, silent).unwrap().contains("did not tell"));
    }
}
