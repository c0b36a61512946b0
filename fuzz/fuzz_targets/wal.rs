#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| kv_wal::fuzz::segments(input));
