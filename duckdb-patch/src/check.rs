//! Tries the series on sources that it may not have been written for: does it still fit, and how well?
//!
//! The build applies patches exactly ([`crate::series`]). Here GNU patch does it, which looks around (offset) and forgives
//! changed context (fuzz): what it says is where to look when the series moves to another DuckDB.

use crate::series::Series;
use crate::{Layout, sources, write};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// How one patch fits.
pub struct Fit {
    pub patch: String,
    /// Hunks that fit where they should.
    pub exact: usize,
    /// What patch says of those that fit elsewhere.
    pub offset: Vec<String>,
    /// What it says of those that fit with changed lines around them.
    pub fuzz: Vec<String>,
    /// What it says of those that do not fit.
    pub rejected: Vec<String>,
}

/// The series on the sources that this checkout pins.
pub fn pinned(layout: &Layout) -> Result<Vec<Fit>> {
    let trees = sources::Trees::unpack(layout)?;
    let series = Series::read(&layout.patches())?;
    let work = fresh(layout, "pinned")?;
    for path in series.touched()? {
        let file = trees.pristine.join(&path);
        if file.is_file() {
            write(&work.join(&path), &crate::read(&file)?)?;
        }
    }
    fits(&series, &work)
}

/// The series on the newest sources of this line of DuckDB (2.0.x) that the registry has, and their crate's version.
pub fn newest(layout: &Layout) -> Result<(String, Vec<Fit>)> {
    let series = Series::read(&layout.patches())?;
    let newest = sources::Newest::fetch(&layout.work.join("newest"))?;
    let work = fresh(layout, "newest")?;
    newest.extract(&series.touched()?, &work)?;
    Ok((newest.version, fits(&series, &work)?))
}

fn fresh(layout: &Layout, name: &str) -> Result<PathBuf> {
    let work = layout.work.join("check").join(name);
    if work.exists() {
        std::fs::remove_dir_all(&work).with_context(|| format!("removing {}", work.display()))?;
    }
    std::fs::create_dir_all(&work).with_context(|| format!("creating {}", work.display()))?;
    Ok(work)
}

/// Each patch on what those before it left in the folder.
fn fits(series: &Series, work: &Path) -> Result<Vec<Fit>> {
    series.patches().map(|(name, text)| fit(name, text, work)).collect()
}

fn fit(name: &str, text: &str, work: &Path) -> Result<Fit> {
    let file = work.join(name);
    write(&file, text.as_bytes())?;
    let output = Command::new("patch")
        .args([
            "--strip=1",
            "--batch",
            "--forward",
            "--verbose",
            "--no-backup-if-mismatch",
            "--fuzz=2",
            "--input",
            name,
        ])
        .current_dir(work)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .context("running patch; install it with: apt-get install patch")?;
    // 1: some hunks do not fit. 2: trouble of another kind.
    if output.status.code().is_none_or(|code| code > 1) {
        bail!("patch failed on {name}: {}", String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(read_report(name, &String::from_utf8_lossy(&output.stdout)))
}

fn read_report(name: &str, report: &str) -> Fit {
    let mut fit = Fit { patch: name.into(), exact: 0, offset: Vec::new(), fuzz: Vec::new(), rejected: Vec::new() };
    let mut path = "";
    for line in report.lines() {
        if let Some(named) = line.strip_prefix("|+++ b/").or_else(|| line.strip_prefix("|--- a/")) {
            path = named;
        } else if line.starts_with("Hunk #") {
            let told = format!("{path}: {line}");
            match line {
                // Ignored: the file is gone.
                _ if line.contains("FAILED") || line.contains("ignored") => fit.rejected.push(told),
                _ if line.contains("with fuzz") => fit.fuzz.push(told),
                _ if line.contains("(offset") => fit.offset.push(told),
                _ => fit.exact += 1,
            }
        }
    }
    fit
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "a\nb\nc\nd\ne\nf\ng\nh\n";
    const PATCH: &str = "diff --git a/duckdb/x.cpp b/duckdb/x.cpp\n--- a/duckdb/x.cpp\n+++ b/duckdb/x.cpp\n\
                         @@ -2,5 +2,5 @@\n b\n c\n-d\n+D\n e\n f\n";

    /// Exact, offset, fuzz, rejected.
    fn tally(fit: &Fit) -> (usize, usize, usize, usize) {
        (fit.exact, fit.offset.len(), fit.fuzz.len(), fit.rejected.len())
    }

    fn fit_on(name: &str, text: Option<&str>) -> Fit {
        let work = crate::scratch(&format!("check-{name}"));
        if let Some(text) = text {
            write(&work.join("duckdb/x.cpp"), text.as_bytes()).unwrap();
        }
        fit("0001.patch", PATCH, &work).unwrap()
    }

    #[test]
    fn exact_offset_fuzz_and_reject_are_told_apart() {
        assert_eq!(tally(&fit_on("exact", Some(TEXT))), (1, 0, 0, 0));
        assert_eq!(tally(&fit_on("offset", Some(&format!("x\ny\n{TEXT}")))), (0, 1, 0, 0));
        assert_eq!(tally(&fit_on("fuzz", Some(&TEXT.replace("b\n", "B\n")))), (0, 0, 1, 0));
        let rejected = fit_on("reject", Some(&TEXT.replace("d\n", "x\n")));
        assert_eq!(tally(&rejected), (0, 0, 0, 1));
        assert!(rejected.rejected[0].contains("duckdb/x.cpp"), "{:?}", rejected.rejected);
        assert_eq!(tally(&fit_on("gone", None)), (0, 0, 0, 1));
    }
}
