//! Being paid: invoices, the requests that arrive for them, commits and collecting.
//!
//! | what comes | effect |
//! |---|---|
//! | `AddInvoice` | requests for it are answered from now on |
//! | a request | joins the offer of its buyer's lock; is answered, the one that completes the amount as complete |
//! | a commit, by hand or in band | if the offer is whole: every part is collected, other offers are cancelled; if not, it is cancelled |
//! | `Withdraw`, or a part lost with its channel | the part leaves the offer; an offer that was complete ends with it |
//! | `CancelInvoice`, or the time when the invoice expires | every part is cancelled |
//!
//! Invariants:
//! 1. A commit is checked before anything is stored, so a bogus one changes nothing.
//! 2. Nothing is collected unless the parts that are open here add up to the invoice's amount.
//! 3. Of one offer at most one response is complete: once it was given, no part can join, and if a part leaves then, all do,
//!    and nothing comes under its lock any more: a mediator of two parts could else put one of its own in the place of
//!    its buyer's, and have the other paid for. So one invoice gives at most one receipt, to whoever paid all of it.
//! 4. A commit is `Done` only for the buyer whose offer was collected: two buyers of one invoice never both hear it.
//! 5. An invoice is `Paid` only when every part's collect stands in a log.

use std::collections::BTreeSet;

use offset_protocol::app::{Answer, Event, MAX_LISTED, Outcome, Refusal};
use offset_protocol::bytes::{CommandId, HashedLock, InvoiceId, Nonce, PlainLock, PublicKey, RequestId, Signature};
use offset_protocol::codec::{List, Text};
use offset_protocol::friend::Operation;
use offset_protocol::limits::MAX_AMOUNT;
use offset_protocol::machine::WallTime;
use offset_protocol::money::Currency;
use offset_protocol::payment::{CancelReason, Collect, Commit, Description, Invoice, Request, Response, ResponseTerms};
use offset_protocol::{mutant, sometimes};

use super::Funder;
use super::invoice::{InvoicePhase, InvoiceRecord, Offer, OfferPart};
use super::records::{self, Source, Target, Transit, kind};
/// Invoices that a node remembers. Chosen freely; about 400 bytes each.
pub const MAX_INVOICES: usize = 200_000;

impl Funder {
    /// `AddInvoice`.
    pub(super) fn add_invoice(
        &mut self,
        (app, command): (PublicKey, CommandId),
        invoice: Invoice,
        expires_at: Option<WallTime>,
    ) -> Outcome {
        if invoice.amount == 0 || invoice.amount > MAX_AMOUNT {
            return Outcome::Refused(Refusal::BadAmount);
        }
        if let Some(known) = self.invoices.get(&invoice.invoice_id) {
            // The same command again, after a lost reply: the reply of the first.
            let same = known.command == command && known.app == app && known.invoice == invoice;
            return if same {
                Outcome::Done(Answer::Invoice(invoice))
            } else {
                Outcome::Refused(Refusal::InvoiceIdTaken)
            };
        }
        if expires_at.is_some_and(|expires_at| self.wall > expires_at) {
            return Outcome::Refused(Refusal::Expired);
        }
        if self.invoices.len() >= MAX_INVOICES {
            return Outcome::Refused(Refusal::LimitReached(MAX_INVOICES as u32));
        }
        let id = invoice.invoice_id;
        let record = InvoiceRecord {
            invoice: invoice.clone(),
            expires_at,
            app,
            command,
            phase: InvoicePhase::Open,
            offers: List::new(),
            committed: None,
        };
        if let Some(at) = expires_at {
            self.expiring.get_or_insert_default().insert((at, id));
        }
        self.invoices.insert(id, record);
        self.save_invoice(&id);
        Outcome::Done(Answer::Invoice(invoice))
    }

    /// Builds the invoice of an `AddInvoice` command.
    pub(super) fn new_invoice(
        &self,
        invoice_id: InvoiceId,
        currency: Currency,
        amount: u128,
        description: Description,
    ) -> Invoice {
        Invoice { invoice_id, currency, seller: self.us, amount, description }
    }

