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

mod bits;
mod card;
mod draw;
pub mod friend;
mod hand;
mod index;
mod person;
mod plays;
mod relay;
mod report;
mod shadow;
mod stranger;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use offset_protocol::app::Permissions;
use offset_protocol::bytes::PublicKey;
use offset_protocol::identity::SharedSigner;

pub use draw::{Shares, draw};
pub use plays::*;
pub(crate) use stranger::{Rumours, Target};

use crate::case::{NodeCheat, ServerCheat};
use crate::dice::Dice;
use crate::host::Program;
use crate::people::App;
use crate::servers::{Index, Relay};
use hand::Hand;

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

/// The programs of cheaters, each with dice of its own.
pub(crate) fn card(
    apps: Vec<(PublicKey, Permissions)>,
    cheat: &NodeCheat,
    signer: SharedSigner,
    dice: &Dice,
    evidence: &SharedEvidence,
) -> Box<dyn Program> {
    let cheater = friend::SharedCheater::new(signer, cheat.friend.clone(), dice.clone(), evidence.clone());
    let reports = Hand::shared(&cheat.report, report::name, dice.clone(), evidence);
    Box::new(card::CheatingCard { apps, cheater, reports })
}

/// The app of a cheating person.
pub(crate) fn app(app: App, cheat: &NodeCheat, dice: Dice, evidence: &SharedEvidence) -> Box<dyn Program> {
    Box::new(person::CheatingApp::new(app, Hand::shared(&cheat.person, person::name, dice, evidence)))
}

/// A relay that cheats.
pub(crate) fn relay(relay: Relay, cheat: &ServerCheat, dice: Dice, evidence: &SharedEvidence) -> Box<dyn Program> {
    Box::new(relay::CheatingRelay::new(relay, Hand::shared(&cheat.relay, relay::name, dice, evidence)))
}

/// An index server that cheats.
pub(crate) fn index(index: Index, cheat: &ServerCheat, dice: Dice, evidence: &SharedEvidence) -> Box<dyn Program> {
    Box::new(index::CheatingIndex::new(index, Hand::shared(&cheat.index, index::name, dice, evidence)))
}

/// A stranger who has heard some rumours.
pub(crate) fn stranger(
    plays: &[Play<StrangerTrick>],
    rumours: Rumours,
    dice: Dice,
    evidence: &SharedEvidence,
) -> Box<dyn Program> {
    Box::new(stranger::Stranger::new(Hand::shared(plays, stranger::name, dice, evidence), rumours))
}
