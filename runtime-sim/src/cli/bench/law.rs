//! The law of latency, counted.

use super::{Answer, Measured, NoFigure, Size};
use crate::full::latency::{WAY, idle_line, request_to_collect};

/// The longest line of the law.
const LONGEST: u32 = 8;

pub(super) fn latency_law(size: Size) -> Answer {
    let longest = u32::try_from(size.of(LONGEST.into())).unwrap_or(LONGEST);
    let mut measured = Measured::default();
    let mut worst: f64 = 0.0;
    let mut counted = Vec::new();
    for friendships in 1..=longest {
        let took = request_to_collect(&idle_line(friendships)).map_err(NoFigure::failed)?;
        // Between two friends there is a relay: one way is two ways between hosts.
        let trips = took.as_micros() as f64 / WAY.times(2).as_micros() as f64;
        // Fewer trips than the law says were as wrong as more.
        worst = worst.max((trips - f64::from(3 * friendships)).abs());
        counted.push(format!("{friendships}: {trips:.2}"));
    }
    measured.value("beyond 3n, worst", worst);
    measured.value("lines", counted.len() as f64);
    measured.note(format!("friendships: trips {}", counted.join(", ")));
    Ok(measured)
}
