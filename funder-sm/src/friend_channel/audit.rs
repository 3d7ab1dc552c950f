//! A channel as those see it who look on from outside: a simulator's checkers, tests. Nothing here changes anything.

use offset_protocol::bytes::ResetToken;
use offset_protocol::friend::Batch;
use offset_protocol::limits::{MAX_BATCH_OPS, MAX_CURRENCIES, MAX_PENDING, MAX_RELAYS, WINDOW};
use offset_protocol::money::Currency;
use offset_protocol::payment::Request;

use super::{Channel, MAX_QUEUED_REQUESTS, MAX_UNACKED, MAX_UNLISTED, Origin};
use crate::ledger::MAX_INCOMING;

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

/// How large something is that must not grow without end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// What.
    pub name: &'static str,
    /// Now.
    pub size: usize,
    /// At most.
    pub limit: usize,
    /// At most when nothing is under way; the limit if that says nothing.
    pub at_rest: usize,
}

impl Size {
    /// Something that is empty at rest.
    pub(crate) const fn passing(name: &'static str, size: usize, limit: usize) -> Size {
        Size { name, size, limit, at_rest: 0 }
    }

    /// Something that stays.
    pub(crate) const fn lasting(name: &'static str, size: usize, limit: usize) -> Size {
        Size { name, size, limit, at_rest: limit }
    }
}

impl Channel {
    /// Everything that could grow, with its limit. An answer for each open request of the friend may wait, and two of them
    /// (response and collect) at most; a commit or withdrawal for each of ours.
    pub fn sizes(&self) -> [Size; 13] {
        let ledgers = || self.currencies.values().map(|state| &state.ledger);
        let most = |count: fn(&crate::ledger::Ledger) -> usize| ledgers().map(count).max().unwrap_or(0);
        let (sent, received) = self.open_requests();
        let follows = 2 * sent + 2 * received + self.queue.waiting_requests();
        let with_content = self.unacked.iter().filter(|unacked| unacked.content.is_any()).count();
        [
            Size::lasting("currencies", self.currencies.len(), 2 * MAX_CURRENCIES),
            Size::passing("open requests of ours in a currency", most(|one| one.outgoing().len()), MAX_PENDING),
            Size::passing("open requests of the friend in a currency", most(|one| one.incoming().len()), MAX_INCOMING),
            Size::passing("requests in currencies that we do not list", self.unlisted_open(), MAX_UNLISTED),
            Size::passing(
                "requests of others that wait",
                self.queue.requests_of(Origin::Forwarded),
                MAX_QUEUED_REQUESTS,
            ),
            Size::passing("requests of ours that wait", self.queue.requests_of(Origin::Own), MAX_QUEUED_REQUESTS),
            Size::passing("operations that wait", self.queue.len(), follows),
            Size::passing("batches with content", with_content, WINDOW),
            Size::lasting("batches", self.unacked.len(), MAX_UNACKED + WINDOW),
            Size::passing("answers that may cross", self.crossing.len(), WINDOW * MAX_BATCH_OPS),
            Size::lasting(
                "currencies under strain",
                self.strains.as_ref().map_or(0, |strains| strains.len()),
                self.currencies.len(),
            ),
            Size::lasting("limits of the friend", self.friends_limits.len(), MAX_CURRENCIES),
            Size::lasting("relays of the friend", self.relays.friends.len(), MAX_RELAYS),
        ]
    }

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

    /// What the friend's requests freeze that go on from here.
    pub fn forwarded_frozen(&self, currency: &Currency) -> u128 {
        self.currencies.get(currency).map_or(0, |state| state.ledger.forwarded_frozen())
    }

    /// The requests that are to go on from the friend: those that we sent and that are open, and those that wait to be sent.
    pub fn onward_requests(&self) -> impl Iterator<Item = (Currency, &Request)> {
        let sent = self.all_outgoing().map(|(currency, open)| (currency, &open.request));
        sent.chain(self.queue.all_requests()).filter(|(_, request)| !request.route.is_empty())
    }

    /// Whether a restart that found `other` would have found this one. Cheaper than to compare portraits.
    pub(crate) fn is_like(&self, other: &Channel) -> bool {
        self.core == other.core
            && self.state == other.state
            && self.relays == other.relays
            && self.currencies == other.currencies
            && self.unacked == other.unacked
            && self.crossing == other.crossing
            && self.old_evidence == other.old_evidence
            && self.queue.iter().eq(other.queue.iter())
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
