//! The files of one payment: invoice, payment, commit, receipt.

use serde::{Deserialize, Serialize};

use super::Kind;
use super::json::{decimal, document};
use crate::bytes::{Hash, HashedLock, InvoiceId, PaymentId, PlainLock, PublicKey, Signature};
use crate::limits::MAX_AMOUNT;
use crate::money::Currency;
use crate::payment::{Commit, Description, Invoice, Receipt};

/// A payment that a buyer began: enough to ask how it stands, to go on, and never to begin it twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payment {
    /// Names it at the buyer's node.
    pub payment_id: PaymentId,
    /// What is paid.
    pub invoice: Invoice,
}

/// An invoice inside a payment file.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct InvoicePart {
    invoice_id: InvoiceId,
    currency: Currency,
    seller: PublicKey,
    #[serde(with = "decimal")]
    amount: u128,
    description: Description,
}

/// An invoice as an object.
mod invoice_part {
    use super::{Deserialize, Invoice, InvoicePart, Serialize};

    pub(super) fn serialize<S: serde::Serializer>(invoice: &Invoice, serializer: S) -> Result<S::Ok, S::Error> {
        let Invoice { invoice_id, currency, seller, amount, description } = invoice.clone();
        InvoicePart { invoice_id, currency, seller, amount, description }.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Invoice, D::Error> {
        let InvoicePart { invoice_id, currency, seller, amount, description } = InvoicePart::deserialize(deserializer)?;
        Ok(Invoice { invoice_id, currency, seller, amount, description })
    }
}

fn check_amount(amount: u128) -> Result<(), String> {
    if amount == 0 || amount > MAX_AMOUNT {
        return Err("the amount must be more than 0 and at most 2^100".to_owned());
    }
    Ok(())
}

fn check_parts(part: u128, total: u128) -> Result<(), String> {
    check_amount(total)?;
    if part > total {
        return Err("its part is larger than its total".to_owned());
    }
    Ok(())
}

document! { Invoice as InvoiceJson, Kind::Invoice, check |invoice| check_amount(invoice.amount), {
    invoice_id: InvoiceId,
    currency: Currency,
    #[serde(with = "decimal")]
    amount: u128,
    seller: PublicKey,
    #[serde(default)]
    description: Description,
}}

document! { Payment as PaymentJson, Kind::Payment, check |payment| check_amount(payment.invoice.amount), {
    payment_id: PaymentId,
    #[serde(with = "invoice_part")]
    invoice: Invoice,
}}

document! { Commit as CommitJson, Kind::Commit, check |commit| check_parts(commit.dest_payment, commit.total_dest_payment), {
    invoice_id: InvoiceId,
    currency: Currency,
    #[serde(with = "decimal")]
    dest_payment: u128,
    #[serde(with = "decimal")]
    total_dest_payment: u128,
    response_hash: Hash,
    src_plain_lock: PlainLock,
    dest_hashed_lock: HashedLock,
    signature: Signature,
}}

document! { Receipt as ReceiptJson, Kind::Receipt, check |receipt| check_parts(receipt.dest_payment, receipt.total_dest_payment), {
    invoice_id: InvoiceId,
    currency: Currency,
    #[serde(with = "decimal")]
    dest_payment: u128,
    #[serde(with = "decimal")]
    total_dest_payment: u128,
    is_complete: bool,
    response_hash: Hash,
    src_plain_lock: PlainLock,
    dest_plain_lock: PlainLock,
    signature: Signature,
}}
