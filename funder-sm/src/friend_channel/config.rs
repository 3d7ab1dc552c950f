//! What the user decides about a friendship: relays, currencies, limits, rates.
//!
//! A currency is usable while both sides list it. Opening lists it; closing is local and refuses new requests both ways;
//! removing takes it off our list once nothing is open in it, and is done when the friend has signed for that.

use offset_protocol::codec::List;
use offset_protocol::limits::{MAX_AMOUNT, MAX_CURRENCIES, MAX_RELAYS};
use offset_protocol::money::{Currency, Rate};
use offset_protocol::relay::RelayAddress;
use offset_protocol::{mutant, sometimes};

use super::records::Key;
use super::{Channel, ChannelEvent, ConfigError, CurrencyState, Listing, Refused, Said};

/// Configuration.
impl Channel {
    /// Our relays, as the friend should know them: all of them, each time.
    pub fn set_relays(&mut self, relays: List<RelayAddress, MAX_RELAYS>) {
        if relays != self.relays.ours {
            self.relays.ours = relays;
            self.relays.said = Said::NotYet;
            self.dirty.say(Key::Relays);
        }
    }

    /// Lists a currency and takes requests in it. A new one has no limit for the friend (0) and no fee.
    ///
    /// # Errors
    /// [`ConfigError::TooMany`].
    pub fn open_currency(&mut self, currency: Currency) -> Result<(), ConfigError> {
        let is_ours = |state: &&CurrencyState| matches!(state.config.listing, Listing::Listed | Listing::Leaving);
        let known = self.currencies.get(&currency).filter(is_ours).is_some();
        if !known && self.currencies.values().filter(is_ours).count() >= MAX_CURRENCIES {
            return Err(ConfigError::TooMany);
        }
        let state = self.currencies.get_or_default(currency);
        sometimes!("channel: a currency is opened again as it leaves", state.config.listing == Listing::Leaving);
        state.config.is_open = true;
        match state.config.listing {
            // What leaves is still on the list that the friend knows.
            Listing::Listed | Listing::Leaving => {}
            Listing::Unlisted | Listing::Left(_) => {
                self.core.says_currencies = true;
                self.dirty.say(Key::Core);
            }
        }
        state.config.listing = Listing::Listed;
        self.dirty.say(Key::Currency(currency));
        self.say_limits_again();
        Ok(())
    }

    /// Takes no more requests in a currency, from the friend or to it. What is open goes on; queued requests come back as
    /// [`ChannelEvent::Dropped`].
    ///
    /// # Errors
    /// [`ConfigError::UnknownCurrency`].
    pub fn close_currency(&mut self, currency: Currency, events: &mut Vec<ChannelEvent>) -> Result<(), ConfigError> {
        self.configured(&currency)?.config.is_open = false;
        self.drop_requests_where(|queued| *queued == currency, Refused::Closed, events);
        Ok(())
    }

    /// Takes a currency off our list. Done with [`ChannelEvent::CurrencyRemoved`]; a request of the friend that crosses
    /// the removal is cancelled.
    ///
    /// # Errors
    /// [`ConfigError::UnknownCurrency`], or [`ConfigError::InUse`] while it has a balance, or requests open or queued.
    pub fn remove_currency(&mut self, currency: Currency) -> Result<(), ConfigError> {
        let queued = self.queue.requests(&currency).count;
        let state = self.currencies.get(&currency).ok_or(ConfigError::UnknownCurrency)?;
        match state.config.listing {
            Listing::Unlisted => Err(ConfigError::UnknownCurrency),
            Listing::Leaving | Listing::Left(_) => Ok(()),
            Listing::Listed if queued > 0 || !state.ledger.totals().is_zero() => Err(ConfigError::InUse),
            Listing::Listed => {
                self.configured(&currency)?.config.listing = Listing::Leaving;
                Ok(())
            }
        }
    }

    /// What the friend may owe us. A lower limit refuses new requests and leaves open ones alone.
    ///
    /// # Errors
    /// [`ConfigError::UnknownCurrency`] or [`ConfigError::TooLarge`].
    pub fn set_max_debt(&mut self, currency: Currency, max_debt: u128) -> Result<(), ConfigError> {
        if max_debt > MAX_AMOUNT {
            return Err(ConfigError::TooLarge);
        }
        let config = &mut self.configured(&currency)?.config;
        sometimes!("channel: a limit is lowered", max_debt < config.max_debt);
        config.max_debt = if mutant!(IgnoreLoweredLimit) { max_debt.max(config.max_debt) } else { max_debt };
        self.say_limits_again();
        Ok(())
    }

    /// What we charge for forwarding what comes from this friend.
    ///
    /// # Errors
    /// [`ConfigError::UnknownCurrency`].
    pub fn set_rate(&mut self, currency: Currency, rate: Rate) -> Result<(), ConfigError> {
        self.configured(&currency)?.config.rate = rate;
        Ok(())
    }

    /// A currency of ours, about to be changed.
    fn configured(&mut self, currency: &Currency) -> Result<&mut CurrencyState, ConfigError> {
        let state = self.currencies.get_mut(currency).ok_or(ConfigError::UnknownCurrency)?;
        if matches!(state.config.listing, Listing::Unlisted) {
            return Err(ConfigError::UnknownCurrency);
        }
        self.dirty.say(Key::Currency(*currency));
        Ok(state)
    }

    /// Forgets a currency that neither side lists and in which nothing stands.
    pub(super) fn forget_if_void(&mut self, currency: &Currency) {
        if self.currencies.get(currency).is_some_and(CurrencyState::is_void) {
            self.currencies.remove(currency);
            self.dirty.say(Key::Currency(*currency));
        }
    }
}
