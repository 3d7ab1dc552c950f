//! What there is in a node's records and what is wrong with it: the result of looking at every signature, hash and sum that
//! they allow to check. Made by [`crate::node::Node::inspect`] and [`crate::funder::Funder::inspect`]; nothing here changes
//! anything.
//!
//! | what is looked at | signatures | hashes | sums | what must fit |
//! |---|---|---|---|---|
//! | friend's last signature | the friend's | totals, heads of both logs | | epoch, numbers |
//! | our batches that the friend has not signed for | ours | body, chain of heads, totals of the last | deltas are the difference of the totals | numbers, what they acknowledge |
//! | open requests | the seller's, if answered | | they add up to what is frozen | amounts, route, stage, their way through the node |
//! | what waits to be signed | the seller's | locks of collects | | the request that it is about |
//! | dispute, reset | of our acceptance | | | epochs, token |
//! | payments | the seller's answers, receipt | locks | parts, fees | commit is possible, parts are open |
//! | invoices | | locks of our answers | parts | parts are open |
//! | kept events | receipt | | | |
//!
//! It cannot tell that a record is missing that nothing refers to, nor that everything is older than it should be: friends do.

use std::collections::BTreeMap;

use offset_protocol::money::Currency;

/// Findings that are kept word for word; the others are counted.
pub const MAX_FINDINGS: usize = 200;

/// What kind of thing was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Check {
    /// A signature, over the bytes that are there.
    Signature,
    /// A hash, a head of a log, a lock.
    Hash,
    /// A sum, against what it is the sum of.
    Sum,
    /// That two records fit each other, or that one is possible at all.
    Fit,
}

impl Check {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Check; 4] = [Check::Signature, Check::Hash, Check::Sum, Check::Fit];

    /// For a table.
    pub const fn name(self) -> &'static str {
        match self {
            Check::Signature => "signatures",
            Check::Hash => "hashes and locks",
            Check::Sum => "sums",
            Check::Fit => "records that must fit",
        }
    }
}

/// What stands in one currency, over all friends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Friendships that have it.
    pub friends: u64,
    /// What they owe us, less what we owe them. Saturates.
    pub balance: i128,
    /// What our requests freeze.
    pub out_frozen: u128,
    /// What the friends' requests freeze.
    pub in_frozen: u128,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inspection {
    /// How many there are, by kind of record.
    pub things: BTreeMap<&'static str, u64>,
    /// How many were checked, and how many of them failed.
    pub checks: BTreeMap<Check, (u64, u64)>,
    /// What stands in each currency.
    pub currencies: BTreeMap<Currency, Standing>,
    /// What is wrong, one sentence each; at most [`MAX_FINDINGS`].
    pub findings: Vec<String>,
}

impl Inspection {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.failed() == 0
    }

    /// How many checks failed.
    pub fn failed(&self) -> u64 {
        self.checks.values().map(|(_, failed)| failed).sum()
    }

    /// How many checks there were.
    pub fn checked(&self) -> u64 {
        self.checks.values().map(|(checked, _)| checked).sum()
    }

    /// There is one more of these.
    pub(crate) fn count(&mut self, thing: &'static str) {
        *self.things.entry(thing).or_default() += 1;
    }

    /// Something was checked; `what` says what is wrong if it failed.
    pub(crate) fn check(&mut self, check: Check, is_right: bool, what: impl FnOnce() -> String) {
        let (checked, failed) = self.checks.entry(check).or_default();
        *checked += 1;
        if is_right {
            return;
        }
        *failed += 1;
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(what());
        }
    }
}
