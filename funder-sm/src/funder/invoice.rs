//! An invoice of ours and what is offered for it: which parts may join, which give way, what ends for good.
//!
//! | change | what decides |
//! |---|---|
//! | a part comes | [`InvoiceRecord::refusal`], then [`InvoiceRecord::make_place`] for it |
//! | an offer ends | [`InvoiceRecord::end_offer`]: if it was of parts, its lock is remembered, and nothing joins it any more |
//!
//! Not here: who is answered, and what is written ([`super::seller`]).

use offset_protocol::app::{InvoiceReport, InvoiceState};
use offset_protocol::bytes::{CommandId, HashedLock, PlainLock, PublicKey, RequestId};
use offset_protocol::codec::List;
use offset_protocol::limits::MAX_SPLIT;
use offset_protocol::machine::WallTime;
use offset_protocol::payment::{CancelReason, Invoice, Request};
use offset_protocol::{sometimes, wire_enum, wire_struct};

/// Offers that one invoice holds at once: several buyers, or one who tries again. Chosen freely.
pub const MAX_OFFERS: usize = 16;
/// Of these, so many may be locks whose offer has ended. Chosen freely: a buyer's own tries make one or two.
pub const MAX_ENDED: usize = 8;
/// What all offers for one invoice may freeze, in its amounts: a buyer that tries again, and another one.
pub const MAX_OFFERED: u128 = 3;

wire_struct! {
    /// An invoice and everything that was offered for it.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct InvoiceRecord {
        /// As it was handed out.
        pub invoice: Invoice,
        /// Not answered any more after this.
        pub expires_at: Option<WallTime>,
        /// The app that made it.
        pub app: PublicKey,
        /// The command that made it.
        pub command: CommandId,
        /// How far it is.
        pub phase: InvoicePhase,
        /// By the buyer's lock.
        pub offers: List<Offer, MAX_OFFERS>,
        /// The buyer's lock whose commit ended the wait.
        pub committed: Option<HashedLock>,
    }

    /// Requests under one lock of a buyer.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Offer {
        /// The buyer's lock.
        pub src_hashed_lock: HashedLock,
        /// The requests that are open here. None: the offer was complete and has ended, and nothing more comes under its lock.
        pub parts: List<OfferPart, MAX_SPLIT>,
    }

    /// One request for an invoice, answered.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct OfferPart {
        /// The request.
        pub request_id: RequestId,
        /// Who brought it.
        pub friend: PublicKey,
        /// What it brings.
        pub dest_payment: u128,
        /// Opens this part's lock.
        pub dest_plain_lock: PlainLock,
        /// Whether its response said that the payment is complete.
        pub is_complete: bool,
    }
}

wire_enum! {
    /// How far an invoice is.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum InvoicePhase {
        /// Waiting to be paid.
        1 = Open,
        /// Committed: the one offer that is left is being collected.
        2 = Collecting {
            /// What parts brought that are no more in the offer.
            collected: u128,
            /// Whether a part was lost before it could be collected.
            lost: bool,
        },
        /// Ended: paid in full.
        3 = Paid,
        /// Ended: cancelled by the seller.
        4 = Cancelled,
        /// Ended: a part was lost.
        5 = PaidInPart {
            /// What the others brought.
            collected: u128,
        },
    }
}

impl Offer {
    pub(super) fn sum(&self) -> u128 {
        // Parts were let in only while the sum stayed within the invoice's amount.
        self.parts.iter().map(|part| part.dest_payment).fold(0, u128::saturating_add)
    }

    pub(super) fn is_complete(&self) -> bool {
        self.parts.iter().any(|part| part.is_complete)
    }

    pub(super) fn has_ended(&self) -> bool {
        self.parts.is_empty()
    }

    fn gives_way_to(&self, request: &Request) -> bool {
        let is_another = self.src_hashed_lock != request.src_hashed_lock;
        is_another && !self.is_complete() && !self.has_ended() && self.sum() < request.dest_payment
    }
}

impl InvoiceRecord {
    /// What the report says.
    pub(super) fn report(&self) -> InvoiceReport {
        let state = match self.phase {
            InvoicePhase::Open => InvoiceState::Open { offered: self.offers.iter().map(Offer::sum).max().unwrap_or(0) },
            InvoicePhase::Collecting { collected, .. } => InvoiceState::Collecting { collected },
            InvoicePhase::Paid => InvoiceState::Paid,
            InvoicePhase::Cancelled => InvoiceState::Cancelled,
            InvoicePhase::PaidInPart { collected } => InvoiceState::PaidInPart { collected },
        };
        InvoiceReport { invoice: self.invoice.clone(), expires_at: self.expires_at, state }
    }

