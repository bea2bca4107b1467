/* duckbpf: the hookpoints, as programs and the engine both see them.
 *
 * One source of truth for hook numbers, contexts and decisions. It compiles as C for the BPF target (extensions-c), as C
 * and C++ for the host (shim.cpp, the patched DuckDB units) and is read by bindgen for Rust.
 *
 * Rules
 *   - A context only grows at its end, so that objects built against an older header keep loading.
 *   - A program returns a u64. 0 always means "do what stock DuckDB does" (hash apart: there every u64 is a hash).
 *   - Every other decision carries DUCKBPF_DECIDED. The host checks it against what is valid at that moment; what is not
 *     valid gets the stock behaviour and is counted under a duckbpf_refusal.
 *   - Sizes are bytes, ids are 0 when unknown and never stale.
 */
#ifndef DUCKBPF_HOOKS_H
#define DUCKBPF_HOOKS_H

#if defined(__bpf__)
typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;
typedef signed char __s8;
typedef short __s16;
typedef int __s32;
typedef long long __s64;
#else
#include <linux/types.h>
#endif

#ifdef __cplusplus
#define DUCKBPF_ASSERT(condition, message) static_assert(condition, message)
#else
#define DUCKBPF_ASSERT(condition, message) _Static_assert(condition, message)
#endif
#define DUCKBPF_ASSERT_SIZE(type, bytes) DUCKBPF_ASSERT(sizeof(struct type) == (bytes), #type " must have " #bytes " bytes")

/* Version of the contexts and decisions below; recorded in every object (section .duckbpf.abi) and checked at load. */
#define DUCKBPF_ABI_VERSION 1

enum duckbpf_hook {
	DUCKBPF_HOOK_HASH = 0,
	DUCKBPF_HOOK_SCHEDULE_TASK = 1,
	DUCKBPF_HOOK_EXECUTE_FOREVER = 2,
	DUCKBPF_HOOK_LOAD = 3,
	DUCKBPF_HOOK_UPDATE_USED_MEMORY = 4,
	DUCKBPF_HOOK_ALLOCATE_NEW_BLOCK = 5,
	DUCKBPF_HOOK_UNPIN = 6,
	DUCKBPF_HOOK_EVICT = 7,
	DUCKBPF_HOOK_QUEUE_INSERT = 8,
	DUCKBPF_HOOK_CHECKPOINT = 9,
	DUCKBPF_HOOK_PREFETCH = 10,
	DUCKBPF_HOOK_FILE_READ = 11,
	DUCKBPF_HOOK_LOG = 12,
	DUCKBPF_HOOK_COMPRESSION = 13,
	DUCKBPF_HOOK_SCAN_BEGIN = 14,
	DUCKBPF_HOOK_RUN_TASK = 15,
	DUCKBPF_HOOK_QUERY_BEGIN = 16,
	DUCKBPF_HOOK_QUERY_END = 17,
	DUCKBPF_HOOK_PIPELINE_THREADS = 18,
	DUCKBPF_HOOK_OPERATOR_MEMORY = 19,
	DUCKBPF_HOOK_COUNT = 20
};

/* Why the host did not follow a decision. Counted per hook. */
enum duckbpf_refusal {
	DUCKBPF_REFUSED_UNKNOWN_BITS = 0,   /* DUCKBPF_DECIDED is missing, or bits that mean nothing are set */
	DUCKBPF_REFUSED_OUT_OF_RANGE = 1,   /* a class, pool, hint, queue or wait that does not exist */
	DUCKBPF_REFUSED_CLAMPED = 2,        /* a size or a number outside its bounds: the nearest bound was used */
	DUCKBPF_REFUSED_WRONG_SITE = 3,     /* has no meaning at this site of the hook */
	DUCKBPF_REFUSED_PINNED = 4,         /* the block still has readers */
	DUCKBPF_REFUSED_NOT_RELOADABLE = 5, /* the block could not be read back, or must be dropped */
	DUCKBPF_REFUSED_POOL = 6,           /* the task may not leave its pool */
	DUCKBPF_REFUSED_HELPER_FAILED = 7,  /* a helper panicked; the decision was discarded */
	DUCKBPF_REFUSED_BOUND = 8,          /* nobody may be held up for longer */
	DUCKBPF_REFUSAL_COUNT = 9
};

#define DUCKBPF_DECIDED 1ULL

/* Where a context comes from: 32 bytes at the head of every context but hash's. Ids are per database (connection, query)
 * or per process (database, thread); block ids are per file. */
