//! The channel's doors as one [`Machine`], for runtimes and simulators that want inputs and outputs as values.

use serde::{Deserialize, Serialize};

use super::{ChannelEvent, CloseReason, SecureChannel, SendError};
use crate::machine::{Alarm, Instant, Machine};

/// What can happen to a channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Input {
    /// The initiator speaks first.
    Start,
    /// Bytes of the stream, cut anywhere.
    Received(Vec<u8>),
    /// Send a message. One that cannot be sent (see [`SendError`]) closes the channel with
    /// [`CloseReason::Unsendable`], because this door cannot return an error and a lost message must not look sent.
    Send(Vec<u8>),
    /// The responder hears the peer.
    Admit,
    /// The responder refuses the peer.
    Refuse,
    /// End in order.
    Close,
    /// The stream ended.
    Lost,
    /// Time passed.
    Tick,
}

/// What a channel wants done. After a crash of its host the connection is gone, and all of this with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Output {
    /// Write these bytes to the stream, before anything that comes later.
    Transmit(Vec<u8>),
    /// Something happened. What the channel has to write about it has been put out before.
    Event(ChannelEvent),
}

impl Machine for SecureChannel {
    type Input = Input;
    type Output = Output;

    fn handle(&mut self, now: Instant, input: Input) {
        let mut wire = std::mem::take(&mut self.outbox);
        match input {
            Input::Start => self.start(now, &mut wire),
            Input::Received(bytes) => self.receive(now, &bytes, &mut wire),
            Input::Send(message) => match self.send(now, &message, &mut wire) {
                Ok(()) | Err(SendError::Closed) => {}
                Err(refused @ (SendError::NotOpen | SendError::TooLong { .. })) => {
                    self.end(CloseReason::Unsendable(refused));
                }
            },
            Input::Admit => self.admit(now, &mut wire),
            Input::Refuse => self.refuse(now, &mut wire),
            Input::Close => self.close(now, &mut wire),
            Input::Lost => self.lost(now),
            Input::Tick => self.tick(now, &mut wire),
        }
        self.outbox = wire;
    }

    fn poll_output(&mut self) -> Option<Output> {
        if !self.outbox.is_empty() {
            return Some(Output::Transmit(std::mem::take(&mut self.outbox)));
        }
        self.poll_event().map(Output::Event)
    }

    fn poll_timeout(&self) -> Option<Alarm> {
        SecureChannel::poll_timeout(self)
    }
}
