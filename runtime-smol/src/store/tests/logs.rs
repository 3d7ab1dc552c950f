//! Logs that are not where they should be, and logs of hostile bytes.

use proptest::prelude::*;

use super::log::frame::{self, HEAD, Layout};
use super::log::recover::recover;
use super::*;

/// A database whose node was killed: its newest records are in the log.
fn killed() -> Place {
    let place = place();
    let store = Store::create_with(&place.path, NODE, SMALL_LOG).unwrap();
    store.commit(vec![put(b"a", b"1"), put(b"b", b"2")]).unwrap();
    store.commit(vec![remove(b"a")]).unwrap();
    let [pages, log] = [place.path.clone(), log::beside(&place.path)].map(|path| (std::fs::read(&path).unwrap(), path));
    drop(store);
    for (bytes, path) in [pages, log] {
        std::fs::write(path, bytes).unwrap();
    }
    place
}

/// What opening and reading say, which change nothing.
fn refused(place: &Place) -> StoreError {
    let before = names(&place.path);
    let errors = [Store::open(&place.path, NODE).unwrap_err(), Source::open(&place.path).unwrap_err()];
    assert_eq!(names(&place.path), before);
    let [error, other] = errors;
    assert_eq!(error.to_string(), other.to_string());
    error
}

#[test]
fn what_a_killed_node_left_is_read_checked_and_copied_as_it_lies() {
    let place = killed();
    let before = [std::fs::read(&place.path).unwrap(), std::fs::read(log::beside(&place.path)).unwrap()];
    let source = Source::open(&place.path).unwrap();
    assert_eq!((source.is_in_use(), source.groups_in_log()), (false, 2));
    let copied = copy(&source, &place.path.with_file_name("copy")).unwrap();
    assert_eq!((copied.records, copied.bytes, copied.in_log), (1, 2, 2));
    drop(source);
    let after = [std::fs::read(&place.path).unwrap(), std::fs::read(log::beside(&place.path)).unwrap()];
    assert!(before == after, "looking changes nothing");
    let expected = vec![(b"b".to_vec(), b"2".to_vec())];
    assert_eq!(content(&place.path.with_file_name("copy")), expected);
    assert_eq!(content(&place.path), expected);
}

#[test]
fn a_log_that_is_missing_or_of_another_database_is_named_with_what_to_do() {
    let place = killed();
    let log = log::beside(&place.path);
    let away = place.path.with_file_name("away");
    std::fs::rename(&log, &away).unwrap();
    let error = refused(&place);
    assert!(matches!(&error, StoreError::LogLost { log: lost, .. } if *lost == log), "{error}");
    let says = error.to_string();
    assert!(
        says.contains("node.db-log, which is missing") && says.ends_with("(stmgr restore --without-log)"),
        "{says}"
    );
    let other = killed();
    std::fs::copy(log::beside(&other.path), &log).unwrap();
    let error = refused(&place);
    assert!(error.to_string().contains("is another database's, or of another time"), "{error}");
    for garbage in [vec![], vec![0; 200_000], vec![0xa5; 200_000]] {
        std::fs::write(&log, garbage).unwrap();
        assert!(matches!(refused(&place), StoreError::LogDamaged { .. }));
        // The way out, which is an old copy.
        let source = Source::open_without_log(&place.path).unwrap();
        assert_eq!(source.read(&mut |_, _| Ok(())).unwrap().records, 0);
    }
    std::fs::rename(&away, &log).unwrap();
    assert_eq!(content(&place.path).len(), 1);
}

#[test]
fn a_log_that_somebody_may_need_is_neither_read_nor_written_over() {
    let (place, other) = (killed(), killed());
    let log = log::beside(&place.path);
    // The database is moved away, and another one comes to its place.
    std::fs::remove_file(&place.path).unwrap();
    let error = create(&place.path, NODE).unwrap_err();
    assert!(matches!(&error, StoreError::Exists { path } if *path == log), "{error}");
    drop(Store::open(&other.path, NODE).unwrap());
    std::fs::copy(&other.path, &place.path).unwrap();
    let before = std::fs::read(&log).unwrap();
    let error = Store::open(&place.path, NODE).unwrap_err();
    assert!(matches!(&error, StoreError::ForeignLog { path } if *path == log), "{error}");
    assert_eq!(Source::open(&place.path).unwrap().groups_in_log(), 0, "whoever reads needs it not");
    assert!(std::fs::read(&log).unwrap() == before);
    for garbage in [vec![1; 10], vec![0xa5; 200_000]] {
        std::fs::write(&log, &garbage).unwrap();
        assert!(matches!(Store::open(&place.path, NODE), Err(StoreError::ForeignLog { .. })));
        assert!(std::fs::read(&log).unwrap() == garbage);
    }
    std::fs::remove_file(&log).unwrap();
    std::fs::create_dir(&log).unwrap();
    assert!(matches!(Store::open(&place.path, NODE), Err(StoreError::ForeignLog { .. })));
    std::fs::remove_dir(&log).unwrap();
    assert_eq!(content(&place.path).len(), 1);
}

