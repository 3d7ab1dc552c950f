//! Cases as files: a case, what it was found to break, and when.
//!
//! A case file is kept for good. While the bug is there it shows it; after it is fixed it is replayed by the tests, so that
//! the bug does not come back. It may come from anybody: nothing in it is believed before it was checked.
//!
//! | what is hostile | what happens |
//! |---|---|
//! | a file beyond [`MAX_BYTES`] | refused before it is read |
//! | another format, unknown fields, text where a number belongs | refused with the place in the file |
//! | a reference to nobody, an amount or time out of range, things out of order | refused: [`Case::check`] says which |
//!
//! Not checked: that a case is fast.

mod check;

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

pub use check::BadCase;

use crate::case::{Case, FORMAT};
use crate::result::{Finding, version};

/// Larger files are refused. A case of 100,000 nodes with 400,000 friendships has about 130 MB.
pub const MAX_BYTES: u64 = 256 << 20;

/// A case, and what it was found to break.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaseFile {
    /// [`FORMAT`]; another number is refused.
    pub format: u32,
    /// What running it came to when it was saved; `None`: it passed.
    pub found: Option<Found>,
    /// For its readers: what broke, why, how it was fixed.
    #[serde(default)]
    pub note: String,
    /// The case.
    pub case: Case,
}

/// What a case came to when it was saved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Found {
    /// The version that found it.
    pub version: String,
    /// The event during which it was found.
    pub event: u64,
    /// What: the invariant, the host and its role, the time, the words.
    pub finding: Finding,
}

/// A case file that is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum BadCaseFile {
    /// The file cannot be read or written.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It is too large.
    #[error("a case file has at most {MAX_BYTES} bytes, this one has more")]
    TooLarge,
    /// It is no case file.
    #[error("this is no case file: {0}")]
    Json(#[from] serde_json::Error),
    /// Of another format.
    #[error("this is a case file of format {0}, this version reads format {FORMAT}")]
    Format(u32),
    /// Its case makes no sense.
    #[error("the case makes no sense: {0}")]
    Case(#[from] BadCase),
}

/// All that is read of a file before its format is known.
#[derive(Deserialize)]
struct Head {
    format: u32,
}

impl CaseFile {
    /// A case that this version has just run, and what was found during which event.
    pub fn new(case: Case, finding: Option<Finding>, event: u64) -> Self {
        let found = finding.map(|finding| Found { version: version(), event, finding });
        CaseFile { format: FORMAT, found, note: String::new(), case }
    }

    /// Reads a case file.
    ///
    /// # Errors
    /// [`BadCaseFile`].
    pub fn read(path: &Path) -> Result<Self, BadCaseFile> {
        let mut bytes = Vec::new();
        File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
        Self::from_json(&bytes)
    }

    /// Reads what a case file contains.
    ///
    /// # Errors
    /// [`BadCaseFile`].
    pub fn from_json(bytes: &[u8]) -> Result<Self, BadCaseFile> {
        if bytes.len() as u64 > MAX_BYTES {
            return Err(BadCaseFile::TooLarge);
        }
        let Head { format } = serde_json::from_slice(bytes)?;
        if format != FORMAT {
            return Err(BadCaseFile::Format(format));
        }
        let file: CaseFile = serde_json::from_slice(bytes)?;
        file.case.check()?;
        Ok(file)
    }

    /// As text, with a line for each thing: what git and people can compare.
    pub fn to_json(&self) -> String {
        // A case is numbers, texts and lists of them: that has always a form in JSON.
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }

    /// Writes the file, over whatever was there.
    ///
    /// # Errors
    /// What the system says.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let mut file = File::create(path)?;
        file.write_all(self.to_json().as_bytes())?;
        file.sync_all()
    }

    /// A Rust test that runs the case and wants it to pass: for a file in `runtime-sim/tests`. `name` names the test, and
    /// its case file in `runtime-sim/cases`.
    pub fn to_test(&self, name: &str) -> String {
        let identifier: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        let found = match &self.found {
            Some(Found { version, event, finding }) => format!("Version {version} found, at event {event}: {finding}."),
            None => "Nothing was found in it.".to_owned(),
        };
        let lines: String = found.lines().map(|line| format!("//! {line}\n")).collect();
        format!(
            "//! A case that was found by the simulator, and made small by it.\n//!\n{lines}\n\
             #![allow(clippy::unwrap_used)]\n\n\
             use std::path::Path;\n\n\
             use offset_runtime_sim::casefile::CaseFile;\nuse offset_runtime_sim::replay;\n\n\
             #[test]\nfn case_{identifier}_passes() {{\n    \
             let path = Path::new(env!(\"CARGO_MANIFEST_DIR\")).join(\"cases/{name}.json\");\n    \
             let file = CaseFile::read(&path).unwrap();\n    \
             assert_eq!(replay::find(&file.case), None);\n}}\n"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line::{self, LineSpec};
    use offset_protocol::machine::{Instant, Seed};

    fn case() -> Case {
        line::case(3, &LineSpec::small(&Seed::from_number(3)))
    }

    fn file() -> CaseFile {
        let finding = Finding {
            invariant: "frozen".to_owned(),
            at: Instant::from_micros(7),
            host: Some(4),
            role: Some("node 1".to_owned()),
            what: "so".to_owned(),
        };
        CaseFile::new(case(), Some(finding), 12)
    }

    #[test]
    fn a_file_reads_back_as_it_was_written() {
        for seed in 0..20 {
            let case = line::case(seed, &LineSpec::small(&Seed::from_number(seed)));
            let file = CaseFile { case, note: "why".to_owned(), ..file() };
            assert_eq!(CaseFile::from_json(file.to_json().as_bytes()).unwrap(), file);
        }
    }

    #[test]
    fn large_amounts_read_back() {
        let mut file = file();
        file.case.friendships[0].terms[0].a_grants = (1 << 100) - 1;
        assert_eq!(CaseFile::from_json(file.to_json().as_bytes()).unwrap(), file);
    }

    #[test]
    fn another_format_and_what_is_no_case_are_refused() {
        let text = file().to_json();
        let other = text.replacen("\"format\": 1", "\"format\": 2", 1);
        assert!(matches!(CaseFile::from_json(other.as_bytes()), Err(BadCaseFile::Format(2))));
        let unknown = text.replacen("\"note\"", "\"nota\"", 1);
        assert!(matches!(CaseFile::from_json(unknown.as_bytes()), Err(BadCaseFile::Json(_))));
        for bytes in [&b""[..], b"[]", b"{}", b"{\"format\":1}", &[0xff; 40], &text.as_bytes()[..text.len() / 2]] {
            assert!(matches!(CaseFile::from_json(bytes), Err(BadCaseFile::Json(_))));
        }
        let nested = "[".repeat(1_000_000);
        assert!(matches!(CaseFile::from_json(nested.as_bytes()), Err(BadCaseFile::Json(_))));
    }

    #[test]
    fn a_case_that_makes_no_sense_is_refused() {
        let mut file = file();
        file.case.friendships[0].b = 77;
        assert!(matches!(CaseFile::from_json(file.to_json().as_bytes()), Err(BadCaseFile::Case(_))));
    }

    #[test]
    fn the_test_of_a_case_names_it_and_what_it_found() {
        let test = file().to_test("lost-collect");
        for part in ["fn case_lost_collect_passes()", "cases/lost-collect.json", "at event 12: frozen"] {
            assert!(test.contains(part), "{part} in {test}");
        }
    }
}
