//! Receipts (I9): what buyers and sellers were told is what their nodes' batches came to.
//!
//! | told | must hold |
//! |---|---|
//! | the seller: paid | its node collected the invoice's amount, no less and no more |
//! | the seller: paid in part | its node collected what it was told |
//! | the seller: nothing yet | its node did not collect all of it: a part may wait for somebody who is gone |
//! | the seller: cancelled | its node collected nothing |
//! | the buyer: paid, with a receipt | the seller issued the invoice, the receipt proves it, the buyer's node paid amount and fees, and that invoice has no other receipt |
//! | the buyer: failed before the commit | the buyer's node paid nothing |
//!
//! Where a friendship was lost, or a cheater stands next to buyer or seller, sums may be too small to tell: then only too
//! much is noticed. Deals of a node whose disk was lost or put back are not looked at. What a buyer pays whose payment was committed and fell apart is not looked at here, but in
//! [`super::losses`].

use std::collections::BTreeMap;

use offset_protocol::bytes::InvoiceId;

use super::Invariant;
use super::ledger::{Fault, InvoiceBook, Ledger, NodeId};
use crate::people::deals::Deals;
use crate::people::{DealId, Purchase, Stage};

/// What the seller was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sold {
    /// Nothing yet.
    Open,
    /// That it is cancelled.
    Not,
    /// All of it is paid.
    Whole,
    /// A part was lost.
    Part {
        /// What was collected.
        collected: u128,
    },
}

/// What the buyer was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bought {
    /// Nothing yet.
    Open,
    /// Paid; the receipt proves it.
    Whole {
        /// What mediators got.
        fees: u128,
    },
    /// Failed before anything was committed.
    Failed,
    /// Committed, and fell apart.
    FellApart,
}

/// What two people know of a deal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DealFacts {
    /// The deal.
    pub deal: DealId,
    /// The invoice that the seller issued; `None`: none.
    pub invoice: Option<InvoiceId>,
    /// Its amount.
    pub amount: u128,
    /// Who buys.
    pub buyer: NodeId,
    /// Who sells.
    pub seller: NodeId,
    /// What the seller was told.
    pub sold: Sold,
    /// What the buyer was told.
    pub bought: Bought,
}

impl DealFacts {
    /// What both sides of a deal know. The buyer's app has verified the receipt of what it calls paid.
    pub fn of(
        deal: DealId,
        (buyer, buyers): (NodeId, &Deals),
        (seller, sellers): (NodeId, &Deals),
    ) -> Option<DealFacts> {
        let purchase = buyers.purchase(deal);
        let sale = sellers.sales().find(|(id, _)| *id == deal).map(|(_, sale)| sale);
        let sold = match sale.map(|sale| &sale.stage) {
            Some(Stage::Paid { .. }) => Sold::Whole,
            Some(Stage::PaidInPart { collected }) => Sold::Part { collected: *collected },
            Some(Stage::Open) => Sold::Open,
            Some(Stage::Failed(_)) | None => Sold::Not,
        };
        let amount = sale.map(|sale| sale.amount).or(purchase.map(|purchase| purchase.order.amount))?;
        let invoice = sale.map(|sale| sale.invoice_id);
        Some(DealFacts { deal, invoice, amount, buyer, seller, sold, bought: purchase.map_or(Bought::Open, bought) })
    }
}

fn bought(purchase: &Purchase) -> Bought {
    match &purchase.stage {
        Stage::Open => Bought::Open,
        Stage::Failed(_) if purchase.fell_apart > 0 => Bought::FellApart,
        Stage::Paid { fees } => Bought::Whole { fees: *fees },
        Stage::Failed(_) => Bought::Failed,
        Stage::PaidInPart { .. } => Bought::FellApart,
    }
}

/// Compares what people were told with what the ledger has seen. At any time when no deal is open.
///
/// # Errors
/// [`Invariant::Receipts`] with the first deal that does not fit.
pub fn check(ledger: &Ledger, deals: impl IntoIterator<Item = DealFacts>) -> Result<(), Fault> {
    let mut receipts: BTreeMap<InvoiceId, DealId> = BTreeMap::new();
    for facts in deals {
        let wrong = |what: String| Err((Invariant::Receipts, format!("{:?}: {what}", facts.deal)));
        let Some(invoice) = facts.invoice else {
            if matches!(facts.bought, Bought::Whole { .. }) {
                return wrong("a receipt for an invoice that nobody issued".to_owned());
            }
            continue;
        };
        if matches!(facts.bought, Bought::Whole { .. })
            && let Some(other) = receipts.insert(invoice, facts.deal)
        {
            return wrong(format!("a second receipt for the invoice of {other:?}"));
        }
        if [facts.buyer, facts.seller].into_iter().any(|node| ledger.may_have_forgotten(node)) {
            continue;
        }
        let mut book = ledger.invoice(&invoice);
        book.incomplete |= ledger.has_foreign_friend(facts.seller);
        if let Err(what) = check_deal(&facts, &book) {
            return wrong(format!("{what}; {facts:?}, {book:?}"));
        }
    }
    Ok(())
}

