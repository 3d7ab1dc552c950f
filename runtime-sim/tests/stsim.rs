//! The program `stsim`, from outside: exit codes, files, and that what it reports does not depend on how it was run.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// A small and quick world.
const SMALL: [&str; 12] = [
    "--set",
    "fidelity=funds",
    "--set",
    "topology.nodes=6",
    "--set",
    "payments.count=8",
    "--set",
    "faults.families=crash,reset",
    "--set",
    "signatures=cheap",
    "--set",
    "phases.safety=30s",
];

fn stsim(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stsim"));
    command.args(arguments).current_dir(folder).env_remove("SLURM_ARRAY_TASK_ID").env_remove("JOB_COMPLETION_INDEX");
    command.output().unwrap()
}

fn small<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    arguments.iter().copied().chain(SMALL).collect()
}

fn code(folder: &Path, arguments: &[&str]) -> i32 {
    stsim(folder, arguments).status.code().unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|why| panic!("{why}: {output:?}"))
}

/// Without what is different every time.
fn timeless(mut report: Value) -> Value {
    report["wall_s"] = Value::Null;
    for run in report["runs"].as_array_mut().unwrap() {
        run["wall_us"] = Value::Null;
    }
    report
}

#[test]
fn every_end_has_its_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    assert_eq!(code(at, &small(&["run", "swarm", "--seed", "3"])), 0);
    assert_eq!(code(at, &small(&["run", "swarm", "--set", "expect.paid=1000"])), 1);
    assert_eq!(code(at, &small(&["run", "swarm", "--set", "limits.events=5"])), 7);
    assert_eq!(code(at, &small(&["swarm", "--seeds", "0..1000000", "--for", "200ms"])), 8);
    for wrong in [
        &["run", "no-such-scenario"][..],
        &["run", "swarm", "--set", "payments.cuont=3"],
        &["run"],
        &["swarm", "--seeds", "5..2"],
        &["swarm"],
        &["swarm", "--seeds", "0..2", "--shard", "2/2"],
        &["replay", "no-such-file"],
        &["compare", "a", "b"],
        &["topology", "no-such-file"],
        &["scenario", "--check", "no-such-file"],
        &["bench", "no-such-figure"],
        &["bench", "--percent", "0"],
        &["nonsense"],
    ] {
        let output = stsim(at, wrong);
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
        assert!(!output.stderr.is_empty() && output.stdout.is_empty(), "{wrong:?}");
    }
    for right in [&["--help"][..], &["--version"], &["run", "--help"], &["scenario"], &["scenario", "--explain"]] {
        let output = stsim(at, right);
        assert_eq!(output.status.code(), Some(0), "{right:?}");
        assert!(!output.stdout.is_empty());
    }
}

#[test]
fn a_run_is_the_same_again_and_its_files_are_written_once() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let run = |more: &[&str]| stsim(at, &small(&[&["run", "swarm", "--seed", "7", "--json"], more].concat()));
    let first = run(&["--case", "case.json", "--report", "report.html", "--trace", "trace.txt"]);
    let (first, second) = (json(&first), json(&run(&["--checks", "at-the-end"])));
    assert_eq!(first["trace_hash"], second["trace_hash"], "who looks on changes nothing");
    assert_eq!(first["events"], second["events"]);
    assert_eq!(first["payments"]["ok"].as_u64().unwrap() + first["payments"]["failed"].as_u64().unwrap(), 8);
    let trace = std::fs::read_to_string(at.join("trace.txt")).unwrap();
    assert_eq!(trace.lines().count() as u64, first["events"].as_u64().unwrap());
    assert!(std::fs::read_to_string(at.join("report.html")).unwrap().contains("swarm, seed 7"));
    assert_eq!(code(at, &["replay", "case.json"]), 0);
    let again = run(&["--case", "case.json"]);
    assert_eq!(again.status.code(), Some(2), "nothing is written over");
}

#[test]
fn a_swarm_reports_the_same_whatever_the_number_of_jobs_and_in_shards() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let swarm = |more: &[&str]| stsim(at, &small(&[&["swarm", "--seeds", "10..20", "--json"], more].concat()));
    let one = timeless(json(&swarm(&["--jobs", "1", "--repeat", "4"])));
    let three = timeless(json(&swarm(&["--jobs", "3", "--repeat", "4"])));
    assert_eq!(one, three);
    assert_eq!((&one["seeds"], &one["repeated"]), (&Value::from(10), &Value::from(3)));
    assert_eq!(one["exit_code"], 0, "{}", one["failed"]);
    for (name, shard) in [("a.json", "0/2"), ("b.json", "1/2")] {
        let part = swarm(&["--shard", shard, "--repeat", "0"]);
        assert_eq!(json(&part)["seeds"], 5);
        std::fs::write(at.join(name), part.stdout).unwrap();
    }
    let (mut merged, mut whole) = (timeless(json(&stsim(at, &["merge", "b.json", "a.json"]))), one);
    merged["repeated"] = Value::Null;
    whole["repeated"] = Value::Null;
    assert_eq!(merged, whole);
    let twice = stsim(at, &["merge", "a.json", "a.json"]);
    assert_eq!(twice.status.code(), Some(2));
    let compared = stsim(at, &["compare", "a.json", "b.json"]);
    assert_eq!(compared.status.code(), Some(0));
    assert!(String::from_utf8(compared.stdout).unwrap().contains("payments paid"));
}

