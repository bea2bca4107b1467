//! Builds the graft: DuckDB's patched translation units and the hook shim, in one shared object.
//!
//! The steps, a module each:
//!   1. [`sources`] finds DuckDB's sources in cargo's registry and unpacks them, once untouched and once to be patched;
//!   2. [`series`] applies `patches/series` in memory and writes the files that differ;
//!   3. [`units`] says which .cpp files have to be compiled, and that no other one sees a patched header;
//!   4. [`compile`] compiles them with clang, several at a time, those that changed;
//!   5. [`link`] links, strips and describes the result.

pub mod compile;
pub mod link;
pub mod series;
pub mod sources;
pub mod units;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::path::{Path, PathBuf};

/// The folders that a build reads and writes.
pub struct Layout {
    /// The workspace's root.
    pub root: PathBuf,
    /// Holds `pristine/`, `hooked/` and `objects/`.
    pub work: PathBuf,
    /// Receives the graft.
    pub output: PathBuf,
}

impl Layout {
    /// The layout below `<root>/target`.
    pub fn new(root: &Path) -> Self {
        let target = root.join("target");
        Self { root: root.into(), work: target.join("duckdb"), output: target.join("graft") }
    }

    fn patches(&self) -> PathBuf {
        self.root.join("duckdb-patch/patches")
    }

    fn shim(&self) -> PathBuf {
        self.root.join("hook-shim")
    }
}

/// Builds `graft/duckbpf-graft.so` and its `manifest.json`. Nothing that is up to date is built again.
pub fn build_graft(layout: &Layout) -> Result<link::Manifest> {
    let _only_one = lock(&layout.work)?;
    let trees = sources::Trees::unpack(layout)?;
    let series = series::Series::read(&layout.patches())?;
    let patched = series.apply(&trees)?;
    let list = |name: &str| layout.root.join("duckdb-patch").join(name);
    let units = units::select(&trees.hooked, &patched, &units::read_list(&list("units.txt"))?)?;
    let (added, state) = (units::read_list(&list("added.txt"))?, units::read_list(&list("state.txt"))?);
    let shim = units::shim(&layout.shim())?;
    let objects = compile::Compiler::find(layout, &trees.hooked, &series.hash)?.compile(&units, &shim)?;
    link::link(layout, &series.hash, &units, &objects, &added, &state)
}

/// Two builds at once would write the same files: the second waits for the first.
fn lock(folder: &Path) -> Result<File> {
    let path = folder.join(".lock");
    let attempt = || {
        std::fs::create_dir_all(folder)?;
        let file = File::create(&path)?;
        file.lock()?;
        Ok::<_, std::io::Error>(file)
    };
    attempt().with_context(|| format!("locking {}", path.display()))
}

/// Lower-case hexadecimal SHA-256.
fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("reading {}", path.display()))
}

fn read_text(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}

/// Replaces a file whole or not at all.
fn write(path: &Path, contents: &[u8]) -> Result<()> {
    let attempt = || {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let mut staged = path.as_os_str().to_owned();
        staged.push(".new");
        std::fs::write(&staged, contents)?;
        std::fs::rename(&staged, path)
    };
    attempt().with_context(|| format!("writing {}", path.display()))
}
