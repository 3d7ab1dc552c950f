//! Index servers and their clients, driven by bytes.
//!
//! | the first byte | what the bytes decide | what must hold |
//! |---|---|---|
//! | server | messages of nodes and servers, fresh and stale, rightly signed or not; when searches come back | no panic, limits, the laws of the alarm, every request of a session that lasts answered exactly once, no answer that does not hold, nobody alive without a fresh word |
//! | client | messages of servers, what its node wants | no panic, the laws of the alarm, every request answered exactly once, no version used for two reports |
//!
//! The graph and its searches have a target of their own: [`run_graph`].
// A step of a test that fails is a test that fails.
#![allow(clippy::unwrap_used)]
// Tests use all of it, targets do not.
#![cfg_attr(not(test), allow(dead_code))]

pub mod naive;
mod sessions;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use offset_protocol::bytes::{Hash, PublicKey, TickHash};
use offset_protocol::codec::{List, decode, encode};
use offset_protocol::fuzz::{Cheap, Choices};
use offset_protocol::identity::SharedSigner;
use offset_protocol::index::{
    Attestation, Delta, Entry, IndexToIndex, IndexToNode, MultiRoute, NodeToIndex, Proof, RequestRoutes, RoutePart,
    Routes, State, TickInputs, state_hash,
};
use offset_protocol::machine::{Duration, Instant, Machine, Seed};
use offset_protocol::money::Rate;
use offset_protocol::net::{Address, ConnId, ConnIds, NetCommand, NetEvent, Purpose};

use crate::client::requests::RouteQuery;
use crate::client::{ClientInput, ClientOutput, IndexClient, REQUEST_DEADLINE};
pub use crate::graph::fuzz::run as run_graph;
use crate::search::Workspace;
use crate::server::heard::Heard;
use crate::server::searches::Search;
use crate::server::{IndexServer, ServerInput, ServerLimits, ServerOutput};
use sessions::Sessions;

/// Inputs of one machine.
const MAX_STEPS: usize = 300;

/// What the world does next; the last two choose among what exists.
type Step = (u8, u8, u8, u8);

/// Drives a machine as `choices` say.
///
/// # Panics
/// Something does not hold.
pub fn run(choices: &mut Choices) {
    if choices.below(4) < 3 { run_server(choices) } else { run_client(choices) }
}

fn step(choices: &mut Choices) -> Option<Step> {
    (!choices.is_empty()).then(|| (choices.byte(), choices.byte(), choices.byte() % 8, choices.byte() % 8))
}

fn key(n: u8) -> PublicKey {
    PublicKey([n; 32])
}

fn signer(n: u8) -> SharedSigner {
    Arc::new(Cheap(key(n)))
}

fn address(n: u8) -> Address {
    Address::new(&format!("host{n}:1")).unwrap()
}

fn entry(friend: u8, recv_capacity: u128) -> Entry {
    let currency = "USD".parse().unwrap();
    let (friend, rate) = (key(friend), Rate { mul: 0, add: 1 });
    // A quarter of it is passed on, more or less; now and then more than can be pushed is said to be.
    let forward_capacity = if recv_capacity % 16 == 15 { recv_capacity + 1 } else { recv_capacity / 4 };
    Entry { friend, currency, recv_capacity, forward_capacity, rate }
}

/// After an early tick nothing is said and the alarm is the same; after a due one the alarm is later or none.
fn check_alarm<M: Machine>(machine: &mut M, now: Instant, tick: impl Fn() -> M::Input) {
    let before = machine.poll_timeout();
    if before.is_some_and(|alarm| alarm.at > now) {
        machine.handle(now, tick());
        assert!(machine.poll_output().is_none());
        assert_eq!(machine.poll_timeout(), before);
    } else if before.is_some() {
        machine.handle(now, tick());
        assert!(machine.poll_timeout().is_none_or(|alarm| alarm.at > now), "{:?}", machine.poll_timeout());
    }
}

fn report(node: u8, version: u8, entries: Vec<Entry>, time_hash: TickHash) -> State {
    let attestation = Attestation::sign(&signer(node), version.into(), state_hash(&entries), time_hash);
    State { attestation, entries: List::truncated(entries) }
}

fn request(id: u64, from: u8, to: u8) -> RequestRoutes {
    let currency = "USD".parse().unwrap();
    let (source, destination) = (key(from), key(to));
    RequestRoutes { id, currency, amount: 5, source, destination, exclude: List::new(), max_fee: None }
}

