//! Which .cpp files make the graft, and the law that keeps them compatible with a host that was compiled from other files.
//!
//! A unit here is one .cpp file, also where DuckDB's own build lumps several together: the fewer functions are replaced the
//! better. A unit belongs to the graft when the series touches it, or when `units.txt` says so.
//!
//! The law: no unit outside the graft may see a patched header. Such a unit stays as the host's vendor compiled it; were it
//! to disagree about a class or an inline function, the process would be corrupt.

use crate::{read_text, series};
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

#[derive(Deserialize)]
struct Sources {
    cpp_files: Vec<PathBuf>,
    include_dirs: Vec<PathBuf>,
}

#[derive(Deserialize)]
struct SourceManifest {
    base: Sources,
    extensions: BTreeMap<String, Sources>,
}

impl SourceManifest {
    fn read(tree: &Path) -> Result<Self> {
        let path = tree.join("duckdb/manifest.json");
        serde_json::from_str(&read_text(&path)?).with_context(|| format!("reading {}", path.display()))
    }

    fn all(&self) -> impl Iterator<Item = &Sources> {
        std::iter::once(&self.base).chain(self.extensions.values())
    }
}

/// DuckDB's include folders, relative to the tree.
fn include_folders(tree: &Path) -> Result<BTreeSet<PathBuf>> {
    let manifest = SourceManifest::read(tree)?;
    let folders =
        manifest.all().flat_map(|sources| &sources.include_dirs).map(|folder| Path::new("duckdb").join(folder));
    Ok(folders.chain([PathBuf::from("duckdb")]).collect())
}

/// A tree of DuckDB's sources as a compiler that runs in the workspace's root sees it.
pub struct Tree {
    root: PathBuf,
    /// Relative to the root, as the folders are.
    path: PathBuf,
    folders: Vec<PathBuf>,
}

impl Tree {
    /// `tree` should be below `root`.
    pub fn read(root: &Path, tree: &Path) -> Result<Self> {
        let path = tree.strip_prefix(root).unwrap_or(tree).to_owned();
        let folders = include_folders(tree)?.into_iter().map(|folder| path.join(folder)).collect();
        Ok(Self { root: root.into(), path, folders })
    }

    /// A file of the tree, relative to the root.
    pub fn file(&self, path: &Path) -> PathBuf {
        self.path.join(path)
    }

    /// What a compiler needs to find its headers, and to name its files without the tree's place.
    pub(crate) fn arguments(&self) -> impl Iterator<Item = OsString> {
        let map = format!("-ffile-prefix-map={}=.", self.path.display());
        // Warnings are for our own files.
        let folders = self.folders.iter().flat_map(|folder| ["-isystem".into(), folder.into()]);
        std::iter::once(map.into()).chain(folders)
    }

    /// Bytes of a file and, if it is a unity file, of those that it lumps together.
    pub(crate) fn size(&self, source: &Path) -> u64 {
        let length = |path: &Path| std::fs::metadata(path).map_or(0, |file| file.len());
        let source = self.root.join(source);
        let members = std::fs::read_to_string(&source).map(|text| unity_members(&text)).unwrap_or_default();
        let tree = self.root.join(&self.path);
        length(&source) + members.iter().map(|member| length(&tree.join(member))).sum::<u64>()
    }
}

/// The .cpp files that a unity file includes, relative to the tree.
pub(crate) fn unity_members(text: &str) -> Vec<PathBuf> {
    let members = quoted_includes(text).map(|name| Path::new("duckdb").join(name));
    members.filter(|path| is_cpp(path)).collect()
}

/// All that DuckDB's build compiles, extensions included, relative to the tree, unity files whole.
pub(crate) fn all_sources(tree: &Path) -> Result<BTreeSet<PathBuf>> {
    Ok(SourceManifest::read(tree)?.all().flat_map(|sources| &sources.cpp_files).cloned().collect())
}

