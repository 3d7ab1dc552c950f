//! What sellers have signed in a friend's batch, for whoever checks signatures before the channel hears the batch.

use offset_protocol::bytes::{Hash, PublicKey, Signature};
use offset_protocol::friend::{Batch, CurrencyOperations, Operation};
use offset_protocol::money::Currency;
use offset_protocol::payment::{Response, ResponseTerms};

use super::Channel;
use crate::ledger::OpenRequest;

/// A body that is shorter holds no response.
const SHORTEST: usize = 128;

/// A seller's signature in a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedAnswer {
    /// Who must have signed.
    pub seller: PublicKey,
    /// What.
    pub hash: Hash,
    /// How.
    pub signature: Signature,
}

impl SignedAnswer {
    /// What the seller of an open request must have signed, who is `friend` if the request ends there.
    pub(crate) fn new(open: &OpenRequest, response: &Response, currency: Currency, friend: &PublicKey) -> Self {
        SignedAnswer {
            seller: *open.request.route.last().unwrap_or(friend),
            hash: ResponseTerms::new(&open.request, response, currency).hash(),
            signature: response.signature,
        }
    }
}

impl Channel {
    /// What sellers have signed in a batch that came, as far as it is an answer to what is open. Nothing is believed: the
    /// channel looks at it again when it hears the batch.
    pub fn signed_answers(&self, batch: &Batch) -> Vec<SignedAnswer> {
        if batch.body.len() < SHORTEST {
            return Vec::new();
        }
        let Ok(body) = batch.decode_body() else { return Vec::new() };
        let answer = |currency: Currency, operation: &Operation| {
            let Operation::Response(response) = operation else { return None };
            let open = self.outgoing(&currency, &response.request_id)?;
            Some(SignedAnswer::new(open, response, currency, &self.friend))
        };
        let of_currency = |all: &CurrencyOperations| -> Vec<_> {
            all.operations.iter().filter_map(|operation| answer(all.currency, operation)).collect()
        };
        body.operations.iter().flat_map(of_currency).collect()
    }
}
