//! The patch series: `patches/series` names the patches in order, one a line, `#` starts a comment.
//!
//! Patches are git diffs with paths below the archive's root (`a/duckdb/src/...`). They are applied in memory, exactly
//! (no fuzz), and only files whose contents differ are written, so that a rebuild compiles what a changed patch touches.

use crate::{hex, read_text, sources::Trees, write_if_different};
use anyhow::{Context, Result, anyhow, bail};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

/// A series, read and not yet applied.
pub struct Series {
    /// Says which series it is: 16 hexadecimal digits over names and contents of the patches.
    pub hash: String,
    patches: Vec<(String, String)>,
}

impl Series {
    /// Reads `folder/series` and the patches that it names. No such file is an empty series.
    pub fn read(folder: &Path) -> Result<Self> {
        let list = folder.join("series");
        let names = if list.exists() { read_text(&list)? } else { String::new() };
        let mut hash = Sha256::new();
        let mut patches = Vec::new();
        for name in lines(&names) {
            let text = read_text(&folder.join(name))?;
            hash.update(format!("{name}\n{}\n{text}", text.len()));
            patches.push((name.to_owned(), text));
        }
        Ok(Self { hash: hex(&hash.finalize()[..8]), patches })
    }

    /// Names and texts, in order.
    pub(crate) fn patches(&self) -> impl Iterator<Item = (&str, &str)> {
        self.patches.iter().map(|(name, text)| (name.as_str(), text.as_str()))
    }

    /// The paths that the patches name.
    pub(crate) fn touched(&self) -> Result<BTreeSet<PathBuf>> {
        let mut touched = BTreeSet::new();
        for (name, text) in self.patches() {
            for part in split(text) {
                let patch = diffy::Patch::from_str(part).with_context(|| format!("{name} is not a readable diff"))?;
                touched.extend(path_of(patch.original(), "a/")?);
                touched.extend(path_of(patch.modified(), "b/")?);
            }
        }
        Ok(touched)
    }

    /// Makes `trees.hooked` the pristine tree with the series applied. Returns the paths that the series touches.
    pub fn apply(&self, trees: &Trees) -> Result<BTreeSet<PathBuf>> {
        let mut files: BTreeMap<PathBuf, Option<String>> = BTreeMap::new();
        for (name, text) in &self.patches {
            for part in split(text) {
                apply_part(part, &trees.pristine, &mut files)
                    .with_context(|| format!("duckdb-patch/patches/{name}"))?;
            }
        }
        let touched = files.keys().cloned().collect();
        restore_untouched(trees, &touched)?;
        for (path, contents) in files {
            match contents {
                Some(contents) => write_if_different(&trees.hooked.join(path), contents.as_bytes())?,
                None => remove_if_present(&trees.hooked.join(path))?,
            }
        }
        Ok(touched)
    }
}

/// Lines that are not empty, without comments.
pub(crate) fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(|line| line.split('#').next().unwrap_or_default().trim()).filter(|line| !line.is_empty())
}

/// The diffs of single files in a git diff.
fn split(text: &str) -> Vec<&str> {
    let mut starts: Vec<usize> = text.match_indices("diff --git ").map(|(at, _)| at).collect();
    starts.retain(|&at| at == 0 || text.as_bytes()[at - 1] == b'\n');
    let ends = starts.iter().skip(1).copied().chain([text.len()]);
    starts.iter().copied().zip(ends).map(|(start, end)| &text[start..end]).collect()
}

fn apply_part(part: &str, pristine: &Path, files: &mut BTreeMap<PathBuf, Option<String>>) -> Result<()> {
    let head = part.lines().next().unwrap_or_default();
    let patch = diffy::Patch::from_str(part).with_context(|| format!("not a readable diff: {head}"))?;
    if patch.hunks().is_empty() {
        bail!("no lines change (renames, modes and binary files are not supported): {head}");
    }
    let (old, new) = (path_of(patch.original(), "a/")?, path_of(patch.modified(), "b/")?);
    let path = match (&old, &new) {
        (Some(old), Some(new)) if old != new => bail!("renames are not supported: {head}"),
        (_, Some(path)) | (Some(path), None) => path.clone(),
        (None, None) => bail!("no file is named: {head}"),
    };
    let before = match (old, files.get(&path)) {
        (None, _) => String::new(),
        (Some(_), Some(Some(earlier))) => earlier.clone(),
        (Some(_), Some(None)) => bail!("{}: an earlier patch removed it", path.display()),
        (Some(_), None) => read_text(&pristine.join(&path))?,
    };
    let after = diffy::apply(&before, &patch).map_err(|error| anyhow!("{}: {error}", path.display()))?;
    files.insert(path, new.map(|_| after));
    Ok(())
}

