use offset_protocol::bytes::{Hash, InvoiceId, Nonce, PlainLock, Signature};
use offset_protocol::codec::List;
use offset_protocol::identity::BadSignature;

use super::*;

mod guard;

const US: PublicKey = PublicKey([1; 32]);
const FRIEND: PublicKey = PublicKey([2; 32]);
const SELLER: PublicKey = PublicKey([3; 32]);
const OPEN: Grant = Grant { is_open: true, max_debt: 100 };

/// Takes a signature whose first byte is the key's.
struct FirstByte;

impl Verifier for FirstByte {
    fn verify(&self, key: &PublicKey, _: &Hash, signature: &Signature) -> Result<(), BadSignature> {
        if signature.0[0] == key.0[0] { Ok(()) } else { Err(BadSignature) }
    }
}

fn from(grant: Grant, ack: u64) -> Incoming<'static> {
    let currency = "USD".parse().unwrap();
    Incoming { currency, us: &US, friend: &FRIEND, verifier: &FirstByte, grant, ack, crossed: false }
}

fn request(id: u8, amount: u128, fees: u128) -> Request {
    Request {
        request_id: RequestId([id; 16]),
        src_hashed_lock: PlainLock([id; 32]).hashed(),
        route: List::new(),
        dest_payment: amount,
        total_dest_payment: amount,
        invoice_id: InvoiceId([0; 16]),
        left_fees: fees,
    }
}

fn response(id: u8, signer: &PublicKey) -> Response {
    Response {
        request_id: RequestId([id; 16]),
        dest_hashed_lock: PlainLock([id + 100; 32]).hashed(),
        is_complete: true,
        nonce: Nonce([0; 16]),
        signature: Signature([signer.0[0]; 64]),
    }
}

fn collect(id: u8) -> Collect {
    Collect {
        request_id: RequestId([id; 16]),
        src_plain_lock: PlainLock([id; 32]),
        dest_plain_lock: PlainLock([id + 100; 32]),
    }
}

fn cancel(id: u8) -> Operation {
    Operation::Cancel(Cancel { request_id: RequestId([id; 16]), reason: CancelReason::Seller, hops: 0 })
}

fn commit(id: u8) -> CommitRequest {
    CommitRequest { request_id: RequestId([id; 16]), src_plain_lock: PlainLock([id; 32]) }
}

fn withdraw(id: u8) -> Operation {
    Operation::Withdraw(Withdraw { request_id: RequestId([id; 16]) })
}

/// A ledger with request 1 (30 and a fee of 2) sent in batch 1 and answered.
fn answered_outgoing() -> Ledger {
    let mut ledger = Ledger::default();
    ledger.send(1, &Operation::Request(request(1, 30, 2))).unwrap();
    ledger.receive(&from(OPEN, 1), Operation::Response(response(1, &FRIEND))).unwrap();
    ledger
}

/// A ledger with the friend's request 1 (30 and a fee of 2), answered in batch 1.
fn answered_incoming() -> Ledger {
    let mut ledger = Ledger::default();
    ledger.receive(&from(OPEN, 0), Operation::Request(request(1, 30, 2))).unwrap();
    ledger.send(1, &Operation::Response(response(1, &US))).unwrap();
    ledger
}

#[test]
fn a_paid_request_moves_payment_and_fees_one_way() {
    let mut payer = answered_outgoing();
    assert_eq!(*payer.totals(), Totals { balance: 0, out_frozen: 32, in_frozen: 0 });
    payer.receive(&from(OPEN, 1), Operation::Collect(collect(1))).unwrap();
    assert_eq!(*payer.totals(), Totals { balance: -32, out_frozen: 0, in_frozen: 0 });

    let mut payee = answered_incoming();
    assert_eq!(*payee.totals(), Totals { balance: 0, out_frozen: 0, in_frozen: 32 });
    payee.send(2, &Operation::Collect(collect(1))).unwrap();
    assert_eq!(*payee.totals(), Totals { balance: 32, out_frozen: 0, in_frozen: 0 });
}

#[test]
fn a_cancelled_request_moves_nothing() {
    let mut payer = answered_outgoing();
    payer.receive(&from(OPEN, 1), cancel(1)).unwrap();
    assert!(payer.totals().is_zero());
    let mut payee = answered_incoming();
    payee.send(2, &cancel(1)).unwrap();
    assert!(payee.totals().is_zero());
}

