//! `stsim topology`: graphs by themselves.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;

use super::json::pretty;
use super::{Failure, files, say};
use crate::dice::Dice;
use crate::result::Histogram;
use crate::scenario::field::{Kind, hint};
use crate::scenario::{Scenario, fields, graph_of};
use crate::topology::import::{self, Imported};
use crate::topology::{Description, Graph, describe};
use offset_protocol::machine::Seed;

/// Arguments of the command.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// A kind of graph, as in a scenario (line, ring, star, tree, grid, clique, barabasi-albert, watts-strogatz,
    /// erdos-renyi, villages), or a file: an edge list, JSON, GraphML or a Lightning describegraph
    what: String,
    /// What a kind needs to know, as in `nodes=1000 links=4` (see the section topology of `stsim scenario --explain`)
    #[arg(value_name = "FIELD=VALUE")]
    set: Vec<String>,
    /// From what chance is drawn
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Write the graph as an edge list
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print the description as one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<u8, Failure> {
    files::must_be_free(&[&arguments.output])?;
    let (graph, note) = graph(arguments)?;
    let mut dice = Dice::new(&Seed::from_number(arguments.seed), "describe");
    let description = describe(&graph, &mut dice);
    if let Some(path) = &arguments.output {
        files::write_new(path, &graph.to_csv())?;
    }
    say(if arguments.json { pretty(&description) } else { format!("{note}{}", table(&description)) });
    Ok(0)
}

/// The graph, and what is to be said of a file.
fn graph(arguments: &Arguments) -> Result<(Graph, String), Failure> {
    let is_kind = matches!(fields::TOPOLOGY.kind, Kind::OneOf(kinds) if kinds.contains(&arguments.what.as_str()));
    if !is_kind {
        let path = Path::new(&arguments.what);
        if let (false, Kind::OneOf(kinds)) = (path.exists(), fields::TOPOLOGY.kind) {
            let near = hint(&arguments.what, kinds.iter().copied());
            return Err(Failure(format!("{:?} is neither a kind of graph nor a file{near}", arguments.what)));
        }
        let Imported { graph, loops, repeated } = import::read(path).map_err(|why| Failure::of_file(path, why))?;
        let note = match (loops, repeated) {
            (0, 0) => String::new(),
            _ => format!("left out: {loops} friendships with oneself, {repeated} that stood there before\n"),
        };
        return Ok((graph, note));
    }
    let mut set = vec![format!("topology.kind={}", arguments.what)];
    set.extend(arguments.set.iter().map(|one| format!("topology.{one}")));
    let scenario = Scenario::parse("topology", "", Path::new("."), &set).map_err(Failure::new)?;
    Ok((graph_of(&scenario, arguments.seed).map_err(Failure::new)?, String::new()))
}

fn table(description: &Description) -> String {
    let d = description;
    let mut text = String::new();
    let mut line = |name: &str, what: String| {
        let _ = writeln!(text, "{name:<14} {what}");
    };
    line("nodes", d.nodes.to_string());
    line("friendships", d.friendships.to_string());
    line("parts", format!("{}, the largest of {} nodes", d.parts, d.largest_part));
    line("friends", spread(&d.friends, &format!(", {:.2} on average", d.friends.mean_milli() as f64 / 1_000.0)));
    line("clustering", format!("{:.3} (of {} nodes)", d.clustering_per_mille as f64 / 1_000.0, d.clustering_sample));
    line(
        "distance",
        format!("{:.2} on average, {} at least at most", d.distance_milli as f64 / 1_000.0, d.diameter_at_least),
    );
    let modularity = d.modularity_per_mille as f64 / 1_000.0;
    line(
        "communities",
        format!("{}, the largest of {} nodes, modularity {modularity:.3}", d.communities, d.largest_community),
    );
    if let Some(capacities) = &d.capacities {
        line("capacities", spread(capacities, ""));
    }
    text
}

fn spread(histogram: &Histogram, more: &str) -> String {
    let [q1, q2, q3, q4] = [100, 500, 900, 990].map(|per_mille| histogram.quantile(per_mille));
    format!(
        "{} to {}{more}; 10 % up to {q1}, half up to {q2}, 90 % up to {q3}, 99 % up to {q4}",
        histogram.low(),
        histogram.high()
    )
}
