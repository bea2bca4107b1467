//! The one engine and the one runtime of the process.

use duckbpf_runtime::Runtime;
use duckdb_neo::{Error, Result};
use std::sync::{Mutex, OnceLock, PoisonError};

static RUNTIME: OnceLock<&'static Runtime> = OnceLock::new();
/// The patched functions of DuckDB, as `cargo xtask graft` built them; empty when it was not run.
static GRAFT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/graft.so"));

static STARTING: Mutex<()> = Mutex::new(());

/// Puts the graft into the DuckDB that loads this library and starts the runtime; at once when that was done before.
pub fn start() -> Result<()> {
    // Two databases may load the extension at the same time. A failure leaves nothing behind, so the next LOAD may try.
    let _one_at_a_time = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    if RUNTIME.get().is_none() {
        let _ = RUNTIME.set(start_once()?);
    }
    Ok(())
}

/// The runtime, which LOAD has started.
pub fn runtime() -> Result<&'static Runtime> {
    RUNTIME.get().copied().ok_or_else(|| Error::invalid_input("duckbpf is not loaded; run LOAD duckbpf"))
}

/// How the hookpoints came into this DuckDB.
pub fn carrier(runtime: &Runtime) -> &'static str {
    match runtime.host().carrier {
        duckbpf_abi::DUCKBPF_CARRIER_GRAFT => "graft",
        duckbpf_abi::DUCKBPF_CARRIER_ENGINE => "engine",
        _ => "unknown",
    }
}

fn start_once() -> Result<&'static Runtime> {
    if GRAFT.is_empty() {
        return Err(Error::invalid_input(
            "this build of the extension carries no graft; build it with `cargo xtask extension`",
        ));
    }
    let installed = duckbpf_graft::install(GRAFT).map_err(|error| Error::invalid_input(error.to_string()))?;
    Runtime::start(installed.host).map_err(|error| Error::invalid_input(error.to_string()))
}
