//! Offers against brute force: the cheapest single route is the cheapest there is, everything offered is charged exactly
//! as offered and fits, and without fees a split is found whenever the maximum flow allows it.

// Helpers of a test are tests, too.
#![allow(clippy::unwrap_used)]

use offset_index_sm::answer::answer;
use offset_index_sm::fuzz::naive::{
    Edges, Said, WORK, ask, check_answer, check_flow, fees, graph, key, maximum_flow, request, single,
};
use offset_index_sm::search::Workspace;
use offset_index_sm::walk::walk;
use offset_protocol::codec::List;
use offset_protocol::index::{Edge, RequestRoutes};
use offset_protocol::limits::MAX_ROUTE_LEN;
use offset_protocol::money::Rate;
use proptest::prelude::*;

fn rate() -> impl Strategy<Value = Rate> + Clone {
    let mul = prop_oneof![Just(0), Just(1 << 30), Just(1 << 31), Just(u32::MAX), any::<u32>()];
    (mul, prop_oneof![Just(0), 0..4_u32]).prop_map(|(mul, add)| Rate { mul, add })
}

fn edges(nodes: usize, rates: impl Strategy<Value = Rate> + 'static) -> impl Strategy<Value = Edges> {
    let capacity = prop_oneof![1 => Just(0_u128), 4 => 1..60_u128, 2 => 60..300_u128];
    // Of 240 parts of what may end: often all, or nothing, or a part where much fits and much does not.
    let part = prop_oneof![4 => Just(240_u128), 1 => Just(0), 2 => Just(80), 3 => 0..240_u128];
    edges_of(nodes, 0.6, capacity, part, rates)
}

fn edges_of(
    nodes: usize,
    density: f64,
    capacity: impl Strategy<Value = u128> + 'static,
    part: impl Strategy<Value = u128> + 'static,
    rates: impl Strategy<Value = Rate> + 'static,
) -> impl Strategy<Value = Edges> {
    let said =
        (capacity, part, rates).prop_map(|(ends, part, rate)| Said::all(ends, rate).passing_on(ends * part / 240));
    let line = prop::option::weighted(density, said);
    prop::collection::vec(line, nodes * nodes).prop_map(move |lines| {
        let lines = lines.into_iter().enumerate();
        let place = |(at, line)| Some(((at / nodes, at % nodes), line?));
        lines.filter_map(place).filter(|((from, to), _)| from != to).collect()
    })
}

