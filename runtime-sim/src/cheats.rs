//! Cheaters: variants of machines and hosts that break the protocol, driven by what a case says.
//!
//! | who | how | where |
//! |---|---|---|
//! | friends | a [`offset_funder_sm::meddle::Meddler`] between a node's money and its links | [`friend`] |
//! | people | a filter around an app | `person` |
//! | relays, index servers | a filter around the honest machine | `relay`, `index` |
//! | strangers | hosts that are nobody's friend | `stranger` |
//!
//! A cheater holds what it would hold: its own keys, what it sees, what others told it. It never signs as somebody else.
//! What it remembers survives its crashes. Everything that it decides is drawn from the case's seed.
//!
//! Each trick is counted when it is played ([`Evidence`]); what the honest made of it is counted too, so that a test can
//! ask whether a trick bites.

pub mod card;
pub mod friend;
mod plays;
mod shadow;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

pub use plays::*;

/// Which tricks were played, and what the honest noticed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// How often each trick was played.
    pub played: BTreeMap<Trick, u64>,
    /// What honest hosts noticed about cheaters, in words, and how often.
    pub noticed: BTreeMap<String, u64>,
}

/// Evidence that all cheaters of a world write into.
#[derive(Clone, Debug, Default)]
pub struct SharedEvidence(Arc<Mutex<Evidence>>);

impl SharedEvidence {
    /// Counts a trick.
    pub fn played(&self, trick: Trick) {
        *self.lock().played.entry(trick).or_default() += 1;
    }

    /// Counts something that an honest host noticed.
    pub fn noticed(&self, what: impl Into<String>) {
        *self.lock().noticed.entry(what.into()).or_default() += 1;
    }

    /// What there is.
    pub fn get(&self) -> Evidence {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Evidence> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
