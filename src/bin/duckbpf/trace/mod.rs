//! `duckbpf trace`: one-liners in bpftrace's form on the hooks of a live database.
//!
//! ```text
//! lexer -> parse -> ast       the text
//! generate                    C, and what is done outside of the database
//! show                        maps and events as text and JSON
//! ```

mod ast;
mod generate;
mod lexer;
mod parse;
mod show;

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    sync::mpsc::{Receiver, RecvTimeoutError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use duckbpf_control::{Attached, Events, Fields, Hello, Request};
use duckbpf_runtime::{Hook, context_fields};
use serde_json::{Value, json};

use crate::{
    signal::on_signal,
    socket::{Address, Socket},
};
use ast::PROCESS;
use generate::{Action, EXIT, Plan, Shape, generate, map_name};
use show::Table;

/// Between two looks for events.
const LOOK: Duration = Duration::from_millis(100);
/// Records that one look takes.
const RECORDS: usize = 10_000;

/// Trace a live database by a one-liner: duckbpf trace -e 'hook:unpin /args.size > 4096/ { @[args.tag] = count(); }'
#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    address: Address,
    /// The program
    #[arg(short = 'e', value_name = "PROGRAM", conflicts_with = "file", required_unless_present_any = ["file", "list"])]
    program: Option<String>,
    /// A file that holds it; with -l, only hooks whose name holds this
    file: Option<PathBuf>,
    /// List the hooks that can be traced
    #[arg(short, long)]
    list: bool,
    /// With -l: the fields of their contexts too
    #[arg(short, long)]
    verbose: bool,
    /// End after so many seconds; otherwise with Ctrl-C or exit()
    #[arg(short, long, value_name = "SECONDS")]
    duration: Option<f64>,
    /// Keys that a map can have
    #[arg(long, default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    max_entries: u32,
    /// Programs that hold a hook give way, until they are attached again by hand
    #[arg(long)]
    replace: bool,
    /// Print the C that it becomes, and trace nothing
    #[arg(long)]
    source: bool,
    /// JSON: a line for each printf, and for each map that is printed
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    if arguments.list {
        list(arguments);
        return Ok(ExitCode::SUCCESS);
    }
    let text = match (&arguments.program, &arguments.file) {
        (Some(text), _) => text.clone(),
        (None, Some(path)) => std::fs::read_to_string(path).with_context(|| path.display().to_string())?,
        (None, None) => bail!("a program is given by -e or in a file"),
    };
    let plan = generate(&parse::parse(&text)?, arguments.max_entries)?;
    if arguments.source {
        print!("{}", plan.source);
        return Ok(ExitCode::SUCCESS);
    }
    if !plan.has_hooks {
        bail!("no hook is traced; duckbpf trace -l lists them");
    }
    let ended = on_signal()?;
    let mut session = Session::begin(arguments, &plan)?;
    let result = session.follow(arguments.duration, &ended);
    session.end(result)?;
    Ok(ExitCode::SUCCESS)
}

/// As `bpftrace -l` and `-lv` do. Of the hash hook there is nothing to tell: its programs keep no counts.
fn list(arguments: &Arguments) {
    let wanted = |hook: &Hook| {
        let name = format!("hook:{hook}");
        *hook != Hook::Hash && arguments.file.as_ref().is_none_or(|filter| name.contains(&*filter.to_string_lossy()))
    };
    for hook in Hook::ALL.into_iter().filter(wanted) {
        println!("hook:{hook}");
        for field in context_fields(hook).iter().filter(|field| arguments.verbose && field.count == 1) {
            let sign = if field.signed { 's' } else { 'u' };
            println!("    {sign}{} args.{}", field.size * 8, field.name.trim_start_matches("origin."));
        }
    }
}

/// A one-liner at work.
struct Session<'a> {
    plan: &'a Plan,
    socket: Socket,
    /// The program's name in the database.
    name: String,
    as_json: bool,
    out: io::Stdout,
    /// Events for which there was no room.
    lost: u64,
}

