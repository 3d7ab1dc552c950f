//! What the store promises, against real files, a real disk limit and a real second process.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::sync_channel;

use super::*;

mod copies;
mod crashes;
mod damage;
mod logs;
mod schemas;

const NODE: PublicKey = PublicKey([1; 32]);
const OTHER: PublicKey = PublicKey([2; 32]);

struct Place {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

fn place() -> Place {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.db");
    Place { _folder: folder, path }
}

/// Halves of the log that take next to nothing: nearly every commit goes to the pages.
const NEXT_TO_NO_LOG: Room = Room { largest: MAX_MAP, half: 4_096, part: PART };
/// A log that small disks have room for.
const SMALL_LOG: Room = Room { largest: MAX_MAP, half: 64 << 10, part: PART };

/// What lies in a folder, by name.
fn names(path: &Path) -> Vec<String> {
    let files = std::fs::read_dir(path.parent().unwrap()).unwrap();
    let mut names: Vec<_> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Writes over every place where `old` stands.
fn replace(path: &Path, old: &[u8], new: &[u8]) {
    let mut bytes = std::fs::read(path).unwrap();
    let places: Vec<_> =
        bytes.windows(old.len()).enumerate().filter(|(_, there)| *there == old).map(|(at, _)| at).collect();
    assert!(!places.is_empty());
    places.into_iter().for_each(|at| bytes[at..at + new.len()].copy_from_slice(new));
    std::fs::write(path, bytes).unwrap();
}

fn put(key: &[u8], value: &[u8]) -> Change {
    Change { key: key.to_vec(), value: Some(value.to_vec()) }
}

/// All records, as a node would find them.
fn content(path: &Path) -> Records {
    Store::open(path, NODE).unwrap().1
}

fn remove(key: &[u8]) -> Change {
    Change { key: key.to_vec(), value: None }
}

#[test]
fn what_was_committed_is_there_after_reopening() {
    let place = place();
    let store = Store::create(&place.path, NODE).unwrap();
    store.commit(vec![put(b"a", b"1"), put(b"b", b"2"), put(b"c", &[])]).unwrap();
    store.commit(vec![remove(b"a"), put(b"b", b"3"), remove(b"never there")]).unwrap();
    drop(store);
    assert_eq!(content(&place.path), vec![(b"b".to_vec(), b"3".to_vec()), (b"c".to_vec(), vec![])]);
}

#[test]
fn a_database_is_one_file_its_lock_and_its_log_and_only_its_owner_reads_them() {
    let place = place();
    let store = Store::create(&place.path, NODE).unwrap();
    store.commit(vec![put(b"a", b"1")]).unwrap();
    for name in names(&place.path) {
        let mode = std::fs::metadata(place.path.with_file_name(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    assert_eq!(names(&place.path), ["node.db", "node.db-lock", "node.db-log"]);
    drop(store);
    assert_eq!(names(&place.path), ["node.db", "node.db-lock"], "whoever has the file has all there is");
    std::fs::remove_file(place.path.with_file_name("node.db-lock")).unwrap();
    assert_eq!(content(&place.path).len(), 1, "the lock alone means nothing");
}

#[test]
fn an_existing_file_is_never_overwritten() {
    let place = place();
    std::fs::write(&place.path, b"precious").unwrap();
    assert!(matches!(Store::create(&place.path, NODE), Err(StoreError::Exists { .. })));
    assert_eq!(std::fs::read(&place.path).unwrap(), b"precious");
}

#[test]
fn another_nodes_database_is_refused() {
    let place = place();
    drop(Store::create(&place.path, NODE).unwrap());
    let error = Store::open(&place.path, OTHER).unwrap_err();
    assert!(matches!(&error, StoreError::WrongNode { owner, node, .. } if (*owner, *node) == (NODE, OTHER)), "{error}");
    assert!(Store::open(&place.path, NODE).is_ok(), "a refusal leaves nothing locked");
}

#[test]
fn a_newer_schema_is_refused_and_says_what_to_do() {
    let place = place();
    drop(Store::create(&place.path, NODE).unwrap());
    replace(&place.path, b"offsetdb\0\0\0\x03", b"offsetdb\0\0\0\x09");
    let error = Store::open(&place.path, NODE).unwrap_err();
    assert!(matches!(error, StoreError::WrongSchema { found: 9, expected: SCHEMA, .. }), "{error}");
    assert!(error.to_string().contains("a newer program wrote it"), "{error}");
}

#[test]
fn an_lmdb_file_of_another_program_is_refused() {
    let place = place();
    drop(Store::create(&place.path, NODE).unwrap());
    replace(&place.path, b"offsetdb", b"xffsetdb");
    assert!(matches!(Store::open(&place.path, NODE), Err(StoreError::NotADatabase { .. })));
}

#[test]
fn a_second_store_on_the_same_file_is_refused_until_the_first_is_gone() {
    let place = place();
    let store = Store::create(&place.path, NODE).unwrap();
    let error = Store::open(&place.path, NODE).unwrap_err();
    assert!(matches!(error, StoreError::InUse { .. }), "{error}");
    store.commit(vec![put(b"a", b"1")]).unwrap();
    drop(store);
    assert_eq!(content(&place.path).len(), 1);
}

#[test]
fn a_missing_file_and_a_folder_are_refused() {
    let place = place();
    assert!(matches!(Store::open(&place.path, NODE), Err(StoreError::Io { .. })));
    assert!(Store::open(place.path.parent().unwrap(), NODE).is_err());
}

/// Found by a newcomer, whose disk was full: LMDB writes to its lock file through a map, and a hole in it ends the process.
#[test]
#[cfg(target_os = "linux")]
fn the_lock_file_has_all_its_blocks_before_lmdb_maps_it() {
    use std::os::unix::fs::MetadataExt;
    let place = place();
    create(&place.path, NODE).unwrap();
    let lock = place.path.with_file_name("node.db-lock");
    // None, and one of holes.
    for holes in [None, Some(super::source::LOCK_FILE_BYTES)] {
        if let Some(bytes) = holes {
            std::fs::remove_file(&lock).unwrap();
            std::fs::File::create(&lock).unwrap().set_len(bytes).unwrap();
        }
        let store = Store::open(&place.path, NODE).unwrap();
        let file = lock.metadata().unwrap();
        assert_eq!(file.len(), super::source::LOCK_FILE_BYTES, "LMDB would have made it as long");
        let probe = tempfile::tempfile_in(place.path.parent().unwrap()).unwrap();
        let gives_blocks = rustix::fs::fallocate(&probe, rustix::fs::FallocateFlags::empty(), 0, 4_096).is_ok();
        assert!(!gives_blocks || file.blocks() * 512 >= file.len(), "{file:?}");
        drop(store);
    }
}

#[test]
fn a_lock_file_that_cannot_be_used_is_named() {
    let place = place();
    create(&place.path, NODE).unwrap();
    // Nobody can open that for writing, not even root.
    let lock = place.path.with_file_name("node.db-lock");
    std::fs::create_dir(&lock).unwrap();
    let error = Store::open(&place.path, NODE).unwrap_err();
    assert!(matches!(&error, StoreError::LockFile { path, .. } if *path == lock), "{error}");
    assert!(error.to_string().contains("node.db-lock, the lock file of the database: "), "{error}");
    std::fs::remove_dir(&lock).unwrap();
    assert!(content(&place.path).is_empty());
}

#[test]
fn garbage_of_any_length_is_refused_in_words() {
    let place = place();
    for (length, byte) in [(0, 0), (1, 7), (100, 0xff), (151, 0), (4_096, 0), (65_536, 0xa5), (1 << 20, 0xff)] {
        std::fs::write(&place.path, vec![byte; length]).unwrap();
        let error = Store::open(&place.path, NODE).unwrap_err();
        assert!(matches!(error, StoreError::NotADatabase { .. }), "{length} bytes of {byte}: {error}");
    }
}

#[test]
fn a_file_cut_anywhere_is_refused_in_words_and_never_mapped() {
    let place = place();
    let store = Store::create(&place.path, NODE).unwrap();
    store.commit((0..1_000_u32).map(|n| put(&n.to_be_bytes(), &[7; 100])).collect()).unwrap();
    drop(store);
    let whole = std::fs::read(&place.path).unwrap();
    for length in [1, 151, 152, 4_095, 4_096, 4_248, 8_192, 40_960, whole.len() - 1] {
        std::fs::write(&place.path, &whole[..length]).unwrap();
        let error = Store::open(&place.path, NODE).unwrap_err();
        assert!(
            matches!(error, StoreError::NotADatabase { .. } | StoreError::CutShort { .. }),
            "cut to {length} bytes: {error}"
        );
    }
    std::fs::write(&place.path, &whole).unwrap();
    assert_eq!(content(&place.path).len(), 1_000);
}

#[test]
fn the_map_grows_with_the_records_and_stays_grown() {
    let place = place();
    let store = Store::create(&place.path, NODE).unwrap();
    for chunk in 0..5_u32 {
        let keys = chunk * 10_000..(chunk + 1) * 10_000;
        store.commit(keys.map(|n| put(&n.to_be_bytes(), &[chunk as u8; 100])).collect()).unwrap();
    }
    drop(store);
    let (store, records) = Store::open(&place.path, NODE).unwrap();
    assert_eq!(records.len(), 50_000);
    let used = store.counters().used_bytes.load(Relaxed);
    assert!(used > 3 * engine::FIRST_MAP, "{used} bytes in use");
    store.commit(vec![put(b"z", b"still writable")]).unwrap();
    let counters = store.counters();
    drop(store);
    assert_eq!(counters.used_bytes.load(Relaxed) / 100, used / 100);
}

#[test]
fn a_full_database_fails_the_commit_and_takes_no_more() {
    let place = place();
    let room = Room { largest: engine::FIRST_MAP, ..SMALL_LOG };
    let store = Store::create_with(&place.path, NODE, room).unwrap();
    store.commit(vec![put(b"before", b"1")]).unwrap();
    let error = store.commit(vec![put(b"large", &vec![0; 2 << 20])]).unwrap_err();
    assert!(matches!(error, StoreError::Full { .. }), "{error}");
    assert!(matches!(store.commit(vec![put(b"after", b"1")]), Err(StoreError::FailedBefore { .. })));
    drop(store);
    assert_eq!(content(&place.path), vec![(b"before".to_vec(), b"1".to_vec())]);
}

#[test]
fn a_key_that_could_meet_the_meta_record_is_refused() {
    let place = place();
    let store = Store::create(&place.path, NODE).unwrap();
    for size in [0, meta::MAX_KEY + 1] {
        assert!(matches!(store.commit(vec![put(&vec![0xff; size], b"1")]), Err(StoreError::BadKey { .. })));
    }
    store.commit(vec![put(&[0xff; meta::MAX_KEY], b"1")]).unwrap();
    drop(store);
    assert_eq!(content(&place.path).len(), 1);
}

#[test]
fn the_counters_count_commits_flushes_records_and_all_bytes_that_are_written() {
    let place = place();
    let store = Store::create_with(&place.path, NODE, SMALL_LOG).unwrap();
    let counters = store.counters();
    let count = || {
        let all = [&counters.commits, &counters.page_commits, &counters.flushes, &counters.records, &counters.bytes];
        all.map(|counter| counter.load(Relaxed))
    };
    assert_eq!(count(), [0, 1, 2, 0, 0], "the log that the pages name");
    store.commit(vec![put(b"abc", b"12345"), remove(b"xy")]).unwrap();
    assert_eq!(count(), [1, 1, 3, 2, 512], "one block of the log");
    assert_eq!(counters.waiting_bytes.load(Relaxed), 10);
    store.commit(vec![]).unwrap();
    assert_eq!(count(), [1, 1, 3, 2, 512], "nothing to write is no commit");
    store.commit(vec![put(b"abc", b"123")]).unwrap();
    assert_eq!(counters.waiting_bytes.load(Relaxed), 8);
    drop(store);
    // The pages take the last of each key: a value with its checksum, and a removal.
    assert_eq!(count(), [2, 2, 6, 3, 1_024 + 6 + meta::SEAL as u64 + 2]);
    assert_eq!(counters.waiting_bytes.load(Relaxed), 0);
}

#[test]
fn a_commit_without_waiting_tells_its_end() {
    let place = place();
    let store = Store::create(&place.path, NODE).unwrap();
    let (tell, hear) = sync_channel(1);
    store.commit_then(vec![put(b"a", b"1")], move |result| tell.send(result).unwrap()).unwrap();
    hear.recv().unwrap().unwrap();
    drop(store);
    assert_eq!(content(&place.path).len(), 1);
}

/// The half of [`a_disk_that_is_full_fails_the_commit`] that runs under a file size limit, in a process of its own.
#[test]
#[ignore = "run by a_disk_that_is_full_fails_the_commit"]
fn under_a_file_size_limit() {
    let Some(path) = std::env::var_os("OFFSET_TEST_DB").map(PathBuf::from) else { return };
    let (store, _) = Store::open_with(&path, NODE, SMALL_LOG).unwrap();
    store.commit(vec![put(b"small", b"1")]).unwrap();
    let error = store.commit(vec![put(b"large", &vec![0; 3 << 20])]).unwrap_err();
    assert!(matches!(error, StoreError::Io { .. } | StoreError::Lmdb { .. }), "{error}");
    assert!(matches!(store.commit(vec![put(b"after", b"1")]), Err(StoreError::FailedBefore { .. })));
}

/// Runs one of the ignored tests, on this database, in a process that can write no file larger than `kib`.
fn with_files_of(kib: u32, test: &str, database: &Path) {
    // `ulimit -f` counts KiB in bash; the signal that goes with it is ignored, so that writing fails with an error.
    let limited = format!("trap '' XFSZ; ulimit -f {kib}; exec \"$0\" --ignored --exact {test}");
    let output = Command::new("bash")
        .args(["-c", &limited])
        .arg(std::env::current_exe().unwrap())
        .env("OFFSET_TEST_DB", database)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
fn a_disk_that_is_full_fails_the_commit() {
    let place = place();
    drop(Store::create(&place.path, NODE).unwrap());
    with_files_of(1_500, "store::tests::under_a_file_size_limit", &place.path);
    assert_eq!(content(&place.path), vec![(b"small".to_vec(), b"1".to_vec())]);
}
