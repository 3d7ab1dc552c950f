//! Graphs from files. A file is somebody else's: everything in it is limited, and what is wrong with it is said by line.
//!
//! | format | what is read |
//! |---|---|
//! | edge list (`edges`) | a pair of names a line, by comma, semicolon, tab or space; what it can carry in a third column; `#` comments, a header |
//! | JSON (`json`) | `{"nodes": […], "edges": […]}` or a list of pairs; Lightning's `describegraph` is one of these |
//! | GraphML (`graphml`) | `<node id>`, `<edge source target>`, `<data>` named capacity or weight |
//!
//! Loops are left out, and pairs that stand there twice are one friendship that carries what both do: both are counted.
//! Directions are not kept. Nodes are numbered in the order in which a file names them.

mod edges;
mod graphml;
mod json;

use std::collections::BTreeMap;
use std::path::Path;

use super::{Graph, MAX_EDGES, MAX_NODES, TopologyError};

/// No file may be larger. Chosen freely: ten times the largest public graph of the Lightning network.
pub const MAX_BYTES: u64 = 1 << 30;
/// No name may have more bytes. Chosen freely: four times a public key in hexadecimal.
const MAX_NAME: usize = 256;

/// How a file says who is whose friend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A pair a line.
    EdgeList,
    /// JSON, a `describegraph` too.
    Json,
    /// GraphML.
    GraphMl,
}

impl Format {
    /// The format that a file's name ends in: `.json`, `.graphml` or `.xml`; an edge list otherwise.
    pub fn of(path: &Path) -> Format {
        match path.extension().and_then(|extension| extension.to_str()).map(str::to_ascii_lowercase).as_deref() {
            Some("json") => Format::Json,
            Some("graphml" | "xml") => Format::GraphMl,
            _ => Format::EdgeList,
        }
    }
}

/// A graph that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The graph, its parts as they are.
    pub graph: Graph,
    /// Friendships with oneself, left out.
    pub loops: u64,
    /// Pairs that had stood there before, added to what was there.
    pub repeated: u64,
}

/// Reads a file.
///
/// # Errors
/// The file cannot be read, is too large, or does not say what it should.
pub fn read(path: &Path) -> Result<Imported, TopologyError> {
    let name = || path.display().to_string();
    let unreadable = |why| TopologyError::Unreadable { path: name(), why };
    let bytes = std::fs::metadata(path).map_err(unreadable)?.len();
    if bytes > MAX_BYTES {
        return Err(TopologyError::TooLarge { path: name(), bytes });
    }
    parse(&std::fs::read_to_string(path).map_err(unreadable)?, Format::of(path))
}

/// Reads text.
///
/// # Errors
/// As [`read`], but for files.
pub fn parse(text: &str, format: Format) -> Result<Imported, TopologyError> {
    let mut reading = Reading::default();
    match format {
        Format::EdgeList => edges::parse(text, &mut reading)?,
        Format::Json => json::parse(text, &mut reading)?,
        Format::GraphMl => graphml::parse(text, &mut reading)?,
    }
    reading.finish()
}

/// What was read so far.
#[derive(Debug, Default)]
struct Reading {
    numbers: BTreeMap<String, u32>,
    edges: Vec<(u32, u32, Option<u64>)>,
}

impl Reading {
    fn node(&mut self, line: usize, name: &str) -> Result<u32, TopologyError> {
        let bad = |what| TopologyError::Bad { line, what };
        if name.is_empty() {
            return Err(bad("a node has no name".to_owned()));
        }
        if name.len() > MAX_NAME || name.chars().any(char::is_control) {
            return Err(bad(format!("a node's name has more than {MAX_NAME} bytes or is not printable")));
        }
        if let Some(number) = self.numbers.get(name) {
            return Ok(*number);
        }
        let number = self.numbers.len() as u32;
        if number >= MAX_NODES {
            return Err(TopologyError::TooManyNodes(u64::from(number) + 1));
        }
        self.numbers.insert(name.to_owned(), number);
        Ok(number)
    }

    fn edge(&mut self, line: usize, from: &str, to: &str, capacity: Option<u64>) -> Result<(), TopologyError> {
        if self.edges.len() >= MAX_EDGES {
            return Err(TopologyError::TooManyEdges(self.edges.len() as u64 + 1));
        }
        let (from, to) = (self.node(line, from)?, self.node(line, to)?);
        self.edges.push((from.min(to), from.max(to), capacity));
        Ok(())
    }

