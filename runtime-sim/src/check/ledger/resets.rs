//! Ends that are lost and begin anew (I12): disputes, reset terms, removed friends.
//!
//! | when | must hold |
//! |---|---|
//! | an end declares its channel inconsistent | a fault explains it, or its friend is a cheater |
//! | it states terms | they are its balance and what it accepted from the friend: no less, no more than it granted |
//! | an end enters an epoch | on terms that an end stated; the other end's user may accept terms, and did so first |
//! | both ends are in it | their balances are the terms, once from each side |
//!
//! What an epoch's beginning changes in a node's balances is booked as drift, so that everything else stays exact.

use offset_protocol::bytes::{PublicKey, ResetToken};

use super::pair::{End, Log, Marks, Model, Pair, balances, claim, exposure, mirrored, signed};
use super::{Fault, Invariant, Ledger, NodeId, Sums, User};
use crate::check::view::{ChannelView, EpochId};

impl Ledger {
    /// Nothing is known any more of what a friendship must show.
    pub(super) fn lose(&mut self, pair: u32) -> Result<(), Fault> {
        let friendship = &mut self.pairs[pair as usize];
        if friendship.model != Model::Exact {
            return Ok(());
        }
        self.looked.lost += 1;
        friendship.model = Model::Lost;
        friendship.logs = [Log::default(), Log::default()];
        if !friendship.delivered {
            self.undelivered -= 1;
        }
        friendship.delivered = true;
        for side in 0..2 {
            self.sums.take_all(&self.pairs[pair as usize].ends[side].shown);
            self.book_what_is_missing(pair, side);
        }
        self.flows.drop_pair(pair)
    }

    /// What an end showed last may not be what its requests so far have booked: the difference is drift.
    fn book_what_is_missing(&mut self, pair: u32, side: usize) {
        let Pair { ends, nodes, .. } = &self.pairs[pair as usize];
        let mut difference = ends[side].shown.clone();
        for (currency, stand) in ends[side].all_expected() {
            difference.add(currency, -stand.balance);
        }
        if let Some(book) = nodes[side].and_then(|node| self.nodes.get_mut(node as usize)) {
            book.drift.add_all(&difference);
        }
    }

    /// A user removed a friend, or a node forgot it.
    pub(super) fn remove_end(&mut self, node: NodeId, friend: &PublicKey) -> Result<(), Fault> {
        let Some(&(pair, side)) = self.nodes.get(node.0 as usize).and_then(|book| book.ends.get(friend)) else {
            return Ok(());
        };
        let friendship = &mut self.pairs[pair as usize];
        if !friendship.ends[side].present {
            return Ok(());
        }
        friendship.excused = [true; 2];
        self.lose(pair)?;
        let friendship = &mut self.pairs[pair as usize];
        let mut end = std::mem::take(&mut friendship.ends[side]);
        // The friend's user may still accept terms that it stated before.
        friendship.ends[side].stated = std::mem::take(&mut end.stated);
        // And the friend may still hear that its own were accepted.
        friendship.ends[side].entered = std::mem::take(&mut end.entered);
        // A limit that was granted once may have been used.
        for (currency, watch) in end.watched() {
            friendship.ends[side].watch(currency).granted = watch.granted;
        }
        match (self.nodes.get_mut(node.0 as usize), friendship.model) {
            (Some(book), Model::Foreign) => book.handed.take_all(&end.claim),
            (Some(book), Model::Exact | Model::Lost) => {
                book.sum.take_all(&end.shown);
                book.drift.take_all(&end.shown);
            }
            (None, _) => {}
        }
        Ok(())
    }

    /// The epoch of an end; a new one must have begun as it should.
    pub(super) fn take_epoch(&mut self, pair: u32, side: usize, view: &ChannelView) -> Result<(), Fault> {
        let end = &mut self.pairs[pair as usize].ends[side];
        end.was_disputed = std::mem::replace(&mut end.disputed, view.dispute.is_some());
        let is_undone = end.was_disputed && !end.disputed && end.marks.epoch == view.epoch;
        if is_undone && self.pairs[pair as usize].model == Model::Foreign {
            // A crash has lost the dispute.
            self.stand_by(pair, side, view);
        }
        let friendship = &self.pairs[pair as usize];
        let end = &friendship.ends[side];
        if end.present && end.marks.epoch == view.epoch && friendship.model != Model::Lost {
            return Ok(());
        }
        if !end.present {
            return self.appear(pair, side, view);
        }
        if end.marks.epoch != view.epoch {
            let is_reset = view.epoch.token != ResetToken([0; 32]) && view.epoch.number > end.marks.epoch.number;
            let over = view.epoch.token != end.marks.epoch.token && view.epoch.number == end.marks.epoch.number;
            if is_reset || over {
                self.check_reset(pair, side, view)?;
            }
            self.lose(pair)?;
            self.enter(pair, side, view);
        }
        self.try_to_begin(pair, side, view);
        Ok(())
    }

