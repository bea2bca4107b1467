//! `cargo xtask bench tpch`: what hooks cost on TPC-H, against the untouched wheel; and `cargo xtask demo`: everything once, from nothing.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use duckbpf_patch::compile::Toolchain;
use duckbpf_patch::engine::{Engine, Kind};
use duckbpf_tpch::machine::Machine;
use duckbpf_tpch::queries::QUERIES;
use duckbpf_tpch::report::{Boot, COLD, Measured, Reload, Report, Set, Sizes, Swap, quantile_us};
use duckbpf_tpch::run::{self, Comparison, Configuration, Times};
use duckbpf_tpch::worker::{Calls, Hooks, Host, Setup};
use indicatif::{ProgressBar, ProgressStyle};

use crate::venv::Venv;
use crate::{boot, engine, extension, graft, hooks, instructions, paths, policy, process, programs, state};

/// The defaults, one a hook, in the order of the hooks.
pub const DEFAULTS: [&str; 7] = [
    "default_hash",
    "default_schedule_task",
    "default_execute_forever",
    "default_load",
    "default_update_used_memory",
    "default_allocate_new_block",
    "default_unpin",
];
/// What the defaults are swapped for under load: other decisions, equal results.
const OTHERS: [&str; 3] = ["hash_wy", "schedule_young_first", "unpin_drop_scanned"];
const SWAP_CLIENTS: usize = 2;
const SWAP_SECONDS: f64 = 10.0;
const DEMO_RUNS: u32 = 30;

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// The 22 queries: stock, detached and attached, interleaved, into target/bench/tpch-sfN/, or -engine/
    Tpch(Tpch),
    /// What detached hooks cost in instructions, by callgrind
    Instructions(instructions::Args),
    /// What a call, a key, a compilation and a reload cost, into target/bench/hooks.json
    Hooks(hooks::Args),
    /// What maps, events and statistics cost, into target/bench/state-sfN/
    State(state::Args),
    /// A policy of the gallery against stock, on its workload, into target/bench/policy-<name>/
    Policy(policy::Args),
}

#[derive(clap::Args)]
struct Tpch {
    /// Scale factor of the data, which are made once and kept
    #[arg(long, default_value_t = 1.0)]
    sf: f64,
    /// Runs of each configuration, each in a process of its own
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// DuckDB's threads [default: one a core]
    #[arg(long)]
    threads: Option<usize>,
    /// DuckDB's memory limit, such as 8GB [default: DuckDB's own]
    #[arg(long)]
    memory: Option<String>,
    /// Hot executions of a query in a run, of which the median counts
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    repeats: u32,
    /// Repeat no query in a run once its hot executions took so many seconds: short queries vary more, and cost less
    #[arg(long)]
    repeat_seconds: Option<f64>,
    /// In so many of the runs every query is timed cold too [default: all]
    #[arg(long)]
    cold_runs: Option<usize>,
    /// Programs of the attached configuration, by name or path [default: the seven defaults]
    #[arg(long, value_delimiter = ',')]
    programs: Vec<String>,
    /// Also measure one, three and all programs but hash
    #[arg(long)]
    sweep: bool,
    /// Reloads of each program
    #[arg(long, default_value_t = 50)]
    reloads: usize,
    /// What is measured: the official wheel and the graft, or the engine and its stock twin (cargo xtask engine)
    #[arg(long, default_value = "graft", value_parser = ["graft", "engine"])]
    carrier: String,
    /// With the engine: also the official wheel, and the engine that gcc built, where there is one
    #[arg(long)]
    others: bool,
    /// Leave the attached configuration out, for a narrower interval in the same time; into target/bench/tpch-sfN-detached/
    #[arg(long, conflicts_with_all = ["programs", "sweep"])]
    detached_only: bool,
    /// Leave the detached configuration out, likewise; into target/bench/tpch-sfN-attached/
    #[arg(long, conflicts_with_all = ["detached_only", "sweep", "others"])]
    attached_only: bool,
    /// Take the extension and the programs as they were built last
    #[arg(long)]
    no_build: bool,
    /// Only the untouched wheel; nothing is built
    #[arg(long, hide = true)]
    stock_only: bool,
}

