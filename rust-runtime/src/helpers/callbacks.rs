//! Helpers that call back: into a function of the same program, by its address. A callback takes up to five arguments as a BPF
//! function does, which is the C calling convention, and returns 0 to go on or 1 to stop.

use std::ops::ControlFlow;

use super::{Env, MAX_LOOP, errno};
use crate::maps::Map;

/// `long (*)(u64 index, void *context)`
type LoopBody = extern "C" fn(u64, u64) -> u64;
/// `long (*)(map, const key *, value *, void *context)`
type Visitor = extern "C" fn(u64, u64, u64, u64) -> u64;

// A panic in here would have to pass frames of the program: nothing in here panics.

pub extern "C" fn bpf_loop(rounds: u64, callback: u64, context: u64, _: u64, _: u64, _: &Env) -> u64 {
    if rounds > MAX_LOOP {
        return errno(libc::E2BIG);
    }
    // SAFETY: the verifier proved that it is a function of the program that takes an index and the context; compiled functions follow
    // the C calling convention.
    let body = unsafe { std::mem::transmute::<u64, LoopBody>(callback) };
    for index in 0..rounds {
        if body(index, context) != 0 {
            return index + 1;
        }
    }
    rounds
}

pub extern "C" fn for_each_map_elem(map: u64, callback: u64, context: u64, _: u64, _: u64, env: &Env) -> u64 {
    // SAFETY: as for bpf_loop.
    let visitor = unsafe { std::mem::transmute::<u64, Visitor>(callback) };
    let mut calls = 0;
    // SAFETY: the verifier proved that it is a map.
    let target = unsafe { &*(map as *const Map) };
    let shard = if target.kind().is_percpu() { env.thread_index() } else { 0 };
    // SAFETY: a program is running.
    unsafe {
        target.walk(shard, |key, value| {
            calls += 1;
            if visitor(map, key as u64, value as u64, context) == 0 {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        });
    }
    calls
}

#[cfg(test)]
mod tests {
    use super::*;

    extern "C" fn sum_to_five(index: u64, context: u64) -> u64 {
        // SAFETY: the test's own variable.
        unsafe { *(context as *mut u64) += index };
        u64::from(index == 5)
    }

    #[test]
    fn loops_count_their_rounds_and_stop() {
        let (env, callback) = (Env::detached(), sum_to_five as LoopBody as usize as u64);
        let mut sum = 0u64;
        let context = &raw mut sum as u64;
        assert_eq!((bpf_loop(3, callback, context, 0, 0, env), sum), (3, 3));
        assert_eq!(bpf_loop(100, callback, context, 0, 0, env), 6);
        assert_eq!(bpf_loop(0, callback, context, 0, 0, env), 0);
        assert_eq!(bpf_loop(MAX_LOOP + 1, callback, context, 0, 0, env) as i64, -i64::from(libc::E2BIG));
    }
}
