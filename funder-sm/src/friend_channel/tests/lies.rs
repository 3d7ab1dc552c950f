//! A friend that lies, one rule a test. Each lie ends in the right word, and nothing is kept of its batch.

use offset_protocol::codec::{Blob, List};
use offset_protocol::friend::{
    Body, CurrencyBalance, CurrencyOperations, Header, ResetTerms, Resume, body_hash, next_head,
};
use offset_protocol::limits::MAX_BATCH_OPS;

use super::*;
use crate::ledger::{BadRequest, BrokenRule};

/// Friends with requests at every stage: 1 asked 10 (open), 11 (answered), 12 (committed); 0 asked 20 (open), 21 (answered).
fn busy() -> Pair {
    let mut pair = Pair::open();
    for number in [10, 11, 12] {
        pair.enqueue(1, Operation::Request(request(number, 5))).unwrap();
    }
    for number in [20, 21] {
        pair.enqueue(0, Operation::Request(request(number, 7))).unwrap();
    }
    pair.settle();
    for number in [11, 12] {
        pair.enqueue(0, Operation::Response(response(&request(number, 5), KEYS[0], usd()))).unwrap();
    }
    pair.enqueue(1, Operation::Response(response(&request(21, 7), KEYS[1], usd()))).unwrap();
    pair.settle();
    pair.enqueue(1, commit(id(12))).unwrap();
    pair.settle();
    // 0 has said one more thing, which 1 has not signed for.
    pair.enqueue(0, Operation::Request(request(22, 7))).unwrap();
    pair.enqueue(0, cancel(id(12))).unwrap();
    pair.round(0, End::Speaks);
    pair.wire[1].clear();
    pair.events(0);
    pair
}

/// 1 lies to 0. The batch fails for that reason, and nothing of it is kept.
fn caught(pair: &mut Pair, lie: &Lie, expected: Misbehaviour) {
    let before = pair.channel(0).clone();
    let FriendMessage::Batch(batch) = lie.sign(1) else { unreachable!() };
    let mut trial = before.clone();
    let mut rng = Seed::from_number(0).rng();
    let mut env = Env { now: pair.now, verifier: &Cheap(KEYS[0]), rng: &mut rng };
    let mut events = Vec::new();
    assert_eq!(trial.try_batch(&mut env, batch, &mut events), Err(expected.clone()));
    assert_eq!(events, []);
    assert_same(&trial, &before);

    pair.hand(0, lie.sign(1));
    let events = pair.events(0);
    let ChannelEvent::BecameInconsistent { why, incoming_dropped, outgoing_lost } = &events[0] else {
        panic!("{events:?}")
    };
    assert_eq!(*why, expected);
    assert!(why.to_string().len() <= 128);
    assert_eq!(incoming_dropped.len(), before.all_incoming().count());
    assert_eq!(outgoing_lost.len(), before.all_outgoing().count());
    let state = &before.currencies[&usd()];
    let Standing::Inconsistent { ours, .. } = pair.channel(0).standing() else { panic!("still consistent") };
    let balance = state.ledger.totals().balance + state.ledger.accepted_frozen() as i128;
    assert_eq!(ours.balances[..], [CurrencyBalance { currency: usd(), balance }]);
    pair.parties[0].persist();
    assert_same(&pair.parties[0].restored(), &pair.parties[0].channel);
}

/// 1 says these operations after a valid one, which must be undone.
fn broken(bad: Vec<Operation>, about: u64, rule: BrokenRule) {
    let mut pair = busy();
    let mut all = vec![Operation::Request(request(50, 1))];
    all.extend(bad);
    let lie = next_batch(pair.channel(0), &operations(all));
    caught(&mut pair, &lie, Misbehaviour::Operation { currency: usd(), request_id: id(about), rule });
}

fn header_lie(change: impl FnOnce(&mut Header), expected: impl FnOnce(&Channel) -> Misbehaviour) {
    let mut pair = busy();
    let mut lie = next_batch(pair.channel(0), &Body::default());
    change(&mut lie.header);
    let expected = expected(pair.channel(0));
    caught(&mut pair, &lie, expected);
}

#[test]
fn an_honest_batch_of_the_same_make_is_taken() {
    let mut pair = busy();
    let mut truth = next_batch(pair.channel(0), &operations(vec![Operation::Request(request(50, 1)), cancel(id(20))]));
    truth.state_totals(pair.channel(0), |totals| {
        totals.out_frozen += 1;
        totals.in_frozen -= 7;
    });
    pair.hand(0, truth.sign(1));
    let events = pair.events(0);
    assert!(matches!(events.as_slice(), [ChannelEvent::Request { .. }, ChannelEvent::Cancelled { .. }]), "{events:?}");
}

