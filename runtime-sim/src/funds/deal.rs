//! What is known of one deal, what its names say, and what all of them come to.

use offset_protocol::bytes::{InvoiceId, PaymentId};
use offset_protocol::machine::{Duration, Instant};
use offset_protocol::payment::Commit;

use super::event::Slot;
use crate::case::Commit as HowToCommit;

/// What the case wants bought.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order {
    pub(super) deal: u64,
    pub(super) buyer: u32,
    pub(super) seller: u32,
    /// Its place in the list of the case.
    pub(super) currency: u32,
    pub(super) amount: u128,
    pub(super) max_fee: u128,
    pub(super) commit: HowToCommit,
    pub(super) tries: u32,
    pub(super) patience: Duration,
}

/// How a deal stands at its buyer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bought {
    /// Waits for the offer.
    Asked,
    /// The node was told to pay.
    Paying,
    /// The node takes care of it.
    Begun,
    /// The commit was fetched, or is being fetched.
    Committed,
    /// Waits for the next try.
    Pausing,
    Paid,
    Failed,
}

/// How it stands at its seller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sold {
    /// Has not heard of it.
    Unasked,
    /// The node was told to make an invoice.
    Invoicing,
    Open,
    /// The node was told to collect.
    Collecting,
    /// The node was told to cancel.
    Cancelling,
    Paid,
    Cancelled,
}

/// A deal that is open on one side at least.
#[derive(Debug)]
pub(super) struct Deal {
    pub(super) order: Order,
    pub(super) ordered_at: Instant,
    pub(super) attempt: u32,
    pub(super) hops: u32,
    pub(super) bought: Bought,
    pub(super) sold: Sold,
    pub(super) commit: Option<Box<Commit>>,
}

/// What every node's deals come to, and what mediators must have earned.
#[derive(Debug)]
pub(super) struct Books {
    currencies: usize,
    /// By node, then currency.
    gained: Vec<i128>,
    /// By currency.
    pub(super) fees: Vec<i128>,
}

impl Books {
    pub(super) fn new(nodes: usize, currencies: usize) -> Self {
        Books { currencies, gained: vec![0; nodes * currencies], fees: vec![0; currencies] }
    }

    /// What the deals of a node come to in a currency.
    pub(super) fn of(&self, node: u32, currency: usize) -> i128 {
        self.gained[node as usize * self.currencies + currency]
    }

    pub(super) fn book(&mut self, node: u32, currency: u32, gain: i128) {
        self.gained[node as usize * self.currencies + currency as usize] += gain;
    }
}

/// What a command was about: stands in its id, as in those of payments and invoices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum About {
    Invoice,
    Pay,
    Release,
    Collect,
    /// Whatever comes of it, nobody listens.
    Nothing,
}

impl About {
    const fn tag(self) -> u8 {
        match self {
            About::Invoice => 1,
            About::Pay => 2,
            About::Release => 3,
            About::Collect => 4,
            About::Nothing => 0,
        }
    }

    const fn from_tag(tag: u8) -> Self {
        match tag {
            1 => About::Invoice,
            2 => About::Pay,
            3 => About::Release,
            4 => About::Collect,
            _ => About::Nothing,
        }
    }
}

/// Place, attempt (24 bits), tag, deal.
pub(super) fn id(place: Slot, attempt: u32, about: About, deal: u64) -> [u8; 16] {
    let mut id = [0; 16];
    id[..4].copy_from_slice(&place.0.to_le_bytes());
    id[4..8].copy_from_slice(&(attempt << 8 | u32::from(about.tag())).to_le_bytes());
    id[8..].copy_from_slice(&deal.to_le_bytes());
    id
}

pub(super) fn read_id(id: &[u8; 16]) -> (Slot, u32, About, u64) {
    let [a, b, c, d, tag, e, f, g, rest @ ..] = *id;
    let attempt = u32::from_le_bytes([e, f, g, 0]);
    (Slot(u32::from_le_bytes([a, b, c, d])), attempt, About::from_tag(tag), u64::from_le_bytes(rest))
}

pub(super) fn signed(amount: u128) -> i128 {
    i128::try_from(amount).unwrap_or(i128::MAX)
}

impl Deal {
    pub(super) fn invoice_id(&self, place: Slot) -> InvoiceId {
        InvoiceId(id(place, 0, About::Invoice, self.order.deal))
    }

    pub(super) fn payment_id(&self, place: Slot) -> PaymentId {
        PaymentId(id(place, self.attempt, About::Pay, self.order.deal))
    }

    pub(super) fn has_ended(&self) -> bool {
        let bought = matches!(self.bought, Bought::Paid | Bought::Failed);
        bought && matches!(self.sold, Sold::Unasked | Sold::Paid | Sold::Cancelled)
    }
}
