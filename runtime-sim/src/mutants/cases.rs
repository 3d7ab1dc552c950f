//! Cases to hunt in: small, so that many fit into a minute, and each of another kind.
//!
//! | of twelve | |
//! |---|---|
//! | one | a line, as in [`line`] |
//! | two | what `stsim swarm` draws; one of them with old databases that are put back |
//! | three | three friends in a line; the one in the middle plays one trick, which the others must notice |
//! | three | small meshes: several ways between two nodes, payments that must be split, fees that are not accepted, invoices that are paid twice, settings that change while payments run, guests |
//! | one | a line in which old databases are put back, so that channels are reset while requests are open |
//! | one | a line with slow disks and many payments, whose connections break again and again |
//! | one | a mesh on three index servers that a node leaves; every other time, a queue that is filled on purpose, a limit, or what may be passed on for others |

use offset_protocol::machine::{Duration, Instant, Seed};

use crate::case::{
    Case, Commit, Friendship, GuestPlan, NodeCheat, Operation, Rare, Right, Role, Setting, Terms, Timed,
};
use crate::cheats::{Evidence, FriendTrick, Play, Trick};
use crate::dice::Dice;
use crate::faults::Fault;
use crate::latency::Latency;
use crate::line::{self, LineSpec, Weather};
use crate::net::Cut;
use crate::scenario::{self, Scenario};

/// What was shut is opened again so long after healing.
const LATER: Duration = Duration::from_secs(5);

/// How many kinds there are, and how many of them are tricks.
const KINDS: u64 = 12;
const TRICK_KINDS: u64 = 3;

/// The case of a number.
pub(super) fn draw(number: u64) -> Case {
    match number % KINDS {
        0 => line::case(number, &LineSpec::small(&Seed::from_number(number))),
        1 => swarm(number, &[]),
        2 => swarm(number, &["faults.backup=10s..40s"]),
        kind @ 3..6 => trick(number, (TRICK_KINDS * (number / KINDS) + kind) as usize % TRICKS.len()),
        6 => reset(number),
        7 => busy(number),
        8 if (number / KINDS).is_multiple_of(2) => silence(number),
        8 if (number / KINDS) % 8 == 3 => rush(number),
        8 if (number / KINDS) % 8 == 7 => rush_beyond(number),
        8 => crowd(number),
        _ => mesh(number),
    }
}

/// A case of `stsim swarm`, with some fields of its scenario set.
fn swarm(number: u64, set: &[&str]) -> Case {
    let set: Vec<String> = set.iter().map(|&field| field.to_owned()).collect();
    let drawn = Scenario::load("swarm", &set).and_then(|scenario| scenario::draw(&scenario, number));
    // The built-in scenario is well formed, and so is what is set here; a test draws it.
    drawn.unwrap_or_else(|_| mesh(number))
}

/// Tricks of a friend, each with what an honest friend says of it.
const TRICKS: [(FriendTrick, &str); 8] = [
    (FriendTrick::CollectWrongSecret, "WrongLock"),
    (FriendTrick::CommitWrongLock, "WrongLock"),
    (FriendTrick::ResponseTwice, "Twice"),
    (FriendTrick::ResponseAfterCancel, "UnknownRequest"),
    (FriendTrick::LoopingRoute, "Request(Route)"),
    (FriendTrick::OverlongRoute, "MalformedBody"),
    (FriendTrick::TwoBatches, "TwoBatches"),
    (FriendTrick::WrongTotals, "OtherTotals"),
];
/// A trick that was played so often and never noticed is not noticed at all: some never arrive.
const PLAYED: u64 = 3;