fn check_deal(facts: &DealFacts, book: &InvoiceBook) -> Result<(), &'static str> {
    let fits = |is: u128, should: u128| is == should || (book.incomplete && is < should);
    let is_told = match facts.sold {
        Sold::Open => book.received < facts.amount,
        Sold::Not => book.received == 0,
        Sold::Whole => fits(book.received, facts.amount),
        Sold::Part { collected } => fits(book.received, collected),
    };
    if !is_told {
        return Err("the seller was told something else than it was paid");
    }
    let whole = matches!(facts.sold, Sold::Whole | Sold::Part { .. });
    match facts.bought {
        Bought::Whole { .. } if !whole => Err("a receipt for what was not paid"),
        Bought::Whole { fees } if !fits(book.spent, facts.amount.saturating_add(fees)) => {
            Err("the buyer was told something else than it paid")
        }
        Bought::Failed if book.spent > 0 => Err("a buyer that did not commit has paid"),
        Bought::Whole { .. } | Bought::Failed | Bought::Open | Bought::FellApart => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAID: InvoiceBook = InvoiceBook { received: 100, spent: 107, incomplete: false };
    const NOTHING: InvoiceBook = InvoiceBook { received: 0, spent: 0, incomplete: false };

    fn facts(sold: Sold, bought: Bought) -> DealFacts {
        let invoice = Some(InvoiceId([1; InvoiceId::SIZE]));
        DealFacts { deal: DealId(1), invoice, amount: 100, buyer: NodeId(1), seller: NodeId(0), sold, bought }
    }

    #[test]
    fn deals_that_are_what_people_were_told_are_believed() {
        let whole = facts(Sold::Whole, Bought::Whole { fees: 7 });
        assert_eq!(check_deal(&whole, &PAID), Ok(()));
        assert_eq!(check_deal(&whole, &InvoiceBook { spent: 50, incomplete: true, ..PAID }), Ok(()));
        assert_eq!(check_deal(&facts(Sold::Not, Bought::Failed), &NOTHING), Ok(()));
        let part = facts(Sold::Part { collected: 40 }, Bought::FellApart);
        assert_eq!(check_deal(&part, &InvoiceBook { received: 40, spent: 43, incomplete: false }), Ok(()));
        let waits = facts(Sold::Open, Bought::Open);
        assert_eq!(check_deal(&waits, &InvoiceBook { received: 40, spent: 43, incomplete: false }), Ok(()));
    }

    #[test]
    fn lies_about_deals_are_noticed() {
        let lies = [
            (facts(Sold::Whole, Bought::Whole { fees: 7 }), InvoiceBook { received: 99, ..PAID }),
            (facts(Sold::Whole, Bought::Whole { fees: 7 }), InvoiceBook { received: 101, incomplete: true, ..PAID }),
            (facts(Sold::Whole, Bought::Whole { fees: 8 }), PAID),
            (facts(Sold::Not, Bought::Whole { fees: 7 }), NOTHING),
            (facts(Sold::Not, Bought::Failed), PAID),
            (facts(Sold::Open, Bought::Open), PAID),
            (facts(Sold::Part { collected: 40 }, Bought::FellApart), PAID),
            (facts(Sold::Not, Bought::Failed), InvoiceBook { spent: 1, ..NOTHING }),
        ];
        for (facts, book) in lies {
            assert!(check_deal(&facts, &book).is_err(), "{facts:?} {book:?}");
        }
    }

    #[test]
    fn two_receipts_for_one_invoice_and_one_for_none_are_noticed() {
        let ledger = Ledger::new();
        let unpaid = DealFacts { invoice: None, ..facts(Sold::Not, Bought::Whole { fees: 0 }) };
        assert!(matches!(check(&ledger, [unpaid]), Err((Invariant::Receipts, _))));
        let mut nothing = facts(Sold::Whole, Bought::Whole { fees: 0 });
        nothing.amount = 0;
        assert_eq!(check(&ledger, [nothing]), Ok(()));
        assert!(matches!(check(&ledger, [nothing, nothing]), Err((Invariant::Receipts, _))));
    }
}
