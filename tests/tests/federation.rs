//! Real index servers that share what they know: servers between them die, stand still and come back, and one lies.
#![cfg(target_os = "linux")]
// Helpers of tests, as tests do.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use offset_protocol::bytes::{Hash, TickHash};
use offset_protocol::codec::List;
use offset_protocol::identity::{Identity, SharedSigner};
use offset_protocol::index::{Attestation, IndexToIndex, Proof, State, TickInputs, state_hash};
use offset_tests::index::{Peer, Servers, entry, request};
use offset_tests::programs::PATIENCE;

/// Two friends who report to one server.
struct Pair([Peer; 2]);

impl Pair {
    fn new(servers: &Servers, server: usize) -> Pair {
        Pair([(1, 2), (2, 1)].map(|(node, friend)| {
            let mut peer = servers.peer(server, node).unwrap();
            peer.report(vec![entry(friend, 1).unwrap()]).unwrap();
            peer
        }))
    }

    /// From now on this much can be pushed either way.
    fn widen(&mut self, capacity: u128) {
        let [one, two] = &mut self.0;
        one.change(entry(2, capacity).unwrap()).unwrap();
        two.change(entry(1, capacity).unwrap()).unwrap();
        // Heard: an answer to what was asked behind it.
        one.routes(&request(0, 1, 1, 2).unwrap()).unwrap();
        two.routes(&request(0, 1, 1, 2).unwrap()).unwrap();
    }
}

/// Whether `asker`'s server carries `amount` between the two now.
fn carries(asker: &mut Peer, amount: u128) -> bool {
    !asker.routes(&request(1, amount, 1, 2).unwrap()).unwrap().options.is_empty()
}

/// The two say what they said again now and then, as nodes do; what was lost with a server is made good so.
#[track_caller]
fn wait_until_carried(pair: &mut Pair, asker: &mut Peer, amount: u128) {
    let began = Instant::now();
    let mut said = began;
    while !carries(asker, amount) {
        assert!(began.elapsed() < PATIENCE, "{amount} was never heard of");
        std::thread::sleep(Duration::from_millis(60));
        if said.elapsed() > Duration::from_secs(2) {
            pair.widen(amount);
            said = Instant::now();
        }
    }
}

#[test]
fn what_one_server_is_told_reaches_another_past_one_that_died_or_stood_still_between_them() {
    let mut servers = Servers::start(3).unwrap();
    let mut pair = Pair::new(&servers, 0);
    let mut asker = servers.peer(2, 10).unwrap();
    wait_until_carried(&mut pair, &mut asker, 1);
    pair.widen(100);
    wait_until_carried(&mut pair, &mut asker, 100);

    servers.process(1).unwrap().kill();
    pair.widen(200);
    assert!(!carries(&mut asker, 200), "nobody could have told it");
    servers.process(1).unwrap().restart();
    wait_until_carried(&mut pair, &mut asker, 200);

    servers.process(1).unwrap().signal("-STOP");
    pair.widen(300);
    assert!(!carries(&mut asker, 300), "nobody could have told it");
    servers.process(1).unwrap().signal("-CONT");
    wait_until_carried(&mut pair, &mut asker, 300);

    // Whoever comes back with nothing learns it all again.
    servers.process(2).unwrap().kill();
    servers.process(2).unwrap().restart();
    let mut asker = servers.peer(2, 10).unwrap();
    wait_until_carried(&mut pair, &mut asker, 300);
}

#[test]
fn a_trusted_server_that_lies_changes_nothing() {
    let servers = Servers::start(1).unwrap();
    let mut pair = Pair::new(&servers, 0);
    let old = pair.0[0].last_state().unwrap();
    pair.widen(100);
    let mut asker = servers.peer(0, 10).unwrap();
    wait_until_carried(&mut pair, &mut asker, 100);

    // An old report, rightly signed, and as fresh as a proof can make it.
    let mut liar = servers.neighbour(0, 90).unwrap();
    liar.say(&IndexToIndex::State { state: old.clone(), proof: Proof::new() }).unwrap();
    let said = loop {
        match liar.hear().unwrap() {
            IndexToIndex::Tick { .. } => {}
            other => break other,
        }
    };
    assert!(matches!(said, IndexToIndex::Later(later) if later.version > old.attestation.version), "{said:?}");

    // A report of a node that it made up, with a tick that the server never made: a mere claim of freshness.
    let signer: SharedSigner = Arc::new(Identity::from_private_key(&[9; 32]));
    let entries = List::truncated([entry(1, 5).unwrap()]);
    let stale = Attestation::sign(&signer, 7, state_hash(&entries), TickHash([3; 32]));
    liar.say(&IndexToIndex::State {
        state: State { attestation: stale, entries: entries.clone() },
        proof: Proof::new(),
    })
    .unwrap();
    assert!(carries(&mut asker, 100), "still here, and the liar is still heard");

    // A forged signature, entries that were not signed, a proof that does not hang together: each ends the session.
    let tick = liar.tick;
    let forged = Attestation { version: 9, ..pair.0[0].last_state().unwrap().attestation };
    let unsigned = State { attestation: Attestation::sign(&signer, 8, Hash([1; 32]), tick), entries };
    let link = TickInputs { random: Hash([1; 32]), neighbours: List::new() };
    let lies = [
        IndexToIndex::Attestation { attestation: forged, proof: Proof::new() },
        IndexToIndex::Later(forged),
        IndexToIndex::State { state: unsigned, proof: Proof::new() },
        IndexToIndex::Attestation { attestation: stale, proof: Proof::truncated([link]) },
    ];
    for (n, lie) in lies.iter().enumerate() {
        let mut liar = servers.neighbour(0, 90).unwrap();
        liar.say(lie).unwrap();
        assert!(liar.is_ended(), "lie {n}");
        assert!(carries(&mut asker, 100) && !carries(&mut asker, 101), "after lie {n}");
    }
}
