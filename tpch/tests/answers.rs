//! The 22 queries on the official wheel give the reference answers.

use std::path::Path;

use duckbpf_tpch::worker::{Hooks, Setup, Worker};
use duckbpf_tpch::{answers, queries::QUERIES};

/// Data that was made already (`cargo xtask test` makes 0.01), and the environment that reads it.
fn setup(sf: &str) -> Option<Setup> {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    let python = target.join("venv/bin/python");
    let database = target.join(format!("bench/data/tpch-sf{sf}.duckdb"));
    for needed in [&python, &database] {
        if !needed.exists() {
            eprintln!("SKIPPED: {} is missing; `cargo xtask bench tpch --sf {sf}` makes it", needed.display());
            return None;
        }
    }
    Some(Setup::of_wheel(python, database, target.join("extension/duckbpf.duckdb_extension")))
}

fn check(sf: &str) {
    let Some(setup) = setup(sf) else { return };
    let mut worker = Worker::start(&setup, &Hooks::Stock).unwrap();
    let scale: f64 = sf.parse().unwrap();
    for query in &QUERIES {
        let reference = answers::reference(scale, query.number).unwrap();
        let rows = worker.rows(query.sql).unwrap();
        answers::check(&rows, reference).unwrap_or_else(|error| panic!("query {}: {error:#}", query.number));
    }
}

#[test]
fn the_small_answers_are_right() {
    check("0.01");
}

#[test]
fn the_answers_at_scale_factor_1_are_right() {
    check("1");
}
