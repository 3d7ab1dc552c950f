//! A door between a node's money and its links, for those who simulate cheaters. Only with the cargo feature `meddle`.
//!
//! | what passes | in which direction | the meddler |
//! |---|---|---|
//! | a friend's link comes up or goes down | to the funder | sees it |
//! | a message of the funder | to a friend | takes it, and says what it likes instead, or nothing |
//! | a message of a friend | to the funder | sees it, and decides whether the funder hears it |
//!
//! It holds what a cheater holds: its own identity and whatever it sees. It is fed and drained like a machine, so that it
//! can speak at any time; the laws of alarms are its own to keep. Whoever runs a funder without links calls it the same way.

use offset_protocol::bytes::PublicKey;
use offset_protocol::friend::FriendMessage;
use offset_protocol::machine::{Alarm, Instant};

/// Whether there is a link to a friend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkNews {
    /// A new one, on which nothing was said.
    Up,
    /// None any more.
    Down,
}

/// Whether the funder hears a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It does.
    Yes,
    /// It does not.
    No,
}

/// What a meddler does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Says this to a friend; lost if the link is down.
    Say {
        /// The friend.
        friend: PublicKey,
        /// The message.
        message: FriendMessage,
    },
    /// Sends this inside the channel to a friend, whatever it is.
    SayBytes {
        /// The friend.
        friend: PublicKey,
        /// Not necessarily a message.
        bytes: Vec<u8>,
    },
    /// Puts this into the tunnel to a friend, past the channel.
    Garble {
        /// The friend.
        friend: PublicKey,
        /// Not a record of the channel.
        bytes: Vec<u8>,
    },
    /// Ends the link to a friend.
    HangUp {
        /// The friend.
        friend: PublicKey,
    },
}

/// A cheater between a funder and its friends. See the module.
pub trait Meddler: Send {
    /// The link to a friend is up, or down.
    fn on_link(&mut self, now: Instant, friend: PublicKey, news: LinkNews);

    /// The funder says something to a friend. Nothing of it leaves unless the meddler says it.
    fn on_outgoing(&mut self, now: Instant, friend: PublicKey, message: FriendMessage);

    /// A friend says something.
    fn on_incoming(&mut self, now: Instant, friend: PublicKey, message: &FriendMessage) -> Heard;

    /// The alarm may be due.
    fn tick(&mut self, now: Instant);

    /// The next thing that it does.
    fn poll_deed(&mut self) -> Option<Deed>;

    /// When it next wants a tick.
    fn poll_timeout(&self) -> Option<Alarm>;
}
