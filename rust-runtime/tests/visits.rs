//! How many instructions the verifier visits, for each program of `extensions-c` and `benches/programs`: at most what `visits.txt` says. That
//! is the same on every machine, where time is not; a change that makes the verifier forget more, or go twice where it went once, is seen here.

mod common;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::{Path, PathBuf},
};

use common::folder;
use duckbpf_runtime::{Profile, Verdict, judge, testing::clang};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn entries(of: &str) -> impl Iterator<Item = PathBuf> {
    std::fs::read_dir(root().join(of)).expect("the folder is there").map(|entry| entry.expect("it is readable").path())
}

/// Visits by program, as its source is called from the project's root. What an object holds for several hooks counts together.
fn visits() -> BTreeMap<String, u64> {
    let policies = entries("extensions-c").map(|policy| policy.join("program.bpf.c")).filter(|source| source.exists());
    let larger = entries("benches/programs").filter(|path| path.to_string_lossy().ends_with(".bpf.c"));
    let sources = policies.chain(larger);
    let object = folder().join("visits.o");
    let count = |source: PathBuf| {
        clang::compile(&source, &object, &["-mcpu=v4"]);
        let verdicts = judge(&object, Profile::Hooks, false).expect("clang's objects are read");
        let visited = |verdict: Verdict| match verdict.result {
            Ok(_) => verdict.visited,
            Err(rejection) => panic!("{}: {rejection}", source.display()),
        };
        let name = source.strip_prefix(root()).expect("it is in the project").display().to_string();
        (name, verdicts.into_iter().map(visited).sum())
    };
    sources.map(count).collect()
}

/// `DUCKBPF_VISITS=write` writes what is visited now, to be read before it is committed.
#[test]
fn no_more_is_visited_than_was() {
    let table = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/visits.txt");
    let found = visits();
    if std::env::var_os("DUCKBPF_VISITS").is_some() {
        let mut lines = String::new();
        found.iter().for_each(|(program, visits)| writeln!(lines, "{visits:6} {program}").expect("a string grows"));
        std::fs::write(&table, lines).expect("the table can be written");
    }
    let text = std::fs::read_to_string(&table).expect("the table is there");
    let line = |line: &str| {
        let (visits, program) = line.trim().split_once(' ').expect("visits and a program");
        (program.to_owned(), visits.parse::<u64>().expect("a number"))
    };
    let most: BTreeMap<String, u64> = text.lines().map(line).collect();
    let wrong: Vec<String> = found
        .iter()
        .filter(|(program, visits)| most.get(*program).is_none_or(|most| *visits > most))
        .map(|(program, visits)| format!("{program}: {visits}, not {:?}", most.get(program)))
        .collect();
    assert!(wrong.is_empty(), "more is visited, or the table lacks a program:\n{}", wrong.join("\n"));
    // A bound that is far away notices nothing.
    let slack: Vec<_> =
        most.iter().filter(|(program, most)| found.get(*program).is_none_or(|now| now * 10 < *most * 9)).collect();
    assert!(slack.is_empty(), "less is visited, or the table has a program too many; DUCKBPF_VISITS=write: {slack:?}");
}
