//! Bounded loss (I8): the theorem that a network of mutual credit sells.
//!
//! For an honest node and one currency let
//!
//! | | |
//! |---|---|
//! | `E` | what its sales were told to have brought, less what its purchases cost, fees included |
//! | `D` | what its user gave away or was given by hand: terms that were accepted, friends that were removed |
//! | `B` | the sum of its balances with honest friends, and what it accepted from one that it has no link to any more: nothing can be collected there until one of the two wants a link again |
//! | `C(z)` | its claim on the cheater `z`: the balance, and everything that it accepted from `z`; after a dispute, its own terms |
//! | `L(z)` | the most that it ever granted `z` |
//!
//! **Theorem.** Whatever everybody else does, if every debt of a cheater is lost and every debt to one is paid, then
//! `E + D − (B + Σ min(C(z), 0)) ≤ Σ L(z)` over the node's own cheating friends: no node loses more than it granted to them.
//!
//! *Proof.* Follow one request. A mediator accepts it from a friend `x` for no less than it passes it on for. If it is
//! cancelled ahead, nothing moves. If it is collected ahead, both locks are known, so the mediator can collect from `x`. If
//! `x` is honest, that moves `B` by at least as much the other way (or `x` and the node began anew, which is in `D`). If `x`
//! is a cheater, what was accepted is a part of `C(x)` whether `x` lets it be collected or breaks the channel, because a
//! node's own terms count it. So a request that is passed on never lowers `B + Σ C(z)`; a purchase lowers it by what the
//! buyer is told, a sale raises it by what the seller is told. Hence `B + Σ C(z) ≥ E + D`. And `C(z) ≤ L(z)`, because a
//! request is accepted only while the balance and everything accepted stay within the limit (I3), and nothing else raises a
//! claim. Subtracting, the loss is at most `Σ max(C(z), 0) ≤ Σ L(z)`. ∎
//!
//! It is about nodes that remember: one whose disk was lost, or was put back to an old copy, no longer knows what it is owed,
//! and nobody else needs to tell.
//!
//! Both halves of the proof are checked, not only the theorem. At rest: while a request is on its way, what it brings
//! upstream may not be known yet. A request that a cheater holds counts as a claim although nothing was paid for it, so a
//! loss may hide behind it until it ends.

use offset_funder_sm::friend_channel::{Channel, Standing};
use offset_protocol::money::Currency;

use super::Invariant;
use super::ledger::{Fault, Ledger, NodeId};
use crate::people::Stage;
use crate::people::deals::Deals;

/// What stands with one cheater.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stake {
    /// `C(z)`.
    pub claim: i128,
    /// `L(z)`.
    pub granted: u128,
}

impl Stake {
    /// What stands with a friend in one currency; `granted` is the most that was ever granted.
    pub fn of(channel: &Channel, currency: &Currency, granted: u128) -> Self {
        let claim = match channel.standing() {
            Standing::Inconsistent { ours, .. } => {
                ours.balances.iter().find(|one| one.currency == *currency).map_or(0, |one| one.balance)
            }
            Standing::Consistent { .. } => {
                let balance = channel.currency(currency).map_or(0, |report| report.balance);
                balance.saturating_add(signed(channel.accepted_frozen(currency)))
            }
        };
        Stake { claim, granted }
    }
}

/// Where a node stands in one currency.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// `E`.
    pub earned: i128,
    /// `D`.
    pub given: i128,
    /// `B`.
    pub honest: i128,
    /// With each cheater.
    pub stakes: Vec<Stake>,
}

/// Where a node stands: its friends, as the ledger knows them, and what its people earned.
pub fn position<'c>(
    ledger: &Ledger,
    node: NodeId,
    channels: impl Iterator<Item = &'c Channel>,
    currency: &Currency,
    earned: i128,
) -> Position {
    let given = ledger.given(node).get(currency);
    let mut position = Position { earned, given, ..Position::default() };
    for channel in channels {
        if ledger.node(&channel.friend()).is_some() {
            // At rest nothing is open but with a friend to whom there is no link.
            let balance = channel.currency(currency).map_or(0, |report| report.balance);
            let accepted = signed(channel.accepted_frozen(currency));
            position.honest = position.honest.saturating_add(balance).saturating_add(accepted);
        } else {
            let granted = ledger.granted(node, &channel.friend());
            let granted = granted.iter().find(|(name, _)| name == currency).map_or(0, |(_, granted)| *granted);
            position.stakes.push(Stake::of(channel, currency, granted));
        }
    }
    position
}

