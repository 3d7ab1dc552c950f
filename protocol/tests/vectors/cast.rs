//! Who and what the vectors are about. The private key of a member of the cast is 32 times its number.

use offset_protocol::bytes::{
    CommandId, Hash, HashedLock, InvoiceId, Nonce, PaymentId, PlainLock, PublicKey, RequestId, ResetToken, Signature,
    TickHash,
};
use offset_protocol::codec::{List, Text};
use offset_protocol::identity::{Identity, Signer};
use offset_protocol::money::{Currency, Rate};
use offset_protocol::net::Address;
use offset_protocol::payment::{Commit, Invoice, Receipt, Request, Response, ResponseTerms, response_hash};
use offset_protocol::relay::RelayAddress;

pub(crate) const ALICE: u8 = 1;
pub(crate) const BOB: u8 = 2;
pub(crate) const CAROL: u8 = 3;
pub(crate) const RELAY: u8 = 4;
pub(crate) const SERVER: u8 = 5;
pub(crate) const APP: u8 = 6;

pub(crate) const REQUEST: RequestId = RequestId([0x11; 16]);
pub(crate) const INVOICE: InvoiceId = InvoiceId([0x22; 16]);
pub(crate) const PAYMENT: PaymentId = PaymentId([0x33; 16]);
pub(crate) const NONCE: Nonce = Nonce([0x44; 16]);
pub(crate) const COMMAND: CommandId = CommandId([0x55; 16]);
pub(crate) const TOKEN: ResetToken = ResetToken([0x66; 32]);
pub(crate) const TICK: TickHash = TickHash([0x77; 32]);

pub(crate) fn identity(number: u8) -> Identity {
    Identity::from_private_key(&[number; 32])
}

pub(crate) fn key(number: u8) -> PublicKey {
    identity(number).public_key()
}

pub(crate) fn sign(number: u8, hash: &Hash) -> Signature {
    identity(number).sign(hash)
}

pub(crate) fn usd() -> Currency {
    "USD".parse().unwrap()
}

pub(crate) fn text<const MAX: usize>(text: &str) -> Text<MAX> {
    Text::new(text).unwrap()
}

pub(crate) fn list<T, const MAX: usize>(elements: impl IntoIterator<Item = T>) -> List<T, MAX> {
    List::try_from(elements.into_iter().collect::<Vec<_>>()).unwrap_or_else(|error| panic!("{error}"))
}

pub(crate) fn address(text: &str) -> Address {
    text.parse().unwrap()
}

pub(crate) fn relay() -> RelayAddress {
    RelayAddress { public_key: key(RELAY), address: address("relay.example:1337") }
}

/// 1 % and 1 unit: 11 of 1,000.
pub(crate) fn rate() -> Rate {
    Rate { mul: 42_949_673, add: 1 }
}

pub(crate) fn src_plain_lock() -> PlainLock {
    PlainLock([0x51; 32])
}

pub(crate) fn dest_plain_lock() -> PlainLock {
    PlainLock([0x52; 32])
}

pub(crate) fn src_hashed_lock() -> HashedLock {
    src_plain_lock().hashed()
}

/// Alice owes Carol 1,000 and pays through Bob, who takes `rate().fee(1000)`.
pub(crate) fn invoice() -> Invoice {
    Invoice { invoice_id: INVOICE, currency: usd(), seller: key(CAROL), amount: 1_000, description: text("two apples") }
}

/// As Alice sends it to Bob.
pub(crate) fn request() -> Request {
    Request {
        request_id: REQUEST,
        src_hashed_lock: src_hashed_lock(),
        route: list([key(CAROL)]),
        dest_payment: 1_000,
        total_dest_payment: 1_000,
        invoice_id: INVOICE,
        left_fees: rate().fee(1_000).unwrap(),
    }
}

/// Carol's answer, which is the same at every hop.
pub(crate) fn response() -> Response {
    let mut response = Response {
        request_id: REQUEST,
        dest_hashed_lock: dest_plain_lock().hashed(),
        is_complete: true,
        nonce: NONCE,
        signature: Signature([0; 64]),
    };
    response.signature = sign(CAROL, &terms(&response).hash());
    response
}

pub(crate) fn terms(response: &Response) -> ResponseTerms {
    ResponseTerms::new(&request(), response, usd())
}

pub(crate) fn commit() -> Commit {
    let response = response();
    Commit {
        response_hash: response_hash(&REQUEST, &NONCE),
        src_plain_lock: src_plain_lock(),
        dest_hashed_lock: response.dest_hashed_lock,
        dest_payment: 1_000,
        total_dest_payment: 1_000,
        invoice_id: INVOICE,
        currency: usd(),
        signature: response.signature,
    }
}

pub(crate) fn receipt() -> Receipt {
    Receipt {
        response_hash: response_hash(&REQUEST, &NONCE),
        invoice_id: INVOICE,
        currency: usd(),
        src_plain_lock: src_plain_lock(),
        dest_plain_lock: dest_plain_lock(),
        is_complete: true,
        dest_payment: 1_000,
        total_dest_payment: 1_000,
        signature: response().signature,
    }
}
