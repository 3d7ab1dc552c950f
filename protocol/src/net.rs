//! Connections as machines see them: a number, a peer whose identity is proven, whole messages.
//!
//! Runtimes open sockets, run the secure channel and check who is at the other end; machines speak only this vocabulary.
//! A runtime closes a connection whose peer reads too slowly; it never buffers without bound.

use serde::{Deserialize, Serialize};

use crate::bytes::PublicKey;
use crate::codec::Text;
use crate::limits::MAX_ADDRESS_LEN;

/// A network address, `HOST:PORT`. Machines never look inside.
pub type Address = Text<MAX_ADDRESS_LEN>;

/// One connection. Numbers are never used again within a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ConnId(u64);

impl ConnId {
    const INCOMING: u64 = 1 << 63;

    /// The machine's `n`-th connection that it asked for.
    pub const fn outgoing(n: u64) -> Self {
        ConnId(n & !Self::INCOMING)
    }

    /// The runtime's `n`-th connection that it accepted.
    pub const fn incoming(n: u64) -> Self {
        ConnId(n | Self::INCOMING)
    }

    /// Whether the runtime accepted it.
    pub const fn is_incoming(self) -> bool {
        self.0 & Self::INCOMING != 0
    }

    /// Of an outgoing connection: the lane of the [`ConnIds`] that gave out its number, of so many `lanes`. A power of two
    /// of them keeps their numbers apart for ever.
    pub const fn lane(self, lanes: u64) -> u64 {
        self.0 % lanes
    }
}

/// Gives out the numbers of outgoing connections. Machines that live in one process each take a lane of their own, so
/// that their numbers never meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnIds {
    next: u64,
    step: u64,
}

impl ConnIds {
    /// The numbers `lane`, `lane + lanes`, `lane + 2 * lanes`, …; `lane` is below `lanes`.
    pub const fn lane(lane: u64, lanes: u64) -> Self {
        debug_assert!(lane < lanes, "a lane beyond the lanes");
        ConnIds { next: lane, step: lanes }
    }

    /// A number that this allocator gave out never before. (2^63 of them outlive any process.)
    pub const fn allocate(&mut self) -> ConnId {
        let conn = ConnId::outgoing(self.next);
        self.next = self.next.wrapping_add(self.step);
        conn
    }
}

crate::wire_enum! {
    /// What a connection is for. Both ends must name the same purpose.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub enum Purpose {
        /// A node speaks to a relay.
        1 = NodeRelay,
        /// A node speaks to an index server.
        2 = NodeIndex,
        /// Two index servers speak.
        3 = IndexIndex,
        /// An app speaks to a node.
        4 = AppNode,
        /// Two friends speak, end to end inside a relay's tunnel.
        5 = Friend,
    }
}

impl std::fmt::Display for Purpose {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Purpose::NodeRelay => "nodes at a relay",
            Purpose::NodeIndex => "nodes at an index server (its port for clients)",
            Purpose::IndexIndex => "index servers among themselves (their port for servers)",
            Purpose::AppNode => "apps at their node",
            Purpose::Friend => "friends",
        })
    }
}

impl Purpose {
    /// The purpose as one byte, as in the handshake.
    pub const fn tag(self) -> u8 {
        match self {
            Purpose::NodeRelay => 1,
            Purpose::NodeIndex => 2,
            Purpose::IndexIndex => 3,
            Purpose::AppNode => 4,
            Purpose::Friend => 5,
        }
    }

    /// The purpose of this tag, if it is one that we know.
    pub fn of_tag(tag: u8) -> Option<Self> {
        [Purpose::NodeRelay, Purpose::NodeIndex, Purpose::IndexIndex, Purpose::AppNode, Purpose::Friend]
            .into_iter()
            .find(|purpose| purpose.tag() == tag)
    }
}

/// What happens to connections: an input of every machine that has some.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NetEvent {
    /// A peer connected and proved its identity. The machine answers [`NetCommand::Admit`] or [`NetCommand::Close`];
    /// nothing the peer says is heard before.
    Incoming {
        /// The new connection.
        conn: ConnId,
        /// What the peer wants to speak.
        purpose: Purpose,
        /// Who it is.
        peer: PublicKey,
        /// Where it comes from, for limits per address: a host without port, or the network that one subscriber holds.
        from: Address,
    },
    /// A connection that the machine asked for is open, to the very peer that it named.
    Opened {
        /// The connection.
        conn: ConnId,
    },
    /// One whole message.
    Message {
        /// The connection.
        conn: ConnId,
        /// The message as it travelled; at most [`crate::limits::MAX_FRAME`] bytes.
        bytes: Vec<u8>,
    },
    /// The connection is gone, or could not be made. The last event of a connection, also after the machine's own `Close`.
    Closed {
        /// The connection.
        conn: ConnId,
    },
}

impl NetEvent {
    /// The connection that this is about.
    pub fn conn(&self) -> ConnId {
        match self {
            NetEvent::Incoming { conn, .. }
            | NetEvent::Opened { conn }
            | NetEvent::Message { conn, .. }
            | NetEvent::Closed { conn } => *conn,
        }
    }
}

/// What a machine wants of its connections. After a crash of its host all of them are gone and none was promised.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NetCommand {
    /// Connect; the answer is `Opened` or `Closed`.
    Connect {
        /// The number that the machine gives it, [`ConnId::outgoing`].
        conn: ConnId,
        /// What is spoken.
        purpose: Purpose,
        /// Where to.
        address: Address,
        /// Who must be there.
        peer: PublicKey,
    },
    /// Hear an incoming peer.
    Admit {
        /// The connection.
        conn: ConnId,
    },
    /// Send one message.
    Send {
        /// The connection.
        conn: ConnId,
        /// The message.
        bytes: Vec<u8>,
    },
    /// Send what is waiting, say that this is the end, and close.
    Close {
        /// The connection.
        conn: ConnId,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_never_meet() {
        let (mut even, mut odd) = (ConnIds::lane(0, 2), ConnIds::lane(1, 2));
        let all: std::collections::BTreeSet<_> = (0..100).flat_map(|_| [even.allocate(), odd.allocate()]).collect();
        assert_eq!(all.len(), 200);
        assert!(all.iter().all(|conn| !conn.is_incoming()));
        assert!((0..100).all(|_| even.allocate().lane(2) == 0 && odd.allocate().lane(2) == 1));
    }
}
