//! `cargo xtask graft`: DuckDB's patched units, compiled and linked into target/graft/duckbpf-graft.so.

use crate::paths;
use anyhow::Result;
use duckbpf_patch::{Layout, build_graft};
use std::time::Instant;

#[derive(clap::Args)]
pub struct Args {}

pub fn run(_args: Args) -> Result<()> {
    let started = Instant::now();
    let manifest = build_graft(&Layout::new(&paths::root()))?;
    println!(
        "{}: {} units, {} functions, {} KiB, series {}, {:.1} s",
        paths::graft_image().display(),
        manifest.units.len(),
        manifest.redirected,
        manifest.size / 1024,
        manifest.series,
        started.elapsed().as_secs_f64(),
    );
    Ok(())
}
