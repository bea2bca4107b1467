//! A symbol for measurements: what one pass of a hookpoint costs inside the loaded graft. SQL does not show it.

use crate::engine;

/// The nanoseconds that so many passes of the load hook's hookpoint take; 0 before LOAD.
#[unsafe(no_mangle)]
pub extern "C" fn duckbpf_measure(passes: u64) -> u64 {
    let measure = engine::runtime().ok().and_then(|runtime| runtime.host().measure);
    // SAFETY: the host's function, which takes any number.
    measure.map_or(0, |measure| unsafe { measure(passes) })
}
