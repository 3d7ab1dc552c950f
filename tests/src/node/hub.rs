//! What forwarding costs a hub, beside a node with two friends: its own CPU time, in memory, checks of signatures included.

use anyhow::Result;

use crate::figures::{Figure, Goal};
use crate::memory::Funders;

/// Friends of the hub.
pub(super) const FRIENDS: usize = 1_000;
const PAYMENTS: usize = 2_000;
/// By turns, so that both meet the same machine.
const ROUNDS: usize = 5;

pub(super) fn measure() -> Result<Vec<Figure>> {
    let (mut small, mut large) = (Funders::star(2)?, Funders::star(FRIENDS)?);
    let mut figures = Vec::new();
    for in_flight in [1, 32] {
        let mut seconds = [0.0; 2];
        for _ in 0..ROUNDS {
            for (star, seconds) in [&mut small, &mut large].into_iter().zip(&mut seconds) {
                let before = star.cost.first_s;
                star.pay(PAYMENTS / ROUNDS, in_flight)?;
                *seconds += star.cost.first_s - before;
            }
        }
        let [small_us, large_us] = seconds.map(|seconds| seconds * 1e6 / PAYMENTS as f64);
        // With more in flight, two friends share batches, and a thousand have one each: no fair comparison.
        let goal = if in_flight == 1 { Goal::AtMost(1.2) } else { Goal::None };
        figures.push(Figure::new(
            format!("hub with {FRIENDS} friends, {in_flight} in flight"),
            large_us / small_us,
            "times",
            goal,
            format!("{large_us:.0} us of a forwarded payment, {small_us:.0} us with two friends"),
        ));
    }
    Ok(figures)
}
