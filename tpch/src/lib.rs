//! The TPC-H harness: data, queries, answers, runs, report. `cargo xtask bench tpch` and `cargo xtask demo` drive it.
//!
//! Each run of each configuration is a process of the official Python wheel ([`worker`]) on one database file (made by `tpch-data`).

pub mod answers;
pub mod machine;
mod markdown;
pub mod queries;
pub mod report;
pub mod run;
mod slices;
pub mod stats;
pub mod worker;
