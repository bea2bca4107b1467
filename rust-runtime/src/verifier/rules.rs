//! What each hook grants: the fields of its context, its helpers, and the ceiling on what one call may cost.
//!
//! Offsets and sizes come from hook-shim's header through bindgen, so they cannot drift.

use std::{
    fmt,
    mem::{offset_of, size_of},
};

use duckbpf_abi as abi;

use super::{Reason, STACK};
use crate::hook::Hook;

/// A field of a context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    pub name: &'static str,
    pub offset: u32,
    /// Bytes of all its numbers.
    pub size: u32,
    /// 1, but of arrays.
    pub count: u32,
    pub signed: bool,
    pub content: Content,
    pub writable: bool,
}

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    Number,
    /// A pointer to the buffer's first byte.
    Buffer,
    /// A pointer behind its last.
    BufferEnd,
}

impl Field {
    /// Its name as C declares it, with the length where it is an array.
    pub fn declarator(&self) -> String {
        let name = self.name.trim_end_matches('_');
        if self.count == 1 { name.to_owned() } else { format!("{name}[{}]", self.count) }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} bytes at offset {}", self.name, self.size, self.offset)
    }
}

/// What a program may do.
#[derive(Debug)]
pub struct Rules {
    /// The hook's name, or the profile's.
    pub name: &'static str,
    /// None: no hook; the program is only judged.
    pub hook: Option<Hook>,
    pub context: &'static str,
    pub fields: &'static [Field],
    /// Bytes of a context that is nothing but numbers, and of which any may be read.
    pub plain_bytes: u32,
    /// Those bytes may be written too.
    pub plain_writable: bool,
    /// Instructions, helpers included, that one call may cost.
    pub ceiling: u64,
    /// The result depends on the context alone: no variables that can change.
    pub pure: bool,
    /// Pointers into the same object may be compared and subtracted.
    pub relates_pointers: bool,
    pub writable_buffers: bool,
    /// Rounds of callbacks and what helpers do count against the ceiling.
    pub counts_callbacks: bool,
    /// What the result must be in.
    pub returns: Option<(u64, u64)>,
    /// Bytes of stack that functions which call each other may use together.
    pub combined_stack: Option<u32>,
}

impl Rules {
    /// What so many bytes of the context hold. Parts of a number may be read, if they are aligned.
    pub fn context_at(&self, offset: i64, bytes: i64, write: bool) -> Result<Content, Reason> {
        // Trials come with offsets however far.
        let behind = offset.saturating_add(bytes);
        let is_inside = |field: &&Field| {
            let (start, end) = (i64::from(field.offset), i64::from(field.offset + field.size));
            start <= offset && behind <= end && (offset - start) % bytes.max(1) == 0
        };
        let field = self.fields.iter().find(is_inside);
        if field.is_none() && offset >= 0 && behind <= i64::from(self.plain_bytes) && offset % bytes.max(1) == 0 {
            return if write && !self.plain_writable { Err(Reason::ContextWrite) } else { Ok(Content::Number) };
        }
        // Pointers are read whole.
        let field = field.filter(|field| field.content == Content::Number || i64::from(field.size) == bytes);
        match field {
            Some(field) if write && !(field.writable && field.content == Content::Number) => Err(Reason::ContextWrite),
            Some(field) => Ok(field.content),
            None => {
                let before = self.fields.iter().rev().find(|field| i64::from(field.offset) <= offset);
                let nearest = before.or(self.fields.first());
                Err(Reason::ContextField { context: self.context, offset, size: bytes as u32, nearest })
            }
        }
    }
}

/// What a field's type says of its numbers.
trait Number {
    const COUNT: u32 = 1;
    const SIGNED: bool;
}

macro_rules! numbers {
    ($($ty:ty: $signed:literal),+) => { $(impl Number for $ty { const SIGNED: bool = $signed; })+ };
}

numbers!(u32: false, u64: false, i32: true, i64: true);

impl<T: Number, const N: usize> Number for [T; N] {
    const COUNT: u32 = N as u32;
    const SIGNED: bool = T::SIGNED;
}

