//! Two logs of one friendship, batch by batch: currencies are listed, Alice's request is answered and collected, the channel
//! becomes inconsistent and is reset.

use offset_protocol::bytes::{Hash, ResetToken, Signature};
use offset_protocol::codec::{Blob, decode, encode};
use offset_protocol::friend::{
    Batch, Body, CurrencyBalance, CurrencyLimit, CurrencyOperations, CurrencyTotals, Evidence, FriendMessage, Header,
    MAX_HEADER_BYTES, Operation, Reset, ResetTerms, Resume, batch_hash, body_hash, genesis_head, next_head,
    totals_hash,
};
use offset_protocol::identity::{Ed25519, Signable, Verified};
use offset_protocol::limits::MAX_FRAME;
use offset_protocol::payment::{Collect, CommitRequest};

use super::book::{Page, Part, Vector, text, unhex};
use super::cast::{
    ALICE, BOB, REQUEST, TOKEN, dest_plain_lock, key, list, relay, request, response, sign, src_plain_lock, usd,
};

pub(crate) fn page() -> Page {
    let mut friendship = Friendship::new(0, &ResetToken([0; 32]));
    let limit = CurrencyLimit { currency: usd(), max_debt: 5_000, is_lasting: false };
    let mut vectors = vec![
        message("Alice says what Bob may owe her", FriendMessage::Limits(list([limit]))),
        message("Alice resumes in a new friendship", FriendMessage::Resume(friendship.resume(ALICE))),
        message("Bob resumes in a new friendship", FriendMessage::Resume(friendship.resume(BOB))),
    ];
    vectors.extend(story(&mut friendship));
    vectors.push(message("Alice resumes after that", FriendMessage::Resume(friendship.resume(ALICE))));
    vectors.extend(resets());
    let about = "SPEC 9. Two whole logs, batch by batch, with every hash that they lead to; evidence; reset. Totals are \
                 [currency, balance, out_frozen, in_frozen] from the sender's side, after the batch.";
    Page { name: "friend.json", about, vectors }
}

fn message(name: &str, message: FriendMessage) -> Vector {
    Vector::wire(name, "FriendMessage", message)
}

/// Where one side's log stands.
#[derive(Clone, Copy)]
struct End {
    seq: u64,
    head: Hash,
}

/// Both logs, and the totals as Alice sees them.
struct Friendship {
    epoch: u64,
    alice: End,
    bob: End,
    totals: CurrencyTotals,
}

impl Friendship {
    fn new(epoch: u64, token: &ResetToken) -> Self {
        let (alice, bob) = (key(ALICE), key(BOB));
        Friendship {
            epoch,
            alice: End { seq: 0, head: genesis_head(&alice, &bob, epoch, token) },
            bob: End { seq: 0, head: genesis_head(&bob, &alice, epoch, token) },
            totals: CurrencyTotals { currency: usd(), balance: 0, out_frozen: 0, in_frozen: 0 },
        }
    }

    fn ends(&self, sender: u8) -> (End, End) {
        if sender == ALICE { (self.alice, self.bob) } else { (self.bob, self.alice) }
    }

    fn resume(&self, sender: u8) -> Resume {
        let (ours, friends) = self.ends(sender);
        Resume { epoch: self.epoch, in_seq: friends.seq, in_head: friends.head, out_seq: ours.seq }
    }

