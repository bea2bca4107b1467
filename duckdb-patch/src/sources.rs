//! DuckDB's sources: carried by the crate `libduckdb-sys`, pinned in Cargo.lock, never built by cargo.

use crate::{Layout, sha256};
use anyhow::{Context, Result, bail};
use cargo_metadata::MetadataCommand;
use std::path::{Path, PathBuf};

const CRATE: &str = "libduckdb-sys";
const VERSION: &str = "1.20000.1";
/// Of the crate's duckdb.tar.gz: the commit that the official wheels of DuckDB 2.0.0 were built from.
const ARCHIVE_SHA256: &str = "14f16777c569dd0090db7c80dc7a1eba8ffbb36cf3f6e008dd9c002356162c29";

/// Two unpacked copies of the archive. Paths in patches, and of units, are relative to them: `duckdb/src/...`.
pub struct Trees {
    /// As it came.
    pub pristine: PathBuf,
    /// With the series applied.
    pub hooked: PathBuf,
}

impl Trees {
    /// Unpacks what is not there yet. Cargo fetches the crate where the registry's cache lacks it.
    pub fn unpack(layout: &Layout) -> Result<Self> {
        let trees = Self { pristine: layout.work.join("pristine"), hooked: layout.work.join("hooked") };
        let missing: Vec<_> = [&trees.pristine, &trees.hooked].into_iter().filter(|tree| !is_complete(tree)).collect();
        if !missing.is_empty() {
            let archive = archive(&layout.root)?;
            for tree in missing {
                unpack(&archive, tree).with_context(|| format!("unpacking DuckDB's sources to {}", tree.display()))?;
            }
        }
        Ok(trees)
    }
}

fn archive(root: &Path) -> Result<Vec<u8>> {
    let metadata = MetadataCommand::new()
        .current_dir(root)
        .exec()
        .context("asking cargo where the crate with DuckDB's sources is")?;
    let package = metadata
        .packages
        .iter()
        .find(|package| package.name.as_str() == CRATE && package.version.to_string() == VERSION)
        .with_context(|| format!("cargo does not know {CRATE} {VERSION}; is it still in duckdb-patch/Cargo.toml?"))?;
    let path = package.manifest_path.with_file_name("duckdb.tar.gz");
    let bytes = crate::read(path.as_std_path())?;
    let found = sha256(&bytes);
    if found != ARCHIVE_SHA256 {
        bail!("{path}: SHA-256 is {found}, expected {ARCHIVE_SHA256}; remove the crate's folder and run again");
    }
    Ok(bytes)
}

fn unpack(archive: &[u8], tree: &Path) -> Result<()> {
    if tree.exists() {
        std::fs::remove_dir_all(tree)?;
    }
    let mut entries = tar::Archive::new(flate2::read::GzDecoder::new(archive));
    entries.set_preserve_mtime(false);
    entries.unpack(tree)?;
    crate::write(&stamp(tree), ARCHIVE_SHA256.as_bytes())
}

/// Written last; says which archive the tree came from.
fn stamp(tree: &Path) -> PathBuf {
    tree.join(".archive")
}

fn is_complete(tree: &Path) -> bool {
    std::fs::read(stamp(tree)).is_ok_and(|text| text == ARCHIVE_SHA256.as_bytes())
}
