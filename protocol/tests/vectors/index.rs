//! The conversations of nodes and index servers, and of index servers among themselves.

use std::sync::Arc;

use offset_protocol::bytes::{Hash, TickHash};
use offset_protocol::codec::decode;
use offset_protocol::identity::{Ed25519, SharedSigner};
use offset_protocol::index::{
    Attestation, Delta, Edge, Entry, IndexToIndex, IndexToNode, MultiRoute, NodeToIndex, Proof, RequestRoutes,
    RoutePart, Routes, State, TickInputs, proven_ticks, state_hash,
};
use offset_protocol::limits::MAX_FRAME;
use offset_protocol::money::Rate;

use super::book::{Page, Vector, hex, text, unhex};
use super::cast::{ALICE, BOB, CAROL, TICK, identity, key, list, rate, usd};

pub(crate) fn page() -> Page {
    let mut vectors = reports();
    vectors.extend(questions());
    vectors.extend(federation());
    Page {
        name: "index.json",
        about: "SPEC 11: Alice's reports, route requests, and reports with proofs of freshness.",
        vectors,
    }
}

fn entries() -> Vec<Entry> {
    let entry = |friend, recv_capacity, forward_capacity, rate| Entry {
        friend: key(friend),
        currency: usd(),
        recv_capacity,
        forward_capacity,
        rate,
    };
    // Of Bob's line a third may be passed on, of Carol's all, whatever its digits.
    let mut entries = vec![entry(BOB, 500, 167, rate()), entry(CAROL, (1 << 70) + 1, (1 << 70) + 1, Rate::ZERO)];
    entries.sort();
    entries
}

fn attest(version: u64, entries: &[Entry], tick: TickHash) -> Attestation {
    let signer: SharedSigner = Arc::new(identity(ALICE));
    Attestation::sign(&signer, version, state_hash(entries), tick)
}

fn state() -> State {
    State { attestation: attest(1, &entries(), TICK), entries: list(entries()) }
}

/// Ten units that Bob passed on are open, Carol's edge is gone.
fn delta() -> Delta {
    let (set, removed): (Vec<_>, Vec<_>) = entries().into_iter().partition(|entry| entry.friend == key(BOB));
    let set: Vec<_> =
        set.into_iter().map(|entry| Entry { recv_capacity: 490, forward_capacity: 157, ..entry }).collect();
    Delta { attestation: attest(2, &set, TICK), base: 1, set: list(set), removed: list(removed.iter().map(Entry::key)) }
}

fn signed(vector: Vector, attestation: &Attestation) -> Vector {
    vector.signed(attestation.node, attestation.hash(), attestation.signature)
}

fn reports() -> Vec<Vector> {
    let (state, delta, stands) = (state(), delta(), attest(2, &delta().set, TICK));
    assert_eq!(state_hash(&delta.apply(&entries())), delta.attestation.state_hash);
    assert!(state.check().is_ok() && delta.check().is_ok() && stands.verify(&Ed25519).is_ok());
    let wire = |name, message| Vector::wire(name, "NodeToIndex", message);
    vec![
        signed(wire("whole report, version 1", NodeToIndex::State(state.clone())), &state.attestation),
        signed(wire("change to version 2", NodeToIndex::Delta(delta.clone())), &delta.attestation),
        signed(wire("version 2 stands", NodeToIndex::Attestation(stands)), &stands),
        Vector::wire("tick for a node", "IndexToNode", IndexToNode::Tick(TICK)),
        Vector::wire("the server wants the whole report", "IndexToNode", IndexToNode::Want),
        signed(Vector::wire("the server knows a later version", "IndexToNode", IndexToNode::Later(stands)), &stands),
    ]
}

