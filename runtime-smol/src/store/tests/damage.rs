//! Whatever a disk makes of a database: it is noticed, or changes nothing. Every bit is tried.

use super::super::overlay::Overlay;
use super::*;
use proptest::prelude::*;

/// What a reader of the file finds, without LMDB.
fn found(path: &Path) -> Result<Records, StoreError> {
    let file = File::open(path).unwrap();
    let meta = source::settled(path, &file)?;
    let tree = Tree { path, file: &file, meta };
    let found = source::identify(&tree)?;
    source::read_all(&tree, found.schema, &Overlay::default())
}

/// A database with every kind of page: branches, leaves, overflow pages, lists of free pages.
fn varied(path: &Path) -> Records {
    let store = Store::create_with(path, NODE, NEXT_TO_NO_LOG).unwrap();
    for round in 0..9_u32 {
        let small = (0..60_u32).map(|n| put(&(n * 7 + round).to_be_bytes(), &[round as u8; 40]));
        let large = put(format!("large {}", round % 2).as_bytes(), &vec![round as u8; 2_000 + 600 * round as usize]);
        let gone = (0..20_u32).map(|n| remove(&(n * 7 + round / 2).to_be_bytes()));
        store.commit(small.chain([large]).chain(gone).collect()).unwrap();
    }
    drop(store);
    content(path)
}

/// What the pages of a file are, by their first bytes.
fn kinds(bytes: &[u8]) -> Vec<u16> {
    let mut kinds: Vec<_> = bytes.chunks(4_096).map(|page| u16::from_ne_bytes([page[10], page[11]])).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}

#[test]
fn a_bit_that_flips_anywhere_is_noticed_or_changes_nothing() {
    let place = place();
    let whole = varied(&place.path);
    let mut bytes = std::fs::read(&place.path).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap().next_multiple_of(4_096);
    let kinds = kinds(&bytes[..used]);
    assert!([0x01, 0x02, 0x04, 0x08].iter().all(|kind| kinds.contains(kind)), "{kinds:?}");
    let file = OpenOptions::new().write(true).open(&place.path).unwrap();
    let (mut noticed, mut harmless) = (0, 0);
    // All bits where a header is, one bit of every byte of what follows it, and of every fifth byte of the rest.
    for at in 0..used {
        let in_page = at % 4_096;
        let bits = match in_page {
            _ if in_page < 16 || at < 2 * 4_096 && in_page < 152 => 0..8,
            _ if in_page < 300 || at % 5 == 0 => (at * 5 + at / 8) % 8..(at * 5 + at / 8) % 8 + 1,
            _ => continue,
        };
        for bit in bits {
            bytes[at] ^= 1 << bit;
            std::os::unix::fs::FileExt::write_all_at(&file, &bytes[at..=at], at as u64).unwrap();
            match found(&place.path) {
                Ok(records) => {
                    assert!(records == whole, "bit {bit} of byte {at} changes what is read");
                    harmless += 1;
                }
                Err(_) => noticed += 1,
            }
            bytes[at] ^= 1 << bit;
            std::os::unix::fs::FileExt::write_all_at(&file, &bytes[at..=at], at as u64).unwrap();
        }
    }
    assert!(noticed > 1_000 && harmless > 1_000, "{noticed} noticed, {harmless} harmless");
    assert_eq!(found(&place.path).unwrap(), whole);
}

#[test]
fn what_passes_the_look_can_be_used_by_lmdb() {
    let place = place();
    let whole = varied(&place.path);
    let sound = std::fs::read(&place.path).unwrap();
    let used = sound.iter().rposition(|byte| *byte != 0).unwrap();
    let mut used_on = 0;
    for step in 0..1_200_usize {
        let at = step * 7_919 % used;
        let mut bytes = sound.clone();
        bytes[at] ^= 1 << (step % 8);
        std::fs::write(&place.path, &bytes).unwrap();
        if found(&place.path).is_err() {
            continue;
        }
        used_on += 1;
        if used_on % 20 != 0 {
            continue;
        }
        let (store, records) = Store::open(&place.path, NODE).unwrap();
        assert_eq!(records, whole);
        store.commit((0..200_u32).map(|n| put(&n.to_be_bytes(), &[9; 300])).collect()).unwrap();
        drop(store);
        assert_eq!(content(&place.path).iter().filter(|(_, value)| *value == [9; 300]).count(), 200);
    }
    assert!(used_on > 100, "{used_on}");
}

