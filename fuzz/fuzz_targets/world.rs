//! libFuzzer and the target `world`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| offset_fuzz::target("world").run(bytes));
