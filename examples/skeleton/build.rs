//! Compiles a program of the gallery and makes Rust of it.

use std::{env, path::PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    for name in ["unpin_sizes", "trace_load"] {
        // The gallery's sources are all called alike; a program is named by its file.
        let source = out.join(format!("{name}.bpf.c"));
        let original = format!("{}/../../extensions-c/{name}/program.bpf.c", env::var("CARGO_MANIFEST_DIR")?);
        println!("cargo::rerun-if-changed={original}");
        std::fs::copy(original, &source)?;
        duckbpf::skeleton::build(&source, &out)?;
    }
    Ok(())
}
