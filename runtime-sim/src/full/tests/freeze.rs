//! What an attacker with three friends can block, and that it is the guard that bounds it.
//!
//! | model | |
//! |---|---|
//! | middle | every way from the attacker's three friends to its accomplices leads over the victim, which has four honest friends and the attacker for a friend itself |
//! | anywhere | a network of sixty; whom it hits hardest is the victim: the scenario `freeze-attack` |
//!
//! | between strangers | the first, with an honest person beyond the victim's friends on each side |
//!
//! Measured is what requests of cheaters freeze of the lines between the victim and its honest friends: of what it could pay, and
//! of what it could be paid; of the two that which is hit harder. And, between strangers, what the victim can still pay to whom is
//! beyond its friends, and be paid from there, while the attack goes on and after it, when all that was frozen still is.

use std::fmt::Write as _;
use std::path::Path;

use super::quiet::run;
use crate::full::Watch;
use crate::scenario::{Scenario, draw};

/// Blocks of payments that the attacker makes: when, for how long, how many, of what size.
#[derive(Clone, Copy)]
struct Wave(&'static str, &'static str, u32, &'static str);

/// Much at once, then the rest.
const LARGE: &[Wave] = &[Wave("30s", "2s", 30, "500..1500"), Wave("60s", "4m", 60, "500..1500")];
/// Little, and again and again.
const SMALL: &[Wave] = &[Wave("30s", "4m", 400, "5..100")];

/// The victim is node 0 of the file; the attacker node 5; its accomplices are the last two.
fn scenario(file: &str, waves: &[Wave], orders: &str) -> Scenario {
    let mut text = format!("[topology]\nkind = \"file\"\nfile = \"{file}\"\n");
    text += "
        [phases]\nsafety = \"7m\"\n
        [servers]\nrelays = 1\nindexes = 1\n
        [money]\nlimits = \"file\"\nfree_per_mille = 1000\nfee_add = 0\n
        [payments]\ncount = 0\n
        [[cheater]]\nwho = \"node 5\"\ntricks = [\"never-commit\"]\n
        [[cheater]]\nwho = \"node 6\"\ntricks = [\"withhold-response\"]\n
        [[cheater]]\nwho = \"node 7\"\ntricks = [\"withhold-response\"]\n";
    for Wave(at, lasts, count, amount) in waves {
        for seller in [6, 7] {
            let ends = format!("buyer = \"node 5\"\nseller = \"node {seller}\"");
            writeln!(text, "[[order]]\n{ends}\nat = \"{at}\"\nlasts = \"{lasts}\"\ncount = {count}").unwrap();
            writeln!(text, "amount = \"{amount}\"\ntries = 2\npatience = \"1d\"").unwrap();
        }
    }
    text += orders;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    Scenario::parse("freeze", &text, &folder, &[]).unwrap()
}

/// What was frozen of the victim at most, of a thousand.
fn frozen(waves: &[Wave], seed: u64, watch: Watch) -> u64 {
    run(&draw(&scenario("freeze-victim.csv", waves, ""), seed).unwrap(), watch)
        .hardest_hit
        .map_or(0, |hit| hit.frozen_per_mille)
}

const VICTIM: u32 = 0;
const ZED: u32 = 8;
const YVE: u32 = 9;
/// Payments between the victim and a stranger: one each ten seconds, of the attack and of the minute after it. What is kept of the
/// victim's two lines ahead is 2,000: it is paid out in parts that come to 1,950.
const PAYMENTS: u64 = 30;

/// How many of the payments were paid that one makes to the other while the attack goes on and after it.
fn paid(waves: &[Wave], (buyer, seller): (u32, u32), amount: u128, seed: u64, watch: Watch) -> u64 {
    let mut orders = String::new();
    for n in 0..PAYMENTS {
        let ends = format!("buyer = \"node {buyer}\"\nseller = \"node {seller}\"\namount = {amount}");
        writeln!(orders, "[[order]]\nat = \"{}s\"\n{ends}\ntries = 3\npatience = \"30s\"", 45 + 10 * n).unwrap();
    }
    let record = run(&draw(&scenario("freeze-strangers.csv", waves, &orders), seed).unwrap(), watch);
    assert_eq!(record.payments.ordered, PAYMENTS);
    record.payments.paid
}

#[test]
fn the_victim_goes_on_paying_strangers_and_being_paid_by_them() {
    for (what, waves) in [("large", LARGE), ("small", SMALL)] {
        for (ends, amount) in [((VICTIM, ZED), 25), ((VICTIM, ZED), 65), ((ZED, VICTIM), 250), ((YVE, VICTIM), 250)] {
            let paid = paid(waves, ends, amount, 1, Watch::Always);
            assert!(10 * paid >= 9 * PAYMENTS, "{what} requests: {paid} of {PAYMENTS} of {amount} are paid, {ends:?}");
        }
    }
}

#[test]
fn three_friends_of_an_attacker_block_little_of_whom_all_their_ways_lead_over() {
    for seed in 0..2 {
        for (what, waves) in [("large", LARGE), ("small", SMALL)] {
            let frozen = frozen(waves, seed, Watch::Always);
            assert!((100..=200).contains(&frozen), "{what} requests, seed {seed}: {frozen} of a thousand are frozen");
        }
    }
}

#[test]
#[cfg(feature = "mutants")]
fn without_the_guard_they_block_far_more() {
    use crate::mutants::Mutant;
    use offset_protocol::probe::mutate;

    mutate(Some(Mutant::GuardLeftOut));
    // The checkers would end the run at the first request beyond the share.
    let frozen = frozen(LARGE, 0, Watch::AtTheEnd);
    let paid = paid(LARGE, (VICTIM, ZED), 65, 1, Watch::AtTheEnd);
    mutate(None);
    assert!(10 * paid < 5 * PAYMENTS, "{paid} of {PAYMENTS} are paid");
    assert!(frozen > 400, "{frozen} of a thousand are frozen");
}
