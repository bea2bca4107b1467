//! `cargo xtask fuzz`: looks for programs that the verifier should not have accepted, for as long as it is told.
//!
//! The scalar domain is exhausted first, on few bits; then programs are made, verified, run and compared
//! (`rust-runtime/src/testing/fuzz/`). `cargo test` does both in a bounded form.

use crate::{paths, process};
use anyhow::Result;
use std::path::Path;

/// Runs of each program as machine code, without and with `--jit`.
const PAIRS: [u64; 2] = [100, 300];

#[derive(clap::Args)]
pub struct Args {
    /// How long
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// Searches at a time, each with a seed of its own
    #[arg(long, default_value_t = 1)]
    threads: u64,
    /// Another seed finds other programs; without one, each search has a seed that no earlier one had
    #[arg(long)]
    seed: Option<u64>,
    /// Many more runs of each program as machine code, compared with the interpreter
    #[arg(long)]
    jit: bool,
    /// Leave out the exhaustive tests of the scalar domain
    #[arg(long)]
    no_domain: bool,
    /// Instead, plant each fault in turn, and say what notices it: the table of the book
    #[arg(long)]
    planted: bool,
    /// For each planted fault, at most
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Instead, ask the kernel's verifier about so many generated programs (root)
    #[arg(long)]
    kernel: Option<u64>,
}

pub fn run(args: Args) -> Result<()> {
    let root = paths::root();
    if args.planted {
        let seed = args.seed.unwrap_or(1);
        return example(&root, "planted", &[args.seconds.to_string(), seed.to_string()]);
    }
    if let Some(programs) = args.kernel {
        let test = ["test", "--release", "--locked", "-p", "duckbpf-runtime", "--lib", "kernel::", "--", "--nocapture"];
        return process::run(process::cargo(&root, test).env("DUCKBPF_CASES", programs.to_string()));
    }
    if !args.no_domain {
        let domain = ["test", "--release", "--locked", "-p", "duckbpf-runtime", "--lib", "domain::"];
        process::run(process::cargo(&root, domain).env("DUCKBPF_EXHAUSTIVE", "1"))?;
    }
    let pairs = PAIRS[usize::from(args.jit)];
    let mut arguments = vec![
        format!("minutes={}", args.minutes),
        format!("threads={}", args.threads),
        format!("pairs={pairs}"),
        format!("folder={}", root.join("target/fuzz").display()),
    ];
    arguments.extend(args.seed.map(|seed| format!("seed={seed}")));
    example(&root, "fuzz", &arguments)
}

/// Runs one of the runtime's examples, optimised.
fn example(root: &Path, name: &str, arguments: &[String]) -> Result<()> {
    let feature = if name == "planted" { "planted" } else { "testing" };
    let cargo =
        ["run", "--release", "--locked", "-p", "duckbpf-runtime", "--features", feature, "--example", name, "--"];
    process::run(process::cargo(root, cargo).args(arguments))
}
