//! Copies, and reading from another process while this one writes.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use super::*;

const OTHER_PROCESS: Duration = Duration::from_secs(60);

/// Runs one of the ignored tests below in a process of its own: LMDB wants one process to open a file once.
fn elsewhere(test: &str, place: &Place) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", &format!("store::tests::copies::{test}")])
        .env("OFFSET_TEST_DB", &place.path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn given() -> Option<PathBuf> {
    std::env::var_os("OFFSET_TEST_DB").map(PathBuf::from)
}

/// Round `n` of a writer: all 50 records say `n`, so that a mixture would show.
fn round(n: u32) -> Vec<Change> {
    (0..50_u32).map(|key| put(&key.to_be_bytes(), &[n.to_be_bytes().as_slice(), &[7; 1_000]].concat())).collect()
}

fn round_of(value: &[u8]) -> u32 {
    u32::from_be_bytes(value[..4].try_into().unwrap())
}

#[test]
#[ignore = "run by copies_of_a_database_that_is_written_to_are_of_one_moment"]
fn copy_ten_times() {
    let Some(path) = given() else { return };
    let mut last = 0;
    for n in 0..10 {
        let output = path.with_file_name(format!("{n}.copy"));
        let source = Source::open(&path).unwrap();
        assert!(source.is_in_use());
        std::thread::sleep(Duration::from_millis(20));
        copy(&source, &output).unwrap();
        drop(source);
        let mut rounds = Vec::new();
        let copied = Source::open(&output).unwrap();
        copied
            .read(&mut |_, value| {
                rounds.push(round_of(value));
                Ok(())
            })
            .unwrap();
        drop(copied);
        assert_eq!(rounds.len(), 50);
        assert!(rounds.iter().all(|round| *round == rounds[0] && *round >= last), "{last}, {rounds:?}");
        last = rounds[0];
    }
    assert!(last > 0, "nobody wrote");
}

#[test]
fn copies_of_a_database_that_is_written_to_are_of_one_moment() {
    let place = place();
    // Halves of four rounds: a copy meets the pages while they take one.
    let room = Room { half: 256 << 10, ..Room::default() };
    let store = Store::create_with(&place.path, NODE, room).unwrap();
    store.commit(round(0)).unwrap();
    let mut other = elsewhere("copy_ten_times", &place);
    let begun = Instant::now();
    let mut n = 0;
    while other.try_wait().unwrap().is_none() {
        n += 1;
        store.commit(round(n)).unwrap();
        assert!(begun.elapsed() < OTHER_PROCESS, "the other process does not end");
    }
    let output = other.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    drop(store);
    assert!(content(&place.path).iter().all(|(_, value)| round_of(value) == n));
}

#[test]
#[ignore = "run by a_busy_node_is_never_called_damaged"]
fn look_again_and_again() {
    let Some(path) = given() else { return };
    let (mut found, mut changing, mut other) = (0, 0, Vec::new());
    for _ in 0..300 {
        let file = File::open(&path).unwrap();
        match source::look_once(&path, &file) {
            Ok(_) => found += 1,
            Err(StoreError::Changing { .. }) => changing += 1,
            Err(error) => other.push(error.to_string()),
        }
    }
    // A group of the log can be seen before the one before it, which only another look tells from damage.
    assert!(changing > 0 && found > 0 && other.len() < 5, "{found} found, {changing} changing, {other:?}");
}

/// Each commit goes to the pages and each look may meet one.
#[test]
fn a_busy_node_is_never_called_damaged() {
    let place = place();
    let store = Store::create_with(&place.path, NODE, NEXT_TO_NO_LOG).unwrap();
    let mut other = elsewhere("look_again_and_again", &place);
    let begun = Instant::now();
    let mut n = 0;
    while other.try_wait().unwrap().is_none() {
        n += 1;
        // Through the log, and past it.
        store.commit(if n % 2 == 0 { round(n) } else { vec![put(b"small", &n.to_be_bytes())] }).unwrap();
        assert!(begun.elapsed() < OTHER_PROCESS, "the other process does not end");
    }
    let output = other.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
#[ignore = "run by what_stands_in_the_log_alone_is_read_and_copied"]
fn copy_what_is_in_the_log() {
    let Some(path) = given() else { return };
    let output = path.with_file_name("copy");
    let source = Source::open(&path).unwrap();
    assert_eq!((source.is_in_use(), source.groups_in_log()), (true, 3));
    let copied = copy(&source, &output).unwrap();
    assert_eq!((copied.records, copied.in_log), (51, 52));
    let source = Source::open(&output).unwrap();
    assert_eq!(source.groups_in_log(), 0);
    assert_eq!(source.read(&mut |_, _| Ok(())).unwrap().in_log, 0);
    assert_eq!(names(&path), ["copy", "node.db", "node.db-lock", "node.db-log"], "a copy is one file");
}

#[test]
fn what_stands_in_the_log_alone_is_read_and_copied() {
    let place = place();
    let store = Store::create(&place.path, NODE).unwrap();
    store.commit(round(0)).unwrap();
    store.commit(vec![put(b"before all", b"1"), put(b"gone", b"1")]).unwrap();
    store.commit(vec![remove(b"gone")]).unwrap();
    let output = elsewhere("copy_what_is_in_the_log", &place).wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    drop(store);
    assert_eq!(content(&place.path), content(&place.path.with_file_name("copy")));
}

#[test]
#[ignore = "run by a_reader_that_was_killed_keeps_no_pages_for_ever"]
fn read_and_hang() {
    let Some(path) = given() else { return };
    let _source = Source::open(&path).unwrap();
    std::fs::write(path.with_file_name("reading"), "").unwrap();
    std::thread::sleep(OTHER_PROCESS);
}

#[test]
fn a_reader_that_was_killed_keeps_no_pages_for_ever() {
    let place = place();
    let store = Store::create_with(&place.path, NODE, NEXT_TO_NO_LOG).unwrap();
    store.commit(round(0)).unwrap();
    let size = |n: u32| {
        (1..=n).for_each(|n| store.commit(round(n)).unwrap());
        store.counters().used_bytes.load(Relaxed)
    };
    let alone = size(40);
    let mut other = elsewhere("read_and_hang", &place);
    let begun = Instant::now();
    while !place.path.with_file_name("reading").exists() {
        assert!(begun.elapsed() < OTHER_PROCESS, "the other process does not read");
        std::thread::sleep(Duration::from_millis(5));
    }
    let read = size(10);
    assert!(read > alone + 8 * 50 * 1_000, "what is read is kept: {alone} bytes alone, {read} with a reader");
    other.kill().unwrap();
    other.wait().unwrap();
    // Far more is written than would fit if every old page were kept.
    let after = size(400);
    let limit = 2 * engine::FIRST_MAP;
    assert!(after <= limit, "{alone} bytes alone, {read} with a reader, {after} long after it was killed");
    drop(store);
    assert!(content(&place.path).iter().all(|(_, value)| round_of(value) == 400), "and no page is lost by it");
}

#[test]
fn a_copy_holds_every_record_and_is_never_written_over_anything() {
    let place = place();
    let output = place.path.with_file_name("copy.db");
    let store = Store::create(&place.path, NODE).unwrap();
    // More than one transaction of a copy, and more than the first map.
    for chunk in 0..8_u32 {
        let keys = chunk * 5_000..(chunk + 1) * 5_000;
        store.commit(keys.map(|n| put(&n.to_be_bytes(), &[chunk as u8; 150])).collect()).unwrap();
    }
    store.commit(vec![put(b"large", &vec![3; 2 << 20])]).unwrap();
    drop(store);
    let source = Source::open(&place.path).unwrap();
    let copied = copy(&source, &output).unwrap();
    assert_eq!(copied.records, 40_001);
    assert!(matches!(copy(&source, &output), Err(StoreError::Exists { .. })));
    drop(source);
    assert_eq!(std::fs::metadata(&output).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(content(&output) == content(&place.path));
    let mut names: Vec<_> = std::fs::read_dir(output.parent().unwrap())
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.ends_with("-lock"))
        .collect();
    names.sort();
    assert_eq!(names, ["copy.db", "node.db"], "nothing is left behind");
}

#[test]
fn a_damaged_database_is_not_copied() {
    let place = place();
    let output = place.path.with_file_name("copy.db");
    let store = Store::create(&place.path, NODE).unwrap();
    store.commit((0..500_u32).map(|n| put(&n.to_be_bytes(), b"a value to be looked for")).collect()).unwrap();
    drop(store);
    let mut bytes = std::fs::read(&place.path).unwrap();
    // Every copy of it: some lie where pages have nothing any more.
    let text = b"a value to be looked for";
    let places: Vec<_> = bytes.windows(24).enumerate().filter(|(_, window)| window == text).map(|(at, _)| at).collect();
    places.into_iter().for_each(|at| bytes[at] ^= 4);
    std::fs::write(&place.path, &bytes).unwrap();
    let source = Source::open(&place.path).unwrap();
    let error = copy(&source, &output).unwrap_err();
    assert!(matches!(&error, StoreError::BadChecksum { path, .. } if *path == place.path), "{error}");
    drop(source);
    assert!(!output.exists());
    assert!(matches!(Store::open(&place.path, NODE), Err(StoreError::BadChecksum { .. })));
    assert_eq!(std::fs::read(&place.path).unwrap(), bytes, "looking changes nothing");
}

#[test]
fn a_new_database_is_one_file_without_a_lock_that_its_maker_would_own() {
    let place = place();
    create(&place.path, NODE).unwrap();
    let names: Vec<_> =
        std::fs::read_dir(place.path.parent().unwrap()).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(names, ["node.db"]);
    assert_eq!(std::fs::metadata(&place.path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(content(&place.path).is_empty());
    assert!(matches!(create(&place.path, NODE), Err(StoreError::Exists { .. })));
}

/// The half of [`a_database_that_cannot_be_made_whole_has_no_name`] that runs under a file size limit.
#[test]
#[ignore = "run by a_database_that_cannot_be_made_whole_has_no_name"]
fn create_without_room() {
    let Some(path) = given() else { return };
    let error = create(&path, NODE).unwrap_err();
    // Nobody has taken anything back: nothing ever had the name.
    assert_eq!(error.path(), path);
}

#[test]
fn a_database_that_cannot_be_made_whole_has_no_name() {
    let place = place();
    with_files_of(100, "store::tests::copies::create_without_room", &place.path);
    assert_eq!(std::fs::read_dir(place.path.parent().unwrap()).unwrap().count(), 0);
}

/// The half of [`a_creation_that_is_killed_leaves_nothing_under_the_name`] that is killed.
#[test]
#[ignore = "run by a_creation_that_is_killed_leaves_nothing_under_the_name"]
fn create_again_and_again() {
    let Some(path) = given() else { return };
    let begun = Instant::now();
    while begun.elapsed() < OTHER_PROCESS {
        create(&path, NODE).unwrap();
        std::fs::remove_file(&path).unwrap();
    }
}

#[test]
fn a_creation_that_is_killed_leaves_nothing_under_the_name() {
    for round in 0..12 {
        let place = place();
        let mut other = elsewhere("create_again_and_again", &place);
        std::thread::sleep(Duration::from_millis(20 + 3 * round));
        other.kill().unwrap();
        other.wait().unwrap();
        if place.path.exists() {
            assert!(content(&place.path).is_empty(), "whole or not there");
        }
    }
}

#[test]
#[ignore = "run by what_the_node_does_not_keep_is_not_taken_for_one_state"]
fn read_with_a_lock_file_of_its_own() {
    let Some(path) = given() else { return };
    std::fs::remove_file(source::lock_file(&path)).unwrap();
    std::fs::write(source::lock_file(&path), "").unwrap();
    let source = Source::open(&path).unwrap();
    assert!(source.is_in_use());
    source.read(&mut |_, _| Ok(())).unwrap();
    std::fs::write(path.with_file_name("reading"), "").unwrap();
    while !path.with_file_name("written").exists() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let error = source.read(&mut |_, _| Ok(())).unwrap_err();
    assert!(matches!(error, StoreError::NotKept { .. }), "{error}");
}

/// Whoever reads registers in the wrong lock file, so that the node writes over what is read.
#[test]
fn what_the_node_does_not_keep_is_not_taken_for_one_state() {
    let place = place();
    let store = Store::create_with(&place.path, NODE, NEXT_TO_NO_LOG).unwrap();
    (0..10).for_each(|n| store.commit(round(n)).unwrap());
    let mut other = elsewhere("read_with_a_lock_file_of_its_own", &place);
    let begun = Instant::now();
    while !place.path.with_file_name("reading").exists() {
        assert!(
            other.try_wait().unwrap().is_none() && begun.elapsed() < OTHER_PROCESS,
            "the other process does not read"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    (0..20).for_each(|n| store.commit(round(n)).unwrap());
    std::fs::write(place.path.with_file_name("written"), "").unwrap();
    let output = other.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
fn a_running_nodes_lock_file_that_cannot_be_written_to_is_named_and_nothing_is_read() {
    let place = place();
    let _store = Store::create(&place.path, NODE).unwrap();
    let lock = source::lock_file(&place.path);
    std::fs::rename(&lock, place.path.with_file_name("away")).unwrap();
    std::fs::create_dir(&lock).unwrap();
    let error = Source::open(&place.path).unwrap_err();
    assert!(matches!(&error, StoreError::LockFile { path, .. } if *path == lock), "{error}");
}

#[test]
#[ignore = "run by a_link_to_a_database_is_read_where_the_database_is"]
fn read_through_a_link() {
    let Some(path) = given() else { return };
    let source = Source::open(&path.with_file_name("elsewhere").join("link.db")).unwrap();
    assert!(source.is_in_use());
    assert_eq!(source.read(&mut |_, _| Ok(())).unwrap().records, 50);
}

#[test]
fn a_link_to_a_database_is_read_where_the_database_is() {
    let place = place();
    let store = Store::create(&place.path, NODE).unwrap();
    store.commit(round(0)).unwrap();
    let folder = place.path.with_file_name("elsewhere");
    std::fs::create_dir(&folder).unwrap();
    std::os::unix::fs::symlink(&place.path, folder.join("link.db")).unwrap();
    let output = elsewhere("read_through_a_link", &place).wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    drop(store);
    assert_eq!(content(&folder.join("link.db")).len(), 50);
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), 1, "no lock file beside the link");
}

#[test]
fn a_database_of_two_names_is_refused_and_of_one_again_is_not() {
    let place = place();
    create(&place.path, NODE).unwrap();
    let second = place.path.with_file_name("second.db");
    std::fs::hard_link(&place.path, &second).unwrap();
    for path in [&place.path, &second] {
        assert!(matches!(Store::open(path, NODE), Err(StoreError::SeveralNames { names: 2, .. })));
        assert!(Source::open(path).is_ok(), "no node has it: what is read stands still");
    }
    std::fs::remove_file(&second).unwrap();
    let _store = Store::open(&place.path, NODE).unwrap();
    std::fs::hard_link(&place.path, &second).unwrap();
    assert!(matches!(Source::open(&second), Err(StoreError::SeveralNames { names: 2, .. })));
}
