//! Arrows between crates only ever point down, and pure crates stay pure: read from the manifests and the sources.
// A step that fails is a test that fails.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const PURE: [&str; 4] = ["protocol", "relay-sm", "index-sm", "funder-sm"];

/// Crates that bring a runtime, a clock, a socket, a file or the system's randomness.
const IMPURE: [&str; 16] = [
    "smol",
    "async-io",
    "async-net",
    "async-executor",
    "futures-lite",
    "tokio",
    "mio",
    "socket2",
    "heed",
    "fs4",
    "getrandom",
    "rand",
    "signal-hook",
    "tracing-subscriber",
    "tempfile",
    "chrono",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The names under `[dependencies]` of a crate of ours.
fn dependencies(of: &str) -> BTreeSet<String> {
    let manifest = fs::read_to_string(root().join(of).join("Cargo.toml")).unwrap();
    let section = manifest.split("\n[dependencies]\n").nth(1).unwrap_or_default();
    let section = section.split("\n[").next().unwrap();
    let name = |line: &str| line.split(['.', ' ', '=']).next().unwrap().trim().to_owned();
    section.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')).map(name).collect()
}

fn ours(of: &str) -> BTreeSet<String> {
    dependencies(of).into_iter().filter_map(|name| name.strip_prefix("offset-").map(str::to_owned)).collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn crates_depend_only_on_those_below() {
    assert_eq!(ours("protocol"), set(&[]));
    for (crate_name, below) in [
        ("relay-sm", vec!["protocol"]),
        ("index-sm", vec!["protocol"]),
        ("funder-sm", vec!["protocol", "relay-sm", "index-sm"]),
        ("runtime-smol", vec!["protocol", "relay-sm", "index-sm", "funder-sm"]),
        ("runtime-sim", vec!["protocol", "relay-sm", "index-sm", "funder-sm"]),
    ] {
        let above: Vec<_> = ours(crate_name).difference(&set(&below)).cloned().collect();
        assert!(above.is_empty(), "{crate_name} depends on {above:?}");
        assert!(ours(crate_name).contains("protocol"), "the manifest of {crate_name} was not understood");
    }
}

#[test]
fn programs_are_built_without_what_drives_or_breaks_machines() {
    for crate_name in ["protocol", "relay-sm", "index-sm", "funder-sm", "runtime-smol"] {
        let manifest = fs::read_to_string(root().join(crate_name).join("Cargo.toml")).unwrap();
        let section = manifest.split("\n[dependencies]\n").nth(1).unwrap_or_default().split("\n[").next().unwrap();
        for feature in ["\"fuzz\"", "\"mutants\"", "\"meddle\"", "\"probes\""] {
            assert!(!section.contains(feature), "{crate_name} depends on something with the feature {feature}");
        }
    }
}

#[test]
fn pure_crates_depend_on_no_runtime() {
    for crate_name in PURE {
        let impure: Vec<_> = dependencies(crate_name).into_iter().filter(|name| IMPURE.contains(&&**name)).collect();
        assert!(impure.is_empty(), "{crate_name} depends on {impure:?}");
    }
    assert!(!dependencies("runtime-sim").contains("smol"));
}

#[test]
fn pure_crates_name_no_clock_socket_file_thread_or_hash_order() {
    let banned = [
        "std::time",
        "std::net",
        "std::fs",
        "std::thread",
        "std::process",
        "HashMap",
        "HashSet",
        "SystemTime",
        "OsRng",
        "thread_rng",
        "getrandom",
    ];
    for crate_name in PURE {
        for file in sources(&root().join(crate_name).join("src")) {
            let text = fs::read_to_string(&file).unwrap();
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            for (number, line) in code.enumerate() {
                let found = banned.iter().find(|word| line.contains(**word));
                assert!(found.is_none(), "{}: {found:?} near code line {number}: {line}", file.display());
            }
        }
    }
}

#[test]
fn pure_crates_forbid_unsafe_code_and_carry_the_bans() {
    for crate_name in PURE {
        let lib = fs::read_to_string(root().join(crate_name).join("src/lib.rs")).unwrap();
        assert!(lib.contains("#![forbid(unsafe_code)]"), "{crate_name}");
        let bans = fs::read_to_string(root().join(crate_name).join("clippy.toml")).unwrap();
        assert_eq!(bans, fs::read_to_string(root().join("protocol/clippy.toml")).unwrap(), "{crate_name}");
    }
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    assert!(!files.is_empty(), "no sources in {}", folder.display());
    files
}