    /// A request that ends here.
    pub(super) fn on_request_for_us(&mut self, friend: PublicKey, currency: Currency, request: Request) {
        match self.take_part(friend, currency, &request) {
            Ok(response) => {
                let to = Target::Invoice(request.invoice_id);
                let transit =
                    Transit { currency, from: Source::Friend(friend), to, committed: false, withdrawn: false };
                self.put_transit(request.request_id, transit);
                self.save_invoice(&request.invoice_id);
                self.answer(friend, currency, Operation::Response(response));
            }
            Err(reason) => self.refuse_request(friend, currency, request.request_id, reason),
        }
    }

    fn take_part(
        &mut self,
        friend: PublicKey,
        currency: Currency,
        request: &Request,
    ) -> Result<Response, CancelReason> {
        let now = self.wall;
        let record = self.invoices.get_mut(&request.invoice_id).ok_or(CancelReason::UnknownInvoice)?;
        if record.invoice.currency != currency {
            return Err(CancelReason::UnknownInvoice);
        }
        if record.phase != InvoicePhase::Open && !mutant!(InvoicePaidTwice) {
            sometimes!("seller: a request comes for an invoice that has ended", true);
            return Err(CancelReason::Seller);
        }
        if record.expires_at.is_some_and(|expires_at| now > expires_at) {
            return Err(CancelReason::Expired);
        }
        sometimes!("seller: a mediator took less than it was offered", request.left_fees > 0);
        let amount = record.invoice.amount;
        if request.total_dest_payment != amount || request.dest_payment == 0 || request.dest_payment > amount {
            return Err(CancelReason::Amount);
        }
        if let Some(reason) = record.refusal(request) {
            return Err(reason);
        }
        let lock = request.src_hashed_lock;
        for part in record.make_place(request) {
            self.end_part(currency, &part, CancelReason::Busy);
        }
        let record = self.invoices.get_mut(&request.invoice_id).ok_or(CancelReason::UnknownInvoice)?;
        if record.offer_mut(&lock).is_none() {
            let offer = Offer { src_hashed_lock: lock, parts: List::new() };
            sometimes!("seller: an invoice has two offers", !record.offers.is_empty());
            record.offers.push(offer).map_err(|_| CancelReason::Busy)?;
        }
        let offer = record.offer_mut(&lock).ok_or(CancelReason::Busy)?;
        let sum = offer.sum().saturating_add(request.dest_payment);
        let dest_plain_lock = PlainLock(self.rng.bytes());
        let part = OfferPart {
            request_id: request.request_id,
            friend,
            dest_payment: request.dest_payment,
            dest_plain_lock: dest_plain_lock.clone(),
            is_complete: sum == amount || mutant!(EveryPartComplete),
        };
        offer.parts.push(part).map_err(|_| CancelReason::Busy)?;
        Ok(self.sign_response(currency, request, &dest_plain_lock, sum == amount || mutant!(EveryPartComplete)))
    }

    fn sign_response(
        &mut self,
        currency: Currency,
        request: &Request,
        dest_plain_lock: &PlainLock,
        is_complete: bool,
    ) -> Response {
        let mut response = Response {
            request_id: request.request_id,
            dest_hashed_lock: dest_plain_lock.hashed(),
            is_complete,
            nonce: Nonce(self.rng.bytes()),
            signature: Signature([0; Signature::SIZE]),
        };
        response.signature = self.signer.sign(&ResponseTerms::new(request, &response, currency).hash());
        response
    }

