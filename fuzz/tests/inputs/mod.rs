//! Where inputs come from.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use offset_fuzz::Target;
use offset_protocol::machine::Seed;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

/// The names of all corpora.
#[allow(dead_code)] // not every test asks
pub(crate) fn corpora() -> BTreeSet<String> {
    fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// The files of a corpus, in the order of their names.
pub(crate) fn corpus(name: &str) -> Vec<(String, Vec<u8>)> {
    let files = fs::read_dir(folder().join(name)).unwrap();
    let mut inputs: Vec<_> = files
        .map(|entry| {
            let path = entry.unwrap().path();
            (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap())
        })
        .collect();
    inputs.sort();
    inputs
}

/// The same bytes for the same number: short and long ones.
pub(crate) fn random(target: Target, number: u64) -> Vec<u8> {
    let mut rng = Seed::from_number(number).fork(target.name).rng();
    let most = rng.below(target.most as u64);
    let mut bytes = vec![0; rng.below(1 + most) as usize];
    rng.fill(&mut bytes);
    bytes
}
