//! The C ABI between DuckDB's hookpoints and the runtime, as Rust sees it.
//!
//! Generated from `include/duckbpf/abi.h`, the one source of truth; sizes and offsets are asserted at compile time in C, C++
//! and Rust. The header's comments say what every field means and how a hookpoint calls a program.

#![allow(
    non_camel_case_types,
    non_upper_case_globals,
    clippy::undocumented_unsafe_blocks,
    reason = "generated: C's names, and Default implementations that zero plain data"
)]

include!(concat!(env!("OUT_DIR"), "/abi.rs"));