    /// When what is offered for it comes to nothing.
    pub(super) fn expiry(&self) -> Option<WallTime> {
        self.expires_at.filter(|_| self.phase == InvoicePhase::Open)
    }

    pub(super) const fn has_ended(&self) -> bool {
        match self.phase {
            InvoicePhase::Open | InvoicePhase::Collecting { .. } => false,
            InvoicePhase::Paid | InvoicePhase::Cancelled | InvoicePhase::PaidInPart { .. } => true,
        }
    }

    /// Lets the smallest offers go for one under a new lock that brings more, if there is no place left; gives their parts. So
    /// whoever wants to keep a buyer out must freeze more than the buyer. A complete offer stays: its buyer may have
    /// committed.
    pub(super) fn make_place(&mut self, request: &Request) -> Vec<OfferPart> {
        let mut gone = Vec::new();
        while self.is_crowded(request) {
            let smaller = self.offers.iter().filter(|offer| offer.gives_way_to(request));
            let Some(least) = smaller.min_by_key(|offer| offer.sum()).map(|offer| offer.src_hashed_lock) else { break };
            sometimes!("seller: an offer gives way to a larger one", true);
            gone.extend(self.offer_mut(&least).map(|offer| std::mem::take(&mut offer.parts)).into_iter().flatten());
            self.offers.retain(|offer| offer.src_hashed_lock != least);
        }
        gone
    }

    /// Whether a request finds no place.
    fn is_crowded(&self, request: &Request) -> bool {
        let is_new = self.offers.iter().all(|offer| offer.src_hashed_lock != request.src_hashed_lock);
        is_new && self.offers.len() >= MAX_OFFERS || self.is_beyond(request, self.offers.iter())
    }

    /// Whether these offers and a request would freeze too much.
    fn is_beyond<'o>(&self, request: &Request, offers: impl Iterator<Item = &'o Offer>) -> bool {
        let all = offers.map(Offer::sum).fold(request.dest_payment, u128::saturating_add);
        all > self.invoice.amount.saturating_mul(MAX_OFFERED)
    }

    pub(super) fn offer_mut(&mut self, lock: &HashedLock) -> Option<&mut Offer> {
        self.offers.iter_mut().find(|offer| offer.src_hashed_lock == *lock)
    }

    fn ended(&self) -> usize {
        self.offers.iter().filter(|offer| offer.has_ended()).count()
    }

    /// Whether parts may make an offer together. Not any more when so many have ended that not all locks can be remembered.
    fn takes_parts(&self) -> bool {
        self.ended() < MAX_ENDED
    }

    /// Ends the offer under a lock: gives what was open in it. If that was a part of the whole, so for good.
    pub(super) fn end_offer(&mut self, lock: &HashedLock) -> Vec<OfferPart> {
        let (amount, is_room) = (self.invoice.amount, self.takes_parts());
        let Some(offer) = self.offer_mut(lock) else { return Vec::new() };
        let parts = std::mem::take(&mut offer.parts);
        if !is_room || parts.iter().all(|part| part.dest_payment == amount) {
            self.offers.retain(|offer| offer.src_hashed_lock != *lock);
        }
        parts.into_iter().collect()
    }

    /// Ends every offer, in the same way.
    pub(super) fn end_offers(&mut self) -> Vec<OfferPart> {
        let locks: Vec<_> = self.offers.iter().map(|offer| offer.src_hashed_lock).collect();
        locks.iter().flat_map(|lock| self.end_offer(lock)).collect()
    }

    /// Why a part may not join the offer under its lock, or begin one.
    pub(super) fn refusal(&self, request: &Request) -> Option<CancelReason> {
        let amount = self.invoice.amount;
        let offer = self.offers.iter().find(|offer| offer.src_hashed_lock == request.src_hashed_lock);
        let ended = offer.is_some_and(Offer::has_ended);
        sometimes!("seller: a part comes under a lock whose offer has ended", ended);
        if ended || request.dest_payment < amount && !self.takes_parts() {
            return Some(CancelReason::Seller);
        }
        let complete = offer.is_some_and(Offer::is_complete);
        sometimes!("seller: a part comes for an offer that is complete", complete);
        if complete || offer.map_or(0, Offer::sum).saturating_add(request.dest_payment) > amount {
            return Some(CancelReason::Amount);
        }
        let stay = self.offers.iter().filter(|offer| !offer.gives_way_to(request));
        self.is_beyond(request, stay).then_some(CancelReason::Busy)
    }
}
