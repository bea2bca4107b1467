//! Compiles units like the official wheels were compiled, several at a time, and only what changed.
//!
//! An object is up to date when compiler, command line and the contents of every file that it was made from are the same;
//! `objects/<unit>.json` records them. Times of files play no part.

use crate::{Layout, read, sha256, units, write};
use anyhow::{Context, Result, anyhow, bail};
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

pub(crate) const CLANG: &str = "clang++-19";
/// What the hungriest unit takes at -O3, with room to spare.
const BYTES_PER_JOB: u64 = 1_500_000_000;
/// As the official wheels: x86-64-v3, position independent, no assertions. Line tables stay in the unstripped copy.
const FLAGS: &[&str] = &[
    "-std=c++17",
    "-O3",
    "-march=x86-64-v3",
    "-fPIC",
    "-gline-tables-only",
    "-DNDEBUG",
    "-DDUCKDB_VERSION=\"v2.0.0\"",
    "-DDUCKDB_SOURCE_ID=\"d54cbbe3df\"",
];

/// The objects of a build.
pub struct Objects {
    /// Of DuckDB's units: what they define replaces the host's functions.
    pub units: Vec<PathBuf>,
    /// Of the shim.
    pub shim: Vec<PathBuf>,
}

/// How to compile.
pub struct Compiler {
    /// Says which compiler it is, for the records.
    identity: String,
    ccache: bool,
    tree: PathBuf,
    objects: PathBuf,
    root: PathBuf,
    includes: Vec<PathBuf>,
    series: String,
}

struct Job {
    source: PathBuf,
    object: PathBuf,
    record: PathBuf,
    arguments: Vec<OsString>,
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
    /// Finds clang (and ccache) on PATH.
    pub fn find(layout: &Layout, tree: &Path, series: &str) -> Result<Self> {
        let output = Command::new(CLANG).arg("--version").output().with_context(|| {
            format!("running {CLANG}; install it with: apt-get install -y --no-install-recommends clang-19 lld-19")
        })?;
        let shim = layout.root.join("hook-shim");
        let includes = [shim.join("include"), shim]
            .into_iter()
            .chain(units::include_folders(tree)?.into_iter().map(|folder| tree.join(folder)))
            .collect();
        Ok(Self {
            identity: String::from_utf8_lossy(&output.stdout).into_owned(),
            ccache: Command::new("ccache").arg("--version").output().is_ok_and(|output| output.status.success()),
            tree: tree.into(),
            objects: layout.work.join("objects"),
            root: layout.root.clone(),
            includes,
            series: series.into(),
        })
    }

    /// Compiles DuckDB's units (paths in the tree) and the shim's files, those that are not up to date.
    pub fn compile(&self, units: &BTreeSet<PathBuf>, shim: &[PathBuf]) -> Result<Objects> {
        std::fs::create_dir_all(&self.objects).with_context(|| format!("creating {}", self.objects.display()))?;
        let units: Vec<Job> = units.iter().map(|unit| self.job(&self.tree.join(unit), unit, &[])).collect();
        let series = format!("-DDUCKBPF_SERIES=\"{}\"", self.series);
        let shim: Vec<Job> = shim
            .iter()
            .map(|source| self.job(source, source.strip_prefix(&self.root).unwrap_or(source), &[&series]))
            .collect();
        let hashes = Hashes::default();
        let mut stale: Vec<&Job> = units.iter().chain(&shim).filter(|job| !self.is_fresh(job, &hashes)).collect();
        stale.sort_by(|left, right| right.seconds.total_cmp(&left.seconds));
        self.run(&stale)?;
        let objects = |jobs: &[Job]| jobs.iter().map(|job| job.object.clone()).collect();
        Ok(Objects { units: objects(&units), shim: objects(&shim) })
    }

