//! Programs as eBPF developers write them: those of `tests/habits`, judged by the rules for programs that were written elsewhere,
//! and the larger ones of `benches/programs`, by their hook's. Both as clang builds them in several ways.

mod common;

use std::path::{Path, PathBuf};

use common::folder;
use duckbpf_runtime::{Profile, Verdict, judge, testing::clang};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The C files of a folder of the project, by name.
fn sources(of: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join(of)).expect("the folder is there").flatten().map(|entry| entry.path());
    let mut files: Vec<_> = entries.filter(|path| path.extension().is_some_and(|ending| ending == "c")).collect();
    files.sort();
    files
}

fn compile(source: &Path, flags: &[&str]) -> PathBuf {
    let name = source.file_stem().expect("it has a name").to_string_lossy().into_owned();
    let object = folder().join(format!("{name}{}.o", flags.concat()));
    clang::compile(source, &object, &[&["-I", "rust-runtime/tests/habits", "-Wno-unused"], flags].concat());
    object
}

/// What a program's name says of it: the id of the error, None where it is accepted.
fn expected(name: &str) -> Option<String> {
    let (verdict, rest) = name.split_once('_').expect("a name begins with a verdict");
    match verdict {
        "ok" | "ours" => None,
        "bad" | "theirs" => Some(rest.split_once("__").expect("an id and a name").0.replace('_', "-")),
        other => panic!("{name}: {other} is no verdict"),
    }
}

fn is_as_expected(verdict: &Verdict) -> Result<(), String> {
    let found = verdict.result.as_ref().err().map(|rejection| rejection.id().to_owned());
    let message = verdict.result.as_ref().err().map_or_else(String::new, ToString::to_string);
    if found == expected(&verdict.function) { Ok(()) } else { Err(format!("{}: {message}", verdict.function)) }
}

#[test]
fn habits_are_judged_as_their_names_say() {
    let (mut wrong, mut judged) = (Vec::new(), 0);
    for source in sources("rust-runtime/tests/habits") {
        for flags in [["-O2", "-mcpu=v3"], ["-O2", "-mcpu=v4"]] {
            for verdict in judge(&compile(&source, &flags), Profile::Generic, false).expect("clang's objects are read")
            {
                judged += 1;
                wrong.extend(is_as_expected(&verdict).err().map(|what| format!("{}: {what}", flags.join(" "))));
            }
        }
    }
    assert!(judged >= 750, "{judged}");
    assert!(wrong.is_empty(), "{} of {judged}:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn the_larger_programs_are_accepted() {
    let sources = sources("benches/programs");
    assert!(sources.len() >= 20, "{}", sources.len());
    for source in &sources {
        for verdict in
            judge(&compile(source, &["-O2", "-mcpu=v4"]), Profile::Hooks, false).expect("clang's objects are read")
        {
            let accepted = verdict.result.unwrap_or_else(|rejection| panic!("{rejection}"));
            let slots = accepted.slots;
            assert!((80..=1000).contains(&slots), "{}: {slots} instructions", source.display());
        }
    }
}