#[test]
fn a_graph_is_made_written_and_read() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let made =
        json(&stsim(at, &["topology", "barabasi-albert", "nodes=500", "links=4", "--output", "g.csv", "--json"]));
    let read = json(&stsim(at, &["topology", "g.csv", "--json"]));
    for same in ["nodes", "friendships", "parts", "clustering_per_mille"] {
        assert_eq!(made[same], read[same], "{same}");
    }
    assert_eq!(made["nodes"], 500);
}

/// Node 0 pays node 3 over a line, and node 3, its accomplice, never answers.
const FROZEN: &str = "about = \"a line\"\n\
    [phases]\nsafety = \"60s\"\n[topology]\nkind = \"line\"\nnodes = 4\n[money]\nlimit = 1000\nfree_per_mille = 1000\nfee_add = 0\n\
    [payments]\ncount = 0\n[[cheater]]\nwho = \"node 3\"\ntricks = [\"withhold-response\"]\n\
    [[cheater]]\nwho = \"node 0\"\ntricks = [\"never-commit\"]\n\
    [[order]]\nbuyer = \"node 0\"\nseller = \"node 3\"\nat = \"10s\"\namount = 200\npatience = \"1d\"\n\
    [[order]]\nbuyer = \"node 1\"\nseller = \"node 2\"\nat = \"30s\"\namount = 100\n";

#[test]
fn what_a_cheater_freezes_is_told_and_may_be_expected_to_be_little() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    std::fs::write(at.join("frozen.toml"), FROZEN).unwrap();
    let run = json(&stsim(at, &["run", "frozen.toml", "--json"]));
    assert_eq!(run["exit_code"], 0, "{run}");
    // The deal with the cheater is none of people's payments, and neither are the probes.
    assert_eq!((&run["payments"]["ok"], &run["payments"]["open"]), (&Value::from(1), &Value::from(0)));
    let record = &run["result"]["facts"]["record"];
    assert_eq!(record["payments"]["with_cheaters"], 1);
    assert_eq!(record["tricks"]["friend: withhold-response"], 1);
    // Nodes 1 and 2 let each other owe 1000, and 200 are frozen of what the one could pay the other.
    let frozen = record["hardest_hit"]["frozen_per_mille"].as_u64().unwrap();
    assert!((180..=220).contains(&frozen), "{frozen}");
    let wanted = ["run", "frozen.toml", "--set", "expect.frozen_by_cheaters_per_mille=50"];
    let output = stsim(at, &wanted);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stdout).unwrap().contains("cheaters froze"));
    assert_eq!(code(at, &["run", "frozen.toml", "--set", "fidelity=funds"]), 2);
}

/// Exit codes that no healthy program has.
#[test]
#[cfg(feature = "mutants")]
fn a_broken_machine_ends_with_the_code_of_what_it_breaks_and_is_told_small() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let broken = ["--mutant", "FeeOffByOne"];
    let with = |words: &[&str]| stsim(at, &[words, &broken].concat());
    let found = with(&["run", "swarm", "--seed", "1", "--case", "c.json", "--report", "c.html"]);
    assert_eq!(found.status.code(), Some(3));
    assert!(
        String::from_utf8(found.stdout).unwrap().contains("again      stsim run swarm --seed 1 --mutant FeeOffByOne")
    );
    assert!(std::fs::read_to_string(at.join("c.html")).unwrap().contains("The smallest story that fails alike"));
    assert_eq!(with(&["shrink", "c.json"]).status.code(), Some(3));
    assert_eq!(with(&["replay", "c.small.json"]).status.code(), Some(3));
    assert_eq!(code(at, &["replay", "c.small.json"]), 0, "the machines themselves are well");
    assert_eq!(code(at, &["run", "swarm", "--seed", "1", "--mutant", "CommitLost"]), 4);
    assert_eq!(code(at, &["run", "swarm", "--mutant", "CommitLots"]), 2);
}

#[test]
fn a_figure_of_a_smaller_world_is_measured_by_a_child_and_neither_met_nor_missed() {
    let folder = tempfile::tempdir().unwrap();
    let output = stsim(folder.path(), &["bench", "event-loop", "funds-1k", "--percent", "2", "--json"]);
    assert_eq!(output.status.code(), Some(8), "{output:?}");
    let report = json(&output);
    assert_eq!(report["exit_code"], 8);
    for (place, name) in [(0, "event-loop"), (1, "funds-1k")] {
        let figure = &report["figures"][place];
        assert_eq!(figure["figure"], name);
        assert_eq!(figure["values"][0]["verdict"], "too-small", "{figure}");
        assert!(figure["values"][0]["measured"].as_f64().unwrap() > 0.0);
    }
    let table = stsim(folder.path(), &["bench", "event-loop", "--percent", "1"]);
    assert!(String::from_utf8(table.stdout).unwrap().contains("too small to say"));
}
