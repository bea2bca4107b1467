//! DuckDB's sources: carried by the crate `libduckdb-sys`, pinned in Cargo.lock, never built by cargo.

use crate::{Layout, sha256};
use anyhow::{Context, Result, bail};
use cargo_metadata::MetadataCommand;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const CRATE: &str = "libduckdb-sys";
const VERSION: &str = "1.20000.1";
/// The crates that carry a DuckDB 2.0.x: 1.200xx.y carries 2.0.xx.
const SAME_LINE: &str = ">=1.20000.1, <1.20100.0";
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

/// The newest sources of the same line that the registry has.
pub struct Newest {
    /// Of the crate.
    pub version: String,
    archive: Vec<u8>,
}

impl Newest {
    /// Lets cargo resolve and fetch them, in a folder that holds nothing else.
    pub fn fetch(folder: &Path) -> Result<Self> {
        let manifest = format!(
            "[workspace]\n\n[package]\nname = \"newest\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n\
             [target.'cfg(any())'.dependencies]\n{CRATE} = {{ version = \"{SAME_LINE}\", default-features = false }}\n"
        );
        crate::write(&folder.join("Cargo.toml"), manifest.as_bytes())?;
        crate::write(&folder.join("src/lib.rs"), b"")?;
        // An old choice is not to be kept.
        crate::series::remove_if_present(&folder.join("Cargo.lock"))?;
        let (version, archive) = locate(folder, |_| true)?;
        Ok(Self { version, archive: crate::read(&archive)? })
    }

    /// Unpacks these files, where the archive has them.
    pub fn extract(&self, paths: &BTreeSet<PathBuf>, to: &Path) -> Result<()> {
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(self.archive.as_slice()));
        for entry in archive.entries()? {
            let mut entry = entry?;
            if paths.contains(entry.path()?.as_ref()) {
                entry.unpack_in(to)?;
            }
        }
        Ok(())
    }
}

fn archive(root: &Path) -> Result<Vec<u8>> {
    let (_, path) = locate(root, |version| version == VERSION)?;
    let bytes = crate::read(&path)?;
    let found = sha256(&bytes);
    if found != ARCHIVE_SHA256 {
        let path = path.display();
        bail!("{path}: SHA-256 is {found}, expected {ARCHIVE_SHA256}; remove the crate's folder and run again");
    }
    Ok(bytes)
}

/// Version and archive of the crate, as the cargo workspace in a folder depends on it.
fn locate(folder: &Path, wanted: impl Fn(&str) -> bool) -> Result<(String, PathBuf)> {
    let metadata = MetadataCommand::new()
        .current_dir(folder)
        .exec()
        .context("asking cargo where the crate with DuckDB's sources is")?;
    let package = metadata
        .packages
        .iter()
        .find(|package| package.name.as_str() == CRATE && wanted(&package.version.to_string()))
        .with_context(|| format!("cargo does not know {CRATE} {VERSION}; is it still in duckdb-patch/Cargo.toml?"))?;
    let archive = package.manifest_path.with_file_name("duckdb.tar.gz");
    Ok((package.version.to_string(), archive.into_std_path_buf()))
}

fn unpack(archive: &[u8], tree: &Path) -> Result<()> {
    if tree.exists() {
        std::fs::remove_dir_all(tree)?;
    }
    let mut entries = tar::Archive::new(flate2::read::GzDecoder::new(archive));
    entries.set_preserve_mtime(false);
    entries.unpack(tree)?;
    mark_as_complete(tree)
}

pub(crate) fn mark_as_complete(tree: &Path) -> Result<()> {
    crate::write(&stamp(tree), ARCHIVE_SHA256.as_bytes())
}

/// Written last; says which archive the tree came from.
fn stamp(tree: &Path) -> PathBuf {
    tree.join(".archive")
}

fn is_complete(tree: &Path) -> bool {
    std::fs::read(stamp(tree)).is_ok_and(|text| text == ARCHIVE_SHA256.as_bytes())
}
