//! Any bytes are refused as a file of every kind, or are one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use offset_protocol::app::IndexAddress;
use offset_protocol::files::{self, AppTicket, FriendTicket, NodeEntry, NodeTicket, Payment};
use offset_protocol::friend::Evidence;
use offset_protocol::identity::Identity;
use offset_protocol::payment::{Commit, Invoice, Receipt};
use offset_protocol::relay::RelayAddress;

fuzz_target!(|bytes: &[u8]| {
    let _ = files::kind_of(bytes);
    let _ = files::parse::<Identity>(bytes);
    let _ = files::parse::<NodeEntry>(bytes);
    macro_rules! again {
        ($($file:ty),*) => {$(
            if let Ok(value) = files::parse::<$file>(bytes) {
                let printed = files::print(&value);
                assert_eq!(files::parse::<$file>(printed.as_bytes()).ok().as_ref(), Some(&value));
            }
        )*};
    }
    again!(RelayAddress, IndexAddress, NodeTicket, AppTicket, FriendTicket, Invoice, Payment, Commit, Receipt, Evidence);
});
