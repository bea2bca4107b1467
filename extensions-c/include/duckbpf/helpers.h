/* Helpers that programs may call. Written from rust-runtime/src/helpers/table.rs: change them there.
 *
 * Numbers are Linux' where the meaning is the same. Costs count against the hook's ceiling on one call. */
#ifndef DUCKBPF_HELPERS_H
#define DUCKBPF_HELPERS_H

#include "duckbpf/hooks.h"

#define DUCKBPF_HELPER static __attribute__((unused))

#define BPF_MAP_TYPE_HASH 1
#define BPF_MAP_TYPE_ARRAY 2
#define BPF_MAP_TYPE_PROG_ARRAY 3
#define BPF_MAP_TYPE_PERCPU_HASH 5
#define BPF_MAP_TYPE_PERCPU_ARRAY 6
#define BPF_MAP_TYPE_LRU_HASH 9
#define BPF_MAP_TYPE_ARRAY_OF_MAPS 12
#define BPF_MAP_TYPE_HASH_OF_MAPS 13
#define BPF_MAP_TYPE_QUEUE 22
#define BPF_MAP_TYPE_STACK 23
#define BPF_MAP_TYPE_RINGBUF 27
#define BPF_MAP_TYPE_BLOOM_FILTER 30
#define DUCKBPF_MAP_TYPE_BLOCK_STORAGE 0x10000

/* The value of a key, to be read and written in place until the program ends, or NULL. Of a per-CPU map: the
 * calling thread's. Of a map of maps: the inner map. Takes no lock. Hooks: all but hash. Cost: 30 + 4 per
 * begun 8 bytes of the key. */