/// What a person earned in a currency, as told: sales less purchases. A purchase counts as what its invoice asks, which a
/// cheating seller may have taken from somebody else. One that was committed and fell apart counts as if all of it had been
/// paid with all fees that were allowed.
pub fn earned(deals: &Deals, currency: &Currency) -> i128 {
    let sales = deals.sales().filter(|(_, sale)| sale.currency == *currency).map(|(_, sale)| match &sale.stage {
        Stage::Paid { .. } => signed(sale.amount),
        Stage::PaidInPart { collected } => signed(*collected),
        Stage::Open | Stage::Failed(_) => 0,
    });
    let purchases = deals.purchases().map(|(_, purchase)| (purchase, purchase.asked()));
    let purchases = purchases.filter(|(_, (asked_in, _))| asked_in == currency);
    let purchases = purchases.map(|(purchase, (_, amount))| {
        let most = -signed(amount) - signed(purchase.order.max_fee);
        let paid = match &purchase.stage {
            Stage::Paid { fees } => -signed(amount) - signed(*fees),
            Stage::Open | Stage::PaidInPart { .. } => most,
            Stage::Failed(_) => 0,
        };
        paid.saturating_add(most.saturating_mul(i128::from(purchase.fell_apart)))
    });
    sales.chain(purchases).fold(0, i128::saturating_add)
}

/// Checks both halves of the proof, and the theorem.
///
/// # Errors
/// [`Invariant::Losses`] with the first inequality that does not hold.
pub fn check(position: &Position) -> Result<(), Fault> {
    let wrong = |what: &str| Err((Invariant::Losses, format!("{what}: {position:?}")));
    let sum = |of: fn(&Stake) -> i128| position.stakes.iter().map(of).fold(0, i128::saturating_add);
    let due = position.earned.saturating_add(position.given);
    if position.stakes.iter().any(|stake| stake.claim > signed(stake.granted)) {
        return wrong("a claim on a cheater is larger than what it was ever granted");
    }
    if position.honest.saturating_add(sum(|stake| stake.claim)) < due {
        return wrong("what passed through has cost more than it brought");
    }
    let loss = due - position.honest.saturating_add(sum(|stake| stake.claim.min(0)));
    if loss > sum(|stake| signed(stake.granted)) {
        return wrong("more is lost than was granted to cheaters");
    }
    Ok(())
}

fn signed(amount: u128) -> i128 {
    i128::try_from(amount).unwrap_or(i128::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fires(position: &Position) {
        assert!(matches!(check(position), Err((Invariant::Losses, _))), "{position:?}");
    }

    #[test]
    fn a_cheater_may_take_what_it_was_granted_and_no_more() {
        // It pushed 50 through us to an honest friend, and broke the channel.
        let stolen = Position { honest: -50, stakes: vec![Stake { claim: 50, granted: 50 }], ..Position::default() };
        assert_eq!(check(&stolen), Ok(()));
        fires(&Position { stakes: vec![Stake { claim: 50, granted: 49 }], ..stolen.clone() });
        fires(&Position { honest: -51, ..stolen.clone() });
        fires(&Position { given: 1, ..stolen });
    }

    #[test]
    fn an_honest_neighbourhood_loses_nothing() {
        let sold = Position { earned: 30, honest: 30, ..Position::default() };
        assert_eq!(check(&sold), Ok(()));
        assert_eq!(check(&Position { honest: 31, ..sold.clone() }), Ok(()), "a fee");
        fires(&Position { honest: 29, ..sold });
    }

    #[test]
    fn a_debt_to_a_cheater_is_paid_and_its_debt_is_not_set_against_it() {
        let two = vec![Stake { claim: -100, granted: 0 }, Stake { claim: 60, granted: 60 }];
        let owes = Position { honest: 40, stakes: two, ..Position::default() };
        assert_eq!(check(&owes), Ok(()));
        fires(&Position { honest: 39, ..owes });
    }
}