    /// `CommitInvoice`: the buyer's commit came by hand.
    pub(super) fn commit_invoice(&mut self, commit: &Commit) -> Outcome {
        let Some(record) = self.invoices.get(&commit.invoice_id) else {
            return Outcome::Refused(Refusal::UnknownInvoice);
        };
        if let Err(bad) = commit.verify(&record.invoice, &*self.signer) {
            let why = Text::new(&bad.to_string()).unwrap_or_default();
            return Outcome::Refused(Refusal::BadCommit(why));
        }
        let lock = commit.src_plain_lock.hashed();
        let offer = record.offers.iter().find(|offer| offer.src_hashed_lock == lock);
        if record.phase != InvoicePhase::Open && record.committed != Some(lock) {
            sometimes!("seller: another buyer commits too late", true);
            // Another buyer's commit: that one has not paid, whoever else has.
            return Outcome::Refused(Refusal::InvoiceEnded);
        }
        match record.phase {
            InvoicePhase::Open => {}
            // The same commit again, after a lost reply.
            InvoicePhase::Collecting { .. } | InvoicePhase::Paid => {
                sometimes!("seller: the same commit comes again", true);
                return Outcome::Done(Answer::Done);
            }
            InvoicePhase::PaidInPart { collected } => {
                let amount = record.invoice.amount;
                return Outcome::Refused(Refusal::PartMissing { offered: collected, amount });
            }
            InvoicePhase::Cancelled => return Outcome::Refused(Refusal::InvoiceEnded),
        }
        let amount = record.invoice.amount;
        let offered = offer.map_or(0, Offer::sum);
        let answered = |offer: &Offer| {
            offer.parts.iter().any(|part| part.is_complete && part.dest_plain_lock.hashed() == commit.dest_hashed_lock)
        };
        sometimes!("seller: a commit comes for an offer that lost a part", offered != amount);
        if offered != amount || !offer.is_some_and(answered) {
            self.end_offer(commit.invoice_id, &lock);
            return Outcome::Refused(Refusal::PartMissing { offered, amount });
        }
        self.collect_offer(commit.invoice_id, &commit.src_plain_lock);
        Outcome::Done(Answer::Done)
    }

    /// The buyer's commit came in band, for a request that ends here; the channel has checked the lock.
    pub(super) fn on_commit_for_us(&mut self, invoice_id: InvoiceId, src_plain_lock: &PlainLock) {
        let Some(record) = self.invoices.get(&invoice_id) else { return };
        let lock = src_plain_lock.hashed();
        let Some(offer) = record.offers.iter().find(|offer| offer.src_hashed_lock == lock) else { return };
        let is_whole = offer.is_complete() && offer.sum() == record.invoice.amount;
        let is_open = record.phase == InvoicePhase::Open || mutant!(InvoicePaidTwice);
        sometimes!("seller: an in-band commit comes too late", !is_open);
        match (is_open, is_whole) {
            (true, true) => self.collect_offer(invoice_id, src_plain_lock),
            (true, false) => self.end_offer(invoice_id, &lock),
            (false, _) => {}
        }
    }

    /// Cancels what is open under a lock whose buyer has committed, but not to this. A buyer commits when everything was
    /// answered; what is less than that is never withdrawn, and never made whole.
    fn end_offer(&mut self, invoice_id: InvoiceId, lock: &HashedLock) {
        let Some(record) = self.invoices.get_mut(&invoice_id) else { return };
        let currency = record.invoice.currency;
        let parts = record.end_offer(lock);
        sometimes!("seller: a commit comes for less than the whole", !parts.is_empty());
        self.save_invoice(&invoice_id);
        for part in parts {
            self.end_part(currency, &part, CancelReason::Removed);
        }
    }

    /// Collects every part of the offer under this lock; cancels all other offers.
    fn collect_offer(&mut self, invoice_id: InvoiceId, src_plain_lock: &PlainLock) {
        let lock = src_plain_lock.hashed();
        let Some(record) = self.invoices.get_mut(&invoice_id) else { return };
        let currency = record.invoice.currency;
        sometimes!("seller: the offers of other buyers are cancelled", record.offers.len() > 1);
        record.phase = InvoicePhase::Collecting { collected: 0, lost: false };
        record.committed = Some(lock);
        let (kept, others): (Vec<_>, Vec<_>) =
            std::mem::take(&mut record.offers).into_iter().partition(|offer| offer.src_hashed_lock == lock);
        let parts: Vec<OfferPart> = kept.iter().flat_map(|offer| offer.parts.iter().cloned()).collect();
        record.offers = List::truncated(kept);
        self.save_invoice(&invoice_id);
        for part in parts {
            let collect = Collect {
                request_id: part.request_id,
                src_plain_lock: src_plain_lock.clone(),
                dest_plain_lock: part.dest_plain_lock.clone(),
            };
            self.answer(part.friend, currency, Operation::Collect(collect));
        }
        for part in others.into_iter().flat_map(|offer| offer.parts) {
            self.end_part(currency, &part, CancelReason::Seller);
        }
    }

