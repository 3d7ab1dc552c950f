//! Hashes with every byte that goes into them, signatures, fees.

use offset_protocol::bytes::{Hash, PublicKey, Signature, TickHash};
use offset_protocol::channel::VERSION;
use offset_protocol::context::{
    CHANNEL_IDENTITY, CHANNEL_REKEY, FRIEND_BATCH, FRIEND_BODY, FRIEND_GENESIS, FRIEND_HEAD, FRIEND_RESET,
    FRIEND_TOTALS, INDEX_ATTESTATION, INDEX_STATE, INDEX_TICK, LOCK, RESPONSE, RESPONSE_SIGNATURE, SEED_FORK,
    SEED_NUMBER,
};
use offset_protocol::friend::{CurrencyTotals, Reset, batch_hash, body_hash, genesis_head, next_head, totals_hash};
use offset_protocol::identity::{Signable, verify};
use offset_protocol::index::{Attestation, Entry, TickInputs, state_hash};
use offset_protocol::limits::MAX_AMOUNT;
use offset_protocol::machine::Seed;
use offset_protocol::money::Rate;
use offset_protocol::payment::response_hash;

use super::book::{Page, Part, Vector, text, unhex};
use super::cast::{
    ALICE, BOB, CAROL, INVOICE, NONCE, REQUEST, TICK, TOKEN, dest_plain_lock, identity, key, list, rate, response,
    sign, src_hashed_lock, src_plain_lock, terms, usd,
};

pub(crate) fn page() -> Page {
    let mut vectors = payments();
    vectors.extend(friends());
    vectors.extend(index());
    vectors.extend(channel());
    vectors.extend(seeds());
    vectors.extend(signatures());
    vectors.extend(fees());
    let about = "SPEC 4, 5 and 10.3. 'input' is all that is hashed after the context, 'parts' the same by name; \
                 hash = BLAKE3 derive_key(context, input).";
    Page { name: "hashes.json", about, vectors }
}

fn payments() -> Vec<Vector> {
    let (response, lock) = (response(), src_plain_lock());
    let (terms, answer) = (terms(&response), response_hash(&REQUEST, &NONCE));
    let request_parts = [Part::Fixed("request_id", &REQUEST.0), Part::Fixed("nonce", &NONCE.0)];
    let signed = [
        Part::Fixed("response_hash", &answer.0),
        Part::Fixed("src_hashed_lock", &src_hashed_lock().0),
        Part::Fixed("dest_hashed_lock", &response.dest_hashed_lock.0),
        Part::U8("is_complete", 1),
        Part::U128("dest_payment", 1_000),
        Part::U128("total_dest_payment", 1_000),
        Part::Fixed("invoice_id", &INVOICE.0),
        Part::Bytes("currency", b"USD"),
    ];
    let dest = dest_plain_lock();
    vec![
        Vector::hash("the buyer's lock", LOCK, &[Part::Fixed("plain_lock", &lock.0)], &lock.hashed().0),
        Vector::hash("the seller's lock", LOCK, &[Part::Fixed("plain_lock", &dest.0)], &dest.hashed().0),
        Vector::hash("response hash", RESPONSE, &request_parts, &answer.0),
        Vector::hash("the seller's terms", RESPONSE_SIGNATURE, &signed, &terms.hash().0).signed(
            key(CAROL),
            terms.hash(),
            response.signature,
        ),
    ]
}

fn friends() -> Vec<Vector> {
    let (alice, bob) = (key(ALICE), key(BOB));
    let genesis = |name, from: PublicKey, to: PublicKey, epoch, token: &[u8; 32]| {
        let (lower, higher) = if from < to { (from, to) } else { (to, from) };
        let parts = [
            Part::Fixed("lower public key", &lower.0),
            Part::Fixed("higher public key", &higher.0),
            Part::U64("epoch", epoch),
            Part::Fixed("reset token", token),
            Part::U8("direction: 1 if the sender's key is the higher one", u8::from(from > to)),
        ];
        let token = offset_protocol::bytes::ResetToken(*token);
        Vector::hash(name, FRIEND_GENESIS, &parts, &genesis_head(&from, &to, epoch, &token).0)
    };
    let (body, header) = ([0x83, 0x80, 0xf6, 0xf6], [0xaa; 5]);
    let hashed_body = body_hash(&body);
    let before = Hash([0x0a; 32]);
    let head_parts = [Part::Fixed("previous head", &before.0), Part::Fixed("body hash", &hashed_body.0)];
    let batch_parts =
        [Part::Fixed("sender", &alice.0), Part::Fixed("receiver", &bob.0), Part::Bytes("header bytes", &header)];
    let batch = batch_hash(&alice, &bob, &header);
    vec![
        genesis("genesis of Alice's log, epoch 0", alice, bob, 0, &[0; 32]),
        genesis("genesis of Bob's log, epoch 0", bob, alice, 0, &[0; 32]),
        genesis("genesis of Alice's log after a reset", alice, bob, 7, &TOKEN.0),
        Vector::hash("body", FRIEND_BODY, &[Part::Bytes("body bytes", &body)], &hashed_body.0),
        Vector::hash("head", FRIEND_HEAD, &head_parts, &next_head(&before, &hashed_body).0),
        totals(),
        Vector::hash("no totals", FRIEND_TOTALS, &[], &totals_hash([]).0),
        Vector::hash("batch", FRIEND_BATCH, &batch_parts, &batch.0).signed(alice, batch, sign(ALICE, &batch)),
        reset(),
    ]
}