    /// A friend that was not there before.
    fn appear(&mut self, pair: u32, side: usize, view: &ChannelView) -> Result<(), Fault> {
        let is_new = view.epoch == EpochId::default() && view.applied == 0 && view.signed_for == 0;
        if !is_new {
            // A node that was watched from its first turn on begins every friendship with nothing.
            self.mismatch(pair, format!("a friendship begins in {:?} after {} batches", view.epoch, view.applied))?;
        }
        self.pairs[pair as usize].ends[side].present = true;
        if self.pairs[pair as usize].model == Model::Lost {
            self.enter(pair, side, view);
            self.try_to_begin(pair, side, view);
        }
        Ok(())
    }

    /// The end begins again, with whatever it shows.
    fn enter(&mut self, pair: u32, side: usize, view: &ChannelView) {
        let friendship = &mut self.pairs[pair as usize];
        let model = friendship.model;
        let end = &mut friendship.ends[side];
        end.marks = Marks { epoch: view.epoch, ..Marks::default() };
        end.enter(view.epoch);
        for one in &view.currencies {
            // What a user accepted may be more than any limit.
            end.watch(one.currency).exposure = exposure(one);
        }
        let mut shown = Sums::default();
        view.currencies.iter().for_each(|one| shown.add(one.currency, one.balance));
        let mut change = shown.clone();
        change.take_all(&end.shown);
        end.shown = shown;
        let claimed = std::mem::replace(&mut end.claim, claim(view));
        let node = friendship.nodes[side].and_then(|node| self.nodes.get_mut(node as usize));
        match (node, model) {
            (Some(book), Model::Foreign) => {
                book.handed.add_all(&claim(view));
                book.handed.take_all(&claimed);
            }
            (Some(book), Model::Exact | Model::Lost) => {
                book.sum.add_all(&change);
                book.drift.add_all(&change);
            }
            (None, _) => {}
        }
    }

    /// Both ends are in one epoch and have said nothing in it: from here on everything is known again.
    fn try_to_begin(&mut self, pair: u32, side: usize, view: &ChannelView) {
        let friendship = &mut self.pairs[pair as usize];
        let other = &friendship.ends[1 - side];
        let fresh = |marks: &Marks| (marks.made, marks.applied) == (0, 0);
        let first = view.batches.first().map_or(1, |batch| batch.seq);
        let ours = Marks { epoch: view.epoch, ..friendship.ends[side].marks };
        let starts = fresh(&ours) && view.applied == 0 && view.signed_for == 0 && first == 1;
        let same = other.marks.epoch == view.epoch && fresh(&other.marks);
        let disputed = view.dispute.is_some() || other.disputed;
        if friendship.model != Model::Lost || !starts || !same || disputed {
            return;
        }
        let base = friendship.ends.each_ref().map(|end| end.shown.clone());
        if mirrored(&base[0]) != base[1] {
            return;
        }
        self.looked.resets += u64::from(view.epoch != EpochId::default());
        friendship.model = Model::Exact;
        // Without a reset, a batch that was sent before one end forgot it may still be on its way.
        friendship.on_trial = view.epoch == EpochId::default();
        friendship.excused = [friendship.on_trial; 2];
        friendship.delivered = true;
        friendship.ends[side].marks = ours;
        for (end, base) in friendship.ends.iter_mut().zip(&base) {
            end.begin(base);
            self.sums.add_all(base);
        }
    }

    /// A new epoch begins on terms that one end stated and that the other's user accepted; its balances are the terms.
    fn check_reset(&mut self, pair: u32, side: usize, view: &ChannelView) -> Result<(), Fault> {
        let friendship = &self.pairs[pair as usize];
        let wrong = |what: String| Err((Invariant::Reset, what));
        let stated = |end: &End| end.stated(&view.epoch).map(balances);
        let (ours, theirs) = (stated(&friendship.ends[side]), stated(&friendship.ends[1 - side]));
        let (base, acceptor) = match (ours, theirs, friendship.model) {
            (Some(ours), _, _) => (ours, 1 - side),
            (None, Some(theirs), _) => (mirrored(&theirs), side),
            // A cheater's terms; the user read them.
            (None, None, Model::Foreign) => return self.check_may_accept(pair, side),
            // Who stated them has removed the friend since, and nothing is known of what it said.
            (None, None, Model::Lost) if !friendship.ends[1 - side].present => {
                return self.check_may_accept(pair, side);
            }
            (None, None, Model::Exact | Model::Lost) => {
                return wrong(format!("epoch {:?} begins on terms that nobody stated", view.epoch));
            }
        };
        let mut shown = Sums::default();
        view.currencies.iter().for_each(|one| shown.add(one.currency, one.balance));
        // Batches that the end has made or applied in the new epoch already are not part of the terms.
        if (view.made, view.applied) == (0, 0) && shown != base {
            return wrong(format!("epoch {:?} begins with {shown:?}, the terms were {base:?}", view.epoch));
        }
        if acceptor == side || friendship.model == Model::Foreign {
            return self.check_may_accept(pair, acceptor);
        }
        if !self.has_accepted(pair, acceptor, &view.epoch) {
            return wrong(format!("epoch {:?} begins, and the friend has not accepted it", view.epoch));
        }
        Ok(())
    }

