//! Any bytes are refused as a file of every kind, or are one, which is written and read back as it was.

use offset_protocol::app::IndexAddress;
use offset_protocol::files::{self, AppTicket, FriendTicket, NodeEntry, NodeTicket, Payment};
use offset_protocol::friend::Evidence;
use offset_protocol::identity::{Identity, Signer};
use offset_protocol::payment::{Commit, Invoice, Receipt};
use offset_protocol::relay::RelayAddress;

pub(crate) fn run(bytes: &[u8]) {
    let kind = files::kind_of(bytes);
    let mut accepted = 0;
    macro_rules! again {
        ($($file:ty),*) => {$(
            if let Ok(value) = files::parse::<$file>(bytes) {
                let printed = files::print(&value);
                assert_eq!(files::parse::<$file>(printed.as_bytes()).ok().as_ref(), Some(&value));
                assert_eq!(files::kind_of(printed.as_bytes()).ok(), kind.as_ref().ok().copied());
                accepted += 1;
            }
        )*};
    }
    again!(
        RelayAddress,
        IndexAddress,
        NodeTicket,
        AppTicket,
        FriendTicket,
        Invoice,
        Payment,
        Commit,
        Receipt,
        Evidence
    );
    // What holds a key has no equality; its key has.
    if let Ok(identity) = files::parse::<Identity>(bytes) {
        let again = files::parse::<Identity>(files::print(&identity).as_bytes());
        assert_eq!(again.ok().map(|again| again.public_key()), Some(identity.public_key()));
        accepted += 1;
    }
    accepted += usize::from(files::parse::<NodeEntry>(bytes).is_ok());
    assert!(accepted <= 1, "a file of {accepted} kinds");
    assert!(accepted == 0 || kind.is_ok(), "a file without a kind was read");
}
