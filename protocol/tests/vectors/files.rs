//! The files that people hand to each other, one of each type.

use offset_protocol::app::{IndexAddress, Permissions};
use offset_protocol::codec::Blob;
use offset_protocol::files::{AppTicket, Document, FriendTicket, NodeEntry, NodeTicket, Payment, parse, print};
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
