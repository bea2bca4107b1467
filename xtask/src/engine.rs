//! `cargo xtask engine`: all of DuckDB, stock and with hooks, as libraries to link.

use crate::paths;
use crate::venv::Venv;
use anyhow::{Context, Result};
use duckbpf_patch::Layout;
use duckbpf_patch::compile::Toolchain;
use duckbpf_patch::engine::{self, Engine, Kind, Manifest};
use duckbpf_patch::icu::Icu;
use duckbpf_tpch::worker::Host;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

#[derive(clap::Args)]
pub struct Args {
    /// gcc's goes to target/engine.gcc, to be compared with
    #[arg(long, default_value = "clang", value_parser = ["clang", "gcc"])]
    compiler: String,
}

pub fn run(args: Args) -> Result<()> {
    build(match args.compiler.as_str() {
        "gcc" => Toolchain::Gcc,
        _ => Toolchain::Clang,
    })
}

/// Builds what is missing or stale.
pub fn build(toolchain: Toolchain) -> Result<()> {
    let started = Instant::now();
    let layout = Layout::new(&paths::root());
    let icu = match toolchain {
        Toolchain::Clang => icu(&layout),
        // Can't keep the calendars' caches out of thread-local storage (duckbpf_patch::icu).
        Toolchain::Gcc => None,
    };
    let manifest = engine::build(&layout, toolchain, icu.as_ref())
        .context("the engine is not built; what was compiled is kept")?;
    let engine = Engine::find(&layout, toolchain)?;
    println!("{}: {}", engine.library(Kind::Stock).display(), megabytes(manifest.stock.stripped));
    println!("{}: {}", engine.library(Kind::Hooked).display(), megabytes(manifest.hooked.stripped));
    println!(
        "{} of {} objects differ, the hooks take {} bytes stripped; series {}, {:.0} s",
        manifest.different_objects.len(),
        manifest.shared_objects + manifest.different_objects.len(),
        growth(&manifest),
        manifest.series,
        started.elapsed().as_secs_f64(),
    );
    Ok(())
}

/// What the crate of DuckDB's sources leaves out. Without it there is an engine still.
fn icu(layout: &Layout) -> Option<Icu> {
    Venv::for_engine()
        .and_then(|venv| Icu::find(layout, &venv.python()))
        .inspect_err(|error| {
            eprintln!("{error:#}\nthe engine is built without ICU (time zones, collations); run this again to add it");
        })
        .ok()
}

/// The engine that was built last, if it is of this checkout. The error says how to build it.
pub fn find() -> Result<Engine> {
    Engine::find(&Layout::new(&paths::root()), Toolchain::Clang)
}

/// Makes a command's `import duckdb` mean this library (python/engine/duckdb.py).
pub fn drive<'a>(command: &'a mut Command, library: &Path) -> &'a mut Command {
    command.env("PYTHONPATH", python_module()).env("DUCKBPF_LIBRARY", library)
}

/// One of the engines, as the harness runs it.
pub fn host(engine: &Engine, kind: Kind) -> Result<Host> {
    Ok(Host::Library { python: Venv::for_engine()?.python(), module: python_module(), library: engine.library(kind) })
}

fn python_module() -> PathBuf {
    paths::root().join("python/engine")
}

/// Bytes that the hooks add to the stripped library.
pub fn growth(manifest: &Manifest) -> i64 {
    manifest.hooked.stripped as i64 - manifest.stock.stripped as i64
}

fn megabytes(bytes: u64) -> String {
    format!("{:.2} MB", bytes as f64 / 1e6)
}