fn totals() -> Vector {
    let totals = |currency: &str, balance, out_frozen, in_frozen| CurrencyTotals {
        currency: currency.parse().unwrap(),
        balance,
        out_frozen,
        in_frozen,
    };
    let mut all = [
        totals("USD", 1_011, 3, 0),
        totals("EUR", -5, 0, 7),
        totals("GBP", 0, 0, 0),
        totals("BTC.x", 1 << 80, 0, 0),
        totals("Z", 0, 0, 1),
    ];
    all.sort_by_key(|totals| totals.currency);
    let parts = [
        Part::Bytes("currency", b"Z"),
        Part::I128("balance", 0),
        Part::U128("out_frozen", 0),
        Part::U128("in_frozen", 1),
        Part::Bytes("currency", b"EUR"),
        Part::I128("balance", -5),
        Part::U128("out_frozen", 0),
        Part::U128("in_frozen", 7),
        Part::Bytes("currency", b"USD"),
        Part::I128("balance", 1_011),
        Part::U128("out_frozen", 3),
        Part::U128("in_frozen", 0),
        Part::Bytes("currency", b"BTC.x"),
        Part::I128("balance", 1 << 80),
        Part::U128("out_frozen", 0),
        Part::U128("in_frozen", 0),
    ];
    let name = "totals of Z, EUR, GBP (all zero, left out), USD, BTC.x: shorter names first";
    Vector::hash(name, FRIEND_TOTALS, &parts, &totals_hash(&all).0)
}

fn reset() -> Vector {
    let (alice, bob) = (key(ALICE), key(BOB));
    let reset = Reset { epoch: 7, reset_token: TOKEN, signature: Signature([0; 64]) };
    let hash = reset.signed_hash(&bob, &alice);
    let parts = [
        Part::Fixed("sender", &bob.0),
        Part::Fixed("receiver", &alice.0),
        Part::U64("epoch", 7),
        Part::Fixed("reset token", &TOKEN.0),
    ];
    Vector::hash("reset", FRIEND_RESET, &parts, &hash.0).signed(bob, hash, sign(BOB, &hash))
}

fn index() -> Vec<Vector> {
    let node = key(ALICE);
    let entry = |friend, recv_capacity, forward_capacity| Entry {
        friend: key(friend),
        currency: usd(),
        recv_capacity,
        forward_capacity,
        rate: rate(),
    };
    let mut entries = [entry(BOB, 500, 167), entry(CAROL, 0, 0)];
    entries.sort();
    let hash = state_hash(&entries);
    let mut parts = vec![Part::U32("number of entries", 2)];
    for entry in &entries {
        parts.push(Part::Fixed("friend", &entry.friend.0));
        parts.push(Part::Bytes("currency", b"USD"));
        parts.push(Part::U128("recv_capacity", entry.recv_capacity));
        parts.push(Part::U128("forward_capacity", entry.forward_capacity));
        parts.push(Part::U32("rate.mul", entry.rate.mul));
        parts.push(Part::U32("rate.add", entry.rate.add));
    }
    let signer: offset_protocol::identity::SharedSigner = std::sync::Arc::new(identity(ALICE));
    let attestation = Attestation::sign(&signer, 9, hash, TICK);
    let attested = [
        Part::Fixed("node", &node.0),
        Part::U64("version", 9),
        Part::Fixed("state hash", &hash.0),
        Part::Fixed("time hash", &TICK.0),
    ];
    let inputs = TickInputs { random: Hash([0x0b; 32]), neighbours: list([TICK, TickHash([0x78; 32])]) };
    let ticked = [
        Part::Fixed("random", &inputs.random.0),
        Part::U32("number of neighbours", 2),
        Part::Fixed("neighbour's tick", &TICK.0),
        Part::Fixed("neighbour's tick", &[0x78; 32]),
    ];
    vec![
        Vector::hash("a report", INDEX_STATE, &parts, &hash.0),
        Vector::hash("an empty report", INDEX_STATE, &[Part::U32("number of entries", 0)], &state_hash(&[]).0),
        Vector::hash("attestation", INDEX_ATTESTATION, &attested, &attestation.hash().0).signed(
            node,
            attestation.hash(),
            attestation.signature,
        ),
        Vector::hash("tick", INDEX_TICK, &ticked, &inputs.hash().0),
    ]
}

