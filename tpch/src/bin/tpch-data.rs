//! Makes the TPC-H database of one scale factor: `tpch-data --sf 1 --python target/venv/bin/python --out tpch-sf1.duckdb`.
//!
//! `tpchgen` produces the rows, as many parts at once as there are cores; they leave in order, as Arrow IPC streams, through a pipe into a
//! Python process of the official wheel, which stores them. Neither side holds more than a few parts of a table. The file
//! appears under its name only when it is complete; what a broken run left behind is removed by the next.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};
use std::thread;

use anyhow::{Context, Result, bail};
use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use arrow::record_batch::RecordBatchReader;
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize;
use tpchgen::generators::{
    CustomerGenerator, LineItemGenerator, NationGenerator, OrderGenerator, PartGenerator, PartSuppGenerator,
    RegionGenerator, SupplierGenerator,
};
use tpchgen_arrow::{
    CustomerArrow, LineItemArrow, NationArrow, OrderArrow, PartArrow, PartSuppArrow, RegionArrow, SupplierArrow,
};

const LOADER: &str = include_str!("../../python/load.py");
/// Rows of one Arrow batch. A multiple of DuckDB's vectors, small enough that a few of them are nothing beside the memory limit.
const BATCH_ROWS: usize = 61_440;
/// Rows of lineitem in one part, the unit that one thread generates.
const PART_ROWS: f64 = 500_000.0;
/// Disk space that a database takes per unit of scale, with room for what DuckDB writes while it loads. Bytes.
const DISK_PER_SF: f64 = 450e6;

#[derive(Parser)]
#[command(about = "Make the TPC-H database of one scale factor")]
struct Args {
    /// Scale factor: 0.01, 1, 20 ...
    #[arg(long)]
    sf: f64,
    /// Python with the official duckdb wheel and pyarrow
    #[arg(long)]
    python: PathBuf,
    /// The database file to make
    #[arg(long)]
    out: PathBuf,
    /// What DuckDB may use while it loads
    #[arg(long, default_value = "4GB")]
    memory: String,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    if !(args.sf > 0.0 && args.sf <= 100_000.0) {
        bail!("--sf {}: a scale factor lies between 0 and 100000", args.sf);
    }
    let folder = args.out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder).with_context(|| format!("cannot create the data folder {}", folder.display()))?;
    let _lock = lock(&with_suffix(&args.out, ".lock"))?;
    if args.out.exists() {
        return Ok(());
    }
    let partial = Partial::new(&args.out)?;
    check_disk(folder, args.sf)?;
    generate(args, &partial.file)?;
    partial.complete(&args.out)
}

/// One process at a time makes a file; who comes second waits and finds it made. The kernel frees the lock with its process.
fn lock(path: &Path) -> Result<File> {
    let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    if file.try_lock().is_err() {
        eprintln!("another process is making this data; waiting for it");
        file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
    }
    Ok(file)
}

