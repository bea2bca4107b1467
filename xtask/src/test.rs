//! `cargo xtask test`: everything that can be checked, step by step, with the time of each.

use crate::venv::Venv;
use crate::{bench, engine, extension, instructions, paths, process, programs, series, system, wheel};
use anyhow::{Context, Result, bail};
use duckbpf_patch::compile::Toolchain;
use duckbpf_patch::engine::Kind;
use std::path::Path;
use std::time::{Duration, Instant};

/// A DuckDB that the extension must refuse.
const OTHER_DUCKDB: &str = "duckdb==1.5.6";

#[derive(clap::Args)]
pub struct Args {
    /// Stop at the first step that fails
    #[arg(long)]
    fail_fast: bool,
    /// Only the steps whose name holds this word, and the builds that they need are taken as done
    #[arg(long)]
    only: Option<String>,
    /// The tests of the engine instead, which build it where it is missing: half an hour the first time
    #[arg(long)]
    pub engine: bool,
}

type Step = (&'static str, fn() -> Result<()>);

/// How a step went.
struct Done {
    name: &'static str,
    took: Duration,
    /// Of all processors. Where it is twice the time on two of them, only less work would be quicker.
    processors: Duration,
    failure: Option<anyhow::Error>,
}

/// Quick checks first, then what the tests need, then the tests.
const STEPS: &[Step] = &[
    ("fmt", format),
    ("clippy", clippy),
    ("build programs", build_programs),
    ("build extension", build_extension),
    ("python environments", make_venvs),
    ("python lint", python_lint),
    ("tpc-h data", bench::test_data),
    ("rust tests", rust_tests),
    ("wheel", wheel),
    ("sql and end-to-end tests", database_tests),
    ("python tests", python_tests),
    ("python's world", python_world),
    ("harness", bench::check),
];

/// What the engine's tests need, then they.
const ENGINE_STEPS: &[Step] = &[
    ("engine", || engine::build(Toolchain::Clang)),
    ("series", series::check_pinned),
    ("build programs", build_programs),
    ("build extension", build_extension),
    ("python environments", || make_at_once(&[&Venv::ensure, &Venv::for_engine])),
    ("tpc-h data", bench::test_data),
    ("clippy", engine_clippy),
    ("rust tests", engine_rust_tests),
    ("sql and end-to-end tests", || engine_pytest("tests", &["sql", "e2e"])),
    ("engine tests", || engine_pytest("tests", &["engine"])),
    ("instructions", || instructions::run(instructions::Args::check())),
    ("harness", bench::check_engine),
];

pub fn run(args: Args) -> Result<()> {
    let steps = if args.engine { ENGINE_STEPS } else { STEPS };
    let wanted = |name: &str| args.only.as_deref().is_none_or(|only| name.contains(only));
    let mut done: Vec<Done> = Vec::new();
    for &(name, step) in steps.iter().filter(|(name, _)| wanted(name)) {
        println!("\n=== {name}");
        let (began, before) = (Instant::now(), processor_time()?);
        let failure = step().err();
        if let Some(error) = &failure {
            println!("{name} failed: {error:#}");
        }
        let stop = failure.is_some() && args.fail_fast;
        done.push(Done { name, took: began.elapsed(), processors: processor_time()? - before, failure });
        if stop {
            break;
        }
    }
    summarise(&done)
}

fn summarise(done: &[Done]) -> Result<()> {
    println!("\n=== summary: seconds, and those of all processors together");
    for Done { name, took, processors, failure } in done {
        let result = if failure.is_some() { "FAILED" } else { "ok" };
        println!("{name:<28}{:>8.1} {:>8.1}  {result}", took.as_secs_f64(), processors.as_secs_f64());
    }
    let failed: Vec<&str> = done.iter().filter(|step| step.failure.is_some()).map(|step| step.name).collect();
    match failed.as_slice() {
        [] if done.is_empty() => bail!("no step of that name"),
        [] => Ok(()),
        failed => bail!("failed: {}", failed.join(", ")),
    }
}

/// What this process and those that it has waited for have computed.
fn processor_time() -> Result<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat").context("cannot read /proc/self/stat")?;
    // Behind the name, which may hold anything: utime, stime, cutime and cstime are fields 14 to 17, in hundredths (proc(5)).
    let (_, fields) = stat.rsplit_once(')').context("/proc/self/stat has no name in it")?;
    let ticks = fields.split_whitespace().skip(11).take(4).map(str::parse::<u64>).sum::<Result<u64, _>>()?;
    Ok(Duration::from_millis(ticks * 10))
}

/// The folders that are cargo workspaces of their own.
fn workspaces() -> [std::path::PathBuf; 2] {
    [paths::root(), paths::root().join("extension")]
}

fn format() -> Result<()> {
    workspaces().iter().try_for_each(|folder| process::run(&mut process::cargo(folder, ["fmt", "--all", "--check"])))
}

fn clippy() -> Result<()> {
    workspaces().iter().try_for_each(|folder| {
        let arguments = ["clippy", "--workspace", "--all-targets", "--locked", "--quiet", "--", "-D", "warnings"];
        cargo(folder, &arguments)
    })
}

