//! Every helper. The verifier, the code generator, duckbpf.h and the book read this table; nothing else says what a helper is.

use super::{
    ArgKind::{
        self, Callback, CallbackContext, ConstString, Context, Key, Map, Memory, MemoryOut, None as NoArg, Record,
        RecordSize, Scalar, Size, Value, ValueOrNull, ValueOut, Zero,
    },
    Bytes, CallbackKind, Cost, HelperSpec, Hooks, RetKind, bytes, callbacks, digest, engine, maps, print, time,
};
use crate::object::MapKind;

const NO_ARGS: [ArgKind; 5] = [NoArg; 5];
/// Kinds whose values have addresses.
const LOOKED_UP: &[MapKind] = &[
    MapKind::Hash,
    MapKind::Array,
    MapKind::PercpuHash,
    MapKind::PercpuArray,
    MapKind::LruHash,
    MapKind::ArrayOfMaps,
    MapKind::HashOfMaps,
];
const UPDATED: &[MapKind] =
    &[MapKind::Hash, MapKind::Array, MapKind::PercpuHash, MapKind::PercpuArray, MapKind::LruHash];
const DELETED: &[MapKind] = &[MapKind::Hash, MapKind::PercpuHash, MapKind::LruHash];
const PUSHED: &[MapKind] = &[MapKind::Queue, MapKind::Stack, MapKind::BloomFilter];
const POPPED: &[MapKind] = &[MapKind::Queue, MapKind::Stack];
const PERCPU: &[MapKind] = &[MapKind::PercpuHash, MapKind::PercpuArray];
const WALKED: &[MapKind] =
    &[MapKind::Hash, MapKind::Array, MapKind::PercpuHash, MapKind::PercpuArray, MapKind::LruHash];
const RINGBUF: &[MapKind] = &[MapKind::Ringbuf];
const BLOCKS: &[MapKind] = &[MapKind::BlockStorage];

/// Most helpers: no map, all hooks but hash, not pure.
const PLAIN: HelperSpec = HelperSpec {
    id: 0,
    name: "",
    args: NO_ARGS,
    ret: RetKind::Scalar,
    maps: &[],
    hooks: Hooks::NOT_HASH,
    cost: Cost::fixed(10),
    pure: false,
    function: time::ktime_get_ns,
    returns: "__u64",
    parameters: &[],
    doc: "",
    example: "",
};

/// A function of its arguments, also for hash programs.
const PURE: HelperSpec = HelperSpec { hooks: Hooks::ALL, pure: true, ..PLAIN };

const ON_MAP: HelperSpec = HelperSpec { ret: RetKind::Status, returns: "long", ..PLAIN };

