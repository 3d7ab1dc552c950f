//! Every case that is kept passes. A case is kept when what it found is mended (or was a bug on purpose): it must not be
//! found again. Files: `runtime-sim/cases/*.json`; each says what it found, when, and what was wrong.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use offset_runtime_sim::casefile::CaseFile;
use offset_runtime_sim::replay;

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
    let all = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = all.filter(|path| path.extension().is_some_and(|it| it == "json")).collect();
    files.sort();
    files
}

#[test]
fn what_was_found_once_is_not_found_again() {
    assert!(!files().is_empty());
    let again: Vec<String> = files()
        .into_iter()
        .filter_map(|path| {
            let file = CaseFile::read(&path).unwrap_or_else(|bad| panic!("{}: {bad}", path.display()));
            let finding = replay::find(&file.case)?;
            Some(format!("{}: {finding}", path.display()))
        })
        .collect();
    assert!(again.is_empty(), "{}", again.join("\n"));
}

#[test]
fn every_file_says_what_it_found_and_why() {
    for path in files() {
        let file = CaseFile::read(&path).unwrap();
        let name = path.display();
        let found = file.found.as_ref().unwrap_or_else(|| panic!("{name} found nothing"));
        assert!(!found.version.is_empty() && found.event > 0 && !found.finding.what.is_empty(), "{name}");
        assert!(!file.note.is_empty(), "{name} has no note");
        assert_eq!(file.to_json(), fs::read_to_string(&path).unwrap(), "{name} is not as it would be written");
    }
}