#[test]
fn a_batch_of_another_epoch() {
    header_lie(|header| header.epoch = 3, |_| Misbehaviour::OtherEpoch { ours: 0, theirs: 3 });
}

#[test]
fn a_gap_in_the_log() {
    header_lie(
        |header| header.seq += 1,
        |victim| Misbehaviour::Gap { expected: victim.core.applied.seq + 1, got: victim.core.applied.seq + 2 },
    );
    header_lie(
        |header| header.seq = u64::MAX,
        |victim| Misbehaviour::Gap { expected: victim.core.applied.seq + 1, got: u64::MAX },
    );
}

#[test]
fn two_batches_of_one_number() {
    header_lie(|header| header.seq -= 1, |victim| Misbehaviour::TwoBatches { seq: victim.core.applied.seq });
}

#[test]
fn an_acknowledgement_of_what_was_never_said() {
    header_lie(
        |header| header.ack += 3,
        |victim| Misbehaviour::AckBeyond { ack: victim.core.made.seq + 1, last: victim.core.made.seq },
    );
}

#[test]
fn an_acknowledgement_that_goes_back() {
    header_lie(
        |header| header.ack -= 1,
        |victim| Misbehaviour::AckBackwards { ack: victim.core.signed_for.seq - 1, before: victim.core.signed_for.seq },
    );
}

#[test]
fn another_head_of_our_log() {
    header_lie(|header| header.friend_head = Hash([0; 32]), |_| Misbehaviour::OtherFriendHead);
    // The right head of the wrong place.
    header_lie(|header| header.ack += 1, |_| Misbehaviour::OtherFriendHead);
}

#[test]
fn another_body_than_was_signed() {
    header_lie(|header| header.body_hash = Hash([0; 32]), |_| Misbehaviour::OtherBody);
}

#[test]
fn another_head_of_its_own_log() {
    header_lie(|header| header.head = Hash([0; 32]), |_| Misbehaviour::OtherHead);
}

#[test]
fn wrong_totals() {
    header_lie(|header| header.totals_hash = Hash([0; 32]), |_| Misbehaviour::OtherTotals);
    let mut pair = busy();
    let body = operations(vec![Operation::Request(request(50, 1)), collect(id(21)), cancel(id(20))]);
    let mut lie = next_batch(pair.channel(0), &body);
    lie.state_totals(pair.channel(0), |totals| totals.balance += 8);
    caught(&mut pair, &lie, Misbehaviour::OtherTotals);
}

#[test]
fn bytes_that_are_no_header() {
    let mut pair = busy();
    let (now, channel) = (pair.now, pair.channel(0));
    let batch =
        Batch { header: Blob::try_from(vec![1, 2]).unwrap(), body: Blob::default(), signature: Signature([0; 64]) };
    let mut rng = Seed::from_number(0).rng();
    let mut env = Env { now, verifier: &Cheap(KEYS[0]), rng: &mut rng };
    assert_eq!(channel.try_batch(&mut env, batch, &mut Vec::new()), Err(Misbehaviour::MalformedHeader));
}

#[test]
fn bodies_that_break_their_form() {
    let group = |name: &str, operations: Vec<Operation>| CurrencyOperations {
        currency: name.parse().unwrap(),
        operations: List::try_from(operations).unwrap(),
    };
    let body =
        |groups: Vec<CurrencyOperations>| Body { operations: List::try_from(groups).unwrap(), ..Body::default() };
    let many = |from: u64| (from..from + 300).map(|number| Operation::Request(request(number, 1))).collect::<Vec<_>>();
    let list = |names: &[&str]| {
        let names = names.iter().map(|name| name.parse().unwrap()).collect::<Vec<_>>();
        Body { currencies: Some(List::try_from(names).unwrap()), ..Body::default() }
    };
    assert!(many(100).len() * 2 > MAX_BATCH_OPS);
    let bodies = [
        body(vec![group("USD", vec![])]),
        body(vec![group("USD", vec![cancel(id(20))]), group("USD", vec![cancel(id(21))])]),
        body(vec![group("USD", vec![cancel(id(20))]), group("EUR", vec![cancel(id(21))])]),
        body(vec![group("EUR", many(100)), group("USD", many(400))]),
        list(&["USD", "USD"]),
        list(&["USD", "EUR"]),
    ];
    for body in bodies {
        let mut pair = busy();
        let lie = next_batch(pair.channel(0), &body);
        caught(&mut pair, &lie, Misbehaviour::MalformedBody);
    }
    let mut pair = busy();
    let mut lie = next_batch(pair.channel(0), &Body::default());
    lie.body = vec![0xff; 10];
    lie.header.body_hash = body_hash(&lie.body);
    lie.header.head = next_head(&pair.channel(0).core.applied.head, &lie.header.body_hash);
    caught(&mut pair, &lie, Misbehaviour::MalformedBody);
}

