//! `cargo xtask programs`: compiles every folder of extensions-c that holds a program.bpf.c to `target/bpf/<folder>.bpf.o`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{paths, process};

const COMPILER: &str = "clang-19";
const SOURCE: &str = "program.bpf.c";

#[derive(clap::Args)]
pub struct Args {
    /// Version of the BPF instruction set
    #[arg(long, default_value = "v4", value_parser = ["v3", "v4"])]
    mcpu: String,
    /// Where the objects go [default: target/bpf]
    #[arg(long)]
    out: Option<PathBuf>,
}

pub fn run(args: Args) -> Result<()> {
    let out = args.out.unwrap_or_else(paths::programs);
    let programs = compile_all(&out, &args.mcpu)?;
    println!("{} programs in {}", programs.len(), out.display());
    Ok(())
}

/// Compiles every program for an instruction set and returns the objects' paths, by name.
pub fn compile_all(out: &Path, mcpu: &str) -> Result<Vec<PathBuf>> {
    if process::find(COMPILER).is_none() {
        bail!("{COMPILER} is missing: it compiles the programs. Install it: apt-get install {COMPILER}");
    }
    for folder in [out, &paths::target("tmp")] {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    sources()?.iter().map(|folder| compile(folder, out, mcpu)).collect()
}

/// Folders that hold a program, by name.
fn sources() -> Result<Vec<PathBuf>> {
    let gallery = paths::root().join("extensions-c");
    let entries = gallery.read_dir().with_context(|| format!("cannot read {}", gallery.display()))?;
    let mut folders: Vec<PathBuf> =
        entries.flatten().map(|entry| entry.path()).filter(|folder| folder.join(SOURCE).is_file()).collect();
    folders.sort();
    Ok(folders)
}

fn compile(folder: &Path, out: &Path, mcpu: &str) -> Result<PathBuf> {
    let root = paths::root();
    let name = folder.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    let object = out.join(format!("{name}.bpf.o"));
    // Elsewhere: the extension's build script looks at the folder's time too.
    let new = paths::target("tmp").join(format!("{name}.bpf.o.{}", std::process::id()));
    process::run(
        Command::new(COMPILER)
            .current_dir(&root)
            .args(["-target", "bpf", "-O2", "-g", "-Wall", "-Wextra", "-Werror"])
            .arg(format!("-mcpu={mcpu}"))
            // The object tells source files by their path in the project, wherever the project lies.
            .arg(format!("-ffile-prefix-map={}=.", root.display()))
            .args(["-I", "extensions-c/include", "-I", "hook-shim/include", "-c"])
            .arg(format!("extensions-c/{name}/{SOURCE}"))
            .arg("-o")
            .arg(&new),
    )
    .with_context(|| format!("extensions-c/{name} does not compile"))?;
    duckbpf_patch::put(&new, &object)?;
    Ok(object)
}
