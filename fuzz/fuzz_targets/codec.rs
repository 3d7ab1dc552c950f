//! libFuzzer and the target `codec`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| offset_fuzz::target("codec").run(bytes));
