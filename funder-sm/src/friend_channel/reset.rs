//! Inconsistency, and the way out of it: reset terms, made once by each side, one of which a user accepts.
//!
//! | state | says at a link up | hears | becomes |
//! |---|---|---|---|
//! | consistent | `Resume` | `Inconsistent`, or anything wrong | inconsistent |
//! | inconsistent | `Inconsistent` | `Reset` to our terms | consistent, on our terms |
//! | inconsistent | | the user's acceptance | unconfirmed, on the friend's terms |
//! | unconfirmed | `Reset`, `Resume` | `Resume` of the new epoch | consistent |
//! | unconfirmed | | `Reset` to our terms, our key is the lower one | consistent, on our terms |
//! | unconfirmed | | `Inconsistent` with other terms than we accepted; `Reset` to terms that nobody stated | inconsistent |
//!
//! An unconfirmed channel signs no batch, so two acceptances at once never lead to two batches of one number.

use offset_protocol::bytes::{ResetToken, Signature};
use offset_protocol::codec::List;
use offset_protocol::friend::{CurrencyBalance, Reset, ResetTerms};
use offset_protocol::identity::{Signable, Signer, Verified};
use offset_protocol::limits::MAX_AMOUNT;
use offset_protocol::money::Currency;
use offset_protocol::{mutant, sometimes};

use super::records::Key;
use super::{
    Channel, ChannelEvent, Core, Dispute, Env, Link, LinkMisbehaviour, Listing, Misbehaviour, NoSuchTerms, Said, State,
    TermsOf, Unconfirmed,
};
use crate::ledger::{Ledger, Totals};
use offset_protocol::lean::LeanMap;

/// How far beyond our epoch a friend's may be: more would only serve to exhaust the numbers.
const MAX_EPOCH_STEP: u64 = 1 << 32;

/// Resets.
impl Channel {
    /// The friend stated its terms: to it the channel is inconsistent.
    pub fn on_inconsistent(&mut self, env: &mut Env<'_>, terms: ResetTerms, events: &mut Vec<ChannelEvent>) {
        if !self.may_say_where_it_stands(events) {
            return;
        }
        match &self.state {
            // It has not heard of our acceptance yet.
            State::Unconfirmed(unconfirmed) if unconfirmed.theirs == terms => {
                sometimes!("reset: the friend has not heard yet that its terms are accepted", true);
                return;
            }
            State::Unconfirmed(unconfirmed) => {
                sometimes!("reset: the friend changed the terms that we accepted", true);
                let ours = unconfirmed.ours.clone();
                self.dispute(Dispute { why: Misbehaviour::Declared, ours, theirs: None });
            }
            State::Consistent => {
                let epoch = self.core.epoch;
                self.become_inconsistent(env, Misbehaviour::Declared, epoch, events);
            }
            State::Inconsistent(_) => {}
        }
        let is_usable = self.is_usable(&terms);
        let State::Inconsistent(dispute) = &mut self.state else {
            return;
        };
        let theirs = is_usable.then_some(terms);
        if dispute.theirs != theirs {
            dispute.theirs = theirs;
            self.dirty.say(Key::State);
            events.push(ChannelEvent::TermsChanged);
        }
        if let Some(epoch) = dispute.theirs.as_ref().map(|theirs| theirs.epoch) {
            self.raise_our_epoch(epoch, events);
        }
    }

    /// The user accepts the friend's terms, exactly those that it read.
    ///
    /// # Errors
    /// [`NoSuchTerms`] unless the channel is inconsistent and these are the friend's last terms, of no lower epoch than ours.
    pub fn accept_terms(
        &mut self,
        terms: &ResetTerms,
        signer: &dyn Signer,
        events: &mut Vec<ChannelEvent>,
    ) -> Result<(), NoSuchTerms> {
        let State::Inconsistent(dispute) = &self.state else {
            return Err(NoSuchTerms);
        };
        if dispute.theirs.as_ref() != Some(terms) || terms.epoch < dispute.ours.epoch {
            return Err(NoSuchTerms);
        }
        let mut reset =
            Reset { epoch: terms.epoch, reset_token: terms.reset_token, signature: Signature([0; Signature::SIZE]) };
        reset.signature = signer.sign(&reset.signed_hash(&self.us, &self.friend));
        let unconfirmed = Unconfirmed { ours: dispute.ours.clone(), theirs: terms.clone(), reset };
        self.start_epoch(terms, TermsOf::Friend, events);
        self.state =
            if mutant!(UnconfirmedSpeaks) { State::Consistent } else { State::Unconfirmed(Box::new(unconfirmed)) };
        sometimes!("reset: we accept the friend's terms", true);
        Ok(())
    }