/// Three friends without faults; the one in the middle plays one trick.
fn trick(number: u64, trick: usize) -> Case {
    let seed = Seed::from_number(number);
    let small = LineSpec::small(&seed);
    let spec = LineSpec { nodes: 3, deals: 12, max_debt: 100_000, weather: Weather::Fair, ..small };
    let mut case = line::case(number, &spec);
    // Most payments lead over the cheater, and wait there for a commit by hand.
    let mut dice = Dice::new(&seed, "trick");
    for timed in &mut case.operations {
        if let Operation::Pay { buyer, seller, commit, .. } = &mut timed.what
            && dice.chance(800)
        {
            (*buyer, *seller) = if dice.chance(500) { (0, 2) } else { (2, 0) };
            *commit = if dice.chance(700) { Commit::ByHand } else { Commit::InBand };
        }
    }
    let (trick, _) = TRICKS[trick];
    let play = Play { trick, per_mille: 200, from: Instant::ZERO + Duration::from_secs(6) };
    let hang_up = Play { trick: FriendTrick::HangUp, per_mille: 20, ..play };
    case.nodes[1].cheat = NodeCheat { friend: vec![play, hang_up], ..NodeCheat::default() };
    case.nodes[1].accepts_reset_after = Some(Duration::from_secs(3));
    case
}

/// The trick that was played in a run and that nobody noticed, if there is one.
pub(super) fn unnoticed(evidence: &Evidence) -> Option<String> {
    let missed = TRICKS.iter().find(|(trick, sign)| {
        let played = evidence.played.get(&Trick::Friend(*trick)).copied().unwrap_or(0);
        played >= PLAYED && !evidence.noticed.keys().any(|noticed| noticed.contains(sign))
    });
    missed.map(|(trick, sign)| format!("{trick:?} was played, and nobody said {sign}"))
}

/// A line whose databases are put back to what they were some payments ago.
fn reset(number: u64) -> Case {
    let seed = Seed::from_number(number);
    let mut dice = Dice::new(&seed, "reset");
    let spec = LineSpec { deals: 20, max_debt: 100_000, weather: Weather::Fair, ..LineSpec::small(&seed) };
    let mut case = line::case(number, &spec);
    case.rare = Rare::Drawn;
    for node in &mut case.nodes {
        node.accepts_reset_after = Some(Duration::from_secs(dice.between(1, 6)));
    }
    for _ in 0..2 {
        let host = case.host(Role::Node(dice.below(case.nodes.len() as u64) as u32));
        let (at, later) = (moment(&case, &mut dice), dice.duration(Duration::from_secs(1), Duration::from_secs(9)));
        let off = dice.duration(Duration::from_millis(100), Duration::from_secs(3));
        case.faults.push(Timed { at, what: Fault::Copy { host } });
        case.faults.push(Timed { at: at + later, what: Fault::PutBack { host, off } });
    }
    case.faults.sort_by_key(|timed| timed.at);
    case.heal_at += Duration::from_secs(10);
    case
}

/// A line in which writing takes longer than answering, and connections break while answers wait for it.
fn busy(number: u64) -> Case {
    let seed = Seed::from_number(number);
    let mut dice = Dice::new(&seed, "busy");
    let spec = LineSpec { deals: 60, max_debt: 1_000_000, weather: Weather::Fair, ..LineSpec::small(&seed) };
    let mut case = line::case(number, &spec);
    case.rare = Rare::Drawn;
    let from = Instant::ZERO + Duration::from_secs(4);
    for node in 0..case.nodes.len() as u32 {
        let (low, high) = (Duration::from_millis(100), Duration::from_millis(dice.between(200, 1_500)));
        let what = Fault::Disk { host: case.host(Role::Node(node)), flush: Latency::Uniform { low, high } };
        case.faults.push(Timed { at: from, what });
    }
    for _ in 0..dice.between(10, 40) {
        let at = moment(&case, &mut dice);
        case.faults.push(Timed { at, what: Fault::Reset { nth: dice.next_u64() } });
    }
    case.faults.sort_by_key(|timed| timed.at);
    case
}