    /// The sender's next batch, after everything that the other has said.
    fn batch(&mut self, name: &str, sender: u8, body: &Body) -> (Vector, Batch) {
        let (from, to) = (key(sender), key(if sender == ALICE { BOB } else { ALICE }));
        let (ours, friends) = self.ends(sender);
        let totals = if sender == ALICE { self.totals } else { self.totals.mirrored().unwrap() };
        let body = encode(body);
        let hash = body_hash(&body);
        let header = Header {
            epoch: self.epoch,
            seq: ours.seq + 1,
            ack: friends.seq,
            body_hash: hash,
            head: next_head(&ours.head, &hash),
            friend_head: friends.head,
            totals_hash: totals_hash([&totals]),
        };
        let end = if sender == ALICE { &mut self.alice } else { &mut self.bob };
        *end = End { seq: header.seq, head: header.head };
        let header_bytes = encode(&header);
        let signed = batch_hash(&from, &to, &header_bytes);
        let signature = sign(sender, &signed);
        let batch =
            Batch { header: Blob::try_from(header_bytes).unwrap(), body: Blob::try_from(body).unwrap(), signature };
        let stated: Vec<CurrencyTotals> = Some(totals).into_iter().filter(|totals| !totals.is_zero()).collect();
        let vector = message(name, FriendMessage::Batch(batch.clone()))
            .hex("sender", from)
            .hex("receiver", to)
            .with("header", super::diagnostic::diagnostic(&batch.header))
            .with("body", super::diagnostic::diagnostic(&batch.body))
            .hex("previous_head", ours.head)
            .hex("head", header.head)
            .with("totals", super::diagnostic::diagnostic(&encode(&stated)))
            .hex("totals_hash", header.totals_hash)
            .signed(from, signed, signature)
            .checked(check_batch);
        (vector, batch)
    }
}

/// What a receiver checks that knows the sender's log.
fn check_batch(found: &serde_json::Value) -> Result<(), String> {
    let key = |field| offset_protocol::bytes::PublicKey(unhex(text(found, field)).try_into().unwrap());
    let (from, to) = (key("sender"), key("receiver"));
    let Ok(FriendMessage::Batch(batch)) = decode(&unhex(text(found, "cbor")), MAX_FRAME) else {
        return Err("no batch".to_owned());
    };
    let batch = Verified::check(batch, from, &to, &Ed25519).map_err(|error| error.to_string())?;
    let header = batch.decode_header().map_err(|error| error.to_string())?;
    batch.decode_body().map_err(|error| error.to_string())?;
    let previous = Hash(unhex(text(found, "previous_head")).try_into().unwrap());
    let hash = body_hash(&batch.body);
    let fits = header.body_hash == hash && header.head == next_head(&previous, &hash);
    if fits { Ok(()) } else { Err("the heads do not fit".to_owned()) }
}

fn operations(operations: impl IntoIterator<Item = Operation>) -> Body {
    let group = CurrencyOperations { currency: usd(), operations: list(operations) };
    Body { operations: list([group]), relays: None, currencies: None }
}

fn story(friendship: &mut Friendship) -> Vec<Vector> {
    let listed = Some(list([usd()]));
    let opening = Body { operations: list([]), relays: Some(list([relay()])), currencies: listed.clone() };
    let answering = Body { operations: list([]), relays: Some(list([])), currencies: listed };
    let (first, _) = friendship.batch("Alice 1: her relays, and USD is listed", ALICE, &opening);
    let (second, _) = friendship.batch("Bob 1: he listens nowhere, and USD is listed", BOB, &answering);
    let frozen = request().dest_payment + request().left_fees;
    friendship.totals.out_frozen = frozen;
    let (third, _) =
        friendship.batch("Alice 2: the request freezes 1,011", ALICE, &operations([Operation::Request(request())]));
    let (fourth, _) =
        friendship.batch("Bob 2: the response of Carol", BOB, &operations([Operation::Response(response())]));
    let commit = CommitRequest { request_id: REQUEST, src_plain_lock: src_plain_lock() };
    let (fifth, _) = friendship.batch("Alice 3: the commit, in band", ALICE, &operations([Operation::Commit(commit)]));
    friendship.totals.out_frozen = 0;
    friendship.totals.balance = -(frozen as i128);
    let collect = Collect { request_id: REQUEST, src_plain_lock: src_plain_lock(), dest_plain_lock: dest_plain_lock() };
    let (sixth, batch) =
        friendship.batch("Bob 3: the collect; Alice owes 1,011", BOB, &operations([Operation::Collect(collect)]));
    let (seventh, _) = friendship.batch("Alice 4: only an acknowledgement", ALICE, &Body::default());
    let mut vectors = vec![first, second, third, fourth, fifth, sixth, seventh];
    vectors.extend(evidence(friendship, batch));
    vectors
}

