//! Honest ends that the ledger believes, and lies that it does not.

mod resets;

use std::collections::{BTreeMap, VecDeque};

use offset_protocol::bytes::{InvoiceId, PublicKey, RequestId, ResetToken, Signature};
use offset_protocol::codec::List;
use offset_protocol::friend::{CurrencyBalance, ResetTerms};
use offset_protocol::money::{Currency, Rate};

use super::flows::State;
use super::*;
use crate::check::view::{Act, Asked, BatchView, ChannelView, CurrencyView, EpochId, Move};

const LIMIT: u128 = 1_000;

fn key(node: usize) -> PublicKey {
    PublicKey([node as u8 + 1; 32])
}

fn credits() -> Currency {
    "CRED".parse().unwrap()
}

fn request(id: u8, frozen: u128, payment: u128, next: Option<usize>) -> Move {
    let asked = Asked { frozen, payment, invoice: InvoiceId([id; InvoiceId::SIZE]), next: next.map(key) };
    Move { currency: credits(), id: RequestId([id; RequestId::SIZE]), act: Act::Request(asked) }
}

fn end(id: u8, act: Act) -> Move {
    Move { currency: credits(), id: RequestId([id; RequestId::SIZE]), act }
}

/// Ends of friendships that keep honest books of their own, until a test changes what they show.
struct Net {
    ledger: Ledger,
    ends: BTreeMap<(usize, usize), ChannelView>,
    /// Batches by maker and reader, all of them.
    logs: BTreeMap<(usize, usize), VecDeque<BatchView>>,
    frozen: BTreeMap<(usize, usize, RequestId), u128>,
}

impl Net {
    /// A line of nodes.
    fn line(nodes: usize, user: User) -> Net {
        let mut ledger = Ledger::new();
        for node in 0..nodes {
            ledger.add_node(key(node), user);
        }
        let mut net = Net { ledger, ends: BTreeMap::new(), logs: BTreeMap::new(), frozen: BTreeMap::new() };
        for node in 1..nodes {
            net.ends.insert((node - 1, node), fresh(node));
            net.ends.insert((node, node - 1), fresh(node - 1));
        }
        for node in 0..nodes {
            net.show(node).unwrap();
        }
        net
    }

    /// One node, and a friend of it whom nobody watches.
    fn beside_a_stranger() -> Net {
        let mut net = Net::line(1, User::MayAccept);
        net.ends.insert((0, 1), fresh(1));
        net.show(0).unwrap();
        net
    }

    fn end(&mut self, us: usize, friend: usize) -> &mut ChannelView {
        self.ends.get_mut(&(us, friend)).unwrap()
    }

    fn numbers(&mut self, us: usize, friend: usize) -> &mut CurrencyView {
        &mut self.end(us, friend).currencies[0]
    }

    /// An end makes a batch.
    fn make(&mut self, us: usize, friend: usize, moves: Vec<Move>) {
        for one in &moves {
            match one.act {
                Act::Request(asked) => {
                    self.frozen.insert((us, friend, one.id), asked.frozen);
                    self.numbers(us, friend).out_frozen += asked.frozen;
                    self.end(us, friend).open.0 += 1;
                }
                Act::Collect | Act::Cancel => {
                    let frozen = self.frozen[&(friend, us, one.id)];
                    let numbers = self.numbers(us, friend);
                    numbers.in_frozen -= frozen;
                    numbers.accepted_frozen -= frozen;
                    numbers.balance += if one.act == Act::Collect { frozen as i128 } else { 0 };
                    self.end(us, friend).open.1 -= 1;
                }
            }
        }
        let end = self.end(us, friend);
        end.made += 1;
        let batch = BatchView { seq: end.made, signature: Signature([end.made as u8; 64]), moves };
        end.batches.push(batch.clone());
        self.logs.entry((us, friend)).or_default().push_back(batch);
    }

