//! A payment: what buyer, mediators and seller say to each other, and what each of them can prove afterwards.
//!
//! ```text
//! Invoice   <=========== out of band            B buyer, E seller, C and D mediators
//! Request   ----> ----> ---->                   freezes credits hop by hop
//! Response  <---- <---- <----                   signed by the seller: the request arrived
//! Commit    ===========> by file or in band     reveals the buyer's secret: the payment is now certain
//! Collect   <---- <---- <----                   reveals both secrets: frozen credits move, hop by hop
//! Receipt   kept by the buyer                   anyone can check it
//! ```
//!
//! What the seller signs is [`ResponseTerms`]; response, commit and receipt all carry that one signature.

use crate::bytes::{Hash, HashedLock, InvoiceId, Nonce, PlainLock, PublicKey, RequestId, Signature};
use crate::codec::{List, Text};
use crate::context;
use crate::identity::Verifier;
use crate::limits::{MAX_AMOUNT, MAX_DESCRIPTION_LEN, MAX_ROUTE_LEN};
use crate::money::Currency;
use crate::{wire_enum, wire_struct};

/// The hops of a route. In a request: only those that are still ahead, the seller last.
pub type Route = List<PublicKey, MAX_ROUTE_LEN>;

/// What an invoice is for, in the seller's words.
pub type Description = Text<MAX_DESCRIPTION_LEN>;

wire_struct! {
    /// A seller's demand, handed to the buyer out of band.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Invoice {
        /// Names the invoice.
        pub invoice_id: InvoiceId,
        /// What it must be paid in.
        pub currency: Currency,
        /// Who must be paid.
        pub seller: PublicKey,
        /// How much, in units of the currency.
        pub amount: u128,
        /// What for; may be empty.
        pub description: Description,
    }

    /// Asks every hop to freeze `dest_payment + left_fees` and to pass it on.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Request {
        /// The same at every hop.
        pub request_id: RequestId,
        /// The buyer's lock; the same for all parts of one payment.
        pub src_hashed_lock: HashedLock,
        /// The hops after the receiver of this message; empty when it is the seller.
        pub route: Route,
        /// What the seller gets by this part.
        pub dest_payment: u128,
        /// What the seller gets by all parts together.
        pub total_dest_payment: u128,
        /// The invoice that is paid.
        pub invoice_id: InvoiceId,
        /// What is left for the mediators ahead.
        pub left_fees: u128,
    }

    /// The seller's answer to a request.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Response {
        /// The request that is answered.
        pub request_id: RequestId,
        /// The seller's lock for this part.
        pub dest_hashed_lock: HashedLock,
        /// Whether the parts answered so far, this one included, add up to the total.
        pub is_complete: bool,
        /// Hashed with the request id into the response hash.
        pub nonce: Nonce,
        /// The seller's, over [`ResponseTerms`].
        pub signature: Signature,
    }

    /// Ends a request that will not be paid. Travels to the buyer.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Cancel {
        /// The request that ends.
        pub request_id: RequestId,
        /// Why.
        pub reason: CancelReason,
        /// How many hops this message has travelled: 0 from the node that refused. The buyer learns which edge failed.
        pub hops: u8,
    }

    /// The buyer's commit, in band. Travels to the seller; a mediator that sees it lacks the seller's secret.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct CommitRequest {
        /// One request of the payment.
        pub request_id: RequestId,
        /// Opens the buyer's lock.
        pub src_plain_lock: PlainLock,
    }

    /// The buyer asks the seller to cancel. Never sent after a commit has left the buyer.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Withdraw {
        /// The request that the buyer no longer wants.
        pub request_id: RequestId,
    }

    /// Both locks opened: the frozen credits of this request move. Travels to the buyer.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Collect {
        /// The request that is paid.
        pub request_id: RequestId,
        /// Opens the buyer's lock.
        pub src_plain_lock: PlainLock,
        /// Opens the seller's lock.
        pub dest_plain_lock: PlainLock,
    }

    /// What the seller signs with a response. It never travels; both ends build it from the request and the response.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct ResponseTerms {
        /// See [`response_hash`].
        pub response_hash: Hash,
        /// The buyer's lock.
        pub src_hashed_lock: HashedLock,
        /// The seller's lock.
        pub dest_hashed_lock: HashedLock,
        /// Whether the payment is complete with this part.
        pub is_complete: bool,
        /// What the seller gets by this part.
        pub dest_payment: u128,
        /// What the seller gets by all parts.
        pub total_dest_payment: u128,
        /// The invoice.
        pub invoice_id: InvoiceId,
        /// The currency.
        pub currency: Currency,
    }

    /// The buyer's word that the payment is certain, handed to the seller out of band.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Commit {
        /// Of the complete response.
        pub response_hash: Hash,
        /// Opens the buyer's lock.
        pub src_plain_lock: PlainLock,
        /// The seller's lock of the complete response.
        pub dest_hashed_lock: HashedLock,
        /// Of the part that completed the payment.
        pub dest_payment: u128,
        /// Of the whole payment.
        pub total_dest_payment: u128,
        /// The invoice that is paid.
        pub invoice_id: InvoiceId,
        /// The currency it is paid in.
        pub currency: Currency,
        /// The seller's own signature of the complete response.
        pub signature: Signature,
    }

    /// Proof that an invoice was paid in full; anyone can check it against the invoice.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Receipt {
        /// Of the complete response.
        pub response_hash: Hash,
        /// The invoice that was paid.
        pub invoice_id: InvoiceId,
        /// The currency it was paid in.
        pub currency: Currency,
        /// Opens the buyer's lock.
        pub src_plain_lock: PlainLock,
        /// Opens the seller's lock: only a collect reveals it.
        pub dest_plain_lock: PlainLock,
        /// Must be true in a valid receipt.
        pub is_complete: bool,
        /// Of the part that completed the payment.
        pub dest_payment: u128,
        /// Of the whole payment.
        pub total_dest_payment: u128,
        /// The seller's, over [`ResponseTerms`].
        pub signature: Signature,
    }
}

