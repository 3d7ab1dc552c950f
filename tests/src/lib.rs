//! Whole-system tests of Offset with the real programs (see `tests/`), and benches across crates (`stbench`).
#![forbid(unsafe_code)]

// What processes cost is read from /proc.
#[cfg(target_os = "linux")]
pub mod index;
pub mod memory;
pub mod network;
pub mod programs;
// What processes cost is read from /proc.
#[cfg(target_os = "linux")]
pub mod relay;
pub mod routes;
