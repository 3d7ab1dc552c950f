use proptest::prelude::*;

use super::*;
use crate::app::{IndexAddress, Permissions};
use crate::bytes::{Hash, HashedLock, InvoiceId, PaymentId, PlainLock, PublicKey, Signature};
use crate::codec::{Blob, List};
use crate::friend::{CurrencyTotals, Evidence};
use crate::identity::{Identity, Signer};
use crate::payment::{Commit, Description, Invoice, Receipt};
use crate::relay::RelayAddress;

fn identity() -> Identity {
    Identity::from_private_key(&[7; 32])
}

fn locked() -> LockedIdentity {
    let public_key = identity().public_key();
    LockedIdentity { public_key, argon2id: Hardness::DEFAULT, salt: [2; SALT_BYTES], sealed: [3; SEALED_BYTES] }
}

fn relay() -> RelayAddress {
    RelayAddress { public_key: PublicKey([1; 32]), address: "relay.example:1337".parse().unwrap() }
}

fn invoice() -> Invoice {
    Invoice {
        invoice_id: InvoiceId([3; 16]),
        currency: "USD".parse().unwrap(),
        seller: PublicKey([4; 32]),
        amount: crate::limits::MAX_AMOUNT,
        description: Description::new("two \"apples\"").unwrap(),
    }
}

fn receipt() -> Receipt {
    Receipt {
        response_hash: Hash([5; 32]),
        invoice_id: InvoiceId([3; 16]),
        currency: "USD".parse().unwrap(),
        src_plain_lock: PlainLock([6; 32]),
        dest_plain_lock: PlainLock([7; 32]),
        is_complete: true,
        dest_payment: 40,
        total_dest_payment: 100,
        signature: Signature([8; 64]),
    }
}

fn token() -> Evidence {
    let currency = "USD".parse().unwrap();
    let totals = CurrencyTotals { currency, balance: i128::MIN, out_frozen: u128::MAX, in_frozen: 0 };
    Evidence {
        sender: PublicKey([1; 32]),
        receiver: PublicKey([2; 32]),
        header: Blob::try_from(vec![9; 5]).unwrap(),
        signature: Signature([8; 64]),
        totals: List::truncated([totals]),
    }
}

fn round_trip<T: Document + PartialEq + fmt::Debug>(value: T) {
    let text = print(&value);
    assert_eq!(kind_of(text.as_bytes()), Ok(T::KIND));
    assert_eq!(parse::<T>(text.as_bytes()), Ok(value));
}

/// A file of each kind.
fn all() -> Vec<(Kind, String)> {
    let node = NodeTicket { public_key: PublicKey([1; 32]), address: "[::1]:5".parse().unwrap() };
    let payment = Payment { payment_id: PaymentId([2; 16]), invoice: invoice() };
    let receipt = receipt();
    let commit = Commit {
        response_hash: receipt.response_hash,
        src_plain_lock: receipt.src_plain_lock.clone(),
        dest_hashed_lock: HashedLock([1; 32]),
        dest_payment: 40,
        total_dest_payment: 100,
        invoice_id: receipt.invoice_id,
        currency: receipt.currency,
        signature: receipt.signature,
    };
    let texts = [
        print(&identity()),
        print(&locked()),
        print(&relay()),
        print(&IndexAddress { public_key: PublicKey([1; 32]), address: "h:1".parse().unwrap() }),
        print(&node),
        print(&AppTicket { public_key: PublicKey([1; 32]), permissions: Permissions::ALL }),
        print(&NodeEntry { node, app: identity() }),
        print(&FriendTicket { public_key: PublicKey([1; 32]), relays: List::truncated([relay(), relay()]) }),
        print(&invoice()),
        print(&payment),
        print(&commit),
        print(&receipt),
        print(&token()),
    ];
    Kind::ALL.into_iter().zip(texts.iter().map(|text| text.as_str().to_owned())).collect()
}

/// Parses as `kind`, whatever that is.
fn parse_as(kind: Kind, bytes: &[u8]) -> Result<(), FileError> {
    match kind {
        Kind::Identity => parse::<Identity>(bytes).map(drop),
        Kind::LockedIdentity => parse::<LockedIdentity>(bytes).map(drop),
        Kind::RelayTicket => parse::<RelayAddress>(bytes).map(drop),
        Kind::IndexTicket => parse::<IndexAddress>(bytes).map(drop),
        Kind::NodeTicket => parse::<NodeTicket>(bytes).map(drop),
        Kind::AppTicket => parse::<AppTicket>(bytes).map(drop),
        Kind::NodeEntry => parse::<NodeEntry>(bytes).map(drop),
        Kind::FriendTicket => parse::<FriendTicket>(bytes).map(drop),
        Kind::Invoice => parse::<Invoice>(bytes).map(drop),
        Kind::Payment => parse::<Payment>(bytes).map(drop),
        Kind::Commit => parse::<Commit>(bytes).map(drop),
        Kind::Receipt => parse::<Receipt>(bytes).map(drop),
        Kind::Token => parse::<Evidence>(bytes).map(drop),
    }
}

