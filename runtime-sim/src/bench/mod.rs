//! The figures that this crate is measured by.

pub mod network;