struct duckbpf_origin {
	__u64 database_id;
	__u64 connection_id;
	__u64 query_id;
	__u32 thread_index; /* small dense number of the calling thread; a dead thread's number is used again */
	__u32 tag;          /* of the query: a number for SET hook_tag's text, or a comment's; 0: it has none */
};
DUCKBPF_ASSERT_SIZE(duckbpf_origin, 32);

/* --- hash: a transformer. One key in, its hash out. -------------------------------------------------------------- */

/* Physical types of keys. Values are bit numbers in `hash_types`. Nested types are always stock. */
enum duckbpf_type {
	DUCKBPF_TYPE_INT8 = 0, /* BOOL too */
	DUCKBPF_TYPE_INT16 = 1,
	DUCKBPF_TYPE_INT32 = 2,
	DUCKBPF_TYPE_INT64 = 3,
	DUCKBPF_TYPE_UINT8 = 4,
	DUCKBPF_TYPE_UINT16 = 5,
	DUCKBPF_TYPE_UINT32 = 6,
	DUCKBPF_TYPE_UINT64 = 7,
	DUCKBPF_TYPE_INT128 = 8,
	DUCKBPF_TYPE_UINT128 = 9,
	DUCKBPF_TYPE_FLOAT = 10,
	DUCKBPF_TYPE_DOUBLE = 11,
	DUCKBPF_TYPE_INTERVAL = 12,
	DUCKBPF_TYPE_VARCHAR = 13,
	DUCKBPF_TYPE_COUNT = 14
};

/* One key. It is all that a hash program sees, so that every hash of a value agrees within a query.
 *   integers   lo = the value, sign- or zero-extended to 64 bits; 128 bits: lo, hi
 *   FLOAT      lo = the 32 bits, zero-extended; DOUBLE: the 64 bits; -0.0 is +0.0, every NaN is the quiet NaN
 *   INTERVAL   lo = microseconds, hi = months (upper 32 bits) and days (lower 32 bits), normalised as DuckDB compares
 *   VARCHAR    lo, hi = the first 16 bytes, little endian, zero-padded; len = its length
 * NULL never reaches a program: the host has a constant for it. The host combines the hashes of several columns and, unless
 * the program declares `hash_mixed`, passes the result through a mixer. */
struct duckbpf_hash_ctx {
	__u64 lo;
	__u64 hi;
	__u64 whole; /* VARCHAR: DuckDB's hash of the whole string (common/types/hash.cpp); else 0. Read only where needed. */
	__u32 len;   /* bytes */
	__u32 type;  /* enum duckbpf_type */
};
DUCKBPF_ASSERT_SIZE(duckbpf_hash_ctx, 32);

/* --- schedule_task: a decider. Tasks enter a queue, one or many at once. ------------------------------------------ */

enum duckbpf_pool { DUCKBPF_POOL_REGULAR = 0, DUCKBPF_POOL_ASYNC = 1, DUCKBPF_POOL_COUNT = 2 };
#define DUCKBPF_CLASS_COUNT 8

struct duckbpf_schedule_task_ctx {
	struct duckbpf_origin origin;
	__u64 n_tasks;        /* tasks that enter now */
	__u64 queue_length;   /* tasks of the same producer (query) that wait already */
	__u64 active_queries; /* queries that run in the process */
	__u32 pool;           /* enum duckbpf_pool that stock would use */
	__u32 reserved;
};
DUCKBPF_ASSERT_SIZE(duckbpf_schedule_task_ctx, 64);

/* Class 0 is stock's queue in stock's order. The lowest non-empty class runs first; every 16th pick takes the oldest task
 * of the classes above 0. A task for the async pool may not leave it (others wait for its I/O). */
#define DUCKBPF_SCHEDULE(pool, klass) (DUCKBPF_DECIDED | ((__u64)(klass) << 8) | ((__u64)(pool) << 16))
#define DUCKBPF_SCHEDULE_CLASS(decision) (((decision) >> 8) & 0xff)
#define DUCKBPF_SCHEDULE_POOL(decision) (((decision) >> 16) & 0xff)
#define DUCKBPF_SCHEDULE_BITS 0xffff01ULL

/* --- execute_forever: a decider. The loops that run tasks. ------------------------------------------------------- */

enum duckbpf_site {
	DUCKBPF_SITE_WORKER = 0,  /* a worker was woken and is about to take a task */
	DUCKBPF_SITE_IDLE = 1,    /* a worker had nothing to do for half a second; stock flushes its allocator */
	DUCKBPF_SITE_DECAYED = 2, /* ... and for the whole decay delay; stock marks it idle */
	DUCKBPF_SITE_CLIENT = 3,  /* a client's own thread is about to run the next slice of its query */
	DUCKBPF_SITE_COUNT = 4
};

