//! `cargo xtask test`: everything that can be checked, step by step, with the time of each.

use crate::venv::Venv;
use crate::{bench, engine, extension, instructions, paths, process, programs, series, system, wheel};
use anyhow::{Context, Result, bail};
use duckbpf_patch::compile::Toolchain;
use duckbpf_patch::engine::Kind;
use std::path::Path;
use steps::Done;

mod steps;

/// A DuckDB that the extension must refuse.
const OTHER_DUCKDB: &str = "duckdb==1.5.6";

#[derive(clap::Args)]
pub struct Args {
    /// Begin no step after one that failed
    #[arg(long)]
    fail_fast: bool,
    /// Only the steps whose name holds this word, and the builds that they need are taken as done
    #[arg(long)]
    only: Option<String>,
    /// The tests of the engine instead, which build it where it is missing: half an hour the first time
    #[arg(long)]
    pub engine: bool,
    /// This step, here and now
    #[arg(long, hide = true)]
    step: Option<String>,
}

/// A part of the tests, which runs in a process of its own.
struct Step {
    name: &'static str,
    /// Steps that are over before, however they ended.
    after: &'static [&'static str],
    run: fn() -> Result<()>,
}

const fn step(name: &'static str, after: &'static [&'static str], run: fn() -> Result<()>) -> Step {
    Step { name, after, run }
}

/// Quick checks first, then what the tests need, then the tests. The extension keeps one processor busy for long: the other one
/// meanwhile has all that goes to cargo's usual folder, one behind the other, as cargo would have it anyway.
const STEPS: &[Step] = &[
    step("fmt", &[], format),
    step("build programs", &["fmt"], build_programs),
    step("build extension", &["build programs"], build_extension),
    step("python environments", &["build programs"], make_venvs),
    step("python lint", &["python environments"], python_lint),
    step("clippy", &["python environments"], clippy),
    step("tpc-h data", &["clippy"], bench::test_data),
    step("build tests", &["tpc-h data"], build_tests),
    step("wheel", &["build tests", "build extension", "python lint"], wheel),
    step("rust tests", &["build tests", "build extension"], rust_tests),
    step("python tests", &["wheel"], python_tests),
    step("python's world", &["python tests"], python_world),
    step("sql and end-to-end tests", &["python's world"], database_tests),
    step("harness", &["rust tests", "sql and end-to-end tests"], bench::check),
];

/// What the engine's tests need, then they.
const ENGINE_STEPS: &[Step] = &[
    step("python environments", &[], || make_at_once(&[&Venv::ensure, &Venv::for_engine])),
    step("build programs", &[], build_programs),
    step("engine", &["python environments"], || engine::build(Toolchain::Clang)),
    step("tpc-h data", &["python environments", "build programs"], bench::test_data),
    step("series", &["engine"], series::check_pinned),
    step("build extension", &["engine", "build programs"], build_extension),
    step("clippy", &["engine", "tpc-h data"], engine_clippy),
    step("rust tests", &["clippy", "build extension"], engine_rust_tests),
    step("sql and end-to-end tests", &["tpc-h data", "series", "build extension"], engine_database_tests),
    step("engine tests", &["rust tests", "sql and end-to-end tests"], || engine_pytest(&["engine"])),
    step("instructions", &["rust tests", "sql and end-to-end tests"], count_instructions),
    step("harness", &["engine tests", "instructions"], bench::check_engine),
];

pub fn run(args: Args) -> Result<()> {
    let steps = if args.engine { ENGINE_STEPS } else { STEPS };
    if let Some(name) = &args.step {
        let step = steps.iter().find(|step| step.name == name).context("no step of that name")?;
        return steps::run_here(step.run);
    }
    let wanted = |name: &str| args.only.as_deref().is_none_or(|only| name.contains(only));
    let chosen: Vec<&Step> = steps.iter().filter(|step| wanted(step.name)).collect();
    summarise(&steps::run(&chosen, args.engine, args.fail_fast)?)
}

fn summarise(done: &[Done]) -> Result<()> {
    println!("\n=== summary: seconds, and those of all processors together");
    for Done { name, took, processors, succeeded } in done {
        let result = if *succeeded { "ok" } else { "FAILED" };
        println!("{name:<28}{:>8.1} {:>8.1}  {result}", took.as_secs_f64(), processors.as_secs_f64());
    }
    let failed: Vec<&str> = done.iter().filter(|step| !step.succeeded).map(|step| step.name).collect();
    match failed.as_slice() {
        [] if done.is_empty() => bail!("no step of that name"),
        [] => Ok(()),
        failed => bail!("failed: {}", failed.join(", ")),
    }
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

const RUST_TESTS: &[&str] = &["test", "--workspace", "--locked", "--quiet"];
/// What no release holds. Of the whole workspace: of one package, what it builds on would have other features, and be built again.
const UNRELEASED_TESTS: &[&str] = &[
    "test",
    "--workspace",
    "--lib",
    "--bin",
    "duckbpf",
    "--test",
    "conformance",
    "--features",
    "duckbpf/conformance,duckbpf-runtime/conformance,duckbpf-runtime/planted",
    "--locked",
    "--quiet",
];

fn build_tests() -> Result<()> {
    let no_run = |tests: &[&'static str]| [tests, &["--no-run"]].concat();
    workspaces().iter().try_for_each(|folder| cargo(folder, &no_run(RUST_TESTS)))?;
    cargo(&paths::root(), &no_run(UNRELEASED_TESTS))
}

fn rust_tests() -> Result<()> {
    workspaces().iter().try_for_each(|folder| cargo(folder, RUST_TESTS))?;
    cargo(&paths::root(), &[UNRELEASED_TESTS, &["--", "conformance", "planted", "interpreted"]].concat())
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

fn engine_database_tests() -> Result<()> {
    engine_pytest(&["sql", "e2e"])
}

fn engine_pytest(folders: &[&str]) -> Result<()> {
    let mut command = Venv::for_engine()?.command(&paths::root().join("tests"));
    command.args(["-m", "pytest", "-p", "no:cacheprovider"]).args(folders);
    process::run(engine::drive(&mut command, &engine::find()?.library(Kind::Hooked)))
}

fn count_instructions() -> Result<()> {
    instructions::run(instructions::Args::check())
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

fn cargo(folder: &Path, arguments: &[&str]) -> Result<()> {
    let mut command = process::cargo_here(folder, arguments);
    process::run(system::hint_libclang(&mut command)).with_context(|| format!("in {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Else none of them would ever begin.
    #[test]
    fn a_step_waits_for_steps_above_it() {
        for steps in [STEPS, ENGINE_STEPS] {
            for (index, step) in steps.iter().enumerate() {
                for name in step.after {
                    assert!(steps[..index].iter().any(|above| above.name == *name), "{} waits for {name}", step.name);
                }
            }
        }
    }
}
