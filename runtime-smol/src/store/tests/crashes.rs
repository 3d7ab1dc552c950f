//! Crashes: what lies on the disk at any moment is the state of a commit that everything acknowledged before is part of.
//!
//! A crash is a copy of the files: of a store between two commits, with what its threads have got to; of a group that was torn, with
//! what its blocks had before. Steps of opening and closing are done one by one.

use super::*;

const HALF: usize = 8 << 10;
/// The pages take a half in many parts, so that images are of moments between them.
const ROOM: Room = Room { largest: MAX_MAP, half: HALF, part: 3 };

/// The two files of a database at a moment.
#[derive(Clone)]
struct Image {
    pages: Vec<u8>,
    log: Vec<u8>,
}

impl Image {
    /// The log first: the pages may take what it holds just now, and then have it, too.
    fn of(path: &Path) -> Image {
        let log = std::fs::read(log::beside(path)).unwrap();
        Image { log, pages: std::fs::read(path).unwrap() }
    }

    fn lay(&self, path: &Path) {
        std::fs::write(path, &self.pages).unwrap();
        std::fs::write(log::beside(path), &self.log).unwrap();
    }

    /// What a node would find; nothing is changed.
    fn found(&self, path: &Path) -> Result<Records, StoreError> {
        self.lay(path);
        found_with(path, &self.log)
    }
}

/// What a node would find with this log beside the pages that lie there.
fn found_with(path: &Path, log: &[u8]) -> Result<Records, StoreError> {
    std::fs::write(log::beside(path), log).unwrap();
    Store::find_with(path, NODE, ROOM).map(|(_, records)| records)
}

/// Commit number `n` of a history: some keys written again and again, some removed, one in nine larger than a half.
fn commit(n: u32) -> Vec<Change> {
    let mut changes: Vec<_> =
        (0..n % 5 + 1).map(|i| put(&[b'k', ((n * 7 + i * 3) % 40) as u8], &[n as u8; 90])).collect();
    changes.push(put(b"count", &n.to_be_bytes()));
    changes.push(remove(&[b'k', ((n * 5) % 40) as u8]));
    if n % 9 == 8 {
        changes.push(put(b"large", &vec![n as u8; 9_000]));
    }
    changes
}

/// A history with the state and an image after each commit; number 0 is before the first.
fn history(path: &Path, commits: u32) -> (Vec<Records>, Vec<Image>) {
    let store = Store::create_with(path, NODE, ROOM).unwrap();
    let mut model = std::collections::BTreeMap::new();
    let (mut states, mut images) = (vec![Records::new()], vec![Image::of(path)]);
    for n in 1..=commits {
        for Change { key, value } in commit(n) {
            match value {
                Some(value) => drop(model.insert(key, value)),
                None => drop(model.remove(&key)),
            }
        }
        store.commit(commit(n)).unwrap();
        states.push(model.clone().into_iter().collect());
        images.push(Image::of(path));
    }
    let counters = store.counters();
    drop(store);
    assert!(counters.page_commits.load(Relaxed) > u64::from(commits) / 12, "the pages took some halves");
    assert_eq!(content(path), *states.last().unwrap());
    (states, images)
}

#[test]
fn a_crash_after_any_commit_loses_nothing_and_the_store_goes_on() {
    let place = place();
    let (states, images) = history(&place.path, 60);
    for (state, image) in states.iter().zip(&images) {
        image.lay(&place.path);
        let (store, records) = Store::open_with(&place.path, NODE, ROOM).unwrap();
        assert!(records == *state);
        // A second crash right away, and one after another commit.
        let again = Image::of(&place.path);
        store.commit(vec![put(b"more", b"1")]).unwrap();
        let more = Image::of(&place.path);
        drop(store);
        std::fs::remove_file(log::beside(&place.path)).unwrap_or_default();
        assert!(again.found(&place.path).unwrap() == *state);
        let expected: Vec<_> = state.iter().cloned().chain([(b"more".to_vec(), b"1".to_vec())]).collect();
        assert!(more.found(&place.path).unwrap() == expected);
    }
}

