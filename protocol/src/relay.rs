//! What a node and a relay say to each other, and how a relay is named in tickets.
//!
//! A node opens one connection for one thing and says at once which: wait for calls ([`ToRelay::Listen`]), call another
//! node ([`ToRelay::Connect`]), or take a call ([`ToRelay::Accept`]). The relay joins a call and its taker into a tunnel.
//!
//! | message | from | on a connection that | effect |
//! |---|---|---|---|
//! | `Listen` | node | is new | it listens; `Listening`, or `Failed` and the end |
//! | `Connect { to }` | node | is new | it is half a tunnel until `to` accepts; `Ready`, or `Failed` and the end |
//! | `Accept { from }` | node | is new | it is the other half; `Ready`, or `Failed` and the end |
//! | `Reject { from, reason }` | node | listens | that half fails |
//! | `Incoming { from }` | relay | listens | `from` waits for `Accept` or `Reject` |
//! | `Closing` | relay | listens | the relay shuts down; the end |
//!
//! `Listening` tells the node what this relay lets it have, so that it does not ask for more.
//!
//! After `Ready` to `Connect` or `Accept` every message on that connection is the friends' own: the relay forwards it
//! whole, in order, and never looks inside.

use crate::bytes::PublicKey;
use crate::machine::Duration;
use crate::net::Address;

/// Bytes of one message to or from a relay before a tunnel is ready. The longest has 40; chosen freely, with room to grow.
pub const MAX_RELAY_MESSAGE: usize = 256;
/// A connection to a relay says what it is for within this time of being admitted.
pub const RELAY_SETUP_DEADLINE: Duration = Duration::from_secs(5);
/// Half a tunnel that nobody accepted fails after this time.
pub const RELAY_HALF_DEADLINE: Duration = Duration::from_secs(15);
/// A relay that shuts down leaves its tunnels this much time.
pub const RELAY_DRAIN_TIME: Duration = Duration::from_secs(5);

crate::wire_struct! {
    /// Where a relay is, and who must be there: what tickets carry and friends tell each other.
    #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub struct RelayAddress {
        /// The relay's identity.
        pub public_key: PublicKey,
        /// Where it listens.
        pub address: Address,
    }

    /// What a relay lets one identity have: told to every node that listens there.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct RelayShare {
        /// Calls of it that may wait to be accepted at once; a newer one drives out the oldest.
        pub halves: u32,
        /// Ends of tunnels at once: one for each tunnel that it called and one for each that it took.
        pub tunnel_ends: u32,
        /// Bytes a second that it may send through all its tunnels, in the long run. Beyond, it is slowed, nothing is lost.
        pub bytes_per_s: u64,
        /// Bytes that it may send at once after a rest.
        pub burst_bytes: u64,
    }
}

crate::wire_enum! {
    /// What a node says to a relay.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub enum ToRelay {
        /// I wait for calls. Replaces an older listener of the same identity at once.
        1 = Listen,
        /// I want a tunnel.
        2 = Connect {
            /// To whom.
            to: PublicKey,
        },
        /// Here is my half of the tunnel that this node asked for.
        3 = Accept {
            /// Who called.
            from: PublicKey,
        },
        /// On a listening connection: I do not take this call.
        4 = Reject {
            /// Who called.
            from: PublicKey,
            /// Why not.
            reason: RejectReason,
        },
    }

    /// What a relay says to a node.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub enum FromRelay {
        /// The tunnel stands, and all that follows on this connection is the other node's.
        1 = Ready,
        /// You do not get what you asked for, or no longer have it. The relay closes the connection after it.
        2 = Failed {
            /// Why.
            reason: FailReason,
        },
        /// On a listening connection: somebody calls.
        3 = Incoming {
            /// Who, as proven to the relay.
            from: PublicKey,
        },
        /// On a listening connection: the relay shuts down.
        4 = Closing,
        /// You listen.
        5 = Listening {
            /// What you may have here.
            share: RelayShare,
        },
    }

    /// Why a node does not take a call.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub enum RejectReason {
        /// The caller is not a friend.
        1 = Unknown,
        /// The friend is disabled for now.
        2 = Disabled,
        /// Too many calls at once; try again later.
        3 = Busy,
    }

    /// Why a relay does not give what was asked for.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub enum FailReason {
        /// The called node does not listen at this relay.
        1 = NotListening,
        /// The called node does not take the call.
        2 = Rejected {
            /// Why not, as it said.
            reason: RejectReason,
        },
        /// A limit of the relay is reached.
        3 = Busy {
            /// Whose.
            limit: LimitScope,
        },
        /// The called node did not answer in time.
        4 = Timeout,
        /// There is no such call to accept (any more).
        5 = NoSuchConnection,
        /// The relay shuts down.
        6 = Closing,
        /// The same node asked for the same thing again on a newer connection.
        7 = Replaced,
        /// The relay serves chosen nodes only, and the asking one is not among them (any more).
        8 = NotAllowed,
    }

    /// Whose share of a relay is used up.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub enum LimitScope {
        /// The asking node's own.
        1 = Identity,
        /// That of all nodes which come from the same address.
        2 = Address,
        /// The whole relay's.
        3 = Total,
        /// The other node's.
        4 = Other,
    }
}

