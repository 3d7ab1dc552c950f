//! `stsim shrink`: a case that fails, made as small as it goes.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::ProgressBar;

use super::progress::many;
use super::{Failure, broken, files, say};
use crate::casefile::CaseFile;
use crate::diagram::sequence;
use crate::replay;
use crate::scenario::field::read_time;
use crate::shrink::{Budget, Ended, Progress, shrink};
use crate::trace::Keep;

/// Arguments of the command.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The case file
    case: PathBuf,
    /// Where the small case goes; beside the case if it is not said. A Rust test and a sequence diagram are written there too
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// No case is tried after this time
    #[arg(long = "for", value_name = "TIME", default_value = "60s", value_parser = time)]
    time: Duration,
    /// No more cases are tried than this
    #[arg(long, default_value_t = 100_000)]
    attempts: u64,
    #[command(flatten)]
    broken: broken::Arguments,
}

fn time(text: &str) -> Result<Duration, String> {
    read_time(text).map(|time| Duration::from_micros(time.as_micros()))
}

pub(super) fn run(arguments: &Arguments) -> Result<u8, Failure> {
    let file = CaseFile::read(&arguments.case).map_err(|why| Failure::of_file(&arguments.case, why))?;
    let small = arguments.output.clone().unwrap_or_else(|| arguments.case.with_extension("small.json"));
    let (test, diagram) = (small.with_extension("rs"), small.with_extension("svg"));
    files::must_be_free(&[&Some(small.clone()), &Some(test.clone()), &Some(diagram.clone())])?;
    arguments.broken.arm()?;
    let Some(finding) = replay::find(&file.case) else {
        say("the case passes: there is nothing to make smaller\n");
        return Ok(0);
    };
    let (began, bar) = (Instant::now(), many(None));
    let mut is_over = || began.elapsed() >= arguments.time;
    let budget = Budget { attempts: arguments.attempts, is_over: &mut is_over };
    let shrunk =
        shrink(&file.case, &finding, &mut replay::find, budget, &mut |progress: &Progress| tell(&bar, progress));
    bar.finish_and_clear();
    let replay = replay::run(&shrunk.case, Keep::Lines);
    let smaller = CaseFile::new(shrunk.case.clone(), Some(shrunk.finding.clone()), replay.last_event());
    let name = small.file_stem().and_then(|stem| stem.to_str()).unwrap_or("case").to_owned();
    files::write_new(&small, &smaller.to_json())?;
    files::write_new(&test, &smaller.to_test(&name))?;
    files::write_new(&diagram, &sequence(&shrunk.case, &replay))?;
    let ended = match shrunk.ended {
        Ended::Smallest => "no smaller case was found",
        Ended::Budget => "the budget was spent",
    };
    let seconds = began.elapsed().as_secs_f64();
    say(format!(
        "{}\nfrom    {}\nto      {}\ntried   {} cases in {seconds:.1} s; {ended}\n",
        shrunk.finding, shrunk.from, shrunk.to, shrunk.attempts
    ));
    let show = |path: &Path| super::run::quoted(&path.display().to_string());
    say(format!(
        "case    stsim replay {}{}\ntest    {}\ndiagram {}\n",
        show(&small),
        arguments.broken.words(),
        show(&test),
        show(&diagram)
    ));
    Ok(replay::run(&shrunk.case, Keep::Hash)
        .finding
        .map_or(0, |finding| crate::result::Verdict::of_finding(finding).exit_code()))
}

fn tell(bar: &ProgressBar, progress: &Progress) {
    bar.set_position(progress.attempts);
    bar.set_message(format!("{}: {}", progress.pass, progress.size));
}
