//! Databases of older schemas: files that the programs of their time made (see `tests/schema-1`, `tests/schema-2`).

use offset_protocol::identity::{Identity, Signer};

use super::*;

/// A file of an older schema, and whose it is.
fn of_schema(schema: u32, name: &str) -> (Place, PublicKey) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let place = place();
    let mut bytes = std::fs::read(folder.join(format!("schema-{schema}/{name}.db"))).unwrap();
    bytes.resize(1 << 20, 0);
    std::fs::write(&place.path, bytes).unwrap();
    let identity = std::fs::read(folder.join(format!("schema-1/{name}.ident"))).unwrap();
    (place, offset_protocol::files::parse::<Identity>(&identity).unwrap().public_key())
}

fn schema_1(name: &str) -> (Place, PublicKey) {
    of_schema(1, name)
}

#[test]
fn a_database_of_an_older_schema_is_brought_to_this_one_and_keeps_every_record() {
    for (schema, name, count) in [(1, "alice", 15), (1, "bob", 13), (2, "alice", 15), (2, "bob", 13)] {
        let (place, node) = of_schema(schema, name);
        let source = Source::open(&place.path).unwrap();
        assert_eq!((source.schema(), source.owner()), (schema, node));
        let mut before = Records::new();
        source
            .read(&mut |key, value| {
                before.push((key.to_vec(), value.to_vec()));
                Ok(())
            })
            .unwrap();
        drop(source);
        assert!(before.len() >= count, "{name}: {}", before.len());
        let (store, records) = Store::open(&place.path, node).unwrap();
        assert_eq!(records, before);
        drop(store);
        let source = Source::open(&place.path).unwrap();
        assert_eq!((source.schema(), source.owner()), (SCHEMA, node));
        drop(source);
        let (store, records) = Store::open(&place.path, node).unwrap();
        assert_eq!(records, before, "and it is done once");
        store.commit(vec![put(b"more", b"1")]).unwrap();
        drop(store);
        assert_eq!(Store::open(&place.path, node).unwrap().1.len(), before.len() + 1);
    }
}

#[test]
fn a_copy_of_schema_1_is_of_this_one_and_the_original_stays_as_it_is() {
    let (place, node) = schema_1("alice");
    let before = std::fs::read(&place.path).unwrap();
    let output = place.path.with_file_name("copy.db");
    copy(&Source::open(&place.path).unwrap(), &output).unwrap();
    assert_eq!(std::fs::read(&place.path).unwrap(), before);
    let source = Source::open(&output).unwrap();
    assert_eq!((source.schema(), source.owner()), (SCHEMA, node));
    drop(source);
    assert_eq!(Store::open(&output, node).unwrap().1, Store::open(&place.path, node).unwrap().1);
}

#[test]
fn a_database_of_schema_1_whose_records_were_not_understood_stays_as_it_is() {
    let (place, node) = schema_1("alice");
    let before = std::fs::read(&place.path).unwrap();
    let (found, records) = Store::find(&place.path, node).unwrap();
    assert!(matches!(Store::find(&place.path, node), Err(StoreError::InUse { .. })), "it is ours meanwhile");
    drop(found);
    assert_eq!(std::fs::read(&place.path).unwrap(), before);
    let (found, again) = Store::find(&place.path, node).unwrap();
    assert_eq!(again, records);
    drop(found.open().unwrap());
    assert_eq!(Source::open(&place.path).unwrap().schema(), SCHEMA);
}

#[test]
fn an_upgrade_that_finds_no_room_leaves_schema_1_as_it_was() {
    let (place, node) = schema_1("bob");
    // A node of many records: the upgrade needs more than there is, so that it has to grow, and may not.
    let (store, _) = Store::open(&place.path, node).unwrap();
    store.commit((0..6_000_u32).map(|n| put(&n.to_be_bytes(), &[1; 100])).collect()).unwrap();
    drop(store);
    set_schema_1(&place.path);
    let before = std::fs::read(&place.path).unwrap();
    let room = Room { largest: engine::FIRST_MAP, ..Room::default() };
    let error = Store::open_with(&place.path, node, room).unwrap_err();
    assert!(matches!(error, StoreError::Full { .. }), "{error}");
    assert_eq!(before[..8_192], std::fs::read(&place.path).unwrap()[..8_192], "no header has changed");
    let source = Source::open(&place.path).unwrap();
    assert_eq!(source.schema(), 1);
    drop(source);
    // With room it goes on as if nothing had been.
    let (_, records) = Store::open(&place.path, node).unwrap();
    assert!(records.len() > 6_000);
}

/// Makes the file one of schema 1 again, as if its values had been written with their checksums by an old program.
fn set_schema_1(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let at = |bytes: &[u8]| bytes.windows(12).rposition(|window| window == b"offsetdb\0\0\0\x03");
    // The old record ends with its owner.
    let old = 12 + NODE.0.len();
    let new = meta::encode(&NODE, LogState::NONE).len() + meta::SEAL;
    let size = |value: usize| (8 + meta::KEY.len() + value).next_multiple_of(2);
    while let Some(at) = at(&bytes) {
        bytes[at + 11] = 1;
        // Its size stands before its key.
        let node = at - meta::KEY.len() - 8;
        bytes[node..node + 2].copy_from_slice(&(old as u16).to_ne_bytes());
        close_gap(&mut bytes, node, at + old, size(new) - size(old));
    }
    std::fs::write(path, bytes).unwrap();
}

/// Moves what lies on a page up to the end of an entry that has become shorter, as LMDB does.
fn close_gap(bytes: &mut [u8], node: usize, end: usize, gap: usize) {
    let page = node / 4_096 * 4_096;
    let field = |bytes: &[u8], at: usize| usize::from(u16::from_ne_bytes([bytes[at], bytes[at + 1]]));
    let (lower, upper) = (field(bytes, page + 12), field(bytes, page + 14));
    let pointers: Vec<_> = (page + 16..page + lower.clamp(16, 4_096)).step_by(2).collect();
    // On a page that is free there may be remains of anything.
    if !pointers.iter().any(|at| page + field(bytes, *at) == node) {
        return;
    }
    bytes.copy_within(page + upper..end, page + upper + gap);
    for at in pointers.into_iter().chain([page + 14]) {
        let moved = field(bytes, at);
        if page + moved <= node {
            bytes[at..at + 2].copy_from_slice(&((moved + gap) as u16).to_ne_bytes());
        }
    }
}
