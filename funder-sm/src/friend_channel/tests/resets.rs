//! The way out of a dispute.

use offset_protocol::bytes::{ResetToken, Signature};
use offset_protocol::friend::{CurrencyBalance, Reset, ResetTerms, Resume};
use offset_protocol::identity::{Signable, Signer};

use super::*;

/// Two friends who disagree: 1 owes 0 30; 5 of 0's credits are frozen towards 1, and 7 of 1's towards 0.
fn disputed() -> Pair {
    let mut pair = Pair::open();
    pair.enqueue(1, Operation::Request(request(1, 30))).unwrap();
    pair.settle();
    pair.enqueue(0, Operation::Response(response(&request(1, 30), KEYS[0], usd()))).unwrap();
    pair.enqueue(0, collect(id(1))).unwrap();
    pair.enqueue(0, Operation::Request(request(2, 5))).unwrap();
    pair.enqueue(1, Operation::Request(request(3, 7))).unwrap();
    pair.settle();
    pair.forge(0);
    pair.settle();
    pair
}

pub(super) fn theirs(channel: &Channel) -> ResetTerms {
    let Standing::Inconsistent { theirs: Some(terms), .. } = channel.standing() else { panic!("no terms") };
    terms.clone()
}

pub(super) fn accept(pair: &mut Pair, who: usize) {
    let terms = theirs(pair.channel(who));
    let mut events = Vec::new();
    pair.channel(who).accept_terms(&terms, &Cheap(KEYS[who]), &mut events).unwrap();
    pair.parties[who].note(events);
}

fn balances(pair: &mut Pair) -> [i128; 2] {
    [0, 1].map(|who| pair.channel(who).currency(&usd()).map_or(0, |report| report.balance))
}

fn epochs(pair: &Pair) -> [u64; 2] {
    [0, 1].map(|who| match pair.parties[who].channel.standing() {
        Standing::Consistent { epoch } => epoch,
        Standing::Inconsistent { .. } => panic!("inconsistent"),
    })
}

fn assert_pays_again(pair: &mut Pair) {
    let before = balances(pair);
    pair.enqueue(0, Operation::Request(request(77, 4))).unwrap();
    pair.settle();
    pair.enqueue(1, Operation::Response(response(&request(77, 4), KEYS[1], usd()))).unwrap();
    pair.enqueue(1, collect(id(77))).unwrap();
    pair.settle();
    pair.assert_mirrored();
    assert_eq!(balances(pair), [before[0] - 4, before[1] + 4]);
}

#[test]
fn each_sides_terms_are_what_it_could_be_owed() {
    let mut pair = disputed();
    let usd = |balance| vec![CurrencyBalance { currency: usd(), balance }];
    assert_eq!(theirs(pair.channel(1)).balances.to_vec(), usd(37));
    assert_eq!(theirs(pair.channel(0)).balances.to_vec(), usd(-25));
    for who in [0, 1] {
        let lost = |event: &ChannelEvent| {
            matches!(event, ChannelEvent::BecameInconsistent { incoming_dropped, outgoing_lost, .. }
                if incoming_dropped.len() == 1 && outgoing_lost.len() == 1)
        };
        assert!(pair.events(who).iter().any(lost));
    }
}

#[test]
fn a_reset_begins_on_the_accepted_terms() {
    for who in [0, 1] {
        let mut pair = disputed();
        accept(&mut pair, who);
        pair.settle();
        assert_eq!(epochs(&pair), [1, 1]);
        assert_eq!(balances(&mut pair), if who == 0 { [25, -25] } else { [37, -37] });
        let done = |terms| ChannelEvent::ResetDone { epoch: 1, terms };
        assert!(pair.events(who).contains(&done(TermsOf::Friend)));
        assert!(pair.events(1 - who).contains(&done(TermsOf::Us)));
        assert_pays_again(&mut pair);
    }
}