pub static TABLE: &[HelperSpec] = &[
    HelperSpec {
        id: 1,
        name: "map_lookup_elem",
        args: [Map, Key, NoArg, NoArg, NoArg],
        ret: RetKind::ValueOrNull,
        maps: LOOKED_UP,
        cost: Cost::with(30, Bytes::Key, 4),
        function: maps::lookup,
        returns: "void *",
        parameters: &["void *map", "const void *key"],
        doc: "The value of a key, to be read and written in place until the program ends, or NULL. Of a per-CPU map: the \
              calling thread's. Of a map of maps: the inner map. Takes no lock.",
        example: "__u64 *count = bpf_map_lookup_elem(&counts, &key);",
        ..ON_MAP
    },
    HelperSpec {
        id: 2,
        name: "map_update_elem",
        args: [Map, Key, Value, Scalar, NoArg],
        maps: UPDATED,
        cost: Cost::with(80, Bytes::KeyAndValue, 4),
        function: maps::update,
        parameters: &["void *map", "const void *key", "const void *value", "__u64 flags"],
        doc: "Sets the value of a key, eight bytes at a time: others may see it half-way. flags: BPF_ANY (0) either way, \
              BPF_NOEXIST only a new key, BPF_EXIST only a present one. 0, -EINVAL (flags), -EEXIST, -ENOENT, -E2BIG \
              (the map is full, or there is no such index), -ENOMEM (entries that were freed are not free to be used yet), \
              -EBUSY (another thread changes the same bucket), -ENOSPC (no shard is left for \
              this thread).",
        example: "bpf_map_update_elem(&sizes, &key, &value, BPF_ANY);",
        ..ON_MAP
    },
    HelperSpec {
        id: 3,
        name: "map_delete_elem",
        args: [Map, Key, NoArg, NoArg, NoArg],
        maps: DELETED,
        cost: Cost::with(80, Bytes::Key, 4),
        function: maps::delete,
        parameters: &["void *map", "const void *key"],
        doc: "Takes a key out. Its value stays readable to programs that hold it. 0, -ENOENT, -EBUSY.",
        example: "bpf_map_delete_elem(&open, &key);",
        ..ON_MAP
    },
    HelperSpec {
        id: 5,
        name: "ktime_get_ns",
        cost: Cost::fixed(40),
        function: time::ktime_get_ns,
        doc: "Nanoseconds of CLOCK_MONOTONIC. Some 20 ns a call.",
        example: "__u64 now = bpf_ktime_get_ns();",
        ..PLAIN
    },
    HelperSpec {
        id: 6,
        name: "trace_printk",
        args: [ConstString, Size, Scalar, Scalar, Scalar],
        ret: RetKind::CountOrError,
        cost: Cost::with(200, Bytes::Arg(1), 8),
        function: print::trace_printk,
        returns: "long",
        parameters: &["const char *format", "__u32 format_size", "__u64 a", "__u64 b", "__u64 c"],
        doc: "Writes a line; use the macro bpf_printk. When a query ends whose log takes it (CALL enable_logging(level := 'info')), the \
              lines go to DuckDB's log. Formats: %d %i %u %x %c, with l or ll before the letter, and %%. At most 1,000 lines a second and \
              200 bytes a line. The bytes written, -EINVAL (format), -EAGAIN (lost: too many, or nobody reads them).",
        example: "bpf_printk(\"size %llu\", ctx->size);",
        ..PLAIN
    },
    HelperSpec {
        id: 7,
        name: "get_prandom_u32",
        ret: RetKind::Scalar32,
        cost: Cost::fixed(20),
        function: digest::get_prandom_u32,
        returns: "__u32",
        doc: "A pseudo-random number of 32 bits; not for secrets.",
        example: "if (bpf_get_prandom_u32() % 100 == 0) { /* one call in a hundred */ }",
        ..PLAIN
    },
    HelperSpec {
        id: 8,
        name: "get_smp_processor_id",
        ret: RetKind::Scalar32,
        function: time::get_smp_processor_id,
        returns: "__u32",
        doc: "The number of the calling thread's shard of per-CPU maps: origin.thread_index.",
        example: "__u32 shard = bpf_get_smp_processor_id();",
        ..PLAIN
    },
    HelperSpec {
        id: 12,
        name: "tail_call",
        args: [Context, Map, Scalar, NoArg, NoArg],
        ret: RetKind::StatusIfReturns,
        maps: &[MapKind::ProgArray],
        cost: Cost::fixed(20),
        function: maps::tail_call_fell_through,
        returns: "long",
        parameters: &["void *ctx", "void *prog_array", "__u32 index"],
        doc: "Goes on in another program of the same hook, with the same context, and does not come back; at most 33 times in one \
              call. Where there is no such program, it returns and the caller goes on: -ENOENT.",
        example: "bpf_tail_call(ctx, &stages, ctx->tag);",
        ..PLAIN
    },
    HelperSpec {
        id: 87,
        name: "map_push_elem",
        args: [Map, Value, Scalar, NoArg, NoArg],
        maps: PUSHED,
        cost: Cost::with(80, Bytes::Value, 4),
        function: maps::push,
        parameters: &["void *map", "const void *value", "__u64 flags"],
        doc: "Adds a value to a queue, a stack or a bloom filter. flags: BPF_ANY; queue and stack: BPF_EXIST makes room by dropping \
              the oldest. 0, -EINVAL (flags), -E2BIG (full), -EBUSY.",
        example: "bpf_map_push_elem(&seen, &block_id, BPF_ANY);",
        ..ON_MAP
    },
    HelperSpec {
        id: 88,
        name: "map_pop_elem",
        args: [Map, ValueOut, NoArg, NoArg, NoArg],
        maps: POPPED,
        cost: Cost::with(80, Bytes::Value, 4),
        function: maps::pop,
        parameters: &["void *map", "void *value"],
        doc: "Takes out a queue's oldest or a stack's newest value. 0, -ENOENT (empty), -EBUSY; on an error the value is zeroed.",
        example: "bpf_map_pop_elem(&work, &item);",
        ..ON_MAP
    },
    HelperSpec {
        id: 89,
        name: "map_peek_elem",
        args: [Map, ValueOut, NoArg, NoArg, NoArg],
        maps: PUSHED,
        cost: Cost::with(60, Bytes::Value, 4),
        function: maps::peek,
        parameters: &["void *map", "void *value"],
        doc: "Copies a queue's oldest or a stack's newest value; of a bloom filter: whether the value may have been added. 0, -ENOENT, \
              -EBUSY; on an error a queue's or stack's value is zeroed.",
        example: "if (bpf_map_peek_elem(&seen, &block_id) == 0) { /* probably seen */ }",
        ..ON_MAP
    },
    HelperSpec {
        id: 130,
        name: "ringbuf_output",
        args: [Map, Memory { size: 2 }, Size, Zero, NoArg],
        maps: RINGBUF,
        cost: Cost::with(80, Bytes::Arg(2), 2),
        function: maps::ringbuf_output,
        parameters: &["void *ringbuf", "const void *data", "__u64 size", "__u64 flags"],
        doc: "Appends a record. flags must be 0. 0, -EAGAIN (full: the record is lost and counted), -EBUSY, -E2BIG (larger than the \
              ring).",
        example: "bpf_ringbuf_output(&events, &event, sizeof(event), 0);",
        ..ON_MAP
    },
    HelperSpec {
        id: 131,
        name: "ringbuf_reserve",
        args: [Map, RecordSize, Zero, NoArg, NoArg],
        ret: RetKind::RecordOrNull { size: 1 },
        maps: RINGBUF,
        cost: Cost::fixed(60),
        function: maps::ringbuf_reserve,
        returns: "void *",
        parameters: &["void *ringbuf", "__u64 size", "__u64 flags"],
        doc: "Room for a record of a constant size, zeroed, to be filled and then submitted or discarded on every way; NULL when the \
              ring is full, which counts the record as lost. flags must be 0.",
        example: "struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);",
        ..ON_MAP
    },
    HelperSpec {
        id: 132,
        name: "ringbuf_submit",
        args: [Record, Zero, NoArg, NoArg, NoArg],
        ret: RetKind::Nothing,
        cost: Cost::fixed(20),
        function: maps::ringbuf_submit,
        returns: "void",
        parameters: &["void *data", "__u64 flags"],
        doc: "Shows a reserved record to readers. flags must be 0.",
        example: "bpf_ringbuf_submit(event, 0);",
        ..PLAIN
    },
    HelperSpec {
        id: 133,
        name: "ringbuf_discard",
        args: [Record, Zero, NoArg, NoArg, NoArg],
        ret: RetKind::Nothing,
        cost: Cost::fixed(20),
        function: maps::ringbuf_discard,
        returns: "void",
        parameters: &["void *data", "__u64 flags"],
        doc: "Gives a reserved record up: readers skip it. flags must be 0.",
        example: "bpf_ringbuf_discard(event, 0);",
        ..PLAIN
    },
    HelperSpec {
        id: 134,
        name: "ringbuf_query",
        args: [Map, Scalar, NoArg, NoArg, NoArg],
        maps: RINGBUF,
        function: maps::ringbuf_query,
        parameters: &["void *ringbuf", "__u64 flags"],
        doc: "BPF_RB_AVAIL_DATA: bytes that wait for a reader; BPF_RB_RING_SIZE: the ring's bytes; BPF_RB_CONS_POS, BPF_RB_PROD_POS: \
              how far reading and writing have come. 0 for other flags. A snapshot.",
        returns: "__u64",
        example: "__u64 waiting = bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA);",
        ..PLAIN
    },
    HelperSpec {
        id: 164,
        name: "for_each_map_elem",
        args: [Map, Callback(CallbackKind::MapElement), CallbackContext, Zero, NoArg],
        ret: RetKind::CountOrError,
        maps: WALKED,
        cost: Cost::fixed(40),
        function: callbacks::for_each_map_elem,
        returns: "long",
        parameters: &["void *map", "void *callback", "void *callback_ctx", "__u64 flags"],
        doc: "Calls long callback(map, key, value, callback_ctx) for each entry until it returns 1; of a per-CPU map, with the calling \
              thread's values. Entries that come or go meanwhile may or may not be seen. The number of calls. max_entries times the \
              callback's cost counts against the hook's ceiling.",
        example: "bpf_for_each_map_elem(&sizes, add_up, &sum, 0);",
        ..ON_MAP
    },
    HelperSpec {
        id: 181,
        name: "loop",
        args: [Scalar, Callback(CallbackKind::Loop), CallbackContext, Zero, NoArg],
        ret: RetKind::CountOrError,
        hooks: Hooks::ALL,
        pure: true,
        cost: Cost::fixed(20),
        function: callbacks::bpf_loop,
        returns: "long",
        parameters: &["__u32 rounds", "void *callback", "void *callback_ctx", "__u64 flags"],
        doc: "Calls long callback(__u64 index, void *callback_ctx) for 0, 1, 2... until it returns 1, at most 2^23 times. The number of \
              calls, or -E2BIG. The most rounds that are possible times the callback's cost counts against the hook's ceiling.",
        example: "bpf_loop(100, step, &state, 0);",
        ..PLAIN
    },
    HelperSpec {
        id: 182,
        name: "strncmp",
        args: [Memory { size: 1 }, Size, ConstString, NoArg, NoArg],
        cost: Cost::with(10, Bytes::Arg(1), 8),
        function: bytes::strncmp,
        returns: "long",
        parameters: &["const char *a", "__u32 a_size", "const char *b"],
        doc: "Compares a, which need not end in a zero byte, with the constant b: 0, or below or above 0.",
        example: "if (bpf_strncmp(name, sizeof(name), \"scan\") == 0) { }",
        ..PURE
    },
    HelperSpec {
        id: 195,
        name: "map_lookup_percpu_elem",
        args: [Map, Key, Scalar, NoArg, NoArg],
        ret: RetKind::ValueOrNull,
        maps: PERCPU,
        cost: Cost::with(30, Bytes::Key, 4),
        function: maps::lookup_percpu,
        returns: "void *",
        parameters: &["void *map", "const void *key", "__u32 cpu"],
        doc: "As bpf_map_lookup_elem, of another thread's shard.",
        example: "__u64 *other = bpf_map_lookup_percpu_elem(&counts, &key, shard);",
        ..ON_MAP
    },
    HelperSpec {
        id: 0x10001,
        name: "query_age_ns",
        cost: Cost::fixed(50),
        function: time::query_age_ns,
        doc: "Nanoseconds since the calling thread's query began; 0 when the thread works for none that is known.",
        example: "if (duckbpf_query_age_ns() > 1000000000) { }",
        ..PLAIN
    },
    HelperSpec {
        id: 0x10002,
        name: "query_id",
        function: time::query_id,
        doc: "The calling thread's query, as origin.query_id; 0 when unknown.",
        example: "__u64 query = duckbpf_query_id();",
        ..PLAIN
    },
    HelperSpec {
        id: 0x10003,
        name: "connection_id",
        function: time::connection_id,
        doc: "The calling thread's connection, as origin.connection_id; 0 when unknown.",
        example: "__u64 connection = duckbpf_connection_id();",
        ..PLAIN
    },
    HelperSpec {
        id: 0x10004,
        name: "database_id",
        function: time::database_id,
        doc: "The calling thread's database, as origin.database_id; 0 when unknown.",
        example: "__u64 database = duckbpf_database_id();",
        ..PLAIN
    },
    HelperSpec {
        id: 0x10005,
        name: "thread_index",
        ret: RetKind::Scalar32,
        function: time::get_smp_processor_id,
        returns: "__u32",
        doc: "The calling thread's small number, as origin.thread_index.",
        example: "__u32 thread = duckbpf_thread_index();",
        ..PLAIN
    },
    HelperSpec {
        id: 0x10006,
        name: "query_tag",
        ret: RetKind::Scalar32,
        function: time::query_tag,
        returns: "__u32",
        doc: "The number of the tag of the calling thread's query, as origin.tag: what SET hook_tag says, or a comment \
              of the statement; 0 when it has none.",
        example: "__u32 tag = duckbpf_query_tag();",
        ..PLAIN
    },
    HelperSpec {
        id: 0x10007,
        name: "tag_text",
        args: [Scalar, MemoryOut { size: 2 }, Size, NoArg, NoArg],
        cost: Cost::with(40, Bytes::Arg(2), 2),
        function: time::tag_text,
        returns: "long",
        parameters: &["__u32 tag", "char *to", "__u32 size"],
        doc: "Copies the text of a tag, without a zero byte at its end, and fills what is left with zeros. The number of bytes; 0 for \
              other numbers. Tags have at most 63 bytes.",
        example: "duckbpf_tag_text(ctx->origin.tag, event->tag, sizeof(event->tag));",
        ..PLAIN
    },
    HelperSpec {
        id: 0x10010,
        name: "used_memory",
        cost: Cost::fixed(20),
        function: engine::used_memory,
        doc: "Bytes that the calling thread's database uses of its buffer pool, some MiB off; 0 when the database is unknown.",
        example: "__u64 used = duckbpf_used_memory();",
        ..PLAIN
    },
    HelperSpec {
        id: 0x10011,
        name: "max_memory",
        cost: Cost::fixed(20),
        function: engine::max_memory,
        doc: "Bytes that the calling thread's database may use (memory_limit); 0 when the database is unknown.",
        example: "__u64 limit = duckbpf_max_memory();",
        ..PLAIN
    },
    HelperSpec {
        id: 0x10012,
        name: "used_memory_by_tag",
        args: [Scalar, NoArg, NoArg, NoArg, NoArg],
        cost: Cost::fixed(60),
        function: engine::used_memory_by_tag,
        parameters: &["__u32 tag"],
        doc: "Of those, the bytes of one memory tag (DuckDB's MemoryTag, common/enums/memory_tag.hpp), as duckdb_memory() shows them; 0 \
              for other numbers.",
        example: "__u64 hash_tables = duckbpf_used_memory_by_tag(2);",
        ..PLAIN
    },
    HelperSpec {
        id: 0x10013,
        name: "queue_length",
        args: [Scalar, NoArg, NoArg, NoArg, NoArg],
        cost: Cost::fixed(60),
        function: engine::queue_length,
        parameters: &["__u32 pool"],
        doc: "Tasks that wait in a pool (enum duckbpf_pool) of the calling thread's database, an estimate; 0 when unknown.",
        example: "__u64 waiting = duckbpf_queue_length(DUCKBPF_POOL_REGULAR);",
        ..PLAIN
    },
    HelperSpec {
        id: 0x10014,
        name: "active_queries",
        function: engine::active_queries,
        doc: "Queries that run in the process.",
        example: "__u64 queries = duckbpf_active_queries();",
        ..PLAIN
    },
    HelperSpec {
        id: 0x10015,
        name: "threads",
        cost: Cost::fixed(20),
        function: engine::threads,
        doc: "Threads of the calling thread's database (the setting threads); 0 when unknown.",
        example: "__u64 threads = duckbpf_threads();",
        ..PLAIN
    },
    HelperSpec {
        id: 0x10016,
        name: "eviction_queue_length",
        args: [Scalar, NoArg, NoArg, NoArg, NoArg],
        cost: Cost::fixed(60),
        function: engine::eviction_queue_length,
        parameters: &["__u32 queue"],
        doc: "Entries of one of the eviction queues of the calling thread's database, in the order in which they are searched for a victim \
              (storage/buffer/buffer_pool.cpp), an estimate; dead entries, of blocks in use again, count too. 0 for other numbers.",
        example: "__u64 candidates = duckbpf_eviction_queue_length(0);",
        ..PLAIN
    },
    HelperSpec {
        id: 0x10017,
        name: "buffer_hits",
        cost: Cost::fixed(20),
        function: engine::buffer_hits,
        doc: "Blocks that the calling thread found in memory, since it began, while a load program was attached.",
        example: "__u64 hits = duckbpf_buffer_hits();",
        ..PLAIN
    },
    HelperSpec {
        id: 0x10018,
        name: "buffer_misses",
        cost: Cost::fixed(20),
        function: engine::buffer_misses,
        doc: "Blocks that the calling thread had to read, since it began, while a load program was attached.",
        example: "__u64 misses = duckbpf_buffer_misses();",
        ..PLAIN
    },
    HelperSpec {
        id: 0x10019,
        name: "spill_bytes",
        cost: Cost::fixed(20),
        function: engine::spill_bytes,
        doc: "Bytes of temporary files that the calling thread's database has on disk; 0 when unknown.",
        example: "if (duckbpf_spill_bytes() > (1ULL << 30)) { }",
        ..PLAIN
    },
    HelperSpec {
        id: 0x1001a,
        name: "message",
        args: [ConstString, Size, NoArg, NoArg, NoArg],
        ret: RetKind::Scalar,
        hooks: Hooks::REJECTS,
        cost: Cost::with(20, Bytes::Arg(1), 4),
        function: engine::message,
        returns: "__u64",
        parameters: &["const char *text", "__u32 text_size"],
        doc: "What the client of a query is told when the program answers DUCKBPF_REJECT: a constant, of which 200 bytes at most are used. 0.",
        example: "static const char busy[] = \"too many queries\";\nduckbpf_message(busy, sizeof(busy));\nreturn DUCKBPF_REJECT;",
        ..PLAIN
    },
    HelperSpec {
        id: 0x10020,
        name: "murmur64",
        args: [Scalar, NoArg, NoArg, NoArg, NoArg],
        function: digest::murmur64,
        parameters: &["__u64 value"],
        doc: "MurmurHash3's finaliser, with DuckDB's constants: how stock hashes integers (common/types/hash.hpp).",
        example: "return duckbpf_murmur64(ctx->lo);",
        ..PURE
    },
    HelperSpec {
        id: 0x10021,
        name: "mul128_fold",
        args: [Scalar, Scalar, NoArg, NoArg, NoArg],
        function: digest::mul128_fold,
        parameters: &["__u64 a", "__u64 b"],
        doc: "The 128-bit product of a and b, its halves combined by xor.",
        example: "return duckbpf_mul128_fold(ctx->lo ^ K0, ctx->hi ^ K1);",
        ..PURE
    },
    HelperSpec {
        id: 0x10022,
        name: "crc32c",
        args: [Memory { size: 1 }, Size, Scalar, NoArg, NoArg],
        ret: RetKind::Scalar32,
        cost: Cost::with(20, Bytes::Arg(1), 2),
        function: digest::crc32c,
        returns: "__u32",
        parameters: &["const void *data", "__u64 size", "__u32 crc"],
        doc: "The CRC-32C (Castagnoli, RFC 3720) of data, continuing from crc; begin with 0.",
        example: "__u32 crc = duckbpf_crc32c(&key, sizeof(key), 0);",
        ..PURE
    },
    HelperSpec {
        id: 0x10023,
        name: "wyhash",
        args: [Memory { size: 1 }, Size, Scalar, NoArg, NoArg],
        cost: Cost::with(20, Bytes::Arg(1), 2),
        function: digest::wyhash,
        parameters: &["const void *data", "__u64 size", "__u64 seed"],
        doc: "wyhash, final version 4.2, of data.",
        example: "__u64 hash = duckbpf_wyhash(&key, sizeof(key), 0);",
        ..PURE
    },
    HelperSpec {
        id: 0x10024,
        name: "xxh3",
        args: [Memory { size: 1 }, Size, Scalar, NoArg, NoArg],
        cost: Cost::with(30, Bytes::Arg(1), 2),
        function: digest::xxh3,
        parameters: &["const void *data", "__u64 size", "__u64 seed"],
        doc: "XXH3, 64 bits, of data.",
        example: "__u64 hash = duckbpf_xxh3(&key, sizeof(key), 0);",
        ..PURE
    },
    HelperSpec {
        id: 0x10030,
        name: "memcpy",
        args: [MemoryOut { size: 2 }, Memory { size: 2 }, Size, NoArg, NoArg],
        ret: RetKind::Status,
        cost: Cost::with(10, Bytes::Arg(2), 1),
        function: bytes::memcpy,
        returns: "long",
        parameters: &["void *to", "const void *from", "__u64 size"],
        doc: "Copies bytes; the places may overlap. 0.",
        example: "duckbpf_memcpy(event->key, key, sizeof(event->key));",
        ..PURE
    },
    HelperSpec {
        id: 0x10031,
        name: "memset",
        args: [MemoryOut { size: 2 }, Scalar, Size, NoArg, NoArg],
        ret: RetKind::Status,
        cost: Cost::with(10, Bytes::Arg(2), 1),
        function: bytes::memset,
        returns: "long",
        parameters: &["void *to", "__u32 byte", "__u64 size"],
        doc: "Sets bytes to the lower eight bits of byte. 0.",
        example: "duckbpf_memset(event, 0, sizeof(*event));",
        ..PURE
    },
    HelperSpec {
        id: 0x10032,
        name: "memcmp",
        args: [Memory { size: 2 }, Memory { size: 2 }, Size, NoArg, NoArg],
        cost: Cost::with(10, Bytes::Arg(2), 2),
        function: bytes::memcmp,
        returns: "long",
        parameters: &["const void *a", "const void *b", "__u64 size"],
        doc: "Compares bytes: 0, or below or above 0.",
        example: "if (duckbpf_memcmp(a, b, 16) == 0) { }",
        ..PURE
    },
    HelperSpec {
        id: 0x10040,
        name: "block_storage_get",
        args: [Map, Context, ValueOrNull, Scalar, NoArg],
        ret: RetKind::ValueOrNull,
        maps: BLOCKS,
        hooks: Hooks::BLOCKS,
        cost: Cost::with(60, Bytes::Value, 4),
        function: maps::block_storage_get,
        returns: "void *",
        parameters: &["void *map", "void *ctx", "const void *value", "__u64 flags"],
        doc: "The value that belongs to the context's block (its file and number), or NULL. flags: BPF_LOCAL_STORAGE_GET_F_CREATE (1) makes \
              one where there is none, a copy of value or zeros. It goes with DuckDB's handle of the block: when \
              the block is dropped, or its database closed. When the map is full, blocks that were not looked at lately lose theirs.",
        example: "struct seen *seen = duckbpf_block_storage_get(&blocks, ctx, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);",
        ..PLAIN
    },
    HelperSpec {
        id: 0x10041,
        name: "block_storage_delete",
        args: [Map, Context, NoArg, NoArg, NoArg],
        ret: RetKind::Status,
        maps: BLOCKS,
        hooks: Hooks::BLOCKS,
        cost: Cost::fixed(80),
        function: maps::block_storage_delete,
        returns: "long",
        parameters: &["void *map", "void *ctx"],
        doc: "Frees the value that belongs to the context's block. 0, -ENOENT, -EBUSY.",
        example: "duckbpf_block_storage_delete(&blocks, ctx);",
        ..PLAIN
    },
    #[cfg(test)]
    HelperSpec { id: super::PANICS, name: "panics", cost: Cost::fixed(1), function: super::panics, ..PLAIN },
];

/// Not in the table: no program of a user calls it.
#[cfg(any(test, feature = "testing"))]
pub static FOR_BENCHES: HelperSpec = HelperSpec {
    id: super::SUM,
    name: "sum",
    args: [Scalar, Scalar, Scalar, Scalar, Scalar],
    cost: Cost::fixed(1),
    function: super::sum,
    ..PLAIN
};
