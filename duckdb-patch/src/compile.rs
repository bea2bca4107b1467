//! Compiles units like the official wheels were compiled, several at a time, and only what changed.
//!
//! An object is up to date when compiler, command line and the contents of every file that it was made from are the same;
//! `objects/<unit>.json` records them. Times of files play no part.

use crate::units::Tree;
use crate::{Layout, read, sha256, write};
use anyhow::{Context, Result, anyhow, bail};
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// What the hungriest unit takes at -O3.
const BYTES_PER_JOB: u64 = 2_100_000_000;
/// As the official wheels: x86-64-v3, position independent, no assertions.
const FLAGS: &[&str] = &[
    "-std=c++17",
    "-O3",
    "-march=x86-64-v3",
    "-fPIC",
    "-DNDEBUG",
    "-DDUCKDB_VERSION=\"v2.0.0\"",
    "-DDUCKDB_SOURCE_ID=\"d54cbbe3df\"",
];

/// Which compiler builds. The official wheels are clang's work; what goes into them has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Toolchain {
    Clang,
    Gcc,
}

impl Toolchain {
    pub(crate) fn program(self) -> &'static str {
        match self {
            Toolchain::Clang => "clang++-19",
            Toolchain::Gcc => "g++",
        }
    }

    /// Line tables for the copies that are not stripped; and libraries that can be in one process twice.
    fn flags(self) -> &'static [&'static str] {
        match self {
            Toolchain::Clang => &["-gline-tables-only"],
            Toolchain::Gcc => &["-g1", "-fno-gnu-unique"],
        }
    }

    fn package(self) -> &'static str {
        match self {
            Toolchain::Clang => "clang-19 lld-19",
            Toolchain::Gcc => "g++",
        }
    }
}

/// How to compile. Commands run in the workspace's root and name files relative to it, so that ccache knows them again in
/// another checkout.
pub struct Compiler {
    toolchain: Toolchain,
    /// Says which compiler it is, for the records.
    identity: String,
    ccache: bool,
    root: PathBuf,
    objects: PathBuf,
}

/// One object to be.
pub struct Unit {
    source: PathBuf,
    /// Of the object, below the folder of objects; without an extension.
    name: String,
    /// Beyond those that all units have.
    arguments: Vec<OsString>,
    /// Bytes of its text, unity files taken apart: how long it may take the first time.
    size: u64,
}

struct Job<'a> {
    unit: &'a Unit,
    object: PathBuf,
    record: PathBuf,
    command: String,
    /// Seconds that it took last time, or a guess.
    seconds: f64,
}

#[derive(Serialize, Deserialize)]
struct Record {
    command: String,
    /// Path to SHA-256 of every file that the object was made from.
    inputs: BTreeMap<PathBuf, String>,
    object: String,
    seconds: f64,
}

impl Unit {
    /// Of DuckDB's: a file of the tree, or one that includes such. `name` tells objects of one file apart.
    pub fn of_tree(tree: &Tree, source: &Path, name: &str) -> Self {
        let arguments = std::iter::once("-w".into()).chain(tree.arguments()).collect();
        Self { source: source.into(), name: name.into(), arguments, size: tree.size(source) }
    }

    /// Of our own: sees the tree's headers, warnings are errors. What it adds to DuckDB is to be small, so it says how far to optimise.
    /// Registers of 32 bytes would have to be cleared before each call of a program; without `-mtune=generic` clang copies structs by them
    /// whatever it is told to prefer.
    /// Inline functions of DuckDB's that are not inlined here are nobody else's.
    pub fn of_shim(tree: &Tree, source: &Path, name: &str, optimise: &str) -> Self {
        let own = [
            "-Wall",
            "-Wextra",
            "-Werror",
            optimise,
            "-fno-unroll-loops",
            "-mprefer-vector-width=128",
            "-mtune=generic",
        ];
        let own = own.into_iter().chain(["-fvisibility-inlines-hidden"]).map(OsString::from);
        let arguments = own.chain(tree.arguments()).collect();
        Self { source: source.into(), name: name.into(), arguments, size: tree.size(source) }
    }