DUCKBPF_HELPER void *(*const bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;

/* Sets the value of a key, eight bytes at a time: others may see it half-way. flags: BPF_ANY (0) either way,
 * BPF_NOEXIST only a new key, BPF_EXIST only a present one. 0, -EINVAL (flags), -EEXIST, -ENOENT, -E2BIG (the
 * map is full, or there is no such index), -ENOMEM (entries that were freed are not free to be used yet),
 * -EBUSY (another thread changes the same bucket), -ENOSPC (no shard is left for this thread). Hooks: all but
 * hash. Cost: 80 + 4 per begun 8 bytes of key and value. */
DUCKBPF_HELPER long (*const bpf_map_update_elem)(void *map, const void *key, const void *value, __u64 flags) = (void *)2;

/* Takes a key out. Its value stays readable to programs that hold it. 0, -ENOENT, -EBUSY. Hooks: all but
 * hash. Cost: 80 + 4 per begun 8 bytes of the key. */
DUCKBPF_HELPER long (*const bpf_map_delete_elem)(void *map, const void *key) = (void *)3;

/* Nanoseconds of CLOCK_MONOTONIC. Some 20 ns a call. Hooks: all but hash. Cost: 40. */
DUCKBPF_HELPER __u64 (*const bpf_ktime_get_ns)(void) = (void *)5;

/* Writes a line; use the macro bpf_printk. When a query ends whose log takes it (CALL enable_logging(level :=
 * 'info')), the lines go to DuckDB's log. Formats: %d %i %u %x %c, with l or ll before the letter, and %%. At
 * most 1,000 lines a second and 200 bytes a line. The bytes written, -EINVAL (format), -EAGAIN (lost: too
 * many, or nobody reads them). Hooks: all but hash. Cost: 200 + 8 per begun 8 bytes of format_size. */
DUCKBPF_HELPER long (*const bpf_trace_printk)(const char *format, __u32 format_size, __u64 a, __u64 b, __u64 c) = (void *)6;

/* A pseudo-random number of 32 bits; not for secrets. Hooks: all but hash. Cost: 20. */
DUCKBPF_HELPER __u32 (*const bpf_get_prandom_u32)(void) = (void *)7;

/* The number of the calling thread's shard of per-CPU maps: origin.thread_index. Hooks: all but hash. Cost:
 * 10. */
DUCKBPF_HELPER __u32 (*const bpf_get_smp_processor_id)(void) = (void *)8;

/* Goes on in another program of the same hook, with the same context, and does not come back; at most 33
 * times in one call. Where there is no such program, it returns and the caller goes on: -ENOENT. Hooks: all
 * but hash. Cost: 20. */
DUCKBPF_HELPER long (*const bpf_tail_call)(void *ctx, void *prog_array, __u32 index) = (void *)12;

/* Adds a value to a queue, a stack or a bloom filter. flags: BPF_ANY; queue and stack: BPF_EXIST makes room
 * by dropping the oldest. 0, -EINVAL (flags), -E2BIG (full), -EBUSY. Hooks: all but hash. Cost: 80 + 4 per
 * begun 8 bytes of the value. */
DUCKBPF_HELPER long (*const bpf_map_push_elem)(void *map, const void *value, __u64 flags) = (void *)87;

/* Takes out a queue's oldest or a stack's newest value. 0, -ENOENT (empty), -EBUSY; on an error the value is
 * zeroed. Hooks: all but hash. Cost: 80 + 4 per begun 8 bytes of the value. */
DUCKBPF_HELPER long (*const bpf_map_pop_elem)(void *map, void *value) = (void *)88;

/* Copies a queue's oldest or a stack's newest value; of a bloom filter: whether the value may have been
 * added. 0, -ENOENT, -EBUSY; on an error a queue's or stack's value is zeroed. Hooks: all but hash. Cost: 60
 * + 4 per begun 8 bytes of the value. */
DUCKBPF_HELPER long (*const bpf_map_peek_elem)(void *map, void *value) = (void *)89;

/* Appends a record. flags must be 0. 0, -EAGAIN (full: the record is lost and counted), -EBUSY, -E2BIG
 * (larger than the ring). Hooks: all but hash. Cost: 80 + 2 per begun 8 bytes of size. */
DUCKBPF_HELPER long (*const bpf_ringbuf_output)(void *ringbuf, const void *data, __u64 size, __u64 flags) = (void *)130;

/* Room for a record of a constant size, zeroed, to be filled and then submitted or discarded on every way;
 * NULL when the ring is full, which counts the record as lost. flags must be 0. Hooks: all but hash. Cost:
 * 60. */
DUCKBPF_HELPER void *(*const bpf_ringbuf_reserve)(void *ringbuf, __u64 size, __u64 flags) = (void *)131;

/* Shows a reserved record to readers. flags must be 0. Hooks: all but hash. Cost: 20. */
DUCKBPF_HELPER void (*const bpf_ringbuf_submit)(void *data, __u64 flags) = (void *)132;

/* Gives a reserved record up: readers skip it. flags must be 0. Hooks: all but hash. Cost: 20. */
DUCKBPF_HELPER void (*const bpf_ringbuf_discard)(void *data, __u64 flags) = (void *)133;

/* BPF_RB_AVAIL_DATA: bytes that wait for a reader; BPF_RB_RING_SIZE: the ring's bytes; BPF_RB_CONS_POS,
 * BPF_RB_PROD_POS: how far reading and writing have come. 0 for other flags. A snapshot. Hooks: all but hash.
 * Cost: 10. */
DUCKBPF_HELPER __u64 (*const bpf_ringbuf_query)(void *ringbuf, __u64 flags) = (void *)134;

/* Calls long callback(map, key, value, callback_ctx) for each entry until it returns 1; of a per-CPU map,
 * with the calling thread's values. Entries that come or go meanwhile may or may not be seen. The number of
 * calls. max_entries times the callback's cost counts against the hook's ceiling. Hooks: all but hash. Cost:
 * 40. */
DUCKBPF_HELPER long (*const bpf_for_each_map_elem)(void *map, void *callback, void *callback_ctx, __u64 flags) = (void *)164;

/* Calls long callback(__u64 index, void *callback_ctx) for 0, 1, 2... until it returns 1, at most 2^23 times.
 * The number of calls, or -E2BIG. The most rounds that are possible times the callback's cost counts against
 * the hook's ceiling. Hooks: all. Cost: 20. */
DUCKBPF_HELPER long (*const bpf_loop)(__u32 rounds, void *callback, void *callback_ctx, __u64 flags) = (void *)181;

/* Compares a, which need not end in a zero byte, with the constant b: 0, or below or above 0. Hooks: all.
 * Cost: 10 + 8 per begun 8 bytes of a_size. */
DUCKBPF_HELPER long (*const bpf_strncmp)(const char *a, __u32 a_size, const char *b) = (void *)182;

/* As bpf_map_lookup_elem, of another thread's shard. Hooks: all but hash. Cost: 30 + 4 per begun 8 bytes of
 * the key. */
DUCKBPF_HELPER void *(*const bpf_map_lookup_percpu_elem)(void *map, const void *key, __u32 cpu) = (void *)195;

/* Nanoseconds since the calling thread's query began; 0 when the thread works for none that is known. Hooks:
 * all but hash. Cost: 50. */
DUCKBPF_HELPER __u64 (*const duckbpf_query_age_ns)(void) = (void *)0x10001;

/* The calling thread's query, as origin.query_id; 0 when unknown. Hooks: all but hash. Cost: 10. */
DUCKBPF_HELPER __u64 (*const duckbpf_query_id)(void) = (void *)0x10002;

/* The calling thread's connection, as origin.connection_id; 0 when unknown. Hooks: all but hash. Cost: 10. */
DUCKBPF_HELPER __u64 (*const duckbpf_connection_id)(void) = (void *)0x10003;

/* The calling thread's database, as origin.database_id; 0 when unknown. Hooks: all but hash. Cost: 10. */
DUCKBPF_HELPER __u64 (*const duckbpf_database_id)(void) = (void *)0x10004;

/* The calling thread's small number, as origin.thread_index. Hooks: all but hash. Cost: 10. */
DUCKBPF_HELPER __u32 (*const duckbpf_thread_index)(void) = (void *)0x10005;

/* The number of the tag of the calling thread's query, as origin.tag: what SET hook_tag says, or a comment of
 * the statement; 0 when it has none. Hooks: all but hash. Cost: 10. */
DUCKBPF_HELPER __u32 (*const duckbpf_query_tag)(void) = (void *)0x10006;

/* Copies the text of a tag, without a zero byte at its end, and fills what is left with zeros. The number of
 * bytes; 0 for other numbers. Tags have at most 63 bytes. Hooks: all but hash. Cost: 40 + 2 per begun 8 bytes
 * of size. */
DUCKBPF_HELPER long (*const duckbpf_tag_text)(__u32 tag, char *to, __u32 size) = (void *)0x10007;

/* Bytes that the calling thread's database uses of its buffer pool, some MiB off; 0 when the database is
 * unknown. Hooks: all but hash. Cost: 20. */
DUCKBPF_HELPER __u64 (*const duckbpf_used_memory)(void) = (void *)0x10010;

/* Bytes that the calling thread's database may use (memory_limit); 0 when the database is unknown. Hooks: all
 * but hash. Cost: 20. */
DUCKBPF_HELPER __u64 (*const duckbpf_max_memory)(void) = (void *)0x10011;

/* Of those, the bytes of one memory tag (DuckDB's MemoryTag, common/enums/memory_tag.hpp), as duckdb_memory()
 * shows them; 0 for other numbers. Hooks: all but hash. Cost: 60. */
DUCKBPF_HELPER __u64 (*const duckbpf_used_memory_by_tag)(__u32 tag) = (void *)0x10012;

/* Tasks that wait in a pool (enum duckbpf_pool) of the calling thread's database, an estimate; 0 when
 * unknown. Hooks: all but hash. Cost: 60. */
DUCKBPF_HELPER __u64 (*const duckbpf_queue_length)(__u32 pool) = (void *)0x10013;

/* Queries that run in the process. Hooks: all but hash. Cost: 10. */
DUCKBPF_HELPER __u64 (*const duckbpf_active_queries)(void) = (void *)0x10014;

/* Threads of the calling thread's database (the setting threads); 0 when unknown. Hooks: all but hash. Cost:
 * 20. */
DUCKBPF_HELPER __u64 (*const duckbpf_threads)(void) = (void *)0x10015;

/* Entries of one of the eviction queues of the calling thread's database, in the order in which they are
 * searched for a victim (storage/buffer/buffer_pool.cpp), an estimate; dead entries, of blocks in use again,
 * count too. 0 for other numbers. Hooks: all but hash. Cost: 60. */
DUCKBPF_HELPER __u64 (*const duckbpf_eviction_queue_length)(__u32 queue) = (void *)0x10016;

/* Blocks that the calling thread found in memory, since it began, while a load program was attached. Hooks:
 * all but hash. Cost: 20. */
DUCKBPF_HELPER __u64 (*const duckbpf_buffer_hits)(void) = (void *)0x10017;

/* Blocks that the calling thread had to read, since it began, while a load program was attached. Hooks: all
 * but hash. Cost: 20. */
DUCKBPF_HELPER __u64 (*const duckbpf_buffer_misses)(void) = (void *)0x10018;

/* Bytes of temporary files that the calling thread's database has on disk; 0 when unknown. Hooks: all but
 * hash. Cost: 20. */
DUCKBPF_HELPER __u64 (*const duckbpf_spill_bytes)(void) = (void *)0x10019;

/* What the client of a query is told when the program answers DUCKBPF_REJECT: a constant, of which 200 bytes
 * at most are used. 0. Hooks: query_begin. Cost: 20 + 4 per begun 8 bytes of text_size. */
DUCKBPF_HELPER __u64 (*const duckbpf_message)(const char *text, __u32 text_size) = (void *)0x1001a;

/* MurmurHash3's finaliser, with DuckDB's constants: how stock hashes integers (common/types/hash.hpp). Hooks:
 * all. Cost: 10. */
DUCKBPF_HELPER __u64 (*const duckbpf_murmur64)(__u64 value) = (void *)0x10020;

/* The 128-bit product of a and b, its halves combined by xor. Hooks: all. Cost: 10. */
DUCKBPF_HELPER __u64 (*const duckbpf_mul128_fold)(__u64 a, __u64 b) = (void *)0x10021;

/* The CRC-32C (Castagnoli, RFC 3720) of data, continuing from crc; begin with 0. Hooks: all. Cost: 20 + 2 per
 * begun 8 bytes of size. */
DUCKBPF_HELPER __u32 (*const duckbpf_crc32c)(const void *data, __u64 size, __u32 crc) = (void *)0x10022;

/* wyhash, final version 4.2, of data. Hooks: all. Cost: 20 + 2 per begun 8 bytes of size. */
DUCKBPF_HELPER __u64 (*const duckbpf_wyhash)(const void *data, __u64 size, __u64 seed) = (void *)0x10023;

/* XXH3, 64 bits, of data. Hooks: all. Cost: 30 + 2 per begun 8 bytes of size. */
DUCKBPF_HELPER __u64 (*const duckbpf_xxh3)(const void *data, __u64 size, __u64 seed) = (void *)0x10024;

/* Copies bytes; the places may overlap. 0. Hooks: all. Cost: 10 + 1 per begun 8 bytes of size. */
DUCKBPF_HELPER long (*const duckbpf_memcpy)(void *to, const void *from, __u64 size) = (void *)0x10030;

/* Sets bytes to the lower eight bits of byte. 0. Hooks: all. Cost: 10 + 1 per begun 8 bytes of size. */
DUCKBPF_HELPER long (*const duckbpf_memset)(void *to, __u32 byte, __u64 size) = (void *)0x10031;

/* Compares bytes: 0, or below or above 0. Hooks: all. Cost: 10 + 2 per begun 8 bytes of size. */
DUCKBPF_HELPER long (*const duckbpf_memcmp)(const void *a, const void *b, __u64 size) = (void *)0x10032;

/* The value that belongs to the context's block (its file and number), or NULL. flags:
 * BPF_LOCAL_STORAGE_GET_F_CREATE (1) makes one where there is none, a copy of value or zeros. It goes with
 * DuckDB's handle of the block: when the block is dropped, or its database closed. When the map is full,
 * blocks that were not looked at lately lose theirs. Hooks: load, unpin, evict, queue_insert. Cost: 60 + 4
 * per begun 8 bytes of the value. */
DUCKBPF_HELPER void *(*const duckbpf_block_storage_get)(void *map, void *ctx, const void *value, __u64 flags) = (void *)0x10040;

/* Frees the value that belongs to the context's block. 0, -ENOENT, -EBUSY. Hooks: load, unpin, evict,
 * queue_insert. Cost: 80. */
DUCKBPF_HELPER long (*const duckbpf_block_storage_delete)(void *map, void *ctx) = (void *)0x10041;

#endif
