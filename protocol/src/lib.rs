//! The protocol of Offset: a credit card powered by trust between friends.
//!
//! Everything that two parties of the network must agree on is here, and nothing that needs a socket, a clock, a file or
//! the operating system's randomness. `SPEC.md` beside this crate says the same in words, `vectors/` in bytes.
#![forbid(unsafe_code)]

pub mod app;
pub mod bytes;
pub mod channel;
pub mod codec;
pub mod context;
pub mod deadlines;
pub mod files;
pub mod friend;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
pub mod identity;
pub mod index;
pub mod lean;
pub mod limits;
pub mod machine;
pub mod money;
pub mod net;
pub mod payment;
pub mod persist;
pub mod probe;
pub mod relay;