/// The path in a `---` or `+++` line, `None` for /dev/null. Stays below the tree.
fn path_of(name: Option<&str>, prefix: &str) -> Result<Option<PathBuf>> {
    let name = name.context("a file's name is missing")?;
    if name == "/dev/null" {
        return Ok(None);
    }
    let path = Path::new(name.strip_prefix(prefix).with_context(|| format!("{name} does not begin with {prefix}"))?);
    if !path.starts_with("duckdb") || path.components().any(|part| !matches!(part, Component::Normal(_))) {
        bail!("{} is not below duckdb/", path.display());
    }
    Ok(Some(path.to_owned()))
}

/// Puts back what an earlier run patched and this series leaves alone.
fn restore_untouched(trees: &Trees, touched: &BTreeSet<PathBuf>) -> Result<()> {
    let record = trees.hooked.join(".patched");
    let earlier = if record.exists() { read_text(&record)? } else { String::new() };
    // Recorded before anything is written: an interrupted run is put right by the next one.
    let all: BTreeSet<_> = touched.iter().cloned().chain(earlier.lines().map(PathBuf::from)).collect();
    write_list(&record, &all)?;
    for path in all.difference(touched) {
        let (from, to) = (trees.pristine.join(path), trees.hooked.join(path));
        match from.exists() {
            true => write_if_different(&to, &crate::read(&from)?)?,
            false => remove_if_present(&to)?,
        }
    }
    write_list(&record, touched)
}

fn write_list(record: &Path, paths: &BTreeSet<PathBuf>) -> Result<()> {
    let text: String = paths.iter().map(|path| format!("{}\n", path.display())).collect();
    write_if_different(record, text.as_bytes())
}

pub(crate) fn remove_if_present(path: &Path) -> Result<()> {
    if path.exists() {
        std::fs::remove_file(path).with_context(|| format!("removing {}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "one\ntwo\nthree\n";

    fn trees(name: &str) -> Trees {
        let root = crate::scratch(&format!("series-{name}"));
        let trees = Trees { pristine: root.join("pristine"), hooked: root.join("hooked") };
        for tree in [&trees.pristine, &trees.hooked] {
            crate::write(&tree.join("duckdb/src/a.cpp"), TEXT.as_bytes()).unwrap();
        }
        trees
    }

    fn series(texts: &[&str]) -> Series {
        let patches = texts.iter().enumerate().map(|(at, text)| (format!("{at}.patch"), (*text).to_owned())).collect();
        Series { hash: String::new(), patches }
    }

    fn change(from: &str, to: &str) -> String {
        let diff = diffy::create_patch(from, to).to_string();
        let body = diff.split_once("@@").map(|(_, rest)| format!("@@{rest}")).unwrap();
        format!(
            "diff --git a/duckdb/src/a.cpp b/duckdb/src/a.cpp\n--- a/duckdb/src/a.cpp\n+++ b/duckdb/src/a.cpp\n{body}"
        )
    }

    #[test]
    fn patches_build_on_each_other_and_are_taken_back() {
        let trees = trees("order");
        let second = TEXT.replace("two", "2");
        let patches = [change(TEXT, &second), change(&second, &second.replace("three", "3"))];
        let touched = series(&[&patches[0], &patches[1]]).apply(&trees).unwrap();
        assert_eq!(touched, [PathBuf::from("duckdb/src/a.cpp")].into());
        let file = trees.hooked.join("duckdb/src/a.cpp");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "one\n2\n3\n");
        series(&[]).apply(&trees).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), TEXT);
    }

    #[test]
    fn new_files_come_and_go() {
        let trees = trees("new");
        let patch = "diff --git a/duckdb/src/b.hpp b/duckdb/src/b.hpp\nnew file mode 100644\n--- /dev/null\n\
                     +++ b/duckdb/src/b.hpp\n@@ -0,0 +1 @@\n+#pragma once\n";
        series(&[patch]).apply(&trees).unwrap();
        let file = trees.hooked.join("duckdb/src/b.hpp");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "#pragma once\n");
        series(&[]).apply(&trees).unwrap();
        assert!(!file.exists());
    }

    #[test]
    fn a_patch_that_does_not_fit_is_named() {
        let trees = trees("unfit");
        let patch = change("other\nlines\n", "other\nline\n");
        let error = format!("{:#}", series(&[&patch]).apply(&trees).unwrap_err());
        assert!(error.contains("0.patch") && error.contains("a.cpp"), "{error}");
        assert_eq!(std::fs::read_to_string(trees.hooked.join("duckdb/src/a.cpp")).unwrap(), TEXT);
    }

    #[test]
    fn paths_stay_inside_the_tree() {
        assert!(path_of(Some("a/duckdb/../../x"), "a/").is_err());
        assert!(path_of(Some("a/etc/passwd"), "a/").is_err());
        assert_eq!(path_of(Some("/dev/null"), "a/").unwrap(), None);
    }
}
