//! `duckbpf doctor`: what this DuckDB, kernel and machine allow, and what to do where they do not.

mod system;

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context, Result};
use duckbpf::compile::Compiler;
use duckbpf_control::{Hello, Request};
use duckbpf_graft::known_builds;
use object::Object;
use serde::Serialize;

use crate::{output::table, socket::Client};

/// Say what this DuckDB, kernel and machine allow, and what to do. Ends with 1 if programs cannot run here.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    client: Client,
    /// The Python whose duckdb is looked at [default: that of the environment in which this command lies, or else python3]
    #[arg(long)]
    python: Option<PathBuf>,
    /// A DuckDB library to look at, instead of Python's
    #[arg(long)]
    library: Option<PathBuf>,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    what: &'static str,
    state: State,
    found: String,
    /// What to do, where there is something.
    advice: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    /// Something works less well, or cannot be used.
    Warning,
    /// Programs cannot run.
    Failure,
}

impl Finding {
    fn ok(what: &'static str, found: impl Into<String>) -> Finding {
        Finding { what, state: State::Ok, found: found.into(), advice: None }
    }

    fn new(what: &'static str, state: State, found: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding { what, state, found: found.into(), advice: Some(advice.into()) }
    }
}

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let mut findings =
        vec![duckdb(arguments), processor(), kernel(), membarrier(), memfd(), code(), bpf(), perf(), clang()];
    findings.push(extension());
    findings.extend(live(&arguments.client));
    arguments.client.print(&findings, || text(&findings))?;
    let failed = findings.iter().any(|finding| finding.state == State::Failure);
    Ok(ExitCode::from(u8::from(failed)))
}

fn text(findings: &[Finding]) -> String {
    let row = |finding: &Finding| {
        let state = match finding.state {
            State::Ok => "ok",
            State::Warning => "warning",
            State::Failure => "FAILURE",
        };
        vec![finding.what.to_owned(), state.to_owned(), finding.found.clone()]
    };
    let mut text = table(&["what", "state", "found"], findings.iter().map(row));
    for finding in findings {
        if let Some(advice) = &finding.advice {
            text.push_str(&format!("\n{}: {advice}", finding.what));
        }
    }
    text
}

fn duckdb(arguments: &Arguments) -> Finding {
    const WHAT: &str = "DuckDB";
    let path = match &arguments.library {
        Some(path) => Ok(path.clone()),
        None => library_of(&arguments.python.clone().unwrap_or_else(python_nearby)),
    };
    let build = path.and_then(|path| build_id(&path).map(|build| (path, build)));
    match build {
        Err(error) => Finding::new(
            WHAT,
            State::Warning,
            format!("{error:#}"),
            "pip install duckdb==2.0.0; --python or --library says where another one is",
        ),
        Ok((path, build)) => match known_builds().iter().find(|known| known.build_id == build) {
            Some(known) => {
                Finding::ok(WHAT, format!("{} at {}: known, {}", known.version, path.display(), known.wheel))
            }
            None => Finding::new(
                WHAT,
                State::Failure,
                format!("{}: build id {build} is not known", path.display()),
                "the graft takes the official wheels of DuckDB 2.0.0 for x86-64 Linux: pip install duckdb==2.0.0. Programs that link \
                 DuckDB use the engine (cargo xtask engine)",
            ),
        },
    }
}

/// The Python that shares a folder with this command, as in an environment where the wheel is installed.
fn python_nearby() -> PathBuf {
    let nearby = std::env::current_exe().ok().map(|command| command.with_file_name("python3"));
    nearby.filter(|python| python.exists()).unwrap_or_else(|| "python3".into())
}

/// The library that `import duckdb` loads.
fn library_of(python: &Path) -> Result<PathBuf> {
    let code = "import importlib.util as u; s = u.find_spec('_duckdb'); print(s.origin if s else '')";
    let output = Command::new(python).args(["-c", code]).output();
    let output = output.with_context(|| format!("{} cannot be started", python.display()))?;
    let path = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    anyhow::ensure!(!path.is_empty(), "{} has no duckdb", python.display());
    Ok(path.into())
}

