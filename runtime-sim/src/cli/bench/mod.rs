//! `stsim bench`: the figures that this program is measured by.
//!
//! Each figure is measured by a process of its own, a child of this one, so that its memory and its processor time are its
//! own and nobody else's. Times are processor time, not wall time: what else the machine does changes them by cache misses
//! only.
//!
//! 1. A figure that was measured at less than its whole size, or whose world did not do its work, is never "met".
//! 2. What is not measured, whatever the reason, is in the table with the reason, and the program says so with its exit code.

mod figures;
mod law;
mod networks;
mod shrinks;
mod table;
mod worlds;

use std::process::{Command, Stdio};

use clap::Args;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::json::pretty;
use super::{Failure, say};
use figures::{FIGURES, Figure};
use table::{Report, Row};

/// Arguments of the command.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Only these figures
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// All figures: without it only those that take less than a minute or so
    #[arg(long, conflicts_with = "names")]
    all: bool,
    /// Print one JSON object instead of the table
    #[arg(long)]
    json: bool,
    /// Measure at so many hundredths of the whole size: to see that it works. Nothing is met or missed then
    #[arg(long, value_name = "N", default_value_t = WHOLE, value_parser = clap::value_parser!(u64).range(1..=WHOLE))]
    percent: u64,
    /// Measure one figure in this process: how the program asks its children
    #[arg(long, hide = true, conflicts_with_all = ["names", "all", "json"])]
    child: Option<String>,
}

/// The whole size, in hundredths of it.
const WHOLE: u64 = 100;

/// The exit code if a floor is missed.
const MISSED: u8 = 1;
/// The exit code if a figure was not measured, or not at its whole size.
const NOT_MEASURED: u8 = 8;

/// How large a figure is measured.
#[derive(Clone, Copy, Debug)]
struct Size {
    percent: u64,
}

impl Size {
    /// So many hundredths of the whole.
    const fn of(self, whole: u64) -> u64 {
        let part = whole * self.percent / WHOLE;
        if part == 0 { 1 } else { part }
    }

    /// The same of numbers of nodes, of which there are more than a few in any case.
    fn nodes(self, whole: u32) -> u32 {
        u32::try_from(self.of(whole.into())).unwrap_or(whole).max(20)
    }
}

/// What a child measured.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Measured {
    /// By the name of the goal.
    values: Vec<(String, f64)>,
    /// What the figure was measured on, and whatever else is worth knowing.
    notes: Vec<String>,
}

impl Measured {
    fn value(&mut self, name: &str, value: f64) {
        self.values.push((name.to_owned(), value));
    }

    fn note(&mut self, note: String) {
        self.notes.push(note);
    }
}

/// Why a figure has no value.
#[derive(Debug, Serialize, Deserialize)]
enum NoFigure {
    /// This program, or this machine, cannot.
    Skipped(String),
    /// Something is broken.
    Failed(String),
}

impl NoFigure {
    fn failed(why: impl std::fmt::Display) -> Self {
        NoFigure::Failed(why.to_string())
    }
}

type Answer = Result<Measured, NoFigure>;

/// The most memory that this process ever held, in bytes.
fn told_peak() -> Result<f64, NoFigure> {
    match super::execute::peak_memory() {
        0 => Err(NoFigure::Skipped("this system does not tell how much memory a process holds".to_owned())),
        bytes => Ok(bytes as f64),
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<u8, Failure> {
    let size = Size { percent: arguments.percent };
    if let Some(name) = &arguments.child {
        let answer = (find(name)?.measure)(size);
        say(serde_json::to_string(&answer).map_err(Failure::new)?);
        return Ok(0);
    }
    let wanted = wanted(arguments)?;
    if !arguments.json {
        say(table::head());
    }
    let mut report = Report::new(arguments.percent);
    for figure in wanted {
        let answer = ask(figure, arguments.percent);
        let row = Row::new(figure, answer, arguments.percent == WHOLE);
        if !arguments.json {
            say(row.to_text());
        }
        report.figures.push(row);
    }
    let code = report.judge();
    say(if arguments.json { pretty(&report) } else { report.last_words() });
    Ok(code)
}

fn find(name: &str) -> Result<&'static Figure, Failure> {
    FIGURES.iter().find(|figure| figure.name == name).ok_or_else(|| {
        let names: Vec<&str> = FIGURES.iter().map(|figure| figure.name).collect();
        Failure(format!("there is no figure {name:?}; there are {}", names.join(", ")))
    })
}

fn wanted(arguments: &Arguments) -> Result<Vec<&'static Figure>, Failure> {
    if arguments.names.is_empty() {
        return Ok(FIGURES.iter().filter(|figure| arguments.all || figure.is_quick).collect());
    }
    arguments.names.iter().map(|name| find(name)).collect()
}

/// Measures a figure in a child.
fn ask(figure: &Figure, percent: u64) -> Answer {
    let program = std::env::current_exe().map_err(NoFigure::failed)?;
    let mut command = Command::new(program);
    command.args(["bench", "--child", figure.name, "--percent", &percent.to_string()]);
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().map_err(NoFigure::failed)?;
    if !output.status.success() {
        return Err(NoFigure::Failed(format!("its process ended with {}", output.status)));
    }
    serde_json::from_slice(&output.stdout).map_err(NoFigure::failed)?
}

/// Processor time of this process so far, in seconds.
fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Runs something, and says how many seconds of processor time it took.
fn timed<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let before = cpu_seconds();
    let done = work();
    (done, cpu_seconds() - before)
}

/// Bytes of memory that this process holds now; 0 where the system does not tell.
fn memory_now() -> u64 {
    super::execute::memory_of("VmRSS:")
}
