//! Whole-system tests of Offset with the real programs; see `tests/`.
#![forbid(unsafe_code)]