/// The blocks that a commit wrote, of the whole log.
fn written(before: &[u8], after: &[u8]) -> std::ops::Range<usize> {
    let blocks = before.chunks(512).zip(after.chunks(512)).enumerate();
    let changed: Vec<_> = blocks.filter(|(_, (before, after))| before != after).map(|(block, _)| block).collect();
    changed[0] * 512..(changed[changed.len() - 1] + 1) * 512
}

#[test]
fn a_group_that_was_torn_anywhere_is_there_wholly_or_not_at_all() {
    let place = place();
    let (states, images) = history(&place.path, 40);
    let (mut whole, mut gone) = (0, 0);
    for n in 1..images.len() {
        let (before, after) = (&images[n - 1].log, &images[n].log);
        // What is larger than a half goes to the pages.
        if n % 9 == 8 {
            continue;
        }
        let group = written(before, after);
        // Whether the pages had taken the other half already: both happen.
        let pages = [&images[n - 1].pages, &images[n].pages];
        let mut dice = n as u64;
        let cuts = group.clone().step_by(if n == 3 { 1 } else { 97 }).map(|cut| (cut..group.end).collect::<Vec<_>>());
        let mut tears: Vec<Vec<usize>> = cuts.collect();
        // Blocks in any order: each was written or was not.
        tears.extend((0..12).map(|_| {
            let lost = group.clone().step_by(512).filter(|_| {
                dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                dice >> 63 == 1
            });
            lost.flat_map(|block| block..block + 512).collect()
        }));
        for (pages, lost) in pages.into_iter().flat_map(|pages| tears.iter().map(move |lost| (pages, lost))) {
            if std::fs::read(&place.path).unwrap() != *pages {
                std::fs::write(&place.path, pages).unwrap();
            }
            let mut log = after.clone();
            lost.iter().for_each(|at| log[*at] = before[*at]);
            let found = found_with(&place.path, &log).unwrap();
            assert!(found == states[n] || found == states[n - 1], "group {n}");
            if found == states[n] { whole += 1 } else { gone += 1 }
        }
    }
    assert!(whole > 50 && gone > 500, "{whole} {gone}");
}

#[test]
fn a_bit_that_flips_in_a_log_is_noticed_or_is_in_the_last_group_or_changes_nothing() {
    let place = place();
    let (states, images) = history(&place.path, 33);
    let (mut noticed, mut last, mut harmless) = (0, 0, 0);
    for n in [5, 21, 33] {
        let image = &images[n];
        let group = written(&images[n - 1].log, &image.log);
        image.lay(&place.path);
        for at in (0..image.log.len()).filter(|at| *at < 100 || at % 23 == 0) {
            let mut log = image.log.clone();
            log[at] ^= 1 << (at / 23 % 8);
            match found_with(&place.path, &log) {
                Ok(found) if found == states[n] => harmless += 1,
                Ok(found) => {
                    assert!(found == states[n - 1] && group.contains(&at), "byte {at} after commit {n}");
                    last += 1;
                }
                Err(error) => {
                    assert!(error.path().starts_with(place.path.parent().unwrap()), "{error}");
                    noticed += 1;
                }
            }
        }
    }
    assert!(noticed > 100 && last > 10 && harmless > 200, "{noticed} noticed, {last} in the last, {harmless}");
}

#[test]
fn a_log_cut_anywhere_is_refused_and_says_what_to_do() {
    let place = place();
    let (_, images) = history(&place.path, 6);
    let image = images.last().unwrap();
    image.lay(&place.path);
    for length in (0..image.log.len()).filter(|length| length % 37 == 0 || *length < 70) {
        let error = found_with(&place.path, &image.log[..length]).unwrap_err();
        assert!(matches!(error, StoreError::LogDamaged { .. }), "{length}: {error}");
        assert!(error.to_string().contains("; restore a backup, or "), "{error}");
    }
}

