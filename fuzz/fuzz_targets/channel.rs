//! A secure channel is fed any bytes in any pieces, in both roles: it opens to nobody and never panics.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use offset_protocol::channel::{ChannelConfig, ChannelEvent, SecureChannel};
use offset_protocol::identity::{Identity, SharedSigner, Signer};
use offset_protocol::machine::{Instant, Seed};
use offset_protocol::net::Purpose;

fn config(seed: u64) -> ChannelConfig {
    let signer: SharedSigner = Arc::new(Identity::from_private_key(&[seed as u8; 32]));
    ChannelConfig { purpose: Purpose::AppNode, signer, seed: Seed::from_number(seed) }
}

fn feed(mut channel: SecureChannel, bytes: &[u8], piece: usize) {
    let (now, mut wire) = (Instant::from_micros(1), Vec::new());
    channel.start(now, &mut wire);
    for piece in bytes.chunks(piece) {
        channel.receive(now, piece, &mut wire);
        while let Some(event) = channel.poll_event() {
            assert!(!matches!(event, ChannelEvent::Opened { .. } | ChannelEvent::Message(_)), "bytes opened a channel");
        }
    }
    channel.lost(now);
}

fuzz_target!(|input: (u8, Vec<u8>)| {
    let (piece, bytes) = input;
    let piece = usize::from(piece).max(1);
    let now = Instant::from_micros(1);
    let peer = Identity::from_private_key(&[2; 32]).public_key();
    feed(SecureChannel::initiator(config(1), peer, now), &bytes, piece);
    feed(SecureChannel::responder(config(2), now), &bytes, piece);
});
