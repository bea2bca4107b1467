//! Builds both carriers of the hooks from one patch series: the graft (DuckDB's patched translation units and the hook shim,
//! in one shared object) and the engine (a whole libduckdb with them, and its stock twin).
//!
//! The steps, a module each:
//!   1. [`sources`] finds DuckDB's sources in cargo's registry and unpacks them, once untouched and once to be patched;
//!   2. [`series`] applies `patches/series` in memory and writes the files that differ;
//!   3. [`units`] says which .cpp files the series concerns, and that no other one sees a patched header;
//!   4. [`compile`] compiles units, several at a time, those that changed;
//!   5. [`link`] links, strips and describes the graft; [`engine`] does so with the two libraries.
//!
//! [`icu`] gets the engine an extension that the sources lack; [`check`] tries the series on other sources.

pub mod check;
pub mod compile;
pub mod engine;
pub mod icu;
pub mod link;
pub mod series;
pub mod sources;
pub mod units;

use anyhow::{Context, Result};
use compile::{Compiler, Toolchain, Unit};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};

/// The folders that a build reads and writes.
pub struct Layout {
    /// The workspace's root.
    pub root: PathBuf,
    /// Holds `pristine/`, `hooked/` and `objects/`.
    pub work: PathBuf,
    /// Receives the graft.
    pub graft: PathBuf,
    /// Receives the engine; one that gcc built goes beside it.
    pub engine: PathBuf,
}

impl Layout {
    /// The layout below `<root>/target`.
    pub fn new(root: &Path) -> Self {
        let target = root.join("target");
        Self {
            root: root.into(),
            work: target.join("duckdb"),
            graft: target.join("graft"),
            engine: target.join("engine"),
        }
    }

    /// Relative to the workspace's root, where compilers run, if it is below.
    fn below(&self, file: PathBuf) -> PathBuf {
        file.strip_prefix(&self.root).map(Path::to_owned).unwrap_or(file)
    }

    fn patches(&self) -> PathBuf {
        self.root.join("duckdb-patch/patches")
    }

    fn shim(&self) -> PathBuf {
        self.root.join("hook-shim")
    }

    fn list(&self, name: &str) -> PathBuf {
        self.root.join("duckdb-patch").join(name)
    }

    fn with_shim_headers(&self, unit: Unit) -> Unit {
        unit.including(Path::new("hook-shim")).including(Path::new("hook-shim/include"))
    }
}

/// DuckDB's sources with the series applied, and what it concerns.
struct Prepared {
    trees: sources::Trees,
    series: series::Series,
    /// Units that are compiled from the patched tree, relative to it.
    units: BTreeSet<PathBuf>,
}

impl Prepared {
    fn new(layout: &Layout) -> Result<Self> {
        let trees = sources::Trees::unpack(layout)?;
        let series = series::Series::read(&layout.patches())?;
        let patched = series.apply(&trees)?;
        let units = units::select(&trees.hooked, &patched, &units::read_list(&layout.list("units.txt"))?)?;
        Ok(Self { trees, series, units })
    }

    /// The series' units as a compiler sees them. Graft and engine share their objects.
    fn hooked_units(&self, layout: &Layout, tree: &units::Tree) -> Vec<Unit> {
        let unit = |path: &PathBuf| {
            layout.with_shim_headers(Unit::of_tree(tree, &tree.file(path), &format!("hooked/{}", object_name(path))))
        };
        self.units.iter().map(unit).collect()
    }

    /// Code of the shim's where programs are called a million times a second; what is in the other files runs once a task, a query or a
    /// file at most, and is compiled to be small.
    const HOT_SHIM: [&str; 3] = ["eviction", "hash", "memory"];

    /// The shim's files, for a carrier that hook-shim/include/duckbpf/abi.h knows.
    fn shim_units(&self, layout: &Layout, tree: &units::Tree, carrier: &str) -> Result<Vec<Unit>> {
        let unit = |path: PathBuf| {
            let path = path.strip_prefix(&layout.root).unwrap_or(&path);
            let name = format!("{}/{}", carrier.to_lowercase(), object_name(path));
            let is_hot = path.file_stem().is_some_and(|stem| Self::HOT_SHIM.iter().any(|hot| stem == *hot));
            layout
                .with_shim_headers(Unit::of_shim(tree, path, &name, if is_hot { "-O2" } else { "-Os" }))
                .with(format!("-DDUCKBPF_SERIES=\"{}\"", self.series.hash))
                .with(format!("-DDUCKBPF_CARRIER=DUCKBPF_CARRIER_{carrier}"))
        };
        Ok(units::shim(&layout.shim())?.into_iter().map(unit).collect())
    }
}

/// `duckdb/src/parallel/executor.cpp` is compiled to `duckdb-src-parallel-executor.o`.
fn object_name(path: &Path) -> String {
    path.with_extension("").to_string_lossy().replace('/', "-")
}

/// Builds `graft/duckbpf-graft.so` and its `manifest.json`. Nothing that is up to date is built again.
pub fn build_graft(layout: &Layout) -> Result<link::Manifest> {
    let _only_one = lock(&layout.work)?;
    let prepared = Prepared::new(layout)?;
    let tree = units::Tree::read(&layout.root, &prepared.trees.hooked)?;
    let mut units = prepared.hooked_units(layout, &tree);
    let count = units.len();
    units.extend(prepared.shim_units(layout, &tree, "GRAFT")?);
    let objects = Compiler::find(layout, Toolchain::Clang)?.compile(&units)?;
    let (units, shim) = objects.split_at(count);
    let (added, state) = (units::read_list(&layout.list("added.txt"))?, units::read_list(&layout.list("state.txt"))?);
    link::link(layout, &prepared.series.hash, &prepared.units, &link::Objects { units, shim }, &added, &state)
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

/// Writes a file unless it holds that already: it keeps its time then, and what is made of it is not made again.
fn write_if_different(path: &Path, contents: &[u8]) -> Result<()> {
    if std::fs::read(path).is_ok_and(|present| present == contents) {
        return Ok(());
    }
    write(path, contents)
}

/// Puts a new file in the place of one that may be there, in the same way.
pub fn put(new: &Path, path: &Path) -> Result<()> {
    write_if_different(path, &read(new)?)?;
    std::fs::remove_file(new).with_context(|| format!("removing {}", new.display()))
}

/// An empty folder for the one test that has this name for it, below `target/`: what a test leaves is cleared when it runs again.
#[cfg(test)]
fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/patch-tests").join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder.canonicalize().unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_stays_the_same_keeps_its_time() {
        let folder = scratch("put");
        let (new, old) = (folder.join("new"), folder.join("old"));
        let give = |bytes: &str| {
            std::fs::write(&new, bytes).unwrap();
            put(&new, &old).unwrap();
            assert!(!new.exists());
            assert_eq!(std::fs::read_to_string(&old).unwrap(), bytes);
        };
        give("one");
        let long_ago = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
        File::options().write(true).open(&old).unwrap().set_modified(long_ago).unwrap();
        give("one");
        assert_eq!(old.metadata().unwrap().modified().unwrap(), long_ago);
        give("two");
        assert_ne!(old.metadata().unwrap().modified().unwrap(), long_ago);
    }
}