/// A message to a server: of the right kind or not, fresh or stale, signed by the right node or not.
fn to_server((kind, flavour, a, b): Step, ticks: &[TickHash]) -> Vec<u8> {
    let tick = ticks.get(usize::from(flavour) % (ticks.len() + 1)).copied().unwrap_or(TickHash([0; 32]));
    let link = TickInputs { random: Hash([flavour; 32]), neighbours: List::truncated([tick]) };
    let proof = if flavour.is_multiple_of(2) { Proof::truncated([link.clone()]) } else { Proof::new() };
    let time_hash = if flavour.is_multiple_of(2) { link.hash() } else { tick };
    let state = report(a, flavour % 16, vec![entry(b, flavour.into())], time_hash);
    let attestation = state.attestation;
    let set = List::truncated(state.entries.iter().copied());
    let delta = Delta {
        attestation,
        base: u64::from(flavour % 16) - u64::from(!flavour.is_multiple_of(16)),
        set,
        removed: List::new(),
    };
    match kind % 11 {
        0 => encode(&NodeToIndex::State(state)),
        1 => encode(&NodeToIndex::Delta(delta)),
        2 => encode(&NodeToIndex::Attestation(attestation)),
        3 => encode(&NodeToIndex::RequestRoutes(request(flavour.into(), a, b))),
        4 => encode(&IndexToIndex::Tick { tick: TickHash([flavour; 32]), ripple: flavour }),
        5 => encode(&IndexToIndex::State { state, proof }),
        6 => encode(&IndexToIndex::Delta { delta, proof }),
        7 => encode(&IndexToIndex::Attestation { attestation, proof }),
        8 => encode(&IndexToIndex::Want { node: key(a) }),
        9 => encode(&IndexToIndex::Later(attestation)),
        _ => vec![flavour; usize::from(a)],
    }
}

/// A server hears anything. Every request is answered once, and no limit is exceeded.
fn run_server(choices: &mut Choices) {
    let mut now = Instant::from_micros(1);
    let limits = ServerLimits {
        max_nodes: 4,
        max_entries: 5,
        max_numbers: 6,
        max_currencies: 2,
        max_clients: 4,
        max_clients_each: 3,
        max_lines_each: 5,
        work: 50,
        quick_work: 8,
        workers: 1,
        max_searches: 6,
        max_searches_each: 4,
    };
    let (mut searches, mut asked, mut workspace) = (Vec::new(), 0, Workspace::new());
    let mut server = IndexServer::new(now, signer(200), &Seed::from_number(9), ConnIds::lane(0, 1), limits);
    let (mut conns, mut ticks, mut accepted) = (Vec::new(), Vec::new(), 0);
    let (mut sessions, mut heard) = (Sessions::default(), Vec::new());
    for n in 0..MAX_STEPS {
        let Some((kind, flavour, a, b)) = step(choices) else { break };
        let conn = conns.get(usize::from(flavour) % conns.len().max(1)).copied().unwrap_or(ConnId::incoming(0));
        let input = match kind % 13 {
            0 | 1 => {
                accepted += 1;
                let conn = ConnId::incoming(accepted);
                conns.push(conn);
                let purpose = if kind.is_multiple_of(2) { Purpose::NodeIndex } else { Purpose::IndexIndex };
                ServerInput::Net(NetEvent::Incoming { conn, purpose, peer: key(a), from: address(a) })
            }
            2 => ServerInput::Trust { server: key(a), address: address(b) },
            3 if flavour < 64 => ServerInput::Distrust { server: key(a) },
            4 => ServerInput::Net(NetEvent::Opened { conn }),
            5 if flavour < 64 => ServerInput::Net(NetEvent::Closed { conn }),
            6 => {
                now += Duration::from_millis(u64::from(flavour) * 150);
                ServerInput::Tick
            }
            7 if !searches.is_empty() => {
                let search: Search = searches.swap_remove(usize::from(flavour) % searches.len());
                ServerInput::Found(search.run(&mut workspace))
            }
            _ => {
                let step = (flavour.wrapping_add(a), kind.wrapping_mul(31).wrapping_add(flavour), a, b);
                let bytes = to_server(step, &ticks);
                heard.push((a, bytes.clone()));
                asked += u64::from(matches!(decode(&bytes, 1 << 20), Ok(NodeToIndex::RequestRoutes(_))));
                let purpose = if b.is_multiple_of(2) { Purpose::NodeIndex } else { Purpose::IndexIndex };
                match Heard::check(purpose, &bytes, &*signer(200)) {
                    Some(heard) if a.is_multiple_of(2) => {
                        // What was checked as another kind's is no request.
                        if purpose == Purpose::NodeIndex {
                            sessions.asks(conn, &bytes);
                        }
                        ServerInput::Heard { conn, heard }
                    }
                    _ => ServerInput::Net(NetEvent::Message { conn, bytes }),
                }
            }
        };
        if let ServerInput::Net(event) = &input {
            sessions.hears(event);
        }
        server.handle(now, input);
        while let Some(output) = server.poll_output() {
            if let ServerOutput::Net(command) = &output {
                sessions.said(command);
            }
            match output {
                ServerOutput::Net(NetCommand::Connect { conn, .. }) => conns.push(conn),
                ServerOutput::Search(search) => searches.push(search),
                ServerOutput::Net(_) | ServerOutput::Ended { .. } | ServerOutput::NotTrusted { .. } => {}
            }
        }
        server.assert_consistent();
        ticks.push(server.tick());
        ticks.dedup();
        check_alarm(&mut server, now, || ServerInput::Tick);
        tell(&mut server, &mut sessions, &mut searches);
        let stats = server.stats();
        assert!(stats.nodes <= 4 && stats.entries <= 5 && stats.clients <= 4, "step {n}: {stats:?}");
        assert_eq!(stats.searching, searches.len());
        assert!(stats.answered + stats.busy + stats.waiting as u64 <= asked && stats.unsound == 0, "{stats:?}");
    }
    while let Some(search) = searches.pop() {
        server.handle(now, ServerInput::Found(search.run(&mut workspace)));
        tell(&mut server, &mut sessions, &mut searches);
    }
    assert_eq!((server.stats().searching, server.stats().waiting), (0, 0));
    sessions.assert_answered();
    forget_all(&mut server, now, accepted, heard);
}

