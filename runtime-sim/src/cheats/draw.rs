//! Adds cheaters to a case, drawn from dice: for swarms.
//!
//! Whole families of tricks are switched off in half of the runs, so that rare pairs get room. Every honest node keeps a
//! relay and an index server that are honest, and there are two honest nodes at least.

use offset_protocol::machine::{Duration, Instant};

use super::{
    FRIEND_TRICKS, FriendTrick, INDEX_TRICKS, IndexTrick, PERSON_TRICKS, Play, RELAY_TRICKS, REPORT_TRICKS, RelayTrick,
    STRANGER_TRICKS,
};
use crate::case::{Case, Operation, Setting, StrangerPlan};
use crate::dice::Dice;

/// How many of whom cheat, in a thousand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shares {
    /// Of the nodes.
    pub nodes_per_mille: u32,
    /// Of the relays.
    pub relays_per_mille: u32,
    /// Of the index servers.
    pub indexes_per_mille: u32,
    /// Strangers at the most.
    pub strangers: u32,
    /// They play no tricks before this.
    pub from: Duration,
}

impl Shares {
    /// For small worlds of a swarm: about one cheater of each kind.
    pub const SWARM: Shares =
        Shares { nodes_per_mille: 250, relays_per_mille: 300, indexes_per_mille: 300, strangers: 2, from: FIRST };

    /// The same share of nodes, relays and index servers, and two strangers at the most; none of anything for 0.
    pub const fn of(per_mille: u32) -> Self {
        let strangers = if per_mille > 0 { 2 } else { 0 };
        Shares {
            nodes_per_mille: per_mille,
            relays_per_mille: per_mille,
            indexes_per_mille: per_mille,
            strangers,
            from: FIRST,
        }
    }
}

/// Cheaters begin after this time, if nothing else is said.
const FIRST: Duration = Duration::from_secs(4);
/// A cheater's person accepts a reset after this long, so that the cheating can go on.
const ACCEPTS_AFTER: Duration = Duration::from_secs(4);

/// Makes cheaters of some, and adds strangers.
pub fn draw(dice: &mut Dice, case: &mut Case, shares: &Shares) {
    let time = (shares.from, case.heal_at);
    let mut honest = case.nodes.len();
    for node in &mut case.nodes {
        if honest <= 2 || !dice.chance(shares.nodes_per_mille) {
            continue;
        }
        honest -= 1;
        if dice.chance(800) {
            node.cheat.friend = draw_friend(dice, time);
        }
        if dice.chance(500) {
            node.cheat.person = draw_some(dice, time, PERSON_TRICKS, (200, 1_000));
        }
        if dice.chance(400) {
            node.cheat.report = draw_some(dice, time, REPORT_TRICKS, (50, 1_000));
        }
        node.accepts_reset_after = dice.chance(800).then_some(ACCEPTS_AFTER);
    }
    draw_relays(dice, case, shares);
    draw_indexes(dice, case, shares);
    if dice.chance(500) {
        for _ in 0..dice.between(0, shares.strangers.into()) {
            let cheat = draw_some(dice, time, STRANGER_TRICKS, (20, 300));
            case.strangers.push(StrangerPlan { cheat, ..StrangerPlan::default() });
        }
    }
}

/// A moment within the time in which tricks begin.
fn from(dice: &mut Dice, (from, until): (Duration, Instant)) -> Instant {
    let until = until.since(Instant::ZERO);
    Instant::ZERO + dice.duration(from.min(until), until)
}

/// Each trick in one run of three.
fn draw_some<T: Copy>(
    dice: &mut Dice,
    time: (Duration, Instant),
    all: &[T],
    (least, most): (u64, u64),
) -> Vec<Play<T>> {
    let mut plays = Vec::new();
    for &trick in all {
        if dice.chance(333) {
            plays.push(Play { trick, per_mille: dice.between(least, most) as u32, from: from(dice, time) });
        }
    }
    plays
}

/// What a friend does: a few tricks, each rare, so that a channel lives for a while between them.
fn draw_friend(dice: &mut Dice, time: (Duration, Instant)) -> Vec<Play<FriendTrick>> {
    let mut plays = Vec::new();
    for _ in 0..dice.between(1, 5) {
        let Some(&trick) = dice.pick(FRIEND_TRICKS) else { continue };
        plays.push(Play { trick, per_mille: dice.between(5, 120) as u32, from: from(dice, time) });
    }
    plays
}

fn also_the_first(list: &mut Vec<u32>) {
    if !list.contains(&0) {
        list.push(0);
    }
}

/// The first relay stays honest, and every honest node listens there.
fn draw_relays(dice: &mut Dice, case: &mut Case, shares: &Shares) {
    let time = (shares.from, case.heal_at);
    let mut any = false;
    for relay in case.relays.iter_mut().skip(1) {
        if dice.chance(shares.relays_per_mille) {
            relay.cheat.relay = draw_some::<RelayTrick>(dice, time, RELAY_TRICKS, (5, 200));
            any |= !relay.cheat.is_honest();
        }
    }
    if any {
        case.nodes.iter_mut().for_each(|node| also_the_first(&mut node.relays));
        for timed in &mut case.operations {
            if let Operation::Configure { setting: Setting::Relays { relays }, .. } = &mut timed.what {
                also_the_first(relays);
            }
        }
    }
}

/// The first index server stays honest, and every honest node knows it.
fn draw_indexes(dice: &mut Dice, case: &mut Case, shares: &Shares) {
    let time = (shares.from, case.heal_at);
    let mut any = false;
    for index in case.indexes.iter_mut().skip(1) {
        if dice.chance(shares.indexes_per_mille) {
            index.cheat.index = draw_some::<IndexTrick>(dice, time, INDEX_TRICKS, (20, 500));
            any |= !index.cheat.is_honest();
        }
    }
    if any {
        case.nodes.iter_mut().for_each(|node| also_the_first(&mut node.indexes));
        for timed in &mut case.operations {
            if let Operation::Configure { setting: Setting::Indexes { indexes }, .. } = &mut timed.what {
                also_the_first(indexes);
            }
        }
    }
}
