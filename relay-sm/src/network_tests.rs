//! Servers and clients together in a tiny network with faults, driven by random schedules.
//!
//! Checked after every step: the invariants of both machines, the laws of the alarm, that a tunnel leads to whom it names,
//! and that nobody who is alive is refused for a limit (the limits are exactly what the living need). Checked after the
//! faults: friends are connected within [`world::HEALED_WITHIN`], strangers never; when all have left, nothing is left.
//!
//! Not checked here: forwarding itself, encryption, real time.

use offset_protocol::fuzz::Choices;
use offset_protocol::machine::Duration;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::fuzz::run;
use crate::fuzz::world::{self, World};

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn friends_find_each_other_after_any_faults_and_leave_nothing_behind(bytes in vec(any::<u8>(), 0..120)) {
        run(&mut Choices::new(&[&[3], &bytes[..]].concat()));
    }

    #[test]
    fn a_server_survives_anything_within_its_limits(bytes in vec(any::<u8>(), 0..2_000)) {
        run(&mut Choices::new(&[&[0], &bytes[..]].concat()));
    }

    #[test]
    fn a_client_survives_anything_within_its_limits(bytes in vec(any::<u8>(), 0..2_000)) {
        run(&mut Choices::new(&[&[2], &bytes[..]].concat()));
    }
}

#[test]
fn without_faults_friends_are_connected_within_two_seconds() {
    for seed in 0..20 {
        let mut world = World::new(seed);
        world.run(Duration::from_secs(2));
        world.assert_connected();
    }
}

#[test]
fn a_node_that_changed_network_is_reachable_again_within_two_seconds() {
    for seed in 0..20 {
        let mut world = World::new(seed);
        world.run(Duration::from_secs(30));
        world.assert_connected();
        world.move_node(0);
        world.run(Duration::from_secs(2));
        world.assert_listening(0);
        // Its tunnels are dead, which only its friends' silence would tell: they reconnect once they know.
        world.run(world::HEALED_WITHIN);
        world.assert_connected();
    }
}