    /// The friend accepted terms.
    pub fn on_reset(&mut self, env: &mut Env<'_>, reset: Verified<Reset>, events: &mut Vec<ChannelEvent>) {
        if !self.may_say_where_it_stands(events) {
            return;
        }
        if reset.by() != self.friend {
            return self.on_forged(env, events);
        }
        let names = |terms: &ResetTerms| terms.epoch == reset.epoch && terms.reset_token == reset.reset_token;
        match &self.state {
            State::Inconsistent(dispute)
                if names(&dispute.ours) && self.link.as_ref().is_some_and(|link| link.was_reset) =>
            {
                events.push(ChannelEvent::DropLink(LinkMisbehaviour::ResetTwice));
            }
            State::Inconsistent(dispute) if names(&dispute.ours) => {
                sometimes!("reset: the friend accepts our terms", true);
                let terms = dispute.ours.clone();
                self.start_epoch(&terms, TermsOf::Us, events);
            }
            // It accepted terms that have changed since: it must hear the new ones.
            State::Inconsistent(_) => self.say_terms_again(),
            State::Unconfirmed(unconfirmed) if names(&unconfirmed.ours) => {
                sometimes!("reset: both accept at once", true);
                // Both accepted. The lower key's terms win; if those are the friend's, it will come over by itself.
                if self.us < self.friend {
                    let terms = unconfirmed.ours.clone();
                    self.start_epoch(&terms, TermsOf::Us, events);
                }
            }
            State::Unconfirmed(unconfirmed) => {
                // What it offered before is over: we have begun on it.
                let ours = unconfirmed.ours.clone();
                self.dispute(Dispute { why: Misbehaviour::UnknownReset, ours, theirs: None });
                events.push(ChannelEvent::TermsChanged);
            }
            State::Consistent => {
                let is_ours = reset.epoch == self.core.epoch && reset.reset_token == self.core.reset_token;
                if !is_ours {
                    self.become_inconsistent(env, Misbehaviour::UnknownReset, reset.epoch, events);
                }
            }
        }
    }

    /// Nothing moves any more. `epoch` is the highest that the friend showed with this.
    pub(super) fn become_inconsistent(
        &mut self,
        env: &mut Env<'_>,
        why: Misbehaviour,
        epoch: u64,
        events: &mut Vec<ChannelEvent>,
    ) {
        self.keep_evidence();
        sometimes!("reset: a channel with open requests becomes inconsistent", self.all_outgoing().next().is_some());
        let ours = match &self.state {
            State::Unconfirmed(unconfirmed) => unconfirmed.ours.clone(),
            State::Consistent | State::Inconsistent(_) => self.make_terms(ResetToken(env.rng.bytes())),
        };
        let (incoming_dropped, outgoing_lost) = self.drop_everything();
        self.dispute(Dispute { why: why.clone(), ours, theirs: None });
        events.push(ChannelEvent::BecameInconsistent { why, incoming_dropped, outgoing_lost });
        self.raise_our_epoch(epoch.saturating_add(1), events);
    }

    /// Our terms: what the friend owes us, and what it would owe us if all that it opened were collected.
    fn make_terms(&self, reset_token: ResetToken) -> ResetTerms {
        let balances = self.currencies.iter().filter_map(|(currency, state)| {
            let accepted = i128::try_from(state.ledger.accepted_frozen()).unwrap_or(i128::MAX);
            let accepted = if mutant!(TermsForgetFrozen) { 0 } else { accepted };
            let balance = state.ledger.totals().balance.saturating_add(accepted);
            (balance != 0).then_some(CurrencyBalance { currency: *currency, balance })
        });
        ResetTerms { epoch: self.core.epoch.saturating_add(1), reset_token, balances: List::truncated(balances) }
    }

    fn dispute(&mut self, mut dispute: Dispute) {
        dispute.ours.epoch = dispute.ours.epoch.max(self.core.epoch.saturating_add(1));
        self.state = State::Inconsistent(Box::new(dispute));
        self.dirty.say(Key::State);
        self.say_terms_again();
        if let Some(link) = &mut self.link {
            link.is_resumed = false;
        }
    }

    fn say_terms_again(&mut self) {
        if let Some(link) = &mut self.link {
            link.said_terms = false;
        }
    }

    /// Both ends' terms must name an epoch that neither has seen.
    pub(super) fn raise_our_epoch(&mut self, epoch: u64, events: &mut Vec<ChannelEvent>) {
        let is_plausible = epoch <= self.core.epoch.saturating_add(MAX_EPOCH_STEP);
        let State::Inconsistent(dispute) = &mut self.state else {
            return;
        };
        if is_plausible && epoch > dispute.ours.epoch {
            dispute.ours.epoch = epoch;
            sometimes!("reset: the friend's epoch raises ours", true);
            self.dirty.say(Key::State);
            self.say_terms_again();
            events.push(ChannelEvent::TermsChanged);
        }
    }

