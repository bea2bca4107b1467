//! `cargo xtask bench policy <name>`: a policy of the gallery against stock, on the workload that it is for, into
//! `target/bench/policy-<name>/report.json`.
//!
//! A workload is a Python script below `xtask/policy/`, which opens the official wheel and prints one JSON object of numbers. A round runs it once for each
//! of the policy's runs, each in a process of its own, one after the other and in turning order; so what disturbs the machine for long disturbs all. A ratio is
//! the median of the rounds' own ratios. A new policy is one entry in a table like [`execution::POLICIES`].

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use duckbpf_tpch::machine::Machine;
use duckbpf_tpch::queries::QUERIES;
use duckbpf_tpch::run::{Comparison, Configuration};
use duckbpf_tpch::stats::{Paired, median};
use duckbpf_tpch::worker::{Hooks, Host, Setup};
use serde_json::{Map, Value, json};

use crate::bench::{self, find_program};
use crate::venv::Venv;
use crate::{extension, graft, paths, process, programs};

mod execution;
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
    /// `stock`, `attached`, or a name of the policy's own.
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

#[derive(clap::Args)]
pub struct Args {
    /// The policy's name
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
    execution::POLICIES.iter().chain(storage::POLICIES)
}

pub fn run(args: Args) -> Result<()> {
    let Some(policy) = policies().find(|policy| policy.name == args.name) else {
        bail!(
            "there is no policy {}; there are: {}",
            args.name,
            policies().map(|p| p.name).collect::<Vec<_>>().join(", ")
        );
    };
    if !args.no_build {
        graft::run(graft::Args {})?;
        programs::compile_all(&paths::programs(), "v4")?;
        extension::install(&extension::build()?)?;
    }
    let venv = Venv::ensure()?;
    let database = match policy.scale_factor {
        Some(default) => Some(bench::data(args.sf.unwrap_or(default), &venv)?),
        None => None,
    };
    let folder = paths::target("bench").join(format!("policy-{}", policy.name));
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let bench = Bench { policy, args: &args, python: venv.python(), database, folder };
    let report = bench.measure()?;
    let out = bench.folder.join("report.json");
    fs::write(&out, serde_json::to_string_pretty(&report)?)
        .with_context(|| format!("cannot write {}", out.display()))?;
    println!(
        "{}",
        serde_json::to_string_pretty(&json!({
            "ratio": report["ratio"], "interval": report["interval"], "stock": report["stock"], "attached": report["attached"],
            "others": report["others"], "loss": report["loss"],
        }))?
    );
    println!("report: {}", out.display());
    Ok(())
}

struct Bench<'a> {
    policy: &'a Policy,
    args: &'a Args,
    python: PathBuf,
    database: Option<PathBuf>,
    folder: PathBuf,
}

impl Bench<'_> {
    fn measure(&self) -> Result<Value> {
        let rounds = self.args.rounds.unwrap_or(self.policy.rounds);
        let mut samples: BTreeMap<&str, Vec<Numbers>> = BTreeMap::new();
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
        self.report(&samples)
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

    fn report(&self, samples: &BTreeMap<&str, Vec<Numbers>>) -> Result<Value> {
        let policy = self.policy;
        let (stock, attached) = (&samples["stock"], &samples["attached"]);
        let others: Map<String, Value> = samples
            .iter()
            .filter(|(name, _)| !["stock", "attached"].contains(name))
            .map(|(name, runs)| (name.to_string(), medians(runs)))
            .collect();
        let mut loss: Map<String, Value> =
            policy.losses.iter().map(|metric| (metric.name.to_owned(), ratio(metric, stock, attached))).collect();
        if let Some(tpch) = self.tpch_alone()? {
            loss.insert("tpch".to_owned(), tpch);
        }
        let score = ratio(&policy.score, stock, attached);
        Ok(json!({
            "policy": policy.name,
            "workload": policy.workload,
            "metric": policy.score.name,
            "stock": medians(stock),
            "attached": medians(attached),
            "ratio": score["ratio"],
            "interval": score["interval"],
            "loss": loss,
            "others": others,
            "rounds": stock.len(),
            "seconds": self.args.seconds,
            "database": self.database,
            "machine": Machine::here(),
            "samples": samples,
        }))
    }

    /// The 22 queries, one after the other and nothing beside them.
    fn tpch_alone(&self) -> Result<Option<Value>> {
        let (runs, Some(database)) = (self.args.tpch_runs, self.database.clone()) else { return Ok(None) };
        if runs == 0 {
            return Ok(None);
        }
        eprintln!("== {runs} runs of TPC-H alone, stock and attached");
        let wheel = Host::Wheel { python: self.python.clone() };
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let setup = Setup {
            stock: wheel.clone(),
            hooked: wheel,
            database,
            extension: paths::extension(),
            threads,
            memory: None,
        };
        let attached = self.policy.runs.iter().find(|run| run.name == "attached").and_then(|run| run.programs);
        let programs =
            attached.unwrap_or_default().iter().map(|(name, _)| find_program(name)).collect::<Result<_>>()?;
        let configurations = [
            Configuration { name: "stock".to_owned(), hooks: Hooks::Stock },
            Configuration { name: "attached".to_owned(), hooks: Hooks::Loaded(programs) },
        ];
        let comparison = Comparison { setup: &setup, configurations: &configurations, cold_rounds: 0, repeats: 1 };
        let mut times = comparison.no_times();
        comparison.run(0..runs, &mut times, |_, _| {})?;
        let paired = Paired::new(times[0].iter().zip(&times[1]).map(|(a, b)| (a.hot_s.as_slice(), b.hot_s.as_slice())));
        let unequal: Vec<usize> = times[0]
            .iter()
            .zip(&times[1])
            .zip(1..)
            .filter(|((a, b), _)| a.digests != b.digests)
            .map(|(_, n)| n)
            .collect();
        Ok(Some(json!({
            "time_attached_to_stock": paired.ratio(), "interval": paired.interval(), "runs": runs, "unequal_results": unequal,
        })))
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
            assert!(policy.runs.iter().any(|run| run.name == "stock" && run.programs.is_none()), "{}", policy.name);
            assert!(policy.runs.iter().any(|run| run.name == "attached" && run.programs.is_some()), "{}", policy.name);
        }
    }
}
