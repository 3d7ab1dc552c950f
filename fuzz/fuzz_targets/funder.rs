//! libFuzzer and the target `funder`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| offset_fuzz::target("funder").run(bytes));
