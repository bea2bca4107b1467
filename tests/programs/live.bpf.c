/* Counts in variables that a test reads out of its own process (e2e/live.py). Decides nothing. */
#include "duckbpf.h"

LICENSE("MIT");

#define COOKIE 0x6475636b62706621ULL

/* `alive` tells the variables of an attached program from copies of the object's file. */
struct live {
	__u64 cookie;
	__u64 alive;
	__u64 memory_updates;
	__u64 small_memory_updates;
	__s64 memory_delta;
	__s64 base_table_delta;
	__s64 hash_table_delta;
	__u64 loads;
	__u64 misses;
	__u64 unpins;
	__u64 unpins_by_last_reader;
	__u64 arena_chunks;
	__u64 tasks;
	__u64 with_query_id;
	__u64 without_query_id;
	__u64 database_ids_or;
};

struct live live = {.cookie = COOKIE};

/* Updates below it go through DuckDB's per-CPU caches (MEMORY_USAGE_TAG_CACHE_THRESHOLD, storage/buffer/buffer_pool.hpp) */
#define CACHED_BELOW (1 << 20)

#define MEMORY_TAG_BASE_TABLE 0 /* common/enums/memory_tag.hpp */
#define MEMORY_TAG_HASH_TABLE 1

static __always_inline void add(__u64 *counter, __u64 n)
{
	__sync_fetch_and_add(counter, n);
}

static __always_inline void seen(const struct duckbpf_origin *origin)
{
	live.alive = ~COOKIE;
	add(&live.with_query_id, origin->query_id != 0);
	add(&live.without_query_id, origin->query_id == 0);
	__sync_fetch_and_or(&live.database_ids_or, origin->database_id);
}

SEC("duckdb/update_used_memory")
__u64 memory(struct duckbpf_update_used_memory_ctx *ctx)
{
	seen(&ctx->origin);
	add(&live.memory_updates, 1);
	if (ctx->delta < CACHED_BELOW && ctx->delta > -CACHED_BELOW)
		add(&live.small_memory_updates, 1);
	__sync_fetch_and_add(&live.memory_delta, ctx->delta);
	if (ctx->tag == MEMORY_TAG_BASE_TABLE)
		__sync_fetch_and_add(&live.base_table_delta, ctx->delta);
	if (ctx->tag == MEMORY_TAG_HASH_TABLE)
		__sync_fetch_and_add(&live.hash_table_delta, ctx->delta);
	return 0;
}

SEC("duckdb/load")
__u64 load(struct duckbpf_load_ctx *ctx)
{
	seen(&ctx->origin);
	add(&live.loads, 1);
	if (!ctx->hit)
		add(&live.misses, 1);
	return 0;
}

SEC("duckdb/unpin")
__u64 unpin(struct duckbpf_unpin_ctx *ctx)
{
	seen(&ctx->origin);
	add(&live.unpins, 1);
	if (ctx->readers == 0)
		add(&live.unpins_by_last_reader, 1);
	return 0;
}

SEC("duckdb/allocate_new_block")
__u64 arena(struct duckbpf_allocate_new_block_ctx *ctx)
{
	seen(&ctx->origin);
	add(&live.arena_chunks, 1);
	return 0;
}

SEC("duckdb/schedule_task")
__u64 schedule(struct duckbpf_schedule_task_ctx *ctx)
{
	seen(&ctx->origin);
	add(&live.tasks, ctx->n_tasks);
	return 0;
}
