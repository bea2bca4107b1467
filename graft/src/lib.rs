//! Puts the graft into a running official DuckDB: rewrites the linkage slots through which the host reaches the functions
//! that the graft replaces. No code is changed and no thread is stopped.
//!
//! # How
//! 1. The host is found among the loaded objects: the one that defines DuckDB's functions ([`recognise`]). Its build id must
//!    be in `hosts.json`, the table of builds for which a disassembly has shown that nothing reaches an exported function
//!    but through a slot (`cargo xtask hosts` makes it).
//! 2. The image gets the host's path as the one library it needs, and gives up its copies of data that the host exports, so
//!    that both share them. It is loaded from memory, with local scope ([`image`](self), `load`).
//! 3. Every slot of a replaced function is looked up by symbol in the host's relocations and must hold the host's function.
//! 4. The slots are rewritten, each by one atomic store ([`Installed::took`] says how long that took).
//!
//! # Synchronisation
//! The process may hold several copies of this code (two copies of the extension). They have no memory in common but the
//! host's, so the first slot is the lock: whoever exchanges it from the host's function to its own writes the others. Who
//! fails waits until all are written and uses the winner's graft. Each makes the pages writable before it tries, and
//! read-only once nobody writes. Calls by other threads see each slot either old or new. Both functions work at any time, so
//! a mixture is harmless for as long as it lasts.
//!
//! # After a failure
//! No slot has changed: all that can fail comes before the first store. (But for one case: the kernel refuses to make the
//! pages read-only again. Then the graft is in force, and the error says what failed.)

mod error;
mod hosts;
mod image;
mod load;
mod module;
mod slots;
mod stock;

pub use error::Error;
pub use hosts::{HostBuild, KnownBuild, known_builds};

use duckbpf_abi::duckbpf_host;
use module::Module;
use slots::Slots;
use std::ffi::{CStr, c_void};
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The symbol that a graft, or an engine with hooks compiled in, exports.
const ENTRY: &str = "duckdb_hookpoints_v1";
/// How often to begin anew when another copy of this code is faster. Once is enough unless more than two begin together.
const ATTEMPTS: usize = 16;

/// A graft in force. Stays so when this is dropped.
pub struct Installed {
    /// The host's table: hooks, services. Lives as long as the process.
    pub host: &'static duckbpf_host,
    /// Slots that lead into the graft; 0 for an engine that was compiled with hooks.
    pub slots: usize,
    /// What rewriting them took, from the first to the last; zero where they had been rewritten before.
    pub took: Duration,
    /// Build id of the host.
    pub build: String,
    written: Option<Slots>,
}

// SAFETY: the table that `host` points to is never written and its functions may be called by any thread
// (hook-shim/include/duckbpf/abi.h); the slots are reached by atomics only.
unsafe impl Send for Installed {}
// SAFETY: as above.
unsafe impl Sync for Installed {}

impl Installed {
    /// Writes the host's own functions back. The graft stays loaded: threads may still be inside it.
    ///
    /// For tests. Detaching programs is what users want.
    pub fn undo(self) -> Result<(), Error> {
        let _only_one = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
        self.written.map_or(Ok(()), |slots| slots.undo())
    }

    /// Functions that the graft may leave to the host's own code, and the addresses of that, 0 where it has none. For tests.
    pub fn stock_code(&self) -> impl Iterator<Item = (&'static CStr, usize)> {
        stock::entries(self.host).map(|(symbol, code)| (symbol, code.load(Ordering::Acquire).addr()))
    }

    /// Address of every slot, with the function's name and what the slot holds now. For tests.
    pub fn slot_values(&self) -> impl Iterator<Item = (&str, usize)> {
        self.written.iter().flat_map(Slots::values)
    }
}

static LOCK: Mutex<()> = Mutex::new(());

/// Says which DuckDB runs in this process; where there may be several, the one that holds the address.
pub fn recognise(inside: Option<*const c_void>) -> Result<HostBuild, Error> {
    Ok(find_host(inside)?.1)
}

/// The hookpoints of the DuckDB that holds this address (of any of its functions), for programs that link an engine.
pub fn hookpoints_of_engine(inside: *const c_void) -> Result<&'static duckbpf_host, Error> {
    let (host, build) = find_host(Some(inside))?;
    if host.defines(ENTRY) { hookpoints(&host) } else { Err(Error::NoHooks(build)) }
}