impl Tpch {
    fn demo() -> Self {
        Self {
            sf: 1.0,
            runs: DEMO_RUNS,
            threads: None,
            memory: None,
            repeats: 1,
            repeat_seconds: None,
            cold_runs: Some(3),
            programs: Vec::new(),
            sweep: false,
            reloads: 50,
            carrier: "graft".to_owned(),
            others: false,
            detached_only: false,
            attached_only: false,
            no_build: false,
            stock_only: false,
        }
    }
}

#[derive(clap::Args)]
pub struct DemoArgs {}

pub fn run(args: Args) -> Result<()> {
    let args = match args.what {
        What::Tpch(args) => args,
        What::Instructions(args) => return instructions::run(args),
        What::Hooks(args) => return hooks::run(args),
        What::State(args) => return state::run(args),
        What::Policy(args) => return policy::run(args),
    };
    let setup = prepare(&args)?;
    check_stock(&setup, args.sf)?;
    if !(args.stock_only || args.no_build) {
        build()?;
    }
    compare(&args, &setup)
}

/// Stock's times first, while nothing of the project's own is built: they take a few minutes from nothing, the rest takes more.
pub fn demo(_args: DemoArgs) -> Result<()> {
    let began = Instant::now();
    let args = Tpch::demo();
    let setup = prepare(&args)?;
    check_stock(&setup, args.sf)?;
    step(&format!(
        "stock's times were there after {:.0} s; now what is compared with them",
        began.elapsed().as_secs_f64()
    ));
    build()?;
    compare(&args, &setup)?;
    println!("all of it took {:.0} s", began.elapsed().as_secs_f64());
    Ok(())
}

/// The data that the tests ask for.
pub fn test_data() -> Result<()> {
    let venv = Venv::ensure()?;
    [0.01, 1.0].into_iter().try_for_each(|sf| data(sf, &venv).map(drop))
}

/// The harness on what was built: the generator's own tests, and a small comparison, whose results must be equal.
pub fn check() -> Result<()> {
    let tests = ["test", "--quiet", "--package", "duckbpf-tpch", "--features", "data", "--test", "data"];
    process::run(&mut process::cargo_here(&paths::root(), &tests))?;
    check_carrier("graft")
}

/// The same on the engine.
pub fn check_engine() -> Result<()> {
    check_carrier("engine")
}

fn check_carrier(carrier: &str) -> Result<()> {
    let carrier = carrier.to_owned();
    let args = Tpch { sf: 0.01, runs: 2, cold_runs: None, reloads: 5, carrier, others: true, ..Tpch::demo() };
    compare(&args, &prepare(&args)?)
}

fn step(what: &str) {
    eprintln!("== {what}");
}

/// The environment and the data.
fn prepare(args: &Tpch) -> Result<Setup> {
    step("Python environment");
    let venv = Venv::ensure()?;
    step(&format!("TPC-H data, scale factor {}", args.sf));
    let database = data(args.sf, &venv)?;
    let mut setup = Setup::of_wheel(venv.python(), database, paths::extension());
    if args.carrier == "engine" {
        let engine = engine::find()?;
        setup.stock = engine::host(&engine, Kind::Stock)?;
        setup.hooked = engine::host(&engine, Kind::Hooked)?;
    }
    setup.threads = args.threads.unwrap_or(setup.threads);
    setup.memory = args.memory.clone();
    Ok(setup)
}

/// The database of a scale factor, made where it is missing.
pub fn data(sf: f64, venv: &Venv) -> Result<PathBuf> {
    let database = paths::target("bench").join("data").join(format!("tpch-sf{sf}.duckdb"));
    if !database.exists() {
        let run = ["run", "--package", "duckbpf-tpch", "--features", "data", "--bin", "tpch-data", "--locked", "--"];
        let mut generator = process::cargo_here(&paths::root(), &run);
        generator.arg("--sf").arg(sf.to_string()).arg("--python").arg(venv.python()).arg("--out").arg(&database);
        process::run(&mut generator).with_context(|| format!("cannot make the data of scale factor {sf}"))?;
    }
    Ok(database)
}

