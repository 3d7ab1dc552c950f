//! Random graphs. What is drawn twice is drawn again, so that a graph has the friendships that were asked for; but not for
//! ever, because a small graph may have no room for them.

use crate::dice::Dice;

/// Rounds of drawing again. Chosen freely: in a graph with room, the first leaves hardly anything.
const ROUNDS: u32 = 16;

/// Newcomers befriend the ends of friendships that there are, so those with many friends get more.
pub(super) fn barabasi_albert(nodes: u32, links: u32, dice: &mut Dice) -> Vec<(u32, u32)> {
    let links = links.max(1);
    let first = nodes.min(links + 1);
    let mut edges = super::shapes::clique(first);
    // Every node once for each of its friendships.
    let mut ends: Vec<u32> = edges.iter().flat_map(|(a, b)| [*a, *b]).collect();
    let mut chosen = Vec::with_capacity(links as usize);
    for node in first..nodes {
        chosen.clear();
        while chosen.len() < links as usize {
            // More than `links` nodes are there, so this ends.
            match dice.pick(&ends) {
                Some(&friend) if !chosen.contains(&friend) => chosen.push(friend),
                Some(_) => {}
                None => break,
            }
        }
        for &friend in &chosen {
            edges.push((friend, node));
            ends.extend([friend, node]);
        }
    }
    edges
}

/// A ring of neighbours; some friendships are torn off at one end and lead anywhere.
pub(super) fn watts_strogatz(nodes: u32, degree: u32, rewired_per_mille: u32, dice: &mut Dice) -> Vec<(u32, u32)> {
    let half = (degree / 2).min(nodes.saturating_sub(1) / 2);
    let mut edges = Vec::with_capacity(nodes as usize * half as usize);
    let mut torn = 0;
    for node in 0..nodes {
        for step in 1..=half {
            if dice.chance(rewired_per_mille) {
                torn += 1;
            } else {
                edges.push((node, (node + step) % nodes));
            }
        }
    }
    fill(edges, torn, || (dice.below(nodes.into()) as u32, dice.below(nodes.into()) as u32))
}

/// So many pairs, drawn from all.
pub(super) fn erdos_renyi(nodes: u32, degree: u32, dice: &mut Dice) -> Vec<(u32, u32)> {
    let wanted = u64::from(nodes) * u64::from(degree) / 2;
    let all = u64::from(nodes) * u64::from(nodes.saturating_sub(1)) / 2;
    if 2 * wanted >= all {
        return part_of_clique(nodes, wanted.min(all) as usize, dice);
    }
    fill(Vec::new(), wanted as usize, || (dice.below(nodes.into()) as u32, dice.below(nodes.into()) as u32))
}

/// When most pairs are friends, drawing pairs again and again would take long: shuffles them all instead.
fn part_of_clique(nodes: u32, wanted: usize, dice: &mut Dice) -> Vec<(u32, u32)> {
    let mut all = super::shapes::clique(nodes);
    for place in 0..wanted {
        let other = dice.between(place as u64, all.len() as u64 - 1) as usize;
        all.swap(place, other);
    }
    all.truncate(wanted);
    all
}

/// In each village a ring and random friendships; from each village some to others.
pub(super) fn villages(nodes: u32, size: u32, degree: u32, bridges: u32, dice: &mut Dice) -> Vec<(u32, u32)> {
    let size = size.clamp(1, nodes.max(1));
    let mut edges = Vec::new();
    for first in (0..nodes).step_by(size as usize) {
        let here = size.min(nodes - first);
        let shift = |(a, b): (u32, u32)| (first + a, first + b);
        // Two friends each by the ring, the others by chance.
        if here > 1 {
            edges.extend(super::shapes::ring(here).into_iter().map(shift));
        }
        edges.extend(erdos_renyi(here, degree.saturating_sub(2), dice).into_iter().map(shift));
    }
    let apart = nodes > size;
    for first in (0..nodes).step_by(size as usize).filter(|_| apart) {
        let here = size.min(nodes - first);
        for _ in 0..bridges {
            let from = first + dice.below(here.into()) as u32;
            // Anybody who is not from here.
            let other = dice.below(u64::from(nodes - here)) as u32;
            edges.push((from, if other < first { other } else { other + here }));
        }
    }
    edges
}

/// Adds `wanted` more pairs to those that there are, none of them twice and no loops.
fn fill(mut edges: Vec<(u32, u32)>, wanted: usize, mut draw: impl FnMut() -> (u32, u32)) -> Vec<(u32, u32)> {
    let total = edges.len() + wanted;
    for _ in 0..ROUNDS {
        while edges.len() < total {
            edges.push(draw());
        }
        edges.iter_mut().for_each(|(a, b)| (*a, *b) = ((*a).min(*b), (*a).max(*b)));
        edges.retain(|(a, b)| a != b);
        edges.sort_unstable();
        edges.dedup();
        if edges.len() == total {
            break;
        }
    }
    edges
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{Graph, Parts, Shape};
    use offset_protocol::machine::Seed;

    fn make(shape: Shape, nodes: u32) -> Graph {
        Graph::make(shape, nodes, Parts::Apart, &mut Dice::new(&Seed::from_number(2), "random")).unwrap()
    }

    #[test]
    fn random_graphs_have_the_friendships_that_were_asked_for() {
        assert_eq!(make(Shape::ErdosRenyi { degree: 6 }, 1_000).edges().len(), 3_000);
        assert_eq!(make(Shape::ErdosRenyi { degree: 8 }, 10).edges().len(), 40);
        assert_eq!(make(Shape::ErdosRenyi { degree: 80 }, 10).edges().len(), 45, "all there can be");
        assert_eq!(make(Shape::WattsStrogatz { degree: 6, rewired_per_mille: 300 }, 1_000).edges().len(), 3_000);
        assert_eq!(make(Shape::BarabasiAlbert { links: 3 }, 1_000).edges().len(), 6 + 3 * 996);
    }

    #[test]
    fn villages_have_few_bridges() {
        let graph = make(Shape::Villages { size: 50, degree: 6, bridges: 2 }, 500);
        let bridges = graph.edges().iter().filter(|(a, b)| a / 50 != b / 50).count();
        assert!((15..=20).contains(&bridges), "{bridges}");
        assert!(graph.edges().len() > 1_400);
    }

    #[test]
    fn nothing_is_rewired_when_nothing_shall_be() {
        let ring = make(Shape::WattsStrogatz { degree: 4, rewired_per_mille: 0 }, 20);
        assert!(ring.edges().iter().all(|(a, b)| matches!((b + 20 - a) % 20, 1 | 2 | 18 | 19)));
    }
}
