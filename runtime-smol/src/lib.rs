//! Offset's machines in the real world: sockets, the clock, the operating system's randomness, an LMDB file, signals.
//!
//! One thread runs the program's machine; every connection is a task of its own that encrypts and decrypts on whichever
//! core is free; one thread commits to disk; what takes long and needs no state is done by workers. They meet in bounded
//! queues only.

pub mod app_client;
pub mod clock;
pub mod connection;
pub mod driver;
pub mod entropy;
pub mod executor;
pub mod folder;
pub mod gate;
pub mod hub;
pub mod inbox;
pub mod limits;
pub mod logging;
pub mod metrics;
pub mod network;
pub mod programs;
pub mod remembering;
pub mod signals;
pub mod store;
pub mod tcp;
pub mod workers;
