//! Files that commands write: never over something that is there.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::Failure;
use crate::case::Case;
use crate::casefile::CaseFile;
use crate::result::{Facts, Finding, Verdict};

/// Names that are tried for a case whose name is taken. Chosen freely.
const MOST_NAMES: u32 = 1_000;

/// That nothing is there yet: asked before the work is done.
pub(super) fn must_be_free(paths: &[&Option<PathBuf>]) -> Result<(), Failure> {
    match paths.iter().filter_map(|path| path.as_ref()).find(|path| path.exists()) {
        Some(path) => Err(Failure::of_file(path, "is there already, and is not written over")),
        None => Ok(()),
    }
}

/// Writes a file that is not there yet.
pub(super) fn write_new(path: &Path, text: &str) -> Result<(), Failure> {
    let file = OpenOptions::new().write(true).create_new(true).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|why| Failure::of_file(path, why))
}

/// The case file of a run.
pub(super) fn case_file(case: &Case, facts: &Facts) -> CaseFile {
    let finding = match &facts.verdict {
        Verdict::Violation(finding) | Verdict::Liveness(finding) => Some(finding.clone()),
        Verdict::Panic { message } => Some(Finding {
            invariant: crate::replay::PANIC.to_owned(),
            at: offset_protocol::machine::Instant::ZERO,
            host: None,
            role: None,
            what: message.clone(),
        }),
        Verdict::Pass
        | Verdict::Missed { .. }
        | Verdict::NotDeterministic { .. }
        | Verdict::ResourceLimit { .. }
        | Verdict::Budget { .. } => None,
    };
    CaseFile::new(case.clone(), finding, facts.events)
}

/// Writes a case into a folder, under a name that is free; says which.
pub(super) fn save_case(folder: &Path, case: &Case, facts: &Facts) -> Result<PathBuf, Failure> {
    std::fs::create_dir_all(folder).map_err(|why| Failure::of_file(folder, why))?;
    let text = case_file(case, facts).to_json();
    for attempt in 0..MOST_NAMES {
        let name = match attempt {
            0 => format!("{}-{}.json", case.scenario, case.seed),
            more => format!("{}-{}.{more}.json", case.scenario, case.seed),
        };
        let path = folder.join(name);
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(mut file) => {
                file.write_all(text.as_bytes()).map_err(|why| Failure::of_file(&path, why))?;
                return Ok(path);
            }
            // What an earlier run of the same found is the same file.
            Err(why) if why.kind() == std::io::ErrorKind::AlreadyExists => {
                if std::fs::read_to_string(&path).is_ok_and(|there| there == text) {
                    return Ok(path);
                }
            }
            Err(why) => return Err(Failure::of_file(&path, why)),
        }
    }
    Err(Failure::of_file(folder, format!("has {MOST_NAMES} cases of seed {} already", case.seed)))
}
