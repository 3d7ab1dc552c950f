//! Channels that break, resets, and friendships that end.

use super::*;

/// Node 1 collected 40 of 100 that node 0 sent; 60 are open; then node 0 came back from an old copy of its disk.
fn forgetful(user: User) -> Net {
    let mut net = Net::line(2, user);
    net.send(0, 1, vec![request(1, 40, 40, None), request(2, 60, 60, None)]).unwrap();
    let copy = net.end(0, 1).clone();
    net.send(1, 0, vec![end(1, Act::Collect)]).unwrap();
    *net.end(0, 1) = copy;
    net
}

#[test]
fn a_channel_that_breaks_for_no_reason_is_noticed() {
    let mut net = forgetful(User::MayAccept);
    fires(net.restart(0), Invariant::Logs);
    let mut net = Net::line(2, User::MayAccept);
    net.dispute(0, 1, 0, 1);
    fires(net.show(0), Invariant::Logs);
}

fn disputed(user: User, stated: i128) -> Result<Net, Fault> {
    let mut net = forgetful(user);
    net.ledger.excuse(NodeId(0));
    net.restart(0)?;
    net.dispute(0, 1, 0, 1);
    net.show(0)?;
    net.dispute(1, 0, stated, 2);
    net.show(1)?;
    Ok(net)
}

#[test]
fn a_reset_books_its_drift_and_everything_is_exact_again() {
    // 40 that were collected and 60 that were open: all of it counts as the friend's debt.
    let mut net = disputed(User::MayAccept, 100).unwrap();
    net.begin_anew(0, 1, -100, 2);
    net.show(0).unwrap();
    net.begin_anew(1, 0, 100, 2);
    net.show(1).unwrap();
    net.ledger.check_whole(|_| false, |_| false).unwrap();
    assert_eq!(net.ledger.looked().resets, 1);
    let drift = |net: &Net, node| net.ledger.drift(NodeId(node)).unwrap().get(&credits());
    assert_eq!(drift(&net, 0) + drift(&net, 1), net.ledger.nodes.iter().map(|book| -book.gains.get(&credits())).sum());
    net.logs.clear();
    net.send(0, 1, vec![request(3, 10, 10, None)]).unwrap();
    net.send(1, 0, vec![end(3, Act::Collect)]).unwrap();
    net.ledger.check_whole(|_| false, |_| false).unwrap();
    net.numbers(1, 0).balance += 1;
    fires(net.show(1), Invariant::Shadow);
}

#[test]
fn terms_beyond_what_was_granted_are_noticed() {
    fires(disputed(User::MayAccept, LIMIT as i128 + 1), Invariant::Reset);
    fires(disputed(User::MayAccept, 39), Invariant::Reset);
}

#[test]
fn an_epoch_that_begins_with_other_balances_than_its_terms_is_noticed() {
    let mut net = disputed(User::MayAccept, 100).unwrap();
    net.begin_anew(0, 1, -99, 2);
    fires(net.show(0), Invariant::Reset);
}

#[test]
fn terms_that_no_user_accepts_or_nobody_stated_are_noticed() {
    let mut net = disputed(User::NeverAccepts, 100).unwrap();
    net.begin_anew(0, 1, -100, 2);
    fires(net.show(0), Invariant::Reset);
    let mut net = disputed(User::MayAccept, 100).unwrap();
    net.begin_anew(0, 1, -100, 3);
    fires(net.show(0), Invariant::Reset);
    let mut net = disputed(User::MayAccept, 100).unwrap();
    net.begin_anew(1, 0, 100, 2);
    fires(net.show(1), Invariant::Reset);
}

#[test]
fn a_friendship_that_is_removed_leaves_the_books_exact() {
    let mut net = Net::line(3, User::NeverAccepts);
    net.send(0, 1, vec![request(1, 40, 40, None)]).unwrap();
    net.send(1, 0, vec![end(1, Act::Collect)]).unwrap();
    net.ends.remove(&(0, 1));
    net.ledger.on_views(NodeId(0), &[], &[key(1)]).unwrap();
    net.ledger.check_whole(|_| false, |_| false).unwrap();
    net.send(1, 2, vec![request(2, 5, 5, None)]).unwrap();
    net.numbers(2, 1).balance += 1;
    fires(net.show(2), Invariant::Shadow);
}

#[test]
fn terms_whose_acceptance_a_crash_has_lost_were_not_accepted_unless_the_disk_was_changed() {
    let begins_after = |is_excused: bool| {
        let mut net = disputed(User::MayAccept, 100)?;
        let before = net.end(1, 0).clone();
        net.begin_anew(1, 0, 0, 1);
        net.show(1)?;
        // It spoke before this was written.
        *net.end(1, 0) = before;
        if is_excused {
            net.ledger.excuse(NodeId(1));
        }
        net.restart(1)?;
        net.begin_anew(0, 1, 0, 1);
        net.show(0)
    };
    fires(begins_after(false), Invariant::Reset);
    begins_after(true).unwrap();
}

#[test]
fn terms_that_change_while_they_stand_are_noticed() {
    let mut net = disputed(User::MayAccept, 100).unwrap();
    net.dispute(1, 0, 99, 2);
    fires(net.show(1), Invariant::Reset);
    // With a friend whom nobody watches, too.
    let mut net = Net::beside_a_stranger();
    net.dispute(0, 1, 0, 1);
    net.show(0).unwrap();
    net.show(0).unwrap();
    net.dispute(0, 1, -5, 1);
    fires(net.show(0), Invariant::Reset);
}

#[test]
fn what_a_cheater_never_confirmed_is_taken_back() {
    let mut net = Net::beside_a_stranger();
    net.dispute(0, 1, 0, 1);
    net.show(0).unwrap();
    net.begin_anew(0, 1, -70, 2);
    net.show(0).unwrap();
    assert_eq!(net.ledger.given(NodeId(0)).get(&credits()), -70);
    let accepted = net.end(0, 1).clone();
    net.dispute(0, 1, 0, 1);
    net.show(0).unwrap();
    net.show(0).unwrap();
    assert_eq!(net.ledger.given(NodeId(0)).get(&credits()), 0);
    // A crash loses that, and it happens once more (swarm, seed 13468).
    let fallen_back = std::mem::replace(net.end(0, 1), accepted);
    net.restart(0).unwrap();
    assert_eq!(net.ledger.given(NodeId(0)).get(&credits()), -70);
    *net.end(0, 1) = fallen_back;
    net.show(0).unwrap();
    assert_eq!(net.ledger.given(NodeId(0)).get(&credits()), 0);
}

#[test]
fn a_changed_disk_excuses_one_start_and_no_later_one() {
    let mut net = forgetful(User::MayAccept);
    net.ledger.excuse(NodeId(0));
    net.restart(0).unwrap();
    net.dispute(0, 1, 0, 1);
    net.show(0).unwrap();
    net.dispute(1, 0, 100, 2);
    net.show(1).unwrap();
    net.begin_anew(0, 1, -100, 2);
    net.show(0).unwrap();
    net.begin_anew(1, 0, 100, 2);
    net.show(1).unwrap();
    net.logs.clear();
    let copy = net.end(0, 1).clone();
    net.send(0, 1, vec![request(3, 10, 10, None)]).unwrap();
    *net.end(0, 1) = copy;
    fires(net.restart(0), Invariant::Logs);
}
