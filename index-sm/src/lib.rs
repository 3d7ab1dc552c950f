//! Offset's index server and the node's side of it, as pure state machines.
//!
//! * [`server::IndexServer`] learns what can be pushed from whom to whom: from the nodes themselves, and from servers that
//!   it trusts and that trust it. It answers requests for routes.
//! * [`client::IndexClient`] is the part of a node that reports to one server at a time, and asks it.
//! * [`graph::Graph`] and [`answer::answer`] are the knowledge and the search, usable without a server; a query reads the
//!   graph only and brings its own memory. A server's searches are jobs over snapshots ([`server::searches::Search`]) that run on
//!   any thread, and what its peers say can be checked on any thread before it hears it ([`server::heard::Heard`]).
//! * [`walk::walk`] checks an offer against the reports, independently of the search.
//!
//! Both machines know no socket, clock or randomness: see [`offset_protocol::machine`].
#![forbid(unsafe_code)]

pub mod answer;
mod arc;
mod backoff;
mod backward;
pub mod client;
mod cost;
mod cow;
mod flow;
mod fronts;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
pub mod graph;
mod ground;
mod marks;
mod meet;
mod path;
pub mod search;
pub mod server;
mod split;
mod view;
pub mod walk;

#[cfg(test)]
mod world;
