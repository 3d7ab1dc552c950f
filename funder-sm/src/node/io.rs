//! What goes into a node and what comes out of it.

use offset_protocol::app::Permissions;
use offset_protocol::bytes::PublicKey;
use offset_protocol::identity::SharedSigner;
use offset_protocol::machine::{Seed, WallTime};
use offset_protocol::net::{NetCommand, NetEvent};
use offset_protocol::persist::{Change, Revision};
use offset_protocol::relay::FailReason;

use super::checks::{Check, Checked};
use crate::funder::Disagreement;

/// What a node is born with.
pub struct NodeConfig {
    /// Its identity.
    pub signer: SharedSigner,
    /// All randomness; never used twice.
    pub seed: Seed,
}

/// What can happen to a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeInput {
    /// Something happened to a connection: an app's (incoming) or one that the node asked for.
    Net(NetEvent),
    /// The revision is on disk.
    Durable(Revision),
    /// What came of a [`NodeOutput::Check`]: sooner or later, in any order.
    Checked(Checked),
    /// This app may connect, and do this.
    Trust {
        /// The app.
        app: PublicKey,
        /// What it may do.
        permissions: Permissions,
    },
    /// This app may not connect.
    Distrust {
        /// The app.
        app: PublicKey,
    },
    /// What a clock on the wall shows.
    Wall(WallTime),
    /// The network of this host is back or has changed.
    NetworkReturned,
    /// The alarm is due.
    Tick,
}

/// What a node wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeOutput {
    /// Do something with a connection. A crash: all connections are gone, and made again.
    Net(NetCommand),
    /// Write these records, whole or not at all, then answer [`NodeInput::Durable`]. At most one revision is in flight. A
    /// crash before it is durable: nothing of it was said to anyone.
    Persist {
        /// Counts up from 1 in each process.
        revision: Revision,
        /// The records.
        changes: Vec<Change>,
    },
    /// Check signatures with [`Check::run`], on any thread, then answer [`NodeInput::Checked`]. At most one for each friend is
    /// out; a crash loses it harmlessly.
    Check(Check),
    /// Something that whoever runs the node may want to know; for logs, nothing depends on it.
    Notice(Notice),
}

/// What a node notices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A relay does not let friends find this node there. The node tries again by itself, more and more seldom.
    RelayRefuses {
        /// The relay.
        relay: PublicKey,
        /// Why, in its words.
        reason: FailReason,
    },
    /// Nothing moves with this friend any more: a person has to decide. Said again after a restart, as long as it is so.
    Disagrees(Disagreement),
}
