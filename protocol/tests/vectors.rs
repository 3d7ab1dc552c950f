//! The test vectors of the protocol: what `vectors/` holds is what this crate makes, byte for byte.
//!
//! Every vector is built anew from a fixed cast of identities and compared with its file; then what the file holds is
//! decoded and must be the same value again. A change of these files is a change of the protocol.
//!
//! `OFFSET_WRITE_VECTORS=1 cargo test -p offset-protocol --test vectors` writes the files.
// The only file access of this crate, and only of its tests; everything here is a test, helpers included.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

use std::path::PathBuf;

mod vectors {
    pub(crate) mod app;
    pub(crate) mod book;
    pub(crate) mod cast;
    pub(crate) mod channel;
    pub(crate) mod codec;
    pub(crate) mod diagnostic;
    pub(crate) mod files;
    pub(crate) mod friend;
    pub(crate) mod hashes;
    pub(crate) mod index;
    pub(crate) mod noise;
    pub(crate) mod payment;
    pub(crate) mod relay;
}

use vectors::book::Page;

fn pages() -> Vec<Page> {
    vec![
        vectors::codec::page(),
        vectors::hashes::page(),
        vectors::channel::page(),
        vectors::relay::page(),
        vectors::friend::page(),
        vectors::payment::page(),
        vectors::index::page(),
        vectors::app::page(),
    ]
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("vectors")
}

/// The text of a file; written first if that was asked for.
fn text_of(name: &str, expected: &str) -> String {
    let path = folder().join(name);
    if std::env::var_os("OFFSET_WRITE_VECTORS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, expected).unwrap();
    }
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn the_vectors_are_what_the_crate_makes() {
    for page in pages() {
        let expected = page.print();
        let found = text_of(page.name, &expected);
        let first = expected.lines().zip(found.lines()).position(|(expected, found)| expected != found);
        assert!(expected == found, "{} differs, first at line {:?}", page.name, first.map(|line| line + 1));
    }
}

#[test]
fn what_the_vectors_hold_is_read_back_to_the_same_values() {
    for page in pages() {
        let file: serde_json::Value = serde_json::from_str(&text_of(page.name, &page.print())).unwrap();
        let found = file["vectors"].as_array().unwrap();
        assert_eq!(found.len(), page.vectors.len(), "{}", page.name);
        for (vector, found) in page.vectors.iter().zip(found) {
            vector.check(found).unwrap_or_else(|why| panic!("{}: {}: {why}", page.name, found["name"]));
        }
    }
}

#[test]
fn the_files_that_people_exchange_are_what_the_crate_writes_and_reads() {
    for sample in vectors::files::samples() {
        let found = text_of(&format!("files/{}.json", sample.name), &sample.text);
        assert_eq!(found, *sample.text, "{}", sample.name);
        assert_eq!((sample.read_and_print)(found.as_bytes()), Ok(found.clone()), "{}", sample.name);
    }
}

#[test]
fn no_two_vectors_of_a_page_have_one_name() {
    for page in pages() {
        let mut names: Vec<_> = page.vectors.iter().map(|vector| vector.name.clone()).collect();
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count, "{}", page.name);
    }
}

/// The specification, for the names and numbers that it must state.
const SPECIFICATION: &str = include_str!("../SPEC.md");

#[test]
fn the_specification_names_every_context() {
    for context in offset_protocol::context::ALL {
        assert!(SPECIFICATION.contains(&format!("`{}`", context.text())), "{}", context.text());
    }
}

#[test]
fn the_specification_lists_every_command_and_refusal_under_its_tag() {
    for (tag, name) in vectors::app::tagged_names() {
        assert!(SPECIFICATION.contains(&format!("\n| {tag} | `{name}`")), "{tag} {name}");
    }
}

#[test]
fn the_specification_states_every_limit() {
    use offset_protocol::limits::*;
    let counts = [
        ("MAX_ROUTE_LEN", MAX_ROUTE_LEN),
        ("MAX_CURRENCY_LEN", MAX_CURRENCY_LEN),
        ("MAX_RELAYS", MAX_RELAYS),
        ("MAX_INDEX_SERVERS", MAX_INDEX_SERVERS),
        ("MAX_FRIENDS", MAX_FRIENDS),
        ("MAX_CURRENCIES", MAX_CURRENCIES),
        ("MAX_BATCH_OPS", MAX_BATCH_OPS),
        ("MAX_BATCH_BYTES", MAX_BATCH_BYTES),
        ("MAX_FRAME", MAX_FRAME),
        ("MAX_PENDING", MAX_PENDING),
        ("WINDOW", WINDOW),
        ("MAX_SPLIT", MAX_SPLIT),
        ("MAX_NAME_LEN", MAX_NAME_LEN),
        ("MAX_DESCRIPTION_LEN", MAX_DESCRIPTION_LEN),
        ("MAX_ADDRESS_LEN", MAX_ADDRESS_LEN),
        ("MAX_INDEX_ENTRIES", MAX_INDEX_ENTRIES),
        ("MAX_DELTA_ENTRIES", MAX_DELTA_ENTRIES),
        ("MAX_PROOF_LINKS", MAX_PROOF_LINKS),
        ("MAX_INDEX_NEIGHBOURS", MAX_INDEX_NEIGHBOURS),
        ("MAX_ROUTE_OPTIONS", MAX_ROUTE_OPTIONS),
        ("MAX_EXCLUDED_EDGES", MAX_EXCLUDED_EDGES),
        ("MAX_HANDSHAKE", MAX_HANDSHAKE),
        ("MAX_RELAY_MESSAGE", offset_protocol::relay::MAX_RELAY_MESSAGE),
        ("MAX_HEADER_BYTES", offset_protocol::friend::MAX_HEADER_BYTES),
        ("MAX_FILE_BYTES", offset_protocol::files::MAX_FILE_BYTES),
        ("MAX_REPORT_CHANGES", offset_protocol::app::MAX_REPORT_CHANGES),
        ("MAX_LISTED", offset_protocol::app::MAX_LISTED),
    ];
    for (name, value) in counts {
        let line = SPECIFICATION.lines().find(|line| line.starts_with(&format!("| `{name}` |")));
        let line = line.unwrap_or_else(|| panic!("{name} is missing"));
        let stated: String = line.split('|').nth(2).unwrap().chars().filter(char::is_ascii_digit).collect();
        assert_eq!(stated, value.to_string(), "{name}");
    }
}
