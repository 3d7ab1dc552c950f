//! Fees and hops in one number, so that one comparison orders labels.
//!
//! A cost is `fee · 64 + hops`: no search adds up to more than 63 hops. Amounts up to 2^50 are reckoned in 64 bits, which is
//! exact: 31 mediators charge less than 31 · (2^50 + 2^32) < 2^55 together. Larger ones in 128 bits, the
//! largest amount being 2^100.

use std::fmt::Debug;
use std::ops::Add;

use crate::arc::Rounded;

/// Amounts up to this are reckoned in 64 bits.
pub(crate) const SMALL_AMOUNT: u64 = 1 << 50;
/// Bits of a cost that count hops.
const HOP_BITS: u32 = 6;
const HOP_MASK: u32 = (1 << HOP_BITS) - 1;

/// Costs of labels, and amounts and fees in the same type.
pub(crate) trait Cost: Copy + Ord + Default + Debug + Add<Output = Self> {
    /// The cost of an edge for nothing.
    const HOP: Self;

    /// An amount; the largest that can be a sum of fees if it is larger.
    fn amount(amount: u128) -> Self;

    /// What a rate of `mul` takes of this amount.
    fn share(self, mul: u32) -> Self;

    fn from_add(add: u32) -> Self;

    /// The cost of this fee, without hops.
    fn cost(self) -> Self;

    /// The fee in this cost.
    fn fee(self) -> Self;

    fn hops(self) -> u32;

    fn rounded(self) -> Rounded;

    fn wide(self) -> u128;
}

impl Cost for u64 {
    const HOP: Self = 1;

    fn amount(amount: u128) -> Self {
        amount.min(1 << 57) as u64
    }

    fn share(self, mul: u32) -> Self {
        // 2^50 · 2^32 needs 82 bits, what is left of it 50.
        ((u128::from(self) * u128::from(mul)) >> 32) as u64
    }

    fn from_add(add: u32) -> Self {
        add.into()
    }

    fn cost(self) -> Self {
        self << HOP_BITS
    }

    fn fee(self) -> Self {
        self >> HOP_BITS
    }

    fn hops(self) -> u32 {
        self as u32 & HOP_MASK
    }

    fn rounded(self) -> Rounded {
        Rounded::of_small(self)
    }

    fn wide(self) -> u128 {
        self.into()
    }
}

impl Cost for u128 {
    const HOP: Self = 1;

    fn amount(amount: u128) -> Self {
        amount.min(1 << 120)
    }

    fn share(self, mul: u32) -> Self {
        // 2^100 · 2^32 is too much for 128 bits: in halves, as Rate::fee does it.
        let mul = u128::from(mul);
        (self >> 32) * mul + (((self & 0xffff_ffff) * mul) >> 32)
    }

    fn from_add(add: u32) -> Self {
        add.into()
    }

    fn cost(self) -> Self {
        self << HOP_BITS
    }

    fn fee(self) -> Self {
        self >> HOP_BITS
    }

    fn hops(self) -> u32 {
        self as u32 & HOP_MASK
    }

    fn rounded(self) -> Rounded {
        Rounded::of(self)
    }

    fn wide(self) -> u128 {
        self
    }
}

#[cfg(test)]
mod tests {
    use offset_protocol::limits::MAX_AMOUNT;
    use offset_protocol::money::Rate;
    use proptest::prelude::*;

    use super::*;

    fn fee<C: Cost>(amount: u128, rate: Rate) -> u128 {
        (C::amount(amount).share(rate.mul) + C::from_add(rate.add)).wide()
    }

    proptest! {
        #[test]
        fn fees_are_those_of_the_rate(amount in 0..=MAX_AMOUNT, less in 0..101_u32, mul: u32, add: u32) {
            let (amount, rate) = (amount >> less, Rate { mul, add });
            if let Ok(charged) = rate.fee(amount) {
                prop_assert_eq!(fee::<u128>(amount, rate), charged);
                if amount <= SMALL_AMOUNT.into() {
                    prop_assert_eq!(fee::<u64>(amount, rate), charged);
                }
            }
        }

        #[test]
        fn a_cost_keeps_fee_and_hops_apart(fee in 0..=(1_u64 << 57), hops in 0..64_u64) {
            let cost = fee.cost() + hops;
            prop_assert_eq!((cost.fee(), u64::from(cost.hops())), (fee, hops));
            let wide = u128::from(fee).cost() + u128::from(hops);
            prop_assert_eq!((wide.fee(), wide.hops()), (fee.into(), cost.hops()));
        }
    }
}