/// Names of the extensions that the sources bring.
pub(crate) fn extensions(tree: &Path) -> Result<Vec<String>> {
    Ok(SourceManifest::read(tree)?.extensions.into_keys().collect())
}

/// Reads a list: one item a line, `#` starts a comment.
pub fn read_list<T: From<String> + Ord>(path: &Path) -> Result<BTreeSet<T>> {
    Ok(series::lines(&read_text(path)?).map(|line| T::from(line.to_owned())).collect())
}

/// All files below a folder with one of these extensions, relative to it.
pub(crate) fn files(folder: &Path, extensions: &[&str]) -> Result<Vec<PathBuf>> {
    let (mut waiting, mut found) = (vec![PathBuf::new()], Vec::new());
    while let Some(below) = waiting.pop() {
        let path = folder.join(&below);
        for entry in path.read_dir().with_context(|| format!("reading {}", path.display()))? {
            let entry = entry?;
            let name = below.join(entry.file_name());
            let wanted = name.extension().is_some_and(|own| extensions.iter().any(|extension| own == *extension));
            match entry.file_type()?.is_dir() {
                true => waiting.push(name),
                false if wanted => found.push(name),
                false => {}
            }
        }
    }
    Ok(found)
}

/// The shim's .cpp files.
pub fn shim(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in folder.read_dir().with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        if is_cpp(&path) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The graft's units, relative to the tree. Fails where the law is broken.
pub fn select(tree: &Path, patched: &BTreeSet<PathBuf>, listed: &BTreeSet<PathBuf>) -> Result<BTreeSet<PathBuf>> {
    let (mut units, headers): (BTreeSet<PathBuf>, BTreeSet<PathBuf>) =
        patched.iter().cloned().partition(|path| is_cpp(path));
    units.extend(listed.iter().cloned());
    if let Some(missing) = units.iter().find(|unit| !tree.join(unit).is_file()) {
        bail!("{} is not among DuckDB's sources", missing.display());
    }
    if !headers.is_empty() {
        check_law(&Includes::scan(tree)?, &headers, &units)?;
    }
    Ok(units)
}

fn check_law(includes: &Includes, headers: &BTreeSet<PathBuf>, units: &BTreeSet<PathBuf>) -> Result<()> {
    for header in headers {
        let outside: Vec<_> =
            includes.units_that_see(header).into_iter().filter(|unit| !units.contains(unit)).collect();
        if let Some(first) = outside.first() {
            bail!(
                "{} is patched, but {} units outside the graft see it, {} among them. Keep what the patch needs beside \
                 DuckDB's classes (hook-shim), or, where the units are few, list them in duckdb-patch/units.txt",
                header.display(),
                outside.len(),
                first.display(),
            );
        }
    }
    Ok(())
}

fn is_cpp(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "cpp" || extension == "cc")
}

/// Who includes whom, by the text of the files. Conditions are ignored: it sees more than a compiler does, never less.
struct Includes {
    /// Header to the files that include it directly.
    includers: BTreeMap<PathBuf, BTreeSet<PathBuf>>,
    /// What DuckDB's build compiles, unity files taken apart.
    units: BTreeSet<PathBuf>,
}

impl Includes {
    fn scan(tree: &Path) -> Result<Self> {
        let folders = include_folders(tree)?;
        let manifest = SourceManifest::read(tree)?;
        let mut waiting: Vec<PathBuf> = manifest.all().flat_map(|sources| &sources.cpp_files).cloned().collect();
        let mut scan = Self { includers: BTreeMap::new(), units: BTreeSet::new() };
        let mut seen: BTreeSet<PathBuf> = waiting.iter().cloned().collect();
        while let Some(file) = waiting.pop() {
            let text = String::from_utf8_lossy(&crate::read(&tree.join(&file))?).into_owned();
            let mut is_unity = false;
            for name in quoted_includes(&text) {
                let Some(included) = resolve(tree, &file, name, &folders) else { continue };
                is_unity |= is_cpp(&included);
                scan.includers.entry(included.clone()).or_default().insert(file.clone());
                if seen.insert(included.clone()) {
                    waiting.push(included);
                }
            }
            if is_cpp(&file) && !is_unity {
                scan.units.insert(file);
            }
        }
        Ok(scan)
    }

