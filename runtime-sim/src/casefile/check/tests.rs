use super::*;
use crate::case::{CurrencyName, Rare};
use crate::line::{self, LineSpec};
use crate::net::StreamCuts;
use offset_protocol::machine::Seed;

fn case() -> Case {
    let mut spec = LineSpec::small(&Seed::from_number(3));
    (spec.nodes, spec.relays, spec.indexes, spec.deals) = (4, 2, 2, 4);
    line::case(3, &spec)
}

/// What the check says of a case that was changed.
fn said(change: impl FnOnce(&mut Case)) -> String {
    let mut case = case();
    change(&mut case);
    case.check().map_or_else(|bad| bad.to_string(), |()| String::new())
}

fn with_fault(what: Fault) -> String {
    said(|case| case.faults = vec![Timed { at: Instant::ZERO, what }])
}

#[test]
fn every_case_that_is_drawn_makes_sense() {
    for number in 0..50 {
        line::case(number, &LineSpec::small(&Seed::from_number(number))).check().unwrap();
        crate::mutants::case(number).check().unwrap();
    }
    assert_eq!(said(|case| case.rare = Rare::Drawn), "");
}

#[test]
fn references_to_nobody_are_named() {
    assert_eq!(said(|case| case.nodes[1].relays.push(2)), "node 1: there is no relay 2");
    assert_eq!(said(|case| case.nodes[1].indexes = vec![9]), "node 1: there is no index server 9");
    assert_eq!(said(|case| case.friendships[2].a = 4), "friendship 2: there is no node 4");
    assert_eq!(said(|case| case.friendships[0].terms[0].currency = 1), "friendship 0: there is no currency 1");
    assert_eq!(with_fault(Fault::Roam { host: HostId(12) }), "fault 0: there is no host 12");
    let cut = Cut::Around([HostId(1), HostId(99)].into());
    assert_eq!(with_fault(Fault::Cut { name: 1, cut }), "fault 0: there is no host 99");
    assert_eq!(with_fault(Fault::Heal { name: 1 }), "fault 0: there is no cut 1");
    let said = said(|case| {
        let what = Operation::Configure { node: 0, setting: Setting::Relays { relays: vec![5] } };
        case.operations = vec![Timed { at: Instant::ZERO, what }];
    });
    assert_eq!(said, "operation 0: there is no relay 5");
}

#[test]
fn what_stands_there_twice_is_named() {
    assert_eq!(said(|case| case.friendships[1].a = 2), "friendship 1: node 2 stands there twice");
    assert_eq!(
        said(|case| case.friendships.push(case.friendships[0].clone())),
        "friendship 3: node 1 stands there twice"
    );
    assert_eq!(said(|case| case.nodes[0].relays = vec![1, 1]), "node 0: relay 1 stands there twice");
    let again = said(|case| {
        let name: CurrencyName = case.currencies[0];
        case.currencies.push(name);
    });
    assert_eq!(again, "currencies: currency 1 stands there twice");
}

#[test]
fn numbers_out_of_range_are_refused() {
    for (change, why) in [
        ((|case| case.format = 7) as fn(&mut Case), "format 7"),
        (|case| case.heal_at = Instant::from_micros(u64::MAX), "longer than a year"),
        (|case| case.conditions.send_buffer = 0, "a buffer has"),
        (|case| case.conditions.receive_buffer = usize::MAX, "a buffer has"),
        (|case| case.friendships[0].terms[0].a_grants = u128::MAX, "2^100"),
        (|case| case.scenario = "x".repeat(201), "at most 200"),
        (|case| case.note = Latency::Tail { low: ms(2), high: ms(1), slow_per_mille: 1, slow: ms(3) }, "shortest"),
        (|case| case.note = Latency::LogNormal { median: ms(2), sigma_milli: 90_000 }, "sigma_milli"),
        (|case| case.conditions.cuts = StreamCuts::Anywhere, ""),
    ] {
        let said = said(change);
        assert!(said.contains(why) && said.is_empty() == why.is_empty(), "{said:?} should say {why:?}");
    }
    assert!(with_fault(Fault::Connect { refused_per_mille: 1_001, hanging_per_mille: 0 }).contains("thousand"));
    assert!(with_fault(Fault::Wall { host: HostId(0), by_ms: i64::MIN }).contains("longer than a year"));
}

#[test]
fn what_happens_out_of_order_is_refused() {
    assert_eq!(said(|case| case.operations.reverse()), "operation 1: it happens before what stands before it");
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}
