//! How long the verifier takes: over extensions-c, over the larger programs of `programs/`, and at its limit. The objects are
//! built here, by clang-19. `cargo bench -p duckbpf-benches --bench verifier`

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use duckbpf_runtime::{Profile, Verdict, judge, testing};

/// Rounds of which the table at the end gives the median.
const ROUNDS: usize = 101;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The entries of a folder of the project, by name.
fn entries(folder: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join(folder)).expect("the folder is there").flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// Compiles a program into a folder, as `cargo xtask programs` does.
fn compile(name: &str, source: &Path, into: &Path) -> PathBuf {
    let object = into.join(name).with_extension("o");
    testing::clang::compile(source, &object, &["-mcpu=v4"]);
    object
}

/// The programs of extensions-c, one folder each, and the larger ones, one file each.
fn objects(group: &str, into: &Path) -> Vec<(String, PathBuf)> {
    let sources = match group {
        "extensions-c" => entries(group).into_iter().map(|folder| folder.join("program.bpf.c")).collect(),
        _ => entries(group),
    };
    let is_source = |path: &PathBuf| path.to_string_lossy().ends_with(".bpf.c") && path.is_file();
    let name = |source: &PathBuf| {
        let of = if source.ends_with("program.bpf.c") { source.parent() } else { Some(source.as_path()) };
        let name = of.and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
        name.trim_end_matches(".bpf.c").to_owned()
    };
    let built = sources.iter().filter(|path| is_source(path)).map(|source| {
        let name = name(source);
        let object = compile(&name, source, into);
        (name, object)
    });
    built.collect()
}

fn check(path: &Path) -> Vec<Verdict> {
    let verdicts = judge(path, Profile::Hooks, false).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    if let Some(rejection) = verdicts.iter().find_map(|verdict| verdict.result.as_ref().err()) {
        panic!("{rejection}");
    }
    verdicts
}

/// The check alone, of an object's slowest program: not reading the file, not decoding it.
fn nanoseconds(path: &Path) -> u64 {
    check(path).iter().map(|verdict| verdict.nanoseconds).max().unwrap_or(0)
}

fn programs(c: &mut Criterion) {
    for group in ["extensions-c", "benches/programs"] {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let objects = objects(group, folder.path());
        let mut timed = c.benchmark_group(group);
        for (name, path) in &objects {
            timed.bench_function(BenchmarkId::from_parameter(name), |b| {
                b.iter_custom(|rounds| (0..rounds).map(|_| Duration::from_nanos(nanoseconds(path))).sum());
            });
        }
        timed.finish();
        table(group, &objects);
    }
}

/// Median and worst over all programs of a group: of each its median.
fn table(group: &str, objects: &[(String, PathBuf)]) {
    let mut rows = Vec::new();
    for (name, path) in objects {
        let rounds: Vec<Vec<Verdict>> = (0..ROUNDS).map(|_| check(path)).collect();
        for program in 0..rounds[0].len() {
            let mut times: Vec<u64> = rounds.iter().map(|verdicts| verdicts[program].nanoseconds).collect();
            times.sort_unstable();
            rows.push((times[ROUNDS / 2], format!("{name}, {}", rounds[0][program].function)));
        }
    }
    rows.sort_unstable();
    let us = |row: &(u64, String)| format!("{:.1} us ({})", row.0 as f64 / 1000.0, row.1);
    if let (Some(middle), Some(last)) = (rows.get(rows.len() / 2), rows.last()) {
        println!("\n{group}: {} programs, median {}, worst {}\n", rows.len(), us(middle), us(last));
    }
}

/// A loop that no bound is known of: refused after a million instructions.
fn limit(c: &mut Criterion) {
    let text = "r6 = 0\nloop: call 7\nr6 += 1\nif r0 != 7 goto loop\nr0 = r6\nexit";
    let assembly = testing::asm::assemble(text).expect("it assembles");
    let mut group = c.benchmark_group("limit");
    group.sample_size(10);
    group.bench_function("a million instructions", |b| {
        b.iter(|| testing::corpus::verdict(&assembly).expect("it is refused"));
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_millis(600));
    targets = programs, limit
}
criterion_main!(benches);