    fn units_that_see(&self, header: &Path) -> BTreeSet<PathBuf> {
        let mut seen = BTreeSet::from([header.to_owned()]);
        let mut waiting = vec![header.to_owned()];
        while let Some(file) = waiting.pop() {
            for includer in self.includers.get(&file).into_iter().flatten() {
                if seen.insert(includer.clone()) {
                    waiting.push(includer.clone());
                }
            }
        }
        seen.retain(|file| self.units.contains(file));
        seen
    }
}

fn quoted_includes(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        let name = line.trim_start().strip_prefix('#')?.trim_start().strip_prefix("include")?.trim_start();
        let (open, rest) = name.split_at_checked(1)?;
        let close = match open {
            "\"" => '"',
            "<" => '>',
            _ => return None,
        };
        rest.split(close).next()
    })
}

fn resolve(tree: &Path, includer: &Path, name: &str, folders: &BTreeSet<PathBuf>) -> Option<PathBuf> {
    let beside = includer.parent().map(|folder| folder.join(name));
    let candidates = beside.into_iter().chain(folders.iter().map(|folder| folder.join(name)));
    candidates.map(|path| normalise(&path)).find(|path| tree.join(path).is_file())
}

/// Takes `..` and `.` out, so that a file has one name.
fn normalise(path: &Path) -> PathBuf {
    let mut result = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                result.pop();
            }
            Component::CurDir => {}
            part => result.push(part),
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(name: &str) -> PathBuf {
        let tree = crate::scratch(&format!("units-{name}"));
        let files = [
            (
                "manifest.json",
                r#"{"base": {"cpp_files": ["duckdb/ub.cpp", "duckdb/c.cpp"], "include_dirs": ["inc"]}, "extensions": {}}"#,
            ),
            ("ub.cpp", "#include \"src/a.cpp\"\n\n#include \"src/b.cpp\"\n"),
            ("src/a.cpp", "#include \"wide.hpp\"\n"),
            ("src/b.cpp", "#  include <wide.hpp>\n"),
            ("c.cpp", "#include \"inc/narrow.hpp\"\n"),
            ("inc/wide.hpp", "#pragma once\n#include \"../inc/deep.hpp\"\n"),
            ("inc/deep.hpp", "#pragma once\n"),
            ("inc/narrow.hpp", "#pragma once\n"),
        ];
        for (path, text) in files {
            crate::write(&tree.join("duckdb").join(path), text.as_bytes()).unwrap();
        }
        tree
    }

    fn paths(names: &[&str]) -> BTreeSet<PathBuf> {
        names.iter().map(|name| Path::new("duckdb").join(name)).collect()
    }

    #[test]
    fn a_header_that_other_units_see_breaks_the_law() {
        let tree = tree("law");
        let error = select(&tree, &paths(&["src/a.cpp", "inc/deep.hpp"]), &paths(&[])).unwrap_err().to_string();
        assert!(error.contains("deep.hpp") && error.contains("1 units") && error.contains("src/b.cpp"), "{error}");
    }

    #[test]
    fn a_header_that_only_the_graft_sees_is_lawful() {
        let tree = tree("lawful");
        let units = select(&tree, &paths(&["c.cpp", "inc/narrow.hpp"]), &paths(&[])).unwrap();
        assert_eq!(units, paths(&["c.cpp"]));
        let units = select(&tree, &paths(&["src/a.cpp", "inc/wide.hpp"]), &paths(&["src/b.cpp"])).unwrap();
        assert_eq!(units, paths(&["src/a.cpp", "src/b.cpp"]));
    }

    #[test]
    fn a_listed_unit_must_exist() {
        assert!(select(&tree("missing"), &paths(&[]), &paths(&["src/none.cpp"])).is_err());
    }
}
