//! A friendship as the ledger has it: two logs, and what each end must show for what it has made and applied.
//!
//! The operations of the two ends commute, so what an end must show is a sum: what the epoch began on, what its own batches
//! moved, and, mirrored, what the friend's batches moved that it has applied. A crash that loses batches takes their part
//! of the sum away again.

use std::collections::VecDeque;

use offset_protocol::bytes::{RequestId, Signature};
use offset_protocol::friend::ResetTerms;
use offset_protocol::money::{Currency, Rate};

use super::sums::Sums;
use crate::check::view::{Asked, ChannelView, CurrencyView, EpochId};

/// Terms that are remembered for each end: one dispute may raise the epoch of its terms a few times.
const MAX_STATED: usize = 8;

/// What one end must show in one currency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stand {
    /// Positive: the friend owes this end.
    pub(super) balance: i128,
    /// Frozen by what this end sent.
    pub(super) outgoing: i128,
    /// Frozen by what it received.
    pub(super) incoming: i128,
    /// Requests that it sent and that are open.
    pub(super) sent: i64,
    /// Requests that it received and that are open.
    pub(super) received: i64,
}

impl Stand {
    fn plus(self, other: Stand) -> Stand {
        Stand {
            balance: self.balance.saturating_add(other.balance),
            outgoing: self.outgoing.saturating_add(other.outgoing),
            incoming: self.incoming.saturating_add(other.incoming),
            sent: self.sent + other.sent,
            received: self.received + other.received,
        }
    }

    fn reversed(self) -> Stand {
        Stand {
            balance: self.balance.saturating_neg(),
            outgoing: self.outgoing.saturating_neg(),
            incoming: self.incoming.saturating_neg(),
            sent: -self.sent,
            received: -self.received,
        }
    }

    /// The same at the other end.
    fn mirrored(self) -> Stand {
        Stand {
            balance: self.balance.saturating_neg(),
            outgoing: self.incoming,
            incoming: self.outgoing,
            sent: self.received,
            received: self.sent,
        }
    }
}

/// What a step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    /// Opens a request of the maker.
    Open(Asked),
    /// Ends one of the friend's, paid.
    Collect,
    /// Ends one of the friend's, not paid.
    Cancel,
}

/// An operation of a log, with the amount that it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) currency: Currency,
    pub(super) id: RequestId,
    pub(super) deed: Deed,
    pub(super) frozen: u128,
}

impl Step {
    /// What it moves at its maker's end.
    fn moves(&self) -> Stand {
        let amount = signed(self.frozen);
        match self.deed {
            Deed::Open(_) => Stand { outgoing: amount, sent: 1, ..Stand::default() },
            Deed::Collect => Stand { balance: amount, incoming: -amount, received: -1, ..Stand::default() },
            Deed::Cancel => Stand { incoming: -amount, received: -1, ..Stand::default() },
        }
    }
}

/// A batch that was made and that its maker may have to show again.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) seq: u64,
    pub(super) signature: Signature,
    pub(super) steps: Vec<Step>,
}

/// The batches of one end that its friend has not signed for.
#[derive(Clone, Debug, Default)]
pub(super) struct Log {
    pub(super) entries: VecDeque<Entry>,
}

impl Log {
    pub(super) fn get(&self, seq: u64) -> Option<&Entry> {
        let first = self.entries.front()?.seq;
        self.entries.get(usize::try_from(seq.checked_sub(first)?).ok()?)
    }
}

/// Where an end stood.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks {
    pub(super) epoch: EpochId,
    pub(super) made: u64,
    pub(super) signed_for: u64,
    pub(super) applied: u64,
}

/// What is watched of one currency at one end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Watch {
    pub(super) max_debt: u128,
    /// What the friend could owe if everything that was accepted were collected.
    pub(super) exposure: i128,
    /// What requests of the friend held that go on from this end, and the balance.
    pub(super) forwarded: u128,
    pub(super) balance: i128,
    /// What requests of others held that go on from the friend, and how many they were.
    pub(super) passed_on: (usize, u128),
    /// The most that was ever granted.
    pub(super) granted: u128,
    pub(super) rate: Rate,
}

/// One end of a friendship.
#[derive(Clone, Debug, Default)]
pub(super) struct End {
    pub(super) present: bool,
    /// It showed last that it has found its friend inconsistent, or was told so.
    pub(super) disputed: bool,
    /// And the time before.
    pub(super) was_disputed: bool,
    pub(super) marks: Marks,
    /// Where it stood after its last write, and before it.
    pub(super) last: Marks,
    pub(super) before: Marks,
    /// Its node's last write that concerned it.
    pub(super) write: u64,
    expected: Vec<(Currency, Stand)>,
    /// The balances that it showed last.
    pub(super) shown: Sums,
    /// What it claims of a cheater: balances and all that was accepted, or its own terms.
    pub(super) claim: Sums,
    /// What falling back to its own former terms in this epoch has changed in that.
    pub(super) taken_back: Option<Sums>,
    watched: Vec<(Currency, Watch)>,
    /// Terms that it stated, oldest first.
    pub(super) stated: VecDeque<ResetTerms>,
    /// Epochs that it was in, oldest first: it may have been put back to before one, and its friend hears of it all the same.
    pub(super) entered: VecDeque<EpochId>,
}

impl End {
    pub(super) fn expected(&self, currency: &Currency) -> Stand {
        self.expected.iter().find(|(name, _)| name == currency).map(|(_, stand)| *stand).unwrap_or_default()
    }

