/* Queries that are old already step back while others wait for memory, threads or the disk. */
#include "duckbpf.h"

LICENSE("MIT");

const volatile __u64 old_ns = 1000000000;
const volatile __u64 spill_limit = 1 << 30;

struct reasons {
	__u64 memory;
	__u64 spill;
	__u64 queue;
};

struct reasons reasons;

SEC("duckdb/schedule_task")
__u64 step_back(struct duckbpf_schedule_task_ctx *ctx)
{
	if (duckbpf_active_queries() < 2 || duckbpf_query_age_ns() < old_ns)
		return DUCKBPF_SCHEDULE(ctx->pool, 0);
	if (duckbpf_used_memory() > duckbpf_max_memory() / 8 * 7) {
		__sync_fetch_and_add(&reasons.memory, 1);
		return DUCKBPF_SCHEDULE(ctx->pool, 7);
	}
	if (duckbpf_spill_bytes() > spill_limit) {
		__sync_fetch_and_add(&reasons.spill, 1);
		return DUCKBPF_SCHEDULE(ctx->pool, 6);
	}
	if (duckbpf_queue_length(DUCKBPF_POOL_REGULAR) > 4 * duckbpf_threads()) {
		__sync_fetch_and_add(&reasons.queue, 1);
		return DUCKBPF_SCHEDULE(ctx->pool, 5);
	}
	return DUCKBPF_SCHEDULE(ctx->pool, 0);
}
