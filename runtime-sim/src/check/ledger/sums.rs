//! Sums by currency. Few currencies, so a sorted list.

use offset_protocol::money::Currency;

/// A signed sum for each currency; what is not there is zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sums(Vec<(Currency, i128)>);

impl Sums {
    /// The sum in one currency.
    pub fn get(&self, currency: &Currency) -> i128 {
        self.0.binary_search_by_key(currency, |(name, _)| *name).map_or(0, |place| self.0[place].1)
    }

    /// Adds to one currency. Saturates, far beyond any amount.
    pub fn add(&mut self, currency: Currency, amount: i128) {
        if amount == 0 {
            return;
        }
        match self.0.binary_search_by_key(&currency, |(name, _)| *name) {
            Ok(place) => {
                self.0[place].1 = self.0[place].1.saturating_add(amount);
                if self.0[place].1 == 0 {
                    self.0.remove(place);
                }
            }
            Err(place) => self.0.insert(place, (currency, amount)),
        }
    }

    /// Adds all of another.
    pub fn add_all(&mut self, other: &Sums) {
        other.iter().for_each(|(currency, amount)| self.add(currency, amount));
    }

    /// Takes all of another away.
    pub fn take_all(&mut self, other: &Sums) {
        other.iter().for_each(|(currency, amount)| self.add(currency, amount.saturating_neg()));
    }

    /// The sums that are not zero, by currency.
    pub fn iter(&self) -> impl Iterator<Item = (Currency, i128)> + '_ {
        self.0.iter().copied()
    }

    /// Whether all are zero.
    pub fn is_zero(&self) -> bool {
        self.0.is_empty()
    }
}
