//! One payment: Alice pays Carol 1,000 through Bob, who charges 11.

use offset_protocol::codec::encode;
use offset_protocol::identity::Ed25519;
use offset_protocol::payment::{
    BadProof, Cancel, CancelReason, Collect, Commit, CommitRequest, Receipt, Request, ResponseTerms, Route, Withdraw,
};

use super::book::{Page, Vector, text, unhex};
use super::cast::{
    CAROL, REQUEST, commit, dest_plain_lock, invoice, key, list, receipt, request, response, sign, src_plain_lock,
    terms,
};

pub(crate) fn page() -> Page {
    let mut vectors = messages();
    vectors.extend(cancels());
    vectors.extend(proofs());
    let about = "SPEC 10. Alice pays Carol's invoice through Bob; the request as it travels over each hop, the answer, both \
                 kinds of commit, the collect, the receipt; and proofs that prove nothing.";
    Page { name: "payment.json", about, vectors }
}

fn messages() -> Vec<Vector> {
    let to_bob = request();
    let to_carol = Request { route: Route::new(), left_fees: 0, ..request() };
    let in_band = CommitRequest { request_id: REQUEST, src_plain_lock: src_plain_lock() };
    let collect = Collect { request_id: REQUEST, src_plain_lock: src_plain_lock(), dest_plain_lock: dest_plain_lock() };
    let response = response();
    let hash = terms(&response).hash();
    vec![
        Vector::wire("invoice", "Invoice", invoice()),
        Vector::wire("request, Alice to Bob", "Request", to_bob),
        Vector::wire("request, Bob to Carol", "Request", to_carol),
        Vector::wire("response", "Response", response.clone()).signed(key(CAROL), hash, response.signature),
        Vector::wire("terms of the response; they never travel", "ResponseTerms", terms(&response)),
        Vector::wire("commit, in band", "CommitRequest", in_band),
        Vector::wire("commit, by hand", "Commit", commit()),
        Vector::wire("collect", "Collect", collect),
        Vector::wire("withdraw", "Withdraw", Withdraw { request_id: REQUEST }),
        Vector::wire("receipt", "Receipt", receipt()),
    ]
}

fn cancels() -> Vec<Vector> {
    let reasons = [
        CancelReason::NoRoute,
        CancelReason::Offline,
        CancelReason::Capacity,
        CancelReason::Fee,
        CancelReason::Closed,
        CancelReason::UnknownInvoice,
        CancelReason::Amount,
        CancelReason::Expired,
        CancelReason::Busy,
        CancelReason::Withdrawn,
        CancelReason::Removed,
        CancelReason::Seller,
    ];
    let cancel = |reason| Cancel { request_id: REQUEST, reason, hops: reason as u8 };
    reasons.into_iter().map(|reason| Vector::wire(format!("cancel: {reason}"), "Cancel", cancel(reason))).collect()
}

/// What `stverify` says of receipts, and a seller of commits.
fn proofs() -> Vec<Vector> {
    let part = signed(Receipt { is_complete: false, ..receipt() });
    let mut other_lock = receipt();
    other_lock.dest_plain_lock.0[0] ^= 1;
    let small = signed(Receipt { total_dest_payment: 999, dest_payment: 999, ..receipt() });
    let large = signed(Receipt { dest_payment: 1_001, ..receipt() });
    let euro = signed(Receipt { currency: "EUR".parse().unwrap(), ..receipt() });
    let mut other_commit = commit();
    other_commit.src_plain_lock.0[0] ^= 1;
    vec![
        of_receipt("a receipt that proves the invoice", receipt(), Ok(())),
        of_receipt("a receipt of a part", part, Err(BadProof::NotComplete)),
        of_receipt("a receipt with another lock", other_lock, Err(BadProof::BadSignature)),
        of_receipt("a receipt of another amount", small, Err(BadProof::OtherAmount)),
        of_receipt("a receipt of too large a part", large, Err(BadProof::PartTooLarge)),
        of_receipt("a receipt in another currency", euro, Err(BadProof::OtherCurrency)),
        of_commit("a commit that the seller takes", commit(), Ok(())),
        of_commit("a commit with another lock", other_commit, Err(BadProof::BadSignature)),
    ]
}

/// With the seller's signature over what it states.
fn signed(mut receipt: Receipt) -> Receipt {
    let terms: ResponseTerms = receipt.terms();
    receipt.signature = sign(CAROL, &terms.hash());
    receipt
}

fn verdict(result: Result<(), BadProof>) -> String {
    result.map_or_else(|bad| bad.to_string(), |()| "valid".to_owned())
}

fn of_receipt(name: &str, receipt: Receipt, expected: Result<(), BadProof>) -> Vector {
    let vector = Vector::new(name).hex("invoice", encode(&invoice())).hex("receipt", encode(&receipt));
    vector.with("verdict", verdict(expected)).checked(|found| {
        let invoice = offset_protocol::codec::decode(&unhex(text(found, "invoice")), 1_000).unwrap();
        let receipt: Receipt = offset_protocol::codec::decode(&unhex(text(found, "receipt")), 1_000).unwrap();
        same(text(found, "verdict"), &verdict(receipt.verify(&invoice, &Ed25519)))
    })
}

fn of_commit(name: &str, commit: Commit, expected: Result<(), BadProof>) -> Vector {
    let vector = Vector::new(name).hex("invoice", encode(&invoice())).hex("commit", encode(&commit));
    vector.with("verdict", verdict(expected)).checked(|found| {
        let invoice = offset_protocol::codec::decode(&unhex(text(found, "invoice")), 1_000).unwrap();
        let commit: Commit = offset_protocol::codec::decode(&unhex(text(found, "commit")), 1_000).unwrap();
        same(text(found, "verdict"), &verdict(commit.verify(&invoice, &Ed25519)))
    })
}

fn same(expected: &str, found: &str) -> Result<(), String> {
    if expected == found { Ok(()) } else { Err(format!("the verdict is '{found}'")) }
}

#[test]
fn the_route_of_a_request_gets_shorter() {
    assert_eq!(request().route, list([key(CAROL)]));
}