/// Pages of one moment and a log of another: the pages may lag behind by what the log still holds, and by nothing else.
#[test]
fn pages_with_a_log_of_another_moment_give_the_logs_state_or_an_error() {
    let place = place();
    let (states, images) = history(&place.path, 60);
    let (mut whole, mut refused, mut older) = (0, 0, 0);
    for old in 0..images.len() {
        for new in old.saturating_sub(25)..images.len().min(old + 25) {
            let image = Image { pages: images[old].pages.clone(), log: images[new].log.clone() };
            // What the pages alone got is not in the log.
            let large = (old + 1..=new).any(|n| n % 9 == 8);
            match image.found(&place.path) {
                // A log that is older than the pages has nothing for them, or not all that they need.
                Ok(found) if new < old => {
                    assert!(states[..=old].contains(&found), "pages {old}, log {new}");
                    older += 1;
                }
                Ok(found) => {
                    assert!(found == states[new] || large, "pages {old}, log {new}");
                    assert!(states.contains(&found), "pages {old}, log {new}");
                    whole += 1;
                }
                Err(error) => {
                    assert!(new != old && matches!(error, StoreError::LogDamaged { .. }), "{error}");
                    refused += 1;
                }
            }
        }
    }
    assert!(whole > 100 && refused > 100 && older > 100, "{whole} {refused} {older}");
}

/// Found by a hostile reader: the pages had parts of groups that the log beside them did not have, and were taken for a state.
#[test]
fn pages_on_their_way_to_a_group_that_the_log_does_not_have_are_refused() {
    for (reaches, is_whole) in [(3, true), (4, false)] {
        let place = place();
        create(&place.path, NODE).unwrap();
        let (found, _) = Store::find_with(&place.path, NODE, ROOM).unwrap();
        let FoundStore { prepared, first, half, .. } = found;
        let pages = start_pages(prepared, first).unwrap();
        let mut log = Log::create(&place.path, half).unwrap();
        for number in 0..3 {
            log.append(&[put(&[number], b"in the log")]).unwrap();
        }
        let state = LogState::Open { id: log.id(), applied: 0, reaches };
        pages.commit(vec![put(&[1], b"a part")], Mark::AtOnce(state)).unwrap().wait().unwrap();
        drop(pages);
        match Store::find_with(&place.path, NODE, ROOM) {
            Ok((_, records)) => assert!(is_whole && records.len() == 3, "{records:?}"),
            Err(error) => {
                assert!(!is_whole && error.to_string().contains("it ends before what the pages have of it"), "{error}");
                assert!(Source::open(&place.path).is_err(), "nor for a backup");
            }
        }
    }
}

/// Without its log a database is what it was when the pages had taken all of a half, or nothing.
#[test]
fn pages_without_their_log_are_an_old_copy_or_refused_when_they_are_between_two_states() {
    let place = place();
    let (states, images) = history(&place.path, 60);
    std::fs::remove_file(log::beside(&place.path)).unwrap_or_default();
    let (mut old, mut refused) = (0, 0);
    for image in &images {
        std::fs::write(&place.path, &image.pages).unwrap();
        let mut records = Records::new();
        let read = Source::open_without_log(&place.path).and_then(|source| {
            source.read(&mut |key, value| {
                records.push((key.to_vec(), value.to_vec()));
                Ok(())
            })
        });
        match read {
            Ok(_) => {
                assert!(states.contains(&records));
                old += 1;
            }
            Err(error) => {
                assert!(matches!(error, StoreError::LogNeeded { .. }), "{error}");
                refused += 1;
            }
        }
    }
    assert!(old > images.len() / 2, "{old} old copies, {refused} refused");
}

/// What [`FoundStore::open`] does, as far as `steps`; then nothing more, as if the power were cut.
fn open_steps(path: &Path, steps: usize) {
    let (found, _) = Store::find_with(path, NODE, ROOM).unwrap();
    let FoundStore { prepared, first, beside, half, .. } = found;
    let pages = start_pages(prepared, first).unwrap();
    if steps >= 1 {
        beside.clear(path).unwrap();
    }
    let log = (steps >= 2).then(|| Log::create(path, half).unwrap());
    if let Some(log) = log.filter(|_| steps >= 3) {
        let state = LogState::at(log.id(), log.last());
        pages.commit(Vec::new(), Mark::AtOnce(state)).unwrap().wait().unwrap();
    }
}