wire_enum! {
    /// Why a request ended without being paid.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub enum CancelReason {
        /// The next hop of the route is no friend of the node that cancels.
        1 = NoRoute,
        /// The link to the next hop is down.
        2 = Offline,
        /// The next hop's limit, or the limit set for the hop before, leaves too little room.
        3 = Capacity,
        /// The fees left are less than this node charges.
        4 = Fee,
        /// The currency is not open between this node and a neighbour on the route.
        5 = Closed,
        /// The seller knows no such invoice, or not in this currency.
        6 = UnknownInvoice,
        /// The amounts do not fit the invoice.
        7 = Amount,
        /// The invoice is too old.
        8 = Expired,
        /// Too many requests are open or waiting.
        9 = Busy,
        /// The buyer asked for it.
        10 = Withdrawn,
        /// The friend ahead was removed, or the channel to it was reset or became inconsistent.
        11 = Removed,
        /// The seller does not want to be paid any more.
        12 = Seller,
    }
}

impl std::fmt::Display for CancelReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            CancelReason::NoRoute => "a node on the route does not know the next one",
            CancelReason::Offline => "a node on the route is offline",
            CancelReason::Capacity => "an edge of the route has too little capacity left",
            CancelReason::Fee => "the fees were less than a node on the route charges",
            CancelReason::Closed => "the currency is closed on an edge of the route",
            CancelReason::UnknownInvoice => "the seller knows no such invoice in this currency",
            CancelReason::Amount => "the amounts do not fit the invoice",
            CancelReason::Expired => "the invoice has expired",
            CancelReason::Busy => "a node on the route is busy",
            CancelReason::Withdrawn => "the buyer withdrew it",
            CancelReason::Removed => "a friendship on the route was removed or reset",
            CancelReason::Seller => "the seller cancelled",
        })
    }
}

/// Names a response so that nobody who has not seen its nonce can guess it.
pub fn response_hash(request_id: &RequestId, nonce: &Nonce) -> Hash {
    context::RESPONSE.hasher().fixed(&request_id.0).fixed(&nonce.0).finish()
}

impl ResponseTerms {
    /// What the terms are of `response`, given as an answer to `request`.
    pub fn new(request: &Request, response: &Response, currency: Currency) -> Self {
        ResponseTerms {
            response_hash: response_hash(&request.request_id, &response.nonce),
            src_hashed_lock: request.src_hashed_lock,
            dest_hashed_lock: response.dest_hashed_lock,
            is_complete: response.is_complete,
            dest_payment: request.dest_payment,
            total_dest_payment: request.total_dest_payment,
            invoice_id: request.invoice_id,
            currency,
        }
    }

    /// The hash that the seller signs.
    pub fn hash(&self) -> Hash {
        context::RESPONSE_SIGNATURE
            .hasher()
            .fixed(&self.response_hash.0)
            .fixed(&self.src_hashed_lock.0)
            .fixed(&self.dest_hashed_lock.0)
            .u8(u8::from(self.is_complete))
            .u128(self.dest_payment)
            .u128(self.total_dest_payment)
            .fixed(&self.invoice_id.0)
            .bytes(self.currency.as_str().as_bytes())
            .finish()
    }
}

/// Why a commit or a receipt proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadProof {
    /// It is about another invoice.
    #[error("it belongs to another invoice")]
    OtherInvoice,
    /// The currency is not the invoice's.
    #[error("the currency is not the invoice's")]
    OtherCurrency,
    /// The total is not the invoice's amount.
    #[error("the total is not the invoice's amount")]
    OtherAmount,
    /// The part that it speaks of is larger than the total.
    #[error("its part is larger than its total")]
    PartTooLarge,
    /// It was made from a response that did not complete the payment.
    #[error("it speaks of a part, not of the whole payment")]
    NotComplete,
    /// The seller did not sign these values.
    #[error("the seller's signature does not match")]
    BadSignature,
}

