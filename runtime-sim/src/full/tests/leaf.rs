//! Of a friend's line a third is for what others send on from a node, and all of it for what ends there: a leaf with one friend
//! is offered, and paid, all that this friend may owe it; over the same line others are paid a third at most.

use super::offers::NEVER;
use super::quiet::{ends, paying, run};
use crate::full::Watch;
use crate::scenario::draw;

/// People of the file. The hub's line to each leaf, to Alone and to Between, is 9,000; all others are ten times as wide.
const ALONE: u32 = 2;
const BETWEEN: u32 = 3;
const BEYOND: u32 = 4;

/// How many of these payments of node 0 were paid: to whom, how much. The others had no offer; none of those that had one
/// needed a second try.
fn paid(payments: &[(u32, u128)]) -> u64 {
    let pays: Vec<_> = payments.iter().map(|(seller, amount)| (0, *seller, *amount)).collect();
    let case = draw(&paying("leaves.csv", 30, &pays, ""), 1).unwrap();
    let record = run(&case, Watch::Always);
    let (paid, no_offer) = ends(&record);
    assert_eq!(paid + no_offer, payments.len() as u64, "{:?}", record.payments.failed);
    for never in NEVER {
        assert_eq!(record.marks.get(never), Some(&0), "{never}");
    }
    paid
}

#[test]
fn a_leaf_with_one_friend_is_offered_and_paid_all_of_its_line() {
    assert_eq!(paid(&[(ALONE, 9_000)]), 1);
    assert_eq!(paid(&[(ALONE, 9_001)]), 0);
    // Again and again, down to the last unit.
    assert_eq!(paid(&[(ALONE, 5_000), (ALONE, 3_999), (ALONE, 2), (ALONE, 1), (ALONE, 1)]), 3);
}

#[test]
fn over_the_line_of_a_leaf_others_are_paid_a_third_and_the_leaf_the_rest() {
    assert_eq!(paid(&[(BEYOND, 3_000)]), 1);
    assert_eq!(paid(&[(BEYOND, 3_001)]), 0);
    // Of what is left of the line a third again, and all the rest to the leaf.
    assert_eq!(paid(&[(BEYOND, 3_000), (BEYOND, 2_001), (BEYOND, 2_000), (BETWEEN, 4_001), (BETWEEN, 4_000)]), 3);
}
