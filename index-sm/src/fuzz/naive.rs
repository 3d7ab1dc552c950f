//! Routes and flows by trying everything: what the searches are checked against, on graphs of a few nodes.
// A step of a test that fails is a test that fails.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc)]

use std::collections::BTreeMap;

use offset_protocol::bytes::PublicKey;
use offset_protocol::codec::List;
use offset_protocol::index::{Edge, Entry, MultiRoute, RequestRoutes, RoutePart, Routes};
use offset_protocol::limits::MAX_AMOUNT;
use offset_protocol::money::Rate;

use crate::answer::answer;
use crate::graph::Graph;
use crate::search::Workspace;
use crate::walk::walk;

/// Work that no search of so small a graph needs.
pub const WORK: u64 = 1_000_000;

/// The key of a node.
pub fn key(n: usize) -> PublicKey {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&(n as u64).to_be_bytes());
    PublicKey(bytes)
}

/// What a node publishes about a friend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Said {
    /// What may end at the node.
    pub ends: u128,
    /// What may be passed on by it.
    pub passes_on: u128,
    /// What it charges for that.
    pub rate: Rate,
}

/// Edges `from → to` with what `to` publishes about `from`.
pub type Edges = BTreeMap<(usize, usize), Said>;

impl Said {
    /// All that may end here may be passed on.
    pub fn all(capacity: u128, rate: Rate) -> Said {
        Said { ends: capacity, passes_on: capacity, rate }
    }

    /// The same, but that `most` at most is passed on: the largest number that can be said.
    #[must_use]
    pub fn passing_on(self, most: u128) -> Said {
        Said { passes_on: self.entry(0).forwarding(most).forward_capacity, ..self }
    }

    /// The entry about `friend`.
    pub fn entry(&self, friend: usize) -> Entry {
        let Said { ends: recv_capacity, passes_on: forward_capacity, rate } = *self;
        Entry { friend: key(friend), currency: "USD".parse().unwrap(), recv_capacity, forward_capacity, rate }
    }
}

/// A new graph of these edges.
pub fn graph(edges: &Edges) -> Graph {
    let mut graph = Graph::new();
    for ((from, to), said) in edges {
        graph.update(&key(*to), &[said.entry(*from)], &[]);
    }
    graph
}

/// A request without wishes.
pub fn request(source: usize, destination: usize, amount: u128) -> RequestRoutes {
    RequestRoutes {
        id: 1,
        currency: "USD".parse().unwrap(),
        amount,
        source: key(source),
        destination: key(destination),
        exclude: List::new(),
        max_fee: None,
    }
}

/// What a new graph of these edges answers.
pub fn ask(edges: &Edges, request: &RequestRoutes) -> Routes {
    answer(&graph(edges), request, &mut Workspace::new(), WORK)
}

/// What an offer costs.
pub fn fees(offer: &MultiRoute) -> u128 {
    offer.parts.iter().map(|part| part.fees).sum()
}

/// Fee and hops of the cheapest single route that is offered.
pub fn single(routes: &Routes) -> Option<(u128, usize)> {
    let singles = routes.options.iter().filter(|offer| offer.parts.len() == 1);
    singles.map(|offer| (fees(offer), offer.parts[0].route.len() - 1)).min()
}

/// Of which node a key is.
///
/// # Panics
/// Of none.
pub fn number(wanted: PublicKey, nodes: usize) -> usize {
    (0..nodes).find(|n| key(*n) == wanted).unwrap()
}