#[test]
fn every_received_step_can_be_undone() {
    let steps: [(Ledger, Operation); 7] = [
        (Ledger::default(), Operation::Request(request(9, 10, 0))),
        (Ledger::default(), Operation::Request(request(9, 1_000, 0))),
        (answered_outgoing(), cancel(1)),
        (answered_outgoing(), Operation::Collect(collect(1))),
        (answered_incoming(), Operation::Commit(commit(1))),
        (answered_incoming(), withdraw(1)),
        (
            {
                let mut ledger = Ledger::default();
                ledger.send(1, &Operation::Request(request(1, 5, 0))).unwrap();
                ledger
            },
            Operation::Response(response(1, &FRIEND)),
        ),
    ];
    for (before, operation) in steps {
        let mut ledger = before.clone();
        let step = ledger.receive(&from(OPEN, 1), operation).unwrap();
        assert_ne!(ledger, before);
        let delta = ledger.delta_of(&step);
        assert_eq!(before.totals().after(&delta), Some(*ledger.totals()));
        ledger.undo(step);
        assert_eq!(ledger, before);
    }
}

#[test]
fn a_limit_counts_balance_and_what_is_frozen() {
    let mut ledger = answered_incoming();
    ledger.send(2, &Operation::Collect(collect(1))).unwrap();
    let mut ask = |id, amount| ledger.receive(&from(OPEN, 9), Operation::Request(request(id, amount, 0))).unwrap();
    assert_eq!(ask(2, 69), Step::Refused(RequestId([2; 16]), CancelReason::Capacity));
    // What was refused does not count.
    assert_eq!(ask(3, 68), Step::Requested(RequestId([3; 16])));
    assert_eq!(ask(4, 1), Step::Refused(RequestId([4; 16]), CancelReason::Capacity));
    assert_eq!((ledger.room(100), ledger.room(101), ledger.room(0)), (0, 1, 0));
}

#[test]
fn a_limit_lowered_later_refuses_new_requests_and_leaves_open_ones() {
    let mut ledger = answered_incoming();
    let low = Grant { max_debt: 10, ..OPEN };
    let step = ledger.receive(&from(low, 1), Operation::Request(request(2, 1, 0))).unwrap();
    assert_eq!(step, Step::Refused(RequestId([2; 16]), CancelReason::Capacity));
    ledger.send(2, &Operation::Collect(collect(1))).unwrap();
    assert_eq!(ledger.totals().balance, 32);
}

#[test]
fn a_closed_currency_refuses_requests() {
    let closed = Grant { is_open: false, ..OPEN };
    let step = Ledger::default().receive(&from(closed, 0), Operation::Request(request(1, 1, 0))).unwrap();
    assert_eq!(step, Step::Refused(RequestId([1; 16]), CancelReason::Closed));
}

#[test]
fn a_refused_request_can_only_be_cancelled() {
    let mut ledger = Ledger::default();
    ledger.receive(&from(OPEN, 0), Operation::Request(request(1, 101, 0))).unwrap();
    let answer = Operation::Response(response(1, &US));
    assert_eq!(ledger.send(1, &answer), Err(Unsendable::WrongStage));
    assert_eq!(ledger.send(1, &Operation::Collect(collect(1))), Err(Unsendable::WrongStage));
    ledger.send(1, &cancel(1)).unwrap();
    assert_eq!(ledger, Ledger::default());
}

#[test]
fn too_many_requests_are_refused_and_far_too_many_are_misbehaviour() {
    let mut ledger = Ledger::default();
    let ask = |ledger: &mut Ledger, number: usize| {
        let mut request = request(0, 1, 0);
        request.request_id.0[..8].copy_from_slice(&(number as u64).to_le_bytes());
        ledger.receive(&from(Grant { max_debt: MAX_AMOUNT, ..OPEN }, 0), Operation::Request(request))
    };
    for number in 0..MAX_PENDING {
        assert!(matches!(ask(&mut ledger, number), Ok(Step::Requested(_))));
    }
    for number in MAX_PENDING..MAX_INCOMING {
        assert!(matches!(ask(&mut ledger, number), Ok(Step::Refused(_, CancelReason::Busy))));
    }
    assert_eq!(ask(&mut ledger, MAX_INCOMING), Err(BrokenRule::TooManyOpen));
}

