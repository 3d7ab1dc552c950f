//! Who belongs together, by the method of Louvain: everybody joins the community of friends that gains most over chance,
//! until nobody wants to move; then communities are taken for nodes, and it begins again.

use std::collections::BTreeMap;

use super::{Graph, Neighbours};
use crate::dice::Dice;

/// Rounds at most, and how often communities are taken for nodes. Chosen freely: little changes after that.
const ROUNDS: u32 = 10;
const LEVELS: u32 = 8;

/// By node, the number of its community; the largest community is 0. The same for the same graph and dice.
pub fn communities(graph: &Graph, neighbours: &Neighbours, dice: &mut Dice) -> Vec<u32> {
    let ties = |node| neighbours.of(node).iter().map(|friend| (*friend, 1)).collect();
    let mut level = Level::new((0..graph.nodes()).map(ties).collect(), graph.degrees().into_iter().map(u64::from));
    let mut of: Vec<u32> = (0..graph.nodes()).collect();
    for _ in 0..LEVELS {
        let labels = by_size(&level.moved(dice));
        let count = labels.iter().max().map_or(0, |last| *last as usize + 1);
        of.iter_mut().for_each(|community| *community = labels[*community as usize]);
        if count == labels.len() {
            break;
        }
        level = level.folded(&labels, count);
    }
    by_size(&of)
}

/// A graph whose friendships count several times.
struct Level {
    ties: Vec<Vec<(u32, u64)>>,
    /// By node, the ends of friendships, those within it included.
    ends: Vec<u64>,
    all_ends: u64,
}

impl Level {
    fn new(ties: Vec<Vec<(u32, u64)>>, ends: impl Iterator<Item = u64>) -> Self {
        let ends: Vec<u64> = ends.collect();
        let all_ends = ends.iter().sum();
        Level { ties, ends, all_ends }
    }

    /// By node, the label of the community that it has come to.
    fn moved(&self, dice: &mut Dice) -> Vec<u32> {
        let nodes = self.ties.len();
        let mut labels: Vec<u32> = (0..nodes as u32).collect();
        let mut order = labels.clone();
        for place in (1..nodes).rev() {
            order.swap(place, dice.below(place as u64 + 1) as usize);
        }
        let mut ends = self.ends.clone();
        let mut ties_to = vec![0u64; nodes];
        for _ in 0..ROUNDS {
            let mut changed = 0;
            for &node in &order {
                let own = labels[node as usize];
                ends[own as usize] -= self.ends[node as usize];
                let best = self.best(node, own, &labels, &ends, &mut ties_to);
                ends[best as usize] += self.ends[node as usize];
                labels[node as usize] = best;
                changed += usize::from(best != own);
            }
            if changed * 1_000 <= nodes {
                break;
            }
        }
        labels
    }

    /// The community in which a node has most friendships over those that chance would give it; its own if none has more;
    /// of several the smallest.
    fn best(&self, node: u32, own: u32, labels: &[u32], ends: &[u64], ties_to: &mut [u64]) -> u32 {
        let ties = &self.ties[node as usize];
        ties.iter().for_each(|(friend, times)| ties_to[labels[*friend as usize] as usize] += times);
        let gain = |label: u32| {
            let by_chance = i128::from(self.ends[node as usize]) * i128::from(ends[label as usize]);
            i128::from(ties_to[label as usize]) * i128::from(self.all_ends) - by_chance
        };
        let (mut best, mut most) = (own, gain(own));
        for &(friend, _) in ties {
            let label = labels[friend as usize];
            let gain = gain(label);
            if gain > most || (gain == most && best != own && label < best) {
                (best, most) = (label, gain);
            }
        }
        ties.iter().for_each(|(friend, _)| ties_to[labels[*friend as usize] as usize] = 0);
        best
    }

    /// Communities as nodes.
    fn folded(&self, labels: &[u32], count: usize) -> Level {
        let (mut between, mut ends) = (vec![BTreeMap::<u32, u64>::new(); count], vec![0; count]);
        for (node, ties) in self.ties.iter().enumerate() {
            let label = labels[node];
            ends[label as usize] += self.ends[node];
            for (friend, times) in ties {
                let other = labels[*friend as usize];
                if other != label {
                    *between[label as usize].entry(other).or_default() += times;
                }
            }
        }
        Level::new(between.into_iter().map(|ties| ties.into_iter().collect()).collect(), ends.into_iter())
    }
}

/// New numbers for labels: the most frequent is 0.
fn by_size(labels: &[u32]) -> Vec<u32> {
    let mut sizes = vec![0u32; labels.len()];
    labels.iter().for_each(|label| sizes[*label as usize] += 1);
    let mut used: Vec<u32> = (0..labels.len() as u32).filter(|label| sizes[*label as usize] > 0).collect();
    used.sort_by_key(|label| (std::cmp::Reverse(sizes[*label as usize]), *label));
    let mut numbers = vec![0u32; labels.len()];
    for (number, label) in used.iter().enumerate() {
        numbers[*label as usize] = number as u32;
    }
    labels.iter().map(|label| numbers[*label as usize]).collect()
}

/// How much more of the friendships lie within communities than chance would have it, in thousandths (Newman's modularity).
pub fn modularity_per_mille(graph: &Graph, community: &[u32]) -> i64 {
    let count = community.iter().max().map_or(0, |last| *last as usize + 1);
    let edges = graph.edges().len() as f64;
    if edges == 0.0 {
        return 0;
    }
    let (mut inside, mut ends) = (vec![0u64; count], vec![0u64; count]);
    for &(a, b) in graph.edges() {
        let (a, b) = (community[a as usize] as usize, community[b as usize] as usize);
        ends[a] += 1;
        ends[b] += 1;
        inside[a] += u64::from(a == b);
    }
    let parts = inside.iter().zip(&ends).map(|(inside, ends)| {
        let share = *ends as f64 / (2.0 * edges);
        *inside as f64 / edges - share * share
    });
    (1_000.0 * parts.sum::<f64>()) as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{Parts, Shape};
    use offset_protocol::machine::Seed;

    #[test]
    fn a_graph_without_villages_falls_into_parts_that_are_better_than_chance() {
        let mut dice = Dice::new(&Seed::from_number(5), "communities");
        let graph = Graph::make(Shape::BarabasiAlbert { links: 4 }, 2_000, Parts::Joined, &mut dice).unwrap();
        let found = communities(&graph, &graph.neighbours(), &mut dice.clone());
        assert_eq!(found, communities(&graph, &graph.neighbours(), &mut dice));
        let count = found.iter().max().unwrap() + 1;
        assert!((5..=60).contains(&count), "{count}");
        assert!(modularity_per_mille(&graph, &found) > 250);
    }

    #[test]
    fn villages_are_found() {
        let mut dice = Dice::new(&Seed::from_number(5), "communities");
        let shape = Shape::Villages { size: 40, degree: 10, bridges: 1 };
        let graph = Graph::make(shape, 400, Parts::Joined, &mut dice).unwrap();
        let found = communities(&graph, &graph.neighbours(), &mut dice);
        let count = found.iter().max().unwrap() + 1;
        assert!((8..=14).contains(&count), "{count}");
        assert!(modularity_per_mille(&graph, &found) > 750);
        let alone = Graph::new(3, Vec::new());
        assert_eq!(communities(&alone, &alone.neighbours(), &mut dice), [0, 1, 2]);
        assert_eq!(modularity_per_mille(&alone, &[0, 1, 2]), 0);
    }
}
