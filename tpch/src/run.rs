//! The runs of a comparison. In a round every configuration has a process of its own, and they run each query in turns of milliseconds
//! (`slices.rs`), in an order that changes all the time: what disturbs the machine for longer than that disturbs all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::answers;
use crate::queries::QUERIES;
use crate::slices;
use crate::stats::side_by_side;
use crate::worker::{Calls, Hooks, Reloads, Setup, Swapped, Worker};

/// What is compared.
#[derive(Clone, Debug)]
pub struct Configuration {
    pub name: String,
    pub hooks: Hooks,
}

/// What one configuration did with one query. Seconds.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    /// One a run: the typical one of its executions.
    pub hot_s: Vec<f64>,
    /// One a run, of those that had a cold execution.
    pub cold_s: Vec<f64>,
    /// Of all results; one when all were equal.
    pub digests: BTreeSet<String>,
}

/// Times of one configuration, by query.
pub type Times = Vec<Samples>;

/// What every round does.
pub struct Comparison<'a> {
    pub setup: &'a Setup,
    pub configurations: &'a [Configuration],
    /// In so many of the first rounds the first execution of a query is cold; later it only warms up.
    pub cold_rounds: usize,
    /// Hot executions of a query in a round, of which the typical time counts: at most so many.
    pub repeats: usize,
    /// No further execution of a query begins in a round once its hot ones took so long, in seconds and a configuration. Noise is of time, not of
    /// queries: short ones need more executions for the same certainty, and cost less.
    pub repeat_s: f64,
}

impl Comparison<'_> {
    /// Queries that one round times.
    pub fn steps(&self) -> usize {
        self.configurations.len() * QUERIES.len()
    }

    /// Nothing measured yet.
    pub fn no_times(&self) -> Vec<Times> {
        vec![vec![Samples::default(); QUERIES.len()]; self.configurations.len()]
    }

    /// Runs these rounds and adds to `times`, which are by configuration. `progress` hears of each query that was timed.
    pub fn run(&self, rounds: Range<usize>, times: &mut [Times], mut progress: impl FnMut(&str, usize)) -> Result<()> {
        for round in rounds {
            self.round(round, times, &mut |name| progress(name, round + 1))
                .with_context(|| format!("run {}", round + 1))?;
        }
        Ok(())
    }

    fn round(&self, round: usize, times: &mut [Times], progress: &mut dyn FnMut(&str)) -> Result<()> {
        let mut workers = self.start(round)?;
        for (number, query) in QUERIES.iter().enumerate() {
            self.warm_up(round, &mut workers, number, times).with_context(|| format!("query {}", query.number))?;
            let mut hot_s = vec![Vec::new(); workers.len()];
            for turn in 0..self.repeats {
                if turn > 0 && self.long_enough(&hot_s) {
                    break;
                }
                let order = order(workers.len(), round + number + turn);
                let timings = slices::race(&mut workers, &order, query)
                    .with_context(|| format!("query {} in all configurations", query.number))?;
                for (index, timing) in timings.into_iter().enumerate() {
                    hot_s[index].push(timing.seconds);
                    times[index][number].digests.insert(timing.digest);
                }
            }
            for (index, typical) in side_by_side(&hot_s).into_iter().enumerate() {
                times[index][number].hot_s.push(typical);
                progress(&self.configurations[index].name);
            }
        }
        Ok(())
    }

    /// A query's first execution in each process, one after the other; cold in the first rounds.
    fn warm_up(&self, round: usize, workers: &mut [Worker], number: usize, times: &mut [Times]) -> Result<()> {
        let cold = round < self.cold_rounds;
        for index in order(workers.len(), round + number) {
            let name = &self.configurations[index].name;
            let timing =
                workers[index].time(&QUERIES[number], cold).with_context(|| format!("configuration {name}"))?;
            times[index][number].cold_s.extend(cold.then_some(timing.seconds));
            times[index][number].digests.insert(timing.digest);
        }
        Ok(())
    }

    /// The processes, by configuration. Which starts first changes from round to round: where its memory lies may depend on it.
    fn start(&self, round: usize) -> Result<Vec<Worker>> {
        let start = |index: usize| Ok((index, Worker::start(self.setup, &self.configurations[index].hooks)?));
        let workers =
            order(self.configurations.len(), round).into_iter().map(start).collect::<Result<BTreeMap<_, _>>>()?;
        Ok(workers.into_values().collect())
    }

    /// Whether a query was repeated enough: all configurations together decide, so that they have equally many executions.
    fn long_enough(&self, hot_s: &[Vec<f64>]) -> bool {
        hot_s.iter().flatten().sum::<f64>() >= self.repeat_s * hot_s.len() as f64
    }
}

