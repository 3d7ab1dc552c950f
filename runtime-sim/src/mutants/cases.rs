//! Cases to hunt in: small, so that many fit into a minute, and each of another kind.
//!
//! | of eight | |
//! |---|---|
//! | two | lines, as in [`line`] |
//! | two | small meshes: several ways between two nodes, payments that must be split, fees that are not accepted, settings that change while payments run |
//! | one | what `stsim swarm` draws |
//! | one | the same, with old databases that are put back, so that channels are reset |
//! | two | three friends in a line; the one in the middle plays one trick, which the others must notice |

use offset_protocol::machine::{Duration, Instant, Seed};

use crate::case::{Case, Friendship, NodeCheat, Operation, Rare, Setting, Terms, Timed};
use crate::cheats::{Evidence, FriendTrick, Play, Trick};
use crate::dice::Dice;
use crate::line::{self, LineSpec, Weather};
use crate::scenario::{self, Scenario};

/// What was shut is opened again so long after healing.
const LATER: Duration = Duration::from_secs(5);

/// The case of a number.
pub(super) fn draw(number: u64) -> Case {
    match number % 8 {
        0 | 1 => line::case(number, &LineSpec::small(&Seed::from_number(number))),
        2 => swarm(number, &[]),
        3 => swarm(number, &["faults.backup=10s..40s"]),
        4 | 5 => trick(number),
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
fn trick(number: u64) -> Case {
    let seed = Seed::from_number(number);
    let small = LineSpec::small(&seed);
    let spec = LineSpec { nodes: 3, deals: 12, max_debt: 100_000, weather: Weather::Fair, ..small };
    let mut case = line::case(number, &spec);
    let (trick, _) = TRICKS[Dice::new(&seed, "trick").below(TRICKS.len() as u64) as usize];
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

fn mesh(number: u64) -> Case {
    let seed = Seed::from_number(number);
    let mut spec = LineSpec::small(&seed);
    let mut dice = Dice::new(&seed, "hunt");
    spec.deals *= 3;
    spec.indexes = dice.between(1, 4) as u32;
    spec.relays = dice.between(1, 3) as u32;
    spec.max_debt = if dice.chance(700) { dice.between(800, 6_000).into() } else { 1_000_000 };
    spec.weather = if dice.chance(300) { Weather::Fair } else { Weather::Foul };
    let mut case = line::case(number, &spec);
    case.scenario = "hunt".to_owned();
    case.rare = Rare::Drawn;
    befriend_more(&mut case, &mut dice, spec.max_debt);
    change_payments(&mut case, &mut dice);
    if dice.chance(500) {
        change_settings(&mut case, &mut dice, spec.max_debt);
    }
    case
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
            0..=2 => (Setting::Grant { friend, currency: 0, max_debt: max_debt * 2 }, None),
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
    use super::*;
    use crate::faults::Fault;

    #[test]
    fn every_kind_of_case_is_drawn() {
        let kinds: Vec<_> = (0..8).map(draw).map(|case| (case.scenario.clone(), case.has_cheaters())).collect();
        let count = |name: &str, cheats: bool| kinds.iter().filter(|kind| **kind == (name.to_owned(), cheats)).count();
        assert_eq!((count("line", false), count("line", true)), (2, 2));
        assert_eq!((count("swarm", false), count("hunt", false)), (2, 2));
        let backups =
            |case: &Case| case.faults.iter().filter(|fault| matches!(fault.what, Fault::PutBack { .. })).count();
        assert!((0..20).map(|n| draw(8 * n + 3)).map(|case| backups(&case)).sum::<usize>() > 3);
    }
}