#[test]
fn a_request_id_that_is_in_use() {
    broken(vec![Operation::Request(request(10, 1))], 10, BrokenRule::RepeatedRequest);
    // 0 has cancelled 12, but 1 has not signed for that.
    broken(vec![Operation::Request(request(12, 1))], 12, BrokenRule::RepeatedRequest);
    broken(
        vec![Operation::Request(request(51, 1)), Operation::Request(request(51, 1))],
        51,
        BrokenRule::RepeatedRequest,
    );
}

#[test]
fn a_request_that_is_bad_by_itself() {
    let amounts = BrokenRule::Request(BadRequest::Amounts);
    broken(vec![Operation::Request(request(51, 0))], 51, amounts);
    broken(vec![Operation::Request(request(51, u128::MAX))], 51, amounts);
    let route = List::try_from(vec![KEYS[0]]).unwrap();
    broken(vec![Operation::Request(Request { route, ..request(51, 1) })], 51, BrokenRule::Request(BadRequest::Route));
}

#[test]
fn a_request_in_a_currency_that_the_liar_never_listed() {
    for has_record in [false, true] {
        let mut pair = busy();
        let currency: Currency = "EUR".parse().unwrap();
        if has_record {
            pair.channel(0).open_currency(currency).unwrap();
        }
        let group = CurrencyOperations {
            currency,
            operations: List::try_from(vec![Operation::Request(request(51, 1))]).unwrap(),
        };
        let body = Body { operations: List::try_from(vec![group]).unwrap(), ..Body::default() };
        let lie = next_batch(pair.channel(0), &body);
        let why = Misbehaviour::Operation { currency, request_id: id(51), rule: BrokenRule::NotListed };
        caught(&mut pair, &lie, why);
    }
}

#[test]
fn a_currency_removed_while_it_is_in_use() {
    let mut pair = busy();
    let body = Body { currencies: Some(List::new()), ..Body::default() };
    let lie = next_batch(pair.channel(0), &body);
    caught(&mut pair, &lie, Misbehaviour::RemovedInUse(usd()));
    // A list in a batch that fails leaves no new currency behind.
    let mut pair = busy();
    let names = vec!["EUR".parse().unwrap(), usd()];
    let body = Body { currencies: Some(List::try_from(names).unwrap()), ..operations(vec![collect(id(20))]) };
    let lie = next_batch(pair.channel(0), &body);
    let why = Misbehaviour::Operation { currency: usd(), request_id: id(20), rule: BrokenRule::WrongStage };
    caught(&mut pair, &lie, why);
}

#[test]
fn answers_to_no_request() {
    let answer = Operation::Response(response(&request(60, 7), KEYS[1], usd()));
    for operation in [answer, cancel(id(60)), collect(id(60)), commit(id(60)), withdraw(id(60))] {
        broken(vec![operation], 60, BrokenRule::UnknownRequest);
    }
    // An end twice, in one batch.
    broken(vec![cancel(id(20)), cancel(id(20))], 20, BrokenRule::UnknownRequest);
}

#[test]
fn an_answer_to_what_was_not_acknowledged() {
    broken(vec![cancel(id(22))], 22, BrokenRule::Unseen);
}

#[test]
fn operations_at_the_wrong_stage() {
    broken(vec![collect(id(20))], 20, BrokenRule::WrongStage);
    broken(vec![commit(id(10))], 10, BrokenRule::WrongStage);
    broken(vec![commit(id(11)), withdraw(id(11))], 11, BrokenRule::WrongStage);
}

#[test]
fn operations_said_twice() {
    let again = Operation::Response(response(&request(21, 7), KEYS[1], usd()));
    broken(vec![again], 21, BrokenRule::Twice);
    broken(vec![commit(id(11)), commit(id(11))], 11, BrokenRule::Twice);
    broken(vec![withdraw(id(10)), withdraw(id(10))], 10, BrokenRule::Twice);
}

#[test]
fn locks_that_do_not_open() {
    let wrong = PlainLock([0; 32]);
    let bad_commit = CommitRequest { request_id: id(11), src_plain_lock: wrong.clone() };
    broken(vec![Operation::Commit(bad_commit)], 11, BrokenRule::WrongLock);
    let bad_collect = Collect { request_id: id(21), src_plain_lock: lock(&id(21), 1), dest_plain_lock: wrong };
    broken(vec![Operation::Collect(bad_collect)], 21, BrokenRule::WrongLock);
}

#[test]
fn a_response_that_the_seller_did_not_sign() {
    let forged = Operation::Response(response(&request(20, 7), SELLER, usd()));
    broken(vec![forged], 20, BrokenRule::BadSignature);
    // Signed by the seller, but about another amount.
    let other = Operation::Response(response(&request(20, 8), KEYS[1], usd()));
    broken(vec![other], 20, BrokenRule::BadSignature);
}

