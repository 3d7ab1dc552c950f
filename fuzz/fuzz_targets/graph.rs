//! libFuzzer and the target `graph`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| offset_fuzz::target("graph").run(bytes));
