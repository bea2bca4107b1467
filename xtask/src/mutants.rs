//! `cargo xtask mutants`: changes the scalar domain in every way that cargo-mutants knows, and asks its tests. Hours, so by command
//! only.
//!
//! The domain is copied into a crate of its own, so that a mutant is built and tried in seconds. Mutants that nothing notices
//! must be in `rust-runtime/tests/mutants.txt`, each with the reason why it does no harm.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::{paths, process};

/// What the domain's crate is made of, from `rust-runtime/src`.
const PARTS: [&str; 4] = ["isa.rs", "isa", "verifier/planted.rs", "verifier/domain"];
const LIBRARY: &str =
    "#![allow(dead_code)]\npub mod isa;\npub mod verifier {\n    pub mod domain;\n    pub mod planted;\n}\n";
const MANIFEST: &str = "[package]\nname = \"domain\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[dependencies]\nthiserror = \"2\"\n\n\
    [features]\nplanted = []\ntesting = []\n\n[profile.dev]\nopt-level = 1\ndebug = false\n\n[workspace]\n";

#[derive(clap::Args)]
pub struct Args {
    /// A part of all mutants, as cargo-mutants has it: `0/8` is the first eighth
    #[arg(long)]
    shard: Option<String>,
    /// Only mutants whose description matches, as cargo-mutants has it
    #[arg(long)]
    re: Option<String>,
}

pub fn run(args: Args) -> Result<()> {
    let root = paths::root();
    let folder = root.join("target/mutants");
    copy_crate(&root, &folder)?;
    // git is told to ignore the folder that the crate lies in.
    let mut mutants = process::cargo(&folder, ["mutants", "--gitignore=false", "--timeout", "60"]);
    // What numbers look like in messages is compared with snapshots elsewhere.
    mutants.args(["--file", "src/verifier/domain/*.rs", "--exclude-re", "impl fmt::Display"]);
    for (option, value) in [("--shard", args.shard), ("--re", args.re)] {
        mutants.args(value.iter().flat_map(|value| [option, value.as_str()]));
    }
    // It fails where a mutant survives: what survives is judged here.
    let status = mutants.status().context("cargo-mutants cannot be started: cargo install cargo-mutants")?;
    let survivors = read_lines(&folder.join("mutants.out/missed.txt"))
        .with_context(|| format!("cargo-mutants ended with {status} and left no list"))?;
    let explained = explained(&root)?;
    let new: Vec<&String> = survivors.iter().filter(|survivor| !explained.contains(&plain(survivor))).collect();
    println!("{} survivors, {} of them explained", survivors.len(), survivors.len() - new.len());
    if new.is_empty() {
        return Ok(());
    }
    new.iter().for_each(|survivor| println!("  {survivor}"));
    bail!("{} mutants survive that rust-runtime/tests/mutants.txt does not explain", new.len())
}

fn copy_crate(root: &Path, folder: &Path) -> Result<()> {
    let source = root.join("rust-runtime/src");
    fs::create_dir_all(folder.join("src/verifier"))?;
    fs::write(folder.join("Cargo.toml"), MANIFEST)?;
    fs::write(folder.join("src/lib.rs"), LIBRARY)?;
    PARTS.iter().try_for_each(|part| copy(&source.join(part), &folder.join("src").join(part)))
}

/// A file, or a folder of files.
fn copy(from: &Path, to: &PathBuf) -> Result<()> {
    if !from.is_dir() {
        fs::copy(from, to).with_context(|| format!("{} cannot be copied", from.display()))?;
        return Ok(());
    }
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        copy(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}

fn read_lines(file: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// The mutants of the list: each is a line, followed by indented lines with the reason.
fn explained(root: &Path) -> Result<BTreeSet<String>> {
    let lines = read_lines(&root.join("rust-runtime/tests/mutants.txt"))?;
    Ok(lines.into_iter().filter(|line| !line.starts_with([' ', '#']) && !line.is_empty()).collect())
}

/// `src/verifier/domain/word.rs:12:5: replace ...` without what changes when lines are added: `word.rs: replace ...`.
fn plain(mutant: &str) -> String {
    let (place, what) = mutant.split_once(": ").unwrap_or((mutant, ""));
    let file = place.split(':').next().unwrap_or(place);
    format!("{}: {what}", file.rsplit('/').next().unwrap_or(file))
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn lines_do_not_matter() {
        let mutant = "src/verifier/domain/word.rs:91:20: replace < with <= in Word::reduce";
        assert_eq!(plain(mutant), "word.rs: replace < with <= in Word::reduce");
    }
}