/// What the walk says of a file, whatever the checksums of its records say: whoever forges a file makes them fit.
fn walked(path: &Path) -> Result<Pages, StoreError> {
    let file = File::open(path).unwrap();
    let meta = source::settled(path, &file)?;
    Tree { path, file: &file, meta }.walk(&mut |_| Ok(()))
}

/// LMDB moves entries together by their sizes: with an entry that reaches over the next one it writes beyond the page.
#[test]
fn a_forged_page_whose_entries_overlap_or_leave_a_gap_is_noticed() {
    let place = place();
    varied(&place.path);
    let sound = std::fs::read(&place.path).unwrap();
    let all = walked(&place.path).unwrap();
    let u16_at = |at: usize| usize::from(u16::from_ne_bytes([sound[at], sound[at + 1]]));
    let forged = |at: usize, value: usize| {
        let mut bytes = sound.clone();
        bytes[at..at + 2].copy_from_slice(&(value as u16).to_ne_bytes());
        std::fs::write(&place.path, &bytes).unwrap();
        walked(&place.path)
    };
    let mut tried = [0, 0];
    for page in (2..all.all as usize).map(|page| page * 4_096) {
        let kind = u16_at(page + 10);
        // Whether the page is used: one that is free may say anything.
        if !(1..=2).contains(&kind) || forged(page + 10, 9).is_ok() {
            continue;
        }
        let entries: Vec<usize> = (page + 16..page + u16_at(page + 12)).step_by(2).map(&u16_at).collect();
        for (index, entry) in entries.iter().enumerate() {
            // The size of a value on overflow pages is not that of its entry.
            if kind == 2 && u16_at(page + entry + 4) == 1 {
                continue;
            }
            // A branch's entry grows by its key, a leaf's by its value.
            let size = page + entry + if kind == 1 { 6 } else { 0 };
            for more in [2, 16] {
                assert!(forged(size, u16_at(size) + more).is_err(), "entry {index} of page {}", page / 4_096);
            }
            tried[kind - 1] += 1;
        }
        // Two entries at one place; and room that belongs to none.
        assert!(entries.len() < 2 || forged(page + 18, entries[0]).is_err());
        assert!(forged(page + 14, u16_at(page + 14) - 2).is_err());
    }
    assert!(tried.iter().all(|tried| *tried >= 2), "{tried:?}");
    std::fs::write(&place.path, &sound).unwrap();
    assert_eq!(walked(&place.path).unwrap(), all);
}

/// A file of a few KiB on the disk that promises terabytes: it is refused before anything is made as large as it says.
#[test]
fn a_sparse_file_that_promises_more_than_a_database_may_have_is_refused() {
    let place = place();
    create(&place.path, NODE).unwrap();
    let sound = std::fs::read(&place.path).unwrap();
    let file = OpenOptions::new().write(true).open(&place.path).unwrap();
    let write = |bytes: &[u8], at: u64| std::os::unix::fs::FileExt::write_all_at(&file, bytes, at).unwrap();
    let long = 8 * MAX_MAP;
    file.set_len(long).unwrap();
    let (map_size, last_page) = (16 + 16, 16 + 120);
    for (page, field, value) in [
        (0, last_page, long / 4_096 - 1),
        (1, last_page, long / 4_096 - 1),
        (0, map_size, long),
        (1, map_size, long),
        (1, last_page, u64::MAX),
    ] {
        write(&value.to_ne_bytes(), page * 4_096 + field);
        for error in [Store::open(&place.path, NODE).unwrap_err(), Source::open(&place.path).unwrap_err()] {
            assert!(error.to_string().ends_with("it promises more than a database may have"), "{error}");
        }
        write(&sound[..8_192], 0);
    }
    assert!(content(&place.path).is_empty(), "a file that is too long does no harm");
}

#[test]
fn pages_that_no_system_has_are_refused() {
    let place = place();
    create(&place.path, NODE).unwrap();
    let mut bytes = std::fs::read(&place.path).unwrap();
    bytes.copy_within(4_096..4_096 + 152, 512);
    for page in [0, 512] {
        bytes[page + 40..page + 44].copy_from_slice(&512_u32.to_ne_bytes());
    }
    std::fs::write(&place.path, bytes).unwrap();
    assert!(matches!(Store::open(&place.path, NODE), Err(StoreError::NotADatabase { .. })));
}

