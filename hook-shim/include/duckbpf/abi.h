/* duckbpf: the C ABI between the engine's side (graft or hooked engine, shim.cpp) and the runtime (rust-runtime).
 *
 * The engine's side exports one symbol, duckdb_hookpoints_v1(). The runtime registers itself, publishes sets of programs
 * and reads counters. Everything here is plain C: no exceptions and no unwinding cross it, in either direction.
 *
 * How a hookpoint calls a program
 *   1. gate[hook] is read, relaxed. Null: stock, nothing else happens.
 *   2. The thread's epoch word is set (a relaxed store), then the published set is read with acquire and the program taken
 *      from it (it may be null by now: stock). A set is published by one store, so that a hookpoint sees all of it or
 *      nothing.
 *   3. program->entry(ctx) is called; the epoch word is cleared with release.
 * Whoever frees a program unpublishes it first, calls synchronize() - membarrier, then a look at every epoch word - and waits
 * until pins is 0. Queries pin the hash program from their begin to their end.
 */
#ifndef DUCKBPF_ABI_H
#define DUCKBPF_ABI_H

#include "duckbpf/hooks.h"

#ifdef __cplusplus
extern "C" {
#endif

#define DUCKBPF_HOST_VERSION 1

/* How keys lie in a batch. Each type has one layout: integers theirs, INT64, UINT64 and DOUBLE KEYS_64, FLOAT KEYS_U32, INT128,
 * UINT128 and INTERVAL KEYS_128, VARCHAR KEYS_CTX; every type may come as KEYS_CTX too. Strings of a program with
 * HASH_STRINGS_BY_WHOLE may come as KEYS_WHOLE. */
enum duckbpf_key_layout {
	DUCKBPF_KEYS_I8 = 0, /* plain arrays of integers, to be sign- or zero-extended */
	DUCKBPF_KEYS_I16 = 1,
	DUCKBPF_KEYS_I32 = 2,
	DUCKBPF_KEYS_64 = 3,
	DUCKBPF_KEYS_U8 = 4,
	DUCKBPF_KEYS_U16 = 5,
	DUCKBPF_KEYS_U32 = 6,
	DUCKBPF_KEYS_128 = 7, /* pairs of lo, hi */
	DUCKBPF_KEYS_CTX = 8, /* an array of struct duckbpf_hash_ctx (strings) */
	DUCKBPF_KEYS_WHOLE = 9, /* of strings, what the context's whole holds */
	DUCKBPF_KEYS_COUNT = 10
};

/* Keys of one vector, without NULLs. out[i] becomes the program's r0 for key i. */
struct duckbpf_hash_batch {
	const void *keys;
	__u64 *out;
	__u64 count;
	__u32 layout; /* enum duckbpf_key_layout */
	__u32 type;   /* enum duckbpf_type */
	__u32 len;    /* bytes of each key, what the context's len holds; unused for DUCKBPF_KEYS_CTX */
	__u32 reserved;
};
DUCKBPF_ASSERT_SIZE(duckbpf_hash_batch, 40);

#define DUCKBPF_PROGRAM_HASH_MIXED 1u       /* its output needs no mixer: it passed the test of quality at attach */
#define DUCKBPF_PROGRAM_HASH_READS_WHOLE 2u /* it reads duckbpf_hash_ctx.whole */
#define DUCKBPF_PROGRAM_HASH_STRINGS_BY_WHOLE 4u /* of strings it reads nothing else */
#define DUCKBPF_PROGRAM_HASH_STRINGS_AS_HOST 8u  /* and returns it as it is */

/* One attached program. Owned by the runtime; the host writes only pins. Stays valid until the runtime has seen
 * synchronize() return and pins at 0 after it was unpublished. */
struct duckbpf_program {
	__u64 (*entry)(void *ctx);
	void (*hash_batch)(const struct duckbpf_hash_batch *batch); /* hash: never null; other hooks: null */
	__u64 generation;
	__u64 hash_types; /* hash: bit set over enum duckbpf_type that the program takes */
	__u64 pins;       /* atomic: queries that hold the program */
	__u32 hook;       /* enum duckbpf_hook */
	__u32 flags;      /* DUCKBPF_PROGRAM_* */
};
DUCKBPF_ASSERT_SIZE(duckbpf_program, 48);

/* What is in force. Immutable once published. */
struct duckbpf_set {
	__u64 generation;
	struct duckbpf_program *programs[DUCKBPF_HOOK_COUNT];
};
DUCKBPF_ASSERT_SIZE(duckbpf_set, 8 + 8 * DUCKBPF_HOOK_COUNT);

struct duckbpf_hook_counters {
	__u64 calls;   /* times a program was called; hash: vectors */
	__u64 applied; /* decisions that were followed; hash: vectors */
	__u64 refused[DUCKBPF_REFUSAL_COUNT];
	__u64 keys; /* hash: keys */
	__u64 timed_calls;
	__u64 timed_ns; /* of the timed calls; 0 while sampling is off */
};
DUCKBPF_ASSERT_SIZE(duckbpf_hook_counters, 40 + 8 * DUCKBPF_REFUSAL_COUNT);

/* What the runtime offers to the host. */
struct duckbpf_runtime {
	__u32 version; /* DUCKBPF_HOST_VERSION */
	__u32 reserved;
	/* The last pin of an unpublished program went away. Called outside all of DuckDB's locks that a hook may hold; must
	 * not block and must not call back into the engine. */
	void (*unpinned)(void);
	/* Takes out the oldest line that programs wrote with bpf_trace_printk; returns its bytes, 0 when there is none. Called
	 * outside of programs and of the locks that a hook may hold. */
	__u64 (*read_log)(char *line, __u64 size);
	/* A block is gone, with whatever it held. Called inside of an epoch, perhaps under DuckDB's locks, while watch_blocks() is on; must
	 * not block. */
	void (*block_ended)(__u64 file_id, __s64 block_id);
};

/* What engine_state() tells. Of the database that the calling thread works for, where one is meant. */
enum duckbpf_state {
	DUCKBPF_STATE_USED_MEMORY = 0,    /* bytes of the buffer pool, some MiB off */
	DUCKBPF_STATE_MAX_MEMORY = 1,     /* bytes: memory_limit */
	DUCKBPF_STATE_TAG_MEMORY = 2,     /* bytes of one of DuckDB's MemoryTags, some MiB off */
	DUCKBPF_STATE_QUEUE_LENGTH = 3,   /* tasks that wait in one enum duckbpf_pool */
	DUCKBPF_STATE_ACTIVE_QUERIES = 4, /* of the process */
	DUCKBPF_STATE_THREADS = 5,        /* of the database */
	DUCKBPF_STATE_BUFFER_HITS = 6,    /* blocks that the thread found in memory while load had a program */
	DUCKBPF_STATE_BUFFER_MISSES = 7,  /* blocks that it had to read */
	DUCKBPF_STATE_SPILL_BYTES = 8,    /* of temporary files on disk */
	DUCKBPF_STATE_EVICTION_QUEUE = 9, /* entries of one of the buffer pool's eviction queues, the dead included, an estimate */
	DUCKBPF_STATE_COUNT = 10
};

#define DUCKBPF_CARRIER_GRAFT 1u
#define DUCKBPF_CARRIER_ENGINE 2u

#define DUCKBPF_OK 0
#define DUCKBPF_ERROR_BUSY (-16)    /* another runtime is registered */
#define DUCKBPF_ERROR_FORKED (-10)  /* this process is a fork: its hooks are detached for good */
#define DUCKBPF_ERROR_VERSION (-22) /* the runtime speaks another version */
#define DUCKBPF_ERROR_MEMORY (-12)  /* the database's memory_limit does not allow it */

/* Functions that the graft replaces for a hook's sake and leaves to the host's own code wherever no program wants them. */
enum duckbpf_stock {
	DUCKBPF_STOCK_TABLE_SCAN = 0,      /* DuckTableScanInitGlobal, and so all that a scan does afterwards */
	DUCKBPF_STOCK_PREFETCH = 1,        /* SingleFileBlockManager::Prefetch */
	DUCKBPF_STOCK_REINSERT_TUPLES = 2, /* GroupedAggregateHashTable::ReinsertTuples */
	DUCKBPF_STOCK_COUNT = 3
};

/* What the host offers. Obtained from duckdb_hookpoints_v1(); lives as long as the process. */
struct duckbpf_host {
	__u32 version; /* DUCKBPF_HOST_VERSION */
	__u32 size;    /* sizeof(struct duckbpf_host): later versions grow at the end */
	__u32 carrier; /* DUCKBPF_CARRIER_* */
	__u32 abi;     /* DUCKBPF_ABI_VERSION */
	const char *duckdb_version; /* "v2.0.0" */
	const char *series;         /* hash of the patch series */

	/* Registers the only runtime of the process. Idempotent for the same pointer. Returns DUCKBPF_OK or an error. */
	int (*register_runtime)(const struct duckbpf_runtime *runtime);
	/* Publishes a set (null: detach all) with one store. DUCKBPF_OK, or DUCKBPF_ERROR_FORKED. The caller serialises calls and
	 * keeps the set and its programs alive as described at duckbpf_program. */
	int (*publish)(const struct duckbpf_set *set);
	/* Returns once no hookpoint can still be inside a set that was unpublished before the call. */
	void (*synchronize)(void);
	/* Adds up the counters of all threads, the dead included, since the process began. */
	void (*read_counters)(struct duckbpf_hook_counters counters[DUCKBPF_HOOK_COUNT]);
	/* Times every 64th call of a thread while on. */
	void (*set_sampling)(__u32 on);

	/* Services behind helpers: cheap, lock-free, callable inside a program. */
	void (*current_origin)(struct duckbpf_origin *origin);
	__u64 (*query_age_ns)(void); /* of the calling thread's query, 0 when unknown */
	/* Makes the running program's decision count as DUCKBPF_REFUSED_HELPER_FAILED. */
	void (*helper_failed)(void);
	/* The calling thread's small number, as in its origin. */
	__u32 (*thread_index)(void);
	/* One of enum duckbpf_state; 0 when it is unknown. Reads counters, takes no lock. */
	__u64 (*engine_state)(__u32 what, __u64 argument);

	/* Copies the text of a tag (duckbpf_origin.tag) and returns its bytes, at most `size`; 0: there is no such tag. Callable inside a
	 * program. */
	__u64 (*tag_text)(__u32 tag, char *text, __u64 size);
	/* The bytes that the runtime's maps take in all: they count as memory of the database that the calling thread works for, or of one
	 * that counted them before and lives. DUCKBPF_OK, also where no database is known; or DUCKBPF_ERROR_MEMORY, and nothing has changed.
	 * Not to be called under DuckDB's locks. */
	int (*account_memory)(__u64 bytes);
	/* Whether block_ended() is to be called. */
	void (*watch_blocks)(__u32 on);

	/* For measurements: the nanoseconds that so many passes of the load hook's hookpoint take here, with seven fields made up.
	 * What is attached to load is called and counted. */
	__u64 (*measure)(__u64 passes);

	/* Service behind a helper: what a query is told that the running program rejects. Cut at DUCKBPF_MESSAGE_MAX bytes. */
	void (*set_message)(const char *text, __u64 size);

	/* For whoever puts a graft in force: the symbols of enum duckbpf_stock, and where the addresses of the host's functions go before the
	 * first slot leads to the graft. A null there (an engine has no other code) means that the graft's own code does it all. */
	const char *const *stock_symbols;
	void **stock_code;
};

/* The engine's side of everything above. Never null. */
#if defined(__GNUC__)
__attribute__((visibility("default")))
#endif
const struct duckbpf_host *duckdb_hookpoints_v1(void);

#ifdef __cplusplus
}
#endif

#endif
