//! Sums of one currency and their differences. Nothing wraps: what would leave its range is `None`.

use offset_protocol::friend::CurrencyTotals;
use offset_protocol::money::Currency;
use offset_protocol::{mutant, wire_struct};

wire_struct! {
    /// What stands in one currency, as seen from one side.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Totals {
        /// Positive: the friend owes us.
        pub balance: i128,
        /// Frozen by requests that we sent.
        pub out_frozen: u128,
        /// Frozen by requests that we received.
        pub in_frozen: u128,
    }

    /// A difference of two [`Totals`].
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Delta {
        /// Of the balance.
        pub balance: i128,
        /// Of what our requests freeze.
        pub out_frozen: i128,
        /// Of what the friend's requests freeze.
        pub in_frozen: i128,
    }
}

impl Totals {
    /// The totals after `delta`, unless one leaves its range.
    pub fn after(&self, delta: &Delta) -> Option<Totals> {
        Some(Totals {
            balance: self.balance.checked_add(delta.balance)?,
            out_frozen: self.out_frozen.checked_add_signed(delta.out_frozen)?,
            in_frozen: self.in_frozen.checked_add_signed(delta.in_frozen)?,
        })
    }

    /// Whether nothing stands here.
    pub fn is_zero(&self) -> bool {
        *self == Totals::default()
    }

    /// The same from the friend's side; `None` only for a balance that no ledger reaches.
    pub fn mirrored(&self, currency: Currency) -> Option<CurrencyTotals> {
        self.named(currency).mirrored()
    }

    /// The same with its currency.
    pub fn named(&self, currency: Currency) -> CurrencyTotals {
        CurrencyTotals { currency, balance: self.balance, out_frozen: self.out_frozen, in_frozen: self.in_frozen }
    }
}

impl Delta {
    /// Nothing.
    pub const ZERO: Delta = Delta { balance: 0, out_frozen: 0, in_frozen: 0 };

    /// Both differences, one after the other. Saturates; amounts of one batch stay 2^18 times below that.
    pub fn and(&self, later: &Delta) -> Delta {
        Delta {
            balance: self.balance.saturating_add(later.balance),
            out_frozen: self.out_frozen.saturating_add(later.out_frozen),
            in_frozen: self.in_frozen.saturating_add(later.in_frozen),
        }
    }

    /// The way back.
    pub fn reversed(&self) -> Delta {
        Delta {
            balance: self.balance.saturating_neg(),
            out_frozen: self.out_frozen.saturating_neg(),
            in_frozen: self.in_frozen.saturating_neg(),
        }
    }

    pub(super) fn freezes_out(frozen: u128) -> Delta {
        Delta { out_frozen: signed(frozen), ..Delta::ZERO }
    }

    pub(super) fn freezes_in(frozen: u128) -> Delta {
        Delta { in_frozen: signed(frozen), ..Delta::ZERO }
    }

    pub(super) fn pays_out(frozen: u128) -> Delta {
        Delta { balance: -paid(frozen), out_frozen: -signed(frozen), in_frozen: 0 }
    }

    pub(super) fn pays_in(frozen: u128) -> Delta {
        Delta { balance: paid(frozen), out_frozen: 0, in_frozen: -signed(frozen) }
    }
}

/// What a collect moves: all that was frozen.
fn paid(frozen: u128) -> i128 {
    signed(frozen) - i128::from(mutant!(CollectOffByOne))
}

/// A valid amount as a signed number: amounts are at most 2^100.
pub(super) fn signed(amount: u128) -> i128 {
    i128::try_from(amount).unwrap_or(i128::MAX)
}
