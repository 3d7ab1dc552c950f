//! Laws of whole networks that a single machine cannot show.

use offset_funder_sm::node::Node;
use offset_protocol::machine::{Duration, Instant};

use super::*;
use crate::case::{Commit, Timed};
use crate::keys::Keys;
use crate::latency::Latency;
use crate::line::{LineSpec, Weather, case};
use crate::signatures::Signatures;

/// One way between two hosts. Between two friends it is twice that: a relay stands between them.
const WAY: Duration = Duration::from_millis(500);
/// By then cards are set up, routes are known and nothing else happens.
const SETTLED: Duration = Duration::from_secs(120);

/// A line of `friendships`, idle but for one payment from end to end.
fn idle_line(friendships: u32) -> Case {
    let spec = LineSpec {
        nodes: friendships + 1,
        relays: 1,
        indexes: 1,
        deals: 0,
        max_debt: 1_000_000,
        safety: SETTLED.times(2),
        weather: Weather::Fair,
        signatures: Signatures::Cheap,
        keys: Keys::Cheap,
        keep: Keep::Hash,
    };
    let mut case = case(u64::from(friendships), &spec);
    case.conditions = crate::net::Conditions {
        latency: Latency::Constant(WAY),
        bandwidth: 0,
        send_buffer: 65_536,
        receive_buffer: 65_536,
        cuts: crate::net::StreamCuts::Whole,
    };
    let what = Operation::Pay {
        deal: 1,
        buyer: 0,
        seller: friendships,
        currency: 0,
        amount: 1_000,
        max_fee: 1_000_000,
        commit: Commit::InBand,
        tries: 1,
        patience: Duration::from_secs(100),
    };
    case.operations.push(Timed { at: Instant::ZERO + SETTLED, what });
    case
}

/// From the buyer's request to the seller's collect.
fn request_to_collect(case: &Case) -> Duration {
    let mut run = Run::new(case, &Options::default());
    let mut requested_at = None;
    let last = case.nodes.len() as u32 - 1;
    let ends = |run: &Run<'_>, node| {
        let node = run.world.machine::<Node>(case.host(Role::Node(node)))?;
        node.money().channels().flat_map(|channel| channel.currencies()).next()
    };
    while run.world.now() < case.heal_at {
        let now = run.world.now();
        run.run_until(now + Duration::from_millis(1)).unwrap();
        if requested_at.is_none() && ends(&run, 0).is_some_and(|report| report.out_frozen > 0) {
            requested_at = Some(run.world.now());
        }
        if ends(&run, last).is_some_and(|report| report.balance != 0) {
            return run.world.now().since(requested_at.unwrap());
        }
    }
    panic!("the payment was not collected");
}

#[test]
fn an_idle_line_of_n_friends_collects_after_3n_one_way_trips() {
    for friendships in 1..=8 {
        let took = request_to_collect(&idle_line(friendships));
        let trip = WAY.times(2).as_micros();
        // Turns and flushes take a few milliseconds at every hop: far below a trip.
        let (trips, rest) = (took.as_micros() / trip, took.as_micros() % trip);
        assert_eq!(trips, u64::from(3 * friendships), "{friendships} friendships took {} us", took.as_micros());
        assert!(rest < trip / 2, "{friendships} friendships: {rest} us beyond {trips} trips");
    }
}