fn build_id(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
    let file = object::File::parse(&*bytes).with_context(|| format!("{} is no library", path.display()))?;
    let id = file.build_id().with_context(|| path.display().to_string())?;
    let id = id.with_context(|| format!("{} has no build id", path.display()))?;
    Ok(id.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(not(target_arch = "x86_64"))]
fn processor() -> Finding {
    let advice = "programs are interpreted, which takes longer: machine code is made for x86-64 alone";
    Finding::new("processor", State::Warning, std::env::consts::ARCH, advice)
}

#[cfg(target_arch = "x86_64")]
fn processor() -> Finding {
    const WHAT: &str = "processor";
    match duckbpf_runtime::check_processor() {
        Ok(()) => {
            let wide = if is_x86_feature_detected!("avx2") {
                "AVX2: hash programs take four keys at a time"
            } else {
                "no AVX2"
            };
            Finding::ok(WHAT, format!("x86-64 with BMI2; {wide}"))
        }
        Err(error) => {
            Finding::new(WHAT, State::Failure, error.to_string(), "a processor of 2013 (Haswell) or later is needed")
        }
    }
}

fn kernel() -> Finding {
    Finding::ok("kernel", format!("Linux {}", system::release()))
}

fn membarrier() -> Finding {
    const WHAT: &str = "membarrier";
    let advice = "programs work; a swap waits some 20 ms longer. Allow membarrier(2) in the sandbox's rules (Docker's default does)";
    match system::membarrier() {
        Ok(true) => Finding::ok(WHAT, "private expedited"),
        Ok(false) => Finding::new(WHAT, State::Warning, "without the expedited command", advice),
        Err(error) => Finding::new(WHAT, State::Warning, format!("refused: {error}"), advice),
    }
}

fn memfd() -> Finding {
    match system::memfd() {
        Ok(()) => Finding::ok("memfd", "allowed"),
        Err(error) => {
            let advice = "LOAD needs it: allow memfd_create(2) in the sandbox's rules (Docker's default does)";
            Finding::new("memfd", State::Failure, format!("refused: {error}"), advice)
        }
    }
}

fn code() -> Finding {
    const WHAT: &str = "machine code";
    match system::executable_memory() {
        Ok(()) => Finding::ok(WHAT, "memory can be made executable"),
        Err(error) => {
            let advice = "a sandbox forbids code that is made at run time (systemd: MemoryDenyWriteExecute=no; SELinux: execmem)";
            Finding::new(WHAT, State::Failure, format!("refused: {error}"), advice)
        }
    }
}

fn bpf() -> Finding {
    const WHAT: &str = "bpf(2)";
    match system::bpf() {
        Ok(()) => Finding::ok(WHAT, "allowed; programs do not need it, bpftrace on our USDT probes does"),
        Err(error) => {
            Finding::ok(WHAT, format!("refused ({error}); programs do not need it, bpftrace on our USDT probes does"))
        }
    }
}

fn perf() -> Finding {
    const WHAT: &str = "perf map";
    let paranoid = std::fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").unwrap_or_default();
    let paranoid = if paranoid.is_empty() { "unknown".to_owned() } else { paranoid.trim().to_owned() };
    let folder = Path::new("/tmp");
    match tempfile::tempfile_in(folder) {
        Ok(_) => Finding::ok(
            WHAT,
            format!("perf can name programs by /tmp/perf-<pid>.map; perf_event_paranoid is {paranoid}"),
        ),
        Err(error) => Finding::new(
            WHAT,
            State::Warning,
            format!("/tmp: {error}"),
            "without a /tmp that can be written to perf shows no names",
        ),
    }
}

fn clang() -> Finding {
    match Compiler::find() {
        Ok(compiler) => Finding::ok("clang", format!("{} at {}", compiler.version, compiler.path.display())),
        Err(error) => Finding::new(
            "clang",
            State::Warning,
            "none",
            format!("{error}. Without it compile, new and trace do not work"),
        ),
    }
}

fn extension() -> Finding {
    const WHAT: &str = "extension";
    let Some(home) = std::env::home_dir() else {
        return Finding::new(
            WHAT,
            State::Warning,
            "no home folder",
            "SET extension_directory says where else LOAD looks",
        );
    };
    let folder = home.join(".duckdb/extensions/v2.0.0/linux_amd64");
    let places =
        [folder.join("repositories/duckbpf/duckbpf.duckdb_extension"), folder.join("duckbpf.duckdb_extension")];
    match places.iter().find(|place| place.is_file()) {
        Some(place) => Finding::ok(WHAT, place.display().to_string()),
        None => {
            let advice = "in Python duckbpf.load(con) installs it; in SQL, the book's page on installing says how";
            Finding::new(WHAT, State::Warning, "not installed", advice)
        }
    }
}

/// The database behind the socket, where one is named.
fn live(client: &Client) -> Option<Finding> {
    const WHAT: &str = "live database";
    if !client.names_a_database() {
        return None;
    }
    let hello = client.connect().and_then(|mut socket| socket.ask::<Hello>(&Request::Hello));
    Some(match hello {
        Ok(Hello { version, pid, duckdb, carrier, .. }) => {
            Finding::ok(WHAT, format!("process {pid}: DuckDB {duckdb}, hooks by {carrier}, duckbpf {version}"))
        }
        Err(error) => {
            Finding::new(WHAT, State::Failure, format!("{error:#}"), "SET hook_socket = '/path' in the database")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_build_is_a_failure_and_no_library_a_warning() {
        let arguments =
            |library: PathBuf| Arguments { client: Client::nowhere(), python: None, library: Some(library) };
        let own = std::env::current_exe().unwrap();
        // Linkers of ours write a build id, or none: either way it is no DuckDB.
        assert_ne!(duckdb(&arguments(own)).state, State::Ok);
        assert_eq!(duckdb(&arguments("/nonexistent".into())).state, State::Warning);
    }

    #[test]
    fn advice_follows_the_table() {
        let findings = [Finding::ok("kernel", "6.1"), Finding::new("clang", State::Warning, "none", "install it")];
        let text = text(&findings);
        assert!(text.ends_with("clang: install it"), "{text}");
        assert!(text.contains("warning"), "{text}");
    }
}
