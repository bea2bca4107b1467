//! What the tests share: the gallery, compiled once, and a compiler for programs of their own.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
};

use duckbpf_runtime::testing;

pub const GALLERY: [&str; 28] = [
    "calm-checkpoints",
    "count_calls",
    "crc-hash",
    "default_allocate_new_block",
    "default_execute_forever",
    "default_hash",
    "default_load",
    "default_schedule_task",
    "default_unpin",
    "default_update_used_memory",
    "evict_sizes",
    "fair-tenants",
    "hash_wy",
    "hot-light",
    "interactive-first",
    "load_keep_hot",
    "memory-admission",
    "observe_counts",
    "read-ahead",
    "s3-fifo",
    "scan-resistant",
    "schedule_under_pressure",
    "schedule_young_first",
    "trace_load",
    "unpin_drop_scanned",
    "unpin_sizes",
    "watchtower",
    "wy-hash",
];

/// Compiles C into an object.
pub fn compile(source: &Path, object: &Path, mcpu: &str) {
    testing::clang::compile(source, object, &["-Wall", "-Wextra", "-Werror", &format!("-mcpu={mcpu}")]);
}

/// This process' folder, below `target/`. Those of processes that have ended are cleared.
pub fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let all = Path::new(env!("CARGO_TARGET_TMPDIR")).join(env!("CARGO_CRATE_NAME"));
        let folder = all.join(std::process::id().to_string());
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        for other in all.read_dir().unwrap().flatten() {
            if !Path::new("/proc").join(other.file_name()).exists() {
                let _ = std::fs::remove_dir_all(other.path());
            }
        }
        folder
    })
}

/// The path of a gallery program's object.
pub fn gallery(name: &str, mcpu: &str) -> PathBuf {
    static COMPILED: OnceLock<()> = OnceLock::new();
    COMPILED.get_or_init(|| {
        for mcpu in ["v3", "v4"] {
            std::fs::create_dir_all(folder().join(mcpu)).unwrap();
            for name in GALLERY {
                let source = PathBuf::from(format!("extensions-c/{name}/program.bpf.c"));
                compile(&source, &folder().join(mcpu).join(format!("{name}.bpf.o")), mcpu);
            }
        }
    });
    folder().join(mcpu).join(format!("{name}.bpf.o"))
}

/// Compiles a program of a test's own, under a name of its own.
pub fn program(name: &str, body: &str) -> PathBuf {
    let source = folder().join(format!("{name}.bpf.c"));
    std::fs::write(&source, format!("#include \"duckbpf.h\"\n{body}\n")).unwrap();
    let object = folder().join(format!("{name}.bpf.o"));
    compile(&source, &object, "v4");
    object
}