struct duckbpf_execute_forever_ctx {
	struct duckbpf_origin origin;
	__u64 queue_length_regular; /* tasks that wait in the regular queue */
	__u64 queue_length_async;   /* and in the async one */
	__u64 active_queries;
	__u64 flush_threshold; /* bytes; what stock passes to the allocator's flush, 0 outside DUCKBPF_SITE_IDLE */
	__s64 decay_delay;     /* seconds; -1 when the allocator has none */
	__u32 pool;            /* enum duckbpf_pool of the worker; regular for a client */
	__u32 site;            /* enum duckbpf_site */
	__u32 flush_supported; /* 1 when the allocator can flush */
	__u32 partial;         /* 1 when stock would run part of a task and come back */
};
DUCKBPF_ASSERT_SIZE(duckbpf_execute_forever_ctx, 88);

#define DUCKBPF_EXECUTE_PARTIAL (1ULL << 1)     /* run part of the task, then put it back; else run it whole */
#define DUCKBPF_EXECUTE_ASYNC_FIRST (1ULL << 2) /* look into the async queue before the regular one; regular workers */
#define DUCKBPF_EXECUTE_FLUSH (1ULL << 3)       /* flush this thread's allocations; not for a client */
#define DUCKBPF_EXECUTE_MARK_IDLE (1ULL << 4)   /* tell the allocator that the thread is idle; IDLE and DECAYED */
#define DUCKBPF_EXECUTE_WAIT_US(us) ((__u64)(us) << 32) /* wait first, at most 10,000 us; WORKER and CLIENT */
#define DUCKBPF_EXECUTE_WAIT(decision) ((decision) >> 32)
#define DUCKBPF_EXECUTE_WAIT_MAX_US 10000ULL
#define DUCKBPF_EXECUTE_FLAGS 0x1fULL

/* --- load: a decider. A block is pinned: found in memory (hit) or read. Under the block's lock. -------------------- */

enum duckbpf_hint {
	DUCKBPF_HINT_NONE = 0,   /* no decision so far; as NORMAL */
	DUCKBPF_HINT_NORMAL = 1, /* stock */
	DUCKBPF_HINT_ONCE = 2,   /* dropped as soon as nobody reads it, where it can be read again */
	DUCKBPF_HINT_KEEP = 3,   /* evicted after the others of its queue */
	DUCKBPF_HINT_COUNT = 4
};

struct duckbpf_load_ctx {
	struct duckbpf_origin origin;
	__s64 block_id; /* from 2^62 up: a temporary block */
	__u64 file_id;  /* small number of the block's file (or of the temporary memory), unique in the process */
	__u64 size;
	__u64 used_memory;
	__u64 max_memory;
	__u32 tag;         /* DuckDB's MemoryTag (common/enums/memory_tag.hpp) */
	__u32 buffer_type; /* DuckDB's FileBufferType (common/file_buffer.hpp) */
	__u32 hit;         /* 1: in memory already */
	__u32 hint;        /* enum duckbpf_hint in force */
};
DUCKBPF_ASSERT_SIZE(duckbpf_load_ctx, 88);

#define DUCKBPF_LOAD(hint) (DUCKBPF_DECIDED | ((__u64)(hint) << 8))
#define DUCKBPF_LOAD_HINT(decision) (((decision) >> 8) & 0xff)
#define DUCKBPF_LOAD_BITS 0xff01ULL

/* --- update_used_memory: an observer. At times under a block's lock. ---------------------------------------------- */

struct duckbpf_update_used_memory_ctx {
	struct duckbpf_origin origin;
	__s64 delta;
	__u64 used_memory; /* before the update, up to 2 MiB off (storage/buffer/buffer_pool.hpp, MemoryUsage) */
	__u64 max_memory;
	__u32 tag;
	__u32 reserved;
};
DUCKBPF_ASSERT_SIZE(duckbpf_update_used_memory_ctx, 64);

/* --- allocate_new_block: a decider. An arena grows. ---------------------------------------------------------------- */

struct duckbpf_allocate_new_block_ctx {
	struct duckbpf_origin origin;
	__u64 min_size;          /* must fit */
	__u64 initial_capacity;  /* of the arena */
	__u64 previous_capacity; /* of its newest chunk, 0 when it has none */
	__u64 total_allocated;   /* by the arena so far */
	__u64 max_capacity;      /* 16 MiB: ARENA_ALLOCATOR_MAX_CAPACITY */
};
DUCKBPF_ASSERT_SIZE(duckbpf_allocate_new_block_ctx, 72);
/* The decision is the capacity itself, clamped to [min_size, max(stock's choice, min(4 x stock's choice, 16 MiB))]. */