/// What Alice can show of Bob's last batch.
fn evidence(friendship: &Friendship, batch: Batch) -> Vec<Vector> {
    let evidence = Evidence {
        sender: key(BOB),
        receiver: key(ALICE),
        header: batch.header,
        signature: batch.signature,
        totals: list(friendship.totals.mirrored()),
    };
    let mut other = evidence.clone();
    other.totals = list([CurrencyTotals { balance: 1_012, ..evidence.totals[0] }]);
    let mut swapped = evidence.clone();
    (swapped.sender, swapped.receiver) = (evidence.receiver, evidence.sender);
    let vector = |name: &str, evidence: Evidence, verdict: &'static str| {
        Vector::wire(name, "Evidence", evidence).with("verdict", verdict).checked(move |found| {
            let evidence: Evidence = decode(&unhex(text(found, "cbor")), MAX_FRAME).unwrap();
            let result = evidence.verify(&Ed25519).map_or_else(|bad| bad.to_string(), |_| "valid".to_owned());
            if result == text(found, "verdict") { Ok(()) } else { Err(result) }
        })
    };
    vec![
        vector("evidence of Bob's last batch", evidence, "valid"),
        vector("evidence with other totals", other, "the totals are not those that were signed"),
        vector("evidence with sender and receiver swapped", swapped, "the sender's signature does not match"),
    ]
}

fn resets() -> Vec<Vector> {
    let balances = list([CurrencyBalance { currency: usd(), balance: -1_011 }]);
    let terms = ResetTerms { epoch: 1, reset_token: TOKEN, balances };
    let (alice, bob) = (key(ALICE), key(BOB));
    let mut reset = Reset { epoch: 1, reset_token: TOKEN, signature: Signature([0; 64]) };
    let hash = reset.signed_hash(&bob, &alice);
    reset.signature = sign(BOB, &hash);
    let mut after = Friendship::new(1, &TOKEN);
    after.totals.balance = -1_011;
    let heads = [(ALICE, "genesis of Alice's log on Alice's terms"), (BOB, "genesis of Bob's log on Alice's terms")];
    let mut vectors = vec![
        message("Alice declares the channel inconsistent, and states her terms", FriendMessage::Inconsistent(terms)),
        message("Bob accepts them", FriendMessage::Reset(reset.clone())).signed(bob, hash, reset.signature),
        message("Bob resumes in the new epoch", FriendMessage::Resume(after.resume(BOB))),
    ];
    let (lower, higher) = (alice.min(bob), alice.max(bob));
    for (number, name) in heads {
        let parts = [
            Part::Fixed("lower public key", &lower.0),
            Part::Fixed("higher public key", &higher.0),
            Part::U64("epoch", 1),
            Part::Fixed("reset token", &TOKEN.0),
            Part::U8("direction", u8::from(key(number) == higher)),
        ];
        let head = after.ends(number).0.head;
        vectors.push(Vector::hash(name, offset_protocol::context::FRIEND_GENESIS, &parts, &head.0));
    }
    let listing = Body { operations: list([]), relays: Some(list([relay()])), currencies: Some(list([usd()])) };
    vectors.push(after.batch("Alice 1 of epoch 1: everything is listed again", ALICE, &listing).0);
    vectors
}

#[test]
fn a_header_fits_its_bound() {
    let widest = Header {
        epoch: u64::MAX,
        seq: u64::MAX,
        ack: u64::MAX,
        body_hash: Hash([0; 32]),
        head: Hash([0; 32]),
        friend_head: Hash([0; 32]),
        totals_hash: Hash([0; 32]),
    };
    assert!(encode(&widest).len() <= MAX_HEADER_BYTES);
}