    /// With one more argument for the compiler.
    pub fn with(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Headers in this folder, ahead of the tree's.
    pub fn including(mut self, folder: &Path) -> Self {
        self.arguments.splice(0..0, ["-I".into(), folder.into()]);
        self
    }

    pub fn name(&self) -> &str {
        &self.name
    }
}

/// Hashes of files, each read once a run.
#[derive(Default)]
struct Hashes(Mutex<HashMap<PathBuf, Option<String>>>);

impl Hashes {
    fn of(&self, path: &Path) -> Option<String> {
        let known = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).get(path).cloned();
        known.unwrap_or_else(|| {
            let hash = std::fs::read(path).ok().map(|bytes| sha256(&bytes));
            self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).insert(path.into(), hash.clone());
            hash
        })
    }
}

impl Compiler {
    /// Finds the compiler (and ccache) on PATH.
    pub fn find(layout: &Layout, toolchain: Toolchain) -> Result<Self> {
        let program = toolchain.program();
        let output = Command::new(program).arg("--version").output().with_context(|| {
            let package = toolchain.package();
            format!("running {program}; install it with: apt-get install -y --no-install-recommends {package}")
        })?;
        let objects = match toolchain {
            Toolchain::Clang => "objects",
            Toolchain::Gcc => "objects-gcc",
        };
        Ok(Self {
            toolchain,
            identity: String::from_utf8_lossy(&output.stdout).into_owned(),
            ccache: Command::new("ccache").arg("--version").output().is_ok_and(|output| output.status.success()),
            root: layout.root.clone(),
            objects: layout.work.join(objects),
        })
    }

    /// The first line that the compiler says of itself.
    pub fn version(&self) -> &str {
        self.identity.lines().next().unwrap_or_default()
    }

