//! Any bytes as an object file: parsing and verifying must end, in an answer.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| duckbpf_runtime::testing::fuzz::object_bytes(bytes));
