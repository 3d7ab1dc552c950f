//! libFuzzer and the target `files`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| offset_fuzz::target("files").run(bytes));