    /// An end applies the next batch of its friend, and the friend hears of it.
    fn apply(&mut self, us: usize, friend: usize) {
        let end = self.end(us, friend);
        end.applied += 1;
        let seq = end.applied;
        let batch = self.logs[&(friend, us)][seq as usize - 1].clone();
        for one in &batch.moves {
            match one.act {
                Act::Request(asked) => {
                    let numbers = self.numbers(us, friend);
                    numbers.in_frozen += asked.frozen;
                    numbers.accepted_frozen += asked.frozen;
                    self.end(us, friend).open.1 += 1;
                }
                Act::Collect | Act::Cancel => {
                    let frozen = self.frozen[&(us, friend, one.id)];
                    let numbers = self.numbers(us, friend);
                    numbers.out_frozen -= frozen;
                    numbers.balance -= if one.act == Act::Collect { frozen as i128 } else { 0 };
                    self.end(us, friend).open.0 -= 1;
                }
            }
        }
    }

    /// A node writes, and its friends' ends are looked at.
    fn show(&mut self, node: usize) -> Result<(), Fault> {
        let views = self.views(node);
        self.ledger.on_views(NodeId(node as u32), &views, &[])
    }

    fn views(&self, node: usize) -> Vec<ChannelView> {
        self.ends.iter().filter(|((us, _), _)| *us == node).map(|(_, view)| view.clone()).collect()
    }

    fn restart(&mut self, node: usize) -> Result<(), Fault> {
        let views = self.views(node);
        self.ledger.on_restart(NodeId(node as u32), &views, &[])
    }

    /// Makes a batch, shows it, lets the friend apply it and shows that, and lets the maker sign off.
    fn send(&mut self, us: usize, friend: usize, moves: Vec<Move>) -> Result<(), Fault> {
        self.make(us, friend, moves);
        self.show(us)?;
        self.apply(friend, us);
        self.show(friend)?;
        let end = self.end(us, friend);
        end.signed_for = end.made;
        end.batches.clear();
        self.show(us)
    }

    /// A request of node 0 over node 1 to node 2, forwarded.
    fn forwarded(fee: u128) -> Result<Net, Fault> {
        let mut net = Net::line(3, User::NeverAccepts);
        net.send(0, 1, vec![request(7, 105, 100, Some(2))])?;
        net.send(1, 2, vec![request(7, 105 - fee, 100, None)])?;
        Ok(net)
    }

    /// Both ends of a friendship are at odds, and state terms.
    fn dispute(&mut self, us: usize, friend: usize, stated: i128, token: u8) {
        let balances = [CurrencyBalance { currency: credits(), balance: stated }];
        let balances = List::truncated(balances.into_iter().filter(|one| one.balance != 0));
        let end = self.end(us, friend);
        end.dispute =
            Some(("a test".to_owned(), ResetTerms { epoch: 1, reset_token: ResetToken([token; 32]), balances }));
        let numbers = &mut end.currencies[0];
        (numbers.out_frozen, numbers.in_frozen, numbers.accepted_frozen) = (0, 0, 0);
        (end.made, end.open) = (end.signed_for, (0, 0));
        end.batches.clear();
    }

    fn begin_anew(&mut self, us: usize, friend: usize, balance: i128, token: u8) {
        let end = self.end(us, friend);
        end.dispute = None;
        end.epoch = EpochId { number: 1, token: ResetToken([token; 32]) };
        (end.made, end.signed_for, end.applied) = (0, 0, 0);
        self.numbers(us, friend).balance = balance;
    }
}

fn fresh(friend: usize) -> ChannelView {
    let numbers = CurrencyView {
        currency: credits(),
        balance: 0,
        out_frozen: 0,
        in_frozen: 0,
        accepted_frozen: 0,
        forwarded_frozen: 0,
        passed_on: (0, 0),
        max_debt: LIMIT,
        rate: Rate { mul: 0, add: 5 },
    };
    ChannelView {
        friend: key(friend),
        epoch: EpochId::default(),
        made: 0,
        signed_for: 0,
        applied: 0,
        batches: Vec::new(),
        open: (0, 0),
        currencies: vec![numbers],
        dispute: None,
    }
}

#[track_caller]
fn fires<T>(result: Result<T, Fault>, invariant: Invariant) {
    match result {
        Ok(_) => panic!("{invariant:?} should have fired"),
        Err((fired, what)) => assert_eq!(fired, invariant, "{what}"),
    }
}

