//! Servers, nodes, friendships, and the network between them.

use super::{Drawing, unless_never};
use crate::case::{Friendship, NodePlan, RatePlan, ServerPlan, Terms};
use crate::dice::Dice;
use crate::latency::Latency;
use crate::net::{Conditions, StreamCuts};
use crate::scenario::{ScenarioError, fields};
use crate::topology::{Graph, Parts, Shape};

impl Drawing<'_> {
    pub(super) fn graph(&self) -> Result<Graph, ScenarioError> {
        let number = |field| u32::try_from(self.once(field)).unwrap_or(u32::MAX);
        let (degree, parts) = (number(&fields::DEGREE), self.parts());
        let shape = match self.word(&fields::TOPOLOGY).as_str() {
            "line" => Shape::Line,
            "ring" => Shape::Ring,
            "star" => Shape::Star,
            "tree" => Shape::Tree { branching: number(&fields::BRANCHING) },
            "grid" => Shape::Grid,
            "clique" => Shape::Clique,
            "barabasi-albert" => Shape::BarabasiAlbert { links: number(&fields::LINKS) },
            "watts-strogatz" => Shape::WattsStrogatz { degree, rewired_per_mille: self.per_mille(&fields::REWIRED) },
            "erdos-renyi" => Shape::ErdosRenyi { degree },
            "file" => return Ok(self.graph_of_file(parts)),
            _ => Shape::Villages { size: number(&fields::VILLAGE), degree, bridges: number(&fields::BRIDGES) },
        };
        Ok(Graph::make(shape, number(&fields::NODES), parts, &mut self.dice("topology"))?)
    }

    fn graph_of_file(&self, parts: Parts) -> Graph {
        let mut graph = self.scenario.graph.clone().unwrap_or_default();
        match parts {
            Parts::Apart => {}
            Parts::Joined => graph.join(&mut self.dice("topology")),
        }
        graph
    }

    fn parts(&self) -> Parts {
        if self.word(&fields::PARTS) == "apart" { Parts::Apart } else { Parts::Joined }
    }

    pub(super) fn conditions(&self) -> Conditions {
        let (low, high) = (self.time(&fields::LATENCY_LOW), self.time(&fields::LATENCY_HIGH));
        let (median, high) = (self.time(&fields::LATENCY_MEDIAN), high.max(low));
        let latency = match self.word(&fields::LATENCY).as_str() {
            "constant" => Latency::Constant(low),
            "uniform" => Latency::Uniform { low, high },
            "exponential" => Latency::Exponential { mean: median },
            "tail" => {
                let slow_per_mille = self.per_mille(&fields::LATENCY_SLOW_SHARE);
                Latency::Tail { low, high, slow_per_mille, slow: self.time(&fields::LATENCY_SLOW) }
            }
            _ => Latency::LogNormal { median, sigma_milli: self.per_mille(&fields::LATENCY_SPREAD) },
        };
        Conditions {
            latency,
            bandwidth: self.once(&fields::BANDWIDTH),
            send_buffer: self.once(&fields::SEND_BUFFER) as usize,
            receive_buffer: self.once(&fields::RECEIVE_BUFFER) as usize,
            cuts: if self.word(&fields::SEGMENTS) == "anywhere" { StreamCuts::Anywhere } else { StreamCuts::Whole },
        }
    }

    pub(super) fn note(&self) -> Latency {
        let low = self.time(&fields::NOTE_LOW);
        Latency::Uniform { low, high: self.time(&fields::NOTE_HIGH).max(low) }
    }

    pub(super) fn servers(&self, name: &str, count: u64) -> Vec<ServerPlan> {
        let mut clocks = self.clocks(name);
        (0..count).map(|_| ServerPlan { drift_ppm: clocks(), ..ServerPlan::default() }).collect()
    }

    pub(super) fn nodes(&self, count: u32, relays: usize, indexes: usize) -> Vec<NodePlan> {
        let mut clocks = self.clocks("nodes");
        let (mut homes, mut used) = (self.source(&fields::HOMES), self.source(&fields::INDEXES_USED));
        let mut patience = self.source(&fields::ACCEPTS_RESET);
        let node = |_| NodePlan {
            drift_ppm: clocks(),
            relays: subset(homes.next(), relays, &mut homes.dice),
            indexes: subset(used.next(), indexes, &mut used.dice),
            accepts_reset_after: unless_never(patience.next()),
            ..NodePlan::default()
        };
        (0..count).map(node).collect()
    }

    /// How far each clock of one kind of hosts is off.
    fn clocks(&self, whose: &str) -> impl FnMut() -> i32 + use<> {
        let (mut good, mut bad) = (self.source(&fields::DRIFT), self.source(&fields::BAD_DRIFT));
        let share = self.per_mille(&fields::BAD_CLOCKS);
        let mut dice = self.dice(&format!("clocks of {whose}"));
        (good.dice, bad.dice) = (dice.clone(), dice.clone());
        move || {
            let off = if dice.chance(share) { bad.next() } else { good.next() };
            let off = i32::try_from(off).unwrap_or(0);
            if dice.chance(500) { off } else { -off }
        }
    }

    pub(super) fn friendships(&self, graph: &Graph, currencies: usize) -> Vec<Friendship> {
        let from_file = self.word(&fields::LIMITS) == "file";
        let (mut shared, mut limit) = (self.source(&fields::SHARED), self.source(&fields::LIMIT));
        let mut charges = self.charges();
        let friendship = |(place, &(a, b)): (usize, &(u32, u32))| {
            let capacity = graph.capacity(place).filter(|_| from_file);
            let mut grants = || u128::from(capacity.map_or_else(|| limit.next(), |capacity| capacity / 2));
            let chosen = subset(shared.next(), currencies, &mut shared.dice);
            let terms = chosen.into_iter().map(|currency| Terms {
                currency,
                a_grants: grants(),
                b_grants: grants(),
                a_charges: charges(),
                b_charges: charges(),
            });
            Friendship { a, b, terms: terms.collect() }
        };
        graph.edges().iter().enumerate().map(friendship).collect()
    }

    /// What each end of a friendship charges.
    pub(super) fn charges(&self) -> impl FnMut() -> RatePlan + use<> {
        let (mut part, mut fixed) = (self.source(&fields::FEE_PPM), self.source(&fields::FEE_ADD));
        let (free, mut dice) = (self.per_mille(&fields::FREE), self.dice("who charges a part"));
        move || {
            let ppm = if dice.chance(free) { 0 } else { part.next() };
            // A part in 2^32; below one, so it fits.
            let mul = u32::try_from((ppm << 32) / 1_000_000).unwrap_or(u32::MAX);
            RatePlan { mul, add: u32::try_from(fixed.next()).unwrap_or(u32::MAX) }
        }
    }
}

/// So many of the numbers below `count`, one at least and no more than there are; in no order.
pub(super) fn subset(wanted: u64, count: usize, dice: &mut Dice) -> Vec<u32> {
    let wanted = usize::try_from(wanted).unwrap_or(usize::MAX).clamp(1, count.max(1));
    let mut chosen: Vec<u32> = Vec::with_capacity(wanted);
    while chosen.len() < wanted.min(count) {
        let one = dice.below(count as u64) as u32;
        if !chosen.contains(&one) {
            chosen.push(one);
        }
    }
    chosen
}