#[test]
fn a_crash_between_any_two_steps_of_opening_loses_nothing() {
    let place = place();
    let (states, images) = history(&place.path, 30);
    for (state, image) in states.iter().zip(&images).step_by(3) {
        for steps in 0..=3 {
            image.lay(&place.path);
            open_steps(&place.path, steps);
            assert_eq!(log::beside(&place.path).exists(), steps != 1, "{steps}");
            // Again and again, and then to the end.
            open_steps(&place.path, 3 - steps);
            let (store, records) = Store::open_with(&place.path, NODE, ROOM).unwrap();
            assert!(records == *state);
            drop(store);
            assert_eq!(names(&place.path), ["node.db", "node.db-lock"]);
        }
    }
}

#[test]
fn a_log_that_was_never_finished_is_made_anew() {
    let place = place();
    drop(Store::create_with(&place.path, NODE, ROOM).unwrap());
    let log = log::beside(&place.path);
    drop(Log::create(&place.path, HALF).unwrap());
    let whole = std::fs::read(&log).unwrap();
    for length in [0, 1, 30, 511, 512, 4_096, 10_000, whole.len()] {
        for bytes in [&whole[..length], &vec![0; length]] {
            // A head is one block: it is there or not.
            if bytes.first() == Some(&b'o') && length < 512 {
                continue;
            }
            std::fs::write(&log, bytes).unwrap();
            assert!(Store::open_with(&place.path, NODE, ROOM).unwrap().1.is_empty());
            assert!(!log.exists());
        }
    }
}

#[test]
fn a_crash_between_the_steps_of_closing_loses_nothing() {
    let place = place();
    let (states, images) = history(&place.path, 20);
    for (state, image) in states.iter().zip(&images) {
        image.lay(&place.path);
        let store = Store::open_with(&place.path, NODE, ROOM).unwrap().0;
        store.commit(vec![put(b"zz", b"1")]).unwrap();
        let log = std::fs::read(log::beside(&place.path)).unwrap();
        drop(store);
        // The pages have everything, and the log is there still.
        std::fs::write(log::beside(&place.path), log).unwrap();
        let (store, records) = Store::open_with(&place.path, NODE, ROOM).unwrap();
        assert!(records.split_last().unwrap() == (&(b"zz".to_vec(), b"1".to_vec()), state.as_slice()));
        drop(store);
        assert_eq!(content(&place.path).len(), state.len() + 1);
    }
}

/// Halves are written over and over, in the log, while the pages have what they had.
#[test]
fn pages_that_find_no_room_end_the_store_and_everything_acknowledged_is_in_the_log() {
    let place = place();
    let room = Room { largest: engine::FIRST_MAP, half: 64 << 10, part: PART };
    let store = Store::create_with(&place.path, NODE, room).unwrap();
    let mut acknowledged = Records::new();
    let error = (0_u32..).find_map(|n| {
        let (key, value) = (n.to_be_bytes().to_vec(), vec![n as u8; 2_000]);
        match store.commit(vec![put(&key, &value)]) {
            Ok(()) => acknowledged.push((key, value)),
            Err(error) => return Some(error),
        }
        assert!(n < 2_000, "the limit has no effect");
        None
    });
    assert!(matches!(error, Some(StoreError::Full { .. })), "{error:?}");
    assert!(matches!(store.commit(vec![put(b"after", b"1")]), Err(StoreError::FailedBefore { .. })));
    drop(store);
    assert!(log::beside(&place.path).exists(), "what the pages do not have is kept");
    let error = Store::open_with(&place.path, NODE, room).unwrap_err();
    assert!(matches!(error, StoreError::Full { .. }), "{error}");
    let source = Source::open(&place.path).unwrap();
    assert!(source.groups_in_log() > 10 && !source.is_in_use());
    drop(source);
    assert!(content(&place.path) == acknowledged, "with room it goes on");
    assert_eq!(names(&place.path), ["node.db", "node.db-lock"]);
}