/// Fields of a context, those of its origin first.
macro_rules! fields {
    ($context:ty, origin, $($field:ident: $ty:ty),+) => {
        &[
            origin_field!(database_id: u64),
            origin_field!(connection_id: u64),
            origin_field!(query_id: u64),
            origin_field!(thread_index: u32),
            origin_field!(tag: u32),
            $(field!($context, $field: $ty)),+
        ]
    };
    ($context:ty, $($field:ident: $ty:ty),+) => { &[$(field!($context, $field: $ty)),+] };
}

/// Checks the type while it takes the size.
macro_rules! field {
    ($context:ty, $field:ident: $ty:ty) => {{
        const _: fn(&$context) -> $ty = |context| context.$field;
        Field {
            name: stringify!($field),
            offset: offset_of!($context, $field) as u32,
            size: size_of::<$ty>() as u32,
            count: <$ty as Number>::COUNT,
            signed: <$ty as Number>::SIGNED,
            content: Content::Number,
            writable: false,
        }
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
            count: <$ty as Number>::COUNT,
            signed: <$ty as Number>::SIGNED,
            content: Content::Number,
            writable: false,
        }
    }};
}

macro_rules! rules {
    ($hook:ident, $context:ident, $ceiling:expr, $($fields:tt)+) => {
        Rules {
            name: Hook::$hook.name(),
            hook: Some(Hook::$hook),
            context: concat!("struct ", stringify!($context)),
            fields: fields!(abi::$context, $($fields)+),
            ceiling: $ceiling,
            pure: matches!(Hook::$hook, Hook::Hash),
            ..OF_A_HOOK
        }
    };
}

/// For one key.
const CEILING_HASH: u64 = 64;
/// While the engine holds a block's lock.
const CEILING_UNDER_LOCK: u64 = 4096;
/// The highest.
pub const CEILING: u64 = 65_536;
/// As many instructions as the kernel visits.
const CEILING_GENERIC: u64 = 1_000_000;

const OF_A_HOOK: Rules = Rules {
    name: "",
    hook: None,
    context: "",
    fields: &[],
    plain_bytes: 0,
    plain_writable: false,
    ceiling: CEILING,
    pure: false,
    relates_pointers: true,
    writable_buffers: false,
    counts_callbacks: true,
    returns: None,
    combined_stack: None,
};

