//! What the parts of a relay client do to the world: open, ask, close, tell.

use std::collections::{BTreeMap, VecDeque};

use offset_protocol::bytes::PublicKey;
use offset_protocol::codec::{decode, encode};
use offset_protocol::machine::Rng;
use offset_protocol::net::{ConnId, ConnIds, NetCommand, Purpose};
use offset_protocol::relay::{FromRelay, MAX_RELAY_MESSAGE, RelayAddress, RelayShare, ToRelay};

use super::Output;

#[derive(Debug)]
pub(super) struct Effects {
    pub(super) ids: ConnIds,
    pub(super) rng: Rng,
    /// What our own relays let us have, as they said last.
    pub(super) shares: BTreeMap<PublicKey, RelayShare>,
    pub(super) outputs: VecDeque<Output>,
}

impl Effects {
    pub(super) fn connect(&mut self, relay: &RelayAddress) -> ConnId {
        let conn = self.ids.allocate();
        let (address, peer) = (relay.address.clone(), relay.public_key);
        self.push(Output::Net(NetCommand::Connect { conn, purpose: Purpose::NodeRelay, address, peer }));
        conn
    }

    pub(super) fn send(&mut self, conn: ConnId, message: &ToRelay) {
        self.push(Output::Net(NetCommand::Send { conn, bytes: encode(message) }));
    }

    pub(super) fn close(&mut self, conn: ConnId) {
        self.push(Output::Net(NetCommand::Close { conn }));
    }

    pub(super) fn push(&mut self, output: Output) {
        self.outputs.push_back(output);
    }
}

/// Whether a relay says `Ready`, and nothing that has no place where that is awaited.
pub(super) fn is_ready(bytes: &[u8]) -> bool {
    match parse(bytes) {
        Some(FromRelay::Ready) => true,
        Some(
            FromRelay::Failed { .. } | FromRelay::Incoming { .. } | FromRelay::Closing | FromRelay::Listening { .. },
        )
        | None => false,
    }
}

/// A relay's message, or `None` for what is none.
pub(super) fn parse(bytes: &[u8]) -> Option<FromRelay> {
    decode(bytes, MAX_RELAY_MESSAGE).ok()
}
