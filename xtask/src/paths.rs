//! Where things are. Everything that is built lands below `<workspace>/target`, whatever CARGO_TARGET_DIR says, so that
//! the parts find each other's output.

use std::path::PathBuf;

/// The workspace's root folder.
pub fn root() -> PathBuf {
    // cargo sets the variable for `cargo xtask`; the compiled-in value serves a binary that is started directly.
    let manifest =
        std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    manifest.parent().map_or_else(|| manifest.clone(), PathBuf::from)
}

/// `target/<name>`, which need not exist.
pub fn target(name: &str) -> PathBuf {
    root().join("target").join(name)
}

/// The graft that the extension carries: `target/graft/duckbpf-graft.so`.
pub fn graft_image() -> PathBuf {
    target("graft").join("duckbpf-graft.so")
}

/// The compiled programs: `target/bpf/*.bpf.o`.
pub fn programs() -> PathBuf {
    target("bpf")
}

/// The loadable extension: `target/extension/duckbpf.duckdb_extension`.
pub fn extension() -> PathBuf {
    target("extension").join("duckbpf.duckdb_extension")
}
