//! What a graph is like, in a time that grows with its friendships: what would take longer is estimated from a sample.

use std::collections::VecDeque;

use serde::Serialize;

use super::communities::{communities, modularity_per_mille};
use super::{Graph, Neighbours};
use crate::dice::Dice;
use crate::result::Histogram;

/// Nodes whose clustering is looked at. Chosen freely: the average is then right within a few in a thousand.
const CLUSTERING_SAMPLE: u32 = 20_000;
/// Of a hub's friends so many are looked at. Chosen freely: a hub of 100,000 has too many pairs of friends.
const MOST_FRIENDS: usize = 200;
/// Searches through the whole graph for the diameter. Chosen freely: more hardly ever find a longer way.
const SEARCHES: u32 = 6;

/// What a graph is like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Description {
    /// Nodes.
    pub nodes: u32,
    /// Friendships.
    pub friendships: u64,
    /// Parts that hang together with nothing else.
    pub parts: u32,
    /// Nodes of the largest part.
    pub largest_part: u32,
    /// How many friends nodes have.
    pub friends: Histogram,
    /// How many in a thousand pairs of a node's friends are friends themselves, on average over nodes with two friends.
    pub clustering_per_mille: u64,
    /// Nodes at which clustering was looked.
    pub clustering_sample: u32,
    /// The longest shortest way that was found; there may be a longer one.
    pub diameter_at_least: u32,
    /// Friendships between two nodes of the largest part on average, in thousandths; from a sample.
    pub distance_milli: u64,
    /// Groups that belong together.
    pub communities: u32,
    /// Nodes of the largest of them.
    pub largest_community: u32,
    /// See [`modularity_per_mille`].
    pub modularity_per_mille: i64,
    /// What friendships can carry, if the file said so.
    pub capacities: Option<Histogram>,
}

/// Describes a graph. The same for the same graph and dice.
pub fn describe(graph: &Graph, dice: &mut Dice) -> Description {
    let neighbours = graph.neighbours();
    let parts = sizes(&graph.parts());
    let largest = parts.iter().enumerate().max_by_key(|(part, size)| (**size, std::cmp::Reverse(*part)));
    let members: Vec<u32> = match largest {
        Some((part, _)) => (0..).zip(graph.parts()).filter(|(_, of)| *of as usize == part).map(|(n, _)| n).collect(),
        None => Vec::new(),
    };
    let (clustering_per_mille, clustering_sample) = clustering(graph, &neighbours, dice);
    let (diameter_at_least, distance_milli) = distances(&neighbours, &members, graph.nodes(), dice);
    let community = communities(graph, &neighbours, dice);
    let community_sizes = sizes(&community);
    let mut friends = Histogram::default();
    graph.degrees().into_iter().for_each(|degree| friends.add(degree.into()));
    Description {
        nodes: graph.nodes(),
        friendships: graph.edges().len() as u64,
        parts: parts.len() as u32,
        largest_part: members.len() as u32,
        friends,
        clustering_per_mille,
        clustering_sample,
        diameter_at_least,
        distance_milli,
        communities: community_sizes.len() as u32,
        largest_community: community_sizes.first().copied().unwrap_or(0),
        modularity_per_mille: modularity_per_mille(graph, &community),
        capacities: capacities(graph),
    }
}

fn capacities(graph: &Graph) -> Option<Histogram> {
    let mut all = Histogram::default();
    (0..graph.edges().len()).filter_map(|place| graph.capacity(place)).for_each(|capacity| all.add(capacity));
    (all.count() > 0).then_some(all)
}

fn sizes(numbers: &[u32]) -> Vec<u32> {
    let mut sizes = vec![0; numbers.iter().max().map_or(0, |last| *last as usize + 1)];
    numbers.iter().for_each(|number| sizes[*number as usize] += 1);
    sizes
}

