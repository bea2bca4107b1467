/* Light queries run before heavy ones. What is heavy is learned: from what a query has used so far, and from what queries of
 * its fingerprint used before. */
#include "duckbpf.h"

LICENSE("MIT");

#define LIGHT 0
#define HEAVY 1
#define MILLISECOND 1000000ULL

/* Thread CPU after which a query is heavy. Under load a query needs more than alone: what was light before gets some more. */
const volatile __u64 heavy_ms = 800;
const volatile __u64 slack = 3;
/* 0: forget what queries cost before. */
const volatile __u32 remember = 1;
/* Chunks of a heavy slice while others are there, and of any other slice. */
const volatile __u32 heavy_chunks = 5;
const volatile __u32 chunks = 50;

/* The most CPU that a query of a fingerprint was seen to use, in nanoseconds. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, __u64);
} costs SEC(".maps");

static __always_inline __u64 learn(struct duckbpf_run_task_ctx *ctx)
{
	__u64 key = ctx->fingerprint;
	__u64 used = ctx->cpu_ns;
	__u64 *cost;

	if (!remember || !key)
		return 0;
	cost = bpf_map_lookup_elem(&costs, &key);
	if (!cost) {
		bpf_map_update_elem(&costs, &key, &used, BPF_ANY);
		return 0;
	}
	if (used > *cost)
		*cost = used;
	return *cost;
}

static __always_inline __u32 classify(struct duckbpf_run_task_ctx *ctx)
{
	__u64 heavy = heavy_ms * MILLISECOND;
	__u64 known = learn(ctx);

	if (known >= heavy * slack)
		return HEAVY;
	return ctx->cpu_ns >= (known && known < heavy ? heavy * slack : heavy) ? HEAVY : LIGHT;
}

SEC("duckdb/run_task")
__u64 interactive_first(struct duckbpf_run_task_ctx *ctx)
{
	__u64 keep = ctx->site == DUCKBPF_RUN_CLIENT ? DUCKBPF_RUN_KEEP : 0;
	__u32 threads = duckbpf_threads();

	if (classify(ctx) == LIGHT)
		return DUCKBPF_RUN(LIGHT, 0) | DUCKBPF_RUN_CHUNKS(chunks) | keep;

	/* Its slot stays its own: the others must not overtake it meanwhile. */
	if (ctx->running[LIGHT] || ctx->waiting[LIGHT])
		return DUCKBPF_HOLD(HEAVY) | DUCKBPF_RUN_WAIT_US(20000) | keep;

	/* One thread a core; the oldest first. */
	if (!ctx->kept && ctx->older_waiting)
		return DUCKBPF_HOLD(HEAVY) | DUCKBPF_RUN_WAIT_US(20000);
	return DUCKBPF_RUN(HEAVY, threads ? threads : 1) | DUCKBPF_RUN_CHUNKS(duckbpf_active_queries() > 1 ? heavy_chunks : chunks) |
	       DUCKBPF_RUN_WAIT_US(20000) | keep;
}
