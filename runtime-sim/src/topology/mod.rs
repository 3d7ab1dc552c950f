//! Who is whose friend: graphs that are made, and graphs that are read from files.
//!
//! | | |
//! |---|---|
//! | [`Shape`], [`Graph::make`] | line, ring, star, tree, grid, clique, and four random families |
//! | [`import`] | edge lists, JSON, GraphML, Lightning's `describegraph` |
//! | [`describe`](fn@describe) | what a graph is like: degrees, components, clustering, distances, communities |
//!
//! 1. A graph is the same whenever it is made from the same shape, number of nodes and dice.
//! 2. Making one costs a time that grows with its friendships (they are sorted once).
//! 3. There are no loops, and no pair stands in a graph twice.
//!
//! Not checked: whether a graph is like one of real people.

pub mod communities;
pub mod describe;
pub mod import;
mod random;
mod shapes;

use std::fmt::Write as _;

pub use describe::{Description, describe};

use crate::dice::Dice;

/// No graph has more nodes. Chosen freely: more than a machine of ours can simulate.
pub const MAX_NODES: u32 = 4_000_000;
/// No graph has more friendships. Chosen freely: a gigabyte of them.
pub const MAX_EDGES: usize = 64_000_000;

/// A graph of friends. Nodes are numbered from 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Graph {
    nodes: u32,
    /// Smaller number first; sorted; no pair twice.
    edges: Vec<(u32, u32)>,
    /// By edge, as a file gave them; empty if it gave none.
    capacities: Vec<u64>,
    /// By node, as a file gave them; empty if there was no file.
    names: Vec<String>,
}

/// A family of graphs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One behind the other.
    Line,
    /// A line whose ends are friends.
    Ring,
    /// All around one.
    Star,
    /// Each has so many below.
    Tree {
        /// How many.
        branching: u32,
    },
    /// Rows and columns, as square as it goes.
    Grid,
    /// All with all.
    Clique,
    /// Barabási–Albert: newcomers befriend those who have friends; few hubs, many with few friends.
    BarabasiAlbert {
        /// Friends that a newcomer makes.
        links: u32,
    },
    /// Watts–Strogatz: neighbours on a ring, and some friends far away.
    WattsStrogatz {
        /// Friends on average; rounded down to an even number.
        degree: u32,
        /// How many in a thousand friendships go far away.
        rewired_per_mille: u32,
    },
    /// Erdős–Rényi: anybody with anybody.
    ErdosRenyi {
        /// Friends on average.
        degree: u32,
    },
    /// Stochastic blocks: villages whose people know each other, with few bridges between villages.
    Villages {
        /// People in a village.
        size: u32,
        /// Friends within the village on average.
        degree: u32,
        /// Friendships from each village to others.
        bridges: u32,
    },
}

/// What becomes of parts that hang together with nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parts {
    /// They stay apart.
    Apart,
    /// One friendship joins each to the first.
    Joined,
}

/// Why there is no graph.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    /// Nobody is in it.
    #[error("a graph needs a node at least")]
    NoNodes,
    /// More than [`MAX_NODES`].
    #[error("{0} nodes are more than the {MAX_NODES} that a graph may have")]
    TooManyNodes(u64),
    /// More than [`MAX_EDGES`].
    #[error("{0} friendships are more than the {MAX_EDGES} that a graph may have")]
    TooManyEdges(u64),
    /// The file cannot be read.
    #[error("{path} cannot be read: {why}")]
    Unreadable {
        /// Which.
        path: String,
        /// What the system says.
        why: std::io::Error,
    },
    /// The file is larger than a graph may be.
    #[error("{path} has {bytes} bytes, more than the {most} that a graph may have", most = import::MAX_BYTES)]
    TooLarge {
        /// Which.
        path: String,
        /// Its size.
        bytes: u64,
    },
    /// The file does not say what it should.
    #[error("line {line}: {what}")]
    Bad {
        /// Counted from 1.
        line: usize,
        /// What is wrong there.
        what: String,
    },
}

impl Graph {
    /// The graph of these friendships: loops are left out, of pairs that stand there twice one is kept.
    pub fn new(nodes: u32, edges: Vec<(u32, u32)>) -> Self {
        let mut edges: Vec<_> = edges.into_iter().filter(|(a, b)| a != b).map(|(a, b)| (a.min(b), a.max(b))).collect();
        edges.sort_unstable();
        edges.dedup();
        Graph { nodes, edges, capacities: Vec::new(), names: Vec::new() }
    }

