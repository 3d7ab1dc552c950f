//! The law of latency, counted: on an idle line of `n` friendships, `3n` one-way trips pass from request to collect.

use offset_funder_sm::node::Node;
use offset_protocol::machine::{Duration, Instant};

use super::{Options, Run};
use crate::case::{Case, Commit, Operation, Role, Timed};
use crate::check::{Invariant, Violation};
use crate::keys::Keys;
use crate::latency::Latency;
use crate::line::{LineSpec, Weather, case};
use crate::signatures::Signatures;
use crate::trace::Keep;

/// One way between two hosts. Between two friends it is twice that: a relay stands between them.
pub(crate) const WAY: Duration = Duration::from_millis(500);
/// By then cards are set up, routes are known and nothing else happens.
const SETTLED: Duration = Duration::from_secs(120);

/// A line of `friendships`, idle but for one payment from end to end.
pub(crate) fn idle_line(friendships: u32) -> Case {
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
///
/// # Errors
/// The first invariant that does not hold; or the payment was not collected.
pub(crate) fn request_to_collect(case: &Case) -> Result<Duration, Violation> {
    let mut run = Run::new(case, &Options::default());
    let mut requested_at = None;
    let last = case.nodes.len() as u32 - 1;
    let ends = |run: &Run<'_>, node| {
        let node = run.world.machine::<Node>(case.host(Role::Node(node)))?;
        node.money().channels().flat_map(|channel| channel.currencies()).next()
    };
    while run.world.now() < case.heal_at {
        let now = run.world.now();
        run.run_until(now + Duration::from_millis(1))?;
        if requested_at.is_none() && ends(&run, 0).is_some_and(|report| report.out_frozen > 0) {
            requested_at = Some(run.world.now());
        }
        if let Some(requested_at) = requested_at.filter(|_| ends(&run, last).is_some_and(|report| report.balance != 0))
        {
            return Ok(run.world.now().since(requested_at));
        }
    }
    let what = "the payment of an idle line was not collected".to_owned();
    Err(Violation { invariant: Invariant::Resolution, at: run.world.now(), host: None, what })
}