/// Who comes when. Over 2n turns each of n configurations has every place twice, and every neighbour on both sides.
fn order(configurations: usize, turn: usize) -> Vec<usize> {
    let forward = (0..configurations).map(|place| (place + turn) % configurations);
    if (turn / configurations).is_multiple_of(2) { forward.collect() } else { forward.rev().collect() }
}

/// Runs every query on the untouched wheel and compares with the reference answers, where there are any for this scale factor.
/// `told` hears the number and the warm seconds of each as they come.
pub fn check_stock(setup: &Setup, sf: f64, mut told: impl FnMut(usize, f64)) -> Result<()> {
    let mut worker = Worker::start(setup, &Hooks::Stock)?;
    let mut wrong = Vec::new();
    for query in &QUERIES {
        worker.time(query, false)?;
        told(query.number, worker.time(query, false)?.seconds);
        if let Some(reference) = answers::reference(sf, query.number)
            && let Err(error) = answers::check(&worker.rows(query.sql)?, reference)
        {
            wrong.push(format!("query {}: {error:#}", query.number));
        }
    }
    if !wrong.is_empty() {
        bail!(
            "the untouched wheel does not give the reference answers: the data or a query is wrong\n  {}",
            wrong.join("\n  ")
        );
    }
    Ok(())
}

/// Hook calls of every query with these programs, in a process that is not timed.
pub fn count_calls(setup: &Setup, programs: &[PathBuf], mut progress: impl FnMut()) -> Result<Vec<Calls>> {
    let mut worker = Worker::start(setup, &Hooks::Loaded(programs.to_vec()))?;
    QUERIES
        .iter()
        .map(|query| {
            let calls = worker.count(query)?;
            progress();
            Ok(calls)
        })
        .collect()
}

/// What reloads took, by program, and beside them statements that do nothing, in nanoseconds.
pub struct Reloaded {
    pub programs: Vec<(String, Reloads)>,
    pub empty_ns: Vec<u64>,
}

/// Reloads each of the programs while all of them are attached.
pub fn reload(setup: &Setup, programs: &[PathBuf], repeats: usize) -> Result<Reloaded> {
    let mut worker = Worker::start(setup, &Hooks::Loaded(programs.to_vec()))?;
    let empty_ns = worker.statements(repeats)?;
    let programs = programs.iter().map(|program| Ok((program_name(program), worker.reload(program, repeats)?)));
    Ok(Reloaded { programs: programs.collect::<Result<_>>()?, empty_ns })
}

/// The digest of each query's result, where all its results were equal.
pub fn digests(times: &[Samples]) -> Option<Vec<String>> {
    times.iter().map(|samples| samples.digests.iter().next().filter(|_| samples.digests.len() == 1).cloned()).collect()
}

/// Swaps the sets while queries run, in a process of its own. `digests` are the right results', by query.
pub fn swap(setup: &Setup, sets: &[Vec<PathBuf>], digests: &[String], clients: usize, seconds: f64) -> Result<Swapped> {
    let queries: Vec<_> = QUERIES.iter().zip(digests.iter().map(String::as_str)).collect();
    Worker::start(setup, &Hooks::Loaded(Vec::new()))?.swap(&queries, clients, seconds, sets)
}

/// A program is called by its file's stem.
pub fn program_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.strip_suffix(".bpf.o").unwrap_or(&name).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_configuration_has_every_place_equally_often() {
        let n = 3;
        let mut places = vec![vec![0; n]; n];
        for turn in 0..2 * n {
            for (place, configuration) in order(n, turn).into_iter().enumerate() {
                places[configuration][place] += 1;
            }
        }
        assert_eq!(places, vec![vec![2; n]; n]);
    }

    #[test]
    fn a_program_is_called_by_its_stem() {
        assert_eq!(program_name(Path::new("a/default_hash.bpf.o")), "default_hash");
        assert_eq!(program_name(Path::new("other.o")), "other.o");
    }
}
