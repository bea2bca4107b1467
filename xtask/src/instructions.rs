//! `cargo xtask bench instructions`: how many instructions the hooks cost while nothing is attached, counted by callgrind.
//!
//! Wall time moves by percents on a shared machine; instructions inside DuckDB hardly move at all. Each configuration is one process under
//! callgrind, on one thread, that counts the second run of each query (tpch/python/instructions.py), with a clock and dice that leave
//! nothing to chance (tpch/python/marks.c). Callgrind looks on from the first query to the last: to begin again is to translate all code again,
//! which took ten times as long.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use duckbpf_patch::engine::Kind;
use duckbpf_tpch::queries::QUERIES;
use serde::Serialize;
use serde_json::json;

use crate::venv::Venv;
use crate::{bench, engine, paths, process};

const SCRIPT: &str = include_str!("../../tpch/python/instructions.py");
const MARKS: &str = include_str!("../../tpch/python/marks.c");
/// What detached hooks may cost inside DuckDB, over all queries, before the tests fail. The aim is 1.0005; two folders gave 1.00049 and 1.00054 for the
/// same sources, so a limit there would tell folders apart, not changes.
const LIMIT: f64 = 1.001;

#[derive(clap::Args)]
pub struct Args {
    /// The engine, stock against hooked, or the official wheel, without and with the extension
    #[arg(long, default_value = "engine", value_parser = ["engine", "graft"])]
    carrier: String,
    /// Scale factor of the data
    #[arg(long, default_value_t = 0.01)]
    sf: f64,
    /// Only these queries
    #[arg(long, value_delimiter = ',')]
    queries: Vec<usize>,
    /// Only stock and detached: neither the control nor the hooked engine without the extension
    #[arg(long)]
    brief: bool,
}

impl Args {
    /// What the tests count.
    pub fn check() -> Self {
        Self { carrier: "engine".to_owned(), sf: 0.01, queries: Vec::new(), brief: true }
    }
}

/// One process.
struct Configuration {
    name: &'static str,
    python: PathBuf,
    /// None: the official wheel.
    library: Option<PathBuf>,
    loaded: bool,
}

/// Instructions by query.
type Counts = BTreeMap<usize, u64>;

#[derive(Serialize)]
struct Report {
    carrier: String,
    sf: f64,
    /// By configuration.
    instructions: BTreeMap<&'static str, Counts>,
    /// Sums against stock's.
    ratios: BTreeMap<&'static str, f64>,
}

pub fn run(args: Args) -> Result<()> {
    let mut configurations = configurations(&args.carrier)?;
    if args.brief {
        configurations.truncate(2);
    }
    let folder = paths::target("bench").join(format!("instructions-{}", args.carrier));
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let marks = build_marks(&folder)?;
    let database = bench::data(args.sf, &Venv::ensure()?)?;
    let mut instructions = BTreeMap::new();
    // Side by side, two at once: the count does not depend on who else is busy.
    for pair in configurations.chunks(2) {
        let running: Vec<_> = pair
            .iter()
            .map(|configuration| start(configuration, &args, &folder, &marks, &database))
            .collect::<Result<_>>()?;
        for (configuration, child) in pair.iter().zip(running) {
            instructions.insert(configuration.name, finish(configuration.name, child, &folder)?);
        }
    }
    let report = Report::new(args, instructions)?;
    let file = folder.join("report.json");
    fs::write(&file, serde_json::to_vec_pretty(&report)?)
        .with_context(|| format!("cannot write {}", file.display()))?;
    report.print();
    println!("{}", file.display());
    report.check()
}

/// Stock and detached first. Stock again is the control: what it differs by is noise.
fn configurations(carrier: &str) -> Result<Vec<Configuration>> {
    let of = |name, python: &Path, library: Option<PathBuf>, loaded| {
        let python = python.to_owned();
        Configuration { name, python, library, loaded }
    };
    if carrier == "graft" {
        let python = Venv::ensure()?.python();
        let stock = |name| of(name, &python, None, false);
        return Ok(vec![stock("stock"), of("detached", &python, None, true), stock("stock again")]);
    }
    let (engine, python) = (engine::find()?, Venv::for_engine()?.python());
    let library = |kind| Some(engine.library(kind));
    Ok(vec![
        of("stock", &python, library(Kind::Stock), false),
        of("detached", &python, library(Kind::Hooked), true),
        of("stock again", &python, library(Kind::Stock), false),
        of("not loaded", &python, library(Kind::Hooked), false),
    ])
}

fn build_marks(folder: &Path) -> Result<PathBuf> {
    let (source, library) = (folder.join("marks.c"), folder.join("marks.so"));
    fs::write(&source, MARKS).with_context(|| format!("cannot write {}", source.display()))?;
    process::run(Command::new("cc").args(["-O2", "-shared", "-fPIC"]).arg(&source).arg("-o").arg(&library))?;
    Ok(library)
}

