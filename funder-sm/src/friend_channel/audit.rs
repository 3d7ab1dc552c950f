//! A channel as those see it who look on from outside: a simulator's checkers, tests. Nothing here changes anything.

use offset_protocol::bytes::ResetToken;
use offset_protocol::friend::Batch;
use offset_protocol::money::Currency;

use super::Channel;

/// Where the two logs stand at one end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogMarks {
    /// Counts resets.
    pub epoch: u64,
    /// Our last batch.
    pub made: u64,
    /// Our last batch that the friend has signed for.
    pub signed_for: u64,
    /// The friend's last batch that we applied.
    pub applied: u64,
}

impl Channel {
    /// Where the two logs stand.
    pub fn marks(&self) -> LogMarks {
        let core = &self.core;
        LogMarks { epoch: core.epoch, made: core.made.seq, signed_for: core.signed_for.seq, applied: core.applied.seq }
    }

    /// Of the terms that this epoch began on; zeros if no reset began it.
    pub fn reset_token(&self) -> ResetToken {
        self.core.reset_token
    }

    /// Our batches that the friend has not signed for, by number, oldest first. After a dispute began there are none.
    pub fn unacked(&self) -> impl DoubleEndedIterator<Item = (u64, &Batch)> {
        self.unacked.iter().map(|unacked| (unacked.mark.seq, &unacked.batch))
    }

    /// How many requests are open that we sent, and that the friend sent.
    pub fn open_requests(&self) -> (usize, usize) {
        let ledgers = || self.currencies.values().map(|state| &state.ledger);
        (ledgers().map(|ledger| ledger.outgoing().len()).sum(), ledgers().map(|ledger| ledger.incoming().len()).sum())
    }

    /// What the friend's requests freeze that we did not refuse.
    pub fn accepted_frozen(&self, currency: &Currency) -> u128 {
        self.currencies.get(currency).map_or(0, |state| state.ledger.accepted_frozen())
    }

    /// Everything that a restart must find again, as text to be compared; secrets are not in it.
    pub(crate) fn portrait(&self) -> String {
        format!(
            "{:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}",
            self.core,
            self.state,
            self.relays,
            self.currencies,
            self.unacked,
            self.crossing,
            self.old_evidence,
            self.queue.iter().collect::<Vec<_>>(),
        )
    }
}
