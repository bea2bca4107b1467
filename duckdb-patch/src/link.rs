//! Links the graft.
//!
//! It exports the functions that its units define with external linkage (they replace the host's), their data (so that the
//! loader can be made to use the host's), and `duckdb_hookpoints_v1`; everything else is local. Inside the graft, functions
//! are bound to the graft's. All that it lacks it takes from the host: it needs exactly one library with DuckDB in it,
//! under a placeholder for a name that crate duckbpf-graft overwrites with the path of the host it finds.

use crate::compile::Toolchain;
use crate::{Layout, read, write};
use anyhow::{Context, Result, bail};
use object::{Object, ObjectSection, ObjectSymbol, SymbolKind, SymbolScope};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The placeholder starts so; crate duckbpf-graft looks for it.
const PLACEHOLDER: &str = "duckbpf-graft-host:";
/// Room for a path, and its end.
const PLACEHOLDER_BYTES: usize = 1023;
const ENTRY: &str = "duckdb_hookpoints_v1";

/// What to link.
pub struct Objects<'a> {
    /// Of DuckDB's units: what they define replaces the host's functions.
    pub units: &'a [PathBuf],
    /// Of the shim.
    pub shim: &'a [PathBuf],
}

/// What was built; `target/graft/manifest.json`.
#[derive(Serialize, Deserialize)]
pub struct Manifest {
    /// The series it was built from, as `duckbpf_host.series` says it.
    pub series: String,
    /// DuckDB's units in it.
    pub units: Vec<PathBuf>,
    /// Functions that replace the host's.
    pub redirected: usize,
    /// Bytes of the image.
    pub size: u64,
}

/// Links `duckbpf-graft.so` (stripped), `duckbpf-graft.so.debug` (not) and describes them in `manifest.json`.
///
/// `added`: functions that the series adds to DuckDB; the host has none of that name, so they stay local.
/// `state`: variables that may exist twice.
pub fn link(
    layout: &Layout,
    series: &str,
    units: &BTreeSet<PathBuf>,
    objects: &Objects<'_>,
    added: &BTreeSet<String>,
    state: &BTreeSet<String>,
) -> Result<Manifest> {
    check_state(objects.units, state)?;
    let mut exports = Exports::of(objects.units)?;
    exports.hide(added)?;
    exports.check(&layout.root.join("graft/hosts.json"))?;
    let path = |name: &str| layout.graft.join(name);
    write(&path("exports.map"), exports.version_script().as_bytes())?;
    let (stub, full, image) = (path("host-stub.so"), path("duckbpf-graft.so.debug"), path("duckbpf-graft.so"));
    make_stub(&stub)?;
    let script = path("exports.map");
    run(clang()
        .args(["-Wl,-Bsymbolic-functions", "-Wl,-z,now", "-Wl,--build-id"])
        .arg(format!("-Wl,--version-script={}", script.display()))
        .args(objects.units)
        .args(objects.shim)
        .args([Path::new("-Wl,--no-as-needed"), &stub, Path::new("-Wl,--as-needed"), Path::new("-o"), &full]))?;
    let stripped = path("duckbpf-graft.so.stripped");
    run(Command::new("strip").arg("--strip-all").arg(&full).arg("-o").arg(&stripped))?;
    // The extension carries it, and would be built again.
    crate::put(&stripped, &image)?;
    let size = std::fs::metadata(&image).with_context(|| format!("reading {}", image.display()))?.len();
    let manifest = Manifest {
        series: series.into(),
        units: units.iter().cloned().collect(),
        redirected: exports.functions.len(),
        size,
    };
    write(&path("manifest.json"), &serde_json::to_vec_pretty(&manifest)?)?;
    Ok(manifest)
}

/// What matters here in `graft/hosts.json`, which `cargo xtask hosts` writes.
#[derive(Deserialize)]
struct Hosts {
    hosts: Vec<Host>,
}

#[derive(Deserialize)]
struct Host {
    wheel: String,
    proof: Proof,
}

#[derive(Deserialize)]
struct Proof {
    direct: BTreeMap<String, u64>,
}

#[derive(Default)]
struct Exports {
    functions: BTreeSet<String>,
    data: BTreeSet<String>,
}

