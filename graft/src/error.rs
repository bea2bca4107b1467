use crate::HostBuild;
use std::path::PathBuf;

/// Why DuckDB was left as it is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No loaded object exports DuckDB's functions.
    #[error(
        "no DuckDB whose functions can be replaced is loaded in this process. A program that links DuckDB statically needs a \
         DuckDB that was built with the hooks"
    )]
    NoDuckDb,
    /// Which one is meant cannot be told.
    #[error("several DuckDBs are loaded in this process: {}; load only one", list(.0))]
    Several(Vec<PathBuf>),
    /// Not in the table of builds that were looked at.
    #[error(
        "this DuckDB is not known: {0}. Hooks can be put into the official Python wheels of DuckDB 2.0.0 for x86-64 Linux \
         (pip install duckdb==2.0.0); a DuckDB of one's own has to be built with them (cargo xtask engine)"
    )]
    Unknown(HostBuild),
    /// A program links a DuckDB that was built without hooks.
    #[error(
        "this DuckDB was built without hooks: {0}. `cargo xtask engine` builds one with them; link and load the one in \
         target/engine/hooked/lib"
    )]
    NoHooks(HostBuild),
    /// A replaced function is not exported by the host.
    #[error("{}: the function {name} is missing, so this DuckDB and the hooks do not belong together", path.display())]
    MissingSymbol { name: String, path: PathBuf },
    /// The host uses a replaced function in a way that was not foreseen.
    #[error("{}: {name} is referred to by a relocation of type {kind}, which can't be redirected", path.display())]
    Relocation { name: String, kind: u32, path: PathBuf },
    /// Functions are bound at their first call, and some still wait for it.
    #[error(
        "{} is half-bound: {name} has not been called so far, and a thread may be about to bind it. Start the process with \
         LD_BIND_NOW=1",
        path.display()
    )]
    HalfBound { name: String, path: PathBuf },
    /// A slot leads somewhere else.
    #[error("{}: {name} is bound to another library's function, at {address:#x}", path.display())]
    BoundElsewhere { name: String, address: usize, path: PathBuf },
    /// The bytes are not a graft.
    #[error("the graft image can't be used: {reason}")]
    Image { reason: &'static str },
    /// The host's path does not fit the image.
    #[error("the path of DuckDB's library is too long ({bytes} bytes; at most {room} work): {}", path.display())]
    PathTooLong { path: PathBuf, bytes: usize, room: usize },
    /// No memory file, hence nothing to load from.
    #[error("memfd_create failed: {0}. A seccomp filter may forbid it; allow memfd_create for this process")]
    MemoryFile(#[source] std::io::Error),
    /// The loader refused.
    #[error("the dynamic loader refused the graft: {0}")]
    Load(String),
    /// Slots could not be made writable, or read-only again.
    #[error(
        "mprotect failed on DuckDB's linkage table: {0}. A seccomp filter may forbid it; allow mprotect for this process"
    )]
    Protect(#[source] std::io::Error),
    /// Another copy of this code began to rewrite the slots and did not end within seconds.
    #[error("another copy of duckbpf in this process has begun to install its hooks and does not come to an end")]
    Busy,
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}
