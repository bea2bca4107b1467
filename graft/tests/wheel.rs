//! The graft in the process of an official wheel: each test runs a scenario of wheel.py in a Python of its own.
//!
//! Needs `cargo xtask graft` and `cargo xtask venv`; skips loudly where one of them has not been run.

use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Cargo puts examples beside the folder of tests or, where that is outside of the checkout (build.build-dir), into the target folder.
fn probe() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let folders = [test.parent().unwrap().parent().unwrap().to_owned(), root().join("target/debug")];
    let probes = folders.map(|folder| folder.join("examples/libgraft_probe.so"));
    probes.iter().find(|probe| probe.exists()).unwrap_or(&probes[0]).clone()
}

fn run(scenario: &str, environment: &str, variables: &[(&str, &str)]) {
    let python = root().join("target").join(environment).join("bin/python");
    let image = root().join("target/graft/duckbpf-graft.so");
    for needed in [&python, &image] {
        if !needed.exists() {
            eprintln!("SKIPPED {scenario}: {} is missing (cargo xtask test makes it)", needed.display());
            return;
        }
    }
    let script = root().join("graft/tests/wheel.py");
    let mut command = Command::new(python);
    command.arg(script).arg(scenario).arg(probe()).arg(image).envs(variables.iter().copied());
    let output = command.output().unwrap();
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{out}");
    assert!(output.status.success() && out.contains("passed"), "{scenario}: {}\n{out}\n{error}", output.status);
}

macro_rules! scenarios {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            run(stringify!($name), "venv", &[]);
        })*
    };
}

scenarios! {
    slots stock_code undo reached copies under_load errors_cross bad_images no_mprotect no_memfd no_write_then_execute lazily_bound
    no_duckdb with_arrow
}

#[test]
fn bound_at_once() {
    run("bound_at_once", "venv", &[("LD_BIND_NOW", "1")]);
}

#[test]
fn other_version() {
    run("other_version", "venv-other", &[]);
}