fn check_against(invoice: &Invoice, terms: &ResponseTerms) -> Result<(), BadProof> {
    if terms.invoice_id != invoice.invoice_id {
        return Err(BadProof::OtherInvoice);
    }
    if terms.currency != invoice.currency {
        return Err(BadProof::OtherCurrency);
    }
    if terms.total_dest_payment != invoice.amount || invoice.amount > MAX_AMOUNT {
        return Err(BadProof::OtherAmount);
    }
    if terms.dest_payment > terms.total_dest_payment {
        return Err(BadProof::PartTooLarge);
    }
    if !terms.is_complete {
        return Err(BadProof::NotComplete);
    }
    Ok(())
}

impl Commit {
    /// The terms that the seller must have signed.
    pub fn terms(&self) -> ResponseTerms {
        ResponseTerms {
            response_hash: self.response_hash,
            src_hashed_lock: self.src_plain_lock.hashed(),
            dest_hashed_lock: self.dest_hashed_lock,
            is_complete: true,
            dest_payment: self.dest_payment,
            total_dest_payment: self.total_dest_payment,
            invoice_id: self.invoice_id,
            currency: self.currency,
        }
    }

    /// Checks that the seller of `invoice` signed the complete response that this commit releases.
    ///
    /// # Errors
    /// [`BadProof`] names the first thing that does not fit.
    pub fn verify(&self, invoice: &Invoice, verifier: &dyn Verifier) -> Result<(), BadProof> {
        let terms = self.terms();
        check_against(invoice, &terms)?;
        verifier.verify(&invoice.seller, &terms.hash(), &self.signature).map_err(|_| BadProof::BadSignature)
    }
}

impl Receipt {
    /// The terms that the seller must have signed.
    pub fn terms(&self) -> ResponseTerms {
        ResponseTerms {
            response_hash: self.response_hash,
            src_hashed_lock: self.src_plain_lock.hashed(),
            dest_hashed_lock: self.dest_plain_lock.hashed(),
            is_complete: self.is_complete,
            dest_payment: self.dest_payment,
            total_dest_payment: self.total_dest_payment,
            invoice_id: self.invoice_id,
            currency: self.currency,
        }
    }

    /// Checks that `invoice` was paid in full.
    ///
    /// # Errors
    /// [`BadProof`] names the first thing that does not fit.
    pub fn verify(&self, invoice: &Invoice, verifier: &dyn Verifier) -> Result<(), BadProof> {
        let terms = self.terms();
        check_against(invoice, &terms)?;
        verifier.verify(&invoice.seller, &terms.hash(), &self.signature).map_err(|_| BadProof::BadSignature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{Ed25519, Identity, Signer};

    fn invoice(seller: &Identity) -> Invoice {
        Invoice {
            invoice_id: InvoiceId([3; 16]),
            currency: "USD".parse().unwrap(),
            seller: seller.public_key(),
            amount: 100,
            description: Description::default(),
        }
    }

    fn receipt(seller: &Identity, is_complete: bool) -> Receipt {
        let mut receipt = Receipt {
            response_hash: response_hash(&RequestId([1; 16]), &Nonce([2; 16])),
            invoice_id: InvoiceId([3; 16]),
            currency: "USD".parse().unwrap(),
            src_plain_lock: PlainLock([4; 32]),
            dest_plain_lock: PlainLock([5; 32]),
            is_complete,
            dest_payment: 40,
            total_dest_payment: 100,
            signature: Signature([0; 64]),
        };
        receipt.signature = seller.sign(&receipt.terms().hash());
        receipt
    }

    #[test]
    fn a_receipt_proves_its_invoice_and_no_other() {
        let seller = Identity::from_private_key(&[1; 32]);
        let (invoice, receipt) = (invoice(&seller), receipt(&seller, true));
        assert_eq!(receipt.verify(&invoice, &Ed25519), Ok(()));
        let other = |change: fn(&mut Invoice)| {
            let mut other = invoice.clone();
            change(&mut other);
            receipt.verify(&other, &Ed25519)
        };
        assert_eq!(other(|i| i.invoice_id = InvoiceId([9; 16])), Err(BadProof::OtherInvoice));
        assert_eq!(other(|i| i.currency = "EUR".parse().unwrap()), Err(BadProof::OtherCurrency));
        assert_eq!(other(|i| i.amount = 99), Err(BadProof::OtherAmount));
        assert_eq!(other(|i| i.seller = PublicKey([8; 32])), Err(BadProof::BadSignature));
    }

    #[test]
    fn every_field_of_a_receipt_is_signed() {
        let seller = Identity::from_private_key(&[1; 32]);
        let invoice = invoice(&seller);
        let changes: [fn(&mut Receipt); 4] = [
            |r| r.response_hash = Hash([0; 32]),
            |r| r.src_plain_lock = PlainLock([0; 32]),
            |r| r.dest_plain_lock = PlainLock([0; 32]),
            |r| r.dest_payment = 41,
        ];
        for change in changes {
            let mut receipt = receipt(&seller, true);
            change(&mut receipt);
            assert_eq!(receipt.verify(&invoice, &Ed25519), Err(BadProof::BadSignature));
        }
    }

    #[test]
    fn a_part_of_a_payment_is_no_receipt() {
        let seller = Identity::from_private_key(&[1; 32]);
        assert_eq!(receipt(&seller, false).verify(&invoice(&seller), &Ed25519), Err(BadProof::NotComplete));
    }
}