// -- what is believed

#[test]
fn a_payment_over_a_mediator_is_believed_and_forgotten() {
    let mut net = Net::forwarded(5).unwrap();
    fires(net.ledger.check_whole(|_| false, |_| false).map_err(|(_, fault)| fault), Invariant::Resolution);
    net.send(2, 1, vec![end(7, Act::Collect)]).unwrap();
    net.send(1, 0, vec![end(7, Act::Collect)]).unwrap();
    assert_eq!(net.ledger.ended(), Ended { collected: 1, cancelled: 0, dropped: 0 });
    assert_eq!(net.ledger.open_requests().count(), 0);
    net.ledger.check_whole(|_| false, |_| false).unwrap();
    assert!(net.ledger.looked().whole > 0 && net.ledger.looked().cuts > 0);
}

#[test]
fn a_cancelled_payment_moves_nothing() {
    let mut net = Net::forwarded(5).unwrap();
    net.send(2, 1, vec![end(7, Act::Cancel)]).unwrap();
    net.send(1, 0, vec![end(7, Act::Cancel)]).unwrap();
    assert_eq!(net.ledger.ended(), Ended { collected: 0, cancelled: 1, dropped: 0 });
    net.ledger.check_whole(|_| false, |_| false).unwrap();
}

#[test]
fn a_crash_may_lose_the_last_write_and_what_it_made_and_applied() {
    let mut net = Net::line(2, User::NeverAccepts);
    let before = net.ends.clone();
    net.make(0, 1, vec![request(1, 10, 10, None)]);
    net.show(0).unwrap();
    net.ends = before;
    net.logs.clear();
    net.restart(0).unwrap();
    assert_eq!(net.ledger.open_requests().count(), 0, "the request was never made");
    net.make(0, 1, vec![request(2, 20, 20, None)]);
    net.show(0).unwrap();
    let before = net.end(1, 0).clone();
    net.apply(1, 0);
    net.show(1).unwrap();
    *net.end(1, 0) = before;
    net.restart(1).unwrap();
    net.apply(1, 0);
    net.show(1).unwrap();
    net.end(0, 1).signed_for = 1;
    net.show(0).unwrap();
    net.send(1, 0, vec![end(2, Act::Collect)]).unwrap();
    net.ledger.check_whole(|_| false, |_| false).unwrap();
}

#[test]
fn a_batch_that_was_on_its_way_when_its_maker_forgot_it_is_believed() {
    let mut net = Net::line(2, User::MayAccept);
    net.make(0, 1, vec![request(1, 10, 10, None)]);
    net.show(0).unwrap();
    net.ledger.on_durable(NodeId(0));
    net.ledger.excuse(NodeId(0));
    net.ends.insert((0, 1), fresh(1));
    net.restart(0).unwrap();
    net.apply(1, 0);
    net.show(1).unwrap();
    assert!(!net.ledger.is_exact(&key(0), &key(1)));
}

#[test]
fn friends_that_began_anew_without_a_reset_are_believed_until_both_have_heard_each_other_and_no_longer() {
    let mut net = Net::line(2, User::MayAccept);
    net.send(0, 1, vec![request(1, 10, 10, None)]).unwrap();
    for (us, friend) in [(0, 1), (1, 0)] {
        net.ledger.excuse(NodeId(us as u32));
        net.ends.insert((us, friend), fresh(friend));
        net.logs.clear();
        net.restart(us).unwrap();
    }
    assert!(!net.ledger.is_exact(&key(0), &key(1)), "on trial");
    net.send(0, 1, vec![request(2, 10, 10, None)]).unwrap();
    net.send(1, 0, vec![end(2, Act::Cancel)]).unwrap();
    assert!(net.ledger.is_exact(&key(0), &key(1)));
    net.numbers(0, 1).balance += 1;
    fires(net.show(0), Invariant::Shadow);
}

