//! Currencies, rates and checked arithmetic on amounts.
//!
//! Amounts are `u128` and at most [`MAX_AMOUNT`]; balances are `i128`, positive when the friend owes us. No operation
//! wraps and none panics.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::limits::{MAX_AMOUNT, MAX_CURRENCY_LEN};

/// An amount larger than [`MAX_AMOUNT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the amount is larger than 2^100")]
pub struct AmountTooLarge;

/// `a + b`, if it is a valid amount.
///
/// # Errors
/// [`AmountTooLarge`] past [`MAX_AMOUNT`].
pub fn add_amounts(a: u128, b: u128) -> Result<u128, AmountTooLarge> {
    a.checked_add(b).filter(|sum| *sum <= MAX_AMOUNT).ok_or(AmountTooLarge)
}

/// A currency's name: 1 to 16 characters of `[A-Za-z0-9_.-]`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency {
    length: u8,
    text: [u8; MAX_CURRENCY_LEN],
}

/// Text that names no currency.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a currency has 1 to 16 characters of letters, digits, '_', '.' and '-'")]
pub struct BadCurrency;

impl Currency {
    /// The name.
    pub fn as_str(&self) -> &str {
        // Only ASCII was let in; an empty name is never made.
        std::str::from_utf8(&self.text[..usize::from(self.length)]).unwrap_or("")
    }
}

impl FromStr for Currency {
    type Err = BadCurrency;
    fn from_str(name: &str) -> Result<Self, BadCurrency> {
        let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
        let bytes = name.as_bytes();
        if bytes.is_empty() || bytes.len() > MAX_CURRENCY_LEN || !bytes.iter().all(allowed) {
            return Err(BadCurrency);
        }
        let mut text = [0; MAX_CURRENCY_LEN];
        text[..bytes.len()].copy_from_slice(bytes);
        Ok(Currency { length: bytes.len() as u8, text })
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Name;
        impl serde::de::Visitor<'_> for Name {
            type Value = Currency;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a currency")
            }
            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Currency, E> {
                name.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Name)
    }
}

crate::wire_struct! {
    /// What a mediator charges: `fee(x) = floor(x * mul / 2^32) + add`.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub struct Rate {
        /// Parts in 2^32 of the amount.
        pub mul: u32,
        /// A fixed part, in units of the currency.
        pub add: u32,
    }
}

impl Rate {
    /// No fee.
    pub const ZERO: Rate = Rate { mul: 0, add: 0 };

    /// The fee for forwarding a payment of `amount`.
    ///
    /// # Errors
    /// [`AmountTooLarge`] if amount or fee is no valid amount.
    pub fn fee(&self, amount: u128) -> Result<u128, AmountTooLarge> {
        if amount > MAX_AMOUNT {
            return Err(AmountTooLarge);
        }
        // amount * mul < 2^132: split at 2^32, so that neither half overflows.
        let mul = u128::from(self.mul);
        let (high, low) = (amount >> 32, amount & 0xffff_ffff);
        let proportional = high * mul + ((low * mul) >> 32);
        add_amounts(proportional, u128::from(self.add))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn currencies_are_checked() {
        for good in ["USD", "a", "0123456789abcdef", "x_.-"] {
            assert_eq!(good.parse::<Currency>().unwrap().as_str(), good);
        }
        for bad in ["", "0123456789abcdefg", "a b", "é", "a\n"] {
            assert_eq!(bad.parse::<Currency>(), Err(BadCurrency));
        }
    }

    #[test]
    fn fees_are_exact_at_the_edges() {
        let rate = Rate { mul: u32::MAX, add: u32::MAX };
        assert_eq!(rate.fee(0), Ok(u128::from(u32::MAX)));
        assert_eq!(Rate { mul: 1 << 31, add: 3 }.fee(101), Ok(53));
        assert_eq!(Rate { mul: 1, add: 0 }.fee(u128::from(u32::MAX)), Ok(0));
        assert_eq!(Rate { mul: 1, add: 0 }.fee(1 << 32), Ok(1));
        assert_eq!(Rate::ZERO.fee(MAX_AMOUNT), Ok(0));
        assert_eq!(Rate::ZERO.fee(MAX_AMOUNT + 1), Err(AmountTooLarge));
        assert_eq!(Rate { mul: u32::MAX, add: 1 }.fee(MAX_AMOUNT), Ok(MAX_AMOUNT - (1 << 68) + 1));
    }
}