fn why<T: Document + fmt::Debug>(text: &str) -> String {
    parse::<T>(text.as_bytes()).unwrap_err().to_string()
}

#[test]
fn values_survive_their_files() {
    round_trip(relay());
    round_trip(IndexAddress { public_key: PublicKey([1; 32]), address: "10.0.0.1:1".parse().unwrap() });
    round_trip(NodeTicket { public_key: PublicKey([1; 32]), address: "[::1]:65535".parse().unwrap() });
    round_trip(AppTicket { public_key: PublicKey([1; 32]), permissions: Permissions::ALL });
    round_trip(AppTicket { public_key: PublicKey([1; 32]), permissions: Permissions::default() });
    round_trip(FriendTicket { public_key: PublicKey([1; 32]), relays: List::truncated([relay()]) });
    round_trip(invoice());
    round_trip(Payment { payment_id: PaymentId([2; 16]), invoice: invoice() });
    round_trip(receipt());
    round_trip(token());
}

#[test]
fn keys_survive_their_files() {
    let read: Identity = parse(print(&identity()).as_bytes()).unwrap();
    assert_eq!(read.public_key(), identity().public_key());
    let node = NodeTicket { public_key: PublicKey([1; 32]), address: "h:1".parse().unwrap() };
    let read: NodeEntry = parse(print(&NodeEntry { node: node.clone(), app: identity() }).as_bytes()).unwrap();
    assert_eq!((read.node, read.app.public_key()), (node, identity().public_key()));
}

#[test]
fn a_file_says_what_it_is_in_a_form_for_humans() {
    assert_eq!(
        print(&relay()).as_str(),
        "{\n  \"type\": \"relay-ticket\",\n  \"version\": 1,\n  \"public_key\": \
         \"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE\",\n  \"address\": \"relay.example:1337\"\n}\n"
    );
    assert!(print(&invoice()).contains("\"amount\": \"1267650600228229401496703205376\""));
    let ticket = AppTicket {
        public_key: PublicKey([1; 32]),
        permissions: Permissions { buyer: true, config: true, ..Permissions::default() },
    };
    assert!(print(&ticket).contains("\"permissions\": [\n    \"buyer\",\n    \"config\"\n  ]"));
}

#[test]
fn every_kind_refuses_every_other_kind_and_names_both() {
    for (found, text) in all() {
        for expected in Kind::ALL {
            let result = parse_as(expected, text.as_bytes());
            if found == expected {
                assert_eq!(result, Ok(()));
            } else {
                assert_eq!(result, Err(FileError::WrongKind { found, expected }));
            }
        }
    }
    assert_eq!(why::<Invoice>(&print(&relay())), "it is a relay ticket, but an invoice is needed");
}