/// When nobody has said anything fresh for long enough the graph is empty, and saying the old things again does not fill it.
fn forget_all(server: &mut IndexServer, mut now: Instant, accepted: u64, heard: Vec<(u8, Vec<u8>)>) {
    let drain = |server: &mut IndexServer| while server.poll_output().is_some() {};
    // Longer than ticks are remembered, by as many of them.
    for _ in 0..64 {
        now += Duration::from_secs(30);
        server.handle(now, ServerInput::Tick);
        drain(server);
    }
    assert_eq!((server.stats().nodes, server.stats().entries), (0, 0), "nobody is alive");
    for (n, (node, bytes)) in (1_u64..).zip(heard) {
        let conn = ConnId::incoming(accepted + n);
        now += Duration::from_secs(1);
        let (peer, from) = (key(node), address(node));
        for event in [
            NetEvent::Incoming { conn, purpose: Purpose::NodeIndex, peer, from },
            NetEvent::Opened { conn },
            NetEvent::Message { conn, bytes },
        ] {
            server.handle(now, ServerInput::Net(event));
            drain(server);
        }
    }
    assert_eq!((server.stats().nodes, server.stats().entries), (0, 0), "nobody said anything new");
}

/// Takes what the server says now.
fn tell(server: &mut IndexServer, sessions: &mut Sessions, searches: &mut Vec<Search>) {
    while let Some(output) = server.poll_output() {
        match output {
            ServerOutput::Net(command) => sessions.said(&command),
            ServerOutput::Search(search) => searches.push(search),
            ServerOutput::Ended { .. } | ServerOutput::NotTrusted { .. } => {}
        }
    }
}

fn to_client((kind, flavour, a, b): Step) -> Vec<u8> {
    let id = u64::from(flavour % 16);
    match kind % 5 {
        0 => encode(&IndexToNode::Tick(TickHash([flavour; 32]))),
        1 => encode(&IndexToNode::Want),
        2 => encode(&IndexToNode::Busy { id }),
        3 => {
            let part = RoutePart { route: List::truncated([key(1), key(a), key(b)]), amount: 5, fees: a.into() };
            let options = List::truncated([MultiRoute { parts: List::truncated([part]) }]);
            encode(&IndexToNode::Routes(Routes { id, options, capped: false }))
        }
        _ => vec![flavour; usize::from(a)],
    }
}

