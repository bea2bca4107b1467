//! `cargo xtask hosts`: looks at every official wheel of DuckDB 2.0.0 for x86-64 Linux and writes graft/hosts.json, the table
//! of builds that the graft may be put into. graft/README.md says how to read it.

use crate::venv::{DUCKDB, Venv};
use crate::{paths, process};
use anyhow::{Context, Result, bail};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

mod disassemble;
mod wheel;

/// Python versions that DuckDB 2.0.0 may have wheels for.
const PYTHONS: &[&str] = &["3.9", "3.10", "3.11", "3.12", "3.13", "3.14"];
/// Threads without the global lock have an ABI, and wheels, of their own.
const FREE_THREADED: &[(&str, &str)] = &[("3.13", "cp313t"), ("3.14", "cp314t")];
const PLATFORMS: &[&str] = &[
    "manylinux2014_x86_64",
    "manylinux_2_17_x86_64",
    "manylinux_2_24_x86_64",
    "manylinux_2_27_x86_64",
    "manylinux_2_28_x86_64",
    "manylinux_2_31_x86_64",
    "manylinux_2_34_x86_64",
    "musllinux_1_1_x86_64",
    "musllinux_1_2_x86_64",
];

#[derive(clap::Args)]
pub struct Args {}

/// A row of the table: what the build is, and the proof.
#[derive(Serialize)]
struct Host {
    build_id: String,
    version: String,
    source_id: String,
    wheel: String,
    pythons: BTreeSet<String>,
    /// Of the patched functions in the graft at hand.
    graft: GraftProof,
    /// Of all exported functions.
    proof: disassemble::Proof,
}

#[derive(Serialize)]
struct GraftProof {
    series: String,
    functions: usize,
    /// Slots to rewrite.
    slots: usize,
    /// References by code, through slots.
    references: u64,
    /// References by code or data past the slots: none, or the build is not for us.
    direct: u64,
}

#[derive(Serialize)]
struct Table {
    about: &'static str,
    hosts: Vec<Host>,
}

pub fn run(_args: Args) -> Result<()> {
    let graft = wheel::Graft::read(&paths::graft_image()).context("build the graft first: cargo xtask graft")?;
    let mut hosts = Vec::new();
    for (file, pythons) in download()? {
        eprintln!("disassembling {}", file_name(&file));
        hosts.push(look_at(&file, pythons, &graft)?);
    }
    let table = Table { about: "Made by `cargo xtask hosts`; graft/README.md explains it.", hosts };
    let path = paths::root().join("graft/hosts.json");
    std::fs::write(&path, serde_json::to_string_pretty(&table)? + "\n")
        .with_context(|| format!("writing {}", path.display()))?;
    for host in &table.hosts {
        let (graft, proof) = (&host.graft, &host.proof);
        println!(
            "{} {} for Python {}: {} instructions, {} references to {} exported functions go through slots, {} past them; \
             of the graft's {} functions {} and {}, {} slots",
            host.build_id,
            host.wheel,
            host.pythons.iter().cloned().collect::<Vec<_>>().join(", "),
            proof.instructions,
            proof.via_plt + proof.via_got,
            proof.exported,
            proof.direct.values().sum::<u64>(),
            graft.functions,
            graft.references,
            graft.direct,
            graft.slots,
        );
    }
    Ok(())
}

/// Every wheel that pip finds, with the Python versions that it serves.
fn download() -> Result<BTreeMap<PathBuf, BTreeSet<String>>> {
    let venv = Venv::ensure()?;
    let plain = PYTHONS.iter().map(|python| (*python, None));
    let free_threaded = FREE_THREADED.iter().map(|(python, abi)| (*python, Some(*abi)));
    let mut wheels: BTreeMap<PathBuf, BTreeSet<String>> = BTreeMap::new();
    for (python, abi) in plain.chain(free_threaded) {
        let name = abi.map_or_else(|| python.to_owned(), |abi| format!("{python} ({abi})"));
        let folder = paths::target("hosts").join(&name);
        std::fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
        let mut command = venv.command(&folder);
        command.args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--dest", "."]);
        command.args(["--only-binary=:all:", "--implementation=cp", "--python-version", python]);
        command.args(PLATFORMS.iter().flat_map(|platform| ["--platform", platform]));
        command.args(abi.iter().flat_map(|abi| ["--abi", abi])).arg(DUCKDB);
        match process::read(&mut command) {
            Ok(_) => {}
            Err(error) if format!("{error:#}").contains("No matching distribution") => {
                eprintln!("no wheel for Python {name}");
                continue;
            }
            Err(error) => return Err(error),
        }
        let found = folder.read_dir()?.flatten().map(|entry| entry.path()).filter(|path| serves(path, abi));
        for path in found {
            // The same wheel may serve several versions: one look is enough.
            let known = wheels.keys().find(|known| known.file_name() == path.file_name()).cloned();
            wheels.entry(known.unwrap_or(path)).or_default().insert(name.clone());
        }
    }
    if wheels.is_empty() {
        bail!("pip found no wheel of {DUCKDB} for x86-64 Linux");
    }
    Ok(wheels)
}

/// Asked for a free-threaded ABI, pip also offers wheels of the stable one, which such a Python can't load.
fn serves(path: &Path, abi: Option<&str>) -> bool {
    let name = file_name(path);
    name.ends_with(".whl") && abi.is_none_or(|abi| name.contains(abi))
}

fn look_at(path: &Path, pythons: BTreeSet<String>, graft: &wheel::Graft) -> Result<Host> {
    let library = wheel::library(path)?;
    let elf = wheel::Library::parse(&library).with_context(|| format!("reading {}", path.display()))?;
    let references = disassemble::references(&elf).with_context(|| format!("disassembling {}", path.display()))?;
    let missing: Vec<_> = graft.functions.iter().filter(|name| !elf.functions.contains_key(*name)).cloned().collect();
    if !missing.is_empty() {
        bail!("{}: it does not export {}", path.display(), missing.join(", "));
    }
    let of_graft = |map: &BTreeMap<String, u64>| graft.functions.iter().filter_map(|name| map.get(name)).sum::<u64>();
    let proof = GraftProof {
        series: graft.series.clone(),
        functions: graft.functions.len(),
        slots: elf.relocations.iter().filter(|relocation| graft.functions.contains(&relocation.symbol)).count(),
        references: of_graft(&references.through_slots),
        direct: of_graft(&references.proof.direct),
    };
    if proof.direct > 0 {
        let names: Vec<_> = graft.functions.iter().filter(|name| references.proof.direct.contains_key(*name)).collect();
        bail!("{}: reached without a slot, so they can't be redirected: {names:?}", path.display());
    }
    Ok(Host {
        build_id: elf.build_id.clone(),
        version: elf.text_of("_ZN6duckdb6DuckDB14LibraryVersionEv")?,
        source_id: elf.text_of("_ZN6duckdb6DuckDB8SourceIDEv")?,
        wheel: file_name(path),
        pythons,
        graft: proof,
        proof: references.proof,
    })
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