#[test]
fn unknown_types_and_versions_are_named() {
    assert_eq!(why::<Invoice>(r#"{"type":"voucher","version":1}"#), "its type 'voucher' is unknown to this version");
    let odd = why::<Invoice>(r#"{"type":"voucher\u001b[31m","version":1}"#);
    assert_eq!(odd, "its type is unknown to this version");
    let newer = print(&invoice()).replace("\"version\": 1", "\"version\": 2");
    assert_eq!(why::<Invoice>(&newer), "it is an invoice of version 2; this program reads version 1");
}

#[test]
fn unknown_repeated_and_missing_fields_are_refused_in_every_kind() {
    for (kind, text) in all() {
        let unknown = text.replacen('{', "{\"colour\": 1,", 1);
        assert!(matches!(parse_as(kind, unknown.as_bytes()), Err(FileError::Malformed { .. })), "{kind}");
        let lines: Vec<&str> = text.lines().collect();
        // Each plain field of the object, once doubled and once left out.
        for (n, line) in
            lines.iter().enumerate().filter(|(_, line)| line.starts_with("  \"") && line.contains("\": \""))
        {
            let mut doubled = lines.clone();
            let first = format!("{},", line.trim_end_matches(','));
            doubled.insert(1, &first);
            assert!(parse_as(kind, doubled.join("\n").as_bytes()).is_err(), "{kind} {line}");
            let mut missing = lines.clone();
            missing.remove(n);
            let missing = missing.join("\n").replace(",\n}", "\n}");
            let optional = kind == Kind::Invoice && line.contains("description");
            assert_eq!(parse_as(kind, missing.as_bytes()).is_ok(), optional, "{kind} {line}");
        }
    }
}

#[test]
fn amounts_have_one_form_and_a_bound() {
    let text = print(&invoice());
    let with = |amount: &str| text.replace("\"1267650600228229401496703205376\"", amount);
    for bad in ["12", "\"+12\"", "\"012\"", "\"-1\"", "\"1e3\"", "\" 1\"", "\"\"", "\"0x1\"", "\"1.0\"", "null"] {
        assert!(parse::<Invoice>(with(bad).as_bytes()).is_err(), "{bad}");
    }
    for bad in ["\"0\"", "\"1267650600228229401496703205377\""] {
        assert_eq!(
            why::<Invoice>(&with(bad)),
            "it is not a valid invoice: the amount must be more than 0 and at most 2^100"
        );
    }
    assert!(parse::<Invoice>(with("\"12\"").as_bytes()).is_ok());
}

#[test]
fn bad_addresses_and_permissions_are_refused() {
    for bad in ["", "host", ":1", "host:", "host:0", "host:65536", "host:+1", "a b:1"] {
        assert!(address(bad).is_err(), "{bad}");
        let text = print(&relay()).replace("relay.example:1337", bad);
        assert!(parse::<RelayAddress>(text.as_bytes()).is_err(), "{bad}");
    }
    let ticket = print(&AppTicket { public_key: PublicKey([1; 32]), permissions: Permissions::ALL });
    assert_eq!(
        why::<AppTicket>(&ticket.replace("seller", "buyer")),
        "it is not a valid app-ticket: the permission 'buyer' stands there twice at line 11 column 1"
    );
    assert!(why::<AppTicket>(&ticket.replace("seller", "root")).contains("there is no permission 'root'"));
}

#[test]
fn a_list_that_is_too_long_is_refused() {
    let ticket = FriendTicket { public_key: PublicKey([1; 32]), relays: List::truncated([relay()]) };
    let text = print(&ticket);
    let one = &text[text.find("    {").unwrap()..text.rfind("\n  ]").unwrap()];
    let many = text.replace(one, &[one; 17].join(",\n"));
    assert!(why::<FriendTicket>(&many).contains("17 is more than the limit of 16"));
}

#[test]
fn what_is_no_file_is_refused() {
    assert_eq!(parse::<Invoice>(&[b' '; MAX_FILE_BYTES + 1]).unwrap_err(), FileError::TooLong);
    for bad in [&b""[..], b"{", b"[]", b"7", b"{}", b"\xff\xfe", b"{\"type\":1,\"version\":1}", b"{\"version\":1}"] {
        assert!(matches!(parse::<Invoice>(bad), Err(FileError::NotOurs(_))), "{bad:?}");
    }
    let deep = format!("{{\"type\":\"invoice\",\"version\":1,\"x\":{}", "[".repeat(20_000));
    assert!(parse::<Invoice>(deep.as_bytes()).is_err());
    let trailing = format!("{} x", print(&invoice()).as_str());
    assert!(parse::<Invoice>(trailing.as_bytes()).is_err());
}

#[test]
fn an_error_never_quotes_a_private_key() {
    let text = print(&identity());
    let key = data_encoding::BASE64URL_NOPAD.encode(&[7; 32]);
    assert!(text.contains(&key));
    let broken = [
        text.replace("\"private_key\"", "\"version\""),
        text.replace("\"private_key\": ", "\"private_key\": 1, "),
        text.replace(&key, &format!("{key}A")),
        text.replace(&format!("\"{key}\""), &format!("{{\"{key}\": 1}}")),
        text.replace("public_key", &key),
        text.replace("identity", "identities"),
        text.replace("\"identity\"", &format!("\"{key}\"")),
        text.replace("\"identity\"", "\"invoice\""),
        text.replace("\"version\": 1", &format!("\"version\": \"{key}\"")),
    ];
    for text in broken {
        for why in [
            why::<Identity>(&text),
            why::<Invoice>(&text),
            kind_of(text.as_bytes()).err().map_or(String::new(), |error| error.to_string()),
        ] {
            assert!(!why.contains(&key[1..20]), "{why}");
        }
    }
}

#[test]
fn the_keys_of_an_identity_belong_together() {
    let other = Identity::from_private_key(&[8; 32]).public_key().to_string();
    let text = print(&identity()).replace(&identity().public_key().to_string(), &other);
    assert_eq!(why::<Identity>(&text), "it is not a valid identity: the public key does not belong to the private key");
}

#[test]
fn errors_are_short_and_safe_to_print() {
    let name = "x".repeat(5_000) + "\\u001b[2J\\u202e";
    let text = format!("{{\"type\":\"invoice\",\"version\":1,\"\\u001b{name}\":1}}");
    let error = why::<Invoice>(&text);
    assert!(error.chars().count() < 300 && !error.chars().any(|c| c.is_control() || is_invisible(c)), "{error}");
}

proptest! {
    #[test]
    fn no_bytes_panic(kind in 0..Kind::ALL.len(), bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = parse_as(Kind::ALL[kind], &bytes);
    }

    #[test]
    fn no_damaged_file_panics(kind in 0..Kind::ALL.len(), cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let (kind, text) = all().swap_remove(kind);
        let mut bytes = text.into_bytes();
        for (at, byte) in cuts {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let _ = parse_as(kind, &bytes);
    }
}
