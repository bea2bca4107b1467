//! Any bytes as a program: what the verifier accepts must run as it believed.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| duckbpf_runtime::testing::fuzz::program_bytes(bytes));