#[test]
fn a_log_for_which_there_is_no_room_leaves_the_database_as_it_was() {
    let place = place();
    create(&place.path, NODE).unwrap();
    with_files_of(2_000, "store::tests::logs::open_without_room", &place.path);
    assert_eq!(names(&place.path), ["node.db", "node.db-lock"]);
    assert!(content(&place.path).is_empty());
}

#[test]
#[ignore = "run by a_log_for_which_there_is_no_room_leaves_the_database_as_it_was"]
fn open_without_room() {
    let Some(path) = std::env::var_os("OFFSET_TEST_DB").map(PathBuf::from) else { return };
    let error = Store::open(&path, NODE).unwrap_err();
    assert!(matches!(&error, StoreError::LogFile { path: log, .. } if *log == log::beside(&path)), "{error}");
}

#[test]
fn an_end_for_which_the_pages_have_no_room_is_said_and_loses_nothing() {
    let room = Room { largest: engine::FIRST_MAP, ..SMALL_LOG };
    let (place, count, error) = (1..40_u8)
        .find_map(|count| {
            let place = place();
            let store = Store::create_with(&place.path, NODE, room).unwrap();
            (0..count).for_each(|n| store.commit(vec![put(&[n], &[n; 50_000])]).unwrap());
            store.close().err().map(|error| (place, count, error))
        })
        .unwrap();
    let StoreError::LeftOpen { path, why } = &error else { panic!("{error}") };
    assert!(*path == place.path && matches!(**why, StoreError::Full { .. }), "{error}");
    assert_eq!(names(&place.path), ["node.db", "node.db-lock", "node.db-log"]);
    // With more room everything is there.
    let (store, records) = Store::open(&place.path, NODE).unwrap();
    assert_eq!(records, (0..count).map(|n| (vec![n], vec![n; 50_000])).collect::<Records>());
    store.close().unwrap();
    assert_eq!(names(&place.path), ["node.db", "node.db-lock"]);
}

#[test]
fn commits_of_every_size_around_a_half_are_kept() {
    for more in [-600_i32, -64, -1, 0, 1, 64, 600] {
        let place = place();
        let store = Store::create_with(&place.path, NODE, SMALL_LOG).unwrap();
        let size = SMALL_LOG.half - frame::GROUP - 5 - 1;
        let large = vec![7; size.checked_add_signed(more as isize).unwrap()];
        store.commit(vec![put(b"0", b"before")]).unwrap();
        store.commit(vec![put(b"1", &large)]).unwrap();
        store.commit(vec![put(b"2", b"after")]).unwrap();
        store.commit(vec![put(b"1", &large), put(b"0", b"again")]).unwrap();
        let expected = [&b"again"[..], &large, b"after"].map(<[u8]>::to_vec);
        let (pages, log) = (std::fs::read(&place.path).unwrap(), std::fs::read(log::beside(&place.path)).unwrap());
        drop(store);
        let values = |path| content(path).into_iter().map(|(_, value)| value);
        assert!(values(&place.path).eq(expected.clone()));
        std::fs::write(&place.path, pages).unwrap();
        std::fs::write(log::beside(&place.path), log).unwrap();
        assert!(values(&place.path).eq(expected), "and after a crash");
    }
}

const LAYOUT: Layout = Layout { id: meta::LogId([9; 16]), half: 8 << 10, block: 512 };

/// A file with groups from `first` on, of so many changes each.
fn file_of(first: u64, groups: &[u8]) -> Vec<u8> {
    let mut file = vec![0; LAYOUT.length()];
    let mut at = HEAD;
    for (number, count) in (first..).zip(groups) {
        let changes: Vec<_> =
            (0..*count).map(|n| if n % 4 == 3 { remove(&[n]) } else { put(&[n], &[*count; 30]) }).collect();
        let size = frame::size(&changes).next_multiple_of(512);
        frame::write(LAYOUT.id, number, &changes, &mut file[at..at + size]);
        at += size;
    }
    file
}

proptest! {
    /// Nothing panics, whatever a file says; and what is taken for a log is a beginning of one.
    #[test]
    fn hostile_bytes_end_in_words(
        first in 0..u64::MAX - 100,
        groups in proptest::collection::vec(0..12_u8, 0..10),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..20),
        applied in any::<u64>(),
        follows in any::<bool>(),
        length in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let mut file = file_of(first, &groups);
        for (at, byte) in &changes {
            let at = at.index(file.len());
            file[at] = *byte;
        }
        if let Some(length) = length {
            file.truncate(length.index(file.len()));
        }
        let applied = if follows { first.wrapping_sub(1) } else { applied };
        if let Ok(recovered) = recover(&file, &LAYOUT, applied) {
            prop_assert!(recovered.groups <= groups.len() as u64);
            prop_assert!(recovered.overlay.bytes() <= file.len());
        }
        let _ = Layout::parse(&file);
    }

    /// Lengths that a forger sealed as they are: they are looked at before they are believed.
    #[test]
    fn sealed_lies_end_in_words(body in proptest::collection::vec(any::<u8>(), 0..300)) {
        let changes = frame::changes(&body);
        let bytes = |changes: &[Change]| changes.iter().map(|one| one.key.len() + one.value.as_ref().map_or(0, Vec::len)).sum::<usize>();
        prop_assert!(changes.is_none_or(|changes| bytes(&changes) <= body.len()));
    }
}
