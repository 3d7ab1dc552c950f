//! The most that could flow between two nodes: by augmenting paths, simple enough to be believed.
//!
//! Fees are not looked at; whoever uses the number leaves room for them.

use std::collections::{BTreeMap, VecDeque};

/// What each node can push to each friend of what flows to the sink.
pub(super) type Capacities = BTreeMap<(u32, u32), u128>;

/// The maximum flow from `source` to `sink` over all of `capacities`.
pub(super) fn max_flow(capacities: &Capacities, source: u32, sink: u32) -> u128 {
    if source == sink {
        return 0;
    }
    let mut left = capacities.clone();
    let mut flow: u128 = 0;
    while let Some(path) = shortest_path(&left, source, sink) {
        let room = path.iter().filter_map(|edge| left.get(edge)).copied().min().unwrap_or(0);
        for (from, to) in path {
            if let Some(forth) = left.get_mut(&(from, to)) {
                *forth -= room;
            }
            let back = left.entry((to, from)).or_default();
            *back = back.saturating_add(room);
        }
        flow = flow.saturating_add(room);
    }
    flow
}

/// A shortest path with room, as edges.
fn shortest_path(left: &Capacities, source: u32, sink: u32) -> Option<Vec<(u32, u32)>> {
    let mut came_from: BTreeMap<u32, u32> = BTreeMap::from([(source, source)]);
    let mut queue = VecDeque::from([source]);
    while let Some(node) = queue.pop_front() {
        for (&(_, to), _) in left.range((node, 0)..=(node, u32::MAX)).filter(|(_, room)| **room > 0) {
            if let std::collections::btree_map::Entry::Vacant(entry) = came_from.entry(to) {
                entry.insert(node);
                queue.push_back(to);
            }
        }
    }
    let mut path = Vec::new();
    let mut at = sink;
    while at != source {
        let from = *came_from.get(&at)?;
        path.push((from, at));
        at = from;
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flow_goes_back_where_a_greedy_path_was_wrong() {
        // The short path 0-1-2-3 takes the middle edge; both outer paths need it given back.
        let edges = [((0, 1), 1), ((1, 2), 1), ((2, 3), 1), ((0, 2), 1), ((1, 3), 1)];
        let capacities: Capacities = edges.into_iter().collect();
        assert_eq!(max_flow(&capacities, 0, 3), 2);
        assert_eq!(max_flow(&capacities, 3, 0), 0);
        assert_eq!(max_flow(&capacities, 0, 0), 0);
        assert_eq!(max_flow(&capacities, 0, 9), 0);
    }
}
