//! `cargo xtask bench policy <name>`: a policy of the gallery against stock, on the workload that it is for, into
//! `target/bench/policy-<name>/report.json`.
//!
//! A workload is a Python script below `xtask/policy/`, which opens the official wheel and prints one JSON object of numbers. A round runs it once for each
//! of the policy's runs, each in a process of its own, one after the other and in turning order; so what disturbs the machine for long disturbs all. A ratio is
//! the median of the rounds' own ratios. A new policy is one entry in a table like [`execution::POLICIES`].

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use duckbpf_tpch::machine::Machine;
use duckbpf_tpch::queries::QUERIES;
use duckbpf_tpch::stats::{Paired, median};
use serde_json::{Map, Value, json};

use crate::bench::{self, find_program};
use crate::venv::Venv;
use crate::{paths, process};

mod alone;
mod execution;
mod others;
mod storage;

/// A policy and the workload that it is measured on.
pub struct Policy {
    pub name: &'static str,
    /// One sentence, for the report.
    pub workload: &'static str,
    /// The Python script in `xtask/policy/`.
    pub script: &'static str,
    /// Of the TPC-H database that the script is given; None: it makes its own data in a folder of its own.
    pub scale_factor: Option<f64>,
    pub rounds: usize,
    /// What a round runs. `stock` and `attached` are among them.
    pub runs: &'static [Run],
    /// What decides.
    pub score: Metric,
    /// What the policy may lose.
    pub losses: &'static [Metric],
}

/// One run of the workload in each round.
pub struct Run {
    /// `stock` (untouched, or with a program that only counts), `attached`, or a name of the policy's own.
    pub name: &'static str,
    /// None: the extension is not even loaded. Else programs by name, with the parameters that `hook_attach` sets.
    pub programs: Option<&'static [(&'static str, &'static str)]>,
    /// The run whose numbers of the same round the script is given as `baseline`; it stands before this one and keeps its place.
    pub baseline: Option<&'static str>,
}

/// A number that the script prints.
pub struct Metric {
    pub name: &'static str,
    pub better: Better,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Better {
    Lower,
    Higher,
}

const STOCK: Run = Run { name: "stock", programs: None, baseline: None };

const fn lower(name: &'static str) -> Metric {
    Metric { name, better: Better::Lower }
}

const fn higher(name: &'static str) -> Metric {
    Metric { name, better: Better::Higher }
}

/// A run with one program.
const fn attached(programs: &'static [(&'static str, &'static str)]) -> Run {
    Run { name: "attached", programs: Some(programs), baseline: None }
}

#[derive(clap::Args)]
pub struct Args {
    /// The policy's name; several with commas, or all: no workload, but what TPC-H alone takes with each of them
    name: String,
    /// Rounds [default: the policy's own]
    #[arg(long)]
    rounds: Option<usize>,
    /// Scale factor of the data, where the workload is TPC-H's [default: the policy's own]
    #[arg(long)]
    sf: Option<f64>,
    /// Seconds that a run measures, where the workload has no end of its own
    #[arg(long, default_value_t = 30.0)]
    seconds: f64,
    /// Runs of TPC-H alone, stock and attached, for the loss; 0: none
    #[arg(long, default_value_t = 3)]
    tpch_runs: usize,
    /// Take the extension and the programs as they were built last
    #[arg(long)]
    no_build: bool,
}

/// Numbers of one run of a script.
type Numbers = BTreeMap<String, f64>;

fn policies() -> impl Iterator<Item = &'static Policy> {
    execution::POLICIES.iter().chain(storage::POLICIES).chain(others::POLICIES)
}

pub fn run(args: Args) -> Result<()> {
    if args.name == ALL {
        return all_alone(&args, &policies().collect::<Vec<_>>());
    }
    let named = args.name.split(',').map(find).collect::<Result<Vec<_>>>()?;
    let [policy] = named[..] else { return all_alone(&args, &named) };
    build(&args)?;
    let venv = Venv::ensure()?;
    let database = match policy.scale_factor {
        Some(default) => Some(bench::data(args.sf.unwrap_or(default), &venv)?),
        None => None,
    };
    let folder = folder(policy)?;
    let tpch = match (&database, args.tpch_runs) {
        (_, 0) => None,
        (Some(database), _) => Some(database.clone()),
        (None, _) => Some(bench::data(args.sf.unwrap_or(TPCH_SF), &venv)?),
    };
    let bench = Bench { policy, args: &args, python: venv.python(), database, tpch, folder };
    bench.write(&bench.measure()?)
}

