//! Who belongs together, by label propagation: everybody takes the label that most friends have, until hardly anybody
//! changes it any more.

use super::{Graph, Neighbours};
use crate::dice::Dice;

/// Rounds at most. Chosen freely: on graphs of a million nodes, little changes after ten.
const ROUNDS: u32 = 20;

/// By node, the number of its community; the largest community is 0. The same for the same graph and dice.
pub fn communities(graph: &Graph, neighbours: &Neighbours, dice: &mut Dice) -> Vec<u32> {
    let nodes = graph.nodes() as usize;
    let mut labels: Vec<u32> = (0..graph.nodes()).collect();
    let mut order = labels.clone();
    for place in (1..nodes).rev() {
        order.swap(place, dice.below(place as u64 + 1) as usize);
    }
    let mut votes = vec![0u32; nodes];
    for _ in 0..ROUNDS {
        let mut changed = 0;
        for &node in &order {
            let best = vote(neighbours.of(node), &labels, &mut votes, labels[node as usize]);
            if best != labels[node as usize] {
                labels[node as usize] = best;
                changed += 1;
            }
        }
        if changed * 1_000 <= nodes {
            break;
        }
    }
    by_size(&labels)
}

/// The label that most friends have; the own one, if no other has more; of several, the smallest.
fn vote(friends: &[u32], labels: &[u32], votes: &mut [u32], own: u32) -> u32 {
    for &friend in friends {
        votes[labels[friend as usize] as usize] += 1;
    }
    let mut best = own;
    for &friend in friends {
        let label = labels[friend as usize];
        let (has, most) = (votes[label as usize], votes[best as usize]);
        if has > most || (has == most && best != own && label < best) {
            best = label;
        }
    }
    for &friend in friends {
        votes[labels[friend as usize] as usize] = 0;
    }
    best
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
