/* Counts what happens to blocks and memory, in variables that its four programs share. Decides nothing. */
#include "duckbpf.h"

LICENSE("MIT");

struct counts {
	__u64 loads;
	__u64 loads_from_memory;
	__u64 unpins;
	__u64 unpins_by_last_reader;
	__u64 memory_updates;
	__s64 memory_delta; /* bytes, the sum since attach */
	__u64 arena_chunks;
	__u64 arena_bytes_asked;
};

struct counts counts;

SEC("duckdb/load")
__u64 count_load(struct duckbpf_load_ctx *ctx)
{
	__sync_fetch_and_add(&counts.loads, 1);
	if (ctx->hit)
		__sync_fetch_and_add(&counts.loads_from_memory, 1);
	return 0;
}

SEC("duckdb/unpin")
__u64 count_unpin(struct duckbpf_unpin_ctx *ctx)
{
	__sync_fetch_and_add(&counts.unpins, 1);
	if (ctx->readers == 0)
		__sync_fetch_and_add(&counts.unpins_by_last_reader, 1);
	return 0;
}

SEC("duckdb/update_used_memory")
__u64 count_memory(struct duckbpf_update_used_memory_ctx *ctx)
{
	__sync_fetch_and_add(&counts.memory_updates, 1);
	__sync_fetch_and_add(&counts.memory_delta, ctx->delta);
	return 0;
}

SEC("duckdb/allocate_new_block")
__u64 count_chunk(struct duckbpf_allocate_new_block_ctx *ctx)
{
	__sync_fetch_and_add(&counts.arena_chunks, 1);
	__sync_fetch_and_add(&counts.arena_bytes_asked, ctx->min_size);
	return 0;
}
