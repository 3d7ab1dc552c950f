//! What a node does not take is not offered: over a line whose currency is closed, and over one whose places are used up.

use std::fmt::Write as _;

use offset_funder_sm::ledger::guard::{OTHERS_PLACES, PLACES};
use offset_protocol::machine::{Duration, Instant};

use super::offers::NEVER;
use super::quiet::{ends, paying, run};
use crate::case::{Operation, Setting, Timed};
use crate::full::Watch;
use crate::scenario::draw;

/// People of the file. The hub's line to Between, and back, is 12,000; all others are wider.
const HUB: u32 = 1;
const ALONE: u32 = 2;
const BETWEEN: u32 = 3;
const BEYOND: u32 = 4;
const MUTE: u32 = 5;
const SECOND: u32 = 6;

#[test]
fn over_a_line_that_one_end_has_closed_nothing_is_offered_either_way_until_it_is_opened_again() {
    let there_and_back = [(ALONE, BEYOND, 10), (BEYOND, ALONE, 10), (HUB, BETWEEN, 10), (BETWEEN, HUB, 10)];
    let pays: Vec<_> = there_and_back.repeat(3);
    let mut case = draw(&paying("places.csv", 30, &pays, ""), 1).unwrap();
    let seconds = |seconds| Instant::ZERO + Duration::from_secs(seconds);
    let mut set = |at, setting| {
        case.operations.push(Timed { at: seconds(at), what: Operation::Configure { node: BETWEEN, setting } });
    };
    // After the first four, and after the second four.
    set(30 + 45 * 4 - 40, Setting::Close { friend: HUB, currency: 0 });
    set(30 + 45 * 8 - 40, Setting::Open { friend: HUB, currency: 0 });
    case.operations.sort_by_key(|operation| operation.at);
    let record = run(&case, Watch::Always);
    assert_eq!(ends(&record), (8, 4), "{:?}", record.payments.failed);
    for never in NEVER {
        assert_eq!(record.marks.get(never), Some(&0), "{never}");
    }
}

/// More requests of two attackers than a node passes on for others, to a seller that never answers; then `more`.
fn flood(more: &str) -> String {
    let mut text = format!("[[cheater]]\nwho = \"node {MUTE}\"\ntricks = [\"withhold-response\"]\n");
    // An index server that is asked more than it answers has no time for some: those try again.
    for (attacker, count) in [(0, OTHERS_PLACES - 300), (SECOND, 320)] {
        writeln!(text, "[[cheater]]\nwho = \"node {attacker}\"\ntricks = [\"never-commit\"]").unwrap();
        writeln!(text, "[[order]]\nbuyer = \"node {attacker}\"\nseller = \"node {MUTE}\"\ncount = {count}").unwrap();
        writeln!(text, "at = \"30s\"\nlasts = \"120s\"\namount = 1\ntries = 9\npatience = \"1d\"").unwrap();
    }
    text + more
}

#[test]
fn over_a_line_whose_places_others_use_up_only_what_is_kept_is_offered_and_its_sender_has_it() {
    // A twelfth of the line is 1,000; the attackers make more requests than there are places for others.
    let pays = [(HUB, BEYOND, 1_001), (HUB, BEYOND, 400), (ALONE, BETWEEN, 5_000)];
    let case = draw(&paying("places.csv", 200, &pays, &flood("")), 1).unwrap();
    let record = run(&case, Watch::AtTheEnd);
    assert_eq!(ends(&record), (2, 1), "{:?}", record.payments.failed);
}

#[test]
fn over_a_line_with_no_places_left_nothing_is_offered_but_what_ends_there() {
    // The hub's own, which are never answered either.
    let own = format!(
        "[[order]]\nbuyer = \"node {HUB}\"\nseller = \"node {MUTE}\"\nat = \"180s\"\nlasts = \"40s\"\ncount = {}
        amount = 1\ntries = 9\npatience = \"1d\"\n",
        PLACES - OTHERS_PLACES
    );
    let pays = [(HUB, BEYOND, 1), (ALONE, BEYOND, 1), (ALONE, BETWEEN, 5_000)];
    let case = draw(&paying("places.csv", 320, &pays, &flood(&own)), 1).unwrap();
    let record = run(&case, Watch::AtTheEnd);
    assert_eq!(ends(&record), (1, 2), "{:?}", record.payments.failed);
}
