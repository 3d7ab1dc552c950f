//! The worlds of the figures that this crate is measured by: see `stsim bench`.

pub mod network;

use offset_protocol::machine::{Duration, Instant, Seed};

use crate::dice::Dice;
use crate::queue::EventQueue;

/// One event in so many is a keepalive, far away.
const FAR_ONE_IN: u64 = 100;

/// The event queue alone: one event waits for each host, and each that comes out puts another one in, mostly soon. Gives how
/// many wait at the end.
pub fn turn_over(hosts: u32, events: u64) -> usize {
    let mut dice = Dice::new(&Seed::from_number(1), "queue");
    let mut queue = EventQueue::new();
    for host in 0..hosts {
        queue.push(Instant::from_micros(dice.below(100_000)), host, [0u64; 2]);
    }
    for _ in 0..events {
        let Some((key, item)) = queue.pop() else { break };
        let delay = if dice.below(FAR_ONE_IN) == 0 { 15_000_000 } else { dice.between(1_000, 200_000) };
        queue.push(key.at + Duration::from_micros(delay), key.to, item);
    }
    queue.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_events_wait_as_there_are_hosts() {
        assert_eq!(turn_over(1_000, 20_000), 1_000);
    }
}
