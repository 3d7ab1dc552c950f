//! Which figures there are, what each must reach, and what it should.

use serde::Serialize;

use super::{Answer, Size, law, networks, shrinks, worlds};

/// A figure: one world, or a few, and what is measured of them.
pub(super) struct Figure {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    /// Takes less than a minute or so.
    pub(super) is_quick: bool,
    pub(super) goals: &'static [Goal],
    pub(super) measure: fn(Size) -> Answer,
}

/// A value of a figure.
pub(super) struct Goal {
    pub(super) name: &'static str,
    pub(super) unit: &'static str,
    pub(super) bound: Bound,
    pub(super) floor: f64,
    pub(super) stretch: Option<f64>,
}

/// Which values are good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Bound {
    AtLeast,
    AtMost,
}

const fn at_least(name: &'static str, unit: &'static str, floor: f64, stretch: Option<f64>) -> Goal {
    Goal { name, unit, bound: Bound::AtLeast, floor, stretch }
}

const fn at_most(name: &'static str, unit: &'static str, floor: f64, stretch: Option<f64>) -> Goal {
    Goal { name, unit, bound: Bound::AtMost, floor, stretch }
}

/// Every figure, in the order of the table.
pub(super) const FIGURES: &[Figure] = &[
    Figure {
        name: "event-loop",
        about: "The event queue alone, 100,000 hosts",
        is_quick: true,
        goals: &[at_least("events", "1/s", 3e6, Some(6e6))],
        measure: networks::event_loop,
    },
    Figure {
        name: "funds-1k",
        about: "Whole machines at the fidelity of funds, 1,000 nodes, one core",
        is_quick: true,
        goals: &[at_least("events", "1/s", 250_000.0, Some(600_000.0))],
        measure: networks::funds_1k,
    },
    Figure {
        name: "funds-100k",
        about: "100,000 nodes with 8 friends each, 1,000,000 payments, one core",
        is_quick: false,
        goals: &[
            at_least("events", "1/s", 150_000.0, Some(400_000.0)),
            at_most("all of it", "min", 15.0, None),
            at_most("peak memory", "GiB", 6.0, None),
        ],
        measure: networks::funds_100k,
    },
    Figure {
        name: "payments-6k",
        about: "6,000 nodes, 30,000 friendships, routes and invariants included",
        is_quick: false,
        goals: &[at_least("payments", "1/s", 2_000.0, Some(10_000.0))],
        measure: networks::payments_6k,
    },
    Figure {
        name: "idle",
        about: "What a node takes that does nothing, and what each of its friendships does",
        is_quick: true,
        goals: &[
            at_most("idle node", "bytes", 4_096.0, Some(1_536.0)),
            at_most("friendship end", "bytes", 1_536.0, Some(614.0)),
        ],
        measure: networks::idle,
    },
    Figure {
        name: "idle-1m",
        about: "1,000,000 nodes with 3 friendships each",
        is_quick: false,
        goals: &[at_least("nodes held", "", 250_000.0, Some(1_000_000.0)), at_most("peak memory", "GiB", 16.0, None)],
        measure: networks::idle_1m,
    },
    Figure {
        name: "sim-to-real",
        about: "Ten complete nodes under the swarm: simulated time over processor time",
        is_quick: true,
        goals: &[at_least("simulated : real", "", 5_000.0, Some(50_000.0))],
        measure: worlds::sim_to_real,
    },
    Figure {
        name: "swarm-seed",
        about: "One seed of the swarm: 4 to 12 complete nodes, 300 payments, all faults, healing",
        is_quick: false,
        goals: &[at_most("median time", "ms", 150.0, Some(40.0)), at_most("peak memory", "MiB", 64.0, None)],
        measure: worlds::swarm_seed,
    },
    Figure {
        name: "invariants",
        about: "What the checkers cost, as a share of the time of a run",
        is_quick: false,
        goals: &[at_most("in the swarm", "%", 25.0, Some(10.0)), at_most("in funds", "%", 25.0, Some(10.0))],
        measure: worlds::invariants,
    },
    Figure {
        name: "latency-law",
        about: "An idle line of n friendships: one-way trips from request to collect, n = 1 to 8",
        is_quick: true,
        goals: &[at_most("beyond 3n, worst", "trips", 0.5, None), at_least("lines", "", 8.0, None)],
        measure: law::latency_law,
    },
    Figure {
        name: "full-10k",
        about: "10,000 complete nodes, 40 relays, 5 index servers, 8 friends each, every byte",
        is_quick: false,
        goals: &[at_least("events", "1/s", 50_000.0, None), at_most("peak memory", "GiB", 12.0, None)],
        measure: worlds::full_10k,
    },
    Figure {
        name: "shrink",
        about: "Failures of broken machines, each made small within a minute",
        is_quick: false,
        goals: &[
            at_least("within 20 steps and 60 s", "%", 90.0, None),
            at_most("median steps", "", 20.0, Some(10.0)),
            at_most("median time", "s", 60.0, Some(10.0)),
        ],
        measure: shrinks::shrink_all,
    },
];
