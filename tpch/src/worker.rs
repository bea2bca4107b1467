//! One process of the official wheel, or of an engine in its stead, driven by JSON lines (`python/worker.py`).
//!
//! The wheel's library needs Python's symbols and cannot be linked, so each run of each configuration is such a process.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::queries::Query;

const SCRIPT: &str = include_str!("../python/worker.py");
/// A worker that is silent for so long hangs: no query of any sensible scale factor takes an hour.
const PATIENCE: Duration = Duration::from_secs(3600);

/// What a worker gets to close its database before it is killed.
const FAREWELL: Duration = Duration::from_secs(5);
/// Between two swaps under load.
const SWAP_PAUSE: Duration = Duration::from_millis(10);

/// A DuckDB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// The official wheel, in this Python's environment.
    Wheel { python: PathBuf },
    /// A libduckdb, which the Python module in a folder (python/engine) drives as `duckdb`.
    Library { python: PathBuf, module: PathBuf, library: PathBuf },
}

impl Host {
    fn command(&self) -> Command {
        let (Host::Wheel { python } | Host::Library { python, .. }) = self;
        let mut command = Command::new(python);
        command.env_remove("PYTHONPATH");
        if let Host::Library { module, library, .. } = self {
            command.env("PYTHONPATH", module).env("DUCKBPF_LIBRARY", library);
        }
        command
    }
}

/// How a worker opens the data.
#[derive(Clone, Debug)]
pub struct Setup {
    /// What the others are compared with.
    pub stock: Host,
    /// Where hooks are, or come to be: the same as stock where the graft carries them.
    pub hooked: Host,
    pub database: PathBuf,
    /// The extension, loaded where the configuration says so.
    pub extension: PathBuf,
    /// DuckDB's `threads`.
    pub threads: usize,
    /// DuckDB's `memory_limit`; None: its default.
    pub memory: Option<String>,
}

impl Setup {
    /// The official wheel in this Python's environment, on all cores.
    pub fn of_wheel(python: PathBuf, database: PathBuf, extension: PathBuf) -> Self {
        let wheel = Host::Wheel { python };
        let threads = thread::available_parallelism().map_or(1, usize::from);
        Self { stock: wheel.clone(), hooked: wheel, database, extension, threads, memory: None }
    }
}

/// What is in force in a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hooks {
    /// The extension is not loaded.
    Stock,
    /// It is loaded, and these programs are set; none: detached.
    Loaded(Vec<PathBuf>),
    /// The same, and somebody watches them as `duckbpf top` does: calls are timed, and the numbers asked for once a second.
    Watched(Vec<PathBuf>),
    /// Another DuckDB, without hooks, for information.
    Other(Host),
}

/// A result.
#[derive(Debug, Deserialize)]
pub struct Rows {
    pub columns: Vec<String>,
    pub rows: Vec<Vec<Value>>,
}

/// One execution of a query.
#[derive(Debug, Deserialize)]
pub struct Timing {
    /// That the process was running, of its span.
    pub seconds: f64,
    /// From the start to the end, by the monotonic clock.
    pub span_ns: [u64; 2],
    /// Of the result.
    pub digest: String,
}

/// Hook calls of one warm run of a query.
#[derive(Debug, Deserialize)]
pub struct Calls {
    pub calls: BTreeMap<String, u64>,
    pub hash_keys: u64,
}

/// Reloads of one program. Nanoseconds, one value a reload.
#[derive(Debug, Deserialize)]
pub struct Reloads {
    /// The whole statement, as its client sees it.
    pub total_ns: Vec<u64>,
    pub read_ns: Vec<u64>,
    pub parse_ns: Vec<u64>,
    pub check_ns: Vec<u64>,
    pub compile_ns: Vec<u64>,
    /// The test of a hash program's quality.
    pub quality_ns: Vec<u64>,
    pub publish_ns: Vec<u64>,
}

/// What became of queries that ran while programs were swapped.
#[derive(Debug, Deserialize)]
pub struct Swapped {
    pub results: u64,
    pub wrong: u64,
    pub failed: u64,
    pub swap_ns: Vec<u64>,
}

/// A running worker; it ends when it is dropped.
pub struct Worker {
    child: Child,
    /// Closed to let it end.
    stdin: Option<ChildStdin>,
    answers: Receiver<std::io::Result<String>>,
}