/* --- unpin: a decider. A reader lets go of a block. Under the block's lock. ---------------------------------------- */

struct duckbpf_unpin_ctx {
	struct duckbpf_origin origin;
	__s64 block_id;
	__u64 file_id;
	__u64 size;
	__u64 used_memory;
	__u64 max_memory;
	__u32 tag;
	__u32 buffer_type;
	__s32 readers;      /* that remain */
	__u32 hint;         /* enum duckbpf_hint */
	__u32 destroy_upon; /* DuckDB's DestroyBufferUpon: 0 block, 1 eviction, 2 unpin */
	__u32 persistent;   /* 1: backed by a database file */
};
DUCKBPF_ASSERT_SIZE(duckbpf_unpin_ctx, 96);

/* DUCKBPF_UNPIN_QUEUE: what stock does: at zero readers into the eviction queue, else nothing.
 * DUCKBPF_UNPIN_UNLOAD: free the memory now; at zero readers, for blocks that can be read again from a database file, and
 * for those that stock destroys at this moment (destroy_upon 2).
 * DUCKBPF_UNPIN_PURGE: with either, sweep dead entries out of the block's eviction queue afterwards. */
#define DUCKBPF_UNPIN_QUEUE DUCKBPF_DECIDED
#define DUCKBPF_UNPIN_UNLOAD (DUCKBPF_DECIDED | (1ULL << 1))
#define DUCKBPF_UNPIN_PURGE (1ULL << 2)
#define DUCKBPF_UNPIN_BITS 0x7ULL

/* --- evict: a decider. A search for memory has found a block that it may evict. Under the block's lock. -------------- */

/* Candidates that a search passes over in a row; the next one is evicted whatever the program says. */
#define DUCKBPF_EVICT_MAX_SKIPS 64

struct duckbpf_evict_ctx {
	struct duckbpf_origin origin; /* of whoever needs the memory */
	__s64 block_id;
	__u64 file_id; /* 0 when the block joined its queue before evict had a program */
	__u64 size;
	__u64 used_memory;
	__u64 max_memory;
	__u32 tag;
	__u32 buffer_type;
	__u32 hint;  /* enum duckbpf_hint */
	__u32 skips; /* candidates that the search has passed over since it evicted one */
};
DUCKBPF_ASSERT_SIZE(duckbpf_evict_ctx, 88);

/* DUCKBPF_EVICT_NOW: what stock does. DUCKBPF_EVICT_SKIP: to the back of its queue; at most DUCKBPF_EVICT_MAX_SKIPS in a row. */
#define DUCKBPF_EVICT_NOW DUCKBPF_DECIDED
#define DUCKBPF_EVICT_SKIP (DUCKBPF_DECIDED | (1ULL << 1))
#define DUCKBPF_EVICT_BITS 0x3ULL

/* --- queue_insert: a decider. A block that nobody reads joins an eviction queue. Under the block's lock. ------------- */

struct duckbpf_queue_insert_ctx {
	struct duckbpf_origin origin;
	__s64 block_id;
	__u64 file_id;
	__u64 size;
	__u64 used_memory;
	__u64 max_memory;
	__u32 tag;
	__u32 buffer_type;
	__u32 hint;
	__u32 queue;  /* that stock chooses, from 0 */
	__u32 queues; /* for blocks of this type: 6 for temporary ones, 1 for those of files. Lower ones are searched first. */
	__u32 first;  /* 1: the block was in no queue yet, so that the program may choose */
};
DUCKBPF_ASSERT_SIZE(duckbpf_queue_insert_ctx, 96);

/* The queue stays the block's for good. */
#define DUCKBPF_QUEUE_INSERT(queue) (DUCKBPF_DECIDED | ((__u64)(queue) << 8))
#define DUCKBPF_QUEUE_INSERT_QUEUE(decision) (((decision) >> 8) & 0xff)
#define DUCKBPF_QUEUE_INSERT_BITS 0xff01ULL

/* --- checkpoint: a decider. The write-ahead log of a database file. Never for databases in memory. ------------------- */