    fn finish(mut self) -> Result<Imported, TopologyError> {
        let nodes = self.numbers.len() as u32;
        if nodes == 0 {
            return Err(TopologyError::NoNodes);
        }
        let all = self.edges.len();
        self.edges.retain(|(a, b, _)| a != b);
        let loops = (all - self.edges.len()) as u64;
        self.edges.sort_unstable();
        let mut graph = Graph { nodes, names: vec![String::new(); nodes as usize], ..Graph::default() };
        let told = self.edges.iter().any(|(_, _, capacity)| capacity.is_some());
        for &(a, b, capacity) in &self.edges {
            let capacity = capacity.unwrap_or(0);
            if graph.edges.last() == Some(&(a, b)) {
                if let Some(last) = graph.capacities.last_mut() {
                    *last = last.saturating_add(capacity);
                }
                continue;
            }
            graph.edges.push((a, b));
            if told {
                graph.capacities.push(capacity);
            }
        }
        let repeated = (self.edges.len() - graph.edges.len()) as u64;
        for (name, number) in self.numbers {
            graph.names[number as usize] = name;
        }
        Ok(Imported { graph, loops, repeated })
    }
}

/// A whole number, or the whole part of one with a point: files of weights often have one.
fn whole(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    part.bytes().all(|byte| byte.is_ascii_digit()).then(|| whole.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Dice;
    use crate::topology::{Parts, Shape};
    use offset_protocol::machine::Seed;
    use proptest::prelude::*;

    const ALL: [Format; 3] = [Format::EdgeList, Format::Json, Format::GraphMl];

    #[test]
    fn what_is_written_is_read_again() {
        let mut dice = Dice::new(&Seed::from_number(1), "import");
        let graph = Graph::make(Shape::ErdosRenyi { degree: 4 }, 50, Parts::Joined, &mut dice).unwrap();
        let read = parse(&graph.to_csv(), Format::EdgeList).unwrap();
        assert_eq!((read.loops, read.repeated, read.graph.edges().len()), (0, 0, graph.edges().len()));
        // Nodes have other numbers now, so they are compared by name.
        let named = |graph: &Graph| {
            let name = |node: u32| graph.name(node).map_or_else(|| node.to_string(), str::to_owned);
            let pair = |(a, b): &(u32, u32)| (name(*a).min(name(*b)), name(*a).max(name(*b)));
            graph.edges().iter().map(pair).collect::<std::collections::BTreeSet<_>>()
        };
        assert_eq!(named(&read.graph), named(&graph));
    }

    #[test]
    fn loops_and_repetitions_are_counted() {
        let read = parse("a,b,5\nb,a,7\na,a,1\nc,a,2\n", Format::EdgeList).unwrap();
        assert_eq!((read.loops, read.repeated), (1, 1));
        assert_eq!(read.graph.edges(), [(0, 1), (0, 2)]);
        assert_eq!((read.graph.capacity(0), read.graph.capacity(1)), (Some(12), Some(2)));
        assert_eq!((read.graph.name(0), read.graph.name(2)), (Some("a"), Some("c")));
    }

    #[test]
    fn a_file_without_anybody_is_refused() {
        for (text, format) in [("", Format::EdgeList), ("[]", Format::Json), ("<graphml/>", Format::GraphMl)] {
            assert!(matches!(parse(text, format), Err(TopologyError::NoNodes)), "{text:?}");
        }
    }

    #[test]
    fn the_example_of_the_scenarios_is_sound() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/valley.csv");
        let read = read(&path).unwrap();
        assert_eq!((read.loops, read.repeated), (0, 0));
        assert!(read.graph.parts().iter().all(|part| *part == 0));
        assert!(read.graph.capacity(0).is_some());
    }

    proptest! {
        #[test]
        fn no_text_whatever_makes_a_reader_panic(text in ".{0,300}") {
            for format in ALL {
                let _ = parse(&text, format);
            }
        }

        #[test]
        fn nor_does_text_that_is_nearly_right(
            text in r#"(<(/?(node|edge|graph|data|key)( (id|source|target|key)="[a-c&;#x0-9]{0,4}")*/?>)?|[a-c,;{}\[\]":#\n ]{0,6}){0,12}"#
        ) {
            for format in ALL {
                let _ = parse(&text, format);
            }
        }
    }
}
