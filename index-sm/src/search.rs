//! The cheapest single route for an amount: exact on (fees, hops).
//!
//! | asked for | searched by |
//! |---|---|
//! | a route between two nodes | `meet`: from both ends at once |
//! | the same, where the cheapest way is too long for a route | `fronts`: from both ends at once, with several labels a node |
//! | a cycle | `fronts` |
//! | the last two, where the best way lacks room for its fees | `backward`: from the destination alone |
//! | alternatives | `another`: ways that the search from both ends met besides the cheapest |
//!
//! Ties: of equal routes the one that the search meets first; searches take labels in the order of (fee, hops, number) and
//! edges in the order of (`mul`, `add`, number). So the same graph, numbers included, and query give the same route.
//!
//! Work is counted in lines looked at, and in labels where a node can have several; at the cap a search ends and says so, with the best that it met so far.

use offset_protocol::limits::MAX_ROUTE_LEN;

use crate::backward::{self, Backward, Pass};
use crate::cost::{Cost, SMALL_AMOUNT};
use crate::flow::Levels;
use crate::fronts::{self, Answer, Fronts};
use crate::meet::{self, Halves, Met};
use crate::path::{Path, Residual};
use crate::view::View;

/// Edges of the longest route.
pub(crate) const MAX_HOPS: u32 = MAX_ROUTE_LEN as u32 - 1;

/// What is searched.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Query<'a> {
    pub(crate) source: u32,
    /// The source itself: a cycle. What leads here ends here, all else is passed on: for one query each edge has one capacity,
    /// as [`View::capacity`] says.
    pub(crate) destination: u32,
    /// What arrives.
    pub(crate) amount: u128,
    pub(crate) max_fee: u128,
    /// What an edge must be able to take at least, fees or not; beyond it capacities are not asked about.
    pub(crate) room: Room,
    pub(crate) care: Care,
    pub(crate) residual: &'a Residual,
}

/// What is done where the cheapest way is too long for a route. To find the cheapest legal one can cost a hundred times
/// as much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Care {
    /// The cheapest legal one is found.
    Exact,
    /// The cheapest legal one that was met will do, if any was.
    Quick,
    /// No route is found.
    None,
}

/// What a query demands of capacities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// Room for the amount and the fees ahead.
    Whole,
    /// Room for this much. What is found is a lower bound for what parts of at least this size cost together.
    AtLeast(u128),
}

/// Lines that a query may still look at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    left: u64,
    /// Whether something was left undone for want of budget.
    pub(crate) exhausted: bool,
}

impl Budget {
    pub(crate) fn new(lines: u64) -> Self {
        Budget { left: lines, exhausted: false }
    }

    /// Lines that are left.
    pub(crate) fn left(&self) -> u64 {
        self.left
    }

    /// Takes `lines` away; false, and nothing taken, if they are not there.
    pub(crate) fn take(&mut self, lines: usize) -> bool {
        match self.left.checked_sub(lines as u64) {
            Some(left) => {
                self.left = left;
                true
            }
            None => {
                self.exhausted = true;
                false
            }
        }
    }

    /// Takes `lines` away for what was looked at already; if they are not there all that is left, and the budget is
    /// exhausted.
    pub(crate) fn charge(&mut self, lines: u64) {
        match self.left.checked_sub(lines) {
            Some(left) => self.left = left,
            None => (self.left, self.exhausted) = (0, true),
        }
    }

    /// Takes `lines` away, or all that is left.
    pub(crate) fn spend(&mut self, lines: usize) {
        self.left = self.left.saturating_sub(lines as u64);
    }

    /// Of `list`, what can be paid for.
    pub(crate) fn afford<'a, T>(&self, list: &'a [T]) -> &'a [T] {
        let lines = usize::try_from(self.left).unwrap_or(usize::MAX);
        &list[..list.len().min(lines)]
    }
}

/// Memory that searches use again and again: one for each thread that answers queries. It grows with what searches touch;
/// for cycles and for routes at the limit of length with the graphs that it is used on as well.
#[derive(Clone, Debug, Default)]
pub struct Workspace {
    small: Halves<u64>,
    large: Halves<u128>,
    small_fronts: Fronts<u64>,
    large_fronts: Fronts<u128>,
    backward: Backward,
    pub(crate) levels: Levels,
    last: Last,
}

/// Where the ways are that the last search met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Last {
    #[default]
    Nowhere,
    Small,
    Large,
}

impl Workspace {
    /// An empty one; it grows to the size of the graphs that it is used on.
    pub fn new() -> Self {
        Workspace::default()
    }
}

/// The cheapest route, of those one with the fewest hops. `None` if there is none. If the budget ends first, one that is
/// not known to be the cheapest, or `None`.
pub(crate) fn cheapest(
    graph: &View,
    query: &Query<'_>,
    workspace: &mut Workspace,
    budget: &mut Budget,
) -> Option<Path> {
    let small = u64::try_from(query.amount).is_ok_and(|amount| amount <= SMALL_AMOUNT);
    let Workspace { small: halves, small_fronts: fronts, last, backward, .. } = workspace;
    if small {
        return cheapest_in(graph, query, Memory { halves, fronts, backward, last }, budget, Last::Small);
    }
    let Workspace { large: halves, large_fronts: fronts, last, backward, .. } = workspace;
    cheapest_in(graph, query, Memory { halves, fronts, backward, last }, budget, Last::Large)
}

/// What one size of amounts uses of a workspace.
struct Memory<'a, C> {
    halves: &'a mut Halves<C>,
    fronts: &'a mut Fronts<C>,
    backward: &'a mut Backward,
    last: &'a mut Last,
}

fn cheapest_in<C: Cost>(
    graph: &View,
    query: &Query<'_>,
    memory: Memory<'_, C>,
    budget: &mut Budget,
    size: Last,
) -> Option<Path> {
    let Memory { halves, fronts, backward, last } = memory;
    *last = Last::Nowhere;
    let is_cycle = query.source == query.destination;
    let (shut, known) = match is_cycle {
        true => (Vec::new(), None),
        false => match meet::cheapest(graph, query, halves, budget) {
            Met::Way(path) => {
                *last = size;
                return Some(path);
            }
            Met::Nothing => return None,
            Met::TooLong { shut } => (shut, meet::another(graph, query, halves)),
        },
    };
    match (query.care, &known) {
        (Care::Quick, Some(_)) => return known,
        (Care::None, _) if !is_cycle => return None,
        (Care::Exact | Care::Quick | Care::None, _) => {}
    }
    match fronts::cheapest(graph, query, fronts, budget, &shut, known) {
        Answer::Way(path) => Some(path),
        Answer::Nothing => None,
        Answer::Unclear => {
            let pass = if is_cycle { Pass::Cheapest } else { Pass::Front };
            backward::cheapest(graph, query, backward, budget, pass)
        }
    }
}

/// The cheapest of the other ways that the last search met and `query` allows, the last search being [`cheapest`] with the
/// same ends and amount. `None` says nothing about whether there is one that it did not meet.
pub(crate) fn another(graph: &View, query: &Query<'_>, workspace: &mut Workspace) -> Option<Path> {
    match workspace.last {
        Last::Nowhere => None,
        Last::Small => meet::another(graph, query, &mut workspace.small),
        Last::Large => meet::another(graph, query, &mut workspace.large),
    }
}

#[cfg(test)]
mod tests;
