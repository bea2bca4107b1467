/* Lets in only as many queries as fit into memory side by side, by what queries of their fingerprint needed before. */
#include "duckbpf.h"

LICENSE("MIT");

/* A query's class is how much of the memory limit it needs: class 0 below a 32nd, class 1 below a 16th, ... 5 below the whole,
 * 6 more than that. Its weight is the upper end, in 32nds. Class 7 waited at the door for as long as anybody may: it is in, and runs
 * when the others have ended, one query at a time. */
#define CLASSES 7
#define OVERDUE 7
#define WHOLE 32

/* How much of the limit may be promised, in 32nds. */
const volatile __u64 budget = 32;
/* The class of a query that was not seen before. */
const volatile __u32 unknown_class = 3;
const volatile __u64 wait_ms = 200;

/* The most memory that a query of a fingerprint needed: what it had, and what it had to write to disk. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, __u64);
} needs SEC(".maps");

static __always_inline __u64 weight(__u32 klass)
{
	if (klass == 0)
		return 0;
	return klass < CLASSES - 1 ? 1ULL << klass : WHOLE;
}

static __always_inline __u32 classify(struct duckbpf_query_begin_ctx *ctx)
{
	__u64 key = ctx->fingerprint;
	__u64 *need = bpf_map_lookup_elem(&needs, &key);
	__u32 klass = 0;

	if (!need)
		return unknown_class;
#pragma clang loop unroll(full)
	for (__u32 step = 0; step < CLASSES - 1; step++)
		klass += *need >= ctx->max_memory / WHOLE << step;
	return klass;
}

SEC("duckdb/query_begin")
__u64 memory_admission(struct duckbpf_query_begin_ctx *ctx)
{
	__u32 klass = classify(ctx);
	__u64 promised = 0;

#pragma clang loop unroll(full)
	for (__u32 other = 1; other < DUCKBPF_CLASS_COUNT; other++)
		promised += ctx->admitted[other] * weight(other);
	if (klass == 0 || promised == 0 || promised + weight(klass) <= budget)
		return DUCKBPF_ADMIT(klass, 0);
	if (ctx->waited_ns >= DUCKBPF_QUERY_BOUND_MS * 1000000)
		return DUCKBPF_ADMIT(OVERDUE, 0);
	return DUCKBPF_DELAY(klass) | DUCKBPF_QUERY_WAIT_MS(wait_ms);
}

SEC("duckdb/run_task")
__u64 run_overdue_last(struct duckbpf_run_task_ctx *ctx)
{
	__u64 keep = ctx->site == DUCKBPF_RUN_CLIENT ? DUCKBPF_RUN_KEEP : 0;
	__u32 others = 0;

	if (ctx->klass == 0)
		return 0;
	if (ctx->klass != OVERDUE)
		return DUCKBPF_RUN(ctx->klass, 0) | keep;
#pragma clang loop unroll(full)
	for (__u32 other = 1; other < DUCKBPF_CLASS_COUNT; other++)
		others += ctx->running[other];
	if (ctx->older_waiting || others > ctx->threads + ctx->kept)
		return DUCKBPF_HOLD(OVERDUE) | DUCKBPF_RUN_CHUNKS(5) | DUCKBPF_RUN_WAIT_US(20000);
	return DUCKBPF_RUN(OVERDUE, 0) | DUCKBPF_RUN_CHUNKS(50) | keep;
}

SEC("duckdb/query_end")
__u64 memory_used(struct duckbpf_query_end_ctx *ctx)
{
	__u64 key = ctx->fingerprint;
	__u64 need = ctx->peak_memory + ctx->spill_bytes;
	__u64 *known = bpf_map_lookup_elem(&needs, &key);

	if (ctx->failed || !key)
		return 0;
	if (!known)
		bpf_map_update_elem(&needs, &key, &need, BPF_ANY);
	else if (need > *known)
		*known = need;
	return 0;
}
