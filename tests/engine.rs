//! Hooks in a DuckDB that the program links, and in a crate of somebody else's.

use std::path::{Path, PathBuf};
use std::process::Command;

use duckbpf::engine::{self, duckdb::Connection};
use duckbpf::{Options, Runtime};

const QUERY: &str = "SELECT count(*) FROM (SELECT k, sum(i) FROM t GROUP BY k)";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// How this workspace builds its tests, and so what a crate that builds beside them finds built.
fn profile() -> String {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let sections: Vec<&str> = manifest.split("\n[").filter(|section| section.starts_with("profile.dev")).collect();
    assert!(!sections.is_empty());
    sections.iter().map(|section| format!("\n[{section}\n")).collect()
}

fn program(name: &str) -> PathBuf {
    let path = root().join("target/bpf").join(format!("{name}.bpf.o"));
    assert!(path.exists(), "{} was not built: cargo xtask programs", path.display());
    path
}

fn groups(connection: &Connection) -> i64 {
    connection.query_row(QUERY, [], |row| row.get(0)).unwrap()
}

fn names(hooks: &Runtime) -> Vec<String> {
    hooks.programs().into_iter().map(|program| program.name).collect()
}

/// One test: the hooks are the process'.
#[test]
fn programs_are_attached_swapped_and_detached_while_a_linked_duckdb_works() {
    let folder = tempfile::tempdir().unwrap();
    let (connection, hooks) = engine::open(folder.path().join("test.duckdb")).unwrap();
    assert_eq!(hooks.host().carrier, duckbpf::abi::DUCKBPF_CARRIER_ENGINE);
    connection
        .execute_batch("CREATE TABLE t AS SELECT range AS i, range % 1000 * 1000003 AS k FROM range(100000)")
        .unwrap();
    assert_eq!(groups(&connection), 1000);

    hooks.attach(&program("default_hash"), Options { replace: false }).unwrap();
    assert_eq!(groups(&connection), 1000);
    let attached = &hooks.programs()[0];
    assert!(attached.counts.calls > 0 && attached.counts.keys >= 100_000, "{attached:?}");

    let taken = hooks.attach(&program("hash_wy"), Options { replace: false }).unwrap_err();
    assert!(taken.to_string().contains("default_hash"), "{taken}");
    hooks.attach(&program("hash_wy"), Options { replace: true }).unwrap();
    assert_eq!(groups(&connection), 1000);
    assert_eq!(names(hooks), ["hash_wy"]);

    let (other, same_hooks) = engine::open_in_memory().unwrap();
    assert!(std::ptr::eq(hooks, same_hooks));
    assert_eq!(other.query_row("SELECT 1", [], |row| row.get::<_, i64>(0)).unwrap(), 1);

    hooks.detach("hash_wy").unwrap();
    assert_eq!(groups(&connection), 1000);
    assert!(names(hooks).is_empty());
}

/// The three lines of `src/engine.rs`, in a crate that knows nothing else of this one.
#[test]
fn an_outside_crate_embeds_it_in_three_lines() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = format!(
        "[workspace]\n\n[package]\nname = \"outside\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[dependencies]\n\
         duckbpf = {{ path = {:?}, features = [\"engine\"] }}\n{}",
        root(),
        profile(),
    );
    let main = "fn main() -> Result<(), Box<dyn std::error::Error>> {\n\
                let (connection, hooks) = duckbpf::engine::open(\"my.duckdb\")?;\n\
                hooks.attach(std::env::args().nth(1).unwrap().as_ref(), duckbpf::Options { replace: false })?;\n\
                connection.execute_batch(\"CREATE TABLE t AS SELECT range AS i FROM range(100000)\")?;\n\
                println!(\"{} calls\", hooks.programs()[0].counts.calls);\n\
                Ok(())\n}\n";
    std::fs::create_dir(folder.path().join("src")).unwrap();
    std::fs::write(folder.path().join("Cargo.toml"), manifest).unwrap();
    std::fs::write(folder.path().join("src/main.rs"), main).unwrap();
    // The versions that this checkout is tested with.
    std::fs::copy(root().join("Cargo.lock"), folder.path().join("Cargo.lock")).unwrap();

    let output = Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--"])
        .arg(program("default_allocate_new_block"))
        .current_dir(folder.path())
        // What it builds on was built for this test.
        .env("CARGO_TARGET_DIR", root().join("target"))
        .output()
        .unwrap();
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{errors}");
    let calls: u64 = said.trim().strip_suffix(" calls").and_then(|calls| calls.parse().ok()).unwrap_or_default();
    assert!(calls > 0, "{said}{errors}");
}
