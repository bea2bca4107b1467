/* Decisions that mean nothing, or that cannot be followed. All must be refused, and counted. */
#include "duckbpf.h"

LICENSE("MIT");

SEC("duckdb/schedule_task")
__u64 schedule_nonsense(struct duckbpf_schedule_task_ctx *ctx)
{
	return DUCKBPF_SCHEDULE(ctx->pool, DUCKBPF_CLASS_COUNT);
}

SEC("duckdb/execute_forever")
__u64 execute_nonsense(struct duckbpf_execute_forever_ctx *ctx)
{
	return DUCKBPF_DECIDED | DUCKBPF_EXECUTE_WAIT_US(DUCKBPF_EXECUTE_WAIT_MAX_US + 1) | (ctx->partial ? 2 : 0);
}

SEC("duckdb/load")
__u64 load_nonsense(struct duckbpf_load_ctx *ctx)
{
	return DUCKBPF_LOAD(DUCKBPF_HINT_COUNT) | (__u64)ctx->hit << 40;
}

SEC("duckdb/unpin")
__u64 unpin_nonsense(struct duckbpf_unpin_ctx *ctx)
{
	return ctx->readers ? DUCKBPF_UNPIN_UNLOAD : 1ULL << 63;
}

SEC("duckdb/allocate_new_block")
__u64 arena_nonsense(struct duckbpf_allocate_new_block_ctx *ctx)
{
	return ~0ULL - ctx->min_size;
}