fn check_disk(folder: &Path, sf: f64) -> Result<()> {
    let free = duckbpf_tpch::machine::free_disk(folder)?;
    let needed = (sf * DISK_PER_SF) as u64;
    if free < needed {
        bail!(
            "not enough disk space for scale factor {sf}: about {} MB are needed in {}, {} MB are free",
            needed / 1_000_000,
            folder.display(),
            free / 1_000_000
        );
    }
    Ok(())
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

/// The database while it grows. Dropped before it is complete, it takes every trace of itself along.
struct Partial {
    file: PathBuf,
}

impl Partial {
    fn new(out: &Path) -> Result<Self> {
        let partial = Self { file: with_suffix(out, ".partial") };
        partial
            .remove()
            .with_context(|| format!("cannot remove what an earlier run left at {}", partial.file.display()))?;
        Ok(partial)
    }

    fn remove(&self) -> io::Result<()> {
        let gone = |result: io::Result<()>| match result {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        };
        gone(fs::remove_file(&self.file))?;
        gone(fs::remove_file(with_suffix(&self.file, ".wal")))?;
        gone(fs::remove_dir_all(with_suffix(&self.file, ".tmp")))
    }

    fn complete(self, out: &Path) -> Result<()> {
        File::open(&self.file)
            .and_then(|file| file.sync_all())
            .with_context(|| format!("cannot flush {}", self.file.display()))?;
        fs::rename(&self.file, out)
            .with_context(|| format!("cannot rename {} to {}", self.file.display(), out.display()))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // After complete() there is nothing left to remove; a failure to remove is met again, and told, by the next run.
        let _ = self.remove();
    }
}

fn generate(args: &Args, file: &Path) -> Result<()> {
    let mut loader = Loader::start(args, file)?;
    let bar = bar(total_rows(args.sf))?;
    let result = loader.feed(args.sf, &bar);
    let verdict = loader.finish();
    bar.finish_and_clear();
    // A loader that failed says why; the broken pipe on our side is only its consequence.
    let stored = verdict?;
    let sent = result?;
    if stored != sent {
        bail!("the rows that DuckDB stored are not the rows that were generated: {stored:?}, not {sent:?}");
    }
    Ok(())
}

fn bar(rows: u64) -> Result<ProgressBar> {
    let style = ProgressStyle::with_template(
        "{msg:>9} [{bar:40}] {percent:>3}%  {human_pos} of {human_len} rows  {elapsed} gone, {eta} left",
    )?
    .progress_chars("=> ");
    Ok(ProgressBar::new(rows).with_style(style))
}

/// The Python process that stores what it reads.
struct Loader {
    child: Child,
    stdin: Option<ChildStdin>,
    says: BufReader<ChildStdout>,
}

/// What it says, one line each.
#[derive(Deserialize)]
#[serde(untagged)]
enum Said {
    Table { table: String, rows: u64 },
    Error { error: String },
    Done { done: bool },
}

impl Loader {
    fn start(args: &Args, file: &Path) -> Result<Self> {
        let mut child = Command::new(&args.python)
            .args(["-c", LOADER])
            .arg(file)
            .arg(&args.memory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", args.python.display()))?;
        let stdin = child.stdin.take().context("the loader has no stdin")?;
        let stdout = child.stdout.take().context("the loader has no stdout")?;
        widen(&stdin);
        Ok(Self { child, stdin: Some(stdin), says: BufReader::new(stdout) })
    }

    /// Sends all tables and returns their names and rows. The loader reads what it is sent, so it cannot run ahead or behind by
    /// more than the pipe holds.
    fn feed(&mut self, sf: f64, bar: &ProgressBar) -> Result<Vec<(String, u64)>> {
        let stdin = self.stdin.take().context("the loader was fed already")?;
        let mut pipe = BufWriter::with_capacity(1 << 20, stdin);
        let mut sent = Vec::new();
        for table in TABLES {
            bar.set_message(table.name);
            let rows = send(table, sf, &mut pipe, bar).with_context(|| format!("cannot send table {}", table.name))?;
            sent.push((table.name.to_owned(), rows));
        }
        pipe.flush()?;
        bar.set_message("storing");
        Ok(sent)
    }

    fn finish(mut self) -> Result<Vec<(String, u64)>> {
        drop(self.stdin.take());
        let mut stored = Vec::new();
        let mut done = false;
        for line in self.says.by_ref().lines() {
            let line = line?;
            match serde_json::from_str(&line)
                .with_context(|| format!("the loader said something unexpected: {line}"))?
            {
                Said::Table { table, rows } => stored.push((table, rows)),
                Said::Error { error } => bail!("DuckDB could not store the data: {error}"),
                Said::Done { done: said } => done = said,
            }
        }
        let status = self.child.wait()?;
        if !done || !status.success() {
            bail!("the loader ended early ({status})");
        }
        Ok(stored)
    }
}

/// A pipe holds 64 KiB unless told otherwise; with 1 MiB the two sides wait less for one another.
fn widen(pipe: &ChildStdin) {
    use std::os::fd::AsRawFd;
    // SAFETY: the descriptor is open as long as `pipe` lives; F_SETPIPE_SZ touches no memory. A refusal leaves the pipe as it is.
    unsafe { libc::fcntl(pipe.as_raw_fd(), libc::F_SETPIPE_SZ, 1 << 20) };
}

type Batches = Box<dyn RecordBatchReader + Send>;

struct Table {
    name: &'static str,
    /// Rows at scale factor 1; of lineitem about.
    rows: f64,
    /// Whether the rows grow with the scale factor.
    scales: bool,
    part: fn(f64, i32, i32) -> Batches,
}

const TABLES: [&Table; 8] = [
    &Table {
        name: "region",
        rows: 5.0,
        scales: false,
        part: |sf, n, of| Box::new(RegionArrow::new(RegionGenerator::new(sf, n, of)).with_batch_size(BATCH_ROWS)),
    },
    &Table {
        name: "nation",
        rows: 25.0,
        scales: false,
        part: |sf, n, of| Box::new(NationArrow::new(NationGenerator::new(sf, n, of)).with_batch_size(BATCH_ROWS)),
    },
    &Table {
        name: "supplier",
        rows: 10_000.0,
        scales: true,
        part: |sf, n, of| Box::new(SupplierArrow::new(SupplierGenerator::new(sf, n, of)).with_batch_size(BATCH_ROWS)),
    },
    &Table {
        name: "part",
        rows: 200_000.0,
        scales: true,
        part: |sf, n, of| Box::new(PartArrow::new(PartGenerator::new(sf, n, of)).with_batch_size(BATCH_ROWS)),
    },
    &Table {
        name: "partsupp",
        rows: 800_000.0,
        scales: true,
        part: |sf, n, of| Box::new(PartSuppArrow::new(PartSuppGenerator::new(sf, n, of)).with_batch_size(BATCH_ROWS)),
    },
    &Table {
        name: "customer",
        rows: 150_000.0,
        scales: true,
        part: |sf, n, of| Box::new(CustomerArrow::new(CustomerGenerator::new(sf, n, of)).with_batch_size(BATCH_ROWS)),
    },
    &Table {
        name: "orders",
        rows: 1_500_000.0,
        scales: true,
        part: |sf, n, of| Box::new(OrderArrow::new(OrderGenerator::new(sf, n, of)).with_batch_size(BATCH_ROWS)),
    },
    &Table {
        name: "lineitem",
        rows: 6_001_215.0,
        scales: true,
        part: |sf, n, of| Box::new(LineItemArrow::new(LineItemGenerator::new(sf, n, of)).with_batch_size(BATCH_ROWS)),
    },
];

impl Table {
    fn expected_rows(&self, sf: f64) -> f64 {
        if self.scales { self.rows * sf } else { self.rows }
    }

    fn parts(&self, sf: f64) -> i32 {
        if self.scales { (self.expected_rows(sf) / PART_ROWS).ceil().max(1.0) as i32 } else { 1 }
    }
}

fn total_rows(sf: f64) -> u64 {
    TABLES.iter().map(|table| table.expected_rows(sf) as u64).sum()
}

/// Sends one table as one stream and returns its rows.
///
/// Threads take the parts in order of their numbers; each part has a channel of its own that holds one batch, and the sender empties
/// the channels in the same order. So the rows keep the order of the specification's generator, and a thread that is ahead waits.
fn send(table: &Table, sf: f64, pipe: &mut impl Write, bar: &ProgressBar) -> Result<u64> {
    let parts = table.parts(sf);
    let schema = (table.part)(sf, 1, parts).schema();
    let mut stream = StreamWriter::try_new(pipe, &schema)?;
    let mut rows = 0;
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..parts).map(|_| sync_channel(1)).unzip();
    let jobs = Jobs::new(table, sf, senders);
    thread::scope(|scope| -> Result<()> {
        for _ in 0..thread::available_parallelism().map_or(2, usize::from).min(parts as usize) {
            scope.spawn(|| jobs.work());
        }
        // Taken by value: an error drops the channels that are left, and the threads behind them end.
        for part in receivers {
            rows += forward(part, &mut stream, bar)?;
        }
        Ok(())
    })?;
    stream.finish()?;
    Ok(rows)
}

type Item = Result<RecordBatch, ArrowError>;

fn forward(part: Receiver<Item>, stream: &mut StreamWriter<impl Write>, bar: &ProgressBar) -> Result<u64> {
    let mut rows = 0;
    for batch in part {
        let batch = batch?;
        stream.write(&batch)?;
        rows += batch.num_rows() as u64;
        bar.inc(batch.num_rows() as u64);
    }
    Ok(rows)
}

struct Jobs<'a> {
    table: &'a Table,
    sf: f64,
    next: AtomicUsize,
    senders: Vec<Mutex<Option<SyncSender<Item>>>>,
}

impl<'a> Jobs<'a> {
    fn new(table: &'a Table, sf: f64, senders: Vec<SyncSender<Item>>) -> Self {
        let senders = senders.into_iter().map(|sender| Mutex::new(Some(sender))).collect();
        Self { table, sf, next: AtomicUsize::new(0), senders }
    }

    fn work(&self) {
        loop {
            let part = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(sender) = self.senders.get(part) else { return };
            let Some(sender) = sender.lock().ok().and_then(|mut sender| sender.take()) else { return };
            for batch in (self.table.part)(self.sf, part as i32 + 1, self.senders.len() as i32) {
                if sender.send(batch).is_err() {
                    return;
                }
            }
        }
    }
}
