//! `cargo xtask memcheck`: valgrind over the tests of the parts of the runtime that are unsafe: machine code and its memory, maps,
//! helpers, the call path. Minutes, so by command only.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::{paths, process, system};

/// Modules whose tests run.
const MODULES: [&str; 4] = ["jit::", "maps::", "helpers::", "hooks::"];
/// Which make programs by the thousand, or look at the process' mappings, of which valgrind has some of its own.
const LEFT_OUT: [&str; 3] =
    ["memory_is_used_again", "programs_of_any_size_are_compiled", "code_is_executable_never_writable_and_goes"];

#[derive(clap::Args)]
pub struct Args {
    /// Only tests whose names hold one of these
    tests: Vec<String>,
}

pub fn run(args: Args) -> Result<()> {
    let mut command = Command::new("valgrind");
    // Programs are written through a file while their pages are mapped: code may change under valgrind without a store that it sees.
    command.args(["--quiet", "--error-exitcode=1", "--smc-check=all", "--leak-check=no", "--track-origins=yes"]);
    // Properties run few cases, and what times out waits longer.
    command.env("DUCKBPF_CASES", "16").env("PROPTEST_CASES", "16").arg(test_binary()?);
    let modules: Vec<String> = MODULES.map(str::to_owned).to_vec();
    command.args(if args.tests.is_empty() { modules } else { args.tests });
    command.args(LEFT_OUT.iter().flat_map(|test| ["--skip", test])).arg("--test-threads=1");
    process::run(&mut command)
}

/// The runtime's tests, compiled as what is released: without that, valgrind takes hours.
fn test_binary() -> Result<PathBuf> {
    let arguments = [
        "test",
        "--package",
        "duckbpf-runtime",
        "--lib",
        "--release",
        "--locked",
        "--no-run",
        "--message-format=json-render-diagnostics",
    ];
    let said = process::read(system::hint_libclang(&mut process::cargo(&paths::root(), arguments)))?;
    let messages = said.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let mut executables = messages.filter_map(|message| message["executable"].as_str().map(PathBuf::from));
    executables.next_back().context("cargo named no test binary")
}
