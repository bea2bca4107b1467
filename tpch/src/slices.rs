//! One query in several processes, in turns of a few milliseconds: while one runs, the others stand still (SIGSTOP).
//!
//! Neighbours on a machine come and go within tenths of a second, and a query that happens to meet them takes half as long again. In turns
//! of milliseconds all configurations meet the same ones; what a query took is the time that its own process was running. A query that takes
//! less than a slice simply runs alone.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::queries::Query;
use crate::worker::{Timing, Worker};

/// How long one process runs before the next. Long beside stopping and going on, short beside what disturbs.
const SLICE: Duration = Duration::from_millis(20);

/// Runs a query once in each of the workers, whose turns come in this order. `seconds` of the answers leave out what a worker stood still.
pub fn race(workers: &mut [Worker], order: &[usize], query: &Query) -> Result<Vec<Timing>> {
    let mut racers = workers.iter_mut().map(|worker| Racer::at_start(worker, query)).collect::<Result<Vec<_>>>()?;
    while racers.iter().any(Racer::is_running) {
        for &turn in order {
            if racers[turn].is_running() {
                racers[turn].slice()?;
            }
        }
    }
    racers.iter_mut().map(Racer::result).collect()
}

/// A worker that stands still between its turns, and goes on when this is dropped.
struct Racer<'a> {
    worker: &'a mut Worker,
    /// When it ran, from and to, in the monotonic clock's nanoseconds.
    slices: Vec<[u64; 2]>,
    timing: Option<Timing>,
}

impl<'a> Racer<'a> {
    fn at_start(worker: &'a mut Worker, query: &Query) -> Result<Self> {
        let racer = Self { worker, slices: Vec::new(), timing: None };
        racer.worker.pause()?;
        racer.worker.begin(query)?;
        Ok(racer)
    }

    fn is_running(&self) -> bool {
        self.timing.is_none()
    }

    fn slice(&mut self) -> Result<()> {
        let from = now();
        self.worker.resume()?;
        self.timing = self.worker.timing_within(SLICE)?;
        self.worker.pause()?;
        self.slices.push([from, now()]);
        Ok(())
    }

    fn result(&mut self) -> Result<Timing> {
        let mut timing = self.timing.take().context("the worker has not answered")?;
        timing.seconds = overlap_ns(timing.span_ns, &self.slices) as f64 / 1e9;
        Ok(timing)
    }
}

impl Drop for Racer<'_> {
    fn drop(&mut self) {
        // It fails only when the process is gone.
        let _ = self.worker.resume();
    }
}

/// The clock of Python's `time.monotonic_ns`.
fn now() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// How much of `span` lies within the slices.
fn overlap_ns([start, end]: [u64; 2], slices: &[[u64; 2]]) -> u64 {
    slices.iter().map(|[from, to]| (*to).min(end).saturating_sub((*from).max(start))).sum()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::worker::{Hooks, Setup};

    /// Without tables, some tenths of a second long.
    const LONG: Query = Query { number: 0, sql: "SELECT sum(hash(range)::HUGEINT) FROM range(20_000_000)", order: &[] };

    #[test]
    fn two_processes_take_turns() {
        let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
        let (python, database) = (target.join("venv/bin/python"), target.join("bench/data/tpch-sf0.01.duckdb"));
        if !python.exists() || !database.exists() {
            eprintln!("SKIPPED: `cargo xtask bench tpch --sf 0.01` makes what is needed");
            return;
        }
        let extension = target.join("extension/duckbpf.duckdb_extension");
        let setup = Setup { threads: 1, ..Setup::of_wheel(python, database, extension) };
        let mut workers = [0, 1].map(|_| Worker::start(&setup, &Hooks::Stock).unwrap());
        let timings = race(&mut workers, &[1, 0], &LONG).unwrap();
        let length = |[start, end]: [u64; 2]| (end - start) as f64 / 1e9;
        let start = timings.iter().map(|timing| timing.span_ns[0]).min().unwrap();
        let end = timings.iter().map(|timing| timing.span_ns[1]).max().unwrap();
        let running: f64 = timings.iter().map(|timing| timing.seconds).sum();
        assert!(running <= length([start, end]), "{timings:?}: both ran at once");
        for timing in &timings {
            assert!(
                timing.seconds > 0.0 && timing.seconds < length(timing.span_ns),
                "{timing:?}: it never stood still"
            );
        }
        assert_eq!(timings[0].digest, timings[1].digest);
        // And they go on.
        assert!(workers.iter_mut().all(|worker| worker.time(&LONG, false).is_ok()));
    }

    #[test]
    fn only_time_within_slices_counts() {
        let slices = [[10, 20], [40, 50], [70, 80]];
        assert_eq!(overlap_ns([15, 75], &slices), 5 + 10 + 5);
        assert_eq!(overlap_ns([42, 47], &slices), 5);
        assert_eq!(overlap_ns([20, 40], &slices), 0);
        assert_eq!(overlap_ns([0, 100], &slices), 30);
    }
}
