//! Relays: where nodes without a public address meet, and how a node uses them.
//!
//! A node waits for calls at its own relays and calls its friends at theirs. A relay joins the two into a tunnel and from
//! then on forwards whole messages that it cannot read. Both sides are pure state machines
//! ([`Machine`](offset_protocol::machine::Machine)); sockets, the secure channel and forwarding belong to a runtime.
//!
//! * [`server::RelayServer`]: the relay.
//! * [`client::RelayClient`]: the node's side, made of a listener (own relays) and a connector (friends' relays).
#![forbid(unsafe_code)]

pub mod client;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
#[cfg(test)]
mod network_tests;
pub mod server;