#[test]
fn forged_bytes_end_the_channel() {
    let mut pair = busy();
    pair.forge(0);
    let Standing::Inconsistent { why, .. } = pair.channel(0).standing() else { panic!() };
    assert_eq!(*why, Misbehaviour::BadSignature);
}

/// 1 resumes with this, on a new link.
fn resumes(change: impl FnOnce(&mut Resume, &Channel), expected: impl FnOnce(&Channel) -> Misbehaviour) {
    let mut pair = busy();
    pair.unlink();
    pair.link();
    let victim = pair.channel(0);
    let mark = victim.core.signed_for;
    let mut resume = Resume { epoch: 0, in_seq: mark.seq, in_head: mark.head, out_seq: victim.core.applied.seq };
    change(&mut resume, victim);
    let expected = expected(victim);
    pair.hand(0, FriendMessage::Resume(resume));
    let Standing::Inconsistent { why, .. } = pair.channel(0).standing() else { panic!("still consistent") };
    assert_eq!(*why, expected);
}

#[test]
fn a_friend_that_resumes_in_another_epoch() {
    resumes(|resume, _| resume.epoch = 4, |_| Misbehaviour::ResumeEpoch { ours: 0, theirs: 4 });
    let mut pair = busy();
    pair.unlink();
    pair.link();
    pair.hand(0, FriendMessage::Resume(Resume { epoch: 4, in_seq: 0, in_head: Hash([0; 32]), out_seq: 0 }));
    let Standing::Inconsistent { ours, .. } = pair.channel(0).standing() else { panic!() };
    assert_eq!(ours.epoch, 5);
}

#[test]
fn a_friend_that_resumes_beyond_our_log() {
    resumes(
        |resume, victim| resume.in_seq = victim.core.made.seq + 1,
        |victim| Misbehaviour::ResumeBeyond { applied: victim.core.made.seq + 1, last: victim.core.made.seq },
    );
    resumes(
        |resume, _| resume.in_seq = u64::MAX,
        |victim| Misbehaviour::ResumeBeyond { applied: u64::MAX, last: victim.core.made.seq },
    );
}

#[test]
fn a_friend_that_has_forgotten_what_it_signed_for() {
    resumes(
        |resume, _| resume.in_seq -= 1,
        |victim| {
            let signed = victim.core.signed_for.seq;
            Misbehaviour::ResumeForgot { applied: signed - 1, signed }
        },
    );
}

#[test]
fn a_friend_restored_from_a_backup() {
    resumes(
        |resume, _| resume.out_seq -= 1,
        |victim| Misbehaviour::ResumeLost { made: victim.core.applied.seq - 1, applied: victim.core.applied.seq },
    );
}

#[test]
fn a_friend_that_names_another_head() {
    resumes(|resume, _| resume.in_head = Hash([0; 32]), |_| Misbehaviour::ResumeHead);
}

#[test]
fn a_friend_that_breaks_the_order_of_a_link_loses_the_link_and_not_the_channel() {
    let mut pair = busy();
    let resume = {
        let core = &pair.channel(0).core;
        Resume { epoch: 0, in_seq: core.signed_for.seq, in_head: core.signed_for.head, out_seq: core.applied.seq }
    };
    pair.hand(0, FriendMessage::Resume(resume));
    assert_eq!(pair.events(0), [ChannelEvent::DropLink(LinkMisbehaviour::ResumedTwice)]);
    pair.unlink();
    pair.link();
    let batch = next_batch(pair.channel(0), &Body::default()).sign(1);
    pair.hand(0, batch);
    assert_eq!(pair.events(0), [ChannelEvent::DropLink(LinkMisbehaviour::BatchBeforeResume)]);
    assert!(matches!(pair.channel(0).standing(), Standing::Consistent { .. }));
}

#[test]
fn an_inconsistent_channel_carries_nothing() {
    let mut pair = busy();
    pair.forge(0);
    let before = pair.channel(0).clone();
    pair.events(0);
    let batch = next_batch(pair.channel(0), &operations(vec![Operation::Request(request(50, 1))])).sign(1);
    pair.hand(0, batch);
    assert_eq!(pair.events(0), []);
    assert_same(&before, pair.channel(0));
    for operation in [Operation::Request(request(51, 1)), cancel(id(10)), commit(id(21)), withdraw(id(20))] {
        assert_eq!(pair.enqueue(0, operation), Err(Refused::Inconsistent));
    }
    assert_eq!(pair.channel(0).recv_capacity(&usd()), 0);
    pair.round(0, End::Speaks);
    assert!(matches!(pair.wire[1].make_contiguous(), [FriendMessage::Inconsistent(ResetTerms { .. })]));
}
