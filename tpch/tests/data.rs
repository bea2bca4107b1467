//! The generator: what it leaves behind, and what it does not.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const GENERATOR: &str = env!("CARGO_BIN_EXE_tpch-data");

fn python() -> Option<PathBuf> {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/venv/bin/python");
    if !python.exists() {
        eprintln!("SKIPPED: {} is missing; `cargo xtask venv` makes it", python.display());
        return None;
    }
    Some(python)
}

/// An empty folder for one test.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn generate(command: &mut Command, sf: &str, python: &Path, out: &Path) -> Output {
    command.args(["--sf", sf, "--python"]).arg(python).arg("--out").arg(out).output().unwrap()
}

/// Names in a folder, the lock's apart.
fn names(folder: &Path) -> Vec<String> {
    let names = folder.read_dir().unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    names.filter(|name| !name.ends_with(".lock")).collect()
}

fn ask(python: &Path, database: &Path, sql: &str) -> String {
    let script =
        "import duckdb, sys; print(*duckdb.connect(sys.argv[1], read_only=True).execute(sys.argv[2]).fetchone())";
    let output = Command::new(python).args(["-c", script]).arg(database).arg(sql).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn rows_lie_in_the_order_of_the_specifications_generator() {
    let Some(python) = python() else { return };
    let folder = folder("order");
    let database = folder.join("tpch.duckdb");
    // Three parts of lineitem.
    let output = generate(&mut Command::new(GENERATOR), "0.2", &python, &database);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(names(&folder), ["tpch.duckdb"]);
    let disorder = "SELECT count(*) FROM (SELECT (l_orderkey, l_linenumber) AS key, \
        lag((l_orderkey, l_linenumber)) OVER (ORDER BY rowid) AS before FROM lineitem) WHERE before >= key";
    assert_eq!(ask(&python, &database, disorder), "0");
    let counts = "SELECT (SELECT count(*) FROM region), (SELECT count(*) FROM nation), (SELECT count(*) FROM supplier), \
        (SELECT count(*) FROM part), (SELECT count(*) FROM partsupp), (SELECT count(*) FROM customer), \
        (SELECT count(*) FROM orders), (SELECT count(DISTINCT l_orderkey) FROM lineitem)";
    assert_eq!(ask(&python, &database, counts), "5 25 2000 40000 160000 30000 300000 300000");
}

#[test]
fn a_full_disk_is_told_and_leaves_nothing() {
    let Some(python) = python() else { return };
    let folder = folder("full");
    let database = folder.join("tpch.duckdb");
    // No file may grow beyond a MiB at most: what the kernel then refuses is what it refuses on a full disk.
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -f 1024 && exec \"$0\" \"$@\"", GENERATOR]);
    let output = generate(&mut limited, "0.01", &python, &database);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(said.contains("DuckDB could not store the data"), "{said}");
    assert!(names(&folder).is_empty(), "{:?} stayed", names(&folder));
}

#[test]
fn what_a_killed_run_left_is_replaced() {
    let Some(python) = python() else { return };
    let folder = folder("killed");
    let database = folder.join("tpch.duckdb");
    fs::write(folder.join("tpch.duckdb.partial"), "half a database").unwrap();
    fs::write(folder.join("tpch.duckdb.partial.wal"), "half a log").unwrap();
    let output = generate(&mut Command::new(GENERATOR), "0.01", &python, &database);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(names(&folder), ["tpch.duckdb"]);
    assert_eq!(ask(&python, &database, "SELECT count(*) FROM customer"), "1500");
}

#[test]
fn a_scale_factor_without_room_is_refused_at_once() {
    let Some(python) = python() else { return };
    let folder = folder("room");
    let output = generate(&mut Command::new(GENERATOR), "100000", &python, &folder.join("tpch.duckdb"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("not enough disk space"), "{said}");
    assert!(names(&folder).is_empty());
}