#[test]
fn we_never_open_more_than_a_friend_must_take() {
    let mut ledger = Ledger::default();
    ledger.send(1, &Operation::Request(request(1, MAX_AMOUNT, 0))).unwrap();
    let more = Unsendable::Request(BadRequest::Amounts);
    assert_eq!(ledger.send(1, &Operation::Request(request(2, 1, 0))), Err(more));
    assert_eq!(ledger.send(1, &Operation::Request(request(1, 1, 0))), Err(Unsendable::Repeated));
    // A debt counts like what is frozen.
    let debt = Totals { balance: -signed(MAX_AMOUNT), ..Totals::default() };
    assert_eq!(Ledger::new(debt).send(1, &Operation::Request(request(2, 1, 0))), Err(more));
    assert_eq!(Ledger::default().check_room_out(1, MAX_PENDING, 0), Err(Unsendable::Busy));
    assert_eq!(Ledger::default().check_room_out(1, 0, MAX_AMOUNT), Err(more));
}

#[test]
fn requests_with_bad_amounts_are_bad() {
    let check = |request: &Request| check_request(request, &FRIEND, &US);
    assert_eq!(check(&request(1, 30, 2)), Ok(32));
    assert_eq!(check(&request(1, 0, 2)), Err(BadRequest::Amounts));
    assert_eq!(check(&request(1, MAX_AMOUNT, 1)), Err(BadRequest::Amounts));
    assert_eq!(check(&request(1, 1, u128::MAX)), Err(BadRequest::Amounts));
    assert_eq!(check(&request(1, MAX_AMOUNT + 1, 0)), Err(BadRequest::Amounts));
    assert_eq!(check(&Request { total_dest_payment: 29, ..request(1, 30, 0) }), Err(BadRequest::Amounts));
    assert_eq!(check(&Request { total_dest_payment: u128::MAX, ..request(1, 30, 0) }), Err(BadRequest::Amounts));
}

#[test]
fn a_route_meets_no_node_twice_but_may_end_where_it_began() {
    let check = |hops: &[PublicKey]| {
        let route = List::try_from(hops.to_vec()).unwrap();
        check_request(&Request { route, ..request(1, 1, 0) }, &FRIEND, &US).map(|_| ())
    };
    assert_eq!(check(&[]), Ok(()));
    assert_eq!(check(&[SELLER]), Ok(()));
    assert_eq!(check(&[SELLER, FRIEND]), Ok(()));
    assert_eq!(check(&[FRIEND]), Ok(()));
    assert_eq!(check(&[FRIEND, SELLER]), Err(BadRequest::Route));
    assert_eq!(check(&[US]), Err(BadRequest::Route));
    assert_eq!(check(&[SELLER, US]), Err(BadRequest::Route));
    assert_eq!(check(&[SELLER, PublicKey([4; 32]), SELLER]), Err(BadRequest::Route));
}

#[test]
fn only_the_last_of_the_route_signs_the_response() {
    let mut ledger = Ledger::default();
    let route = List::try_from(vec![PublicKey([9; 32]), SELLER]).unwrap();
    ledger.send(1, &Operation::Request(Request { route, ..request(1, 1, 0) })).unwrap();
    let by_friend = Operation::Response(response(1, &FRIEND));
    assert_eq!(ledger.receive(&from(OPEN, 1), by_friend), Err(BrokenRule::BadSignature));
    assert!(ledger.receive(&from(OPEN, 1), Operation::Response(response(1, &SELLER))).is_ok());
}

#[test]
fn each_rule_about_answers_is_checked() {
    let mut ledger = answered_outgoing();
    let before = ledger.clone();
    let mut rule = |ack, operation| ledger.receive(&from(OPEN, ack), operation).unwrap_err();
    assert_eq!(rule(1, Operation::Response(response(1, &FRIEND))), BrokenRule::Twice);
    assert_eq!(rule(1, Operation::Response(response(2, &FRIEND))), BrokenRule::UnknownRequest);
    assert_eq!(rule(1, cancel(2)), BrokenRule::UnknownRequest);
    assert_eq!(rule(1, Operation::Collect(collect(2))), BrokenRule::UnknownRequest);
    assert_eq!(rule(0, cancel(1)), BrokenRule::Unseen);
    let wrong_dest = Collect { dest_plain_lock: PlainLock([0; 32]), ..collect(1) };
    assert_eq!(rule(1, Operation::Collect(wrong_dest)), BrokenRule::WrongLock);
    let wrong_src = Collect { src_plain_lock: PlainLock([0; 32]), ..collect(1) };
    assert_eq!(rule(1, Operation::Collect(wrong_src)), BrokenRule::WrongLock);
    assert_eq!(ledger, before);

    let mut unanswered = Ledger::default();
    unanswered.send(1, &Operation::Request(request(1, 5, 0))).unwrap();
    let early = unanswered.receive(&from(OPEN, 1), Operation::Collect(collect(1)));
    assert_eq!(early, Err(BrokenRule::WrongStage));
}

