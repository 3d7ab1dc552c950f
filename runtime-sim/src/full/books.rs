//! The books: what every node gained must be what its people's deals come to (I5 to I7, I9), when nothing is open.
//!
//! A node's gain beyond its own deals is what it earned as a mediator: never below zero, and all of it together is what
//! all buyers were told that they pay in fees. Who charged what on which hop is the ledger's question. Not looked at in
//! runs in which somebody left, ended a friendship, reset a channel or keeps a friend disabled over whom something is
//! open: there deals do not explain all balances.

use std::collections::BTreeMap;

use offset_funder_sm::node::Node;
use offset_protocol::money::Currency;

use super::Run;
use crate::case::{Operation, Role, Setting};
use crate::check::{Invariant, Violation};
use crate::host::HostId;
use crate::people::{DealId, Stage};

type Books = BTreeMap<(u32, Currency), i128>;

impl Run<'_> {
    pub(super) fn check_books(&self) -> Result<(), Violation> {
        let mut expected = Books::new();
        let mut fees: BTreeMap<Currency, i128> = BTreeMap::new();
        for (&deal, &(buyer, seller)) in &self.deals {
            if self.core.contains(&buyer) && self.core.contains(&seller) {
                self.book(deal, (buyer, seller), &mut expected, &mut fees)?;
            }
        }
        let open = self.deals.keys().any(|deal| self.stage(*deal) == Some(Stage::Open));
        if !open && self.is_explained_by_deals() { self.compare(&expected, &fees) } else { Ok(()) }
    }

    fn is_explained_by_deals(&self) -> bool {
        if !self.injector.forgetful().is_empty() {
            return false;
        }
        let removed = self
            .case
            .operations
            .iter()
            .any(|timed| matches!(timed.what, Operation::Configure { setting: Setting::Remove { .. }, .. }));
        let whole = (0..self.case.nodes.len() as u32).filter(|&node| self.case.is_present(Role::Node(node)));
        let reset = self
            .core_hosts()
            .into_iter()
            .filter_map(|host| self.world.machine::<Node>(host))
            .any(|node| node.money().channels().any(|channel| channel.marks().epoch > 0));
        !removed && !reset && whole.count() == self.core.len()
    }

    fn book(
        &self,
        deal: DealId,
        (buyer, seller): (u32, u32),
        expected: &mut Books,
        fees: &mut BTreeMap<Currency, i128>,
    ) -> Result<(), Violation> {
        let person = self.people[buyer as usize].0.borrow();
        let bought = person.deals().purchases().find(|(id, _)| *id == deal).map(|(_, purchase)| purchase.clone());
        let other = self.people[seller as usize].0.borrow();
        let sold = other.deals().sales().find(|(id, _)| *id == deal).map(|(_, sale)| sale.stage.clone());
        match (bought.as_ref().map(|purchase| (&purchase.stage, &purchase.order)), &sold) {
            (Some((Stage::Paid { fees: paid }, order)), Some(Stage::Paid { .. })) => {
                let signed = |amount: u128| i128::try_from(amount).unwrap_or(i128::MAX);
                *expected.entry((buyer, order.currency)).or_default() -= signed(order.amount) + signed(*paid);
                *expected.entry((seller, order.currency)).or_default() += signed(order.amount);
                *fees.entry(order.currency).or_default() += signed(*paid);
                Ok(())
            }
            (Some((Stage::Failed(_), _)), Some(Stage::Failed(_)) | None) | (None, None) => Ok(()),
            // What is open still is so because of somebody who has left: everything else would not have come to rest.
            (Some((Stage::Open, _)), _) | (_, Some(Stage::Open)) => Ok(()),
            // A buyer whose friendship ended under a committed payment cannot know what became of it.
            (Some((Stage::Failed(_), _)), Some(Stage::Paid { .. } | Stage::PaidInPart { .. }))
            | (Some((Stage::Paid { .. }, _)), Some(Stage::PaidInPart { .. }))
                if !self.is_explained_by_deals() =>
            {
                Ok(())
            }
            // Nor can anybody whose node, or a node on the way, forgot what it had said.
            _ if !self.injector.forgetful().is_empty() => Ok(()),
            (bought, sold) => {
                let what = format!("{deal:?}: the buyer says {bought:?}, the seller says {sold:?}");
                Err(self.violation(Invariant::Receipts, None, what))
            }
        }
    }

    fn compare(&self, expected: &Books, fees: &BTreeMap<Currency, i128>) -> Result<(), Violation> {
        let mut earned: BTreeMap<Currency, i128> = BTreeMap::new();
        for &node in &self.core {
            let host = self.case.host(Role::Node(node));
            for (currency, has) in self.balances(host) {
                let gain = has - expected.get(&(node, currency)).copied().unwrap_or(0);
                *earned.entry(currency).or_default() += gain;
                if gain < 0 {
                    let what = format!("node {node} has {has} {currency}, {gain} more than its own deals come to");
                    return Err(self.violation(Invariant::Shadow, Some(host), what));
                }
            }
        }
        for (currency, gain) in earned {
            let told = fees.get(&currency).copied().unwrap_or(0);
            if gain != told {
                let what = format!("mediators earned {gain} {currency}, buyers were told {told}");
                return Err(self.violation(Invariant::Shadow, None, what));
            }
        }
        Ok(())
    }

    fn balances(&self, host: HostId) -> BTreeMap<Currency, i128> {
        let mut balances = BTreeMap::new();
        let Some(node) = self.world.machine::<Node>(host) else { return balances };
        for report in node.money().channels().flat_map(|channel| channel.currencies()) {
            *balances.entry(report.currency).or_default() += report.balance;
        }
        balances
    }
}
