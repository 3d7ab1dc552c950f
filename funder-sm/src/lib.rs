//! An Offset node as a pure state machine: money, friends, apps.
//!
//! [`node::Node`] is the whole; its parts are machines of their own: [`funder`] (money), [`links`] (friends through relays),
//! [`apps`] (sessions of applications). Below the funder stand [`friend_channel`] (two signed logs) and [`ledger`] (one
//! currency of one friendship). What is mostly empty is kept in a map that holds nothing then: [`offset_protocol::lean`].
#![forbid(unsafe_code)]

pub mod apps;
pub mod friend_channel;
pub mod funder;
pub mod inspection;
pub mod ledger;
pub mod links;
#[cfg(feature = "meddle")]
pub mod meddle;
pub mod node;

#[cfg(test)]
mod testnet;
