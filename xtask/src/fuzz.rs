//! `cargo xtask fuzz`: looks for programs that the verifier should not have accepted, for as long as it is told.
//!
//! The scalar domain is exhausted first, on few bits; then programs are made, verified, run and compared
//! (`rust-runtime/src/testing/fuzz/`). `cargo test` does both in a bounded form.

use crate::{paths, process};
use anyhow::Result;

#[derive(clap::Args)]
pub struct Args {
    /// How long
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// Searches at a time, each with a seed of its own
    #[arg(long, default_value_t = 1)]
    threads: u64,
    /// Another seed finds other programs
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Leave out the exhaustive tests of the scalar domain
    #[arg(long)]
    no_domain: bool,
}

pub fn run(args: Args) -> Result<()> {
    let root = paths::root();
    if !args.no_domain {
        let domain = ["test", "--release", "--locked", "-p", "duckbpf-runtime", "--lib", "domain::"];
        process::run(process::cargo(&root, domain).env("DUCKBPF_EXHAUSTIVE", "1"))?;
    }
    let example =
        ["run", "--release", "--locked", "-p", "duckbpf-runtime", "--features", "testing", "--example", "fuzz"];
    let numbers = [args.minutes, args.threads, args.seed].map(|number| number.to_string());
    process::run(process::cargo(&root, example).arg("--").args(numbers))
}
