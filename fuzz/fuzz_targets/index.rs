//! libFuzzer and the target `index`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| offset_fuzz::target("index").run(bytes));
