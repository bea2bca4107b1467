//! `duckbpf prog`: programs of a live database; and runs without one.

use std::{
    io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, bail};
use chrono::{DateTime, SecondsFormat};
use duckbpf_control::{Attached, Detached, Fields, Listing, Program, Ran, Request};
use duckbpf_runtime::{Hook, Parameter, Trial, is_gallery_name};
use serde_json::{Value, json};

use crate::{
    output::{count, table},
    socket::{Client, Socket},
};

/// List, attach, run and inspect programs.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    client: Client,
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// What is attached
    List,
    /// All that is known of one object's programs
    Show {
        /// The object's name, or one of its programs' ids
        name: String,
    },
    /// Attach an object beside the others, all its programs or none
    Attach {
        /// A file, or the name of a program of the gallery
        path: String,
        /// Programs that hold a hook it needs, or have its name, give way
        #[arg(long)]
        replace: bool,
        /// A constant to set before the check
        #[arg(long = "param", value_name = "NAME=VALUE", value_parser = parameter)]
        params: Vec<Param>,
    },
    /// Detach an object, by its name or by a hook that it is on
    Detach {
        /// The object's name
        #[arg(required_unless_present = "hook")]
        name: Option<String>,
        /// Whatever object is on this hook
        #[arg(long, conflicts_with = "name")]
        hook: Option<String>,
    },
    /// Run a program on a context that you make up: a file's here, without a database; an attached one in the database
    Run(RunArguments),
    /// Bytecode and machine code: of a file, or of an attached object
    Dump {
        /// A file that exists, or the object's name
        name: String,
    },
}

#[derive(clap::Args)]
struct RunArguments {
    /// A file that exists, or the name of an attached object or of a program of the gallery
    name: String,
    /// Which of its programs, where there are several
    #[arg(long)]
    hook: Option<String>,
    /// The context's fields as JSON, 0 where none is given: '{"size": 262144, "readers": 0}'; - reads standard input
    #[arg(long, default_value = "{}")]
    context: String,
    /// How often
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    repeat: u64,
    /// A constant to set first (files only)
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = parameter)]
    params: Vec<Param>,
}

/// A constant to set, or a field.
pub type Param = (String, Value);

