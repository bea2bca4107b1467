//! Functions that programs may call, and which hooks may call them.
//!
//! Numbers are Linux' where the meaning is the same; ours begin at 0x10000. A helper gets five arguments and the [`Env`]; it
//! takes no lock, allocates nothing and never enters the engine. A panic inside ends at the boundary: the helper returns its
//! error, the program runs on, and the host is told to discard its decision.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicPtr, Ordering},
};

use duckbpf_abi::{duckbpf_host, duckbpf_origin};

use crate::hook::Hook;

/// What helpers work with. Code refers to it by address, so it never moves and never goes.
#[derive(Debug)]
pub struct Env {
    host: AtomicPtr<duckbpf_host>,
}

impl Env {
    /// The environment of a host, kept for the life of the process.
    pub fn leak(host: &'static duckbpf_host) -> &'static Env {
        Box::leak(Box::new(Env { host: AtomicPtr::new((host as *const duckbpf_host).cast_mut()) }))
    }

    /// Without a host.
    #[cfg(test)]
    pub fn detached() -> &'static Env {
        static DETACHED: Env = Env { host: AtomicPtr::new(std::ptr::null_mut()) };
        &DETACHED
    }

    fn host(&self) -> Option<&'static duckbpf_host> {
        // SAFETY: null, or the 'static reference that leak() took.
        unsafe { self.host.load(Ordering::Relaxed).as_ref() }
    }
}

/// The calling convention of helpers: SysV with r1 to r5, then the environment.
pub type HelperFn = extern "C" fn(u64, u64, u64, u64, u64, &Env) -> u64;

/// A helper and its price.
#[derive(Debug)]
pub struct Helper {
    pub id: u32,
    pub name: &'static str,
    /// What a call counts in instructions against the hook's ceiling.
    pub cost: u64,
    pub function: HelperFn,
    forbidden: &'static [Hook],
}

impl Helper {
    pub fn allowed_in(&self, hook: Hook) -> bool {
        !self.forbidden.contains(&hook)
    }
}

/// A hash is a pure function of its key.
const NOT_IN_HASH: &[Hook] = &[Hook::Hash];

/// Every helper.
pub static HELPERS: &[Helper] = &[
    Helper { id: 5, name: "ktime_get_ns", cost: 40, function: ktime_get_ns, forbidden: NOT_IN_HASH },
    Helper { id: 8, name: "get_smp_processor_id", cost: 10, function: get_smp_processor_id, forbidden: NOT_IN_HASH },
    Helper { id: 0x10001, name: "query_age_ns", cost: 50, function: query_age_ns, forbidden: NOT_IN_HASH },
    #[cfg(test)]
    Helper { id: PANICS, name: "panics", cost: 1, function: panics, forbidden: NOT_IN_HASH },
];

pub fn find(id: u32) -> Option<&'static Helper> {
    HELPERS.iter().find(|helper| helper.id == id)
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

extern "C" fn ktime_get_ns(_: u64, _: u64, _: u64, _: u64, _: u64, env: &Env) -> u64 {
    guard(env, 0, || {
        let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `now` is valid for writes.
        unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
        now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
    })
}

extern "C" fn get_smp_processor_id(_: u64, _: u64, _: u64, _: u64, _: u64, env: &Env) -> u64 {
    guard(env, 0, || {
        let mut origin = duckbpf_origin::default();
        if let Some(current_origin) = env.host().and_then(|host| host.current_origin) {
            // SAFETY: the host fills the origin; it may be called inside a program (abi.h).
            unsafe { current_origin(&mut origin) };
        }
        u64::from(origin.thread_index)
    })
}

extern "C" fn query_age_ns(_: u64, _: u64, _: u64, _: u64, _: u64, env: &Env) -> u64 {
    guard(env, 0, || match env.host().and_then(|host| host.query_age_ns) {
        // SAFETY: the host's functions may be called inside a program (abi.h).
        Some(query_age_ns) => unsafe { query_age_ns() },
        None => 0,
    })
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

    #[test]
    fn ids_are_unique_and_hash_may_call_none() {
        for (index, helper) in HELPERS.iter().enumerate() {
            assert!(HELPERS[..index].iter().all(|other| other.id != helper.id));
            assert!(!helper.allowed_in(Hook::Hash), "{}", helper.name);
        }
    }

    #[test]
    fn without_a_host_helpers_answer_zero() {
        let env = Env::detached();
        assert_eq!(query_age_ns(0, 0, 0, 0, 0, env), 0);
        assert_eq!(get_smp_processor_id(0, 0, 0, 0, 0, env), 0);
        assert!(ktime_get_ns(0, 0, 0, 0, 0, env) > 0);
    }
}
