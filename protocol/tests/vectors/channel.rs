//! One connection of the secure channel, byte for byte: made by the crate's channel, and made again from the specification
//! with the secrets that the vector states.

use std::sync::Arc;

use offset_protocol::bytes::Hash;
use offset_protocol::channel::{ChannelConfig, ChannelEvent, SecureChannel};
use offset_protocol::context::{CHANNEL_IDENTITY, CHANNEL_REKEY};
use offset_protocol::machine::{Instant, Seed};
use offset_protocol::net::Purpose;
use x25519_dalek::x25519;

use super::book::{Page, Vector, hex};
use super::cast::{ALICE, BOB, identity, key, sign};
use super::noise::{Symmetric, public, seal};

const PURPOSE: Purpose = Purpose::Friend;
const MESSAGE: &[u8] = b"hello";

pub(crate) fn page() -> Page {
    let (said, alice, bob) = (Transcript::of_the_crate(), Secrets::of(2), Secrets::of(3));
    let made = Made::from(&alice, &bob);
    assert_eq!(said.frames(), made.frames(), "the specification gives other bytes than the crate");
    let secrets = |vector: Vector, of: &'static str, number: u8, secrets: &Secrets| {
        let vector = vector.with("end", of).hex("ed25519_private_key", [number; 32]);
        vector
            .hex("x25519_static_secret", secrets.fixed)
            .hex("x25519_ephemeral_secret", secrets.ephemeral)
            .hex("x25519_rekey_secret", secrets.half)
    };
    let frame = |name: &str, from: &'static str, bytes: &[u8]| Vector::new(name).with("from", from).hex("bytes", bytes);
    let vectors = vec![
        secrets(Vector::new("the initiator's secrets"), "Alice", ALICE, &alice),
        secrets(Vector::new("the responder's secrets"), "Bob", BOB, &bob),
        frame("first frame", "Alice", &said.first),
        frame("second frame", "Bob", &said.second),
        frame("third frame", "Alice", &said.third),
        frame("record 0 of Bob: admitted", "Bob", &said.admitted),
        frame("record 0 of Alice: data 'hello'", "Alice", &said.data),
        Vector::new("identities inside the frames").hex("bob", made.identities[0]).hex("alice", made.identities[1]),
        Vector::new("session and keys after the handshake")
            .hex("session", made.session)
            .hex("forth", made.keys.0)
            .hex("back", made.keys.1),
        Vector::new("keys after the first exchange")
            .hex("offered_half", public(&alice.half))
            .hex("answered_half", public(&bob.half))
            .hex("forth", made.after(&alice, &bob, 0))
            .hex("back", made.after(&alice, &bob, 1)),
    ];
    let about = "SPEC 6: one connection of purpose 5 (friend), from Alice (initiator) to Bob. Secrets are made from the seeds of \
                 the numbers 2 and 3 (hashes.json); X25519 clamps them.";
    Page { name: "channel.json", about, vectors }
}

/// The X25519 secrets of one end.
struct Secrets {
    fixed: [u8; 32],
    ephemeral: [u8; 32],
    half: [u8; 32],
}

impl Secrets {
    fn of(number: u64) -> Self {
        let seed = Seed::from_number(number);
        let secret = |seed: Seed| seed.rng().bytes();
        Secrets {
            fixed: secret(seed.fork("static")),
            ephemeral: secret(seed.fork("ephemeral")),
            half: secret(seed.fork("rekey").fork("half")),
        }
    }
}

/// What two ends of the crate say to each other.
struct Transcript {
    first: Vec<u8>,
    second: Vec<u8>,
    third: Vec<u8>,
    admitted: Vec<u8>,
    data: Vec<u8>,
}