/// A mesh on three index servers. One node leaves for good: all of them must forget it.
fn silence(number: u64) -> Case {
    let mut case = mesh_of(number, 3);
    let mut dice = Dice::new(&Seed::from_number(number), "silence");
    let host = case.host(Role::Node(dice.below(case.nodes.len() as u64) as u32));
    let at = moment(&case, &mut dice);
    case.faults.push(Timed { at, what: Fault::Leave { host } });
    case.faults.sort_by_key(|timed| timed.at);
    case
}

/// When the last of three friends is cut off from the relay, for how long, and when the first one begins to flood the one
/// between them.
const CUT_OFF: Duration = Duration::from_secs(15);
const CUT_FOR: Duration = Duration::from_secs(30);
const FLOODS: Duration = Duration::from_secs(26);
/// Payments of the one in the middle that fill its window: each makes a batch of its own.
const FILLS: u64 = 40;

/// Three friends in a line. What the last one is sent does not arrive; the one in the middle pays it until nothing more may
/// be on its way, and then the first one floods it with requests that go on to the last: their queue must have an end.
fn crowd(number: u64) -> Case {
    let seed = Seed::from_number(number);
    let spec = LineSpec {
        nodes: 3,
        relays: 1,
        indexes: 1,
        deals: 1,
        max_debt: 1_000_000,
        safety: Duration::from_secs(60),
        weather: Weather::Fair,
        ..LineSpec::small(&seed)
    };
    let mut case = line::case(number, &spec);
    let pay = case.operations.pop().map(|timed| timed.what);
    for deal in 0..=FILLS {
        let Some(mut what) = pay.clone() else { return case };
        if let Operation::Pay { deal: name, buyer, seller, amount, tries, patience, .. } = &mut what {
            (*name, *seller, *amount, *tries, *patience) = (deal, 2, 10, 1, CUT_FOR);
            *buyer = u32::from(deal > 0);
        }
        let at = Instant::ZERO + CUT_OFF + Duration::from_millis(200).times(deal);
        case.operations.push(Timed { at, what });
    }
    let cut = Cut::Pair(case.host(Role::Node(2)), case.host(Role::Relay(0)));
    let from = Instant::ZERO + CUT_OFF;
    case.faults.push(Timed { at: from, what: Fault::Cut { name: 1, cut } });
    case.faults.push(Timed { at: from + CUT_FOR, what: Fault::Heal { name: 1 } });
    // What has no end cannot come to rest.
    let leaves = Fault::Leave { host: case.host(Role::Node(0)) };
    case.faults.push(Timed { at: Instant::ZERO + FLOODS + Duration::from_secs(4), what: leaves });
    case.faults.sort_by_key(|timed| timed.at);
    let flood = Play { trick: FriendTrick::FloodRequests, per_mille: 1_000, from: Instant::ZERO + FLOODS };
    case.nodes[0].cheat = NodeCheat { friend: vec![flood], ..NodeCheat::default() };
    case.nodes[1].accepts_reset_after = Some(Duration::from_secs(3));
    case
}

/// When many pay one friend at once, how much, and how many: each fits into what it is offered, and all together do not.
const RUSH: Duration = Duration::from_secs(15);
const RUSH_EACH: u128 = 900;
const RUSH_LIMIT: u128 = 3_000;
const RUSH_PAYMENTS: u64 = 12;

/// Three friends in a line. One pays the next, and pays it again before anybody knows of the first payment; all of them wait
/// for a commit by hand. They end where the limit is: nothing but the limit keeps them off.
fn rush(number: u64) -> Case {
    rush_to(number, 3, 1, RUSH_EACH)
}

/// The same in a line of four, from one end to the other, over a wider first line: nothing but what the second keeps for itself
/// keeps them off.
fn rush_beyond(number: u64) -> Case {
    let mut case = rush_to(number, 4, 3, RUSH_EACH / 3);
    for terms in case.friendships.iter_mut().filter(|friendship| friendship.a == 0).flat_map(|one| &mut one.terms) {
        (terms.a_grants, terms.b_grants) = (10 * RUSH_LIMIT, 10 * RUSH_LIMIT);
    }
    case
}