/// What a comparison attaches: the graft, the programs, the extension.
pub fn build() -> Result<()> {
    step("graft: DuckDB's patched units");
    graft::run(graft::Args {})?;
    step("programs");
    programs::compile_all(&paths::programs(), "v4")?;
    step("extension");
    extension::install(&extension::build()?)?;
    Ok(())
}

fn check_stock(setup: &Setup, sf: f64) -> Result<()> {
    step("the 22 queries on stock (milliseconds, warm)");
    run::check_stock(setup, sf, |query, seconds| {
        let end = if query % 6 == 0 || query == QUERIES.len() { '\n' } else { ' ' };
        eprint!("  Q{query:<2} {:8.1}{end}", seconds * 1e3);
    })?;
    let reference = duckbpf_tpch::answers::reference(sf, 1).is_some();
    step(if reference {
        "all answers are the reference answers"
    } else {
        "there are no reference answers at this scale factor"
    });
    Ok(())
}

fn compare(args: &Tpch, setup: &Setup) -> Result<()> {
    let bench = Bench::new(args, setup)?;
    let report = bench.measure()?;
    print!("{}", report.table());
    let page = report.write(&folder(args))?;
    println!("report: {}", page.display());
    let unequal: Vec<_> = report.queries.iter().filter(|query| !query.equal).map(|query| query.query).collect();
    if !unequal.is_empty() {
        bail!("results differ between configurations: queries {unequal:?}");
    }
    if report.swap.as_ref().is_some_and(|swap| swap.wrong + swap.failed > 0) {
        bail!("queries gave wrong results, or none, while programs were swapped");
    }
    Ok(())
}

fn folder(args: &Tpch) -> PathBuf {
    let mut folder = report_folder(args.sf, &args.carrier).into_os_string();
    if args.detached_only {
        folder.push("-detached");
    } else if args.attached_only {
        folder.push("-attached");
    }
    folder.into()
}

fn report_folder(sf: f64, carrier: &str) -> PathBuf {
    let ending = if carrier == "engine" { "-engine" } else { "" };
    paths::target("bench").join(format!("tpch-sf{sf}{ending}"))
}

/// A program by its path, or by its name in the gallery.
pub fn find_program(name: &str) -> Result<PathBuf> {
    let built = paths::programs().join(format!("{name}.bpf.o"));
    let path = if name.ends_with(".o") { PathBuf::from(name) } else { built };
    path.canonicalize().with_context(|| format!("there is no program {}", path.display()))
}

pub fn find_programs<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Vec<PathBuf>> {
    names.into_iter().map(find_program).collect()
}

/// Other builds of DuckDB, for information.
fn others() -> Result<Vec<Configuration>> {
    let other = |name: &str, host| Configuration { name: name.to_owned(), hooks: Hooks::Other(host) };
    let mut others = vec![other("official wheel", Host::Wheel { python: Venv::ensure()?.python() })];
    match Engine::find(&duckbpf_patch::Layout::new(&paths::root()), Toolchain::Gcc) {
        Ok(engine) => others.push(other("the engine, by gcc", engine::host(&engine, Kind::Stock)?)),
        Err(error) => eprintln!("gcc's build is left out: {error:#}"),
    }
    Ok(others)
}

/// Makes these of a comparison's runs, with a progress bar.
pub fn rounds(comparison: &Comparison, rounds: Range<usize>, runs: usize, times: &mut [Times]) -> Result<()> {
    let bar = bar(comparison.steps() * rounds.len())?;
    comparison.run(rounds, times, |name, round| {
        bar.set_message(format!("run {round} of {runs}, {name}"));
        bar.inc(1);
    })?;
    bar.finish_and_clear();
    Ok(())
}