impl Transcript {
    fn of_the_crate() -> Self {
        let now = Instant::ZERO;
        let config = |number, seed| ChannelConfig {
            purpose: PURPOSE,
            signer: Arc::new(identity(number)),
            seed: Seed::from_number(seed),
        };
        let mut alice = SecureChannel::initiator(config(ALICE, 2), key(BOB), now);
        let mut bob = SecureChannel::responder(config(BOB, 3), now);
        let [mut first, mut second, mut third, mut admitted, mut data] = [const { Vec::new() }; 5];
        alice.start(now, &mut first);
        bob.receive(now, &first, &mut second);
        alice.receive(now, &second, &mut third);
        bob.receive(now, &third, &mut admitted);
        assert_eq!(bob.poll_event(), Some(ChannelEvent::Identified { peer: key(ALICE) }));
        bob.admit(now, &mut admitted);
        alice.receive(now, &admitted, &mut data);
        assert_eq!(alice.poll_event(), Some(ChannelEvent::Opened { peer: key(BOB) }));
        alice.send(now, MESSAGE, &mut data).unwrap();
        Transcript { first, second, third, admitted, data }
    }

    fn frames(&self) -> [String; 5] {
        [&self.first, &self.second, &self.third, &self.admitted, &self.data].map(hex)
    }
}

/// The same, made from the secrets by the specification's text.
struct Made {
    frames: [Vec<u8>; 5],
    identities: [[u8; 106]; 2],
    session: [u8; 32],
    keys: ([u8; 32], [u8; 32]),
}

impl Made {
    fn from(alice: &Secrets, bob: &Secrets) -> Self {
        let hello = [&b"OFST"[..], &[0, 1, PURPOSE.tag()]].concat();
        let mut state = Symmetric::new(&[&b"offset/1"[..], &hello].concat());
        let (alice_e, bob_e) = (public(&alice.ephemeral), public(&bob.ephemeral));
        state.mix_hash(&alice_e);
        let mut first = [&hello[..], &alice_e].concat();
        first.extend(state.encrypt(&[]));

        let bobs = statement(BOB, 1, &state.hash, &public(&bob.fixed));
        state.mix_hash(&bob_e);
        state.mix_dh(&bob.ephemeral, &alice_e);
        let mut second = bob_e.to_vec();
        second.extend(state.encrypt(&public(&bob.fixed)));
        state.mix_dh(&bob.fixed, &alice_e);
        second.extend(state.encrypt(&bobs));

        let alices = statement(ALICE, 0, &state.hash, &public(&alice.fixed));
        let mut third = state.encrypt(&public(&alice.fixed));
        state.mix_dh(&alice.fixed, &bob_e);
        third.extend(state.encrypt(&alices));

        let keys = state.split();
        let frames =
            [frame(&first), frame(&second), frame(&third), record(&keys.1, 6, &[]), record(&keys.0, 1, MESSAGE)];
        Made { frames, identities: [bobs, alices], session: state.hash, keys }
    }

    fn frames(&self) -> [String; 5] {
        [0, 1, 2, 3, 4].map(|number: usize| hex(&self.frames[number]))
    }

    /// The key of a direction after the first exchange.
    fn after(&self, alice: &Secrets, bob: &Secrets, direction: u8) -> [u8; 32] {
        let (offered, answered) = (public(&alice.half), public(&bob.half));
        let old = if direction == 0 { self.keys.0 } else { self.keys.1 };
        let mut hasher = CHANNEL_REKEY.hasher();
        hasher.fixed(&old).fixed(&x25519(alice.half, answered)).fixed(&self.session).u64(1);
        hasher.fixed(&offered).fixed(&answered).u8(direction).finish().0
    }
}

/// Version, features, public key, signature over role, hash before the message and static key.
fn statement(number: u8, role: u8, so_far: &[u8; 32], static_key: &[u8; 32]) -> [u8; 106] {
    let signed: Hash = CHANNEL_IDENTITY.hasher().u8(role).fixed(so_far).fixed(static_key).finish();
    let parts = [&[0, 1][..], &[0; 8], &key(number).0, &sign(number, &signed).0].concat();
    parts.try_into().unwrap()
}

/// Length, kind 0, Noise message.
fn frame(body: &[u8]) -> Vec<u8> {
    [&(1 + body.len() as u16).to_be_bytes()[..], &[0], body].concat()
}

/// The first record of a direction.
fn record(key: &[u8; 32], kind: u8, content: &[u8]) -> Vec<u8> {
    let mut plain = [&[kind][..], &(content.len() as u16).to_be_bytes(), content].concat();
    plain.resize(plain.len().next_multiple_of(64), 0);
    let sealed = seal(key, 0, &[], &plain);
    [&(sealed.len() as u16).to_be_bytes()[..], &sealed].concat()
}
