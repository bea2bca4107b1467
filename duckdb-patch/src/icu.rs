//! DuckDB's ICU extension (time zones, collations). The crate that carries DuckDB's sources leaves it out; the source package of
//! DuckDB for Python, of the same release, has it. Only the engine needs it.

use crate::compile::Unit;
use crate::{Layout, link, lock, read, sha256, units, write};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// As pip knows it.
const PACKAGE: &str = "duckdb==2.0.0";
const ARCHIVE: &str = "duckdb-2.0.0.tar.gz";
const ARCHIVE_SHA256: &str = "09de511ef0dc76a5213e8d3d87a8b89bb4d3e8a6fe73a9f60dc001269946b44f";
/// Where the extension is in the archive.
const INSIDE: &str = "duckdb-2.0.0/external/duckdb/extension/icu";
/// Its folders of headers, and one of DuckDB's.
const INCLUDES: [&str; 3] = ["include", "collation/include", "datetime/include"];
const ZSTD: &str = "duckdb/third_party/zstd/include";
/// Each of these keeps 8 or 16 KB for every thread that asks it (caches of two calendars). In the library's own thread-local storage
/// that would be too much for the hooked engine: all of it comes out of the loader's reserve of 1.6 KB, because the shim finds its own
/// part without a call. With this option they take memory of the heap when a thread first asks.
const THREAD_LOCAL: ([&str; 2], &str) = (["datetime/chinese.cpp", "datetime/islamic.cpp"], "-femulated-tls");

/// The extension's sources.
pub struct Icu {
    /// Relative to the workspace's root, where that is above.
    folder: PathBuf,
    sources: Vec<PathBuf>,
}

impl Icu {
    /// Lets pip fetch them where they are missing.
    pub fn find(layout: &Layout, python: &Path) -> Result<Self> {
        let _only_one = lock(&layout.work)?;
        let folder = layout.work.join("icu");
        let stamp = folder.join(".archive");
        if !read(&stamp).is_ok_and(|text| text == ARCHIVE_SHA256.as_bytes()) {
            fetch(layout, python, &folder).context("DuckDB's ICU extension, from the source package for Python")?;
            write(&stamp, ARCHIVE_SHA256.as_bytes())?;
        }
        let mut sources = units::files(&folder, &["cpp"])?;
        sources.sort();
        Ok(Self { folder: layout.below(folder), sources })
    }

    /// Its units, as a compiler sees them.
    pub(crate) fn units(&self, tree: &units::Tree) -> Vec<Unit> {
        let unit = |source: &PathBuf| {
            let name = format!("shared/icu-{}", crate::object_name(source));
            let unit = Unit::of_tree(tree, &self.folder.join(source), &name).including(&tree.file(Path::new(ZSTD)));
            let unit = INCLUDES.iter().fold(unit, |unit, folder| unit.including(&self.folder.join(folder)));
            let (files, option) = THREAD_LOCAL;
            if files.iter().any(|file| source == Path::new(file)) { unit.with(option) } else { unit }
        };
        self.sources.iter().map(unit).collect()
    }
}

/// DuckDB's list of the extensions that are linked in, with ICU in it: what stands there for JSON, in conditionals of the
/// preprocessor, is said of ICU as well.
pub(crate) fn loader(text: &str) -> Result<String> {
    let (mut with_icu, mut block) = (String::new(), String::new());
    let (mut depth, mut found) = (0_usize, 0);
    for line in text.split_inclusive('\n') {
        depth += usize::from(line.starts_with("#if"));
        block.push_str(line);
        depth = depth.saturating_sub(usize::from(line.starts_with("#endif")));
        if depth == 0 {
            with_icu.push_str(&block);
            if block.contains("DUCKDB_EXTENSION_JSON_LINKED") {
                with_icu.push_str(&block.replace("json", "icu").replace("JSON", "ICU"));
                found += 1;
            }
            block.clear();
        }
    }
    // A default, a description and a call.
    if found != 3 {
        bail!("DuckDB's list of linked extensions is not what it was: json is in {found} conditionals, not 3");
    }
    Ok(with_icu)
}

fn fetch(layout: &Layout, python: &Path, folder: &Path) -> Result<()> {
    let packages = layout.work.join("packages");
    let archive = packages.join(ARCHIVE);
    if !read(&archive).is_ok_and(|bytes| sha256(&bytes) == ARCHIVE_SHA256) {
        // Pip compares the hash before it runs anything of the package's.
        let wanted = packages.join("requirements.txt");
        write(&wanted, format!("{PACKAGE} --hash=sha256:{ARCHIVE_SHA256}\n").as_bytes())?;
        let options =
            ["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes"];
        let mut pip = Command::new(python);
        pip.args(options).args(["--no-binary", "duckdb", "--requirement"]).arg(&wanted).arg("--dest").arg(&packages);
        link::run(&mut pip)?;
    }
    let bytes = read(&archive)?;
    let hash = sha256(&bytes);
    if hash != ARCHIVE_SHA256 {
        bail!("{}: SHA-256 is {hash}, expected {ARCHIVE_SHA256}; remove it and run again", archive.display());
    }
    unpack(&bytes, folder)
}

fn unpack(archive: &[u8], folder: &Path) -> Result<()> {
    if folder.exists() {
        std::fs::remove_dir_all(folder).with_context(|| format!("removing {}", folder.display()))?;
    }
    let mut entries = tar::Archive::new(flate2::read::GzDecoder::new(archive));
    for entry in entries.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let Ok(below) = path.strip_prefix(INSIDE) else { continue };
        if entry.header().entry_type().is_file() {
            let mut contents = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut contents)?;
            write(&folder.join(below), &contents)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_fetched_or_is_something_else_is_told() {
        let root = crate::scratch("icu");
        let layout = Layout::new(&root);
        let refusal = |python: &str| format!("{:#}", Icu::find(&layout, Path::new(python)).err().unwrap());
        let error = refusal("false");
        assert!(error.contains("ICU extension") && error.contains("false failed"), "{error}");
        write(&layout.work.join("packages").join(ARCHIVE), b"something else").unwrap();
        let error = refusal("true");
        assert!(error.contains("SHA-256 is") && error.contains(ARCHIVE_SHA256), "{error}");
        assert!(!layout.work.join("icu").exists());
    }

    const LOADER: &str = "#ifndef DUCKDB_EXTENSION_JSON_LINKED\n#define DUCKDB_EXTENSION_JSON_LINKED 0\n#endif\n\
                          #if DUCKDB_EXTENSION_JSON_LINKED\n#ifdef X\n#endif\nvoid json_describe();\n#endif\n\
                          void all() {\n#if DUCKDB_EXTENSION_JSON_LINKED\n\tjson_describe();\n#endif\n}\n";

    #[test]
    fn icu_is_listed_as_json_is() {
        let both = loader(LOADER).unwrap();
        for line in ["#define DUCKDB_EXTENSION_ICU_LINKED 0\n", "void icu_describe();\n", "\ticu_describe();\n"] {
            assert_eq!(both.matches(line).count(), 1, "{both}");
            assert_eq!(both.matches(&line.replace("icu", "json").replace("ICU", "JSON")).count(), 1, "{both}");
        }
        assert_eq!(both.matches("#if").count(), both.matches("#endif").count());
        assert!(loader("int x;\n").is_err());
    }
}