#[test]
fn nothing_begins_anew_while_one_end_still_disputes() {
    let mut net = Net::line(2, User::MayAccept);
    net.send(0, 1, vec![request(1, 10, 10, None)]).unwrap();
    // Both lose their databases, the second of them while it disputes.
    net.ledger.excuse(NodeId(0));
    net.ends.insert((0, 1), fresh(1));
    net.restart(0).unwrap();
    net.ledger.excuse(NodeId(1));
    net.ends.insert((1, 0), fresh(0));
    net.dispute(1, 0, 0, 1);
    net.restart(1).unwrap();
    net.show(0).unwrap();
    assert_eq!(net.ledger.looked().lost, 1);
    net.dispute(0, 1, 0, 2);
    net.show(0).unwrap();
}

// -- lies about requests

#[test]
fn a_fee_that_is_off_by_one_is_noticed() {
    fires(Net::forwarded(4), Invariant::Hops);
    fires(Net::forwarded(6), Invariant::Hops);
}

#[test]
fn a_mediator_that_collects_before_it_has_paid_is_noticed() {
    let mut net = Net::forwarded(5).unwrap();
    fires(net.send(1, 0, vec![end(7, Act::Collect)]), Invariant::Hops);
}

#[test]
fn a_mediator_that_cancels_what_it_has_paid_is_noticed() {
    let mut net = Net::forwarded(5).unwrap();
    net.send(2, 1, vec![end(7, Act::Collect)]).unwrap();
    fires(net.send(1, 0, vec![end(7, Act::Cancel)]), Invariant::Hops);
}

#[test]
fn a_mediator_that_cancels_what_is_still_open_is_noticed() {
    let mut net = Net::forwarded(5).unwrap();
    fires(net.send(1, 0, vec![end(7, Act::Cancel)]), Invariant::Hops);
}

#[test]
fn a_mediator_that_collects_what_it_never_passed_on_is_noticed() {
    let mut net = Net::line(3, User::NeverAccepts);
    net.send(0, 1, vec![request(7, 105, 100, Some(2))]).unwrap();
    fires(net.send(1, 0, vec![end(7, Act::Collect)]), Invariant::Hops);
}

#[test]
fn a_request_that_is_opened_or_ended_twice_is_noticed() {
    let mut net = Net::line(2, User::NeverAccepts);
    net.send(0, 1, vec![request(1, 10, 10, None)]).unwrap();
    fires(net.send(0, 1, vec![request(1, 10, 10, None)]), Invariant::Logs);
    let mut net = Net::line(2, User::NeverAccepts);
    net.send(0, 1, vec![request(1, 10, 10, None), request(2, 10, 10, None)]).unwrap();
    net.send(1, 0, vec![end(1, Act::Cancel)]).unwrap();
    fires(net.send(1, 0, vec![end(1, Act::Collect)]), Invariant::Logs);
}

#[test]
fn two_hops_that_ended_differently_are_noticed_whatever_came_before() {
    let mut net = Net::forwarded(5).unwrap();
    net.send(2, 1, vec![end(7, Act::Cancel)]).unwrap();
    net.make(1, 0, vec![end(7, Act::Cancel)]);
    // Past the check at the moment of the end.
    let id = RequestId([7; RequestId::SIZE]);
    net.show(1).unwrap();
    net.ledger.flows.lie(&id, 0, State::Collected);
    net.apply(0, 1);
    net.show(0).unwrap();
    net.end(1, 0).signed_for = 1;
    fires(net.show(1), Invariant::Hops);
}

// -- lies about sums

#[test]
fn a_balance_frozen_sum_or_count_that_the_logs_do_not_come_to_is_noticed() {
    let lies: [fn(&mut ChannelView); 5] = [
        |view| view.currencies[0].balance += 1,
        |view| view.currencies[0].out_frozen += 1,
        |view| view.currencies[0].in_frozen += 1,
        |view| view.open.0 += 1,
        |view| view.currencies.clear(),
    ];
    for lie in lies {
        let mut net = Net::forwarded(5).unwrap();
        lie(net.end(1, 2));
        fires(net.show(1), Invariant::Shadow);
    }
}

#[test]
fn a_network_whose_balances_do_not_sum_to_zero_is_noticed() {
    let mut net = Net::line(2, User::NeverAccepts);
    net.ledger.sums.add(credits(), 1);
    fires(net.show(0), Invariant::Conservation);
}

