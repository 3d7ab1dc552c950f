use super::*;
use crate::case::{Operation, Present, Role, Setting, Timed};
use crate::faults::{Family, Fault};
use crate::host::HostId;
use crate::line::{self, LineSpec};
use offset_protocol::machine::Seed;

fn large() -> Case {
    let spec = LineSpec { nodes: 6, relays: 2, indexes: 2, deals: 60, ..LineSpec::small(&Seed::from_number(9)) };
    let mut case = line::case(9, &spec);
    let crash = |at: u64| Fault::Crash {
        host: case.host(Role::Node((at % 6) as u32)),
        crash: crate::world::Crash::Power,
        off: Duration::from_secs(9),
    };
    case.faults = (0..80).map(|at| Timed { at: Instant::from_micros(at * 300_000), what: crash(at) }).collect();
    case
}

fn finding(invariant: &str, role: &str, what: &str) -> Finding {
    let (role, what) = (Some(role.to_owned()), what.to_owned());
    Finding { invariant: invariant.to_owned(), at: Instant::from_micros(9_000_000), host: Some(3), role, what }
}

fn shrink_by(case: &Case, fails: impl Fn(&Case) -> bool) -> Shrunk {
    let found = finding("frozen", "node 1", "so");
    let mut runner = |case: &Case| fails(case).then(|| found.clone());
    assert!(runner(case).is_some());
    let budget = Budget { attempts: 5_000, is_over: &mut || false };
    shrink(case, &found, &mut runner, budget, &mut |_| {})
}

fn pays(case: &Case, buyer: u32, seller: u32) -> bool {
    let pay = |timed: &Timed<Operation>| matches!(timed.what, Operation::Pay { buyer: b, seller: s, .. } if (b, s) == (buyer, seller));
    case.operations.iter().any(pay)
}

#[test]
fn what_is_not_needed_goes_and_what_is_needed_stays() {
    let case = large();
    let (buyer, seller) = (0..6).flat_map(|a| (0..6).map(move |b| (a, b))).find(|&(a, b)| pays(&case, a, b)).unwrap();
    let crashed = |case: &Case| {
        let host = case.host(Role::Node(buyer));
        case.faults.iter().filter(|timed| matches!(timed.what, Fault::Crash { host: of, .. } if of == host)).count()
            >= 2
    };
    let shrunk = shrink_by(&case, |case| pays(case, buyer, seller) && crashed(case));
    assert_eq!(shrunk.ended, Ended::Smallest);
    assert_eq!((shrunk.to.operations, shrunk.to.faults, shrunk.to.edits), (1, 2, 0), "{:#?}", shrunk.case);
    // A relay, an index server, the two nodes.
    assert_eq!(shrunk.to.hosts, 4);
    assert!(shrunk.case.check().is_ok() && shrunk.attempts < 500, "{}", shrunk.attempts);
    assert!(shrunk.case.heal_at < case.heal_at);
}

#[test]
fn the_same_case_shrinks_to_the_same_case() {
    let case = large();
    let fails = |case: &Case| case.faults.len() + case.operations.len() > 7;
    assert_eq!(shrink_by(&case, fails), shrink_by(&case, fails));
}

#[test]
fn another_failure_is_not_taken_for_this_one() {
    let case = large();
    let found = finding("resolution", "node 1", "DealId(4): the buyer has Some(3)");
    let mut runner = |case: &Case| match case.operations.len() {
        0 => Some(finding("resolution", "node 4", "the node is off")),
        1 => Some(finding("resolution", "relay 1", "DealId(7): the buyer has None")),
        2 => Some(finding("frozen", "node 1", "DealId(7): the buyer has None")),
        _ => Some(finding("resolution", "node 5", "DealId(7): the buyer has None")),
    };
    let budget = Budget { attempts: 5_000, is_over: &mut || false };
    let shrunk = shrink(&case, &found, &mut runner, budget, &mut |_| {});
    assert_eq!((shrunk.case.operations.len(), shrunk.finding.role.as_deref()), (3, Some("node 5")));
}

