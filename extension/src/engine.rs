//! The one engine and the one runtime of the process.

pub use crate::stub::Runtime;
use duckdb_neo::{Error, Result};
use std::sync::{Mutex, OnceLock, PoisonError};

static RUNTIME: OnceLock<&'static Runtime> = OnceLock::new();
static STARTING: Mutex<()> = Mutex::new(());

/// Puts the graft into the DuckDB that loads this library and starts the runtime; at once when that was done before.
pub fn start() -> Result<()> {
    // Two databases may load the extension at the same time. A failure leaves nothing behind, so the next LOAD may try.
    let _one_at_a_time = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    if RUNTIME.get().is_none() {
        let _ = RUNTIME.set(Runtime::start()?);
    }
    Ok(())
}

/// The runtime, which LOAD has started.
pub fn runtime() -> Result<&'static Runtime> {
    RUNTIME.get().copied().ok_or_else(|| Error::invalid_input("duckbpf is not loaded; run LOAD duckbpf"))
}
