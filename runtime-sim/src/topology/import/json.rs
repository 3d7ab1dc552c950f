//! Graphs in JSON, as network libraries and Lightning nodes (`describegraph`) write them.
//!
//! | | accepted |
//! |---|---|
//! | whole | an object with `edges` (or `links`) and maybe `nodes`; or the list of edges alone |
//! | node | a text, a number, or an object with `id`, `name`, `key` or `pub_key` |
//! | edge | `[from, to]`, `[from, to, capacity]`, or an object with `source`/`target`, `from`/`to`, `a`/`b` or `node1_pub`/`node2_pub`, and maybe `capacity` or `weight` |

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{Reading, whole};
use crate::topology::TopologyError;

pub(super) fn parse(text: &str, reading: &mut Reading) -> Result<(), TopologyError> {
    let bad = |error: serde_json::Error| {
        let (line, column) = (error.line(), error.column());
        // The reader's own words end with the place; it stands in front already.
        let what = error.to_string();
        let what = what.split(" at line ").next().unwrap_or_default();
        TopologyError::Bad { line, what: format!("column {column}: {what}") }
    };
    let file = if text.trim_start().starts_with('[') {
        File { nodes: Vec::new(), edges: serde_json::from_str(text).map_err(bad)? }
    } else {
        serde_json::from_str::<File>(text).map_err(bad)?
    };
    // Lines are not known any more, so names that cannot be are counted from the end of the file.
    let line = text.lines().count();
    for node in &file.nodes {
        reading.node(line, &node.0)?;
    }
    for edge in &file.edges {
        reading.edge(line, &edge.from, &edge.to, edge.capacity)?;
    }
    Ok(())
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    nodes: Vec<Node>,
    #[serde(alias = "links")]
    edges: Vec<Edge>,
}

struct Node(String);

struct Edge {
    from: String,
    to: String,
    capacity: Option<u64>,
}

/// A text or a number, as text.
struct Word(String);

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Words;
        impl Visitor<'_> for Words {
            type Value = Word;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a number")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Word, E> {
                Ok(Word(text.to_owned()))
            }
            fn visit_u64<E: Error>(self, number: u64) -> Result<Word, E> {
                Ok(Word(number.to_string()))
            }
            fn visit_i64<E: Error>(self, number: i64) -> Result<Word, E> {
                Ok(Word(number.to_string()))
            }
            fn visit_f64<E: Error>(self, number: f64) -> Result<Word, E> {
                Ok(Word(number.to_string()))
            }
            fn visit_unit<E: Error>(self) -> Result<Word, E> {
                Ok(Word(String::new()))
            }
        }
        deserializer.deserialize_any(Words)
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Nodes;
        impl<'de> Visitor<'de> for Nodes {
            type Value = Node;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a node: a text, a number, or an object with an id")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Node, E> {
                Ok(Node(text.to_owned()))
            }
            fn visit_u64<E: Error>(self, number: u64) -> Result<Node, E> {
                Ok(Node(number.to_string()))
            }
            fn visit_i64<E: Error>(self, number: i64) -> Result<Node, E> {
                Ok(Node(number.to_string()))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
                let (mut id, mut rank) = (None, u8::MAX);
                while let Some(key) = map.next_key::<String>()? {
                    // What names a node best wins: another field may only describe it.
                    let this = match key.as_str() {
                        "pub_key" => 0,
                        "id" => 1,
                        "key" => 2,
                        "name" => 3,
                        _ => u8::MAX,
                    };
                    if this < rank {
                        (id, rank) = (Some(map.next_value::<Word>()?.0), this);
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                id.map(Node).ok_or_else(|| A::Error::custom("a node has neither id, key, pub_key nor name"))
            }
        }
        deserializer.deserialize_any(Nodes)
    }
}

impl<'de> Deserialize<'de> for Edge {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Edges;
        impl<'de> Visitor<'de> for Edges {
            type Value = Edge;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an edge: a pair of names, or an object with source and target")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Edge, A::Error> {
                let pair = (seq.next_element::<Word>()?, seq.next_element::<Word>()?);
                let (Some(from), Some(to)) = pair else { return Err(A::Error::custom("an edge needs two ends")) };
                let capacity = seq.next_element::<Word>()?.and_then(|word| whole(&word.0));
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Edge { from: from.0, to: to.0, capacity })
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Edge, A::Error> {
                let (mut from, mut to, mut capacity) = (None, None, None);
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "source" | "from" | "a" | "node1_pub" => from = Some(map.next_value::<Word>()?.0),
                        "target" | "to" | "b" | "node2_pub" => to = Some(map.next_value::<Word>()?.0),
                        "capacity" | "weight" => capacity = whole(&map.next_value::<Word>()?.0),
                        _ => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                match (from, to) {
                    (Some(from), Some(to)) => Ok(Edge { from, to, capacity }),
                    _ => Err(A::Error::custom("an edge has no source or no target")),
                }
            }
        }
        deserializer.deserialize_any(Edges)
    }
}

#[cfg(test)]
mod tests {
    use crate::topology::import::{Format, Imported, parse};

    fn read(text: &str) -> Result<Imported, String> {
        parse(text, Format::Json).map_err(|error| error.to_string())
    }

    #[test]
    fn a_lightning_graph_is_read_with_its_capacities() {
        let text = r#"{"nodes": [
            {"last_update": 1, "pub_key": "02aa", "alias": "one", "addresses": [], "color": "red"},
            {"pub_key": "03bb", "alias": "two"}, {"pub_key": "02cc", "alias": ""}],
          "edges": [
            {"channel_id": "1", "node1_pub": "02aa", "node2_pub": "03bb", "capacity": "250000",
             "node1_policy": {"fee_base_msat": "1000"}, "node2_policy": null},
            {"channel_id": "2", "node1_pub": "03bb", "node2_pub": "02aa", "capacity": "50000"}]}"#;
        let read = read(text).unwrap();
        assert_eq!((read.graph.nodes(), read.graph.edges(), read.repeated), (3, [(0, 1)].as_slice(), 1));
        assert_eq!((read.graph.capacity(0), read.graph.name(1)), (Some(300_000), Some("03bb")));
    }

    #[test]
    fn other_forms_are_read_too() {
        for text in [
            r#"[["a","b"],["b","c",12]]"#,
            r#"[[1,2],[2,3]]"#,
            r#"{"directed":false,"nodes":[{"id":0},{"id":1},{"id":2}],"links":[{"source":0,"target":1},{"source":1,"target":2,"weight":1.5}]}"#,
            r#"{"edges":[{"from":"x","to":"y"},{"a":"y","b":"z"}]}"#,
        ] {
            let read = read(text).unwrap();
            assert_eq!((read.graph.nodes(), read.graph.edges().len()), (3, 2), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_by_line_and_column() {
        assert_eq!(read("{\n \"edges\": [[\"a\"]]}").unwrap_err(), "line 2: column 16: an edge needs two ends");
        assert!(read("{\"edges\": [{\"source\": 1}]}").unwrap_err().contains("no source or no target"));
        assert!(read("{\"nodes\": []}").unwrap_err().contains("missing field `edges`"));
        assert!(read("{\"nodes\": [{}], \"edges\": []}").unwrap_err().contains("neither id"));
        assert!(read("{\"edges\": [7]}").unwrap_err().contains("a pair of names"));
        let deep = format!("{{\"edges\": [{}", "[".repeat(100_000));
        assert!(read(&deep).is_err());
    }
}