fn bar(steps: usize) -> Result<ProgressBar> {
    let style = ProgressStyle::with_template("   [{bar:40}] {percent:>3}%  {elapsed} gone, {eta} left  {msg}")?;
    Ok(ProgressBar::new(steps as u64).with_style(style.progress_chars("=> ")))
}

/// One comparison: what was asked for, and what it compares. The first configuration is stock; where the extension takes part, then come detached
/// and attached, or the one of them that was asked for, and then what else was asked for.
struct Bench<'a> {
    args: &'a Tpch,
    setup: &'a Setup,
    attached: Vec<PathBuf>,
    configurations: Vec<Configuration>,
}

impl<'a> Bench<'a> {
    fn new(args: &'a Tpch, setup: &'a Setup) -> Result<Self> {
        let stock = Configuration { name: "stock".to_owned(), hooks: Hooks::Stock };
        if args.stock_only {
            return Ok(Self { args, setup, attached: Vec::new(), configurations: vec![stock] });
        }
        let attached = match args.programs.as_slice() {
            [] => find_programs(DEFAULTS)?,
            named => find_programs(named.iter().map(String::as_str))?,
        };
        let loaded = |name: &str, programs| Configuration { name: name.to_owned(), hooks: Hooks::Loaded(programs) };
        let mut configurations = vec![stock];
        if !args.attached_only {
            configurations.push(loaded("detached", Vec::new()));
        }
        if args.detached_only {
            return Ok(Self { args, setup, attached: Vec::new(), configurations });
        }
        configurations.push(loaded("attached", attached.clone()));
        if args.sweep {
            configurations.push(loaded("1 program", find_programs(["default_unpin"])?));
            configurations.push(loaded(
                "3 programs",
                find_programs(["default_load", "default_update_used_memory", "default_unpin"])?,
            ));
            configurations.push(loaded("all but hash", find_programs(DEFAULTS.into_iter().skip(1))?));
        }
        if args.others && args.carrier == "engine" {
            configurations.extend(others()?);
        }
        Ok(Self { args, setup, attached, configurations })
    }

    fn measure(&self) -> Result<Report> {
        let runs = self.args.runs as usize;
        let cold_rounds = self.args.cold_runs.unwrap_or(runs).min(runs);
        let comparison = Comparison {
            setup: self.setup,
            configurations: &self.configurations,
            cold_rounds,
            repeats: self.args.repeats as usize,
            repeat_s: self.args.repeat_seconds.unwrap_or(f64::INFINITY),
        };
        let names: Vec<_> = self.configurations.iter().map(|configuration| configuration.name.as_str()).collect();
        step(&format!("{runs} runs of each of: {}", names.join(", ")));
        let mut times = comparison.no_times();
        rounds(&comparison, 0..runs.div_ceil(2), runs, &mut times)?;
        let swap = self.live_swap(&times)?;
        rounds(&comparison, runs.div_ceil(2)..runs, runs, &mut times)?;
        let calls = self.calls()?;
        let (reload, statement_us) = self.reloads()?;
        let of = |name: &str| names.iter().position(|known| *known == name).map(|place| &times[place]);
        let measured = Measured { stock: &times[0], detached: of("detached"), attached: of("attached"), calls: &calls };
        let (others, sets): (Vec<_>, Vec<_>) = self.sets(&times).into_iter().partition(|(is_other, _)| *is_other);
        let report = Report {
            carrier: self.args.carrier.clone(),
            sf: self.args.sf,
            runs,
            threads: self.setup.threads,
            memory: self.setup.memory.clone(),
            repeats: self.args.repeats,
            repeat_s: self.args.repeat_seconds,
            cold_runs: cold_rounds,
            cold: COLD,
            programs: self.attached.iter().map(|path| run::program_name(path)).collect(),
            machine: Machine::here(),
            queries: measured.queries(),
            summary: measured.summary(),
            sets: sets.into_iter().map(|(_, set)| set).collect(),
            reload,
            statement_us,
            swap,
            sizes: self.sizes()?,
            others: others.into_iter().map(|(_, set)| set).collect(),
            boot: self.boot()?,
            carriers: Vec::new(),
        };
        let other = if self.args.carrier == "engine" { "graft" } else { "engine" };
        report.beside(&report_folder(self.args.sf, other))
    }