/// The rules of a hook.
pub fn rules(hook: Hook) -> Rules {
    match hook {
        Hook::Hash => rules!(Hash, duckbpf_hash_ctx, CEILING_HASH, lo: u64, hi: u64, whole: u64, len: u32, type_: u32),
        Hook::ScheduleTask => rules!(
            ScheduleTask, duckbpf_schedule_task_ctx, CEILING, origin,
            n_tasks: u64, queue_length: u64, active_queries: u64, pool: u32
        ),
        Hook::ExecuteForever => rules!(
            ExecuteForever, duckbpf_execute_forever_ctx, CEILING, origin,
            queue_length_regular: u64, queue_length_async: u64, active_queries: u64, flush_threshold: u64,
            decay_delay: i64, pool: u32, site: u32, flush_supported: u32, partial: u32
        ),
        Hook::Load => rules!(
            Load, duckbpf_load_ctx, CEILING_UNDER_LOCK, origin,
            block_id: i64, file_id: u64, size: u64, used_memory: u64, max_memory: u64,
            tag: u32, buffer_type: u32, hit: u32, hint: u32
        ),
        Hook::UpdateUsedMemory => rules!(
            UpdateUsedMemory, duckbpf_update_used_memory_ctx, CEILING_UNDER_LOCK, origin,
            delta: i64, used_memory: u64, max_memory: u64, tag: u32
        ),
        Hook::AllocateNewBlock => rules!(
            AllocateNewBlock, duckbpf_allocate_new_block_ctx, CEILING, origin,
            min_size: u64, initial_capacity: u64, previous_capacity: u64, total_allocated: u64, max_capacity: u64
        ),
        Hook::Unpin => rules!(
            Unpin, duckbpf_unpin_ctx, CEILING_UNDER_LOCK, origin,
            block_id: i64, file_id: u64, size: u64, used_memory: u64, max_memory: u64,
            tag: u32, buffer_type: u32, readers: i32, hint: u32, destroy_upon: u32, persistent: u32
        ),
        Hook::Evict => rules!(
            Evict, duckbpf_evict_ctx, CEILING_UNDER_LOCK, origin,
            block_id: i64, file_id: u64, size: u64, used_memory: u64, max_memory: u64,
            tag: u32, buffer_type: u32, hint: u32, skips: u32
        ),
        Hook::QueueInsert => rules!(
            QueueInsert, duckbpf_queue_insert_ctx, CEILING_UNDER_LOCK, origin,
            block_id: i64, file_id: u64, size: u64, used_memory: u64, max_memory: u64,
            tag: u32, buffer_type: u32, hint: u32, queue: u32, queues: u32, first: u32
        ),
        Hook::Checkpoint => rules!(
            Checkpoint, duckbpf_checkpoint_ctx, CEILING, origin,
            file_id: u64, wal_bytes: u64, commit_bytes: u64, threshold: u64, deferred_ns: u64,
            idle_ns: u64, duration_ns: u64, site: u32
        ),
        Hook::Prefetch => rules!(
            Prefetch, duckbpf_prefetch_ctx, CEILING, origin,
            file_id: u64, block_size: u64, blocks: u64, stock: i64, used_memory: u64, max_memory: u64, site: u32
        ),
        Hook::FileRead => rules!(
            FileRead, duckbpf_file_read_ctx, CEILING_UNDER_LOCK, origin,
            path_id: u64, bytes: u64, duration_ns: u64
        ),
        Hook::Log => rules!(
            Log, duckbpf_log_ctx, CEILING, origin,
            type_id: u64, message_bytes: u64, level: u32
        ),
        Hook::Compression => rules!(
            Compression, duckbpf_compression_ctx, CEILING, origin,
            table_id: u64, score: u64, column: u32, physical_type: u32, method: u32
        ),
        Hook::ScanBegin => rules!(
            ScanBegin, duckbpf_scan_begin_ctx, CEILING, origin,
            table_id: u64, file_id: u64, rows: u64, used_memory: u64, max_memory: u64,
            columns: u32, table_columns: u32, filters: u32
        ),
        Hook::RunTask => rules!(
            RunTask, duckbpf_run_task_ctx, CEILING, origin,
            fingerprint: u64, age_ns: u64, cpu_ns: u64, waited_ns: u64, klass: u32, site: u32,
            threads: u32, kept: u32, older_waiting: u32, tag_running: u32, tag_waiting: u32,
            running: [u32; 8], waiting: [u32; 8]
        ),
        Hook::QueryBegin => rules!(
            QueryBegin, duckbpf_query_begin_ctx, CEILING, origin,
            fingerprint: u64, waited_ns: u64, used_memory: u64, max_memory: u64, spill_bytes: u64,
            statement: u32, in_transaction: u32, may_wait: u32, admitted: [u32; 8], waiting: [u32; 8]
        ),
        Hook::QueryEnd => rules!(
            QueryEnd, duckbpf_query_end_ctx, CEILING, origin,
            fingerprint: u64, duration_ns: u64, waited_ns: u64, cpu_ns: u64, rows: u64, peak_memory: u64,
            spill_bytes: u64, klass: u32, failed: u32, error: u32
        ),
        Hook::PipelineThreads => rules!(
            PipelineThreads, duckbpf_pipeline_threads_ctx, CEILING, origin,
            fingerprint: u64, max_threads: u64, threads: u64, active_queries: u64, cardinality: u64,
            source: u32, sink: u32, klass: u32
        ),
        Hook::OperatorMemory => rules!(
            OperatorMemory, duckbpf_operator_memory_ctx, CEILING_UNDER_LOCK, origin,
            fingerprint: u64, lower: u64, upper: u64, stock: u64, remaining_size: u64, previous: u64,
            reserved: u64, limit: u64, operators: u64, klass: u32
        ),
    }
}

/// struct __sk_buff, and what tc programs may write of it (include/uapi/linux/bpf.h).
const SKB_BYTES: u32 = 192;
const SKB: &[Field] = &[
    written_elsewhere("mark", 8, 4),
    written_elsewhere("queue_mapping", 12, 4),
    written_elsewhere("priority", 32, 4),
    written_elsewhere("tc_index", 44, 4),
    written_elsewhere("cb[0]", 48, 4),
    written_elsewhere("cb[1]", 52, 4),
    written_elsewhere("cb[2]", 56, 4),
    written_elsewhere("cb[3]", 60, 4),
    written_elsewhere("cb[4]", 64, 4),
    written_elsewhere("tc_classid", 72, 4),
];

