//! Offers in networks of a thousand nodes, against a library that computes maximum flows: whether an amount can reach
//! its destination at all.
//!
//! | amount, of the maximum flow | what is demanded |
//! |---|---|
//! | more than all | no offer |
//! | any | what is offered is payable as it stands |
//! | a quarter at most | an offer: 16 parts of at most 20 nodes carry that much |
//!
//! Between a quarter and all, sixteen parts may be too few; nothing is demanded there.

// Helpers of a test are tests, too.
#![allow(clippy::unwrap_used)]

use offset_index_sm::answer::answer;
use offset_index_sm::graph::Graph;
use offset_index_sm::search::Workspace;
use offset_index_sm::walk::walk;
use offset_protocol::bytes::PublicKey;
use offset_protocol::codec::List;
use offset_protocol::index::{Entry, RequestRoutes};
use offset_protocol::machine::{Rng, Seed};
use offset_protocol::money::Rate;
use petgraph::algo::dinics;
use petgraph::graph::{DiGraph, NodeIndex};
use proptest::prelude::*;

const NODES: u32 = 1_000;
/// Far more than a network of this size can take.
const WORK: u64 = 10_000_000;

fn key(node: u32) -> PublicKey {
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&node.to_be_bytes());
    PublicKey(bytes)
}

/// The same network for both.
struct Network {
    graph: Graph,
    /// From whom, to whom, and what may end there and what is passed on.
    edges: Vec<(u32, u32, [u64; 2])>,
}

impl Network {
    /// Each newcomer befriends `friends` who are there, those with many friends more likely. No fees: the library knows none.
    fn draw(seed: u64, friends: usize, most: u64) -> Self {
        let mut rng = Seed::from_number(seed).rng();
        let (mut ends, mut pairs) = (vec![0], Vec::new());
        for newcomer in 1..NODES {
            let mut chosen: Vec<u32> = (0..friends).map(|_| ends[rng.below(ends.len() as u64) as usize]).collect();
            chosen.sort_unstable();
            chosen.dedup();
            for friend in chosen {
                pairs.push((friend, newcomer));
                ends.extend([friend, newcomer]);
            }
        }
        let (mut graph, mut edges) = (Graph::new(), Vec::new());
        for (a, b) in pairs {
            for (from, to) in [(a, b), (b, a)] {
                let ends = if rng.below(10) == 0 { 0 } else { rng.below(most) };
                let (friend, currency, recv_capacity) = (key(from), "USD".parse().unwrap(), ends.into());
                let entry =
                    Entry { friend, currency, recv_capacity, forward_capacity: recv_capacity, rate: Rate::ZERO };
                // Some bound what they pass on.
                let entry = if rng.below(2) == 0 { entry } else { entry.forwarding(rng.below(ends + 1).into()) };
                graph.update(&key(to), &[entry], &[]);
                edges.push((from, to, [ends, entry.forward_capacity as u64]));
            }
        }
        Network { graph, edges }
    }

    fn most(&self, from: u32, to: u32) -> u64 {
        let mut flows = DiGraph::<(), u64>::new();
        (0..NODES).for_each(|_| {
            flows.add_node(());
        });
        for (a, b, [ends, passed_on]) in &self.edges {
            flows.add_edge(NodeIndex::from(*a), NodeIndex::from(*b), if *b == to { *ends } else { *passed_on });
        }
        dinics(&flows, NodeIndex::from(from), NodeIndex::from(to)).0
    }

    /// Whether anything is offered. Panics if what is offered cannot be paid.
    fn offers(&self, from: u32, to: u32, amount: u64) -> bool {
        let request = RequestRoutes {
            id: 1,
            currency: "USD".parse().unwrap(),
            amount: amount.into(),
            source: key(from),
            destination: key(to),
            exclude: List::new(),
            max_fee: None,
        };
        let routes = answer(&self.graph, &request, &mut Workspace::new(), WORK);
        assert!(!routes.capped);
        for offer in &routes.options {
            assert_eq!(walk(&self.graph, &request, offer), Ok(()), "{offer:?}");
        }
        !routes.options.is_empty()
    }
}

fn ends(rng: &mut Rng) -> (u32, u32) {
    let (from, to) = (rng.below(NODES.into()) as u32, rng.below(u64::from(NODES) - 1) as u32);
    (from, if to >= from { to + 1 } else { to })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn what_can_reach_its_destination_is_what_the_maximum_flow_says(
        seed: u64, friends in 1..6_usize, most in prop_oneof![Just(3_u64), Just(1_000_000)],
    ) {
        let network = Network::draw(seed, friends, most);
        let mut rng = Seed::from_number(seed).fork("ends").rng();
        for _ in 0..12 {
            let (from, to) = ends(&mut rng);
            let flow = network.most(from, to);
            prop_assert!(!network.offers(from, to, flow + 1), "more than {flow} from {from} to {to}");
            if flow >= 4 {
                prop_assert!(network.offers(from, to, flow / 4), "a quarter of {flow} from {from} to {to}");
                // Perhaps nothing; then only what is offered counts.
                network.offers(from, to, flow - rng.below(flow / 2));
            }
        }
    }
}
