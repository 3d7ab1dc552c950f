//! How fast the bare event loop is: 100,000 destinations, each of which answers an event with another.

#![allow(clippy::print_stdout, reason = "figures for whoever runs it")]

use offset_protocol::machine::{Duration, Seed};
use offset_runtime_sim::dice::Dice;
use offset_runtime_sim::queue::EventQueue;

fn main() {
    let mut dice = Dice::new(&Seed::from_number(1), "probe");
    let mut queue = EventQueue::new();
    for host in 0..100_000u32 {
        queue.push(offset_protocol::machine::Instant::from_micros(dice.below(100_000)), host, [0u64; 3]);
    }
    let events = 20_000_000u64;
    for _ in 0..events {
        let Some((key, item)) = queue.pop() else { break };
        // One in a hundred is a keepalive, far away.
        let delay = if dice.below(100) == 0 { 15_000_000 } else { dice.between(1_000, 200_000) };
        queue.push(key.at + Duration::from_micros(delay), key.to, item);
    }
    println!("{events} events, {} wait", queue.len());
}
