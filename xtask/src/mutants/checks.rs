//! `cargo xtask mutants --checks`: the verifier beside its numbers, changed in every way of `switch`, all of them in one binary.
//!
//! One binary for each mutant would take days. A copy of the workspace lies in `target/mutants/`: links, but for the runtime, whose
//! files are switched. The tests of its library are asked for one mutant after the other.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use super::{
    copy, explained,
    switch::{self, Mutant},
};
use crate::{paths, process};

/// What is changed, from `rust-runtime/src/verifier`.
const FILES: [&str; 11] = [
    "access.rs",
    "call.rs",
    "rules.rs",
    "step.rs",
    "stack.rs",
    "state.rs",
    "value.rs",
    "cover.rs",
    "need.rs",
    "graph.rs",
    "graph/loops.rs",
];
/// Tests of the library that may notice, quick ones first, and programs that are made by seed.
const ASKED: [(&[&str], &str); 3] = [
    (&["corpus::"], ""),
    (&["verifier::", "--skip", "domain::"], ""),
    (&["testing::fuzz::tests::accepted", "jit::"], "300"),
];
/// More than any test needs.
const LIMIT: Duration = Duration::from_secs(60);
const MEMORY_KB: u64 = 8 << 20;

pub fn run(only: Option<&str>) -> Result<()> {
    let root = paths::root();
    let folder = root.join("target/mutants/checks");
    copy_workspace(&root, &folder)?;
    let (binary, mutants) = build(&root, &folder)?;
    ensure!(survives(&binary, &folder, 0)?, "tests fail without a mutant");
    let explained = explained(&root, "mutants-checks.txt")?;
    let mut new = 0;
    let asked: Vec<&Mutant> =
        mutants.iter().filter(|mutant| only.is_none_or(|only| mutant.what.contains(only))).collect();
    let begun = Instant::now();
    let mut survivors = Vec::new();
    for (at, mutant) in asked.iter().enumerate() {
        if survives(&binary, &folder, mutant.number)? {
            let is_new = !explained.contains(&mutant.what);
            new += usize::from(is_new);
            survivors.push(mutant.what.clone());
            println!("{} {}{}", mutant.number, mutant.what, if is_new { "" } else { " (explained)" });
        }
        if at % 100 == 99 {
            println!(
                "{} of {} asked, {} survive, {} s",
                at + 1,
                asked.len(),
                survivors.len(),
                begun.elapsed().as_secs()
            );
        }
    }
    fs::write(folder.join("survivors.txt"), survivors.join("\n") + "\n")?;
    println!("{} mutants, {} survivors, {new} of them not explained", asked.len(), survivors.len());
    ensure!(new == 0, "mutants survive that rust-runtime/tests/mutants-checks.txt does not explain");
    Ok(())
}

/// Links to all of the workspace but the runtime, which is copied.
fn copy_workspace(root: &Path, folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)?;
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        let name = entry.file_name();
        match name.to_str() {
            Some("target" | ".git") => {}
            Some("rust-runtime" | "Cargo.toml" | "Cargo.lock") => copy(&entry.path(), &folder.join(name))?,
            _ => symlink(entry.path(), folder.join(name))?,
        }
    }
    let manifest = folder.join("Cargo.toml");
    let text = fs::read_to_string(&manifest)?;
    fs::write(&manifest, text + "\n[profile.dev.package.duckbpf-runtime]\nopt-level = 1\n")?;
    let source = folder.join("rust-runtime/src");
    fs::write(source.join("mutants.rs"), switch::MODULE)?;
    let library = fs::read_to_string(source.join("lib.rs"))?;
    let allow = "#![allow(warnings, arithmetic_overflow, unconditional_panic, overflowing_literals)]\n";
    fs::write(source.join("lib.rs"), library + "\nmod mutants;\n")
        .and_then(|()| prepend(&source.join("lib.rs"), allow))?;
    Ok(())
}

