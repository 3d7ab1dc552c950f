//! The files that people hand to each other, one of each type.

use offset_protocol::app::{IndexAddress, Permissions};
use offset_protocol::codec::Blob;
use offset_protocol::files::{
    AppTicket, Document, FriendTicket, Hardness, LockedIdentity, NodeEntry, NodeTicket, Payment, parse, print,
};
use offset_protocol::friend::{CurrencyTotals, Evidence, Header, batch_hash, totals_hash};

use super::cast::{
    ALICE, APP, BOB, PAYMENT, SERVER, address, commit, identity, invoice, key, list, receipt, relay, sign, usd,
};

/// Reads a file and prints what it read.
type ReadAndPrint = fn(&[u8]) -> Result<String, String>;

pub(crate) struct Sample {
    pub(crate) name: &'static str,
    pub(crate) text: String,
    pub(crate) read_and_print: ReadAndPrint,
}

fn sample<T: Document>(value: &T) -> Sample {
    let read_and_print = |bytes: &[u8]| match parse::<T>(bytes) {
        Ok(value) => Ok(print(&value).as_str().to_owned()),
        Err(error) => Err(error.to_string()),
    };
    Sample { name: T::KIND.name(), text: print(value).as_str().to_owned(), read_and_print }
}

pub(crate) fn samples() -> Vec<Sample> {
    let node = || NodeTicket { public_key: key(ALICE), address: address("127.0.0.1:9001") };
    let permissions = Permissions { routes: true, buyer: true, seller: false, config: false };
    vec![
        sample(&identity(ALICE)),
        sample(&locked()),
        sample(&relay()),
        sample(&IndexAddress { public_key: key(SERVER), address: address("[2001:db8::1]:9003") }),
        sample(&node()),
        sample(&AppTicket { public_key: key(APP), permissions }),
        sample(&NodeEntry { node: node(), app: identity(APP) }),
        sample(&FriendTicket { public_key: key(BOB), relays: list([relay()]) }),
        sample(&invoice()),
        sample(&Payment { payment_id: PAYMENT, invoice: invoice() }),
        sample(&commit()),
        sample(&receipt()),
        sample(&token()),
    ]
}

/// Computed apart from this code: Argon2id by argon2-cffi, ChaCha20-Poly1305 by Python's cryptography.
#[rustfmt::skip]
const SEALED: [u8; 48] = [
    0x03, 0xcc, 0xf3, 0x3e, 0xb7, 0x1d, 0x89, 0x2a, 0x8c, 0x4e, 0xe1, 0x50, 0x0f, 0xc5, 0x0e, 0x3e,
    0x51, 0xc1, 0x80, 0xb9, 0xd4, 0x1e, 0x8a, 0xca, 0x6d, 0xaf, 0x3d, 0xcd, 0x02, 0x77, 0x79, 0x5b,
    0x90, 0xd0, 0x75, 0x44, 0x27, 0xe9, 0xb5, 0x75, 0x4b, 0x4d, 0x48, 0x74, 0x00, 0x9a, 0x6e, 0x7e,
];

/// Alice's identity, locked with the passphrase `correct horse battery staple`.
fn locked() -> LockedIdentity {
    let salt = std::array::from_fn(|at| at as u8);
    LockedIdentity { public_key: key(ALICE), argon2id: Hardness::DEFAULT, salt, sealed: SEALED }
}

/// Bob's word that Alice owes him 1,011.
pub(crate) fn token() -> Evidence {
    use offset_protocol::bytes::Hash;
    let totals = [CurrencyTotals { currency: usd(), balance: 1_011, out_frozen: 0, in_frozen: 7 }];
    let header = offset_protocol::codec::encode(&Header {
        epoch: 0,
        seq: 3,
        ack: 3,
        body_hash: Hash([0x0a; 32]),
        head: Hash([0x0b; 32]),
        friend_head: Hash([0x0c; 32]),
        totals_hash: totals_hash(&totals),
    });
    let (sender, receiver) = (key(BOB), key(ALICE));
    let signature = sign(BOB, &batch_hash(&sender, &receiver, &header));
    Evidence { sender, receiver, header: Blob::try_from(header).unwrap(), signature, totals: list(totals) }
}

#[test]
fn the_token_proves_what_it_states() {
    assert!(token().verify(&offset_protocol::identity::Ed25519).is_ok());
}
