//! `cargo xtask coverage`: which regions of the verifier the corpus, its tests and fuzzing reach. Minutes, so by command only.
//!
//! rustc counts (`-C instrument-coverage`) in one binary, the runtime's own tests; LLVM's tools of the same major version add up:
//! those of `rustup component add llvm-tools`, or Debian's.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{paths, process, system};

/// In `rust-runtime/src/verifier`, what is no part of the verifier: tests, and what only tests and fuzzing use.
const LEFT_OUT: &str = "tests|verifier/(buffers|contain|planted)\\.rs";
/// Tests that go through the verifier.
const TESTS: [&str; 5] = ["verifier::", "testing::corpus", "testing::fuzz", "testing::planted", "testing::programs"];

#[derive(clap::Args)]
pub struct Args {
    /// Generated programs, beside the corpus and the verifier's tests
    #[arg(long, default_value_t = 20_000)]
    programs: u64,
    /// Without the verifier's tests and the corpus: what fuzzing reaches alone
    #[arg(long)]
    fuzzing_alone: bool,
}

pub fn run(args: Args) -> Result<()> {
    let [cov, profdata] = tools()?;
    let folder = paths::target("coverage");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let (raw, merged) = (folder.join("all.profraw"), folder.join("all.profdata"));
    let binary = binary()?;
    let tests = if args.fuzzing_alone { &["testing::fuzz"][..] } else { &TESTS };
    let mut command = Command::new(&binary);
    command.args(tests).env("LLVM_PROFILE_FILE", &raw).env("DUCKBPF_CASES", args.programs.to_string());
    process::run(command.current_dir(paths::root().join("rust-runtime")))?;
    process::run(Command::new(profdata).args(["merge", "--sparse", "-o"]).arg(&merged).arg(raw))?;
    process::run(&mut report(&cov, "report", &merged, &binary))?;
    let pages = folder.join("html");
    process::run(report(&cov, "show", &merged, &binary).arg("--format=html").arg("--output-dir").arg(&pages))?;
    println!("what is not reached: {}", pages.join("index.html").display());
    Ok(())
}

/// A command of llvm-cov's about the verifier.
fn report(cov: &Path, command: &str, merged: &Path, binary: &Path) -> Command {
    let mut report = Command::new(cov);
    report.arg(command).arg("--instr-profile").arg(merged).arg("--ignore-filename-regex").arg(LEFT_OUT);
    report.arg(binary).arg("--sources").arg(paths::root().join("rust-runtime/src/verifier"));
    report
}

/// llvm-cov and llvm-profdata that understand what rustc writes.
pub fn tools() -> Result<[PathBuf; 2]> {
    let version = process::read(Command::new("rustc").arg("-vV"))?;
    let of = |key: &str| version.lines().find_map(|line| line.strip_prefix(key));
    let llvm = of("LLVM version: ").context("rustc names no LLVM")?;
    let major = llvm.split('.').next().unwrap_or(llvm);
    let sysroot = process::read(Command::new("rustc").args(["--print", "sysroot"]))?;
    let own = Path::new(sysroot.trim()).join("lib/rustlib").join(of("host: ").unwrap_or_default()).join("bin");
    let find = |name: &str| {
        let beside_rustc = Some(own.join(name)).filter(|file| file.is_file());
        beside_rustc.or_else(|| process::find(&format!("{name}-{major}")))
    };
    let (Some(cov), Some(profdata)) = (find("llvm-cov"), find("llvm-profdata")) else {
        bail!("LLVM {major}'s tools are missing: rustup component add llvm-tools, or apt-get install llvm-{major}")
    };
    Ok([cov, profdata])
}

/// The runtime's tests, that alone counting, and that alone optimised: everything else is as for `cargo test`.
fn binary() -> Result<PathBuf> {
    let mut cargo =
        process::cargo(&paths::root(), ["rustc", "--package", "duckbpf-runtime", "--lib", "--profile", "test"]);
    cargo.args(["--locked", "--features", "planted", "--message-format=json-render-diagnostics"]);
    cargo.args(["--config", "profile.dev.package.duckbpf-runtime.opt-level=1", "--", "-C", "instrument-coverage"]);
    let said = process::read(system::hint_libclang(&mut cargo))?;
    let messages = said.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let mut executables = messages.filter_map(|message| message["executable"].as_str().map(PathBuf::from));
    executables.next_back().context("cargo named no test binary")
}
