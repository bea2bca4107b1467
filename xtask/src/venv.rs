//! Python environments of their own below `target/`: the official DuckDB wheel and what tests and measurements need beside
//! it. Present and complete ones cost one look at a stamp file.

use crate::{paths, process};
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The DuckDB that everything here is about.
pub const DUCKDB: &str = "duckdb==2.0.0";

const PACKAGES: &[&str] =
    &[DUCKDB, "mypy>=1.18", "numpy>=2", "pandas>=2.2", "pyarrow>=18", "pytest>=8", "pytest-timeout>=2.3", "ruff>=0.14"];

const ENGINE_PACKAGES: &[&str] =
    &["adbc-driver-manager>=1.8", "numpy>=2", "pyarrow>=18", "pytest>=8", "pytest-timeout>=2.3"];

/// What people use DuckDB through.
const WORLD: &[&str] = &[
    DUCKDB,
    // Later ones bring a parser that downloads itself from elsewhere while it is installed.
    "dbt-core>=1.9,<1.11",
    "dbt-duckdb>=1.9",
    "duckdb-engine>=0.17",
    "ibis-framework[duckdb]>=10",
    "polars>=1",
    "pyarrow>=18",
    "pytest>=8",
    "pytest-timeout>=2.3",
];

/// A Python environment that exists and holds its packages.
pub struct Venv {
    folder: PathBuf,
}

impl Venv {
    /// The environment for tests and measurements, `target/venv`; made or repaired where needed.
    pub fn ensure() -> Result<Venv> {
        Venv::ensure_with("venv", PACKAGES)
    }

    /// The environment for the engine, `target/venv-engine`: no official DuckDB in it.
    pub fn for_engine() -> Result<Venv> {
        Venv::ensure_with("venv-engine", ENGINE_PACKAGES)
    }

    /// The environment for what people use DuckDB through, `target/venv-world`.
    pub fn for_world() -> Result<Venv> {
        Venv::ensure_with("venv-world", WORLD)
    }

    /// The environment in which the wheel has to do with nothing but the official DuckDB, `target/venv-wheel`.
    pub fn for_wheel() -> Result<Venv> {
        Venv::ensure_with("venv-wheel", &[DUCKDB])
    }

    /// An environment `target/<name>` with these packages.
    pub fn ensure_with(name: &str, packages: &[&str]) -> Result<Venv> {
        let venv = Venv { folder: paths::target(name) };
        let stamp = venv.folder.join("duckbpf.stamp");
        let wanted = packages.join("\n");
        if venv.python().exists() && fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
            return Ok(venv);
        }
        venv.create(packages).with_context(|| {
            format!("cannot make the Python environment {}; remove that folder to begin anew", venv.folder.display())
        })?;
        fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))?;
        Ok(venv)
    }

    /// Its interpreter.
    pub fn python(&self) -> PathBuf {
        self.folder.join("bin").join("python")
    }

    /// A command that runs its interpreter in a folder.
    pub fn command(&self, folder: &Path) -> Command {
        let mut command = Command::new(self.python());
        command.current_dir(folder).env_remove("PYTHONPATH").env_remove("PYTHONHOME");
        command
    }

    /// `pip install <arguments>`.
    pub fn pip_install(&self, arguments: &[&str]) -> Result<()> {
        // What is imported is compiled then.
        let options = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"];
        process::run(self.command(&paths::root()).args(options).args(arguments))
    }

    fn create(&self, packages: &[&str]) -> Result<()> {
        process::run(Command::new("python3").args(["-c", "import sys; sys.exit(sys.version_info < (3, 11))"]))
            .context("Python 3.11 or later is needed: for older ones there is no official wheel of DuckDB 2.0.0")?;
        eprintln!("making the Python environment {} ({})", self.folder.display(), packages.join(", "));
        process::run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&self.folder))
            .context("on Debian, `apt-get install python3-venv` brings what is missing")?;
        self.pip_install(packages)
    }
}
