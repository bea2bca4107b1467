//! Finds the graft that the extension carries. It is built by `cargo xtask graft`, never from here: checking this crate
//! in an editor must not compile DuckDB. Without it the extension builds, and refuses to load with that advice.

use std::path::{Path, PathBuf};

fn main() {
    println!("cargo::rerun-if-env-changed=DUCKBPF_GRAFT");
    let image = std::env::var_os("DUCKBPF_GRAFT")
        .map(PathBuf::from)
        .unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/graft/duckbpf-graft.so"));
    println!("cargo::rerun-if-changed={}", image.display());

    let carried = Path::new(&std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("graft.so");
    if image.exists() {
        std::fs::copy(&image, &carried).expect("the graft can be copied into OUT_DIR");
    } else {
        println!("cargo::warning=no graft at {}: `cargo xtask extension` builds it", image.display());
        std::fs::write(&carried, []).expect("OUT_DIR can be written");
    }
}