fn build_programs() -> Result<()> {
    programs::compile_all(&paths::programs(), "v4").map(|_| ())
}

fn build_extension() -> Result<()> {
    // Not installed: what the user has in ~/.duckdb is not the tests' business.
    extension::build().map(|_| ())
}

/// All that later steps use, at the same time: pip keeps one processor busy, and waits for downloads.
fn make_venvs() -> Result<()> {
    let other = || Venv::ensure_with("venv-other", &[OTHER_DUCKDB]);
    make_at_once(&[&Venv::ensure, &other, &Venv::for_wheel, &Venv::for_world])
}

fn make_at_once(venvs: &[&(dyn Fn() -> Result<Venv> + Sync)]) -> Result<()> {
    std::thread::scope(|scope| {
        let makers: Vec<_> = venvs.iter().map(|&make| scope.spawn(move || make().map(drop))).collect();
        makers.into_iter().try_for_each(|maker| maker.join().unwrap_or_else(|_| bail!("pip's thread panicked")))
    })
}

fn rust_tests() -> Result<()> {
    workspaces().iter().try_for_each(|folder| cargo(folder, &["test", "--workspace", "--locked", "--quiet"]))?;
    // What no release holds. Of the whole workspace: of one package, what it builds on would have other features, and be built again.
    let features = "duckbpf/conformance,duckbpf-runtime/conformance,duckbpf-runtime/planted";
    let unreleased =
        ["test", "--workspace", "--lib", "--bin", "duckbpf", "--features", features, "--locked", "--quiet"];
    cargo(&paths::root(), &[&unreleased[..], &["--", "conformance", "planted", "interpreted"]].concat())
}

fn python_lint() -> Result<()> {
    let root = paths::root();
    let ruff = |arguments: &[&str]| {
        let folders = ["python", "tests", "xtask/policy"];
        process::run(Venv::ensure()?.command(&root).args(["-m", "ruff"]).args(arguments).args(folders))
    };
    ruff(&["format", "--check"])?;
    ruff(&["check"])?;
    process::run(Venv::ensure()?.command(&root.join("python")).args(["-m", "mypy", "--no-incremental"]))
}

/// Built and used in an environment of its own; installed where the other tests are.
fn wheel() -> Result<()> {
    let wheel = wheel::build(&paths::extension(), wheel::Profile::Debug, &paths::target("wheel-test"))?;
    wheel::check(&wheel)?;
    // Anew each time: the version stays the same while what it carries changes.
    Venv::ensure()?.pip_install(&["--force-reinstall", "--no-deps", &wheel.to_string_lossy()])
}

fn database_tests() -> Result<()> {
    pytest("tests")
}

fn python_tests() -> Result<()> {
    pytest("python/tests")
}

/// What people use DuckDB through, beside the wheel that was built before.
fn python_world() -> Result<()> {
    let venv = Venv::for_world()?;
    let built = paths::target("wheel-test").read_dir().context("no wheel is built; the step `wheel` does it")?;
    let wheel = built.flatten().map(|entry| entry.path()).find(|path| path.extension() == Some("whl".as_ref()));
    let wheel = wheel.context("no wheel is built; the step `wheel` does it")?;
    venv.pip_install(&["--force-reinstall", "--no-deps", &wheel.to_string_lossy()])?;
    let folder = paths::root().join("python/world");
    process::run(venv.command(&folder).args(["-m", "pytest", "-p", "no:cacheprovider"]))
}

fn pytest(folder: &str) -> Result<()> {
    let folder = paths::root().join(folder);
    process::run(Venv::ensure()?.command(&folder).args(["-m", "pytest", "-p", "no:cacheprovider"]))
}

fn engine_pytest(folder: &str, arguments: &[&str]) -> Result<()> {
    let folder = paths::root().join(folder);
    let mut command = Venv::for_engine()?.command(&folder);
    command.args(["-m", "pytest", "-p", "no:cacheprovider"]).args(arguments);
    process::run(engine::drive(&mut command, &engine::find()?.library(Kind::Hooked)))
}

fn engine_clippy() -> Result<()> {
    let arguments = ["clippy", "--package", "duckbpf", "--features", "engine", "--all-targets", "--locked", "--quiet"];
    engine_cargo(&[&arguments[..], &["--", "-D", "warnings"]].concat())
}

fn engine_rust_tests() -> Result<()> {
    engine_cargo(&["test", "--package", "duckbpf", "--features", "engine", "--locked", "--quiet"])
}

/// Cargo for a program that links the hooked engine.
fn engine_cargo(arguments: &[&str]) -> Result<()> {
    let library = engine::find()?.lib(Kind::Hooked);
    let mut command = process::cargo(&paths::root(), arguments);
    command.env("DUCKDB_LIB_DIR", &library).env("LD_LIBRARY_PATH", &library);
    process::run(system::hint_libclang(&mut command))
}

/// Builds both workspaces in one folder, where many of their dependencies are the same.
fn cargo(folder: &Path, arguments: &[&str]) -> Result<()> {
    let mut command = process::cargo(folder, &arguments[..1]);
    command.arg("--target-dir").arg(paths::target("")).args(&arguments[1..]);
    process::run(system::hint_libclang(&mut command)).with_context(|| format!("in {}", folder.display()))
}
