//! libFuzzer and the target `friend`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| offset_fuzz::target("friend").run(bytes));