    /// Cancels what is offered for invoices that have expired; whether there was anything.
    pub(super) fn expire_offers(&mut self) -> bool {
        let mut any = false;
        let wall = self.wall;
        while let Some((_, id)) = self.expiring.as_mut().and_then(|all| pop_before(all, wall)) {
            let Some(record) = self.invoices.get_mut(&id).filter(|record| record.expiry().is_some()) else { continue };
            let currency = record.invoice.currency;
            let parts = record.end_offers();
            sometimes!("seller: an invoice expires with something offered", !parts.is_empty());
            any |= !parts.is_empty();
            self.save_invoice(&id);
            for part in parts {
                self.end_part(currency, &part, CancelReason::Expired);
            }
        }
        any
    }

    fn end_part(&mut self, currency: Currency, part: &OfferPart, reason: CancelReason) {
        self.remove_transit(&part.request_id);
        self.refuse_request(part.friend, currency, part.request_id, reason);
    }

    /// Our collect of a part stands in the log: its credits are ours.
    pub(super) fn on_part_collected(&mut self, invoice_id: InvoiceId, request_id: &RequestId) {
        self.settle_part(invoice_id, request_id, Settled::Collected);
    }

    /// A part is gone with its channel, or is withdrawn by the buyer.
    pub(super) fn on_part_gone(&mut self, invoice_id: InvoiceId, request_id: &RequestId) {
        let Some(record) = self.invoices.get_mut(&invoice_id) else { return };
        match record.phase {
            InvoicePhase::Open => self.shrink_offer(invoice_id, request_id),
            InvoicePhase::Collecting { .. } => self.settle_part(invoice_id, request_id, Settled::Lost),
            InvoicePhase::Paid | InvoicePhase::Cancelled | InvoicePhase::PaidInPart { .. } => {}
        }
    }

    /// Takes a part out of its offer; an offer that was complete ends with it.
    fn shrink_offer(&mut self, invoice_id: InvoiceId, request_id: &RequestId) {
        let Some(record) = self.invoices.get_mut(&invoice_id) else { return };
        let currency = record.invoice.currency;
        let holds = |offer: &Offer| offer.parts.iter().any(|part| part.request_id == *request_id);
        let Some(offer) = record.offers.iter_mut().find(|offer| holds(offer)) else { return };
        sometimes!("seller: an offer that was complete loses a part", offer.is_complete() && offer.parts.len() > 1);
        let lock = offer.src_hashed_lock;
        let orphans = if offer.is_complete() {
            record.end_offer(&lock)
        } else {
            offer.parts.retain(|part| part.request_id != *request_id);
            let is_empty = offer.parts.is_empty();
            record.offers.retain(|offer| !is_empty || offer.src_hashed_lock != lock);
            Vec::new()
        };
        self.save_invoice(&invoice_id);
        for part in orphans.into_iter().filter(|part| part.request_id != *request_id) {
            self.end_part(currency, &part, CancelReason::Removed);
        }
    }

    /// One part of an offer that is being collected has ended.
    fn settle_part(&mut self, invoice_id: InvoiceId, request_id: &RequestId, settled: Settled) {
        let Some(record) = self.invoices.get_mut(&invoice_id) else { return };
        let InvoicePhase::Collecting { mut collected, mut lost } = record.phase else { return };
        for offer in record.offers.iter_mut() {
            if let Some(part) = offer.parts.iter().find(|part| part.request_id == *request_id) {
                match settled {
                    Settled::Collected => collected = collected.saturating_add(part.dest_payment),
                    Settled::Lost => {
                        sometimes!("seller: a part is lost as it is collected", true);
                        lost = true;
                    }
                }
            }
            offer.parts.retain(|part| part.request_id != *request_id);
        }
        record.offers.retain(|offer| !offer.parts.is_empty());
        record.phase = match (record.offers.is_empty(), lost) {
            (false, _) => InvoicePhase::Collecting { collected, lost },
            (true, false) => InvoicePhase::Paid,
            (true, true) => InvoicePhase::PaidInPart { collected },
        };
        self.remove_transit(request_id);
        self.save_invoice(&invoice_id);
        self.tell_if_ended(&invoice_id);
    }

