//! Functions that programs may call.
//!
//! ```text
//! spec        what there is to know of a helper
//! table       every helper; the only place that says which there are
//! time, bytes, digest, maps, callbacks, engine     what they do
//! generated   duckbpf/helpers.h and the book's page, written from the table
//! ```
//!
//! Numbers are Linux' where the meaning is the same; ours begin at 0x10000. A helper gets five arguments and the [`Env`]; it
//! waits for nobody, allocates nothing and never enters the engine. Its arguments are what the verifier proved of them, see
//! [`ArgKind`]: a pointer leads to memory of the size that the table says. A panic inside ends at the boundary: the helper
//! returns its error, the program runs on, and the host is told to discard its decision.

mod bytes;
mod callbacks;
mod digest;
mod engine;
#[cfg(test)]
mod generated;
mod maps;
mod print;
mod spec;
mod table;
mod time;

use std::{
    ffi::c_char,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicPtr, Ordering},
};

use duckbpf_abi::{duckbpf_host, duckbpf_origin};

pub use print::Print;
pub use spec::{ArgKind, Bytes, CallbackKind, Cost, HelperSpec, Hooks, MAX_LOOP, RetKind};
pub use table::TABLE;

/// What helpers work with. Code refers to it by address, so it never moves and never goes.
#[derive(Debug)]
pub struct Env {
    host: AtomicPtr<duckbpf_host>,
    /// None where the system gave no memory for it.
    print: Option<Print>,
}

impl Env {
    /// The environment of a host, kept for the life of the process.
    pub fn leak(host: &'static duckbpf_host) -> &'static Env {
        let host = AtomicPtr::new((host as *const duckbpf_host).cast_mut());
        Box::leak(Box::new(Env { host, print: Print::new() }))
    }

    /// Without a host.
    #[cfg(any(test, feature = "testing", feature = "disasm", feature = "conformance"))]
    pub fn detached() -> &'static Env {
        static DETACHED: Env = Env { host: AtomicPtr::new(std::ptr::null_mut()), print: None };
        &DETACHED
    }

    fn host(&self) -> Option<&'static duckbpf_host> {
        // SAFETY: null, or the 'static reference that leak() took.
        unsafe { self.host.load(Ordering::Relaxed).as_ref() }
    }

    /// What programs print.
    pub fn print(&self) -> Option<&Print> {
        self.print.as_ref()
    }

    /// The number of the calling thread's shard.
    pub fn thread_index(&self) -> u32 {
        match self.host().and_then(|host| host.thread_index) {
            // SAFETY: the host's functions may be called inside a program (abi.h).
            Some(thread_index) => unsafe { thread_index() },
            None => 0,
        }
    }

    /// Where machine code calls for it. None: it is always 0.
    pub fn thread_index_function(&self) -> Option<usize> {
        self.host()?.thread_index.map(|function| function as usize)
    }

    /// One of enum duckbpf_state.
    fn state(&self, what: u32, argument: u64) -> u64 {
        match self.host().and_then(|host| host.engine_state) {
            // SAFETY: as above.
            Some(engine_state) => unsafe { engine_state(what, argument) },
            None => 0,
        }
    }

    /// Writes a tag's text and returns its bytes; 0: there is no such tag.
    pub fn tag_text(&self, tag: u32, to: &mut [u8]) -> usize {
        match self.host().and_then(|host| host.tag_text) {
            // SAFETY: as above; `to` has so many bytes.
            Some(tag_text) => unsafe { tag_text(tag, to.as_mut_ptr().cast(), to.len() as u64) as usize },
            None => 0,
        }
    }

    /// What the query is told that the program rejects: `size` readable bytes.
    fn set_message(&self, text: *const c_char, size: u64) {
        if let Some(set_message) = self.host().and_then(|host| host.set_message) {
            // SAFETY: the verifier proved that so many bytes of `text` are readable; the function may be called inside a program.
            unsafe { set_message(text, size) };
        }
    }

    fn origin(&self) -> duckbpf_origin {
        let mut origin = duckbpf_origin::default();
        if let Some(current_origin) = self.host().and_then(|host| host.current_origin) {
            // SAFETY: the host fills the origin; it may be called inside a program (abi.h).
            unsafe { current_origin(&mut origin) };
        }
        origin
    }
}

/// The calling convention of helpers: SysV with r1 to r5, then the environment.
pub type HelperFn = extern "C" fn(u64, u64, u64, u64, u64, &Env) -> u64;

pub fn find(id: u32) -> Option<&'static HelperSpec> {
    #[cfg(any(test, feature = "testing"))]
    if id == SUM {
        return Some(&table::FOR_BENCHES);
    }
    TABLE.iter().find(|helper| helper.id == id)
}

/// A helper of five arguments that does next to nothing.
#[cfg(any(test, feature = "testing"))]
pub const SUM: u32 = 0xfffe;

#[cfg(any(test, feature = "testing"))]
extern "C" fn sum(a: u64, b: u64, c: u64, d: u64, e: u64, _: &Env) -> u64 {
    a.wrapping_add(b).wrapping_add(c).wrapping_add(d).wrapping_add(e)
}

/// Runs a helper's body; a panic in it becomes `error`.
fn guard(env: &Env, error: u64, body: impl FnOnce() -> u64) -> u64 {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|_| {
        if let Some(failed) = env.host().and_then(|host| host.helper_failed) {
            // SAFETY: the host's functions may be called inside a program (abi.h).
            unsafe { failed() };
        }
        error
    })
}

/// A negative error number, as r0 holds it.
fn errno(number: i32) -> u64 {
    i64::from(-number) as u64
}

/// A helper in which something goes wrong.
#[cfg(test)]
pub const PANICS: u32 = 0xffff;

#[cfg(test)]
extern "C" fn panics(_: u64, _: u64, _: u64, _: u64, _: u64, env: &Env) -> u64 {
    guard(env, u64::MAX, || panic!("a helper panics"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hook::Hook;

    #[test]
    fn ids_and_names_are_unique() {
        for (index, helper) in TABLE.iter().enumerate() {
            assert!(TABLE[..index].iter().all(|other| other.id != helper.id && other.name != helper.name));
        }
    }

    #[test]
    fn only_pure_helpers_serve_a_hash() {
        for helper in TABLE {
            assert_eq!(helper.allowed_in(Hook::Hash), helper.pure, "{}", helper.name);
        }
    }

    #[test]
    fn entries_are_consistent() {
        for helper in TABLE.iter().filter(|helper| helper.id != PANICS) {
            let name = helper.name;
            let taken = helper.args.iter().take_while(|arg| **arg != ArgKind::None).count();
            assert!(helper.args[taken..].iter().all(|arg| *arg == ArgKind::None), "{name}: arguments have no gaps");
            assert_eq!(helper.parameters.len(), taken, "{name}");
            assert_eq!(helper.args.contains(&ArgKind::Map), !helper.maps.is_empty(), "{name}");
            assert_eq!(helper.ret == RetKind::Nothing, helper.returns == "void", "{name}");
            assert!(!helper.doc.is_empty() && helper.example.contains(&helper.name.replace("trace_", "")), "{name}");
            assert!(helper.cost.fixed > 0, "{name}");
            for arg in helper.args {
                let size = match arg {
                    ArgKind::Memory { size } | ArgKind::MemoryOut { size } => size,
                    _ => continue,
                };
                assert_eq!(helper.args[usize::from(size)], ArgKind::Size, "{name}");
            }
        }
    }
}
