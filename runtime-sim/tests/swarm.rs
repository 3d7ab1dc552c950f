//! A quick swarm: every fault and cheater, in worlds that nobody has seen before. The seeds are derived from the commit, so
//! each commit looks at others, and the same commit always at the same. `OFFSET_SWARM_SEEDS=A..B` runs those seeds instead.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a helper of tests, and figures for whoever runs it")]

use std::ops::Range;
use std::process::Command;

/// Seeds of an ordinary test run: less than a minute on the smallest machine that we know.
const SEEDS: u64 = 100;

fn seeds() -> Range<u64> {
    let Ok(text) = std::env::var("OFFSET_SWARM_SEEDS") else {
        let first = first_of_commit();
        return first..first + SEEDS;
    };
    let (from, to) = text.split_once("..").expect("OFFSET_SWARM_SEEDS is written as 0..100");
    from.parse().unwrap()..to.parse().unwrap()
}

/// Out of the first 32 bits of the commit's name; 0 where there is no repository.
fn first_of_commit() -> u64 {
    let git = Command::new("git").args(["rev-parse", "HEAD"]).current_dir(env!("CARGO_MANIFEST_DIR")).output();
    let name = git.ok().filter(|output| output.status.success()).map(|output| output.stdout).unwrap_or_default();
    let digits = name.get(..8).and_then(|digits| std::str::from_utf8(digits).ok()).unwrap_or("0");
    u64::from_str_radix(digits, 16).unwrap_or(0)
}

#[test]
fn nothing_breaks_in_worlds_that_nobody_has_seen_before() {
    let seeds = seeds();
    let folder = tempfile::tempdir().unwrap();
    let range = format!("{}..{}", seeds.start, seeds.end);
    let mut command = Command::new(env!("CARGO_BIN_EXE_stsim"));
    command.args(["swarm", "--seeds", &range]).current_dir(folder.path());
    // One shard of an array job is not what is asked for here.
    command
        .env_remove("SLURM_ARRAY_TASK_ID")
        .env_remove("JOB_COMPLETION_INDEX")
        .env_remove("AWS_BATCH_JOB_ARRAY_INDEX");
    let output = command.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{out}");
    assert!(output.status.success(), "OFFSET_SWARM_SEEDS={range}: {}\n{out}{err}", output.status);
}