/// Average clustering in thousandths, and of how many nodes.
fn clustering(graph: &Graph, neighbours: &Neighbours, dice: &mut Dice) -> (u64, u32) {
    let (mut sum, mut looked) = (0u64, 0u32);
    let all = graph.nodes() <= CLUSTERING_SAMPLE;
    for n in 0..graph.nodes().min(CLUSTERING_SAMPLE) {
        let node = if all { n } else { dice.below(graph.nodes().into()) as u32 };
        let friends = neighbours.of(node);
        let friends = &friends[..friends.len().min(MOST_FRIENDS)];
        if friends.len() < 2 {
            continue;
        }
        let pairs = (friends.len() * (friends.len() - 1) / 2) as u64;
        let mut closed = 0;
        for (place, &a) in friends.iter().enumerate() {
            let of_a = neighbours.of(a);
            closed += friends[place + 1..].iter().filter(|b| of_a.binary_search(b).is_ok()).count() as u64;
        }
        sum += 1_000 * closed / pairs;
        looked += 1;
    }
    (sum.checked_div(looked.into()).unwrap_or(0), looked)
}

/// The longest shortest way that some searches find, and the average in thousandths. Each search begins where the last
/// one ended, which is far out.
fn distances(neighbours: &Neighbours, members: &[u32], nodes: u32, dice: &mut Dice) -> (u32, u64) {
    let (mut longest, mut sum, mut count) = (0, 0u64, 0u64);
    let mut distance = vec![u32::MAX; nodes as usize];
    let mut from = dice.pick(members).copied();
    for search in 0..SEARCHES {
        let Some(start) = from else { break };
        let (far, furthest, total, reached) = search_from(neighbours, start, &mut distance);
        longest = longest.max(far);
        // Searches from far out would make the average too long.
        if search % 2 == 0 {
            (sum, count) = (sum + total, count + reached);
        }
        from = if search % 2 == 0 { Some(furthest) } else { dice.pick(members).copied() };
    }
    (longest, (1_000 * sum).checked_div(count).unwrap_or(0))
}

/// Distance and number of the furthest node, the sum of all distances, and of how many nodes.
fn search_from(neighbours: &Neighbours, start: u32, distance: &mut [u32]) -> (u32, u32, u64, u64) {
    distance.fill(u32::MAX);
    distance[start as usize] = 0;
    let mut queue = VecDeque::from([start]);
    let (mut last, mut sum, mut count) = (start, 0, 0);
    while let Some(node) = queue.pop_front() {
        last = node;
        let here = distance[node as usize];
        for &friend in neighbours.of(node) {
            if distance[friend as usize] == u32::MAX {
                distance[friend as usize] = here + 1;
                sum += u64::from(here) + 1;
                count += 1;
                queue.push_back(friend);
            }
        }
    }
    (distance[last as usize], last, sum, count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{Parts, Shape};
    use offset_protocol::machine::Seed;

    fn of(shape: Shape, nodes: u32) -> Description {
        let mut dice = Dice::new(&Seed::from_number(9), "describe");
        let graph = Graph::make(shape, nodes, Parts::Joined, &mut dice).unwrap();
        describe(&graph, &mut dice)
    }

    #[test]
    fn known_graphs_are_described_as_what_they_are() {
        let line = of(Shape::Line, 10);
        assert_eq!((line.diameter_at_least, line.parts, line.clustering_per_mille), (9, 1, 0));
        let clique = of(Shape::Clique, 10);
        assert_eq!((clique.diameter_at_least, clique.clustering_per_mille, clique.distance_milli), (1, 1_000, 1_000));
        assert_eq!((clique.communities, clique.friends.low(), clique.friends.high()), (1, 9, 9));
        let ring = of(Shape::Ring, 100);
        assert_eq!(ring.diameter_at_least, 50);
        let star = of(Shape::Star, 50);
        assert_eq!((star.diameter_at_least, star.friends.high()), (2, 49));
    }

    #[test]
    fn parts_are_counted() {
        let mut dice = Dice::new(&Seed::from_number(9), "describe");
        let description = describe(&Graph::new(6, vec![(1, 2), (2, 3), (4, 5)]), &mut dice);
        assert_eq!((description.parts, description.largest_part, description.diameter_at_least), (3, 3, 2));
    }

    #[test]
    fn a_small_world_is_clustered_and_near() {
        let small = of(Shape::WattsStrogatz { degree: 8, rewired_per_mille: 50 }, 2_000);
        let random = of(Shape::ErdosRenyi { degree: 8 }, 2_000);
        assert!(small.clustering_per_mille > 20 * random.clustering_per_mille.max(1));
        assert!(small.distance_milli < 3 * random.distance_milli);
    }
}