    /// Makes a graph of a shape.
    ///
    /// # Errors
    /// No nodes, or more nodes or friendships than a graph may have.
    pub fn make(shape: Shape, nodes: u32, parts: Parts, dice: &mut Dice) -> Result<Graph, TopologyError> {
        if nodes == 0 {
            return Err(TopologyError::NoNodes);
        }
        if nodes > MAX_NODES {
            return Err(TopologyError::TooManyNodes(nodes.into()));
        }
        let most = shape.most_edges(nodes);
        if most > MAX_EDGES as u64 {
            return Err(TopologyError::TooManyEdges(most));
        }
        let edges = match shape {
            Shape::Line => shapes::line(nodes),
            Shape::Ring => shapes::ring(nodes),
            Shape::Star => shapes::star(nodes),
            Shape::Tree { branching } => shapes::tree(nodes, branching),
            Shape::Grid => shapes::grid(nodes),
            Shape::Clique => shapes::clique(nodes),
            Shape::BarabasiAlbert { links } => random::barabasi_albert(nodes, links, dice),
            Shape::WattsStrogatz { degree, rewired_per_mille } => {
                random::watts_strogatz(nodes, degree, rewired_per_mille, dice)
            }
            Shape::ErdosRenyi { degree } => random::erdos_renyi(nodes, degree, dice),
            Shape::Villages { size, degree, bridges } => random::villages(nodes, size, degree, bridges, dice),
        };
        let mut graph = Graph::new(nodes, edges);
        match parts {
            Parts::Apart => {}
            Parts::Joined => graph.join(dice),
        }
        Ok(graph)
    }

    /// How many nodes.
    pub const fn nodes(&self) -> u32 {
        self.nodes
    }

    /// All friendships, in order.
    pub fn edges(&self) -> &[(u32, u32)] {
        &self.edges
    }

    /// What the file says that a friendship can carry, by the friendship's place in [`Graph::edges`].
    pub fn capacity(&self, place: usize) -> Option<u64> {
        self.capacities.get(place).copied()
    }

    /// What the file calls a node.
    pub fn name(&self, node: u32) -> Option<&str> {
        self.names.get(node as usize).map(String::as_str)
    }

    /// Friends of every node.
    pub fn neighbours(&self) -> Neighbours {
        Neighbours::new(self)
    }

    /// How many friends every node has.
    pub fn degrees(&self) -> Vec<u32> {
        let mut degrees = vec![0; self.nodes as usize];
        for &(a, b) in &self.edges {
            degrees[a as usize] += 1;
            degrees[b as usize] += 1;
        }
        degrees
    }

    /// Joins every part to the first by one friendship.
    pub fn join(&mut self, dice: &mut Dice) {
        let part_of = self.parts();
        let parts = part_of.iter().copied().max().map_or(0, |last| last as usize + 1);
        let mut members: Vec<Vec<u32>> = vec![Vec::new(); parts];
        for (node, part) in part_of.iter().enumerate() {
            members[*part as usize].push(node as u32);
        }
        let Some((first, others)) = members.split_first() else { return };
        let capacity = self.capacities.iter().min().copied();
        for part in others {
            if let (Some(&here), Some(&there)) = (dice.pick(part), dice.pick(first)) {
                self.edges.push((here.min(there), here.max(there)));
                self.capacities.extend(capacity);
            }
        }
        self.sort();
    }

    /// By node, the number of the part that it hangs together with; parts in the order of their first nodes.
    pub fn parts(&self) -> Vec<u32> {
        let mut roots: Vec<u32> = (0..self.nodes).collect();
        for &(a, b) in &self.edges {
            let (a, b) = (root(&mut roots, a), root(&mut roots, b));
            roots[a.max(b) as usize] = a.min(b);
        }
        // A root is the smallest of its part, so it is numbered before the others are looked up.
        let mut numbers = vec![0; self.nodes as usize];
        let mut next = 0;
        for node in 0..self.nodes {
            let root = root(&mut roots, node);
            if root == node {
                numbers[node as usize] = next;
                next += 1;
            } else {
                numbers[node as usize] = numbers[root as usize];
            }
        }
        numbers
    }

    /// As an edge list that [`import`] reads.
    pub fn to_csv(&self) -> String {
        let mut text = String::from(if self.capacities.is_empty() { "from,to\n" } else { "from,to,capacity\n" });
        let name = |node: u32| self.name(node).map_or_else(|| node.to_string(), quoted);
        for (place, (a, b)) in self.edges.iter().enumerate() {
            let _ = match self.capacity(place) {
                Some(capacity) => writeln!(text, "{},{},{capacity}", name(*a), name(*b)),
                None => writeln!(text, "{},{}", name(*a), name(*b)),
            };
        }
        text
    }

    fn sort(&mut self) {
        if self.capacities.is_empty() {
            self.edges.sort_unstable();
            return;
        }
        let mut both: Vec<_> = self.edges.drain(..).zip(self.capacities.drain(..)).collect();
        both.sort_unstable();
        (self.edges, self.capacities) = both.into_iter().unzip();
    }
}

impl Shape {
    /// The most friendships that a graph of this shape can have.
    fn most_edges(self, nodes: u32) -> u64 {
        let nodes = u64::from(nodes);
        match self {
            Shape::Line | Shape::Ring | Shape::Star | Shape::Tree { .. } => nodes,
            Shape::Grid => 2 * nodes,
            Shape::Clique => nodes * (nodes - 1) / 2,
            Shape::BarabasiAlbert { links } => nodes * u64::from(links),
            Shape::WattsStrogatz { degree, .. } | Shape::ErdosRenyi { degree } => nodes * (u64::from(degree) / 2 + 1),
            Shape::Villages { size, degree, bridges } => {
                nodes * (u64::from(degree) / 2 + 2) + nodes.div_ceil(u64::from(size.max(1))) * u64::from(bridges)
            }
        }
    }
}