    /// What every unit is compiled with.
    pub fn flags(&self) -> impl Iterator<Item = &'static str> {
        FLAGS.iter().chain(self.toolchain.flags()).copied()
    }

    /// Compiles those that are not up to date. Returns the objects, in the units' order.
    pub fn compile(&self, units: &[Unit]) -> Result<Vec<PathBuf>> {
        let jobs: Vec<Job> = units.iter().map(|unit| self.job(unit)).collect();
        let hashes = Hashes::default();
        let mut stale: Vec<&Job> = jobs.iter().filter(|job| !self.is_fresh(job, &hashes)).collect();
        stale.sort_by(|left, right| right.seconds.total_cmp(&left.seconds));
        self.run(&stale)?;
        Ok(jobs.into_iter().map(|job| job.object).collect())
    }

    fn job<'a>(&self, unit: &'a Unit) -> Job<'a> {
        let path = |extension: &str| self.objects.join(format!("{}.{extension}", unit.name));
        let (object, record) = (path("o"), path("json"));
        let arguments: Vec<_> = self.arguments(unit).map(|argument| argument.to_string_lossy().into_owned()).collect();
        let command = sha256(format!("{}\n{}", self.identity, arguments.join("\n")).as_bytes());
        // Headers first, then so many bytes a second.
        let guess = 2.0 + unit.size as f64 / 10_000.0;
        let seconds = read_record(&record).map_or(guess, |record| record.seconds);
        Job { unit, object, record, command, seconds }
    }

    fn arguments<'a>(&'a self, unit: &'a Unit) -> impl Iterator<Item = OsString> + 'a {
        // Outside of DuckDB's trees, which have a mapping of their own, files are named from here.
        let map = format!("-ffile-prefix-map={}=duckbpf", self.root.display());
        let own = unit.arguments.iter().cloned();
        self.flags().map(OsString::from).chain([map.into()]).chain(own).chain([unit.source.clone().into()])
    }

    fn is_fresh(&self, job: &Job, hashes: &Hashes) -> bool {
        let Some(record) = read_record(&job.record) else { return false };
        record.command == job.command
            && hashes.of(&job.object).as_ref() == Some(&record.object)
            && record.inputs.iter().all(|(path, hash)| hashes.of(&self.root.join(path)).as_ref() == Some(hash))
    }

    fn run(&self, jobs: &[&Job]) -> Result<()> {
        if jobs.is_empty() {
            return Ok(());
        }
        let progress = Progress::new(jobs);
        let next = AtomicUsize::new(0);
        let failed = AtomicBool::new(false);
        let hashes = Hashes::default();
        let work = || -> Result<()> {
            while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                if failed.load(Ordering::Relaxed) {
                    break;
                }
                let outcome = self.compile_one(job, &hashes);
                progress.done(job);
                if let Err(error) = outcome {
                    failed.store(true, Ordering::Relaxed);
                    return Err(error);
                }
            }
            Ok(())
        };
        let outcomes: Vec<Result<()>> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..jobs_at_once().min(jobs.len())).map(|_| scope.spawn(work)).collect();
            workers
                .into_iter()
                .map(|worker| worker.join().unwrap_or_else(|_| Err(anyhow!("a compiling thread panicked"))))
                .collect()
        });
        progress.finish();
        outcomes.into_iter().collect()
    }

    fn compile_one(&self, job: &Job, hashes: &Hashes) -> Result<()> {
        let started = Instant::now();
        let program = self.toolchain.program();
        let dependencies = job.object.with_extension("d");
        if let Some(folder) = job.object.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
        }
        let mut command = if self.ccache { Command::new("ccache") } else { Command::new(program) };
        if self.ccache {
            command.arg(program);
        }
        command.current_dir(&self.root).args(self.arguments(job.unit)).args(["-MD", "-MF"]).arg(&dependencies);
        command.arg("-c").arg("-o").arg(&job.object).stdin(Stdio::null());
        let output = command.output().with_context(|| format!("running {program}"))?;
        if !output.status.success() {
            let (source, said) = (job.unit.source.display(), String::from_utf8_lossy(&output.stderr));
            bail!("compiling {source} failed\n{}", said.trim_end());
        }
        let inputs = parse_dependencies(&String::from_utf8_lossy(&read(&dependencies)?))
            .map(|path| {
                let hash = hashes.of(&self.root.join(&path)).with_context(|| format!("reading {}", path.display()))?;
                Ok((path, hash))
            })
            .collect::<Result<_>>()?;
        let record = Record {
            command: job.command.clone(),
            inputs,
            object: sha256(&read(&job.object)?),
            seconds: started.elapsed().as_secs_f64(),
        };
        write(&job.record, &serde_json::to_vec(&record)?)
    }
}

fn read_record(path: &Path) -> Option<Record> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

/// The prerequisites in a Makefile rule as compilers write them.
fn parse_dependencies(rule: &str) -> impl Iterator<Item = PathBuf> {
    let prerequisites = rule.split_once(": ").map_or("", |(_, rest)| rest);
    let joined = prerequisites.replace("\\\n", " ").replace("\\ ", "\0");
    let paths: Vec<_> = joined.split_whitespace().map(|path| PathBuf::from(path.replace('\0', " "))).collect();
    paths.into_iter()
}

/// One for each core, as far as memory goes.
fn jobs_at_once() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let by_memory = available_memory().map_or(cores, |bytes| usize::try_from(bytes / BYTES_PER_JOB).unwrap_or(cores));
    cores.min(by_memory).max(1)
}

fn available_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// A bar on a terminal, a line for each unit elsewhere. It moves by the time that units are expected to take.
struct Progress {
    bar: ProgressBar,
    units: usize,
    compiled: AtomicUsize,
}

impl Progress {
    fn new(jobs: &[&Job]) -> Self {
        let bar = ProgressBar::new(jobs.iter().map(|job| expected_ms(job)).sum());
        let template = "compiling {bar:30} {msg}, {elapsed} gone, {eta} left";
        bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_message(format!("0/{} units", jobs.len()));
        bar.enable_steady_tick(Duration::from_millis(200));
        Self { bar, units: jobs.len(), compiled: AtomicUsize::new(0) }
    }