impl Worker {
    /// Starts a process and opens the data in it.
    pub fn start(setup: &Setup, hooks: &Hooks) -> Result<Self> {
        let host = match hooks {
            Hooks::Stock => &setup.stock,
            Hooks::Loaded(_) | Hooks::Watched(_) => &setup.hooked,
            Hooks::Other(host) => host,
        };
        let mut command = host.command();
        command.args(["-c", SCRIPT]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child =
            command.spawn().with_context(|| format!("cannot start {}", command.get_program().to_string_lossy()))?;
        let stdin = child.stdin.take().context("the worker has no stdin")?;
        let stdout = child.stdout.take().context("the worker has no stdout")?;
        let (sender, answers) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut worker = Self { child, stdin: Some(stdin), answers };
        worker.open(setup, hooks)?;
        Ok(worker)
    }

    fn open(&mut self, setup: &Setup, hooks: &Hooks) -> Result<()> {
        let (extension, programs) = match hooks {
            Hooks::Stock | Hooks::Other(_) => (None, [].as_slice()),
            Hooks::Loaded(programs) | Hooks::Watched(programs) => (Some(&setup.extension), programs.as_slice()),
        };
        self.ask::<Value>(json!({
            "op": "open", "file": setup.database, "threads": setup.threads, "memory": setup.memory,
            "extension": extension, "programs": programs, "watched": matches!(hooks, Hooks::Watched(_)),
        }))
        .map(drop)
    }

    /// Runs a query once and times it; `cold`: with nothing of the data in memory.
    pub fn time(&mut self, query: &Query, cold: bool) -> Result<Timing> {
        self.ask(Self::timed(query, cold)).with_context(|| format!("query {}", query.number))
    }

    fn timed(query: &Query, cold: bool) -> Value {
        json!({"op": "time", "sql": query.sql, "order": query.order, "cold": cold})
    }

    /// Lets a query begin as soon as the process runs. `timing_within` has its end.
    pub(crate) fn begin(&mut self, query: &Query) -> Result<()> {
        self.send(Self::timed(query, false))
    }

    /// What became of a query that began; None while it runs, after `patience`.
    pub(crate) fn timing_within(&mut self, patience: Duration) -> Result<Option<Timing>> {
        self.receive_within(patience)?.map(serde_json::from_value).transpose().context("the worker told no times")
    }

    /// Stops the process, and returns when all its threads stand still. Nothing happens to one that ended.
    pub(crate) fn pause(&self) -> Result<()> {
        rustix::process::kill_process(self.pid(), Signal::STOP).context("cannot stop the worker")?;
        // NOWAIT leaves the status of one that ended to whoever asks for it later.
        let stopped = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        rustix::io::retry_on_intr(|| rustix::process::waitid(WaitId::Pid(self.pid()), stopped))
            .context("cannot wait until the worker stands still")?;
        Ok(())
    }

    /// Lets a process that was stopped go on.
    pub(crate) fn resume(&self) -> Result<()> {
        rustix::process::kill_process(self.pid(), Signal::CONT).context("cannot let the worker go on")
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// The rows of a query.
    pub fn rows(&mut self, sql: &str) -> Result<Rows> {
        self.ask(json!({"op": "rows", "sql": sql}))
    }

    /// How often a query calls each hook.
    pub fn count(&mut self, query: &Query) -> Result<Calls> {
        self.ask(json!({"op": "count", "sql": query.sql})).with_context(|| format!("query {}", query.number))
    }

    /// Reloads a program that is attached.
    pub fn reload(&mut self, program: &Path, repeats: usize) -> Result<Reloads> {
        self.ask(json!({"op": "reload", "program": program, "repeats": repeats}))
            .with_context(|| format!("reloading {}", program.display()))
    }

    /// Nanoseconds of statements that do nothing.
    pub fn statements(&mut self, repeats: usize) -> Result<Vec<u64>> {
        self.ask(json!({"op": "statement", "repeats": repeats}))
    }

    /// Sets `sets` in turn, every few milliseconds, while `clients` connections run queries whose results have these digests.
    pub fn swap(
        &mut self,
        queries: &[(&Query, &str)],
        clients: usize,
        seconds: f64,
        sets: &[Vec<PathBuf>],
    ) -> Result<Swapped> {
        let queries: Vec<_> = queries.iter().map(|(query, digest)| json!([query.sql, query.order, digest])).collect();
        let pause = SWAP_PAUSE.as_secs_f64();
        self.ask(json!({
            "op": "swap", "queries": queries, "clients": clients, "seconds": seconds, "pause_s": pause, "sets": sets,
        }))
    }

    fn ask<T: DeserializeOwned>(&mut self, request: Value) -> Result<T> {
        self.send(request)?;
        let answer = self.receive()?;
        serde_json::from_value(answer).context("the worker's answer is not what was asked for")
    }

    fn send(&mut self, request: Value) -> Result<()> {
        let mut line = request.to_string();
        line.push('\n');
        let stdin = self.stdin.as_mut().context("the worker was told to end")?;
        // A worker that died is told better by its missing answer.
        let _ = stdin.write_all(line.as_bytes());
        Ok(())
    }

    fn receive(&mut self) -> Result<Value> {
        let answer = self.receive_within(PATIENCE)?;
        answer.with_context(|| format!("the worker has been silent for {} s", PATIENCE.as_secs()))
    }

    /// An answer, if it comes in time.
    fn receive_within(&mut self, patience: Duration) -> Result<Option<Value>> {
        let line = match self.answers.recv_timeout(patience) {
            Ok(line) => line.context("cannot read the worker's answer")?,
            Err(RecvTimeoutError::Timeout) => return Ok(None),
            Err(RecvTimeoutError::Disconnected) => {
                bail!("the worker ended ({}); its last words are above", self.child.wait()?)
            }
        };
        let answer: Value =
            serde_json::from_str(&line).with_context(|| format!("the worker said something unexpected: {line}"))?;
        match answer.get("error").and_then(Value::as_str) {
            Some(error) => bail!("{error}"),
            None => Ok(Some(answer)),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.stdin.take());
        // Its stdout closes when it ends, which takes DuckDB some milliseconds; after an error it may be in the middle of a query.
        while self.answers.recv_timeout(FAREWELL).is_ok() {}
        // Both fail only when it ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