enum duckbpf_checkpoint_site {
	DUCKBPF_CHECKPOINT_COMMIT = 0, /* a commit, at which stock would make a checkpoint; under the transaction manager's lock */
	DUCKBPF_CHECKPOINT_IDLE = 1,   /* every 10 ms while the log holds commits, on a thread of the hook's own */
	DUCKBPF_CHECKPOINT_DONE = 2,   /* a checkpoint has ended; nothing to decide */
	DUCKBPF_CHECKPOINT_SITES = 3
};

struct duckbpf_checkpoint_ctx {
	struct duckbpf_origin origin;
	__u64 file_id;
	__u64 wal_bytes;    /* in the log */
	__u64 commit_bytes; /* COMMIT: what the transaction adds, an estimate */
	__u64 threshold;    /* the setting checkpoint_threshold: above it stock makes a checkpoint */
	__u64 deferred_ns;  /* since the first deferral after the last checkpoint, 0 without one */
	__u64 idle_ns;      /* IDLE: since the last commit */
	__u64 duration_ns;  /* DONE: that the checkpoint took */
	__u32 site;         /* enum duckbpf_checkpoint_site */
	__u32 reserved;
};
DUCKBPF_ASSERT_SIZE(duckbpf_checkpoint_ctx, 96);

/* A checkpoint is put off no further than this. */
#define DUCKBPF_CHECKPOINT_MAX_THRESHOLDS 4ULL
#define DUCKBPF_CHECKPOINT_MAX_DEFERRED_NS 60000000000ULL

/* DUCKBPF_CHECKPOINT_DEFER: not at this commit. DUCKBPF_CHECKPOINT_FORCE: in this idle moment; an attempt, which fails when
 * somebody writes, at most ten a second. */
#define DUCKBPF_CHECKPOINT_DEFER (DUCKBPF_DECIDED | (1ULL << 1))
#define DUCKBPF_CHECKPOINT_FORCE (DUCKBPF_DECIDED | (1ULL << 2))

/* --- prefetch: a decider. Whether blocks of a database file are read ahead of a scan, how far, in how long reads. ---- */

enum duckbpf_prefetch_site {
	DUCKBPF_PREFETCH_FILE = 0, /* whether at all: when a scan begins, and for each of its reads ahead */
	DUCKBPF_PREFETCH_SCAN = 1, /* a scan that reads ahead begins: how many row groups ahead */
	DUCKBPF_PREFETCH_RUN = 2,  /* blocks that lie side by side are about to be read: how many bytes in one read */
	DUCKBPF_PREFETCH_SITES = 3
};

struct duckbpf_prefetch_ctx {
	struct duckbpf_origin origin;
	__u64 file_id;    /* 0 at SCAN */
	__u64 block_size; /* bytes; 0 at SCAN */
	__u64 blocks;     /* RUN: that are to be read */
	__s64 stock;      /* FILE: 1 for remote files, which stock reads ahead. SCAN: the setting read_ahead_depth. RUN: the longest read, bytes */
	__u64 used_memory;
	__u64 max_memory;
	__u32 site; /* enum duckbpf_prefetch_site */
	__u32 reserved;
};
DUCKBPF_ASSERT_SIZE(duckbpf_prefetch_ctx, 88);

/* One decision for all sites, each of which takes its part. on: 0 or 1. depth: row groups, up to 4,095, within the memory that
 * DuckDB grants; 0: stock's. run_kib: of one read, in KiB, up to 32 MiB; 0: stock's. */
#define DUCKBPF_PREFETCH_ON (1ULL << 1)
#define DUCKBPF_PREFETCH(on, depth, run_kib)                                                                                   \
	(DUCKBPF_DECIDED | ((on) ? DUCKBPF_PREFETCH_ON : 0ULL) | ((__u64)(depth) << 8) | ((__u64)(run_kib) << 20))
#define DUCKBPF_PREFETCH_DEPTH(decision) (((decision) >> 8) & 0xfff)
#define DUCKBPF_PREFETCH_RUN_KIB(decision) (((decision) >> 20) & 0xffffffULL)
#define DUCKBPF_PREFETCH_BITS 0xfffffffff03ULL

/* --- file_read: an observer. A local file was read, at times under a block's lock. ------------------------------------ */

struct duckbpf_file_read_ctx {
	struct duckbpf_origin origin;
	__u64 path_id; /* of the path as DuckDB opened it; in SQL: (md5_number(path) % 18446744073709551616)::UBIGINT */
	__u64 bytes;
	__u64 duration_ns;
};
DUCKBPF_ASSERT_SIZE(duckbpf_file_read_ctx, 56);

/* --- log: a decider. An entry is about to be written to DuckDB's log. ------------------------------------------------- */

