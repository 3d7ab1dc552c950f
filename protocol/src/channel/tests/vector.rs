//! One connection, byte for byte: whoever changes a byte here changes the protocol.

use data_encoding::HEXLOWER;
use x25519_dalek::{X25519_BASEPOINT_BYTES, x25519};

use super::rekey::{keys, transport};
use super::*;
use crate::limits::REKEY_DH;

/// Secrets of Alice, the initiator; her Ed25519 private key is 32 times 01.
const ALICE_STATIC: &str = "73cd7c586f54fdc310be419f0f36af228f2cf2a52a18cc04771a8061fb060381";
const ALICE_EPHEMERAL: &str = "7dc71c00ddde626f891a4ed9c71db5717f2b12787aad1cc1a1abbe5cab731207";
const ALICE_OFFER: &str = "d6294d2c26d1bf974c37f291bed456da86f5589bb22cd833b0bbbd1c714c3bf0";
/// Secrets of Bob, the responder; his Ed25519 private key is 32 times 02.
const BOB_STATIC: &str = "c1fa729a9a4155ab9f6f1de0c162ccacb409fe5cf05ef4bc3689ef3f59176ecb";
const BOB_EPHEMERAL: &str = "89dfe60ce4bd252c2bf914fd046aa99c3ec93a3285bf9171ee318216f82b4efc";
const BOB_ANSWER: &str = "146c7b0562822ae0cadaf9c730bd1a3b4731a7fce0a5d0a587849c67422e10f8";

/// The handshake frames and the first records, with their lengths.
const FIRST: &str = "0028004f4653540001059d902171944986636a5093d1d197b60f6ffe42e08410de3a87e6a28d490ef837";
const SECOND: &str = "\
    00cb0087021e0034baed8e5cceec026a042e8b7f419672c30fb30095e39b3dd7652b0b2b78488ca0d39da579c682e21c17e5\
    2beb0dee7927fe26cc2ed1880d8a97d7b985043ddfa0728658b005f68590f9f9114e2d90bef957acee92c77e134fae56b5ac\
    b46a6325157275b06f81b8c07db8e08c3f2c7c41bd533d48e2b4d1ea44674913a9221e1b1df9ab99180b095eb974d77abb19\
    d16db191a2ceac79c1b8c8808876c0a77f5f5bd95d75557243dadc7efe40c1d47f144a9eace1e72cb718fca208bb36c0dc8b\
    e7d55cd7d7";
const THIRD: &str = "\
    00ab00b8cec5ab53b423a7c584dde63972d8dc71ed6122d433c3ba3d75f68a7b6f323073aed69c95ccd77eac665afc74774b\
    b2a7b1f47c40adca73fddb73b10ac18862eceeac926cc1c1d797438850205346d47bee03266d57b145276977c7a8cd3ff647\
    df999f1a9ae8e3d36de4628dffa27b9a4e9a620ec876bf5e20bc678884725915588cb04a7d89d145f1a28c7365b05a6b7224\
    773f27bd3aabf8eba93a9908ec5ad54b11a3afce5959af";
const ADMITTED: &str = "\
    00507d8061bd23f18114e10d1ba535817d5c52f753a382d87652acf02a863634af3c22adac977a9c57284197153f7ac1ab21\
    503a37e4de3035ce8ce010c81e57e96abf2dcec67ee621f00357423a96f82c1f";
const HELLO: &str = "\
    0050723be60e543d9d8a9672f34ecb14708d6bd577f77335b7b8467600495ff58dc7f3b96ef26406820c202cd58e125ba314\
    fba7cf2c64ee5f6c9f230b74c19c55630d4b4da3d4cb05fff8184fec3b05909e";
/// The final handshake hash, the keys of both directions after the handshake and after the first exchange.
const SESSION: &str = "0ccb9dc2553efaf17a61b523cedd5b85c96e0cdaefb4c34875999d2a8292fde5";
const FORTH: &str = "f4b4697638d5ed9d629be0efb9039917640dfa5b86b872bc842e8c936ddbc243";
const BACK: &str = "fb7b77f5c45d56b9a3e0aca53bff47510eb45b42c595767e18782403a96d3f89";
const FORTH_AFTER: &str = "ea651da63b27eeb4cf9be126f206f54d5f538ff9510b54f609334e5b4a30564a";
const BACK_AFTER: &str = "d4c830c59f1046e89429964d8327257528e418badec23fe624ad094ce50f35e7";

#[test]
fn the_secrets_of_the_vector_are_those_of_its_seeds() {
    for (number, fixed, ephemeral, half) in
        [(2, ALICE_STATIC, ALICE_EPHEMERAL, ALICE_OFFER), (3, BOB_STATIC, BOB_EPHEMERAL, BOB_ANSWER)]
    {
        let seed = Seed::from_number(number);
        let hex = |seed: Seed| HEXLOWER.encode(&seed.rng().bytes::<32>());
        assert_eq!(hex(seed.fork("static")), fixed);
        assert_eq!(hex(seed.fork("ephemeral")), ephemeral);
        assert_eq!(hex(seed.fork("rekey").fork("half")), half);
    }
}

#[test]
fn a_connection_is_the_vector_byte_for_byte() {
    let mut pair = Pair::open(1);
    pair.alice.send(pair.now, b"hello");
    pair.deliver();
    let (alice, bob) = (pair.alice.written.clone(), pair.bob.written.clone());
    let hex = |bytes: &[u8]| HEXLOWER.encode(bytes);
    assert_eq!(hex(&alice[..42]), FIRST);
    assert_eq!(hex(&bob[..205]), SECOND);
    assert_eq!(hex(&alice[42..42 + 173]), THIRD);
    assert_eq!(hex(&bob[205..]), ADMITTED);
    assert_eq!(hex(&alice[42 + 173..]), HELLO);
    assert_eq!(hex(&transport(&mut pair.alice).session()), SESSION);
    let (forth, back) = keys(&mut pair);
    assert_eq!((hex(&forth).as_str(), hex(&back).as_str()), (FORTH, BACK));
    pair.pass(REKEY_DH);
    let (forth, back) = keys(&mut pair);
    assert_eq!((hex(&forth).as_str(), hex(&back).as_str()), (FORTH_AFTER, BACK_AFTER));
}

#[test]
fn the_keys_after_the_exchange_are_those_of_the_specification() {
    let bytes = |hex: &str| -> [u8; 32] { HEXLOWER.decode(hex.as_bytes()).unwrap().try_into().unwrap() };
    let (offer, answer) = (bytes(ALICE_OFFER), bytes(BOB_ANSWER));
    let (offered, answered) = (x25519(offer, X25519_BASEPOINT_BYTES), x25519(answer, X25519_BASEPOINT_BYTES));
    let after = |old: &str, direction: u8| {
        let mut hasher = blake3::Hasher::new_derive_key("offset v1 channel rekey");
        hasher.update(&bytes(old)).update(&x25519(offer, answered)).update(&bytes(SESSION)).update(&1u64.to_le_bytes());
        hasher.update(&offered).update(&answered).update(&[direction]);
        hasher.finalize().to_hex().to_string()
    };
    assert_eq!(after(FORTH, 0), FORTH_AFTER);
    assert_eq!(after(BACK, 1), BACK_AFTER);
}
