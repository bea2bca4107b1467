//! What each hook grants: the fields of its context, and the ceiling on what one call may cost.
//!
//! Offsets and sizes come from hook-shim's header through bindgen, so they cannot drift.

use std::{
    fmt,
    mem::{offset_of, size_of},
};

use duckbpf_abi as abi;

use crate::hook::Hook;

/// A field of a context. All are read-only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    pub name: &'static str,
    pub offset: u32,
    pub size: u32,
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} bytes at offset {}", self.name, self.size, self.offset)
    }
}

/// What a program on a hook may do.
#[derive(Debug)]
pub struct Rules {
    pub context: &'static str,
    pub fields: &'static [Field],
    /// Instructions, helpers included, that one call may cost.
    pub ceiling: u64,
    /// The result depends on the context alone: no variables that can change.
    pub pure: bool,
}

/// Fields of a context, those of its origin first.
macro_rules! fields {
    ($context:ty, origin, $($field:ident: $ty:ty),+) => {
        &[
            origin_field!(database_id: u64),
            origin_field!(connection_id: u64),
            origin_field!(query_id: u64),
            origin_field!(thread_index: u32),
            $(field!($context, $field: $ty)),+
        ]
    };
    ($context:ty, $($field:ident: $ty:ty),+) => { &[$(field!($context, $field: $ty)),+] };
}

/// Checks the type while it takes the size.
macro_rules! field {
    ($context:ty, $field:ident: $ty:ty) => {{
        const _: fn(&$context) -> $ty = |context| context.$field;
        Field { name: stringify!($field), offset: offset_of!($context, $field) as u32, size: size_of::<$ty>() as u32 }
    }};
}

macro_rules! origin_field {
    ($field:ident: $ty:ty) => {{
        const _: fn(&abi::duckbpf_origin) -> $ty = |origin| origin.$field;
        // Every context begins with its origin.
        Field {
            name: concat!("origin.", stringify!($field)),
            offset: offset_of!(abi::duckbpf_origin, $field) as u32,
            size: size_of::<$ty>() as u32,
        }
    }};
}

macro_rules! rules {
    ($context:ident, $ceiling:expr, $pure:expr, $($fields:tt)+) => {{
        static RULES: Rules = Rules {
            context: stringify!($context),
            fields: fields!(abi::$context, $($fields)+),
            ceiling: $ceiling,
            pure: $pure,
        };
        &RULES
    }};
}

/// For one key.
const CEILING_HASH: u64 = 64;
/// While the engine holds a block's lock.
const CEILING_UNDER_LOCK: u64 = 4096;
const CEILING: u64 = 65_536;

/// The rules of a hook.
pub fn rules(hook: Hook) -> &'static Rules {
    match hook {
        Hook::Hash => rules!(duckbpf_hash_ctx, CEILING_HASH, true, lo: u64, hi: u64, whole: u64, len: u32, type_: u32),
        Hook::ScheduleTask => rules!(
            duckbpf_schedule_task_ctx, CEILING, false, origin,
            n_tasks: u64, queue_length: u64, active_queries: u64, pool: u32
        ),
        Hook::ExecuteForever => rules!(
            duckbpf_execute_forever_ctx, CEILING, false, origin,
            queue_length_regular: u64, queue_length_async: u64, active_queries: u64, flush_threshold: u64,
            decay_delay: i64, pool: u32, site: u32, flush_supported: u32, partial: u32
        ),
        Hook::Load => rules!(
            duckbpf_load_ctx, CEILING_UNDER_LOCK, false, origin,
            block_id: i64, file_id: u64, size: u64, used_memory: u64, max_memory: u64,
            tag: u32, buffer_type: u32, hit: u32, hint: u32
        ),
        Hook::UpdateUsedMemory => rules!(
            duckbpf_update_used_memory_ctx, CEILING_UNDER_LOCK, false, origin,
            delta: i64, used_memory: u64, max_memory: u64, tag: u32
        ),
        Hook::AllocateNewBlock => rules!(
            duckbpf_allocate_new_block_ctx, CEILING, false, origin,
            min_size: u64, initial_capacity: u64, previous_capacity: u64, total_allocated: u64, max_capacity: u64
        ),
        Hook::Unpin => rules!(
            duckbpf_unpin_ctx, CEILING_UNDER_LOCK, false, origin,
            block_id: i64, file_id: u64, size: u64, used_memory: u64, max_memory: u64,
            tag: u32, buffer_type: u32, readers: i32, hint: u32, destroy_upon: u32, persistent: u32
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_ordered_and_only_reserved_ones_are_missing() {
        for hook in Hook::ALL {
            let rules = rules(hook);
            let mut end = 0;
            let mut missing = 0;
            for field in rules.fields {
                assert!(field.offset >= end, "{hook}: {}", field.name);
                missing += field.offset - end;
                end = field.offset + field.size;
            }
            let (size, reserved) = match hook {
                Hook::Hash => (size_of::<abi::duckbpf_hash_ctx>(), 0),
                Hook::ScheduleTask => (size_of::<abi::duckbpf_schedule_task_ctx>(), 8),
                Hook::ExecuteForever => (size_of::<abi::duckbpf_execute_forever_ctx>(), 4),
                Hook::Load => (size_of::<abi::duckbpf_load_ctx>(), 4),
                Hook::UpdateUsedMemory => (size_of::<abi::duckbpf_update_used_memory_ctx>(), 8),
                Hook::AllocateNewBlock => (size_of::<abi::duckbpf_allocate_new_block_ctx>(), 4),
                Hook::Unpin => (size_of::<abi::duckbpf_unpin_ctx>(), 4),
            };
            assert_eq!(missing + size as u32 - end, reserved, "{hook}");
        }
    }
}