impl Exports {
    fn of(objects: &[PathBuf]) -> Result<Self> {
        let mut exports = Self::default();
        for path in objects {
            let bytes = read(path)?;
            let file = object::File::parse(&*bytes).with_context(|| format!("reading {}", path.display()))?;
            for symbol in
                file.symbols().filter(|symbol| !symbol.is_undefined() && symbol.scope() == SymbolScope::Dynamic)
            {
                let name = symbol.name().with_context(|| format!("reading {}", path.display()))?.to_owned();
                match symbol.kind() {
                    // Weak functions are inline ones and templates: every unit of the host has its own copy.
                    SymbolKind::Text if !symbol.is_weak() => exports.functions.insert(name),
                    SymbolKind::Data | SymbolKind::Tls | SymbolKind::Unknown => exports.data.insert(name),
                    _ => false,
                };
            }
        }
        Ok(exports)
    }

    fn hide(&mut self, added: &BTreeSet<String>) -> Result<()> {
        for name in added {
            if !self.functions.remove(name) {
                bail!("duckdb-patch/added.txt: {name} is not a function with external linkage of any unit");
            }
        }
        Ok(())
    }

    /// A function that a known host reaches past its slots can't be replaced there.
    fn check(&self, hosts: &Path) -> Result<()> {
        let table: Hosts =
            serde_json::from_slice(&read(hosts)?).with_context(|| format!("reading {}", hosts.display()))?;
        for host in table.hosts {
            if let Some(name) = host.proof.direct.keys().find(|name| self.functions.contains(*name)) {
                bail!("{name} is in a unit of the graft, but {} reaches it directly (graft/hosts.json)", host.wheel);
            }
        }
        Ok(())
    }

    fn version_script(&self) -> String {
        let names: String = self.functions.iter().chain(&self.data).map(|name| format!("  \"{name}\";\n")).collect();
        format!("{{\nglobal:\n  \"{ENTRY}\";\n{names}local:\n  *;\n}};\n")
    }
}

/// Variables of a unit with internal linkage exist twice in the process, in the host and in the graft, and initialisers that
/// run at load would initialise again what the host shares. Each has to be looked at by a human.
fn check_state(units: &[PathBuf], allowed: &BTreeSet<String>) -> Result<()> {
    for path in units {
        let bytes = read(path)?;
        let file = object::File::parse(&*bytes).with_context(|| format!("reading {}", path.display()))?;
        if file.section_by_name(".init_array").is_some() && !initialises_streams_only(&file) {
            bail!("{} initialises variables when it is loaded; make the patch do so at the first use", path.display());
        }
        for symbol in file.symbols().filter(|symbol| symbol.is_local() && !symbol.is_undefined()) {
            let section = symbol.section_index().and_then(|index| file.section_by_index(index).ok());
            let section = section.as_ref().and_then(|section| section.name().ok()).unwrap_or_default();
            let is_writable = [".data", ".bss", ".tdata", ".tbss"].iter().any(|name| section.starts_with(name))
                && !section.starts_with(".data.rel.ro");
            let name = symbol.name().unwrap_or_default();
            if is_writable && matches!(symbol.kind(), SymbolKind::Data | SymbolKind::Tls) && !allowed.contains(name) {
                bail!(
                    "{}: the variable {name} exists twice, in the host and in the graft. If nobody minds, list it in \
                     duckdb-patch/state.txt; else keep it in hook-shim",
                    path.display(),
                );
            }
        }
    }
    Ok(())
}

/// Whether what runs at load is that of <iostream> alone: a count of its users, which is the same library's for all of them.
fn initialises_streams_only(file: &object::File) -> bool {
    const STREAMS: [&str; 4] = ["_ZNSt8ios_base4InitC1Ev", "_ZNSt8ios_base4InitD1Ev", "__dso_handle", "__cxa_atexit"];
    let Some(startup) = file.section_by_name(".text.startup") else { return false };
    startup.relocations().all(|(_, relocation)| {
        let object::RelocationTarget::Symbol(index) = relocation.target() else { return false };
        let symbol = file.symbol_by_index(index).ok();
        symbol.is_some_and(|symbol| {
            symbol.kind() == SymbolKind::Section || symbol.name().is_ok_and(|name| STREAMS.contains(&name))
        })
    })
}

/// An empty library whose name is the placeholder.
fn make_stub(stub: &Path) -> Result<()> {
    let name = format!("{PLACEHOLDER:/<width$}", width = PLACEHOLDER_BYTES);
    run(clang().args(["-nostdlib", "-x", "c", "/dev/null"]).arg(format!("-Wl,-soname,{name}")).arg("-o").arg(stub))
}

fn clang() -> Command {
    let mut command = Command::new(Toolchain::Clang.program());
    command.args(["-shared", "-fuse-ld=lld"]);
    command
}

/// Runs a linker or the like.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("running {program}"))?;
    if !output.status.success() {
        bail!("{program} failed\n{}", String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(())
}