#[test]
fn terms_are_made_once_and_survive_a_restart() {
    let mut pair = disputed();
    let terms = theirs(pair.channel(1));
    for _ in 0..3 {
        pair.unlink();
        pair.parties[0].channel = pair.parties[0].restored();
        pair.link();
        pair.settle();
        assert_eq!(theirs(pair.channel(1)), terms);
    }
}

#[test]
fn an_acceptance_is_said_until_the_friend_speaks_in_the_new_epoch() {
    let mut pair = disputed();
    accept(&mut pair, 0);
    for _ in 0..3 {
        pair.round(0, End::CrashesAfterPersist);
        pair.link();
        pair.round(0, End::Speaks);
        let said: Vec<_> = pair.wire[1].drain(..).collect();
        assert!(
            matches!(said.as_slice(), [FriendMessage::Limits(_), FriendMessage::Reset(_), FriendMessage::Resume(_)]),
            "{said:?}"
        );
        // Nothing can be said in an epoch that the friend has not confirmed.
        assert_eq!(pair.enqueue(0, Operation::Request(request(8, 1))), Err(Refused::Offline));
    }
    pair.unlink();
    pair.link();
    pair.settle();
    assert_eq!(epochs(&pair), [1, 1]);
    assert_pays_again(&mut pair);
}

#[test]
fn when_both_accept_at_once_the_lower_keys_terms_win() {
    let mut pair = disputed();
    accept(&mut pair, 0);
    accept(&mut pair, 1);
    pair.settle();
    assert_eq!(epochs(&pair), [1, 1]);
    // The key of 0 is the lower one: its terms were 37 for itself.
    assert_eq!(balances(&mut pair), [37, -37]);
    assert_pays_again(&mut pair);
}

#[test]
fn both_may_accept_with_a_broken_link_at_any_message() {
    for cut in 0..12 {
        let mut pair = disputed();
        accept(&mut pair, 0);
        accept(&mut pair, 1);
        for _ in 0..cut {
            pair.round(0, End::Speaks);
            pair.round(1, End::Speaks);
            let _ = pair.deliver(cut % 2) || pair.deliver(1 - cut % 2);
        }
        pair.round(cut % 2, End::CrashesAfterPersist);
        pair.link();
        pair.settle();
        assert_eq!(epochs(&pair), [1, 1], "cut {cut}");
        assert_eq!(balances(&mut pair), [37, -37], "cut {cut}");
        assert_pays_again(&mut pair);
    }
}

#[test]
fn an_acceptance_of_terms_that_the_friend_has_forgotten_is_void() {
    let mut pair = disputed();
    let old = pair.parties[1].disk.clone();
    // A backup from before the dispute, so to say: 1 makes new terms.
    let mut fresh = Party::new(KEYS[1], KEYS[0]);
    fresh.rng = Seed::from_number(99).rng();
    accept(&mut pair, 0);
    pair.unlink();
    pair.parties[1] = fresh;
    pair.link();
    pair.settle();
    assert_ne!(old, pair.parties[1].disk);
    for who in [0, 1] {
        assert!(matches!(pair.channel(who).standing(), Standing::Inconsistent { .. }), "{who}");
    }
    // They can still begin again, on either side's terms.
    accept(&mut pair, 1);
    pair.settle();
    let [a, b] = epochs(&pair);
    assert_eq!(a, b);
    assert_eq!(balances(&mut pair), [37, -37]);
    pair.channel(1).open_currency(usd()).unwrap();
    pair.channel(1).set_max_debt(usd(), 100).unwrap();
    pair.settle();
    assert_pays_again(&mut pair);
}

