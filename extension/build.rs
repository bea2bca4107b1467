//! Finds what the extension carries: the graft and the gallery's programs. `cargo xtask extension` builds both, never this:
//! checking this crate in an editor must not compile DuckDB. Without the graft the extension builds, and refuses to load with that
//! advice; without the gallery no program has a name.

use std::path::{Path, PathBuf};

fn main() {
    // Functions of equal code are one.
    println!("cargo::rustc-link-arg-cdylib=-Wl,--icf=all");
    // Cargo forgets the profile's `strip` where the package has an opt-level of its own.
    println!("cargo::rustc-link-arg-cdylib=-Wl,--strip-all");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let carry = |name: &str, bytes: &[u8]| {
        let packed = miniz_oxide::deflate::compress_to_vec(bytes, 10);
        std::fs::write(out.join(name), packed).expect("OUT_DIR can be written");
    };
    let graft = given("DUCKBPF_GRAFT", "../target/graft/duckbpf-graft.so");
    if graft.exists() {
        carry("graft.bin", &std::fs::read(&graft).expect("the graft can be read"));
    } else {
        println!("cargo::warning=no graft at {}: `cargo xtask extension` builds it", graft.display());
        std::fs::write(out.join("graft.bin"), []).expect("OUT_DIR can be written");
    }
    carry("gallery.bin", &pack(&given("DUCKBPF_GALLERY", "../target/bpf")));
}

fn given(variable: &str, default: &str) -> PathBuf {
    println!("cargo::rerun-if-env-changed={variable}");
    let path = std::env::var_os(variable).map(PathBuf::from);
    let path = path.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join(default));
    println!("cargo::rerun-if-changed={}", path.display());
    path
}

/// Name and bytes of every object in a folder, each behind its length (src/gallery.rs).
fn pack(folder: &Path) -> Vec<u8> {
    let mut packed = Vec::new();
    let mut add = |part: &[u8]| {
        packed.extend_from_slice(&(part.len() as u32).to_le_bytes());
        packed.extend_from_slice(part);
    };
    let mut paths: Vec<PathBuf> = folder.read_dir().into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".bpf.o"));
        if let Some(name) = name {
            add(name.as_bytes());
            add(&std::fs::read(&path).expect("a program can be read"));
        }
    }
    packed
}