fn find(name: &str) -> Result<&'static Policy> {
    let names = || policies().map(|policy| policy.name).collect::<Vec<_>>().join(", ");
    policies()
        .find(|policy| policy.name == name)
        .with_context(|| format!("there is no policy {name}; there are: {}", names()))
}

/// In a policy's place: all of them, on TPC-H alone.
const ALL: &str = "all";

/// What TPC-H alone takes with each of these policies, into the reports that there are.
fn all_alone(args: &Args, policies: &[&Policy]) -> Result<()> {
    build(args)?;
    let venv = Venv::ensure()?;
    let database = bench::data(args.sf.unwrap_or(TPCH_SF), &venv)?;
    let losses = alone::losses(&venv.python(), &database, policies, args.tpch_runs.max(1))?;
    for (policy, loss) in policies.iter().zip(losses) {
        let path = folder(policy)?.join("report.json");
        if path.is_file() {
            let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let mut report: Value = serde_json::from_slice(&text).with_context(|| path.display().to_string())?;
            report["loss"]["tpch"] = loss;
            fs::write(&path, serde_json::to_string_pretty(&report)?)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    Ok(())
}

fn build(args: &Args) -> Result<()> {
    if !args.no_build {
        bench::build()?;
    }
    Ok(())
}

/// Where a policy's reports are.
fn folder(policy: &Policy) -> Result<PathBuf> {
    let folder = paths::target("bench").join(format!("policy-{}", policy.name));
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

/// Where the workload has no scale factor of its own.
const TPCH_SF: f64 = 20.0;

struct Bench<'a> {
    policy: &'a Policy,
    args: &'a Args,
    python: PathBuf,
    database: Option<PathBuf>,
    /// On which the policy is tried alone.
    tpch: Option<PathBuf>,
    folder: PathBuf,
}

/// By run.
type Samples = BTreeMap<&'static str, Vec<Numbers>>;

impl Bench<'_> {
    fn measure(&self) -> Result<Samples> {
        let rounds = self.args.rounds.unwrap_or(self.policy.rounds);
        let mut samples = Samples::new();
        for round in 0..rounds {
            let mut of_round: BTreeMap<&str, Numbers> = BTreeMap::new();
            for run in order(self.policy.runs, round) {
                eprintln!("== round {} of {rounds}: {}", round + 1, run.name);
                let baseline = run.baseline.and_then(|name| of_round.get(name));
                let numbers = self.one(run, baseline, round).with_context(|| format!("run {}", run.name))?;
                eprintln!("   {}", serde_json::to_string(&numbers)?);
                of_round.insert(run.name, numbers);
            }
            for (name, numbers) in of_round {
                samples.entry(name).or_default().push(numbers);
            }
        }
        Ok(samples)
    }

    /// `report.json` says how it went, `rounds.json` all that was measured.
    fn write(&self, samples: &Samples) -> Result<()> {
        let report = self.report(samples)?;
        let rounds = json!({
            "metric": self.policy.score.name,
            "medians": samples.iter().map(|(name, runs)| (*name, medians(runs))).collect::<BTreeMap<_, _>>(),
            "samples": samples,
            "seconds": self.args.seconds,
            "database": self.database,
            "machine": Machine::here(),
        });
        for (name, value) in [("rounds.json", &rounds), ("report.json", &report)] {
            let path = self.folder.join(name);
            fs::write(&path, serde_json::to_string_pretty(value)?)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        println!("{}", serde_json::to_string_pretty(&rounds["medians"])?);
        println!("{}", serde_json::to_string_pretty(&report)?);
        println!("report: {}", self.folder.join("report.json").display());
        Ok(())
    }

    /// Runs the script once.
    fn one(&self, run: &Run, baseline: Option<&Numbers>, round: usize) -> Result<Numbers> {
        let programs = run.programs.map(|programs| {
            let with_path = |(name, params): &(&str, &str)| Ok(json!([find_program(name)?, params]));
            programs.iter().map(with_path).collect::<Result<Vec<Value>>>()
        });
        let settings = json!({
            "run": run.name,
            "programs": programs.transpose()?,
            "extension": paths::extension(),
            "database": self.database,
            "folder": self.folder,
            "seconds": self.args.seconds,
            "threads": std::thread::available_parallelism().map_or(1, usize::from),
            "round": round,
            "baseline": baseline,
            "queries": QUERIES.iter().map(|query| (query.number.to_string(), query.sql)).collect::<BTreeMap<_, _>>(),
        });
        let script = paths::root().join("xtask").join("policy").join(self.policy.script);
        let mut python = std::process::Command::new(&self.python);
        let output = process::read(python.env_remove("PYTHONPATH").arg(script).arg(settings.to_string()))?;
        let last = output.lines().last().unwrap_or_default();
        serde_json::from_str(last).with_context(|| format!("the workload printed no numbers: {last}"))
    }

    fn report(&self, samples: &Samples) -> Result<Value> {
        let policy = self.policy;
        let (stock, attached) = (&samples["stock"], &samples["attached"]);
        let mut loss: Map<String, Value> =
            policy.losses.iter().map(|metric| (metric.name.to_owned(), ratio(metric, stock, attached))).collect();
        if let Some(database) = &self.tpch {
            let losses = alone::losses(&self.python, database, &[self.policy], self.args.tpch_runs)?;
            loss.extend(losses.into_iter().map(|loss| ("tpch".to_owned(), loss)));
        }
        let score = ratio(&policy.score, stock, attached);
        Ok(json!({
            "policy": policy.name,
            "workload": policy.workload,
            "stock": medians(stock),
            "attached": medians(attached),
            "ratio": score["ratio"],
            "interval": score["interval"],
            "loss": loss,
        }))
    }
}

/// Runs of a round: those that others take as their baseline first, the others in turning order.
fn order(runs: &'static [Run], round: usize) -> Vec<&'static Run> {
    let is_baseline = |run: &Run| runs.iter().any(|other| other.baseline == Some(run.name));
    let (first, mut others): (Vec<&Run>, Vec<&Run>) = runs.iter().partition(|run| is_baseline(run));
    let turn = round % others.len().max(1);
    others.rotate_left(turn);
    first.into_iter().chain(others).collect()
}

/// By metric.
fn medians(runs: &[Numbers]) -> Value {
    let names = runs.first().map(|numbers| numbers.keys().cloned().collect::<Vec<_>>()).unwrap_or_default();
    let of = |name: &String| runs.iter().filter_map(|numbers| numbers.get(name).copied()).collect::<Vec<_>>();
    names.iter().map(|name| (name.clone(), json!(median(&of(name))))).collect::<Map<_, _>>().into()
}

/// Above 1: attached is better.
fn ratio(metric: &Metric, stock: &[Numbers], attached: &[Numbers]) -> Value {
    let of = |runs: &[Numbers]| runs.iter().filter_map(|numbers| numbers.get(metric.name).copied()).collect::<Vec<_>>();
    let (stock, attached) = (of(stock), of(attached));
    let (base, other) = match metric.better {
        Better::Lower => (&attached, &stock),
        Better::Higher => (&stock, &attached),
    };
    let paired = Paired::new([(base.as_slice(), other.as_slice())]);
    json!({"ratio": paired.ratio(), "interval": paired.interval()})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(value: f64) -> Numbers {
        BTreeMap::from([("time".to_owned(), value)])
    }

    #[test]
    fn a_ratio_above_one_is_better_than_stock() {
        let (slow, fast) = ([numbers(4.0), numbers(6.0)], [numbers(2.0), numbers(3.0)]);
        let lower = Metric { name: "time", better: Better::Lower };
        assert_eq!(ratio(&lower, &slow, &fast)["ratio"], json!(2.0));
        let higher = Metric { name: "time", better: Better::Higher };
        assert_eq!(ratio(&higher, &slow, &fast)["ratio"], json!(0.5));
    }

    #[test]
    fn baselines_come_first_and_the_others_take_turns() {
        for policy in policies() {
            for (round, expected) in [(0, "stock"), (1, "attached")] {
                let names: Vec<&str> = order(policy.runs, round).iter().map(|run| run.name).collect();
                let first = names.iter().find(|name| ["stock", "attached"].contains(name)).copied();
                assert_eq!(first, Some(expected), "{}", policy.name);
                for run in policy.runs {
                    let place = |wanted| names.iter().position(|name| *name == wanted);
                    assert!(run.baseline.is_none_or(|baseline| place(baseline) < place(run.name)), "{}", policy.name);
                }
            }
        }
    }

    #[test]
    fn every_policy_has_a_folder_with_a_readme() {
        for policy in policies() {
            let folder = paths::root().join("extensions-c").join(policy.name);
            assert!(folder.join("README.md").is_file(), "{}", folder.display());
            assert!(policy.runs.iter().any(|run| run.name == "stock"), "{}", policy.name);
            assert!(policy.runs.iter().any(|run| run.programs.is_none()), "{}", policy.name);
            assert!(policy.runs.iter().any(|run| run.name == "attached" && run.programs.is_some()), "{}", policy.name);
        }
    }
}