#[test]
fn terms_made_after_a_void_acceptance_name_an_epoch_that_was_never_begun() {
    let mut pair = disputed();
    let mut other = theirs(pair.channel(0));
    accept(&mut pair, 0);
    other.reset_token = ResetToken([9; 32]);
    pair.hand(0, FriendMessage::Inconsistent(other.clone()));
    let Standing::Inconsistent { ours, theirs, .. } = pair.channel(0).standing() else { panic!() };
    // Those of the epoch that we began ourselves cannot be accepted again.
    assert_eq!((ours.epoch, theirs), (2, None));
    pair.hand(0, FriendMessage::Inconsistent(ResetTerms { epoch: 2, ..other }));
    accept(&mut pair, 0);
    assert_eq!(pair.channel(0).standing(), Standing::Consistent { epoch: 2 });
}

#[test]
fn lists_that_were_lost_with_the_old_epoch_are_said_in_the_new_one() {
    let mut pair = Pair::open();
    let eur: Currency = "EUR".parse().unwrap();
    let address = RelayAddress { public_key: SELLER, address: "relay:1".parse().unwrap() };
    pair.channel(0).open_currency(eur).unwrap();
    pair.channel(0).set_relays(List::try_from(vec![address]).unwrap());
    pair.round(0, End::Speaks);
    pair.wire[1].clear();
    pair.forge(1);
    pair.settle();
    accept(&mut pair, 0);
    pair.settle();
    assert!(pair.channel(1).currency(&eur).unwrap().friend_listed);
    pair.assert_lists_known();
}

#[test]
fn only_the_friends_last_terms_can_be_accepted() {
    let mut pair = disputed();
    let mut terms = theirs(pair.channel(0));
    terms.balances = List::new();
    let refused = pair.channel(0).accept_terms(&terms, &Cheap(KEYS[0]), &mut Vec::new());
    assert_eq!(refused, Err(NoSuchTerms));
    let terms = theirs(pair.channel(0));
    accept(&mut pair, 0);
    pair.settle();
    assert_eq!(pair.channel(0).accept_terms(&terms, &Cheap(KEYS[0]), &mut Vec::new()), Err(NoSuchTerms));
}

/// Found by a reviewer: dispute, reset, dispute, and so on without a pause, each with writes and a line in the log.
#[test]
fn a_second_reset_waits_for_the_next_link() {
    let mut pair = disputed();
    accept(&mut pair, 1);
    pair.settle();
    assert_eq!(epochs(&pair), [1, 1]);
    pair.forge(0);
    pair.settle();
    accept(&mut pair, 1);
    pair.events(0);
    pair.round(1, End::Speaks);
    assert!(matches!(pair.wire[0].pop_front(), Some(FriendMessage::Limits(_))));
    let before = pair.channel(0).clone();
    pair.deliver(0);
    assert_eq!(pair.events(0), [ChannelEvent::DropLink(LinkMisbehaviour::ResetTwice)]);
    assert_same(&before, pair.channel(0));
    pair.unlink();
    pair.link();
    pair.settle();
    assert_eq!(epochs(&pair), [2, 2]);
    assert_pays_again(&mut pair);
}

#[test]
fn a_friend_that_says_without_end_where_it_stands_loses_the_link() {
    let terms = theirs(disputed().channel(0));
    let resume = |number| Resume { epoch: number, in_seq: 0, in_head: Hash([0; 32]), out_seq: 0 };
    let changed = |number| ResetTerms { epoch: number, ..terms.clone() };
    let each: [&dyn Fn(u64) -> FriendMessage; 2] =
        [&|number| FriendMessage::Inconsistent(changed(number)), &|number| FriendMessage::Resume(resume(number))];
    for message in each {
        let mut pair = disputed();
        pair.unlink();
        pair.link();
        pair.events(0);
        // Each raises our epoch, which is a write and a word of ours.
        let most = MAX_STANDS as u64;
        (10..10 + most).for_each(|number| pair.hand(0, message(number)));
        assert!(pair.events(0).iter().all(|event| *event == ChannelEvent::TermsChanged));
        let before = pair.channel(0).clone();
        pair.hand(0, message(10 + most));
        assert_eq!(pair.events(0), [ChannelEvent::DropLink(LinkMisbehaviour::StandsTooOften)]);
        assert_same(&before, pair.channel(0));
        // On the next link it is heard again.
        pair.unlink();
        pair.link();
        pair.settle();
        accept(&mut pair, 0);
        pair.settle();
        assert_pays_again(&mut pair);
    }
}

