//! `duckbpf record`: a trace of the blocks that a live database loads, lets go of and evicts, for `duckbpf replay`.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::PathBuf,
    process::ExitCode,
    sync::mpsc::RecvTimeoutError,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use duckbpf_control::{Attached, Events, Fields, Request};
use serde_json::Value;

use crate::{
    output::count,
    replay::trace::{Block, Event, Kind, write_head},
    signal::on_signal,
    socket::{Address, Socket},
};

const SOURCE: &str = include_str!("record.bpf.c");
/// Between two looks for events.
const LOOK: Duration = Duration::from_millis(50);
/// Records that one answer brings.
const RECORDS: usize = 20_000;

/// Write a trace of a live database's loads, unpins and evictions, which `duckbpf replay` plays.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    address: Address,
    /// The trace
    #[arg(short, long, value_name = "FILE", default_value = "duckbpf.trace")]
    output: PathBuf,
    /// End after so many seconds; otherwise with Ctrl-C
    #[arg(short, long, value_name = "SECONDS")]
    duration: Option<f64>,
    /// Programs that hold load, unpin or evict give way, until they are attached again by hand
    #[arg(long)]
    replace: bool,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let ended = on_signal()?;
    let path = arguments.output.display().to_string();
    let mut recorder = Recorder::begin(arguments)?;
    let end = arguments.duration.map(|seconds| Instant::now() + Duration::from_secs_f64(seconds.clamp(0.0, 1e9)));
    let mut result = Ok(());
    while result.is_ok() && end.is_none_or(|end| Instant::now() < end) {
        if !matches!(ended.recv_timeout(LOOK), Err(RecvTimeoutError::Timeout)) {
            break;
        }
        result = recorder.drain();
    }
    let (events, lost) = recorder.end(result)?;
    if events == 0 {
        bail!("{path}: no block of a database file was loaded meanwhile: there is nothing to replay");
    }
    println!("{path}: {} events", count(events));
    if lost > 0 {
        eprintln!("{} events were lost: the ring was full; what is replayed is not what happened", count(lost));
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

struct Recorder {
    socket: Socket,
    /// The program's name in the database.
    name: String,
    path: PathBuf,
    out: BufWriter<File>,
    /// Nanoseconds of the first event.
    start: Option<u64>,
    events: u64,
    lost: u64,
}

impl Recorder {
    fn begin(arguments: &Arguments) -> Result<Recorder> {
        let mut socket = arguments.address.connect()?;
        let path = arguments.output.clone();
        let out = BufWriter::new(File::create(&path).with_context(|| path.display().to_string())?);
        let folder = tempfile::tempdir().context("a folder for the program")?;
        let name = format!("record_{}", std::process::id());
        let (source, object) =
            (folder.path().join(format!("{name}.bpf.c")), folder.path().join(format!("{name}.bpf.o")));
        std::fs::write(&source, SOURCE).with_context(|| source.display().to_string())?;
        duckbpf::compile::compile(&source, &object, &[])?;
        let object = object.to_str().context("the folder for temporary files is no UTF-8")?.to_owned();
        let attach = Request::Attach { path: object, replace: arguments.replace, params: Fields::new() };
        let attached: Attached = socket.ask(&attach)?;
        eprintln!("recording; Ctrl-C ends it");
        for gone in &attached.displaced {
            eprintln!("{gone} gave way");
        }
        Ok(Recorder { socket, name, path, out, start: None, events: 0, lost: 0 })
    }

    /// Writes what has happened since the last look.
    fn drain(&mut self) -> Result<()> {
        loop {
            let map = format!("{}/events", self.name);
            let events: Events = self.socket.ask(&Request::Events { map, most: Some(RECORDS), follow: false })?;
            self.lost = events.lost;
            for record in &events.records {
                self.write(record)?;
            }
            if events.records.len() < RECORDS {
                return Ok(());
            }
        }
    }

    fn write(&mut self, record: &Value) -> Result<()> {
        let field = |name: &str| record[name].as_u64().with_context(|| format!("an event without {name}"));
        let (time_ns, limit) = (field("time_ns")?, field("limit")?);
        let path = || self.path.display().to_string();
        if self.start.is_none() {
            write_head(&mut self.out, limit).with_context(path)?;
        }
        let start = *self.start.get_or_insert(time_ns);
        let event = Event {
            time_us: time_ns.saturating_sub(start) / 1000,
            kind: Kind::from_number(field("kind")?).context("an event of a kind that is not known")?,
            thread: field("thread")? as u32,
            query: field("query")?,
            block: Block { file: field("file")?, number: record["block"].as_i64().context("an event without block")? },
            size: field("size")?,
            used: field("used")?,
        };
        self.events += 1;
        writeln!(self.out, "{event}").with_context(|| self.path.display().to_string())
    }

    /// Takes the last events, and detaches whatever happened before. Events that were written and that were lost.
    fn end(mut self, result: Result<()>) -> Result<(u64, u64)> {
        let drained = result.and_then(|()| self.drain());
        let request = Request::Detach { name: Some(self.name.clone()), hook: None };
        let detached: Result<Value> = self.socket.ask(&request);
        drained?;
        detached?;
        self.out.flush().with_context(|| self.path.display().to_string())?;
        Ok((self.events, self.lost))
    }
}
