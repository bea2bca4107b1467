//! `cargo xtask extension`: the loadable extension with the graft and the gallery inside, in the form that DuckDB loads, and installed
//! where a bare `LOAD duckbpf` finds it.

use crate::{graft, paths, process, programs, system};
use anyhow::{Context, Result};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// The exact DuckDB that the extension is built against; DuckDB refuses any other.
const DUCKDB_VERSION: &str = "v2.0.0";
const PLATFORM: &str = "linux_amd64";

#[derive(clap::Args)]
pub struct Args {
    /// Build only; leave ~/.duckdb alone
    #[arg(long)]
    no_install: bool,
}

pub fn run(args: Args) -> Result<()> {
    let file = build()?;
    if !args.no_install {
        let installed = install(&file)?;
        println!("installed {}", installed.display());
    }
    Ok(())
}

/// Builds the graft where it is missing or stale and the gallery's programs, then the extension.
pub fn build() -> Result<PathBuf> {
    graft::run(graft::Args {})?;
    let gallery = paths::programs();
    programs::compile_all(&gallery, "v4")?;
    let target = paths::target("extension").join("build");
    let mut cargo = process::cargo(&paths::root().join("extension"), ["build", "--release", "--locked"]);
    cargo.arg("--target-dir").arg(&target).env("DUCKBPF_GRAFT", paths::graft_image()).env("DUCKBPF_GALLERY", gallery);
    process::run(system::hint_libclang(&mut cargo))?;

    let library = target.join("release").join("libduckbpf.so");
    let mut bytes = fs::read(&library).with_context(|| format!("cannot read {}", library.display()))?;
    bytes.extend_from_slice(&footer(env!("CARGO_PKG_VERSION")));
    let file = paths::extension();
    replace(&file, &bytes)?;

    let graft = fs::metadata(paths::graft_image()).map_or(0, |graft| graft.len());
    println!("{}: {}; it carries a graft of {}, packed", file.display(), size(bytes.len() as u64), size(graft));
    Ok(file)
}

/// Where DuckDB looks for the extension in a repository, and in a folder of extensions.
pub fn place() -> PathBuf {
    Path::new(DUCKDB_VERSION).join(PLATFORM).join("duckbpf.duckdb_extension")
}

/// Copies the extension to where a bare `LOAD duckbpf` looks.
pub fn install(file: &Path) -> Result<PathBuf> {
    let home = std::env::home_dir().context("no home folder to install the extension into; use --no-install")?;
    let installed = home.join(".duckdb").join("extensions").join(place());
    replace(&installed, &fs::read(file).with_context(|| format!("cannot read {}", file.display()))?)?;
    Ok(installed)
}

/// Writes a file that others may have mapped: the old one lives on under its last users.
pub fn replace(file: &Path, bytes: &[u8]) -> Result<()> {
    let folder = file.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let mut name = OsString::from(file.file_name().unwrap_or_default());
    name.push(format!(".{}", std::process::id()));
    let temporary = file.with_file_name(name);
    fs::write(&temporary, bytes).with_context(|| format!("cannot write {}", temporary.display()))?;
    fs::rename(&temporary, file).with_context(|| format!("cannot write {}", file.display()))
}

/// What DuckDB reads from an extension's end: a WebAssembly custom section with eight fields of 32 bytes, last first, and
/// room for a signature (DuckDB: src/include/duckdb/main/extension_helper.hpp, ParsedExtensionMetaData).
fn footer(extension_version: &str) -> Vec<u8> {
    const SECTION: u8 = 0;
    const FIELD: usize = 32;
    const SIGNATURE: usize = 256;

    let mut bytes = vec![SECTION, 0x93, 0x04]; // 531 bytes follow, as LEB128
    bytes.push(16);
    bytes.extend_from_slice(b"duckdb_signature");
    bytes.extend_from_slice(&[0x80, 0x04]); // 512 bytes of content, as LEB128
    let unused = "";
    let fields = [unused, unused, unused, "C_STRUCT_UNSTABLE", extension_version, DUCKDB_VERSION, PLATFORM, "4"];
    for field in fields {
        let mut padded = [0; FIELD];
        padded[..field.len()].copy_from_slice(field.as_bytes());
        bytes.extend_from_slice(&padded);
    }
    bytes.extend_from_slice(&[0; SIGNATURE]); // unsigned
    bytes
}

fn size(bytes: u64) -> String {
    format!("{:.2} MB", bytes as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_footer_has_its_fields_where_duckdb_reads_them() {
        let bytes = footer("0.1.0");
        let content = &bytes[bytes.len() - 512..];
        assert_eq!(bytes.len() - 512 + 512 - 3, 531);
        assert!(content[0..96].iter().all(|byte| *byte == 0));
        assert!(content[96..].starts_with(b"C_STRUCT_UNSTABLE\0"));
        assert!(content[128..].starts_with(b"0.1.0\0"));
        assert!(content[160..].starts_with(b"v2.0.0\0"));
        assert!(content[192..].starts_with(b"linux_amd64\0"));
        assert!(content[224..].starts_with(b"4\0"));
        assert!(content[256..].iter().all(|byte| *byte == 0));
    }
}
