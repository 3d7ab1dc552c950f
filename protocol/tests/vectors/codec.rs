//! The encoding itself: numbers at their edges, text, lists, optional values, and bytes that must be refused.

use offset_protocol::bytes::{PublicKey, RequestId};
use offset_protocol::codec::{Blob, List, Text, encode};
use offset_protocol::limits::MAX_AMOUNT;
use offset_protocol::money::{Currency, Rate};
use offset_protocol::relay::{FailReason, ToRelay};

use super::book::{Page, Vector};
use super::cast::{BOB, key, list, rate, text, usd};

pub(crate) fn page() -> Page {
    let mut vectors = numbers();
    vectors.extend(values());
    vectors.extend(refused());
    Page {
        name: "codec.json",
        about: "SPEC 2. 'cbor' is the one encoding of a value; 'refused' is no encoding of the type.",
        vectors,
    }
}

fn numbers() -> Vec<Vector> {
    let mut vectors = Vec::new();
    for number in [0, 23, 24, 255, 256, 65_535, 65_536, u64::from(u32::MAX), u64::from(u32::MAX) + 1, u64::MAX] {
        vectors.push(Vector::wire(format!("u64 {number}"), "u64", number));
    }
    for number in [0, u128::from(u64::MAX), u128::from(u64::MAX) + 1, MAX_AMOUNT, u128::MAX] {
        vectors.push(Vector::wire(format!("u128 {number}"), "u128", number));
    }
    let edge = i128::from(u64::MAX) + 1;
    for number in [-1, -24, -25, -edge, -edge - 1, i128::MIN, edge - 1, edge, i128::MAX] {
        vectors.push(Vector::wire(format!("i128 {number}"), "i128", number));
    }
    vectors
}

fn values() -> Vec<Vector> {
    vec![
        Vector::wire("false", "bool", false),
        Vector::wire("true", "bool", true),
        Vector::wire("no value", "u128?", None::<u128>),
        Vector::wire("a value", "u128?", Some(7u128)),
        Vector::wire("public key", "PublicKey", key(BOB)),
        Vector::wire("request id", "RequestId", RequestId([0x11; 16])),
        Vector::wire("currency", "Currency", usd()),
        Vector::wire("text", "text ≤ 64", text::<64>("Zoë 10%")),
        Vector::wire("empty text", "text ≤ 64", text::<64>("")),
        Vector::wire("bytes", "bytes ≤ 4", Blob::<4>::try_from(vec![1, 2, 3, 4]).unwrap()),
        Vector::wire("empty list", "[Rate ≤ 2]", List::<Rate, 2>::new()),
        Vector::wire("list", "[Rate ≤ 2]", list::<_, 2>([rate(), Rate::ZERO])),
        Vector::wire("struct", "Rate", Rate { mul: 1, add: 2 }),
        Vector::wire("enum without fields", "ToRelay", ToRelay::Listen),
        Vector::wire("enum with a field", "ToRelay", ToRelay::Connect { to: key(BOB) }),
        Vector::wire(
            "enum in an enum",
            "FailReason",
            FailReason::Busy { limit: offset_protocol::relay::LimitScope::Total },
        ),
    ]
}

fn refused() -> Vec<Vector> {
    let trailing = [encode(&Rate::ZERO), vec![0]].concat();
    let mut deep = vec![0x81; 17];
    deep.push(0);
    vec![
        Vector::refused::<Rate>("bytes after the value", "Rate", &trailing),
        Vector::refused::<Rate>("a field missing", "Rate", &[0x81, 1]),
        Vector::refused::<Rate>("a field too many", "Rate", &[0x83, 1, 2, 3]),
        Vector::refused::<Rate>("a value that breaks off", "Rate", &[0x82, 1]),
        Vector::refused::<Rate>("a number too large for u32", "Rate", &encode(&[1u64 << 32, 0])),
        Vector::refused::<Rate>("a negative number", "Rate", &[0x82, 0x20, 0]),
        Vector::refused::<Rate>("a map", "Rate", &[0xa1, 1, 2]),
        Vector::refused::<ToRelay>("an unknown tag", "ToRelay", &[0x81, 5]),
        Vector::refused::<ToRelay>("tag 0", "ToRelay", &[0x81, 0]),
        Vector::refused::<ToRelay>("no tag", "ToRelay", &[0x80]),
        Vector::refused::<ToRelay>("a field of a variant missing", "ToRelay", &[0x81, 2]),
        Vector::refused::<PublicKey>(
            "a key of 31 bytes",
            "PublicKey",
            &encode(&Blob::<31>::try_from(vec![7; 31]).unwrap()),
        ),
        Vector::refused::<PublicKey>("a key as an array", "PublicKey", &encode(&vec![7u8; 32])),
        Vector::refused::<List<Rate, 2>>("a list too long", "[Rate ≤ 2]", &encode(&vec![Rate::ZERO; 3])),
        Vector::refused::<Text<4>>("text too long", "text ≤ 4", &encode("five!")),
        Vector::refused::<Text<64>>("text with a control character", "text ≤ 64", &encode("a\nb")),
        Vector::refused::<Text<64>>("text that is no UTF-8", "text ≤ 64", &[0x61, 0xff]),
        Vector::refused::<Blob<4>>("bytes too many", "bytes ≤ 4", &encode(&Blob::<5>::try_from(vec![0; 5]).unwrap())),
        Vector::refused::<Currency>("an empty currency", "Currency", &encode("")),
        Vector::refused::<Currency>("a currency of 17 characters", "Currency", &encode("0123456789abcdefg")),
        Vector::refused::<Currency>("a currency with a space", "Currency", &encode("U SD")),
        Vector::refused::<ToRelay>("nested too deep", "ToRelay", &deep),
        Vector::refused::<ToRelay>("nothing", "ToRelay", &[]),
    ]
}
