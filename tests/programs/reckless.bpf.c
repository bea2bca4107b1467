/* Decides by the clock's low bits: every decision that can be followed, in any order. Results must not care. */
#include "duckbpf.h"

LICENSE("MIT");

SEC("duckdb/schedule_task")
__u64 schedule_reckless(struct duckbpf_schedule_task_ctx *ctx)
{
	__u64 chance = bpf_ktime_get_ns();

	return DUCKBPF_SCHEDULE(ctx->pool | (chance >> 3 & 1), chance & 7);
}

SEC("duckdb/execute_forever")
__u64 execute_reckless(struct duckbpf_execute_forever_ctx *ctx)
{
	__u64 chance = bpf_ktime_get_ns();

	if (ctx->site == DUCKBPF_SITE_WORKER || ctx->site == DUCKBPF_SITE_CLIENT)
		return DUCKBPF_DECIDED | (chance & DUCKBPF_EXECUTE_PARTIAL) |
		       DUCKBPF_EXECUTE_WAIT_US(chance & 8 ? chance >> 4 & 0xff : 0);
	return DUCKBPF_DECIDED | (chance & DUCKBPF_EXECUTE_MARK_IDLE);
}

SEC("duckdb/load")
__u64 load_reckless(struct duckbpf_load_ctx *ctx)
{
	return DUCKBPF_LOAD(bpf_ktime_get_ns() & 3);
}

SEC("duckdb/unpin")
__u64 unpin_reckless(struct duckbpf_unpin_ctx *ctx)
{
	__u64 chance = bpf_ktime_get_ns();

	if (chance & 1)
		return DUCKBPF_UNPIN_UNLOAD | (chance & DUCKBPF_UNPIN_PURGE);
	return DUCKBPF_UNPIN_QUEUE | (chance & DUCKBPF_UNPIN_PURGE);
}

SEC("duckdb/allocate_new_block")
__u64 arena_reckless(struct duckbpf_allocate_new_block_ctx *ctx)
{
	__u64 chance = bpf_ktime_get_ns();

	return chance & 1 ? ctx->min_size + 1 : ctx->min_size + (chance >> 1 & 0xffff) * 64;
}
