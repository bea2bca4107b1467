//! `cargo xtask wheel`: a wheel of the Python package that holds the signed extension with its graft, the gallery and the command. No
//! compiler is needed where it is installed.

use crate::venv::{DUCKDB, Venv};
use crate::{extension, paths, process, programs, repository, system};
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

#[derive(clap::Args)]
pub struct Args {
    /// Where the wheel goes [default: target/wheel]
    #[arg(long)]
    out: Option<PathBuf>,
}

pub fn run(args: Args) -> Result<()> {
    let extension = extension::build()?;
    programs::compile_all(&paths::programs(), "v4")?;
    let out = args.out.unwrap_or_else(|| paths::target("wheel"));
    let wheel = build(&extension, Profile::Release, &out)?;
    let bytes = fs::metadata(&wheel).map_or(0, |file| file.len());
    println!("{}: {:.1} MB; pip install {DUCKDB} {}", wheel.display(), bytes as f64 / 1e6, wheel.display());
    Ok(())
}

/// How the command is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    Release,
    /// As the Rust tests have left it.
    Debug,
}

/// The wheel of an extension and gallery that are built.
pub fn build(extension: &Path, profile: Profile, out: &Path) -> Result<PathBuf> {
    repository::build(extension)?;
    let command = command(profile)?;
    let _ = fs::remove_dir_all(out);
    fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;
    let venv = Venv::ensure()?;
    let mut pip = venv.command(&paths::root());
    pip.args(["-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps", "--wheel-dir"]).arg(out);
    process::run(pip.arg("./python").env("DUCKBPF_COMMAND", command))?;
    let wheel =
        out.read_dir()?.flatten().map(|entry| entry.path()).find(|path| path.extension() == Some("whl".as_ref()));
    wheel.with_context(|| format!("pip left no wheel in {}", out.display()))
}

/// The `duckbpf` command, without what only debuggers read.
fn command(profile: Profile) -> Result<PathBuf> {
    let target = paths::target("");
    let build: &[&str] = match profile {
        Profile::Release => &["build", "--release", "--package", "duckbpf", "--bin", "duckbpf"],
        // What the command's own tests run.
        Profile::Debug => &["test", "--no-run", "--quiet", "--workspace", "--test", "command"],
    };
    let mut cargo = process::cargo(&paths::root(), build);
    cargo.arg("--locked").arg("--target-dir").arg(&target);
    process::run(system::hint_libclang(&mut cargo))?;
    let built = target.join(if profile == Profile::Release { "release" } else { "debug" }).join("duckbpf");
    let stripped = paths::target("wheel-command");
    process::run(Command::new("strip").arg("-o").arg(&stripped).arg(&built))
        .context("strip is in Debian's binutils")?;
    Ok(stripped)
}

/// Installs a wheel beside the official DuckDB in an environment of nothing else, `target/venv-wheel`, and uses it there with
/// signatures on, without compilers in sight.
pub fn check(wheel: &Path) -> Result<()> {
    let venv = Venv::for_wheel()?;
    venv.pip_install(&["--force-reinstall", "--no-deps", &wheel.to_string_lossy()])?;
    let home = paths::target("venv-wheel").join("home");
    let _ = fs::remove_dir_all(&home);
    fs::create_dir_all(&home).with_context(|| format!("cannot create {}", home.display()))?;
    let bin = paths::target("venv-wheel").join("bin");
    let mut used = venv.command(&home);
    used.arg(paths::root().join("python/tests/clean.py")).env("HOME", &home).env("PATH", &bin);
    process::run(&mut used)?;
    process::run(Command::new(bin.join("duckbpf")).arg("--version").env("PATH", &bin))
}
