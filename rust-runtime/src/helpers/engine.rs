//! What the engine tells of its state.

use super::{Env, errno};

pub extern "C" fn trace_printk(_: u64, _: u64, _: u64, _: u64, _: u64, _: &Env) -> u64 {
    errno(libc::EAGAIN)
}

macro_rules! unknown {
    ($($name:ident)*) => {
        $(pub extern "C" fn $name(_: u64, _: u64, _: u64, _: u64, _: u64, _: &Env) -> u64 { 0 })*
    };
}

unknown! {
    used_memory max_memory used_memory_by_tag queue_length active_queries threads eviction_queue_size buffer_hits buffer_misses
    spill_bytes
}
