//! USDT probes: places that bpftrace, perf and gdb can watch in a process that runs. Each is a `nop` behind
//! the making of its texts.
//!
//! ```text
//! duckbpf:load      name, path, programs, check_ns, compile_ns    an object was read, checked and compiled
//! duckbpf:swap      generation, programs, publish_ns              another set is in force
//! duckbpf:refusal   message                                       an object was not attached; the old set stays
//! duckbpf:fallback  message                                       the engine goes on without hooks
//! ```
//!
//! Texts are C strings that live while the probe is hit. All of this is on the control path; what hooks decide is counted, not
//! probed.

use std::ffi::CString;

use probe::probe;

use crate::hooks::Timings;

/// Never inlined, so that a probe stands at one place.
#[inline(never)]
pub(crate) fn load(name: &str, path: &str, timings: &[Timings]) {
    let (name, path) = (text(name), text(path));
    let check_ns: u64 = timings.iter().map(|timings| timings.check_ns).sum();
    let compile_ns: u64 = timings.iter().map(|timings| timings.compile_ns).sum();
    probe!(duckbpf, load, name.as_ptr(), path.as_ptr(), timings.len(), check_ns, compile_ns);
}

#[inline(never)]
pub(crate) fn swap(generation: u64, programs: usize, publish_ns: u64) {
    probe!(duckbpf, swap, generation, programs, publish_ns);
}

#[inline(never)]
pub(crate) fn refusal(message: &str) {
    let message = text(message);
    probe!(duckbpf, refusal, message.as_ptr());
}

/// For whoever brings hooks into an engine and could not.
#[inline(never)]
pub fn fallback(message: &str) {
    let message = text(message);
    probe!(duckbpf, fallback, message.as_ptr());
}

/// Up to the first zero byte, if there is one.
fn text(text: &str) -> CString {
    let end = text.find('\0').unwrap_or(text.len());
    CString::new(&text[..end]).unwrap_or_default()
}