/// A client hears anything, and answers every request once.
fn run_client(choices: &mut Choices) {
    let mut now = Instant::from_micros(1);
    let mut client = IndexClient::new(now, signer(1), &Seed::from_number(9), ConnIds::lane(0, 1_000), 0);
    let mut conn = ConnId::outgoing(1 << 40);
    let (mut asked, mut answered) = (0_u64, BTreeMap::new());
    let mut versions = BTreeMap::new();
    let mut reserved = Vec::from([0_u64]);
    let mut confirmed = 0;
    // Processes that have ended, and questions that ended with them.
    let (mut births, mut lost) = (0, 0);
    let mut drain = |client: &mut IndexClient, conn: &mut ConnId, reserved: &mut Vec<u64>, confirmed: u64| {
        while let Some(output) = client.poll_output() {
            match output {
                ClientOutput::Net(NetCommand::Connect { conn: new, .. }) => *conn = new,
                ClientOutput::Net(NetCommand::Send { bytes, .. }) => {
                    let attestation = match decode(&bytes, 1 << 20).unwrap() {
                        NodeToIndex::State(state) => state.attestation,
                        NodeToIndex::Delta(delta) => delta.attestation,
                        NodeToIndex::Attestation(attestation) => attestation,
                        NodeToIndex::RequestRoutes(_) => continue,
                    };
                    assert!(attestation.version < confirmed);
                    let known = versions.entry(attestation.version).or_insert(attestation.state_hash);
                    assert_eq!(*known, attestation.state_hash, "one version, two reports");
                }
                ClientOutput::ReserveVersions { below } => reserved.push(below),
                ClientOutput::Routes { local, .. } => *answered.entry(local).or_insert(0) += 1,
                ClientOutput::Net(_)
                | ClientOutput::Using { .. }
                | ClientOutput::EntryRefused { .. }
                | ClientOutput::ServerRefused { .. } => {}
            }
        }
        answered.keys().copied().collect::<BTreeSet<u64>>()
    };
    for _ in 0..MAX_STEPS {
        let Some((kind, flavour, a, b)) = step(choices) else { break };
        if kind % 14 == 13 && flavour >= 192 {
            // Its process starts again: what it was asked is forgotten, what its disk holds is not.
            births += 1;
            lost = asked - drain(&mut client, &mut conn, &mut reserved, confirmed).len() as u64;
            client = IndexClient::new(
                now,
                signer(1),
                &Seed::from_number(9 + births),
                ConnIds::lane(births, 1_000),
                confirmed,
            );
            client.handle(now, ClientInput::AddServer { server: key(100 + a), address: address(b) });
            continue;
        }
        let input = match kind % 14 {
            0 => ClientInput::AddServer { server: key(100 + a), address: address(b) },
            1 if flavour < 64 => ClientInput::RemoveServer { server: key(100 + a) },
            2 | 3 => ClientInput::SetEntry(entry(a, flavour.into())),
            4 => ClientInput::RemoveEntry(entry(a, 0).key()),
            5 => {
                asked += 1;
                let RequestRoutes { currency, amount, source, destination, exclude, max_fee, .. } = request(0, 1, b);
                let query = RouteQuery { currency, amount, source, destination, exclude, max_fee };
                ClientInput::Request { local: asked, query }
            }
            6 => {
                confirmed = reserved.last().copied().unwrap_or(0);
                ClientInput::Reserved { below: confirmed }
            }
            7 | 8 => ClientInput::Net(NetEvent::Opened { conn }),
            9 if flavour < 64 => ClientInput::Net(NetEvent::Closed { conn }),
            10 => {
                now += Duration::from_millis(u64::from(flavour) * 150);
                ClientInput::Tick
            }
            _ => ClientInput::Net(NetEvent::Message { conn, bytes: to_client((flavour, kind, a, b)) }),
        };
        client.handle(now, input);
        drain(&mut client, &mut conn, &mut reserved, confirmed);
        check_alarm(&mut client, now, || ClientInput::Tick);
        drain(&mut client, &mut conn, &mut reserved, confirmed);
    }
    client.handle(now + REQUEST_DEADLINE, ClientInput::Tick);
    let all = drain(&mut client, &mut conn, &mut reserved, confirmed);
    assert_eq!(all.len() as u64 + lost, asked);
    assert!(answered.values().all(|times| *times == 1));
}