#[test]
fn pages_that_change_places_are_noticed() {
    let place = place();
    let whole = varied(&place.path);
    let bytes = std::fs::read(&place.path).unwrap();
    let pages = bytes.iter().rposition(|byte| *byte != 0).unwrap() / 4_096 + 1;
    let mut noticed = 0;
    for page in 0..pages {
        for from in [(page + 1) % pages, (page * 5 + 3) % pages].into_iter().filter(|from| *from != page) {
            let mut mixed = bytes.clone();
            mixed[page * 4_096..(page + 1) * 4_096].copy_from_slice(&bytes[from * 4_096..(from + 1) * 4_096]);
            std::fs::write(&place.path, &mixed).unwrap();
            match found(&place.path) {
                Ok(records) => {
                    assert!(records == whole, "page {from} at the place of page {page} changes what is read")
                }
                Err(_) => noticed += 1,
            }
        }
    }
    // Some are free, and nobody reads what lies on them.
    assert!(noticed > pages / 2, "{noticed} of {pages}");
}

#[test]
fn headers_of_a_commit_that_failed_are_put_back() {
    let place = place();
    let whole = varied(&place.path);
    let file = OpenOptions::new().read(true).write(true).open(&place.path).unwrap();
    let before = header::Saved::of(&file, 4_096).unwrap();
    // What LMDB leaves when the disk does not take a header: the older one with the old number and the new rest.
    let older = header::read(&file).unwrap().into_iter().min_by_key(|meta| meta.txn).unwrap();
    let at = (older.txn & 1) * 4_096 + 16 + 120;
    std::os::unix::fs::FileExt::write_all_at(&file, &(older.last_page + 3).to_ne_bytes(), at).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &older.main.page.unwrap().wrapping_add(1).to_ne_bytes(), at - 8)
        .unwrap();
    before.put_back(&file).unwrap();
    assert_eq!(found(&place.path).unwrap(), whole);
    drop(Store::open(&place.path, NODE).unwrap());
}

/// One commit of a random history.
fn changes() -> impl Strategy<Value = Vec<(u16, Option<u16>)>> {
    proptest::collection::vec((0..400_u16, proptest::option::weighted(0.7, 0..9_000_u16)), 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// The walk believes nothing, and still takes every file that LMDB writes for whole.
    #[test]
    fn whatever_lmdb_writes_is_taken_for_whole(
        history in proptest::collection::vec(changes(), 1..30),
        half in proptest::sample::select(vec![4_096_usize, 16_384, 65_536, 1 << 20]),
    ) {
        let place = place();
        let room = Room { half, ..Room::default() };
        let mut model = std::collections::BTreeMap::new();
        let mut store = Store::create_with(&place.path, NODE, room).unwrap();
        for (number, commit) in history.into_iter().enumerate() {
            let change = |(key, size): (u16, Option<u16>)| {
                let key = format!("{key:0width$}", width = 3 + key as usize % 90).into_bytes();
                let value = size.map(|size| vec![size as u8; if size % 9 == 0 { size as usize } else { size as usize % 300 }]);
                match &value {
                    Some(value) => drop(model.insert(key.clone(), value.clone())),
                    None => drop(model.remove(&key)),
                }
                Change { key, value }
            };
            store.commit(commit.into_iter().map(change).collect()).unwrap();
            if number % 3 == 0 {
                drop(store);
                let (again, records) = Store::open_with(&place.path, NODE, room).unwrap();
                prop_assert!(records.iter().map(|(key, value)| (key, value)).eq(&model));
                store = again;
            }
        }
        drop(store);
        prop_assert!(content(&place.path).iter().map(|(key, value)| (key, value)).eq(&model));
    }

    /// Nothing panics, whatever a file says.
    #[test]
    fn garbage_after_sound_headers_ends_in_words(seed in any::<u64>(), many in 1..400_usize) {
        let place = place();
        let whole = varied(&place.path);
        let mut bytes = std::fs::read(&place.path).unwrap();
        let used = bytes.iter().rposition(|byte| *byte != 0).unwrap();
        let mut dice = seed | 1;
        for _ in 0..many {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            bytes[(dice >> 20) as usize % used] = (dice >> 50) as u8;
        }
        std::fs::write(&place.path, &bytes).unwrap();
        if let Ok(records) = found(&place.path) {
            prop_assert_eq!(records, whole);
        }
    }
}
