//! Fuzz targets: each is a function of bytes that panics when something does not hold. `README.md` says how to run them.
//!
//! libFuzzer drives them with the cargo feature `engine` (`fuzz_targets/`); without it, plain tests replay what it found
//! (`tests/`). What a target does stands in the crate that it drives, beside the tests that use the same drivers.

pub mod allocation;
mod codec;
mod files;
pub mod world;

use offset_protocol::fuzz::Choices;

/// A target.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name: of the binary, and of its folder in `corpus/`.
    pub name: &'static str,
    /// What it wants to hear, in bytes at most. Longer inputs are cut by the target itself.
    pub most: usize,
    run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "codec", most: 4_096, run: codec::run },
    Target { name: "files", most: 4_096, run: files::run },
    Target { name: "channel", most: 1_024, run: |bytes| offset_protocol::channel::fuzz::run(&mut Choices::new(bytes)) },
    Target {
        name: "friend",
        most: 1_536,
        run: |bytes| offset_funder_sm::friend_channel::fuzz::run(&mut Choices::new(bytes)),
    },
    Target { name: "funder", most: 1_536, run: |bytes| offset_funder_sm::funder::fuzz::run(&mut Choices::new(bytes)) },
    Target { name: "relay", most: 2_048, run: |bytes| offset_relay_sm::fuzz::run(&mut Choices::new(bytes)) },
    Target { name: "index", most: 1_024, run: |bytes| offset_index_sm::fuzz::run(&mut Choices::new(bytes)) },
    Target { name: "graph", most: 1_024, run: |bytes| offset_index_sm::fuzz::run_graph(&mut Choices::new(bytes)) },
    Target { name: "world", most: 512, run: world::run },
];

/// The target of a name.
///
/// # Panics
/// There is none.
pub fn target(name: &str) -> Target {
    let found = TARGETS.iter().find(|target| target.name == name).copied();
    found.unwrap_or_else(|| panic!("there is no target {name}"))
}

impl Target {
    /// One input.
    ///
    /// # Panics
    /// Something does not hold.
    pub fn run(&self, bytes: &[u8]) {
        (self.run)(bytes);
    }
}
