//! A ledger of our own, driven by nothing but the deals that people call paid (I5–I7, I9, I10).
//!
//! On a tree there is one way from buyer to seller, so what each hop must have gained follows from the topology and from the
//! rates that the scenario set. The nodes' own arithmetic is not used. It holds when nothing is open; until then what is
//! frozen belongs to nobody.

use std::collections::BTreeMap;

use offset_funder_sm::node::Node;
use offset_protocol::machine::Instant;
use offset_protocol::money::{Currency, Rate};

use super::{Invariant, Violation};
use crate::host::HostId;
use crate::people::{DealId, SharedPerson, Stage};
use crate::world::World;

/// One way between two nodes, with everything that is charged on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// Buyer, mediators, seller.
    pub nodes: Vec<HostId>,
    /// What each mediator charges, in order.
    pub rates: Vec<Rate>,
}

/// A deal that was ordered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ordered {
    /// The buyer's person.
    pub buyer: usize,
    /// The seller's person.
    pub seller: usize,
    /// In which currency.
    pub currency: Currency,
    /// How much.
    pub amount: u128,
    /// How it must travel.
    pub way: Way,
}

/// What of the network is not at rest.
///
/// # Errors
/// [`Invariant::Resolution`] names what is open: deals, requests, chores, questions without an answer.
pub fn check_at_rest(world: &World, nodes: &[HostId], people: &[SharedPerson]) -> Result<(), Violation> {
    let stuck = |host, what| Err(Violation { invariant: Invariant::Resolution, at: world.now(), host, what });
    for (n, person) in people.iter().enumerate() {
        let person = person.0.borrow();
        if !person.is_set_up() || person.deals().open() > 0 {
            let open: Vec<_> = person.deals().purchases().filter(|(_, deal)| deal.stage == Stage::Open).collect();
            let unanswered: Vec<_> = person.unanswered().collect();
            let set_up = person.is_set_up();
            let sales = person.deals().sales().filter(|(_, sale)| sale.stage == Stage::Open).count();
            return stuck(
                None,
                format!("person {n}: set up {set_up}, sales {sales}, {open:?}, unanswered {unanswered:?}"),
            );
        }
    }
    for &host in nodes {
        let Some(node) = world.machine::<Node>(host) else {
            return stuck(Some(host), "the node is off".to_owned());
        };
        let funder = node.money();
        if funder.open_transits() > 0 {
            return stuck(Some(host), format!("{} requests are on their way", funder.open_transits()));
        }
        for channel in funder.channels() {
            let open = channel.all_outgoing().count() + channel.all_incoming().count() + channel.all_queued().count();
            if open > 0 {
                return stuck(Some(host), format!("{open} requests and operations with {:?}", channel.friend()));
            }
        }
    }
    Ok(())
}

/// Compares every node's balances with what the paid deals come to. Only at rest.
///
/// # Errors
/// [`Invariant::Receipts`] if seller and buyer disagree, [`Invariant::Shadow`] if a node has another balance.
pub fn check(
    world: &World,
    nodes: &[HostId],
    people: &[SharedPerson],
    deals: &BTreeMap<DealId, Ordered>,
) -> Result<(), Violation> {
    let mut expected: BTreeMap<(HostId, Currency), i128> = BTreeMap::new();
    for (deal, ordered) in deals {
        if let Some(fees) = paid(world.now(), people, *deal, ordered)? {
            book(&mut expected, *deal, ordered, fees, world.now())?;
        }
    }
    for &host in nodes {
        let Some(node) = world.machine::<Node>(host) else { continue };
        let mut found: BTreeMap<Currency, i128> = BTreeMap::new();
        for report in node.money().channels().flat_map(|channel| channel.currencies()) {
            *found.entry(report.currency).or_default() += report.balance;
        }
        let of_host = expected.iter().filter(|((owner, _), _)| *owner == host).map(|((_, currency), _)| *currency);
        let currencies: Vec<_> = found.keys().copied().chain(of_host).collect();
        for currency in currencies {
            let (has, should) =
                (found.get(&currency).copied().unwrap_or(0), expected.get(&(host, currency)).copied().unwrap_or(0));
            if has != should {
                let what = format!("has {has} {currency}, and by the paid deals {should}");
                return Err(Violation { invariant: Invariant::Shadow, at: world.now(), host: Some(host), what });
            }
        }
    }
    Ok(())
}

/// The fees of a deal that was paid; both sides must say so, or neither.
fn paid(at: Instant, people: &[SharedPerson], deal: DealId, ordered: &Ordered) -> Result<Option<u128>, Violation> {
    let (buyer, seller) = (people[ordered.buyer].0.borrow(), people[ordered.seller].0.borrow());
    let bought = buyer.deals().purchases().find(|(id, _)| *id == deal).map(|(_, purchase)| &purchase.stage);
    let sold = seller.deals().sales().find(|(id, _)| *id == deal).map(|(_, sale)| &sale.stage);
    match (bought, sold) {
        (Some(Stage::Paid { fees }), Some(Stage::Paid { .. })) => Ok(Some(*fees)),
        (Some(Stage::Failed(_)), Some(Stage::Failed(_)) | None) | (None, None) => Ok(None),
        (bought, sold) => {
            let what = format!("{deal:?}: the buyer says {bought:?}, the seller says {sold:?}");
            Err(Violation { invariant: Invariant::Receipts, at, host: None, what })
        }
    }
}

fn book(
    expected: &mut BTreeMap<(HostId, Currency), i128>,
    deal: DealId,
    ordered: &Ordered,
    fees: u128,
    at: Instant,
) -> Result<(), Violation> {
    let signed = |amount: u128| i128::try_from(amount).unwrap_or(i128::MAX);
    let charged: Vec<u128> =
        ordered.way.rates.iter().map(|rate| rate.fee(ordered.amount).unwrap_or(u128::MAX)).collect();
    let sum: u128 = charged.iter().sum();
    if sum != fees {
        let what = format!("{deal:?}: the buyer was told {fees} in fees, the rates come to {sum}");
        return Err(Violation { invariant: Invariant::Shadow, at, host: None, what });
    }
    let mut gains = vec![-signed(ordered.amount) - signed(fees)];
    gains.extend(charged.into_iter().map(signed));
    gains.push(signed(ordered.amount));
    for (node, gain) in ordered.way.nodes.iter().zip(gains) {
        *expected.entry((*node, ordered.currency)).or_default() += gain;
    }
    Ok(())
}