fn rush_to(number: u64, nodes: u32, to: u32, each: u128) -> Case {
    let small = LineSpec::small(&Seed::from_number(number));
    let spec = LineSpec { nodes, deals: 1, max_debt: RUSH_LIMIT, weather: Weather::Fair, ..small };
    let mut case = line::case(number, &spec);
    let word = Duration::from_millis(100);
    case.note = Latency::Uniform { low: word, high: word };
    let pay = case.operations.pop().map(|timed| timed.what);
    for payment in 0..RUSH_PAYMENTS {
        let Some(mut what) = pay.clone() else { return case };
        if let Operation::Pay { deal, buyer, seller, amount, tries, commit, .. } = &mut what {
            (*deal, *buyer, *seller, *amount, *tries) = (payment, 0, to, each, 1);
            *commit = Commit::ByHand;
        }
        let at = Instant::ZERO + RUSH + Duration::from_millis(10).times(payment);
        case.operations.push(Timed { at, what });
    }
    case
}

fn mesh(number: u64) -> Case {
    let indexes = Dice::new(&Seed::from_number(number), "servers").between(1, 4) as u32;
    mesh_of(number, indexes)
}

fn mesh_of(number: u64, indexes: u32) -> Case {
    let seed = Seed::from_number(number);
    let mut spec = LineSpec::small(&seed);
    let mut dice = Dice::new(&seed, "hunt");
    spec.deals *= 3;
    spec.indexes = indexes;
    spec.relays = dice.between(1, 3) as u32;
    spec.max_debt = if dice.chance(700) { dice.between(800, 6_000).into() } else { 1_000_000 };
    spec.weather = if dice.chance(300) { Weather::Fair } else { Weather::Foul };
    let mut case = line::case(number, &spec);
    case.scenario = "hunt".to_owned();
    case.rare = Rare::Drawn;
    befriend_more(&mut case, &mut dice, spec.max_debt);
    change_payments(&mut case, &mut dice);
    pay_again(&mut case, &mut dice);
    if dice.chance(500) {
        change_settings(&mut case, &mut dice, spec.max_debt);
    }
    invite(&mut case, &mut dice);
    case
}

/// Some buyers pay twice.
fn pay_again(case: &mut Case, dice: &mut Dice) {
    let mut again = Vec::new();
    for timed in &case.operations {
        if let Operation::Pay { buyer, deal, .. } = timed.what
            && dice.chance(300)
        {
            let at = timed.at + dice.duration(Duration::from_millis(200), Duration::from_secs(12));
            again.push(Timed { at, what: Operation::PayAgain { buyer, deal } });
        }
    }
    case.operations.extend(again);
    case.operations.sort_by_key(|timed| timed.at);
}

/// Half of the nodes have a guest, with some rights.
fn invite(case: &mut Case, dice: &mut Dice) {
    for node in 0..case.nodes.len() as u32 {
        if dice.chance(500) {
            let may = Right::ALL.into_iter().filter(|_| dice.chance(300)).collect();
            case.guests.push(GuestPlan { node, may, ..GuestPlan::default() });
        }
    }
}

fn moment(case: &Case, dice: &mut Dice) -> Instant {
    let span = case.heal_at.since(Instant::ZERO);
    Instant::ZERO + dice.duration(Duration::from_secs(5), span)
}

