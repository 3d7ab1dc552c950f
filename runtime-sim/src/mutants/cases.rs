//! Cases to hunt in: small, so that many fit into a minute, and each of another kind.
//!
//! | of eight | |
//! |---|---|
//! | three | lines, as in [`line`] |
//! | five | small meshes: several ways between two nodes, payments that must be split, fees that are not accepted, two buyers of one seller, settings that change while payments run |

use offset_protocol::machine::{Duration, Instant, Seed};

use crate::case::{Case, Friendship, Operation, Rare, Setting, Terms, Timed};
use crate::dice::Dice;
use crate::line::{self, LineSpec, Weather};

/// What was shut is opened again so long after healing.
const LATER: Duration = Duration::from_secs(5);

/// The case of a number.
pub(super) fn draw(number: u64) -> Case {
    let seed = Seed::from_number(number);
    let mut spec = LineSpec::small(&seed);
    let mut dice = Dice::new(&seed, "hunt");
    if dice.below(8) < 3 {
        return line::case(number, &spec);
    }
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