struct duckbpf_log_ctx {
	struct duckbpf_origin origin;
	__u64 type_id; /* of the entry's type, numbered as file_read's paths are */
	__u64 message_bytes;
	__u32 level; /* 10 TRACE, 20 DEBUG, 30 INFO, 40 WARNING, 50 ERROR, 60 FATAL */
	__u32 reserved;
};
DUCKBPF_ASSERT_SIZE(duckbpf_log_ctx, 56);

/* DUCKBPF_LOG_KEEP: as it is. DUCKBPF_LOG_DROPPED: not written. DUCKBPF_LOG_RAISE(level): written with a higher level. */
#define DUCKBPF_LOG_DROP (1ULL << 1)
#define DUCKBPF_LOG_KEEP DUCKBPF_DECIDED
#define DUCKBPF_LOG_DROPPED (DUCKBPF_DECIDED | DUCKBPF_LOG_DROP)
#define DUCKBPF_LOG_RAISE(level) (DUCKBPF_DECIDED | ((__u64)(level) << 8))
#define DUCKBPF_LOG_LEVEL(decision) (((decision) >> 8) & 0xff)
#define DUCKBPF_LOG_BITS 0xff03ULL

/* --- compression: a decider. A checkpoint chooses how to write a column of a row group: once a method that fits it. --- */

struct duckbpf_compression_ctx {
	struct duckbpf_origin origin;
	__u64 table_id; /* of 'schema.table', lower case, numbered as file_read's paths are */
	__u64 score;    /* bytes that the method would take, an estimate; the lowest score wins */
	__u32 column;
	__u32 physical_type; /* DuckDB's PhysicalType (common/types.hpp); 206: validity */
	__u32 method;        /* DuckDB's CompressionType (common/enums/compression_type.hpp) */
	__u32 reserved;
};
DUCKBPF_ASSERT_SIZE(duckbpf_compression_ctx, 64);

/* The score counts weight / DUCKBPF_COMPRESSION_ONE times; from 1 up to 65,535. A forced method (force_compression) stays. */
#define DUCKBPF_COMPRESSION_ONE 256ULL
#define DUCKBPF_COMPRESSION(weight) (DUCKBPF_DECIDED | ((__u64)(weight) << 8))
#define DUCKBPF_COMPRESSION_WEIGHT_OF(decision) (((decision) >> 8) & 0xffff)
#define DUCKBPF_COMPRESSION_BITS 0xffff01ULL

/* --- scan_begin: a decider. A scan of a DuckDB table begins. ----------------------------------------------------------- */

struct duckbpf_scan_begin_ctx {
	struct duckbpf_origin origin;
	__u64 table_id; /* of 'schema.table', lower case, numbered as file_read's paths are */
	__u64 file_id;
	__u64 rows; /* of the table */
	__u64 used_memory;
	__u64 max_memory;
	__u32 columns;       /* that are read */
	__u32 table_columns; /* of the table */
	__u32 filters;       /* columns with filters that were pushed into the scan */
	__u32 reserved;
};
DUCKBPF_ASSERT_SIZE(duckbpf_scan_begin_ctx, 88);

/* A hint for the blocks that the scan reads, until another says otherwise. What load's program decides goes before it. */
#define DUCKBPF_SCAN_BEGIN(hint) (DUCKBPF_DECIDED | ((__u64)(hint) << 8))
#define DUCKBPF_SCAN_BEGIN_HINT(decision) (((decision) >> 8) & 0xff)
#define DUCKBPF_SCAN_BEGIN_BITS 0xff01ULL

/* --- run_task: a decider. A thread is about to run the next slice of a query's work. ------------------------------ */

enum duckbpf_run_site {
	DUCKBPF_RUN_CLIENT = 0, /* a client's own thread */
	DUCKBPF_RUN_WORKER = 1, /* a worker that took a task from the queue */
	DUCKBPF_RUN_SITE_COUNT = 2
};

struct duckbpf_run_task_ctx {
	struct duckbpf_origin origin;
	__u64 fingerprint;   /* of the query's text without its literals; 0 when it began before the hook had a program */
	__u64 age_ns;        /* since the query began */
	__u64 cpu_ns;        /* thread CPU of its tasks that ended or yielded so far */
	__u64 waited_ns;     /* since it was first held up after its last slice; 0: it was not */
	__u32 klass;         /* its class: of its last decision here, or query_begin's, or 0 */
	__u32 site;          /* enum duckbpf_run_site */
	__u32 threads;       /* that run slices of it now */
	__u32 kept;          /* slots that it kept from slices before */
	__u32 older_waiting; /* queries of its class that wait and began before it */
	__u32 reserved;
	__u32 tag_running; /* slots taken by queries of its tag, its own included */
	__u32 tag_waiting; /* queries of its tag that wait, itself not included */
	__u32 running[DUCKBPF_CLASS_COUNT]; /* slots taken, by class, its own included */
	__u32 waiting[DUCKBPF_CLASS_COUNT]; /* queries that wait, by class, itself not included */
};
DUCKBPF_ASSERT_SIZE(duckbpf_run_task_ctx, 160);