fn channel() -> Vec<Vector> {
    let (so_far, static_key) = ([0x0c; 32], [0x0d; 32]);
    let mut signed = CHANNEL_IDENTITY.hasher();
    let signed = signed.u8(1).fixed(&so_far).fixed(&static_key).finish();
    let parts = [
        Part::U8("role: 0 initiator, 1 responder", 1),
        Part::Fixed("handshake hash before the message", &so_far),
        Part::Fixed("own X25519 static key", &static_key),
    ];
    assert_eq!(VERSION, 1, "the vectors are those of version 1");
    let part = |name, byte: &'static [u8; 32]| Part::Fixed(name, byte);
    let rekey = [
        part("old key", &[1; 32]),
        part("X25519 result", &[2; 32]),
        part("session", &[3; 32]),
        Part::U64("number", 1),
        part("offered half", &[4; 32]),
        part("answered half", &[5; 32]),
        Part::U8("direction: 0 forth, 1 back", 0),
    ];
    let mut fresh = CHANNEL_REKEY.hasher();
    fresh.fixed(&[1; 32]).fixed(&[2; 32]).fixed(&[3; 32]).u64(1).fixed(&[4; 32]).fixed(&[5; 32]).u8(0);
    vec![
        Vector::hash("identity in a handshake", CHANNEL_IDENTITY, &parts, &signed.0).signed(
            key(BOB),
            signed,
            sign(BOB, &signed),
        ),
        Vector::hash("a fresh channel key", CHANNEL_REKEY, &rekey, &fresh.finish().0),
    ]
}

/// Seeds are not part of the protocol; they stand here because `channel.json` names the seeds of its ends.
fn seeds() -> Vec<Vector> {
    let stream = |seed: &Seed| seed.rng().bytes::<32>();
    let mut number = SEED_NUMBER.hasher();
    let number = number.u64(2).finish();
    let mut fork = SEED_FORK.hasher();
    let fork = fork.fixed(&number.0).bytes(b"static").finish();
    let seed = Seed::from_number(2);
    assert_eq!(stream(&seed), stream(&Seed::new(number.0)));
    assert_eq!(stream(&seed.fork("static")), stream(&Seed::new(fork.0)));
    let forked = [Part::Fixed("seed", &number.0), Part::Bytes("label", b"static")];
    vec![
        Vector::hash("seed of the number 2", SEED_NUMBER, &[Part::U64("number", 2)], &number.0)
            .hex("first_32_bytes_of_the_chacha20_stream", stream(&seed)),
        Vector::hash("its fork 'static'", SEED_FORK, &forked, &fork.0)
            .hex("first_32_bytes_of_the_chacha20_stream", stream(&seed.fork("static"))),
    ]
}

fn signatures() -> Vec<Vector> {
    let hash = src_hashed_lock();
    let hash = Hash(hash.0);
    let good = sign(ALICE, &hash);
    let mut small = [0; 32];
    small[0] = 1;
    let mut small_signature = [0; 64];
    small_signature[0] = 1;
    let refused = |name: &str, key: PublicKey, signature: Signature| {
        Vector::new(name).hex("signer", key).hex("signed_hash", hash).hex("refused_signature", signature).checked(
            |found| {
                let key = PublicKey(unhex(text(found, "signer")).try_into().unwrap());
                let hash = Hash(unhex(text(found, "signed_hash")).try_into().unwrap());
                let signature = Signature(unhex(text(found, "refused_signature")).try_into().unwrap());
                verify(&key, &hash, &signature).map_or(Ok(()), |()| Err("it is accepted".to_owned()))
            },
        )
    };
    vec![
        Vector::new("Alice's signature").hex("private_key", [ALICE; 32]).signed(key(ALICE), hash, good),
        refused("another key", key(BOB), good),
        refused("a key of small order signs everything", PublicKey(small), Signature(small_signature)),
        refused("s beyond the group order", key(ALICE), beyond_the_order(good)),
    ]
}

/// The same signature with the group order added to `s`: lax verifiers take it for another signature of the same message.
fn beyond_the_order(signature: Signature) -> Signature {
    let order = unhex("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010");
    let mut malleable = signature.0;
    let mut carry = 0u16;
    for (byte, add) in malleable[32..].iter_mut().zip(order) {
        let sum = u16::from(*byte) + u16::from(add) + carry;
        (*byte, carry) = (sum as u8, sum >> 8);
    }
    Signature(malleable)
}

fn fees() -> Vec<Vector> {
    let cases = [
        (0, 0, MAX_AMOUNT),
        (1 << 31, 3, 101),
        (1, 0, u128::from(u32::MAX)),
        (1, 0, 1 << 32),
        (42_949_673, 1, 1_000),
        (u32::MAX, u32::MAX, 0),
        (u32::MAX, 1, MAX_AMOUNT),
    ];
    let fee = |(mul, add, amount): (u32, u32, u128)| {
        let fee = Rate { mul, add }.fee(amount).unwrap();
        Vector::new(format!("fee of {amount} at mul {mul}, add {add}"))
            .with("mul", mul)
            .with("add", add)
            .with("amount", amount.to_string())
            .with("fee", fee.to_string())
    };
    cases.into_iter().map(fee).collect()
}
