//! CBOR in diagnostic notation (RFC 8949, section 8), for the part of CBOR that the protocol uses. Written without the
//! crate's decoder, so that it is a second opinion on the bytes.

use super::book::hex;

/// All of `bytes` as one value.
pub(crate) fn diagnostic(bytes: &[u8]) -> String {
    let mut rest = bytes;
    let text = value(&mut rest);
    assert!(rest.is_empty(), "trailing bytes");
    text
}

fn value(rest: &mut &[u8]) -> String {
    let (major, argument) = head(rest);
    match major {
        0 => argument.to_string(),
        1 => format!("-{}", u128::from(argument) + 1),
        2 => format!("h'{}'", hex(take(rest, argument))),
        3 => format!("{:?}", std::str::from_utf8(take(rest, argument)).unwrap()),
        4 => {
            let elements: Vec<_> = (0..argument).map(|_| value(rest)).collect();
            format!("[{}]", elements.join(", "))
        }
        6 => format!("{argument}({})", value(rest)),
        7 => match argument {
            20 => "false".to_owned(),
            21 => "true".to_owned(),
            22 => "null".to_owned(),
            other => panic!("simple value {other}"),
        },
        other => panic!("major type {other}"),
    }
}

fn head(rest: &mut &[u8]) -> (u8, u64) {
    let first = take(rest, 1)[0];
    let (major, minor) = (first >> 5, first & 0x1f);
    let size = match minor {
        0..=23 => return (major, u64::from(minor)),
        24..=27 => 1u64 << (minor - 24),
        other => panic!("minor {other}"),
    };
    let argument = take(rest, size).iter().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
    let least = if size == 1 { 24 } else { 1u64 << (4 * size) };
    assert!(argument >= least, "{argument} has a shorter form");
    (major, argument)
}

fn take<'a>(rest: &mut &'a [u8], length: u64) -> &'a [u8] {
    let (taken, left) = rest.split_at(usize::try_from(length).unwrap());
    *rest = left;
    taken
}
