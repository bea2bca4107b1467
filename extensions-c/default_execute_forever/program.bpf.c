/* Stock: flush the allocator after half a second without work, mark the thread idle after the whole decay delay, run tasks in
 * part where the setting says so, wait for nothing (parallel/task_scheduler.cpp, ExecuteForever). */
#include "duckbpf.h"

LICENSE("MIT");

SEC("duckdb/execute_forever")
__u64 default_execute_forever(struct duckbpf_execute_forever_ctx *ctx)
{
	__u64 decision = DUCKBPF_DECIDED;

	switch (ctx->site) {
	case DUCKBPF_SITE_IDLE:
		if (ctx->flush_supported)
			decision |= DUCKBPF_EXECUTE_FLUSH;
		break;
	case DUCKBPF_SITE_DECAYED:
		decision |= DUCKBPF_EXECUTE_MARK_IDLE;
		break;
	default:
		if (ctx->partial)
			decision |= DUCKBPF_EXECUTE_PARTIAL;
		break;
	}
	return decision;
}