/// A name, as a field of an edge list.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The root of a node, with the way there made shorter.
fn root(roots: &mut [u32], mut node: u32) -> u32 {
    while roots[node as usize] != node {
        roots[node as usize] = roots[roots[node as usize] as usize];
        node = roots[node as usize];
    }
    node
}

/// The friends of every node of a graph, in one piece of memory.
#[derive(Clone, Debug)]
pub struct Neighbours {
    /// Where each node's friends begin; one more at the end.
    begins: Vec<u32>,
    all: Vec<u32>,
}

impl Neighbours {
    fn new(graph: &Graph) -> Self {
        let mut begins = Vec::with_capacity(graph.nodes as usize + 1);
        let mut end = 0;
        begins.push(end);
        for degree in graph.degrees() {
            end += degree;
            begins.push(end);
        }
        let mut next = begins.clone();
        let mut all = vec![0; end as usize];
        for &(a, b) in &graph.edges {
            for (from, to) in [(a, b), (b, a)] {
                let place = &mut next[from as usize];
                all[*place as usize] = to;
                *place += 1;
            }
        }
        Neighbours { begins, all }
    }

    /// The friends of a node, in order of their numbers.
    pub fn of(&self, node: u32) -> &[u32] {
        let (from, to) = (self.begins[node as usize] as usize, self.begins[node as usize + 1] as usize);
        &self.all[from..to]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use offset_protocol::machine::Seed;
    use proptest::prelude::*;

    fn dice(seed: u64) -> Dice {
        Dice::new(&Seed::from_number(seed), "topology")
    }

    fn shape() -> impl Strategy<Value = Shape> {
        prop_oneof![
            Just(Shape::Line),
            Just(Shape::Ring),
            Just(Shape::Star),
            (1u32..6).prop_map(|branching| Shape::Tree { branching }),
            Just(Shape::Grid),
            Just(Shape::Clique),
            (1u32..6).prop_map(|links| Shape::BarabasiAlbert { links }),
            (0u32..9, 0u32..=1_000)
                .prop_map(|(degree, rewired_per_mille)| Shape::WattsStrogatz { degree, rewired_per_mille }),
            (0u32..9).prop_map(|degree| Shape::ErdosRenyi { degree }),
            (1u32..12, 0u32..6, 0u32..4).prop_map(|(size, degree, bridges)| Shape::Villages { size, degree, bridges }),
        ]
    }

    proptest! {
        #[test]
        fn every_shape_gives_one_sound_graph_for_one_seed(shape in shape(), nodes in 1u32..80, seed: u64) {
            let make = |parts| Graph::make(shape, nodes, parts, &mut dice(seed)).unwrap();
            let graph = make(Parts::Joined);
            prop_assert_eq!(&graph, &make(Parts::Joined));
            prop_assert_eq!(graph.nodes(), nodes);
            prop_assert!(graph.parts().iter().all(|part| *part == 0), "all hang together");
            prop_assert!(graph.edges().iter().all(|(a, b)| a < b && *b < nodes));
            prop_assert!(graph.edges().windows(2).all(|pair| pair[0] < pair[1]));
            prop_assert!(make(Parts::Apart).edges().len() as u64 <= shape.most_edges(nodes));
            let neighbours = graph.neighbours();
            let degrees = graph.degrees();
            for node in 0..nodes {
                prop_assert_eq!(neighbours.of(node).len() as u32, degrees[node as usize]);
            }
        }
    }

    #[test]
    fn parts_are_numbered_by_their_first_nodes() {
        let graph = Graph::new(7, vec![(5, 0), (3, 1), (6, 3), (4, 4)]);
        assert_eq!(graph.parts(), [0, 1, 2, 1, 3, 0, 1]);
    }

    #[test]
    fn a_million_nodes_are_made_of_as_many_friendships_as_asked_for() {
        let shape = Shape::BarabasiAlbert { links: 3 };
        let graph = Graph::make(shape, 1_000_000, Parts::Joined, &mut dice(1)).unwrap();
        assert!((2_999_000..3_000_000).contains(&graph.edges().len()), "{}", graph.edges().len());
        let hub = graph.degrees().into_iter().max().unwrap();
        assert!(hub > 1_000, "a hub of {hub}");
    }

    #[test]
    fn what_is_too_large_is_refused_before_it_is_made() {
        let clique = Graph::make(Shape::Clique, 1_000_000, Parts::Apart, &mut dice(1));
        assert!(matches!(clique, Err(TopologyError::TooManyEdges(499_999_500_000))));
        let nobody = Graph::make(Shape::Line, 0, Parts::Apart, &mut dice(1));
        assert!(matches!(nobody, Err(TopologyError::NoNodes)));
    }
}
