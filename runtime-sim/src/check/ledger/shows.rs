//! What an end shows after a write: within its limits (I3), as its log and its friend's come to (I5, I7).

use offset_funder_sm::ledger::guard::{FULL_SHARE, ONWARD_TWELFTHS, OTHERS_PLACES};

use super::pair::{Marks, Model, Watch, claim, exposure, signed};
use super::{Fault, Ledger, NodeId, Sums};
use crate::check::Invariant;
use crate::check::view::{ChannelView, CurrencyView};

/// Whether requests that go on from here have grown beyond what they may hold. Not judged when the balance or the limit has
/// changed since: then the line was another at some moment between.
fn is_beyond_share(one: &CurrencyView, before: &Watch) -> bool {
    let is_same_line = (one.balance, one.max_debt) == (before.balance, before.max_debt);
    let line = one.max_debt.saturating_add_signed(one.balance.saturating_neg());
    let most = (line * ONWARD_TWELFTHS).div_ceil(12);
    is_same_line && one.forwarded_frozen > before.forwarded && one.forwarded_frozen > most
}

/// Whether this end has passed on more for others than leaves what it keeps for itself, if the friend never granted it more than
/// this. Not judged when the balance has changed since, as above.
fn is_beyond_others(one: &CurrencyView, before: &Watch, granted: u128) -> bool {
    let ((count, frozen), (count_before, frozen_before)) = (one.passed_on, before.passed_on);
    let is_same_line = one.balance == before.balance;
    let line = u128::try_from(signed(granted).saturating_add(one.balance)).unwrap_or(0);
    let is_too_much = is_same_line && frozen > frozen_before && frozen > line.div_ceil(FULL_SHARE);
    is_too_much || count > count_before && count > OTHERS_PLACES
}

/// What an end shows.
impl Ledger {
    pub(super) fn take_limits(&mut self, pair: u32, side: usize, view: &ChannelView) -> Result<(), Fault> {
        let friendship = &mut self.pairs[pair as usize];
        let excused = friendship.excused[side];
        // A cheater may tell it any limit.
        let knows_friend = friendship.model != Model::Foreign && !excused;
        let [one, other] = &mut friendship.ends;
        let (end, friend) = if side == 0 { (one, other) } else { (other, one) };
        for one in &view.currencies {
            let watch = end.watch(one.currency);
            let now = exposure(one);
            let most = signed(one.max_debt.max(watch.max_debt)).max(watch.exposure);
            let before = *watch;
            (watch.forwarded, watch.balance, watch.passed_on) = (one.forwarded_frozen, one.balance, one.passed_on);
            watch.exposure = now;
            watch.granted = watch.granted.max(one.max_debt);
            (watch.max_debt, watch.rate) = (one.max_debt, one.rate);
            if now > most && view.dispute.is_none() && !excused {
                return Err((Invariant::Limits, format!("the friend may owe {now} by {one:?}, before {before:?}")));
            }
            if is_beyond_share(one, &before) && !excused {
                let what = format!("requests of others hold more than their share of {one:?}, before {before:?}");
                return Err((Invariant::Limits, what));
            }
            if knows_friend && is_beyond_others(one, &before, friend.granted(one.currency)) {
                let what = format!("more is passed on for others than their share of {one:?}, before {before:?}");
                return Err((Invariant::Limits, what));
            }
        }
        Ok(())
    }

    pub(super) fn take_balances(
        &mut self,
        node: NodeId,
        pair: u32,
        side: usize,
        view: &ChannelView,
    ) -> Result<(), Fault> {
        self.looked.ends += 1;
        if self.pairs[pair as usize].model == Model::Exact {
            self.check_expected(pair, side, view)?;
        }
        let friendship = &mut self.pairs[pair as usize];
        let mut shown = Sums::default();
        view.currencies.iter().for_each(|one| shown.add(one.currency, one.balance));
        let end = &mut friendship.ends[side];
        let mut change = shown.clone();
        change.take_all(&end.shown);
        end.shown = shown;
        let model = friendship.model;
        if let Some(book) = self.nodes.get_mut(node.0 as usize).filter(|_| model != Model::Foreign) {
            book.sum.add_all(&change);
            if model == Model::Lost {
                book.drift.add_all(&change);
            }
        }
        match model {
            Model::Exact => self.sums.add_all(&change),
            Model::Foreign => self.pairs[pair as usize].ends[side].claim = claim(view),
            Model::Lost => {}
        }
        Ok(())
    }

    fn check_expected(&mut self, pair: u32, side: usize, view: &ChannelView) -> Result<(), Fault> {
        let end = &self.pairs[pair as usize].ends[side];
        let shows = |currency| view.currencies.iter().find(|one| one.currency == currency);
        let missing = end.all_expected().find(|(currency, stand)| {
            shows(*currency).is_none() && (stand.balance, stand.outgoing, stand.incoming) != (0, 0, 0)
        });
        let differs = |one: &&CurrencyView| {
            let stand = end.expected(&one.currency);
            (one.balance, signed(one.out_frozen), signed(one.in_frozen))
                != (stand.balance, stand.outgoing, stand.incoming)
        };
        let open = end.all_expected().fold((0, 0), |sum, (_, stand)| (sum.0 + stand.sent, sum.1 + stand.received));
        let counted = (view.open.0 as i64, view.open.1 as i64);
        let what = match (missing, view.currencies.iter().find(differs)) {
            (None, None) if open == counted => return Ok(()),
            (None, None) => format!("{counted:?} requests are open, and {open:?} should be"),
            (Some((currency, stand)), _) => format!("{currency} is gone, and should be {stand:?}"),
            (None, Some(one)) => format!("{one:?} should be {:?}", end.expected(&one.currency)),
        };
        if self.pairs[pair as usize].is_excused() { self.lose(pair) } else { Err((Invariant::Shadow, what)) }
    }

    pub(super) fn take_marks(&mut self, node: NodeId, pair: u32, side: usize, view: &ChannelView) {
        let write = self.nodes.get(node.0 as usize).map_or(0, |book| book.writes + u64::from(book.ahead));
        let friendship = &mut self.pairs[pair as usize];
        let end = &mut friendship.ends[side];
        end.present = true;
        let marks = Marks { epoch: view.epoch, made: view.made, signed_for: view.signed_for, applied: view.applied };
        end.before = end.last;
        (end.marks, end.last, end.write) = (marks, marks, write);
        if friendship.model == Model::Exact {
            let delivered = friendship.is_delivered();
            self.looked.cuts += u64::from(delivered);
            match (friendship.delivered, delivered) {
                (true, false) => self.undelivered += 1,
                (false, true) => self.undelivered -= 1,
                (true, true) | (false, false) => {}
            }
            friendship.delivered = delivered;
        }
    }
}