/// Makes sure that the functions in `image` (target/graft/duckbpf-graft.so) are in force in this process. A second call, also
/// by another copy of this code, changes nothing. `inside` is an address in the DuckDB that is meant, where there may be
/// several. An engine that was built with hooks is taken as it is.
pub fn install(image: &[u8], inside: Option<*const c_void>) -> Result<Installed, Error> {
    let _only_one = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
    let (host, build) = find_host(inside)?;
    if host.defines(ENTRY) {
        return Ok(Installed {
            host: hookpoints(&host)?,
            slots: 0,
            took: Duration::ZERO,
            build: build.build_id,
            written: None,
        });
    }
    if !hosts::is_known(&build) {
        return Err(Error::Unknown(build));
    }
    for _ in 0..ATTEMPTS {
        let graft = match loaded_graft(&host)? {
            Some(graft) => graft,
            None => load::load(&image::prepare(image, &host)?)?,
        };
        match put_in_force(&host, &build, graft) {
            // Another copy of this code put its own graft in force meanwhile: the next attempt finds it.
            Err(Error::BoundElsewhere { address, .. }) if is_graft(&host, address) => {}
            outcome => return outcome,
        }
    }
    Err(Error::Busy)
}

/// A graft that another copy of this code, or an earlier call, has loaded: the one in force, if one is.
fn loaded_graft(host: &Module) -> Result<Option<Module>, Error> {
    let mut grafts = grafts(host);
    for at in 0..grafts.len() {
        if Slots::find(host, &grafts[at])?.any_replaced() {
            return Ok(Some(grafts.swap_remove(at)));
        }
    }
    Ok(grafts.pop())
}

fn is_graft(host: &Module, address: usize) -> bool {
    grafts(host).iter().any(|graft| graft.is_code(address))
}

fn grafts(host: &Module) -> Vec<Module> {
    let mut found = module::defining(ENTRY);
    found.retain(|module| module.base() != host.base());
    found
}

fn put_in_force(host: &Module, build: &HostBuild, graft: Module) -> Result<Installed, Error> {
    if !graft.defines(ENTRY) {
        return Err(Error::Image { reason: "it lacks duckdb_hookpoints_v1" });
    }
    let slots = Slots::find(host, &graft)?;
    slots.check(host)?;
    let table = hookpoints(&graft)?;
    stock::tell(host, table);
    let outcome = match slots.write() {
        // Nothing leads to the graft: it is unloaded on the way out.
        Err(error) if !slots.any_replaced() => return Err(error),
        outcome => outcome,
    };
    // It stays loaded for good: threads may be inside it at any time.
    graft.keep();
    let took = outcome?;
    Ok(Installed { host: table, slots: slots.len(), took, build: build.build_id.clone(), written: Some(slots) })
}

fn find_host(inside: Option<*const c_void>) -> Result<(Module, HostBuild), Error> {
    let mut found = module::defining(hosts::LIBRARY_VERSION);
    if let Some(inside) = inside {
        found.retain(|module| module.contains(inside.addr()));
    }
    match found.len() {
        0 => Err(Error::NoDuckDb),
        1 => {
            let host = found.remove(0);
            let build = hosts::describe(&host);
            Ok((host, build))
        }
        _ => Err(Error::Several(found.iter().map(|module| module.path().to_owned()).collect())),
    }
}

fn hookpoints(module: &Module) -> Result<&'static duckbpf_host, Error> {
    let address = module.function(ENTRY).ok_or(Error::Image { reason: "it lacks duckdb_hookpoints_v1" })?;
    // SAFETY: the symbol's C declaration is in hook-shim/include/duckbpf/abi.h: no arguments, a pointer that is never null to
    // a table that lives as long as the module. The host carries the calling extension; a graft in force is kept, and one that could not be
    // put in force is unloaded before anybody else has seen its table.
    unsafe {
        let entry: unsafe extern "C" fn() -> *const duckbpf_host = std::mem::transmute(address);
        entry().as_ref().ok_or(Error::Image { reason: "duckdb_hookpoints_v1 returned null" })
    }
}
