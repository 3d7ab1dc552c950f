//! The file of a friend's last signature: evidence that anyone can check.

use serde::{Deserialize, Serialize};

use super::Kind;
use super::json::{base64url, decimal, document, objects};
use crate::bytes::{PublicKey, Signature};
use crate::codec::{Blob, List};
use crate::friend::{CurrencyTotals, Evidence, MAX_HEADER_BYTES};
use crate::limits::MAX_CURRENCIES;
use crate::money::Currency;

/// One currency inside a token.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TotalsJson {
    currency: Currency,
    #[serde(with = "decimal")]
    balance: i128,
    #[serde(with = "decimal")]
    out_frozen: u128,
    #[serde(with = "decimal")]
    in_frozen: u128,
}

impl From<CurrencyTotals> for TotalsJson {
    fn from(totals: CurrencyTotals) -> Self {
        let CurrencyTotals { currency, balance, out_frozen, in_frozen } = totals;
        TotalsJson { currency, balance, out_frozen, in_frozen }
    }
}

impl From<TotalsJson> for CurrencyTotals {
    fn from(totals: TotalsJson) -> Self {
        let TotalsJson { currency, balance, out_frozen, in_frozen } = totals;
        CurrencyTotals { currency, balance, out_frozen, in_frozen }
    }
}

/// Totals as a list of objects.
mod totals {
    use super::{CurrencyTotals, List, MAX_CURRENCIES, TotalsJson, objects};

    pub(super) fn serialize<S: serde::Serializer>(
        totals: &List<CurrencyTotals, MAX_CURRENCIES>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        objects::serialize::<CurrencyTotals, TotalsJson, MAX_CURRENCIES, S>(totals, serializer)
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> Result<List<CurrencyTotals, MAX_CURRENCIES>, D::Error> {
        objects::deserialize::<CurrencyTotals, TotalsJson, MAX_CURRENCIES, D>(deserializer)
    }
}

document! { Evidence as TokenJson, Kind::Token, check |_| Ok(()), {
    sender: PublicKey,
    receiver: PublicKey,
    #[serde(with = "totals")]
    totals: List<CurrencyTotals, MAX_CURRENCIES>,
    #[serde(with = "base64url")]
    header: Blob<MAX_HEADER_BYTES>,
    signature: Signature,
}}
