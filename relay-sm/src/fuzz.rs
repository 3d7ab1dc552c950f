//! Relays and their clients, driven by bytes.
//!
//! | the first byte | what the bytes decide | what must hold |
//! |---|---|---|
//! | server | what it hears, and its limits | no panic, no limit exceeded, nobody in two tunnels, the laws of the alarm |
//! | client | what it hears | the same; no tunnel ends that was not there |
//! | network | when what breaks in a tiny network of both | friends find each other within `HEALED_WITHIN`, strangers never; when all have left, nothing is left |
//!
//! Not checked here: forwarding itself, encryption, real time.
// A step of a test that fails is a test that fails.
#![allow(clippy::unwrap_used)]
// Tests use all of it, targets do not.
#![cfg_attr(not(test), allow(dead_code))]

mod inputs;
pub(crate) mod world;

use offset_protocol::fuzz::Choices;

use world::World;

/// Drives machines as `choices` say.
///
/// # Panics
/// Something does not hold.
pub fn run(choices: &mut Choices) {
    match choices.below(4) {
        0 | 1 => inputs::run_server(choices),
        2 => inputs::run_client(choices),
        _ => run_network(choices),
    }
}

fn run_network(choices: &mut Choices) {
    let mut world = World::new(choices.below(1 << 16));
    world.run_with_faults(choices);
    world.assert_heals();
    world.everybody_leaves();
    world.assert_nothing_is_left();
}