impl<'a> Session<'a> {
    fn begin(arguments: &Arguments, plan: &'a Plan) -> Result<Session<'a>> {
        let mut socket = arguments.address.connect()?;
        let folder = tempfile::tempdir().context("a folder for the program")?;
        let name = format!("trace_{}", std::process::id());
        let (source, object) =
            (folder.path().join(format!("{name}.bpf.c")), folder.path().join(format!("{name}.bpf.o")));
        std::fs::write(&source, &plan.source).with_context(|| source.display().to_string())?;
        let process: Hello = socket.ask(&Request::Hello)?;
        duckbpf::compile::compile(&source, &object, &[format!("-D{PROCESS}={}", process.pid).into()])?;
        let path = object.to_str().context("the folder for temporary files is no UTF-8")?.to_owned();
        let attach = Request::Attach { path: path.clone(), replace: arguments.replace, params: Fields::new() };
        // The object's file is nobody's business but ours.
        let attached: Attached =
            socket.ask(&attach).map_err(|error| anyhow!("{}", error.to_string().replace(&format!("{path}: "), "")))?;
        let mut session = Session { plan, socket, name, as_json: arguments.json, out: io::stdout(), lost: 0 };
        if !arguments.json {
            eprintln!("tracing {}; Ctrl-C ends it", attached.hooks.join(", "));
        }
        for gone in &attached.displaced {
            eprintln!("{gone} gave way");
        }
        session.act(&plan.begin)?;
        Ok(session)
    }

    /// Until somebody ends it.
    fn follow(&mut self, seconds: Option<f64>, ended: &Receiver<()>) -> Result<()> {
        let start = Instant::now();
        let end = seconds.map(|seconds| start + Duration::from_secs_f64(seconds.clamp(0.0, 1e9)));
        let mut next: Vec<Instant> = self.plan.intervals.iter().map(|(every, _)| start + *every).collect();
        loop {
            let look = self.plan.has_events.then(|| Instant::now() + LOOK);
            let until = next.iter().copied().chain(end).chain(look).min();
            let wait = until.map_or(Duration::from_secs(3600), |until| until.saturating_duration_since(Instant::now()));
            match ended.recv_timeout(wait) {
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
                Err(RecvTimeoutError::Timeout) => {}
            }
            let now = Instant::now();
            if self.plan.has_events && self.events()? || end.is_some_and(|end| end <= now) {
                return Ok(());
            }
            for (index, (every, actions)) in self.plan.intervals.iter().enumerate() {
                if next[index] <= now {
                    next[index] = now + *every;
                    if self.act(actions)? {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Whether it is to end.
    fn act(&mut self, actions: &[Action]) -> Result<bool> {
        for action in actions {
            match action {
                Action::Print(map) => self.print(map)?,
                Action::Clear(map) => self.clear(map)?,
                Action::Say(text) => self.say(&show::printf(text, &[])?)?,
                Action::Exit => return Ok(true),
            }
        }
        Ok(false)
    }

    /// Prints what programs said. Whether one asked to end.
    fn events(&mut self) -> Result<bool> {
        let map = format!("{}/events", self.name);
        let events: Events = self.socket.ask(&Request::Events { map, most: Some(RECORDS), follow: false })?;
        self.lost = self.lost.max(events.lost);
        for record in &events.records {
            let number = record["number"].as_u64().unwrap_or(EXIT);
            if number == EXIT {
                return Ok(true);
            }
            let format = self.plan.formats.get(number as usize).context("an event that no printf made")?;
            let arguments = record["arguments"].as_array().map(Vec::as_slice).unwrap_or_default();
            let text = show::printf(format, arguments)?;
            self.say(&text)?;
        }
        Ok(false)
    }

    fn say(&mut self, text: &str) -> Result<()> {
        if self.as_json {
            writeln!(self.out, "{}", json!({"printf": text}))?;
        } else {
            write!(self.out, "{text}")?;
        }
        self.out.flush().context("standard output")
    }

    fn entries(&mut self, map: &str) -> Result<Value> {
        self.socket.ask(&Request::Entries { map: format!("{}/{map}", self.name) })
    }

    fn print(&mut self, name: &str) -> Result<()> {
        let shape: Shape = self.plan.maps[name];
        let entries = self.entries(&map_name(name))?;
        let table = Table::new(name, shape, &entries);
        if self.as_json {
            writeln!(self.out, "{}", table.json())?;
        } else {
            write!(self.out, "{}", table.text())?;
        }
        self.out.flush().context("standard output")
    }

    fn clear(&mut self, name: &str) -> Result<()> {
        let map = map_name(name);
        for entry in self.entries(&map)?.as_array().into_iter().flatten() {
            let request = Request::Delete { map: format!("{}/{map}", self.name), key: entry["key"].clone() };
            self.socket.ask::<Value>(&request)?;
        }
        Ok(())
    }

    /// Shows what there is and detaches, whatever happened before.
    fn end(mut self, result: Result<()>) -> Result<()> {
        let shown = result.and_then(|()| self.show_all());
        let request = Request::Detach { name: Some(self.name.clone()), hook: None };
        let detached: Result<Value> = self.socket.ask(&request);
        shown?;
        detached.map(drop)
    }

    fn show_all(&mut self) -> Result<()> {
        if self.plan.has_events {
            self.events()?;
        }
        self.act(&self.plan.end)?;
        let printed: Vec<&Action> = self.plan.end.iter().collect();
        for name in self.plan.maps.keys() {
            // What END printed or cleared is not shown again.
            if !printed.iter().any(|action| matches!(action, Action::Print(map) | Action::Clear(map) if map == name)) {
                self.print(name)?;
            }
        }
        let lost = self.lost + self.updates_lost()?;
        if lost > 0 {
            eprintln!("{lost} updates or events were lost: a map or the ring was full (--max-entries)");
        }
        Ok(())
    }

    /// What the program counted in its variable `lost`.
    fn updates_lost(&mut self) -> Result<u64> {
        let variables = self.entries(".bss")?;
        Ok(variables[0]["value"]["lost"].as_u64().unwrap_or(0))
    }
}
