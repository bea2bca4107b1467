//! `cargo xtask bench state`: what counting every call costs beside the default programs, what it costs to be watched, and how many
//! events a second reach a ring buffer; into `target/bench/state-sfN/report.json`. benches/state.py says how.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use duckbpf_tpch::machine::Machine;
use duckbpf_tpch::queries::QUERIES;
use serde_json::{Value, json};

use crate::bench::{self, DEFAULTS, find_program};
use crate::venv::Venv;
use crate::{extension, graft, paths, process, programs};

#[derive(clap::Args)]
pub struct Args {
    /// Scale factor of the data, which are made once and kept
    #[arg(long, default_value_t = 1.0)]
    sf: f64,
    /// Executions of each query in each configuration
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(2..))]
    rounds: u32,
    /// DuckDB's threads [default: one a core]
    #[arg(long)]
    threads: Option<usize>,
    /// Take the extension and the programs as they were built last
    #[arg(long)]
    no_build: bool,
}

pub fn run(args: Args) -> Result<()> {
    if !args.no_build {
        graft::run(graft::Args {})?;
        programs::compile_all(&paths::programs(), "v4")?;
        extension::install(&extension::build()?)?;
    }
    let folder = paths::target("bench").join(format!("state-sf{}", args.sf));
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let venv = Venv::ensure()?;
    let job = job(&args, &venv, &folder)?;
    let script = paths::root().join("benches").join("state.py");
    let mut python = venv.command(&paths::root());
    let file = folder.join("report.json");
    process::run(python.arg(script).arg(job.to_string()).arg(&file))?;
    let found = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let mut report: Value = serde_json::from_str(&found).context("the script writes a JSON object")?;
    report["sf"] = json!(args.sf);
    report["rounds"] = json!(args.rounds);
    report["threads"] = job["threads"].clone();
    report["machine"] = serde_json::to_value(Machine::here())?;
    fs::write(&file, serde_json::to_string_pretty(&report)?)
        .with_context(|| format!("cannot write {}", file.display()))?;
    print(&report);
    println!("{}", file.display());
    Ok(())
}

fn job(args: &Args, venv: &Venv, folder: &Path) -> Result<Value> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let defaults = DEFAULTS.into_iter().map(find_program).collect::<Result<Vec<PathBuf>>>()?;
    // A hash program has no maps: the host counts its calls.
    let counting = [defaults[0].clone(), compile("count_seven", folder)?];
    let queries: Vec<_> = QUERIES.iter().map(|query| json!([query.number, query.sql])).collect();
    Ok(json!({
        "extension": paths::extension(), "file": bench::data(args.sf, venv)?,
        "threads": args.threads.unwrap_or(cores), "rounds": args.rounds, "event_rounds": 5, "queries": queries,
        "defaults": defaults, "counting": counting, "emit": compile("emit", folder)?,
    }))
}

/// One of the programs in benches/state, as authors compile theirs.
fn compile(name: &str, folder: &Path) -> Result<PathBuf> {
    let source = paths::root().join("benches").join("state").join(format!("{name}.bpf.c"));
    let object = folder.join(format!("{name}.bpf.o"));
    let compile = ["run", "--quiet", "--bin", "duckbpf", "--", "compile", "--output"];
    process::read(process::cargo(&paths::root(), compile).arg(&object).arg(source))?;
    Ok(object)
}

fn print(report: &Value) {
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    println!("{:<16}{:>28}{:>28}", "against defaults", "time", "processor time");
    for (name, kinds) in report["tpch"].as_object().into_iter().flatten() {
        let interval = |kind: &str| {
            let [ratio, low, high] = ["ratio", "low", "high"].map(|key| number(&kinds[kind][key]));
            format!("{ratio:.4} [{low:.4}, {high:.4}]")
        };
        println!("{name:<16}{:>28}{:>28}", interval("wall"), interval("processor"));
    }
    for (what, rate) in [("written", "written_per_second"), ("read in SQL", "read_per_second")] {
        let [median, low, high] = ["median", "low", "high"].map(|key| number(&report["events"][rate][key]) / 1e6);
        println!("events {what}: {median:.2} M a second [{low:.2}, {high:.2}]");
    }
    println!("events lost: {}", report["events"]["lost"]);
}
