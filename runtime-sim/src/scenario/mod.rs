//! Scenarios: what a world is like, as a file in which every number may be a range. With a seed, one becomes a
//! [`Case`](crate::case::Case).
//!
//! | | |
//! |---|---|
//! | [`Scenario::load`], [`Scenario::parse`] | reads TOML; what is not known is refused, with the nearest name that is |
//! | [`BUILT_IN`] | the scenarios of this crate, known by name |
//! | [`draw`](fn@draw) | one run of it |
//! | [`explain`](fn@explain) | every field with its range, default and meaning |
//! | [`unmet`] | what of its expectations a run did not meet |
//!
//! 1. The same scenario and seed give the same case.
//! 2. Each field has dice of its own: another field, or another value of one, changes nothing of what the others draw.

mod draw;
mod expect;
mod explain;
pub mod field;
pub mod fields;
mod read;
mod trace;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use draw::{draw, graph_of};
pub use expect::unmet;
pub use explain::explain;

use crate::topology::{Graph, TopologyError, import};
use field::{Field, Span, Value, hint};
use read::{Tables, Values};
use trace::Ordered;

/// The scenarios of this crate, by name.
pub const BUILT_IN: &[(&str, &str)] = &[
    ("swarm", include_str!("../../scenarios/swarm.toml")),
    ("village", include_str!("../../scenarios/village.toml")),
    ("market-day", include_str!("../../scenarios/market-day.toml")),
    ("relay-outage", include_str!("../../scenarios/relay-outage.toml")),
    ("split-federation", include_str!("../../scenarios/split-federation.toml")),
    ("freeze-attack", include_str!("../../scenarios/freeze-attack.toml")),
    ("flash-crowd", include_str!("../../scenarios/flash-crowd.toml")),
    ("phones", include_str!("../../scenarios/phones.toml")),
    ("hub-leaves", include_str!("../../scenarios/hub-leaves.toml")),
    ("backup-restored", include_str!("../../scenarios/backup-restored.toml")),
    ("full-10k", include_str!("../../scenarios/full-10k.toml")),
    ("funds-100k", include_str!("../../scenarios/funds-100k.toml")),
    ("idle-1m", include_str!("../../scenarios/idle-1m.toml")),
];

/// What worlds of one kind are like.
#[derive(Clone, Debug)]
pub struct Scenario {
    name: String,
    /// By field, what was said; defaults are not in it.
    values: BTreeMap<String, Value>,
    tables: Tables,
    graph: Option<Graph>,
    orders: Vec<Ordered>,
}

/// Why there is no scenario, or no case of it.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// The file cannot be read.
    #[error("{path} cannot be read: {why}")]
    Unreadable {
        /// Which.
        path: String,
        /// What the system says.
        why: std::io::Error,
    },
    /// There is neither a built-in scenario nor a file of this name.
    #[error("there is neither a scenario nor a file of this name{hint}")]
    Unknown {
        /// The nearest name, if one is near.
        hint: String,
    },
    /// The file does not say what it should.
    #[error("line {line}: {what}")]
    Bad {
        /// Counted from 1.
        line: usize,
        /// What is wrong there.
        what: String,
    },
    /// A value that was given by itself is wrong.
    #[error("{field}: {what}")]
    Value {
        /// Of which field.
        field: String,
        /// What is wrong with it.
        what: String,
    },
    /// There is no field of this name.
    #[error("there is no field {field:?}{hint}")]
    NoField {
        /// Which.
        field: String,
        /// The nearest name, if one is near.
        hint: String,
    },
    /// There is no graph.
    #[error("topology: {0}")]
    Topology(#[from] TopologyError),
    /// The file of payments does not say what it should.
    #[error("{path}, line {line}: {what}")]
    Trace {
        /// Which.
        path: String,
        /// Counted from 1.
        line: usize,
        /// What is wrong there.
        what: String,
    },
}

impl Scenario {
    /// The built-in scenario of this name, or the one in this file; with some fields set as in `topology.nodes=7..9`.
    ///
    /// # Errors
    /// There is none, or it does not say what it should.
    pub fn load(name: &str, set: &[String]) -> Result<Scenario, ScenarioError> {
        if let Some((name, text)) = BUILT_IN.iter().find(|(built_in, _)| *built_in == name) {
            return Scenario::parse(name, text, Path::new("."), set);
        }
        let path = Path::new(name);
        if !path.exists() {
            return Err(ScenarioError::Unknown { hint: hint(name, BUILT_IN.iter().map(|(known, _)| *known)) });
        }
        let text = std::fs::read_to_string(path)
            .map_err(|why| ScenarioError::Unreadable { path: path.display().to_string(), why })?;
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or(name);
        Scenario::parse(stem, &text, path.parent().unwrap_or(Path::new(".")), set)
    }

