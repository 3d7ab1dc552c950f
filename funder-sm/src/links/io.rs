//! What goes into links and what comes out of them.

use offset_protocol::bytes::PublicKey;
use offset_protocol::codec::List;
use offset_protocol::friend::FriendMessage;
use offset_protocol::identity::SharedSigner;
use offset_protocol::limits::MAX_RELAYS;
use offset_protocol::machine::Seed;
use offset_protocol::net::{ConnIds, NetCommand, NetEvent};
use offset_protocol::relay::{FailReason, RelayAddress};
use serde::{Deserialize, Serialize};

/// What can happen to links.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Input {
    /// Something happened to a connection with a relay.
    Net(NetEvent),
    /// Wait for friends at this relay.
    Listen(RelayAddress),
    /// No longer wait there.
    StopListening {
        /// The relay.
        relay: PublicKey,
    },
    /// Keep a link to this friend; also when its relays changed.
    KeepLink {
        /// The friend.
        friend: PublicKey,
        /// Where it waits for us.
        relays: List<RelayAddress, MAX_RELAYS>,
    },
    /// Keep no link to this friend, and remember nothing of it.
    StopLink {
        /// The friend.
        friend: PublicKey,
    },
    /// Say this to a friend; lost if the link is down.
    Send {
        /// The friend.
        friend: PublicKey,
        /// The message.
        message: FriendMessage,
    },
    /// Close the link to a friend that misbehaves.
    DropLink {
        /// The friend.
        friend: PublicKey,
    },
    /// The network of this host is back or has changed.
    NetworkReturned,
    /// The alarm is due.
    Tick,
    /// Close the link to a friend that has done nothing wrong: there is no room for what it says. Both may dial at once.
    EndLink {
        /// The friend.
        friend: PublicKey,
    },
}

/// What links want done or known. A crash loses all of it harmlessly: links are made anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Do something with a connection.
    Net(NetCommand),
    /// The link to a friend is up: a new one, on which nothing was said.
    Up {
        /// The friend.
        friend: PublicKey,
    },
    /// The link is down.
    Down {
        /// The friend.
        friend: PublicKey,
    },
    /// A friend said something.
    Message {
        /// The friend.
        friend: PublicKey,
        /// As it travelled.
        bytes: Vec<u8>,
    },
    /// A relay does not let friends find us there, and said why; it is tried again by itself.
    RelayRefuses {
        /// The relay.
        relay: PublicKey,
        /// Why.
        reason: FailReason,
    },
    /// Whether friends can find us at this relay now.
    RelayStatus {
        /// The relay.
        relay: PublicKey,
        /// Now.
        connected: bool,
    },
}

/// What links are born with.
pub struct Config {
    /// The node's identity.
    pub signer: SharedSigner,
    /// All randomness.
    pub seed: Seed,
    /// Numbers of connections.
    pub ids: ConnIds,
}
