//! The network: every node and friendship, or, when there are too many, communities and what lies between them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use offset_protocol::machine::Seed;

use super::escape;
use super::layout::layout;
use crate::case::{Case, Role};
use crate::dice::Dice;
use crate::host::HostId;
use crate::result::Verdict;
use crate::topology::Graph;
use crate::topology::communities::communities;

/// A larger network is drawn as communities. Chosen freely: more dots than that are a cloud.
const MOST_NODES: usize = 300;
/// So many communities are drawn, the largest.
const MOST_COMMUNITIES: usize = 80;
/// So few nodes have their numbers beside them.
const NAMED: usize = 60;
const SIDE: f64 = 400.0;
const EDGE: f64 = 24.0;

/// The drawing, and what stands below it.
pub(super) fn map(case: &Case, verdict: Option<&Verdict>) -> (String, String) {
    if case.nodes.len() <= MOST_NODES { nodes(case, verdict) } else { groups(case) }
}

fn nodes(case: &Case, verdict: Option<&Verdict>) -> (String, String) {
    let edges: Vec<(usize, usize, f64)> =
        case.friendships.iter().map(|pair| (pair.a as usize, pair.b as usize, 1.0)).collect();
    let mut friends = vec![0u32; case.nodes.len()];
    for (a, b, _) in &edges {
        friends[*a] += 1;
        friends[*b] += 1;
    }
    let struck = verdict.and_then(Verdict::finding).and_then(|finding| case.role(HostId(finding.host?)));
    let places: Vec<(f64, f64)> = layout(case.nodes.len(), &edges).into_iter().map(on_paper).collect();
    let label = format!("{} nodes and {} friendships", case.nodes.len(), edges.len());
    let mut svg = begin(&label);
    for (a, b, _) in &edges {
        line(&mut svg, places[*a], places[*b], 1.0);
    }
    let named = case.nodes.len() <= NAMED;
    let base = if named { 8.0 } else { 3.0 };
    for (n, (x, y)) in places.iter().enumerate() {
        let role = Role::Node(n as u32);
        let class = match () {
            () if matches!(struck, Some(Role::Node(at) | Role::Person(at)) if at as usize == n) => "node fault",
            () if !case.is_present(role) => "node gone",
            () if !case.is_honest(role) => "node cheat",
            () => "node",
        };
        let radius = base + f64::from(friends[n]).sqrt().min(5.0);
        let _ = write!(
            svg,
            "<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius:.1}\"><title>node {n}, {} friends</title></circle>",
            friends[n]
        );
        if named {
            let _ = write!(
                svg,
                "<text class=\"inside\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{n}</text>",
                y + 4.0
            );
        }
    }
    svg.push_str("</svg>");
    let cheats = (0..case.nodes.len() as u32).any(|n| !case.is_honest(Role::Node(n)));
    let mut note = format!("{label}; a larger dot has more friends.");
    if cheats {
        note.push_str(" Orange ones cheat.");
    }
    if matches!(struck, Some(Role::Node(_) | Role::Person(_))) {
        note.push_str(" The violation was found at the red one.");
    }
    (svg, note)
}

fn groups(case: &Case) -> (String, String) {
    let pairs = case.friendships.iter().map(|pair| (pair.a, pair.b)).collect();
    let graph = Graph::new(case.nodes.len() as u32, pairs);
    let mut dice = Dice::new(&Seed::from_number(case.seed), "map");
    let of = communities(&graph, &graph.neighbours(), &mut dice);
    let count = of.iter().max().map_or(0, |last| *last as usize + 1);
    let shown = count.min(MOST_COMMUNITIES);
    let mut sizes = vec![0u32; count];
    of.iter().for_each(|group| sizes[*group as usize] += 1);
    let mut between: BTreeMap<(usize, usize), f64> = BTreeMap::new();
    for &(a, b) in graph.edges() {
        let (a, b) = (of[a as usize] as usize, of[b as usize] as usize);
        if a != b && a < shown && b < shown {
            *between.entry((a.min(b), a.max(b))).or_default() += 1.0;
        }
    }
    let most = between.values().copied().fold(1.0, f64::max);
    let edges: Vec<(usize, usize, f64)> =
        between.iter().map(|((a, b), ways)| (*a, *b, 0.2 + 0.8 * ways / most)).collect();
    let places: Vec<(f64, f64)> = layout(shown, &edges).into_iter().map(on_paper).collect();
    let label = format!(
        "{} nodes and {} friendships in {count} communities, the largest of them of {} nodes",
        case.nodes.len(),
        case.friendships.len(),
        sizes.first().copied().unwrap_or(0)
    );
    let mut svg = begin(&label);
    for (a, b, weight) in &edges {
        line(&mut svg, places[*a], places[*b], 0.5 + 4.0 * weight);
    }
    let largest = f64::from(sizes.first().copied().unwrap_or(1)).max(1.0);
    for (n, (x, y)) in places.iter().enumerate() {
        let radius = 3.0 + 19.0 * (f64::from(sizes[n]) / largest).sqrt();
        let _ = write!(
            svg,
            "<circle class=\"node\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius:.1}\"><title>{} nodes</title></circle>",
            sizes[n]
        );
        if radius > 13.0 {
            let text = super::charts::short(sizes[n].into());
            let _ = write!(
                svg,
                "<text class=\"inside\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{text}</text>",
                y + 4.0
            );
        }
    }
    svg.push_str("</svg>");
    let rest = if count > shown { format!(" The {shown} largest are drawn.") } else { String::new() };
    (svg, format!("{label}; a dot is a community with its number of nodes, a line the friendships between two.{rest}"))
}

fn on_paper((x, y): (f64, f64)) -> (f64, f64) {
    (EDGE + x * (SIDE - 2.0 * EDGE), EDGE + y * (SIDE * 0.8 - 2.0 * EDGE))
}

fn begin(label: &str) -> String {
    format!(
        "<svg viewBox=\"0 0 {SIDE} {}\" role=\"img\" aria-label=\"{}\" xmlns=\"http://www.w3.org/2000/svg\">",
        SIDE * 0.8,
        escape(label)
    )
}

fn line(svg: &mut String, (x1, y1): (f64, f64), (x2, y2): (f64, f64), width: f64) {
    let _ = write!(
        svg,
        "<line class=\"edge\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke-width=\"{width:.1}\"/>"
    );
}
