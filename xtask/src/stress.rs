//! `cargo xtask stress`: programs swapped from many threads beside queries that spill, for as long as it is told. `cargo xtask test`
//! does the same for seconds (tests/e2e/test_stress.py).

use crate::venv::Venv;
use crate::{extension, graft, paths, process, programs};
use anyhow::Result;

#[derive(clap::Args)]
pub struct Args {
    /// How long
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// Take the extension and the programs as they were built last
    #[arg(long)]
    no_build: bool,
}

pub fn run(args: Args) -> Result<()> {
    if !args.no_build {
        graft::run(graft::Args {})?;
        programs::compile_all(&paths::programs(), "v4")?;
        extension::build()?;
    }
    let venv = Venv::ensure()?;
    let folder = paths::root().join("tests");
    let mut command = venv.command(&folder);
    command.args(["-m", "pytest", "-p", "no:cacheprovider", "e2e/test_stress.py"]);
    process::run(command.env("DUCKBPF_STRESS_SECONDS", (60 * args.minutes).to_string()))
}
