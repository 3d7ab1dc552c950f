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
use offset_protocol::limits::INDEX_TICK;
use offset_tests::index::{Peer, Servers, entry, request};
use offset_tests::programs::PATIENCE;

/// Servers that were parted call each other again after pauses that double; an outage of some seconds is over before a pause
/// of 8 s, and the call, the tick out of turn and its answer need a second or two. The machine may be busy with other tests.
const DIALLING: Duration = Duration::from_secs(15);

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

/// What was lost with a server is made good by the heartbeats of the two, which say nothing but that they are still there, and
/// only when their server ticks: within a heartbeat's period.
#[track_caller]
fn wait_until_carried(pair: &mut Pair, asker: &mut Peer, amount: u128) {
    let began = Instant::now();
    let limit = Duration::from_micros(INDEX_TICK.as_micros()) + DIALLING;
    while !carries(asker, amount) {
        assert!(began.elapsed() < limit, "{amount} was not heard of within {limit:?}");
        for peer in &mut pair.0 {
            peer.beat().unwrap();
        }
        std::thread::sleep(Duration::from_millis(60));
    }
}

/// Whether this becomes true in time.
#[track_caller]
fn wait_for(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(100));
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

    // Reports of a node that it made up: with a tick that the server never made, a mere claim of freshness, nobody is there;
    // with the server's own tick somebody is. So what is counted is what was heard, and how it was taken.
    let nodes = || servers.metric(0, "offset_index_nodes").unwrap();
    let ignored = || servers.metric(0, "offset_index_reports_ignored_total").unwrap();
    let (nodes_before, ignored_before) = (nodes(), ignored());
    let signer: SharedSigner = Arc::new(Identity::from_private_key(&[9; 32]));
    let entries = List::truncated([entry(1, 5).unwrap()]);
    let stale = Attestation::sign(&signer, 7, state_hash(&entries), TickHash([3; 32]));
    liar.say(&IndexToIndex::State {
        state: State { attestation: stale, entries: entries.clone() },
        proof: Proof::new(),
    })
    .unwrap();
    wait_for("the stale report is heard and ignored", || ignored() == ignored_before + 1.0);
    assert_eq!(nodes(), nodes_before, "a report that is not fresh made a node");
    let fresh = Attestation::sign(&signer, 7, state_hash(&entries), liar.tick);
    let state = State { attestation: fresh, entries: entries.clone() };
    liar.say(&IndexToIndex::State { state, proof: Proof::new() }).unwrap();
    wait_for("the fresh one is taken", || nodes() == nodes_before + 1.0);
    assert_eq!(ignored(), ignored_before + 1.0);
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