impl std::fmt::Display for RejectReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            RejectReason::Unknown => "the caller is not a friend",
            RejectReason::Disabled => "the friend is disabled",
            RejectReason::Busy => "too many calls at once",
        })
    }
}

impl std::fmt::Display for LimitScope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            LimitScope::Identity => "this node's share",
            LimitScope::Address => "the share of this address",
            LimitScope::Total => "all that it has",
            LimitScope::Other => "the other node's share",
        })
    }
}

impl std::fmt::Display for FailReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            FailReason::NotListening => f.write_str("the called node does not listen at this relay"),
            FailReason::Rejected { reason } => write!(f, "the called node refused: {reason}"),
            FailReason::Busy { limit } => write!(f, "the relay is busy: {limit} is used up"),
            FailReason::Timeout => f.write_str("the called node did not answer in time"),
            FailReason::NoSuchConnection => f.write_str("there is no such call to accept"),
            FailReason::Closing => f.write_str("the relay shuts down"),
            FailReason::Replaced => f.write_str("a newer connection of the same node took its place"),
            FailReason::NotAllowed => f.write_str("the relay does not serve this node"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{decode, encode};

    const KEY: PublicKey = PublicKey([7; 32]);
    const LARGEST: RelayShare =
        RelayShare { halves: u32::MAX, tunnel_ends: u32::MAX, bytes_per_s: u64::MAX, burst_bytes: u64::MAX };

    #[test]
    fn every_message_round_trips_within_the_bound() {
        let to = [
            ToRelay::Listen,
            ToRelay::Connect { to: KEY },
            ToRelay::Accept { from: KEY },
            ToRelay::Reject { from: KEY, reason: RejectReason::Unknown },
        ];
        for message in to {
            let bytes = encode(&message);
            assert!(bytes.len() <= 40);
            assert_eq!(decode::<ToRelay>(&bytes, MAX_RELAY_MESSAGE), Ok(message));
        }
        let from = [
            FromRelay::Ready,
            FromRelay::Failed { reason: FailReason::Busy { limit: LimitScope::Address } },
            FromRelay::Failed { reason: FailReason::Rejected { reason: RejectReason::Busy } },
            FromRelay::Incoming { from: KEY },
            FromRelay::Closing,
            FromRelay::Listening { share: LARGEST },
        ];
        for message in from {
            let bytes = encode(&message);
            assert!(bytes.len() <= 40);
            assert_eq!(decode::<FromRelay>(&bytes, MAX_RELAY_MESSAGE), Ok(message));
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_specification() {
        assert_eq!(encode(&ToRelay::Listen), [0x81, 1]);
        assert_eq!(encode(&FromRelay::Failed { reason: FailReason::Timeout }), [0x82, 2, 0x81, 4]);
        let share = RelayShare { halves: 1, tunnel_ends: 2, bytes_per_s: 3, burst_bytes: 256 };
        assert_eq!(encode(&FromRelay::Listening { share }), [0x82, 5, 0x84, 1, 2, 3, 0x19, 1, 0]);
        let connect = encode(&ToRelay::Connect { to: KEY });
        assert_eq!(connect[..4], [0x82, 2, 0x58, 32]);
        assert_eq!(connect[4..], KEY.0);
    }
}
