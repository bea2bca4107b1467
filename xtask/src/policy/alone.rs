//! The 22 queries of TPC-H, one after the other and nothing beside them: what a policy costs where it has nothing to do.

use std::path::{Path, PathBuf};

use anyhow::Result;
use duckbpf_tpch::run::{Comparison, Configuration};
use duckbpf_tpch::stats::Paired;
use duckbpf_tpch::worker::{Hooks, Setup};
use serde_json::{Value, json};

use super::Policy;
use crate::bench::{find_programs, rounds};
use crate::paths;

/// Configurations whose processes are there at once, beside stock's. Each has the data in memory, and all of them have the hash tables of the same
/// query: at SF 20 a process takes 5.4 GB. Four of them left nothing to the system's cache on 24 GiB, and stock beside itself was at 0.970 then.
const AT_ONCE: usize = 2;

/// Stock a second time: what the harness itself says of two that are the same.
const CONTROL: &str = "stock, again";

/// By policy: how many times as fast as stock (`ratio`, below 1: slower), which queries gave other results, and the same of the control.
pub fn losses(python: &Path, database: &Path, policies: &[&Policy], runs: usize) -> Result<Vec<Value>> {
    let mut tried = vec![Configuration { name: CONTROL.to_owned(), hooks: Hooks::Stock }];
    for policy in policies {
        tried.push(Configuration { name: policy.name.to_owned(), hooks: Hooks::Loaded(programs(policy)?) });
    }
    let mut losses = Vec::new();
    for group in tried.chunks(AT_ONCE) {
        let names: Vec<&str> = group.iter().map(|configuration| configuration.name.as_str()).collect();
        eprintln!("== {runs} runs of TPC-H alone: stock, {}", names.join(", "));
        let found = beside_stock(python, database, group, runs)?;
        // All of them take a quarter of an hour and more.
        names.iter().zip(&found).for_each(|(name, loss)| println!("{name:<20} {loss}"));
        losses.extend(found);
    }
    let control = losses.remove(0);
    losses.iter_mut().for_each(|loss| loss["control"] = control.clone());
    Ok(losses)
}

fn beside_stock(python: &Path, database: &Path, tried: &[Configuration], runs: usize) -> Result<Vec<Value>> {
    let setup = Setup::of_wheel(python.to_owned(), database.to_owned(), paths::extension());
    let mut configurations = vec![Configuration { name: "stock".to_owned(), hooks: Hooks::Stock }];
    configurations.extend_from_slice(tried);
    let comparison = Comparison {
        setup: &setup,
        configurations: &configurations,
        cold_rounds: 0,
        repeats: 1,
        repeat_s: f64::INFINITY,
    };
    let mut times = comparison.no_times();
    rounds(&comparison, 0..runs, runs, &mut times)?;
    let stock = &times[0];
    let loss = |attached: &duckbpf_tpch::run::Times| {
        let both = || stock.iter().zip(attached);
        let paired = Paired::new(both().map(|(a, b)| (b.hot_s.as_slice(), a.hot_s.as_slice())));
        let unequal: Vec<usize> =
            both().zip(1..).filter(|((a, b), _)| a.digests != b.digests).map(|(_, number)| number).collect();
        json!({"ratio": paired.ratio(), "interval": paired.interval(), "runs": runs, "unequal_results": unequal})
    };
    Ok(times[1..].iter().map(loss).collect())
}

/// What the policy's attached run attaches.
fn programs(policy: &Policy) -> Result<Vec<PathBuf>> {
    let attached = policy.runs.iter().find(|run| run.name == "attached").and_then(|run| run.programs);
    find_programs(attached.unwrap_or_default().iter().map(|(name, _)| *name))
}
