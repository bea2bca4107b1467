//! With feature `engine`, looks for the engine and says how to get it. Never builds it.

use std::path::Path;

const ADVICE: &str = "`cargo xtask engine` in duckbpf's folder builds it, 20 to 45 minutes on two cores the first time; then set \
                      DUCKDB_LIB_DIR=<duckbpf>/target/engine/hooked/lib";

fn main() {
    println!("cargo::rerun-if-env-changed=DUCKDB_LIB_DIR");
    if std::env::var_os("CARGO_FEATURE_ENGINE").is_none() {
        return;
    }
    let Some(folder) = std::env::var_os("DUCKDB_LIB_DIR") else {
        println!(
            "cargo::error=feature `engine` links a DuckDB with hooks, and DUCKDB_LIB_DIR does not say where it is. {ADVICE}"
        );
        return;
    };
    let library = Path::new(&folder).join("libduckdb.so");
    println!("cargo::rerun-if-changed={}", library.display());
    if !library.is_file() {
        println!("cargo::error={} is missing. {ADVICE}", library.display());
    }
    // For what this package runs itself; what others build finds the library as cargo or their linker arranges it.
    for kind in ["examples", "tests"] {
        println!("cargo::rustc-link-arg-{kind}=-Wl,-rpath,{}", Path::new(&folder).display());
    }
}
