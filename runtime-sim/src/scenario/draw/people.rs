//! What people do beside their payments: some press the button twice, some let others use their node.

use offset_protocol::machine::Duration;

use super::Drawing;
use crate::case::{Case, GuestPlan, Operation, Right, Timed};
use crate::scenario::fields;

/// Who pays again does so within this time. Chosen freely: while the first payment goes on, or a little later.
const AGAIN_AFTER: Duration = Duration::from_millis(200);
const AGAIN_WITHIN: Duration = Duration::from_secs(12);
/// Each right, in so many of a thousand guests.
const RIGHT_PER_MILLE: u32 = 300;

impl Drawing<'_> {
    pub(super) fn add_second_payments(&self, case: &mut Case) {
        let (share, mut dice) = (self.per_mille(&fields::AGAIN), self.dice("payments: who pays again"));
        let mut again = Vec::new();
        for timed in &case.operations {
            if let Operation::Pay { buyer, deal, .. } = timed.what
                && dice.chance(share)
            {
                let at = timed.at + dice.duration(AGAIN_AFTER, AGAIN_WITHIN);
                again.push(Timed { at, what: Operation::PayAgain { buyer, deal } });
            }
        }
        case.operations.extend(again);
    }

    pub(super) fn add_guests(&self, case: &mut Case) {
        let (share, mut dice) = (self.per_mille(&fields::GUESTS), self.dice("people: guests"));
        for node in 0..case.nodes.len() as u32 {
            if dice.chance(share) {
                let may = Right::ALL.into_iter().filter(|_| dice.chance(RIGHT_PER_MILLE)).collect();
                case.guests.push(GuestPlan { node, may, ..GuestPlan::default() });
            }
        }
    }
}