fn start(configuration: &Configuration, args: &Args, folder: &Path, marks: &Path, database: &Path) -> Result<Child> {
    let out = folder.join(configuration.name);
    if out.exists() {
        fs::remove_dir_all(&out).with_context(|| format!("cannot remove {}", out.display()))?;
    }
    fs::create_dir_all(&out).with_context(|| format!("cannot create {}", out.display()))?;
    let wanted = |number: &usize| args.queries.is_empty() || args.queries.contains(number);
    let queries: Vec<_> =
        QUERIES.iter().filter(|query| wanted(&query.number)).map(|query| json!([query.number, query.sql])).collect();
    let extension = configuration.loaded.then(paths::extension);
    let job = json!({ "file": database, "extension": extension, "marks": marks, "queries": queries });
    let mut command = Command::new("valgrind");
    command
        .args(["--quiet", "--tool=callgrind", "--instr-atstart=no", "--collect-jumps=no"])
        .arg(format!("--callgrind-out-file={}", out.join("counts").display()))
        .arg(&configuration.python)
        .args(["-c", SCRIPT])
        .arg(job.to_string())
        .env("PYTHONHASHSEED", "0")
        .env("LD_PRELOAD", marks)
        .env_remove("PYTHONPATH")
        .stdin(Stdio::null());
    if let Some(library) = &configuration.library {
        engine::drive(&mut command, library);
    }
    command.spawn().context("cannot start valgrind")
}

fn finish(name: &str, mut child: Child, folder: &Path) -> Result<Counts> {
    let status = child.wait().context("cannot wait for valgrind")?;
    if !status.success() {
        bail!("counting {name} failed: {status}");
    }
    let folder = folder.join(name);
    let mut counts = Counts::new();
    for entry in folder.read_dir().with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        counts.extend(read_dump(&text));
    }
    Ok(counts)
}

/// Query, and instructions inside DuckDB, of one of callgrind's dumps; none of the last one, which no query asked for.
///
/// Python and the C library are left out: what malloc does depends on the heap's history, by tenths of a percent.
fn read_dump(text: &str) -> Option<(usize, u64)> {
    let value = |prefix: &str| text.lines().find_map(|line| line.strip_prefix(prefix)).map(str::trim);
    let query = value("desc: Trigger: Client Request:")?.parse().ok()?;
    let mut duckdbs = BTreeMap::new();
    let (mut inside, mut of_callee, mut count) = (false, false, 0);
    for line in text.lines() {
        if let Some(object) = line.strip_prefix("ob=").or_else(|| line.strip_prefix("cob=")) {
            // `(number) path` the first time, `(number)` later.
            let (number, path) = object.split_once(' ').unwrap_or((object, ""));
            if !path.is_empty() {
                duckdbs.insert(number, is_duckdb(path));
            }
            if line.starts_with("ob=") {
                inside = duckdbs.get(number).copied().unwrap_or_default();
            }
        } else if line.starts_with("calls=") {
            of_callee = true;
        } else if line.starts_with(|first: char| first.is_ascii_digit() || "+-*".contains(first)) {
            let own = !std::mem::replace(&mut of_callee, false);
            let cost: u64 = line.split_once(' ')?.1.trim().parse().ok()?;
            count += if own && inside { cost } else { 0 };
        }
    }
    Some((query, count))
}

/// The library, the wheel's, the extension, or the graft: valgrind has no name for what is loaded from memory, and nothing else is.
fn is_duckdb(object: &str) -> bool {
    let name = object.rsplit('/').next().unwrap_or(object);
    name.contains("duckdb") || name.contains("duckbpf") || name == "???"
}

impl Report {
    fn new(args: Args, instructions: BTreeMap<&'static str, Counts>) -> Result<Self> {
        let sum = |counts: &Counts| counts.values().sum::<u64>() as f64;
        let stock = instructions.get("stock").map(sum).filter(|sum| *sum > 0.0).context("callgrind counted nothing")?;
        let ratios = instructions.iter().map(|(name, counts)| (*name, sum(counts) / stock)).collect();
        Ok(Self { carrier: args.carrier, sf: args.sf, instructions, ratios })
    }

    fn print(&self) {
        let stock = &self.instructions["stock"];
        let others: Vec<_> = self.instructions.iter().filter(|(name, _)| **name != "stock").collect();
        print!("{:>5} {:>15}", "query", "stock");
        others.iter().for_each(|(name, _)| print!(" {name:>20}"));
        println!();
        for (query, count) in stock {
            print!("{query:>5} {count:>15}");
            for (_, counts) in &others {
                let ratio = counts.get(query).map_or(f64::NAN, |other| *other as f64 / *count as f64);
                print!(" {ratio:>20.6}");
            }
            println!();
        }
        print!("{:>5} {:>15}", "all", stock.values().sum::<u64>());
        others.iter().for_each(|(name, _)| print!(" {:>20.6}", self.ratios[**name]));
        println!();
    }

    /// The graft is measured, the engine is held to its limit.
    fn check(&self) -> Result<()> {
        let detached = self.ratios.get("detached").copied().context("nothing was counted with hooks")?;
        if self.carrier == "engine" && detached > LIMIT {
            bail!("detached hooks cost {detached:.6} of stock's instructions; at most {LIMIT} is allowed");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dumps_name_their_query() {
        let dump = "version: 1\ndesc: Trigger: Client Request: 7\n\npositions: line\nevents: Ir\nsummary: 12\n\n\
                    ob=(1) /usr/lib/libc.so.6\nfl=(1) ???\nfn=(1) malloc\n0 500\n\n\
                    ob=(2) /x/libduckdb.so\nfn=(2) f\n0 20\ncob=(1)\ncfn=(1)\ncalls=3 0\n0 500\n+3 4\n* 1\n\n\
                    ob=(1)\nfn=(3) free\n0 70\nob=(2)\nfn=(4) g\n0 100\nob=(3) ???\nfn=(5) graft\n0 1000\n";
        assert_eq!(read_dump(dump), Some((7, 1125)));
        assert_eq!(read_dump("desc: Trigger: Program termination\ntotals: 5\n"), None);
    }
}
