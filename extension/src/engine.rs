//! The one engine and the one runtime of the process.

use crate::{exit, gallery, startup};
use duckbpf_runtime::Runtime;
use duckdb_neo::{Error, Result};
use std::ffi::c_void;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};

/// What LOAD has started.
struct Started {
    runtime: &'static Runtime,
    /// The library that it serves.
    library: PathBuf,
}

static STARTED: OnceLock<Started> = OnceLock::new();
/// The patched functions of DuckDB, as `cargo xtask graft` built them, packed by build.rs; empty when it was not run.
static GRAFT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/graft.bin"));

static STARTING: Mutex<()> = Mutex::new(());

/// Finds the hookpoints of the DuckDB that loads this library, or puts the graft into it, and starts the runtime; at once when
/// that was done before.
pub fn start() -> Result<()> {
    started().inspect_err(|error| duckbpf_runtime::probes::fallback(&error.message))
}

fn started() -> Result<()> {
    // Two databases may load the extension at the same time. A failure leaves nothing behind, so the next LOAD may try.
    let _one_at_a_time = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    let inside = address_in_host()?;
    let library = duckbpf_graft::recognise(Some(inside)).map_err(invalid)?.path;
    match STARTED.get() {
        Some(started) if started.library == library => Ok(()),
        Some(started) => Err(Error::invalid_input(format!(
            "duckbpf serves one DuckDB in a process, and that is {}; {} goes on without hooks",
            started.library.display(),
            library.display(),
        ))),
        None => {
            let runtime = start_once(inside)?;
            let _ = STARTED.set(Started { runtime, library });
            exit::clean_up_at_exit();
            startup::run(runtime);
            Ok(())
        }
    }
}

/// The runtime, which LOAD has started.
pub fn runtime() -> Result<&'static Runtime> {
    let started = STARTED.get().map(|started| started.runtime);
    started.ok_or_else(|| Error::invalid_input("duckbpf is not loaded; run LOAD duckbpf"))
}

/// How the hookpoints came into this DuckDB.
pub fn carrier(runtime: &Runtime) -> &'static str {
    match runtime.host().carrier {
        duckbpf_abi::DUCKBPF_CARRIER_GRAFT => "graft",
        duckbpf_abi::DUCKBPF_CARRIER_ENGINE => "engine",
        _ => "unknown",
    }
}

/// There may be several DuckDBs in the process: the version's text lies in the one that calls.
fn address_in_host() -> Result<*const c_void> {
    Ok(duckdb_neo::library_version()?.as_ptr().cast())
}

fn start_once(inside: *const c_void) -> Result<&'static Runtime> {
    let host = match duckbpf_graft::hookpoints_of_engine(inside) {
        Ok(host) => host,
        Err(duckbpf_graft::Error::NoHooks(_)) if GRAFT.is_empty() => {
            return Err(Error::invalid_input(
                "this build of the extension carries no graft; build it with `cargo xtask extension`",
            ));
        }
        Err(duckbpf_graft::Error::NoHooks(_)) => {
            let damaged =
                |_| Error::invalid_input("this copy of the extension is damaged: its graft cannot be unpacked");
            let graft = miniz_oxide::inflate::decompress_to_vec(GRAFT).map_err(damaged)?;
            duckbpf_graft::install(&graft, Some(inside)).map_err(invalid)?.host
        }
        Err(error) => return Err(invalid(error)),
    };
    let runtime = Runtime::start(host).map_err(|error| Error::invalid_input(error.to_string()))?;
    runtime.set_gallery(&gallery::Carried);
    Ok(runtime)
}

fn invalid(error: duckbpf_graft::Error) -> Error {
    Error::invalid_input(error.to_string())
}
