use std::collections::BTreeSet;

use offset_protocol::bytes::PublicKey;
use offset_protocol::index::Entry;
use offset_protocol::limits::MAX_AMOUNT;
use offset_protocol::machine::{Rng, Seed};
use offset_protocol::money::{Currency, Rate};
use proptest::prelude::*;

use super::*;
use crate::graph::Graph;
use crate::view::View;

const NODES: u32 = 200;
const WORK: u64 = 1 << 40;

fn currency() -> Currency {
    "USD".parse().unwrap()
}

fn key(n: u32) -> PublicKey {
    let mut bytes = [7; 32];
    bytes[..4].copy_from_slice(&n.to_be_bytes());
    PublicKey(bytes)
}

/// How friendships lie.
#[derive(Clone, Copy, Debug)]
enum Shape {
    /// Anybody with anybody.
    Random,
    /// A strip so long that routes come to the limit of their length.
    Strip,
    /// A few with very many.
    Hubs,
}

/// What mediators charge.
#[derive(Clone, Copy, Debug)]
enum Charge {
    Nothing,
    Flat,
    Share,
    Both,
    Anything,
}

#[derive(Clone, Copy, Debug)]
struct Case {
    shape: Shape,
    charge: Charge,
    amount: u128,
    /// How far capacities lie beyond the amount, in parts of it: 2^-n.
    slack: u32,
    max_fee: Option<u32>,
    excluded: u32,
    seed: u64,
}

fn case() -> impl Strategy<Value = Case> {
    let shape = prop_oneof![3 => Just(Shape::Random), 2 => Just(Shape::Strip), 1 => Just(Shape::Hubs)];
    let charge = prop_oneof![
        Just(Charge::Nothing),
        Just(Charge::Flat),
        Just(Charge::Share),
        Just(Charge::Both),
        Just(Charge::Anything)
    ];
    let amount =
        prop_oneof![1..20_u128, 1_000..2_000_u128, (1 << 49)..(1_u128 << 51), (MAX_AMOUNT / 9)..(MAX_AMOUNT / 8)];
    let max_fee = prop::option::weighted(0.3, 0..10_u32);
    (shape, charge, amount, 0..9_u32, max_fee, 0..12_u32, any::<u64>()).prop_map(
        |(shape, charge, amount, slack, max_fee, excluded, seed)| Case {
            shape,
            charge,
            amount,
            slack,
            max_fee,
            excluded,
            seed,
        },
    )
}

impl Case {
    fn rate(&self, rng: &mut Rng) -> Rate {
        let share = rng.below(1 << 26) as u32;
        match self.charge {
            Charge::Nothing => Rate::ZERO,
            Charge::Flat => Rate { mul: 0, add: rng.below(4) as u32 },
            Charge::Share => Rate { mul: share, add: 0 },
            Charge::Both => Rate { mul: share >> 3, add: rng.below(3) as u32 },
            Charge::Anything => Rate { mul: rng.next_u64() as u32, add: rng.next_u64() as u32 },
        }
    }

    fn capacity(&self, rng: &mut Rng) -> u128 {
        let slack = u64::try_from((self.amount >> self.slack) + 8).unwrap_or(u64::MAX);
        match rng.below(8) {
            0 => u128::from(rng.next_u64()) % (self.amount + 1),
            1 | 2 => self.amount + u128::from(rng.below(slack)) * (1 + (self.amount >> 60)),
            _ => self.amount + u128::from(rng.below(slack)),
        }
    }

    /// What is passed on of a capacity: nothing, or about as much as the amount, or any part.
    fn part(&self, capacity: u128, rng: &mut Rng) -> u128 {
        match rng.below(8) {
            0 => 0,
            1..5 => self.capacity(rng).min(capacity),
            _ => capacity / 1_000 * u128::from(rng.below(1_001)),
        }
    }

    fn friendships(&self, rng: &mut Rng) -> BTreeSet<(u32, u32)> {
        let mut pairs = BTreeSet::new();
        let mut add = |a: u32, b: u32| pairs.extend((a != b).then_some((a.min(b), a.max(b))));
        for node in 0..NODES {
            for _ in 0..3 {
                let any = rng.below(NODES.into()) as u32;
                match self.shape {
                    Shape::Random => add(node, any),
                    Shape::Strip => add(node, (node + 1 + any % 7).min(NODES - 1)),
                    Shape::Hubs => add(node, any % 9),
                }
            }
        }
        pairs
    }

    fn graph(&self, rng: &mut Rng) -> Graph {
        let mut graph = Graph::new();
        for (a, b) in self.friendships(rng) {
            for (node, friend) in [(a, b), (b, a)] {
                let (recv_capacity, rate) = (self.capacity(rng), self.rate(rng));
                let (friend, currency, forward_capacity) = (key(friend), currency(), recv_capacity);
                let entry = Entry { friend, currency, recv_capacity, forward_capacity, rate };
                let entry = if rng.below(3) > 0 { entry } else { entry.forwarding(self.part(recv_capacity, rng)) };
                // Some do not list their friend.
                if rng.below(20) > 0 {
                    graph.update(&key(node), &[entry], &[]);
                }
            }
        }
        graph
    }

