//! Cheaters: each trick is played, what should notice it does, and the honest keep every invariant.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use offset_protocol::machine::{Duration, Instant};
use offset_runtime_sim::case::{Case, NodeCheat};
use offset_runtime_sim::cheats::{Evidence, FriendTrick, Play, Trick};
use offset_runtime_sim::full::{self, Options};
use offset_runtime_sim::line::{self, LineSpec, Weather};
use offset_runtime_sim::signatures::Signatures;
use offset_runtime_sim::trace::Keep;

/// Three friends in a line, without faults.
fn three(number: u64) -> Case {
    let spec = LineSpec {
        nodes: 3,
        relays: 1,
        indexes: 1,
        deals: 12,
        max_debt: 100_000,
        safety: Duration::from_secs(30),
        weather: Weather::Fair,
        signatures: Signatures::Cheap,
        keep: Keep::Hash,
    };
    line::case(number, &spec)
}

fn run(case: &Case) -> Evidence {
    full::run(case, &Options::default()).unwrap_or_else(|broken| panic!("seed {}: {broken}", case.seed)).cheats
}

/// The one in the middle plays one trick.
fn run_friend_trick(trick: FriendTrick, per_mille: u32) -> Evidence {
    let mut all = Evidence::default();
    for number in 0..4 {
        let mut case = three(number);
        let play = Play { trick, per_mille, from: Instant::ZERO + Duration::from_secs(6) };
        case.nodes[1].cheat = NodeCheat { friend: vec![play], ..NodeCheat::default() };
        case.nodes[1].accepts_reset_after = Some(Duration::from_secs(3));
        let evidence = run(&case);
        for (trick, count) in evidence.played {
            *all.played.entry(trick).or_default() += count;
        }
        for (what, count) in evidence.noticed {
            *all.noticed.entry(what).or_default() += count;
        }
    }
    all
}

#[test]
fn tricks_of_friends_show() {
    let mut wrong = BTreeSet::new();
    for trick in offset_runtime_sim::cheats::FRIEND_TRICKS {
        let Ok(evidence) = std::panic::catch_unwind(|| run_friend_trick(*trick, 200)) else {
            println!("{trick:?} fails");
            wrong.insert(*trick);
            continue;
        };
        println!("{trick:?}: {:?} {:?}", evidence.played, evidence.noticed);
        if !evidence.played.contains_key(&Trick::Friend(*trick)) {
            wrong.insert(*trick);
        }
    }
    assert_eq!(wrong, BTreeSet::new());
}