/* A thread has a slot of its query's class while it runs a slice. DUCKBPF_RUN(class, limit): run, if fewer than `limit` slots of
 * the class are taken (0: no limit); else wait. DUCKBPF_HOLD(class): wait. With either:
 *   DUCKBPF_RUN_CHUNKS(n)   the slice ends after n chunks (1 to 4,096); else as stock: 50 for a client, the whole task for a worker
 *   DUCKBPF_RUN_KEEP        the slot stays the query's after the slice, for its next one, until it has nothing to run, ends, is
 *                           told otherwise, or has not come back for 100 ms
 *   DUCKBPF_RUN_WAIT_US(n)  how long to wait at most, until somebody gives a slot back (1 to 20,000; 0: 5,000); then the program is
 *                           asked again
 * A query of which nothing has run for DUCKBPF_RUN_BOUND_MS, because it was held up, runs for DUCKBPF_RUN_FREE_MS whatever is
 * decided (REFUSED_BOUND).
 * Only tasks of queries are asked about, by threads that are inside no other task. */
#define DUCKBPF_RUN(klass, limit) (DUCKBPF_DECIDED | ((__u64)(klass) << 8) | ((__u64)(limit) << 16))
#define DUCKBPF_HOLD(klass) (DUCKBPF_DECIDED | (1ULL << 1) | ((__u64)(klass) << 8))
#define DUCKBPF_RUN_KEEP (1ULL << 2)
#define DUCKBPF_RUN_CHUNKS(n) ((__u64)(n) << 24)
#define DUCKBPF_RUN_WAIT_US(us) ((__u64)(us) << 40)
#define DUCKBPF_RUN_IS_HOLD(decision) (((decision) >> 1) & 1)
#define DUCKBPF_RUN_CLASS(decision) (((decision) >> 8) & 0xff)
#define DUCKBPF_RUN_LIMIT(decision) (((decision) >> 16) & 0xff)
#define DUCKBPF_RUN_CHUNKS_OF(decision) (((decision) >> 24) & 0xffff)
#define DUCKBPF_RUN_WAIT_OF(decision) (((decision) >> 40) & 0xffff)
#define DUCKBPF_RUN_BITS 0xffffffffffff07ULL
#define DUCKBPF_RUN_CHUNKS_MAX 4096ULL
#define DUCKBPF_RUN_WAIT_MAX_US 20000ULL
#define DUCKBPF_RUN_BOUND_MS 1000ULL
#define DUCKBPF_RUN_FREE_MS 50ULL

/* --- query_begin: a decider. A client submitted a query; nothing of it has begun, no transaction either. ----------- */

struct duckbpf_query_begin_ctx {
	struct duckbpf_origin origin; /* the query has no id yet: 0 */
	__u64 fingerprint;
	__u64 waited_ns; /* since it was submitted */
	__u64 used_memory;
	__u64 max_memory;
	__u64 spill_bytes;    /* of temporary files on disk */
	__u32 statement;      /* DuckDB's StatementType (common/enums/statement_type.hpp) */
	__u32 in_transaction; /* 1: inside a transaction that the client began */
	__u32 may_wait;       /* 0: it cannot wait, for somebody could be waiting for it */
	__u32 reserved;
	__u32 admitted[DUCKBPF_CLASS_COUNT]; /* queries that this hook let in and that have not ended, by class */
	__u32 waiting[DUCKBPF_CLASS_COUNT];  /* others that wait here, by class */
};
DUCKBPF_ASSERT_SIZE(duckbpf_query_begin_ctx, 152);

/* DUCKBPF_ADMIT(class, limit): let it begin, as one of the class, if fewer than `limit` queries of the class are in (0: no limit);
 * else it waits. DUCKBPF_DELAY(class): it waits. With either DUCKBPF_QUERY_WAIT_MS(n): until a query ends, but n milliseconds at most (1
 * to 1,000; 0: 100); then the program is asked again. DUCKBPF_REJECT: the query fails, with what duckbpf_message() said.
 * A query that may not wait, or has waited for DUCKBPF_QUERY_BOUND_MS, begins (REFUSED_WRONG_SITE, REFUSED_BOUND). */