    pub(super) fn all_expected(&self) -> impl Iterator<Item = (Currency, Stand)> + '_ {
        self.expected.iter().copied()
    }

    fn change(&mut self, currency: Currency, by: Stand) {
        match self.expected.iter_mut().find(|(name, _)| *name == currency) {
            Some((_, stand)) => *stand = stand.plus(by),
            None => self.expected.push((currency, by)),
        }
    }

    /// The end made this.
    pub(super) fn made(&mut self, step: &Step) {
        self.change(step.currency, step.moves());
    }

    /// The end never made this: a crash lost it.
    pub(super) fn unmade(&mut self, step: &Step) {
        self.change(step.currency, step.moves().reversed());
    }

    /// The end applied this of its friend.
    pub(super) fn applied(&mut self, step: &Step) {
        self.change(step.currency, step.moves().mirrored());
    }

    /// The end never applied this: a crash lost it.
    pub(super) fn unapplied(&mut self, step: &Step) {
        self.change(step.currency, step.moves().mirrored().reversed());
    }

    /// The end is in an epoch.
    pub(super) fn enter(&mut self, epoch: EpochId) {
        if self.entered.len() == MAX_STATED {
            self.entered.pop_front();
        }
        self.entered.push_back(epoch);
    }

    /// Whether the end was in the epoch lately.
    pub(super) fn was_in(&self, epoch: &EpochId) -> bool {
        self.entered.contains(epoch)
    }

    /// Everything begins again with these balances and nothing open.
    pub(super) fn begin(&mut self, base: &Sums) {
        let stand = |(currency, balance)| (currency, Stand { balance, ..Stand::default() });
        self.expected = base.iter().map(stand).collect();
    }

    pub(super) fn watch(&mut self, currency: Currency) -> &mut Watch {
        let place = match self.watched.iter().position(|(name, _)| *name == currency) {
            Some(place) => place,
            None => {
                self.watched.push((currency, Watch::default()));
                self.watched.len() - 1
            }
        };
        &mut self.watched[place].1
    }

    /// The most that this end ever granted.
    pub(super) fn granted(&self, currency: Currency) -> u128 {
        self.watched.iter().find(|(name, _)| *name == currency).map_or(0, |(_, watch)| watch.granted)
    }

    pub(super) fn watched(&self) -> impl Iterator<Item = (Currency, Watch)> + '_ {
        self.watched.iter().copied()
    }

    pub(super) fn state(&mut self, terms: &ResetTerms) {
        if self.stated.back() != Some(terms) {
            self.stated.push_back(terms.clone());
            if self.stated.len() > MAX_STATED {
                self.stated.pop_front();
            }
        }
    }

    pub(super) fn stated(&self, epoch: &EpochId) -> Option<&ResetTerms> {
        self.stated.iter().find(|terms| terms.epoch == epoch.number && terms.reset_token == epoch.token)
    }
}

/// Whether the ledger knows what a friendship must show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Model {
    /// It does.
    Exact,
    /// A fault took away what it would have to know; until both ends have begun anew.
    Lost,
    /// One end is a cheater, or nobody that we watch.
    Foreign,
}

/// A friendship.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    /// Whose ends. A foreign friend has none.
    pub(super) nodes: [Option<u32>; 2],
    pub(super) ends: [End; 2],
    pub(super) logs: [Log; 2],
    pub(super) model: Model,
    /// Which end has a reason to have forgotten something.
    pub(super) excused: [bool; 2],
    /// Both ends have begun anew without a reset: the excuse lasts until each has applied something of the other's.
    pub(super) on_trial: bool,
    /// Each end has applied what the other made.
    pub(super) delivered: bool,
}

impl Pair {
    pub(super) fn is_excused(&self) -> bool {
        self.excused != [false; 2]
    }

    /// Nothing that was sent before one end forgot it can be applied any more: the ends are past it.
    pub(super) fn end_trial(&mut self) {
        if self.on_trial && self.ends.iter().all(|end| end.marks.applied > 0) {
            (self.on_trial, self.excused) = (false, [false; 2]);
        }
    }

    pub(super) fn is_delivered(&self) -> bool {
        let [a, b] = [&self.ends[0].marks, &self.ends[1].marks];
        a.epoch == b.epoch && a.made == b.applied && b.made == a.applied
    }
}

/// A valid amount as a signed number.
pub(super) fn signed(amount: u128) -> i128 {
    i128::try_from(amount).unwrap_or(i128::MAX)
}

/// What the friend could owe.
pub(super) fn exposure(view: &CurrencyView) -> i128 {
    view.balance.saturating_add(signed(view.accepted_frozen))
}

/// What an end claims of its friend.
pub(super) fn claim(view: &ChannelView) -> Sums {
    match &view.dispute {
        Some((_, terms)) => balances(terms),
        None => {
            let mut claim = Sums::default();
            view.currencies.iter().for_each(|one| claim.add(one.currency, exposure(one)));
            claim
        }
    }
}

/// Reset terms as balances of the end that states them.
pub(super) fn balances(terms: &ResetTerms) -> Sums {
    let mut sums = Sums::default();
    terms.balances.iter().for_each(|one| sums.add(one.currency, one.balance));
    sums
}

/// The same at the other end.
pub(super) fn mirrored(sums: &Sums) -> Sums {
    let mut mirrored = Sums::default();
    mirrored.take_all(sums);
    mirrored
}
