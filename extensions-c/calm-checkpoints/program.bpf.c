/* Checkpoints wait for an idle moment: commits put them off, within the host's bounds. */
#include "duckbpf.h"

LICENSE("MIT");

/* So long after the last commit a moment is idle. */
const volatile __u64 idle_us = 15000;
/* Below this it is not worth one. */
const volatile __u64 least_wal_bytes = 1 << 20;
/* Above so many of a fourth of the checkpoint threshold a commit makes the checkpoint after all. The host's bound is 16. */
const volatile __u64 most_quarters = 14;

/* Nanoseconds that checkpoints took, in powers of two. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 64);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, __u64);
} checkpoint_times SEC(".maps");

static __always_inline void note(__u64 duration)
{
	__u32 log = 0, i;
	__u64 *count;

	bpf_for(i, 0, 63) {
		if (duration >> i > 1)
			log = i + 1;
	}
	count = bpf_map_lookup_elem(&checkpoint_times, &log);
	if (count)
		__sync_fetch_and_add(count, 1);
}

SEC("duckdb/checkpoint")
__u64 calm(struct duckbpf_checkpoint_ctx *ctx)
{
	switch (ctx->site) {
	case DUCKBPF_CHECKPOINT_COMMIT:
		if (ctx->wal_bytes + ctx->commit_bytes > ctx->threshold / 4 * most_quarters)
			return 0;
		return DUCKBPF_CHECKPOINT_DEFER;
	case DUCKBPF_CHECKPOINT_IDLE:
		if (ctx->idle_ns < idle_us * 1000 || ctx->wal_bytes < least_wal_bytes || duckbpf_active_queries())
			return 0;
		return DUCKBPF_CHECKPOINT_FORCE;
	default:
		note(ctx->duration_ns);
		return 0;
	}
}
