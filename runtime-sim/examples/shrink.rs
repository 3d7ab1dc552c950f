//! Hunts mutants and makes the case that finds each one small; prints the table:
//! `cargo run --release -p offset-runtime-sim --features mutants --example shrink`.
//!
//! Arguments: `--only NAME,NAME`, `--hunt N` (numbers that are tried for each, default 60), `--seconds N` for each shrink
//! (default 60), `--show` (prints the smallest case), `--save FOLDER` (case file, test and diagram of each).

#![allow(
    clippy::print_stdout,
    clippy::disallowed_types,
    reason = "a program that prints, and keeps to a budget of time"
)]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use offset_protocol::probe::mutate;
use offset_runtime_sim::case::{Case, Rare};
use offset_runtime_sim::casefile::CaseFile;
use offset_runtime_sim::diagram::sequence;
use offset_runtime_sim::mutants::{Mutant, case};
use offset_runtime_sim::replay::{find, run};
use offset_runtime_sim::result::Finding;
use offset_runtime_sim::shrink::{Budget, Ended, shrink};
use offset_runtime_sim::trace::Keep;

struct Wishes {
    only: Option<String>,
    hunt: u64,
    seconds: u64,
    show: bool,
    save: Option<PathBuf>,
}

fn wishes() -> Option<Wishes> {
    let mut wishes = Wishes { only: None, hunt: 60, seconds: 60, show: false, save: None };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--only" => wishes.only = arguments.next(),
            "--hunt" => wishes.hunt = arguments.next()?.parse().ok()?,
            "--seconds" => wishes.seconds = arguments.next()?.parse().ok()?,
            "--show" => wishes.show = true,
            "--save" => wishes.save = arguments.next().map(PathBuf::from),
            _ => return None,
        }
    }
    Some(wishes)
}

fn find_with(mutant: Option<Mutant>, case: &Case) -> Option<Finding> {
    mutate(mutant);
    let finding = find(case);
    mutate(None);
    finding
}

/// The case file, the test and the diagram.
fn save(folder: &Path, mutant: Mutant, case: &Case) -> std::io::Result<()> {
    mutate(Some(mutant));
    let replay = run(case, Keep::Lines);
    mutate(None);
    let mut file = CaseFile::new(case.clone(), replay.finding.clone(), replay.last_event());
    file.note = format!("Found with the mutant {}: {}", mutant.name(), mutant.what());
    let name: String = mutant.name().chars().flat_map(kebab).collect();
    let name = name.trim_start_matches('-');
    file.write(&folder.join(format!("{name}.json")))?;
    std::fs::write(folder.join(format!("{name}.rs")), file.to_test(name))?;
    std::fs::write(folder.join(format!("{name}.svg")), sequence(case, &replay))
}

fn kebab(c: char) -> impl Iterator<Item = char> {
    c.is_uppercase().then_some('-').into_iter().chain(c.to_lowercase())
}

fn main() {
    let Some(wishes) = wishes() else {
        println!("--only NAMES, --hunt N, --seconds N, --show, --save FOLDER");
        std::process::exit(2);
    };
    std::panic::set_hook(Box::new(|_| {}));
    let wanted = |mutant: &&Mutant| wishes.only.as_ref().is_none_or(|only| only.split(',').any(|n| n == mutant.name()));
    let mut steps = Vec::new();
    for &mutant in Mutant::ALL.iter().filter(wanted) {
        let found = (0..wishes.hunt).find_map(|number| {
            let case = Case { rare: Rare::Drawn, ..case(number) };
            Some((find_with(Some(mutant), &case)?, case))
        });
        let Some((finding, case)) = found else {
            println!("{} | not found", mutant.name());
            continue;
        };
        let began = Instant::now();
        let mut last = Duration::ZERO;
        let shrunk = shrink(
            &case,
            &finding,
            &mut |case| find_with(Some(mutant), case),
            Budget { attempts: 100_000, is_over: &mut || began.elapsed() > Duration::from_secs(wishes.seconds) },
            &mut |_| last = began.elapsed(),
        );
        let honest = find_with(None, &shrunk.case).map_or_else(|| "pass".to_owned(), |finding| finding.to_string());
        steps.push(shrunk.to.steps());
        println!(
            "{} | {} | {} -> {} | {} attempts | {:.1} s{} | honest: {}",
            mutant.name(),
            shrunk.finding.invariant,
            shrunk.from,
            shrunk.to,
            shrunk.attempts,
            began.elapsed().as_secs_f32(),
            if shrunk.ended == Ended::Budget { " BUDGET" } else { "" },
            honest.chars().take(120).collect::<String>(),
        );
        if let Some(folder) = &wishes.save
            && let Err(error) = save(folder, mutant, &shrunk.case)
        {
            println!("not saved: {error}");
        }
        if wishes.show {
            println!("{}\n{:#?}", shrunk.finding, shrunk.case);
        }
    }
    steps.sort_unstable();
    println!("{} shrunk, steps {steps:?}", steps.len());
}