const fn written_elsewhere(name: &'static str, offset: u32, size: u32) -> Field {
    Field { name, offset, size, count: 1, signed: false, content: Content::Number, writable: true }
}

/// What the kernel gives a kind of program, by the kind of its section.
struct Kind {
    /// Bytes of context, all readable.
    bytes: u32,
    fields: &'static [Field],
    /// The context may be written.
    writable: bool,
    /// Each function has a stack of its own.
    private_stacks: bool,
}

/// Programs of a kind that we do not know are taken for system calls', whose context is what the caller says.
const SYSCALL: Kind = Kind { bytes: 0xffff, fields: &[], writable: true, private_stacks: false };

fn kind(section: &str) -> Kind {
    let traced = |bytes| Kind { bytes, writable: false, private_stacks: true, ..SYSCALL };
    match section.trim_start_matches('?').split('/').next().unwrap_or_default() {
        "xdp" | "xdp.frags" => Kind { bytes: 24, writable: false, ..SYSCALL },
        "tc" | "tcx" | "classifier" | "action" | "socket" | "cgroup_skb" | "sk_skb" => {
            Kind { bytes: SKB_BYTES, fields: SKB, writable: false, private_stacks: false }
        }
        "raw_tp" | "raw_tracepoint" | "raw_tp.w" | "raw_tracepoint.w" => traced(96),
        "fentry" | "fexit" | "tp_btf" => Kind { private_stacks: false, ..traced(96) },
        "kprobe" | "kretprobe" | "uprobe" | "uretprobe" | "ksyscall" | "kretsyscall" | "usdt" => traced(168),
        "tp" | "tracepoint" | "perf_event" => traced(4096),
        _ => SYSCALL,
    }
}

