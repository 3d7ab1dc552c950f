//! Any input at all, in any order: no panic, no limit exceeded, no law of the alarm broken.

use offset_protocol::bytes::PublicKey;
use offset_protocol::codec::encode;
use offset_protocol::machine::{Duration, Instant, Machine, Rng, Seed};
use offset_protocol::net::{ConnId, ConnIds, NetEvent, Purpose};
use offset_protocol::relay::{FailReason, FromRelay, LimitScope, RejectReason, RelayAddress, RelayShare, ToRelay};
use proptest::prelude::*;

use crate::client::{self, RelayClient};
use crate::server::{self, Limits, Quota, RelayServer, TunnelRate};

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_server_survives_anything_within_its_limits(seed: u64) {
        let mut rng = Seed::from_number(seed).rng();
        let small = |rng: &mut Rng| Quota {
            per_identity: rng.below(3) as u32,
            per_address: rng.below(4) as u32,
            total: rng.below(8) as u32,
        };
        let limits = Limits {
            setups: small(&mut rng),
            listeners: small(&mut rng),
            halves: small(&mut rng),
            tunnel_ends: small(&mut rng),
            waiting_calls: rng.below(3) as u32,
            tunnel_rate: TunnelRate::default(),
        };
        let new = if rng.below(2) == 0 { RelayServer::new } else { RelayServer::for_chosen };
        let mut server = new(limits);
        let mut now = Instant::ZERO;
        let mut conns = 0;
        for _ in 0..400 {
            let input = server_input(&mut rng, &mut conns);
            server.handle(now, input);
            server.assert_consistent();
            while server.poll_output().is_some() {}
            now += Duration::from_millis(rng.below(1_500));
            server.handle(now, server::Input::Tick);
            server.assert_consistent();
            prop_assert!(server.poll_timeout().is_none_or(|alarm| alarm.at > now));
        }
    }

    #[test]
    fn a_client_survives_anything_within_its_limits(seed: u64) {
        let mut rng = Seed::from_number(seed).rng();
        let mut client = RelayClient::new(rng.seed(), ConnIds::lane(0, 1));
        let mut now = Instant::ZERO;
        let mut tunnels = 0_i64;
        for _ in 0..400 {
            client.handle(now, client_input(&mut rng));
            client.assert_consistent();
            now += Duration::from_millis(rng.below(1_500));
            client.handle(now, client::Input::Tick);
            client.assert_consistent();
            while let Some(output) = client.poll_output() {
                tunnels += match output {
                    client::Output::TunnelOpened { .. } => 1,
                    client::Output::TunnelClosed { .. } => -1,
                    _ => 0,
                };
                prop_assert!(tunnels >= 0);
            }
            prop_assert!(client.poll_timeout().is_none_or(|alarm| alarm.at > now));
        }
    }
}

fn key(rng: &mut Rng) -> PublicKey {
    PublicKey([rng.below(4) as u8; 32])
}

fn garbage(rng: &mut Rng) -> Vec<u8> {
    let mut bytes = vec![0; rng.below(300) as usize];
    rng.fill(&mut bytes);
    bytes
}

fn server_input(rng: &mut Rng, conns: &mut u64) -> server::Input {
    let conn = ConnId::incoming((*conns + 1).saturating_sub(rng.below(12)));
    match rng.below(40) {
        0..=13 => {
            *conns += 1;
            let purpose = if rng.below(20) == 0 { Purpose::Friend } else { Purpose::NodeRelay };
            let from = format!("host{}", rng.below(3)).parse().unwrap();
            server::Input::Net(NetEvent::Incoming { conn: ConnId::incoming(*conns), purpose, peer: key(rng), from })
        }
        14..=33 => {
            let bytes = match rng.below(9) {
                0..=2 => encode(&ToRelay::Listen),
                3 | 4 => encode(&ToRelay::Connect { to: key(rng) }),
                5 | 6 => encode(&ToRelay::Accept { from: key(rng) }),
                7 => encode(&ToRelay::Reject { from: key(rng), reason: RejectReason::Busy }),
                _ => garbage(rng),
            };
            server::Input::Net(NetEvent::Message { conn, bytes })
        }
        34 if rng.below(3) == 0 => server::Input::Disallow { node: key(rng) },
        34 => server::Input::Allow { node: key(rng) },
        35 | 36 => server::Input::Net(NetEvent::Closed { conn }),
        37 => server::Input::Net(NetEvent::Opened { conn }),
        38 => server::Input::JoinEnded { a: conn, b: ConnId::incoming((*conns).saturating_sub(rng.below(6))) },
        _ if rng.below(10) == 0 => server::Input::Drain,
        _ => server::Input::Tick,
    }
}

fn client_input(rng: &mut Rng) -> client::Input {
    let conn = ConnId::outgoing(rng.below(120));
    let relay = |rng: &mut Rng| RelayAddress {
        public_key: key(rng),
        address: format!("relay{}:1", rng.below(2)).parse().unwrap(),
    };
    match rng.below(30) {
        0..=4 => client::Input::Net(NetEvent::Opened { conn }),
        5..=14 => {
            let bytes = match rng.below(11) {
                0..=3 => encode(&FromRelay::Ready),
                9 | 10 => {
                    let halves = u32::try_from(rng.below(5)).unwrap();
                    let share = RelayShare { halves, tunnel_ends: 1, bytes_per_s: 1, burst_bytes: 1 };
                    encode(&FromRelay::Listening { share })
                }
                4 => encode(&FromRelay::Failed { reason: FailReason::Busy { limit: LimitScope::Total } }),
                5 | 6 => encode(&FromRelay::Incoming { from: key(rng) }),
                7 => encode(&FromRelay::Closing),
                _ => garbage(rng),
            };
            client::Input::Net(NetEvent::Message { conn, bytes })
        }
        15 | 16 => client::Input::Net(NetEvent::Closed { conn }),
        17 | 18 => client::Input::AddRelay(relay(rng)),
        19 => client::Input::RemoveRelay { relay: key(rng) },
        20 | 21 => client::Input::Accept { relay: key(rng), from: key(rng) },
        22 => client::Input::Reject { relay: key(rng), from: key(rng), reason: RejectReason::Unknown },
        23 | 24 => {
            let relays = (0..rng.below(20)).map(|_| relay(rng)).collect();
            client::Input::Dial { friend: key(rng), relays }
        }
        25 => client::Input::StopDialling { friend: key(rng) },
        26 => client::Input::Forget { friend: key(rng) },
        27 => client::Input::CloseTunnel { conn },
        28 => client::Input::SendTunnel { conn, bytes: garbage(rng) },
        _ => client::Input::NetworkReturned,
    }
}
