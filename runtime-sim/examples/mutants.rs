//! Hunts every mutant and prints the table: `cargo run --release -p offset-runtime-sim --features mutants --example mutants`.
//!
//! Arguments: `--only NAME`, `--numbers A..B` (default 0..400), `--seconds N` for each mutant (default 60), `--honest` (no
//! mutant: nothing may be found), with `--plain` no rare behaviour either.

#![allow(
    clippy::print_stdout,
    clippy::disallowed_types,
    reason = "a program that prints, and keeps to a budget of time"
)]

use std::ops::Range;
use std::time::{Duration, Instant};

use offset_runtime_sim::case::Rare;
use offset_runtime_sim::mutants::{COMPILED, Mutant, case, expects, find, hunt};

struct Wishes {
    only: Option<String>,
    numbers: Range<u64>,
    seconds: u64,
    honest: bool,
    plain: bool,
}

fn wishes() -> Option<Wishes> {
    let mut wishes = Wishes { only: None, numbers: 0..400, seconds: 60, honest: false, plain: false };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--only" => wishes.only = arguments.next(),
            "--numbers" => {
                let text = arguments.next()?;
                let (from, to) = text.split_once("..")?;
                wishes.numbers = from.parse().ok()?..to.parse().ok()?;
            }
            "--seconds" => wishes.seconds = arguments.next()?.parse().ok()?,
            "--honest" => wishes.honest = true,
            "--plain" => wishes.plain = true,
            _ => return None,
        }
    }
    Some(wishes)
}

fn main() {
    let Some(wishes) = wishes() else {
        println!("--only NAME, --numbers A..B, --seconds N, --honest, --plain");
        std::process::exit(2);
    };
    std::panic::set_hook(Box::new(|_| {}));
    if wishes.honest {
        return honest(&wishes);
    }
    if !COMPILED {
        println!("built without the feature `mutants`: no machine is broken");
        std::process::exit(2);
    }
    let wanted = |mutant: &&Mutant| wishes.only.as_ref().is_none_or(|only| only.split(',').any(|n| n == mutant.name()));
    let mut survivors = 0;
    for &mutant in Mutant::ALL.iter().filter(wanted) {
        survivors += usize::from(!search(mutant, &wishes));
    }
    println!("{survivors} survive");
    std::process::exit(i32::from(survivors > 0));
}

fn search(mutant: Mutant, wishes: &Wishes) -> bool {
    let began = Instant::now();
    let mut tried = 0;
    let found = wishes.numbers.clone().take_while(|_| began.elapsed() < Duration::from_secs(wishes.seconds));
    let found = found.inspect(|_| tried += 1).find_map(|number| hunt(mutant, number..number + 1));
    let head = format!("{:?} | {} | I{}", mutant.home(), mutant.name(), expects(mutant));
    let spent = began.elapsed().as_secs_f32();
    match &found {
        Some(found) => {
            let what: String = found.violation.what.chars().take(110).collect();
            println!(
                "{head} | {:?} | {} | {tried} | {spent:.1} | {}",
                found.violation.invariant,
                found.number,
                what.replace('\n', " ")
            );
        }
        None => println!("{head} | SURVIVES | - | {tried} | {spent:.1} |"),
    }
    found.is_some()
}

fn honest(wishes: &Wishes) {
    let began = Instant::now();
    let (mut runs, mut failed) = (0, 0);
    for number in wishes.numbers.clone().take_while(|_| began.elapsed() < Duration::from_secs(wishes.seconds)) {
        runs += 1;
        let mut case = case(number);
        if wishes.plain {
            case.rare = Rare::Off;
        }
        if let Some(violation) = find(None, &case) {
            failed += 1;
            println!("case {number}: {violation}");
        }
    }
    println!("{runs} honest runs in {:.1} s, {failed} failed", began.elapsed().as_secs_f32());
    std::process::exit(i32::from(failed > 0));
}
