//! Of a friend's line a third is for what others send on from a node, and all of it for what ends there: a leaf with one friend
//! is offered, and paid, all that this friend may owe it; over the same line others are paid a third at most.

use std::fmt::Write as _;
use std::path::Path;

use super::offers::{NEVER, NO_OFFER};
use crate::full::{Options, Run, arm};
use crate::marks;
use crate::scenario::{Scenario, draw};

/// People of the file. The hub's line to each leaf, to Alone and to Between, is 9,000; all others are ten times as wide.
const ALONE: u32 = 2;
const BETWEEN: u32 = 3;
const BEYOND: u32 = 4;

/// How many of these payments of node 0 were paid: to whom, how much. The others had no offer; none of those that had one
/// needed a second try.
fn paid(payments: &[(u32, u128)]) -> u64 {
    let mut text = format!(
        "
        [phases]\nsafety = \"{}s\"\n
        [topology]\nkind = \"file\"\nfile = \"leaves.csv\"\n
        [servers]\nrelays = 1\nindexes = 1\n
        [money]\nlimits = \"file\"\nfree_per_mille = 1000\nfee_add = 0\n
        [payments]\ncount = 0\n",
        60 + 45 * payments.len()
    );
    for (n, (seller, amount)) in payments.iter().enumerate() {
        let ends = format!("buyer = \"node 0\"\nseller = \"node {seller}\"\namount = {amount}\ntries = 1");
        writeln!(text, "[[order]]\nat = \"{}s\"\n{ends}", 30 + 45 * n).unwrap();
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let case = draw(&Scenario::parse("leaves", &text, &folder, &[]).unwrap(), 1).unwrap();
    let _armed = arm(&case);
    let mut run = Run::new(&case, &Options::default());
    run.run_until(case.heal_at).unwrap();
    let mut recorder = std::mem::take(&mut run.recorder);
    recorder.marks(marks::take());
    let record = recorder.finish();
    let no_offer = record.payments.failed.get(NO_OFFER).copied().unwrap_or_default();
    assert_eq!(record.payments.paid + no_offer, payments.len() as u64, "{:?}", record.payments.failed);
    for never in NEVER {
        assert_eq!(record.marks.get(never), Some(&0), "{never}");
    }
    record.payments.paid
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