/// The rules for programs that were written for something else, by the kind of their section: what the kernel asks of a loader
/// that may use loops, functions and variable offsets but must not leak pointers or read what was not written. A context is
/// plain bytes; its size is that of the kernel's where the section says which it is.
pub fn generic(section: &str) -> Rules {
    let kind = kind(section);
    Rules {
        name: "generic",
        context: "the context",
        fields: kind.fields,
        plain_bytes: kind.bytes,
        plain_writable: kind.writable,
        ceiling: CEILING_GENERIC,
        relates_pointers: false,
        counts_callbacks: false,
        combined_stack: if kind.private_stacks { None } else { Some(STACK) },
        ..OF_A_HOOK
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = include_str!("../../../hook-shim/include/duckbpf/hooks.h");

    /// Type and name of each member of a struct of hooks.h, in its order.
    fn members(name: &str) -> Vec<(&'static str, &'static str)> {
        let start = HEADER.find(&format!("struct {name} {{")).unwrap_or_else(|| panic!("hooks.h has no struct {name}"));
        let body = HEADER[start..].split_once('{').and_then(|(_, rest)| rest.split_once("};")).expect("it ends").0;
        let lines = body.lines().filter_map(|line| line.split_once(';'));
        lines.map(|(member, _)| member.trim().rsplit_once(' ').expect("a type and a name")).collect()
    }

    /// A member's name, and bytes: of an array, one number a class, those of all.
    fn field(ty: &str, name: &str) -> (String, u32) {
        let classes = name.strip_suffix("[DUCKBPF_CLASS_COUNT]");
        let count = classes.map_or(1, |_| abi::DUCKBPF_CLASS_COUNT);
        (classes.unwrap_or(name).to_owned(), size(ty) * count)
    }

    fn size(ty: &str) -> u32 {
        match ty {
            "__u64" | "__s64" => 8,
            "__u32" | "__s32" => 4,
            "__u16" | "__s16" => 2,
            "__u8" | "__s8" => 1,
            other => panic!("a field of type {other}: say here how large it is"),
        }
    }

    /// What programs may read is what the header declares, but for reserved places: nothing is forgotten, nothing else named.
    #[test]
    fn the_fields_are_those_of_the_header() {
        for hook in Hook::ALL {
            let mut declared = Vec::new();
            for (ty, name) in members(&format!("duckbpf_{hook}_ctx")) {
                match ty {
                    "struct duckbpf_origin" => {
                        let origin = members("duckbpf_origin").into_iter();
                        declared.extend(origin.map(|(ty, name)| field(ty, &format!("origin.{name}"))));
                    }
                    ty => declared.push(field(ty, name)),
                }
            }
            let fields = rules(hook).fields.iter();
            // Rust has a word for itself: type.
            let named: Vec<_> = fields.map(|field| (field.name.trim_end_matches('_').to_owned(), field.size)).collect();
            // Reserved places; but operator_memory has a number of that name.
            let is_reserved = |name: &str| name.trim_start_matches("origin.").starts_with("reserved");
            declared.retain(|field| !is_reserved(&field.0) || named.contains(field));
            assert_eq!(named, declared, "{hook}");
        }
    }

    #[test]
    fn fields_are_in_the_order_of_their_offsets() {
        for hook in Hook::ALL {
            let mut end = 0;
            for field in rules(hook).fields {
                assert!(field.offset >= end && field.offset % field.size.min(8) == 0, "{hook}: {}", field.name);
                end = field.offset + field.size;
            }
        }
    }

    #[test]
    fn refusals_name_the_nearest_field() {
        let nearest = |offset, bytes| match rules(Hook::Load).context_at(offset, bytes, false) {
            Err(Reason::ContextField { nearest, .. }) => nearest.map(|field| field.name),
            other => panic!("{other:?}"),
        };
        assert_eq!(nearest(72, 8), Some("tag"), "that field, which is smaller");
        assert_eq!(nearest(50, 4), Some("size"), "not aligned");
        assert_eq!(nearest(4096, 8), Some("hint"), "the last");
        assert_eq!(nearest(-8, 8), Some("origin.database_id"), "the first");
    }

    #[test]
    fn arrays_are_declared_with_their_length() {
        let field = |hook, name: &str| rules(hook).fields.iter().find(|field| field.name == name).expect("it is there");
        assert_eq!(field(Hook::RunTask, "running").declarator(), "running[8]");
        assert_eq!(field(Hook::RunTask, "kept").declarator(), "kept");
        assert_eq!(field(Hook::Hash, "type_").declarator(), "type");
    }

    /// Bytes of context, whether they may be written, and whether each function has a stack of its own.
    #[test]
    fn sections_say_what_the_context_is() {
        let kinds = [
            ("xdp", 24, false, false),
            ("xdp.frags/prog", 24, false, false),
            ("tc", 192, false, false),
            ("?cgroup_skb/egress", 192, false, false),
            ("raw_tracepoint/sys_enter", 96, false, true),
            ("raw_tp.w", 96, false, true),
            ("fentry/f", 96, false, false),
            ("tp_btf/f", 96, false, false),
            ("kprobe/f", 168, false, true),
            ("usdt", 168, false, true),
            ("tracepoint/a/b", 4096, false, true),
            ("perf_event", 4096, false, true),
            ("syscall", 0xffff, true, false),
            ("whatever", 0xffff, true, false),
        ];
        for (section, bytes, is_writable, is_private) in kinds {
            let rules = generic(section);
            let last = bytes / 4 * 4;
            assert_eq!(rules.context_at(last - 4, 4, false), Ok(Content::Number), "{section}");
            let behind = rules.context_at(last, 4, false).map_err(|reason| reason.to_string());
            assert!(behind.as_ref().is_err_and(|words| words.contains("the context")), "{section}: {behind:?}");
            assert_eq!(rules.context_at(0, 4, true).is_ok(), is_writable, "{section}");
            assert_eq!(rules.combined_stack, if is_private { None } else { Some(STACK) }, "{section}");
        }
        // Of a packet's context some fields may be written.
        assert_eq!(generic("tc").context_at(8, 4, true), Ok(Content::Number));
        assert!(generic("tc").context_at(16, 4, true).is_err());
        assert!(generic("xdp").context_at(8, 4, true).is_err());
    }
}
