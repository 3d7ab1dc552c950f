//! What a node does above its relay client: greet friends through tunnels, keep one of two, call again what is lost.

use std::collections::VecDeque;

use offset_protocol::bytes::PublicKey;
use offset_protocol::machine::{Duration, Machine};
use offset_protocol::net::{ConnId, NetCommand};
use offset_protocol::relay::RejectReason;

use super::{Arrival, Item, Link, Session, World};
use crate::client::{self, Direction};

impl World {
    /// One input after the other: what an output leads to waits until the input before is done.
    pub(super) fn tell_node(&mut self, node: usize, input: client::Input) {
        self.inputs.push_back((node, input));
        if self.inputs.len() > 1 {
            return;
        }
        while let Some((node, input)) = self.inputs.front().cloned() {
            let client = &mut self.nodes[node].client;
            if let Some(alarm) = client.poll_timeout().filter(|alarm| alarm.at > self.now) {
                client.handle(self.now, client::Input::Tick);
                let after = (client.poll_output(), client.poll_timeout());
                assert_eq!(after, (None, Some(alarm)), "an early tick did something");
            }
            client.handle(self.now, input);
            client.assert_consistent();
            while let Some(output) = self.nodes[node].client.poll_output() {
                self.on_node_output(node, output);
            }
            self.inputs.pop_front();
        }
    }

    fn on_node_output(&mut self, node: usize, output: client::Output) {
        match output {
            client::Output::Net(command) => self.on_node_command(node, command),
            client::Output::RelayUp { .. } | client::Output::RelayDown { .. } => {}
            client::Output::Incoming { relay, from } => {
                let answer = if self.nodes[node].friends.contains(&from) {
                    client::Input::Accept { relay, from }
                } else {
                    client::Input::Reject { relay, from, reason: RejectReason::Unknown }
                };
                self.tell_node(node, answer);
            }
            client::Output::TunnelOpened { conn, friend, direction, .. } => {
                let session = Session { friend, direction, opened: self.now, up: None };
                self.nodes[node].sessions.insert(conn, session);
                let bytes = greeting(self.nodes[node].key, friend);
                self.tell_node(node, client::Input::SendTunnel { conn, bytes });
            }
            client::Output::TunnelMessage { conn, friend, bytes } => {
                assert_eq!(bytes, greeting(friend, self.nodes[node].key), "a tunnel leads to somebody else");
                self.on_greeting(node, conn, friend);
            }
            client::Output::TunnelClosed { conn, friend } => {
                assert!(self.nodes[node].sessions.remove(&conn).is_some());
                if self.nodes[node].friends.contains(&friend) && self.up(node, friend).is_empty() {
                    self.dial(node, friend);
                }
            }
        }
    }

    fn on_node_command(&mut self, node: usize, command: NetCommand) {
        match command {
            NetCommand::Connect { conn, address, peer, .. } => {
                let relay = self.relays.iter().position(|relay| relay.address.public_key == peer).unwrap();
                assert_eq!(self.relays[relay].address.address, address);
                self.relays[relay].conns += 1;
                let relay_conn = ConnId::incoming(self.relays[relay].conns);
                let link = self.links.len();
                self.from_node.insert((node, conn), link);
                self.from_relay.insert((relay, relay_conn), link);
                let latency = Duration::from_millis(1 + self.rng.below(80));
                self.links.push(Link {
                    node,
                    node_conn: conn,
                    node_open: true,
                    relay,
                    relay_conn,
                    relay_open: false,
                    reading: false,
                    cut: false,
                    from: format!("host{node}-{}", self.nodes[node].place),
                    latency,
                    inbox: VecDeque::new(),
                    joined: None,
                });
                self.push(latency, link, Arrival::KnockAtRelay);
            }
            NetCommand::Send { conn, bytes } => {
                let link = self.from_node[&(node, conn)];
                self.push(self.links[link].latency, link, Arrival::AtRelay(Item::Bytes(bytes)));
            }
            NetCommand::Close { conn } => {
                let link = self.from_node[&(node, conn)];
                self.push(self.links[link].latency, link, Arrival::AtRelay(Item::End));
                self.push(Duration::from_millis(1), link, Arrival::SilenceAtNode);
            }
            NetCommand::Admit { .. } => panic!("nobody connects to a node"),
        }
    }

    /// The tunnel is alive end to end. One stays: the younger if the friend seems to have lost the older, else the one that
    /// the lower key dialled.
    fn on_greeting(&mut self, node: usize, conn: ConnId, friend: PublicKey) {
        let now = self.now;
        let Some(session) = self.nodes[node].sessions.get_mut(&conn) else { return };
        session.up = Some(now);
        self.tell_node(node, client::Input::StopDialling { friend });
        for older in self.up(node, friend) {
            let sessions = &self.nodes[node].sessions;
            let (Some(new), Some(old)) = (sessions.get(&conn), sessions.get(&older)) else { return };
            let lower_dialled = if self.nodes[node].key < friend { Direction::Dialled } else { Direction::Accepted };
            let lost = old.up.is_some_and(|up| now.since(up) > Duration::from_secs(3));
            let keep_old = !lost && old.direction == lower_dialled && new.direction != lower_dialled;
            if older != conn {
                self.tell_node(node, client::Input::CloseTunnel { conn: if keep_old { conn } else { older } });
            }
        }
    }

    pub(super) fn up(&self, node: usize, friend: PublicKey) -> Vec<ConnId> {
        let sessions = self.nodes[node].sessions.iter();
        sessions
            .filter(|(_, session)| session.friend == friend && session.up.is_some())
            .map(|(&conn, _)| conn)
            .collect()
    }
}

fn greeting(from: PublicKey, to: PublicKey) -> Vec<u8> {
    [from.0, to.0].concat()
}
