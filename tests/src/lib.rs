//! Whole-system tests of Offset with the real programs (see `tests/`), and benches across crates (`stbench`).
#![forbid(unsafe_code)]

pub mod figures;
// Only what runs real programs has need of it.
#[cfg(target_os = "linux")]
mod hosts;
// What processes cost is read from /proc.
#[cfg(target_os = "linux")]
pub mod index;
pub mod memory;
pub mod network;
// What processes cost is read from /proc.
#[cfg(target_os = "linux")]
pub mod node;
// What processes cost is read from /proc.
#[cfg(target_os = "linux")]
pub mod programs;
// What processes cost is read from /proc.
#[cfg(target_os = "linux")]
pub mod relay;
pub mod routes;
