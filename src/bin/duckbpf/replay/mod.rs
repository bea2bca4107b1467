//! `duckbpf replay`: what policies would have made of a trace, without a database.
//!
//! ```text
//! trace     what `duckbpf record` writes
//! pool      who is in memory, whose memory goes
//! order     LRU, and the optimum
//! queue     DuckDB's own, and programs on top of it
//! ```

mod order;
mod pool;
mod queue;
pub mod trace;

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, ensure};
use duckbpf_runtime::Trial;
use serde_json::json;

use crate::{
    output::{bytes, count, table},
    prog::{Param, fields, parameter, parameters},
};
use order::{Lru, Optimum};
use pool::{Hits, Policy, play};
use queue::Queue;
use trace::Trace;

/// Play a trace that `duckbpf record` wrote: hit ratios of programs beside LRU, DuckDB's own order and the optimum.
#[derive(clap::Args)]
pub struct Arguments {
    /// Objects with programs on load, unpin or evict, as many as you like, and last the trace
    #[arg(required = true, value_name = "OBJECT... TRACE")]
    files: Vec<PathBuf>,
    /// How much memory there is, several with commas between: 300MB,700MB [default: as when it was recorded]
    #[arg(short, long, value_delimiter = ',', value_parser = memory)]
    memory: Vec<u64>,
    /// A constant of the programs
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = parameter)]
    params: Vec<Param>,
    /// Write the loads as CSV for libCacheSim too: time, obj_id, obj_size
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// A size as DuckDB's memory_limit has it: MB is a million bytes, MiB 2^20.
fn memory(text: &str) -> Result<u64, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').len();
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().map_err(|_| format!("'{text}' is no size, like 300MB"))?;
    let unit = unit.trim().to_ascii_uppercase();
    let power = "KMGT".find(|letter| unit.starts_with(letter)).map_or(0, |at| at as i32 + 1);
    let factor: f64 = match unit.get(usize::from(power > 0)..).unwrap_or_default() {
        "" | "B" => 1000.0,
        "IB" if power > 0 => 1024.0,
        _ => return Err(format!("'{text}' has no unit that is known: B, KB, MB, GB, TB, KiB, MiB, GiB, TiB")),
    };
    Ok((number * factor.powi(power)) as u64)
}

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let [objects @ .., file] = &arguments.files[..] else { unreachable!("clap asks for one file at least") };
    let trace = Trace::read(file)?;
    ensure!(trace.loads().next().is_some(), "{}: no block is loaded in it", file.display());
    if let Some(path) = &arguments.csv {
        write_csv(&trace, path).with_context(|| path.display().to_string())?;
    }
    let limits = if arguments.memory.is_empty() { vec![trace.limit] } else { arguments.memory.clone() };
    let mut rows = vec![Row { name: "LRU".into(), hits: play_all(&trace, &limits, || Ok(Lru::default()))? }];
    rows.push(Row { name: "DuckDB".into(), hits: play_all(&trace, &limits, || Ok(Queue::default()))? });
    for object in objects {
        let hits = play_all(&trace, &limits, || program(object, &arguments.params))?;
        rows.push(Row { name: name_of(object), hits });
    }
    rows.push(Row { name: "optimum".into(), hits: play_all(&trace, &limits, || Ok(Optimum::new(&trace)))? });
    let shown = if arguments.json { as_json(&trace, &limits, &rows) } else { as_text(&trace, &limits, &rows) };
    writeln!(io::stdout(), "{shown}")?;
    Ok(ExitCode::SUCCESS)
}

/// A policy, and its hits by limit.
struct Row {
    name: String,
    hits: Vec<Hits>,
}

/// A policy begins anew with each limit.
fn play_all<P: Policy>(trace: &Trace, limits: &[u64], make: impl Fn() -> Result<P>) -> Result<Vec<Hits>> {
    limits.iter().map(|limit| Ok(play(trace, *limit, &mut make()?))).collect()
}

fn program(object: &Path, params: &[Param]) -> Result<Queue> {
    let trial = Trial::load(object, &parameters(&fields(params))?)?;
    Queue::with(trial).with_context(|| object.display().to_string())
}

fn name_of(object: &Path) -> String {
    let name = object.file_name().unwrap_or_default().to_string_lossy();
    name.strip_suffix(".bpf.o").unwrap_or(&name).to_owned()
}

fn as_text(trace: &Trace, limits: &[u64], rows: &[Row]) -> String {
    let percent = |hits: &Hits| format!("{:.2}%", 100.0 * hits.ratio());
    let columns: Vec<String> = limits.iter().map(|limit| format!(">{}", bytes(*limit))).collect();
    let columns: Vec<&str> = std::iter::once("hit ratio").chain(columns.iter().map(String::as_str)).collect();
    let cells = rows.iter().map(|row| {
        let ratios = row.hits.iter().map(percent);
        std::iter::once(row.name.clone()).chain(ratios).collect()
    });
    let recorded = Hits::recorded(trace);
    let (loads, limit) = (count(recorded.loads), bytes(trace.limit));
    format!("{}\n\n{loads} loads; recorded with {limit}: {}", table(&columns, cells), percent(&recorded))
}

fn as_json(trace: &Trace, limits: &[u64], rows: &[Row]) -> String {
    let recorded = Hits::recorded(trace);
    let of = |row: &Row| {
        let by_limit = limits.iter().zip(&row.hits).map(
            |(limit, hits)| json!({"memory": limit, "loads": hits.loads, "hits": hits.hits, "hit_ratio": hits.ratio()}),
        );
        json!({"policy": row.name, "results": by_limit.collect::<Vec<_>>()})
    };
    json!({
        "recorded": {"memory": trace.limit, "loads": recorded.loads, "hits": recorded.hits, "hit_ratio": recorded.ratio()},
        "policies": rows.iter().map(of).collect::<Vec<_>>(),
    })
    .to_string()
}

/// As libCacheSim's reader takes it: `-t "time-col=1,obj-id-col=2,obj-size-col=3,has-header=true"`. Blocks are numbered from 1.
fn write_csv(trace: &Trace, path: &Path) -> io::Result<()> {
    let mut out = BufWriter::new(File::create(path)?);
    let mut numbers = HashMap::new();
    writeln!(out, "time,obj_id,obj_size")?;
    for event in trace.loads() {
        let next = numbers.len() + 1;
        let number = *numbers.entry(event.block).or_insert(next);
        writeln!(out, "{},{number},{}", event.time_us / 1_000_000, event.size)?;
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_duckdbs() {
        assert_eq!(memory("300MB"), Ok(300_000_000));
        assert_eq!(memory("1.5 GiB"), Ok(3 << 29));
        assert_eq!((memory("7"), memory("2kb")), (Ok(7), Ok(2000)));
        for wrong in ["", "MB", "300XB", "300M1", "1iB"] {
            assert!(memory(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn blocks_are_numbered_for_libcachesim() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("loads.csv");
        write_csv(&pool::tests::loads(&[7, -3, 7]), &path).unwrap();
        assert_eq!(std::fs::read_to_string(path).unwrap(), "time,obj_id,obj_size\n0,1,1\n0,2,1\n0,1,1\n");
    }
}