    /// Whether an end is in the epoch; if it may have forgotten it, or its user has removed the friend since, was in it.
    fn has_accepted(&self, pair: u32, side: usize, epoch: &EpochId) -> bool {
        let friendship = &self.pairs[pair as usize];
        let end = &friendship.ends[side];
        let node = friendship.nodes[side].and_then(|node| self.nodes.get(node as usize));
        let may_be_past_it = !end.present || node.is_some_and(|book| book.forgot);
        end.marks.epoch == *epoch || may_be_past_it && end.was_in(epoch)
    }

    fn check_may_accept(&self, pair: u32, side: usize) -> Result<(), Fault> {
        let node = self.pairs[pair as usize].nodes[side].and_then(|node| self.nodes.get(node as usize));
        match node.map(|book| book.user) {
            Some(User::NeverAccepts) => Err((Invariant::Reset, "terms were accepted, and not by a user".to_owned())),
            Some(User::MayAccept) | None => Ok(()),
        }
    }

    /// A channel that carries nothing.
    pub(super) fn take_dispute(&mut self, pair: u32, side: usize, view: &ChannelView) -> Result<(), Fault> {
        let Some((why, terms)) = &view.dispute else { return Ok(()) };
        let friendship = &mut self.pairs[pair as usize];
        let end = &friendship.ends[side];
        let last = end.stated.back().filter(|last| last.reset_token == terms.reset_token);
        let (is_first, was_disputed) = (last.is_none(), end.was_disputed);
        if last.is_some_and(|last| last.balances != terms.balances) {
            return Err((Invariant::Reset, format!("terms {terms:?} were {last:?} before")));
        }
        friendship.ends[side].state(terms);
        if !is_first && !was_disputed && friendship.model == Model::Foreign {
            self.stand_by(pair, side, view);
        }
        let friendship = &self.pairs[pair as usize];
        if friendship.model == Model::Exact && !friendship.is_excused() {
            return Err((Invariant::Logs, format!("the channel is inconsistent: {why}")));
        }
        if is_first {
            self.check_terms(pair, side, view)?;
        }
        self.lose(pair)
    }

    /// What an end claims of a cheater is not what it was, and nothing was paid: it had accepted the cheater's terms, which were
    /// never confirmed, and stands by its own former terms again; or a crash has lost that, and it stands by the others.
    fn stand_by(&mut self, pair: u32, side: usize, view: &ChannelView) {
        let friendship = &mut self.pairs[pair as usize];
        let claimed = std::mem::replace(&mut friendship.ends[side].claim, claim(view));
        if let Some(book) = friendship.nodes[side].and_then(|node| self.nodes.get_mut(node as usize)) {
            book.handed.add_all(&claim(view));
            book.handed.take_all(&claimed);
        }
    }

    /// Terms are the balance, and what was accepted from the friend: within what was granted.
    fn check_terms(&mut self, pair: u32, side: usize, view: &ChannelView) -> Result<(), Fault> {
        let Some((_, terms)) = &view.dispute else { return Ok(()) };
        let friendship = &mut self.pairs[pair as usize];
        let excused = friendship.excused[side];
        let knows = friendship.model == Model::Exact && !excused;
        let terms = balances(terms);
        let end = &mut friendship.ends[side];
        // Requests are accepted and ended in batches only: without one since the last look they are what they were.
        let is_still = (view.epoch, view.made, view.applied) == (end.last.epoch, end.last.made, end.last.applied);
        for one in &view.currencies {
            let (stated, expected) = (terms.get(&one.currency), end.expected(&one.currency));
            if knows && one.balance != expected.balance {
                return Err((Invariant::Shadow, format!("{one:?} should be {expected:?}")));
            }
            let watch = *end.watch(one.currency);
            let most = signed(watch.max_debt.max(one.max_debt)).max(watch.exposure).max(one.balance);
            let frozen = stated.saturating_sub(one.balance);
            let too_much = (!excused && stated > most) || (knows && frozen > expected.incoming);
            let too_little = frozen < 0 || !excused && is_still && stated < watch.exposure;
            if too_little || too_much {
                let what = format!("terms of {stated} for {one:?}, which should be {expected:?}, at most {most}");
                return Err((Invariant::Reset, what));
            }
        }
        Ok(())
    }
}
