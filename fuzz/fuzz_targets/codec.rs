//! Any bytes decode to an error, or to a message that encodes and decodes to itself.
#![no_main]

use std::fmt::Debug;

use libfuzzer_sys::fuzz_target;
use offset_protocol::app::{AppMessage, NodeMessage};
use offset_protocol::codec::{decode, encode};
use offset_protocol::friend::{Body, FriendMessage, Header};
use offset_protocol::index::{IndexToIndex, IndexToNode, NodeToIndex};
use offset_protocol::limits::MAX_FRAME;
use offset_protocol::relay::{FromRelay, ToRelay};
use serde::Serialize;
use serde::de::DeserializeOwned;

fn check<T: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8]) {
    if let Ok(message) = decode::<T>(bytes, MAX_FRAME) {
        let again = encode(&message);
        assert_eq!(decode::<T>(&again, MAX_FRAME).as_ref(), Ok(&message));
        assert_eq!(encode(&decode::<T>(&again, MAX_FRAME).unwrap()), again);
    }
}

fuzz_target!(|bytes: &[u8]| {
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
});