fn case(rates: impl Strategy<Value = Rate> + Clone + 'static) -> impl Strategy<Value = (usize, Edges, RequestRoutes)> {
    (2..8_usize).prop_flat_map(move |nodes| {
        let excluded = prop::collection::vec((0..nodes, 0..nodes), 0..4);
        let max_fee = prop::option::weighted(0.3, 0..100_u128);
        let ends = (0..nodes, 0..nodes, 1..120_u128);
        (Just(nodes), edges(nodes, rates.clone()), ends, excluded, max_fee).prop_map(
            |(nodes, edges, (source, destination, amount), excluded, max_fee)| {
                let exclude = excluded.into_iter().map(|(from, to)| Edge { from: key(from), to: key(to) });
                let request = RequestRoutes {
                    exclude: List::truncated(exclude),
                    max_fee,
                    ..request(source, destination, amount)
                };
                (nodes, edges, request)
            },
        )
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn the_cheapest_single_route_is_the_cheapest_there_is((nodes, edges, request) in case(rate())) {
        let routes = ask(&edges, &request);
        check_answer(&edges, &request, &routes, nodes);
    }

    #[test]
    fn without_fees_a_split_is_found_whenever_the_flow_allows_it((nodes, edges, request) in case(Just(Rate::ZERO))) {
        prop_assume!(request.source != request.destination);
        let routes = ask(&edges, &request);
        check_answer(&edges, &request, &routes, nodes);
        check_flow(&edges, &request, &routes, nodes);
    }

    #[test]
    fn through_narrow_one_way_edges_the_whole_flow_is_found(
        edges in edges_of(
            7,
            0.9,
            prop_oneof![3 => Just(0_u128), 2 => Just(1), 1 => Just(2)],
            prop_oneof![5 => Just(240_u128), 1 => Just(0)],
            Just(Rate::ZERO),
        ),
        less in 0..2_u128,
    ) {
        // Paths block one another here: the successive cheapest ones alone can miss the last units.
        let flow = maximum_flow(&edges, 0, 6, 7);
        prop_assume!(flow > less);
        let request = request(0, 6, flow - less);
        let routes = ask(&edges, &request);
        check_answer(&edges, &request, &routes, 7);
        prop_assert!(!routes.options.is_empty());
    }

    #[test]
    fn the_same_graph_and_request_give_the_same_answer((_, edges, request) in case(rate())) {
        let graph = graph(&edges);
        let mut used = Workspace::new();
        let first = answer(&graph, &request, &mut used, WORK);
        prop_assert_eq!(&answer(&graph, &request, &mut used, WORK), &first);
        prop_assert_eq!(&answer(&graph, &request, &mut Workspace::new(), WORK), &first);
    }

    #[test]
    fn at_the_cap_the_answer_is_still_exact_and_says_so((_, edges, request) in case(rate()), work in 0..200_u64) {
        let graph = graph(&edges);
        let routes = answer(&graph, &request, &mut Workspace::new(), work);
        for offer in &routes.options {
            prop_assert_eq!(walk(&graph, &request, offer), Ok(()));
        }
        if !routes.capped {
            prop_assert_eq!(routes, answer(&graph, &request, &mut Workspace::new(), WORK));
        }
    }
}

fn friends(edges: &mut Edges, a: usize, b: usize, capacity: u128, rate: Rate) {
    edges.insert((a, b), Said::all(capacity, rate));
    edges.insert((b, a), Said::all(capacity, rate));
}

const fn flat(add: u32) -> Rate {
    Rate { mul: 0, add }
}

#[test]
fn a_mediator_charges_by_its_rate_for_the_friend_from_whom_the_payment_comes() {
    let mut edges = Edges::new();
    // 1's rate for 0 is 5, for 2 it is 70; 2's rate for 1 is 9, for 3 it is 80.
    let rates = [((0, 1), 5), ((2, 1), 70), ((1, 0), 600), ((1, 2), 9), ((3, 2), 80), ((2, 3), 900)];
    edges.extend(rates.map(|(edge, fee)| (edge, Said::all(1_000, flat(fee)))));
    assert_eq!(single(&ask(&edges, &request(0, 3, 100))), Some((14, 3)));
    assert_eq!(single(&ask(&edges, &request(3, 0, 100))), Some((150, 3)));
}

#[test]
fn a_capacity_needs_room_for_the_fees_that_are_still_to_be_paid() {
    let mut edges = Edges::new();
    friends(&mut edges, 0, 1, 114, flat(5));
    friends(&mut edges, 1, 2, 109, flat(9));
    friends(&mut edges, 2, 3, 100, flat(0));
    assert_eq!(single(&ask(&edges, &request(0, 3, 100))), Some((14, 3)));
    for (from, to) in [(0, 1), (1, 2), (2, 3)] {
        let mut tight = edges.clone();
        let said = tight.get_mut(&(from, to)).unwrap();
        *said = Said::all(said.ends - 1, said.rate);
        assert_eq!(ask(&tight, &request(0, 3, 100)).options.len(), 0);
    }
}

#[test]
fn over_an_edge_more_may_end_than_is_passed_on() {
    let mut edges = Edges::new();
    for (a, b) in [(0, 1), (1, 2), (2, 3)] {
        friends(&mut edges, a, b, 90, flat(0));
    }
    edges.values_mut().for_each(|said| *said = said.passing_on(30));
    for (to, most) in [(1, 90), (2, 30), (3, 30)] {
        assert_eq!(single(&ask(&edges, &request(0, to, most))), Some((0, to)));
        assert_eq!(ask(&edges, &request(0, to, most + 1)).options.len(), 0);
    }
    // Two ways to 2 carry what 1 and 4 pass on; behind 2 all of that may end.
    friends(&mut edges, 0, 4, 90, flat(0));
    friends(&mut edges, 4, 2, 90, flat(0));
    edges.insert((0, 4), edges[&(0, 4)].passing_on(29));
    for to in [2, 3] {
        assert_eq!(ask(&edges, &request(0, to, 59)).options[0].parts.len(), 2);
        assert_eq!(ask(&edges, &request(0, to, 60)).options.len(), 0);
    }
}

#[test]
fn a_cycle_ends_where_it_began_and_brings_back_all_that_may_end_there() {
    let mut edges = Edges::new();
    for (a, b) in [(0, 1), (1, 2), (2, 0)] {
        friends(&mut edges, a, b, 90, flat(0));
    }
    edges.insert((2, 0), edges[&(2, 0)].passing_on(0));
    assert_eq!(single(&ask(&edges, &request(0, 0, 90))), Some((0, 3)));
    // The other way round it leads back over the edge of 1.
    edges.insert((0, 1), edges[&(0, 1)].passing_on(10));
    edges.insert((0, 2), edges[&(0, 2)].passing_on(20));
    assert_eq!(single(&ask(&edges, &request(0, 0, 20))), Some((0, 3)));
    assert_eq!(ask(&edges, &request(0, 0, 31)).options.len(), 0);
}

#[test]
fn a_direct_friend_is_paid_without_fee() {
    let mut edges = Edges::new();
    friends(&mut edges, 0, 1, 100, flat(50));
    assert_eq!(single(&ask(&edges, &request(0, 1, 100))), Some((0, 1)));
}

#[test]
fn a_cycle_never_comes_back_through_the_friend_it_left_by() {
    let mut edges = Edges::new();
    friends(&mut edges, 0, 1, 100, flat(0));
    assert_eq!(ask(&edges, &request(0, 0, 10)).options.len(), 0);
    friends(&mut edges, 1, 2, 100, flat(3));
    friends(&mut edges, 2, 0, 100, flat(4));
    assert_eq!(single(&ask(&edges, &request(0, 0, 10))), Some((3, 3)));
}

/// A line of free edges from 0 to `length`, with friendships that leap over some of it for 10.
fn long_line(length: usize, leaps: &[(usize, usize)]) -> Edges {
    let mut edges = Edges::new();
    for n in 0..length {
        friends(&mut edges, n, n + 1, 1_000, flat(0));
    }
    for (from, to) in leaps {
        friends(&mut edges, *from, *to, 1_000, flat(10));
    }
    edges
}

#[test]
fn a_route_is_as_long_as_the_limit_and_no_longer() {
    let longest = MAX_ROUTE_LEN - 1;
    assert_eq!(single(&ask(&long_line(longest, &[]), &request(0, longest, 5))), Some((0, longest)));
    assert_eq!(ask(&long_line(longest + 1, &[]), &request(0, longest + 1, 5)).options.len(), 0);
}

#[test]
fn where_the_cheap_tail_is_too_long_the_dearer_shorter_one_is_found() {
    // 35 edges for nothing, 4 too many; a leap of 3 edges saves 2, and two leaps make 31.
    let edges = long_line(35, &[(3, 6), (20, 23), (30, 33)]);
    assert_eq!(single(&ask(&edges, &request(0, 35, 5))), Some((20, 31)));
    let edges = long_line(35, &[(3, 6), (20, 25), (30, 33)]);
    assert_eq!(single(&ask(&edges, &request(0, 35, 5))), Some((10, 31)));
}

#[test]
fn alternatives_avoid_the_most_loaded_edge() {
    let mut edges = Edges::new();
    for (middle, fee) in [(1, 1), (2, 2), (3, 3), (4, 4)] {
        friends(&mut edges, 0, middle, 100, flat(fee));
        friends(&mut edges, middle, 9, 100, flat(0));
    }
    let routes = ask(&edges, &request(0, 9, 50));
    let costs: Vec<_> = routes.options.iter().map(|offer| (offer.parts.len(), fees(offer))).collect();
    assert_eq!(costs, [(1, 1), (1, 2), (1, 3)]);
}

#[test]
fn a_payment_is_split_where_no_single_route_has_the_capacity_exact_to_the_unit() {
    let mut edges = Edges::new();
    let rate = Rate { mul: 1 << 28, add: 1 };
    for middle in 1..=16 {
        friends(&mut edges, 0, middle, 107, rate);
        friends(&mut edges, middle, 99, 107, rate);
    }
    // Of 107 a part of 100 arrives: floor(100/16) + 1 = 7 are its fees. 16 such parts make 1600.
    let routes = ask(&edges, &request(0, 99, 1_600));
    assert_eq!(routes.options.len(), 1);
    let offer = &routes.options[0];
    assert_eq!((offer.parts.len(), fees(offer)), (16, 112));
    assert_eq!(walk(&graph(&edges), &request(0, 99, 1_600), offer), Ok(()));
    assert_eq!(ask(&edges, &request(0, 99, 1_601)).options.len(), 0);
}

#[test]
fn a_part_that_stood_in_the_way_of_others_is_led_elsewhere() {
    // The shortest way 0-1-2-9 blocks both 0-1-3-4-9 and 0-5-6-2-9, which together carry the amount.
    let mut edges = Edges::new();
    for (from, to) in [(0, 1), (1, 2), (2, 9), (1, 3), (3, 4), (4, 9), (0, 5), (5, 6), (6, 2)] {
        edges.insert((from, to), Said::all(100, flat(0)));
        edges.insert((to, from), Said::all(0, flat(0)));
    }
    let routes = ask(&edges, &request(0, 9, 200));
    assert_eq!(routes.options[0].parts.len(), 2);
    assert_eq!(walk(&graph(&edges), &request(0, 9, 200), &routes.options[0]), Ok(()));
    assert_eq!(ask(&edges, &request(0, 9, 201)).options.len(), 0);
}

#[test]
fn splitting_is_offered_first_where_it_is_cheaper() {
    let mut edges = Edges::new();
    for (middle, capacity, mul) in [(1, 60, 1 << 30), (2, 60, 1 << 30), (3, 500, 1 << 31)] {
        friends(&mut edges, 0, middle, capacity, Rate { mul, add: 0 });
        friends(&mut edges, middle, 9, capacity, Rate { mul, add: 0 });
    }
    let routes = ask(&edges, &request(0, 9, 80));
    assert!(routes.options[0].parts.len() > 1);
    assert!(fees(&routes.options[0]) < 40);
    assert_eq!(single(&routes), Some((40, 2)));
}

#[test]
fn amounts_that_are_none_and_ends_that_are_unknown_have_no_route() {
    let mut edges = Edges::new();
    friends(&mut edges, 0, 1, 100, flat(0));
    for (source, destination, amount) in [(0, 1, 0), (0, 1, u128::MAX), (0, 7, 1), (7, 0, 1), (7, 8, 1), (0, 1, 101)] {
        assert_eq!(ask(&edges, &request(source, destination, amount)).options.len(), 0);
    }
    let other = RequestRoutes { currency: "EUR".parse().unwrap(), ..request(0, 1, 1) };
    assert_eq!(ask(&edges, &other).options.len(), 0);
}

#[test]
fn a_closed_edge_carries_nothing() {
    let mut edges = Edges::new();
    friends(&mut edges, 0, 1, 0, flat(0));
    assert_eq!(ask(&edges, &request(0, 1, 1)).options.len(), 0);
}
