//! `cargo xtask bench state`: what counting every call costs beside the default programs, what it costs to be watched, and how many
//! events a second reach a ring buffer; into `target/bench/state-sfN/report.json`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use duckbpf_tpch::machine::Machine;
use duckbpf_tpch::report::Set;
use duckbpf_tpch::run::{Comparison, Configuration};
use duckbpf_tpch::worker::{Hooks, Setup};
use serde_json::{Value, json};

use crate::bench::{self, DEFAULTS};
use crate::venv::Venv;
use crate::{paths, process};

/// Hot executions of a query in a run, and seconds after which there are no more.
const REPEATS: usize = 4;
const REPEAT_S: f64 = 3.0;
/// Turns of the events' measurement.
const EVENT_ROUNDS: usize = 5;

#[derive(clap::Args)]
pub struct Args {
    /// Scale factor of the data, which are made once and kept
    #[arg(long, default_value_t = 1.0)]
    sf: f64,
    /// Runs of each configuration, each in a process of its own
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(2..))]
    runs: u32,
    /// DuckDB's threads [default: one a core]
    #[arg(long)]
    threads: Option<usize>,
    /// DuckDB's memory limit, such as 8GB [default: DuckDB's own]
    #[arg(long)]
    memory: Option<String>,
    /// Take the extension and the programs as they were built last
    #[arg(long)]
    no_build: bool,
}

pub fn run(args: Args) -> Result<()> {
    if !args.no_build {
        bench::build()?;
    }
    let folder = paths::target("bench").join(format!("state-sf{}", args.sf));
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let venv = Venv::ensure()?;
    let setup = setup(&args, &venv)?;
    let report = json!({
        "sf": args.sf, "runs": args.runs, "threads": setup.threads, "memory": setup.memory, "machine": Machine::here(),
        "events": events(&venv, &folder)?, "tpch": tpch(&setup, &folder, args.runs as usize)?,
    });
    let file = folder.join("report.json");
    fs::write(&file, serde_json::to_string_pretty(&report)?)
        .with_context(|| format!("cannot write {}", file.display()))?;
    print(&report);
    println!("{}", file.display());
    Ok(())
}

fn setup(args: &Args, venv: &Venv) -> Result<Setup> {
    let setup = Setup::of_wheel(venv.python(), bench::data(args.sf, venv)?, paths::extension());
    let threads = args.threads.unwrap_or(setup.threads);
    Ok(Setup { threads, memory: args.memory.clone(), ..setup })
}

/// The 22 queries, against the default programs that nobody watches.
fn tpch(setup: &Setup, folder: &Path, runs: usize) -> Result<Vec<Set>> {
    let defaults = bench::find_programs(DEFAULTS)?;
    // A hash program has no maps: the host counts its calls.
    let counting = vec![defaults[0].clone(), compile("count_seven", folder)?];
    let configuration = |name: &str, hooks| Configuration { name: name.to_owned(), hooks };
    let configurations = [
        configuration("defaults", Hooks::Loaded(defaults.clone())),
        configuration("counting", Hooks::Loaded(counting)),
        configuration("watched", Hooks::Watched(defaults)),
    ];
    let comparison =
        Comparison { setup, configurations: &configurations, cold_rounds: 0, repeats: REPEATS, repeat_s: REPEAT_S };
    let mut times = comparison.no_times();
    bench::rounds(&comparison, 0..runs, runs, &mut times)?;
    let sets = configurations.iter().zip(&times).skip(1);
    Ok(sets.map(|(configuration, set)| Set::new(configuration, &times[0], set)).collect())
}

/// Events a second, by `benches/state.py`.
fn events(venv: &Venv, folder: &Path) -> Result<Value> {
    let job = json!({"extension": paths::extension(), "event_rounds": EVENT_ROUNDS, "emit": compile("emit", folder)?});
    let file = folder.join("events.json");
    let script = paths::root().join("benches").join("state.py");
    process::run(venv.command(&paths::root()).arg(script).arg(job.to_string()).arg(&file))?;
    let found = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    serde_json::from_str(&found).context("the script writes a JSON object")
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
    for set in report["tpch"].as_array().into_iter().flatten() {
        let [ratio, low, high] = [&set["geomean"], &set["interval"][0], &set["interval"][1]].map(number);
        let name = set["name"].as_str().unwrap_or_default();
        println!("{name} against the default programs: {ratio:.4} [{low:.4}, {high:.4}]");
    }
    for (what, rate) in [("written", "written_per_second"), ("read in SQL", "read_per_second")] {
        let [median, low, high] = ["median", "low", "high"].map(|key| number(&report["events"][rate][key]) / 1e6);
        println!("events {what}: {median:.2} M a second [{low:.2}, {high:.2}]");
    }
    println!("events lost: {}", report["events"]["lost"]);
}
