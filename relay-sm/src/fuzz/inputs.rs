//! Any input at all, in any order: no panic, no limit exceeded, no law of the alarm broken.

use std::collections::BTreeSet;

use offset_protocol::bytes::PublicKey;
use offset_protocol::codec::encode;
use offset_protocol::fuzz::Choices;
use offset_protocol::machine::{Duration, Instant, Machine, Seed};
use offset_protocol::net::{ConnId, ConnIds, NetEvent, Purpose};
use offset_protocol::relay::{FailReason, FromRelay, LimitScope, RejectReason, RelayAddress, RelayShare, ToRelay};

use crate::client::{self, RelayClient};
use crate::server::{self, Limits, Quota, RelayServer, TunnelRate};

/// Inputs of one machine.
const MAX_INPUTS: usize = 600;

/// A server hears anything from anybody.
pub(super) fn run_server(choices: &mut Choices) {
    let small = |choices: &mut Choices| Quota {
        per_identity: choices.below(3) as u32,
        per_address: choices.below(4) as u32,
        total: choices.below(8) as u32,
    };
    let limits = Limits {
        setups: small(choices),
        listeners: small(choices),
        halves: small(choices),
        tunnel_ends: small(choices),
        waiting_calls: choices.below(3) as u32,
        tunnel_rate: TunnelRate::default(),
    };
    let new = if choices.flip() { RelayServer::for_chosen } else { RelayServer::new };
    let mut server = new(limits);
    let mut now = Instant::ZERO;
    let mut conns = 0;
    let mut joined = BTreeSet::new();
    for _ in 0..MAX_INPUTS {
        if choices.is_empty() {
            break;
        }
        let input = server_input(choices, &mut conns);
        if let server::Input::JoinEnded { a, b } = &input {
            joined.remove(a);
            joined.remove(b);
        }
        server.handle(now, input);
        server.assert_consistent();
        while let Some(output) = server.poll_output() {
            if let server::Output::Join { a, b } = output {
                assert!(a != b && joined.insert(a) && joined.insert(b), "a connection in two tunnels");
            }
        }
        now += Duration::from_millis(choices.below(1_500));
        server.handle(now, server::Input::Tick);
        server.assert_consistent();
        assert!(server.poll_timeout().is_none_or(|alarm| alarm.at > now));
        let counts = server.counts();
        assert!(counts.listeners <= limits.listeners.total as usize, "{counts:?} and {limits:?}");
        assert!(counts.halves <= limits.halves.total as usize, "{counts:?} and {limits:?}");
    }
}

/// A client hears anything from its relays, its node and the network.
pub(super) fn run_client(choices: &mut Choices) {
    let mut client = RelayClient::new(Seed::from_number(choices.below(256)), ConnIds::lane(0, 1));
    let mut now = Instant::ZERO;
    let mut tunnels = 0_i64;
    for _ in 0..MAX_INPUTS {
        if choices.is_empty() {
            break;
        }
        client.handle(now, client_input(choices));
        client.assert_consistent();
        now += Duration::from_millis(choices.below(1_500));
        client.handle(now, client::Input::Tick);
        client.assert_consistent();
        while let Some(output) = client.poll_output() {
            tunnels += match output {
                client::Output::TunnelOpened { .. } => 1,
                client::Output::TunnelClosed { .. } => -1,
                _ => 0,
            };
            assert!(tunnels >= 0, "a tunnel ended that was not there");
        }
        assert!(client.poll_timeout().is_none_or(|alarm| alarm.at > now));
    }
}

fn key(choices: &mut Choices) -> PublicKey {
    PublicKey([choices.below(4) as u8; 32])
}

fn garbage(choices: &mut Choices) -> Vec<u8> {
    let length = choices.byte();
    choices.take(length.into()).to_vec()
}

fn server_input(choices: &mut Choices, conns: &mut u64) -> server::Input {
    let conn = ConnId::incoming((*conns + 1).saturating_sub(choices.below(12)));
    match choices.below(40) {
        0..=13 => {
            *conns += 1;
            let purpose = if choices.below(20) == 0 { Purpose::Friend } else { Purpose::NodeRelay };
            let from = format!("host{}", choices.below(3)).parse().unwrap();
            server::Input::Net(NetEvent::Incoming { conn: ConnId::incoming(*conns), purpose, peer: key(choices), from })
        }
        14..=33 => {
            let bytes = match choices.below(9) {
                0..=2 => encode(&ToRelay::Listen),
                3 | 4 => encode(&ToRelay::Connect { to: key(choices) }),
                5 | 6 => encode(&ToRelay::Accept { from: key(choices) }),
                7 => encode(&ToRelay::Reject { from: key(choices), reason: RejectReason::Busy }),
                _ => garbage(choices),
            };
            server::Input::Net(NetEvent::Message { conn, bytes })
        }
        34 if choices.below(3) == 0 => server::Input::Disallow { node: key(choices) },
        34 => server::Input::Allow { node: key(choices) },
        35 | 36 => server::Input::Net(NetEvent::Closed { conn }),
        37 => server::Input::Net(NetEvent::Opened { conn }),
        38 => server::Input::JoinEnded { a: conn, b: ConnId::incoming((*conns).saturating_sub(choices.below(6))) },
        _ if choices.below(10) == 0 => server::Input::Drain,
        _ => server::Input::Tick,
    }
}

fn client_input(choices: &mut Choices) -> client::Input {
    let conn = ConnId::outgoing(choices.below(120));
    let relay = |choices: &mut Choices| RelayAddress {
        public_key: key(choices),
        address: format!("relay{}:1", choices.below(2)).parse().unwrap(),
    };
    match choices.below(30) {
        0..=4 => client::Input::Net(NetEvent::Opened { conn }),
        5..=14 => {
            let bytes = match choices.below(11) {
                0..=3 => encode(&FromRelay::Ready),
                9 | 10 => {
                    let halves = u32::try_from(choices.below(5)).unwrap();
                    let share = RelayShare { halves, tunnel_ends: 1, bytes_per_s: 1, burst_bytes: 1 };
                    encode(&FromRelay::Listening { share })
                }
                4 => encode(&FromRelay::Failed { reason: FailReason::Busy { limit: LimitScope::Total } }),
                5 | 6 => encode(&FromRelay::Incoming { from: key(choices) }),
                7 => encode(&FromRelay::Closing),
                _ => garbage(choices),
            };
            client::Input::Net(NetEvent::Message { conn, bytes })
        }
        15 | 16 => client::Input::Net(NetEvent::Closed { conn }),
        17 | 18 => client::Input::AddRelay(relay(choices)),
        19 => client::Input::RemoveRelay { relay: key(choices) },
        20 | 21 => client::Input::Accept { relay: key(choices), from: key(choices) },
        22 => client::Input::Reject { relay: key(choices), from: key(choices), reason: RejectReason::Unknown },
        23 | 24 => {
            let relays = (0..choices.below(20)).map(|_| relay(choices)).collect();
            client::Input::Dial { friend: key(choices), relays }
        }
        25 => client::Input::StopDialling { friend: key(choices) },
        26 => client::Input::Forget { friend: key(choices) },
        27 => client::Input::CloseTunnel { conn },
        28 => client::Input::SendTunnel { conn, bytes: garbage(choices) },
        _ => client::Input::NetworkReturned,
    }
}
