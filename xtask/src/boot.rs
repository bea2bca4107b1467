//! What a process takes from its start to its first result with the database open: what a live reload stands beside.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use duckbpf_patch::engine::{Engine, Kind};
use duckbpf_tpch::report::{Boot, quantile_us};

use crate::{paths, process};

const STARTS: usize = 20;

/// Starts a C program on the hooked engine (examples/engine.c), again and again, without hooks and with all of these programs.
pub fn measure(engine: &Engine, database: &Path, programs: &[PathBuf]) -> Result<Boot> {
    let program = build(engine)?;
    let quoted = |text: String| format!("'{}'", text.replace('\'', "''"));
    let attach = format!("ATTACH {} AS tpch (READ_ONLY)", quoted(database.display().to_string()));
    let query = "SELECT count(*) FROM tpch.lineitem";
    let list = programs.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
    let load = format!("LOAD {}", quoted(paths::extension().display().to_string()));
    let set = format!("SET hook_program = {}", quoted(list));
    let plain = starts(&program, &[":memory:", &attach, query])?;
    let hooked = starts(&program, &[":memory:", &load, &set, &attach, query])?;
    let median = |ns: &[u64]| quantile_us(ns, 0.5).context("nothing was started");
    Ok(Boot { starts: STARTS, plain_us: median(&plain)?, hooked_us: median(&hooked)? })
}

fn build(engine: &Engine) -> Result<PathBuf> {
    let folder = paths::target("bench").join("boot");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let (program, lib) = (folder.join("engine"), engine.lib(Kind::Hooked));
    let include = lib.with_file_name("include");
    process::run(
        Command::new("cc")
            .arg("-O2")
            .arg(paths::root().join("examples/engine.c"))
            .arg("-I")
            .arg(include)
            .arg("-L")
            .arg(&lib)
            .arg("-lduckdb")
            .arg(format!("-Wl,-rpath,{}", lib.display()))
            .arg("-o")
            .arg(&program),
    )?;
    Ok(program)
}

fn starts(program: &Path, arguments: &[&str]) -> Result<Vec<u64>> {
    (0..STARTS).map(|_| start(program, arguments)).collect()
}

/// Nanoseconds until the result is there.
fn start(program: &Path, arguments: &[&str]) -> Result<u64> {
    let began = Instant::now();
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))?;
    let mut line = String::new();
    let stdout = child.stdout.take().context("the program has no stdout")?;
    let mut lines = BufReader::new(stdout);
    lines.read_line(&mut line).context("cannot read the program's result")?;
    let took = began.elapsed().as_nanos() as u64;
    while lines.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {}
    let status = child.wait().context("cannot wait for the program")?;
    if !status.success() {
        bail!("{} {} failed: {status}", program.display(), arguments.join(" "));
    }
    Ok(took)
}
