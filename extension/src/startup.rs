//! Programs that are attached when the extension is loaded: those that the file `hook_startup` lists.
//!
//! The file is named by the environment variable `HOOK_STARTUP`, or lies beside a database file that is open, under its name and
//! `.hook_startup`. A line is a name of the gallery or a path, relative to the file, and constants: `trace_load sample=100`. Lines that
//! begin with `#` are comments. All are attached or none.
//!
//! Nothing of this can make LOAD fail. While the programs are attached, a marker lies beside the file, locked by the process, until that
//! exits. A marker that nobody holds is a process that did not come to its end: then nothing is attached, until somebody says
//! `CALL hook_startup(retry := true)`.

use crate::access;
use crate::engine::runtime;
use crate::table::{Cell, Kind, Row, Table};
use duckbpf_runtime::{Options, Parameter, Runtime, is_gallery_name};
use duckdb_neo::bind_arguments::BindArgument;
use duckdb_neo::connection::Context;
use duckdb_neo::extension::Extension;
use duckdb_neo::signature::{FunctionParameter, FunctionParameterKind, SignatureBuilder};
use duckdb_neo::{FromValue, Result};
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

const VARIABLE: &str = "HOOK_STARTUP";
const SUFFIX: &str = ".hook_startup";
const MARKER: &str = ".running";

/// What became of it.
#[derive(Debug)]
struct Startup {
    file: Option<PathBuf>,
    state: &'static str,
    /// Why nothing is attached.
    reason: Option<String>,
    /// Held while the programs are attached.
    marker: Option<Marker>,
}

static STARTUP: Mutex<Startup> = Mutex::new(Startup { file: None, state: "none", reason: None, marker: None });

fn startup() -> MutexGuard<'static, Startup> {
    // It is replaced whole.
    STARTUP.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Attaches what the file says. Called once, by the first LOAD of the process.
pub fn run(runtime: &Runtime) {
    let Some(file) = find() else { return };
    let attached = start(runtime, &file);
    if let Err((_, reason)) = &attached {
        runtime.log(&format!("hook_startup: {reason}"));
    }
    *startup() = outcome(file, attached);
}

fn outcome(file: PathBuf, attached: std::result::Result<Marker, (&'static str, String)>) -> Startup {
    match attached {
        Ok(marker) => Startup { file: Some(file), state: "attached", reason: None, marker: Some(marker) },
        Err((state, reason)) => Startup { file: Some(file), state, reason: Some(reason), marker: None },
    }
}

/// Called when the process ends as it should.
pub fn clean_exit() {
    if let Ok(mut startup) = STARTUP.try_lock()
        && let Some(marker) = startup.marker.take()
    {
        marker.remove();
    }
}

/// The environment's word counts; else a file beside an open one.
fn find() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os(VARIABLE).filter(|path| !path.is_empty()) {
        return Some(PathBuf::from(path));
    }
    let open = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    open.filter_map(|descriptor| fs::read_link(descriptor.path()).ok())
        .filter(|path| path.is_absolute())
        .map(|path| with_suffix(&path, SUFFIX))
        .find(|path| path.is_file())
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

fn start(runtime: &Runtime, file: &Path) -> std::result::Result<Marker, (&'static str, String)> {
    if let Some(reason) = left_behind(file) {
        return Err(("detached", reason));
    }
    let failed = |reason: String| ("failed", reason);
    let text = fs::read_to_string(file).map_err(|error| failed(format!("{}: {error}", file.display())))?;
    let lines = parse(&text).map_err(|reason| failed(format!("{}: {reason}", file.display())))?;
    let marker = Marker::new(file).map_err(|error| {
        failed(format!("{}: nothing is attached, for the marker beside it cannot be made: {error}", file.display()))
    })?;
    attach(runtime, file, &lines).map(|()| marker).map_err(failed)
}

/// All or none.
fn attach(runtime: &Runtime, file: &Path, lines: &[Line]) -> std::result::Result<(), String> {
    let folder = file.parent().unwrap_or(Path::new("."));
    let mut attached = Vec::new();
    for Line { program, parameters } in lines {
        let path = if is_gallery_name(Path::new(program)) { program.into() } else { folder.join(program) };
        match runtime.attach_with(&path, Options::default(), parameters) {
            Ok(done) => attached.push(done.name),
            Err(error) => {
                for name in attached {
                    let _ = runtime.detach(&name);
                }
                return Err(error.to_string());
            }
        }
    }
    Ok(())
}

/// A line of the file.
#[derive(Debug, PartialEq)]
struct Line {
    program: String,
    parameters: Vec<(String, Parameter)>,
}

fn parse(text: &str) -> std::result::Result<Vec<Line>, String> {
    let lines = text.lines().map(str::trim).enumerate();
    lines
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(at, line)| parse_line(at + 1, line))
        .collect()
}

fn parse_line(number: usize, line: &str) -> std::result::Result<Line, String> {
    let mut words = line.split_whitespace();
    let program = words.next().unwrap_or_default().to_owned();
    let parameter = |word: &str| {
        let (name, value) = word
            .split_once('=')
            .ok_or_else(|| format!("line {number}: '{word}' is no constant and value, as in sample=100"))?;
        let value = match value {
            "true" => Parameter::Bool(true),
            "false" => Parameter::Bool(false),
            _ => value
                .parse()
                .map(Parameter::Int)
                .or_else(|_| value.parse().map(Parameter::Float))
                .unwrap_or_else(|_: std::num::ParseFloatError| Parameter::Text(value.to_owned())),
        };
        Ok((name.to_owned(), value))
    };
    let parameters = words.map(parameter).collect::<std::result::Result<_, String>>()?;
    Ok(Line { program, parameters })
}

