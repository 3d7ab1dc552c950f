//! Offset's index server and the node's side of it, as pure state machines.
#![forbid(unsafe_code)]

pub mod answer;
pub mod graph;
mod path;
pub mod search;
mod split;
pub mod walk;