    fn done(&self, job: &Job) {
        let compiled = self.compiled.fetch_add(1, Ordering::Relaxed) + 1;
        let units = self.units;
        self.bar.inc(expected_ms(job));
        self.bar.set_message(format!("{compiled}/{units} units"));
        if self.bar.is_hidden() {
            eprintln!("compiled {compiled}/{units} {}", job.unit.name);
        }
    }

    fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

fn expected_ms(job: &Job) -> u64 {
    (job.seconds * 1e3) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_read_as_compilers_write_them() {
        let rule = "a.o: /src/a.cpp \\\n  /src/with\\ space.hpp \\\n  b.hpp\n";
        let paths: Vec<_> = parse_dependencies(rule).collect();
        assert_eq!(paths, ["/src/a.cpp", "/src/with space.hpp", "b.hpp"].map(PathBuf::from));
    }

    /// A checkout with one unit, `duckdb/a.cpp`, which includes `h.hpp`.
    fn checkout(name: &str) -> (Layout, Tree) {
        let root = crate::scratch(&format!("compile-{name}"));
        let tree = root.join("tree");
        let manifest = r#"{"base": {"cpp_files": [], "include_dirs": ["inc"]}, "extensions": {}}"#;
        write(&tree.join("duckdb/manifest.json"), manifest.as_bytes()).unwrap();
        write(&tree.join("duckdb/inc/h.hpp"), b"constexpr int number = 1;\n").unwrap();
        write(&tree.join("duckdb/a.cpp"), b"#include \"h.hpp\"\nint f() { return number; }\n").unwrap();
        (Layout::new(&root), Tree::read(&root, &tree).unwrap())
    }

    fn stale(compiler: &Compiler, unit: &Unit) -> bool {
        !compiler.is_fresh(&compiler.job(unit), &Hashes::default())
    }

    #[test]
    fn what_a_killed_build_or_a_change_leaves_is_compiled_again() {
        let (layout, tree) = checkout("again");
        let unit = || Unit::of_tree(&tree, &tree.file(Path::new("duckdb/a.cpp")), "stock/a");
        let compiler = Compiler::find(&layout, Toolchain::Clang).unwrap();
        assert!(stale(&compiler, &unit()));
        let object = compiler.compile(&[unit()]).unwrap().remove(0);
        let first = read(&object).unwrap();
        assert!(!stale(&compiler, &unit()));

        // Killed while it wrote the object.
        write(&object, &first[..first.len() / 2]).unwrap();
        assert!(stale(&compiler, &unit()));
        compiler.compile(&[unit()]).unwrap();
        assert_eq!(read(&object).unwrap(), first);

        let other =
            Compiler { identity: "another compiler".into(), ..Compiler::find(&layout, Toolchain::Clang).unwrap() };
        assert!(stale(&other, &unit()));
        assert!(stale(&compiler, &unit().with("-DX=1")));

        write(&layout.root.join("tree/duckdb/inc/h.hpp"), b"constexpr int number = 2;\n").unwrap();
        assert!(stale(&compiler, &unit()));
        compiler.compile(&[unit()]).unwrap();
        assert_ne!(read(&object).unwrap(), first);
    }

    #[test]
    fn objects_do_not_tell_the_folder_that_they_were_made_in() {
        let objects = ["one", "other"].map(|name| {
            let (layout, tree) = checkout(name);
            let unit = Unit::of_tree(&tree, &tree.file(Path::new("duckdb/a.cpp")), "stock/a");
            read(&Compiler::find(&layout, Toolchain::Clang).unwrap().compile(&[unit]).unwrap()[0]).unwrap()
        });
        assert_eq!(objects[0], objects[1]);
    }

    #[test]
    fn at_least_one_job_runs() {
        assert!(jobs_at_once() >= 1);
    }
}