    /// Terms that we could begin on.
    fn is_usable(&self, terms: &ResetTerms) -> bool {
        let is_sorted = terms.balances.windows(2).all(|pair| pair[0].currency < pair[1].currency);
        let is_small = terms.balances.iter().all(|balance| balance.balance.unsigned_abs() <= MAX_AMOUNT);
        let epoch = self.core.epoch;
        is_sorted && is_small && terms.epoch > epoch && terms.epoch <= epoch.saturating_add(MAX_EPOCH_STEP)
    }

    /// The last signature of what ends now stays with the totals that it states.
    fn keep_evidence(&mut self) {
        if self.core.evidence.is_some() {
            self.old_evidence = self.evidence().map(Box::new);
            self.core.evidence = None;
            self.dirty.say(Key::Evidence);
            self.dirty.say(Key::Core);
        }
    }

    /// Ends all requests, queued operations and batches; balances stay. Gives the friend's requests and ours.
    #[allow(clippy::type_complexity)] // two lists of one kind, named where they are used
    fn drop_everything(&mut self) -> (Vec<super::RequestKey>, Vec<super::RequestKey>) {
        let (mut incoming, mut outgoing) = (Vec::new(), Vec::new());
        for (currency, state) in self.currencies.iter_mut() {
            let (ours, friends) = state.ledger.drop_requests();
            incoming.extend(friends.into_iter().map(|id| (*currency, id)));
            outgoing.extend(ours.into_iter().map(|id| (*currency, id)));
            state.seen = *state.ledger.totals();
            self.dirty.say(Key::Currency(*currency));
        }
        incoming.iter().for_each(|key| self.dirty.say(Key::Incoming(*key)));
        outgoing.iter().for_each(|key| self.dirty.say(Key::Outgoing(*key)));
        outgoing.extend(self.queue.clear());
        for unacked in std::mem::take(&mut self.unacked) {
            self.dirty.say(Key::Batch(unacked.mark.seq));
        }
        self.core.made = self.core.signed_for;
        self.core.owes_ack = false;
        self.dirty.say(Key::Core);
        self.window_used = 0;
        self.strains = None;
        self.crossing = LeanMap::new();
        (incoming, outgoing)
    }

    /// Both logs begin again on `terms`. Nothing is open or queued.
    fn start_epoch(&mut self, terms: &ResetTerms, of: TermsOf, events: &mut Vec<ChannelEvent>) {
        self.keep_evidence();
        self.drop_everything();
        self.core = Core::new(&self.us, &self.friend, terms.epoch, terms.reset_token);
        self.core.says_currencies = true;
        self.relays.said = Said::NotYet;
        self.state = State::Consistent;
        self.set_balances(terms, of);
        self.link = self.link.as_ref().map(|link| Link {
            was_reset: link.was_reset || of == TermsOf::Us,
            stands_heard: link.stands_heard,
            ..Link::default()
        });
        [Key::Core, Key::State, Key::Relays].into_iter().for_each(|key| self.dirty.say(key));
        events.push(ChannelEvent::ResetDone { epoch: terms.epoch, terms: of });
    }

    /// Every currency stands at the terms, or at zero. What has a balance is listed by both, whatever was listed before.
    fn set_balances(&mut self, terms: &ResetTerms, of: TermsOf) {
        for CurrencyBalance { currency, .. } in &terms.balances {
            self.currencies.get_or_default(*currency);
        }
        for (currency, state) in self.currencies.iter_mut() {
            let stated = terms.balances.binary_search_by_key(currency, |balance| balance.currency);
            let stated = stated.map_or(0, |index| terms.balances[index].balance);
            let balance = match of {
                TermsOf::Us => stated,
                TermsOf::Friend if mutant!(SwapSignInReset) => stated,
                TermsOf::Friend => -stated,
            };
            state.seen = Totals { balance, ..Totals::default() };
            state.ledger = Ledger::new(state.seen);
            state.config.friend_lists |= balance != 0;
            state.config.listing = match state.config.listing {
                Listing::Unlisted if balance == 0 => Listing::Unlisted,
                Listing::Leaving | Listing::Left(_) if balance == 0 => Listing::Leaving,
                Listing::Unlisted | Listing::Leaving | Listing::Left(_) | Listing::Listed => Listing::Listed,
            };
            self.dirty.say(Key::Currency(*currency));
        }
        let all: Vec<Currency> = self.currencies.keys().copied().collect();
        all.iter().for_each(|currency| self.forget_if_void(currency));
    }
}