#[test]
fn a_node_that_has_what_no_request_brought_is_noticed() {
    let mut net = Net::line(2, User::NeverAccepts);
    net.ledger.nodes[1].gains.add(credits(), 1);
    fires(net.ledger.check_whole(|_| false, |_| false).map_err(|(_, fault)| fault), Invariant::Shadow);
}

// -- lies about batches

#[test]
fn two_batches_under_one_number_are_noticed() {
    let mut net = Net::line(2, User::NeverAccepts);
    net.make(0, 1, vec![]);
    net.show(0).unwrap();
    net.end(0, 1).batches[0].signature = Signature([99; 64]);
    fires(net.show(0), Invariant::Logs);
}

#[test]
fn a_batch_that_nobody_made_or_applied_is_noticed() {
    let mut net = Net::line(2, User::NeverAccepts);
    net.end(1, 0).applied = 1;
    fires(net.show(1), Invariant::Logs);
    let mut net = Net::line(2, User::NeverAccepts);
    net.make(0, 1, vec![]);
    net.end(0, 1).signed_for = 1;
    fires(net.show(0), Invariant::Logs);
    let mut net = Net::line(2, User::NeverAccepts);
    net.make(0, 1, vec![]);
    net.end(0, 1).batches.clear();
    fires(net.show(0), Invariant::Logs);
}

#[test]
fn a_node_that_forgets_what_was_durable_is_noticed() {
    let mut net = Net::line(2, User::NeverAccepts);
    let before = net.end(0, 1).clone();
    net.make(0, 1, vec![]);
    net.show(0).unwrap();
    net.ledger.on_durable(NodeId(0));
    *net.end(0, 1) = before;
    fires(net.restart(0), Invariant::Logs);
}

#[test]
fn a_node_that_forgets_what_its_friend_applied_is_noticed() {
    let mut net = Net::line(2, User::NeverAccepts);
    let before = net.end(0, 1).clone();
    net.make(0, 1, vec![]);
    net.show(0).unwrap();
    net.apply(1, 0);
    net.show(1).unwrap();
    *net.end(0, 1) = before;
    fires(net.restart(0), Invariant::Logs);
}

// -- limits

#[test]
fn a_friend_that_is_let_past_its_limit_is_noticed() {
    let mut net = Net::line(2, User::NeverAccepts);
    net.send(0, 1, vec![request(1, LIMIT, LIMIT, None)]).unwrap();
    fires(net.send(0, 1, vec![request(2, 1, 1, None)]), Invariant::Limits);
}

#[test]
fn a_limit_lowered_later_lets_what_is_open_stand_and_nothing_grow() {
    let mut net = Net::line(2, User::NeverAccepts);
    net.send(0, 1, vec![request(1, 300, 300, None)]).unwrap();
    net.numbers(1, 0).max_debt = 200;
    net.show(1).unwrap();
    net.show(1).unwrap();
    assert_eq!(net.ledger.granted(NodeId(1), &key(0)), vec![(credits(), LIMIT)]);
    fires(net.send(0, 1, vec![request(2, 1, 1, None)]), Invariant::Limits);
}

// -- resets

#[test]
fn requests_that_go_on_and_hold_more_than_their_share_are_noticed_at_both_ends() {
    let mut net = Net::line(2, User::MayAccept);
    net.numbers(1, 0).forwarded_frozen = (LIMIT * 5).div_ceil(12);
    net.show(1).unwrap();
    net.numbers(1, 0).forwarded_frozen += 1;
    fires(net.show(1), Invariant::Limits);
    let mut net = Net::line(2, User::MayAccept);
    net.numbers(0, 1).passed_on = (1, LIMIT.div_ceil(3));
    net.show(0).unwrap();
    net.numbers(0, 1).passed_on.1 += 1;
    fires(net.show(0), Invariant::Limits);
    let mut net = Net::line(2, User::MayAccept);
    net.numbers(0, 1).passed_on = (1_365, 0);
    net.show(0).unwrap();
    net.numbers(0, 1).passed_on.0 += 1;
    fires(net.show(0), Invariant::Limits);
}
