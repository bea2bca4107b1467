//! A DuckDB with hooks that this program links, through the crate `duckdb` (feature `engine`).
//!
//! `cargo xtask engine` builds the library once. Then three lines bring hooks into a program:
//!
//! ```toml
//! duckbpf = { path = "/path/to/duckbpf", features = ["engine"] }               # 1. Cargo.toml
//! ```
//! ```sh
//! export DUCKDB_LIB_DIR=/path/to/duckbpf/target/engine/hooked/lib              # 2. where the library is
//! ```
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (connection, hooks) = duckbpf::engine::open("my.duckdb")?;               // 3. a connection, and its hooks
//! # hooks.attach("default_unpin.bpf.o".as_ref(), duckbpf::Options { replace: false })?;
//! # connection.execute_batch("SELECT 1")?;
//! # Ok(())
//! # }
//! ```
//!
//! `cargo run` finds the library by itself; a program that is started otherwise needs it where the loader looks
//! (`LD_LIBRARY_PATH`, or an rpath). The hooks are the process': all databases and connections in it share them, and a
//! program that has called [`hooks`] must not `LOAD duckbpf` as well, for there is one runtime in a process.

use std::ffi::c_void;
use std::path::Path;

pub use duckdb;
use duckdb::Connection;

use crate::Runtime;

/// Why there is no database with hooks.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The database was not opened.
    #[error(transparent)]
    DuckDb(#[from] duckdb::Error),
    /// The program runs with a DuckDB that has no hooks; the message says which one and what to do.
    #[error(transparent)]
    NoHooks(#[from] duckbpf_graft::Error),
    /// The hooks are another runtime's, of another version, or the processor lacks something.
    #[error(transparent)]
    Runtime(#[from] crate::Error),
}

/// Opens a database file, made where it is missing, with hooks; nothing is attached.
pub fn open(path: impl AsRef<Path>) -> Result<(Connection, &'static Runtime), Error> {
    let hooks = hooks()?;
    Ok((Connection::open(path)?, hooks))
}

/// Opens a database in memory, with hooks.
pub fn open_in_memory() -> Result<(Connection, &'static Runtime), Error> {
    let hooks = hooks()?;
    Ok((Connection::open_in_memory()?, hooks))
}

/// The hooks of the DuckDB that this program runs with. Every call returns the same.
pub fn hooks() -> Result<&'static Runtime, Error> {
    let host = duckbpf_graft::hookpoints_of_engine(address_in_library())?;
    Ok(Runtime::start(host)?)
}

/// The version's text lies in the library; the address of a function may be that of a stub in the program.
fn address_in_library() -> *const c_void {
    // SAFETY: takes nothing and returns a pointer to a string literal (duckdb.h); any thread may call it at any time.
    unsafe { duckdb::ffi::duckdb_library_version() }.cast()
}