    fn residual(&self, graph: &View, rng: &mut Rng) -> Residual {
        let mut banned = BTreeSet::new();
        for _ in 0..self.excluded {
            let node = rng.below(graph.size() as u64) as u32;
            let arcs = graph.back(node);
            if !arcs.is_empty() {
                banned.insert((arcs[rng.below(arcs.len() as u64) as usize].node, node));
            }
        }
        Residual::new(banned)
    }

    /// Searches by `search`, between some pairs, and hands over what it finds.
    fn check(
        &self,
        mut check: impl FnMut(&View, &Query<'_>) -> Result<(), TestCaseError>,
    ) -> Result<(), TestCaseError> {
        let mut rng = Seed::from_number(self.seed).rng();
        let graph = self.graph(&mut rng);
        let Some(graph) = graph.currency(&currency()) else { return Ok(()) };
        let graph = graph.view();
        let residual = self.residual(graph, &mut rng);
        let most = MAX_AMOUNT - self.amount;
        let max_fee = self.max_fee.map_or(most, |eighths| (self.amount / 8 * u128::from(eighths)).min(most));
        let mut end = || rng.below(graph.size() as u64) as u32;
        for at in 0..6 {
            let source = end();
            let destination = if at == 0 { source } else { end() };
            let query = Query {
                source,
                destination,
                amount: self.amount,
                max_fee,
                room: Room::Whole,
                care: Care::Exact,
                residual: &residual,
            };
            check(graph, &query)?;
        }
        Ok(())
    }
}

fn cost(graph: &View, query: &Query<'_>, path: &Option<Path>) -> Option<(u128, usize)> {
    let path = path.as_ref()?;
    assert!(path.carries(graph, query.residual, query.amount) && path.is_legal(query.residual));
    assert_eq!((path.nodes.first(), path.nodes.last()), (Some(&query.source), Some(&query.destination)));
    let fees = path.fees(graph, query.amount).unwrap();
    assert!(fees <= query.max_fee);
    Some((fees, path.hops()))
}

fn one_sided(graph: &View, query: &Query<'_>) -> Option<Path> {
    backward::cheapest(graph, query, &mut Backward::default(), &mut Budget::new(WORK), Pass::Cheapest)
}

/// Entries of nodes about their friends: node, friend, capacity and fee.
fn graph_of(entries: impl IntoIterator<Item = (u32, u32, u128, u32)>) -> Graph {
    let mut graph = Graph::new();
    for (node, friend, recv_capacity, add) in entries {
        let (friend, currency, rate) = (key(friend), currency(), Rate { mul: 0, add });
        let entry = Entry { friend, currency, recv_capacity, forward_capacity: recv_capacity, rate };
        graph.update(&key(node), &[entry], &[]);
    }
    graph
}

/// A cycle at node 0 has `k` friends to leave by, each of which knows `m` nodes. The later a friend, the dearer he is, and the
/// cheaper what follows him: each label at these nodes is better than all before. Nothing leads back to the friends.
fn ever_better_labels(k: u32, m: u32) -> Graph {
    let own = (1..=k).flat_map(|friend| [(0, friend, 1 << 40, 0), (friend, 0, 1 << 40, friend)]);
    let far = (1..=k).flat_map(|friend| (0..m).map(move |far| (friend, 1_000_000 + far)));
    let far = far.flat_map(|(friend, far)| [(friend, far, 0, 0), (far, friend, 1 << 40, 3 * k - 2 * friend)]);
    graph_of(own.chain(far))
}

#[test]
fn no_more_labels_are_looked_at_than_the_budget_pays_for() {
    let residual = Residual::new(BTreeSet::new());
    for (k, m) in [(50, 4), (100, 4), (200, 4)] {
        let graph = ever_better_labels(k, m);
        let view = graph.currency(&currency()).unwrap().view();
        let end = graph.currency(&currency()).unwrap().number(&key(0)).unwrap();
        let (amount, max_fee) = (1, MAX_AMOUNT - 1);
        let (room, care) = (Room::Whole, Care::Exact);
        let query = Query { source: end, destination: end, amount, max_fee, room, care, residual: &residual };
        for work in [WORK, u64::from(k)] {
            let (mut fronts, mut budget) = (Fronts::<u64>::default(), Budget::new(work));
            fronts::cheapest(view, &query, &mut fronts, &mut budget, &[], None);
            let lines = work - budget.left();
            // What is behind the last line that was paid for: one offer.
            assert!(fronts.looks() <= (lines + 1) * fronts::LABELS_A_LINE + 200, "{} for {lines}", fronts.looks());
            assert!(lines <= u64::from(6 * k * m), "{lines} lines for {} labels", k * m);
            let (mut backward, mut budget) = (Backward::default(), Budget::new(work));
            backward::cheapest(view, &query, &mut backward, &mut budget, Pass::Front);
            let lines = work - budget.left();
            assert!(backward.looks() <= (lines + 1) * fronts::LABELS_A_LINE + 200, "{} for {lines}", backward.looks());
        }
    }
}

#[test]
fn cycles_in_small_dense_graphs_are_as_cheap_as_from_one_end() {
    let mut workspace = Workspace::new();
    let residual = Residual::new(BTreeSet::new());
    for seed in 0..3_000 {
        let mut rng = Seed::from_number(seed).rng();
        let mut pairs = BTreeSet::new();
        for node in 1..12 {
            let friends: Vec<u32> = (0..3).map(|_| rng.below(node.into()) as u32).collect();
            pairs.extend(friends.into_iter().map(|friend| (friend, node)));
        }
        let both = pairs.into_iter().flat_map(|(a, b)| [(a, b), (b, a)]);
        let entries: Vec<_> = both.map(|(a, b)| (a, b, rng.below(4).min(1).into(), rng.below(4) as u32)).collect();
        let graph = graph_of(entries);
        let Some(graph) = graph.currency(&currency()) else { continue };
        for node in 0..12 {
            let Some(end) = graph.number(&key(node)) else { continue };
            let (amount, max_fee, room, care) = (1, MAX_AMOUNT - 1, Room::Whole, Care::Exact);
            let query = Query { source: end, destination: end, amount, max_fee, room, care, residual: &residual };
            let found = cheapest(graph.view(), &query, &mut workspace, &mut Budget::new(WORK));
            let best = one_sided(graph.view(), &query);
            let costs = [&found, &best].map(|path| cost(graph.view(), &query, path));
            assert_eq!(costs[0], costs[1], "seed {seed}, node {node}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn from_both_ends_the_route_is_as_cheap_as_from_one(case in case()) {
        let mut workspace = Workspace::new();
        case.check(|graph, query| {
            let found = cheapest(graph, query, &mut workspace, &mut Budget::new(WORK));
            prop_assert_eq!(cost(graph, query, &found), cost(graph, query, &one_sided(graph, query)));
            Ok(())
        })?;
    }

    #[test]
    fn what_is_found_does_not_depend_on_what_was_searched_before(case in case()) {
        let mut workspace = Workspace::new();
        case.check(|graph, query| {
            let found = cheapest(graph, query, &mut workspace, &mut Budget::new(WORK));
            prop_assert_eq!(found, cheapest(graph, query, &mut Workspace::new(), &mut Budget::new(WORK)));
            Ok(())
        })?;
    }

    #[test]
    fn with_less_work_a_route_is_found_that_can_be_paid_or_none(case in case(), work in 0..600_u64) {
        let mut workspace = Workspace::new();
        case.check(|graph, query| {
            let mut budget = Budget::new(work);
            let found = cheapest(graph, query, &mut workspace, &mut budget);
            let (found, best) = (cost(graph, query, &found), cost(graph, query, &one_sided(graph, query)));
            if budget.exhausted {
                prop_assert!(found.is_none_or(|found| Some(found) >= best));
            } else {
                prop_assert_eq!(found, best);
            }
            Ok(())
        })?;
    }

    #[test]
    fn other_ways_that_were_met_avoid_what_they_are_told_to(case in case()) {
        let mut workspace = Workspace::new();
        case.check(|graph, query| {
            let Some(path) = cheapest(graph, query, &mut workspace, &mut Budget::new(WORK)) else { return Ok(()) };
            let best = cost(graph, query, &Some(path.clone()));
            let mut residual = query.residual.clone();
            let Some(loaded) = path.most_loaded(graph, query.amount) else { return Ok(()) };
            residual.ban(loaded);
            let query = Query { residual: &residual, ..*query };
            let other = another(graph, &query, &mut workspace);
            prop_assert!(other.is_none() || cost(graph, &query, &other) >= best);
            prop_assert!(other.is_none_or(|other| !other.edges().any(|edge| edge == loaded)));
            Ok(())
        })?;
    }

    #[test]
    fn what_is_asked_of_capacities_alone_is_never_dearer(case in case(), parts in 1..17_u128) {
        let mut workspace = Workspace::new();
        case.check(|graph, query| {
            let Some(path) = cheapest(graph, query, &mut workspace, &mut Budget::new(WORK)) else { return Ok(()) };
            let relaxed = Query { room: Room::AtLeast(query.amount.div_ceil(parts)), ..*query };
            let found = cheapest(graph, &relaxed, &mut workspace, &mut Budget::new(WORK)).unwrap();
            prop_assert!(found.fees(graph, query.amount).unwrap() <= path.fees(graph, query.amount).unwrap());
            Ok(())
        })?;
    }
}
