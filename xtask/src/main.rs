//! `cargo xtask ...`: the one entry for people and CI. Each command lives in a module of its own.

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

mod bench;
mod boot;
mod coverage;
mod engine;
mod extension;
mod fuzz;
mod graft;
mod hooks;
mod hosts;
mod instructions;
mod memcheck;
mod mutants;
mod paths;
mod policy;
mod process;
mod programs;
mod repository;
mod series;
mod state;
mod stress;
mod system;
mod test;
mod venv;
mod wheel;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Every command that people and CI run")]
struct Cli {
    /// Install missing system packages (as root on Debian); CI=true means the same
    #[arg(long, global = true)]
    yes: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Compile the patched units of DuckDB into the graft
    Graft(graft::Args),
    /// Build all of DuckDB, stock and with hooks, into target/engine: half an hour the first time
    Engine(engine::Args),
    /// Look after the patch series
    Series(series::Args),
    /// Look at every official wheel and write graft/hosts.json
    Hosts(hosts::Args),
    /// Compile extensions-c/*/program.bpf.c into target/bpf/
    Programs(programs::Args),
    /// Build the loadable extension, with the graft inside, and install it where LOAD finds it
    Extension(extension::Args),
    /// Sign the extension and make a repository to INSTALL it from, with signatures on
    Repository(repository::Args),
    /// Build the Python wheel: extension, gallery and command; installing it needs no compiler
    Wheel(wheel::Args),
    /// Make target/venv: the official DuckDB wheel and what tests and measurements need beside it
    Venv,
    /// Run every check: fmt, clippy, Rust, SQL and Python tests
    Test(test::Args),
    /// Look for programs that the verifier should not have accepted
    Fuzz(fuzz::Args),
    /// Count which regions of the verifier corpus, tests and fuzzing reach
    Coverage(coverage::Args),
    /// Change the verifier's numbers in every way, and see whether their tests notice: hours
    Mutants(mutants::Args),
    /// Swap programs from many threads beside queries
    Stress(stress::Args),
    /// Run the runtime's unsafe parts under valgrind
    Memcheck(memcheck::Args),
    /// Measure
    Bench(bench::Args),
    /// Everything once, from nothing: build, SF1, the comparison, a live swap
    Demo(bench::DemoArgs),
}

impl Command {
    fn needs(&self) -> &'static [system::Package] {
        match self {
            Command::Graft(_) | Command::Engine(_) | Command::Programs(_) => {
                &[system::Package::Clang, system::Package::Lld]
            }
            Command::Extension(_) | Command::Fuzz(_) => system::COMPILERS,
            Command::Coverage(_) => system::COVERAGE,
            Command::Repository(_) => system::SIGNING,
            Command::Wheel(_) => system::ALL,
            Command::Series(_) => &[system::Package::Patch],
            Command::Hosts(_) | Command::Venv => &[system::Package::PythonVenv],
            Command::Mutants(_) => &[],
            Command::Test(args) if args.engine => system::ENGINE,
            Command::Memcheck(_) => system::MEMCHECK,
            Command::Test(_) | Command::Stress(_) | Command::Bench(_) | Command::Demo(_) => system::ALL,
        }
    }
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The causes in one line each; a backtrace would tell a user nothing.
            eprintln!("error: {error}");
            error.chain().skip(1).for_each(|cause| eprintln!("  because: {cause}"));
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<()> {
    let may_install = cli.yes || std::env::var("CI").is_ok_and(|ci| ci == "true" || ci == "1");
    system::require(cli.command.needs(), may_install)?;
    match cli.command {
        Command::Graft(args) => graft::run(args),
        Command::Engine(args) => engine::run(args),
        Command::Series(args) => series::run(args),
        Command::Hosts(args) => hosts::run(args),
        Command::Programs(args) => programs::run(args),
        Command::Extension(args) => extension::run(args),
        Command::Repository(args) => repository::run(args),
        Command::Wheel(args) => wheel::run(args),
        Command::Venv => venv::Venv::ensure().map(|venv| println!("{}", venv.python().display())),
        Command::Test(args) => test::run(args),
        Command::Fuzz(args) => fuzz::run(args),
        Command::Coverage(args) => coverage::run(args),
        Command::Mutants(args) => mutants::run(args),
        Command::Stress(args) => stress::run(args),
        Command::Memcheck(args) => memcheck::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Demo(args) => bench::demo(args),
    }
}
