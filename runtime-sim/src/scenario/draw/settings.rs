//! People who change their minds while payments run.

use offset_protocol::machine::{Duration, Instant};

use super::network::subset;
use super::{Drawing, Source, moment};
use crate::case::{Case, Operation, RatePlan, Setting, Timed};
use crate::dice::Dice;
use crate::scenario::fields;

impl Drawing<'_> {
    pub(super) fn add_changes(&self, case: &mut Case) {
        let kinds = self.scenario.words(&fields::CHANGE_KINDS);
        let (mut dice, mut undone_after) = (self.dice("changes"), self.source(&fields::UNDONE_AFTER));
        let mut changes = Changes { limit: self.source(&fields::CHANGE_LIMIT), charges: Box::new(self.charges()) };
        let undone = self.per_mille(&fields::UNDONE);
        let from = Instant::ZERO + self.time(&fields::FIRST).min(case.heal_at.since(Instant::ZERO));
        for _ in 0..self.once(&fields::CHANGES) {
            let at = moment(&mut dice, from, case.heal_at);
            let (Some(pair), Some(kind)) = (dice.pick(&case.friendships), dice.pick(&kinds)) else { return };
            let Some(terms) = dice.pick(&pair.terms).copied() else { continue };
            let (node, friend) = if dice.chance(500) { (pair.a, pair.b) } else { (pair.b, pair.a) };
            let (setting, undo) = changes.draw(case, &mut dice, kind, friend, terms.currency);
            let then: Duration = undone_after.time();
            let configure = |at, setting| Timed { at, what: Operation::Configure { node, setting } };
            let again = undo.filter(|_| dice.chance(undone)).map(|undo| configure(at + then, undo));
            case.operations.push(configure(at, setting));
            case.operations.extend(again.filter(|again| again.at < case.heal_at));
        }
    }
}

struct Changes {
    limit: Source,
    charges: Box<dyn FnMut() -> RatePlan>,
}

impl Changes {
    /// A setting, and what undoes it, if anything does.
    fn draw(
        &mut self,
        case: &Case,
        dice: &mut Dice,
        kind: &str,
        friend: u32,
        currency: u32,
    ) -> (Setting, Option<Setting>) {
        match kind {
            "limit" => (Setting::Grant { friend, currency, max_debt: self.limit.next().into() }, None),
            "rate" => (Setting::Charge { friend, currency, rate: (self.charges)() }, None),
            "currency" => (Setting::Close { friend, currency }, Some(Setting::Open { friend, currency })),
            "relays" => (Setting::Relays { relays: some(dice, case.relays.len()) }, None),
            "indexes" => (Setting::Indexes { indexes: some(dice, case.indexes.len()) }, None),
            "remove" => (Setting::Remove { friend }, None),
            _ => (Setting::Disable { friend }, Some(Setting::Enable { friend })),
        }
    }
}

/// One, two or three of them.
fn some(dice: &mut Dice, count: usize) -> Vec<u32> {
    subset(dice.between(1, 3), count, dice)
}