    /// The scenario that a text describes, with some fields set. Files that it names are looked for in `folder`.
    ///
    /// # Errors
    /// It, or a file that it names, does not say what it should.
    pub fn parse(name: &str, text: &str, folder: &Path, set: &[String]) -> Result<Scenario, ScenarioError> {
        let (values, tables) = read::parse(text)?;
        let mut scenario = Scenario { name: name.to_owned(), values, tables, graph: None, orders: Vec::new() };
        for one in set {
            scenario.set(one)?;
        }
        scenario.open_files(folder)?;
        Ok(scenario)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is about.
    pub fn about(&self) -> String {
        self.words(&fields::ABOUT).into_iter().next().unwrap_or_default()
    }

    /// Sets one field, as its file could have; entries of a list with commas between them.
    fn set(&mut self, one: &str) -> Result<(), ScenarioError> {
        let wrong = |field: &str, what: String| ScenarioError::Value { field: field.to_owned(), what };
        let Some((name, value)) = one.split_once('=') else {
            return Err(wrong(one, "a field is set as in topology.nodes=12".to_owned()));
        };
        let (name, value) = (name.trim(), value.trim());
        let field = read::find(name)?;
        let entries: Vec<String> = match field.kind {
            field::Kind::Text => vec![value.to_owned()],
            _ => value.split(',').map(str::trim).filter(|entry| !entry.is_empty()).map(str::to_owned).collect(),
        };
        let value = field.read(&entries).map_err(|what| wrong(name, what))?;
        self.values.insert(name.to_owned(), value);
        Ok(())
    }

    fn open_files(&mut self, folder: &Path) -> Result<(), ScenarioError> {
        if self.wants(&fields::TOPOLOGY, "file") {
            let missing = "topology.kind is \"file\", so topology.file must name one";
            self.graph = Some(import::read(&self.path(folder, &fields::FILE, missing)?)?.graph);
        }
        if self.wants(&fields::WORKLOAD, "trace") {
            let missing = "payments.workload is \"trace\", so payments.trace must name a file";
            self.orders = trace::read(&self.path(folder, &fields::TRACE, missing)?)?;
        }
        Ok(())
    }

    fn wants(&self, field: &Field, word: &str) -> bool {
        self.words(field).iter().any(|entry| entry == word)
    }

    fn path(&self, folder: &Path, field: &Field, missing: &str) -> Result<PathBuf, ScenarioError> {
        match self.words(field).first() {
            Some(name) if !name.is_empty() => Ok(folder.join(name)),
            Some(_) | None => Err(ScenarioError::Value { field: field.name.to_string(), what: missing.to_owned() }),
        }
    }

    /// The tables of a name, in order.
    fn tables(&self, name: &str) -> &[Values] {
        self.tables.get(name).map_or(&[], Vec::as_slice)
    }

    fn value(&self, field: &Field) -> Value {
        self.values.get(&*field.name).cloned().unwrap_or_else(|| field.default_value())
    }

    /// The words of a field that is not drawn.
    fn words(&self, field: &Field) -> Vec<String> {
        match self.value(field) {
            Value::Words(words) => words,
            Value::Spans(_) => Vec::new(),
        }
    }

    fn spans(&self, field: &Field) -> Vec<Span> {
        match self.value(field) {
            Value::Spans(spans) => spans,
            Value::Words(_) => Vec::new(),
        }
    }

    /// The number of a field that is not drawn.
    pub fn number(&self, field: &Field) -> u64 {
        self.spans(field).first().map_or(0, |span| span.low)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_scenario_can_be_loaded_and_drawn() {
        for (name, _) in BUILT_IN {
            let scenario = Scenario::load(name, &[]).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(!scenario.about().is_empty(), "{name}");
        }
    }

    #[test]
    fn every_file_in_the_folder_is_built_in() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .filter_map(|entry| entry.unwrap().file_name().to_str()?.strip_suffix(".toml").map(str::to_owned))
            .collect();
        files.sort();
        let mut known: Vec<_> = BUILT_IN.iter().map(|(name, _)| *name).collect();
        known.sort_unstable();
        assert_eq!(files, known);
    }

    #[test]
    fn a_field_can_be_set_by_itself() {
        let set = |one: &str| Scenario::load("swarm", &[one.to_owned()]);
        let wrong = |one: &str| set(one).unwrap_err().to_string();
        let spans = set("topology.nodes=7, 9..10").unwrap().spans(&fields::NODES);
        assert_eq!(spans, [Span { low: 7, high: 7 }, Span { low: 9, high: 10 }]);
        assert_eq!(wrong("topology.node=7"), "there is no field \"topology.node\"; did you mean \"topology.nodes\"?");
        let unknown = Scenario::load("vilage", &[]).unwrap_err().to_string();
        assert_eq!(unknown, "there is neither a scenario nor a file of this name; did you mean \"village\"?");
        assert_eq!(wrong("topology.nodes=0"), "topology.nodes: 0 is not between 1 and 4000000");
        assert_eq!(wrong("topology.nodes"), "topology.nodes: a field is set as in topology.nodes=12");
        assert!(wrong("topology.kind=file").contains("must name one"));
        let valley = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios/valley.csv");
        let both = ["topology.kind=file".to_owned(), format!("topology.file={valley}")];
        assert_eq!(draw(&Scenario::load("swarm", &both).unwrap(), 1).unwrap().nodes.len(), 24);
    }
}
