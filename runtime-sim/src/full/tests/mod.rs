//! Laws of whole networks that a single machine cannot show.

mod freeze;
mod leaf;
mod offers;
mod quiet;
mod used_up;

use crate::full::latency::{WAY, idle_line, request_to_collect};

#[test]
fn an_idle_line_of_n_friends_collects_after_3n_one_way_trips() {
    for friendships in 1..=8 {
        let took = request_to_collect(&idle_line(friendships)).unwrap();
        let trip = WAY.times(2).as_micros();
        // Turns and flushes take a few milliseconds at every hop: far below a trip.
        let (trips, rest) = (took.as_micros() / trip, took.as_micros() % trip);
        assert_eq!(trips, u64::from(3 * friendships), "{friendships} friendships took {} us", took.as_micros());
        assert!(rest < trip / 2, "{friendships} friendships: {rest} us beyond {trips} trips");
    }
}
