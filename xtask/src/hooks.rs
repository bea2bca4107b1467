//! `cargo xtask bench hooks`: what a call, a key and a load cost, into `target/bench/hooks.json`. What needs no database is measured by
//! duckbpf-benches, the rest in the official wheel with the graft loaded.

use crate::venv::Venv;
use crate::{extension, graft, paths, process, programs};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// The rows, in the order in which they are written. Calls are compared with an empty C call of the same run.
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
    process::run(process::cargo(&paths::root(), bench).arg(&native))?;
    let script = paths::root().join("benches").join("graft.py");
    let mut python = Venv::ensure()?.command(&paths::root());
    process::run(python.arg(script).arg(paths::extension()).arg(paths::programs()).arg(&grafted))?;
    let mut found = read(&native)?;
    found.extend(read(&grafted)?);
    let rows = complete(found)?;
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

/// Every row with every key; what was not measured is null.
fn complete(mut found: Vec<Value>) -> Result<Vec<Value>> {
    let mut take = |name: &str| {
        let index = found.iter().position(|row| row["name"] == name).with_context(|| format!("no row {name:?}"))?;
        Ok(found.swap_remove(index))
    };
    let mut rows = ROWS.iter().map(|name| take(name)).collect::<Result<Vec<Value>>>()?;
    let empty = rows[0]["reference"].clone();
    for row in &mut rows {
        let is_call = row["name"].as_str().is_some_and(|name| name.contains("hookpoint"));
        if is_call {
            row["reference"] = empty.clone();
        }
        let ratio = row["ours"].as_f64().zip(row["reference"].as_f64()).map(|(ours, reference)| ours / reference);
        row["ratio"] = json!(ratio);
        for key in ["rbpf", "reference"] {
            if row.get(key).is_none() {
                row[key] = Value::Null;
            }
        }
    }
    Ok(rows)
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
    fn rows_get_their_references() {
        let mut found: Vec<Value> =
            ROWS.iter().rev().map(|name| json!({"name": name, "ours": 3.0, "unit": "ns"})).collect();
        assert!(complete(found[1..].to_vec()).is_err(), "a row is missing");
        found[10]["reference"] = json!(1.5);
        let rows = complete(found).unwrap();
        let names: Vec<&str> = rows.iter().filter_map(|row| row["name"].as_str()).collect();
        assert_eq!(names, ROWS);
        assert_eq!((&rows[0]["ratio"], &rows[1]["ratio"], &rows[9]["ratio"]), (&json!(2.0), &json!(2.0), &Value::Null));
        assert!(rows.iter().all(|row| row.get("rbpf").is_some()));
    }
}
