//! What the engine tells of its state.

use std::ffi::c_char;

use duckbpf_abi as abi;

use super::{Env, guard};

macro_rules! states {
    ($($name:ident $what:ident)*) => {
        $(pub extern "C" fn $name(argument: u64, _: u64, _: u64, _: u64, _: u64, env: &Env) -> u64 {
            // Arguments are __u32: the upper half may hold anything.
            guard(env, 0, || env.state(abi::$what, u64::from(argument as u32)))
        })*
    };
}

states! {
    used_memory DUCKBPF_STATE_USED_MEMORY
    max_memory DUCKBPF_STATE_MAX_MEMORY
    used_memory_by_tag DUCKBPF_STATE_TAG_MEMORY
    queue_length DUCKBPF_STATE_QUEUE_LENGTH
    active_queries DUCKBPF_STATE_ACTIVE_QUERIES
    threads DUCKBPF_STATE_THREADS
    buffer_hits DUCKBPF_STATE_BUFFER_HITS
    buffer_misses DUCKBPF_STATE_BUFFER_MISSES
    spill_bytes DUCKBPF_STATE_SPILL_BYTES
    eviction_queue_length DUCKBPF_STATE_EVICTION_QUEUE
}

pub extern "C" fn message(text: u64, size: u64, _: u64, _: u64, _: u64, env: &Env) -> u64 {
    // Without the zero byte at its end.
    guard(env, 0, || {
        env.set_message(text as *const c_char, u64::from(size as u32).saturating_sub(1));
        0
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn each_asks_for_its_own_state() {
        let env = Env::leak(testing::host());
        let helpers = [used_memory, max_memory, used_memory_by_tag, queue_length, active_queries, threads];
        for (what, helper) in
            helpers.into_iter().chain([buffer_hits, buffer_misses, spill_bytes, eviction_queue_length]).enumerate()
        {
            assert_eq!(helper(7, 0, 0, 0, 0, env), 1000 * what as u64 + 7);
            assert_eq!(helper(7, 0, 0, 0, 0, Env::detached()), 0, "without a host nothing is known");
        }
    }
}
