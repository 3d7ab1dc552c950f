//! Payments between known people.

use offset_protocol::machine::Instant;

use super::events::{hosts, number, span, words};
use super::{Drawing, moment};
use crate::case::{Case, Commit, Operation, Role, Timed};
use crate::dice::Dice;
use crate::scenario::ScenarioError;
use crate::scenario::field::Field;
use crate::scenario::fields::{self, order};
use crate::scenario::read::Values;
use crate::topology::Graph;

impl Drawing<'_> {
    /// Behind the payments of the workload, whose numbers stay what they are.
    pub(super) fn add_orders(&self, case: &mut Case, graph: &Graph) -> Result<(), ScenarioError> {
        let last = case.operations.iter().filter_map(|timed| match &timed.what {
            Operation::Pay { deal, .. } => Some(*deal),
            Operation::PayAgain { .. } | Operation::Configure { .. } => None,
        });
        let mut deals = last.max().map_or(0, |last| last + 1)..;
        for (place, order) in self.scenario.tables("order").iter().enumerate() {
            let mut dice = self.dice(&format!("order {place}"));
            let at = Instant::ZERO + span(order, &order::AT, &mut dice);
            if at >= case.heal_at {
                return Err(wrong("it would be after the safety phase, in which people pay".to_owned()));
            }
            let until = (at + span(order, &order::LASTS, &mut dice)).min(case.heal_at);
            let buyers = nodes(case, graph, order, &order::BUYER, &mut dice)?;
            let sellers = nodes(case, graph, order, &order::SELLER, &mut dice)?;
            let (in_band, max_fee) = (self.per_mille(&fields::IN_BAND), self.once(&fields::MAX_FEE));
            for (_, deal) in (0..number(order, &order::COUNT, &mut dice)).zip(&mut deals) {
                let at = moment(&mut dice, at, until);
                let buyer = dice.pick(&buyers).copied();
                let others: Vec<u32> = sellers.iter().copied().filter(|seller| Some(*seller) != buyer).collect();
                let (Some(buyer), Some(&seller)) = (buyer, dice.pick(&others)) else {
                    return Err(wrong("nobody is left to pay or to be paid".to_owned()));
                };
                let what = Operation::Pay {
                    deal,
                    buyer,
                    seller,
                    currency: dice.below(case.currencies.len() as u64) as u32,
                    amount: number(order, &order::AMOUNT, &mut dice).into(),
                    max_fee: max_fee.into(),
                    commit: if dice.chance(in_band) { Commit::InBand } else { Commit::ByHand },
                    tries: number(order, &order::TRIES, &mut dice) as u32,
                    patience: span(order, &order::PATIENCE, &mut dice),
                };
                if at < case.heal_at {
                    case.operations.push(Timed { at, what });
                }
            }
        }
        Ok(())
    }
}

/// The nodes that a field of an order names.
fn nodes(
    case: &Case,
    graph: &Graph,
    order: &Values,
    field: &Field,
    dice: &mut Dice,
) -> Result<Vec<u32>, ScenarioError> {
    let who = words(order, field).join(" ");
    let hosts = hosts(case, graph, &who, dice).map_err(wrong)?;
    let node = |host| match case.role(host) {
        Some(Role::Node(node)) => Ok(node),
        Some(_) | None => Err(wrong(format!("{who:?} is no node: nodes pay nodes"))),
    };
    hosts.into_iter().map(node).collect()
}

fn wrong(what: String) -> ScenarioError {
    ScenarioError::Value { field: "order".to_owned(), what }
}