/// A file that says: this process has attached the programs, and lives. Its lock goes with the process.
#[derive(Debug)]
struct Marker {
    path: PathBuf,
    /// A fork is not the process that made it.
    owner: u32,
    _locked: File,
}

impl Marker {
    fn new(file: &Path) -> std::io::Result<Marker> {
        let owner = std::process::id();
        let path = with_suffix(file, &format!(".{owner}{MARKER}"));
        // It has its final name only when it is locked: nobody takes it for one that was left behind.
        let unlocked = with_suffix(file, &format!(".{owner}.new"));
        let mut marker = OpenOptions::new().write(true).create(true).truncate(true).open(&unlocked)?;
        writeln!(marker, "{owner}")?;
        marker.try_lock().map_err(std::io::Error::from)?;
        fs::rename(&unlocked, &path)?;
        Ok(Marker { path, owner, _locked: marker })
    }

    fn remove(self) {
        if self.owner == std::process::id() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Markers of a startup file.
fn markers(file: &Path) -> Vec<PathBuf> {
    let Some(name) = file.file_name().map(|name| name.to_string_lossy().into_owned()) else { return Vec::new() };
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let is_marker = |found: &str| {
        let rest = found.strip_prefix(&name).and_then(|rest| rest.strip_prefix('.')).unwrap_or_default();
        rest.strip_suffix(MARKER).is_some_and(|process| process.parse::<u32>().is_ok())
    };
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter(|entry| is_marker(&entry.file_name().to_string_lossy())).map(|entry| entry.path()).collect()
}

/// Nobody holds it: its process is gone.
fn is_left(marker: &Path) -> bool {
    // Opened for writing, as a lock over a network needs.
    OpenOptions::new().write(true).open(marker).is_ok_and(|marker| marker.try_lock().is_ok())
}

/// Why nothing is to be attached: a process with these programs did not come to its end.
fn left_behind(file: &Path) -> Option<String> {
    let marker = markers(file).into_iter().find(|marker| is_left(marker))?;
    let process = fs::read_to_string(&marker).unwrap_or_default();
    let (file, process, marker) = (file.display(), process.trim(), marker.display());
    Some(format!(
        "process {process}, which had attached the programs of {file}, ended without an exit (it crashed or was killed), so they are not \
         attached now. CALL hook_startup(retry := true) attaches them again; so does the next LOAD without {marker}"
    ))
}

pub struct HookStartup;

impl Table for HookStartup {
    /// Whether to try again.
    type Arguments = bool;
    type Rows = Vec<Row>;

    const NAME: &'static str = "hook_startup";
    const DESCRIPTION: &'static str = "The startup file, whether its programs were attached when duckbpf was loaded, and if not, why. retry := true attaches \
         them now, also after a crash";
    const EXAMPLE: &'static str = "FROM hook_startup();";
    const COLUMNS: &'static [(&'static str, Kind)] =
        &[("file", Kind::Text), ("state", Kind::Text), ("reason", Kind::Text)];

    fn signature(_extension: &Extension) -> Result<SignatureBuilder> {
        let retry = FunctionParameter::with_default("retry", false).kind(FunctionParameterKind::Named);
        Ok(SignatureBuilder::new().param(retry))
    }

    fn arguments(arguments: &mut [BindArgument]) -> Result<bool> {
        let retry = arguments.first().and_then(|argument| argument.value.as_ref());
        Ok(retry.map(bool::from_value).transpose()?.flatten().unwrap_or(false))
    }

    fn rows(retry: &bool, context: &Context) -> Result<Vec<Row>> {
        let mut startup = startup();
        if *retry && startup.marker.is_none() {
            access::require_unlocked(context, Self::NAME)?;
            access::require_files(context, Self::NAME)?;
            if let Some(file) = startup.file.clone().or_else(find) {
                for marker in markers(&file).into_iter().filter(|marker| is_left(marker)) {
                    let _ = fs::remove_file(marker);
                }
                let attached = start(runtime()?, &file);
                *startup = outcome(file, attached);
            }
        }
        let file = startup.file.as_ref().map(|file| file.display().to_string());
        Ok(vec![vec![Cell::Text(file), startup.state.into(), Cell::Text(startup.reason.clone())]])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_name_programs_and_constants() {
        let lines =
            parse("# what we run\n\nhash_wy\n  ./own.bpf.o sample=100 strict=true name=a factor=0.5\n").expect("lines");
        let constant = |name: &str, value| (name.to_owned(), value);
        assert_eq!(lines[0], Line { program: "hash_wy".into(), parameters: vec![] });
        assert_eq!(lines[1].program, "./own.bpf.o");
        let expected = [
            constant("sample", Parameter::Int(100)),
            constant("strict", Parameter::Bool(true)),
            constant("name", Parameter::Text("a".into())),
            constant("factor", Parameter::Float(0.5)),
        ];
        assert_eq!(lines[1].parameters, expected);
        assert!(parse("hash_wy\nload sample").expect_err("no value").contains("line 2: 'sample'"));
    }

    #[test]
    fn a_marker_that_nobody_holds_is_left_behind() {
        let folder = std::env::temp_dir().join(format!("duckbpf-startup-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let file = folder.join("my.duckdb.hook_startup");
        assert_eq!(left_behind(&file), None);
        let marker = Marker::new(&file).expect("a marker");
        assert_eq!(markers(&file), std::slice::from_ref(&marker.path));
        assert_eq!(left_behind(&file), None, "it is held");
        let path = marker.path.clone();
        drop(marker);
        assert!(left_behind(&file).expect("a reason").contains(&path.display().to_string()));
        fs::write(folder.join("my.duckdb.hook_startup.x.running"), "").expect("a file");
        assert_eq!(markers(&file).len(), 1, "not every file is a marker");
        fs::remove_dir_all(&folder).expect("removed");
    }
}
