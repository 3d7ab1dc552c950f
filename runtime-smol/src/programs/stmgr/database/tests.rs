//! What the three commands say of a database that a node of schema 1 left (see `tests/schema-1`), sound and damaged.

use std::os::unix::fs::PermissionsExt;

use offset_protocol::identity::{Identity, Signer};

use super::super::super::exit::Exit;
use super::super::super::files;
use super::*;
use crate::store::Store;

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    /// A folder with the fixture `name` as `old.db`, and as the newest schema has it as `new.db`.
    fn with(fixture: &str) -> Place {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/schema-1");
        let place = Place { folder: tempfile::tempdir().unwrap() };
        let mut bytes = std::fs::read(fixtures.join(format!("{fixture}.db"))).unwrap();
        bytes.resize(1 << 20, 0);
        for file in ["old.db", "new.db"] {
            std::fs::write(place.at(file), &bytes).unwrap();
        }
        let identity: Identity = files::read(&fixtures.join(format!("{fixture}.ident"))).unwrap();
        drop(Store::open(&place.at("new.db"), identity.public_key()).unwrap());
        place
    }

    fn at(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    fn check(&self, file: &str) -> Result<Shown, Failure> {
        check(&Check { database: self.at(file) })
    }

    fn backup(&self, from: &str, to: &str) -> Result<Shown, Failure> {
        backup(&Backup { database: self.at(from), output: self.at(to) })
    }

    fn restore(&self, from: &str, to: &str) -> Result<Shown, Failure> {
        restore(&Restore { input: self.at(from), database: self.at(to), without_log: false })
    }
}

#[test]
fn a_database_of_each_schema_is_sound_and_the_table_says_what_is_in_it() {
    for fixture in ["alice", "bob"] {
        let place = Place::with(fixture);
        for (file, schema) in [("old.db", 1), ("new.db", 3)] {
            let before = std::fs::read(place.at(file)).unwrap();
            let shown = place.check(file).unwrap();
            assert_eq!(shown.failure, None);
            assert_eq!((&shown.fields["schema"], &shown.fields["sound"]), (&json!(schema), &json!(true)));
            let wrong = shown.fields["checks"].as_array().unwrap().iter().map(|check| check["wrong"].as_u64().unwrap());
            assert_eq!(wrong.sum::<u64>(), 0);
            let signatures = shown.fields["checks"][0]["checked"].as_u64().unwrap();
            assert!(signatures >= 3, "{signatures}");
            let usd = &shown.fields["currencies"][0];
            let expected = match fixture {
                "alice" => ("-525", "345", "0"),
                _ => ("45", "320", "345"),
            };
            assert_eq!(
                (usd["balance"].as_str(), usd["out_frozen"].as_str(), usd["in_frozen"].as_str()),
                (Some(expected.0), Some(expected.1), Some(expected.2))
            );
            assert!(
                shown.text.contains("signatures") && shown.text.contains("requests on their way"),
                "{}",
                shown.text
            );
            assert_eq!(std::fs::read(place.at(file)).unwrap(), before, "looking changes nothing");
        }
    }
}

#[test]
fn a_backup_is_restored_with_words_and_neither_is_written_over_anything() {
    let place = Place::with("alice");
    place.backup("new.db", "a.backup").unwrap();
    assert_eq!(std::fs::metadata(place.at("a.backup")).unwrap().permissions().mode() & 0o777, 0o600);
    let restored = place.restore("a.backup", "again.db").unwrap();
    for words in ["This is an old copy", "stctrl info friends", "stctrl config reset-friend", "Lost for good"] {
        assert!(restored.text.contains(words), "{}", restored.text);
    }
    let (before, after) = (place.check("new.db").unwrap(), place.check("again.db").unwrap());
    for field in ["things", "checks", "currencies", "records", "bytes"] {
        assert_eq!(before.fields[field], after.fields[field]);
    }
    for failure in [place.backup("new.db", "a.backup"), place.restore("a.backup", "new.db")] {
        let failure = failure.unwrap_err();
        assert!(failure.exit == Exit::Failed && failure.sentence.contains("exists already"), "{failure}");
    }
}

