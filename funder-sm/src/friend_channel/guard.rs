//! How long requests that go on from a line's end have held how much of it; see [`crate::ledger::guard`].
//!
//! The sums are the ledgers'. Here is what needs the time: each bucket, one for each currency, is brought up before what is held
//! changes, or the friend's limit, so that it counts what was held and not what is. What we pass on to the friend is bounded by
//! it. The friend publishes what others may send over our line, so we tell it: two buckets at two ends would not stay the same.

use offset_protocol::codec::List;
use offset_protocol::friend::{CurrencyLimit, FriendMessage};
use offset_protocol::lean::LeanMap;
use offset_protocol::limits::{MAX_AMOUNT, MAX_CURRENCIES};
use offset_protocol::machine::Instant;
use offset_protocol::money::Currency;

use super::{Channel, CurrencyState, State};
use crate::ledger::Allowance;
use crate::ledger::guard::{Held, Strain};

/// Of those currencies where something is held, or was lately.
pub(super) type Strains = LeanMap<Currency, Strain>;

impl CurrencyState {
    fn held_ahead(&self, friends_limit: u128) -> Held {
        Held { frozen: self.ledger.onward().frozen, line: self.ledger.line_ahead(friends_limit) }
    }
}

/// One of 32 at most; the last one counts.
fn word_on<'a>(limits: &'a [CurrencyLimit], currency: &Currency) -> Option<&'a CurrencyLimit> {
    limits.iter().rfind(|limit| limit.currency == *currency)
}

fn limit_of(limits: &[CurrencyLimit], currency: &Currency) -> u128 {
    word_on(limits, currency).map_or(0, |limit| limit.max_debt.min(MAX_AMOUNT))
}

/// Limits.
impl Channel {
    /// What we may owe the friend, as it told us in this process: 0 if it has not.
    pub(super) fn friends_limit(&self, currency: &Currency) -> u128 {
        limit_of(&self.friends_limits, currency)
    }

    /// The friend says what we may owe it, and what it passes on to us: all of it, each time. A hint: the most that a lie can do is
    /// what a friend can do anyway, to refuse what we pass on, to take what we keep for ourselves of its line, and to pass on nothing.
    pub fn on_limits(&mut self, now: Instant, limits: &List<CurrencyLimit, MAX_CURRENCIES>) {
        if *self.friends_limits != **limits {
            self.settle_strains(now);
            self.friends_limits = limits.to_vec().into_boxed_slice();
        }
    }

    /// Says what the friend may owe us, and what we pass on to it, if it has not heard that on this link.
    pub(super) fn say_limits(&mut self, out: &mut Vec<FriendMessage>) {
        if matches!(self.state, State::Inconsistent(_)) || self.link.as_ref().is_none_or(|link| link.said_limits) {
            return;
        }
        let listed = self.currencies.iter().filter(|(_, state)| state.is_listed());
        let limit = |(currency, state): (&Currency, &CurrencyState)| CurrencyLimit {
            currency: *currency,
            max_debt: state.config.max_debt,
            is_lasting: self.allowance_ahead(currency) == Allowance::Lasting,
        };
        let limits = List::truncated(listed.map(limit));
        let Some(link) = &mut self.link else { return };
        link.said_limits = true;
        // Who has listed nothing yet has nothing to say; who lists nothing any more has.
        if !limits.is_empty() || link.has_said_limits {
            link.has_said_limits = true;
            out.push(FriendMessage::Limits(limits));
        }
    }

    /// A limit, the list of currencies, or what we pass on has changed.
    pub(super) fn say_limits_again(&mut self) {
        if let Some(link) = &mut self.link {
            link.said_limits = false;
        }
    }
}

/// Time.
impl Channel {
    /// Up to what the friend passes on to us for others that goes on from here, as it says.
    pub fn allowance(&self, currency: &Currency) -> Allowance {
        let is_lasting = word_on(&self.friends_limits, currency).is_some_and(|word| word.is_lasting);
        if is_lasting { Allowance::Lasting } else { Allowance::Full }
    }

    /// Up to what we pass on for others that goes on from the friend.
    pub fn allowance_ahead(&self, currency: &Currency) -> Allowance {
        let strain = self.strains.as_ref().and_then(|strains| strains.get(currency));
        strain.map(Strain::allowance).unwrap_or_default()
    }

    /// Brings all buckets up to now, while there is a link: without one nothing changes, and after a restart the friend's limits
    /// are not known before. As many as currencies in which something goes on, of `MAX_CURRENCIES` at most.
    pub(super) fn settle_strains(&mut self, now: Instant) {
        if !self.is_resumed() {
            return;
        }
        let Some(strains) = &mut self.strains else { return };
        let (mut idle, mut is_news) = (Vec::new(), false);
        for (currency, strain) in strains.iter_mut() {
            let limit = limit_of(&self.friends_limits, currency);
            let held = self.currencies.get(currency).map(|state| state.held_ahead(limit));
            let before = strain.allowance();
            if !held.is_some_and(|held| strain.settle(now, &held)) {
                idle.push(*currency);
            }
            is_news |= strain.allowance() != before;
        }
        for currency in &idle {
            strains.remove(currency);
        }
        if strains.is_empty() {
            self.strains = None;
        }
        if is_news {
            self.say_limits_again();
        }
    }

    fn is_held(&self, currency: &Currency) -> bool {
        self.currencies.get(currency).is_some_and(|state| state.held_ahead(0).frozen > 0)
    }

    /// A request was signed: from now on its currency is watched, if it goes on.
    pub(super) fn watch_strain(&mut self, now: Instant, currency: Currency) {
        let is_watched = self.strains.as_ref().is_some_and(|strains| strains.contains_key(&currency));
        if !is_watched && self.is_held(&currency) {
            self.strains.get_or_insert_default().insert(currency, Strain::begin(now));
        }
    }

    /// Storage knows what is held, and not for how long.
    pub(super) fn restore_strains(&mut self) {
        for currency in self.currencies.keys().copied().collect::<Vec<_>>() {
            if self.is_held(&currency) {
                self.strains.get_or_insert_default().insert(currency, Strain::unknown());
            }
        }
    }

    /// When an allowance next changes by itself, where anybody is told of it.
    pub(super) fn next_allowance(&self) -> Option<Instant> {
        self.link.as_ref().filter(|link| link.is_resumed)?;
        let next = |(currency, strain): (&Currency, &Strain)| {
            strain.next_change(&self.currencies.get(currency)?.held_ahead(self.friends_limit(currency)))
        };
        self.strains.iter().flat_map(|strains| strains.iter()).filter_map(next).min()
    }
}