#[test]
fn a_runner_that_panics_has_failed_and_the_panic_shrinks() {
    let case = large();
    let found = finding(crate::replay::PANIC, "", "7 crashes are too many");
    let found = Finding { role: None, ..found };
    let mut runner = |case: &Case| -> Option<Finding> {
        assert!(case.faults.len() < 7, "{} crashes are too many", case.faults.len());
        None
    };
    let budget = Budget { attempts: 5_000, is_over: &mut || false };
    let shrunk = shrink(&case, &found, &mut runner, budget, &mut |_| {});
    assert_eq!(shrunk.case.faults.len(), 7);
}

#[test]
fn a_budget_is_kept_and_what_was_reached_is_given() {
    let case = large();
    let found = finding("frozen", "node 1", "so");
    let (mut runs, mut told) = (0, 0);
    let mut runner = |_: &Case| {
        runs += 1;
        Some(found.clone())
    };
    let budget = Budget { attempts: 3, is_over: &mut || false };
    let shrunk = shrink(&case, &found, &mut runner, budget, &mut |progress| told = told.max(progress.attempts));
    assert_eq!((runs, told, shrunk.attempts, shrunk.ended), (3, 3, 3, Ended::Budget));
    assert!(shrunk.to.total() < shrunk.from.total());
}

#[test]
fn what_a_person_shut_is_never_left_shut() {
    let mut case = large();
    let configure = |ms: u64, setting| Timed {
        at: Instant::from_micros(ms * 1_000),
        what: Operation::Configure { node: 0, setting },
    };
    case.operations = vec![
        configure(6_000, Setting::Close { friend: 1, currency: 0 }),
        configure(7_000, Setting::Disable { friend: 1 }),
        configure(8_000, Setting::Open { friend: 1, currency: 0 }),
        configure(9_000, Setting::Enable { friend: 1 }),
    ];
    let shut = |case: &Case, wanted: fn(&Setting) -> bool| {
        case.operations
            .iter()
            .any(|timed| matches!(&timed.what, Operation::Configure { setting, .. } if wanted(setting)))
    };
    let is_close = |setting: &Setting| matches!(setting, Setting::Close { .. });
    let shrunk = shrink_by(&case, |case| shut(case, is_close));
    assert!(shut(&shrunk.case, |setting| matches!(setting, Setting::Open { .. })));
    assert!(!shut(&shrunk.case, |setting| matches!(setting, Setting::Disable { .. } | Setting::Enable { .. })));
}

#[test]
fn a_node_between_two_others_is_taken_out_by_joining_its_friends() {
    let case = large();
    let connected = |case: &Case| {
        let mut reached = std::collections::BTreeSet::from([0]);
        for _ in 0..6 {
            for pair in &case.friendships {
                if reached.contains(&pair.a) || reached.contains(&pair.b) {
                    reached.extend([pair.a, pair.b]);
                }
            }
        }
        reached.contains(&5) && case.nodes[0].present == Present::Yes && case.nodes[5].present == Present::Yes
    };
    let shrunk = shrink_by(&case, connected);
    assert_eq!((shrunk.to.friendships, shrunk.to.hosts), (1, 4), "{:#?}", shrunk.case);
}

#[test]
fn cuts_lose_hosts_that_are_taken_out_and_end_with_them() {
    let mut case = large();
    let cut = |name, hosts: &[u32]| Fault::Cut {
        name,
        cut: crate::net::Cut::Around(hosts.iter().map(|node| case.host(Role::Node(*node))).collect()),
    };
    let all = [cut(0, &[5]), Fault::Heal { name: 0 }, cut(1, &[1, 5]), Fault::Heal { name: 1 }];
    case.faults = all.into_iter().map(|what| Timed { at: Instant::ZERO, what }).collect();
    let shrunk = shrink_by(&case, |case| case.faults.iter().any(|timed| timed.what.family() == Family::Cut));
    let around = |hosts: &[HostId]| crate::net::Cut::Around(hosts.iter().copied().collect());
    let faults: Vec<_> = shrunk.case.faults.iter().map(|timed| timed.what.clone()).collect();
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(
        matches!(&faults[0], Fault::Cut { cut, .. } if *cut == around(&[case.host(Role::Node(1))]) || *cut == around(&[case.host(Role::Node(5))]))
    );
}
