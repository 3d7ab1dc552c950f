//! libFuzzer and the target `relay`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| offset_fuzz::target("relay").run(bytes));