fn questions() -> Vec<Vector> {
    let request = RequestRoutes {
        id: 7,
        currency: usd(),
        amount: 1_000,
        source: key(ALICE),
        destination: key(CAROL),
        exclude: list([Edge { from: key(ALICE), to: key(CAROL) }]),
        max_fee: Some(25),
    };
    let part =
        RoutePart { route: list([key(ALICE), key(BOB), key(CAROL)]), amount: 1_000, fees: rate().fee(1_000).unwrap() };
    let options = list([MultiRoute { parts: list([part]) }]);
    let open = RequestRoutes { exclude: list([]), max_fee: None, ..request.clone() };
    vec![
        Vector::wire("request for routes", "NodeToIndex", NodeToIndex::RequestRoutes(request)),
        Vector::wire("request without conditions", "NodeToIndex", NodeToIndex::RequestRoutes(open)),
        Vector::wire("one route", "IndexToNode", IndexToNode::Routes(Routes { id: 7, options, capped: false })),
        Vector::wire("no route", "IndexToNode", IndexToNode::Routes(Routes { id: 8, options: list([]), capped: true })),
        Vector::wire("too many requests", "IndexToNode", IndexToNode::Busy { id: 9 }),
    ]
}

/// A tick of the receiver went into a tick of a server between, and that one into a tick of the node's server.
fn chain() -> (TickHash, TickHash, Proof) {
    let tick = |random: u8, neighbours: &[TickHash]| TickInputs {
        random: Hash([random; 32]),
        neighbours: list(neighbours.iter().copied()),
    };
    let receivers = TickHash([0x79; 32]);
    let between = tick(0x0e, &[TickHash([0x7a; 32]), receivers]);
    let nodes = tick(0x0f, &[between.hash()]);
    (receivers, nodes.hash(), list([nodes, between]))
}

fn federation() -> Vec<Vector> {
    let (receivers, nodes, proof) = chain();
    let state = State { attestation: attest(1, &entries(), nodes), ..state() };
    let delta = Delta { attestation: attest(2, &delta().set, nodes), ..delta() };
    let attestation = attest(2, &delta.set, nodes);
    let wire = |name, message| Vector::wire(name, "IndexToIndex", message);
    let proven = |vector: Vector, attestation: Attestation| {
        signed(vector, &attestation)
            .hex("time_hash", attestation.time_hash)
            .with("proof", proof.iter().map(|link| hex(link.hash())).collect::<Vec<_>>())
            .hex("proves_it_younger_than_the_receivers_tick", receivers)
            .checked(check_proof)
    };
    let (of_state, of_delta) = (state.attestation, delta.attestation);
    let later = of_delta;
    let proof = || chain().2;
    vec![
        wire("tick for a server", IndexToIndex::Tick { tick: TICK, ripple: 0 }),
        wire("tick that ripples on", IndexToIndex::Tick { tick: TICK, ripple: 8 }),
        proven(wire("whole report with proof", IndexToIndex::State { state, proof: proof() }), of_state),
        proven(wire("change with proof", IndexToIndex::Delta { delta, proof: proof() }), of_delta),
        proven(wire("attestation with proof", IndexToIndex::Attestation { attestation, proof: proof() }), attestation),
        wire("a server wants a report", IndexToIndex::Want { node: key(ALICE) }),
        signed(wire("another server knows a later version", IndexToIndex::Later(later)), &later),
    ]
}

fn check_proof(found: &serde_json::Value) -> Result<(), String> {
    let (attestation, proof) = match decode(&unhex(text(found, "cbor")), MAX_FRAME) {
        Ok(IndexToIndex::State { state, proof }) => (state.attestation, proof),
        Ok(IndexToIndex::Delta { delta, proof }) => (delta.attestation, proof),
        Ok(IndexToIndex::Attestation { attestation, proof }) => (attestation, proof),
        Ok(IndexToIndex::Tick { .. } | IndexToIndex::Want { .. } | IndexToIndex::Later(_)) | Err(_) => {
            return Err("no report".to_owned());
        }
    };
    let ticks = proven_ticks(&attestation.time_hash, &proof).map_err(|error| error.to_string())?;
    let receivers = unhex(text(found, "proves_it_younger_than_the_receivers_tick"));
    if ticks.iter().any(|tick| tick.0[..] == receivers[..]) { Ok(()) } else { Err("proves something else".to_owned()) }
}