/// Found by a hostile reviewer: a node was refused for as long as signatures were verified, and the file of a running one grew.
#[test]
fn a_database_is_let_go_before_anybody_looks_at_what_it_means() {
    let place = Place::with("alice");
    let path = place.at("new.db");
    let (facts, records) = read(Source::open(&path).unwrap()).unwrap();
    drop(Store::open(&path, facts.owner).expect("a node can start"));
    assert!(inspect(&path, facts.owner, records).unwrap().is_sound());

    let (facts, records, copy) = read_and_copy(Source::open(&path).unwrap(), &place.at("copy.db")).unwrap();
    drop(Store::open(&path, facts.owner).expect("a node can start"));
    assert!(inspect(&path, facts.owner, records).unwrap().is_sound());
    // A copy has no name until its maker knows that it is worth one; without one it is gone.
    assert!(!place.at("copy.db").exists());
    drop(copy);
    let left: Vec<_> =
        std::fs::read_dir(place.folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| ["old.db", "new.db", "new.db-lock"].iter().any(|known| name == known)), "{left:?}");
}

#[test]
fn what_is_no_database_or_damaged_is_refused_and_names_the_file() {
    let place = Place::with("alice");
    std::fs::write(place.at("garbage"), [7; 100_000]).unwrap();
    let mut bytes = std::fs::read(place.at("new.db")).unwrap();
    bytes.truncate(500_000);
    std::fs::write(place.at("cut.db"), &bytes).unwrap();
    let mut bytes = std::fs::read(place.at("new.db")).unwrap();
    let places: Vec<_> = bytes.windows(3).enumerate().filter(|(_, three)| three == b"bob").map(|(at, _)| at).collect();
    assert!(!places.is_empty());
    places.into_iter().for_each(|at| bytes[at] = b'r');
    std::fs::write(place.at("flipped.db"), &bytes).unwrap();
    for (file, says) in [
        ("garbage", "garbage is not a node database"),
        ("cut.db", "cut.db is damaged: it has 500000 bytes"),
        ("flipped.db", "flipped.db is damaged at page"),
        ("missing", "missing"),
    ] {
        for failure in [place.check(file), place.backup(file, "out"), place.restore(file, "out")] {
            let failure = failure.unwrap_err();
            assert!(failure.exit == Exit::Failed && failure.sentence.contains(says), "{failure}");
        }
        assert!(!place.at("out").exists());
    }
}

/// Schema 1 has no checksums: what is wrong there is found by what the records prove.
#[test]
fn a_balance_that_nobody_signed_is_found() {
    let place = Place::with("alice");
    let mut bytes = std::fs::read(place.at("old.db")).unwrap();
    // -525 in the totals' encoding: a negative number of two bytes, 524.
    let (before, after) = ([0x39_u8, 0x02, 0x0c], [0x39_u8, 0x02, 0x0d]);
    let places: Vec<_> = bytes.windows(3).enumerate().filter(|(_, three)| *three == before).map(|(at, _)| at).collect();
    assert!(!places.is_empty());
    places.into_iter().for_each(|at| bytes[at..at + 3].copy_from_slice(&after));
    std::fs::write(place.at("old.db"), &bytes).unwrap();
    let shown = place.check("old.db").unwrap();
    let failure = shown.failure.unwrap();
    assert_eq!(failure.exit, Exit::Failed);
    assert!(failure.sentence.contains("is not sound"), "{failure}");
    assert!(shown.text.contains("the totals are not those that were signed"), "{}", shown.text);
    for failure in [place.restore("old.db", "out"), place.backup("old.db", "out")] {
        let failure = failure.unwrap_err();
        assert!(failure.sentence.contains("is not sound") && !place.at("out").exists(), "{failure}");
    }
}