    /// Beside the times of queries: calls, reloads, swaps.
    fn measures_more(&self) -> bool {
        !self.attached.is_empty() && !self.args.attached_only
    }

    /// Swaps programs while queries run, and tells what that did to them.
    fn live_swap(&self, times: &[Times]) -> Result<Option<Swap>> {
        if !self.measures_more() {
            return Ok(None);
        }
        step(&format!("live swap: {SWAP_CLIENTS} clients run the queries while the programs change, {SWAP_SECONDS} s"));
        let sets = [self.attached.clone(), find_programs(OTHERS)?, Vec::new()];
        let Some(digests) = run::digests(&times[0]) else {
            eprintln!("   not done: stock's own results differ from run to run");
            return Ok(None);
        };
        let swap = Swap::new(SWAP_CLIENTS, &run::swap(self.setup, &sets, &digests, SWAP_CLIENTS, SWAP_SECONDS)?);
        if let Some(swap) = &swap {
            eprintln!("   {swap}");
        }
        Ok(swap)
    }

    fn calls(&self) -> Result<Vec<Calls>> {
        if !self.measures_more() {
            return Ok(Vec::new());
        }
        step("hook calls of each query");
        let bar = bar(QUERIES.len())?;
        let calls = run::count_calls(self.setup, &self.attached, || bar.inc(1))?;
        bar.finish_and_clear();
        Ok(calls)
    }

    /// Of the configurations behind the first three, and whether they are other builds.
    fn sets(&self, times: &[Times]) -> Vec<(bool, Set)> {
        let configurations = self.configurations.iter().zip(times).skip(3);
        let set = |(configuration, set): (&Configuration, &Times)| {
            (matches!(configuration.hooks, Hooks::Other(_)), Set::new(configuration, &times[0], set))
        };
        configurations.map(set).collect()
    }

    /// Of the engine: the wheel cannot be linked into a program.
    fn boot(&self) -> Result<Option<Boot>> {
        if self.args.carrier != "engine" || !self.measures_more() {
            return Ok(None);
        }
        step("starts of a process");
        boot::measure(&engine::find()?, &self.setup.database, &self.attached).map(Some)
    }

    /// And what an empty statement takes, in microseconds.
    fn reloads(&self) -> Result<(Vec<Reload>, Option<f64>)> {
        if !self.measures_more() {
            return Ok((Vec::new(), None));
        }
        step(&format!("{} reloads of each program", self.args.reloads));
        let reloaded = run::reload(self.setup, &self.attached, self.args.reloads)?;
        let reloads = reloaded.programs.iter().filter_map(|(program, reloads)| Reload::new(program, reloads)).collect();
        Ok((reloads, quantile_us(&reloaded.empty_ns, 0.5)))
    }

    fn sizes(&self) -> Result<Sizes> {
        let size = |path: &Path| fs::metadata(path).ok().map(|file| file.len());
        let find_library = "import importlib.util; print(importlib.util.find_spec('_duckdb').origin)";
        let library = process::read(Command::new(Venv::ensure()?.python()).args(["-c", find_library]))?;
        let engine = |host: &Host| match host {
            Host::Library { library, .. } => size(library),
            Host::Wheel { .. } => None,
        };
        let programs = self.attached.iter().filter_map(|path| Some((run::program_name(path), size(path)?)));
        Ok(Sizes {
            wheel_library: size(Path::new(library.trim())),
            graft: size(&paths::graft_image()),
            extension: size(&paths::extension()),
            stock_library: engine(&self.setup.stock),
            hooked_library: engine(&self.setup.hooked),
            programs: programs.collect(),
        })
    }
}