#[test]
fn terms_that_no_ledger_could_hold_are_not_offered_to_the_user() {
    let good = theirs(disputed().channel(0));
    let with = |change: fn(&mut ResetTerms)| {
        let mut terms = good.clone();
        change(&mut terms);
        terms
    };
    let balance = |balance| CurrencyBalance { currency: usd(), balance };
    let bad = [
        with(|terms| terms.epoch = 0),
        with(|terms| terms.epoch = u64::MAX),
        ResetTerms { balances: List::try_from(vec![balance(i128::MIN)]).unwrap(), ..good.clone() },
        ResetTerms { balances: List::try_from(vec![balance(1), balance(1)]).unwrap(), ..good.clone() },
    ];
    for terms in bad {
        let mut pair = disputed();
        pair.hand(0, FriendMessage::Inconsistent(terms));
        let Standing::Inconsistent { theirs, ours, .. } = pair.channel(0).standing() else { panic!() };
        assert_eq!((theirs, ours.epoch), (None, 1));
    }
}

#[test]
fn a_reset_to_unknown_terms_is_inconsistent() {
    let mut pair = Pair::open();
    let mut other = disputed();
    accept(&mut other, 1);
    other.round(1, End::Speaks);
    assert!(matches!(other.wire[0].pop_front(), Some(FriendMessage::Limits(_))));
    let reset = other.wire[0].pop_front().unwrap();
    pair.hand(0, reset);
    let Standing::Inconsistent { why, .. } = pair.channel(0).standing() else { panic!() };
    assert_eq!(*why, Misbehaviour::UnknownReset);
}

/// Found by the fuzz target `friend`.
#[test]
fn terms_that_were_accepted_are_not_offered_again_when_a_reset_to_unknown_ones_comes() {
    let mut pair = disputed();
    accept(&mut pair, 0);
    let token = ResetToken([9; 32]);
    let mut reset = Reset { epoch: 9, reset_token: token, signature: Signature([0; Signature::SIZE]) };
    reset.signature = Cheap(KEYS[1]).sign(&reset.signed_hash(&KEYS[1], &KEYS[0]));
    pair.hand(0, FriendMessage::Reset(reset));
    let Standing::Inconsistent { why, theirs, .. } = pair.channel(0).standing() else { panic!("consistent") };
    assert_eq!(*why, Misbehaviour::UnknownReset);
    assert!(theirs.is_none(), "that epoch has begun here");
    pair.settle();
    accept(&mut pair, 0);
    pair.settle();
    assert_pays_again(&mut pair);
}

#[test]
fn a_currency_that_the_terms_bring_is_listed_but_closed() {
    let mut pair = disputed();
    pair.unlink();
    pair.parties[1] = Party::new(KEYS[1], KEYS[0]);
    pair.link();
    pair.settle();
    accept(&mut pair, 1);
    assert!(pair.channel(1).currency(&usd()).unwrap().friend_listed, "before the friend has said so");
    pair.settle();
    let report = pair.channel(1).currency(&usd()).unwrap();
    assert_eq!((report.balance, report.listed, report.is_open, report.friend_listed), (-37, true, false, true));
}

#[test]
fn the_old_evidence_stays_until_the_friend_signs_again() {
    let mut pair = disputed();
    let old = pair.channel(0).evidence().unwrap();
    let header = old.verify(&Cheap(KEYS[0])).unwrap();
    assert_eq!(header.epoch, 0);
    accept(&mut pair, 0);
    assert_eq!(pair.channel(0).evidence(), Some(old));
    pair.settle();
    assert_eq!(pair.channel(0).evidence().unwrap().verify(&Cheap(KEYS[0])).unwrap().epoch, 1);
}
