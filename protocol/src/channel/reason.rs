//! Why a channel ended, and what it refuses its owner.

use serde::{Deserialize, Serialize};

use crate::bytes::PublicKey;
use crate::net::Purpose;

/// Why a channel is closed. The first reason stands; nothing happens after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum CloseReason {
    /// One end said in a sealed record that this is the end (or this end was closed before there were keys to seal with).
    #[error("closed in order")]
    Orderly,
    /// The stream ended without a sealed end: a crash, a network fault, an attacker who cut it, or a peer that gave up on us.
    #[error("the stream was cut")]
    Cut,
    /// An open channel heard nothing from its peer for [`KEEPALIVE_SILENCE`](crate::limits::KEEPALIVE_SILENCE).
    #[error("the peer fell silent")]
    Silent,
    /// The channel was not open within [`HANDSHAKE_DEADLINE`](crate::limits::HANDSHAKE_DEADLINE).
    #[error("the handshake took too long")]
    Deadline,
    /// The ends speak different versions. When the initiator reports it the answer was not authenticated.
    #[error("we speak version {ours} of the channel, the peer speaks {theirs}")]
    WrongVersion {
        /// The version of this end.
        ours: u16,
        /// The version of the other end.
        theirs: u16,
    },
    /// The ends want different things. When the initiator reports it the answer was not authenticated.
    #[error("this door is for {ours}, and the peer wants {}", named(*.theirs))]
    WrongPurpose {
        /// The purpose of this end.
        ours: Purpose,
        /// The [`Purpose::tag`] that the other end named; perhaps none that we know.
        theirs: u8,
    },
    /// The responder proved an identity, but not the expected one.
    #[error("expected {expected} and met {met}")]
    WrongPeer {
        /// Whom the initiator wanted.
        expected: PublicKey,
        /// Who is there.
        met: PublicKey,
    },
    /// The responder's policy did not want this initiator; the same reason on both sides.
    #[error("the responder does not trust the initiator")]
    Refused,
    /// A handshake frame that is none, or that the keys do not open.
    #[error("the handshake failed")]
    BadHandshake,
    /// The peer's signature does not bind its identity to this handshake.
    #[error("the peer did not prove its identity")]
    BadIdentity,
    /// A handshake frame that would make the handshake longer than [`MAX_HANDSHAKE`](crate::limits::MAX_HANDSHAKE).
    #[error("the handshake is too long")]
    HandshakeTooLong,
    /// A record that its key does not open: changed, replayed, reordered, cut out, or never sealed by the peer.
    #[error("a record was forged")]
    Forged,
    /// The peer, or what stands in for it, broke a rule.
    #[error("the peer broke a rule: {0}")]
    Misbehaved(Misbehaviour),
    /// The owner fed [`Input::Send`](super::Input::Send) what cannot be sent; only the machine's door, which cannot return an error, ends so.
    #[error("the message could not be sent: {0}")]
    Unsendable(SendError),
}

impl CloseReason {
    /// Whether it says that somebody did what no honest peer does, and no accident of the network either.
    pub const fn is_accusation(&self) -> bool {
        match self {
            CloseReason::WrongPeer { .. }
            | CloseReason::BadHandshake
            | CloseReason::BadIdentity
            | CloseReason::HandshakeTooLong
            | CloseReason::Forged
            | CloseReason::Misbehaved(_) => true,
            CloseReason::Orderly
            | CloseReason::Cut
            | CloseReason::Silent
            | CloseReason::Deadline
            | CloseReason::WrongVersion { .. }
            | CloseReason::WrongPurpose { .. }
            | CloseReason::Refused
            | CloseReason::Unsendable(_) => false,
        }
    }
}

/// Which rule of the channel a peer broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Misbehaviour {
    /// A record that is announced with a length that no padded record has.
    #[error("no record is {0} bytes long")]
    RecordLength(usize),
    /// The length inside a record does not belong to the length of the record.
    #[error("the content does not fit its record")]
    ContentLength,
    /// Padding that is not zero.
    #[error("padding that is not zero")]
    Padding,
    /// A record of unknown type.
    #[error("unknown record type {0}")]
    UnknownRecord(u8),
    /// A record whose content is not what its type demands.
    #[error("malformed record of type {0}")]
    BadContent(u8),
    /// A record of known type where it may not be.
    #[error("misplaced record of type {0}")]
    Misplaced(u8),
    /// A message longer than [`MAX_FRAME`](crate::limits::MAX_FRAME).
    #[error("a message of more than {} bytes", crate::limits::MAX_FRAME)]
    MessageTooLong,
    /// More bytes before the responder admitted the initiator than one record.
    #[error("more than one record before admission")]
    Overrun,
    /// A Diffie-Hellman key of small order.
    #[error("a weak key")]
    WeakKey,
    /// Offers of new keys faster than [`MIN_REKEY_DH`](super::MIN_REKEY_DH).
    #[error("new keys offered too often")]
    RekeyTooOften,
    /// No new keys for two [`REKEY_DH`](crate::limits::REKEY_DH).
    #[error("new keys are overdue")]
    RekeyOverdue,
}

/// What a tag of a purpose stands for, as far as we know.
fn named(tag: u8) -> String {
    Purpose::of_tag(tag).map_or_else(|| format!("purpose number {tag}"), |purpose| purpose.to_string())
}

/// Why a message cannot be sent. Nothing of it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum SendError {
    /// The channel is not open yet: wait for [`ChannelEvent::Opened`](super::ChannelEvent::Opened).
    #[error("the channel is not open yet")]
    NotOpen,
    /// The channel is closed.
    #[error("the channel is closed")]
    Closed,
    /// More bytes than a message may have.
    #[error("a message of {length} bytes is longer than {limit}")]
    TooLong {
        /// Bytes given.
        length: usize,
        /// Bytes allowed.
        limit: usize,
    },
}