/// Half of the pairs that are no friends yet become friends, on terms of some other pair.
fn befriend_more(case: &mut Case, dice: &mut Dice, max_debt: u128) {
    let terms = case.friendships.first().map(|friendship| friendship.terms.clone()).unwrap_or_default();
    let known: Vec<_> = case.friendships.iter().map(|friendship| (friendship.a, friendship.b)).collect();
    for a in 0..case.nodes.len() as u32 {
        for b in a + 1..case.nodes.len() as u32 {
            if !known.contains(&(a, b)) && dice.chance(500) {
                let other = |dice: &mut Dice| u128::from(dice.between(1, 3)) * max_debt / 2;
                let draw = |terms: &Terms| Terms { a_grants: other(dice), b_grants: other(dice), ..*terms };
                case.friendships.push(Friendship { a, b, terms: terms.iter().map(draw).collect() });
            }
        }
    }
}

/// Some amounts need several routes, some fees are too low, some deals come at once.
fn change_payments(case: &mut Case, dice: &mut Dice) {
    let low_fees = dice.chance(300);
    let mut before = None;
    for timed in &mut case.operations {
        let Operation::Pay { amount: pays, max_fee: fee, .. } = &mut timed.what else { continue };
        if dice.chance(300) {
            *pays = pays.saturating_mul(dice.between(2, 4).into());
        }
        if low_fees {
            *fee = dice.below(12).into();
        }
        if dice.chance(300) {
            timed.at = before.unwrap_or(timed.at);
        }
        before = Some(timed.at);
    }
    case.operations.sort_by_key(|timed| timed.at);
}

fn change_settings(case: &mut Case, dice: &mut Dice, max_debt: u128) {
    for _ in 0..dice.between(1, 12) {
        let at = moment(case, dice);
        let Some(&Friendship { a, b, .. }) = dice.pick(&case.friendships) else { return };
        let (node, friend) = if dice.chance(500) { (a, b) } else { (b, a) };
        let (setting, end) = match dice.below(6) {
            0..=2 => {
                // More, less, or nothing at all any more.
                let max_debt = max_debt * u128::from(dice.below(5)) / 2;
                (Setting::Grant { friend, currency: 0, max_debt }, None)
            }
            3 => (Setting::Close { friend, currency: 0 }, Some(Setting::Open { friend, currency: 0 })),
            4 => (Setting::Disable { friend }, Some(Setting::Enable { friend })),
            _ => (Setting::Charge { friend, currency: 0, rate: line::draw_rate(dice) }, None),
        };
        // What a user shuts for ever may keep something open for ever. Words may overtake each other; not these.
        let ends = end.map(|setting| Timed { at: case.heal_at + LATER, what: Operation::Configure { node, setting } });
        case.operations.push(Timed { at, what: Operation::Configure { node, setting } });
        case.operations.extend(ends);
    }
    case.operations.sort_by_key(|timed| timed.at);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_kind_of_case_is_drawn_and_makes_sense() {
        let cases: Vec<_> = (0..2 * KINDS).map(draw).collect();
        for (number, case) in cases.iter().enumerate() {
            assert_eq!(case.check(), Ok(()), "case {number}");
        }
        let count = |name: &str, cheats: bool| {
            cases.iter().filter(|case| case.scenario == name && case.has_cheaters() == cheats).count()
        };
        assert_eq!((count("line", false), count("line", true)), (6, 7));
        assert_eq!((count("swarm", false), count("hunt", false)), (4, 7));
        let tricks: BTreeSet<_> =
            (0..3 * KINDS).map(draw).filter_map(|case| Some(case.nodes[1].cheat.friend.first()?.trick)).collect();
        assert_eq!(tricks.len(), TRICKS.len());
        let backups =
            |case: &Case| case.faults.iter().filter(|fault| matches!(fault.what, Fault::PutBack { .. })).count();
        assert!((0..20).map(|n| draw(KINDS * n + 2)).map(|case| backups(&case)).sum::<usize>() > 3);
        assert!(cases.iter().any(|case| !case.guests.is_empty()));
        assert!(
            cases
                .iter()
                .flat_map(|case| &case.operations)
                .any(|timed| matches!(timed.what, Operation::PayAgain { .. }))
        );
    }
}