#[test]
fn each_rule_about_commits_and_withdrawals_is_checked() {
    let mut ledger = answered_incoming();
    let mut rule = |ack, operation| ledger.receive(&from(OPEN, ack), operation).unwrap_err();
    let wrong = CommitRequest { src_plain_lock: PlainLock([0; 32]), ..commit(1) };
    assert_eq!(rule(1, Operation::Commit(wrong)), BrokenRule::WrongLock);
    assert_eq!(rule(0, Operation::Commit(commit(1))), BrokenRule::Unseen);
    assert_eq!(rule(1, Operation::Commit(commit(2))), BrokenRule::UnknownRequest);
    assert_eq!(rule(1, withdraw(2)), BrokenRule::UnknownRequest);
    ledger.receive(&from(OPEN, 1), Operation::Commit(commit(1))).unwrap();
    let mut rule = |operation| ledger.receive(&from(OPEN, 1), operation).unwrap_err();
    assert_eq!(rule(Operation::Commit(commit(1))), BrokenRule::Twice);
    assert_eq!(rule(withdraw(1)), BrokenRule::WrongStage);

    let mut unanswered = Ledger::default();
    unanswered.receive(&from(OPEN, 0), Operation::Request(request(1, 5, 0))).unwrap();
    let mut rule = |operation| unanswered.receive(&from(OPEN, 1), operation);
    assert_eq!(rule(Operation::Commit(commit(1))), Err(BrokenRule::WrongStage));
    assert!(rule(withdraw(1)).is_ok());
    assert_eq!(rule(withdraw(1)), Err(BrokenRule::Twice));
}

#[test]
fn what_crossed_our_answer_changes_nothing() {
    let mut ledger = Ledger::default();
    let crossed = Incoming { crossed: true, ..from(OPEN, 0) };
    assert_eq!(ledger.receive(&crossed, Operation::Commit(commit(1))), Ok(Step::Crossed));
    assert_eq!(ledger.receive(&crossed, withdraw(1)), Ok(Step::Crossed));
    // But the id of a request whose end the friend has not seen is still in use.
    let again = ledger.receive(&crossed, Operation::Request(request(1, 1, 0)));
    assert_eq!(again, Err(BrokenRule::RepeatedRequest));
    assert_eq!(ledger, Ledger::default());
}

#[test]
fn each_rule_about_what_we_send_is_checked() {
    let mut payer = answered_outgoing();
    let wrong = CommitRequest { src_plain_lock: PlainLock([0; 32]), ..commit(1) };
    assert_eq!(payer.send(2, &Operation::Commit(wrong)), Err(Unsendable::WrongLock));
    assert_eq!(payer.send(2, &Operation::Commit(commit(2))), Err(Unsendable::UnknownRequest));
    payer.send(2, &Operation::Commit(commit(1))).unwrap();
    assert_eq!(payer.send(2, &Operation::Commit(commit(1))), Err(Unsendable::Repeated));
    assert_eq!(payer.send(2, &withdraw(1)), Err(Unsendable::WrongStage));
    assert_eq!(payer.send(2, &withdraw(2)), Err(Unsendable::UnknownRequest));

    let mut payee = answered_incoming();
    assert_eq!(payee.send(2, &Operation::Response(response(1, &US))), Err(Unsendable::Repeated));
    let wrong = Collect { dest_plain_lock: PlainLock([0; 32]), ..collect(1) };
    assert_eq!(payee.send(2, &Operation::Collect(wrong)), Err(Unsendable::WrongLock));
    assert_eq!(payee.send(2, &cancel(2)), Err(Unsendable::UnknownRequest));
}