/// In front of the first item, behind the module's own text.
fn prepend(file: &Path, line: &str) -> std::io::Result<()> {
    let text = fs::read_to_string(file)?;
    let at = text.lines().take_while(|line| line.starts_with("//!")).map(|line| line.len() + 1).sum::<usize>();
    fs::write(file, format!("{}{line}{}", &text[..at], &text[at..]))
}

/// Leaves out what does not compile until the rest does. Gives the tests' binary, and the mutants in it.
fn build(root: &Path, folder: &Path) -> Result<(PathBuf, Vec<Mutant>)> {
    let mut left_out = BTreeSet::new();
    loop {
        let mut mutants = Vec::new();
        let mut next = 1;
        for file in FILES {
            let place = Path::new("rust-runtime/src/verifier").join(file);
            let source = fs::read_to_string(root.join(&place))?;
            let (text, after) = switch::switch(file, &source, next, &left_out, &mut mutants)?;
            fs::write(folder.join(place), text)?;
            next = after;
        }
        println!("{} mutants, {} left out", mutants.len(), left_out.len());
        let arguments = ["test", "--locked", "-p", "duckbpf-runtime", "--lib", "--no-run", "--message-format=json"];
        let mut cargo = process::cargo(folder, arguments);
        let output = cargo.arg("--target-dir").arg(root.join("target")).stderr(Stdio::inherit()).output()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let messages: Vec<serde_json::Value> =
            said.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        if output.status.success() {
            let binary = messages.iter().rev().find_map(|message| message["executable"].as_str());
            return Ok((binary.context("cargo names no binary")?.into(), mutants));
        }
        let before = left_out.len();
        for message in messages.iter().filter(|message| message["message"]["level"] == "error") {
            left_out.extend(mutants_of(folder, &message["message"]));
        }
        if left_out.len() == before {
            let rendered = messages.iter().filter_map(|message| message["message"]["rendered"].as_str());
            bail!("errors lead to no mutant:\n{}", rendered.collect::<String>());
        }
    }
}

/// The mutants that an error of the compiler is about: those on its lines, or the last before them.
fn mutants_of(folder: &Path, error: &serde_json::Value) -> BTreeSet<u32> {
    let mut numbers = BTreeSet::new();
    let mut nearest = BTreeSet::new();
    for span in error["spans"].as_array().into_iter().flatten() {
        let (Some(file), Some(line)) = (span["file_name"].as_str(), span["line_start"].as_u64()) else { continue };
        let Ok(text) = fs::read_to_string(folder.join(file)) else { continue };
        let lines: Vec<&str> = text.lines().collect();
        let Some(above) = lines.get(..line as usize) else { continue };
        numbers.extend(above.last().and_then(|line| switch::number_on(line)));
        nearest.extend(above.iter().rev().find_map(|line| switch::number_on(line)));
    }
    if numbers.is_empty() { nearest } else { numbers }
}

/// Whether no test notices a mutant.
fn survives(binary: &Path, folder: &Path, number: u32) -> Result<bool> {
    for (tests, cases) in ASKED {
        // Some mutants never stop asking for memory.
        let limited = format!("ulimit -v {MEMORY_KB}; exec \"$0\" \"$@\"");
        let mut command = Command::new("sh");
        command.args(["-c", &limited]).arg(binary).args(tests).args(["--quiet", "--test-threads=1"]);
        command.env("DUCKBPF_MUTANT", number.to_string()).current_dir(folder.join("rust-runtime"));
        command.env("RUST_BACKTRACE", "0").stdout(Stdio::null()).stderr(Stdio::null());
        if !cases.is_empty() {
            command.env("DUCKBPF_CASES", cases);
        }
        if !succeeds(command)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether a command succeeds in time.
fn succeeds(mut command: Command) -> Result<bool> {
    let (mut child, begun) = (command.spawn().context("the tests cannot be started")?, Instant::now());
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status.success());
        }
        if begun.elapsed() > LIMIT {
            child.kill()?;
            child.wait()?;
            return Ok(false);
        }
        thread::sleep(Duration::from_millis(5));
    }
}