    fn job(&self, source: &Path, name: &Path, extra: &[&str]) -> Job {
        let stem = name.with_extension("").to_string_lossy().replace('/', "-");
        let (object, record) = (self.objects.join(format!("{stem}.o")), self.objects.join(format!("{stem}.json")));
        let warnings: &[&str] = if source.starts_with(&self.tree) { &["-w"] } else { &["-Wall", "-Wextra", "-Werror"] };
        let mut arguments: Vec<OsString> = FLAGS.iter().chain(warnings).chain(extra).map(OsString::from).collect();
        for (from, to) in [(&self.tree, "."), (&self.root, "duckbpf")] {
            arguments.push(format!("-ffile-prefix-map={}={to}", from.display()).into());
        }
        for folder in &self.includes {
            // Warnings are for our own files.
            let flag = if folder.starts_with(&self.tree) { "-isystem" } else { "-I" };
            arguments.extend([flag.into(), folder.into()]);
        }
        let guess = std::fs::metadata(source).map_or(0.0, |file| file.len() as f64 / 10_000.0);
        let seconds = read_record(&record).map_or(guess, |record| record.seconds);
        Job { source: source.into(), object, record, arguments, seconds }
    }

    /// Compiler and command line in one hash.
    fn command(&self, job: &Job) -> String {
        let arguments: Vec<_> = job.arguments.iter().map(|argument| argument.to_string_lossy()).collect();
        sha256(format!("{}\n{}", self.identity, arguments.join("\n")).as_bytes())
    }

    fn is_fresh(&self, job: &Job, hashes: &Hashes) -> bool {
        let Some(record) = read_record(&job.record) else { return false };
        record.command == self.command(job)
            && hashes.of(&job.object).as_ref() == Some(&record.object)
            && record.inputs.iter().all(|(path, hash)| hashes.of(path).as_ref() == Some(hash))
    }

    fn run(&self, jobs: &[&Job]) -> Result<()> {
        if jobs.is_empty() {
            return Ok(());
        }
        let progress = Progress::new(jobs);
        let next = AtomicUsize::new(0);
        let failed = AtomicBool::new(false);
        let work = || -> Result<()> {
            let hashes = Hashes::default();
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
        let dependencies = job.object.with_extension("d");
        let mut command = if self.ccache { Command::new("ccache") } else { Command::new(CLANG) };
        if self.ccache {
            command.arg(CLANG);
        }
        command.args(&job.arguments).args(["-MD", "-MF"]).arg(&dependencies);
        command.arg("-c").arg(&job.source).arg("-o").arg(&job.object).stdin(Stdio::null());
        let output = command.output().with_context(|| format!("running {CLANG}"))?;
        if !output.status.success() {
            bail!("compiling {} failed\n{}", job.source.display(), String::from_utf8_lossy(&output.stderr).trim_end());
        }
        let inputs = parse_dependencies(&String::from_utf8_lossy(&read(&dependencies)?))
            .map(|path| {
                let hash = hashes.of(&path).with_context(|| format!("reading {}", path.display()))?;
                Ok((path, hash))
            })
            .collect::<Result<_>>()?;
        let record = Record {
            command: self.command(job),
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

/// A bar on a terminal, a line for each unit elsewhere.
struct Progress(ProgressBar);

impl Progress {
    fn new(jobs: &[&Job]) -> Self {
        let bar = ProgressBar::new(jobs.len() as u64);
        let template = "compiling {bar:30} {pos}/{len} units, {elapsed} gone, {eta} left  {msg}";
        bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.enable_steady_tick(Duration::from_millis(200));
        Self(bar)
    }

    fn done(&self, job: &Job) {
        self.0.inc(1);
        let name = job.object.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if self.0.is_hidden() {
            eprintln!("compiled {}/{} {name}", self.0.position(), self.0.length().unwrap_or_default());
        }
        self.0.set_message(name);
    }

    fn finish(&self) {
        self.0.finish_and_clear();
    }
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

    #[test]
    fn at_least_one_job_runs() {
        assert!(jobs_at_once() >= 1);
    }
}
