//! Programs as clang builds them.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// Compiles C into an object, with the author's header at hand. Panics, with what clang says, where it is no program.
pub fn compile(source: &Path, object: &Path, flags: &[&str]) {
    let root: PathBuf = [env!("CARGO_MANIFEST_DIR"), ".."].iter().collect();
    let output = Command::new("clang-19")
        .current_dir(root)
        .args(["-target", "bpf", "-O2", "-g", "-I", "extensions-c/include", "-I", "hook-shim/include"])
        .args(flags)
        .arg("-c")
        .args([source, Path::new("-o"), object])
        .output()
        .unwrap_or_else(|error| panic!("clang-19 compiles programs: apt-get install clang-19: {error}"));
    assert!(output.status.success(), "{}: {}", source.display(), String::from_utf8_lossy(&output.stderr));
}
