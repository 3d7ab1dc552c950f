//! How long requests of the friend that go on from here have held how much; see [`crate::ledger::guard`].
//!
//! The sums are the ledgers'. Here is what needs the time: each bucket is brought up before what is held changes, so that it
//! counts what was held and not what is.

use offset_protocol::lean::LeanMap;
use offset_protocol::machine::Instant;
use offset_protocol::money::Currency;

use super::{Channel, CurrencyState};
use crate::ledger::Allowance;
use crate::ledger::guard::{Held, Strain};

impl CurrencyState {
    fn held(&self) -> Held {
        Held { frozen: self.ledger.forwarded_frozen(), line: self.ledger.line(self.config.max_debt) }
    }
}

/// By currency: of those where something is held, or was lately.
pub(super) type Strains = LeanMap<Currency, Strain>;

impl Channel {
    fn strains(&self) -> impl Iterator<Item = (&Currency, &Strain)> {
        self.strains.iter().flat_map(|strains| strains.iter())
    }

    /// What new requests of the friend may hold that go on from here.
    pub fn allowance(&self, currency: &Currency) -> Allowance {
        let strain = self.strains.as_ref().and_then(|strains| strains.get(currency));
        strain.map(Strain::allowance).unwrap_or_default()
    }

    /// Brings all buckets up to now. As many as currencies in which something goes on, of `MAX_CURRENCIES` at most.
    pub(super) fn settle_strains(&mut self, now: Instant) {
        let Some(strains) = &mut self.strains else { return };
        let mut idle = Vec::new();
        for (currency, strain) in strains.iter_mut() {
            let held = self.currencies.get(currency).map(CurrencyState::held);
            if !held.is_some_and(|held| strain.settle(now, &held)) {
                idle.push(*currency);
            }
        }
        for currency in &idle {
            strains.remove(currency);
        }
        if strains.is_empty() {
            self.strains = None;
        }
    }

    /// A request was accepted: from now on its currency is watched, if it goes on from here.
    pub(super) fn watch_strain(&mut self, now: Instant, currency: Currency) {
        let is_held = self.currencies.get(&currency).is_some_and(|state| state.ledger.forwarded_frozen() > 0);
        let is_watched = self.strains.as_ref().is_some_and(|strains| strains.contains_key(&currency));
        if is_held && !is_watched {
            self.strains.get_or_insert_default().insert(currency, Strain::begin(now));
        }
    }

    /// Storage knows what is held, and not for how long.
    pub(super) fn restore_strains(&mut self) {
        for (currency, _) in self.currencies.iter().filter(|(_, state)| state.ledger.forwarded_frozen() > 0) {
            self.strains.get_or_insert_default().insert(*currency, Strain::unknown());
        }
    }

    /// When an allowance next changes by itself, where anybody is told of it.
    pub(super) fn next_allowance(&self) -> Option<Instant> {
        self.link.as_ref().filter(|link| link.is_resumed)?;
        let next =
            |(currency, strain): (&Currency, &Strain)| strain.next_change(&self.currencies.get(currency)?.held());
        self.strains().filter_map(next).min()
    }
}
