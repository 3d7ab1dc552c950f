//! Any bytes decode to an error, or to a message that encodes and decodes to itself; and never make room for more than they are.

use std::fmt::Debug;

use offset_protocol::app::{AppMessage, NodeMessage};
use offset_protocol::codec::{decode, encode};
use offset_protocol::friend::{Body, FriendMessage, Header};
use offset_protocol::index::{IndexToIndex, IndexToNode, NodeToIndex};
use offset_protocol::limits::MAX_FRAME;
use offset_protocol::relay::{FromRelay, ToRelay};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::allocation::peak_of;

/// Bytes that decoding may hold for each byte that it was given, and beside that. Measured: an operation takes 160 bytes of memory
/// where its encoding takes 22, and a list that grows holds old and new; 64 elements of every list that is open are reserved
/// before they have come, 25 KiB in all for a report to an app.
const PER_BYTE: usize = 24;
const BESIDE: usize = 40 << 10;

pub(crate) fn run(bytes: &[u8]) {
    check::<FriendMessage>(bytes);
    check::<Header>(bytes);
    check::<Body>(bytes);
    check::<ToRelay>(bytes);
    check::<FromRelay>(bytes);
    check::<NodeToIndex>(bytes);
    check::<IndexToNode>(bytes);
    check::<IndexToIndex>(bytes);
    check::<AppMessage>(bytes);
    check::<NodeMessage>(bytes);
}

fn check<T: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8]) {
    let (decoded, peak) = peak_of(|| decode::<T>(bytes, MAX_FRAME));
    let most = PER_BYTE * bytes.len() + BESIDE;
    assert!(peak <= most, "{} bytes made a decoder of {} hold {peak}", bytes.len(), std::any::type_name::<T>());
    let Ok(message) = decoded else { return };
    let again = encode(&message);
    assert_eq!(decode::<T>(&again, MAX_FRAME).as_ref(), Ok(&message));
    // A message has one encoding: what is signed and hashed depends on it.
    assert_eq!(decode::<T>(&again, MAX_FRAME).map(|message| encode(&message)).as_ref(), Ok(&again));
    // Bytes behind a message, and a message that lacks one, are no message.
    assert!(decode::<T>(&[bytes, &[0]].concat(), MAX_FRAME).is_err(), "a byte behind {message:?}");
    assert!(decode::<T>(&bytes[..bytes.len() - 1], MAX_FRAME).is_err(), "the last byte of {message:?} is missing");
}
