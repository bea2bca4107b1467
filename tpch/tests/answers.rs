//! The 22 queries on the official wheel give the reference answers, also where processes take turns.

use std::path::Path;
use std::time::Instant;

use duckbpf_tpch::run::{Comparison, Configuration};
use duckbpf_tpch::worker::{Hooks, Host, Setup, Worker};
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
    let wheel = Host::Wheel { python };
    Some(Setup {
        stock: wheel.clone(),
        hooked: wheel,
        database,
        extension: target.join("extension/duckbpf.duckdb_extension"),
        threads: 2,
        memory: None,
    })
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

#[test]
fn what_a_process_stands_still_is_not_its_time() {
    let Some(setup) = setup("0.01") else { return };
    let stock = |name: &str| Configuration { name: name.to_owned(), hooks: Hooks::Stock };
    let configurations = [stock("one"), stock("another")];
    let comparison = Comparison {
        setup: &setup,
        configurations: &configurations,
        cold_rounds: 0,
        repeats: 1,
        repeat_s: f64::INFINITY,
    };
    let mut times = comparison.no_times();
    let began = Instant::now();
    comparison.run(0..1, &mut times, |_, _| {}).unwrap();
    let hot: f64 = times.iter().flatten().flat_map(|samples| &samples.hot_s).sum();
    assert!(hot > 0.0 && hot < began.elapsed().as_secs_f64(), "{hot} s");
    for (one, another) in times[0].iter().zip(&times[1]) {
        assert_eq!((one.hot_s.len(), another.hot_s.len()), (1, 1));
        assert!(one.digests.len() == 1 && one.digests == another.digests);
    }
}
