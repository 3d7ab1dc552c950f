//! How long requests that go on from a line's end have held how much of it; see [`crate::ledger::guard`].
//!
//! The sums are the ledgers'. Here is what needs the time: each bucket is brought up before what is held changes, so that it
//! counts what was held and not what is. One for each currency and direction: what we pass on *ahead*, to the friend, is bounded
//! by it; of what the friend passes on to us it says what should be offered. An honest friend counts a request from before we do
//! until after, so it is at least as strict as what we say.

use offset_protocol::codec::List;
use offset_protocol::friend::{CurrencyLimit, FriendMessage};
use offset_protocol::lean::LeanMap;
use offset_protocol::limits::{MAX_AMOUNT, MAX_CURRENCIES};
use offset_protocol::machine::Instant;
use offset_protocol::money::Currency;

use super::{Channel, CurrencyState, State};
use crate::ledger::Allowance;
use crate::ledger::guard::{Held, Strain};

/// Over whose line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    /// The friend's to us.
    Here,
    /// Ours to the friend.
    Ahead,
}

/// Of those currencies and directions where something is held, or was lately.
pub(super) type Strains = LeanMap<(Way, Currency), Strain>;

impl CurrencyState {
    fn held(&self, way: Way, friends_limit: u128) -> Held {
        match way {
            Way::Here => Held { frozen: self.ledger.forwarded_frozen(), line: self.ledger.line(self.config.max_debt) },
            Way::Ahead => Held { frozen: self.ledger.onward().frozen, line: self.ledger.line_ahead(friends_limit) },
        }
    }
}

/// One of 32 at most; the last one counts.
fn limit_of(limits: &[CurrencyLimit], currency: &Currency) -> u128 {
    let limit = limits.iter().rfind(|limit| limit.currency == *currency);
    limit.map_or(0, |limit| limit.max_debt.min(MAX_AMOUNT))
}

/// Limits.
impl Channel {
    /// What we may owe the friend, as it told us in this process: 0 if it has not.
    pub(super) fn friends_limit(&self, currency: &Currency) -> u128 {
        limit_of(&self.friends_limits, currency)
    }

    /// The friend says what we may owe it: all of it, each time. A hint: the most that a lie can do is what a friend can do
    /// anyway, to refuse what we pass on, or to take what we keep for ourselves of its line.
    pub fn on_limits(&mut self, limits: &List<CurrencyLimit, MAX_CURRENCIES>) {
        self.friends_limits = limits.to_vec().into_boxed_slice();
    }

    /// Says what the friend may owe us, if it has not heard that on this link.
    pub(super) fn say_limits(&mut self, out: &mut Vec<FriendMessage>) {
        let Some(link) = self.link.as_mut().filter(|_| !matches!(self.state, State::Inconsistent(_))) else { return };
        if std::mem::replace(&mut link.said_limits, true) {
            return;
        }
        let listed = self.currencies.iter().filter(|(_, state)| state.is_listed());
        let limit = |(currency, state): (&Currency, &CurrencyState)| CurrencyLimit {
            currency: *currency,
            max_debt: state.config.max_debt,
        };
        let limits = List::truncated(listed.map(limit));
        if !limits.is_empty() {
            out.push(FriendMessage::Limits(limits));
        }
    }

    /// A limit, or the list of currencies, has changed.
    pub(super) fn say_limits_again(&mut self) {
        if let Some(link) = &mut self.link {
            link.said_limits = false;
        }
    }
}

/// Time.
impl Channel {
    fn strains(&self) -> impl Iterator<Item = (&(Way, Currency), &Strain)> {
        self.strains.iter().flat_map(|strains| strains.iter())
    }

    fn allowance_of(&self, way: Way, currency: &Currency) -> Allowance {
        let strain = self.strains.as_ref().and_then(|strains| strains.get(&(way, *currency)));
        strain.map(Strain::allowance).unwrap_or_default()
    }

    /// Up to what the friend passes on to us for others that goes on from here, as far as we can tell.
    pub fn allowance(&self, currency: &Currency) -> Allowance {
        self.allowance_of(Way::Here, currency)
    }

    /// Up to what we pass on for others that goes on from the friend.
    pub fn allowance_ahead(&self, currency: &Currency) -> Allowance {
        self.allowance_of(Way::Ahead, currency)
    }

    /// Brings all buckets up to now, while there is a link: without one nothing changes, and after a restart the friend's limits
    /// are not known before. As many as currencies in which something goes on, of `MAX_CURRENCIES` at most, twice.
    pub(super) fn settle_strains(&mut self, now: Instant) {
        if !self.is_resumed() {
            return;
        }
        let Some(strains) = &mut self.strains else { return };
        let mut idle = Vec::new();
        for (&(way, currency), strain) in strains.iter_mut() {
            let limit = limit_of(&self.friends_limits, &currency);
            let held = self.currencies.get(&currency).map(|state| state.held(way, limit));
            if !held.is_some_and(|held| strain.settle(now, &held)) {
                idle.push((way, currency));
            }
        }
        for key in &idle {
            strains.remove(key);
        }
        if strains.is_empty() {
            self.strains = None;
        }
    }

    fn is_held(&self, way: Way, currency: &Currency) -> bool {
        self.currencies.get(currency).is_some_and(|state| state.held(way, 0).frozen > 0)
    }

    /// A request was accepted, or signed: from now on its currency is watched, if it goes on.
    pub(super) fn watch_strain(&mut self, now: Instant, way: Way, currency: Currency) {
        let is_watched = self.strains.as_ref().is_some_and(|strains| strains.contains_key(&(way, currency)));
        if !is_watched && self.is_held(way, &currency) {
            self.strains.get_or_insert_default().insert((way, currency), Strain::begin(now));
        }
    }

    /// Storage knows what is held, and not for how long.
    pub(super) fn restore_strains(&mut self) {
        for currency in self.currencies.keys().copied().collect::<Vec<_>>() {
            for way in [Way::Here, Way::Ahead] {
                if self.is_held(way, &currency) {
                    self.strains.get_or_insert_default().insert((way, currency), Strain::unknown());
                }
            }
        }
    }

    /// When an allowance next changes by itself, where anybody is told of it.
    pub(super) fn next_allowance(&self) -> Option<Instant> {
        self.link.as_ref().filter(|link| link.is_resumed)?;
        let next = |(&(way, currency), strain): (&(Way, Currency), &Strain)| {
            strain.next_change(&self.currencies.get(&currency)?.held(way, self.friends_limit(&currency)))
        };
        self.strains().filter_map(next).min()
    }
}
