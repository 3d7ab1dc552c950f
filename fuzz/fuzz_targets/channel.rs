//! libFuzzer and the target `channel`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| offset_fuzz::target("channel").run(bytes));