    fn tell_if_ended(&mut self, invoice_id: &InvoiceId) {
        let Some(record) = self.invoices.get(invoice_id) else { return };
        if record.has_ended() {
            let (app, command, report) = (record.app, record.command, record.report());
            self.keep_event(app, command, Event::InvoiceEnded(report));
        }
    }

    /// `CancelInvoice`.
    pub(super) fn cancel_invoice(&mut self, invoice_id: &InvoiceId) -> Outcome {
        let Some(record) = self.invoices.get_mut(invoice_id) else {
            return Outcome::Refused(Refusal::UnknownInvoice);
        };
        match record.phase {
            InvoicePhase::Open => {}
            InvoicePhase::Cancelled => return Outcome::Done(Answer::Done),
            InvoicePhase::Collecting { .. } | InvoicePhase::Paid | InvoicePhase::PaidInPart { .. } => {
                return Outcome::Refused(Refusal::InvoiceEnded);
            }
        }
        let currency = record.invoice.currency;
        record.phase = InvoicePhase::Cancelled;
        let offers = std::mem::take(&mut record.offers);
        self.save_invoice(invoice_id);
        for part in offers.into_iter().flat_map(|offer| offer.parts) {
            self.end_part(currency, &part, CancelReason::Seller);
        }
        self.tell_if_ended(invoice_id);
        Outcome::Done(Answer::Done)
    }

    /// The buyer asks to cancel a request that ends here.
    pub(super) fn on_withdraw_for_us(&mut self, invoice_id: InvoiceId, request_id: &RequestId) {
        let Some(record) = self.invoices.get(&invoice_id) else { return };
        sometimes!("seller: a withdrawal meets a collect", record.phase != InvoicePhase::Open);
        if record.phase != InvoicePhase::Open || mutant!(SellerIgnoresWithdraw) {
            return;
        }
        let part =
            record.offers.iter().flat_map(|offer| offer.parts.iter()).find(|part| part.request_id == *request_id);
        let Some(part) = part.cloned() else { return };
        let currency = record.invoice.currency;
        self.shrink_offer(invoice_id, request_id);
        self.end_part(currency, &part, CancelReason::Withdrawn);
    }

    /// `InvoiceStatus`.
    pub(super) fn invoice_status(&self, invoice_id: &InvoiceId) -> Outcome {
        match self.invoices.get(invoice_id) {
            Some(record) => Outcome::Done(Answer::InvoiceStatus(record.report())),
            None => Outcome::Refused(Refusal::UnknownInvoice),
        }
    }

    /// `ForgetInvoice`.
    pub(super) fn forget_invoice(&mut self, invoice_id: &InvoiceId) -> Outcome {
        match self.invoices.get(invoice_id) {
            None => Outcome::Refused(Refusal::UnknownInvoice),
            Some(record) if !record.has_ended() => Outcome::Refused(Refusal::NotEnded),
            Some(record) => {
                if let (Some(at), Some(all)) = (record.expires_at, &mut self.expiring) {
                    all.remove(&(at, *invoice_id));
                }
                self.invoices.remove(invoice_id);
                self.changes.remove(records::key(kind::INVOICE, &invoice_id.0));
                Outcome::Done(Answer::Done)
            }
        }
    }

    /// `ListInvoices`.
    pub(super) fn list_invoices(&self, after: Option<InvoiceId>) -> Outcome {
        let list = self.invoices.after(after).take(MAX_LISTED).map(|(_, record)| record.report());
        Outcome::Done(Answer::Invoices(List::truncated(list)))
    }

    fn save_invoice(&mut self, invoice_id: &InvoiceId) {
        if let Some(record) = self.invoices.get(invoice_id) {
            self.changes.put(records::key(kind::INVOICE, &invoice_id.0), record);
        }
    }
}

fn pop_before(all: &mut BTreeSet<(WallTime, InvoiceId)>, wall: WallTime) -> Option<(WallTime, InvoiceId)> {
    if all.first()?.0 < wall { all.pop_first() } else { None }
}

/// How a part that was to be collected ended.
#[derive(Clone, Copy, Debug)]
enum Settled {
    Collected,
    Lost,
}
