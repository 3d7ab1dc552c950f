//! `stsim replay`: a saved case again, without any generator.

use std::fmt::Write as _;
use std::io::{BufRead, Write};
use std::path::PathBuf;

use clap::Args;

use super::{Failure, broken, say};
use crate::casefile::CaseFile;
use crate::host::HostId;
use crate::replay::{self, Replay, Shown};
use crate::result::Verdict;
use crate::trace::Keep;

/// Arguments of the command.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The case file
    case: PathBuf,
    /// Show events up to this one
    #[arg(long, value_name = "EVENT")]
    until: Option<u64>,
    /// Show the events of this host, by the name that stands in the trace or its number: `h7` or 7
    #[arg(long, value_name = "HOST", value_parser = host)]
    host: Option<HostId>,
    /// Show one event after the other, at each press of return
    #[arg(long)]
    step: bool,
    /// Show the last event at the host of the failure, and its causes
    #[arg(long)]
    causes: bool,
    #[command(flatten)]
    broken: broken::Arguments,
}

fn host(text: &str) -> Result<HostId, String> {
    let number = text.strip_prefix('h').unwrap_or(text);
    number.parse().map(HostId).map_err(|_| format!("{text:?} is no host: h7 or 7 is wanted"))
}

pub(super) fn run(arguments: &Arguments) -> Result<u8, Failure> {
    let file = CaseFile::read(&arguments.case).map_err(|why| Failure::of_file(&arguments.case, why))?;
    arguments.broken.arm()?;
    let wanted = arguments.until.is_some() || arguments.host.is_some() || arguments.step;
    let keep = if wanted || arguments.causes { Keep::Lines } else { Keep::Hash };
    let replay = replay::run(&file.case, keep);
    if wanted {
        let shown = Shown { until: arguments.until, host: arguments.host };
        show(arguments, &replay, &file, shown);
    }
    if arguments.causes {
        say(format!("the last event and its causes, the newest first:\n{}", lines(replay.story(&file.case))));
    }
    let verdict = verdict(&replay);
    say(format!("{verdict}\n"));
    let before = file.found.as_ref().map(|found| (&found.finding.invariant, &found.version));
    match (before, &replay.finding) {
        (Some((was, _)), Some(now)) if *was == now.invariant => {}
        (Some((was, version)), _) => say(format!("not as it was saved: version {version} found {was}\n")),
        (None, Some(_)) => say("not as it was saved: it passed\n"),
        (None, None) => {}
    }
    Ok(verdict.exit_code())
}

fn show(arguments: &Arguments, replay: &Replay, file: &CaseFile, shown: Shown) {
    if !arguments.step {
        say(lines(replay.events(&file.case, shown)));
        return;
    }
    drop(writeln!(std::io::stderr(), "return: the next event; the end of input (control-D): no more"));
    let mut wishes = std::io::stdin().lock().lines();
    for line in replay.events(&file.case, shown) {
        say(format!("{line}\n"));
        if !matches!(wishes.next(), Some(Ok(_))) {
            break;
        }
    }
}

fn lines(all: impl IntoIterator<Item = String>) -> String {
    let mut text = String::new();
    all.into_iter().for_each(|line| {
        let _ = writeln!(text, "{line}");
    });
    text
}

pub(super) fn verdict(replay: &Replay) -> Verdict {
    match &replay.finding {
        None => Verdict::Pass,
        Some(finding) => Verdict::of_finding(finding.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_named_as_in_the_trace_or_by_its_number() {
        assert_eq!((host("h7"), host("7")), (Ok(HostId(7)), Ok(HostId(7))));
        assert!(host("seven").is_err() && host("h").is_err() && host("hh7").is_err());
    }
}
