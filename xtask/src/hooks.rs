//! `cargo xtask bench hooks`: what a call, a key and a load cost, into `target/bench/hooks.json`. What needs no database is measured by
//! duckbpf-benches, the rest in the official wheel with the graft loaded.

use crate::bench::{DEFAULTS, find_programs};
use crate::venv::Venv;
use crate::{extension, graft, paths, process, programs};
use anyhow::{Context, Result};
use serde_json::{Map, Value, json};
use std::fs;
use std::path::Path;

/// The rows, in the order in which they are written.
const ROWS: [&str; 11] = [
    "trivial call",
    "attached hookpoint",
    "hookpoint with statistics",
    "detached hookpoint",
    "helper call, 5 arguments",
    "hash per key, murmur of 2048 u64",
    "codegen 20 instructions",
    "codegen 200 instructions",
    "codegen 2000 instructions",
    "publish",
    "reload of a default program",
];

#[derive(clap::Args)]
pub struct Args {
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
    let folder = paths::target("bench");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let (native, grafted) = (folder.join("hooks-native.json"), folder.join("hooks-graft.json"));
    let bench = ["run", "--release", "--quiet", "--package", "duckbpf-benches", "--bin", "hooks", "--"];
    let defaults = find_programs(DEFAULTS)?;
    process::run(process::cargo(&paths::root(), bench).arg(&native).args(&defaults))?;
    let script = paths::root().join("benches").join("graft.py");
    let mut python = Venv::ensure()?.command(&paths::root());
    process::run(python.arg(script).arg(paths::extension()).arg(&grafted).args(&defaults))?;
    let mut found = read(&native)?;
    found.extend(read(&grafted)?);
    let rows = complete(&found)?;
    let out = folder.join("hooks.json");
    fs::write(&out, serde_json::to_string_pretty(&rows)?).with_context(|| format!("cannot write {}", out.display()))?;
    for part in [native, grafted] {
        fs::remove_file(&part).with_context(|| format!("cannot remove {}", part.display()))?;
    }
    rows.iter().for_each(print);
    println!("{}", out.display());
    Ok(())
}

fn read(path: &Path) -> Result<Vec<Value>> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} holds no rows", path.display()))
}

/// Every row with every key: what several runs say of it, and its ratio.
fn complete(found: &[Value]) -> Result<Vec<Value>> {
    ROWS.iter()
        .map(|name| {
            let parts = found.iter().filter(|row| row["name"] == *name).filter_map(Value::as_object);
            let mut row: Map<String, Value> =
                parts.flatten().map(|(key, value)| (key.clone(), value.clone())).collect();
            let number = |key: &str| row.get(key).and_then(Value::as_f64).with_context(|| format!("{name}: no {key}"));
            let (ours, reference, _) = (number("ours")?, number("reference")?, number("rbpf")?);
            row.insert("ratio".to_owned(), json!(ours / reference));
            Ok(Value::Object(row))
        })
        .collect()
}

fn print(row: &Value) {
    let number = |key: &str| row[key].as_f64().map_or(String::new(), |value| format!("{key} {value:.3}"));
    let columns = ["rbpf", "reference", "ratio", "p99"].map(number).join("  ");
    let (name, unit) = (row["name"].as_str().unwrap_or_default(), row["unit"].as_str().unwrap_or_default());
    println!("{name:<34}{:>10.3} {unit}  {columns}", row["ours"].as_f64().unwrap_or(f64::NAN));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_numbers_with_a_ratio() {
        let ours = |name: &&str| json!({"name": name, "ours": 3.0, "unit": "ns"});
        let beside = |name: &&str| json!({"name": name, "rbpf": 4.0, "reference": 1.5});
        let found: Vec<Value> = ROWS.iter().rev().map(ours).chain(ROWS.iter().map(beside)).collect();
        let rows = complete(&found).unwrap();
        for (name, row) in ROWS.iter().zip(&rows) {
            let expected =
                json!({"name": name, "ours": 3.0, "unit": "ns", "rbpf": 4.0, "reference": 1.5, "ratio": 2.0});
            assert_eq!(*row, expected);
        }
        let lacks = complete(&found[..ROWS.len()]).unwrap_err().to_string();
        assert_eq!(lacks, "trivial call: no reference");
    }
}