/// Every simple route, tried out as an offer.
pub fn brute_force(edges: &Edges, request: &RequestRoutes, nodes: usize) -> Option<(u128, usize)> {
    let graph = graph(edges);
    let mut best = None;
    let (source, destination) = (number(request.source, nodes), number(request.destination, nodes));
    let mut stack = vec![vec![source]];
    while let Some(route) = stack.pop() {
        let last = *route.last().unwrap();
        if last == destination && route.len() > 1 {
            let steps = || route.windows(2).zip(1..).filter(|(_, hop)| *hop < route.len() - 1);
            let rate = |pair: &[usize]| edges.get(&(pair[0], pair[1])).map_or(Rate::ZERO, |said| said.rate);
            let fees = steps().map(|(pair, _)| rate(pair).fee(request.amount).ok()).sum::<Option<u128>>();
            // More than can be charged is no route.
            let Some(fees) = fees else { continue };
            let keys = List::truncated(route.iter().map(|n| key(*n)));
            let part = RoutePart { route: keys, amount: request.amount, fees };
            let offer = MultiRoute { parts: List::try_from(vec![part]).unwrap() };
            if walk(&graph, request, &offer).is_ok() {
                let cost = (fees, route.len() - 1);
                best = Some(best.map_or(cost, |best: (u128, usize)| best.min(cost)));
            }
            continue;
        }
        for next in 0..nodes {
            if !route.contains(&next) || (next == destination && source == destination) {
                stack.push(route.iter().copied().chain([next]).collect());
            }
        }
    }
    best
}

/// Edmonds and Karp, on edges that both ends list.
pub fn maximum_flow(edges: &Edges, source: usize, destination: usize, nodes: usize) -> u128 {
    let mut room = vec![vec![0_u128; nodes]; nodes];
    for ((from, to), said) in edges {
        if edges.contains_key(&(*to, *from)) {
            room[*from][*to] = if *to == destination { said.ends } else { said.passes_on };
        }
    }
    let mut value = 0;
    loop {
        let mut before = vec![None; nodes];
        let mut queue = std::collections::VecDeque::from([source]);
        while let Some(at) = queue.pop_front() {
            for next in 0..nodes {
                if next != source && before[next].is_none() && room[at][next] > 0 {
                    before[next] = Some(at);
                    queue.push_back(next);
                }
            }
        }
        if before[destination].is_none() {
            return value;
        }
        let mut path = vec![];
        let mut at = destination;
        while let Some(from) = before[at] {
            path.push((from, at));
            at = from;
        }
        let width = path.iter().map(|(from, to)| room[*from][*to]).min().unwrap();
        for (from, to) in path {
            room[from][to] -= width;
            room[to][from] += width;
        }
        value += width;
    }
}

/// What must hold of every answer that is whole: each offer can be walked and costs what it says, the cheapest first, none
/// twice, and the cheapest single route is the cheapest there is.
///
/// # Panics
/// It does not hold.
pub fn check_answer(edges: &Edges, request: &RequestRoutes, routes: &Routes, nodes: usize) {
    let graph = graph(edges);
    assert!(!routes.capped);
    for offer in &routes.options[..] {
        assert_eq!(walk(&graph, request, offer), Ok(()), "{offer:?}");
    }
    let costs: Vec<_> = routes.options.iter().map(fees).collect();
    assert!(costs.is_sorted(), "{costs:?}");
    let mut different = routes.options.to_vec();
    different.dedup();
    assert_eq!(different.len(), routes.options.len());
    assert_eq!(single(routes), brute_force(edges, request, nodes), "fee and hops of the cheapest single route");
}

/// Without fees, an amount can be split if and only if it is one, and the flow allows it.
///
/// # Panics
/// It does not hold.
pub fn check_flow(edges: &Edges, request: &RequestRoutes, routes: &Routes, nodes: usize) {
    let open: Edges = edges
        .iter()
        .map(|((from, to), said)| {
            let excluded = request.exclude.contains(&Edge { from: key(*from), to: key(*to) });
            ((*from, *to), if excluded { Said::all(0, said.rate) } else { *said })
        })
        .collect();
    let flow = maximum_flow(&open, number(request.source, nodes), number(request.destination, nodes), nodes);
    let is_possible = flow >= request.amount && request.amount <= MAX_AMOUNT;
    assert_eq!(!routes.options.is_empty(), is_possible, "a flow of {flow} for {}", request.amount);
}
