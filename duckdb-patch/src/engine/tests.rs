mod building;

use super::*;

/// A checkout with an engine that was just built.
fn checkout(name: &str) -> Layout {
    let root = crate::scratch(&format!("engine-{name}"));
    let layout = Layout::new(&root);
    write(&root.join("duckdb-patch/patches/series"), b"").unwrap();
    write(&root.join("hook-shim/shim.cpp"), b"int x;\n").unwrap();
    let library = || Library { stripped: 4, unstripped: 4, sha256: sha256(b"ELF!") };
    let manifest = Manifest {
        duckdb_version: DUCKDB.into(),
        source_id: SOURCE_ID.into(),
        compiler: String::new(),
        flags: Vec::new(),
        series: series::Series::read(&layout.patches()).unwrap().hash,
        shim: shim_hash(&layout).unwrap(),
        extensions: Vec::new(),
        shared_objects: 0,
        different_objects: Vec::new(),
        stock: library(),
        hooked: library(),
        linked: String::new(),
    };
    for kind in [Kind::Stock, Kind::Hooked] {
        write(&layout.engine.join(kind.name()).join("lib/libduckdb.so"), b"ELF!").unwrap();
    }
    write(&layout.engine.join("manifest.json"), &serde_json::to_vec(&manifest).unwrap()).unwrap();
    layout
}

fn refusal(layout: &Layout) -> String {
    let error = Engine::find(layout, Toolchain::Clang).err().map(|error| format!("{error:#}")).unwrap();
    assert!(error.contains("cargo xtask engine"), "{error}");
    error
}

#[test]
fn unity_files_give_up_the_units_of_the_series() {
    let series = BTreeSet::from(["duckdb/src/a.cpp", "duckdb/src/b.cpp"].map(PathBuf::from));
    let rest = |text| rest_of_unity(text, &series);
    assert_eq!(rest("#include \"src/c.cpp\"\n"), None);
    assert_eq!(rest("#include \"duckdb/common.hpp\"\nint x;\n"), None);
    assert_eq!(rest("#include \"src/a.cpp\"\n\n#include \"src/c.cpp\"\n").unwrap(), "#include \"src/c.cpp\"\n");
    assert_eq!(rest("#include \"src/a.cpp\"\n#include \"src/b.cpp\"\n").unwrap(), "");
}

#[test]
fn an_engine_that_agrees_is_taken() {
    let layout = checkout("agrees");
    let engine = Engine::find(&layout, Toolchain::Clang).unwrap();
    assert!(engine.library(Kind::Hooked).ends_with("engine/hooked/lib/libduckdb.so"));
}

#[test]
fn no_engine_and_half_an_engine_are_told() {
    let layout = checkout("half");
    std::fs::remove_file(layout.engine.join("manifest.json")).unwrap();
    assert!(refusal(&layout).contains("interrupted"));
    write(&layout.engine.join("manifest.json"), b"{\"duckdb_version\": \"v2").unwrap();
    assert!(refusal(&layout).contains("damaged"));
}

#[test]
fn another_version_is_told() {
    let layout = checkout("version");
    let path = layout.engine.join("manifest.json");
    let text = std::fs::read_to_string(&path).unwrap().replace(DUCKDB, "v2.0.9");
    write(&path, text.as_bytes()).unwrap();
    assert!(refusal(&layout).contains("DuckDB v2.0.9"));
}

#[test]
fn a_stale_manifest_is_told() {
    let layout = checkout("stale");
    write(&layout.root.join("hook-shim/shim.cpp"), b"int y;\n").unwrap();
    assert!(refusal(&layout).contains("another hook-shim"));
    write(&layout.root.join("duckdb-patch/patches/series"), b"0001.patch\n").unwrap();
    write(&layout.root.join("duckdb-patch/patches/0001.patch"), b"").unwrap();
    assert!(refusal(&layout).contains("other patches"));
}

#[test]
fn a_library_that_was_cut_off_is_told() {
    let layout = checkout("cut");
    write(&layout.engine.join("hooked/lib/libduckdb.so"), b"EL").unwrap();
    assert!(refusal(&layout).contains("not what its manifest describes"));
}