/// `name=value`; the value is JSON, or else text.
pub fn parameter(text: &str) -> Result<Param, String> {
    let (name, value) = text.split_once('=').ok_or("a parameter is NAME=VALUE")?;
    Ok((name.to_owned(), serde_json::from_str(value).unwrap_or_else(|_| value.into())))
}

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let Arguments { client, what } = arguments;
    match what {
        What::List => {
            let programs: Vec<Program> = client.connect()?.ask(&Request::Programs)?;
            client.print(&programs, || list(&programs))?;
        }
        What::Show { name } => {
            let programs: Vec<Program> = client.connect()?.ask(&Request::Programs)?;
            let is_it = |program: &&Program| program.name == *name || program.id.to_string() == *name;
            let shown: Vec<&Program> = programs.iter().filter(is_it).collect();
            if shown.is_empty() {
                bail!("no program named '{name}' is attached; duckbpf prog list shows what is");
            }
            let text = || shown.iter().map(|program| show(program)).collect::<Vec<_>>().join("\n\n");
            client.print(&shown, text)?;
        }
        What::Attach { path, replace, params } => {
            let request = Request::Attach { path: reachable(path)?, replace: *replace, params: fields(params) };
            let attached: Attached = client.connect()?.ask(&request)?;
            client.print(&attached, || said(&attached))?;
        }
        What::Detach { name, hook } => {
            let request = Request::Detach { name: name.clone(), hook: hook.clone() };
            let detached: Detached = client.connect()?.ask(&request)?;
            client.print(&detached, || format!("detached {}", detached.name))?;
        }
        What::Run(how) => {
            let ran = if Path::new(&how.name).is_file() { run_here(how)? } else { run_there(how, client)? };
            client.print(&ran, || result(&ran))?;
        }
        What::Dump { name } if Path::new(name).is_file() => {
            let listing = duckbpf_runtime::disassemble(name.as_ref())?;
            client.print(&json!({"listing": listing}), || listing.clone())?;
        }
        What::Dump { name } => {
            let listings: Vec<Listing> = there(name, client)?.ask(&Request::Dump { name: name.clone() })?;
            client.print(&listings, || listings.iter().map(listing).collect())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The path for a process that may run in another folder; a gallery's name stays.
fn reachable(path: &str) -> Result<String> {
    if !is_gallery_name(path.as_ref()) {
        let path: PathBuf = std::path::absolute(path).with_context(|| path.to_owned())?;
        return path.into_os_string().into_string().ok().context("a path that is no UTF-8 cannot be sent");
    }
    Ok(path.to_owned())
}

pub fn fields(params: &[Param]) -> Fields {
    params.iter().cloned().collect()
}

fn list(programs: &[Program]) -> String {
    let row = |program: &Program| {
        let Program { id, name, hook, entry, counts, worst_cost, run_time_ns, .. } = program;
        let mean = if counts.timed_calls == 0 {
            "-".to_owned()
        } else {
            format!("{:.0}", *run_time_ns as f64 / counts.calls.max(1) as f64)
        };
        let numbers = [counts.calls, counts.applied, counts.refused].map(count);
        let [calls, applied, refused] = numbers;
        vec![
            id.to_string(),
            name.clone(),
            hook.clone(),
            entry.clone(),
            calls,
            applied,
            refused,
            mean,
            worst_cost.to_string(),
        ]
    };
    table(
        &["id", "name", "hook", "entry", ">calls", ">applied", ">refused", ">ns/call", ">worst cost"],
        programs.iter().map(row),
    )
}

fn show(program: &Program) -> String {
    // All fields, as they are named everywhere.
    let fields = serde_json::to_value(program).ok();
    let lines = fields.as_ref().and_then(Value::as_object).into_iter().flatten().map(|(name, value)| match value {
        Value::String(text) => format!("{name:<20} {text}"),
        _ if name == "loaded_at" => format!("{name:<20} {}", moment(program.loaded_at)),
        other => format!("{name:<20} {other}"),
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Microseconds since 1970 as a date and a time, in UTC.
fn moment(us: u64) -> String {
    let moment = i64::try_from(us).ok().and_then(DateTime::from_timestamp_micros);
    moment.map_or_else(|| us.to_string(), |moment| moment.to_rfc3339_opts(SecondsFormat::Secs, true))
}

fn said(attached: &Attached) -> String {
    let Attached { name, generation, hooks, displaced } = attached;
    let gone = if displaced.is_empty() { String::new() } else { format!("; gave way: {}", displaced.join(", ")) };
    format!("attached {name} to {} (generation {generation}){gone}", hooks.join(", "))
}

fn result(ran: &Ran) -> String {
    let Ran { name, entry, hook, result, repeat, total_ns, mean_ns } = ran;
    format!(
        "{name}: {entry} on {hook} returned {result} ({result:#x}); {repeat} runs in {total_ns} ns, {mean_ns:.1} ns each"
    )
}

fn listing(listing: &Listing) -> String {
    let mut text = format!("{}: duckdb/{}\n", listing.entry, listing.hook);
    for insn in &listing.insns {
        if let Some(source) = &insn.source {
            text.push_str(&format!("  ; {source}\n"));
        }
        text.push_str(&format!("  {:>4}: {:<40} {:04x}: {}\n", insn.pc, insn.text, insn.offset, insn.machine_code));
    }
    text + "\n"
}

/// JSON's values as what constants and fields are set to.
pub fn parameters(fields: &Fields) -> Result<Vec<(String, Parameter)>> {
    let mut found = Vec::new();
    for (name, value) in fields {
        collect(name, value, &mut found)?;
    }
    Ok(found)
}

/// An object's fields are named `outer.inner`.
fn collect(name: &str, value: &Value, found: &mut Vec<(String, Parameter)>) -> Result<()> {
    let parameter = match value {
        Value::Bool(value) => Parameter::Bool(*value),
        Value::String(text) => Parameter::Text(text.clone()),
        Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(number), ..) => Parameter::Int(number.into()),
            (_, Some(number), _) => Parameter::Int(number.into()),
            (.., number) => Parameter::Float(number.unwrap_or(f64::NAN)),
        },
        Value::Object(inner) => {
            return inner.iter().try_for_each(|(field, value)| collect(&format!("{name}.{field}"), value, found));
        }
        Value::Null | Value::Array(_) => bail!("{name} must be a number, a truth value or text"),
    };
    found.push((name.to_owned(), parameter));
    Ok(())
}

fn context(how: &RunArguments) -> Result<Fields> {
    let text = if how.context == "-" {
        io::read_to_string(io::stdin()).context("standard input")?
    } else {
        how.context.clone()
    };
    serde_json::from_str(&text).with_context(|| format!("the context is no JSON object: {}", text.trim()))
}

/// The database that may know a name which is no file here.
fn there(name: &str, client: &Client) -> Result<Socket> {
    if !is_gallery_name(name.as_ref()) {
        bail!("{name}: does not exist");
    }
    client.connect().with_context(|| format!("{name} is no file that exists here"))
}

fn run_there(how: &RunArguments, client: &Client) -> Result<Ran> {
    if !how.params.is_empty() {
        bail!("--param sets constants of a file's program; {} is none that exists here", how.name);
    }
    let (name, hook) = (how.name.clone(), how.hook.clone());
    there(&how.name, client)?.ask(&Request::Run { name, hook, context: context(how)?, repeat: Some(how.repeat) })
}

fn named(hook: &str) -> Result<Hook> {
    let known = || format!("no hook is named {hook}; hooks are {}", Hook::ALL.map(Hook::name).join(", "));
    Hook::from_name(hook).with_context(known)
}

fn run_here(how: &RunArguments) -> Result<Ran> {
    let trial = Trial::load(how.name.as_ref(), &parameters(&fields(&how.params))?)?;
    let hook = how.hook.as_deref().map(named).transpose()?;
    let ran = trial.run(hook, &parameters(&context(how)?)?, how.repeat)?;
    Ok(Ran {
        name: ran.name,
        entry: ran.symbol,
        hook: ran.hook.name().to_owned(),
        result: ran.result,
        repeat: ran.repeat,
        total_ns: ran.total_ns,
        mean_ns: ran.total_ns as f64 / ran.repeat as f64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_json_or_text() {
        assert_eq!(parameter("a=7").unwrap(), ("a".into(), json!(7)));
        assert_eq!(parameter("a=b=c").unwrap(), ("a".into(), json!("b=c")));
        assert!(parameter("a").is_err());
    }

    #[test]
    fn moments_are_readable() {
        assert_eq!(moment(1_767_225_599_000_000), "2025-12-31T23:59:59Z");
        assert_eq!(moment(u64::MAX), u64::MAX.to_string());
    }

    #[test]
    fn nested_fields_get_their_paths() {
        let Value::Object(fields) = json!({"origin": {"query_id": 7}, "size": u64::MAX, "hit": true}) else {
            unreachable!()
        };
        let found = parameters(&fields).unwrap();
        assert!(found.contains(&("origin.query_id".into(), Parameter::Int(7))));
        assert!(found.contains(&("size".into(), Parameter::Int(u64::MAX.into()))));
        assert!(found.contains(&("hit".into(), Parameter::Bool(true))));
        let Value::Object(fields) = json!({"size": null}) else { unreachable!() };
        assert!(parameters(&fields).is_err());
    }
}