#define DUCKBPF_ADMIT(klass, limit) (DUCKBPF_DECIDED | ((__u64)(klass) << 8) | ((__u64)(limit) << 16))
#define DUCKBPF_DELAY(klass) (DUCKBPF_DECIDED | DUCKBPF_QUERY_DELAYED | ((__u64)(klass) << 8))
#define DUCKBPF_REJECT (DUCKBPF_DECIDED | DUCKBPF_QUERY_REJECTED)
#define DUCKBPF_QUERY_WAIT_MS(ms) ((__u64)(ms) << 40)
#define DUCKBPF_QUERY_DELAYED (1ULL << 1)
#define DUCKBPF_QUERY_REJECTED (1ULL << 2)
#define DUCKBPF_QUERY_CLASS(decision) (((decision) >> 8) & 0xff)
#define DUCKBPF_QUERY_LIMIT(decision) (((decision) >> 16) & 0xff)
#define DUCKBPF_QUERY_WAIT_OF(decision) (((decision) >> 40) & 0xffff)
#define DUCKBPF_QUERY_BITS 0xffff0000ffff07ULL
#define DUCKBPF_QUERY_WAIT_MAX_MS 1000ULL
#define DUCKBPF_QUERY_BOUND_MS 20000ULL
#define DUCKBPF_MESSAGE_MAX 200

/* --- query_end: an observer. A query has ended, its transaction too if it was its own. ------------------------------ */

struct duckbpf_query_end_ctx {
	struct duckbpf_origin origin;
	__u64 fingerprint;
	__u64 duration_ns; /* from its begin, without what it waited for */
	__u64 waited_ns;   /* at query_begin */
	__u64 cpu_ns;      /* thread CPU of its tasks */
	__u64 rows;        /* of its result that were made */
	__u64 peak_memory; /* the most that its threads allocated above what they freed, without cached table data */
	__u64 spill_bytes; /* that its threads wrote to temporary files */
	__u32 klass;       /* that query_begin gave it */
	__u32 failed;      /* 1: with an error, or abandoned */
	__u32 error;       /* DuckDB's ExceptionType (common/exception.hpp); 0: none */
	__u32 reserved;
};
DUCKBPF_ASSERT_SIZE(duckbpf_query_end_ctx, 104);

/* --- pipeline_threads: a decider. A pipeline that can run on several threads is about to start. ---------------------- */

struct duckbpf_pipeline_threads_ctx {
	struct duckbpf_origin origin;
	__u64 fingerprint;
	__u64 max_threads;    /* tasks that stock makes: what its operators and the scheduler allow */
	__u64 threads;        /* of the scheduler */
	__u64 active_queries; /* of the process */
	__u64 cardinality;    /* rows that the optimizer expects of its source */
	__u32 source;         /* DuckDB's PhysicalOperatorType (common/enums/physical_operator_type.hpp) */
	__u32 sink;
	__u32 klass; /* that query_begin gave the query */
	__u32 reserved;
};
DUCKBPF_ASSERT_SIZE(duckbpf_pipeline_threads_ctx, 88);

/* So many tasks, clamped to [1, max_threads]. */
#define DUCKBPF_THREADS(n) (DUCKBPF_DECIDED | ((__u64)(n) << 8))
#define DUCKBPF_THREADS_OF(decision) (((decision) >> 8) & 0xffff)
#define DUCKBPF_THREADS_BITS 0xffff01ULL

/* --- operator_memory: a decider. How much memory a join, aggregate, sort or window may use before it spills. Under the lock of
 * the temporary memory manager. Asked only where stock has a choice: lower < upper. ----------------------------------- */

struct duckbpf_operator_memory_ctx {
	struct duckbpf_origin origin;
	__u64 fingerprint;
	__u64 lower;          /* the least that it must have */
	__u64 upper;          /* the most that is free for it */
	__u64 stock;          /* what stock gives */
	__u64 remaining_size; /* that it could use */
	__u64 previous;       /* what it has so far */
	__u64 reserved;       /* by all operators, this one's previous included */
	__u64 limit;          /* of all operators together */
	__u64 operators;      /* that have a reservation */
	__u32 klass;
	__u32 reserved_1;
};
DUCKBPF_ASSERT_SIZE(duckbpf_operator_memory_ctx, 112);
/* The decision is the reservation itself, in bytes, clamped to [lower, upper]. */

#endif
